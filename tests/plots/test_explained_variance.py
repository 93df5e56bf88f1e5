from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from niddl_xr.plots import plot_explained_variance
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw


@pytest.fixture
def population() -> xr.Dataset:
    return xr.Dataset(
        {
            "score": (("t", "mode"), np.zeros((9, 4))),
            "loading": (("neuron", "mode"), np.zeros((7, 4))),
            "explained": ("mode", [0.4, 0.2, 0.1, 0.05]),
            "explained_null": ("mode", [0.15, 0.14, 0.12, 0.11]),
            "explained_signal": ("mode", [0.5, 0.25, np.nan, 0.01]),
            "significant": ("mode", [True, True, False, False]),
        },
        coords={"mode": [1, 2, 3, 4]},
    )


def labelled(overlay, kind) -> dict:
    return {item.label: item for item in overlay.traverse(lambda found: found, [kind])}


def test_bars_beside_chance(population):
    overlay = plot_explained_variance(population)
    bars = labelled(overlay, hv.Histogram)
    np.testing.assert_allclose(bars["significant"].dimension_values(1)[::2], [40, 20, 0, 0])
    np.testing.assert_allclose(bars["not significant"].dimension_values(1)[::2], [0, 0, 10, 5])
    assert not bars["significant"].dimension_values(1)[1::2].any()
    np.testing.assert_allclose(bars["significant"].edges[:2], [0.64, 1.36])
    level = labelled(overlay, hv.Curve)["chance, 95th percentile"]
    np.testing.assert_allclose(level.dimension_values(1), [15, 14, 12, 11])
    signal = labelled(overlay, hv.Scatter)["without noise"].dimension_values(1)
    np.testing.assert_allclose(signal, [50, 25, np.nan, 1])
    figure = draw(overlay)
    assert figure.yaxis[0].axis_label == "explained variance (%)"
    said = {item.label.value for item in figure.legend[0].items}
    assert said == {"significant", "not significant", "chance, 95th percentile", "without noise"}


def test_without_a_test_the_bars_are_grey(population):
    bare = population.drop_vars(["explained_null", "significant", "explained_signal"])
    overlay = plot_explained_variance(bare, modes=2)
    (bar,) = labelled(overlay, hv.Histogram).values()
    assert bar.label == "explained"
    np.testing.assert_allclose(bar.dimension_values(1)[::2], [40, 20])
    assert not labelled(overlay, hv.Curve)
    draw(overlay)
    draw(plot_explained_variance(population.assign(explained_signal=population["explained_signal"] * np.nan), modes=1))


def test_errors(population):
    with pytest.raises(NiddlError, match="expected modes as a whole number of 1 or more, or None, got 0"):
        plot_explained_variance(population, modes=0)
    with pytest.raises(NiddlError, match="expected a population"):
        plot_explained_variance(population[["explained"]])
