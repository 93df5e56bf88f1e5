"""What chance gives, by the several ways to break the relation of two signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from niddl_xr.behaviour._kernels.correlation import shifted_correlation, studentised
from niddl_xr.behaviour._kernels.nulls import (
    LEAST_SHARE,
    phase_surrogates,
    shift_draws,
    strongest,
)
from niddl_xr.schema import NiddlError

Null = Literal["linear_shift", "circular", "cross_session", "phase"]
FARTHEST_SHARE = 2 / 3  # of the recording: the largest linear shift
APART_S = 8.0  # between the lags that are searched and those of the nearest shift
CIRCULAR_APART_S = 20.0
LEAST_OTHERS = 20  # recordings for the null across sessions
FFT_BATCH = 32  # surrogates at once


@dataclass(frozen=True)
class Chance:
    """Draws of the strongest correlation by chance, studentised, and how many independent ones they are worth.

    ``deviation`` is the SD of single studentised correlations: 1 for independent frames.
    """

    draws: np.ndarray
    independent: float
    deviation: float


@dataclass(frozen=True)
class Search:
    """Which lags are searched (frames), how many draws of chance are taken, and the interval of frames in s."""

    first: int
    last: int
    draws: int
    interval_s: float

    @property
    def reach(self) -> int:
        """The lag farthest from 0, in frames."""
        return max(abs(self.first), abs(self.last))

    def apart(self, seconds: float) -> int:
        """Return the smallest shift in frames whose lags are ``seconds`` from those that are searched."""
        return self.last - self.first + int(np.ceil(seconds / self.interval_s))


def require_null(null: str) -> None:
    """Raise for the name of no null."""
    if null not in get_args(Null):
        raise NiddlError(f"expected null as one of {', '.join(get_args(Null))}, got {null!r}")


def linear_shift(first: np.ndarray, second: np.ndarray, search: Search) -> Chance:
    """Return chance by shifting ``second`` (..., frame) against ``first`` (frame,), with the overlap that is left.

    Leading dims of ``second`` are searched as lags are.
    """
    most = int(FARTHEST_SHARE * first.size)
    return _by_shifts(first, second, search, search.apart(APART_S), most, circular=False)


def circular_shift(first: np.ndarray, second: np.ndarray, search: Search) -> Chance:
    """Return chance by shifting ``second`` whose end is joined to its beginning."""
    least = max(search.apart(0.0), int(np.ceil(CIRCULAR_APART_S / search.interval_s)))
    return _by_shifts(first, second, search, least, first.size // 2, circular=True)


def _by_shifts(
    first: np.ndarray, second: np.ndarray, search: Search, least: int, most: int, *, circular: bool
) -> Chance:
    reach = most + search.reach
    r, pairs = shifted_correlation(first, np.atleast_2d(second), reach, circular=circular)
    z = studentised(r, pairs)
    maxima = strongest(z, search.first, search.last)
    known = np.isfinite(maxima).any(axis=0)
    over_all = np.where(known, np.where(np.isfinite(maxima), maxima, -1.0).max(axis=0), np.nan)
    draws, independent = shift_draws(over_all, pairs.max(axis=0), reach, least, most, search.draws)
    far = np.abs(np.arange(-reach, reach + 1)) >= least
    return Chance(draws, independent, _deviation(z[:, far]))


def phase(first: np.ndarray, second: np.ndarray, search: Search, rng: np.random.Generator) -> Chance:
    """Return chance by giving ``second`` (frame,) random phases."""
    surrogates = phase_surrogates(second, search.draws, rng)
    parts = []
    for start in range(0, search.draws, FFT_BATCH):
        r, pairs = shifted_correlation(first, surrogates[start : start + FFT_BATCH], search.reach)
        parts.append(studentised(r, pairs))
    return _of_draws(np.concatenate(parts), search)


def cross_session(first: np.ndarray, others: list[np.ndarray], search: Search) -> Chance:
    """Return chance by the behaviour (frame,) of ``others``, each beginning with ``first``."""
    known = np.isfinite(first).sum()
    parts = []
    for other in others:
        frames = min(first.size, other.size)
        r, pairs = shifted_correlation(first[:frames], other[:frames], search.reach)
        parts.append(np.where(pairs >= LEAST_SHARE * known, studentised(r, pairs), np.nan))
    return _of_draws(np.stack(parts), search)


def _of_draws(z: np.ndarray, search: Search) -> Chance:
    """Return the chance of independent draws ``z`` (draw, lag), lags from -reach to reach."""
    searched = z[:, search.reach + search.first : search.reach + search.last + 1]
    usable = np.isfinite(searched).any(axis=1)
    draws = np.abs(np.where(np.isfinite(searched[usable]), searched[usable], 0.0)).max(axis=1, initial=0.0)
    return Chance(draws, float(draws.size), _deviation(searched))


def _deviation(z: np.ndarray) -> float:
    known = z[np.isfinite(z)]
    return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")
