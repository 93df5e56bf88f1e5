"""Relative change of fluorescence, dF/F, within the bounds of its noise."""

from __future__ import annotations

from typing import Literal
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.neurons import TRACE_DIMS, require_traces
from niddl_xr.schema import NiddlError, with_history
from niddl_xr.traces._kernels.baseline import running_quantile, variance_of_drawing, without_noise
from niddl_xr.traces._series import interval_s, names_of, quantile_between

SHORTEST_WINDOW_S = 120.0
CORRIDOR_SIGMAS = 1.6449  # of a normal distribution, between which and minus which 90 % lie
LEAST_F0_SIGMAS = 0.5
LEAST_F0_RANGE = 0.02


def dff(
    traces: xr.Dataset,
    *,
    f0: Literal["quantile", "median"] = "quantile",
    q: float = 0.2,
    window_s: float | None = None,
) -> xr.Dataset:
    """Turn fluorescence into dF/F, ``F / F0 - 1``, with the bounds that noise leaves.

    Parameters
    ----------
    traces
        ``F`` (t, neuron) in counts above the background, corrected for bleaching, and its variance ``F_var``.
    f0
        ``F0`` is a "quantile" of each trace, or its "median".
    q
        Which quantile, above 0 and below 1; not used for the median.
    window_s
        None: one ``F0`` for the whole trace. Or the length in s of a window that runs along it. States of a worm last
        for tens of seconds, and a running ``F0`` takes them for changes of the baseline: below 120 s comes a warning.

    Returns
    -------
    xarray.Dataset
        The traces and (t, neuron), float32: ``F0`` in counts; ``dff``; ``dff_lo`` and ``dff_hi``, between which the
        dF/F without noise lies in 90 % of the frames. The bounds hold what ``F_var`` holds, and are NaN where it is;
        and how sure ``F0`` is, which noise moves: it is wrong in all frames alike, the more the brighter they are. They
        say nothing of light that stays the same and is no neuron's.

        Where ``F0`` is not above 0, or is so small (below half the noise of a frame, or a fiftieth of what the trace
        spans) that dF/F would be noise, all four are NaN.

    Raises
    ------
    NiddlError
        Where there is no ``F``, arguments are out of range, or ``window_s`` is given for traces whose t is not in s.

    Warns
    -----
    UserWarning
        Names the neurons without ``F0``. And for a window below 120 s.

    Notes
    -----
    Noise widens a trace, so that its low quantiles lie too low. ``F0`` is the quantile of the trace drawn towards its
    median by sqrt(1 - mean(F_var) / var(F)), which leaves the variance that the noise does not explain; without
    ``F_var``, of the trace as it is. The median is the same with and without. The variance of dF/F is (``F_var`` +
    (``F`` / ``F0``)² var(``F0``)) / ``F0``², that of ``F0`` from the order statistics of frames with noise of their
    own, and from how well the variance of the trace itself is known.

    The quantile of 0.2 of the whole trace follows the whole-brain recordings of freely moving worms; a running
    percentile lowered the median correlation with the truth from .945 to .906 on simulated command states.

    Examples
    --------
    >>> trace = xr.DataArray([10.0, 10.0, 10.0, 30.0, 10.0], dims="t").expand_dims(neuron=["AVAL"])
    >>> dff(xr.Dataset({"F": trace}))["dff"].values.ravel().tolist()
    [0.0, 0.0, 0.0, 2.0, 0.0]
    """
    traces = require_traces(traces)
    if f0 not in ("quantile", "median"):
        raise NiddlError(f'expected f0="quantile" or "median", got {f0!r}')
    level = 0.5 if f0 == "median" else quantile_between(q, "q")
    brightness = traces["F"].values.astype(np.float64)
    known_noise = "F_var" in traces
    variance = traces["F_var"].values.astype(np.float64) if known_noise else np.full(brightness.shape, np.nan)
    quiet = without_noise(brightness, variance)
    window = len(quiet) if window_s is None else _window_frames(traces, window_s)
    baseline, baseline_variance = running_quantile(quiet, variance, level, window)
    baseline_variance += variance_of_drawing(brightness, variance, level)
    usable = _usable(baseline, brightness, variance)
    lacking = np.logical_and(~usable.any(axis=0), np.isfinite(brightness).any(axis=0))
    _warn_of_no_baseline(traces, np.asarray(lacking))
    baseline[~usable] = np.nan
    change = brightness / baseline - 1
    bound = CORRIDOR_SIGMAS * np.sqrt(variance + np.square(1 + change) * baseline_variance) / baseline
    numbers = {"F0": baseline, "dff": change, "dff_lo": change - bound, "dff_hi": change + bound}
    result = traces.assign(
        {
            name: (TRACE_DIMS, values.astype(np.float32), {"units": "counts" if name == "F0" else "1"})
            for name, values in numbers.items()
        }
    )
    return with_history(result, "dff", {"f0": f0, "q": q, "window_s": window_s})


def _window_frames(traces: xr.Dataset, window_s: float) -> int:
    if isinstance(window_s, bool) or not isinstance(window_s, int | float | np.number) or not window_s > 0:
        raise NiddlError(f"expected window_s as a number of seconds above 0, or None, got {window_s!r}")
    if window_s < SHORTEST_WINDOW_S:
        warn(
            f"F0 in a window of {window_s:g} s follows states of the worm that last for tens of seconds: dF/F of "
            f"command neurons is flattened; use {SHORTEST_WINDOW_S:g} s or more, or window_s=None",
            stacklevel=3,
        )
    return max(1, round(window_s / interval_s(traces, "window_s=")))


def _usable(baseline: np.ndarray, brightness: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return where (t, neuron) a baseline is large enough to divide by."""
    least = np.zeros(brightness.shape[1])
    for neuron, (trace, noise) in enumerate(zip(brightness.T, variance.T, strict=True)):
        trace, noise = trace[np.isfinite(trace)], noise[np.isfinite(noise)]
        span = np.ptp(np.quantile(trace, [0.05, 0.95])) if len(trace) else 0.0
        sd = float(np.sqrt(np.median(noise))) if len(noise) else 0.0
        least[neuron] = max(LEAST_F0_RANGE * span, LEAST_F0_SIGMAS * sd)
    return np.asarray((baseline > 0) & (baseline >= least))


def _warn_of_no_baseline(traces: xr.Dataset, lacking: np.ndarray) -> None:
    if lacking.any():
        warn(
            f"no dF/F for {names_of(traces, lacking)}: F0 is not above 0, or lost in the noise; look at the background "
            'and neuropil= of extract_traces, or take f0="median"',
            stacklevel=3,
        )
