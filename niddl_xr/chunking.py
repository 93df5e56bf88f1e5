"""How a recording is cut: regions and halos along t, tiles in a plane. No other module knows.

A recording is cut along t only: z, y, x stay whole, because halos on every dim cost 60 to 160 dask tasks a block.
Beyond the first and last frame the recording is continued by reflection that repeats the edge frame (numpy's
"symmetric", dask's "reflect"), for any halo and any length, a single frame included. Large planes are cut into
tiles inside the denoiser, where the network's reach and pooling grid are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dask.array as da

REGION_BYTES = 16 * 2**20  # of result; a region is in memory about five times while it is read, worked on and written
CHUNK_BYTES = 16 * 2**20  # of input that dask holds as one block
SAMPLE_PLANES = 16  # that offset and scale are estimated from
MOST_LAZY_BLOCKS = 20_000  # planning costs 0.1 ms a block


@dataclass(frozen=True)
class Region:
    """The frames ``start`` to ``stop`` (exclusive) of a recording: the unit of work, one shard of a store."""

    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Tile:
    """A window of a plane: ``read`` is what a network sees, ``write`` what it is trusted for, ``crop`` its place.

    ``crop`` are the slices of the window's result that hold ``write``.
    """

    read: tuple[slice, slice]
    write: tuple[slice, slice]
    crop: tuple[slice, slice]


def frames_within(frame_shape: tuple[int, ...], itemsize: int, budget_bytes: int) -> int:
    """Return how many frames of ``frame_shape`` (z, y, x) fit into a budget, at least one."""
    return max(1, budget_bytes // max(1, int(np.prod(frame_shape)) * itemsize))


def blocks_for_looking(shape: tuple[int, ...], planewise: bool) -> dict[int, int]:
    """Return the chunk sizes along t (0) and z (1) of a lazy result of ``shape`` (t, z, y, x).

    One plane a block if the work treats every plane by itself, else one volume: what is looked at is computed, and
    little else. Very long recordings get more frames a block.
    """
    frames, depth = shape[:2]
    if planewise and frames * depth <= MOST_LAZY_BLOCKS:
        return {0: 1, 1: 1}
    return {0: -(-frames // MOST_LAZY_BLOCKS), 1: depth}


def sampled_planes(frames: int, depth: int, most: int = SAMPLE_PLANES) -> list[tuple[int, int]]:
    """Return the (t, z) indices of at most ``most`` planes that represent a recording, evenly spread over t and z."""
    total = frames * depth
    flat = np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(int))
    return [divmod(int(index), depth) for index in flat]


def regions(frames: int, frames_per_region: int) -> list[Region]:
    """Cut ``frames`` frames into regions of equal length; the last one may be shorter."""
    starts = range(0, frames, frames_per_region)
    return [Region(i, start, min(start + frames_per_region, frames)) for i, start in enumerate(starts)]


def reflected(start: int, stop: int, size: int) -> np.ndarray:
    """Return the indices ``start`` to ``stop`` (exclusive) of an axis continued by reflection at both ends.

    The edge element is repeated: -1 is 0, ``size`` is ``size - 1``.

    >>> reflected(-2, 5, 3).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    folded = np.arange(start, stop) % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def read_region(array: da.Array, region: Region, halo_frames: int) -> tuple[da.Array, np.ndarray]:
    """Return the lazy frames (t, z, y, x) that a region needs, each once, and where each of its frames lies in them.

    ``frames[places]`` is the region with ``halo_frames`` frames on both sides.
    """
    wanted = reflected(region.start - halo_frames, region.stop + halo_frames, array.shape[0])
    first, last = int(wanted.min()), int(wanted.max())
    return array[first : last + 1], wanted - first


def map_regions(
    function: Callable[..., np.ndarray], array: da.Array, halo_frames: int, dtype: Any, **arguments: Any
) -> da.Array:
    """Apply ``function`` lazily to every block of ``array`` (t, z, y, x).

    ``function`` receives a block with ``halo_frames`` frames on both sides, and gives the block without them, of
    ``dtype``. The result has the chunks of ``array`` along t and z, and whole planes. ``arguments`` may hold dask
    values, which are computed before the first block.
    """
    import dask.array as da

    array = array.rechunk({2: -1, 3: -1})
    lengths = array.chunks[0]
    if halo_frames:
        stops = np.cumsum(lengths)
        wanted = [
            reflected(int(stop) - length - halo_frames, int(stop) + halo_frames, array.shape[0])
            for stop, length in zip(stops, lengths, strict=True)
        ]
        array = da.take(array, np.concatenate(wanted), axis=0)
        array = array.rechunk({0: tuple(len(part) for part in wanted)})
    chunks = (lengths, *array.chunks[1:])
    meta = np.empty((0, 0, 0, 0), dtype=dtype)
    result: da.Array = da.map_blocks(function, array, dtype=dtype, chunks=chunks, meta=meta, **arguments)
    return result


def padding_to_multiple(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Return how many rows and columns bring a plane to a multiple of a network's pooling grid."""
    return -height % multiple, -width % multiple


def tiles(height: int, width: int, *, size: int, halo: int, grid: int) -> Iterator[Tile]:
    """Cut a plane into windows whose results, put together, equal the result of the whole plane.

    Parameters
    ----------
    height, width
        Size of the plane in pixels, multiples of ``grid``.
    size
        Edge of the part that a window is trusted for, in pixels; rounded up to the grid.
    halo
        How far a result pixel looks, in pixels (the network's reach); rounded up to the grid, because a window
        that starts between two pooling cells would see another network.
    grid
        Product of the network's pooling strides.
    """
    size, halo = -(-size // grid) * grid, -(-halo // grid) * grid
    for top in range(0, height, size):
        for left in range(0, width, size):
            bottom, right = min(top + size, height), min(left + size, width)
            y0, x0 = max(0, top - halo), max(0, left - halo)
            yield Tile(
                read=(slice(y0, min(height, bottom + halo)), slice(x0, min(width, right + halo))),
                write=(slice(top, bottom), slice(left, right)),
                crop=(slice(top - y0, bottom - y0), slice(left - x0, right - x0)),
            )
