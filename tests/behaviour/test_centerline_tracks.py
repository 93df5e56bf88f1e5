"""Centrelines through tracked neurons, and of points that another tool has found."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr.behaviour._kernels.ordering import along_body
from niddl_xr.behaviour._kernels.spline import moved_line
from niddl_xr.schema import NiddlError
from tests.behaviour.posture_truth import MIDDLE, arc, crawler

FRAMES = 160


@pytest.fixture(scope="module")
def worm() -> xr.DataTree:
    return crawler("tracks", pixel_um=60.0, frames=FRAMES, rate_hz=2, seed=51, neurons=60, omega_turns_per_min=0)


def chosen(worm: xr.DataTree, count: int, *, jitter_um: float = 1.0) -> xr.Dataset:
    """Tracks of ``count`` neurons all along the cord, in no order, 1 µm beside the truth."""
    tracks, rng = worm["tracks"].to_dataset(), np.random.default_rng(count)
    order = np.argsort(tracks["body_position"].values)
    names = tracks["neuron"].values[order[np.linspace(0, 59, count).round().astype(int)]]
    tracks = tracks.sel(neuron=rng.permutation(names))
    error = np.array([0, jitter_um, jitter_um]) * rng.normal(size=tracks["position"].shape)
    return tracks.assign(position=tracks["position"] + error)


def compared(posture: xr.Dataset, tracks: xr.Dataset, truth: xr.Dataset) -> tuple[float, float, float]:
    """RMSE, mean correlation and slope of curvature at s .1 to .9 of the body, of which the neurons span a part."""
    first, last = np.sort(tracks["body_position"].values)[[0, -1]]
    places = first + (last - first) * posture["s"].values
    inner = (places > 0.1) & (places < 0.9)
    true = truth["curvature"].interp(s=xr.DataArray(places, dims="place")).values[:, inner]
    found = posture["curvature"].values[:, inner]
    known = np.isfinite(found).all(axis=1)
    r = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found[known], true[known], strict=True)])
    return float(np.sqrt(np.mean((found - true)[known] ** 2))), float(r), float(known.mean())


@pytest.mark.parametrize("count", [15, 25])
def test_curvature_through_neurons(worm: xr.DataTree, count: int) -> None:
    tracks, truth = chosen(worm, count), worm["posture"].to_dataset()
    posture = nx.centerline(tracks, ventral_side=truth.attrs["ventral_side"], cord_offset_um=20.0)
    rmse, r, known = compared(posture, tracks, truth)
    assert rmse <= 1.0
    assert r >= 0.98
    assert known == 1
    assert set(posture["head_told"].values) == {"motion"}
    assert posture["quality"].values.tolist() == [1] * FRAMES


def test_the_order_of_neurons_is_found(worm: xr.DataTree) -> None:
    tracks = chosen(worm, 30)
    places = along_body(tracks["position"].values[..., 1:].astype(float))
    rank = np.corrcoef(np.argsort(np.argsort(places)), np.argsort(np.argsort(tracks["body_position"].values)))[0, 1]
    assert abs(rank) > 0.998
    again = nx.centerline(tracks.isel(neuron=slice(None, None, -1)))
    np.testing.assert_allclose(again["curvature"], nx.centerline(tracks)["curvature"], atol=0.02)


def test_frames_with_too_few_neurons_are_flagged(worm: xr.DataTree) -> None:
    tracks = chosen(worm, 20)
    position = tracks["position"].transpose("t", "neuron", "space").values.copy()
    position[3, :6] = np.nan
    far = np.argsort(tracks["body_position"].values)[:6]
    position[7:9, far] = np.nan
    position[11, far[0]] = np.nan
    posture = nx.centerline(tracks.assign(position=(("t", "neuron", "space"), position)), fill_s=0)
    assert posture["reason"].values[[3, 7, 8]].tolist() == ["too few neurons"] * 3
    assert posture["reason"].values[11] == ""
    assert posture["quality"].values[11] == pytest.approx(19 / 20)
    # Where no neuron is, nothing is known; the rest keeps its address.
    lacking = np.isnan(posture["curvature"].values[11])
    assert 0 < lacking.sum() < 15
    assert lacking[0] or lacking[-1]
    whole = nx.centerline(tracks, fill_s=0)["curvature"].values[11]
    assert np.nanmedian(np.abs(posture["curvature"].values[11] - whole)) < 0.5


def test_a_neuron_that_jumps_is_left_out(worm: xr.DataTree) -> None:
    tracks = chosen(worm, 25)
    wrong = tracks["position"].copy(deep=True)
    wrong[5, 12, 1:] += 60.0
    there = nx.centerline(tracks)["curvature"].values[5]
    np.testing.assert_allclose(nx.centerline(tracks.assign(position=wrong))["curvature"].values[5], there, atol=2.5)


def test_tracks_that_cannot_be_used(worm: xr.DataTree) -> None:
    tracks = chosen(worm, 20)
    with pytest.raises(NiddlError, match="at least 15 neurons of the ventral cord for a centreline, got 9"):
        nx.centerline(tracks.isel(neuron=slice(0, 9)))
    with pytest.raises(NiddlError, match="expected contrast and blur_um for images alone, got them with tracks"):
        nx.centerline(tracks, contrast="dark")
    with pytest.raises(NiddlError, match='with tracks and ventral_side="right" or "left"'):
        nx.centerline(tracks, cord_offset_um=20.0)
    with pytest.warns(UserWarning, match="head is not told"):
        empty = nx.centerline(tracks.isel(t=slice(0, 4)))
    assert set(empty["head_told"].values) == {"unknown"}
    gone = tracks.assign(position=tracks["position"] * np.nan)
    assert set(nx.centerline(gone)["reason"].values) == {"too few neurons"}


def test_a_moved_arc_is_an_arc_of_another_radius() -> None:
    line = arc(300.0, 2.0, 80)  # turns right, so its centre lies to the right
    bend = np.full(80, 1 / 0.3)
    moved = moved_line(line, bend, 600.0, 50.0)
    np.testing.assert_allclose(moved.curvature_per_mm, 1 / 0.25, rtol=1e-6)
    assert moved.length_um == pytest.approx(500.0)
    np.testing.assert_allclose(np.hypot(*(moved.points_um - [300, 0]).T)[2:-2], 250, atol=0.1)


def points_of(lines: np.ndarray, units: str | None = "µm") -> xr.DataArray:
    coords = {"t": ("t", np.arange(len(lines)) * 0.1, {"units": "s"}), "space": ["y", "x"]}
    return xr.DataArray(lines, dims=("t", "s", "space"), coords=coords, attrs={} if units is None else {"units": units})


@pytest.mark.parametrize("turn", [1, -1])
def test_points_of_a_circle(turn: int) -> None:
    lines = np.stack([arc(250.0, 3.0, 49) * [turn, 1]] * 3)
    posture = nx.centerline(points_of(lines), points=60)
    np.testing.assert_allclose(posture["curvature"], turn / 0.25, rtol=0.03)
    np.testing.assert_allclose(posture["curvature"][:, 5:-5], turn / 0.25, rtol=0.01)
    np.testing.assert_allclose(posture["length"], 750, rtol=1e-3)
    assert set(posture["head_told"].values) == {"given"}
    np.testing.assert_allclose(posture["centerline"].sel(space=["y", "x"])[:, 0], 0, atol=0.2)
    np.testing.assert_allclose(nx.centerline(points_of(lines / 1000, "mm"))["length"], 750, rtol=1e-3)


def test_true_centrelines_give_true_curvature(worm: xr.DataTree) -> None:
    truth = worm["posture"].to_dataset()
    posture = nx.centerline(truth.transpose("space", "s", "t"))
    assert posture.attrs["ventral_side"] == truth.attrs["ventral_side"]
    np.testing.assert_allclose(posture["curvature"][:, MIDDLE], truth["curvature"][:, MIDDLE], atol=0.9)
    smoother = nx.centerline(truth, smooth_um=25.0)["curvature"][:, MIDDLE]
    assert float(smoother.std()) < 0.9 * float(truth["curvature"][:, MIDDLE].std())


def test_points_that_lack_keep_their_reason() -> None:
    lines = np.stack([arc(250.0, 2.0, 20)] * 6)
    lines[1] = np.nan
    lines[2, 0] = np.nan
    lines[3, 7:9] = np.nan
    lines[4] = 0.0
    posture = nx.centerline(points_of(lines), fill_s=0)
    expected = ["", "no centreline given", "centreline incomplete", "", "centreline incomplete", ""]
    assert posture["reason"].values.tolist() == expected
    np.testing.assert_allclose(posture["curvature"][3], 4, rtol=0.02)
    given = posture.assign(reason=("t", ["", "coiled", "b", "", "d", ""]))
    assert nx.centerline(given, fill_s=0)["reason"].values.tolist() == ["", "coiled", "b", "", "d", ""]


def test_flags_turn_single_frames_of_points() -> None:
    lines = np.stack([arc(250.0, 2.0, 20)] * 3)
    flags = np.array([False, True, False])
    posture = nx.centerline(points_of(lines), head=flags)
    np.testing.assert_allclose(posture["curvature"].mean("s"), [4, -4, 4], rtol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop_attrs(), "expected points in µm, got units None"),
        (
            lambda p: p.rename(s="node"),
            r"expected points with dims \('t', 's', 'space'\), got \('t', 'node', 'space'\)",
        ),
        (lambda p: p.assign_coords(space=["a", "b"]), "name the axes y and x"),
        (lambda p: p.assign_coords(t=[0.0, 0.0, 1.0]), "finite and rise"),
    ],
)
def test_points_that_cannot_be_used(change, message: str) -> None:
    with pytest.raises(NiddlError, match=message):
        nx.centerline(change(points_of(np.stack([arc(250.0, 2.0, 20)] * 3))))
