from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from niddl_xr.plots import plot_trajectory
from niddl_xr.plots.trajectory import STATE_COLOURS, colours_of_states, projected
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw, options_of

STATES = np.array(["forward"] * 4 + ["reversal"] * 3 + ["forward"] * 2)


@pytest.fixture
def population() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "score": (("t", "mode"), rng.standard_normal((9, 4))),
            "loading": (("neuron", "mode"), rng.standard_normal((7, 4))),
            "explained": ("mode", [0.4, 0.2, 0.1, 0.05]),
        },
        coords={
            "t": ("t", np.arange(9) * 0.5, {"units": "s"}),
            "neuron": [f"N{k}" for k in range(7)],
            "mode": [1, 2, 3, 4],
            "state": ("t", STATES),
            "speed": ("t", np.linspace(-0.1, 0.2, 9), {"units": "mm/s"}),
        },
    )


def curves_of(overlay) -> dict[str, hv.Curve]:
    return {curve.label: curve for curve in overlay.traverse(lambda found: found, [hv.Curve])}


def segments_of(overlay) -> hv.Segments:
    (segments,) = overlay.traverse(lambda found: found, [hv.Segments])
    return segments


def test_states_in_their_colours_without_a_break_between_them(population):
    overlay = plot_trajectory(population, modes=(3, 1))
    curves = curves_of(overlay)
    assert set(curves) == {"forward", "reversal"}
    score = population["score"].sel(mode=[3, 1]).values
    nan = [[np.nan, np.nan]]
    np.testing.assert_array_equal(curves["reversal"].array(), np.concatenate([score[4:8], nan]))
    np.testing.assert_array_equal(curves["forward"].array(), np.concatenate([score[:5], nan, score[7:], nan]))
    for state, curve in curves.items():
        assert options_of(curve, "style")["color"] == STATE_COLOURS[state]
    figure = draw(overlay)
    assert {item.label.value for item in figure.legend[0].items} == {"forward", "reversal"}
    assert (figure.xaxis[0].axis_label, figure.yaxis[0].axis_label) == ("PC3 (10%)", "PC1 (40%)")


def test_numbers_have_a_colour_bar_and_gaps_stay_open(population):
    population["score"][3] = np.nan
    drawn = segments_of(plot_trajectory(population.transpose("mode", ...), color="speed"))
    score, starts = population["score"].values, [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal(drawn.array()[:, :2], score[starts, :2])
    np.testing.assert_array_equal(drawn.array()[:, 2:4], score[[1, 2, 5, 6, 7, 8], :2])
    np.testing.assert_array_equal(drawn.dimension_values("value"), population["speed"].values[starts])
    assert options_of(drawn, "plot")["clabel"] == "speed (mm/s)"
    assert options_of(drawn, "plot")["clim"] == pytest.approx((-0.1, 0.2))
    white = segments_of(plot_trajectory(population, color=population["speed"], palette="difference"))
    assert options_of(white, "plot")["clim"] == pytest.approx((-0.2, 0.2))
    draw(plot_trajectory(population, color="speed"))


def test_without_states_time_is_the_colour(population):
    drawn = segments_of(plot_trajectory(population.drop_vars("state")))
    assert options_of(drawn, "plot")["clabel"] == "time (s)"
    draw(plot_trajectory(population.drop_vars(["state", "t"])))


def test_arrays_booleans_and_unknown_states(population):
    turning = xr.DataArray(np.arange(9) % 4 == 0, dims="t", name="turning")
    assert set(curves_of(plot_trajectory(population, color=turning))) == {"turning", "not turning"}
    words = [None, "", "rest", "rest", "forward", float("nan"), "rest", "rest", "rest"]
    curves = curves_of(plot_trajectory(population, color=np.array(words, dtype=object)))
    assert set(curves) == {"rest", "forward", "unknown"}
    assert options_of(curves["unknown"], "style")["color"] == "#999999"
    constant = segments_of(plot_trajectory(population, color=np.full(9, 3.0)))
    assert options_of(constant, "plot")["clim"] == (2.5, 3.5)
    draw(plot_trajectory(population, color=np.full(9, np.nan)))


def test_colours_belong_to_states_and_differ():
    few, more = colours_of_states(["forward", "wait"]), colours_of_states(["dwell", "forward", "reversal", "wait"])
    assert few["forward"] == more["forward"] == STATE_COLOURS["forward"]
    assert len(set(more.values())) == 4


def test_integrated_scores_where_there_are_some(population):
    population["integrated"] = population["score"].cumsum("t")
    overlay = plot_trajectory(population)
    np.testing.assert_array_equal(curves_of(overlay)["reversal"].array()[:-1], population["integrated"].values[4:8, :2])
    assert draw(overlay).xaxis[0].axis_label == "integrated PC1 (40%)"
    plain = curves_of(plot_trajectory(population, variable="score"))["reversal"]
    np.testing.assert_array_equal(plain.array()[:-1], population["score"].values[4:8, :2])


def test_views_of_the_axes():
    axes = np.eye(3)
    np.testing.assert_allclose(projected(axes, 0, 0), [[0, 0], [1, 0], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(projected(axes, 90, 0), [[-1, 0], [0, 0], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(projected(axes, 0, 90), [[0, -1], [1, 0], [0, 0]], atol=1e-12)
    seen = projected(axes, 37, 21)  # an orthographic view: rows of a rotation
    np.testing.assert_allclose(seen.T @ seen, np.eye(2), atol=1e-12)


def test_three_modes_turn(population):
    view = plot_trajectory(population, modes=(1, 2, 3))
    assert isinstance(view, hv.DynamicMap)
    assert [dim.name for dim in view.kdims] == ["azimuth", "elevation"]
    score = population["score"].values[:, :3]
    centred = score - (score.max(axis=0) + score.min(axis=0)) / 2
    side = curves_of(view[0, 0])["reversal"].array()[:-1]
    np.testing.assert_allclose(side, centred[4:8, 1:])
    top = curves_of(view[90, 90])["reversal"].array()[:-1]
    np.testing.assert_allclose(top, centred[4:8, :2] * [-1, -1])
    labels = view[0, 0].traverse(lambda found: found, [hv.Labels])[0]
    assert labels.dimension_values("axis").tolist() == ["PC1 (40%)", "PC2 (20%)", "PC3 (10%)"]
    draw(view)
    draw(plot_trajectory(population, modes=(4, 2, 3), color="speed"))


def test_errors(population):
    with pytest.raises(NiddlError, match=r"expected two or three different modes, got \(1,\)"):
        plot_trajectory(population, modes=(1,))
    with pytest.raises(NiddlError, match="expected two or three different modes"):
        plot_trajectory(population, modes=(1, 1))
    with pytest.raises(NiddlError, match=r"no mode \[7\]; its modes are \[1, 2, 3, 4\]"):
        plot_trajectory(population, modes=(1, 7))
    with pytest.raises(NiddlError, match=r"one of \['speed', 'state', 't'\], got 'velocity'"):
        plot_trajectory(population, color="velocity")
    with pytest.raises(NiddlError, match=r"expected color as 9 values, one for each frame, got shape \(5,\)"):
        plot_trajectory(population, color=np.zeros(5))
    with pytest.raises(NiddlError, match="expected color at the times of the population"):
        plot_trajectory(population, color=population["speed"].assign_coords(t=np.arange(9)))
    with pytest.raises(NiddlError, match="expected color over t alone"):
        plot_trajectory(population, color=population["score"])
    with pytest.raises(NiddlError, match="expected 8 states at most, got 9"):
        plot_trajectory(population, color=list("abcdefghi"))
    with pytest.raises(NiddlError, match="expected variable as 'score'"):
        plot_trajectory(population, variable="loading")
    with pytest.raises(NiddlError, match="no palette 'jet'"):
        plot_trajectory(population, palette="jet")
    with pytest.raises(NiddlError, match="got NaN alone in score"):
        plot_trajectory(population.assign(score=population["score"] * np.nan))
    with pytest.raises(NiddlError, match="expected a population"):
        plot_trajectory(population[["score"]])
