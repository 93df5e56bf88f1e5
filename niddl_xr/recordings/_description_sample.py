"""What a description reads of the pixels: which planes, how often each count occurs in them, the frame to be shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import sampled_planes
from niddl_xr.schema import NiddlError

MOST_PIXELS = 10 * 2**20  # of a sample, but for four planes however large they are
FEWEST_PLANES = 4
SLOW_S = 0.2  # from which on a plane is slow to come
SHARED_BYTES = 64 * 2**20  # of a block that planes share, at most
WINDOW_PX = 2048  # of a plane with more pixels than this edge squared, the middle is read
SHOWN_PLANES = 16  # that the projection of the frame that is shown is made of
PERCENTILES = (0.1, 1.0, 50.0, 99.0, 99.9)
FEW_LEVELS = 16  # with fewer different counts, nothing is said of how they are spread
PILED_PIXELS, PILED_RATIO = 10, 5.0  # at the highest count, and over the most frequent of the next ones
EIGHT_BITS = 256
LEAST_GAP = 3.0  # between the counts of a stretched image


@dataclass(frozen=True)
class Sample:
    """Planes of a recording, side by side: (consecutive frames 1 or 2, places, y, x), and what could not be read.

    ``places`` are the t of the first frame, and the z, of each.
    """

    values: np.ndarray
    places: tuple[tuple[int, int], ...]
    errors: tuple[str, ...] = ()

    @property
    def planes(self) -> list[tuple[int, int]]:
        """The t and z of all planes."""
        return [(t + later, z) for t, z in self.places for later in range(len(self.values))]

    def without(self, planes: set[tuple[int, int]]) -> Sample:
        """Return the sample without the places that one of ``planes`` is in."""
        kept = [
            place
            for place, (t, z) in enumerate(self.places)
            if not any((t + later, z) in planes for later in range(len(self.values)))
        ]
        return replace(self, values=self.values[:, kept], places=tuple(self.places[place] for place in kept))


def window_of(height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a plane that are read: all, or the middle of a very large one."""
    cuts = []
    for size in (height, width):
        start = max(0, (size - WINDOW_PX) // 2) if height * width > WINDOW_PX**2 else 0
        cuts.append(slice(start, min(size, start + WINDOW_PX) if start else size))
    return cuts[0], cuts[1]


@dataclass(frozen=True)
class Shown:
    """The maximum projection (y, x) of one frame over some of its planes; NaN only where all of them are."""

    values: np.ndarray
    t: int
    z: tuple[int, ...]


def read_sample(recording: xr.DataArray, planes: int, *, costly: bool = False) -> tuple[Sample, Shown | None]:
    """Read at most ``planes`` planes, and the frame in the middle of the recording.

    The planes are pairs of consecutive frames evenly spread over t and z, fewer if they are large; of one frame, or
    where one plane is asked for, single planes. Of a frame of many planes, some are projected. Where any frame is
    ``costly`` to read, two in the middle are all. What cannot be read is left out and named; then there may be no frame
    to show.
    """
    frames, depth = recording.sizes["t"], recording.sizes["z"]
    window = window_of(recording.sizes["y"], recording.sizes["x"])
    height, width = (cut.stop - cut.start for cut in window)
    budget = max(FEWEST_PLANES, MOST_PIXELS // (height * width))
    together = 2 if frames > 1 and planes > 1 else 1
    starts, middle = frames - together + 1, frames // 2
    places = sampled_planes(starts, depth, min(planes, budget) // together)
    shown = range(0, depth, -(-depth // min(SHOWN_PLANES, budget)))
    if costly:
        places = [(min(middle, starts - 1), depth // 2)]
        shown = range(depth // 2, depth // 2 + 1)
    parts = [recording[t : t + together, z, *window] for t, z in places]
    frame = recording[middle, shown.start : shown.stop : shown.step, *window]
    block = [max(lengths) for lengths in recording.chunks or ()]
    shared = int(np.prod(block)) * recording.dtype.itemsize <= SHARED_BYTES
    *read, projected = _read([*parts, frame], shared)
    errors = [part for part in (*read, projected) if isinstance(part, str)]
    found = [(place, part) for place, part in zip(places, read, strict=True) if not isinstance(part, str)]
    empty = np.empty((together, 0, height, width), recording.dtype)
    values = np.stack([part for _, part in found], axis=1) if found else empty
    sample = Sample(values, tuple(place for place, _ in found), tuple(dict.fromkeys(errors)))
    if isinstance(projected, str):
        return sample, None
    return sample, Shown(np.fmax.reduce(projected), middle, tuple(shown))


def _read(parts: Sequence[xr.DataArray], shared: bool) -> list[np.ndarray | str]:
    """Return the values of parts of a recording, or why one could not be read.

    One by one, so that a file is asked for no more than the parts. But where the first one shows that they are slow to
    come, as those of a simulation or of a preview are, and their blocks can be ``shared``, all others at once: then
    what several of them need is computed once.
    """
    from dask.base import compute

    started = time.perf_counter()
    read = [_read_one(parts[0])]
    if shared and time.perf_counter() - started > SLOW_S:
        try:
            return read + [np.asarray(values) for values in compute(*(part.data for part in parts[1:]))]
        except (NiddlError, OSError):
            pass  # one by one, to find out which
    return read + [_read_one(part) for part in parts[1:]]


def _read_one(part: xr.DataArray) -> np.ndarray | str:
    try:
        return np.asarray(part.values)  # of this slice: the recording of the caller stays as it is
    except (NiddlError, OSError) as error:
        return str(error)


@dataclass(frozen=True)
class Counts:
    """How the counts of a sample are spread.

    Fractions are of all pixels. ``levels`` is how many different counts there are, ``step`` what all of them are
    multiples of, from the lowest one on. ``piled_at`` is the highest count where many more pixels have it than any
    of those below it: a ceiling.
    """

    pixels: int
    lowest: float | None = None
    highest: float | None = None
    percentiles: dict[str, float] = field(default_factory=dict)
    levels: int = 0
    step: int | None = None
    stretched: bool = False
    zero_fraction: float = 0.0
    nan_fraction: float = 0.0
    infinite_fraction: float = 0.0
    ceiling: float | None = None
    ceiling_from: str | None = None
    saturated_fraction: float | None = None
    piled_at: float | None = None
    piled_fraction: float | None = None


def count(values: np.ndarray, ceiling: float | None, ceiling_from: str | None) -> Counts:
    """Count what occurs in an array of any shape; ``ceiling`` is the count from which a pixel is saturated."""
    total = values.size
    levels, times = _levels(values)
    nan = float(np.isnan(values).sum()) if values.dtype.kind == "f" else 0.0
    infinite = float(np.isinf(values).sum()) if values.dtype.kind == "f" else 0.0
    if levels.size == 0:
        return Counts(total, nan_fraction=nan / max(total, 1), infinite_fraction=infinite / max(total, 1))
    whole = values.dtype.kind in "ui"
    piled = _is_piled(times) and (ceiling is None or float(levels[-1]) < ceiling)
    gaps = np.diff(levels.astype(np.uint64)) if whole else np.empty(0, np.uint64)  # right for negative counts, too
    step = int(np.gcd.reduce(gaps)) if levels.size >= FEW_LEVELS and whole else None
    return Counts(
        total,
        lowest=float(levels[0]),
        highest=float(levels[-1]),
        percentiles=_percentiles(levels, times),
        levels=int(levels.size),
        step=step,
        stretched=step == 1 and _is_stretched(levels, times),
        zero_fraction=float(times[levels == 0].sum()) / total,
        nan_fraction=nan / total,
        infinite_fraction=infinite / total,
        ceiling=ceiling,
        ceiling_from=ceiling_from,
        saturated_fraction=None if ceiling is None else float(times[levels >= ceiling].sum()) / total,
        piled_at=float(levels[-1]) if piled else None,
        piled_fraction=float(times[-1]) / total if piled else None,
    )


def _levels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different finite values, rising, and how often each occurs."""
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
        lowest = int(np.iinfo(values.dtype).min)
        times: np.ndarray = np.zeros(2 ** (8 * values.dtype.itemsize), np.int64)
        for plane in values.reshape(-1, values.shape[-1] * values.shape[-2]):
            times += np.bincount(plane.astype(np.int32) - lowest, minlength=times.size)
        present = np.flatnonzero(times)
        return present + lowest, times[present]
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    levels, repeats = np.unique(finite, return_counts=True)
    return levels, repeats


def _percentiles(levels: np.ndarray, times: np.ndarray) -> dict[str, float]:
    """Return the counts that the given part of the finite pixels does not exceed."""
    rank = np.ceil(np.array(PERCENTILES) / 100 * times.sum()).clip(1)
    found = levels[np.searchsorted(np.cumsum(times), rank)]
    return {f"{percent:g}": float(value) for percent, value in zip(PERCENTILES, found, strict=True)}


def _is_piled(times: np.ndarray) -> bool:
    if times.size < FEW_LEVELS or 2 * times[-1] > times.sum():  # most pixels: a bright background
        return False
    return bool(times[-1] >= PILED_PIXELS and times[-1] >= PILED_RATIO * times[-FEW_LEVELS:-1].max())


def _is_stretched(levels: np.ndarray, times: np.ndarray) -> bool:
    """Say whether counts are as few as 8 bits have, over a wider range, with gaps between those of most pixels."""
    spread = float(levels[-1]) - float(levels[0])
    if levels.size > EIGHT_BITS or spread < 2 * EIGHT_BITS or times.sum() < 100 * levels.size:
        return False
    share = np.cumsum(times) / times.sum()
    usual = levels[(share > 0.01) & (share <= 0.99)]
    return usual.size >= FEW_LEVELS and float(np.median(np.diff(usual))) >= LEAST_GAP


def constant_planes(sample: Sample) -> list[tuple[int, int]]:
    """Return the t and z of the planes all of whose pixels are equal; one pixel says nothing."""
    first = sample.values[..., :1, :1]
    if np.prod(sample.values.shape[2:]) < 2:
        return []
    equal = np.all(sample.values == first, axis=(2, 3))
    if sample.values.dtype.kind == "f":
        equal |= np.all(np.isnan(sample.values), axis=(2, 3))
    return [
        (t + later, z)
        for place, (t, z) in enumerate(sample.places)
        for later in range(len(equal))
        if equal[later, place]
    ]


def identical_planes(sample: Sample) -> list[tuple[int, int]]:
    """Return the t and z of the planes that equal the plane of the frame before, constant ones left out."""
    if len(sample.values) < 2:
        return []
    skipped = set(constant_planes(sample))
    equal = np.all(sample.values[0] == sample.values[1], axis=(1, 2))
    found = [(t + 1, z) for (t, z), same in zip(sample.places, equal, strict=True) if same]
    return [place for place in found if place not in skipped and np.prod(sample.values.shape[2:]) > 1]


def ceiling_of(dtype: np.dtype[Any], bit_depth: int | None) -> tuple[float | None, str | None]:
    """Return the count from which a pixel is saturated, and why: the bits that the file states, or the dtype."""
    if dtype.kind not in "ui":
        return None, None
    end = int(np.iinfo(dtype).max)
    if bit_depth is not None and 2**bit_depth - 1 < end:
        return float(2**bit_depth - 1), "bit_depth"
    return float(end), "dtype"
