"""Several files of one session: found by a glob or in a folder, and joined along t into one recording."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.readers import Opened, find_reader, readers
from niddl_xr.recordings.readers.planes import SUFFIXES
from niddl_xr.schema import RECORDING_DIMS, SPACE_DIMS, NiddlError

CLOCK_S = 1.0  # how far a start that is stated in whole seconds can be off


def files_of(path: Path) -> list[Path]:
    """Return the files of the session at ``path`` in natural order (2 before 10): the path itself if it is one file.

    A glob gives the files that fit it; a folder that no reader recognises, what it holds of the one recognised
    suffix. Numbered images are one recording to the reader of planes, as a glob and as a folder.
    """
    if path.is_dir():
        return _files_in(path)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = [Path(name) for name in glob.glob(str(path))]
    if not found or any(file.suffix.lower() in SUFFIXES for file in found):
        return [path]
    return sorted(found, key=lambda file: natural(str(file)))


def _files_in(folder: Path) -> list[Path]:
    """Return the folder itself where a reader recognises it, else its files of the one suffix that readers know."""
    try:
        find_reader(folder)
    except NiddlError as error:
        known = set(" ".join(readers()["suffixes"]).split())
        found = [child for child in folder.iterdir() if not child.name.startswith(".")]
        found = [child for child in found if child.suffix.lower() in known]
        kinds = sorted({child.suffix.lower() for child in found})
        if len(kinds) > 1:
            raise NiddlError(
                f"the folder {folder} holds files of {len(kinds)} kinds, {', '.join(kinds)}: open one of them, or "
                f"those of one kind with a pattern such as {folder}/*{kinds[0]}"
            ) from error
        if not found:
            raise
        return sorted(found, key=lambda file: natural(str(file)))
    return [folder]


def natural(name: str) -> list[Any]:
    """Return what sorts names by the numbers in them: 2 before 10."""
    # Digits and what stands between them take turns, so that numbers are compared with numbers.
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]


def join(
    parts: Sequence[Opened], paths: Sequence[Path], *, given: Collection[str] = (), dt_s: float | None = None
) -> Opened:
    """Return one recording of several files that follow each other in time.

    Parameters
    ----------
    parts, paths
        What the files hold, and where they are, in the order of time.
    given
        Dims whose voxel size the caller states, so that the files need not agree in it.
    dt_s
        Time between two frames in s in place of what the files state.

    Returns
    -------
    Opened
        (t, z, y, x). Times in s where every file states its own or a time step: kept, where they increase from file
        to file; else counted from the starts that the files state (``acquired``), or, where these are missing or
        tell of no pause beyond what their clock resolves, one time step after the last frame of the file before.
        ``attrs`` that differ between files are left out, but for ``acquired``, which is the first one's; ``files``
        lists their names. Notes that files share are given once.

    Raises
    ------
    NiddlError
        Where files differ in the size of a volume, in dtype, channel or voxel size, where one is named twice, or where
        they are not in the order in which they were recorded; the message names the files.
    """
    import dask.array as da

    if dt_s is not None and not (np.isfinite(dt_s) and dt_s > 0):
        raise NiddlError(f"expected dt_s, the time between frames, as a positive number of seconds, got {dt_s}")
    _require_different(paths)
    parts = [_ordered(part) for part in parts]
    if dt_s is not None:
        parts = [replace(part, dt_s=dt_s, t_s=None, coords=_without_seconds(part)) for part in parts]
    for part, path in zip(parts[1:], paths[1:], strict=True):
        _require_alike(parts[0], paths[0], part, path, given)
    timing = _timing(parts, paths)
    first = parts[0]
    shared = {
        name: value
        for name, value in first.attrs.items()
        if name == "acquired" or all(_equal(part.attrs.get(name), value) for part in parts)
    }
    coords = {dim: coord for dim, coord in first.coords.items() if dim != "t"}
    if timing.frames is not None:
        coords["t"] = xr.Variable("t", timing.frames, {"units": "frame"})
    return Opened(
        da.concatenate([part.data for part in parts], axis=0),
        voxel_um=first.voxel_um,
        dt_s=timing.dt_s,
        t_s=timing.t_s,
        channel=first.channel,
        coords=coords,
        attrs={**shared, "files": _names(paths)},
        notes=(*_different_notes(parts, paths), *timing.notes),
    )


def _require_different(paths: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise NiddlError(f"{path} is named twice among the files of one session; name every file once")
        seen.add(path)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return names as short as they can be: within the folder of the first file."""
    return [os.path.relpath(path, paths[0].parent) for path in paths]


def _ordered(part: Opened) -> Opened:
    if part.axes == "tzyx":
        return part
    return replace(part, data=part.data.transpose([part.axes.index(dim) for dim in RECORDING_DIMS]), axes="tzyx")


def _without_seconds(part: Opened) -> Mapping[str, xr.Variable]:
    return {dim: coord for dim, coord in part.coords.items() if dim != "t" or coord.attrs.get("units") != "s"}


def _require_alike(first: Opened, first_path: Path, part: Opened, path: Path, given: Collection[str]) -> None:
    for what, expected, here in (
        ("the size (z, y, x)", first.data.shape[1:], part.data.shape[1:]),
        ("the dtype", first.data.dtype, part.data.dtype),
        ("the channel", first.channel, part.channel),
        ("the voxel size in µm", _rounded(first, given), _rounded(part, given)),
    ):
        if here != expected:
            raise NiddlError(
                f"expected the files of one session to agree in {what}: {first_path} has {expected}, {path} has "
                f"{here}; open them one by one, or choose those that belong together"
            )
    for dim in SPACE_DIMS:
        one, other = first.coords.get(dim), part.coords.get(dim)
        if dim not in given and not (one is other or (one is not None and other is not None and _same(one, other))):
            raise NiddlError(
                f"expected the files of one session to agree in the coordinate {dim}: {path} states another one than "
                f"{first_path}; open them one by one, or set voxel_um="
            )


def _rounded(part: Opened, given: Collection[str]) -> dict[str, float]:
    return {dim: float(f"{size:.6g}") for dim, size in part.voxel_um.items() if dim not in given}


def _same(one: xr.Variable, other: xr.Variable) -> bool:
    units = one.attrs.get("units"), other.attrs.get("units")
    return units[0] == units[1] and one.shape == other.shape and bool(np.allclose(one.values, other.values, rtol=1e-6))


def _equal(one: Any, other: Any) -> bool:
    """Compare attributes, which may be arrays."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return type(one) is type(other) and bool(one == other)


def _different_notes(parts: Sequence[Opened], paths: Sequence[Path]) -> tuple[UserWarning, ...]:
    """Return what is to be warned of, once where several files say the same of themselves."""
    notes: dict[str, UserWarning] = {}
    for part, path in zip(parts, paths, strict=True):
        for note in part.notes:
            notes.setdefault(re.sub(r"\d+", "", str(note).replace(str(path), "")), note)
    return tuple(notes.values())


@dataclass(frozen=True)
class _Timing:
    """When the frames of a session are: a time step, or times in s, or numbers of frames, or nothing."""

    dt_s: float | None = None
    t_s: np.ndarray | None = None
    frames: np.ndarray | None = None
    notes: tuple[UserWarning, ...] = ()


def _timing(parts: Sequence[Opened], paths: Sequence[Path]) -> _Timing:
    own = [_own_times(part) for part in parts]
    known = [times for times in own if times is not None]
    if len(known) < len(parts):
        return _Timing(frames=_frame_numbers(parts))
    if all(part.t_s is not None or _stored(part, "s") is not None for part in parts):
        joined = np.concatenate(known)
        if np.all(np.diff(joined) > 0):
            return _Timing(t_s=joined)
        _require_order(known, paths)
    steps = _steps(parts, known)
    starts, notes = _starts(parts, paths, known, steps)
    one_step = len({float(f"{step:.6g}") for step in steps}) == 1
    even = one_step and all(part.t_s is None and _stored(part, "s", "frame") is None for part in parts)
    ends = [start + own[-1] - own[0] + step for start, own, step in zip(starts, known, steps, strict=True)]
    if even and np.allclose(starts[1:], ends[:-1], rtol=0, atol=1e-3 * steps[0]):
        return _Timing(dt_s=steps[0], notes=notes)
    joined = np.concatenate([times - times[0] + start for times, start in zip(known, starts, strict=True)])
    # Single frames without a time step: nothing says when the next file begins.
    return _Timing(t_s=joined, notes=notes) if np.all(np.diff(joined) > 0) else _Timing(notes=notes)


def _require_order(times: Sequence[np.ndarray], paths: Sequence[Path]) -> None:
    """Raise where a file ends, by one clock for all, before the file that stands before it begins."""
    for number in range(1, len(times)):
        if times[number][-1] < times[number - 1][0]:
            raise NiddlError(
                f"{paths[number]} ends at {times[number][-1]:g} s, before {paths[number - 1]}, which stands before it, "
                f"begins ({times[number - 1][0]:g} s): give the files in the order in which they were recorded"
            )


def _stored(part: Opened, *units: str) -> xr.Variable | None:
    stored = part.coords.get("t")
    return stored if stored is not None and stored.attrs.get("units") in units else None


def _own_times(part: Opened) -> np.ndarray | None:
    """Return the times in s of the frames of a file within it, None where it states none."""
    if part.t_s is not None:
        return np.asarray(part.t_s, dtype=float)
    if (stored := _stored(part, "s")) is not None:
        return np.asarray(stored.values, dtype=float)
    if part.dt_s is None:
        return None
    numbers = _stored(part, "frame")
    return part.dt_s * (np.arange(part.data.shape[0]) if numbers is None else np.asarray(numbers.values, dtype=float))


def _steps(parts: Sequence[Opened], times: Sequence[np.ndarray]) -> list[float]:
    """Return the time step in s of every file: its own, else that of the others, else 0."""
    gaps = [np.diff(own) for own in times]
    usual = float(np.median(np.concatenate(gaps))) if any(gap.size for gap in gaps) else 0.0
    own = (float(np.median(gap)) if gap.size else usual for gap in gaps)
    return [step if part.dt_s is None else part.dt_s for part, step in zip(parts, own, strict=True)]


def _frame_numbers(parts: Sequence[Opened]) -> np.ndarray | None:
    """Return the numbers of all frames where files say that some are missing."""
    stored = [_stored(part, "frame") for part in parts]
    if all(numbers is None for numbers in stored):
        return None
    pieces, following = [], 0
    for part, numbers in zip(parts, stored, strict=True):
        own = np.arange(part.data.shape[0]) if numbers is None else np.asarray(numbers.values)
        pieces.append(own - own[0] + following)
        following = int(pieces[-1][-1]) + 1
    return np.concatenate(pieces)


def _starts(
    parts: Sequence[Opened], paths: Sequence[Path], times: Sequence[np.ndarray], steps: Sequence[float]
) -> tuple[list[float], tuple[UserWarning, ...]]:
    """Return when every file begins, in s after the first, and what to warn of.

    Where a file follows the one before it as closely as the clock can tell, it begins one step after that one's end.
    """
    stated = [part.attrs.get("acquired") for part in parts]
    clock = _seconds(stated)
    starts, doubtful = [0.0], []
    for number in range(1, len(parts)):
        before = times[number - 1]
        following = starts[-1] + float(before[-1] - before[0]) + steps[number - 1]
        if clock is None or clock[number] == clock[number - 1]:  # parts of one acquisition name one start
            starts.append(following)
            continue
        if clock[number] < clock[number - 1]:
            raise NiddlError(
                f"{paths[number]} was acquired {stated[number]}, before {paths[number - 1]}, which stands before it "
                f"({stated[number - 1]}): give the files in the order in which they were recorded"
            )
        resolution = CLOCK_S if all(second.is_integer() for second in clock) else steps[number - 1] / 2
        pause = clock[number] - clock[0] - following
        if pause < -resolution:
            doubtful.append(paths[number].name)
        starts.append(following if pause <= resolution else following + pause)
    if not doubtful:
        return starts, ()
    text = (
        f"{', '.join(doubtful[:3])}{' and others' if len(doubtful) > 3 else ''} of {paths[0].parent} began, by the "
        "times that the files state, before the file before had ended; every file is taken to begin one time step "
        "after the one before it (set dt_s= if the time step is wrong)"
    )
    return starts, (UserWarning(text),)


def _seconds(stated: Sequence[Any]) -> list[float] | None:
    """Return the starts of all files in s, None unless all state one, on clocks that can be compared."""
    try:
        moments = [datetime.fromisoformat(str(text)) for text in stated]
    except ValueError:
        return None
    if len({moment.tzinfo is None for moment in moments}) > 1:
        return None
    # From the first one: a difference is right whatever the time zone of this machine.
    return [(moment - moments[0]).total_seconds() for moment in moments]
