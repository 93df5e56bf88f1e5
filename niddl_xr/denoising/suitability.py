"""Is a recording what a denoiser was trained for: voxels of that size, light of that kind."""

from __future__ import annotations

import math

import xarray as xr

from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.schema import NiddlError, voxel_um

VOXEL_TOLERANCE = 1.5  # beyond this ratio a network meets cells of a size that it never saw
SNR_TOLERANCE_DB = 1.0  # the median of 16 planes is not known better than that


class SignalToNoiseWarning(UserWarning):
    """A recording has less or more signal to noise than all that a denoiser was trained on."""


def check_voxel_um(recording: xr.DataArray, denoiser: Denoiser) -> None:
    """Refuse a recording whose voxels differ by more than a factor of 1.5 from those of the training.

    Along y and x, and along z where a network sees neighbouring planes; where both sizes are known.
    """
    trained = denoiser.card.get("data", {}).get("voxel_um", {})
    ours = voxel_um(recording)
    for dim in ("z", "y", "x") if denoiser.depth > 1 else ("y", "x"):
        if dim in trained and dim in ours:
            ratio = ours[dim] / trained[dim]
            if not 1 / VOXEL_TOLERANCE <= ratio <= VOXEL_TOLERANCE:
                raise NiddlError(
                    f"the denoiser was trained for voxels of {trained[dim]:.3g} µm along {dim}, the recording has "
                    f"{ours[dim]:.3g} µm: resample it, train on images of its own, or say check_voxel=False"
                )


def trained_snr_range_db(denoiser: Denoiser) -> tuple[float, float] | None:
    """Return the least and the greatest signal to noise of the training in dB, or None where the card has none."""
    ends = denoiser.card.get("training", {}).get("snr_range_db") or []
    return (float(ends[0]), float(ends[1])) if len(ends) == 2 and all(map(math.isfinite, ends)) else None


def unusual_signal_to_noise(snr_db: float, denoiser: Denoiser) -> str | None:
    """Say in words what is to be expected where a recording's signal to noise lies outside that of the training.

    None where it lies inside, within 1 dB, or one of the two is not known.
    """
    trained = trained_snr_range_db(denoiser)
    if trained is None or not math.isfinite(snr_db):
        return None
    least, greatest = trained
    if least - SNR_TOLERANCE_DB <= snr_db <= greatest + SNR_TOLERANCE_DB:
        return None
    if snr_db < least:
        side, risk = "below", "in more noise than it knows, it may invent structure"
        remedy = "compare with the raw recording (niddl_xr.view)"
    else:
        side, risk = "above", "taking detail for noise, it may smooth away what the recording shows"
        remedy = "compare with classical('median')"
    return (
        f"the recording's signal to noise is {snr_db:.1f} dB (median of sampled planes, see niddl_xr.snr), {side} "
        f"the {least:.1f} to {greatest:.1f} dB that the denoiser was trained on: {risk}. Train on pairs like this "
        f"recording, or on simulated ones (simulate.training_pairs with the camera of simulate.noise.fit), and {remedy}"
    )
