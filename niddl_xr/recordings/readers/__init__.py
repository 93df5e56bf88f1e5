"""The readers: which formats can be opened, and how the one for a path is found.

A format is one module here and one line in ``READERS``. The module is imported when a path of that format is
opened. It has ``read(path, *, axes, channel, chunks, **options) -> Opened``, and, where the format is a folder,
``recognises(folder) -> bool``. A file is recognised by its first bytes, then by its suffix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import has_magic
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr


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
    """One line of the registry: the module of a format, and how a file of it is recognised."""

    module: str
    what: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    folder: bool = False
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


_HERE = "niddl_xr.recordings.readers"
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# Folders are asked in this order; of the files whose first bytes fit, the one whose suffix fits too comes first.
READERS: dict[str, Reader] = {
    "tiff": Reader(
        f"{_HERE}.tiff",
        "TIFF: OME, ImageJ, BigTIFF, plain pages",
        (".tif", ".tiff", ".btf", ".tf8"),
        _TIFF_MAGIC,
        needs=("tifffile",),
        options=("sizes", "series"),
    ),
    "hdf5": Reader(
        f"{_HERE}.hdf5",
        "a dataset of an HDF5 file",
        (".h5", ".hdf5", ".hdf", ".he5"),
        (b"\x89HDF\r\n\x1a\n",),
        needs=("h5py",),
        options=("dataset",),
    ),
    "numpy": Reader(f"{_HERE}.numpy", "an array of numpy, memory-mapped", (".npy",), (b"\x93NUMPY",)),
    "zarr": Reader(
        f"{_HERE}.zarr",
        "zarr 2 and 3: our store, OME-Zarr, xarray's, plain arrays",
        (".zarr",),
        folder=True,
        needs=("zarr",),
        options=("variable",),
    ),
    "niddl_layout": Reader(
        f"{_HERE}.niddl_layout",
        "NIDDL's folders img_<t>/z_<k>.tif",
        (),
        folder=True,
        needs=("tifffile",),
        options=("gaps",),
    ),
    "planes": Reader(
        f"{_HERE}.planes",
        "a folder or a glob of numbered TIFF or PNG files; one PNG",
        (".png",),
        (_PNG_MAGIC,),
        folder=True,
        needs=("tifffile",),
        options=("gaps",),
    ),
}


def readers() -> pd.DataFrame:
    """Return the formats that can be opened.

    Returns
    -------
    pandas.DataFrame
        One row a reader, named by the index: ``what`` it opens, the ``suffixes`` of its files (empty for a layout
        of folders), the packages it ``needs``, whether these are ``installed``, and the further keyword
        arguments (``options``) that :func:`niddl_xr.open_recording` takes for it.

    Examples
    --------
    >>> bool(readers().loc["tiff", "installed"])
    True
    """
    import pandas as pd

    rows = {
        name: {
            "what": reader.what,
            "suffixes": " ".join(reader.suffixes),
            "needs": " ".join(reader.needs),
            "installed": not missing_packages(reader),
            "options": " ".join(reader.options),
        }
        for name, reader in READERS.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "reader"
    return table


def missing_packages(reader: Reader) -> list[str]:
    """Return the packages that a reader needs and that are not installed."""
    return [package for package in reader.needs if find_spec(package) is None]


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
    for name, reader in READERS.items():
        if reader.folder and import_module(reader.module).recognises(path):
            return name
    raise NiddlError(
        f"no reader recognises the folder {path}: expected numbered .tif or .png files, NIDDL's folders "
        f"img_<t>/z_<k>.tif or a zarr store; it holds {', '.join(sorted(child.name for child in path.iterdir())[:8])}"
    )


def _find_for_file(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise NiddlError(f"{path} is empty: it has 0 bytes; copy it again from where it was recorded")
    suffix = path.suffix.lower()
    by_content = [name for name, reader in READERS.items() if head.startswith(reader.magic)]
    by_suffix = [name for name, reader in READERS.items() if suffix in reader.suffixes]
    both = [name for name in by_content if name in by_suffix]
    for found in (both, by_content, by_suffix):
        if found:
            return found[0]
    known = "; ".join(f"{name} ({' '.join(reader.suffixes)})" for name, reader in READERS.items() if reader.suffixes)
    raise NiddlError(
        f"no reader for {path}: neither its first bytes nor its suffix {suffix!r} is known. Known: {known}"
    )


def load_reader(name: str, options: Mapping[str, Any], path: Path) -> Any:
    """Return the module of a reader, after a check of the packages it needs and of the options given for it."""
    reader = READERS[name]
    missing = missing_packages(reader)
    if missing:
        raise NiddlError(f"{path} needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    unknown = sorted(set(options) - set(reader.options))
    if unknown:
        known = ", ".join(reader.options) or "none"
        raise NiddlError(
            f"unknown option {', '.join(unknown)} for {path}; the reader {name!r} has these options: {known}"
        )
    return import_module(reader.module)
