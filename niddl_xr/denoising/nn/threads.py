"""How many threads torch may use on a CPU: all of them, unless they get in each other's way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

CLEARLY = 1.3  # one thread has to be faster by this factor, so that an idle machine always uses all


def best_thread_count(work: Callable[[], object]) -> int:
    """Return torch's number of threads, or 1 if ``work`` is clearly faster with one.

    On cores that other programs use, the threads of a convolution wait for each other at every layer: two were
    measured 3 to 10 times slower than one.
    """
    count = torch.get_num_threads()
    if count == 1:
        return 1
    with threads(count):
        work()  # the first call also plans memory
        together = _seconds(work)
    with threads(1):
        alone = _seconds(work)
    return 1 if alone * CLEARLY < together else count


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use ``count`` threads inside, and as many as before after it: the number belongs to the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
