"""Arrays of numpy (``.npy``, and within a ``.npz`` that is not compressed), memory-mapped; never unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import (
    DAMAGE,
    Contiguous,
    choose_channel,
    damage_named,
    default_axes,
    lazy,
    modified_ns,
)
from niddl_xr.schema import NiddlError

READER = Reader(
    "an array of numpy, memory-mapped (.npz: not compressed)",
    suffixes=(".npy", ".npz"),
    magic=(b"\x93NUMPY",),
    options=("variable",),
)
_DAMAGE = (*DAMAGE, SyntaxError, TokenError, zipfile.BadZipFile)
_VERSIONS = ((1, 0), (2, 0), (3, 0))
_LOCAL_HEADER_BYTES = 30  # of a member of a zip file, before its name


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is a zip file that calls itself ``.npz``."""
    return head.startswith(b"PK\x03\x04") and path.suffix.lower() == ".npz"


def read(
    path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, variable: str | None = None
) -> Opened:
    """Open a ``.npy``, or one array of a ``.npz``, lazily.

    Parameters
    ----------
    path
        The file, of version 1 to 3 of the format, in C or Fortran order and any byte order.
    axes
        Letters of its dims; by default ``"yx"``, ``"tyx"`` or ``"tzyx"`` by their number, with a warning.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    variable
        Which array of a ``.npz``: its name; by default the only one.

    Raises
    ------
    NiddlError
        For what is no array of integer or floating-point numbers, a file that is cut short or damaged, and a
        ``.npz`` that is compressed, of which a part cannot be read by itself.
    """
    with damage_named(f"{path} is not a .npy that can be read", _DAMAGE), path.open("rb") as file:
        start, end = 0, path.stat().st_size
        if zipfile.is_zipfile(file) and path.suffix.lower() != ".npy":
            start, end = _member(path, file, variable)
        elif variable is not None:
            raise NiddlError(f"{path} holds one array without a name: leave out variable=")
        file.seek(start)
        source = _source(path, file, end)
    letters, notes = default_axes(axes, source.shape, str(path))
    number, label = choose_channel(channel, letters, source.shape, (), path)
    return Opened(lazy(source, letters, chunks, number), channel=label, notes=notes)


def _source(path: Path, file: IO[bytes], size: int) -> Contiguous:
    """Return the array whose header begins here and whose values must end before byte ``size`` of the file."""
    version = np.lib.format.read_magic(file)
    if version not in _VERSIONS:
        raise NiddlError(f"{path} is of version {version} of the .npy format; known: {_VERSIONS}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    offset = file.tell()
    if dtype.hasobject or dtype.kind not in "uif":
        raise NiddlError(f"{path} holds {dtype}; expected integer or floating-point counts, which need no pickle")
    if 0 in shape:
        raise NiddlError(f"{path} is empty: its shape is {shape}")
    end = offset + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 1 or end > size:
        raise NiddlError(f"{path} is cut short: its {shape} {dtype} end at byte {end}, but the file has {size}")
    order: Literal["C", "F"] = "F" if fortran else "C"
    return Contiguous(str(path), offset, tuple(map(int, shape)), dtype.str, order, modified_ns(path))


def _member(path: Path, file: IO[bytes], variable: str | None) -> tuple[int, int]:
    """Return where the chosen array of a ``.npz`` begins and ends in the file."""
    with zipfile.ZipFile(file) as archive:
        members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
    names = list(members) if variable is None else [name for name in members if name == variable]
    if len(names) != 1:
        listed = ", ".join(list(members)[:12]) or "none"
        raise NiddlError(f"expected one array in {path}; choose one with variable=: {listed}")
    item = members[names[0]]
    if item.compress_type != zipfile.ZIP_STORED or item.flag_bits & 1:
        raise NiddlError(
            f"{names[0]} of {path} is compressed, so that it could only be read as a whole: load it with numpy.load "
            "and give it to from_numpy, or write it with numpy.save"
        )
    file.seek(item.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(b"PK\x03\x04"):
        raise NiddlError(f"{names[0]} of {path} has a damaged header: copy the file again from its origin")
    start = (
        item.header_offset + _LOCAL_HEADER_BYTES + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    )
    return start, min(start + item.file_size, path.stat().st_size)
