"""From the worm of every frame to a posture: reasons, direction, short gaps, labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.behaviour._heads import Ends, Given, find_heads
from niddl_xr.behaviour._kernels import orientation
from niddl_xr.behaviour._kernels.gaps import bridged
from niddl_xr.behaviour._kernels.spline import moved_line
from niddl_xr.posture import make_posture

LONGEST_STEP_S = 0.25  # between two centrelines of one block
BRIDGED_QUALITY = 0.5
INTERPOLATED = "interpolated"


@dataclass(frozen=True)
class Found:
    """Centrelines as they were found, in any direction: (t, s, 3) as z, y, x in µm, and what goes with them.

    ``curvature`` (t, s) in 1/mm, positive to the right; ``length_um``, ``quality`` and ``reason`` (t,), "" where the
    centreline is to be trusted; widths and brightness (t, s), NaN where unknown.
    """

    points_um: np.ndarray
    curvature: np.ndarray
    length_um: np.ndarray
    quality: np.ndarray
    reason: np.ndarray
    radius_um: np.ndarray
    brightness: np.ndarray


def assemble(
    found: Found,
    t: xr.DataArray,
    *,
    head: Given,
    one_block: bool,
    fill_s: float,
    ventral_side: str,
    attrs: Mapping[str, Any],
    shift_um: float = 0.0,
) -> xr.Dataset:
    """Return the posture of centrelines: turned so that s = 0 is the head, short gaps bridged.

    ``one_block``: the direction is the same in all frames, because neurons or another tool say so. ``shift_um`` moves
    the lines away from the ventral side.
    """
    known = found.reason == ""
    in_s = t.attrs.get("units") == "s"
    times = t.values.astype(np.float64) if in_s else np.arange(t.size, dtype=np.float64)
    if one_block:
        blocks = orientation.Blocks(np.where(known, 0, -1), np.zeros(t.size, bool))
    else:
        step = float(np.median(np.diff(times))) if t.size > 1 else 1.0
        longest = max(LONGEST_STEP_S + step, 1.5 * step) if in_s else 1.5
        blocks = orientation.blocks_of(found.points_um[..., 1:], known, times, longest)
    ends = Ends(found.points_um[..., 1:], found.curvature, found.radius_um, found.brightness, times if in_s else None)
    heads = find_heads(ends, known, blocks, head)
    points, curvature = found.points_um.copy(), found.curvature.copy()
    turned = heads.reversed_
    points[turned], curvature[turned] = found.points_um[turned, ::-1], -found.curvature[turned, ::-1]
    points[~known], curvature[~known] = np.nan, np.nan
    length = np.where(known, found.length_um, np.nan)
    quality = np.where(known, found.quality, 0.0)
    reason = found.reason.astype(object)
    number = heads.blocks.copy()
    if in_s and fill_s > 0:
        together = np.concatenate([points.reshape(t.size, -1), curvature, length[:, None]], axis=1)
        filled = _bridge_blocks(together, known, times, number, fill_s)
        points = together[:, : points[0].size].reshape(points.shape)
        curvature, length = together[:, points[0].size : -1], together[:, -1]
        quality[filled] = BRIDGED_QUALITY
        for frame in np.flatnonzero(filled):
            reason[frame] = f"{INTERPOLATED}: {reason[frame]}"
            number[frame] = number[frame - 1]
            heads.told[frame], heads.flipped[frame] = heads.told[frame - 1], heads.flipped[frame - 1]
    _warn_of_unknown(heads.told, known)
    sign = -1.0 if ventral_side == "left" else 1.0
    if shift_um:
        for frame in np.flatnonzero(np.isfinite(length)):
            moved = moved_line(points[frame, :, 1:], curvature[frame], length[frame], -sign * shift_um)
            points[frame, :, 1:], curvature[frame], length[frame] = moved
    posture = make_posture(
        points,
        sign * curvature,
        length_um=length,
        quality=quality,
        reason=[str(why) for why in reason],
        t=("t", t.values, dict(t.attrs)),
        ventral_side=ventral_side,
        attrs=attrs,
    )
    block_text = "number of the run of frames within which the direction is continuous, -1 where there is no centreline"
    return posture.assign(
        head_flipped=("t", heads.flipped, {"long_name": "the block runs against the direction of its first frame"}),
        head_told=("t", heads.told.astype(str), {"long_name": "by what the head was told from the tail"}),
        block=("t", number.astype(np.int32), {"long_name": block_text}),
    )


def _bridge_blocks(
    values: np.ndarray, known: np.ndarray, times: np.ndarray, blocks: np.ndarray, fill_s: float
) -> np.ndarray:
    """Bridge gaps within blocks, in place; return which frames were filled."""
    filled = np.zeros(len(values), bool)
    for number in range(int(blocks.max(initial=-1)) + 1):
        frames = np.flatnonzero(blocks == number)
        span = slice(frames[0], frames[-1] + 1)
        values[span], inside = bridged(values[span], known[span] & (blocks[span] == number), times[span], fill_s)
        filled[span] |= inside
    return filled


def _warn_of_unknown(told: np.ndarray, known: np.ndarray) -> None:
    unsure = int(((told == orientation.UNKNOWN) & known).sum())
    if unsure:
        warn(
            f"the head is not told from the tail in {unsure} of {int(known.sum())} frames with a centreline "
            '(head_told is "unknown"): s may run from tail to head there, and the sign of curvature is not known; give '
            "head=, or turn the block round in head_flipped and give that",
            stacklevel=4,
        )
