"""Reads a recording block by block, each once, and keeps what was measured in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import CHUNK_BYTES, frames_within
from niddl_xr.traces._kernels.measuring import Frame, Measured, Recipe, measure_frame


def measure_frames(
    recording: xr.DataArray,
    places: np.ndarray,
    recipe: Recipe,
    beside: Mapping[str, xr.DataArray],
    *,
    progress: bool,
) -> Measured:
    """Measure the neurons at ``places`` (t, neuron, 3), in voxels, in all frames of a recording: arrays (t, neuron).

    ``beside`` are recordings of the same sizes that are read along, "raw" and "labels". What dask holds is computed by
    the scheduler that is set, a task a block of frames; what it does not hold is read a few frames at a time.
    """
    with _progress(recording.sizes["t"], progress) as bar:
        blocks = (_in_turn if recording.chunks is None else _by_dask)(recording, places, recipe, beside, bar)
    values = np.concatenate(blocks, axis=1)
    return Measured(*values)


def _measure_block(
    image: np.ndarray, places: np.ndarray, recipe: Recipe, names: tuple[str, ...], *beside: np.ndarray
) -> np.ndarray:
    """Return the measurements (5, t, neuron), float64, of frames (t, z, y, x) and places (t, neuron, 3)."""
    values = np.empty((len(Measured._fields), *places.shape[:2]))
    for index, (volume, *others) in enumerate(zip(image, *beside, strict=True)):
        frame = Frame(volume)._replace(**dict(zip(names, others, strict=True)))
        values[:, index] = measure_frame(frame, places[index], recipe)
    return values


def _in_turn(
    recording: xr.DataArray, places: np.ndarray, recipe: Recipe, beside: Mapping[str, xr.DataArray], bar: Any
) -> list[np.ndarray]:
    length = frames_within(recording.shape[1:], recording.dtype.itemsize, CHUNK_BYTES)
    blocks = []
    for start in range(0, len(places), length):
        here = slice(start, start + length)
        images = [array.isel(t=here).values for array in (recording, *beside.values())]
        blocks.append(_measure_block(images[0], places[here], recipe, tuple(beside), *images[1:]))
        bar.update(len(blocks[-1][0]))
    return blocks


def _by_dask(
    recording: xr.DataArray, places: np.ndarray, recipe: Recipe, beside: Mapping[str, xr.DataArray], bar: Any
) -> list[np.ndarray]:
    from dask.base import compute
    from dask.callbacks import Callback
    from dask.delayed import delayed

    lengths = recording.chunksizes["t"]
    cut: dict[str, Any] = {"t": lengths, "z": -1, "y": -1, "x": -1}
    images = [array.chunk(cut).data.to_delayed().ravel() for array in (recording, *beside.values())]
    # Held once, not once in every task.
    held = delayed(recipe, traverse=False, pure=True)
    measure = delayed(_measure_block, pure=True)
    starts = np.cumsum([0, *lengths])
    tasks = [
        measure(image, delayed(places[start:stop], traverse=False), held, tuple(beside), *others)
        for start, stop, image, *others in zip(starts[:-1], starts[1:], *images, strict=True)
    ]
    frames_of = {task.key: length for task, length in zip(tasks, lengths, strict=True)}

    def done(key: Any, *_: Any) -> None:
        bar.update(frames_of.get(key, 0))

    with Callback(posttask=done):
        return list(compute(*tasks))


@contextmanager
def _progress(frames: int, shown: bool) -> Iterator[Any]:
    from tqdm.auto import tqdm

    with tqdm(total=frames, desc="traces", unit="frame", disable=not shown) as bar:
        yield bar
