"""Smooth lines through points: splines with a penalty on how fast their bending changes.

Points are (n, 2) as (y, x) in µm, in order along the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.interpolate import BSpline

from niddl_xr.behaviour._kernels.spline import Line, equal_arcs

DEGREE = 5
COEFFICIENTS = 18  # knots a thirteenth of the line apart
PENALISED = 4  # derivative: about the second one of the bending. The second of the line would flatten bends by 7 %
# Bends of a fifth of the line are halved, of two fifths kept: 1 / (1 + strength (2 pi / part)^8).
USUAL_STRENGTH = 1e-12
STRENGTHS = 10.0 ** np.arange(-15.0, -5.75, 0.5)
LEAST_POINTS = 6
_FINE = 400


class Basis(NamedTuple):
    """B-splines on 0 to 1: knots, and the integral of products of their derivatives (coefficient, coefficient)."""

    knots: np.ndarray
    penalty: np.ndarray


@lru_cache(maxsize=1)
def _basis() -> Basis:
    inner = np.linspace(0, 1, COEFFICIENTS - DEGREE + 1)
    knots = np.concatenate([np.zeros(DEGREE), inner, np.ones(DEGREE)])
    fine = (np.arange(_FINE) + 0.5) / _FINE
    bends = BSpline(knots, np.eye(COEFFICIENTS), DEGREE)(fine, nu=PENALISED)
    return Basis(knots, bends.T @ bends / _FINE)


class Smoother:
    """Fits one set of points (n, 2), at the lengths of the chords between them, with penalties of any strength."""

    def __init__(self, points_um: np.ndarray) -> None:
        # About their mean: far from the origin digits would be lost.
        self._middle = points_um.mean(axis=0)
        self._points = points_um - self._middle
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_um, axis=0).T))])
        places = along / max(float(along[-1]), 1e-12)
        self._basis = BSpline.design_matrix(places, _basis().knots, DEGREE).toarray()
        self._normal = self._basis.T @ self._basis / len(places)
        self._moment = self._basis.T @ self._points / len(places)

    def _matrix(self, strength: float) -> np.ndarray:
        matrix = self._normal + strength * _basis().penalty
        # Without a point between two knots and a weak penalty it is singular up to rounding.
        return np.asarray(matrix + 1e-13 * np.trace(matrix) / COEFFICIENTS * np.eye(COEFFICIENTS))

    def _coefficients(self, strength: float) -> np.ndarray:
        return np.asarray(np.linalg.solve(self._matrix(strength), self._moment))

    def residuals(self, strength: float) -> np.ndarray:
        """Return how far the points lie from the line, (n, 2) in µm."""
        return np.asarray(self._basis @ self._coefficients(strength) - self._points)

    def freedom(self, strength: float) -> float:
        """Return the effective degrees of freedom of the fit."""
        return float(np.trace(np.linalg.solve(self._matrix(strength), self._normal)))

    def line(self, strength: float, count: int) -> Line:
        """Return ``count`` points at equal arcs, from the first point to the last."""
        spline = (_basis().knots, list(self._coefficients(strength).T), DEGREE)
        return equal_arcs(spline, count, self._middle)


def smooth_line(points_um: np.ndarray, smooth_um: float | None, count: int) -> Line | None:
    """Fit points (n, 2) and cut the line into ``count`` points; None where fewer than six differ from the one before.

    ``smooth_um`` is how far the points lie from the line, RMS; None smooths by the usual strength. The arc is measured
    on the smooth line: on the steps of pixels it is 3 to 8 % too long.
    """
    points = np.asarray(points_um, np.float64)
    points = points[np.concatenate([[True], np.any(np.diff(points, axis=0) != 0, axis=1)])]
    if len(points) < LEAST_POINTS:
        return None
    smoother = Smoother(points)
    return smoother.line(USUAL_STRENGTH if smooth_um is None else _strength_for(smoother, smooth_um), count)


def _strength_for(smoother: Smoother, smooth_um: float) -> float:
    """Return the strength at which the points lie ``smooth_um`` from the line, within that of all strengths."""
    off = [float(np.sqrt((smoother.residuals(float(strength)) ** 2).sum(axis=1).mean())) for strength in STRENGTHS]
    return float(10 ** np.interp(smooth_um, np.maximum.accumulate(off), np.log10(STRENGTHS)))


def choose_strength(frames: Sequence[np.ndarray], smooth_um: float | None) -> float:
    """Return the strength of the penalty for several sets of points (n, 2).

    By generalised cross-validation over all of them together (Craven & Wahba, Numer. Math. 31:377, 1979); or the one at
    which points lie ``smooth_um`` from the line, RMS, corrected for what the fit follows of their errors.
    """
    scores = np.zeros(len(STRENGTHS))
    for points in frames:
        smoother = Smoother(points)
        for number, strength in enumerate(STRENGTHS):
            left = max(1 - smoother.freedom(float(strength)) / len(points), 1e-6)
            mean_square = float((smoother.residuals(float(strength)) ** 2).sum(axis=1).mean())
            scores[number] += mean_square / (left**2 if smooth_um is None else left)
    scores /= max(len(frames), 1)
    if smooth_um is not None:
        scores = np.abs(np.sqrt(scores) - smooth_um)
    return float(STRENGTHS[int(np.argmin(scores))])
