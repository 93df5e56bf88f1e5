"""SPE, SEQ and ICS files, written in the published layouts."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SPE_TYPES = {"float32": 0, "int32": 1, "int16": 2, "uint16": 3, "float64": 5, "uint8": 6, "uint32": 8}


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Return counts that tell every element from its neighbours."""
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) * 7 + 3
    return (values % (np.iinfo(dtype).max if np.dtype(dtype).kind != "f" else 65521)).astype(dtype)


def write_spe(path: Path, frames: np.ndarray, *, exposure_s: float = 0.05, comment: bytes = b"") -> Path:
    """Write frames (t, y, x) as WinView 2.x does."""
    header = bytearray(4100)
    struct.pack_into("<f", header, 10, exposure_s)
    header[20:29] = b"03Mar2021"
    header[172:178] = b"112233"
    header[200 : 200 + len(comment)] = comment
    struct.pack_into("<H", header, 42, frames.shape[2])
    struct.pack_into("<h", header, 108, _SPE_TYPES[frames.dtype.name])
    struct.pack_into("<H", header, 656, frames.shape[1])
    struct.pack_into("<i", header, 1446, frames.shape[0])
    struct.pack_into("<f", header, 1992, 2.5)
    struct.pack_into("<I", header, 2996, 0x01234567)
    struct.pack_into("<h", header, 4098, 0x5555)
    path.write_bytes(bytes(header) + frames.astype(frames.dtype.newbyteorder("<")).tobytes())
    return path


def write_spe3(path: Path, frames: np.ndarray, times_us: Sequence[int], regions: int = 1) -> Path:
    """Write frames (t, y, x) of uint16 as LightField does, each followed by two time stamps in µs."""
    header = bytearray(4100)
    struct.pack_into("<f", header, 1992, 3.0)
    size = frames[0].nbytes
    body = b"".join(
        frame.astype("<u2").tobytes() + struct.pack("<qq", time, time + 40)
        for frame, time in zip(frames, times_us, strict=True)
    )
    struct.pack_into("<Q", header, 678, len(header) + len(body))
    region = f'<DataBlock type="Region" count="1" width="{frames.shape[2]}" height="{frames.shape[1]}" size="{size}"/>'
    stamps = "".join(
        f'<TimeStamp event="{event}" type="Int64" bitDepth="64" resolution="1000000"/>'
        for event in ("ExposureStarted", "ExposureEnded")
    )
    xml = (
        '<SpeFormat version="3.0" xmlns="http://www.princetoninstruments.com/spe/2009"><DataFormat>'
        f'<DataBlock type="Frame" count="{len(frames)}" pixelFormat="MonochromeUnsigned16" size="{size}" '
        f'stride="{size + 16}">{region * regions}</DataBlock></DataFormat><MetaFormat><MetaBlock>{stamps}</MetaBlock>'
        '</MetaFormat><GeneralInformation><FileInformation created="2022-05-06T07:08:09.5+02:00"/></GeneralInformation>'
        "</SpeFormat>"
    )
    path.write_bytes(bytes(header) + body + xml.encode())
    return path


def write_seq(
    path: Path,
    frames: np.ndarray,
    *,
    version: int = 5,
    times: Sequence[tuple[int, int, int]] | None = None,
    kind: int = 100,
) -> Path:
    """Write frames (t, y, x) or (t, y, x, colour) as StreamPix does; ``times`` are (s, ms, µs)."""
    offset = 8192 if version >= 5 else 1024
    header = bytearray(offset)
    header[:28] = struct.pack("<I", 0xFEED) + "Norpix seq".encode("utf-16-le").ljust(24, b"\0")
    struct.pack_into("<ii", header, 28, version, 1024)
    itemsize, components = frames.dtype.itemsize, frames[0, 0, 0].size
    size = frames[0].nbytes
    stride = -(-(size + 8) // 512) * 512
    bits = 8 * itemsize * components
    sizes = (frames.shape[2], frames.shape[1], bits, 8 * itemsize, size, kind, len(frames), 0, stride)
    struct.pack_into("<9Id", header, 548, *sizes, 25.0)
    body = b"".join(
        (frame.tobytes() + (struct.pack("<IHH", *times[k]) if times else b"")).ljust(stride, b"\0")
        for k, frame in enumerate(frames)
    )
    path.write_bytes(bytes(header) + body)
    return path


def write_ics(
    path: Path,
    values: np.ndarray,
    order: Sequence[str],
    *,
    version: int = 2,
    packed: bool = False,
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
    source: str = "",
) -> Path:
    """Write an array whose dims, the last one first, are ``order``; version 1 keeps its counts in an .ids."""
    itemsize = values.dtype.itemsize
    places = range(1, itemsize + 1) if values.dtype.newbyteorder("<") == values.dtype else range(itemsize, 0, -1)
    kind = {"u": ("integer", "unsigned"), "i": ("integer", "signed"), "f": ("real", "signed")}[values.dtype.kind]
    lines: list[list[Any]] = [
        ["ics_version", f"{version}.0"],
        ["filename", "elsewhere/other.ids"],
        ["layout", "parameters", 1 + values.ndim],
        ["layout", "order", "bits", *order],
        ["layout", "sizes", 8 * itemsize, *values.shape[::-1]],
        ["representation", "format", kind[0]],
        ["representation", "sign", kind[1]],
        ["representation", "compression", "gzip" if packed else "uncompressed"],
        ["representation", "byte_order", *places],
        ["sensor", "s_params", "LambdaEm", 509.0, 610.0],
    ]
    if scale:
        lines += [["parameter", "scale", 1.0, *scale], ["parameter", "units", "bits", *units]]
    if source:
        lines += [["source", "file", source], ["source", "offset", 3]]
    text = "\t\n" + "".join("\t".join(map(str, line)) + "\n" for line in [*lines, ["end"]])
    data = gzip.compress(values.tobytes()) if packed else values.tobytes()
    if source:
        path.with_name(Path(source).name).write_bytes(b"abc" + data)
    elif version == 1:
        path.with_suffix(".ids").write_bytes(data)
    path.write_bytes(text.encode() + (data if version == 2 and not source else b""))
    return path


def spe(folder: Path) -> Path:
    return write_spe(folder / "winview.spe", counts(5, 6, 9))


def spe3(folder: Path) -> Path:
    return write_spe3(folder / "lightfield.spe", counts(4, 6, 9), [100, 50_100, 100_100, 170_100])


def seq(folder: Path) -> Path:
    times = [(1_600_000_000 + k, 5 * k, 7 * k) for k in range(4)]
    return write_seq(folder / "streampix.seq", counts(4, 6, 9, dtype="uint8"), times=times)


def seq_colour(folder: Path) -> Path:
    return write_seq(folder / "colour.seq", counts(3, 4, 5, 3, dtype="uint8"), version=3, kind=200)


def ics1(folder: Path) -> Path:
    """Two channels, 3 times, big-endian, with an .ids beside it."""
    values = counts(2, 3, 4, 6, 5).astype(">u2")
    units = ["micrometers", "micrometers", "micrometers", "seconds", "undefined"]
    order = ["x", "y", "z", "t", "ch"]
    return write_ics(folder / "cells.ics", values, order, version=1, scale=[0.25, 0.5, 1.5, 0.2, 1.0], units=units)


def ics2_packed(folder: Path) -> Path:
    return write_ics(folder / "packed.ics", counts(7, 6, 5), ["x", "y", "t"], packed=True)


SAMPLES: dict[str, Callable[[Path], Path]] = {
    function.__name__: function for function in (spe, spe3, seq, seq_colour, ics1, ics2_packed)
}
OPTIONS: dict[str, dict[str, Any]] = {"seq_colour": {"channel": "green"}, "ics1": {"channel": 1}}
