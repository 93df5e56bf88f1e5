"""How much signal stands above the noise of a recording, without any truth."""

from __future__ import annotations

from numbers import Real
from typing import Literal
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.chunking import sampled_planes
from niddl_xr.metrics import _measures as kernels
from niddl_xr.metrics._checks import evenly_spread, saturation_counts
from niddl_xr.metrics.photon_transfer import NoiseModel, noise_between, noise_of_planes
from niddl_xr.schema import NiddlError, require_recording

FOREGROUND_FRACTION = 0.01
TRANSFER_PLANES = 16
_CAMERA_ATTRS = ("gain_counts_per_photon", "excess_noise", "offset_counts", "read_noise_counts")


def snr(
    recording: xr.DataArray,
    *,
    per: Literal["frame", "plane"] = "frame",
    foreground_fraction: float = FOREGROUND_FRACTION,
    saturation: float | None = None,
    max_frames: int | None = 64,
) -> xr.Dataset:
    """Measure signal to noise of a recording, without any truth.

    ``snr_dB = 20 log10((foreground - background) / noise_sd)``, where the background is the median, ``noise_sd`` is
    1.4826 times the median absolute deviation, and the foreground is the mean of the brightest pixels. So most of the
    field has to be background: where the sample fills it, its own structure counts as noise. Noise alone has
    brightest pixels too: pure Gaussian noise scores 8.5 dB. A denoised image has hardly any noise left in its
    background: compare the SNR of raw recordings, not that of methods.

    ``photon_snr_dB`` puts the noise of the bright pixels themselves in the place of the background's, which the
    shot noise of the light makes larger: ``20 log10((foreground - background) / sd(foreground))``, where
    ``sd(level)² = slope level + intercept``. It says how well the brightness of a cell is known from one pixel.

    Parameters
    ----------
    recording
        (t, z, y, x). Where its attrs hold ``gain_counts_per_photon``, ``excess_noise``, ``offset_counts`` and
        ``read_noise_counts``, all four, the line of the noise is theirs: slope gain times excess noise, variance
        read noise² at the offset. Else it is measured in the recording (photon transfer), see Notes.
    per
        Take the brightest pixels of each frame (volume), or of each plane.
    foreground_fraction
        Part of the pixels that count as foreground: the brightest 1 %, at least one pixel.
    saturation
        Counts from which a pixel is saturated; None: the largest value of an integer dtype, and never for floating
        point. Set 4095 for a 12-bit camera.
    max_frames
        Measure so many frames, spread evenly over the recording; None for all.

    Returns
    -------
    xarray.Dataset
        Each (t,) or (t, z), float64, of the frames measured: ``snr_dB``, ``foreground``, ``background``, ``noise_sd``
        (in the unit of the recording), ``saturated`` (part of the pixels), ``photon_snr_dB``, and
        ``effective_photons``, (foreground - background) / slope: the photons of a pixel, divided by the excess noise
        (an EMCCD at high gain has detected twice as many).

        ``snr_dB`` is NaN where there is no noise to measure (more than half of the pixels equal, so also a constant
        image); the two of the photons are NaN where no shot noise is seen (slope 0), so in a constant image, or one
        without any light. Pixels that are not finite are left out. Summarise with ``.median()``. The attrs of
        ``photon_snr_dB`` say where its noise comes from: ``noise_from`` ("attrs", "consecutive frames", "single
        planes"), ``noise_slope_counts`` and ``noise_intercept_counts2``.

    Raises
    ------
    NiddlError
        Where ``recording`` is none, and for arguments out of range.

    Warns
    -----
    UserWarning
        Where pixels are saturated: their counts are not proportional to light.

    Notes
    -----
    Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022) ask for an image SNR of about 20 without giving its formula;
    this one gives 12 to 35 dB on their planes.

    Photon transfer (Janesick, *Photon Transfer*, SPIE 2007): the variance of the finest detail of the image, (1, -2, 1)
    along both sides, against the level of the same pixels, in the differences of up to 16 pairs of consecutive frames,
    a plane of each, spread over the recording; of a recording of one frame in the planes themselves, where sharp
    structure counts as noise. The line is a robust one through groups of pixels whose surroundings are alike. Slow
    motion, changing brightness, bleaching and stripes hardly enter. Noise that neighbours share (stripes, flicker) is
    not in it. On simulated worms (:func:`niddl_xr.simulate.training_pairs`, 24 stacks, single planes) the slope is 0.91
    to 1.16 times the camera's, median 0.98; on the 16 whole-brain planes that the NIDDL authors publish it is 34
    counts, where their single electrons say 50: the offset of that sensor is uneven. Of a maximum projection the
    line is only an approximation.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> dim, bright = (whole_brain(shape=(2, 256, 256), frames=2, neurons=30, photons=p) for p in (5, 50))
    >>> bool(snr(bright["recording"]["F"]).snr_dB.median() > snr(dim["recording"]["F"]).snr_dB.median())
    True
    """
    require_recording(recording)
    if per not in ("frame", "plane"):
        raise NiddlError(f'expected per="frame" or "plane", got {per!r}')
    if not 0 < foreground_fraction < 0.5:
        raise NiddlError(
            f"expected foreground_fraction above 0 and below 0.5, because the median is the background, "
            f"got {foreground_fraction}"
        )
    threshold = saturation_counts(recording.dtype, saturation)
    frames = recording.isel(t=evenly_spread(recording.sizes["t"], max_frames, "max_frames"))
    dims = ["z", "y", "x"] if per == "frame" else ["y", "x"]
    results = xr.apply_ufunc(
        lambda image: kernels.signal_and_noise(image, foreground_fraction, threshold),
        frames,
        input_core_dims=[dims],
        output_core_dims=[[]] * len(kernels.SignalAndNoise._fields),
        vectorize=True,
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float64] * len(kernels.SignalAndNoise._fields),
    )
    table = xr.Dataset(dict(zip(kernels.SignalAndNoise._fields, results, strict=True))).compute()
    unit = recording.attrs.get("units", "counts")
    for name in ("foreground", "background", "noise_sd"):
        table[name].attrs["units"] = unit
    table["snr_dB"].attrs.update(units="dB", foreground_fraction=foreground_fraction)
    table["saturated"].attrs["units"] = "1"
    table = _with_photons(table, *_noise(recording, threshold))
    share = float(table["saturated"].mean())
    if share > 0:
        warn(
            f"{100 * share:.3g} % of the pixels are saturated (at or above {threshold:g}): "
            "their counts are not proportional to light; lower the laser or the gain",
            stacklevel=2,
        )
    return table


def median_snr_db(planes: np.ndarray) -> float:
    """Return the ``snr_dB`` of :func:`snr` of planes (n, y, x), median over those that have one; NaN for none.

    What a denoiser's card says of its training, and what a recording is held against before it is denoised.

    >>> planes = np.random.default_rng(0).normal(400, 10, (3, 150, 160))
    >>> round(median_snr_db(planes), 1)  # noise alone
    8.5
    """
    ratios = [kernels.signal_and_noise(plane, FOREGROUND_FRACTION, float("inf")).snr_dB for plane in planes]
    finite = [ratio for ratio in ratios if np.isfinite(ratio)]
    return float(np.median(finite)) if finite else float("nan")


def measured_noise(recording: xr.DataArray, saturation: float = float("inf")) -> tuple[NoiseModel, str]:
    """Return the noise of a recording's pixels by photon transfer, see :func:`snr`, and in what it was measured."""
    frames, depth = recording.sizes["t"], recording.sizes["z"]
    if frames == 1:
        single = (recording[0, z].values for _, z in sampled_planes(1, depth, TRANSFER_PLANES))
        return noise_of_planes(single, saturation), "single planes"
    places = sampled_planes(frames - 1, depth, TRANSFER_PLANES)
    pairs = (recording[t : t + 2, z].values for t, z in places)
    return noise_between(((pair[0], pair[1]) for pair in pairs), saturation), "consecutive frames"


def _noise(recording: xr.DataArray, threshold: float) -> tuple[NoiseModel, str]:
    """Return the noise of a recording's pixels and where it is known from."""
    stated = [recording.attrs.get(name) for name in _CAMERA_ATTRS]
    if all(isinstance(value, Real) and np.isfinite(float(value)) for value in stated):
        gain, excess, offset, read_noise = (float(value) for value in stated if value is not None)
        return NoiseModel(gain * excess, read_noise**2 - gain * excess * offset), "attrs"
    return measured_noise(recording, threshold)


def _with_photons(table: xr.Dataset, noise: NoiseModel, noise_from: str) -> xr.Dataset:
    """Add the signal to noise of the foreground's own pixels, and its photons."""
    contrast = table["foreground"] - table["background"]
    variance = noise.slope * table["foreground"] + noise.intercept
    seen = (contrast > 0) & (variance > 0) & (noise.slope > 0)
    ratio = contrast.where(seen) / np.sqrt(variance.where(seen))
    table["photon_snr_dB"] = 20 * np.log10(ratio)
    table["effective_photons"] = contrast.where(seen) / noise.slope if noise.slope else xr.full_like(contrast, np.nan)
    table["photon_snr_dB"].attrs = {
        "units": "dB",
        "noise_from": noise_from,
        "noise_slope_counts": noise.slope,
        "noise_intercept_counts2": noise.intercept,
    }
    table["effective_photons"].attrs = {"units": "1"}
    return table
