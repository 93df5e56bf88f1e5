"""How far an output pixel of a network looks: integer arithmetic along the network's longest path.

Every step turns the interval of pixels first … last of its output into the interval of its input that they read. The
axes y and x are alike, so that one is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Step = Callable[[int, int], tuple[int, int]]


def convolutions(count: int, kernel_px: int) -> Step:
    """Return the step of ``count`` convolutions that keep the size."""
    margin = count * (kernel_px // 2)
    return lambda first, last: (first - margin, last + margin)


def pooling(first: int, last: int) -> tuple[int, int]:
    """Be the step of a 2×2 pooling: pixel i reads 2i and 2i + 1."""
    return 2 * first, 2 * last + 1


def upsampling(kernel_px: int, cut_px: int = 0) -> Step:
    """Return the step of a transposed convolution of stride 2, ``cut_px`` rows of whose result are cut in front.

    Input i writes to 2i … 2i + kernel_px - 1 of the whole result. A kernel of 2 is also the repetition of pixels.
    """
    return lambda first, last: (-((kernel_px - 1 - first - cut_px) // 2), (last + cut_px) // 2)


def reach_px(path: Sequence[Step], grid_px: int) -> int:
    """Return the reach of a path from input to output, in pixels, at the worst place in the pooling grid."""
    furthest = 0
    for place in range(grid_px):
        first = last = place
        for step in reversed(path):
            first, last = step(first, last)
        furthest = max(furthest, place - first, last - place)
    return furthest
