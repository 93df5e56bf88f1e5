"""Traces that the user brings, as the activity of simulated neurons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import xarray as xr

from niddl_xr.schema import NiddlError


def given_activity(
    activity: xr.DataArray, t_s: np.ndarray, names: Sequence[str], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return dF/F (t, neuron), float32, at the times ``t_s``, and for each neuron the name of the trace it plays.

    A neuron plays the trace of its own name where there is one. The others draw from the rest at random, each once
    as long as they last (the rule of the semi-synthetic videos of Chaudhary, Moon & Lu, Nat. Commun. 13:5165, 2022).
    Between samples the traces are interpolated linearly; the first sample falls on the first frame.
    """
    seconds, values, available = _require_activity(activity)
    played_s, lasting_s = t_s - t_s[0], float(seconds[-1])
    if played_s[-1] > lasting_s * (1 + 1e-6):
        raise NiddlError(
            f"expected activity of at least {played_s[-1]:.6g} s, got {lasting_s:.6g} s: "
            "lower frames= or raise rate_hz="
        )
    column = {name: number for number, name in enumerate(available)}
    unused = rng.permutation([number for name, number in column.items() if name not in set(names)]).tolist()
    chosen = np.empty(len(names), int)
    for place, name in enumerate(names):
        if name in column:
            chosen[place] = column[name]
        elif unused:
            chosen[place] = unused.pop()
        else:
            chosen[place] = rng.integers(len(column))
    dff = np.empty((len(t_s), len(names)), np.float32)
    for place, number in enumerate(chosen):
        dff[:, place] = np.interp(played_s, seconds, values[:, number])
    return dff, np.asarray(available)[chosen]


def _require_activity(activity: xr.DataArray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the seconds since the first sample (t,), dF/F (t, neuron) and the names of the traces, else raise."""
    if not isinstance(activity, xr.DataArray):
        raise NiddlError(
            f"expected activity as a DataArray (t, neuron) of dF/F, got {type(activity).__name__}: "
            'wrap it, xr.DataArray(values, dims=("t", "neuron"), coords={"t": seconds})'
        )
    if set(activity.dims) != {"t", "neuron"} or "t" not in activity.coords:
        raise NiddlError(
            f"expected activity with dims t and neuron and the coordinate t in s, got dims {activity.dims} and "
            f"coordinates {list(activity.coords)}"
        )
    if not all(array.size and array.dtype.kind in "iuf" for array in (activity, activity["t"])):
        raise NiddlError(
            f"expected activity of numbers at t in s, got {dict(activity.sizes)} values of {activity.dtype} and t of "
            f'{activity["t"].dtype}: bring dates into seconds with (t - t[0]) / np.timedelta64(1, "s")'
        )
    activity = activity.transpose("t", "neuron")
    seconds, values = activity["t"].values.astype(float), activity.values.astype(np.float64)
    names = _names(activity)
    broken = [name for name, trace in zip(names, values.T, strict=True) if not np.isfinite(trace).all()]
    if broken:
        raise NiddlError(f"expected activity without NaN, got some in {broken[:5]}: drop or fill these neurons")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise NiddlError(f"expected a name for each trace of activity, got {twice[:5]} more than once: rename them")
    if not (np.isfinite(seconds).all() and np.all(np.diff(seconds) > 0)):
        raise NiddlError("expected activity whose t rises from sample to sample: sort it with sortby('t')")
    if values.min() < -1:
        raise NiddlError(
            f"expected activity as dF/F, never below -1 (no fluorescence), got {values.min():.3g}: "
            "scale z-scored traces first, for example (0.2 * traces).clip(min=-0.9)"
        )
    return seconds - seconds[0], values, names


def _names(activity: xr.DataArray) -> list[str]:
    if "neuron" in activity.coords:
        return [str(name) for name in activity["neuron"].values]
    return [str(number) for number in range(activity.sizes["neuron"])]
