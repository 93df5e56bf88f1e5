"""How well the lag of the strongest correlation is known: blocks of time drawn anew."""

from __future__ import annotations

import numpy as np

LEAST_BLOCKS = 5


def lag_interval(
    first: np.ndarray,
    second: np.ndarray,
    lags: np.ndarray,
    block: int,
    draws: int,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return between which lags, in frames, the strongest correlation lies.

    ``first(t)`` and ``second(t + lag)`` (frame,), standardised, with NaN for gaps; ``lags`` (lag,) whole and
    consecutive. Blocks of ``block`` frames are drawn with replacement ``draws`` times; both ends NaN for fewer than
    LEAST_BLOCKS of them that hold pairs.
    """
    sums = _block_sums(first, second, lags, block)
    sums = sums[sums[:, 0].max(axis=-1) > 0]
    blocks = len(sums)
    if blocks < LEAST_BLOCKS:
        return float("nan"), float("nan")
    times = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(float)
    total = (times @ sums.reshape(blocks, -1)).reshape(draws, *sums.shape[1:])
    pairs, a, b, aa, bb, ab = np.moveaxis(total, 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = ab / pairs - a * b / pairs**2
        r = covariance / np.sqrt((aa / pairs - (a / pairs) ** 2) * (bb / pairs - (b / pairs) ** 2))
    strength = np.abs(np.where(np.isfinite(r), r, 0.0))
    best = strength.argmax(axis=-1)
    found = lags[best] + _between(strength, best)
    edge = (1 - confidence) / 2
    low, high = np.quantile(found, [edge, 1 - edge])
    return float(low), float(high)


def _block_sums(first: np.ndarray, second: np.ndarray, lags: np.ndarray, block: int) -> np.ndarray:
    """Return sums (block, 6, lag) of pairs, both signals, their squares and their product."""
    frames = first.size
    padded = np.full(frames + 2 * int(np.abs(lags).max(initial=0)), np.nan)
    start = (padded.size - frames) // 2
    padded[start : start + frames] = second
    other = np.lib.stride_tricks.sliding_window_view(padded, frames)[start + lags]
    paired = np.isfinite(first) & np.isfinite(other)
    one, two = np.where(paired, first, 0.0), np.where(paired, other, 0.0)
    starts = np.arange(0, frames, block)
    parts = (paired.astype(float), one, two, one**2, two**2, one * two)
    return np.stack([np.add.reduceat(part, starts, axis=-1).T for part in parts], axis=1)


def _between(strength: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return how far from lag ``best`` (draw,) the peak of a parabola lies; 0 at the ends."""
    draws = np.arange(len(best))
    inner = np.clip(best, 1, max(strength.shape[1] - 2, 1))
    if strength.shape[1] < 3:
        return np.zeros(len(best))
    before, here, after = (strength[draws, inner + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = 0.5 * (before - after) / bend
    return np.where((inner == best) & (bend < 0), shift, 0.0)
