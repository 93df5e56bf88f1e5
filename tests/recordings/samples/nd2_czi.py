"""ND2 and CZI files, written in the published layouts: chunks with a map at the end, and segments with a directory.

ND2: https://github.com/tlambert03/nd2 describes the chunks and their metadata ("CLX lite": typed, named values).
CZI: ZEISS' "CZI (ZISRAW) File Format", and https://zeiss.github.io/libczi.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

# ------------------------------------------------------------------------------------------------------------ ND2

_MAGIC = 0x0ABECEDA


def clx(values: dict[str, Any]) -> bytes:
    """Encode named values as NIS-Elements does; a dict is a level, bytes a byte array."""
    return b"".join(_clx_item(name, value) for name, value in values.items())


def _clx_item(name: str, value: Any) -> bytes:
    label = (name + "\0").encode("utf-16-le")

    def head(kind: int) -> bytes:
        return struct.pack("<BB", kind, len(label) // 2) + label

    if isinstance(value, bool):
        return head(1) + struct.pack("<B", value)
    if isinstance(value, int):
        return head(3) + struct.pack("<I", value)
    if isinstance(value, float):
        return head(6) + struct.pack("<d", value)
    if isinstance(value, str):
        return head(8) + (value + "\0").encode("utf-16-le")
    if isinstance(value, bytes):
        return head(9) + struct.pack("<Q", len(value)) + value
    inside = clx(value)
    start = head(11)
    return start + struct.pack("<IQ", len(value), len(start) + 12 + len(inside)) + inside + bytes(8 * len(value))


def time_loop(count: int, period_ms: float) -> dict[str, Any]:
    return {
        "eType": 1,
        "uLoopPars": {"uiCount": count, "dStart": 0.0, "dPeriod": period_ms, "dDuration": count * period_ms},
    }


def phases_loop(counts: Sequence[int], period_ms: float) -> dict[str, Any]:
    phases = {f"i{k:010}": time_loop(count, period_ms)["uLoopPars"] for k, count in enumerate(counts)}
    return {"eType": 8, "uLoopPars": {"pPeriod": phases, "pPeriodValid": b"\x01" * len(counts)}}


def z_loop(count: int, step_um: float) -> dict[str, Any]:
    return {"eType": 4, "uLoopPars": {"uiCount": count, "dZStep": step_um, "dZLow": 0.0, "dZHigh": step_um * count}}


def position_loop(names: Sequence[str]) -> dict[str, Any]:
    points = {f"i{k:010}": {"dPosX": float(k), "dPosY": 0.0, "pPosName": name} for k, name in enumerate(names)}
    return {"eType": 2, "uLoopPars": {"Points": points}, "pItemValid": b"\x01" * len(names)}


def nested(loops: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put every loop into the one before it."""
    outer = dict(loops[0])
    if len(loops) > 1:
        outer["ppNextLevelEx"] = {"i0000000000": nested(loops[1:])}
    return outer


def write_nd2(
    path: Path,
    planes: np.ndarray,
    loops: Sequence[dict[str, Any]] = (),
    *,
    channels: Sequence[str] = ("GFP",),
    packed: bool = False,
    padding: int = 0,
    times_ms: Sequence[float] | None = None,
    without: Sequence[int] = (),
    bits: int | None = None,
    more: dict[bytes, bytes] | None = None,
) -> Path:
    """Write planes (number, y, x, component) as an ND2 of version 3, with ``padding`` bytes after every row.

    Planes whose number is in ``without`` are left out, as in a recording that was stopped.
    """
    _, height, width, components = planes.shape
    itemsize = planes.dtype.itemsize
    each = components // len(channels)
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": width * components * itemsize + padding,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": 8 * itemsize,
        "uiBpcSignificant": bits or 8 * itemsize,
        "uiSequenceCount": len(planes),
        "eCompression": 0 if packed else 2,
    }
    probe = {"m_EmissionSpectrum": {"pPoint": {"Point0": {"dTValue": 1.0, "dWavelength": 509.0}}}}
    plane = {
        f"i{k:010}": {"sDescription": name, "uiCompCount": each, "uiSampleIndex": k, "pFluorescentProbe": probe}
        for k, name in enumerate(channels)
    }
    picture = {
        "bCalibrated": True,
        "dCalibration": 0.25,
        "dTimeAbsolute": 2460000.5,  # 25 February 2023, midnight
        "wsObjectiveName": "Plan Apo 40x",
        "dObjectiveMag": 40.0,
        "dObjectiveNA": 0.95,
        "sPicturePlanes": {"uiCount": len(channels), "sPlaneNew": plane},
    }
    chunks = {b"ImageAttributesLV!": clx({"SLxImageAttributes": attributes})}
    chunks[b"ImageMetadataSeqLV|0!"] = clx({"SLxPictureMetadata": picture})
    if loops:
        chunks[b"ImageMetadataLV!"] = clx({"SLxExperiment": nested(loops)})
    chunks[b"ImageTextInfoLV!"] = clx({"SLxImageTextInfo": {"TextInfoItem_5": "Camera Name: Andor Zyla\r\n"}})
    for number, values in enumerate(planes):
        rows = [row.tobytes() + bytes(padding) for row in values]
        data = b"".join(rows)
        if number not in without:
            chunks[b"ImageDataSeq|%d!" % number] = bytes(8) + (zlib.compress(data) if packed else data)
    if times_ms is not None:
        chunks[b"CustomData|AcqTimesCache!"] = np.asarray(times_ms, "<f8").tobytes()
    chunks.update(more or {})
    path.write_bytes(_nd2_file(chunks, 40 if packed else 4072))
    return path


def _nd2_file(chunks: dict[bytes, bytes], name_bytes: int) -> bytes:
    signature = b"ND2 FILE SIGNATURE CHUNK NAME01!"
    file = bytearray(struct.pack("<IIQ", _MAGIC, 32, 64) + signature + b"Ver3.0".ljust(64, b"\0"))
    listed = b""
    for name, data in chunks.items():
        file += bytes(-len(file) % (name_bytes + 24))
        listed += name + struct.pack("<QQ", len(file), len(data))
        file += struct.pack("<IIQ", _MAGIC, name_bytes, len(data))
        file += name.ljust(name_bytes, b"\0") + data
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(file))
    name = b"ND2 FILEMAP SIGNATURE NAME 0001!"
    listed += end
    file += struct.pack("<IIQ", _MAGIC, 32, len(listed)) + name + listed
    return bytes(file)


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Return counts that tell every element from its neighbours."""
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) * 7 + 3
    return (values % 65521).astype(dtype)


def nd2_volumes(folder: Path) -> Path:
    """t 3, z 2, two channels."""
    times = [100.0 + 50 * plane + (7 if plane > 3 else 0) for plane in range(6)]
    return write_nd2(
        folder / "volumes.nd2",
        counts(6, 5, 7, 2),
        [time_loop(3, 100.0), z_loop(2, 0.5)],
        channels=("GFP", "RFP"),
        times_ms=times,
    )


def nd2_positions(folder: Path) -> Path:
    """t 2, two positions, z 3, lossless compression."""
    loops = [time_loop(2, 500.0), position_loop(["head", "tail"]), z_loop(3, 1.5)]
    return write_nd2(folder / "positions.nd2", counts(12, 5, 7, 1), loops, packed=True)


def nd2_plain(folder: Path) -> Path:
    """One plane of 8 bits, rows padded, no loop."""
    return write_nd2(folder / "plain.nd2", counts(1, 5, 7, 1, dtype="uint8"), padding=1)


def nd2_colour(folder: Path) -> Path:
    """A movie of a colour camera in two phases."""
    return write_nd2(folder / "colour.nd2", counts(5, 4, 6, 3, dtype="uint8"), [phases_loop([2, 3], 40.0)])


# ------------------------------------------------------------------------------------------------------------ CZI

_PIXEL_NUMBERS = {("uint8", 1): 0, ("uint16", 1): 1, ("float32", 1): 2, ("uint8", 3): 3, ("uint16", 3): 4}


@dataclass(frozen=True)
class Tile:
    """A tile (y, x) or (y, x, colour) with its place; ``shrunk`` marks one of a pyramid."""

    values: np.ndarray
    place: dict[str, int]
    compression: int = 0
    shrunk: int = 1


def _entry(tile: Tile, position: int) -> bytes:
    height, width = tile.values.shape[:2]
    number = _PIXEL_NUMBERS[tile.values.dtype.name, tile.values[0, 0].size]
    sizes = {"X": width, "Y": height}
    dims = b"".join(
        struct.pack("<4siifi", name.encode(), start, sizes.get(name, 1) * tile.shrunk, 0.0, sizes.get(name, 1))
        for name, start in tile.place.items()
    )
    pyramid = 2 if tile.shrunk > 1 else 0
    head = struct.pack("<2siqiiB5xi", b"DV", number, position, 0, tile.compression, pyramid, len(tile.place))
    return head + dims


def _pixels(tile: Tile) -> bytes:
    data = np.ascontiguousarray(tile.values).tobytes()
    if tile.compression == 0:
        return data
    if tile.compression == 4:
        return bytes(imagecodecs.jpegxr_encode(tile.values, level=1.0))
    if tile.compression == 5:
        return bytes(imagecodecs.zstd_encode(data))
    halves = np.frombuffer(data, np.uint8).reshape(-1, tile.values.dtype.itemsize)
    return b"\x03\x01\x01" + bytes(imagecodecs.zstd_encode(np.ascontiguousarray(halves.T).tobytes()))


def _segment(name: str, data: bytes) -> bytes:
    data += bytes(-len(data) % 32)
    return struct.pack("<16sqq", name.encode(), len(data), len(data)) + data


def czi_metadata(channels: Sequence[str], extra: str = "") -> str:
    listed = "".join(
        f'<Channel Id="Channel:{k}" Name="{name}"><EmissionWavelength>{500 + k}</EmissionWavelength>'
        f"<ExposureTime>{(k + 1) * 10_000_000}</ExposureTime></Channel>"
        for k, name in enumerate(channels)
    )
    distances = "".join(
        f'<Distance Id="{dim}"><Value>{value}</Value></Distance>'
        for dim, value in (("X", 2.5e-7), ("Y", 2.5e-7), ("Z", 1.5e-6))
    )
    return (
        "<ImageDocument><Metadata><Information><Application><Name>ZEN</Name><Version>3.1</Version></Application><Image>"
        "<AcquisitionDateAndTime>2024-05-06T07:08:09.1234567Z</AcquisitionDateAndTime>"
        "<ComponentBitCount>12</ComponentBitCount>"
        '<ObjectiveSettings><ObjectiveRef Id="Objective:2"/></ObjectiveSettings>'
        f"<Dimensions><Channels>{listed}</Channels>{extra}</Dimensions></Image><Instrument><Objectives>"
        '<Objective Id="Objective:1" Name="other"/><Objective Id="Objective:2" Name="Plan 20x"><LensNA>0.8</LensNA>'
        "<NominalMagnification>20</NominalMagnification></Objective></Objectives></Instrument></Information>"
        f"<Scaling><Items>{distances}</Items></Scaling></Metadata></ImageDocument>"
    )


def write_czi(
    path: Path, tiles: Sequence[Tile], metadata: str | None = None, *, times_s: Sequence[float] | None = None
) -> Path:
    """Write tiles as a CZI."""
    file = bytearray(544)
    entries = []
    for tile in tiles:
        position, data = len(file), _pixels(tile)
        entries.append(_entry(tile, position))
        head = struct.pack("<iiq", 5, 0, len(data)) + entries[-1]
        file += _segment("ZISRAWSUBBLOCK", head.ljust(256, b"\0") + b"<a/>\n" + data)
    places = {"directory": len(file), "metadata": 0, "attachments": 0}
    file += _segment("ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    if metadata is not None:
        places["metadata"] = len(file)
        text = metadata.encode()
        file += _segment("ZISRAWMETADATA", struct.pack("<ii248x", len(text), 0) + text)
    if times_s is not None:
        stamps = struct.pack("<ii", 8 + 8 * len(times_s), len(times_s)) + np.asarray(times_s, "<f8").tobytes()
        about = struct.pack("<2s10xqi16s8s80s", b"A1", len(file), 0, bytes(16), b"CZTIMS", b"TimeStamps")
        file += _segment("ZISRAWATTACH", struct.pack("<i12x", len(stamps)) + about + bytes(112) + stamps)
        places["attachments"] = len(file)
        file += _segment("ZISRAWATTDIR", struct.pack("<i252x", 1) + about)
    fields = (1, 0, 0, 0, bytes(16), bytes(16), 0, places["directory"], places["metadata"], 0, places["attachments"])
    start = struct.pack("<16sqq", b"ZISRAWFILE", 512, 512) + struct.pack("<4i16s16siqqiq", *fields)
    file[: len(start)] = start
    path.write_bytes(file)
    return path


def czi_tiles(values: np.ndarray, compression: int = 0, **place: int) -> list[Tile]:
    """Return one tile for every plane of (t, z, c, y, x)."""
    return [
        Tile(values[t, z, c], {"X": 40, "Y": -7, "C": c, "Z": z, "T": t, **place}, compression)
        for t, z, c in np.ndindex(*values.shape[:3])
    ]


def czi_volumes(folder: Path) -> Path:
    """t 3, z 2, two channels, with time stamps."""
    tiles = czi_tiles(counts(3, 2, 2, 5, 7))
    return write_czi(folder / "volumes.czi", tiles, czi_metadata(["GFP", "RFP"]), times_s=[0.5, 1.5, 2.75])


def czi_mosaic(folder: Path) -> Path:
    """A plane of two tiles that overlap by two columns, compressed, with a pyramid."""
    plane = counts(6, 9)
    tiles = [
        Tile(plane[:, :5], {"X": 0, "Y": 0, "C": 0, "M": 0}, 6),
        Tile(plane[:, 3:], {"X": 3, "Y": 0, "C": 0, "M": 1}, 6),
        Tile(plane[::2, ::3], {"X": 0, "Y": 0, "C": 0}, 0, 2),
    ]
    return write_czi(folder / "mosaic.czi", tiles, czi_metadata(["GFP"]))


def czi_jpeg_xr(folder: Path) -> Path:
    """t 2, JPEG XR without loss."""
    return write_czi(folder / "jpeg_xr.czi", czi_tiles(counts(2, 1, 1, 33, 20), 4), czi_metadata(["GFP"]))


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "nd2_volumes": nd2_volumes,
    "nd2_positions": nd2_positions,
    "nd2_plain": nd2_plain,
    "nd2_colour": nd2_colour,
    "czi_volumes": czi_volumes,
    "czi_mosaic": czi_mosaic,
    "czi_jpeg_xr": czi_jpeg_xr,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "nd2_volumes": {"channel": "RFP"},
    "nd2_positions": {"position": "tail"},
    "nd2_colour": {"channel": 1},
    "czi_volumes": {"channel": "RFP"},
}
