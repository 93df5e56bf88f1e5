"""Takes out of traces what a second colour shows to be no activity."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.neurons import TRACE_DIMS, require_traces
from niddl_xr.schema import NiddlError, with_history
from niddl_xr.traces._kernels.two_channel import regressed, separated
from niddl_xr.traces._series import interval_s, names_of

METHODS = ("ratio", "regress", "tmac")
FEWEST_FRAMES = 20
LEAST_REFERENCE = 0.1  # of a neuron's median: where the second colour is dimmer, there is nothing to divide by
SMOOTH_REACH = 4.0  # sigmas


def ratio(
    traces: xr.Dataset,
    *,
    reference: xr.Dataset | Hashable,
    signal: Hashable | None = None,
    method: Literal["ratio", "regress", "tmac"] = "ratio",
    smooth_s: float = 1.0,
) -> xr.Dataset:
    """Correct traces by a colour that follows motion and focus as they do, but not activity.

    Parameters
    ----------
    traces
        ``F`` (t, neuron) above the background of the colour that follows activity, corrected for bleaching. Or of both
        colours, with a dim channel, put together with ``xarray.concat([green, red], "channel")``.
    reference
        Traces of the other colour, of the same neurons and frames, corrected for bleaching too. Or its label along the
        dim channel.
    signal
        Label along the dim channel of the colour that follows activity; None where ``traces`` has no such dim.
    method
        ``"ratio"``
            ``F`` over the reference, which is smoothed: its noise would come in.
        ``"regress"``
            ``F`` less what a robust line on the smoothed reference explains of it. It takes out what is added; of what
            is multiplied, the part at rest.
        ``"tmac"``
            Motion and activity as two Gaussian processes, one times the other in ``F``, the first alone in the
            reference: their time scales and the noise are fitted, and what is left is the likely activity, smoothed as
            far as the noise asks for.
    smooth_s
        Sigma in s of the Gaussian that smooths the reference; 0 for none. Not used by "tmac".

    Returns
    -------
    xarray.Dataset
        The traces of the first colour with ``F`` corrected, in counts as before (its level is that of a median
        reference), ``F_var`` scaled in the same way where ``F`` is divided, and the new variable ``motion`` (t,
        neuron), float32: the factor, 1 at the median, that was divided out; for "regress" what was taken away, in
        counts. By "tmac" ``F_var`` is NaN: the errors of a smoothed trace hang together.

        Frames in which one colour is NaN are NaN. A neuron is NaN throughout whose reference is not above 0 at its
        median, or which has fewer than 20 frames. Frames whose smoothed reference is below a tenth of its median are
        NaN.

    Raises
    ------
    NiddlError
        For other neurons or frames in the two colours, a channel that is not there, t that is not in s where
        ``smooth_s`` is used, and arguments out of range.

    Warns
    -----
    UserWarning
        Names the neurons that have no usable reference.

    Notes
    -----
    "tmac" has the model of Creamer, Chen, Leifer & Pillow (PLOS Comput. Biol. 18:e1010421, 2022): squared-exponential
    covariances, hyperparameters of each neuron by maximum likelihood. Here the likelihood is Whittle's of the model to
    first order, and the product is undone by dividing by the motion found. Gaps are bridged by straight lines.

    A correction is right if it takes the motion out of a fluorophore that does not follow activity (GFP) and leaves
    activity in: try it on such a control.

    Examples
    --------
    >>> t = np.arange(200) * 0.25
    >>> motion = 1 + 0.3 * np.sin(2 * np.pi * t / 20)
    >>> coords = {"t": ("t", t, {"units": "s"}), "neuron": ["AVAL"]}
    >>> red = xr.Dataset({"F": (("t", "neuron"), 50 * motion[:, None])}, coords=coords)
    >>> corrected = ratio(2 * red, reference=red, smooth_s=0)
    >>> bool(abs(corrected["F"] / corrected["F"][0] - 1).max() < 1e-6)
    True
    """
    if method not in METHODS:
        raise NiddlError(f"expected method as one of {', '.join(METHODS)}, got {method!r}")
    if isinstance(smooth_s, bool) or not isinstance(smooth_s, int | float | np.number) or not 0 <= smooth_s < np.inf:
        raise NiddlError(f"expected smooth_s as a number of seconds, 0 or more, got {smooth_s!r}")
    green, red = _two_colours(traces, signal, reference)
    brightness, beside = (colour["F"].values.astype(np.float64) for colour in (green, red))
    both = np.isfinite(brightness) & np.isfinite(beside)
    usable = both.sum(axis=0) >= FEWEST_FRAMES
    usable[usable] &= np.median(np.where(both, beside, 0)[:, usable], axis=0) > 0
    _warn_of_no_reference(green, ~usable)
    sigma = smooth_s / interval_s(green, "smooth_s=") if smooth_s and method != "tmac" else 0.0
    corrected, motion, scale = (np.full(brightness.shape, np.nan) for _ in range(3))
    for neuron in np.flatnonzero(usable):
        here = both[:, neuron]
        parts = _corrected(brightness[:, neuron], beside[:, neuron], here, method, sigma)
        for target, part in zip((corrected, motion, scale), parts, strict=True):
            target[here, neuron] = part[here]
    result = green.assign(
        F=green["F"].copy(data=corrected.astype(np.float32)),
        motion=(TRACE_DIMS, motion.astype(np.float32), {"units": "counts" if method == "regress" else "1"}),
    )
    if "F_var" in green:
        result["F_var"] = green["F_var"].copy(data=(green["F_var"].values * scale**2).astype(np.float32))
    return with_history(
        result, "ratio", {"signal": signal, "reference": _shown(reference), "method": method, "smooth_s": smooth_s}
    )


def _shown(reference: xr.Dataset | Hashable) -> object:
    return "traces" if isinstance(reference, xr.Dataset) else reference


def _two_colours(
    traces: xr.Dataset, signal: Hashable | None, reference: xr.Dataset | Hashable
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the traces of the two colours, checked to be of the same neurons and frames."""
    if isinstance(traces, xr.Dataset) and "channel" in traces.dims:
        if isinstance(reference, xr.Dataset) or signal is None:
            raise NiddlError(
                "expected signal= and reference= as labels of the channels of the traces, "
                f"{traces['channel'].values.tolist()}, got signal={signal!r} and reference={_shown(reference)!r}"
            )
        return _of_channel(traces, signal), _of_channel(traces, reference)
    if signal is not None or not isinstance(reference, xr.Dataset):
        raise NiddlError(
            "expected reference= as the traces of the other colour, and no signal=, because the traces have no dim "
            f"channel, got reference={_shown(reference)!r} and signal={signal!r}"
        )
    green, red = require_traces(traces), require_traces(reference)
    for dim in TRACE_DIMS:
        if not np.array_equal(green[dim].values, red[dim].values):
            raise NiddlError(
                f"expected both colours with the same {dim}, got {green.sizes[dim]} and {red.sizes[dim]} of them that "
                "differ: extract both with the same tracks, and choose common ones with sel"
            )
    return green, red


def _of_channel(traces: xr.Dataset, channel: Hashable) -> xr.Dataset:
    labels = traces["channel"].values.tolist() if "channel" in traces.coords else []
    if channel not in labels:
        raise NiddlError(f"expected a channel of the traces, {labels}, got {channel!r}")
    return require_traces(traces.sel(channel=channel, drop=True))


def _warn_of_no_reference(traces: xr.Dataset, lacking: np.ndarray) -> None:
    if lacking.any():
        warn(
            f"no correction for {names_of(traces, lacking)}: fewer than {FEWEST_FRAMES} frames in both colours, or a "
            "reference that is not above its background",
            stacklevel=3,
        )


def _corrected(
    brightness: np.ndarray, beside: np.ndarray, known: np.ndarray, method: str, sigma_frames: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corrected trace (t,), what was taken out, and what the noise is multiplied with; ``known`` (t,)."""
    frames = np.arange(len(known))
    green, red = (np.interp(frames, frames[known], trace[known]) for trace in (brightness, beside))
    if method == "tmac":
        level, red_level = float(green[known].mean()), float(red[known].mean())
        if level <= 0 or np.ptp(red) == 0:
            return green, np.ones(len(frames)), np.full(len(frames), np.nan)
        parts, _ = separated(green / level, red / red_level)
        return level * parts.activity, parts.motion, np.full(len(frames), np.nan)
    smooth = _smoothed(red, sigma_frames)
    if method == "regress":
        slope, intercept = regressed(green[known], smooth[known])
        taken = slope * smooth + intercept - float(np.median(slope * smooth[known] + intercept))
        return green - taken, taken, np.ones(len(frames))
    motion = smooth / float(np.median(smooth[known]))
    motion = np.where(motion >= LEAST_REFERENCE, motion, np.nan)
    return green / motion, motion, 1 / motion


def _smoothed(trace: np.ndarray, sigma_frames: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return (
        np.asarray(gaussian_filter1d(trace, sigma_frames, mode="nearest", truncate=SMOOTH_REACH))
        if sigma_frames
        else trace
    )
