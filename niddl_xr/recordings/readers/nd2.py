"""ND2 of Nikon's NIS-Elements: chunks found by the map at the end of the file; one chunk holds a plane of all channels.

The library nd2 decodes the metadata; planes are read here, without mapping the file: a file that is cut short, or that
shrinks while it is open, then gives an error and no crash.
"""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._frames import Stored, compact, numbered, ranges_of, require_usual
from niddl_xr.recordings.readers._lazy import DAMAGE, choose_channel, damage_named, lazy, modified_ns
from niddl_xr.recordings.readers._nd2_chunks import TIMESTAMP_BYTES, Chunks, chunk, chunks_of, enter
from niddl_xr.recordings.readers._nd2_metadata import Facts, exposure, facts_of
from niddl_xr.schema import NiddlError

READER = Reader(
    "ND2 of Nikon's NIS-Elements",
    suffixes=(".nd2",),
    magic=(b"\xda\xce\xbe\n",),
    needs=("nd2",),
    options=("position", "gaps"),
)
_LEGACY = b"\x00\x00\x00\x0cjP  "  # JPEG 2000, versions of NIS-Elements before 3
_PLANES_ANNOUNCED = 1_000_000  # and four times those that are there: a longer table of planes is not made


@dataclass(frozen=True)
class Nd2Planes(Stored):
    """The planes of one position as (t, z, y, x, c); the file is opened for every read and closed after it.

    Plane (t, z) is number ``first + frames[t] + z * z_step`` of the file.
    """

    path: str
    modified_ns: int
    frames: Sequence[int]  # a range, where no frame is missing
    first: int
    z_step: int
    shape: tuple[int, ...]
    row_bytes: int
    stored: str
    packed: bool

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        times, planes, rows, *page = ranges_of(key, self.shape)
        columns, components = (slice(part.start, part.stop, part.step) for part in page)
        result = np.empty((len(times), len(planes), len(rows), *(len(part) for part in page)), dtype=self.dtype)
        if not result.size:
            return result
        offsets = chunks_of(self.path, self.modified_ns).planes
        with damage_named(f"a plane of {self.path} could not be read"), open(self.path, "rb") as file:
            for row, t in enumerate(times):
                for column, z in enumerate(planes):
                    number = self.first + self.frames[t] + z * self.z_step
                    plane = self._read(file, number, int(offsets[number]), rows[0], rows[-1] + 1)
                    result[row, column] = plane[:: rows.step, columns, components]
        return result

    def _read(self, file: BinaryIO, number: int, offset: int, top: int, bottom: int) -> np.ndarray:
        """Return rows ``top`` to ``bottom`` of a plane, as (y, x, c)."""
        where = f"plane {number} of {self.path}"
        _, _, height, width, components = self.shape
        start, size = enter(file, offset, b"ImageDataSeq|%d!" % number, where)
        skip, wanted = top * self.row_bytes, (bottom - top) * self.row_bytes
        file.seek(start + TIMESTAMP_BYTES + (0 if self.packed else skip))
        if self.packed:
            unpack = zlib.decompressobj()
            data = unpack.decompress(file.read(max(0, size - TIMESTAMP_BYTES)), height * self.row_bytes)
            data = data[skip : skip + wanted]
        else:
            data = file.read(min(wanted, max(0, size - TIMESTAMP_BYTES - skip)))
        if len(data) != wanted:
            raise NiddlError(f"{where} is cut short: expected {wanted} bytes of counts, got {len(data)}")
        rows = np.frombuffer(data, self.stored).reshape(bottom - top, -1)  # a row may end in padding
        return rows[:, : width * components].reshape(bottom - top, width, components)


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file is an ND2, the old kind included, which is refused with words."""
    return head.startswith(READER.magic) or (path.suffix.lower() == ".nd2" and head.startswith(_LEGACY))


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    position: int | str | None = None,
    gaps: str = "error",
) -> Opened:
    """Open an ND2 lazily; a slice reads the rows of the planes that it names.

    Parameters
    ----------
    path
        The file, of version 2 or 3 of the format.
    axes
        None: the file states its axes.
    channel, chunks
        See :func:`niddl_xr.open_recording`. The components of a colour camera have numbers only.
    position
        Which stage position of several: its number from 0, or its name.
    gaps
        ``"error"`` where the file lacks planes that its metadata announce (a recording that was stopped), or
        ``"skip"``: frames without all their planes are left out, one warning counts them, and t keeps the others'.

    Returns
    -------
    Opened
        Axes ``"tzyx"``, counts as stored. Times in s are those of the first plane of every frame, as the file lists
        them since the start of the recording (``AcqTimesCache``), else the period of its time loop.

    Raises
    ------
    NiddlError
        For a damaged file, ND2 based on JPEG 2000, lossy compression, loops other than time, z and position, several
        positions or channels without a choice, and missing planes.
    """
    require_usual(path, axes, gaps)
    with path.open("rb") as file:
        if file.read(len(_LEGACY)) == _LEGACY:
            raise NiddlError(
                f"{path} is an ND2 based on JPEG 2000, as NIS-Elements wrote it before version 3, which is not read; "
                "save it again with a newer NIS-Elements, or as OME-TIFF with Bio-Formats"
            )
    stamp = modified_ns(path)
    kinds = (*DAMAGE, LookupError, AttributeError, NameError)  # what the library makes of missing values
    with damage_named(f"{path} is not an ND2 that can be read", kinds), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library; what matters is checked here
        table = chunks_of(str(path), stamp)
        facts = facts_of(path, table)
    names = _channel_names(facts)
    number, label = choose_channel(channel, "c", (facts.components,), names, path)
    sizes, steps = _strides(path, facts.loops)
    place = _choose_position(path, facts.positions, sizes["p"], position)
    first = place * steps["p"][0] if steps["p"] else 0
    starts, kept = _frames(path, table.planes, sizes, steps, first, gaps)
    z_step = steps["z"][0] if steps["z"] else 0
    shape = (len(starts), sizes["z"], facts.height, facts.width, facts.components)
    source = Nd2Planes(
        str(path), stamp, compact(starts), first, z_step, shape, facts.row_bytes, facts.stored, facts.packed
    )
    times = _times(path, table, first + starts)
    coords, notes = numbered(path, kept, sizes["t"])
    described = facts.channels[number * len(facts.channels) // facts.components]
    extra: dict[str, Any] = {name: peak for name, peak in described.peaks.items() if peak}
    if len(names) > 1:
        extra["channels"] = list(names)
    return Opened(
        lazy(source, "tzyxc", chunks, number),
        voxel_um=facts.voxel_um,
        dt_s=None if times is not None else facts.period_s,
        t_s=times,
        channel=label,
        coords=coords,
        attrs={**facts.attrs, **exposure(path, table), **extra},
        notes=notes,
    )


def _channel_names(facts: Facts) -> tuple[str, ...]:
    """Return the names of the channels; of a colour camera, the file does not state which component is which."""
    names = tuple(one.name for one in facts.channels)
    return names if len(names) == facts.components and all(names) else ()


def _strides(path: Path, loops: Sequence[tuple[str, int]]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Return, for t, z and p, the size and how many planes apart two neighbours lie, a list for nested loops of t."""
    sizes, steps = {"t": 1, "z": 1, "p": 1}, {"t": [], "z": [], "p": []}  # type: dict[str, int], dict[str, list[int]]
    step = 1
    for letter, count in reversed(loops):
        if steps[letter] and letter != "t":
            raise NiddlError(f"{path} has two loops of {letter}; expected one: save its parts as files of their own")
        sizes[letter] *= count
        steps[letter] += [step, count]
        step *= count
    return sizes, steps


def _choose_position(path: Path, names: Sequence[str], count: int, wanted: int | str | None) -> int:
    """Return the number of the position that the caller wants."""
    if wanted is None and count == 1:
        return 0
    listed = ", ".join(
        f"{number} ({names[number]})" if number < len(names) and names[number] else str(number)
        for number in range(count)
    )
    if wanted is None:
        raise NiddlError(f"{path} has {count} positions: {listed}; choose one with position=")
    if isinstance(wanted, str) and list(names).count(wanted) == 1:
        return list(names).index(wanted)
    if isinstance(wanted, str) or wanted not in range(count):
        raise NiddlError(f"{path} has no position {wanted!r}; choose one of {listed} with position=")
    return int(wanted)


def _frames(
    path: Path, planes: np.ndarray, sizes: Mapping[str, int], steps: Mapping[str, list[int]], first: int, gaps: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of plane z = 0 of every whole frame, less ``first``, and the number of the frame."""
    announced, held = math.prod(sizes.values()), int(np.count_nonzero(planes >= 0))
    if announced > max(_PLANES_ANNOUNCED, 4 * held):
        raise NiddlError(f"{path} announces {announced} planes and holds {held}; it is damaged: copy it again")
    starts = np.zeros(1, dtype=np.int64)
    for step, count in zip(steps["t"][::2], steps["t"][1::2], strict=True):  # the innermost loop first
        starts = (np.arange(count)[:, np.newaxis] * step + starts).ravel()
    z_step = steps["z"][0] if steps["z"] else 0
    numbers = first + starts[:, np.newaxis] + np.arange(sizes["z"]) * z_step
    there = np.append(planes, np.full(1, -1))[np.minimum(numbers, len(planes))] >= 0
    whole = np.flatnonzero(there.all(axis=1))
    if gaps == "error" and len(whole) < sizes["t"]:
        missing = numbers[~there].tolist()
        raise NiddlError(
            f"{path} lacks {len(missing)} of the planes that it announces, such as plane {missing[0]}; was the "
            f"recording stopped? gaps='skip' opens the {len(whole)} of {sizes['t']} frames that are whole"
        )
    if not len(whole):
        raise NiddlError(f"{path} has no frame with all its {sizes['z']} planes")
    return starts[whole], whole


def _times(path: Path, table: Chunks, first_planes: np.ndarray) -> np.ndarray | None:
    """Return the times in s of the first plane of every frame, None where the file does not list increasing ones."""
    data = chunk(path, table, b"CustomData|AcqTimesCache!")
    listed = np.frombuffer(data[: len(data) // 8 * 8], "<f8")
    if len(first_planes) < 2 or first_planes.max() >= len(listed):
        return None
    times = listed[first_planes] / 1000
    return times if np.all(np.isfinite(times)) and np.all(np.diff(times) > 0) else None
