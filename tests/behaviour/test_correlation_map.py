"""The verb correlation_map: r along the body and over lags."""

import json

import numpy as np
import pytest
import xarray as xr

from niddl_xr.behaviour.correlation import curvature_correlation
from niddl_xr.behaviour.mapping import correlation_map
from niddl_xr.schema import NiddlError
from tests.behaviour._signals import SECONDS, noise

FRAMES, S, N = 720, 11, 3


@pytest.fixture(scope="module")
def bending():
    """A body that bends independently at eleven places; neurons follow the third, and the ninth 0.5 s before it."""
    rng = np.random.default_rng(0)
    curvature = noise(S, FRAMES + 2, 1.0, 0.25, rng)
    activity = np.stack([curvature[2, :-2], -curvature[8, 2:], noise(1, FRAMES, 1.0, 0.25, rng)[0]])
    t = ("t", np.arange(FRAMES) * 0.25, SECONDS)
    traces = xr.Dataset({"F": (("neuron", "t"), activity)}, coords={"t": t, "neuron": ["a", "b", "c"]})
    posture = xr.Dataset({"curvature": (("s", "t"), curvature[:, :-2])}, coords={"t": t, "s": np.linspace(0, 1, S)})
    return traces, posture


def test_every_neuron_has_its_peak_where_and_when_it_follows(bending):
    found = correlation_map(*bending, variable="F", points=9, window=0.1, lags_s=(-1.5, 1.0))
    assert found.dims == ("neuron", "s", "lag")
    assert dict(found.sizes) == {"neuron": 3, "s": 9, "lag": 11}
    assert found.dtype == np.float32
    np.testing.assert_allclose(found["s"], np.linspace(0.1, 0.9, 9))
    np.testing.assert_allclose(found["lag"], np.arange(-6, 5) * 0.25)
    assert found["lag"].attrs["units"] == "s"
    for neuron, (place, lag, sign) in {"a": (0.2, 0.0, 1), "b": (0.8, 0.5, -1)}.items():
        one = found.sel(neuron=neuron)
        peak = one.where(abs(one) == abs(one).max(), drop=True)
        assert float(peak["s"][0]) == pytest.approx(place, abs=0.11)  # three places are averaged
        assert float(peak["lag"][0]) == pytest.approx(lag)
        assert np.sign(float(peak.squeeze())) == sign
    assert float(abs(found.sel(neuron="c")).max()) < 0.35


def test_the_map_is_the_table_at_its_place(bending):
    traces, posture = bending
    places = xr.DataArray([0.5, 0.5, 0.5], dims="neuron", coords={"neuron": ["a", "b", "c"]})
    table = curvature_correlation(traces, posture, position=places, variable="F", window=0.1)
    found = correlation_map(traces, posture, variable="F", points=9, window=0.1).sel(s=0.5)
    strongest = abs(found).idxmax("lag")
    np.testing.assert_allclose(found.sel(lag=strongest), table["r"], atol=1e-6)
    np.testing.assert_allclose(found.sel(lag=0.0), table["r0"], atol=1e-6)


def test_p_is_of_the_strongest_of_the_whole_map(bending):
    found = correlation_map(*bending, variable="F", points=5, window=0.1, null_draws=99)
    assert (found["p"].values < 1e-4).tolist() == [True, True, False]
    assert found["p"].dims == ("neuron",)
    assert "p" not in correlation_map(*bending, variable="F", points=5).coords


def test_p_of_unrelated_maps_is_even():
    rng = np.random.default_rng(1)
    t = ("t", np.arange(900) * 0.25, SECONDS)
    p = []
    for _ in range(6):
        traces = xr.Dataset(
            {"dff": (("neuron", "t"), noise(30, 900, 1.5, 0.25, rng))}, coords={"t": t, "neuron": np.arange(30)}
        )
        posture = xr.Dataset(
            {"curvature": (("s", "t"), noise(6, 900, 1.0, 0.25, rng))}, coords={"t": t, "s": np.linspace(0, 1, 6)}
        )
        p.extend(correlation_map(traces, posture, points=4, window=0.11, null_draws=199)["p"].values)
    assert 0.01 <= np.mean(np.asarray(p) <= 0.05) <= 0.09


def test_unknown_neurons_and_places_are_nan(bending):
    traces, posture = bending
    silent = traces.assign(F=traces["F"].where(traces["neuron"] != "b"))
    blind = posture.assign(curvature=posture["curvature"].where(posture["s"] < 0.65))
    found = correlation_map(silent, blind, variable="F", points=9, window=0.04 + 0.06, null_draws=19)
    assert found.sel(neuron="b").isnull().all()
    assert np.isnan(found["p"].sel(neuron="b"))
    assert found.sel(neuron="a").isnull().all("lag").values.tolist() == [False] * 6 + [False] + [True] * 2
    assert found["p"].sel(neuron="a") < 1e-4


def test_chunks_and_order_change_nothing_and_the_history_is_kept(bending):
    traces, posture = bending
    expected = correlation_map(traces, posture, variable="F", points=4)
    chunked = correlation_map(traces.transpose("t", "neuron").chunk(t=100), posture.chunk(t=77), variable="F", points=4)
    np.testing.assert_array_equal(expected, chunked)
    steps = json.loads(expected.attrs["niddl_history"])
    assert steps[-1]["verb"] == "correlation_map"
    assert steps[-1]["parameters"]["points"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, r"points as a whole number, 2 or more, got 1"),
        ({"window": 0.5}, r"window, a part of the body length, above 0 and below 0.5, got 0.5"),
        ({"window": 0.01, "points": 4}, r"window that holds points of the posture"),
        ({"null_draws": 3}, r"null_draws as a whole number, 19 or more, or None, got 3"),
        ({"lags_s": 2}, r"lags_s as \(first, last\)"),
        ({"highpass_s": 0}, r"highpass_s"),
        ({"variable": "dff"}, r"the variable dff"),
    ],
)
def test_arguments_that_cannot_be_are_errors(bending, options, message):
    with pytest.raises(NiddlError, match=message):
        correlation_map(*bending, **{"variable": "F", **options})
