"""Whether two images show the same scene, and how far they are shifted: correlation in the Fourier domain.

Frequencies are in cycles a pixel. Both images are weighted so that noise counts as little as can be: a frequency counts
by the share of its power that lies above the floor of the noise. What would be seen of two halves that belong together
(``expected``) stands beside what is seen, so that "too noisy to say" and "they do not belong together" differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from scipy.ndimage import uniform_filter

MOST_PX = 1024  # of larger planes, a window of this size is looked at
LEAST_PX = 16
_FINEST = 0.1  # frequencies above are weighted down: there is little of the scene in them, and much noise
_LONGEST_PX = 32.0  # longer waves are shading, haze, and what else differs between two exposures
_SHADING_PX = 41
_KEPT = 0.25  # highest frequency kept to compare stacks with each other
_FLOOR = (0.2, 0.3)  # where noise is read for the weights
_HIGH_FLOOR = (0.1, 0.16)  # the same for what must be seen: noise that cameras and software have smoothed is below
_BANDS = ((0.12, 0.2), (0.25, 0.35), (0.35, 0.5))  # where the noise of both halves is compared
_NOISELESS = 3e-4  # power of fine detail over that of coarse: a mean of 400 frames comes to 2.8e-4, 300 photons to 3e-4
_SCENE = 0.06  # below are the things of a scene rather than noise
_FEW_WAVES = 20
_AROUND_PX = 8
NEAR_PX = 4


@dataclass(frozen=True)
class Grid:
    """What depends on the size of a plane only."""

    ring: np.ndarray  # (y, x // 2 + 1) number of the ring of equal frequency
    frequency: np.ndarray  # (rings,)
    members: np.ndarray  # (rings,) how many waves a ring has, without stripes; both halves of the plane counted
    scene: np.ndarray  # (y, x // 2 + 1) 0 for waves along rows or columns, which stripes of a camera are made of
    window: np.ndarray  # (y, x) falls to 0 at the edges
    kept: tuple[np.ndarray, np.ndarray]  # rows and columns of low frequencies
    share: np.ndarray  # (kept) 2 where a wave stands for two


@dataclass(frozen=True)
class Half:
    """The spectra of the planes of one half, and their power by ring."""

    waves: list[np.ndarray]
    power: list[np.ndarray]


@dataclass(frozen=True)
class Fit:
    """How two halves fit. Scores are in units of what chance gives; a share is of what was expected.

    ``distinct`` is the highest peak over the second highest elsewhere, ``near`` the highest score within 4 px of no
    shift, ``beyond`` the score gained by the shift in units of its error.
    """

    shift_y_px: float
    shift_x_px: float
    score: float
    distinct: float
    near: float
    expected: float
    certain: float
    beyond: float
    gained: float

    @property
    def shift_px(self) -> float:
        """Length of the shift in px."""
        return float(np.hypot(self.shift_y_px, self.shift_x_px))


@lru_cache(maxsize=4)
def grid_of(shape: tuple[int, int]) -> Grid:
    """Return the grid of planes of a size (y, x)."""
    height, width = shape
    along_y, along_x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    longest = max(shape)
    ring = (np.hypot(along_y, along_x) * longest + 0.5).astype(np.intp)
    stands_for = np.full(ring.shape, 2.0)
    stands_for[:, 0] = 1
    if width % 2 == 0:
        stands_for[:, -1] = 1
    scene = ((np.abs(along_y) * height > 1.5) & (along_x * width > 1.5)).astype(np.float32)
    kept = (np.flatnonzero(np.abs(along_y[:, 0]) <= _KEPT), np.flatnonzero(along_x[0] <= _KEPT))
    return Grid(
        ring=ring,
        frequency=np.arange(ring.max() + 1) / longest,
        members=np.bincount(ring.ravel(), (stands_for * scene).ravel()),
        scene=scene,
        window=np.outer(_taper(height), _taper(width)),
        kept=kept,
        share=(stands_for * scene)[np.ix_(*kept)].astype(np.float32),
    )


def _taper(size: int) -> np.ndarray:
    length = max(2, size // 12)
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)
    values = np.ones(size, np.float32)
    values[:length], values[-length:] = edge, edge[::-1]
    return values


def choose_window(plane: np.ndarray) -> tuple[slice, slice]:
    """Return the part of a plane (y, x), of at most 1024 px a side, that varies most; whole planes up to there."""
    places = []
    for size in plane.shape:
        room = max(size - MOST_PX, 0)
        places.append([slice(start, start + min(size, MOST_PX)) for start in sorted({0, room // 2, room})])
    windows = [(rows, columns) for rows in places[0] for columns in places[1]]
    if len(windows) == 1:
        return windows[0]
    return max(windows, key=lambda window: float(np.nanstd(plane[window][::4, ::4].astype(np.float32))))


def half_of(planes: Sequence[np.ndarray]) -> Half:
    """Return the spectra of planes (y, x) of one size; NaN and infinity count as the median, extremes are clipped."""
    waves, power = [], []
    for plane in planes:
        grid = grid_of((plane.shape[0], plane.shape[1]))
        values = plane.astype(np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            values[~finite] = np.median(values[finite]) if finite.any() else 0
        low, high = np.percentile(values[::3, ::3], [0.1, 99.9])
        if high > low:
            np.clip(values, low, high, out=values)
        # Shading would meet the window, which is at the same place in both halves, and pull every shift towards 0.
        values -= uniform_filter(values, _SHADING_PX, mode="reflect")
        values -= values.mean(axis=0)  # stripes of the camera are the same in both halves, whatever they show
        values -= values.mean(axis=1, keepdims=True)
        wave = scipy.fft.rfft2(values * grid.window)
        total = np.bincount(grid.ring.ravel(), (wave.real**2 + wave.imag**2).ravel())
        mean = total / np.maximum(np.bincount(grid.ring.ravel()), 1)
        mean = np.convolve(np.pad(mean, 2, mode="edge"), [0.1, 0.2, 0.4, 0.2, 0.1], "valid")
        waves.append(wave)
        power.append(np.maximum(mean, 1e-12 * mean.max() + 1e-30))
    return Half(waves, power)


def compare_halves(first: Half, second: Half, shape: tuple[int, int]) -> Fit:
    """Return how the planes (y, x) of two halves fit, taken together: all share one shift.

    Parameters
    ----------
    first, second
        As many planes each, of size ``shape``.
    shape
        Size of a plane (y, x) in px.

    Returns
    -------
    Fit
        The shift is that of ``second`` with respect to ``first``, exact to about 0.1 px: a positive one says that its
        content lies further down or right.
    """
    grid, pixels = grid_of(shape), shape[0] * shape[1]
    spectrum = np.zeros(grid.ring.shape, np.complex64)
    by_chance = np.zeros(grid.frequency.size)
    expected = certain = 0.0
    for one, two, power, other in zip(first.waves, second.waves, first.power, second.power, strict=True):
        weight, here, surely = _weight(grid, power, other)
        expected += here
        certain += surely
        spectrum += np.conj(one) * two * (weight.astype(np.float32)[grid.ring] * grid.scene)
        by_chance += weight**2 * power * other
    surface = scipy.fft.irfft2(spectrum, shape) * pixels
    error = 1.4826 * float(np.median(np.abs(surface - np.median(surface))))
    error = max(error, 1e-3 * float(np.sqrt(len(first.waves))))
    y, x = np.unravel_index(int(np.argmax(surface)), shape)
    peak = float(surface[y, x])
    around = np.roll(surface, (_AROUND_PX - y, _AROUND_PX - x), (0, 1))
    width = 2 * _AROUND_PX + 1
    around[:width, :width] = -np.inf
    second_peak = float(around.max()) if min(shape) > width else peak
    shifts = [_signed(int(place), size) for place, size in zip((y, x), shape, strict=True)]
    likeness = _likeness(grid, by_chance, shifts)
    gained = peak - float(surface[0, 0])
    return Fit(
        shift_y_px=shifts[0] + _vertex(surface[[y - 1, y, (y + 1) % shape[0]], x]),
        shift_x_px=shifts[1] + _vertex(surface[y, [x - 1, x, (x + 1) % shape[1]]]),
        score=peak / error,
        distinct=peak / max(second_peak, 1e-3 * peak) if peak > 0 else 0.0,
        near=float(np.roll(surface, (NEAR_PX, NEAR_PX), (0, 1))[: 2 * NEAR_PX + 1, : 2 * NEAR_PX + 1].max()) / error,
        expected=expected / error,
        certain=certain / error,
        # Here the error is that of noise alone: what else makes a surface uneven is the scene, seen from elsewhere.
        beyond=gained / float(np.sqrt(len(first.waves) * max(2 * (1 - likeness), 1e-3))),
        gained=gained / peak if peak > 0 else 0.0,
    )


def _weight(grid: Grid, power: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return the weight of every ring, and the peak that halves of one scene would give; twice, the second safer.

    The weights are such that unrelated halves give a surface of standard deviation 1.
    """
    shares = _above(grid, power, _FLOOR), _above(grid, other, _FLOOR)
    safer = _above(grid, power, _HIGH_FLOOR) * _above(grid, other, _HIGH_FLOOR)
    frequency = grid.frequency
    band = np.exp(-0.5 * (frequency / _FINEST) ** 2) * (1 - np.exp(-0.5 * (frequency * _LONGEST_PX) ** 2))
    weight = band * np.sqrt(shares[0] * shares[1] + 1e-3) / (power * other) ** 0.25
    weight = weight / np.sqrt(max(float((weight**2 * power * other * grid.members).sum()), 1e-30))
    seen = weight * np.sqrt(power * other) * grid.members
    return weight, float((seen * np.sqrt(shares[0] * shares[1])).sum()), float((seen * np.sqrt(safer)).sum())


def _above(grid: Grid, power: np.ndarray, floor: tuple[float, float]) -> np.ndarray:
    """Return which share of the power of every ring lies above the mean of a band."""
    return np.clip(1 - _mean(grid, power, floor) / power, 0, 1)


def _mean(grid: Grid, power: np.ndarray, band: tuple[float, float]) -> float:
    inside = (grid.frequency >= band[0]) & (grid.frequency < band[1])
    return float(power[inside].mean())


def _likeness(grid: Grid, by_chance: np.ndarray, shifts: Sequence[int]) -> float:
    """Return the correlation of a surface of chance with itself, shifted: mean of the Bessel function over rings."""
    from scipy.special import j0

    weight = by_chance * grid.members
    distance = float(np.hypot(shifts[0], shifts[1]))
    return float((weight * j0(2 * np.pi * grid.frequency * distance)).sum() / max(float(weight.sum()), 1e-30))


def _signed(place: int, size: int) -> int:
    return place - size if place > size // 2 else place


def _vertex(values: np.ndarray) -> float:
    """Return where the parabola through three values, the middle one the highest, has its vertex."""
    left, middle, right = (float(value) for value in values)
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend


def noise_ratio(first: Half, second: Half, shape: tuple[int, int]) -> float:
    """Return how much noisier the second half is than the first: ratio of standard deviations at equal brightness.

    The smaller one of two bands of fine detail, where the power of noise stands over that of the coarse, which is
    the scene; 1 at most where a band of coarser detail says that the second half is not the noisier one, or where there
    is next to no noise in it: then the first half was smoothed, or is less sharp.
    """
    grid = grid_of(shape)
    coarse = (grid.frequency > 2 / max(shape)) & (grid.frequency < _SCENE)
    if grid.members[coarse].sum() < _FEW_WAVES:
        return 1.0  # planes so small have no coarse detail to compare with
    totals = []
    for half in (first, second):
        power = sum(half.power, np.zeros(grid.frequency.size))
        totals.append(power / max(float((power * grid.members)[coarse].sum()), 1e-30))
    middle, *fine = (_mean(grid, totals[1], band) / max(_mean(grid, totals[0], band), 1e-30) for band in _BANDS)
    ratio = min(fine)
    noiseless = _mean(grid, totals[1], _BANDS[-1]) * float(grid.members[coarse].sum()) < _NOISELESS
    return float(np.sqrt(min(ratio, 1.0) if middle < 1.1 or noiseless else ratio))


def noise_is_white(half: Half, shape: tuple[int, int]) -> bool:
    """Say whether fine detail has equal power at all frequencies, as the noise of a camera has before any filter."""
    grid = grid_of(shape)
    power = sum(half.power, np.zeros(grid.frequency.size))
    return _mean(grid, power, (0.12, 0.2)) < 1.4 * _mean(grid, power, (0.3, 0.45))


def is_uneven(half: Half, shape: tuple[int, int]) -> bool:
    """Say whether coarse detail is more uneven than noise, however smooth, can be: a scene has things and gaps."""
    grid = grid_of(shape)
    band = np.exp(-0.5 * (grid.frequency / _SCENE) ** 2) * (1 - np.exp(-0.5 * (grid.frequency * _LONGEST_PX) ** 2))
    edges = tuple(slice(max(2, size // 12), -max(2, size // 12)) for size in shape)
    excess = []
    for wave in half.waves:
        values = scipy.fft.irfft2(wave * (band.astype(np.float32)[grid.ring] * grid.scene), shape)[edges]
        values = (values - values.mean()).astype(np.float64)
        variance = float((values**2).mean())
        excess.append(float((values**4).mean()) / variance**2 - 3 if variance > 0 else 0.0)
    return float(np.mean(excess)) > 0.5


@dataclass(frozen=True)
class Sketch:
    """The low frequencies of one plane of both halves, kept to compare a stack with others."""

    noisy: np.ndarray
    clean: np.ndarray
    noisy_power: np.ndarray
    clean_power: np.ndarray
    shape: tuple[int, int]


def sketch(noisy: Half, clean: Half, shape: tuple[int, int]) -> Sketch:
    """Return the sketch of the plane of which most is to be seen."""
    grid = grid_of(shape)
    seen = [_weight(grid, one, two)[1] for one, two in zip(noisy.power, clean.power, strict=True)]
    best, kept = int(np.argmax(seen)), np.ix_(*grid.kept)
    return Sketch(
        noisy.waves[best][kept].astype(np.complex64),
        clean.waves[best][kept].astype(np.complex64),
        noisy.power[best],
        clean.power[best],
        shape,
    )


def agreement(noisy: Sketch, clean: Sketch) -> tuple[float, float]:
    """Return the share of the expected peak, and the score, of one stack's noisy with another's clean, not shifted."""
    grid = grid_of(noisy.shape)
    weight, expected, _ = _weight(grid, noisy.noisy_power, clean.clean_power)
    weights = weight.astype(np.float32)[grid.ring[np.ix_(*grid.kept)]] * grid.share
    score = float((weights * (np.conj(noisy.noisy) * clean.clean).real).sum())
    return (score / expected if expected > 0 else 0.0), score
