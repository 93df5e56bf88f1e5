"""The verb locomotion: speed, phase of the undulation, and whether the worm crawls, reverses, turns or rests."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels import modes, motion
from niddl_xr.behaviour._kernels.spline import tangent_angles
from niddl_xr.posture import require_posture
from niddl_xr.schema import MICROMETRE, NiddlError, with_history

STATES = ("forward", "reversal", "turn", "pause", "unknown")
PHASE_RAD_PER_S = 0.05
TURN_RAD = 3.0
LEAST_FRAMES = 10
SMOOTH_S = 0.3


def locomotion(
    posture: xr.Dataset,
    *,
    stage: xr.DataArray | str | None = None,
    smooth_s: float = SMOOTH_S,
    pause_rad_per_s: float = PHASE_RAD_PER_S,
    turn_rad: float = TURN_RAD,
) -> xr.Dataset:
    """Say how the worm moves: how fast, in which phase of its undulation, and what it is doing.

    Parameters
    ----------
    posture
        With ``centerline`` (t, s, space) in µm and t in s.
    stage
        Where on the plate the image is: (t, space) in µm, at the times of the posture, to be added to places in the
        image. "fixed" where the camera and the plate stand still. None takes the ``stage`` of the posture if it has one
        (simulated ones do), else there is no speed: under a stage that follows the worm, places in the image do not
        move.
    smooth_s
        Sigma in s of the Gaussian that speed and phase velocity are smoothed by.
    pause_rad_per_s
        A phase that turns more slowly than this, in rad/s, is a pause. An undulation of 0.35 Hz turns by 2.2.
    turn_rad
        A body whose tail end points this far away from its head end, in rad, is in a turn. An undulation bends
        it by up to about 1.7, an omega turn by more than 3.

    Returns
    -------
    xarray.Dataset
        All (t): ``speed`` along the body in µm/s, positive towards the head, NaN without ``stage``; ``phase`` in rad,
        -pi to pi; ``phase_velocity`` in rad/s, positive forwards; ``state``: "forward", "reversal", "turn", "pause",
        or "unknown", where the centreline or the direction of the head is (``head_told``). NaN where the centreline is
        not known, and velocities beside such a frame.

    Raises
    ------
    NiddlError
        Without times in s, with a stage of other times or units.

    Notes
    -----
    The phase is the angle in the plane of the first two eigenworms, each over its RMS; it turns steadily in crawling
    (Stephens et al., PLoS Comput. Biol. 4:e1000028, 2008). Forwards is where the bends run from head to tail.
    The threshold of 0.05 rad/s is that of the Leifer group's ethograms. Below 10 known frames there is no phase.
    A turn is told first, then pause, then direction by the phase; bouts shorter than the smoothing are not told.

    Examples
    --------
    >>> from niddl_xr.simulation import freely_moving
    >>> worm = freely_moving(shape=(1, 64, 80), voxel_um=(1, 12, 12), frames=60, neurons=6, seed=1)
    >>> moving = locomotion(worm["posture"].to_dataset())
    >>> moving["speed"].attrs["units"], str(moving["state"].values[30])
    ('µm/s', 'forward')
    """
    checked = require_posture(posture, "centerline")
    for name, value in (("smooth_s", smooth_s), ("pause_rad_per_s", pause_rad_per_s), ("turn_rad", turn_rad)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
            raise NiddlError(f"expected {name} as a finite number from 0 on, got {value!r}")
    times = _times_s(checked)
    line = checked["centerline"].sel(space=["y", "x"]).transpose("t", "s", "space").values.astype(np.float64)
    known = np.asarray(np.isfinite(line).all(axis=(1, 2)))
    place = _on_plate(checked, stage)
    speed = np.full(len(line), np.nan)
    if place is not None:
        speed = motion.speed_along(line + place[:, None], times, smooth_s)
    phase, rate = _phase(line, known, times, smooth_s)
    state = _states(line, known, rate, checked, pause_rad_per_s, turn_rad)
    missing = "" if place is not None else "; needs stage="
    result = xr.Dataset(
        {
            "speed": (
                "t",
                speed.astype(np.float32),
                {"units": "µm/s", "long_name": f"speed along the body, positive towards the head{missing}"},
            ),
            "phase": ("t", phase.astype(np.float32), {"units": "rad"}),
            "phase_velocity": ("t", rate.astype(np.float32), {"units": "rad/s"}),
            "state": ("t", state),
        },
        coords={"t": ("t", checked["t"].values, checked["t"].attrs)},  # without coordinates named like the results
        attrs={name: checked.attrs[name] for name in ("ventral_side", "niddl_history") if name in checked.attrs},
    )
    given = "given" if isinstance(stage, xr.DataArray) else stage
    parameters = {"stage": given, "smooth_s": smooth_s, "pause_rad_per_s": pause_rad_per_s, "turn_rad": turn_rad}
    return with_history(result, "locomotion", parameters)


def _times_s(posture: xr.Dataset) -> np.ndarray:
    if posture["t"].attrs.get("units") != "s" or posture.sizes["t"] < 3:
        raise NiddlError(
            f"expected three frames or more with t in s, got {posture.sizes['t']} in "
            f"{posture['t'].attrs.get('units')!r}: set t with assign_coords and its attrs['units'] = 's'"
        )
    return np.asarray(posture["t"].values.astype(np.float64))


def _on_plate(posture: xr.Dataset, stage: xr.DataArray | str | None) -> np.ndarray | None:
    """Return where the image is (t, 2) as y, x in µm, None where that is not known."""
    if isinstance(stage, str):
        if stage != "fixed":
            raise NiddlError(f'expected stage as a DataArray (t, space) in µm, "fixed" or None, got {stage!r}')
        return np.zeros((posture.sizes["t"], 2))
    if stage is None:
        if "stage" not in posture:
            return None
        stage = posture["stage"]
    if set(stage.dims) != {"t", "space"} or not {"y", "x"} <= set(stage["space"].values.tolist()):
        raise NiddlError(f"expected stage with dims (t, space), y and x in space, got {stage.dims}")
    if stage.attrs.get("units") not in MICROMETRE:
        raise NiddlError(f"expected stage in µm, got units {stage.attrs.get('units')!r}: set attrs['units'] = 'µm'")
    if stage.sizes["t"] != posture.sizes["t"] or (
        "t" in stage.coords and not np.allclose(stage["t"].values, posture["t"].values)
    ):
        raise NiddlError("expected stage at the times of the posture; see DataArray.interp(t=posture.t)")
    return np.asarray(stage.sel(space=["y", "x"]).transpose("t", "space").values.astype(np.float64))


def _phase(line: np.ndarray, known: np.ndarray, times: np.ndarray, smooth_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the phase (t,) and how fast it turns (t,); all NaN where too few frames are known."""
    phase = np.full(len(line), np.nan)
    if known.sum() < LEAST_FRAMES:
        return phase, phase.copy()
    angles = np.full(line.shape[:2], np.nan)
    angles[known] = modes.mean_removed(tangent_angles(line[known]))
    shapes = modes.principal_modes(angles[known], 2).shapes
    amounts = np.full((len(line), 2), np.nan)
    amounts[known] = modes.amplitudes(angles[known], shapes)
    if not np.all((amounts[known] ** 2).mean(axis=0) > 1e-10):
        return phase, phase.copy()  # a worm that never bends has none
    phase = motion.phase_of(amounts)
    rate = motion.phase_velocity(phase, times, smooth_s)
    direction = motion.wave_direction(angles, rate, times) or np.nan
    return direction * phase, direction * rate


def _states(
    line: np.ndarray,
    known: np.ndarray,
    rate: np.ndarray,
    posture: xr.Dataset,
    pause_rad_per_s: float,
    turn_rad: float,
) -> np.ndarray:
    bent = np.full(len(line), np.nan)
    angles = tangent_angles(line[known])
    quarter = max(1, angles.shape[1] // 10)
    bent[known] = np.abs(angles[:, -quarter:].mean(axis=1) - angles[:, :quarter].mean(axis=1))
    state = np.full(len(line), "unknown", dtype=object)
    told = np.isfinite(rate)
    state[told & (rate > 0)], state[told & (rate < 0)] = "forward", "reversal"
    state[told & (np.abs(rate) < pause_rad_per_s)] = "pause"
    state[bent > turn_rad] = "turn"
    state[~known] = "unknown"
    if "head_told" in posture:
        unsure = (posture["head_told"].values == "unknown") & np.isin(state, ["forward", "reversal"])
        state[unsure] = "unknown"
    return np.asarray(state.astype(str))
