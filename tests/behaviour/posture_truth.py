"""Masks and lines whose curvature is known by algebra, and worms whose posture is known because they are simulated."""

from __future__ import annotations

import numpy as np
import xarray as xr

import niddl_xr as nx
from niddl_xr.simulation._kernels.crawler_body import radius_um

MIDDLE = slice(10, 90)


def frames_of(planes: np.ndarray, pixel_um: float = 2.4, dt_s: float = 0.1) -> xr.DataArray:
    """Planes (t, y, x) with axes in µm and s."""
    axes = {
        dim: (dim, np.arange(size) * pixel_um, {"units": "µm"})
        for dim, size in zip(("y", "x"), planes.shape[1:], strict=True)
    }
    times = ("t", np.arange(len(planes)) * dt_s, {"units": "s"})
    return xr.DataArray(planes, dims=("t", "y", "x"), coords={"t": times, **axes})


def arc(radius_of_arc_um: float, angle_rad: float, count: int = 500) -> np.ndarray:
    """Points (n, 2) as y, x of an arc that starts at (0, 0) towards +x and turns right on the display (y downwards)."""
    angle = np.linspace(0, angle_rad, count)
    return radius_of_arc_um * np.stack([1 - np.cos(angle), np.sin(angle)], axis=1)


def tube(line_um: np.ndarray, shape: tuple[int, int], pixel_um: float, width_um: np.ndarray | float) -> np.ndarray:
    """The pixels (y, x) within a distance of a line (n, 2); the distance may differ along it."""
    grid = np.stack(np.indices(shape), axis=-1).reshape(-1, 2) * pixel_um
    width = np.broadcast_to(width_um, len(line_um))
    inside = np.zeros(len(grid), bool)
    for point, radius in zip(line_um, width, strict=True):
        inside |= ((grid - point) ** 2).sum(axis=1) <= radius**2
    return inside.reshape(shape)


def crawler(what: str, *, pixel_um: float = 2.4, frames: int = 30, rate_hz: float = 2.0, **options) -> xr.DataTree:
    """A worm in a field that holds it, of which one channel has useful pixels and the others are tiny."""
    size = int(1100 / pixel_um)
    sizes = {"shape": (1, size, size), "voxel_um": (1, pixel_um, pixel_um)}
    if what in ("nir", "tracks"):
        sizes = {"shape": (1, 16, 16), "voxel_um": (1, 1100 / 16, 1100 / 16), "nir_voxel_um": pixel_um}
    return nx.simulate.freely_moving(**sizes, frames=frames, rate_hz=rate_hz, **{"neurons": 4, **options})


def self_contact(posture: xr.Dataset, length_um: float = 1000.0) -> np.ndarray:
    """The gap (t,) in µm between parts of the body that are not neighbours; below 0 they overlap."""
    lines = posture["centerline"].sel(space=["y", "x"]).transpose("t", "s", "space").values.astype(float)
    s = np.linspace(0, 1, lines.shape[1])
    radius = radius_um(s, length_um)
    both = radius[:, None] + radius
    apart = np.abs(s[:, None] - s) * length_um > 2 * both + 20
    gaps = [(np.hypot(*np.moveaxis(line[:, None] - line, -1, 0)) - both)[apart].min() for line in lines]
    return np.asarray(gaps)


def agreement(posture: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    """RMSE in 1/mm, mean correlation and slope of curvature over s .1 to .9 of the known frames."""
    known = np.isfinite(posture["length"].values)
    found, true = posture["curvature"].values[known][:, MIDDLE], truth["curvature"].values[known][:, MIDDLE]
    return {
        "rmse": float(np.sqrt(((found - true) ** 2).mean())),
        "r": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, true, strict=True)])),
        "slope": float(np.polyfit(true.ravel(), found.ravel(), 1)[0]),
    }


def head_right(posture: xr.Dataset, truth: xr.Dataset) -> np.ndarray:
    """Whether s = 0 is nearer to the true head than to the true tail, of the known frames."""
    known = np.isfinite(posture["length"].values)
    first = posture["centerline"].sel(space=["y", "x"]).values[known, 0]
    line = truth["centerline"].sel(space=["y", "x"]).values[known]
    return np.hypot(*(first - line[:, 0]).T) < np.hypot(*(first - line[:, -1]).T)
