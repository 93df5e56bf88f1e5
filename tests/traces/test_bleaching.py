from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr.schema import HISTORY, NiddlError
from niddl_xr.traces._kernels.bleaching import fit_decay, low_points


def traces_of(values: np.ndarray, dt_s: float = 0.5, unit: str = "s", variance: float | None = None) -> xr.Dataset:
    dims = ("t", "neuron")
    data = {"F": (dims, values.astype("float32"))}
    if variance is not None:
        data["F_var"] = (dims, np.full(values.shape, variance, "float32"))
    coords = {
        "t": ("t", np.arange(len(values)) * dt_s, {"units": unit}),
        "neuron": [f"N{k}" for k in range(values.shape[1])],
    }
    return xr.Dataset(data, coords=coords)


def faded(fraction: float, tau_s: float, frames: int = 600, neurons: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Brightness (t, neuron) at rest with pulses of activity, and what is left (t,) after bleaching."""
    rng = np.random.default_rng(3)
    t = np.arange(frames) * 0.5
    active = rng.random((frames // 20, neurons)) < 0.3
    F = rng.uniform(50, 150, neurons) * (1 + 1.5 * np.repeat(active, 20, axis=0)) + rng.normal(0, 2, (frames, neurons))
    return F, 1 - fraction * (1 - np.exp(-t / tau_s))


def test_fit_finds_the_numbers_of_a_decay() -> None:
    t = np.linspace(0, 300, 200)
    decay = fit_decay(t, 3 * np.exp(-t / 70) + 2, 1, 300.0)
    np.testing.assert_allclose(decay.curve(np.array([0.0, 70.0, 1e6])), [5, 3 / np.e + 2, 2], rtol=1e-3)
    assert not decay.is_flat
    two = fit_decay(t, 3 * np.exp(-t / 120) + 2 * np.exp(-t / 15) + 1, 2, 300.0)
    np.testing.assert_allclose(
        two.curve(t[[0, 20, 199]]), (3 * np.exp(-t / 120) + 2 * np.exp(-t / 15) + 1)[[0, 20, 199]], rtol=0.01
    )


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_variance_of_a_curve_is_that_of_repeats(correlation: float) -> None:
    rng = np.random.default_rng(2)
    t = np.linspace(0, 300, 400)
    true = 3 * np.exp(-t / 100) + 2
    wrong, stated = [], []
    for _ in range(25):
        white = rng.standard_normal(600)
        noise = np.convolve(white, correlation ** np.arange(200))[200:600] * np.sqrt(1 - correlation**2)
        decay = fit_decay(t, true * (1 + 0.05 * noise), 1, 300.0)
        error = np.log(decay.curve(t) / true)
        wrong.append(np.mean(np.square(error - error.mean())))
        stated.append(decay.variance(t).mean())
    assert 0.6 < np.sqrt(np.mean(wrong) / np.mean(stated)) < 1.6
    np.testing.assert_allclose(decay.variance(t[:1]), 0, atol=1e-20)  # one frame has no error but that of all


def test_low_points_of_a_ramp() -> None:
    t = np.arange(120.0)
    middle, low = low_points(t, t, 0.5)
    assert len(low) == 30
    np.testing.assert_allclose(middle, low)  # of a straight line the median is at the middle
    middle, low = low_points(t, np.where(t < 60, np.nan, 2 * t), 0.5)
    assert len(low) == 15  # never of fewer than 4 frames
    np.testing.assert_allclose(low, 2 * middle)


@pytest.mark.parametrize(("fraction", "tau_s"), [(0.2, 300.0), (0.5, 100.0), (0.7, 70.0)])
def test_pooled_curve_is_the_bleaching(fraction: float, tau_s: float) -> None:
    F, left = faded(fraction, tau_s)
    corrected = nx.correct_bleaching(traces_of(F * left[:, None], variance=4.0))
    np.testing.assert_allclose(corrected["bleach"][:, 0], left, rtol=0.04)
    np.testing.assert_allclose(corrected["F"] * corrected["bleach"], F * left[:, None], rtol=1e-5)
    of_the_fit = corrected["F_var"] - 4 / corrected["bleach"] ** 2
    assert (of_the_fit > -1e-4).all()
    assert 1e-4 < float(np.sqrt(of_the_fit / corrected["F"] ** 2).max()) < 0.04
    assert corrected["bleach"].dtype == "float32"
    assert np.all(corrected["bleach"][0] == 1)
    entry = json.loads(corrected.attrs[HISTORY])[-1]
    assert (entry["verb"], entry["parameters"]["model"]) == ("correct_bleaching", "exp")


def test_neuron_that_does_not_bleach_is_left_alone() -> None:
    F, left = faded(0.6, 80.0)
    F[:, 5] = 80 + np.random.default_rng(1).normal(0, 1, len(F))  # a plain one: nothing but noise
    mixed = F * left[:, None]
    mixed[:, 5] = F[:, 5]
    corrected = nx.correct_bleaching(traces_of(mixed))
    assert bool(corrected["bleached_alone"][5])
    np.testing.assert_array_equal(corrected["bleach"][:, 5], 1)
    assert int(corrected["bleached_alone"].sum()) <= 3
    np.testing.assert_allclose(corrected["bleach"][:, 0], left, rtol=0.05)


def test_each_neuron_for_itself() -> None:
    t = np.arange(400) * 0.5
    left = np.stack([0.4 + 0.6 * np.exp(-t / 60), 0.7 + 0.3 * np.exp(-t / 30), np.ones(400)], axis=1)
    corrected = nx.correct_bleaching(
        traces_of(100 * left + np.random.default_rng(0).normal(0, 0.5, left.shape)), pooled=False
    )
    np.testing.assert_allclose(corrected["bleach"], left, atol=0.03)


def test_flat_recordings_stay_untouched() -> None:
    F, _ = faded(0, 1)
    corrected = nx.correct_bleaching(traces_of(F))
    np.testing.assert_array_equal(corrected["F"], F.astype("float32"))
    assert corrected.attrs["bleaching"] == "none"
    rising = nx.correct_bleaching(traces_of(F * np.linspace(1, 1.5, len(F))[:, None]))
    assert float(rising["bleach"].min()) >= 0.99


def test_gaps_stay_gaps_and_change_little() -> None:
    F, left = faded(0.5, 100.0)
    whole = nx.correct_bleaching(traces_of(F * left[:, None]))
    F[100:140] = np.nan
    F[50, 3] = np.nan
    F[:, 7] = np.nan
    F[5:, 8] = np.nan
    corrected = nx.correct_bleaching(traces_of(F * left[:, None]))
    np.testing.assert_array_equal(np.isnan(corrected["F"]), np.isnan(F))
    np.testing.assert_allclose(corrected["bleach"][:, 0], whole["bleach"][:, 0], rtol=0.03)
    assert np.isfinite(corrected["bleach"]).all()


def test_negative_dim_and_few_traces_do_not_divide_by_nothing() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (60, 4))
    corrected = nx.correct_bleaching(traces_of(noise))
    assert np.isfinite(corrected["F"]).all()
    assert (corrected["bleach"] > 0).all()
    short = nx.correct_bleaching(traces_of(np.full((3, 2), 50.0)))
    np.testing.assert_array_equal(short["F"], 50)
    assert nx.correct_bleaching(traces_of(np.empty((50, 0))))["F"].shape == (50, 0)


def test_what_is_gone_is_not_blown_up() -> None:
    t = np.arange(400) * 0.5
    gone = 100 * np.exp(-t / 20)[:, None] * np.ones((1, 3))
    with pytest.warns(UserWarning, match="fluorescence of N0, N1, N2 falls below 0.02 of its start"):
        corrected = nx.correct_bleaching(traces_of(gone))
    assert float(corrected["bleach"].min()) == pytest.approx(0.02)


def test_frames_instead_of_seconds_give_the_same() -> None:
    F, left = faded(0.5, 100.0)
    seconds = nx.correct_bleaching(traces_of(F * left[:, None]))
    frames = nx.correct_bleaching(traces_of(F * left[:, None], dt_s=1, unit="frame"))
    np.testing.assert_allclose(frames["bleach"], seconds["bleach"], rtol=1e-3)
    assert frames.attrs["bleaching"] == "exp, t in frame"


@pytest.mark.parametrize("spread", [0.0])
def test_bar_of_simulated_command_states(spread: float) -> None:
    """Median correlation within .003 of dividing by the true curve, MAE within a tenth of it; of the issue's bars."""
    from benchmarks.traces import faded as simulated

    traces = simulated(31, 0.5, 300.0, spread)
    truth = nx.dff(traces["truth"])
    active = (truth["group"] != "inactive").values
    tables = {
        name: nx.trace_quality(nx.dff(result), truth)[active]
        for name, result in (("oracle", traces["oracle"]), ("pooled", nx.correct_bleaching(traces["faded"])))
    }
    assert tables["pooled"]["pearson"].median() > tables["oracle"]["pearson"].median() - 0.003
    assert tables["pooled"]["mae"].median() < 1.1 * tables["oracle"]["mae"].median()


def test_wrong_arguments() -> None:
    F, _ = faded(0, 1)
    traces = traces_of(F)
    with pytest.raises(NiddlError, match="expected model as one of .*, got 'line'"):
        nx.correct_bleaching(traces, model="line")
    with pytest.raises(NiddlError, match="quantile above 0 and below 1, got 20"):
        nx.correct_bleaching(traces, quantile=20)
    with pytest.raises(NiddlError, match="expected traces, a Dataset with the variable F"):
        nx.correct_bleaching(traces["F"])
    with pytest.raises(NiddlError, match="finite and rising"):
        nx.correct_bleaching(traces.isel(t=[3, 2, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        once = nx.correct_bleaching(traces.transpose("neuron", "t"))
    with pytest.raises(NiddlError, match="corrected for bleaching already"):
        nx.correct_bleaching(once)
