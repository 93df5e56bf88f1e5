"""Centrelines through tracked neurons of the ventral cord."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from niddl_xr.behaviour._assembly import Found
from niddl_xr.behaviour._kernels import coils, ordering, penalised, spline
from niddl_xr.neurons import require_tracks
from niddl_xr.schema import NiddlError

LEAST_NEURONS = 15
WIDEST_GAP = 0.25  # of the way from the first neuron to the last
OUTLIER_UM, OUTLIER_SDS = 5.0, 4.0
ROUNDS = 2  # of finding the order and the line by turns
SAMPLED = 60
FINE = 400


class Fit(NamedTuple):
    """The line through the neurons of a frame, and from where to where along the body it runs, 0 to 1."""

    line: spline.Line
    start: float
    stop: float


def through_neurons(tracks: xr.Dataset, *, points: int, smooth_um: float | None) -> Found:
    """Return centrelines from the first to the last neuron; the order of neurons is that of all frames together."""
    tracks = require_tracks(tracks)
    positions = tracks["position"].values.astype(np.float64)
    plane = positions[..., 1:]
    if plane.shape[1] < LEAST_NEURONS:
        raise NiddlError(
            f"expected tracks of at least {LEAST_NEURONS} neurons of the ventral cord for a centreline, got "
            f"{plane.shape[1]}: use masks or images of the body"
        )
    places, strength = _cord(plane, smooth_um)
    frames = len(plane)
    lines, curvature = np.full((frames, points, 3), np.nan), np.full((frames, points), np.nan)
    length, quality = np.full(frames, np.nan), np.zeros(frames)
    reason = np.full(frames, coils.TOO_FEW, dtype=object)
    grid = np.linspace(0, 1, points)
    for frame in range(frames):
        fit = _fit(plane[frame], places, strength, points)
        if fit is None:
            continue
        inside = (grid >= fit.start - 1e-9) & (grid <= fit.stop + 1e-9)
        known = np.linspace(fit.start, fit.stop, points)
        for axis in (0, 1):
            lines[frame, inside, axis + 1] = np.interp(grid[inside], known, fit.line.points_um[:, axis])
        lines[frame, inside, 0] = _depths(positions[frame, :, 0], places, grid[inside])
        curvature[frame, inside] = np.interp(grid[inside], known, fit.line.curvature_per_mm)
        length[frame] = fit.line.length_um / (fit.stop - fit.start)
        quality[frame] = np.isfinite(plane[frame]).all(axis=-1).mean()
        reason[frame] = ""
    known = np.isfinite(length)
    if known.any():
        ratio = length / np.median(length[known])
        reason[known & ((ratio < coils.ALIKE[0]) | (ratio > coils.ALIKE[1]))] = coils.LENGTH
    unknown = np.full((frames, points), np.nan)
    return Found(lines, curvature, length, quality, reason, unknown, unknown)


def _cord(plane: np.ndarray, smooth_um: float | None) -> tuple[np.ndarray, float]:
    """Return where neurons lie along the cord (n,), 0 to 1, NaN where that cannot be told; and how much to smooth."""
    places = _scaled(ordering.along_body(plane))
    complete = np.isfinite(plane).all(axis=-1).sum(axis=1)
    best = np.argsort(complete, kind="stable")[::-1][: max(SAMPLED, len(plane) // 10)]
    chosen = best[np.unique(np.linspace(0, len(best) - 1, SAMPLED).round().astype(int))]
    strength = penalised.choose_strength(_in_order(plane[chosen], places), smooth_um)
    for _ in range(ROUNDS):
        found = np.full((len(chosen), plane.shape[1]), np.nan)
        for row, frame in enumerate(chosen):
            fit = _fit(plane[frame], places, strength, FINE)
            if fit is not None:
                known = np.isfinite(plane[frame]).all(axis=-1)
                near = ordering.nearest_places(plane[frame][known], fit.line.points_um)
                found[row, known] = fit.start + near * (fit.stop - fit.start)
        seen = np.isfinite(found).any(axis=0)
        if seen.sum() < LEAST_NEURONS:
            break
        places = np.full(plane.shape[1], np.nan)
        places[seen] = np.nanmedian(found[:, seen], axis=0)
        places = _scaled(places)
        strength = penalised.choose_strength(_in_order(plane[chosen], places), smooth_um)
    return places, strength


def _in_order(plane: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    """Return the neurons of frames (t, n, 2) in their order, of those frames that have enough."""
    order = np.argsort(places, kind="stable")[: int(np.isfinite(places).sum())]
    frames = [frame[order][np.isfinite(frame[order]).all(axis=-1)] for frame in plane]
    return [frame for frame in frames if len(frame) >= LEAST_NEURONS]


def _scaled(places: np.ndarray) -> np.ndarray:
    if not np.isfinite(places).any():
        return places
    return np.asarray((places - np.nanmin(places)) / max(float(np.nanmax(places) - np.nanmin(places)), 1e-12))


def _fit(plane: np.ndarray, places: np.ndarray, strength: float, points: int) -> Fit | None:
    """Fit the neurons (n, 2) of a frame; None where they are too few, or leave too much of the cord bare."""
    known = np.isfinite(plane).all(axis=-1) & np.isfinite(places)
    order = np.flatnonzero(known)[np.argsort(places[known], kind="stable")]
    for _ in range(2):
        where = places[order]
        if len(order) < LEAST_NEURONS or np.diff((0.0, *where, 1.0)).max() > WIDEST_GAP:
            return None
        off = np.hypot(*penalised.Smoother(plane[order]).residuals(strength).T)
        near = off <= max(OUTLIER_UM, OUTLIER_SDS * float(np.median(off)))
        if near.all():
            break
        order = order[near]
    where = places[order]
    if len(order) < LEAST_NEURONS or np.diff((0.0, *where, 1.0)).max() > WIDEST_GAP:
        return None
    line = penalised.Smoother(plane[order]).line(strength, points)
    return Fit(line, float(where[0]), float(where[-1]))


def _depths(z_um: np.ndarray, places: np.ndarray, grid: np.ndarray) -> np.ndarray:
    known = np.isfinite(z_um) & np.isfinite(places)
    order = np.flatnonzero(known)[np.argsort(places[known], kind="stable")]
    return np.asarray(np.interp(grid, places[order], z_um[order]))
