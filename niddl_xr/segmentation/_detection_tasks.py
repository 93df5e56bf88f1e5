"""The work of detect cut into tasks of some frames, which dask runs beside one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr import neurons
from niddl_xr.chunking import CHUNK_BYTES, Region, frames_within, read_region, regions
from niddl_xr.filling import active_client
from niddl_xr.schema import SPACE_DIMS
from niddl_xr.segmentation import _detection_parts as parts
from niddl_xr.segmentation._frame_detection import Found, Settings, detect_in_frame
from niddl_xr.segmentation._given_mask import GivenMask

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd

    Part = tuple[pd.DataFrame, dict[str, int]]  # points, and how many frames are "blank" and "holed"

_MOST_CHUNK_BYTES = 8 * CHUNK_BYTES  # a chunk up to this is one task, so that it is read once
_TASKS_PER_WORKER = 4


def frames_per_part_of(recording: xr.DataArray) -> int:
    """Return how many frames one task takes: whole chunks of the recording, as far as these are not large."""
    frame_shape, itemsize = recording.shape[1:], recording.dtype.itemsize
    few = frames_within(frame_shape, itemsize, CHUNK_BYTES)
    if not recording.chunks:
        return few
    longest = max(recording.chunks[0])
    if longest > frames_within(frame_shape, itemsize, _MOST_CHUNK_BYTES):
        return few
    return max(1, few // longest) * longest


@dataclass(frozen=True)
class _Task:
    """Everything that a worker needs for some frames: a few kilobytes, whatever the recording."""

    frames: da.Array  # (t, z, y, x), no more than these
    mask: GivenMask | None
    t_index: np.ndarray
    t_s: np.ndarray
    start: np.ndarray  # coordinates (z, y, x) of the first voxel, µm
    step: np.ndarray  # from a voxel to the next, µm; negative where the coordinate falls
    settings: Settings
    path: Path | None

    def __call__(self) -> Part:
        """Detect in the frames, and write the part where there is a path."""
        rows, counts = [], {"blank": 0, "holed": 0}
        masks = None if self.mask is None else self.mask.read()
        for place, volume in enumerate(self._volumes()):
            mask = None if masks is None else np.broadcast_to(masks[place % len(masks)], volume.shape)
            found = detect_in_frame(volume, self.settings, mask)
            counts["blank"] += found.blank
            counts["holed"] += found.holed and not found.blank
            centre = self.start + found.place * self.step
            rows.append(_table(int(self.t_index[place]), float(self.t_s[place]), centre, found))
        table = stacked(rows)
        if self.path is not None:
            parts.write_part(self.path, table, counts)
        return table, counts

    def _volumes(self) -> Iterator[np.ndarray]:
        """Give the frames one by one; a chunk of several is read once."""
        stop = 0
        for length in self.frames.chunks[0]:
            start, stop = stop, stop + length
            yield from np.asarray(self.frames[start:stop].compute(scheduler="synchronous"))


def _table(t_index: int, t_s: float, centre_um: np.ndarray, found: Found) -> pd.DataFrame:
    import pandas as pd

    columns = {
        "t_index": np.full(len(found), t_index, np.int64),
        "t": np.full(len(found), t_s, np.float64),
        **{dim: centre_um[:, axis] for axis, dim in enumerate(SPACE_DIMS)},
        "radius_um": found.radius_um.astype(np.float32),
        "intensity": found.intensity.astype(np.float32),
        "snr": found.snr.astype(np.float32),
    }
    return pd.DataFrame(columns)[list(neurons.DETECTION_COLUMNS)]


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables below one another; those without rows keep the types of the columns."""
    import pandas as pd

    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def worked_on(
    recording: xr.DataArray,
    settings: Settings,
    mask: GivenMask | None,
    searched: np.ndarray,
    frames_per_part: int,
    folder: Path | None,
    progress: bool,
) -> Iterator[Part]:
    """Give the parts in order, those on disk as they are, the others as they are done."""
    from dask.base import compute
    from dask.delayed import delayed
    from tqdm.auto import tqdm

    cut = regions(len(searched), frames_per_part)
    # An array in memory is cut as the tasks are, so that a task takes its part along and no more.
    lazy = (recording if recording.chunks else recording.chunk(t=frames_per_part)).data
    with tqdm(total=len(searched), desc="detect", unit="frame", disable=not progress) as bar:
        batch = _TASKS_PER_WORKER * _workers()
        for first in range(0, len(cut), batch):
            now = cut[first : first + batch]
            done = {region.index: _finished(folder, region) for region in now}
            todo = [region for region in now if done[region.index] is None]
            tasks = [_task(recording, lazy, settings, mask, searched, region, folder) for region in todo]
            # The task is not looked into: its own frames are read when it runs, and one by one.
            results = compute(*[delayed(task, pure=False, traverse=False)() for task in tasks])
            done.update((region.index, result) for region, result in zip(todo, results, strict=True))
            for region in now:
                bar.update(len(region))
                result = done[region.index]
                if result is not None:
                    yield result


def _finished(folder: Path | None, region: Region) -> Part | None:
    if folder is None or not (path := parts.part_path(folder, region.index)).exists():
        return None
    return parts.read_part(path)


def _task(
    recording: xr.DataArray,
    lazy: da.Array,
    settings: Settings,
    mask: GivenMask | None,
    searched: np.ndarray,
    region: Region,
    folder: Path | None,
) -> _Task:
    from dask.base import optimize

    chosen = searched[region.start : region.stop]
    if len(chosen) == 1 + chosen[-1] - chosen[0]:
        frames, _ = read_region(lazy, Region(0, int(chosen[0]), int(chosen[-1]) + 1), 0)
    else:
        frames = lazy[chosen]
    (frames,) = optimize(frames)  # drops the graph of all other frames
    in_s = recording["t"].attrs.get("units") == "s"
    start, step = np.zeros(3), np.ones(3)
    for axis, dim in enumerate(SPACE_DIMS):
        values = recording[dim].values.astype(np.float64)
        start[axis] = values[0]
        if len(values) > 1:
            step[axis] = (values[-1] - values[0]) / (len(values) - 1)
    return _Task(
        frames=frames,
        mask=None if mask is None else mask.of_frames(chosen),
        t_index=chosen,
        t_s=recording["t"].values[chosen].astype(float) if in_s else np.full(len(chosen), np.nan),
        start=start,
        step=step,
        settings=settings,
        path=None if folder is None else parts.part_path(folder, region.index),
    )


def _workers() -> int:
    """Return how many tasks run beside one another."""
    if (client := active_client()) is not None:
        return max(1, int(sum(client.ncores().values())))
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)
