"""How near extracted traces are to the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

TRACE_DIMS = ("t", "neuron")
_FEWEST_FRAMES = 3


def trace_metrics(traces: xr.DataArray, truth: xr.DataArray) -> pd.DataFrame:
    """Judge each neuron's trace by the true one.

    Parameters
    ----------
    traces, truth
        (t, neuron) in any order, in the same unit (dF/F, or counts above background). Neurons are matched by their
        label, in the order of ``traces``; frames by position.

    Returns
    -------
    pandas.DataFrame
        One row per neuron:

        ``pearson``
            Correlation, -1 to 1. A constant trace or truth has none: NaN.
        ``mae``
            Mean absolute error in the unit of the traces, without any match.
        ``amplitude_ratio``
            Slope of the least-squares line traces ~ truth: 1 where amplitudes are kept, below 1 where they are
            flattened. Unlike the correlation it sees a method that shrinks every transient. NaN for a constant truth.
        ``frames``
            Frames that count: those where neither trace is NaN. With fewer than 3 the rest is NaN.

    Raises
    ------
    NiddlError
        For other dims, different lengths, and neurons that are not the same in both.

    Notes
    -----
    MAE and Pearson's r are the measures of Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022).

    Examples
    --------
    >>> truth = xr.DataArray([[0.0], [1.0], [0.0], [2.0]], dims=("t", "neuron"), coords={"neuron": ["AVAL"]})
    >>> table = trace_metrics(0.5 * truth, truth).loc["AVAL"]
    >>> float(table.pearson), float(table.mae), float(table.amplitude_ratio)
    (1.0, 0.375, 0.5)
    """
    import pandas as pd

    truth = _aligned(traces, truth)
    measured = np.asarray(traces.transpose(*TRACE_DIMS).values, dtype=np.float64)
    true = np.asarray(truth.transpose(*TRACE_DIMS).values, dtype=np.float64)
    rows = [_judge(trace, target) for trace, target in zip(measured.T, true.T, strict=True)]
    table = pd.DataFrame(rows, columns=["pearson", "mae", "amplitude_ratio", "frames"])
    table.index = pd.Index(traces["neuron"].values, name="neuron")
    return table


def _aligned(traces: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Return the truth with its neurons in the order of ``traces``."""
    for name, array in {"traces": traces, "truth": truth}.items():
        if not isinstance(array, xr.DataArray) or set(array.dims) != set(TRACE_DIMS):
            got = f"dims {array.dims}" if isinstance(array, xr.DataArray) else type(array).__name__
            raise NiddlError(f"expected {name} as a DataArray with dims {TRACE_DIMS}, got {got}; choose one variable")
    if traces.sizes["t"] != truth.sizes["t"]:
        raise NiddlError(
            f"expected as many frames in traces as in truth, got {traces.sizes['t']} and {truth.sizes['t']}; "
            "select common frames with isel(t=...)"
        )
    labels, true_labels = traces["neuron"].values.tolist(), truth["neuron"].values.tolist()
    if sorted(map(str, labels)) != sorted(map(str, true_labels)):
        missing = sorted(set(map(str, labels)) ^ set(map(str, true_labels)))
        raise NiddlError(
            f"expected the same neurons in traces and truth, got {len(labels)} and {len(true_labels)}; "
            f"only in one of them: {missing[:8]}; select common ones with sel(neuron=...)"
        )
    if len(set(true_labels)) < len(true_labels):
        raise NiddlError("expected every neuron once, got labels that stand twice; rename them with assign_coords")
    order = [true_labels.index(label) for label in labels]
    return truth.isel(neuron=order)


def _judge(trace: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, int]:
    valid = np.isfinite(trace) & np.isfinite(truth)
    frames = int(valid.sum())
    if frames < _FEWEST_FRAMES:
        return float("nan"), float("nan"), float("nan"), frames
    trace, truth = trace[valid], truth[valid]
    error = float(np.mean(np.abs(trace - truth)))
    constant_truth, constant_trace = np.ptp(truth) == 0, np.ptp(trace) == 0
    if constant_truth:
        return float("nan"), error, float("nan"), frames
    deviation, true_deviation = trace - trace.mean(), truth - truth.mean()
    covariance, power = float(deviation @ true_deviation), float(true_deviation @ true_deviation)
    pearson = float("nan") if constant_trace else covariance / float(np.sqrt(power * (deviation @ deviation)))
    return pearson, error, covariance / power, frames
