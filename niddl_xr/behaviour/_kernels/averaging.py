"""Signals sampled at some times, seen at others: averages over intervals, never the nearest sample."""

from __future__ import annotations

import numpy as np

LEAST_COVERED = 0.5  # of an interval that must be known
GAP_INTERVALS = 1.5  # a step between samples longer than this many median steps is a gap


def interval_means(times_s: np.ndarray, values: np.ndarray, centres_s: np.ndarray, width_s: float) -> np.ndarray:
    """Return means (..., interval) of a signal over intervals of ``width_s`` around ``centres_s`` (interval,).

    The signal is the straight lines between samples ``values`` (..., frame) at rising ``times_s`` (frame,). Lines that
    touch a NaN or span a gap are unknown; so is an interval of which less than half is known.
    """
    steps = np.diff(times_s)
    gap = steps > GAP_INTERVALS * np.median(steps)
    whole = np.isfinite(values[..., 1:]) & np.isfinite(values[..., :-1]) & ~gap
    first = np.where(whole, values[..., :-1], 0.0)
    slope = np.where(whole, values[..., 1:] - values[..., :-1], 0.0) / steps
    start = np.zeros((*values.shape[:-1], 1))
    area = np.concatenate([start, np.cumsum((first + slope * steps / 2) * steps, axis=-1)], axis=-1)
    covered = np.concatenate([start, np.cumsum(whole * steps, axis=-1)], axis=-1)

    def until(moments_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moments_s = np.clip(moments_s, times_s[0], times_s[-1])
        line = np.clip(np.searchsorted(times_s, moments_s, side="right") - 1, 0, steps.size - 1)
        into = moments_s - times_s[line]
        integral = area[..., line] + first[..., line] * into + slope[..., line] * into**2 / 2
        return integral, covered[..., line] + whole[..., line] * into

    (area_to, covered_to), (area_from, covered_from) = (until(centres_s + side * width_s / 2) for side in (1, -1))
    known_s = covered_to - covered_from
    usable = known_s >= LEAST_COVERED * width_s * (1 - 1e-9)
    return np.where(usable, (area_to - area_from) / np.where(usable, known_s, 1.0), np.nan)


def bin_means(times_s: np.ndarray, values: np.ndarray, start_s: float, interval_s: float, bins: int) -> np.ndarray:
    """Return means (..., bin) of the samples ``values`` (..., frame) nearest to each of ``bins`` times; NaN if none."""
    place = np.clip(np.rint((times_s - start_s) / interval_s).astype(int), 0, bins - 1)
    flat = values.reshape(-1, values.shape[-1])
    means = np.full((len(flat), bins), np.nan)
    for row, signal in zip(means, flat, strict=True):
        known = np.isfinite(signal)
        count = np.bincount(place[known], minlength=bins)
        total = np.bincount(place[known], weights=signal[known], minlength=bins)
        row[count > 0] = total[count > 0] / count[count > 0]
    return means.reshape(*values.shape[:-1], bins)
