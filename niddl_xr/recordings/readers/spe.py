"""SPE of Princeton Instruments: WinView and WinSpec (header 2.x) and LightField (3.0, described by XML at its end).

Layout: Princeton Instruments, "SPE 3.0 File Format Specification", whose appendix gives the header of 2.x.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._frames import SpacedFrames, require_usual
from niddl_xr.recordings.readers._lazy import choose_channel, damage_named, lazy, modified_ns
from niddl_xr.recordings.readers._xml import parse_xml
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

READER = Reader("SPE of Princeton Instruments' WinView and LightField", suffixes=(".spe",))
_HEADER_BYTES = 4100
_WINVIEW_ID = (2996, 0x01234567)  # where a header of 2.x has this number
_DTYPES = {0: "<f4", 1: "<i4", 2: "<i2", 3: "<u2", 5: "<f8", 6: "<u1", 8: "<u4"}
_PIXEL_FORMATS = {
    **{"MonochromeUnsigned16": "<u2", "MonochromeUnsigned32": "<u4"},
    "MonochromeFloating32": "<f4",
}
_XML = "{http://www.princetoninstruments.com/spe/2009}"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True)
class Layout:
    """Where the frames of a file lie, and what it states."""

    shape: tuple[int, int, int]  # t, y, x
    stored: str
    stride: int
    attrs: dict[str, Any] = field(default_factory=dict)
    times: tuple[int, float] | None = None  # bytes from a frame's start to its time stamp, and ticks per s


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file has a header of WinView."""
    place, number = _WINVIEW_ID
    return len(head) >= place + 4 and int.from_bytes(head[place : place + 4], "little") == number


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any) -> Opened:
    """Open an SPE lazily.

    Parameters
    ----------
    path
        The file.
    axes
        None: it is always frames of rows.
    channel, chunks
        See :func:`niddl_xr.open_recording`.

    Returns
    -------
    Opened
        Axes ``"tzyx"``, counts as stored. Times in s are the time stamps at the start of the exposures that
        LightField stores on request; 2.x states none.

    Raises
    ------
    NiddlError
        For a damaged file, one that is cut short, and several regions of interest.
    """
    require_usual(path, axes, known=("tyx",))
    stamp, size = modified_ns(path), path.stat().st_size
    with path.open("rb") as file, damage_named(f"{path} is not an SPE that can be read"):
        head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            raise NiddlError(f"{path} is cut short: its header has {_HEADER_BYTES} bytes, but the file has {size}")
        footer = int.from_bytes(head[678:686], "little")
        version = struct.unpack_from("<f", head, 1992)[0]
        layout = _from_footer(path, file, footer, size) if version >= 3 and footer else _from_header(path, head)
        source = SpacedFrames(str(path), _HEADER_BYTES, layout.stride, layout.shape, layout.stored, stamp)
        if min(layout.shape) < 1 or source.end > size:
            raise NiddlError(
                f"{path} is cut short: its frames (t, y, x) {layout.shape} {layout.stored} end at byte {source.end}, "
                f"but the file has {size}; copy it again"
            )
        times = _times(source, layout.times)
    choose_channel(channel, "tyx", layout.shape, (), path)
    return Opened(lazy(source, "tyx", chunks), t_s=times, attrs=layout.attrs)


def _from_header(path: Path, head: bytes) -> Layout:
    """Return the layout that a header of 2.x states."""
    width, kind, height, count = (
        *struct.unpack_from("<H", head, 42),
        *struct.unpack_from("<h", head, 108),
        *struct.unpack_from("<H", head, 656),
        *struct.unpack_from("<i", head, 1446),
    )
    if kind not in _DTYPES:
        raise NiddlError(f"{path} has values of type {kind}; expected one of {sorted(_DTYPES)}; it is damaged")
    exposure_s = struct.unpack_from("<f", head, 10)[0]
    attrs: dict[str, Any] = {"exposure_s": float(f"{exposure_s:.6g}")} if 0 < exposure_s < 1e9 else {}
    comments = [_text(head[start : start + 80]) for start in range(200, 440, 80)]  # two more are for the camera
    attrs["acquired"] = _acquired(_text(head[20:30]), _text(head[172:179]))
    attrs["software"] = _text(head[688:704])
    attrs["description"] = "\n".join(line for line in comments if line)
    stated = {name: value for name, value in attrs.items() if value}
    dtype = _DTYPES[kind]
    return Layout((count, height, width), dtype, width * height * np.dtype(dtype).itemsize, stated)


def _text(data: bytes) -> str:
    """Return printable text up to the first zero, else nothing."""
    text = data.split(b"\0")[0].decode("latin-1").strip()
    return text if text.isprintable() else ""


def _acquired(date: str, time: str) -> str:
    """Return date and local time in ISO 8601 from such as 22Jul2015 and 094018, which are in English everywhere."""
    day, month, year = date[:2], date[2:5].lower(), date[5:9]
    if not (day.isdigit() and month in _MONTHS and year.isdigit() and len(year) == 4):
        return ""
    iso = f"{year}-{_MONTHS.index(month) + 1:02}-{day}"
    return f"{iso}T{time[:2]}:{time[2:4]}:{time[4:6]}" if len(time) >= 6 and time[:6].isdigit() else iso


def _from_footer(path: Path, file: BinaryIO, footer: int, size: int) -> Layout:
    """Return the layout that the XML at the end of a file of 3.0 states."""
    if footer > size:
        raise NiddlError(f"{path} is cut short: its XML should begin at byte {footer}, but the file has {size}")
    file.seek(footer)
    root = parse_xml(file.read(), f"the XML of {path}")
    frame = root.find(f"{_XML}DataFormat/{_XML}DataBlock[@type='Frame']")
    regions = [] if frame is None else frame.findall(f"{_XML}DataBlock[@type='Region']")
    if frame is None or len(regions) != 1:
        raise NiddlError(f"{path} has {len(regions)} regions of interest; expected one: save them one by one")
    pixels = frame.get("pixelFormat", "")
    if pixels not in _PIXEL_FORMATS:
        raise NiddlError(f"{path} has pixels of format {pixels!r}; expected one of {sorted(_PIXEL_FORMATS)}")
    shape = int(frame.get("count", 0)), int(regions[0].get("height", 0)), int(regions[0].get("width", 0))
    frame_bytes = shape[1] * shape[2] * np.dtype(_PIXEL_FORMATS[pixels]).itemsize
    stride = int(frame.get("stride", frame_bytes))
    if int(frame.get("size", frame_bytes)) != frame_bytes or stride < frame_bytes:
        raise NiddlError(f"{path} states frames of {frame_bytes} bytes, {stride} bytes apart; it is damaged")
    return Layout(shape, _PIXEL_FORMATS[pixels], stride, _stated(root), _time_stamp(root, frame_bytes))


def _stated(root: Element) -> dict[str, Any]:
    """Return when the file was made, by what."""
    general = root.find(f"{_XML}GeneralInformation/{_XML}FileInformation")
    created = "" if general is None else general.get("created", "")
    return {"acquired": created} if created else {}


def _time_stamp(root: Element, frame_bytes: int) -> tuple[int, float] | None:
    """Return where the time of the start of the exposure lies in a frame, and its ticks per s."""
    offset = frame_bytes
    for block in root.iterfind(f"{_XML}MetaFormat/{_XML}MetaBlock/*"):
        if block.tag == f"{_XML}TimeStamp" and block.get("event") == "ExposureStarted":
            resolution = float(block.get("resolution", 0))
            return (offset, resolution) if block.get("type") == "Int64" and resolution > 0 else None
        offset += int(block.get("bitDepth", 0)) // 8
    return None


def _times(source: SpacedFrames, stamp: tuple[int, float] | None) -> np.ndarray | None:
    """Return the time stamps of all frames in s, None where there are none that increase."""
    if stamp is None:
        return None
    place, ticks_a_second = stamp
    times = source.beside(place, np.dtype("<i8")) / ticks_a_second
    return times if len(times) > 1 and np.all(np.diff(times) > 0) else None
