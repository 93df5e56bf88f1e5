"""Which frames have no trustworthy centreline, and why.

Lengths are in µm, all arrays (t,); NaN where there was nothing to measure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ALIKE = (0.85, 1.15)  # of the median: areas and lengths of one worm (facts of trackers: Tierpsy keeps about as much)
DEEP_HOLE = 1.25  # median radii: a hole within the body reaches one radius deep, one between two parts of it two
LONG_BRANCH = 1.3  # median radii beyond the middle of the body
THICK = 1.3  # times the median, somewhere along the body
UNCOVERED = 0.04  # part of the outline that is beside the body along the centreline
SECOND_WORM = 0.5  # of the area of the largest piece

NO_WORM = "no worm"
SEVERAL = "several worms"
AT_EDGE = "cut by the edge of the field"
HOLE = "touches itself: hole in the outline"
BRANCH = "touches itself: branch in the skeleton"
AREA = "touches itself: area far from the median"
WIDTH = "touches itself: thicker than elsewhere"
BESIDE = "touches itself: outline beside the centreline"
LENGTH = "length far from the median"
TOO_FEW = "too few neurons"
JUMP = "centreline jumps"


class Measures(NamedTuple):
    """What is measured of every frame: (t,), except for ``radius_um`` (t, s) along the centreline."""

    area_um2: np.ndarray
    length_um: np.ndarray
    radius_um: np.ndarray
    hole_um: np.ndarray
    branch_um: np.ndarray
    uncovered: np.ndarray
    second: np.ndarray
    at_edge: np.ndarray
    worm: np.ndarray


def reasons(found: Measures, pixel_um: float) -> np.ndarray:
    """Return why a frame has no trustworthy centreline (t,); "" where it has.

    Medians are over the frames in which nothing is amiss by themselves: one piece, whole, without a hole. Widths, holes
    and branches are allowed a pixel more, by which an outline of a worm few pixels wide comes and goes.
    """
    radius = np.full(len(found.worm), np.nan)
    seen = np.isfinite(found.radius_um).any(axis=1)
    radius[seen] = np.nanmax(found.radius_um[seen], axis=1)
    usual = found.worm & ~found.at_edge & (found.second < SECOND_WORM) & np.isfinite(found.length_um)
    middle = float(np.median(radius[usual])) if usual.any() else np.nan
    deep = found.hole_um > DEEP_HOLE * middle + pixel_um
    usual &= ~deep
    tests = {
        LENGTH: _unlike(found.length_um, usual) | ~np.isfinite(found.length_um),
        BESIDE: found.uncovered > UNCOVERED,
        WIDTH: _thick(found.radius_um, usual, pixel_um),
        AREA: _unlike(found.area_um2, usual),
        BRANCH: found.branch_um > LONG_BRANCH * middle + pixel_um,
        HOLE: deep,
        AT_EDGE: found.at_edge,
        SEVERAL: found.second >= SECOND_WORM,
        NO_WORM: ~found.worm,
    }
    why = np.full(len(found.worm), "", dtype=object)
    for reason, amiss in tests.items():
        why[amiss] = reason
    return why


def _unlike(values: np.ndarray, usual: np.ndarray) -> np.ndarray:
    if not usual.any():
        return np.zeros(values.shape, bool)
    ratio = values / np.median(values[usual])
    return np.asarray((ratio < ALIKE[0]) | (ratio > ALIKE[1]))


def _thick(radius_um: np.ndarray, usual: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return where (t,) the body is thicker than it usually is, at the same place from either end, by much."""
    if not usual.any():
        return np.zeros(len(radius_um), bool)
    # The direction is not known yet: the thicker of the two ends stands for both.
    profile = np.median(radius_um[usual], axis=0)
    folded = np.maximum(profile, profile[::-1])
    allowed = THICK * np.maximum(folded, 0.3 * folded.max()) + pixel_um
    return np.asarray((np.nan_to_num(radius_um) > allowed).any(axis=1))
