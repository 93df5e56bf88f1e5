"""The contract between the rooms for how a worm lies: its posture.

A *posture* is a Dataset over ``t`` [s] and ``s``, the place along the body from 0 (head) to 1 (tail) in equal steps of
arc length: ``centerline`` (t, s, space = [z, y, x]) in µm, NaN where it is not known; ``curvature`` (t, s) in 1/mm;
``length`` (t) in µm; ``quality`` (t), 0 to 1, 0 where there is no centreline; ``reason`` (t), why there is none or why
it was mended, "" where nothing is amiss. The attribute ``ventral_side`` is "right" or "left" of one who walks over the
displayed image, y downwards, from head to tail, or "unknown". Curvature is positive where the body bends to its ventral
side; where that is unknown, positive where it bends to the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.schema import SPACE_DIMS, NiddlError

CENTERLINE_DIMS = ("t", "s", "space")
CURVATURE_DIMS = ("t", "s")
VENTRAL_SIDES = ("right", "left", "unknown")


def make_posture(
    centerline_um: np.ndarray,
    curvature_per_mm: np.ndarray,
    *,
    length_um: np.ndarray,
    quality: np.ndarray,
    reason: Sequence[str],
    t: tuple[str, np.ndarray, Mapping[str, Any]],
    ventral_side: str = "unknown",
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays as a posture: (t, s, space), (t, s), and three of (t); ``t`` is the time coordinate."""
    towards = "the right" if ventral_side == "unknown" else "the ventral side"
    bending = {"units": "1/mm", "long_name": f"curvature, positive towards {towards}"}
    return xr.Dataset(
        {
            "centerline": (CENTERLINE_DIMS, centerline_um.astype(np.float32), {"units": "µm"}),
            "curvature": (CURVATURE_DIMS, curvature_per_mm.astype(np.float32), bending),
            "length": ("t", length_um.astype(np.float32), {"units": "µm"}),
            "quality": ("t", quality.astype(np.float32)),
            "reason": ("t", np.asarray(list(reason), dtype=str)),
        },
        coords={
            "t": t,
            "s": ("s", np.linspace(0, 1, centerline_um.shape[1]), {"long_name": "place along the body, 0 is the head"}),
            "space": list(SPACE_DIMS),
        },
        attrs={"ventral_side": _known_side(ventral_side), **(attrs or {})},
    )


def require_posture(posture: xr.Dataset, *variables: str) -> xr.Dataset:
    """Return ``posture`` with dims in the order (t, s, space) if it holds ``variables``, else raise one error."""
    if not isinstance(posture, xr.Dataset):
        raise NiddlError(
            f"expected a posture, a Dataset with {' and '.join(variables)} over (t, s), got {type(posture).__name__}; "
            "see niddl_xr.centerline"
        )
    missing = [name for name in variables if name not in posture]
    if missing:
        raise NiddlError(
            f"expected a posture with {' and '.join(variables)}, got {list(posture.data_vars)}; see niddl_xr.centerline"
        )
    dims = {"centerline": CENTERLINE_DIMS, "curvature": CURVATURE_DIMS}
    for name in variables:
        wanted = dims.get(name, ("t",))
        if set(posture[name].dims) != set(wanted):
            raise NiddlError(f"expected {name} with dims {wanted}, got {posture[name].dims}")
    for dim in ("t", *(["s"] if "s" in posture.dims else [])):
        if dim not in posture.coords:
            raise NiddlError(f"expected the coordinate {dim}; add it with assign_coords")
    times = posture["t"].values
    if np.any(np.diff(times) <= 0):
        raise NiddlError("expected times t that increase, got some that repeat or go back; see Dataset.sortby")
    _known_side(posture.attrs.get("ventral_side", "unknown"))
    if "space" in posture.dims:
        if "space" not in posture.coords or set(posture["space"].values.tolist()) != set(SPACE_DIMS):
            raise NiddlError(f"expected the coordinate space to name the axes {SPACE_DIMS}")
        posture = posture.sel(space=list(SPACE_DIMS))
    return posture.transpose("t", "s", "space", ..., missing_dims="ignore")


def _known_side(side: str) -> str:
    if side not in VENTRAL_SIDES:
        raise NiddlError(f"expected ventral_side as one of {', '.join(VENTRAL_SIDES)}, got {side!r}")
    return side
