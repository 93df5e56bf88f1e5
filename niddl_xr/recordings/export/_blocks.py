"""Recordings read block by block along t, the next block while the caller works on the present one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import REGION_BYTES, Region, frames_within, regions, sampled_planes
from niddl_xr.schema import NiddlError

LARGEST_CHUNK = 4  # times REGION_BYTES: a larger dask chunk is read in parts, computed once for each
WINDOW_PERCENTILES = (0.1, 99.9)


def frame_blocks(
    recordings: Sequence[xr.DataArray], *, progress: bool, description: str
) -> Iterator[tuple[Region, list[np.ndarray]]]:
    """Give the blocks (t, z, y, x) of all recordings, in order; two blocks of each are in memory at most."""
    from tqdm.auto import tqdm

    cut = _cut(recordings)
    frames = recordings[0].sizes["t"]
    with (
        tqdm(total=frames, desc=description, unit="frame", disable=not progress) as bar,
        ThreadPoolExecutor(1, "niddl-read") as reader,
    ):
        following = reader.submit(_read, recordings, cut[0])
        for region, later in zip(cut, [*cut[1:], None], strict=True):
            block = following.result()
            if later is not None:
                following = reader.submit(_read, recordings, later)
            yield region, block
            del block
            bar.update(len(region))


def _read(recordings: Sequence[xr.DataArray], region: Region) -> list[np.ndarray]:
    return [frames_of(recording, slice(region.start, region.stop)) for recording in recordings]


def frames_of(recording: xr.DataArray, frames: slice) -> np.ndarray:
    """Return frames (t, z, y, x) of a recording in native byte order, read in this thread."""
    part: Any = recording.data[frames]
    values = np.asarray(part.compute(scheduler="synchronous") if hasattr(part, "dask") else part)
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _cut(recordings: Sequence[xr.DataArray]) -> list[Region]:
    """Cut the frames into regions of about REGION_BYTES that keep dask chunks whole, as far as these are not large."""
    first = recordings[0]
    frame_bytes = int(np.prod(first.shape[1:])) * max(recording.dtype.itemsize for recording in recordings)
    length = frames_within((frame_bytes,), 1, REGION_BYTES)
    chunks = first.chunks[0] if first.chunks else ()
    if not chunks or max(chunks) * frame_bytes > LARGEST_CHUNK * REGION_BYTES:
        return regions(first.sizes["t"], length)
    kept, stop = [0], 0
    for chunk in chunks:
        if stop > kept[-1] and stop + chunk - kept[-1] > length:
            kept.append(stop)
        stop += chunk
    kept.append(stop)
    return [Region(index, start, stop) for index, (start, stop) in enumerate(pairwise(kept))]


class Cast:
    """Counts as another dtype; what is rounded off at the ends of its range, or is NaN, is counted and said."""

    def __init__(self, recordings: Sequence[xr.DataArray], dtype: Any, allowed: Sequence[str], what: str) -> None:
        stored = {recording.dtype.newbyteorder("=") for recording in recordings}
        if dtype is None and len(stored) > 1:
            raise NiddlError(f"the channels have dtypes {sorted(map(str, stored))}; set dtype= to write them as one")
        try:
            self.dtype = np.dtype(next(iter(stored)) if dtype is None else dtype).newbyteorder("=")
        except TypeError as error:
            raise NiddlError(f"expected dtype as one of {', '.join(allowed)}, got {dtype!r}") from error
        if self.dtype.name not in allowed:
            raise NiddlError(
                f"{what} holds {', '.join(allowed)}, not {self.dtype.name}; "
                f"set dtype= to one of them (integers are rounded and clipped)"
            )
        self.clipped = self.undefined = 0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Return a block as the wanted dtype."""
        if block.dtype == self.dtype:
            return block
        if self.dtype.kind == "f":
            return block.astype(self.dtype)
        low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        if block.dtype.kind == "f":
            missing = np.isnan(block)
            self.undefined += int(np.count_nonzero(missing))
            block = np.rint(np.where(missing, 0, block).astype(np.float64))
            self.clipped += int(np.count_nonzero((block < low) | (block > high)))
            # The end of 64 bits is no floating-point number: the next one above would wrap around.
            fitting: np.ndarray = np.clip(block, low, np.nextafter(float(high) + 1, 0)).astype(self.dtype)
            fitting[block >= high] = high
            return fitting
        # The ends as the stored dtype can hold them.
        low, high = max(low, np.iinfo(block.dtype).min), min(high, np.iinfo(block.dtype).max)
        self.clipped += int(np.count_nonzero((block < low) | (block > high)))
        clipped: np.ndarray = np.clip(block, low, high).astype(self.dtype)
        return clipped

    def say(self) -> None:
        """Warn of what was changed."""
        said = []
        if self.clipped:
            said.append(f"{self.clipped} pixels beyond the range of {self.dtype} were clipped to it")
        if self.undefined:
            said.append(f"{self.undefined} pixels are NaN and became 0")
        if said:
            warnings.warn(f"exported as {self.dtype}: {'; '.join(said)}", stacklevel=4)


def display_window(
    recording: xr.DataArray, percentiles: tuple[float, float] = WINDOW_PERCENTILES
) -> tuple[float, float]:
    """Return low and high percentiles in counts of a sample of planes, for a first look; low < high."""
    planes = [
        frames_of(recording[:, z : z + 1], slice(t, t + 1)).ravel()
        for t, z in sampled_planes(recording.sizes["t"], recording.sizes["z"])
    ]
    values = np.concatenate(planes).astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, percentiles).tolist() if values.size else (0.0, 1.0)
    return low, high if high > low else low + 1
