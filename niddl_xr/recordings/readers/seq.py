"""SEQ of Norpix' StreamPix: a header, then frames of a fixed size, each followed by its time.

Layout: Norpix, "StreamPix sequence file format": header of 1024 bytes, 8192 from version 5 on.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._frames import SpacedFrames, require_usual
from niddl_xr.recordings.readers._lazy import choose_channel, lazy, modified_ns
from niddl_xr.schema import NiddlError

READER = Reader(
    "SEQ of Norpix' StreamPix", suffixes=(".seq",), magic=(b"\xed\xfe\x00\x00N\x00o\x00r\x00p\x00i\x00x\x00",)
)
_IMAGE = struct.Struct("<9Id")  # of an image, after 548 bytes: sizes, format, number of frames, stride, frames per s
_TIME = np.dtype([("s", "<u4"), ("ms", "<u2"), ("us", "<u2")])  # since 1970
_MONO, _COLOUR = 100, 200
_FORMATS = {1: "PNG", 2: "PNG", 101: "a colour mosaic", 102: "JPEG", 103: "JPEG of a colour mosaic", 201: "JPEG"}


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any) -> Opened:
    """Open a SEQ lazily.

    Parameters
    ----------
    path
        The file, not compressed.
    axes
        None: it is always frames of rows.
    channel, chunks
        See :func:`niddl_xr.open_recording`. Those of a colour camera are blue, green and red.

    Returns
    -------
    Opened
        Axes ``"tzyx"``, counts as stored; times in s since the first frame as the camera's computer stamped them,
        else the frame rate of the header.

    Raises
    ------
    NiddlError
        For a damaged file, one that is cut short, and compressed frames.
    """
    require_usual(path, axes, known=("tyx", "tyxc"))
    stamp, size = modified_ns(path), path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
    if len(head) < 1024:
        raise NiddlError(f"{path} is cut short: its header has 1024 bytes, but the file has {size}; copy it again")
    version = int.from_bytes(head[28:32], "little")
    width, height, bits, true_bits, frame_bytes, kind, count, _, stride, rate = _IMAGE.unpack_from(head, 548)
    offset = 8192 if version >= 5 else 1024
    if kind not in (_MONO, _COLOUR):
        raise NiddlError(f"{path} holds {_FORMATS.get(kind, f'images of format {kind}')}; expected raw frames")
    components = 3 if kind == _COLOUR else 1
    itemsize = bits // components // 8
    expected = width * height * components * itemsize
    if itemsize not in (1, 2) or bits != 8 * itemsize * components or not 0 < expected <= frame_bytes <= stride:
        raise NiddlError(
            f"{path} states {width} x {height} pixels of {bits} bits in {frame_bytes} bytes, {stride} bytes apart, "
            "which do not agree; it is damaged: copy it again from its origin"
        )
    count = count or max(0, (size - offset) // stride)  # 0 while StreamPix writes
    shape = (count, height, width, components)
    source = SpacedFrames(str(path), offset, stride, shape, f"<u{itemsize}", stamp)
    if not count or source.end > size:
        raise NiddlError(
            f"{path} is cut short: its {count} frames of {width} x {height} pixels end at byte {source.end}, but the "
            f"file has {size}; copy it again"
        )
    number, label = choose_channel(channel, "c", (components,), ("blue", "green", "red")[:components], path)
    times = _times(source, frame_bytes) if stride >= frame_bytes + _TIME.itemsize else np.empty(0)
    increasing = len(times) > 1 and bool(np.all(np.diff(times) > 0))
    attrs: dict[str, Any] = {"bit_depth": true_bits} if 0 < true_bits <= 8 * itemsize else {}
    if len(times) and times[0] > 0:
        attrs["acquired"] = datetime.fromtimestamp(times[0], UTC).isoformat(timespec="milliseconds")
    return Opened(
        lazy(source, "tyxc", chunks, number),
        dt_s=None if increasing or not 0 < rate < 1e9 else 1 / rate,
        t_s=times - times[0] if increasing else None,
        channel=label if components > 1 else None,
        attrs=attrs,
    )


def _times(source: SpacedFrames, frame_bytes: int) -> np.ndarray:
    """Return the times in s since 1970 that follow every frame; empty where the last one is cut off."""
    stamps = source.beside(frame_bytes, _TIME)
    return np.asarray(stamps["s"] + stamps["ms"] * 1e-3 + stamps["us"] * 1e-6)
