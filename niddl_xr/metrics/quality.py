"""How good traces are: by themselves, and beside the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr.metrics._measures import MAD_TO_SD
from niddl_xr.metrics.traces import trace_metrics
from niddl_xr.neurons import TRACE_DIMS, require_traces
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

SIGNAL_QUANTILES = (0.2, 0.95)
FEWEST_FRAMES = 3


def trace_quality(traces: xr.Dataset, truth: xr.Dataset | xr.DataArray | None = None) -> pd.DataFrame:
    """Judge traces, neuron by neuron.

    Parameters
    ----------
    traces
        ``dff`` (t, neuron), with ``dff_lo`` and ``dff_hi``, as :func:`niddl_xr.dff` gives; without it ``F``.
    truth
        The true traces of the same neurons and frames: a Dataset with the variable that is judged, or that variable,
        (t, neuron). True dF/F has to have the F0 that the traces have: ``dff(truth)`` rather than dF/F above another
        baseline. None: no truth is known.

    Returns
    -------
    pandas.DataFrame
        A row a neuron, in the order of the traces:

        ``snr``
            (95 % - 20 % quantile) / noise, where the noise is 1.4826 times the median absolute deviation of the
            differences of consecutive frames over √2. Slow signal leaves few differences: it hardly counts as noise.
            inf for a trace without noise, NaN for a constant one and for fewer than 3 frames.
        ``frames``
            Frames with a value.

        And with a truth ``pearson``, ``mae``, ``amplitude_ratio`` as in :func:`niddl_xr.metrics.trace_metrics`, and
        ``coverage90``, the part of the frames in which the truth lies from ``dff_lo`` to ``dff_hi`` (of ``F``: within
        1.645 sqrt(``F_var``)): 0.9 where the noise is as large as the bounds say; NaN where there are none.

    Raises
    ------
    NiddlError
        For other dims, and a truth of other frames or neurons.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = xr.DataArray(np.sin(np.arange(500.0) / 20)[:, None], dims=("t", "neuron"), coords={"neuron": ["AVAL"]})
    >>> noisy = truth + 0.1 * rng.standard_normal(truth.shape)
    >>> traces = xr.Dataset({"dff": noisy, "dff_lo": noisy - 0.1645, "dff_hi": noisy + 0.1645})
    >>> table = trace_quality(traces, truth)
    >>> bool(abs(table.coverage90["AVAL"] - 0.9) < 0.04), bool(12 < table.snr["AVAL"] < 22)
    (True, True)
    """
    import pandas as pd

    variable = "dff" if isinstance(traces, xr.Dataset) and "dff" in traces else "F"
    traces = require_traces(traces, variable)
    values = traces[variable]
    table = pd.DataFrame([_signal_to_noise(trace) for trace in values.values.T], columns=["snr", "frames"])
    table.index = pd.Index(traces["neuron"].values, name="neuron")
    if truth is None:
        return table
    true = truth if isinstance(truth, xr.DataArray) else _variable_of(truth, variable)
    judged = trace_metrics(values, true).drop(columns="frames")
    table = table.join(judged)
    ordered = true.transpose(*TRACE_DIMS).sel(neuron=values["neuron"].values).values
    table["coverage90"] = _coverage(traces, variable, ordered)
    return table


def _variable_of(truth: xr.Dataset, variable: str) -> xr.DataArray:
    if not isinstance(truth, xr.Dataset) or variable not in truth:
        got = list(truth.data_vars) if isinstance(truth, xr.Dataset) else type(truth).__name__
        raise NiddlError(f"expected a truth with the variable {variable}, which the traces have, got {got}")
    return truth[variable]


def _signal_to_noise(trace: np.ndarray) -> tuple[float, int]:
    """Return the signal to noise of a trace (t,) and its number of values."""
    steps = np.diff(trace.astype(np.float64))
    steps, values = steps[np.isfinite(steps)], trace[np.isfinite(trace)]
    if len(values) < FEWEST_FRAMES or len(steps) < FEWEST_FRAMES - 1:
        return float("nan"), len(values)
    low, high = np.quantile(values, SIGNAL_QUANTILES)
    noise = MAD_TO_SD * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2)
    if noise == 0:
        return (float("inf") if high > low else float("nan")), len(values)
    return float((high - low) / noise), len(values)


def _coverage(traces: xr.Dataset, variable: str, truth: np.ndarray) -> np.ndarray:
    """Return the part (neuron,) of the frames in which the truth (t, neuron) lies within the bounds."""
    values = traces[variable].values
    if variable == "dff" and {"dff_lo", "dff_hi"} <= set(traces.data_vars):
        low, high = traces["dff_lo"].values, traces["dff_hi"].values
    elif variable == "F" and "F_var" in traces:
        half = 1.6449 * np.sqrt(traces["F_var"].values)  # 90 % of a normal distribution
        low, high = values - half, values + half
    else:
        return np.full(values.shape[1], np.nan)
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(truth)
    within = known & (low <= truth) & (truth <= high)
    count = known.sum(axis=0)
    return np.where(count > 0, within.sum(axis=0) / np.maximum(count, 1), np.nan)
