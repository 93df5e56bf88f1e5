"""Arrays that are made block by block when they are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dask.array as da


class Rows:
    """Rows of an array, handed out when a block asks for them.

    dask cuts a plain array into one piece a block at once: seconds, and as many entries of the graph, for a hundred
    thousand frames.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, rows: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self.values[rows])

    def __dask_tokenize__(self) -> object:
        from dask.base import normalize_token

        return normalize_token(self.values)


def map_blocks(
    function: Callable[..., np.ndarray],
    arrays: Sequence[np.ndarray | da.Array],
    shape: Sequence[int],
    dtype: type[np.generic],
    rows_per_block: int,
    **arguments: Any,
) -> da.Array:
    """Return a lazy array (row, z, y, x) that is cut along its first axis alone.

    ``function(*blocks, **arguments)`` receives the same rows of all ``arrays``, whole along their other axes, and
    gives these rows of the result. ``shape`` is (z, y, x).
    """
    import dask.array as da
    from dask.delayed import delayed

    # Held once in the graph, not once in every task: a scene weighs megabytes.
    held = {name: delayed(value, traverse=False, pure=True) for name, value in arguments.items()}
    from_array: Callable[..., da.Array] = da.from_array
    blockwise: Callable[..., da.Array] = da.blockwise
    operands: list[Any] = []
    for place, array in enumerate(arrays):
        if isinstance(array, np.ndarray):
            array = from_array(Rows(array), chunks=(rows_per_block, *array.shape[1:]), asarray=False)
        # Axis 0 is common to all; the others are this array's own and go whole to the function.
        operands += [array, (0, *(10 * (place + 1) + axis for axis in range(1, array.ndim)))]
    return blockwise(
        function,
        (0, 1, 2, 3),
        *operands,
        new_axes=dict(zip((1, 2, 3), shape, strict=True)),
        concatenate=True,
        dtype=dtype,
        meta=np.empty((0, 0, 0, 0), dtype),
        **held,
    )


def map_frames(
    draw: Callable[..., np.ndarray],
    arrays: Sequence[np.ndarray],
    shape: Sequence[int],
    dtype: type[np.generic],
    frames_per_block: int,
) -> da.Array:
    """Return a lazy array (frame, z, y, x) whose frame t is ``draw`` of the rows t of ``arrays``."""
    return map_blocks(_draw_frames, arrays, shape, dtype, frames_per_block, draw=draw, sizes=shape, kind=dtype)


def _draw_frames(
    *arrays: np.ndarray, draw: Callable[..., np.ndarray], sizes: Sequence[int], kind: type[np.generic]
) -> np.ndarray:
    frames = np.empty((len(arrays[0]), *sizes), kind)
    for frame, *rows in zip(frames, *arrays, strict=True):
        frame[...] = draw(*rows)
    return frames
