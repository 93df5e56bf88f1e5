"""Pairs as a bank of planes: normalised, targets in the units of the noisy image, patches drawn at random."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.chunking import sampled_planes
from niddl_xr.denoising.normalisation import Normalisation, estimate
from niddl_xr.schema import NiddlError

_BLOCK_PX = 4  # planes are averaged over 4×4 pixels before two images are compared, so that noise weighs less
_LEAST_CORRELATION = 0.05
_LEAST_STANDARD_ERRORS = 3.0  # in small images, chance correlates more: 1 / sqrt(number of 4×4 means)


@dataclass(frozen=True)
class Stack:
    """One acquisition: planes (z, y, x) as stored, and the maps that bring both halves to one scale.

    ``target = (gain * clean + bias - offset) / scale`` is the clean image in normalised units of the noisy one:
    laser power and camera differ between the two, and a result must be in the units of the input.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    normalisation: Normalisation
    gain: float
    bias: float

    def patch(self, window: tuple[int | slice, slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """Return a window of the noisy and the clean planes, normalised, float32."""
        clean = self.clean[window].astype(np.float32) * np.float32(self.gain) + np.float32(self.bias)
        return self.normalisation.apply(self.noisy[window]), self.normalisation.apply(clean)


def _block_means(planes: np.ndarray) -> np.ndarray:
    depth, height, width = planes.shape
    rows, columns = max(1, height // _BLOCK_PX), max(1, width // _BLOCK_PX)
    size_y, size_x = min(height, _BLOCK_PX), min(width, _BLOCK_PX)
    trimmed = planes[:, : rows * size_y, : columns * size_x].astype(np.float64)
    means: np.ndarray = trimmed.reshape(depth, rows, size_y, columns, size_x).mean(axis=(2, 4))
    return means.ravel()


def _match(clean: np.ndarray, noisy: np.ndarray) -> tuple[float, float, float, bool]:
    """Return the least-squares map from clean to noisy planes (z, y, x): gain, bias, correlation, and if it is real."""
    truth, image = _block_means(clean), _block_means(noisy)
    truth_deviation, image_deviation = truth - truth.mean(), image - image.mean()
    variance = float(np.mean(truth_deviation**2))
    covariance = float(np.mean(truth_deviation * image_deviation))
    if variance == 0 or not np.any(image_deviation):
        return 0.0, float(image.mean()), 0.0, False
    gain = covariance / variance
    correlation = covariance / float(np.sqrt(variance * np.mean(image_deviation**2)))
    related = correlation > max(_LEAST_CORRELATION, _LEAST_STANDARD_ERRORS / np.sqrt(truth.size))
    return gain, float(image.mean() - gain * truth.mean()), correlation, bool(related)


def _require_finite(planes: np.ndarray) -> None:
    if planes.dtype.kind == "f" and not np.all(np.isfinite(planes)):
        z = int(np.flatnonzero(~np.isfinite(planes).all(axis=(1, 2)))[0])
        raise NiddlError(f"expected finite counts, got NaN or infinite pixels in its noisy plane {z}; leave it out")


def load_stacks(pairs: xr.Dataset) -> list[Stack]:
    """Read all pairs (stack, z, y, x) into memory in their stored dtype.

    A stack whose halves do not resemble each other (correlation of 4×4 means
    below 0.05, or below three standard errors) is left out with one
    warning that names it.

    Raises
    ------
    NiddlError
        If a stack holds NaN or is constant, or no stack is usable.
    """
    stacks, unrelated = [], []
    names = [str(name) for name in pairs["stack"].values] if "stack" in pairs.coords else None
    for index in range(pairs.sizes["stack"]):
        name = names[index] if names else str(index)
        noisy = pairs["noisy"].isel(stack=index).values
        clean = pairs["clean"].isel(stack=index).values
        planes = np.stack([noisy[z] for _, z in sampled_planes(1, len(noisy))])
        try:
            normalisation = estimate(planes)
            estimate(clean)
            _require_finite(noisy)
        except NiddlError as error:
            raise NiddlError(f"stack {name} of the pairs: {error}") from error
        gain, bias, correlation, related = _match(clean, noisy)
        if not related:
            unrelated.append(f"{name} (correlation {correlation:.2f})")
            continue
        stacks.append(Stack(name, noisy, clean, normalisation, gain, bias))
    if not stacks:
        raise NiddlError(
            f"expected noisy and clean images of the same scene, got {len(unrelated)} stacks that do not resemble "
            f"each other, {', '.join(unrelated[:5])}; check that the two folders belong together"
        )
    if unrelated:
        warnings.warn(
            f"left out {len(unrelated)} of {len(unrelated) + len(stacks)} stacks, whose noisy and clean images do "
            f"not resemble each other: {', '.join(unrelated[:10])}",
            stacklevel=2,
        )
    return stacks


def split_stacks(stacks: Sequence[Stack], validation: float, seed: int) -> tuple[list[Stack], list[Stack]]:
    """Split into training and validation stacks, whole acquisitions each, the same way for the same seed.

    ``validation`` is a fraction from 0 (none) to below 1; at least one stack remains on either side.
    """
    if not 0 <= validation < 1:
        raise NiddlError(f"expected validation as a fraction from 0 to below 1, got {validation}")
    if validation == 0:
        return list(stacks), []
    if len(stacks) < 2:
        raise NiddlError(
            "expected two stacks or more, because validation needs one that training never sees, got one; "
            "say validation=0 to train without validation"
        )
    order = np.random.default_rng([seed, 0]).permutation(len(stacks))
    count = min(len(stacks) - 1, max(1, round(validation * len(stacks))))
    chosen = set(order[:count].tolist())
    return (
        [stack for i, stack in enumerate(stacks) if i not in chosen],
        [stack for i, stack in enumerate(stacks) if i in chosen],
    )


@dataclass(frozen=True)
class PatchSampler:
    """Draws batches of augmented patches from the planes of some stacks.

    Augmentation: flips and quarter turns; a common gain exp(U(-g, g)) and offset U(-o, o) in normalised units, so
    that the network does not rely on the estimate of offset and scale being exact.
    """

    stacks: Sequence[Stack]
    patch_px: int
    batch: int
    gain_range: float = 0.3
    offset_range: float = 0.3

    @property
    def pixels(self) -> int:
        """How many pixels the noisy planes hold together."""
        return sum(stack.noisy.size for stack in self.stacks)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return noisy and clean patches, float32 (batch, 1, y, x)."""
        noisy = np.empty((self.batch, 1, self.patch_px, self.patch_px), np.float32)
        clean = np.empty_like(noisy)
        depths = np.array([len(stack.noisy) for stack in self.stacks])
        # A plane of a deep stack is as likely as that of a shallow one.
        chosen = rng.choice(len(self.stacks), size=self.batch, p=depths / depths.sum())
        for place, index in enumerate(chosen):
            stack = self.stacks[index]
            depth, height, width = stack.noisy.shape
            y, x = rng.integers(height - self.patch_px + 1), rng.integers(width - self.patch_px + 1)
            window = (int(rng.integers(depth)), slice(y, y + self.patch_px), slice(x, x + self.patch_px))
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            gain = np.float32(np.exp(rng.uniform(-self.gain_range, self.gain_range)))
            offset = np.float32(rng.uniform(-self.offset_range, self.offset_range))
            for target, plane in zip((noisy, clean), stack.patch(window), strict=True):
                turned = np.rot90(plane, turns)
                target[place, 0] = (turned[:, ::-1] if flip else turned) * gain + offset
        return noisy, clean


def fingerprint(stacks: Sequence[Stack]) -> str:
    """Return the sha256 of all pixels and names of the stacks."""
    digest = hashlib.sha256()
    for stack in stacks:
        digest.update(stack.name.encode())
        digest.update(np.ascontiguousarray(stack.noisy).data)
        digest.update(np.ascontiguousarray(stack.clean).data)
    return digest.hexdigest()
