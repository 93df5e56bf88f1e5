"""Which way round a mode is: its sign means nothing until it is tied to something."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.dynamics._activity import Activity
from niddl_xr.dynamics._kernels.components import signs_by, signs_by_largest
from niddl_xr.neurons import require_population
from niddl_xr.schema import NiddlError


def signs_of(
    align_to: str | xr.DataArray | xr.Dataset | None, activity: Activity, loading: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Return +1 or -1 (mode,), see ``align_to`` of :func:`niddl_xr.pca`."""
    largest = signs_by_largest(loading)
    if align_to is None:
        return largest
    if isinstance(align_to, str):
        names = activity.names.astype(str).tolist()
        if align_to not in names:
            there = f"those of the population are {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
            raise NiddlError(f"expected align_to as the name of a neuron, got {align_to!r}; {there}")
        return signs_by(loading[names.index(align_to)], largest)
    if isinstance(align_to, xr.DataArray):
        return signs_by(_covariance(align_to, activity, score), largest)
    if isinstance(align_to, xr.Dataset):
        return signs_by(_agreement(require_population(align_to), activity, loading), largest)
    raise NiddlError(
        "expected align_to as the name of a neuron, a DataArray (t) or a population, got " + type(align_to).__name__
    )


def _covariance(behaviour: xr.DataArray, activity: Activity, score: np.ndarray) -> np.ndarray:
    if behaviour.dims != ("t",) or behaviour.dtype.kind not in "uifb":
        raise NiddlError(
            f"expected align_to as numbers over t, got dtype {behaviour.dtype} over {behaviour.dims}; of states choose "
            "one, such as (state == 'reversal')"
        )
    same = behaviour.sizes["t"] == len(activity.t)
    if same and "t" in behaviour.coords:
        same = bool(np.allclose(behaviour["t"].values.astype(float), activity.t, rtol=0, atol=1e-6))
    if not same:
        raise NiddlError(
            f"expected align_to at the {len(activity.t)} times of the traces, got {behaviour.sizes['t']} "
            "others; see interp(t=traces.t)"
        )
    values = behaviour.values.astype(np.float64)
    both = np.isfinite(values) & activity.seen
    if not both.any():
        raise NiddlError("expected align_to with numbers where the traces have some, got NaN alone")
    return np.asarray((values[both] - values[both].mean()) @ (score[both] - score[both].mean(axis=0)))


def _agreement(other: xr.Dataset, activity: Activity, loading: np.ndarray) -> np.ndarray:
    theirs = other["neuron"].values.tolist() if "neuron" in other.coords else []
    ours = activity.names.tolist()
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise NiddlError("expected align_to as a population that shares neurons with the traces by name, got none")
    beside = other["loading"].values[[theirs.index(name) for name in shared]]
    products = beside.T @ loading[[ours.index(name) for name in shared]]
    return np.asarray(products[np.abs(products).argmax(axis=0), np.arange(products.shape[1])])
