"""Frames of a recording, lazily and one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import xarray as xr

from niddl_xr.chunking import blocks_for_looking


def lazy_frames(recording: xr.DataArray) -> Any:
    """Return a recording (t, z, y, x) as a dask array with blocks of whole frames, few of them."""
    import dask.array as da

    chunks = {**blocks_for_looking(recording.shape, planewise=False), 2: -1, 3: -1}
    if recording.chunks:
        return recording.data.rechunk(chunks)
    from_array: Callable[..., Any] = da.from_array
    return from_array(recording.data, chunks=tuple(chunks[axis] for axis in range(4)), name=False)


def delayed_frames(recording: xr.DataArray) -> Sequence[Any]:
    """Return the frames (1, z, y, x) of a recording, each of them delayed."""
    return list(lazy_frames(recording).rechunk({0: 1}).to_delayed().ravel())
