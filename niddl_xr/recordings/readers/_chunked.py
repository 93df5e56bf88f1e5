"""Arrays that a file stores in chunks, as blocks of whole chunks along time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from niddl_xr.recordings.readers._lazy import Source, lazy

if TYPE_CHECKING:
    import dask.array as da

MOST_UNIT_BYTES = 2**28  # of the frames that one chunk of the file holds together


def lazy_chunked(
    source: Source, chunk: Sequence[int] | None, axes: str, chunks: Any, channel: int, where: str
) -> tuple[da.Array, tuple[UserWarning, ...]]:
    """Return one channel of a source as a dask array (t, z, y, x), so that no chunk of the file is read many times.

    Parameters
    ----------
    source
        The array in the file, with the dims ``axes``.
    chunk
        Sizes of its chunks along every dim; None where it is not chunked.
    chunks, channel
        As :func:`niddl_xr.recordings.readers._lazy.lazy` takes them.
    where
        What the file is called in the warning of chunks that hold more frames than 256 MiB take.
    """
    if chunk is None or "t" not in axes:
        return lazy(source, axes, chunks, channel), ()
    at = axes.index("t")
    frames, unit = source.shape[at], min(chunk[at], source.shape[at])
    frame_bytes = math.prod(size for size, axis in zip(source.shape, axes, strict=True) if axis not in "tc")
    fitting = max(1, MOST_UNIT_BYTES // (frame_bytes * source.dtype.itemsize))
    if unit <= fitting:
        return lazy(source, axes, chunks, channel, frames_a_unit=unit), ()
    note = UserWarning(
        f"{where} stores {unit} of its {frames} frames together, in chunks of {tuple(chunk)} {tuple(axes)}, so that "
        "every block of frames reads all of them: save it as a store of niddl_xr before any work"
    )
    return lazy(source, axes, chunks, channel, frames_a_unit=fitting), (note,)
