"""What the noise of real images is made of: dark tiles, stripes, patterns and photon transfer.

Planes are (plane, y, x) float32 counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter, gaussian_filter1d, median_filter
from scipy.optimize import least_squares

STRIPE_LAGS = 96  # px
ROWS_APART = (2, 3, 4, 5, 6)
ROW_START_PX = 48  # in which a readout may settle
SHORT_LAGS = 4  # px, at which noise may be correlated otherwise than stripes are
INTERVAL_SD = 1.5  # of 1 to 2.5, the one that best gives back the percentiles of simulated recordings
SMOOTHING_PX = (1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 16.0)
FAINT_PX = 10.0
MOST_TAPS = 8  # of an interleaved readout


@dataclass(frozen=True)
class Stripes:
    """Noise that runs along rows: RMS in counts, length in px, and the covariance left at 1, 2, … px in counts²."""

    rms: float
    length_px: float
    short_covariance: np.ndarray
    standard_error: float  # of a covariance, counts²


@dataclass(frozen=True)
class Line:
    """``y = intercept + slope x`` with the standard error of the slope."""

    slope: float
    slope_error: float
    intercept: float


def tile_means(plane: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Return the means (rows, columns) of tiles, square by default; what is left over at the far edges is dropped."""
    width = height if width is None else width
    rows, columns = plane.shape[0] // height, plane.shape[1] // width
    cut = plane[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return np.asarray(cut.mean((1, 3), dtype=np.float64))


def dark_mask(planes: np.ndarray, size: int, fraction: float) -> np.ndarray:
    """Return where (plane, y, x) the darkest ``fraction`` of the square tiles of each plane lies, one at least.

    The even rows of a tile are taken where its odd rows are dark, and the other way round: noise, which is independent
    from row to row, does not choose itself.
    """
    mask = np.zeros(planes.shape, bool)
    for plane, chosen in zip(planes, mask, strict=True):
        for parity in (0, 1):
            means = tile_means(plane[parity::2], size // 2, size)
            for tile in np.argsort(means, axis=None)[: max(1, round(fraction * means.size))]:
                row, column = np.unravel_index(tile, means.shape)
                rows = chosen[row * size : (row + 1) * size]
                rows[1 - parity :: 2, column * size : (column + 1) * size] = True
    return mask


def clipped(planes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return planes minus the median of their dark pixels, clipped at 3 times the width of their lower half.

    The electrons of an EMCCD make up a third of the variance of its dark pixels and nothing of the stripes. Clipped
    pixels no longer follow what is added to all; planes are divided by the fraction of dark pixels that still do, so
    that covariances of weak additive noise keep their size (Price's theorem, first order).
    """
    result = np.empty_like(planes)
    for plane, dark, out in zip(planes, mask, result, strict=True):
        low, middle = np.quantile(plane[dark], (0.159, 0.5))
        least, most = -4 * (middle - low) - 1, 3 * (middle - low) + 1
        np.clip(plane - middle, least, most, out=out)
        out /= np.mean((out[dark] > least) & (out[dark] < most))
    return result


def stripe_covariance(planes: np.ndarray, mask: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance (lags + 1,) along x of noise that differs from row to row, and the number of pairs.

    It is the mean product of two pixels of a row minus that of pixels as far apart along x in rows 2 to 6 px apart:
    whatever the rows share, such as light, haze and the pattern of the columns, cancels.
    """
    length = int(2 ** np.ceil(np.log2(planes.shape[2] + lags)))
    same = np.zeros((2, length // 2 + 1))
    other = np.zeros((2, length // 2 + 1))
    for plane, dark in zip(planes, mask, strict=True):
        weight = dark.astype(np.float32)
        spectra = [np.fft.rfft(values, length, axis=1) for values in ((plane - plane[dark].mean()) * weight, weight)]
        for place, spectrum in enumerate(spectra):
            same[place] += (np.abs(spectrum) ** 2).sum(0)
            for rows in ROWS_APART:
                if rows < plane.shape[0]:
                    other[place] += (spectrum[rows:] * spectrum[:-rows].conj()).real.sum(0)
    (within, pairs), (between, others) = (np.fft.irfft(total)[:, : lags + 1] for total in (same, other))
    return within / np.maximum(pairs, 1) - between / np.maximum(others, 1), np.maximum(pairs, 1)


def fit_stripes(covariance: np.ndarray, pairs: np.ndarray) -> Stripes:
    """Return the exponential that a covariance along x (0 to n px) follows, and what is left of it at short lags.

    Least squares over all lags from 1 px on, each weighted by its pairs. Stripes below 3 standard errors are none.
    """
    lag = np.arange(len(covariance))
    error = float(covariance[0] / np.sqrt(pairs[1]))
    weight = np.sqrt(pairs[1:] / pairs[1])

    def miss(values: np.ndarray) -> np.ndarray:
        return np.asarray(weight * (values[0] * np.exp(-lag[1:] / values[1]) - covariance[1:]))

    near = max(float(covariance[1 : 2 * SHORT_LAGS + 1].mean()), 0.0)
    found = least_squares(miss, [near, 15.0], bounds=([0.0, 2.0], [np.inf, 4.0 * len(lag)]), x_scale=[1 + near, 10.0])
    power, length = (float(value) for value in found.x)
    # The amplitude is an average over about ``length`` lags, each as uncertain as one.
    if power < 3 * error / np.sqrt(min(length, len(lag))):
        power = 0.0
    short = covariance[1 : SHORT_LAGS + 1] - power * np.exp(-lag[1 : SHORT_LAGS + 1] / length)
    return Stripes(float(np.sqrt(power)), length, np.where(np.abs(short) > 4 * error, short, 0.0), error)


def column_taps(planes: np.ndarray) -> np.ndarray:
    """Return the counts (n,) that repeat every n columns, n at most 8, whatever column they start at; () if none.

    The columns of each plane are averaged, the slow part taken off, and folded. Planes are turned until they agree with
    their mean. A pattern below 5 standard errors is none.
    """
    columns = planes.shape[2] // MOST_TAPS * MOST_TAPS
    if columns < 4 * MOST_TAPS:
        return np.empty(0)
    profiles = planes[:, :, :columns].mean(1, dtype=np.float64)
    profiles -= gaussian_filter(profiles, (0, 1.5 * MOST_TAPS))
    folded = profiles.reshape(len(planes), -1, MOST_TAPS)
    error = float(np.sqrt(folded.var(1).mean() / folded.shape[1]))  # of one tap of one plane
    taps = folded.mean(1)
    taps -= taps.mean(1, keepdims=True)
    turns = np.arange(MOST_TAPS)
    reference = taps[np.argmax((taps**2).sum(1))]
    for _ in range(4):
        agreement = np.stack([np.roll(taps, turn, axis=1) @ reference for turn in turns])
        turned = np.stack([np.roll(tap, int(turn)) for tap, turn in zip(taps, agreement.argmax(0), strict=True)])
        reference = turned.mean(0)
    error /= np.sqrt(len(planes))
    power = float((reference**2).mean())
    # Planes that agree on nothing, or a power that few of them make up, are no pattern of the camera.
    if power < 25 * error**2 or power < 0.25 * float((taps**2).mean()):
        return np.empty(0)
    tolerance = max(5 * error, 0.1 * float(np.abs(reference).max()))
    for period in (2, 4):
        pattern = reference.reshape(-1, period).mean(0)
        if np.abs(np.tile(pattern, MOST_TAPS // period) - reference).max() < tolerance:
            return np.asarray(pattern)
    return np.asarray(reference)


def row_start(planes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the counts (n,) by which the first n columns, at most 48, differ from how the next ones go on; () if none.

    The dark pixels of each column are averaged over all planes; a line through the next 48 columns is taken off, and
    the rest smoothed over about 2 px. Columns below 5 standard errors are none.
    """
    if planes.shape[2] < 4 * ROW_START_PX:
        return np.empty(0)
    part = np.s_[:, :, : 2 * ROW_START_PX]
    count = mask[part].sum((0, 1))
    if count.min() < 200:
        return np.empty(0)
    values = np.where(mask[part], planes[part], 0)
    # Planes that are darker must not weigh more where they have more dark pixels.
    for plane, dark in zip(values, mask[part], strict=True):
        plane[dark] -= plane[dark].mean()
    profile = values.sum((0, 1), dtype=np.float64) / count
    error = float(np.sqrt((values**2).sum() / count.sum() / count.mean()))
    column = np.arange(len(profile))
    later = column >= ROW_START_PX
    profile -= np.polyval(np.polyfit(column[later], profile[later], 1), column)
    profile = gaussian_filter1d(profile, 1.0)[:ROW_START_PX]
    # Neighbouring columns share their stripes, so that the error of a smoothed column is that of one.
    significant = np.flatnonzero(np.abs(profile) > 5 * error)
    return profile[: significant[-1] + 1] if significant.size else np.empty(0)


def hot_pixels(planes: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where (y, x) a pixel is too bright in most planes, and where at least 4 planes can tell.

    Hot are pixels whose lower quartile over the planes where they are dark is above their neighbours' by 10 of its SD:
    one that is bright in a few planes has had electrons.
    """
    seen = mask.sum(0)
    usable = seen >= max(4, len(planes) // 2)
    if not usable.any():
        return usable, usable
    levels = np.stack([plane - np.median(plane[dark]) for plane, dark in zip(planes, mask, strict=True)])
    lower = np.zeros(usable.shape)
    ranked = np.sort(np.where(mask[:, usable], levels[:, usable], np.inf), axis=0)
    lower[usable] = np.take_along_axis(ranked, (seen[usable] - 1)[None] // 4, axis=0)[0]
    lower[~usable] = np.median(lower[usable])
    lower -= median_filter(lower, 3)
    spread = 1.4826 * float(np.median(np.abs(lower[usable])))
    return usable & (lower > 10 * spread), usable


def fixed_pattern(planes: np.ndarray, mask: np.ndarray) -> float:
    """Return the RMS in counts of the pixels' own offsets; 0 where it cannot be told from noise.

    From the covariance of dark pixels between planes, high-passed along both axes.
    """
    kernel = np.array([-1.0, 2.0, -1.0], np.float32) / np.sqrt(np.float32(6))
    rough = convolve1d(convolve1d(planes, kernel, axis=1), kernel, axis=2) * mask
    total, squares, count = rough.sum(0), (rough**2).sum(0), mask.sum(0).astype(float)
    pairs = float((count * (count - 1)).sum())
    if pairs < 1000:
        return 0.0
    error = float(squares.sum() / count.sum()) * np.sqrt(2 / pairs)
    variance = float((total**2 - squares).sum()) / pairs
    return float(np.sqrt(variance)) if variance > 3 * error else 0.0


def photon_transfer(planes: np.ndarray, dark: np.ndarray, threshold: float, size: int = 8) -> Line | None:
    """Return the variance of the noise over the mean above ``dark`` (plane,), or None where too little is bright.

    The noise of a tile is what a mixed second difference leaves (Immerkær, Comput. Vis. Image Underst. 64:300, 1996):
    no smooth structure, no columns, little of the stripes. Means of noisy tiles are uncertain, and with skewed noise go
    with their variance; therefore a tile's neighbour is the instrumental variable of the regression. Tiles whose
    neighbour is below ``threshold`` above dark are left out: there light is not what differs.
    """
    kernel = np.array([1.0, -2.0, 1.0], np.float32)
    rows = []
    for plane, level in zip(planes, dark, strict=True):
        rough = convolve1d(convolve1d(plane, kernel, axis=0), kernel, axis=1) / np.float32(6)
        mean, power = tile_means(plane - np.float32(level), size), tile_means(rough**2, size)
        pairs = mean.shape[1] // 2 * 2
        if pairs == 0:
            return None
        left, right = np.s_[:, 0:pairs:2], np.s_[:, 1:pairs:2]
        for here, beside in ((left, right), (right, left)):
            rows.append(np.stack([mean[beside].ravel(), mean[here].ravel(), power[here].ravel()]))
    instrument, mean, power = np.concatenate(rows, axis=1)
    bright = instrument > threshold
    if bright.sum() < 30:
        return None
    instrument, mean, power = instrument[bright], mean[bright], power[bright]
    return instrumental_line(instrument, mean, power)


def instrumental_line(instrument: np.ndarray, x: np.ndarray, y: np.ndarray) -> Line | None:
    """Return the line through points whose x is noisy, by an instrument that knows x but not its noise.

    ``slope = cov(instrument, y) / cov(instrument, x)``, weighted by the inverse of the residuals' mean square among
    points of similar instrument, since noise grows with light. None where the instrument says nothing about x.
    """
    similar = np.array_split(np.argsort(instrument), max(1, min(12, len(x) // 30)))
    weight = np.full(len(x), 1 / len(x))
    line = None
    for _ in range(4):
        offset = instrument - weight @ instrument
        lever = float(weight @ (offset * x))
        if lever <= 0:
            return None
        slope = float(weight @ (offset * y)) / lever
        intercept = float(weight @ y) - slope * float(weight @ x)
        rest = y - intercept - slope * x
        line = Line(slope, float(np.sqrt(((weight * offset * rest) ** 2).sum())) / lever, intercept)
        weight = np.empty_like(rest)
        for part in similar:
            weight[part] = 1 / max(float(np.mean(rest[part] ** 2)), 1e-12)
        weight /= weight.sum()
    return line


def noise_free(
    plane: np.ndarray, dark: float, slope: float, dark_variance: float, stripe_variance: float
) -> np.ndarray:
    """Return an estimate of the mean counts (y, x): averages as wide as the image allows.

    Gaussian averages of growing width are taken as long as their confidence intervals have a value in common
    (Katkovnik, IEEE Trans. Signal Process. 47:2567, 1999; intervals of INTERVAL_SD standard deviations). ``slope`` is
    the growth of the variance with the mean, ``dark_variance`` the variance of a dark pixel, and ``stripe_variance``
    the part of it that runs along rows.
    """
    pilot = gaussian_filter(plane, 3.0)
    variance = np.maximum(dark_variance + slope * np.maximum(pilot - dark, 0), 0.05 * dark_variance)
    chosen = plane
    low, high = np.full_like(plane, -np.inf), np.full_like(plane, np.inf)
    alive = np.ones(plane.shape, bool)
    for sigma in SMOOTHING_PX:
        smooth = gaussian_filter(plane, sigma)
        # A Gaussian average holds 4 pi sigma² independent pixels, and 2 sqrt(pi) sigma independent rows.
        around = np.sqrt((variance - stripe_variance) / (4 * np.pi * sigma**2) + stripe_variance / (3.54 * sigma))
        np.maximum(low, smooth - INTERVAL_SD * around, out=low)
        np.minimum(high, smooth + INTERVAL_SD * around, out=high)
        alive &= low <= high
        chosen = np.where(alive, smooth, chosen)
    return np.asarray(chosen)


def faint_parts(plane: np.ndarray, dark: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where (y, x) there is hardly more than in the ``dark`` pixels, and for there: mean counts and electrons.

    Faint is what an average of 5 px brings to less than 0.7 SD of the dark above it. Both results are averages of
    10 px over the faint pixels alone. Electrons are relative to those of the dark pixels: the tail of the histogram,
    what exceeds the median by three times the width of its lower half, is in proportion to them while they are well
    below 1, and hardly changes with the offset.
    """
    values = plane[dark]
    low, middle = np.quantile(values, (0.159, 0.5))
    faint = gaussian_filter(plane, 5.0) < values.mean() + 0.7 * values.std()
    tail = np.maximum(plane - (4 * middle - 3 * low), 0)
    share = np.maximum(gaussian_filter(faint.astype(np.float32), FAINT_PX), 1e-3)
    mean, electrons = (gaussian_filter(part * faint, FAINT_PX) / share for part in (plane, tail))
    return faint, mean, electrons / max(float(tail[dark].mean()), 1e-6)
