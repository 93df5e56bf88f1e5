"""What the verbs on traces ask of their arguments."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.schema import NiddlError

MOST_NAMES = 8


def times_of(traces: xr.Dataset) -> tuple[np.ndarray, str]:
    """Return the times (t,), float64, of traces, and their unit: "s", or "frame" where they are not in s."""
    if "t" not in traces.coords:
        return np.arange(traces.sizes["t"], dtype=np.float64), "frame"
    times = traces["t"].values.astype(np.float64)
    if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
        raise NiddlError("expected the times of the traces finite and rising; see sortby('t')")
    return times, "s" if traces["t"].attrs.get("units") == "s" else "frame"


def interval_s(traces: xr.Dataset, argument: str) -> float:
    """Return the time between frames in s, which ``argument`` is measured by."""
    times, unit = times_of(traces)
    if unit != "s" or len(times) < 2:
        raise NiddlError(
            f"expected the times of the traces in s, for {argument}, got t in units "
            f"{traces['t'].attrs.get('units') if 't' in traces.coords else None!r}: open the recording with dt_s=, or "
            "set t with assign_coords and its attrs['units'] = 's'"
        )
    return float(np.median(np.diff(times)))


def quantile_between(value: float, argument: str) -> float:
    """Return a quantile above 0 and below 1, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < 1:
        raise NiddlError(f"expected {argument} above 0 and below 1, got {value!r}")
    return float(value)


def names_of(traces: xr.Dataset, chosen: np.ndarray) -> str:
    """Return the names of the neurons chosen (neuron,), eight at most."""
    names = traces["neuron"].values[chosen] if "neuron" in traces.coords else np.flatnonzero(chosen)
    shown = ", ".join(str(name) for name in names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
