"""What is given and what is found about which end of the worm is its head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels import orientation
from niddl_xr.schema import NiddlError

ENDS = ("bright", "dark", "shape", "motion")


@dataclass(frozen=True)
class Given:
    """What the user says: points (t, 2) in µm, NaN where nothing is said; or flags (t,); or by what to tell."""

    points_um: np.ndarray | None = None
    flags: np.ndarray | None = None
    by: str | None = None


def given_head(head: object, times: xr.DataArray) -> Given:
    """Check ``head=`` against the times (t) of the frames."""
    if head is None:
        return Given()
    if isinstance(head, str):
        if head not in ENDS:
            raise NiddlError(f"expected head as a point, flags (t), None, or one of {', '.join(ENDS)}, got {head!r}")
        return Given(by=head)
    if not isinstance(head, xr.DataArray):
        return _as_array(np.asarray(head), times.size)
    if head.dims == ("t",):
        if head.dtype.kind != "b":
            raise NiddlError(f"expected flags head (t) as booleans, True to turn a frame round, got dtype {head.dtype}")
        return Given(flags=_at_times(head, times).fillna(0).values.astype(bool))
    if set(head.dims) not in ({"space"}, {"t", "space"}) or not {"y", "x"} <= set(head["space"].values.tolist()):
        raise NiddlError(
            f"expected head as a point in µm with dims (t, space) or (space), and y and x in space, got {head.dims}"
        )
    points = head.sel(space=["y", "x"]).astype(np.float64)
    if "t" not in head.dims:
        return Given(points_um=_in_the_first_frame(points.values, times.size))
    return Given(points_um=_at_times(points, times).transpose("t", "space").values)


def _as_array(values: np.ndarray, frames: int) -> Given:
    if values.dtype.kind == "b" and values.shape == (frames,):
        return Given(flags=values)
    if values.dtype.kind in "uif" and values.shape in ((2,), (3,)):
        return Given(points_um=_in_the_first_frame(values[-2:].astype(np.float64), frames))
    raise NiddlError(
        "expected head as a point (y, x) in µm in the first frame, flags (t), or a DataArray (t, space) of points in "
        f"every frame, got shape {values.shape} of {values.dtype}"
    )


def _in_the_first_frame(point: np.ndarray, frames: int) -> np.ndarray:
    points = np.full((frames, 2), np.nan)
    points[0] = point
    return points


def _at_times(values: xr.DataArray, times: xr.DataArray) -> xr.DataArray:
    """Return values (t, ...) at the times of the frames, NaN where there are none."""
    if "t" not in values.coords:
        if values.sizes["t"] != times.size:
            raise NiddlError(f"expected head with a time for each value, or {times.size} of them as there are frames")
        return values
    if not np.isin(values["t"].values, times.values).any():
        raise NiddlError("expected head at times t of the frames, got none that is one of them")
    return values.reindex(t=times.values)


@dataclass(frozen=True)
class Ends:
    """What frames say about the ends: of centrelines as they were found. Widths and brightness may be all NaN."""

    points_um: np.ndarray  # (t, s, 2)
    curvature: np.ndarray  # (t, s)
    radius_um: np.ndarray  # (t, s)
    brightness: np.ndarray  # (t, s)
    times_s: np.ndarray | None  # (t,), None where times are not in s


@dataclass(frozen=True)
class Heads:
    """Which frames are turned round (t,), how that was told, of which block they are, and which blocks were flipped."""

    reversed_: np.ndarray
    told: np.ndarray
    blocks: np.ndarray
    flipped: np.ndarray


def find_heads(ends: Ends, known: np.ndarray, blocks: orientation.Blocks, given: Given) -> Heads:
    """Decide for every block which end is the head, from what is given, then widths, then motion, then other blocks."""
    flipped = np.zeros(len(known), bool)
    told = np.full(len(known), "", dtype=object)
    told[known] = orientation.UNKNOWN
    numbers = range(int(blocks.number.max(initial=-1)) + 1)
    members = [np.flatnonzero(blocks.number == number) for number in numbers]
    along = _turned(ends, blocks.reversed_)
    undecided = []
    for frames in members:
        sure, by = _by_itself(along, frames, blocks.reversed_[frames], given)
        if sure == 0:
            undecided.append(frames)
            continue
        flipped[frames], told[frames] = sure < 0, by
    for frames in undecided:
        if given.by is None or given.by in ("bright", "dark"):
            sure = _by_others(_turned(ends, blocks.reversed_ ^ flipped), frames, known & (told != orientation.UNKNOWN))
            if sure:
                flipped[frames], told[frames] = sure < 0, orientation.PROFILE
    return Heads(blocks.reversed_ ^ flipped, told, blocks.number, flipped)


def _turned(ends: Ends, reversed_: np.ndarray) -> Ends:
    def turn(values: np.ndarray) -> np.ndarray:
        result = values.copy()
        result[reversed_] = values[reversed_, ::-1]
        return result

    curvature = turn(ends.curvature)
    curvature[reversed_] *= -1  # the right of one who walks the other way is the other side
    return Ends(turn(ends.points_um), curvature, turn(ends.radius_um), turn(ends.brightness), ends.times_s)


def _by_itself(along: Ends, frames: np.ndarray, reversed_: np.ndarray, given: Given) -> tuple[float, str]:
    """Return how sure it is that the head is at s = 0 in these frames, from -1 to 1, 0 for not told; and by what."""
    if given.flags is not None:
        return (-1.0 if given.flags[frames].mean() > 0.5 else 1.0), orientation.GIVEN
    if given.points_um is not None:
        near = [np.hypot(*(along.points_um[frames, end] - given.points_um[frames]).T) for end in (0, -1)]
        closer = np.nanmean(np.sign(near[1] - near[0])) if np.isfinite(near[0]).any() else 0.0
        if closer:
            return float(closer), orientation.GIVEN
    if given.by in ("bright", "dark"):
        light = along.brightness[frames]
        quarter = light.shape[1] // 4
        difference = float(light[:, :quarter].mean() - light[:, -quarter:].mean())
        return (difference if given.by == "bright" else -difference), given.by
    if given.by in (None, "shape"):
        sure = orientation.by_shape(along.radius_um[frames])
        if sure or given.by == "shape":
            return sure, orientation.SHAPE
    if along.times_s is None:
        return 0.0, orientation.MOTION
    return orientation.by_motion(along.curvature[frames], along.times_s[frames]), orientation.MOTION


def _by_others(along: Ends, frames: np.ndarray, decided: np.ndarray) -> float:
    """Compare widths, then brightness, of these frames with those of the decided ones."""
    for profiles in (along.radius_um, along.brightness):
        if decided.any() and np.isfinite(profiles[decided]).any() and np.isfinite(profiles[frames]).any():
            sure = orientation.by_profile(profiles[frames], np.nanmean(profiles[decided], axis=0))
            if sure:
                return sure
    return 0.0
