"""Movies (AVI, MP4, MOV, MKV) of one channel, decoded by FFmpeg: an index of frames, and seeking to a keyframe.

A folder that holds nothing but numbered movies and files beside them, as a Miniscope writes it, is one recording.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.chunking import CHUNK_BYTES
from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._frames import require_usual
from niddl_xr.recordings.readers._lazy import choose_channel, damage_named, lazy, modified_ns, native
from niddl_xr.recordings.readers._movie import Index, damage_of_movie_named, decoder_of, index_of, open_movie
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

READER = Reader(
    "a movie, or a folder of numbered movies such as a Miniscope's",
    suffixes=(".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    magic=(b"\x1a\x45\xdf\xa3",),
    needs=("av",),
    options=("gaps", "camera"),
)
_SIDE_SUFFIXES = (".csv", ".json", ".dat", ".txt", ".xml", ".log", ".ini", ".md")
_COLOURS = ("red", "green", "blue")
_TIME_FILES = ("timeStamps.csv", "timestamp.dat")  # of Miniscope's software, versions 4 and 3


@dataclass(frozen=True)
class Look:
    """How the frames of a movie become counts: size, pixel format to convert to, bits, and which channel.

    ``channel`` is ``"gray"``, a colour, or ``"equal"``: of three colours that are the same.
    """

    height: int
    width: int
    converted: str
    bits: int
    channel: str

    @property
    def stored(self) -> str:
        """Dtype of the counts, as numpy writes it."""
        return "<f4" if self.converted == "grayf32le" else "|u1" if self.bits <= 8 else "<u2"


@dataclass(frozen=True)
class Movies:
    """The frames of one movie or of several that follow each other, as (t, y, x)."""

    folder: str
    names: tuple[str, ...]
    stamps: tuple[int, ...]  # when every file was last written
    ends: tuple[int, ...]  # number of frames up to the end of every file
    look: Look

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of t, y, x."""
        return self.ends[-1], self.look.height, self.look.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in the byte order of this machine."""
        return native(self.look.stored)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        frames = range(self.ends[-1])[key[0]]
        crop = key[1:]
        page = tuple(len(range(*part.indices(size))) for part, size in zip(crop, self.shape[1:], strict=True))
        result = np.empty((len(frames), *page), dtype=self.dtype)
        row = 0
        for number, end in enumerate(self.ends):
            start = self.ends[number - 1] if number else 0
            wanted = [frame - start for frame in frames if start <= frame < end]
            path = str(Path(self.folder, self.names[number]))
            for values in _decoded(path, self.stamps[number], wanted, self.look):
                result[row] = values[crop]
                row += 1
        return result


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is an AVI or of the family of MP4, whose first bytes are a size."""
    brand = head[8:12]
    return (head[:4] == b"RIFF" and brand == b"AVI ") or (head[4:8] == b"ftyp" and brand not in (b"heic", b"avif"))


def recognises_folder(folder: Path) -> bool:
    """Say whether a folder holds numbered movies, and beside them only files that describe them."""
    numbered = {name for names in numbered_movies(folder).values() for name in names}
    others = [
        child
        for child in folder.iterdir()
        if child.name not in numbered
        and not child.name.startswith(".")
        and not (child.is_file() and child.suffix.lower() in _SIDE_SUFFIXES)
    ]
    return bool(numbered) and not others


def numbered_movies(folder: Path) -> dict[str, list[str]]:
    """Return the names of the numbered movies in a folder in the order of their numbers, by what precedes these."""
    found: dict[str, dict[int, str]] = {}
    for child in folder.iterdir():
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", child.stem)
        if match and child.suffix.lower() in READER.suffixes and not child.name.startswith(".") and child.is_file():
            found.setdefault(match[1] + match[3], {})[int(match[2])] = child.name
    return {camera: [names[number] for number in sorted(names)] for camera, names in sorted(found.items())}


def _names_in(folder: Path, camera: str | None) -> list[str]:
    """Return the names of the movies of the camera that the caller wants."""
    found = numbered_movies(folder)
    if camera is None and len(found) == 1:
        return next(iter(found.values()))
    if camera not in found:
        listed = ", ".join(f"{name!r} ({names[0]}, …)" for name, names in found.items())
        raise NiddlError(f"{folder} has movies of {len(found)} cameras: {listed}; choose one with camera=")
    return found[camera]


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    gaps: str = "error",
    camera: str | None = None,
) -> Opened:
    """Open a movie, or a folder of numbered movies, lazily.

    Parameters
    ----------
    path
        File or folder.
    axes
        None: a movie is always frames of rows.
    channel, chunks
        See :func:`niddl_xr.open_recording`. Of a colour movie: ``"red"``, ``"green"``, ``"blue"``, and, where it
        stores luma, ``"gray"``, which is the default. A movie whose colours are the same has one channel.
    gaps
        ``"error"`` where a movie holds fewer frames than its header announces, or ``"skip"``, which opens those that
        are whole, with a warning. (A movie that was cut short.)
    camera
        Of a folder with the movies of several cameras: what their names have before the number, ``"msCam"``.

    Returns
    -------
    Opened
        Axes ``"tyx"``; uint8, or uint16 for more than 8 bits. Gray, RGB and lossless codecs keep their counts to
        the bit. Luma of limited range (16 to 235) is expanded to the full range, as players show it. Times in s
        are those of the frames; where they are equally spaced to the tick of the file, a time step. In a folder of a
        Miniscope, its time stamps, where there is one for every frame.

    Raises
    ------
    NiddlError
        For a damaged movie, one without pictures, several colours without a choice, and frames that are missing.
    """
    require_usual(path, axes, gaps, known=("tyx",))
    folder = path if path.is_dir() else path.parent
    if camera is not None and not path.is_dir():
        raise NiddlError(f"camera= chooses among the movies of a folder; {path} is one movie: leave it out")
    names = _names_in(path, camera) if path.is_dir() else [path.name]
    files = [folder / name for name in names]
    stamps = [modified_ns(file) for file in files]
    indices = [_whole(file, index_of(str(file), stamp), gaps) for file, stamp in zip(files, stamps, strict=True)]
    notes = [note for _, note in indices if note is not None]
    tables = [index for index, _ in indices]
    first = _describe(files[0])
    look, label, note = _choose(files[0], first, channel)
    if note is not None:
        notes.append(note)
    ends = tuple(np.cumsum([len(table) for table in tables]).tolist())
    source = Movies(str(folder), tuple(names), tuple(stamps), ends, look)
    dt_s, t_s = _times(tables)
    if path.is_dir():
        stated, note = _stated_times(folder, ends[-1])
        dt_s, t_s = (dt_s, t_s) if stated is None else (None, stated)
        notes += [note] if note is not None else []
    attrs = {**first.attrs, **({"files": names} if len(names) > 1 else {})}
    return Opened(
        lazy(source, "tyx", chunks, frames_a_unit=_unit(tables, source)),
        axes="tzyx",
        dt_s=dt_s,
        t_s=t_s,
        channel=label,
        attrs=attrs,
        notes=tuple(notes),
    )


# ------------------------------------------------------------------------------------------------ frames of a file


def _whole(path: Path, index: Index, gaps: str) -> tuple[Index, UserWarning | None]:
    """Return the index if the movie has all the frames that it announces, or what to warn of."""
    if not len(index):
        raise NiddlError(f"{path} holds no frame; was its recording stopped before the first one?")
    if len(index) >= index.announced:
        return index, None
    text = f"{path} announces {index.announced} frames and holds {len(index)} whole ones"
    if gaps == "error":
        raise NiddlError(f"{text}; is it cut short? gaps='skip' opens those that are whole")
    return index, UserWarning(text)


def _decoded(path: str, modified_ns: int, wanted: Sequence[int], look: Look) -> Iterator[np.ndarray]:
    """Yield the counts (y, x) of frames in increasing order."""
    if not wanted:
        return
    with damage_of_movie_named(f"{path} could not be decoded"), decoder_of(path, modified_ns, wanted[0]) as decoder:
        for number in wanted:
            yield _counts(decoder.frame(number), look, f"frame {number} of {path}")


# -------------------------------------------------------------------------------------------------- pixels, colours


def _counts(frame: VideoFrame, look: Look, where: str) -> np.ndarray:
    """Return the counts (y, x) of one channel of a frame."""
    if (frame.height, frame.width) != (look.height, look.width):
        raise NiddlError(
            f"{where} has {frame.height} x {frame.width} pixels, expected {look.height} x {look.width} as in the first"
        )
    if look.channel == "gray":
        return _plane(frame, look, 0)
    planes = _colours(frame, look)
    if look.channel != "equal":
        return planes[_COLOURS.index(look.channel)]
    if not (np.array_equal(planes[0], planes[1]) and np.array_equal(planes[0], planes[2])):
        raise NiddlError(
            f"{where} is in colour, although the first one is not; choose channel='red', 'green' or 'blue'"
        )
    return planes[0]


def _converted(frame: VideoFrame, look: Look) -> VideoFrame:
    return frame if frame.format.name == look.converted else frame.reformat(format=look.converted)


def _plane(frame: VideoFrame, look: Look, number: int, components: int = 1) -> np.ndarray:
    """Return a plane of a frame as (y, x), or (y, x, component)."""
    plane = _converted(frame, look).planes[number]
    stored = np.dtype(look.stored)
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: look.height]
    rows = np.ascontiguousarray(rows[:, : look.width * components * stored.itemsize]).view(stored)
    return rows if components == 1 else rows.reshape(look.height, look.width, components)


def _colours(frame: VideoFrame, look: Look) -> list[np.ndarray]:
    """Return red, green and blue of a frame."""
    if look.converted == "rgb24":
        pixels = _plane(frame, look, 0, 3)
        return [pixels[..., number] for number in range(3)]
    converted = _converted(frame, look)
    return [_plane(converted, look, number) for number in (2, 0, 1)]  # stored as green, blue, red


@dataclass(frozen=True)
class Description:
    """The first frame of a movie, the bits of a component, and what the file states."""

    frame: VideoFrame
    bits: int
    attrs: dict[str, Any]


def _describe(path: Path) -> Description:
    with damage_of_movie_named(f"{path} is not a movie that can be read"):
        container, stream = open_movie(str(path))
        with container:
            frame = next(container.decode(stream), None)
            if frame is None:
                raise NiddlError(f"{path} holds no frame that can be decoded")
            stated = {**container.metadata, **stream.metadata}
    bits = max(component.bits for component in frame.format.components)
    named = {"acquired": "creation_time", "software": "encoder", "description": "comment"}
    attrs = {name: str(stated[key]) for name, key in named.items() if stated.get(key)}
    return Description(frame, bits, {**attrs, "bit_depth": bits})


def _unit(tables: Sequence[Index], source: Movies) -> int:
    """Return how many frames a block should hold at least, so that few are decoded for nothing."""
    longest = max(table.longest_run for table in tables)
    frame_bytes = source.look.height * source.look.width * source.dtype.itemsize
    return longest if longest * frame_bytes <= 2 * CHUNK_BYTES else 1


def _choose(
    path: Path, described: Description, channel: int | str | None
) -> tuple[Look, int | str | None, UserWarning | None]:
    """Return how to take the counts, what to call the channel, and what to warn of."""
    frame, bits = described.frame, described.bits
    deep = next((depth for depth in (10, 12, 14, 16) if bits <= depth), 16)
    gray = "grayf32le" if bits == 32 else "gray" if bits <= 8 else f"gray{deep}le"
    look = Look(frame.height, frame.width, gray, min(bits, 32), "gray")
    colour = replace(look, converted="rgb24" if bits <= 8 else f"gbrp{deep}le", channel="equal")
    where = str(path)
    if frame.format.is_bayer:
        raise NiddlError(f"{where} holds the mosaic of a colour camera ({frame.format.name}), which is not read")
    if len(frame.format.components) < 3 and not frame.format.has_palette:
        _, label = choose_channel(channel, "c", (1,), (), where)
        return look, label, None
    with damage_of_movie_named(f"the first frame of {where} could not be decoded"):
        planes = _colours(frame, colour)
        neutral = all(np.array_equal(planes[0], plane) for plane in planes[1:])
    luma = not frame.format.is_rgb and not frame.format.has_palette
    if neutral and channel in (None, 0, "gray"):
        label = choose_channel(None if channel == "gray" else channel, "c", (1,), (), where)[1]
        return (look if luma else colour), label, None
    if luma:
        number, label = choose_channel("gray" if channel is None else channel, "c", (4,), ("gray", *_COLOURS), where)
        note = UserWarning(f"{where} is in colour: its luma is taken; channel= chooses red, green or blue")
        return (look, label, note if channel is None else None) if number == 0 else _of(colour, label)
    _, label = choose_channel(channel, "c", (3,), _COLOURS, where)
    return _of(colour, label)


def _of(colour: Look, label: int | str | None) -> tuple[Look, int | str | None, UserWarning | None]:
    return replace(colour, channel=str(label)), label, None


# --------------------------------------------------------------------------------------------------------- times


def _times(tables: Sequence[Index]) -> tuple[float | None, np.ndarray | None]:
    """Return the time step in s if all frames are equally spaced to the tick of the file, else the times in s."""
    if any(not table.tick_s for table in tables):
        return None, None
    steps = []
    for table in tables:
        if len(table) > 1:
            ticks = (table.times - table.times[0]).astype(float)
            step = ticks[-1] / (len(table) - 1)
            equal = np.abs(ticks - step * np.arange(len(table))).max() <= 1
            steps.append(step * table.tick_s if equal else None)
    known = [step for step in steps if step is not None]
    if known and len(known) == len(steps) and max(known) - min(known) <= 1e-3 * max(known):
        return float(np.median(known)), None
    if not steps:
        return None, None
    pieces, begin = [], 0.0
    for table in tables:
        times = (table.times - table.times[0]) * table.tick_s + begin
        pieces.append(times)
        begin = float(times[-1]) + (float(np.median(np.diff(times))) if len(times) > 1 else 0.0)
    joined = np.concatenate(pieces)
    return (None, joined) if np.all(np.diff(joined) > 0) else (None, None)


def _stated_times(folder: Path, frames: int) -> tuple[np.ndarray | None, UserWarning | None]:
    """Return the time stamps in s that a Miniscope wrote beside its movies, if there is one for every frame."""
    file = next((folder / name for name in _TIME_FILES if (folder / name).is_file()), None)
    if file is None:
        return None, None
    with damage_named(f"{file} could not be read"):
        text = file.read_text(encoding="utf-8", errors="replace")
        rows = list(csv.reader(io.StringIO(text), delimiter="," if file.suffix == ".csv" else "\t"))
    numbers = [[float(cell) for cell in row[:3]] for row in rows[1:] if len(row) >= 3 and _are_numbers(row)]
    if file.suffix == ".csv":
        columns = [[row[1] for row in numbers]]
    else:  # the cameras of a session share the file; the first column says whose row it is
        columns = [[row[2] for row in numbers if row[0] == camera] for camera in sorted({row[0] for row in numbers})]
    fitting = [np.array(column) / 1000 for column in columns if len(column) == frames]
    times = fitting[0] if len(fitting) == 1 else None
    if times is None or not np.all(np.isfinite(times)) or not np.all(np.diff(times) > 0):
        counted = ", ".join(str(len(column)) for column in columns) or "none"
        return None, UserWarning(
            f"{file} is not used: expected one list of {frames} increasing times, got lists of {counted} times"
        )
    return times, None


def _are_numbers(row: Sequence[str]) -> bool:
    return all(re.fullmatch(r" *[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)? *", cell) for cell in row[:3])
