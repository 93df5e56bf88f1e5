"""Pairs as stacks of planes: normalised, targets in the units of the noisy image, in memory or read when needed."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.chunking import sampled_planes
from niddl_xr.denoising.normalisation import Normalisation, estimate
from niddl_xr.metrics import median_snr_db
from niddl_xr.schema import RECORDING_DIMS, NiddlError

_BLOCK_PX = 4  # planes are averaged over 4×4 pixels before two images are compared, so that noise weighs less
_LEAST_CORRELATION = 0.05
_LEAST_STANDARD_ERRORS = 3.0  # in small images, chance correlates more: 1 / sqrt(number of 4×4 means)


@dataclass(frozen=True, eq=False)
class Stack:
    """One acquisition: planes (z, y, x) as stored, and the maps that bring both halves to one scale.

    A stack of pairs that are larger than the memory holds lazy halves, and is read anew whenever it is needed.

    Attributes
    ----------
    noisy, clean
        (z, y, x) in the stored dtype, in memory or lazy.
    normalisation
        Of the noisy half.
    clean_normalisation
        Of the clean half, to normalised units of the noisy one: laser power and camera differ between the two, and a
        result must be in the units of the input.
    sha256
        Fingerprint of name and pixels.
    snr_db
        Signal to noise of the noisy half, median over sampled planes; NaN where there is no noise to measure.
    """

    name: str
    noisy: np.ndarray | xr.DataArray
    clean: np.ndarray | xr.DataArray
    normalisation: Normalisation
    clean_normalisation: Normalisation
    sha256: str
    snr_db: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of z, y and x."""
        return self.noisy.shape

    @property
    def in_memory(self) -> bool:
        """Whether a window costs no reading."""
        return isinstance(self.noisy, np.ndarray)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return noisy and clean planes (z, y, x) in the stored dtype."""
        return np.asarray(self.noisy), np.asarray(self.clean)


def projected(pairs: xr.Dataset) -> xr.Dataset:
    """Return pairs whose planes are the maximum over z, before anything else happens to them: z of size 1, lazy."""
    return pairs.max("z", skipna=False, keep_attrs=True).expand_dims(z=1, axis=1)


def load_stacks(pairs: xr.Dataset, memory_bytes: int | None = None) -> list[Stack]:
    """Read all pairs (stack, z, y, x) once, and keep them in memory in their stored dtype if they fit.

    Pairs of more than ``memory_bytes`` (None: no limit) stay where they are.

    A stack whose halves do not resemble each other (correlation of 4×4 means below 0.05, or below three standard
    errors) is left out with one warning that names it.

    Raises
    ------
    NiddlError
        If a stack holds NaN or is constant, or no stack is usable.
    """
    keep = memory_bytes is None or pairs["noisy"].nbytes + pairs["clean"].nbytes <= memory_bytes
    stacks, unrelated = [], []
    names = [str(name) for name in pairs["stack"].values] if "stack" in pairs.coords else None
    for index in range(pairs.sizes["stack"]):
        name = names[index] if names else str(index)
        lazy = pairs[["noisy", "clean"]].isel(stack=index)
        stack, correlation = _load_stack(name, lazy["noisy"], lazy["clean"], keep)
        if stack is None:
            unrelated.append(f"{name} (correlation {correlation:.2f})")
        else:
            stacks.append(stack)
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


def _load_stack(
    name: str, lazy_noisy: xr.DataArray, lazy_clean: xr.DataArray, keep: bool
) -> tuple[Stack | None, float]:
    """Return a stack, None if its halves are of different scenes, and their correlation."""
    noisy, clean = lazy_noisy.values, lazy_clean.values
    planes = np.stack([noisy[z] for _, z in sampled_planes(1, len(noisy))])
    try:
        normalisation = estimate(planes)
        estimate(clean)
        _require_finite(noisy)
    except NiddlError as error:
        raise NiddlError(f"stack {name} of the pairs: {error}") from error
    gain, bias, correlation, related = _match(clean, noisy)
    if not related:
        return None, correlation
    # gain * clean + bias is the clean image in counts of the noisy one; a related stack has a gain above 0.
    clean_normalisation = Normalisation((normalisation.offset - bias) / gain, normalisation.scale / gain)
    stack = Stack(
        name,
        noisy if keep else lazy_noisy,
        clean if keep else lazy_clean,
        normalisation,
        clean_normalisation,
        _fingerprint(name, noisy, clean),
        median_snr_db(planes),
    )
    return stack, correlation


def _block_means(planes: np.ndarray) -> np.ndarray:
    depth, height, width = planes.shape
    rows, columns = max(1, height // _BLOCK_PX), max(1, width // _BLOCK_PX)
    size_y, size_x = min(height, _BLOCK_PX), min(width, _BLOCK_PX)
    trimmed = planes[:, : rows * size_y, : columns * size_x]
    blocks = trimmed.reshape(depth, rows, size_y, columns, size_x)
    means: np.ndarray = blocks.mean(axis=(2, 4), dtype=np.float64)
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


def _fingerprint(name: str, noisy: np.ndarray, clean: np.ndarray) -> str:
    digest = hashlib.sha256(name.encode())
    for half in (noisy, clean):
        digest.update(f"{half.dtype.str} {half.shape}".encode())
        for plane in half:
            digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def fingerprint(stacks: Sequence[Stack]) -> str:
    """Return the sha256 of all pixels and names of the stacks."""
    return hashlib.sha256("".join(stack.sha256 for stack in stacks).encode()).hexdigest()


def snr_range_db(stacks: Sequence[Stack]) -> list[float]:
    """Return least and greatest signal to noise of the stacks, in dB; empty where none could be measured."""
    finite = [stack.snr_db for stack in stacks if math.isfinite(stack.snr_db)]
    return [min(finite), max(finite)] if finite else []


def as_recording(planes: np.ndarray) -> xr.DataArray:
    """Return planes (n, y, x) as a recording of as many frames."""
    return xr.DataArray(planes[:, None], dims=RECORDING_DIMS)


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
