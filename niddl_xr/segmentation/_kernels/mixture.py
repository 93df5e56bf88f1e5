"""Nuclei as a mixture of Gaussians over a floor of light, fitted to the counts of one frame.

Arrays are (z, y, x), or (y, x) of a single plane: ``d`` is the number of axes. Voxel i of an axis has its centre at i
times the voxel size; everything in µm is measured from voxel 0. Light is in counts above a background.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import ndimage

_SMOOTH_UM = 0.5  # before the background is looked for, so that noise does not pull it down
_SMALLEST_SIGMA_UM, _LARGEST_SIGMA_UM = 0.35, 3.0  # of a component along any direction
_LEASH_UM = 2.0  # from where a component was put: a dim one would drift to a neighbour's light
_SETTLED_UM = 2e-3  # means that move less are taken to have arrived
_TINY = 1e-9


@dataclass(frozen=True)
class Mixture:
    """``n`` Gaussians, each over a floor that is constant in its window.

    ``means_um`` (n, d), ``covariances_um2`` (n, d, d), ``peaks`` (n,) counts at the mean, ``floors`` (n,) counts;
    ``anchors_um`` (n, d), where the components were first put: they do not leave their neighbourhood.
    """

    means_um: np.ndarray
    covariances_um2: np.ndarray
    peaks: np.ndarray
    floors: np.ndarray
    anchors_um: np.ndarray

    def __len__(self) -> int:
        return len(self.means_um)

    def select(self, which: np.ndarray) -> Mixture:
        """Return the components of a mask or of indices."""
        return Mixture(*(getattr(self, field.name)[which] for field in fields(self)))

    def joined(self, other: Mixture) -> Mixture:
        """Return the components of both, those of ``other`` last."""
        names = [field.name for field in fields(self)]
        return Mixture(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


@dataclass(frozen=True)
class Windows:
    """The voxels around each of ``n`` points: a ball, of which the part inside the field counts.

    ``places`` (n, w) into the flattened frame, ``valid`` (n, w) and ``positions_um`` (n, w, d), float32.
    """

    places: np.ndarray
    valid: np.ndarray
    positions_um: np.ndarray


def start(points_um: np.ndarray, radius_um: np.ndarray) -> Mixture:
    """Return balls of uniform density of ``radius_um`` (n,) around ``points_um`` (n, d): covariance r²/5, no light."""
    dims = points_um.shape[1]
    covariances = bounded(np.square(radius_um)[:, None, None] / 5 * np.eye(dims))
    nothing = np.zeros(len(points_um))
    places = np.asarray(points_um, dtype=np.float64)
    return Mixture(places, covariances, nothing, nothing, places)


def background(frame: np.ndarray, voxel_um: np.ndarray, radius_um: float) -> np.ndarray:
    """Return the light (float32) on which spots smaller than ``radius_um`` stand: a smooth morphological opening.

    ``frame`` is finite. Beyond the edges it is continued by reflection.
    """
    smooth = ndimage.gaussian_filter(frame, np.minimum(_SMOOTH_UM / voxel_um, 1.0))
    size = 2 * np.floor(radius_um / voxel_um).astype(int) + 1
    opened = ndimage.grey_opening(smooth, size=tuple(size))
    return np.asarray(ndimage.gaussian_filter(opened, radius_um / 2 / voxel_um), dtype=np.float32)


def windows(points_um: np.ndarray, finite: np.ndarray, voxel_um: np.ndarray, radius_um: float) -> Windows:
    """Return the voxels within ``radius_um`` of points (n, d); those that are not ``finite`` do not count."""
    reach = np.floor(radius_um / voxel_um).astype(int)
    box = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, len(reach))
    ball = box[np.square(box * voxel_um).sum(axis=1) <= radius_um**2 * (1 + 1e-9)]
    index = np.rint(points_um / voxel_um).astype(int)[:, None] + ball
    inside = np.all((index >= 0) & (index < finite.shape), axis=-1)
    clipped = np.clip(index, 0, np.asarray(finite.shape) - 1)
    places = np.ravel_multi_index(tuple(np.moveaxis(clipped, -1, 0)), finite.shape)
    return Windows(places, inside & finite.ravel()[places], (index * voxel_um).astype(np.float32))


def shapes(mixture: Mixture, seen: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return offsets from the means (n, w, d), squared Mahalanobis distances (n, w) and light (n, w), all float32."""
    offsets = seen.positions_um - mixture.means_um[:, None].astype(np.float32)
    roots = np.linalg.cholesky(np.linalg.inv(mixture.covariances_um2)).astype(np.float32)
    distances = np.square(offsets @ roots).sum(axis=-1)
    light = mixture.peaks[:, None].astype(np.float32) * np.exp(-0.5 * distances) * seen.valid
    return offsets, distances, light


def rendered(mixture: Mixture, seen: Windows, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the light of the components, and that of their floors, each as a frame of ``shape``."""
    _, _, light = shapes(mixture, seen)
    floors = mixture.floors[:, None] * seen.valid
    size = int(np.prod(shape))
    spots, ground = (np.bincount(seen.places.ravel(), part.ravel(), size) for part in (light, floors))
    return spots.reshape(shape), ground.reshape(shape)


def fit(
    signal: np.ndarray,
    mixture: Mixture,
    seen: Windows,
    voxel_um: np.ndarray,
    *,
    iterations: int,
    typical_um2: np.ndarray | None = None,
    shrinkage: float = 0.0,
) -> Mixture:
    """Fit the mixture to ``signal`` (counts ≥ 0) by expectation maximisation.

    Every count is shared out among the components and floors that reach its voxel; a component then takes the mean and
    the covariance of its share. This is the intensity-weighted EM of Gaussian mixtures, and at the same time maximum
    likelihood of Poisson counts. What a component has outside its window, or beyond the edge of the field, is put in
    from the model itself (missing data), or windows would make nuclei small. With ``typical_um2`` (d, d) each
    covariance is drawn towards it by ``shrinkage``, 0 to 1. Components without any light stay where they are.
    """
    counts = np.where(seen.valid, signal.ravel()[seen.places], 0).astype(np.float32)
    number = np.maximum(seen.valid.sum(axis=1), 1)
    unlit = mixture.peaks <= 0
    current = replace(
        mixture,
        peaks=np.where(unlit, 0.7 * counts.max(axis=1, initial=0) + _TINY, mixture.peaks),
        floors=np.where(unlit, 0.1 * counts.sum(axis=1) / number, mixture.floors),
    )
    for _ in range(iterations):
        updated = _step(counts, current, seen, number, float(np.prod(voxel_um)), signal.size)
        if typical_um2 is not None:
            drawn = (1 - shrinkage) * updated.covariances_um2 + shrinkage * typical_um2
            updated = replace(updated, covariances_um2=drawn)
        moved = float(np.abs(updated.means_um - current.means_um).max(initial=0))
        grown = float(np.abs(updated.covariances_um2 - current.covariances_um2).max(initial=0))
        current = updated
        if max(moved, grown) < _SETTLED_UM:
            break
    return current


def _step(
    counts: np.ndarray, mixture: Mixture, seen: Windows, number: np.ndarray, voxel_volume: float, size: int
) -> Mixture:
    """Return the mixture after one iteration; ``counts`` (n, w) are 0 where they do not count."""
    offsets, _, light = shapes(mixture, seen)
    floors = mixture.floors[:, None].astype(np.float32) * seen.valid
    total = np.bincount(seen.places.ravel(), (light + floors).ravel(), size).astype(np.float32)
    ratio = counts / np.maximum(total[seen.places], _TINY)
    # The share of a component less what the model gave it: 0 outside the window, where the model stands in.
    excess = np.where(seen.valid, light * (ratio - 1), 0).astype(np.float32)
    mass = mixture.peaks * _volume(mixture.covariances_um2) / voxel_volume
    total_mass = np.maximum(mass + excess.sum(axis=1, dtype=np.float64), _TINY)
    shift = np.einsum("nw,nwi->ni", excess, offsets, optimize=True) / total_mass[:, None]
    spread = np.einsum("nwi,nwj->nij", excess[..., None] * offsets, offsets, optimize=True)
    spread = (mass[:, None, None] * mixture.covariances_um2 + spread) / total_mass[:, None, None]
    covariances = bounded(spread - shift[:, :, None] * shift[:, None, :])
    away = mixture.means_um + shift - mixture.anchors_um
    length = np.linalg.norm(away, axis=1, keepdims=True)
    return replace(
        mixture,
        means_um=mixture.anchors_um + away * np.minimum(1, _LEASH_UM / np.maximum(length, _TINY)),
        covariances_um2=covariances,
        peaks=total_mass * voxel_volume / _volume(covariances),
        floors=mixture.floors * (ratio * seen.valid).sum(axis=1) / number,
    )


def bounded(covariances_um2: np.ndarray) -> np.ndarray:
    """Return the covariances (n, d, d) with no direction thinner or wider than a nucleus can be seen."""
    values, vectors = np.linalg.eigh(covariances_um2)
    values = np.clip(values, _SMALLEST_SIGMA_UM**2, _LARGEST_SIGMA_UM**2)
    return np.asarray((vectors * values[:, None, :]) @ np.swapaxes(vectors, 1, 2))


def _volume(covariances_um2: np.ndarray) -> np.ndarray:
    """Return the integral (n,) of Gaussians of peak 1, in µm to the number of axes."""
    dims = covariances_um2.shape[-1]
    return np.asarray(np.sqrt((2 * np.pi) ** dims * np.linalg.det(covariances_um2)))
