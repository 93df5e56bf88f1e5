"""The readers: which formats can be opened, and how the one for a path is found.

A format is one module of this package, found by its file name (without a leading underscore)::

    READER = Reader("what it opens", suffixes=(".xyz",), magic=(b"XYZ",), needs=("package",), options=("series",))

    def read(path, *, axes, channel, chunks, **options) -> Opened: ...

    def recognises_file(path: Path, head: bytes) -> bool: ...   # only where the first bytes are not enough
    def recognises_folder(folder: Path) -> bool: ...            # only where a recording is a folder

Modules import the libraries they need within functions: all of them are loaded when the first path is opened.

What a file states beside axes, voxel size and time goes into ``Opened.attrs`` under these names, with numbers in the
unit of the name, and is left out where the file does not state it: ``acquired`` (ISO 8601, start of the recording),
``software``, ``microscope``, ``objective``, ``magnification``, ``numerical_aperture``, ``camera``, ``exposure_s``,
``dwell_time_us``, ``excitation_nm``, ``emission_nm``, ``channels`` (names of all channels), ``indicator``,
``location``, ``description``,
``bit_depth`` (significant bits of a pixel), ``offset_counts``, ``gain_counts_per_photon``, ``read_noise_counts``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings._formats import missing, modules_of
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr

HEAD_BYTES = 4096  # of a file, that readers see to recognise it


@dataclass(frozen=True)
class Opened:
    """What a reader gives: a lazy array, what its axes are, and what the file states about it.

    ``axes`` has the letters t, z, y, x in the order of the dims of ``data``, which holds one channel; ``channel`` is
    its name or number, None where the file has no other. ``voxel_um`` holds the dims whose voxel size the file states
    in µm. Times are in s. ``coords`` are coordinates that the file stores, kept as they are unless the caller
    overrides them; a ``t`` in ``"frame"`` holds the number of every frame. ``notes`` are warnings for the caller.
    """

    data: da.Array
    axes: str = "tzyx"
    voxel_um: Mapping[str, float] = field(default_factory=dict)
    dt_s: float | None = None
    t_s: np.ndarray | None = None
    channel: int | str | None = None
    coords: Mapping[str, xr.Variable] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[UserWarning, ...] = ()


@dataclass(frozen=True)
class Reader:
    """What a format is, how a file of it is recognised, and what it needs.

    ``magic`` are the first bytes of its files. ``extra`` is the extra of niddl-xr that installs the packages it
    ``needs``, empty where niddl-xr requires them anyway. ``options`` are its keyword arguments beside the common ones.
    ``general`` readers are asked last, because their files may be of a more special kind.
    """

    what: str
    suffixes: tuple[str, ...] = ()
    magic: tuple[bytes, ...] = ()
    needs: tuple[str, ...] = ()
    extra: str = ""
    options: tuple[str, ...] = ()
    general: bool = False


@lru_cache(maxsize=1)
def _modules() -> dict[str, Any]:
    """Return the modules of all formats by name, the general ones last."""
    modules = modules_of(__name__, __path__)
    return dict(sorted(modules.items(), key=lambda item: item[1].READER.general))


def readers() -> pd.DataFrame:
    """Return the formats that can be opened.

    Returns
    -------
    pandas.DataFrame
        One row a reader, named by the index: ``what`` it opens, the ``suffixes`` of its files (empty for a layout
        of folders), the packages it ``needs``, whether these are ``installed``, the ``extra`` of niddl-xr that
        installs them where it is not part of every installation, and the further keyword arguments (``options``)
        that :func:`niddl_xr.open_recording` takes for it.

    Examples
    --------
    >>> bool(readers().loc["tiff", "installed"])
    True
    """
    import pandas as pd

    rows = {
        name: {
            "what": module.READER.what,
            "suffixes": " ".join(module.READER.suffixes),
            "needs": " ".join(module.READER.needs),
            "installed": not missing_packages(module.READER),
            "extra": module.READER.extra,
            "options": " ".join(module.READER.options),
        }
        for name, module in _modules().items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").sort_index()
    table.index.name = "reader"
    return table


def missing_packages(reader: Reader) -> list[str]:
    """Return the packages that a reader needs and that are not installed."""
    return missing(reader.needs)


def find_reader(path: Path) -> str:
    """Return the name of the reader for ``path``: by content first, by suffix second.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        For an empty file or folder, and for one that no reader recognises.
    """
    if not path.exists():
        if has_magic(str(path)):
            return "planes"
        raise FileNotFoundError(f"no recording at {path}: there is no such file or folder")
    return _find_for_folder(path) if path.is_dir() else _find_for_file(path)


def _find_for_folder(path: Path) -> str:
    if not any(path.iterdir()):
        raise NiddlError(f"expected a recording in the folder {path}, but it is empty")
    for name, module in _modules().items():
        if hasattr(module, "recognises_folder") and module.recognises_folder(path):
            return name
    raise NiddlError(
        f"no reader recognises the folder {path}: expected numbered .tif or .png files, NIDDL's folders "
        f"img_<t>/z_<k>.tif or a zarr store; it holds {', '.join(sorted(child.name for child in path.iterdir())[:8])}"
    )


def _find_for_file(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise NiddlError(f"{path} is empty: it has 0 bytes; copy it again from where it was recorded")
    modules, suffix = _modules(), path.suffix.lower()
    for name, module in modules.items():
        if hasattr(module, "recognises_file") and module.recognises_file(path, head):
            return name
    by_content = [name for name, module in modules.items() if head.startswith(module.READER.magic)]
    by_suffix = [name for name, module in modules.items() if suffix in module.READER.suffixes]
    both = [name for name in by_content if name in by_suffix]
    for found in (both, by_content, by_suffix):
        if found:
            return found[0]
    known = "; ".join(f"{name} ({_listed(module)})" for name, module in sorted(modules.items()) if _listed(module))
    raise NiddlError(
        f"no reader for {path}: neither its first bytes nor its suffix {suffix!r} is known. Known: {known}"
    )


def _listed(module: Any) -> str:
    suffixes: Iterable[str] = module.READER.suffixes
    return " ".join(suffixes)


def load_reader(name: str, options: Mapping[str, Any], path: Path) -> Any:
    """Return the module of a reader, after a check of the packages it needs and of the options given for it."""
    module = _modules()[name]
    absent = missing_packages(module.READER)
    if absent:
        what = f'"niddl-xr[{module.READER.extra}]"' if module.READER.extra else " ".join(absent)
        raise NiddlError(f"{path} needs {' and '.join(absent)}: pip install {what}")
    unknown = sorted(set(options) - set(module.READER.options))
    if unknown:
        known = ", ".join(module.READER.options) or "none"
        raise NiddlError(
            f"unknown option {', '.join(unknown)} for {path}; the reader {name!r} has these options: {known}"
        )
    return module
