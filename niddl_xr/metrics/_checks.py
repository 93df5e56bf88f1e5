"""What the image metrics ask of their arguments, and which planes they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.schema import NiddlError

PLANE_DIMS = ("y", "x")


def require_same(recordings: Mapping[str, xr.DataArray], truth: xr.DataArray | None) -> xr.DataArray:
    """Return the first recording, after checking that all have its dims and sizes."""
    everything = dict(recordings)
    if truth is not None:
        everything["the truth"] = truth
    if not recordings:
        raise NiddlError('expected at least one recording, got none; see compare({"raw": recording})')
    for name, array in everything.items():
        if not isinstance(array, xr.DataArray) or array.dims[-2:] != PLANE_DIMS or array.size == 0:
            got = f"dims {array.dims}" if isinstance(array, xr.DataArray) else type(array).__name__
            raise NiddlError(f"expected {name} as a DataArray whose last dims are y and x, not empty, got {got}")
    first_name, first = next(iter(everything.items()))
    different = {n: dict(a.sizes) for n, a in everything.items() if (a.dims, a.shape) != (first.dims, first.shape)}
    if different:
        raise NiddlError(
            f"expected the same dims and sizes everywhere, got {first_name} {dict(first.sizes)} and "
            f"{', '.join(f'{name} {sizes}' for name, sizes in different.items())}; select a common part with isel"
        )
    return first


def require_peak(peak: float | None) -> None:
    """Refuse a range of the truth that is none."""
    if peak is not None and not (np.isfinite(peak) and peak > 0):
        raise NiddlError(f"expected peak, the range of the truth, as a positive number, got {peak}")


def evenly_spread(size: int, most: int | None, argument: str) -> np.ndarray:
    """Return at most ``most`` positions of ``size``, evenly spread, first and last included."""
    if most is not None and most < 1:
        raise NiddlError(f"expected {argument} of 1 or more, or None for all, got {most}")
    if most is None or most >= size:
        return np.arange(size)
    return np.unique(np.round(np.linspace(0, size - 1, most)).astype(int))


def saturation_counts(dtype: np.dtype[Any], saturation: float | None) -> float:
    """Return the counts from which a pixel is saturated: as given, else the largest integer, else infinity."""
    if saturation is not None:
        return float(saturation)
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else float("inf")
