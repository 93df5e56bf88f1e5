"""Recordings of Bruker's Prairie View: TIFF files, and an XML file that says which plane is which.

Layout: ``PVScan`` holds settings (``PVStateShard``) and one ``Sequence`` a cycle; a sequence holds ``Frame`` elements
with their times, and these one ``File`` a channel. Prairie View before 5.1 wrote settings as ``Key`` elements within
frames, from 5.5 on several planes may stand in one file (``page``). The XML decides: the OME metadata within the
files name files that do not belong to them, and sizes of another recording.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.readers import HEAD_BYTES, Opened, Reader
from niddl_xr.recordings.readers._lazy import PlaneTable, choose_channel, damage_named, joined, lazy_planes, modified_ns
from niddl_xr.recordings.readers._ome import number
from niddl_xr.recordings.readers._prairie_xml import MARK, Frame, Scan, Sequence, parse
from niddl_xr.recordings.readers._tiff_directories import directories
from niddl_xr.recordings.readers._tiff_layout import page_table, squeezed, steady
from niddl_xr.recordings.readers._tiff_pages import Page
from niddl_xr.recordings.readers._tiff_tags import MAGIC
from niddl_xr.schema import NiddlError

READER = Reader(
    "Bruker Prairie View: PVScan XML and its TIFF files",
    suffixes=(".xml",),
    needs=("tifffile", "imagecodecs"),
    options=("gaps",),
)
LISTED = 8  # names in a message
_DATES = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
_AXES = {"z": "ZAxis", "y": "YAxis", "x": "XAxis"}
_CYCLE = re.compile(r"_Cycle\d+", re.IGNORECASE)


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is a PVScan, or a TIFF that a PVScan in its folder lists."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")
    return (text and MARK in head) or (head.startswith(MAGIC) and _scan_of_tiff(path) is not None)


def recognises_folder(folder: Path) -> bool:
    """Say whether a folder holds a PVScan that lists images."""
    return bool(_scans_in(folder))


def _scan_of_tiff(path: Path) -> Path | None:
    """Return the XML in the folder of a TIFF that lists it."""
    stems = dict.fromkeys(
        [_CYCLE.split(path.name)[0] if _CYCLE.search(path.name) else path.parent.name, path.parent.name]
    )
    for stem in stems:
        candidate = path.parent / f"{stem}.xml"
        if candidate.is_file() and _is_scan(candidate) and f'"{path.name}"'.encode() in candidate.read_bytes():
            return candidate
    return None


def _is_scan(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK in file.read(HEAD_BYTES)


def _scans_in(folder: Path) -> list[Path]:
    found = [child for child in folder.iterdir() if child.suffix.lower() == ".xml" and child.is_file()]
    scans = [child for child in found if not child.name.startswith(".") and _is_scan(child)]
    own = [child for child in scans if child.stem == folder.name]
    return own or sorted(child for child in scans if b"<File " in child.read_bytes())


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, gaps: str = "error") -> Opened:
    """Open a recording of Prairie View lazily.

    A sequence of a z-series is a volume, its frames are planes; frames of all other sequences follow each other in
    time.

    Parameters
    ----------
    path
        The XML, its folder, or one of the TIFF files that it lists.
    axes
        None: the XML states the axes.
    channel, chunks
        See :func:`niddl_xr.open_recording`. Channels have the names of Prairie View, such as ``"Ch2"``.
    gaps
        ``"error"`` where files are missing or the last volume is not complete, as after a recording that was stopped;
        or ``"skip"``: the complete frames are opened, one warning says which are not, and their times are kept.
    """
    if axes is not None:
        raise NiddlError(f"{path} belongs to a recording of Prairie View, whose XML states its axes; leave out axes=")
    if gaps not in ("error", "skip"):
        raise NiddlError(f"expected gaps as 'error' or 'skip', got {gaps!r}")
    source = _source(path)
    scan = parse(source)
    movie = _movie(source, scan)
    names = tuple(scan.channels[key] for key in sorted(scan.channels))
    distinct = names if len(set(names)) == len(names) and all(names) else ()
    number_, label = choose_channel(channel, "c", (len(names),), distinct, source)
    frames, notes = _complete(source, movie, sorted(scan.channels), gaps)
    table, page = _table(source, [movie[frame] for frame in frames], sorted(scan.channels)[number_])
    depth = len(movie[int(frames[0])])
    data, arranged = lazy_planes(table, "tz", (len(frames), depth), squeezed("", (), page)[0], chunks)
    times = _times(movie)
    dt_s, t_s = steady(times)
    coords = {}
    if len(frames) < len(movie):
        coords["t"] = xr.Variable("t", frames, {"units": "frame"})
        t_s = times[frames] - times[0] if dt_s is not None or t_s is not None else None
        dt_s = None
    if dt_s is None and t_s is None and depth == 1 and len(scan.sequences) == 1:
        dt_s = number(scan.state.get("framePeriod")) or None
    attrs = _attrs(scan)
    return Opened(
        data,
        arranged,
        voxel_um={
            dim: size for dim, name in _AXES.items() if (size := number(scan.state.get(f"micronsPerPixel_{name}")))
        },
        dt_s=dt_s,
        t_s=t_s,
        channel=label,
        coords={} if t_s is not None else coords,
        attrs={**attrs, "channels": list(names)} if len(names) > 1 and all(names) else attrs,
        notes=notes,
    )


def _source(path: Path) -> Path:
    if path.is_dir():
        scans = _scans_in(path)
        if len(scans) != 1:
            listed = ", ".join(scan.name for scan in scans)
            raise NiddlError(
                f"expected one recording of Prairie View in {path}, found {len(scans)} ({listed}): open one"
            )
        return scans[0]
    if path.suffix.lower() == ".xml" or (found := _scan_of_tiff(path)) is None:
        return path
    return found


def _movie(path: Path, scan: Scan) -> list[list[Frame]]:
    """Return the planes of every frame of the recording, in the order of z."""
    sequences = [sequence for sequence in scan.sequences if any(frame.files for frame in sequence.frames)]
    kinds = {sequence.kind for sequence in sequences}
    volumes = {"ZSeries" in kind for kind in kinds}
    if len(volumes) > 1 or any("Linescan" in kind.title() for kind in kinds):
        raise NiddlError(
            f"{path} holds sequences of the types {', '.join(sorted(kinds))}; expected z-series only, or frames of one "
            "plane only: open the TIFF files of one part with a pattern from a folder without the XML"
        )
    if volumes == {False}:
        return [[frame] for sequence in sequences for frame in sequence.frames]
    upwards = _direction(sequences[0])
    return [
        sequence.frames[::-1] if sequence.bidirectional_z and _runs_back(sequence, upwards, cycle) else sequence.frames
        for cycle, sequence in enumerate(sequences)
    ]


def _direction(sequence: Sequence) -> float:
    """Return whether positions rise (1) or fall (-1) through a sequence; 0 where they are not stated."""
    first, last = sequence.frames[0].z_um, sequence.frames[-1].z_um
    return float(np.sign(last - first)) if math.isfinite(first) and math.isfinite(last) else 0.0


def _runs_back(sequence: Sequence, upwards: float, cycle: int) -> bool:
    """Say whether the planes of a cycle run against those of the first one: by their positions, else every second."""
    own = _direction(sequence)
    return own != upwards if own and upwards else cycle % 2 == 1


def _complete(
    path: Path, movie: list[list[Frame]], channels: list[int], gaps: str
) -> tuple[np.ndarray, tuple[UserWarning, ...]]:
    """Return the numbers of the frames of which all files are there, or raise; missing files are named."""
    there = {child.name for child in path.parent.iterdir()}
    depth = (
        max(len(frames) for frames in movie) if len(movie) < 3 else int(np.median([len(frames) for frames in movie]))
    )
    missing: dict[str, None] = {}
    complete = []
    for number_, frames in enumerate(movie):
        named = [frame.files.get(channel) for frame in frames for channel in channels]
        absent = [found[0] for found in named if found is not None and found[0] not in there]
        missing.update(dict.fromkeys(absent))
        if not absent and None not in named and len(frames) == depth:
            complete.append(number_)
    if len(complete) == len(movie):
        return np.arange(len(movie)), ()
    reasons = []
    if missing:
        listed = ", ".join([*missing][:LISTED]) + (", ..." if len(missing) > LISTED else "")
        reasons.append(
            f"{len(missing)} {'file is' if len(missing) == 1 else 'files are'} missing from {path.parent}: {listed}"
        )
    short = [cycle for cycle, frames in enumerate(movie) if len(frames) != depth]
    if short:
        reasons.append(f"{len(short)} volumes have not the {depth} planes of the others, first number {short[0]}")
    partial = sum(set(frame.files) != set(channels) for frames in movie for frame in frames)
    if partial:
        reasons.append(f"{partial} frames do not list all channels {channels}")
    text = f"{path}: {'; '.join(reasons)}"
    if gaps == "error" or not complete:
        raise NiddlError(
            f"{text}; put the files back" + (", or open the complete frames with gaps='skip'" if complete else "")
        )
    left = len(movie) - len(complete)
    note = UserWarning(f"{text}; {left} of {len(movie)} frames are left out, and t keeps the times of the others")
    return np.array(complete), (note,)


def _table(path: Path, movie: list[list[Frame]], channel: int) -> tuple[PlaneTable, Page]:
    """Return where the planes of a channel lie.

    A file of one plane is as its first file is, which is checked when it is read; files of several planes are followed.
    """
    wanted = [frame.files[channel] for frames in movie for frame in frames]
    pages_of: dict[str, set[int]] = {}
    for name, page in wanted:
        pages_of.setdefault(name, set()).add(page)
    tables: dict[str, PlaneTable] = {}
    first: Page | None = None
    for name, pages in pages_of.items():
        file = path.parent / name
        if first is not None and pages == {0}:
            tables[name] = _unseen(tables[next(iter(tables))], file)
            continue
        found = directories(file)
        with damage_named(f"{file} could not be read"), file.open("rb", buffering=0) as opened:
            if max(pages) >= len(found):
                raise NiddlError(f"{path} names page {max(pages) + 1} of {name}, which has {len(found)}; copy it again")
            tables[name], page_ = page_table(file, found, opened, np.array(sorted(pages)), "prairie")
        first = first or page_
        if page_.shape != first.shape or page_.stored.newbyteorder("=") != first.stored.newbyteorder("="):
            raise NiddlError(f"{file} has pages of {page_.shape}, but the first file has {first.shape}; copy it again")
    assert first is not None
    token = f"{path} {modified_ns(path)} {channel} {len(wanted)}"
    whole = joined([*tables.values()], str(path.parent), [*tables], token)
    offsets = dict(zip(tables, np.cumsum([0, *(len(table) for table in tables.values())]).tolist(), strict=False))
    rank = {name: {page: place for place, page in enumerate(sorted(pages))} for name, pages in pages_of.items()}
    return whole.take(np.array([offsets[name] + rank[name][page] for name, page in wanted])), first


def _unseen(like: PlaneTable, file: Path) -> PlaneTable:
    """Return a table of the only page of a file that is opened when it is read."""
    one = np.zeros(1, int)
    return PlaneTable(
        str(file.parent), "tiff", (file.name,), one, one, one - 1, one.astype(bool), like.page_shape, like.kinds, ""
    )


def _times(movie: list[list[Frame]]) -> np.ndarray:
    """Return when every frame began in s: by the clock of the whole recording, else of its only sequence."""
    absolute = np.array([min((frame.absolute_s for frame in frames), default=math.nan) for frames in movie])
    if np.all(np.isfinite(absolute)) and np.all(np.diff(absolute) > 0):
        return absolute
    return np.array([min((frame.relative_s for frame in frames), default=math.nan) for frames in movie])


def _attrs(scan: Scan) -> dict[str, Any]:
    state = scan.state
    laser = [value for name, value in state.items() if name.startswith("laserWavelength") and number(value)]
    stated = {
        "acquired": _date(scan.date),
        "software": f"Prairie View {scan.version}".strip(),
        "objective": state.get("objectiveLens"),
        "magnification": number(state.get("objectiveLensMag")),
        "numerical_aperture": number(state.get("objectiveLensNA")),
        "bit_depth": int(number(state.get("bitDepth"))),
        "excitation_nm": number(laser[0]) if len(laser) == 1 else 0,
        "dwell_time_us": number(state.get("dwellTime")),
    }
    return {name: value for name, value in stated.items() if value}


def _date(text: str) -> str | None:
    """Return a date as Prairie View writes it (month first) in ISO 8601."""
    for form in _DATES:
        try:
            return datetime.strptime(text.strip(), form).isoformat()
        except ValueError:
            continue
    return None
