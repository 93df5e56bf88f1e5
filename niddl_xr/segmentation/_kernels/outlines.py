"""From Gaussians that were fitted to nuclei to the voxels that are theirs: without the blur, up to where light ends.

Arrays, units and ``d`` as in :mod:`niddl_xr.segmentation._kernels.mixture`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from niddl_xr.segmentation._kernels import mixture as gaussians
from niddl_xr.segmentation._kernels.mixture import Mixture, Windows

_BIN, _FARTHEST = 0.25, 4.0  # of the mean profile, in Mahalanobis distances
_EQUATOR = 0.5  # sigmas along z of the centre's plane, within which a profile is one of the plane
_SHARPEST, _NEAREST_EDGE, _FARTHEST_EDGE = 8.0, 1.0, 2.6  # a ball's sharp edge is at sqrt(5) = 2.24
_LEAST_LEFT = 1 / 3  # of a blurred sigma
_TINY = 1e-9


def deblurred(covariances_um2: np.ndarray, psf_sigma_um: np.ndarray) -> np.ndarray:
    """Return the covariances (n, d, d) before a microscope blurred them by ``psf_sigma_um`` (d,).

    An axis keeps a third of its sigma: of nuclei far smaller than the blur the difference says nothing.
    """
    seen = np.diagonal(covariances_um2, axis1=1, axis2=2)
    blur = np.minimum(np.square(psf_sigma_um), (1 - _LEAST_LEFT**2) * seen)
    return gaussians.bounded(covariances_um2 - blur[:, :, None] * np.eye(len(psf_sigma_um)))


def as_deep_as_wide(covariances_um2: np.ndarray) -> np.ndarray:
    """Return the covariances (n, 3, 3), shortened along z by the one factor that makes the median nucleus round.

    Nuclei lie in all directions, so that what all of them are longer along z is the microscope's; none is stretched. A
    factor, and no difference of squares as of a known blur: of nuclei smaller than the blur nothing would be left.
    """
    deep = covariances_um2[:, 0, 0]
    wide = (covariances_um2[:, 1, 1] + covariances_um2[:, 2, 2]) / 2
    factor = min(1.0, float(np.sqrt(np.median(wide / deep)))) if len(deep) else 1.0
    scale = np.array([factor, 1.0, 1.0])
    return gaussians.bounded(covariances_um2 * scale[:, None] * scale)


def edge_distance(signal: np.ndarray, mixture: Mixture, seen: Windows, level: float) -> float:
    """Return the Mahalanobis distance at which the light of a nucleus falls to ``level`` of that in its middle.

    It is that of the mean nucleus of the frame, in the plane through its middle, where a microscope blurs least: the
    light around every component less that of the others and the floors, by A exp(-(d/w)^b / 2). For a Gaussian b is 2
    and the answer sqrt(2 ln(1 / level)); a ball's edge is sharper.
    """
    offsets, distances2, light = gaussians.shapes(mixture, seen)
    spots, floors = gaussians.rendered(mixture, seen, signal.shape)
    own = (signal - spots - floors).ravel()[seen.places] + light
    here = seen.valid
    if offsets.shape[-1] == 3:
        sigma = np.sqrt(mixture.covariances_um2[:, 0, 0])[:, None]
        off_um = np.abs(offsets[..., 0])
        nearest = np.where(here, off_um, np.inf).min(axis=1, keepdims=True)
        here = here & (off_um <= np.maximum(_EQUATOR * sigma, nearest * (1 + 1e-6)))
    component, voxel = np.nonzero(here & (distances2 < _FARTHEST**2))
    # Least squares of peak times profile: bright nuclei count for more, those without light for nothing.
    peaks = mixture.peaks[component]
    bins = (np.sqrt(distances2[component, voxel]) / _BIN).astype(int)
    size = round(_FARTHEST / _BIN)
    weight = np.bincount(bins, np.square(peaks), size)
    profile = np.bincount(bins, peaks * own[component, voxel], size) / np.maximum(weight, _TINY)
    return _crossing((np.arange(size) + 0.5) * _BIN, profile, weight, level)


def _crossing(distance: np.ndarray, profile: np.ndarray, weight: np.ndarray, level: float) -> float:
    """Return where a profile that falls from its middle reaches ``level`` of its height, as fitted to the bins."""
    root = np.sqrt(weight / max(float(weight.sum()), _TINY))

    def left_over(shape: np.ndarray) -> np.ndarray:
        height, width, sharpness = shape
        return np.asarray(root * (height * np.exp(-0.5 * (distance / width) ** sharpness) - profile))

    fitted = least_squares(left_over, [1.0, 1.0, 2.0], bounds=([0.1, 0.5, 1.0], [10.0, 3.0, _SHARPEST]))
    _, width, sharpness = fitted.x
    edge = width * (2 * np.log(1 / level)) ** (1 / sharpness)
    return float(np.clip(edge, _NEAREST_EDGE, _FARTHEST_EDGE))


def draw(
    mixture: Mixture, finite: np.ndarray, voxel_um: np.ndarray, *, posterior: float, largest_distance2: float
) -> np.ndarray:
    """Return labels, uint32, k + 1 where the light of component k is over ``posterior`` of that of all components.

    Only within the ellipsoid of squared Mahalanobis distance ``largest_distance2``, and where the frame is ``finite``.
    """
    shape = finite.shape
    radius = np.sqrt(largest_distance2 * np.linalg.eigvalsh(mixture.covariances_um2)[:, -1].max(initial=0))
    # Light of neighbours counts from three times as far as the ellipsoid reaches: 1e-2 of a peak and less is left out.
    far = gaussians.windows(
        mixture.means_um, finite, voxel_um, float(max(3.0 * radius / np.sqrt(largest_distance2), radius))
    )
    _, distances, light = gaussians.shapes(mixture, far)
    total = np.bincount(far.places.ravel(), light.ravel(), int(np.prod(shape)))
    share = light / np.maximum(total[far.places], _TINY)
    mine = far.valid & (share > posterior) & (distances <= largest_distance2)
    labels = np.zeros(int(np.prod(shape)), np.uint32)
    component, _ = np.nonzero(mine)
    labels[far.places[mine]] = component + 1
    return labels.reshape(shape)
