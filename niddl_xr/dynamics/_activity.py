"""What the population is made of: checked traces, neurons that are known well enough, gaps filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.dynamics._kernels import gaps
from niddl_xr.neurons import TRACE_DIMS, neuron_names, require_traces
from niddl_xr.schema import NiddlError

MISSING = ("lowrank", "interpolate", "drop", "raise")
_EVEN = 0.05  # how far a step may be from the median one, as a part of it
_MOST_NAMES = 8
_FEWEST_FRAMES = 3
_FEWEST_NEURONS = 2


@dataclass(frozen=True)
class Activity:
    """Traces (t, neuron) without gaps, and where they had some.

    ``seen`` (t,) is False in frames in which no neuron was observed: what stands there is a bridge over time, which
    holds no information and does not take part in any fit.
    """

    values: np.ndarray
    observed: np.ndarray
    seen: np.ndarray
    t: np.ndarray
    names: np.ndarray
    coords: dict[Any, Any]
    left_out: tuple[tuple[tuple[str, ...], str], ...]  # names, and why
    rank: int | None  # of the fit that filled the gaps

    def keep(self, neurons: np.ndarray, why: str) -> Activity:
        """Return the activity of some neurons (neuron,), which remembers the others."""
        if neurons.all():
            return self
        lost = tuple(str(name) for name in self.names[~neurons])
        require_neurons(int(neurons.sum()), len(neurons), why)
        place = np.flatnonzero(neurons)
        coords = {
            name: item.isel(neuron=place) if "neuron" in item.dims else item for name, item in self.coords.items()
        }
        return Activity(
            self.values[:, place],
            self.observed[:, place],
            self.seen,
            self.t,
            self.names[place],
            coords,
            (*self.left_out, (lost, why)),
            self.rank,
        )


def listed(names: tuple[str, ...]) -> str:
    """Return names for a message, eight at most."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def require_neurons(count: int, given: int, why: str) -> None:
    """Raise unless two neurons or more are left."""
    if count < _FEWEST_NEURONS:
        raise NiddlError(
            f"expected two neurons or more to find what they have in common, got {count} of {given}"
            + (f" ({why})" if count < given else "")
        )


def activity_of(
    traces: xr.Dataset | xr.DataArray,
    variable: str,
    *,
    missing: str,
    least_observed: float,
    rng: np.random.Generator,
) -> Activity:
    """Return checked traces with their gaps filled."""
    array = _array_of(traces, variable)
    values = array.values.astype(np.float64)
    if np.isinf(values).any():
        raise NiddlError(
            f"expected finite numbers or NaN in {variable}, got {int(np.isinf(values).sum())} infinite ones"
        )
    t = _times(array)
    names = _names(array)
    observed = np.isfinite(values)
    seen = np.asarray(observed.any(axis=1))
    if seen.sum() < _FEWEST_FRAMES:
        raise NiddlError(f"expected {_FEWEST_FRAMES} frames or more with a value, got {int(seen.sum())} of {len(seen)}")
    coords = {name: item for name, item in array.coords.items() if set(item.dims) in ({"t"}, {"neuron"})}
    activity = Activity(values, observed, seen, t, names, coords | {"neuron": _named(names)}, (), None)
    require_neurons(values.shape[1], values.shape[1], "")
    return _without_gaps(activity, missing, least_observed, rng)


def _without_gaps(activity: Activity, missing: str, least_observed: float, rng: np.random.Generator) -> Activity:
    known = activity.observed[activity.seen].mean(axis=0)
    if missing == "raise" and not activity.observed.all():
        gappy = tuple(activity.names[~activity.observed.all(axis=0)].astype(str))
        raise NiddlError(
            f"expected no NaN, got {int((~activity.observed).sum())} in {listed(gappy)}: choose "
            'missing="lowrank", "interpolate" or "drop"'
        )
    if missing == "drop":
        kept = activity.keep(known == 1, "they have gaps, which missing='drop' does not allow")
    else:
        kept = activity.keep(
            (known >= least_observed) & (known > 0),
            f"they were observed in less than {least_observed:.0%} of the frames; see least_observed=",
        )
    observed, seen = kept.observed, np.asarray(kept.observed.any(axis=1))
    if observed.all():
        return kept
    values, rank = kept.values, None
    if missing == "lowrank" and not observed[seen].all():
        part, rank = gaps.low_rank(values[seen], observed[seen], rng)
        values = values.copy()
        values[seen] = part
        observed = np.broadcast_to(seen[:, None], observed.shape)
    values = gaps.between_neighbours(values, observed, kept.t)
    return Activity(values, kept.observed, seen, kept.t, kept.names, kept.coords, kept.left_out, rank)


def _array_of(traces: xr.Dataset | xr.DataArray, variable: str) -> xr.DataArray:
    if isinstance(traces, xr.DataArray):
        if set(traces.dims) != set(TRACE_DIMS):
            raise NiddlError(f"expected traces with dims {TRACE_DIMS}, got {traces.dims}; choose one with isel or sel")
        array = traces.transpose(*TRACE_DIMS)
    else:
        if isinstance(traces, xr.Dataset) and traces.data_vars and variable not in traces:
            there = [str(name) for name, item in traces.data_vars.items() if set(item.dims) == set(TRACE_DIMS)]
            raise NiddlError(
                f"expected traces with the variable {variable} (t, neuron), got {there}: name one with variable="
                + (", or make dff with niddl_xr.dff" if variable == "dff" and "F" in there else "")
            )
        array = require_traces(traces, variable)[variable]
    if array.dtype.kind not in "uif":
        raise NiddlError(f"expected {variable} as real numbers, got dtype {array.dtype}")
    return array


def _times(array: xr.DataArray) -> np.ndarray:
    if "t" not in array.coords:
        return np.arange(array.sizes["t"], dtype=np.float64)
    if array["t"].dtype.kind not in "uif":
        raise NiddlError(f"expected the times of the traces as numbers in s, got dtype {array['t'].dtype}")
    t = array["t"].values.astype(np.float64)
    if not np.isfinite(t).all() or np.any(np.diff(t) <= 0):
        raise NiddlError("expected the times of the traces finite and rising, each once; see sortby('t')")
    return t


def _names(array: xr.DataArray) -> np.ndarray:
    if "neuron" not in array.coords:
        return np.asarray(neuron_names(array.sizes["neuron"]))
    names = np.asarray(array["neuron"].values)
    if len(set(names.tolist())) < len(names):
        raise NiddlError("expected every neuron once, got names that stand twice; rename them with assign_coords")
    return names


def _named(names: np.ndarray) -> xr.DataArray:
    return xr.DataArray(names, dims="neuron", coords={"neuron": names})


def even_step_s(activity: Activity, units: object, argument: str) -> float:
    """Return the time between frames in s, for an ``argument`` that needs it to be known and even."""
    if units != "s" or len(activity.t) < 2:
        raise NiddlError(
            f"expected the times of the traces in s, for {argument}, got t in units {units!r}: open the recording with "
            "dt_s=, or set t with assign_coords and its attrs['units'] = 's'"
        )
    steps = np.diff(activity.t)
    median = float(np.median(steps))
    uneven = int((np.abs(steps - median) > _EVEN * median).sum())
    if uneven:
        raise NiddlError(
            f"expected even steps of time, for {argument}, got {uneven} of {len(steps)} that are more than "
            f"{_EVEN:.0%} off {median:.4g} s: resample with traces.interp(t=np.arange(t[0], t[-1], {median:.4g})), "
            "whose values between frames are not measured ones"
        )
    return float(activity.t[-1] - activity.t[0]) / (len(activity.t) - 1)
