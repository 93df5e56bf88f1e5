"""The verb centerline: how the worm lies in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.behaviour._assembly import LONGEST_STEP_S, Found, assemble
from niddl_xr.behaviour._cord import through_neurons
from niddl_xr.behaviour._heads import Given, given_head
from niddl_xr.behaviour._outlines import outlined
from niddl_xr.behaviour._points import from_points
from niddl_xr.posture import VENTRAL_SIDES
from niddl_xr.schema import NiddlError, with_history

LEAST_POINTS = 11


def centerline(
    source: xr.DataArray | xr.Dataset,
    *,
    points: int = 100,
    smooth_um: float | None = None,
    head: str | np.ndarray | Sequence[float] | xr.DataArray | None = None,
    ventral_side: str = "unknown",
    contrast: str | None = None,
    blur_um: float | None = None,
    fill_s: float = LONGEST_STEP_S,
    cord_offset_um: float = 0.0,
) -> xr.Dataset:
    """Find how the worm lies in every frame: the line from head to tail, and how it bends.

    Frames are read a few at a time and worked on one by one; afterwards the direction of the lines is made continuous
    in time, and head and tail are told apart. Frames in which the worm touches itself, is cut off, or is not there have
    no centreline, and say why.

    Parameters
    ----------
    source
        One of four. *Masks*: bool (t, y, x) or (t, z, y, x), True is worm; planes are laid on top of each other.
        *Images*: counts of the same dims, of fluorescence or of transmitted light; a bright worm's planes are projected
        by their maximum, a dark one's by their minimum; NaN is not known and no worm. Both with y and x in µm.
        *Tracks* of neurons of the ventral cord, 15 or more: the line runs from the first neuron to the last.
        *Points* (t, s, space) in µm (or mm or m), of another tool, or a posture: they are smoothed and cut anew.
    points
        Number of points ``s`` of the result, equally far apart along the body.
    smooth_um
        RMS distance in µm between the smooth line and what it goes through. None is a fixed strength: bends of a fifth
        of the body are halved, of two fifths whole; for tracks the strength that cross-validation finds.
    head
        Where the head is. None tells it by the widths of the ends (not of tracks), then by motion, then by comparison
        with blocks of frames in which it was told so; points of another tool are taken as they are given. "shape",
        "motion": by these alone. "bright", "dark": the quarter of the body that is brighter, or darker, holds it.
        A point (y, x) in µm: where it is in the first frame. A DataArray (t, space) in µm, NaN where not known: one
        point in each block is enough. Flags (t), bool: the ``head_flipped`` of an earlier result, edited; a block is
        turned as most of its frames say.
    ventral_side
        "right" or "left" of one who walks over the displayed image (y downwards) from head to tail; or "unknown".
        Nothing in an outline tells.
    contrast
        "bright" or "dark": the worm against its background. None finds out in five frames, where the worm is a small
        part of the image. Not for masks.
    blur_um
        Sigma of the Gaussian that images are smoothed by before they are cut; None for 5 µm of bright worms, whose
        photons are few, and 2.5 µm of dark ones, or a pixel where that is more.
    fill_s
        Gaps up to this long, in s, are bridged by straight lines in time, and marked. 0 leaves them.
    cord_offset_um
        For tracks: how far the neurons lie from the midline, to the ventral side, in µm; the line is moved there. 0
        leaves it on the neurons. Needs ``ventral_side``.

    Returns
    -------
    xarray.Dataset
        A posture: ``centerline`` (t, s, space) in µm, float32; z is that of the plane, the mean of the planes, or the
        neurons'. ``curvature`` (t, s) in 1/mm, positive where the body bends to its ventral side, or to the right where
        that is unknown. ``length`` (t) in µm. ``quality`` (t): the part of the outline that lies along the line, of
        neurons the part that was seen; 0.5 where bridged, 0 where NaN. ``reason`` (t): "", why there is no line,
        or "interpolated: " and why. ``block`` (t): runs of frames with one direction, -1 for none. ``head_flipped``
        (t): the block runs against the direction of its first frame, which starts at the upper end. ``head_told``
        (t): "given", "shape", "motion", "profile", "bright", "dark"; "unknown" where nothing told.

        The attribute ``contrast`` keeps what was given or found. Of tracks, ends of which a frame has no neuron are
        NaN.

    Raises
    ------
    NiddlError
        For axes that are not in µm, times that do not rise, images that do not tell bright from dark, fewer than 15
        neurons, and arguments out of range.

    Warns
    -----
    UserWarning
        Where the head is not told from the tail; s may run from tail to head there.

    Notes
    -----
    *Outline.* Otsu's threshold (IEEE Trans. Syst. Man Cybern. 9:62, 1979) of every frame; of bright worms, of the
    square root of the counts above the darkest hundredth. The largest piece, its holes filled; pixels finer than a
    twenty-sixth of the worm's width are averaged. *Line.* The longest path through its skeleton, lengthened at both
    ends to the outline, and a quintic spline of 18 coefficients with a penalty on its fourth derivative (as Eilers &
    Marx, Stat. Sci. 11:89, 1996), on which arc length is measured. Measured on the pixels, it is 3 to 8 % too long.

    *No line.* Nothing stands out from the background by 4 SDs; a second piece has half the area; the worm touches the
    edge of the image. It touches itself where a hole reaches deeper into the outline than 1.25 times its greatest
    radius; where the skeleton has a branch longer than 1.3 times that; where the body is 1.3 times thicker than usual,
    or 4 % of the outline lie beside the line. Area and length are within 15 % of their medians. A stretch of more than
    half the recording in a coil would spoil the medians.

    *Head.* Tails are pointed: where the widths 3 to 14 % from the tips differ by 35 % (median), the blunt end is the
    head; faint fluorescence does not tell. A worm crawls against the wave of its bends, forwards most of the time:
    the direction in which the wave ran for longer, by 15 s and 60 % of the moving time. A block ends where more than
    0.25 s are missing, or where a line is about as near to the last one turned round. All frames of tracks are one
    block, because neurons keep their order: the minimum spanning tree of the distances at which they are seen.

    Examples
    --------
    >>> from niddl_xr.simulation import freely_moving
    >>> worm = freely_moving(shape=(1, 130, 130), voxel_um=(1, 8, 8), frames=3, neurons=3, seed=2)
    >>> posture = centerline(worm["labels"]["body"], points=50, ventral_side="right")
    >>> posture["centerline"].dims, posture["head_told"].values.tolist()
    (('t', 's', 'space'), ['shape', 'shape', 'shape'])
    """
    _check(points, smooth_um, ventral_side, blur_um, fill_s, cord_offset_um)
    times = _times(source)
    given = given_head(head, times)
    kind = _kind(source)
    if cord_offset_um and (kind != "tracks" or ventral_side == "unknown"):
        raise NiddlError(
            f'expected cord_offset_um with tracks and ventral_side="right" or "left", got {kind} and {ventral_side!r}'
        )
    attrs: dict[str, Any] = {}
    if kind == "tracks":
        found = through_neurons(_as_dataset(source), points=points, smooth_um=smooth_um)
    elif kind == "points":
        found = from_points(source, points=points, smooth_um=smooth_um)
        found, given = _as_given(found, given)
        if ventral_side == "unknown" and "ventral_side" in source.attrs:
            ventral_side = source.attrs["ventral_side"]
    else:
        frames = _as_array(source)
        found, attrs = outlined(frames, points=points, smooth_um=smooth_um, contrast=contrast, blur_um=blur_um)
    if kind != "frames" and (contrast is not None or blur_um is not None):
        raise NiddlError(f"expected contrast and blur_um for images alone, got them with {kind}")
    posture = assemble(
        found,
        times,
        head=given,
        one_block=kind != "frames",
        fill_s=fill_s,
        ventral_side=ventral_side,
        attrs=attrs,
        shift_um=cord_offset_um,
    )
    return with_history(
        posture,
        "centerline",
        {
            "source": kind,
            "points": points,
            "smooth_um": smooth_um,
            "head": head if isinstance(head, str) or head is None else "given",
            "ventral_side": ventral_side,
            "contrast": contrast,
            "blur_um": blur_um,
            "fill_s": fill_s,
            "cord_offset_um": cord_offset_um,
        },
    )


def _kind(source: xr.DataArray | xr.Dataset) -> str:
    """Return what was given: "tracks", "points" or "frames"."""
    if isinstance(source, xr.DataArray):
        return "points" if "space" in source.dims else "frames"
    if "position" in source:
        return "tracks"
    if "centerline" in source:
        return "points"
    raise NiddlError(
        "expected masks or images (a DataArray), tracks (a Dataset with position) or points (a Dataset with "
        f"centerline), got a Dataset with {list(source.data_vars)}: choose one variable"
    )


def _as_dataset(source: xr.DataArray | xr.Dataset) -> xr.Dataset:
    return source if isinstance(source, xr.Dataset) else source.to_dataset(name="position")


def _as_array(source: xr.DataArray | xr.Dataset) -> xr.DataArray:
    return source if isinstance(source, xr.DataArray) else source["centerline"]


def _as_given(found: Found, given: Given) -> tuple[Found, Given]:
    """Return ready centrelines with frames turned as flags say; without any word they run from head to tail."""
    if given.flags is not None:
        turned = given.flags
        lines, curvature = found.points_um.copy(), found.curvature.copy()
        lines[turned], curvature[turned] = lines[turned, ::-1], -curvature[turned, ::-1]
        found = replace(found, points_um=lines, curvature=curvature)
    if given.by is None and given.points_um is None:
        given = Given(flags=np.zeros(len(found.reason), bool))
    return found, given


def _check(
    points: int, smooth_um: float | None, ventral_side: str, blur_um: float | None, fill_s: float, cord_offset_um: float
) -> None:
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < LEAST_POINTS:
        raise NiddlError(f"expected points as a whole number from {LEAST_POINTS} on, got {points!r}")
    lengths = {"smooth_um": smooth_um, "blur_um": blur_um, "fill_s": fill_s, "cord_offset_um": cord_offset_um}
    for name, value in lengths.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
            raise NiddlError(f"expected {name} as a finite number from 0 on, got {value!r}")
    if ventral_side not in VENTRAL_SIDES:
        raise NiddlError(f"expected ventral_side as one of {', '.join(VENTRAL_SIDES)}, got {ventral_side!r}")


def _times(source: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the times of the frames, rising."""
    if not isinstance(source, xr.DataArray | xr.Dataset) or "t" not in source.dims:
        got = source.dims if isinstance(source, xr.DataArray | xr.Dataset) else type(source).__name__
        raise NiddlError(
            f"expected masks or images (t, y, x), tracks (t, neuron, space) or points (t, s, space), got {got}"
        )
    if "t" not in source.coords:
        return xr.DataArray(np.arange(source.sizes["t"]), dims="t", attrs={"units": "frame"})
    values = source["t"].values.astype(np.float64)
    if not np.all(np.isfinite(values)) or np.any(np.diff(values) <= 0):
        raise NiddlError("expected times t that are finite and rise, got some that repeat or go back; see sortby('t')")
    return source["t"].drop_vars([name for name in source["t"].coords if name != "t"])
