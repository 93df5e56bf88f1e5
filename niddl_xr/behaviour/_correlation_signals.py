"""What is correlated: activity and local bending on one time base, without what is slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels.correlation import standardised
from niddl_xr.behaviour._kernels.highpass import FWHM_PER_SIGMA, highpass
from niddl_xr.behaviour._kernels.indicator import through_indicator
from niddl_xr.behaviour._time_base import Grid, grid_of, require_overlap, times_of
from niddl_xr.behaviour.body_position import assign_body_position
from niddl_xr.neurons import require_traces
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError

Behaviour = xr.DataArray | xr.Dataset
IndicatorTimes = float | tuple[float, float]
STATE_MAJORITY = 0.5  # of an interval that must be in a state
FLAT = 1e-6  # of the deviation of a signal from 0, below which it is constant


@dataclass(frozen=True)
class Signals:
    """Both signals of every neuron, (neuron, frame) on an even grid, standardised; NaN where unknown.

    ``reason`` (neuron,) says why there is nothing to correlate, "" else. ``states`` are masks (frame,) by name.
    """

    neurons: list[Any]
    activity: np.ndarray
    behaviour: np.ndarray
    place: np.ndarray  # (neuron,) along the body, NaN where it plays no part
    reason: list[str]
    states: dict[str, np.ndarray]
    interval_s: float
    frames: int  # of the traces

    def lags(self, lags_s: tuple[float, float]) -> tuple[int, int]:
        """Return the first and last lag in frames."""
        return round(lags_s[0] / self.interval_s), round(lags_s[1] / self.interval_s)


@dataclass(frozen=True)
class Filters:
    """What both signals pass before they are correlated."""

    highpass_s: float | None
    indicator_tau_s: IndicatorTimes | None

    def __post_init__(self) -> None:
        if self.highpass_s is not None and not _is_positive(self.highpass_s):
            raise NiddlError(f"expected highpass_s as a number of seconds above 0, or None, got {self.highpass_s!r}")
        if self.indicator_tau_s is not None:
            rise, decay = self.indicator()
            if not (_is_positive(decay) and (_is_positive(rise) or rise == 0)):
                raise NiddlError(
                    "expected indicator_tau_s as the decay in s, or as (rise, decay), or None, "
                    f"got {self.indicator_tau_s!r}"
                )

    def indicator(self) -> tuple[Any, Any]:
        """Return rise and decay in s as they were given."""
        given = self.indicator_tau_s
        return (given[0], given[1]) if isinstance(given, tuple | list) and len(given) == 2 else (0.0, given)

    def slow_removed(self, values: np.ndarray, interval_s: float) -> np.ndarray:
        """Return ``values`` (..., frame) standardised, less what is slower than ``highpass_s``; constants are NaN."""
        scaled = standardised(values)
        if self.highpass_s is None:
            return scaled
        quick = highpass(scaled, self.highpass_s / FWHM_PER_SIGMA / interval_s)
        # A straight line leaves nothing but rounding, which must not be blown up.
        flat = np.nanmax(np.abs(quick), axis=-1, keepdims=True, initial=0.0) < FLAT
        return standardised(np.where(flat, np.nan, quick))

    def as_seen(self, behaviour: np.ndarray, interval_s: float) -> np.ndarray:
        """Return ``behaviour`` (..., frame) through the indicator, as it is where there is none."""
        if self.indicator_tau_s is None:
            return behaviour
        rise, decay = self.indicator()
        return through_indicator(behaviour, interval_s, float(rise), float(decay))


def _is_positive(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float | np.number) and 0 < float(value) < np.inf


def require_lags(lags_s: tuple[float, float]) -> tuple[float, float]:
    """Return the range of lags in s as two numbers, the first below the second."""
    ends = list(lags_s) if isinstance(lags_s, Sequence) and not isinstance(lags_s, str) else []
    numbers = [float(end) for end in ends if isinstance(end, int | float | np.number) and np.isfinite(end)]
    if len(ends) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise NiddlError(f"expected lags_s as (first, last) in s, such as (-2, 2), got {lags_s!r}")
    return numbers[0], numbers[1]


def activity_of(traces: xr.Dataset, variable: str) -> tuple[xr.Dataset, Grid, np.ndarray]:
    """Return checked traces, their grid, and the activity (neuron, frame) on it."""
    traces = require_traces(traces, variable)
    names = traces["neuron"].values.tolist()
    if len(set(names)) < len(names):
        raise NiddlError("expected a coordinate neuron that names every neuron once; see Dataset.assign_coords")
    if not names:
        raise NiddlError("expected traces of one neuron or more, got none")
    grid = grid_of(traces)
    values = traces[variable].values.T.astype(float)
    return traces, grid, grid.of_traces(np.where(np.isfinite(values), values, np.nan))


def places_of(traces: xr.Dataset, posture: xr.Dataset, position: xr.DataArray | xr.Dataset | None) -> np.ndarray:
    """Return the place (neuron,) of each neuron of ``traces`` along the body, NaN where it is not known."""
    if isinstance(position, xr.Dataset):
        position = assign_body_position(position, posture)
    if position is None:
        if "body_position" not in traces.coords:
            raise NiddlError(
                "expected position=, where along the body the neurons lie: tracks, or the result of "
                "assign_body_position (traces have no coordinate body_position)"
            )
        position = traces["body_position"]
    if not isinstance(position, xr.DataArray) or position.dims != ("neuron",):
        got = position.dims if isinstance(position, xr.DataArray) else type(position).__name__
        raise NiddlError(f"expected position as a DataArray (neuron) from 0 (head) to 1 (tail), or tracks, got {got}")
    names = position["neuron"].values.tolist()
    found = dict(zip(names, position.values.astype(float).tolist(), strict=True))
    places = np.asarray([found.get(name, np.nan) for name in traces["neuron"].values.tolist()])
    if np.any((places < 0) | (places > 1)):
        raise NiddlError(
            f"expected places along the body from 0 (head) to 1 (tail), got {np.nanmin(places):g} to "
            f"{np.nanmax(places):g}"
        )
    return places


def local_curvature(posture: xr.Dataset, places: np.ndarray, window: float) -> np.ndarray:
    """Return the mean curvature (place, t) within ``window`` of each place; NaN where nothing of it is known."""
    if not _is_positive(window) or window > 1:
        raise NiddlError(f"expected window, a part of the body length, above 0 and at most 1, got {window!r}")
    along = posture["s"].values.astype(float)
    curvature = posture["curvature"].values.T.astype(float)
    near = np.abs(along - places[:, None]) <= window + 1e-9
    if np.any(~near.any(axis=1) & np.isfinite(places)):
        raise NiddlError(
            f"expected a window that holds points of the posture, got {window:g}, with {along.size} points s from "
            f"{along[0]:g} to {along[-1]:g}: widen it"
        )
    known = np.isfinite(curvature)
    count = near.astype(float) @ known
    total = near.astype(float) @ np.where(known, curvature, 0.0)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def require_behaviour(behaviour: xr.DataArray) -> xr.DataArray:
    """Return ``behaviour`` if it is a DataArray over t."""
    if not isinstance(behaviour, xr.DataArray) or behaviour.dims != ("t",):
        got = behaviour.dims if isinstance(behaviour, xr.DataArray) else type(behaviour).__name__
        raise NiddlError(f"expected behaviour as a DataArray (t), such as a speed, got {got}")
    return behaviour


def behaviour_of(source: Behaviour, what: str, grid: Grid, places: np.ndarray, window: float) -> np.ndarray:
    """Return behaviour (neuron or 1, frame) on the grid: local curvature of a posture, or a DataArray over t itself."""
    if isinstance(source, xr.Dataset):
        posture = require_posture(source, "curvature")
        times, values = times_of(posture, what), local_curvature(posture, places, window)
    else:
        series = require_behaviour(source)
        times, values = times_of(series, what), series.values.astype(float)[None]
    require_overlap(grid, times, what)
    return grid.of_behaviour(np.where(np.isfinite(values), values, np.nan), times)


def states_of(
    state: str | xr.DataArray | None, traces: xr.Dataset, source: Behaviour, grid: Grid
) -> dict[str, np.ndarray]:
    """Return masks (frame,) of the grid by state; one named "all" without states."""
    if state is None:
        return {"all": np.ones(grid.centres_s.size, bool)}
    labels = state
    if isinstance(state, str):
        held = next(
            (obj for obj in (traces, source) if state in obj.coords or state in getattr(obj, "data_vars", ())), None
        )
        if held is None:
            raise NiddlError(
                f"expected state= as labels over t, or the name of such in traces or posture, got {state!r}"
            )
        labels = held[state]
    if not isinstance(labels, xr.DataArray) or labels.dims != ("t",):
        got = labels.dims if isinstance(labels, xr.DataArray) else type(labels).__name__
        raise NiddlError(f'expected states as a DataArray (t) of labels such as "forward", got {got}')
    times, found = times_of(labels, "state"), labels.values.astype(str)
    require_overlap(grid, times, "state")
    return {
        name: grid.of_behaviour((found == name).astype(float), times) > STATE_MAJORITY
        for name in sorted(set(found.tolist()) - {"", "nan", "unknown"})
    }


def signals_of(
    traces: xr.Dataset,
    posture: xr.Dataset | None,
    *,
    position: xr.DataArray | xr.Dataset | None,
    window: float,
    state: str | xr.DataArray | None,
    behaviour: xr.DataArray | None,
    variable: str,
    filters: Filters,
) -> tuple[Signals, Grid]:
    """Return what :func:`niddl_xr.curvature_correlation` correlates, and the grid it lies on."""
    traces, grid, activity = activity_of(traces, variable)
    names = traces["neuron"].values.tolist()
    source: Behaviour
    if behaviour is not None:
        source, what = require_behaviour(behaviour), "behaviour"
        places = np.full(len(names), np.nan)
        if position is not None and posture is not None:
            places = places_of(traces, posture, position)
    elif posture is None:
        raise NiddlError("expected a posture, or behaviour= in its place, got neither")
    else:
        source, what = require_posture(posture, "curvature"), "posture"
        places = places_of(traces, posture, position)
    seen = filters.as_seen(behaviour_of(source, what, grid, places, window), grid.interval_s)
    followed = np.broadcast_to(seen, (len(names), grid.centres_s.size))
    ready, bending = (filters.slow_removed(values, grid.interval_s) for values in (activity, followed))
    placeless = np.isnan(places) if behaviour is None else np.zeros(len(names), bool)
    signals = Signals(
        neurons=names,
        activity=ready,
        behaviour=bending,
        place=places,
        reason=[_reason(*row) for row in zip(activity, ready, followed, bending, placeless.tolist(), strict=True)],
        states=states_of(state, traces, source, grid),
        interval_s=grid.interval_s,
        frames=traces.sizes["t"],
    )
    return signals, grid


def _reason(
    activity: np.ndarray, ready: np.ndarray, behaviour: np.ndarray, bending: np.ndarray, placeless: bool
) -> str:
    """Return why a neuron has nothing to correlate, "" where it has."""
    if not np.isfinite(activity).any():
        return "no activity known"
    if not np.isfinite(ready).any():
        return "constant activity"
    if placeless:
        return "no place along the body"
    if not np.isfinite(behaviour).any():
        return "no behaviour known"
    if not np.isfinite(bending).any():
        return "constant behaviour"
    return "" if np.any(np.isfinite(ready) & np.isfinite(bending)) else "never known together"
