"""Patches for training: planned for a whole epoch, so that stacks on a disk are read once, then cut and varied.

The plan depends on a random generator alone, never on where the pixels lie: in memory or read stack by stack, the
batches are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from niddl_xr.denoising.nn.data import Stack
from niddl_xr.denoising.nn.windows import samples

Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """Where each of n patches lies and how it is varied: arrays (n,).

    ``sample`` counts the samples of a stack that its mode allows; ``y`` and ``x`` are the first row and column;
    ``turns`` are quarter turns; ``gain`` and ``offset`` are applied to noisy and clean alike, in normalised units.
    """

    stack: np.ndarray
    sample: np.ndarray
    y: np.ndarray
    x: np.ndarray
    turns: np.ndarray
    flip: np.ndarray
    gain: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.stack)


@dataclass(frozen=True)
class PatchSampler:
    """Cuts batches of augmented patches out of stacks of equal size.

    Augmentation: flips and quarter turns; a common gain exp(U(-g, g)) and offset U(-o, o) in normalised units, so
    that the network does not rely on the estimate of offset and scale being exact.

    Attributes
    ----------
    stacks
        Where patches come from, every plane as likely as every other.
    patch_px
        Edge of a patch.
    batch
        Patches a batch.
    mode, depth
        Which planes belong to a sample, see :mod:`niddl_xr.denoising.nn.windows`.
    memory_bytes
        For patches cut in advance out of stacks that are not in memory.
    gain_range, offset_range
        g and o above.
    turned
        Whether patches are flipped and turned.
    """

    stacks: Sequence[Stack]
    patch_px: int
    batch: int
    mode: str = "2d"
    depth: int = 1
    memory_bytes: int = 2**30
    gain_range: float = 0.3
    offset_range: float = 0.3
    turned: bool = True

    @property
    def pixels(self) -> int:
        """How many pixels the noisy planes hold together."""
        return sum(int(np.prod(stack.shape)) for stack in self.stacks)

    def plan(self, rng: np.random.Generator, count: int) -> Plan:
        """Plan ``count`` patches at random places, varied at random."""
        planes, height, width = self.stacks[0].shape
        return Plan(
            stack=rng.integers(len(self.stacks), size=count),
            sample=rng.integers(len(samples(self.mode, self.depth, planes)), size=count),
            y=rng.integers(height - self.patch_px + 1, size=count),
            x=rng.integers(width - self.patch_px + 1, size=count),
            turns=rng.integers(4, size=count) * self.turned,
            flip=(rng.integers(2, size=count) * self.turned).astype(bool),
            gain=np.exp(rng.uniform(-self.gain_range, self.gain_range, count)).astype(np.float32),
            offset=rng.uniform(-self.offset_range, self.offset_range, count).astype(np.float32),
        )

    def even_plan(self, rng: np.random.Generator, count: int) -> Plan:
        """Plan ``count`` patches spread evenly over stacks and depths, at random places of a plane, not varied."""
        planes, height, width = self.stacks[0].shape
        depths = len(samples(self.mode, self.depth, planes))
        stack, sample = np.divmod(np.linspace(0, len(self.stacks) * depths - 1, count).round().astype(int), depths)
        return Plan(
            stack=stack,
            sample=sample,
            y=rng.integers(height - self.patch_px + 1, size=count),
            x=rng.integers(width - self.patch_px + 1, size=count),
            turns=np.zeros(count, int),
            flip=np.zeros(count, bool),
            gain=np.ones(count, np.float32),
            offset=np.zeros(count, np.float32),
        )

    def batches(self, plan: Plan) -> Iterator[Batch]:
        """Yield noisy (batch, planes in, y, x) and clean patches (batch, planes out, y, x), float32, normalised."""
        segment = self._patches_at_once() // self.batch * self.batch or self.batch
        for start in range(0, len(plan), segment):
            stop = min(start + segment, len(plan))
            cut = {} if self.stacks[0].in_memory else self._cut_in_advance(plan, start, stop)
            for first in range(start, stop, self.batch):
                indices = range(first, min(first + self.batch, stop))
                yield self._batch(plan, [(index, cut.pop(index, None)) for index in indices])

    def _patches_at_once(self) -> int:
        inputs, outputs = samples(self.mode, self.depth, self.stacks[0].shape[0])[0]
        stack = self.stacks[0]
        itemsizes = len(inputs) * stack.noisy.dtype.itemsize + len(outputs) * stack.clean.dtype.itemsize
        return max(1, self.memory_bytes // (self.patch_px**2 * itemsizes))

    def _cut_in_advance(self, plan: Plan, start: int, stop: int) -> dict[int, Batch]:
        """Read every stack that the patches need once, and keep their windows in the stored dtype.

        A cache of whole stacks would, with random places, read a stack for most patches: for pairs twice as large as
        the cache half a stack of 25 planes a patch, here one stack for many.
        """
        cut = {}
        for number in np.unique(plan.stack[start:stop]):
            halves = self.stacks[number].read()
            for index in start + np.flatnonzero(plan.stack[start:stop] == number):
                cut[int(index)] = self._windows(halves, plan, int(index))
        return cut

    def _windows(self, halves: Batch, plan: Plan, index: int) -> Batch:
        """Return copies of the window of both halves, (planes, y, x) in the stored dtype."""
        y, x = int(plan.y[index]), int(plan.x[index])
        places = samples(self.mode, self.depth, len(halves[0]))[plan.sample[index]]
        rows, columns = slice(y, y + self.patch_px), slice(x, x + self.patch_px)
        noisy, clean = (half[list(planes), rows, columns] for half, planes in zip(halves, places, strict=True))
        return noisy, clean

    def _batch(self, plan: Plan, patches: Sequence[tuple[int, Batch | None]]) -> Batch:
        noisy: list[np.ndarray] = []
        clean: list[np.ndarray] = []
        for index, cut in patches:
            stack = self.stacks[plan.stack[index]]
            windows = self._windows(stack.read(), plan, index) if cut is None else cut
            scales = (stack.normalisation, stack.clean_normalisation)
            for half, window, scale in zip((noisy, clean), windows, scales, strict=True):
                values = scale.apply(window)
                values *= plan.gain[index]
                values += plan.offset[index]
                turned = np.rot90(values, plan.turns[index], axes=(1, 2))
                half.append(turned[..., ::-1] if plan.flip[index] else turned)
        return np.stack(noisy), np.stack(clean)
