"""From a frame and the points in it to labels: the methods of the verb segment, a frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from niddl_xr.schema import NiddlError
from niddl_xr.segmentation._kernels import mixture, outlines, splitting

_FIT_VOXEL_UM = 0.8  # finer voxels are averaged for the fit: it is as good, and several times as fast
_WINDOW = 1.25  # of max_radius_um: each neuron is fitted to what is within this, its floor of light included
_MOST_LABELS = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Gmm:
    """Options of the Gaussian mixture."""

    posterior: float = 0.6
    max_radius_um: float = 4.0
    level: float = 1 / 3
    max_distance2: float | None = None
    split: bool = True
    min_separation_um: float = 2.8
    psf_sigma_um: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        _require("posterior", self.posterior, least=0.5, below=1.0)
        _require("level", self.level, above=0.0, below=1.0)
        for name in ("max_radius_um", "max_distance2", "min_separation_um"):
            if name != "max_distance2" or self.max_distance2 is not None:
                _require(name, getattr(self, name), above=0.0)
        if not isinstance(self.split, bool):
            raise NiddlError(f"expected split as True or False, got {self.split!r}")
        if self.psf_sigma_um is None:
            return
        if isinstance(self.psf_sigma_um, str) or np.shape(self.psf_sigma_um) != (3,):
            raise NiddlError(f"expected psf_sigma_um as three numbers (z, y, x) in µm, got {self.psf_sigma_um!r}")
        for sigma in self.psf_sigma_um:
            _require("psf_sigma_um", sigma, least=0.0)

    def __call__(self, frame: np.ndarray, points_um: np.ndarray, radius_um: np.ndarray, voxel_um: np.ndarray) -> Any:
        """Return labels (uint32) of a frame (z, y, x) with points (n, 3) in µm from voxel 0."""
        valid = np.isfinite(frame)
        labels = np.zeros(frame.shape, np.uint32)
        if not len(points_um) or not valid.any() or np.ptp(frame[valid]) == 0:
            return labels
        used = np.array([frame.shape[0] > 1, True, True])  # a plane has no z
        frame, valid = frame.squeeze(0) if not used[0] else frame, valid.squeeze(0) if not used[0] else valid
        voxel, points = voxel_um[used], points_um[:, used]
        filled = np.where(valid, frame, np.median(frame[valid])).astype(np.float32, copy=False)

        factors = np.maximum(np.floor(_FIT_VOXEL_UM / voxel * (1 + 1e-6)), 1).astype(int)
        factors[:-2] = 1
        coarse, coarse_valid = (_averaged(values, factors) for values in (filled, valid.astype(np.float32)))
        middle = (factors - 1) / 2 * voxel  # of the first coarse voxel
        ground = mixture.background(coarse, voxel * factors, self.max_radius_um)
        seen = splitting.Frame(
            signal=np.maximum(coarse - ground, 0),
            noise=splitting.noise_of(coarse, voxel * factors),
            finite=coarse_valid > 0.5,
            voxel_um=voxel * factors,
            window_um=_WINDOW * self.max_radius_um,
        )
        model = splitting.fit(
            seen, points - middle, radius_um, split=self.split, min_separation_um=self.min_separation_um
        )
        drawn = replace(model, means_um=model.means_um + middle, covariances_um2=self._sharp(model, used))
        labels[...] = outlines.draw(
            drawn, valid, voxel, posterior=self.posterior, largest_distance2=self._edge2(seen, model)
        ).reshape(labels.shape)
        return labels

    def _sharp(self, model: mixture.Mixture, used: np.ndarray) -> np.ndarray:
        """Return the covariances without the blur, as far as it is known or seen."""
        if self.psf_sigma_um is not None:
            return outlines.deblurred(model.covariances_um2, np.asarray(self.psf_sigma_um)[used])
        return outlines.as_deep_as_wide(model.covariances_um2) if used.all() else model.covariances_um2

    def _edge2(self, frame: splitting.Frame, model: mixture.Mixture) -> float:
        """Return the squared Mahalanobis distance at which neurons end."""
        if self.max_distance2 is not None:
            return self.max_distance2
        around = mixture.windows(model.means_um, frame.finite, frame.voxel_um, frame.window_um)
        return outlines.edge_distance(frame.signal, model, around, self.level) ** 2


@dataclass(frozen=True)
class Watershed:
    """Options of the watershed."""

    smooth_um: float = 0.5
    level: float = 0.5
    max_radius_um: float = 4.0

    def __post_init__(self) -> None:
        _require("smooth_um", self.smooth_um, least=0.0)
        _require("level", self.level, above=0.0, below=1.0)
        _require("max_radius_um", self.max_radius_um, above=0.0)

    def __call__(self, frame: np.ndarray, points_um: np.ndarray, radius_um: np.ndarray, voxel_um: np.ndarray) -> Any:
        """Return labels (uint32) of a frame (z, y, x) with points (n, 3) in µm from voxel 0."""
        from skimage import segmentation

        valid = np.isfinite(frame)
        if not len(points_um) or not valid.any() or np.ptp(frame[valid]) == 0:
            return np.zeros(frame.shape, np.uint32)
        filled = np.where(valid, frame, np.median(frame[valid])).astype(np.float32, copy=False)
        voxel = np.where(np.array(frame.shape) > 1, voxel_um, np.inf)
        smooth = ndimage.gaussian_filter(filled, self.smooth_um / voxel)
        ground = mixture.background(filled, np.where(np.isinf(voxel), 1e6, voxel), self.max_radius_um)
        last = np.asarray(frame.shape) - 1
        marked = np.clip(np.rint(points_um / voxel_um).astype(int), 0, last)
        markers = np.zeros(frame.shape, np.int32)
        # Where two points share a voxel the later one has it: the earlier gets no label.
        markers[tuple(marked.T)] = np.arange(1, len(marked) + 1)
        distance = ndimage.distance_transform_edt(markers == 0, sampling=voxel_um)
        watershed: Callable[..., np.ndarray] = segmentation.watershed
        basins = watershed(-smooth, markers, mask=valid & (distance <= self.max_radius_um))
        light = smooth - ground
        numbers = np.arange(len(marked) + 1)
        peaks = np.asarray(ndimage.maximum(light, basins, numbers))
        bright = light >= self.level * np.where(peaks > 0, peaks, np.inf)[basins]
        # Once more through what is bright, so that every label is in one piece around its point.
        return watershed(-smooth, markers, mask=bright & (basins > 0)).astype(np.uint32)


def _averaged(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return means over blocks of ``factors`` voxels; the last block of an axis may be smaller."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, values.shape[axis], factor)
            sums = np.add.reduceat(values, starts, axis=axis)
            counts = np.diff(np.append(starts, values.shape[axis]))
            values = sums / np.expand_dims(counts, tuple(i for i in range(values.ndim) if i != axis))
    return values.astype(np.float32, copy=False)


def called(function: Callable[[np.ndarray], Any], frame: np.ndarray) -> np.ndarray:
    """Return the labels (uint32) that a callable gives for a frame (z, y, x), after checking them."""
    valid = np.isfinite(frame)
    if not valid.any():
        return np.zeros(frame.shape, np.uint32)
    given = np.where(valid, frame, np.median(frame[valid])).astype(np.float32)
    asked = given[0] if given.shape[0] == 1 else given
    answer = function(asked)
    # StarDist gives (labels, details), Cellpose (masks, flows, styles): labels come first.
    labels = np.asarray(answer[0] if isinstance(answer, tuple | list) and len(answer) else answer)
    name = getattr(function, "__name__", type(function).__name__)
    if labels.shape != asked.shape:
        raise NiddlError(
            f"expected labels of shape {asked.shape} from {name}, got {labels.shape}: it has to give one label a voxel"
        )
    if labels.dtype == bool or labels.dtype.kind not in "ui":
        raise NiddlError(
            f"expected whole numbers from {name}, 0 for background, got dtype {labels.dtype}; "
            "of a mask scipy.ndimage.label makes labels"
        )
    if labels.size and (labels.min() < 0 or labels.max() > _MOST_LABELS):
        raise NiddlError(f"expected labels from 0 to {_MOST_LABELS} from {name}, got {labels.min()} to {labels.max()}")
    return np.where(valid, labels.reshape(frame.shape), 0).astype(np.uint32)


def _require(name: str, value: Any, *, least: float = -np.inf, above: float = -np.inf, below: float = np.inf) -> None:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not real or not (least <= value and above < value < below):
        limits: Sequence[str] = [
            f"{words} {limit:g}"
            for words, limit in (("of at least", least), ("above", above), ("below", below))
            if np.isfinite(limit)
        ]
        raise NiddlError(f"expected {name} as a number {' and '.join(limits)}, got {value!r}")
