"""Arrays of numpy (``.npy``), memory-mapped; never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import Contiguous, choose_channel, damage_named, default_axes, lazy, modified_ns
from niddl_xr.schema import NiddlError

READER = Reader("an array of numpy, memory-mapped", suffixes=(".npy",), magic=(b"\x93NUMPY",))


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any) -> Opened:
    """Open a ``.npy`` lazily.

    Parameters
    ----------
    path
        The file.
    axes
        Letters of its dims; by default ``"yx"``, ``"tyx"`` or ``"tzyx"`` by their number, with a warning.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    """
    with damage_named(f"{path} is not a .npy that can be read", (OSError, ValueError, EOFError)):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = header(file)
            offset = file.tell()
        if dtype.hasobject or dtype.kind not in "uif":
            raise NiddlError(f"{path} holds {dtype}; expected integer or floating-point counts, which need no pickle")
        if 0 in shape:
            raise NiddlError(f"{path} is empty: its shape is {shape}")
        end, size = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size
        if end > size:
            raise NiddlError(f"{path} is cut short: its {shape} {dtype} end at byte {end}, but the file has {size}")
    letters, notes = default_axes(axes, shape, str(path))
    order: Literal["C", "F"] = "F" if fortran else "C"
    source = Contiguous(str(path), offset, shape, dtype.str, order, modified_ns(path))
    number, label = choose_channel(channel, letters, shape, (), path)
    return Opened(lazy(source, letters, chunks, number), channel=label, notes=notes)
