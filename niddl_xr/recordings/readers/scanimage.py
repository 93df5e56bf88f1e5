"""TIFF files of ScanImage, version 3 to the present: channels, slices and frames out of one sequence of pages.

Layout: the ScanImage BigTIFF specification (docs.scanimage.org, appendix): settings as lines ``SI.name = value`` in
the Software tag and behind the header of the file; what differs from frame to frame in the description of every page.
Before 2016 the settings stood in that description, as ``scanimage.SI.name``, ``scanimage.SI4.name`` or ``state.name``.
Pages follow each other by channel, then by frame of a slice, then by slice, then by volume; behind the slices of a
volume lie the frames of the flyback.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import damage_named, joined
from niddl_xr.recordings.readers._ome import number
from niddl_xr.recordings.readers._tiff_directories import Directories, directories
from niddl_xr.recordings.readers._tiff_layout import CHECKED_PAGES, DESCRIPTION, Layout, page_table, squeezed, steady
from niddl_xr.recordings.readers._tiff_tags import MAGIC, Tags, first_page
from niddl_xr.recordings.readers.tiff import opened
from niddl_xr.recordings.readers.tiff import read as read_tiff
from niddl_xr.schema import NiddlError

READER = Reader(
    "TIFF of ScanImage, one file or the files of one acquisition",
    needs=("tifffile", "imagecodecs"),
    options=("sizes",),
)
_SOFTWARE = 305
_BIGTIFF_MAGIC = 117637889  # behind the header of a BigTIFF of ScanImage
_FIRST_WORDS = re.compile(r"\s*(SI\.|scanimage\.SI|state\.|frameNumbers? *=|Frame Number *=)")
_TIMESTAMP = re.compile(rb"(?:frameTimestamps_sec|Frame Timestamp\(s\)|Frame Timestamp\(s\) *) *= *([-+0-9.eE]+)")
_EPOCH = re.compile(r"epoch *= *[\[{]([^\]}]*)[\]}]")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?[Ii]nf|[Nn]a[Nn]")
_OLD_NAMES = {  # of versions 3 and 4, as what they are called now
    "acq.numberOfChannelsSave": "channel count",
    "acq.numberOfZSlices": "hStackManager.numSlices",
    "acq.zStepSize": "hStackManager.stackZStepSize",
    "acq.frameRate": "hRoiManager.scanFrameRate",
    "acq.numberOfFrames": "hStackManager.framesPerSlice",
    "channelsSave": "hChannels.channelSave",
    "stackNumSlices": "hStackManager.numSlices",
    "stackZStepSize": "hStackManager.stackZStepSize",
    "acqNumFrames": "hStackManager.framesPerSlice",
    "acqNumAveragedFrames": "hScan2D.logAverageFactor",
    "scanFrameRate": "hRoiManager.scanFrameRate",
    "fastZEnable": "hFastZ.enable",
    "fastZNumDiscardFrames": "hFastZ.numDiscardFlybackFrames",
    "fastZDiscardFlybackFrames": "hFastZ.discardFlybackFrames",
}
_MOST = 10**6  # channels, slices or frames of a slice


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a TIFF was written by ScanImage."""
    if not head.startswith(MAGIC):
        return False
    if head[2:4] in (b"+\0", b"\0+") and head[16:20] == struct.pack("<I", _BIGTIFF_MAGIC):
        return True
    try:
        with path.open("rb", buffering=0) as file:
            tags = first_page(file, str(path))
            return any(_FIRST_WORDS.match(tags.text(code)) for code in (_SOFTWARE, DESCRIPTION))
    except (NiddlError, OSError):
        return False  # the reader of TIFF says what is wrong with it


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    sizes: Mapping[str, int] | None = None,
) -> Opened:
    """Open a TIFF of ScanImage lazily.

    Parameters
    ----------
    path
        One file. The files of one acquisition are opened together by a glob such as ``scan_00001_*.tif``, or by their
        folder.
    axes, sizes
        In place of what ScanImage states: the pages are taken as those of a plain TIFF.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    """
    if axes is not None:
        return read_tiff(path, axes=axes, channel=channel, chunks=chunks, sizes=sizes)
    return read_files([path], channel=channel, chunks=chunks)


def read_files(paths: Sequence[Path], *, channel: int | str | None, chunks: Any) -> Opened:
    """Open the files of one acquisition of ScanImage, in their order, as one recording."""
    layout = describe(paths)
    cut = len(layout.axes) - layout.page_dims
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more files"
    return opened(layout, layout.axes[:cut], layout.shape[:cut], layout.axes[cut:], channel, chunks, where)


@dataclass(frozen=True)
class Geometry:
    """How the pages follow each other: channels, frames a slice, slices, and frames a volume, flyback included."""

    channels: int
    repeats: int
    slices: int
    frames_a_volume: int
    fast: bool

    def planes(self, pages: int) -> tuple[np.ndarray, int]:
        """Return the pages as (t, z, c), and how many at the end are left over.

        The frames of a slice become frames of the recording: the first of every slice the first frame, and so on.
        """
        a_volume = self.frames_a_volume * self.channels
        volumes, left = divmod(pages, a_volume)
        if volumes == 0:  # a stack that was stopped: the slices that are complete
            slices = min(self.slices, pages // (self.channels * self.repeats))
            if slices == 0:
                return np.zeros((0, 0, 0), int), pages
            numbers = np.arange(slices * self.repeats * self.channels)[None]
            left = pages - numbers.size
        else:
            slices = self.slices
            numbers = np.arange(volumes * a_volume).reshape(volumes, a_volume)
            numbers = numbers[:, : slices * self.repeats * self.channels]
        shaped = numbers.reshape(len(numbers), slices, self.repeats, self.channels).transpose(0, 2, 1, 3)
        return shaped.reshape(-1, slices, self.channels), left


def describe(paths: Sequence[Path]) -> Layout:
    """Return what the files of one acquisition hold together.

    Raises
    ------
    NiddlError
        For settings that are missing or contradict each other, for files of different settings, and for files that are
        cut short.
    """
    settings: dict[str, str] = {}
    tables, details = [], ""
    for path in paths:
        found = directories(path)
        with damage_named(f"{path} could not be read"), path.open("rb", buffering=0) as file:
            found.require_whole(file, CHECKED_PAGES)
            tags = found.tags(file, 0)
            if not settings:
                settings, details = _settings(path, tags), tags.text(DESCRIPTION)
            elif geometry(path, _settings(path, tags)) != geometry(paths[0], settings):
                raise NiddlError(f"{path} has other channels or slices than {paths[0]}: open them one by one")
            table, page = page_table(path, found, file, np.arange(len(found)), "scanimage")
            tables.append((table, page, found))
    shape = geometry(paths[0], settings)
    first = tables[0][1]
    for path, (table, page, _) in zip(paths, tables, strict=True):
        if page.shape != first.shape or table.dtype != tables[0][0].dtype:
            raise NiddlError(f"{path} has pages of {page.shape} {table.dtype}, but {paths[0]} has {first.shape}")
    names = [path.name for path in paths]
    whole = joined([table for table, *_ in tables], str(paths[0].parent), names, " ".join(t.token for t, *_ in tables))
    planes, left = shape.planes(len(whole))
    if planes.size == 0:
        raise NiddlError(f"{paths[0]} holds {left} pages, fewer than one slice of {shape.channels} channels: {shape}")
    notes = []
    if left:
        text = f"{paths[-1]} ends within a volume: its last {left} pages are left out"
        notes.append(UserWarning(text))
    times = _timestamps([found for *_, found in tables], planes[:, 0, 0])
    dt_s, t_s = _timing(settings, shape, times)
    axes, sizes = squeezed("tzc", planes.shape, first)
    return Layout(
        axes,
        sizes,
        whole.take(planes.ravel()),
        _voxel(settings, first.full[2], first.full[3]),
        dt_s,
        t_s,
        _channel_names(settings, shape.channels),
        _attrs(settings, details),
        notes=tuple(notes),
    )


def _settings(path: Path, tags: Tags) -> dict[str, str]:
    """Return the settings by name, as text, without what stands before their names."""
    text = tags.text(_SOFTWARE)
    if "SI." not in text:
        text = tags.text(DESCRIPTION)
    if "SI" not in text and "state." not in text and tags.header.big:
        text = _behind_header(tags.file, tags.size)
    found: dict[str, str] = {}
    for line in re.split(r"[\r\n]+", text):
        name, equals, value = line.partition("=")
        if equals:
            name = re.sub(r"^(scanimage\.)?SI[45]?\.|^state\.", "", name.strip())
            found.setdefault(_OLD_NAMES.get(name, name), value.strip())
    if not found:
        raise NiddlError(f"{path} has no settings of ScanImage; open its pages with axes=, such as axes='tyx'")
    return found


def _behind_header(file: BinaryIO, size: int) -> str:
    file.seek(16)
    head = file.read(16)
    if len(head) < 16 or struct.unpack_from("<I", head)[0] != _BIGTIFF_MAGIC:
        return ""
    length = struct.unpack_from("<I", head, 8)[0]
    return file.read(min(length, size)).split(b"\0", 1)[0].decode("utf-8", "replace")


def _numbers(settings: Mapping[str, str], name: str) -> list[float]:
    return [float(text) for text in _NUMBER.findall(settings.get(name, ""))]


def _count(settings: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number from 1 on that a setting states, else the default."""
    found = _numbers(settings, name)
    return int(found[0]) if len(found) == 1 and math.isfinite(found[0]) and 1 <= found[0] <= _MOST else default


def _is_on(settings: Mapping[str, str], name: str) -> bool:
    return settings.get(name, "").lower() in ("true", "1")


def geometry(path: Path, settings: Mapping[str, str]) -> Geometry:
    """Return how the pages of a file with these settings follow each other."""
    saved = _numbers(settings, "hChannels.channelSave")
    channels = len(saved) or _count(settings, "channel count", 1)
    fast = _is_on(settings, "hFastZ.enable")
    stack = _is_on(settings, "hStackManager.enable") or "hStackManager.enable" not in settings
    slices = _count(settings, "hStackManager.actualNumSlices", _count(settings, "hStackManager.numSlices", 1))
    if not (fast or stack) or slices == 1:  # numSlices keeps the value of an earlier stack
        return Geometry(channels, 1, 1, 1, False)
    averaged = _count(settings, "hScan2D.logAverageFactor", 1)
    repeats = _count(settings, "hStackManager.framesPerSlice", 1)
    kept = _count(settings, "hStackManager.numFramesPerVolume", 0)
    if fast:
        repeats = kept // slices if kept >= slices and kept % slices == 0 else 1
    if repeats % averaged or (fast and averaged > 1):
        raise NiddlError(
            f"{path} states {repeats} frames a slice and means of {averaged} frames, whose order in the file is not "
            "known; open it with axes='tzyx' and sizes="
        )
    repeats = 1 if _is_on(settings, "acq.averaging") else repeats // averaged
    flyback = 0
    if fast:
        flyback = _count(settings, "hFastZ.numDiscardFlybackFrames", 0)
        flyback = flyback if settings.get("hFastZ.discardFlybackFrames", "true").lower() in ("true", "1") else 0
    total = slices * repeats + flyback
    if fast:  # until 2018 under the second name
        total = _count(settings, "hFastZ.numFramesPerVolume", total)
        total = _count(settings, "hStackManager.numFramesPerVolumeWithFlyback", total)
    return Geometry(channels, repeats, slices, max(total, slices * repeats), fast)


def _timestamps(files: Sequence[Directories], pages: np.ndarray) -> np.ndarray | None:
    """Return the times in s of pages, counted through all files; None where one does not state its own."""
    times: list[float] = []
    before = 0
    for found in files:
        inside = pages[(pages >= before) & (pages < before + len(found))] - before
        before += len(found)
        with damage_named(f"{found.path} could not be read"), found.path.open("rb", buffering=0) as file:
            for page in inside.tolist():
                text = found.tags(file, page).raw(DESCRIPTION, 4096)
                stated = _TIMESTAMP.search(text[1] if text else b"")
                if stated is None:
                    return None
                times.append(_number_or_nan(stated.group(1)))
    return np.array(times)


def _number_or_nan(text: bytes) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _timing(
    settings: Mapping[str, str], shape: Geometry, times: np.ndarray | None
) -> tuple[float | None, np.ndarray | None]:
    """Return the time step, or the times of frames where these are not even."""
    if times is not None:
        dt_s, t_s = steady(times)
        if dt_s is not None or t_s is not None:
            return dt_s, t_s
    frame_rate = number(settings.get("hRoiManager.scanFrameRate"))
    if shape.slices == 1:
        averaged = _count(settings, "hScan2D.logAverageFactor", 1)
        return (averaged / frame_rate if frame_rate else None), None
    if not shape.fast or shape.repeats > 1:
        return None, None
    volume_rate = number(settings.get("hRoiManager.scanVolumeRate"))
    period = number(settings.get("hFastZ.volumePeriod"))
    if volume_rate:
        return 1 / volume_rate, None
    return period or (shape.frames_a_volume / frame_rate if frame_rate else None), None


def _voxel(settings: Mapping[str, str], height: int, width: int) -> dict[str, float]:
    """Return the voxel size in µm: of the one field of view, and of the step between slices."""
    voxel = {}
    step = _numbers(settings, "hStackManager.actualStackZStepSize") or _numbers(
        settings, "hStackManager.stackZStepSize"
    )
    slices = np.abs(np.diff(_numbers(settings, "hStackManager.zs")))  # of a list by hand, which may be uneven
    even = len(slices) == 0 or np.allclose(slices, slices[0], atol=1e-6)
    if len(step) == 1 and math.isfinite(step[0]) and step[0] and even:
        voxel["z"] = abs(step[0])
    corners, scale = _numbers(settings, "hRoiManager.imagingFovUm"), 1.0
    if not corners:
        corners = _numbers(settings, "hRoiManager.imagingFovDeg")
        scale = number(settings.get("objectiveResolution"))
    if len(corners) != 8 or not scale or _is_on(settings, "hRoiManager.mroiEnable"):
        return voxel
    for dim, first, pixels in (("x", 0, width), ("y", 1, height)):
        extent = (max(corners[first::2]) - min(corners[first::2])) * scale
        if math.isfinite(extent) and extent > 0:
            voxel[dim] = extent / pixels
    return voxel


def _channel_names(settings: Mapping[str, str], count: int) -> tuple[str, ...]:
    saved = [int(value) for value in _numbers(settings, "hChannels.channelSave") if math.isfinite(value)]
    names = re.findall(r"'([^']*)'", settings.get("hChannels.channelName", ""))
    if len(saved) != count or not all(0 < channel <= len(names) for channel in saved):
        return ()
    return tuple(names[channel - 1] for channel in saved)


def _attrs(settings: Mapping[str, str], details: str) -> dict[str, Any]:
    version = [settings.get(f"VERSION_{part}", "").strip("'") for part in ("MAJOR", "MINOR")]
    version = version if any(version) else [settings.get("software.version", "").strip("'")]
    attrs: dict[str, Any] = {"software": " ".join(["ScanImage", ".".join(part for part in version if part)]).strip()}
    epoch = _EPOCH.search(details)
    parts = [float(text) for text in _NUMBER.findall(epoch.group(1))] if epoch else []
    if len(parts) == 6 and all(math.isfinite(part) and 0 <= part < 10_000 for part in parts):
        year, month, day, hour, minute = (int(part) for part in parts[:5])
        attrs["acquired"] = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{parts[5]:09.6f}"
    return attrs
