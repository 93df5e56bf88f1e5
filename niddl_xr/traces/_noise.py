"""How noisy the pixels of a recording are, from what it states, what is given, or what its pixels show."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.metrics.signal import measured_noise
from niddl_xr.schema import NiddlError
from niddl_xr.traces._kernels.measuring import Noise

CAMERA_ATTRS = ("gain_counts_per_photon", "excess_noise", "offset_counts", "read_noise_counts")
ROW_NOISE = "row_noise_counts"
UNKNOWN = Noise(float("nan"), float("nan"), float("nan"))


def is_denoised(recording: xr.DataArray) -> bool:
    """Return whether the history of a recording says that it was denoised."""
    return any(entry.get("verb") == "denoise" for entry in schema.history(recording))


def noise_of(recording: xr.DataArray, noise: str | Mapping[str, float] | None) -> tuple[Noise, str]:
    """Return the noise of the pixels of a raw recording, and where it is known from.

    ``noise`` is None for the attrs, numbers that stand before them, or "photon_transfer" to measure it. What is not
    known stays unknown, NaN, with a warning.
    """
    if noise == "photon_transfer":
        model, _ = measured_noise(recording)
        return Noise(model.slope, model.intercept, 0.0), "photon transfer"
    if isinstance(noise, str):
        raise NiddlError(f'expected noise=None, "photon_transfer" or numbers such as {{...}}, got {noise!r}')
    given = dict(noise or {})
    unknown = sorted(set(given) - {*CAMERA_ATTRS, ROW_NOISE})
    if unknown:
        raise NiddlError(f"expected noise with the names {(*CAMERA_ATTRS, ROW_NOISE)}, got {unknown}")
    stated = {name: value for name, value in {**recording.attrs, **given}.items() if _is_number(value)}
    lacking = [name for name in CAMERA_ATTRS if name not in stated]
    if lacking:
        warn(
            f"the noise of the traces is not known (F_var is NaN), because the recording does not state "
            f"{', '.join(lacking)}: give them with noise={{...}}, or have it measured with noise='photon_transfer'",
            stacklevel=3,
        )
        return UNKNOWN, "unknown"
    gain, excess, offset, read_noise = (float(stated[name]) for name in CAMERA_ATTRS)
    if gain <= 0 or excess < 1 or read_noise < 0:
        raise NiddlError(
            f"expected a gain above 0, an excess noise of 1 or more and a read noise of 0 or more, got {gain:g}, "
            f"{excess:g} and {read_noise:g}; see noise="
        )
    slope = gain * excess
    row_variance = float(stated.get(ROW_NOISE, 0.0)) ** 2
    return Noise(slope, read_noise**2 - slope * offset, row_variance), "given" if given else "attrs"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))
