"""Activity against bending, and maps of their correlation."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.plotting import figure as Figure

from niddl_xr.plots.correlation_map import plot_correlation_map
from niddl_xr.plots.curvature_correlation import plot_curvature_correlation
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw, image_of, options_of

FRAMES = 40


@pytest.fixture
def signals() -> tuple[xr.Dataset, xr.Dataset]:
    rng = np.random.default_rng(0)
    t = ("t", np.arange(FRAMES) * 0.5, {"units": "s"})
    traces = xr.Dataset(
        {"dff": (("t", "neuron"), rng.standard_normal((FRAMES, 3)))},
        coords={"t": t, "neuron": ["a", "b", "c"], "body_position": ("neuron", [0.2, 0.5, 0.9])},
    )
    bending = rng.standard_normal((FRAMES, 11))
    return traces, xr.Dataset({"curvature": (("t", "s"), bending)}, coords={"t": t, "s": np.linspace(0, 1, 11)})


def found(layout, kind) -> list:
    return layout.traverse(lambda element: element, [kind])


def test_a_row_for_each_of_the_traces_with_r_in_its_title(signals):
    traces, posture = signals
    other = traces.assign(dff=2 * traces["dff"] + 3)
    layout = plot_curvature_correlation({"raw": traces, "denoised": other}, posture, neuron="b", window=0.1)
    curves, scatters = found(layout, hv.Curve), found(layout, hv.Scatter)
    assert [curve.label for curve in curves] == ["curvature", "raw", "curvature", "denoised"]
    near, active = posture["curvature"].values[:, 4:7].mean(axis=1), traces["dff"].values[:, 1]
    np.testing.assert_allclose(curves[0].dimension_values(1), (near - near.mean()) / near.std())
    np.testing.assert_allclose(curves[1].dimension_values(1), (active - active.mean()) / active.std())
    np.testing.assert_allclose(np.sort(scatters[0].dimension_values(0)), np.sort(near))
    np.testing.assert_allclose(np.sort(scatters[1].dimension_values(1)), np.sort(2 * active + 3))
    r = np.corrcoef(near, active)[0, 1]
    titled = {figure.title.text: figure for figure in draw(layout).select({"type": Figure})}
    figures = [titled[f"b, {name}: r = {r:.2f}"] for name in ("raw", "denoised")]
    slope = found(layout, hv.Slope)[0]
    np.testing.assert_allclose([slope.data[0], slope.data[1]], np.polyfit(near, active, 1))
    assert figures[0].x_range is figures[1].x_range
    scattered = [figure for figure in draw(layout).select({"type": Figure}) if not figure.title.text]
    assert len(scattered) == 2
    assert scattered[0].y_range is not scattered[1].y_range


def test_the_curvature_is_taken_later_by_the_lag_and_between_samples(signals):
    traces, posture = signals
    layout = plot_curvature_correlation(traces, posture.isel(t=slice(0, None, 2)), lag_s=1.5, window=0.01)
    drawn = found(layout, hv.Scatter)[0]
    times = np.arange(FRAMES) * 0.5 + 1.5
    at = posture["curvature"].values[:, 2]
    inside = times <= 19.0
    np.testing.assert_allclose(
        drawn.dimension_values(0), np.interp(times[inside], np.arange(0, FRAMES, 2) * 0.5, at[::2])
    )
    np.testing.assert_allclose(drawn.dimension_values(1), traces["dff"].values[inside, 0])


def test_gaps_are_left_out_of_r(signals):
    traces, posture = signals
    holed = traces.assign(dff=traces["dff"].where(traces["t"] > 3))
    layout = plot_curvature_correlation(holed, posture, neuron="c", position=0.3, window=0.01)
    r = np.corrcoef(posture["curvature"].values[7:, 3], traces["dff"].values[7:, 2])[0, 1]
    titles = {figure.title.text for figure in draw(layout).select({"type": Figure})}
    assert titles == {f"c, activity: r = {r:.2f}", ""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k, p: ({}, p, {}), r"mapping of names to such, got none"),
        (lambda k, p: (k, p, {"neuron": "z"}), r"traces activity have no neuron 'z'; theirs are \['a', 'b', 'c'\]"),
        (lambda k, p: (k, p, {"variable": "F"}), r"the variable F"),
        (lambda k, p: (k.drop_vars("body_position"), p, {}), r"position=, where along the body"),
        (lambda k, p: (k, p, {"position": 1.5}), r"place of a along the body .*, got 1.5"),
        (lambda k, p: (k, p, {"position": k["dff"][0, 1:].drop_vars("t")}), r"position \(neuron\) that holds 'a'"),
        (lambda k, p: (k, p, {"window": 0.01, "position": 0.25}), r"window that holds points"),
        (lambda k, p: (k, p, {"lag_s": 100.0}), r"3 frames or more .* got 0: compare the times"),
        (lambda k, p: (k * 0, p, {}), r"known and vary, got 40"),
        (lambda k, p: (k, p.drop_vars("curvature"), {}), r"a posture with curvature"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(signals, change, message):
    traces, posture, options = change(*signals)
    with pytest.raises(NiddlError, match=message):
        plot_curvature_correlation(traces, posture, **options)


@pytest.fixture
def correlation() -> xr.DataArray:
    values = np.linspace(-0.4, 0.6, 2 * 5 * 7).reshape(2, 5, 7)
    values[1, 0, 0] = np.nan
    coords = {
        "neuron": ["a", "b"],
        "s": np.linspace(0.1, 0.9, 5),
        "lag": np.linspace(-1.5, 1.5, 7),
        "p": ("neuron", [0.02, 1e-9]),
        "body_position": ("neuron", [0.3, 0.7]),
    }
    return xr.DataArray(values, dims=("neuron", "s", "lag"), coords=coords)


def test_a_map_is_centred_at_0_with_the_head_at_the_top(correlation):
    drawn = plot_correlation_map(correlation.transpose("lag", "neuron", "s"), neuron="b")
    image = image_of(drawn)
    np.testing.assert_allclose(image.dimension_values("r", flat=False), correlation.sel(neuron="b").values)
    assert image.dimension_values("s", expanded=False).tolist() == pytest.approx(np.linspace(0.1, 0.9, 5))
    assert options_of(image, "plot")["clim"] == pytest.approx((-0.6, 0.6))
    assert options_of(image, "plot")["invert_yaxis"] is True
    assert found(drawn, hv.Points)[0].dimension_values(1).tolist() == [0.7]
    figure = next(iter(draw(drawn).select({"type": Figure})))
    assert figure.title.text == "b, p < 0.001"
    assert figure.y_range.start > figure.y_range.end


def test_the_first_neuron_is_drawn_and_the_range_may_be_given(correlation):
    drawn = plot_correlation_map(correlation.drop_vars(["p", "body_position"]), largest=0.9)
    assert options_of(image_of(drawn), "plot")["clim"] == (-0.9, 0.9)
    assert next(iter(draw(drawn).select({"type": Figure}))).title.text == "a"
    assert not found(drawn, hv.Points)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: (c[0], {}), r"a map with dims \('neuron', 's', 'lag'\), got \('s', 'lag'\)"),
        (lambda c: (c, {"neuron": "z"}), r"no neuron 'z'; its neurons are \['a', 'b'\]"),
        (lambda c: (c * np.nan, {}), r"NaN alone for a"),
        (lambda c: (c, {"largest": 0.0}), r"largest above 0"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_an_error(correlation, change, message):
    given, options = change(correlation)
    with pytest.raises(NiddlError, match=message):
        plot_correlation_map(given, **options)
