"""Export: recordings, traces, tracks and tables as files of other tools.

A format is one module of this package, found by its file name (without a leading underscore)::

    WRITER = Writer("what it writes", suffixes=(".xyz",), takes=("recording",), needs=("package",), options=("dtype",))

    def write(content, path, *, progress, **options) -> None: ...

``content`` is what :func:`niddl_xr.recordings.export._content.content_of` makes of the caller's object: recordings by
channel, a Dataset, or a pandas table. ``path`` does not exist; it becomes the caller's path when ``write`` returns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from niddl_xr.recordings._formats import missing, modules_of
from niddl_xr.recordings.export._atomic import complete_or_nothing
from niddl_xr.recordings.export._content import Kind, content_of
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Writer", "export", "writers"]


@dataclass(frozen=True)
class Writer:
    """What a format is, which objects it takes, and what it needs.

    ``takes`` are the kinds "recording" (one or several channels), "dataset" (traces, tracks and the like) and "table"
    (pandas). ``extra`` is the extra of niddl-xr that installs the packages it ``needs``, empty where niddl-xr requires
    them anyway. ``folder`` says that it writes a folder.
    """

    what: str
    suffixes: tuple[str, ...]
    takes: tuple[Kind, ...]
    needs: tuple[str, ...] = ()
    extra: str = ""
    options: tuple[str, ...] = ()
    folder: bool = False


@lru_cache(maxsize=1)
def _modules() -> dict[str, Any]:
    return modules_of(__name__, __path__)


def writers() -> pd.DataFrame:
    """Return the formats that can be written.

    Returns
    -------
    pandas.DataFrame
        One row a format, named by the index: ``what`` it is, its ``suffixes``, the kinds of objects that it ``takes``,
        the packages it ``needs``, whether these are ``installed``, the ``extra`` of niddl-xr that installs them, and
        the keyword arguments (``options``) that :func:`niddl_xr.export` takes for it.

    Examples
    --------
    >>> writers().loc["movie", "suffixes"]
    '.mp4'
    """
    import pandas as pd

    rows = {
        name: {
            "what": module.WRITER.what,
            "suffixes": " ".join(module.WRITER.suffixes),
            "takes": " ".join(module.WRITER.takes),
            "needs": " ".join(module.WRITER.needs),
            "installed": not missing(module.WRITER.needs),
            "extra": module.WRITER.extra,
            "options": " ".join(module.WRITER.options),
        }
        for name, module in _modules().items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").sort_index()
    table.index.name = "writer"
    return table


def export(
    obj: xr.DataArray | xr.Dataset | pd.DataFrame | Mapping[str, xr.DataArray],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: bool = True,
    format: str | None = None,
    **options: Any,
) -> Path:
    """Write a recording, traces, tracks or a table as a file of another tool.

    ============================  ====================  ============================================================
    suffix                        takes                 what it becomes
    ============================  ====================  ============================================================
    ``.ome.tif``, ``.ome.tiff``   recording             OME-TIFF that ImageJ, too, opens as a calibrated hyperstack
    ``.tif``, ``.tiff``           recording             ImageJ hyperstack, of more than 4 GB too
    ``.ome.zarr``                 recording             OME-Zarr 0.4 (a folder) with a pyramid
    ``.mp4``                      recording             H.264 film, side by side with others
    ``.nwb``                      recording, dataset    NWB 2 (needs the extra ``nwb``)
    ``.csv``                      dataset, table        plain long table, units in the column names
    ``.parquet``                  dataset, table        the same, typed
    ``.mat``                      dataset, table        MATLAB 5 struct
    ============================  ====================  ============================================================

    The file appears under its name when it is complete: until then it is a hidden one beside it, removed where
    anything fails (only a killed process leaves it). An export that was cut off is begun anew. Recordings are read a
    few blocks of frames at a time, whatever their length.

    Parameters
    ----------
    obj
        A recording (t, z, y, x) or labels; several channels as a mapping of names to recordings or a Dataset of them;
        traces, tracks and other results over named dims (DataArray or Dataset); detections or any table (DataFrame).
        Of a DataTree, choose a node: ``tree["traces"].to_dataset()``.
    path
        File to make; its folder has to exist. For a plain ``.zarr`` see :func:`niddl_xr.save`.
    overwrite
        Replace an existing file (or OME-Zarr folder) once the new one is complete.
    progress
        Show a progress bar.
    format
        A suffix of the table, for a path without one.
    **options
        Of one format, as :func:`niddl_xr.recordings.export.writers` lists them:

        - ``dtype`` (recordings): write as this dtype. Integers are rounded and clipped, NaN become 0; a warning
          counts both. Default: as it is, to the bit.
        - ``compression`` (TIFF: ``"none"``, ``"zlib"``, ``"zstd"``, ``"lzw"``). Default none.
        - ``pyramid`` (OME-Zarr): levels of half the size. Default True.
        - those of a film: :func:`niddl_xr.recordings.export.movie.write`.
        - those of NWB: :func:`niddl_xr.recordings.export.nwb.write`.
        - ``name`` (``.mat``): of the struct.

    Returns
    -------
    pathlib.Path
        The absolute path of the file.

    Raises
    ------
    FileExistsError
        If the path exists and ``overwrite`` is not set, or is something that is not replaced.
    FileNotFoundError
        If the folder does not exist.
    NiddlError
        For an unknown suffix or option, a format that does not take the object, a dtype that the format does not have,
        and packages that are missing.
    OSError
        If the disk is full or read-only; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import niddl_xr as nx
    >>> movie = nx.from_numpy(np.zeros((5, 8, 9), "uint16"), dims="tyx", voxel_um=(None, 0.4, 0.4), dt_s=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(movie, folder + "/worm.ome.tif", progress=False).name
    'worm.ome.tif'
    """
    target = Path(path).expanduser().absolute()
    module = _writer_for(target, format)
    writer: Writer = module.WRITER
    kind, content = content_of(obj)
    if kind not in writer.takes:
        able = sorted(suffix for other in _modules().values() if kind in other.WRITER.takes for suffix in _names(other))
        raise NiddlError(f"{writer.what} ({target.name}) takes no {kind}; export it to {', '.join(able)}")
    unknown = sorted(set(options) - set(writer.options))
    if unknown:
        raise NiddlError(f"{writer.what} has no option {', '.join(unknown)}; it takes {', '.join(writer.options)}")
    absent = missing(writer.needs)
    if absent:
        remedy = f"pip install 'niddl-xr[{writer.extra}]'" if writer.extra else f"pip install {' '.join(absent)}"
        raise NiddlError(f"{writer.what} needs {', '.join(absent)}: {remedy}")
    with complete_or_nothing(target, overwrite=overwrite, folder=writer.folder) as beside:
        module.write(content, beside, progress=progress, **options)
    return target


def _writer_for(target: Path, format: str | None) -> Any:
    """Return the module for a suffix, the longest that fits; "worm.ome.tif" ends with two."""
    by_suffix = {suffix: module for module in _modules().values() for suffix in _names(module)}
    wanted = (target.name if format is None else f"x.{format.lstrip('.')}").lower()
    fitting = [suffix for suffix in by_suffix if wanted.endswith(suffix) and len(wanted) > len(suffix)]
    if fitting:
        return by_suffix[max(fitting, key=len)]
    known = f"one of {', '.join(sorted(by_suffix))}"
    if wanted.endswith(".zarr"):
        raise NiddlError(
            f"{target.name}: the store of niddl_xr is written by save(), which resumes and compresses better; "
            "for OME-Zarr 0.4, which older tools read, let the name end with .ome.zarr"
        )
    if format is not None:
        raise NiddlError(f"expected format as {known}, got {format!r}")
    raise NiddlError(f"expected a file name that ends with {known}, got {target.name!r}; or set format=")


def _names(module: Any) -> tuple[str, ...]:
    suffixes: tuple[str, ...] = module.WRITER.suffixes
    return suffixes
