from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import niddl_xr as nx
from niddl_xr.neurons import require_traces
from niddl_xr.schema import NiddlError
from niddl_xr.traces._kernels.baseline import running_quantile, variance_of_drawing, without_noise
from tests.traces.test_bleaching import traces_of


def test_change_and_bounds_by_algebra() -> None:
    F = np.array([[10.0, 40], [10, 40], [10, 40], [30, 60], [10, 40]])
    traces = nx.dff(traces_of(F, variance=4.0))
    # A fifth of the variance (64, and 64) is noise's: F0 is where most frames are.
    np.testing.assert_allclose(traces["F0"], np.broadcast_to([10, 40], (5, 2)))
    np.testing.assert_allclose(traces["dff"][3], [2, 0.5])
    # F0 is the level of four frames at rest: as the median of as many, pi/2 of the variance of a mean.
    of_F0 = np.pi / 2 * 4 / 4  # and nothing of the drawing: the quantile is the median
    sd = np.sqrt(4 + (F / [10, 40]) ** 2 * of_F0)
    np.testing.assert_allclose(traces["dff_hi"] - traces["dff"], norm.ppf(0.95) * sd / [10, 40], rtol=1e-3)
    np.testing.assert_allclose(traces["dff_hi"] + traces["dff_lo"], 2 * traces["dff"], atol=1e-6)
    assert all(traces[name].dtype == "float32" for name in ("F0", "dff", "dff_lo", "dff_hi"))
    require_traces(traces, "dff")


@pytest.mark.parametrize(("options", "level"), [({}, 0.2), ({"q": 0.35}, 0.35), ({"f0": "median"}, 0.5)])
def test_baseline_without_noise_is_numpys_quantile(options: dict, level: float) -> None:
    F = np.random.default_rng(0).gamma(3, 10, (101, 4))
    traces = nx.dff(traces_of(F), **options)
    np.testing.assert_allclose(traces["F0"][0], np.quantile(F, level, axis=0), rtol=1e-6)
    assert traces["dff_lo"].isnull().all()


def test_noise_does_not_lower_the_baseline() -> None:
    rng = np.random.default_rng(0)
    still, noise = np.full((4000, 2), 100.0), 30 * rng.standard_normal((4000, 2))
    known = nx.dff(traces_of(still + noise, variance=900.0))["F0"][0]
    np.testing.assert_allclose(known, 100, rtol=0.06)  # the variance itself is known to 2 %
    naive = nx.dff(traces_of(still + noise))["F0"][0]
    np.testing.assert_allclose(naive, 100 + 30 * norm.ppf(0.2), rtol=0.03)
    active = 100 + 80 * (rng.random((4000, 1)) < 0.3).cumsum(axis=0) % 2 + noise[:, :1] / 3
    estimate = nx.dff(traces_of(active, variance=100.0))["F0"][0]
    assert estimate.item() == pytest.approx(100, rel=0.06)


def test_what_is_left_has_the_variance_that_noise_does_not_explain() -> None:
    trace = np.random.default_rng(0).gamma(3, 10, (500, 2))
    quiet = without_noise(trace, np.full(trace.shape, 100.0))
    np.testing.assert_allclose(quiet.var(axis=0), trace.var(axis=0) - 100)
    np.testing.assert_allclose(np.median(quiet, axis=0), np.median(trace, axis=0))


def test_kernels_keep_gaps_and_unknown_noise() -> None:
    trace = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan], [8.0, np.nan]])
    np.testing.assert_array_equal(without_noise(trace, np.full(trace.shape, np.nan)), trace)
    assert np.array_equal(np.isnan(without_noise(trace, np.ones(trace.shape))), np.isnan(trace))
    level, variance = running_quantile(trace, np.ones(trace.shape), 0.5, 10)
    np.testing.assert_array_equal(level[:, 0], 3.0)
    assert np.isnan(level[:, 1]).all()
    assert np.isnan(variance[:, 1]).all()


@pytest.mark.parametrize("active", [0.0, 0.5])
def test_variance_of_a_baseline_is_that_of_repeats(active: float) -> None:
    """300 traces of 90 frames, of which a part is active, with noise of an own variance in each frame."""
    rng = np.random.default_rng(0)
    sd = rng.uniform(3, 9, (90, 1))
    still = np.where(np.arange(90) < 90 * active, 200.0, 100.0)[:, None]
    traces = still + sd * rng.standard_normal((90, 300))
    variance = np.broadcast_to(np.square(sd), traces.shape)
    level, stated = running_quantile(without_noise(traces, variance), variance, 0.2, 90)
    stated = stated[0] + variance_of_drawing(traces, variance, 0.2)
    # Beside the true level, which a trace without activity is drawn to from below.
    assert 0.6 < float(np.mean(stated) / np.mean(np.square(level[0] - 100))) < 2.0
    exact, none = running_quantile(traces, np.zeros(traces.shape), 0.2, 90)
    np.testing.assert_allclose(exact[0], np.quantile(traces, 0.2, axis=0))
    assert np.all(none == 0)
    assert np.isnan(running_quantile(traces, np.full(traces.shape, np.nan), 0.2, 90)[1]).all()


def test_running_baseline_follows_a_slow_change() -> None:
    t = np.arange(2000) * 0.5
    slope = 100 + 0.1 * t
    traces = traces_of(np.stack([slope, 2 * slope], axis=1))
    F0 = nx.dff(traces, f0="median", window_s=150)["F0"]
    np.testing.assert_allclose(F0[300:1700, 0], slope[300:1700], rtol=0.002)
    np.testing.assert_allclose(F0[300:1700, 1], 2 * slope[300:1700], rtol=0.002)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nx.dff(traces, window_s=120)
    with pytest.warns(UserWarning, match="window of 30 s follows states of the worm"):
        nx.dff(traces, window_s=30)


def test_baselines_that_are_no_baselines() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(200)
    F = np.stack(
        [np.full(200, -5.0), np.full(200, 50.0), 0.1 + 100 * (t > 150), rng.normal(0.1, 10, 200), np.full(200, np.nan)],
        axis=1,
    )
    traces = traces_of(F, variance=100.0)
    traces["F_var"][:, [0, 1, 2]] = 0.01
    with pytest.warns(UserWarning, match=r"no dF/F for N0, N2, N3: F0 is not above 0, or lost in the noise"):
        result = nx.dff(traces)
    assert list(np.isfinite(result["dff"]).all("t").values) == [False, True, False, False, False]
    for name in ("F0", "dff", "dff_lo", "dff_hi"):
        assert result[name][:, [0, 2, 3, 4]].isnull().all()


def test_bounds_hold_the_truth_in_nine_of_ten_frames() -> None:
    rng = np.random.default_rng(4)
    t = np.arange(3000) * 0.25
    dff = np.clip(np.sin(2 * np.pi * t[:, None] / np.array([60.0, 90, 45])), 0, None)
    clean = np.array([30.0, 100, 400]) * (1 + dff)
    noisy = traces_of(clean + np.sqrt(clean) * rng.standard_normal(clean.shape), dt_s=0.25)
    noisy["F_var"] = noisy["F"].copy(data=clean)
    table = nx.trace_quality(nx.dff(noisy), nx.dff(traces_of(clean, dt_s=0.25)))
    np.testing.assert_allclose(table["coverage90"], 0.9, atol=0.03)


def test_empty_and_wrong_arguments() -> None:
    traces = traces_of(np.full((5, 2), 10.0))
    assert nx.dff(traces.isel(neuron=[]))["dff"].shape == (5, 0)
    with pytest.raises(NiddlError, match='expected f0="quantile" or "median", got \'mean\''):
        nx.dff(traces, f0="mean")
    with pytest.raises(NiddlError, match="expected q above 0 and below 1, got 20"):
        nx.dff(traces, q=20)
    with pytest.raises(NiddlError, match="window_s as a number of seconds above 0, or None, got -3"):
        nx.dff(traces, window_s=-3)
    with pytest.raises(NiddlError, match="times of the traces in s, for window_s=, got t in units 'frame'"):
        nx.dff(traces_of(np.full((5, 2), 10.0), unit="frame"), window_s=200)
    with pytest.raises(NiddlError, match="expected F with dims"):
        nx.dff(xr.Dataset({"F": (("t", "x"), np.ones((2, 3)))}))
