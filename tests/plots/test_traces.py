from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.plotting import figure as Figure

from niddl_xr.plots import plot_traces
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw


@pytest.fixture
def traces() -> xr.DataArray:
    values = np.arange(40.0).reshape(5, 8)
    coords = {"t": ("t", np.arange(5) * 0.5, {"units": "s"}), "neuron": [f"n{k}" for k in range(8)]}
    return xr.DataArray(values, dims=("t", "neuron"), coords=coords, attrs={"units": "counts"})


def curves_of(layout) -> list[hv.Curve]:
    return layout.traverse(lambda found: found, [hv.Curve])


def test_a_row_for_each_neuron_with_all_recordings_in_it(traces):
    layout = plot_traces({"raw": traces, "denoised": traces + 100}, neurons=["n6", "n2"])
    drawn = [(curve.vdims[0].label, curve.label, curve.dimension_values(1).tolist()) for curve in curves_of(layout)]
    n6, n2 = (traces.sel(neuron=name).values for name in ("n6", "n2"))
    assert drawn == [
        ("n6", "raw", n6.tolist()),
        ("n6", "denoised", (n6 + 100).tolist()),
        ("n2", "raw", n2.tolist()),
        ("n2", "denoised", (n2 + 100).tolist()),
    ]
    figures = list(draw(layout).select({"type": Figure}))
    assert len(figures) == 2
    assert len({id(figure.x_range) for figure in figures}) == 1
    assert len({id(figure.y_range) for figure in figures}) == 2


def test_the_first_six_are_drawn_in_seconds(traces):
    layout = plot_traces(traces.transpose("neuron", "t"))
    assert [curve.vdims[0].label for curve in curves_of(layout)] == [f"n{k}" for k in range(6)]
    np.testing.assert_array_equal(curves_of(layout)[0].dimension_values(0), traces.t.values)
    assert "time (s)" in {figure.xaxis[0].axis_label for figure in draw(layout).select({"type": Figure})}


def test_nan_and_a_single_frame_are_drawn(traces):
    draw(plot_traces(traces.where(traces != 9)))
    draw(plot_traces(traces.isel(t=[0])))


def test_relative_changes_are_drawn_within_their_band(traces):
    results = xr.Dataset({"F": traces, "dff": traces / 10, "dff_lo": traces / 10 - 1, "dff_hi": traces / 10 + 2})
    layout = plot_traces({"raw": traces, "dF/F": results}, neurons=["n3"])
    curve = next(found for found in curves_of(layout) if found.label == "dF/F")
    assert curve.label == "dF/F"
    np.testing.assert_array_equal(curve.dimension_values(1), traces.sel(neuron="n3") / 10)
    (band,) = layout.traverse(lambda found: found, [hv.Area])
    np.testing.assert_array_equal(band.dimension_values(1), traces.sel(neuron="n3") / 10 - 1)
    np.testing.assert_array_equal(band.dimension_values(2), traces.sel(neuron="n3") / 10 + 2)
    draw(layout)


def test_of_a_dataset_without_relative_changes_the_counts_are_drawn(traces):
    (curve,) = curves_of(plot_traces(traces.to_dataset(name="F"), neurons=["n1"]))
    np.testing.assert_array_equal(curve.dimension_values(1), traces.sel(neuron="n1"))


def test_errors_say_what_was_expected(traces):
    with pytest.raises(NiddlError, match=r"traces  ?have no neuron \['AVAL'\]; theirs are \['n0'"):
        plot_traces(traces, neurons=["AVAL"])
    with pytest.raises(NiddlError, match=r"expected traces raw with dims \('t', 'neuron'\), got \('t',\)"):
        plot_traces({"raw": traces.isel(neuron=0)})
    with pytest.raises(NiddlError, match="got Dataset without dff and F; choose one variable"):
        plot_traces({"raw": traces.to_dataset(name="brightness")})
    with pytest.raises(NiddlError, match="got an empty mapping"):
        plot_traces({})
