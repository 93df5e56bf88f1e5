"""Skeletons of one pixel's width: their ends, and what hangs on them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_BLOCK = np.ones((3, 3), np.uint8)


def neighbours(skeleton: np.ndarray) -> np.ndarray:
    """Return how many of its eight neighbours each pixel (y, x) of a boolean skeleton has on the skeleton."""
    counts = ndimage.convolve(skeleton.astype(np.uint8), _BLOCK, mode="constant")
    return np.where(skeleton, counts - 1, 0)


def pruned(skeleton: np.ndarray, pixels: int) -> np.ndarray:
    """Return a skeleton (y, x) without the branches of up to ``pixels`` pixels that leave a junction and end freely.

    Junctions are pixels with three neighbours and more, and count for no branch. Lines without a junction stay.
    """
    count = neighbours(skeleton)
    junction = count > 2
    branches, number = ndimage.label(skeleton & ~junction, _BLOCK)
    lengths = np.bincount(branches.ravel(), minlength=number + 1)
    free, tied = np.zeros(number + 1, bool), np.zeros(number + 1, bool)
    free[branches[skeleton & (count <= 1)]] = True
    tied[branches[ndimage.binary_dilation(junction, _BLOCK)]] = True
    spur = free & tied & (lengths <= pixels)
    spur[0] = False
    return np.asarray(skeleton & ~spur[branches])


def completed(fine: np.ndarray, coarse: np.ndarray, reach_um: float, pixel_um: np.ndarray) -> np.ndarray:
    """Return the skeleton ``fine`` (y, x) and, where it has nothing within ``reach_um``, that of a coarser scale.

    Lines that run side by side are two in the fine one; lines that are faint are there in the coarse one alone. What is
    taken from this one goes on until it meets the fine one.
    """
    if not fine.any():
        return coarse
    new = coarse & (ndimage.distance_transform_edt(~fine, sampling=pixel_um) > reach_um)
    if not new.any():
        return fine
    back_um = reach_um + 1.5 * float(pixel_um.max())
    return np.asarray(fine | (coarse & (ndimage.distance_transform_edt(~new, sampling=pixel_um) <= back_um)))
