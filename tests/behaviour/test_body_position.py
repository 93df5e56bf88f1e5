"""The verb assign_body_position: places of neurons along the centreline."""

import numpy as np
import pytest
import xarray as xr

from niddl_xr.behaviour._kernels.nearest import nearest_on_line
from niddl_xr.behaviour.body_position import assign_body_position
from niddl_xr.posture import make_posture
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import freely_moving

T, S, N = 6, 11, 4
SECONDS = {"units": "s"}


def quarter_circle():
    """A posture of radius 100 µm about (200, 200), and four neurons at known angles, the last never positioned."""
    angle = np.linspace(0, np.pi / 2, S)
    line = np.stack([np.zeros(S), 200 + 100 * np.sin(angle), 200 + 100 * np.cos(angle)], axis=-1)
    posture = make_posture(
        np.tile(line, (T, 1, 1)),
        np.full((T, S), 10.0),
        length_um=np.full(T, 157.0),
        quality=np.ones(T),
        reason=[""] * T,
        t=("t", np.arange(T) * 0.5, SECONDS),
    )
    places = np.array([0.25, 0.5, 0.8]) * np.pi / 2
    radius = np.array([80.0, 100.0, 130.0])
    position = np.full((T, N, 3), np.nan)
    position[:, :3] = np.stack([0 * places, 200 + radius * np.sin(places), 200 + radius * np.cos(places)], axis=-1)
    tracks = xr.Dataset(
        {"position": (("t", "neuron", "space"), position), "observed": (("t", "neuron"), np.ones((T, N), bool))},
        coords={"t": ("t", np.arange(T) * 0.5, SECONDS), "neuron": list("abcd"), "space": ["z", "y", "x"]},
    )
    return tracks, posture


def test_places_on_a_circle_are_angles():
    tracks, posture = quarter_circle()
    found = assign_body_position(tracks, posture)
    np.testing.assert_allclose(found.values, [0.25, 0.5, 0.8, np.nan], atol=2e-3)
    np.testing.assert_allclose(found["distance_um"].values[:3], [20, 0, 30], atol=0.5)
    assert found["frames"].values.tolist() == [6, 6, 6, 0]
    np.testing.assert_allclose(found["body_position_spread"].values[:3], 0, atol=1e-9)
    assert found["neuron"].values.tolist() == list("abcd")
    assert "assign_body_position" in found.attrs["niddl_history"]


def test_axes_in_another_order_give_the_same():
    tracks, posture = quarter_circle()
    turned = tracks.transpose("space", "neuron", "t").sel(space=["x", "z", "y"]).chunk(t=2)
    xr.testing.assert_equal(
        assign_body_position(turned, posture.transpose("s", "space", "t").sel(space=["y", "x", "z"])),
        assign_body_position(tracks, posture),
    )


def test_the_median_withstands_jumps_and_the_spread_tells_of_them():
    tracks, posture = quarter_circle()
    tracks["position"][1:3, 1] = tracks["position"].values[1:3, 2]
    found = assign_body_position(tracks, posture)
    assert float(found[1]) == pytest.approx(0.5, abs=2e-3)
    assert float(found["body_position_spread"][1]) > 0.1
    unsure = tracks.copy(deep=True)
    unsure["observed"][1:3, 1] = False
    sure = assign_body_position(unsure, posture)
    assert float(sure["body_position_spread"][1]) < 1e-6
    assert sure["frames"].values.tolist() == [6, 4, 6, 0]
    unsure["observed"][:, 1] = False  # filled in throughout: better than nothing
    assert assign_body_position(unsure, posture)["frames"].values.tolist() == [6, 6, 6, 0]


def test_frames_without_centreline_and_times_without_posture_are_left_out():
    tracks, posture = quarter_circle()
    posture["centerline"][2, 4:6] = np.nan
    later = posture.isel(t=slice(1, None)).assign_coords(t=("t", posture["t"].values[1:] + 0.1, SECONDS))
    assert assign_body_position(tracks, later)["frames"].values.tolist() == [4, 4, 4, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k, p: (k.assign_coords(t=("t", np.arange(T) + 90.0, SECONDS)), p), r"tracks and posture of one time"),
        (lambda k, p: (k.assign_coords(t=np.arange(T) * 0.5), p), r"t of tracks in s, got units None"),
        (lambda k, p: (k, p.drop_vars("centerline")), r"a posture with centerline"),
        (lambda k, p: (k.drop_vars("position"), p), r"expected tracks"),
        (lambda k, p: (k.isel(t=slice(None, None, -1)), p), r"times t of tracks that increase"),
    ],
)
def test_what_cannot_be_matched_is_an_error(change, message):
    with pytest.raises(NiddlError, match=message):
        assign_body_position(*change(*quarter_circle()))


def test_single_frames_and_frames_counted_are_matched():
    tracks, posture = quarter_circle()
    assert assign_body_position(tracks.isel(t=[3]), posture)["frames"].values.tolist() == [1, 1, 1, 0]
    counted = ("t", np.arange(T), {"units": "frame"})
    both = tracks.assign_coords(t=counted), posture.assign_coords(t=counted)
    assert assign_body_position(*both)["frames"].values.tolist() == [6, 6, 6, 0]


def test_the_nearest_point_is_that_of_a_fine_search():
    rng = np.random.default_rng(0)
    lines, points = np.cumsum(rng.standard_normal((2, 8, 3)), axis=1), rng.standard_normal((2, 5, 3))
    along = np.linspace(0, 1, 8)
    fine = np.linspace(0, 1, 20_001)
    place, distance = nearest_on_line(points, lines, along)
    for frame in range(2):
        dense = np.stack([np.interp(fine, along, lines[frame, :, axis]) for axis in range(3)], axis=-1)
        away = np.linalg.norm(points[frame, :, None] - dense, axis=-1)
        np.testing.assert_allclose(place[frame], fine[away.argmin(axis=1)], atol=1e-3)
        np.testing.assert_allclose(distance[frame], away.min(axis=1), atol=1e-3)


def test_places_of_a_simulated_worm_are_those_it_was_made_with():
    worm = freely_moving(shape=(1, 8, 8), frames=40, rate_hz=2, neurons=30, seed=5)
    found = assign_body_position(worm["tracks"].to_dataset(), worm["posture"].to_dataset())
    np.testing.assert_allclose(found, worm["tracks"]["body_position"], atol=0.003)
