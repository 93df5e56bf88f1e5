"""Which planes of a stack a network sees at once, and which of its planes count: the modes as arithmetic."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from niddl_xr.chunking import reflected


class Window(NamedTuple):
    """One look of a network: the planes ``read`` go in; of what comes out, ``keep`` are the planes ``write``."""

    read: tuple[int, ...]
    keep: slice
    write: slice


def windows(mode: str, depth: int, planes: int) -> list[Window]:
    """Return the windows that give every plane of a stack once, from the first to the last.

    "3d": ``depth`` planes in, the same planes out, in strides of ``depth``, so that no plane is computed twice (the
    original slides by one plane and keeps the centre, ``depth`` times the work). If the number of planes is no
    multiple of ``depth``, the last window is shifted back to end at the last plane, and only its new planes count.
    The other modes: every plane with ``depth // 2`` neighbours on either side.

    Beyond the ends of a stack the planes are repeated by reflection, the edge plane first. The original fills in
    zeros: after the offset is taken out, these would tell a network where the stack ends.

    >>> [(w.read, w.write) for w in windows("2.5d", 3, 2)]
    [((0, 0, 1), slice(0, 1, None)), ((0, 1, 1), slice(1, 2, None))]
    >>> [(w.read, w.keep) for w in windows("3d", 3, 4)]
    [((0, 1, 2), slice(0, 3, None)), ((1, 2, 3), slice(2, 3, None))]
    """
    if mode != "3d":
        return [Window(_indices(z - depth // 2, depth, planes), slice(0, 1), slice(z, z + 1)) for z in range(planes)]
    result, done = [], 0
    while done < planes:
        start = min(done, max(0, planes - depth))
        stop = min(start + depth, planes)
        result.append(Window(_indices(start, depth, planes), slice(done - start, stop - start), slice(done, stop)))
        done = stop
    return result


@lru_cache(maxsize=8)
def samples(mode: str, depth: int, planes: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Return the planes in and the planes out of every sample that a stack gives to training.

    As :func:`windows`, but "3d" windows begin at every plane.
    """
    if mode != "3d":
        return tuple((window.read, (window.write.start,)) for window in windows(mode, depth, planes))
    starts = range(max(1, planes - depth + 1))
    return tuple((_indices(start, depth, planes),) * 2 for start in starts)


def _indices(start: int, depth: int, planes: int) -> tuple[int, ...]:
    return tuple(reflected(start, start + depth, planes).tolist())
