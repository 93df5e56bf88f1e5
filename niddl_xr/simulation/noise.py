"""The noise of real recordings: what camera made them, and how near the simulated one comes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from warnings import warn

import numpy as np
import xarray as xr
from scipy.ndimage import maximum_filter, median_filter

from niddl_xr import schema
from niddl_xr.chunking import sampled_planes
from niddl_xr.schema import NiddlError
from niddl_xr.simulation._checks import require_number, require_size
from niddl_xr.simulation._kernels import noise_baseline as baseline
from niddl_xr.simulation._kernels import noise_estimation as estimation
from niddl_xr.simulation._kernels.noise_histogram import DarkFit, fit_dark
from niddl_xr.simulation._kernels.noise_pairs import gain_between
from niddl_xr.simulation._kernels.noise_statistics import STATISTICS, plane_statistics
from niddl_xr.simulation._noise_sample import (
    DARK_FRACTION,
    dark_pixels,
    dark_tile_px,
    load_planes,
    raw_planes,
    require_plane,
    tile_px,
)
from niddl_xr.simulation.camera import LARGEST_COUNT, NIDDL_EMCCD, Camera

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LARGEST_COUNT", "NIDDL_EMCCD", "Camera", "compare", "fit", "fit_pairs", "statistics"]

_STRIPE_FRACTION = 0.35  # stripes may be looked for under a little light
_MOST_RATE = 0.5  # electrons in a dark pixel, above which they hide the offset
_LEAST_RATE = 0.002  # electrons in a dark pixel, below which no tail is to be seen


def fit(recording: xr.DataArray, *, excess_noise: float = 2.0, projected_planes: int = 1, planes: int = 32) -> Camera:
    """Estimate the camera of a recording from its images alone.

    Parameters
    ----------
    recording
        Recording (t, z, y, x) of raw counts, at least 32 x 32 px; of a lazy one the sampled planes are loaded.
    excess_noise
        Excess noise of the camera: 2 for an EMCCD at high gain, 1 for an sCMOS. Photon transfer gives its product with
        the gain, so that one of them must be known.
    projected_planes
        Number of exposures whose maximum an image is, 1 for images that are no maximum projections.
    planes
        Most planes that are looked at, evenly spread over t and z.

    Returns
    -------
    Camera
        All parameters of which the images show something significant; the others are neutral.

    Warns
    -----
    UserWarning
        Where the darkest tiles hold more than half an electron a pixel: light and offset are then hard to tell apart.

    Raises
    ------
    NiddlError
        For images that are no raw counts (fractions, NaN, negative), constant, too small, saturated or cut off at 0,
        and where nothing tells the gain: no light and no electrons in the dark.

    Notes
    -----
    Dark are the darkest 8 % of the square tiles of each plane. There:

    * offset, gain, width of the Gaussian noise and rate of electrons maximise the likelihood of the histogram, a
      Gaussian convolved with a Poisson number of Gamma-distributed electrons (an EMCCD's dark frame: Hirsch et al.,
      PLoS ONE 8:e53671, 2013), by its characteristic function; for projections, of the maximum of as many. Above
      excess noise 1 the exponential tail of single electrons gives the gain.
    * stripes are the covariance along x that pixels of one row have and those of rows 2 to 6 apart have not. For the
      maximum of n exposures it is n times as large in each, to first order.
    * offsets that change along x, along y and from plane to plane come from the histograms of 8 bands of columns and of
      rows (light has electrons, an offset has not; so only above excess noise 1), the settling at the start of rows
      from the means of the first columns, the wandering of the offset along y from the differences of row means.
    * a periodic column pattern comes from folded column means, whatever its phase in each plane. In a projection the
      exposures' phases, and their wandering along y, mix; neither is looked for.
    * the fixed pattern comes from the covariance of pixels between planes.

    Photon transfer, variance over mean above one to two dark SD, is a second measure of gain and enters the likelihood
    (not for projections, whose variance does not grow so). ``read_noise`` is what the width leaves after stripes and
    patterns. A light that is the same in all dark tiles cannot be told from spurious charge: what little
    there is counts as such (median over the planes). At excess noise 1 it cannot be told from the offset.

    Examples
    --------
    >>> from niddl_xr import simulate
    >>> truth = simulate.Camera(offset=300, gain=30, row_noise=0)
    >>> worm = {"shape": (2, 192, 256), "voxel_um": (9, 0.6, 0.6), "frames": 3, "neurons": 20, "photons": 9}
    >>> camera = fit(simulate.whole_brain(**worm, camera=truth)["recording"]["F"])
    >>> 290 < camera.offset < 310, 25 < camera.gain < 35
    (True, True)
    """
    excess_noise = require_number("excess_noise", excess_noise, 1.0)
    projected_planes = require_size("projected_planes", projected_planes, 1)
    if projected_planes > 1 and excess_noise == 1:
        raise NiddlError(
            "expected excess_noise above 1 for projections, got 1: without the tail of single electrons a maximum "
            "projection does not tell the gain; fit single planes, then set projected_planes= with dataclasses.replace"
        )
    sample = raw_planes(recording, planes)
    start = _row_start(sample)
    sample[:, :, : start.size] -= start.astype(np.float32)
    found, slope = _fit_dark(sample, excess_noise, projected_planes)
    columns, rows, offsets = np.empty(0), np.empty(0), found.offsets
    offset_drift, drift = 0.0, baseline.Drift(0.0, 1.0)
    faint = bool(np.median(found.rates) < _MOST_RATE)
    # Under light that stands still, structure looks like hot pixels.
    hot, hot_share, hot_counts = np.zeros(sample.shape[1:], bool), 0.0, 0.0
    if faint:
        hot, hot_share, hot_counts = _take_out_hot_pixels(sample)
    if not faint:
        warn(
            f"the darkest tiles hold {np.median(found.rates):.2g} electrons a pixel: the offset is uncertain, and "
            "shading is not looked for; give a recording with dark places",
            stacklevel=2,
        )
    if excess_noise > 1 and faint:
        columns = _column_shading(sample, found, projected_planes, excess_noise, slope)
        sample -= baseline.spread_evenly(columns, sample.shape[2])
        offsets = baseline.band_offsets(sample, excess_noise, projected_planes, slope, of_columns=False)
        rows = _significant(offsets.mean(0), found.sigma, offsets.std(0).mean() / np.sqrt(len(offsets)))
        offset_drift = float(offsets.mean(1).std(ddof=1)) if len(offsets) > 1 else 0.0
        if projected_planes == 1:
            drift = _row_drift(sample)
        sample -= _baselines(offsets, float(offsets.mean()), sample.shape[1])
        found, slope = _fit_dark(sample, excess_noise, projected_planes, brighter_sd=1.0)
    # The darkest tiles are those where the offset happens to be lowest; the bands are from the whole plane.
    offset = offsets.mean()
    if slope is None and (excess_noise == 1 or np.median(found.rates) < _LEAST_RATE):
        raise NiddlError(
            "expected some light, or the tail of single electrons in the dark, to tell the gain by, got neither: give "
            "a recording with something bright, or with more planes="
        )

    size = tile_px(sample)
    dark, wide = dark_pixels(sample, size), estimation.dark_mask(sample, max(8, size // 2), _STRIPE_FRACTION)
    clipped = estimation.clipped(sample, dark)
    lags = min(estimation.STRIPE_LAGS, sample.shape[2] // 2)
    stripes = estimation.fit_stripes(*estimation.stripe_covariance(clipped, wide, lags))
    taps = estimation.column_taps(clipped) if projected_planes == 1 else np.empty(0)
    fixed = estimation.fixed_pattern(clipped, wide & ~maximum_filter(hot, 3))
    row_power = projected_planes * stripes.rms**2
    taps_power = float(np.mean(taps**2)) if taps.size else 0.0
    # Rounding to whole counts adds 1/12, which the likelihood knows of.
    drift_power = projected_planes * drift.rms**2
    left = 1 - baseline.variance_of_means(drift.length_px, sample.shape[1] / baseline.BANDS)
    rest = found.sigma**2 - row_power - taps_power - fixed**2 - left * drift_power
    read_power = max(rest, 0.05 * found.sigma**2)
    short = projected_planes * stripes.short_covariance / read_power
    if np.abs(short).sum() > 0.5:
        short *= 0.5 / np.abs(short).sum()
    return Camera(
        offset=max(float(offset), 0.0),
        gain=found.gain,
        read_noise=float(np.sqrt(read_power)),
        excess_noise=excess_noise,
        row_noise=float(np.sqrt(row_power)),
        row_length_px=stripes.length_px if stripes.rms else Camera.row_length_px,
        spurious_charge=float(np.median(found.rates)),
        read_correlation=tuple(np.trim_zeros(short, "b").tolist()),
        column_pattern=tuple(taps.tolist()),
        row_start=tuple(start.tolist()),
        column_shading=tuple(columns.tolist()),
        row_shading=tuple(rows.tolist()),
        offset_drift=offset_drift,
        row_drift=float(np.sqrt(drift_power)),
        row_drift_px=drift.length_px if drift.rms else Camera.row_drift_px,
        fixed_pattern=fixed,
        hot_pixels=hot_share,
        hot_counts=hot_counts,
        projected_planes=projected_planes,
    )


def fit_pairs(pairs: xr.Dataset) -> xr.Dataset:
    """Estimate, stack by stack, how the clean images of pairs relate to the noisy ones.

    Parameters
    ----------
    pairs
        Pairs with ``noisy`` and ``clean`` (stack, z, y, x), in counts; one stack at a time is loaded, at most 32 of its
        planes.

    Returns
    -------
    xarray.Dataset
        Over ``stack``: ``clean_gain`` (counts of the clean image over counts of the noisy one, both above their
        background), its standard error ``clean_gain_error``, ``noisy_offset`` and ``clean_offset`` (mean counts of the
        darkest 8 % of the tiles), ``noisy_dark_sd`` and ``clean_dark_sd`` (counts, in the same pixels). The gain is
        NaN for a stack without structure to tell it by.

    Raises
    ------
    NiddlError
        For anything but pairs, and for planes under 32 x 32 px.

    Notes
    -----
    The gain is the slope of the clean over the noisy means of 8 x 8 px tiles, where the clean image of the neighbouring
    tile is the instrumental variable: errors in both images do not bias it. Light that is in one of the images alone
    and is not proportional to the structure adds to the offset where it is smooth, and biases the gain where it
    is not.

    Examples
    --------
    >>> from niddl_xr import simulate
    >>> pairs = simulate.training_pairs(stacks=2, shape=(3, 96, 96), clean_gain=(3, 3), stray_photons=0)
    >>> bool(abs(fit_pairs(pairs)["clean_gain"] - 3).max() < 0.3)
    True
    """
    schema.require_pairs(pairs)
    require_plane(pairs["noisy"])
    rows = []
    for stack in range(pairs.sizes["stack"]):
        chosen = [z for _, z in sampled_planes(1, pairs.sizes["z"], 32)]
        noisy, clean = (
            pairs[name].isel(stack=stack, z=chosen).values.astype(np.float32) for name in ("noisy", "clean")
        )
        dark = estimation.dark_mask(noisy + clean, tile_px(noisy), DARK_FRACTION)
        gain, error = gain_between(noisy, clean)
        rows.append((gain, error, noisy[dark].mean(), clean[dark].mean(), noisy[dark].std(), clean[dark].std()))
    names = ("clean_gain", "clean_gain_error", "noisy_offset", "clean_offset", "noisy_dark_sd", "clean_dark_sd")
    columns = {
        name: ("stack", np.array(column, float), {"units": "1" if name.startswith("clean_gain") else "counts"})
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    return schema.with_history(xr.Dataset(columns, coords={"stack": pairs["stack"]}), "simulate.noise.fit_pairs", {})


def statistics(recording: xr.DataArray, *, dark_px: int = 64, planes: int = 32) -> pd.Series:
    """Measure the noise of a recording as the eye sees it: in the dark, and in the brightest pixels.

    Parameters
    ----------
    recording
        Recording (t, z, y, x) in counts, at least 32 x 32 px; of a lazy one the sampled planes are loaded.
    dark_px
        Edge of the square tile that is taken as dark, the one of the lowest mean in each plane; smaller in planes
        that do not hold four of them.
    planes
        Most planes that are looked at, evenly spread over t and z.

    Returns
    -------
    pandas.Series
        Means over the planes. Of the dark tile: ``dark_mean``, ``dark_sd`` and ``row_mean_sd`` (SD of the means of its
        rows) in counts, ``correlation_x_1`` to ``_3`` and ``correlation_y_1`` to ``_3`` (autocorrelation at 1 to 3
        px), ``skewness``. Of the whole plane: ``percentile_99``, ``percentile_99.9`` and ``percentile_99.99`` in
        counts. No detrending; NaN in a recording that is constant in the dark.

    Raises
    ------
    NiddlError
        For anything but a recording, and for planes under 32 x 32 px.

    Examples
    --------
    >>> from niddl_xr import simulate
    >>> dark = simulate.whole_brain(shape=(2, 64, 80), frames=2, neurons=2, photons=1)["recording"]["F"]
    >>> bool(0.1 < statistics(dark)["correlation_x_1"] < 0.4)
    True
    """
    import pandas as pd

    schema.require_recording(recording)
    require_plane(recording)
    sample = load_planes(recording, require_size("planes", planes, 1))
    rows = [plane_statistics(plane, dark_tile_px(sample, dark_px)) for plane in sample]
    return pd.Series(np.mean(rows, axis=0), index=list(STATISTICS), name="statistics")


def compare(
    recording: xr.DataArray, camera: Camera, *, seed: int = 0, dark_px: int = 64, planes: int = 32
) -> pd.DataFrame:
    """Compare the noise of a recording with that of a camera which looks at the same scene.

    Parameters
    ----------
    recording
        Recording (t, z, y, x) of raw counts.
    camera
        The camera that is judged, such as :func:`fit` finds.
    seed
        Whole number ≥ 0; the same seed gives the same noise.
    dark_px, planes
        As in :func:`statistics`.

    Returns
    -------
    pandas.DataFrame
        One row a statistic (see :func:`statistics`) with ``real``, ``simulated`` and their ``ratio``, simulated over
        real.

    Raises
    ------
    NiddlError
        As :func:`fit` for images that are no raw counts.

    Notes
    -----
    The scene is estimated plane by plane with averages as wide as the image allows (intersection of confidence
    intervals), so that little noise stays in it and gets noise once more. Where nothing is to be seen, above excess
    noise 1, the tail of single electrons tells how much of it is light; the rest is left in the simulated image as an
    uneven offset. If the camera's offset drifts, the baseline of each plane is brought to the camera's offset.

    Examples
    --------
    >>> from niddl_xr import simulate
    >>> worm = {"shape": (2, 192, 256), "voxel_um": (9, 0.6, 0.6), "frames": 3, "neurons": 20, "photons": 9}
    >>> recording = simulate.whole_brain(**worm)["recording"]["F"]
    >>> compare(recording, simulate.Camera())["ratio"].loc["dark_sd"].round(1).item()
    1.0
    """
    import pandas as pd

    seed = require_size("seed", seed, 0)
    sample = raw_planes(recording, planes)
    tile = dark_tile_px(sample, dark_px)
    even = sample - camera.uneven_offset(sample.shape[1:])
    if camera.offset_drift and camera.excess_noise > 1:
        slope_known = (camera.gain * camera.excess_noise, 0.02 * camera.gain * camera.excess_noise)
        offsets = baseline.band_offsets(
            even, camera.excess_noise, camera.projected_planes, slope_known, of_columns=False
        )
        even -= _baselines(offsets, camera.offset, sample.shape[1])
    dark = dark_pixels(even, tile_px(sample))
    level = np.array([plane[mask].mean() for plane, mask in zip(even, dark, strict=True)])
    spread = float(np.mean([plane[mask].var() for plane, mask in zip(even, dark, strict=True)]))
    line = estimation.photon_transfer(even, level, 2 * np.sqrt(spread))
    slope = camera.gain * camera.excess_noise if line is None else max(line.slope, 0.0)
    stripes = min(camera.row_noise**2 / camera.projected_planes, 0.8 * spread)
    rows = []
    for index, (plane, flat, mask, darkness) in enumerate(zip(sample, even, dark, level, strict=True)):
        scene = estimation.noise_free(flat, float(darkness), slope, spread, stripes)
        faint, average, electrons = estimation.faint_parts(flat, mask)
        scene = np.where(faint, average, scene)
        photons = camera.photons(scene)
        if camera.excess_noise > 1:
            # Where hardly anything is to be seen, electrons tell what is light; the rest is an uneven offset.
            dark_electrons = camera.spurious_charge + max(float(camera.photons(level.mean())), 0.0)
            photons = np.where(faint, dark_electrons * electrons - camera.spurious_charge, photons)
        image = camera.acquire(photons[None], np.random.default_rng([seed, index]))[0]
        image = image + (scene - camera.expected(photons))
        rows.append((plane_statistics(plane, tile), plane_statistics(image, tile)))
    real, simulated = np.mean(rows, axis=0)
    return pd.DataFrame({"real": real, "simulated": simulated, "ratio": simulated / real}, index=list(STATISTICS))


def _significant(levels: np.ndarray, sigma: float, error: float) -> np.ndarray:
    """Return the shading (9,), mean about 0, of levels (8,) of bands; () where they differ by chance or by little."""
    levels = levels - levels.mean()
    return baseline.points_from_bands(levels) if levels.std() > max(0.03 * sigma, 2 * error) else np.empty(0)


def _row_drift(sample: np.ndarray) -> baseline.Drift:
    size = tile_px(sample)
    dark = dark_pixels(sample, size)
    return baseline.fit_drift(estimation.clipped(sample, dark), dark, size)


def _baselines(offsets: np.ndarray, level: float, rows: int) -> np.ndarray:
    """Return the baseline (plane, y, 1) of each plane, less ``level``, from the offsets (plane, 8) of bands."""
    points = baseline.points_from_bands(offsets - level)
    return np.stack([baseline.spread_evenly(plane, rows) for plane in points])[:, :, None]


def _column_shading(
    sample: np.ndarray, found: DarkFit, projected_planes: int, excess_noise: float, slope: tuple[float, float] | None
) -> np.ndarray:
    even = sample - (found.offsets - found.offsets.mean())[:, None, None].astype(np.float32)
    levels = baseline.band_offsets(even, excess_noise, projected_planes, slope, of_columns=True)[0]
    # Stripes make about as many as ten pixels one.
    return _significant(levels, found.sigma, 2 * found.sigma * np.sqrt(10 / (0.4 * sample.size / baseline.BANDS)))


def _take_out_hot_pixels(sample: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return hot pixels (y, x), their share and mean excess in counts; ``sample`` gets their neighbours' median."""
    dark = estimation.dark_mask(sample, max(8, tile_px(sample) // 2), _STRIPE_FRACTION)
    hot, usable = estimation.hot_pixels(sample, dark)
    if not hot.any():
        return hot, 0.0, 0.0
    excess = float(np.median(sample, axis=0)[hot].mean() - np.median(sample[dark]))
    for plane in sample:
        plane[hot] = median_filter(plane, 3)[hot]
    return hot, float(hot.sum() / usable.sum()), excess


def _row_start(sample: np.ndarray) -> np.ndarray:
    size = tile_px(sample)
    clipped = estimation.clipped(sample, dark_pixels(sample, size))
    return estimation.row_start(clipped, estimation.dark_mask(sample, max(8, size // 2), _STRIPE_FRACTION))


def _fit_dark(
    sample: np.ndarray, excess_noise: float, projected_planes: int, brighter_sd: float = 2.0
) -> tuple[DarkFit, tuple[float, float] | None]:
    """Return what the dark pixels tell, and gain times excess noise with its error from photon transfer, if it can.

    Photon transfer looks at tiles that are ``brighter_sd`` times the dark SD brighter than the dark: fewer suffice when
    the offset is even.
    """
    dark = dark_pixels(sample, tile_px(sample))
    dark_planes = [plane[mask] for plane, mask in zip(sample, dark, strict=True)]
    slope = None
    if projected_planes == 1:
        level = np.array([values.mean() for values in dark_planes])
        spread = float(np.sqrt(np.mean([values.var() for values in dark_planes])))
        line = estimation.photon_transfer(sample, level, brighter_sd * spread)
        if line is not None and line.slope > 3 * line.slope_error:
            # What a model of one line leaves aside, such as structure, is worth about 2 %.
            slope = (line.slope, float(np.hypot(line.slope_error, 0.02 * line.slope)))
    return fit_dark(dark_planes, excess_noise, projected_planes, slope), slope
