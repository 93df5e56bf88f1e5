"""The verb correlation_map: where along the body, and when, bending goes with a neuron's activity."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.behaviour._correlation_nulls import Search, linear_shift
from niddl_xr.behaviour._correlation_signals import (
    Filters,
    IndicatorTimes,
    activity_of,
    behaviour_of,
    require_lags,
)
from niddl_xr.behaviour._kernels.correlation import shifted_correlation, studentised
from niddl_xr.behaviour._kernels.nulls import tail
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError, with_history


def correlation_map(
    traces: xr.Dataset,
    posture: xr.Dataset,
    *,
    lags_s: tuple[float, float] = (-2.0, 2.0),
    points: int = 20,
    window: float = 0.05,
    highpass_s: float | None = 60.0,
    indicator_tau_s: IndicatorTimes | None = None,
    variable: str = "dff",
    null_draws: int | None = None,
) -> xr.DataArray:
    """Correlate the activity of every neuron with the curvature everywhere along the body, at every lag.

    Parameters
    ----------
    traces
        ``variable`` (t, neuron), t in s, in nearly even steps. NaN is left out, pair by pair.
    posture
        ``curvature`` (t, s) in 1/mm, t in s of the same clock.
    lags_s
        First and last lag in s. Above 0 activity precedes bending.
    points
        Number of places along the body, 2 or more, evenly spaced from ``window`` to 1 - ``window``.
    window
        Curvature is the mean over so much of the body length to both sides of a place, above 0 and below 0.5.
    highpass_s, indicator_tau_s, variable
        As of :func:`niddl_xr.curvature_correlation`.
    null_draws
        Number of linear shifts for the probability that chance gives as strong a correlation anywhere on the map of a
        neuron; None for no test.

    Returns
    -------
    xarray.DataArray
        ``correlation`` (neuron, s, lag), float32, from -1 to 1; ``lag`` in s. NaN where a neuron or a place is unknown
        or constant. With ``null_draws`` the coordinate ``p`` (neuron), of the largest |r| of its map; NaN where the
        recording is too short. Correct it for the number of neurons, by ``scipy.stats.false_discovery_control`` with
        ``method="by"``: the maps of a body's neurons depend on one another.

    Raises
    ------
    NiddlError
        Where times are not in s, do not rise or have no common part, and for arguments out of range.

    Notes
    -----
    Bending travels along the body: a diagonal ridge is the wave. One that lies before the neuron, towards the head, at
    lags below 0 is what proprioception of the anterior body would show (Wen et al., Neuron 76:750, 2012), and what the
    wave alone shows too. The test is that of :func:`niddl_xr.curvature_correlation`.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> truth = nx.simulate.freely_moving(frames=600, rate_hz=4, neurons=6, coupling=0.7, lag_s=0.4, seed=2)
    >>> found = correlation_map(
    ...     truth["traces"].to_dataset(), truth["posture"].to_dataset(), indicator_tau_s=(0.2, 1.2), points=5
    ... )
    >>> dict(found.sizes)
    {'neuron': 6, 's': 5, 'lag': 17}
    """
    lags_s = require_lags(lags_s)
    places = _places(points, window)
    if null_draws is not None and (isinstance(null_draws, bool) or null_draws < 19):
        raise NiddlError(f"expected null_draws as a whole number, 19 or more, or None, got {null_draws!r}")
    filters = Filters(highpass_s, indicator_tau_s)
    posture = require_posture(posture, "curvature")
    traces, grid, activity = activity_of(traces, variable)
    bending = filters.as_seen(behaviour_of(posture, "posture", grid, places, window), grid.interval_s)
    ready, curved = (filters.slow_removed(values, grid.interval_s) for values in (activity, bending))
    first, last = (round(lag / grid.interval_s) for lag in lags_s)
    search = Search(first, last, null_draws or 0, grid.interval_s)
    lags = np.arange(first, last + 1)
    r = np.empty((len(ready), places.size, lags.size), np.float32)
    p = np.full(len(ready), np.nan)
    for neuron, signal in enumerate(ready):
        found, pairs = (values[:, search.reach + lags] for values in shifted_correlation(signal, curved, search.reach))
        r[neuron] = found
        if null_draws is not None and np.isfinite(found).any():
            chance = linear_shift(signal, curved, search)
            p[neuron] = tail(float(np.nanmax(np.abs(studentised(found, pairs)))), chance.draws, chance.independent)
    coords = {
        "neuron": traces["neuron"],
        "s": ("s", places, {"long_name": "place along the body, 0 is the head"}),
        "lag": ("lag", lags * grid.interval_s, {"units": "s", "long_name": "lag, above 0 activity precedes bending"}),
    }
    if null_draws is not None:
        coords["p"] = ("neuron", p)
    if "body_position" in traces.coords:
        coords["body_position"] = traces["body_position"]
    result = xr.DataArray(r, dims=("neuron", "s", "lag"), coords=coords, name="correlation", attrs={"units": "1"})
    parameters = {
        "lags_s": lags_s,
        "points": points,
        "window": window,
        "highpass_s": highpass_s,
        "indicator_tau_s": indicator_tau_s,
        "variable": variable,
        "null_draws": null_draws,
    }
    inherited = result.assign_attrs({key: value for key, value in traces.attrs.items() if key == "niddl_history"})
    return with_history(inherited, "correlation_map", parameters)


def _places(points: int, window: float) -> np.ndarray:
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 2:
        raise NiddlError(f"expected points as a whole number, 2 or more, got {points!r}")
    if isinstance(window, bool) or not isinstance(window, int | float | np.number) or not 0 < window < 0.5:
        raise NiddlError(f"expected window, a part of the body length, above 0 and below 0.5, got {window!r}")
    return np.linspace(window, 1 - window, int(points))
