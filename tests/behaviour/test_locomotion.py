from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr.posture import make_posture
from niddl_xr.schema import NiddlError

T, S, DT = 120, 40, 0.1
TIMES = np.arange(T) * DT


def posture_of(lines: np.ndarray, **attrs) -> xr.Dataset:
    """Lines (t, s, 2) as y, x in µm."""
    line = np.concatenate([np.zeros((*lines.shape[:2], 1)), lines], axis=-1)
    known = np.isfinite(line).all(axis=(1, 2))
    return make_posture(
        line,
        np.zeros(lines.shape[:2]),
        length_um=np.where(known, 1000.0, np.nan),
        quality=known.astype(float),
        reason=["" if k else "coil" for k in known],
        t=("t", TIMES[: len(lines)], {"units": "s"}),
        attrs=attrs,
    )


def gliding(speed_um_per_s: np.ndarray | float) -> np.ndarray:
    """A worm that follows a sine on the plate without slipping, head first where the speed is positive."""
    way = np.cumsum(np.broadcast_to(speed_um_per_s, T)) * DT
    # Arc length along the sine, measured finely; the head is ahead, at smaller s, so the body lies behind it.
    x = np.linspace(-6000, 6000, 60001)
    y = 120 * np.sin(2 * np.pi * x / 600)
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    arc -= np.interp(0, x, arc)
    place = way[:, None] - np.linspace(0, 1000, S)
    return np.stack([np.interp(place, arc, y), np.interp(place, arc, x)], axis=-1)


@pytest.mark.parametrize("speed", [150.0, -90.0])
def test_speed_and_state_of_a_worm_that_does_not_slip(speed: float) -> None:
    moving = nx.locomotion(posture_of(gliding(speed)), stage="fixed")
    np.testing.assert_allclose(moving["speed"][5:-5], speed, rtol=0.03)
    assert moving["speed"].attrs["units"] == "µm/s"
    assert set(moving["state"].values) == {"forward" if speed > 0 else "reversal"}
    # One undulation is one wavelength of the sine, of which the arc length is about 1 mm for 600 µm.
    arc_um = np.hypot(np.diff(np.linspace(0, 600, 2001)), np.diff(120 * np.sin(np.linspace(0, 2 * np.pi, 2001)))).sum()
    turned = float(moving["phase_velocity"][10:-10].mean())
    assert turned == pytest.approx(2 * np.pi * speed / arc_um, rel=0.08)


def test_a_stage_that_follows_hides_the_motion_unless_it_is_known() -> None:
    lines = gliding(150.0)
    stage = lines.mean(axis=1)
    seen = posture_of(lines - stage[:, None])
    unknown = nx.locomotion(seen)
    assert np.isnan(unknown["speed"]).all()
    assert "needs stage=" in unknown["speed"].attrs["long_name"]
    assert set(unknown["state"].values) == {"forward"}
    coords = {"t": seen["t"], "space": ["x", "y"]}
    given = xr.DataArray(stage[:, ::-1].T, dims=("space", "t"), coords=coords, attrs={"units": "µm"})
    np.testing.assert_allclose(nx.locomotion(seen, stage=given)["speed"][5:-5], 150, rtol=0.03)
    held = seen.assign(stage=given)
    np.testing.assert_allclose(nx.locomotion(held)["speed"][5:-5], 150, rtol=0.03)


def test_pause_turn_and_gap() -> None:
    speed = np.where(TIMES < 4, 150.0, np.where(TIMES < 8, 0.0, -150.0))
    lines = gliding(speed)
    turn = 250 * np.stack([1 - np.cos(np.linspace(0, 4, S)), np.sin(np.linspace(0, 4, S))], axis=-1)
    lines[20], lines[100:103] = turn, np.nan
    moving = nx.locomotion(posture_of(lines), stage="fixed", smooth_s=0.1)
    state = moving["state"].values
    assert set(state[5:15]) == {"forward"}
    assert state[20] == "turn"
    assert set(state[50:70]) == {"pause"}
    assert set(state[85:98]) == {"reversal"}
    assert set(state[100:103]) == {"unknown"}
    assert np.isnan(moving["phase"].values[100:103]).all()
    assert np.isnan(moving["speed"].values[100:103]).all()


def test_without_the_head_there_is_no_direction() -> None:
    posture = posture_of(gliding(150.0)).assign(head_told=("t", ["motion"] * 60 + ["unknown"] * 60))
    state = nx.locomotion(posture)["state"].values
    assert set(state[:60]) == {"forward"}
    assert set(state[60:]) == {"unknown"}


def test_states_of_a_simulated_worm() -> None:
    truth = nx.simulate.freely_moving(shape=(1, 16, 16), voxel_um=(1, 70, 70), frames=600, neurons=2, seed=6)
    posture = truth["posture"].to_dataset()
    moving = nx.locomotion(posture)
    crawling = ~posture["turn"].values
    assert (moving["state"].values == posture["state"].values)[crawling].mean() > 0.9
    direction = np.where(posture["state"].values == "forward", 1, -1)
    assert (np.sign(moving["speed"].values) == direction)[crawling].mean() > 0.9


def test_a_worm_that_never_bends_has_no_phase() -> None:
    straight = np.stack([np.zeros(S), np.linspace(1000, 0, S)], axis=-1)[None] + np.zeros((T, 1, 2))
    moving = nx.locomotion(posture_of(straight), stage="fixed")
    assert np.isnan(moving["phase"]).all()
    assert set(moving["state"].values) == {"unknown"}
    np.testing.assert_allclose(moving["speed"], 0, atol=1e-9)
    few = nx.locomotion(posture_of(gliding(150.0)[:6]), stage="fixed")
    assert np.isnan(few["phase_velocity"]).all()


def test_errors_say_what_was_expected() -> None:
    posture = posture_of(gliding(150.0))
    with pytest.raises(NiddlError, match="three frames or more with t in s, got 120 in None"):
        nx.locomotion(posture.assign_coords(t=np.arange(T)))
    with pytest.raises(NiddlError, match="\"fixed\" or None, got 'still'"):
        nx.locomotion(posture, stage="still")
    stage = xr.DataArray(np.zeros((T, 2)), dims=("t", "space"), coords={"space": ["y", "x"]})
    with pytest.raises(NiddlError, match="expected stage in µm, got units None"):
        nx.locomotion(posture, stage=stage)
    with pytest.raises(NiddlError, match="expected stage at the times of the posture"):
        nx.locomotion(posture, stage=stage[1:].assign_attrs(units="µm"))
    with pytest.raises(NiddlError, match="expected stage with dims"):
        nx.locomotion(posture, stage=stage.rename(t="time"))
    with pytest.raises(NiddlError, match="expected turn_rad as a finite number from 0 on, got -1"):
        nx.locomotion(posture, turn_rad=-1)
