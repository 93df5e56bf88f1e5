from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import median_abs_deviation, pearsonr

import niddl_xr as nx
from niddl_xr.schema import NiddlError

DIMS = ("t", "neuron")


@pytest.fixture
def truth() -> xr.DataArray:
    t = np.arange(700)
    values = np.stack([np.sin(t / 40), np.clip(np.sin(t / 25), 0, None), 0.5 + 0 * t], axis=1)
    return xr.DataArray(values, dims=DIMS, coords={"neuron": ["AVAL", "RIML", "ASEL"]}, name="dff")


def noisy(truth: xr.DataArray, sd: float = 0.1, half: float = 0.16449) -> xr.Dataset:
    values = truth + sd * np.random.default_rng(0).standard_normal(truth.shape)
    return xr.Dataset({"dff": values, "dff_lo": values - half, "dff_hi": values + half, "F": 100 * values})


def test_signal_to_noise_is_the_formula(truth: xr.DataArray) -> None:
    traces = noisy(truth)
    table = nx.trace_quality(traces)
    assert list(table.columns) == ["snr", "frames"]
    assert list(table.index) == ["AVAL", "RIML", "ASEL"]
    for name in table.index:
        trace = traces["dff"].sel(neuron=name).values
        low, high = np.quantile(trace, [0.2, 0.95])
        noise = median_abs_deviation(np.diff(trace), scale="normal") / np.sqrt(2)
        assert table.snr[name] == pytest.approx((high - low) / noise, rel=1e-4)
        assert noise == pytest.approx(0.1, rel=0.15)  # the formula finds the noise that was put in


def test_measures_beside_the_truth(truth: xr.DataArray) -> None:
    traces = noisy(truth)
    table = nx.trace_quality(traces, truth.isel(neuron=[2, 0, 1]))  # neurons are matched by name
    for name in ("AVAL", "RIML"):
        trace, true = traces["dff"].sel(neuron=name).values, truth.sel(neuron=name).values
        assert table.pearson[name] == pytest.approx(pearsonr(trace, true).statistic)
        assert table.mae[name] == pytest.approx(np.abs(trace - true).mean())
        assert table.amplitude_ratio[name] == pytest.approx(np.polyfit(true, trace, 1)[0])
        assert table.coverage90[name] == pytest.approx((np.abs(trace - true) <= 0.16449).mean())
    assert table.coverage90.mean() == pytest.approx(0.9, abs=0.02)
    assert np.isnan(table.pearson["ASEL"])


def test_bounds_too_narrow_are_seen(truth: xr.DataArray) -> None:
    table = nx.trace_quality(noisy(truth, half=0.05), xr.Dataset({"dff": truth}))
    assert table.coverage90.mean() == pytest.approx(0.383, abs=0.03)  # half a standard deviation on each side


def test_fluorescence_is_judged_where_there_is_no_dff(truth: xr.DataArray) -> None:
    F = noisy(truth)[["F"]]
    table = nx.trace_quality(F.assign(F_var=xr.full_like(F["F"], 100.0)), 100 * truth)
    assert table.coverage90.mean() == pytest.approx(0.9, abs=0.02)
    assert nx.trace_quality(F, 100 * truth).coverage90.isna().all()


def test_gaps_constant_and_empty_traces(truth: xr.DataArray) -> None:
    traces = noisy(truth).copy(deep=True)
    for name in traces.data_vars:
        traces[name][10:400, 0] = np.nan
        traces[name][2:, 1] = np.nan
        traces[name][:, 2] = 0.5
    table = nx.trace_quality(traces.transpose("neuron", "t"), truth)
    assert table.frames.tolist() == [310, 2, 700]
    assert np.isfinite(table.snr["AVAL"])
    assert np.isnan(table.snr["RIML"])
    assert np.isnan(table.snr["ASEL"])
    assert table.coverage90["ASEL"] == 1.0
    exact = xr.Dataset({"F": truth})
    exact["F"][:, 0] = np.repeat([0.0, 1.0], 350)
    assert nx.trace_quality(exact).snr["AVAL"] == np.inf
    nothing = nx.trace_quality(traces.isel(neuron=[]))
    assert isinstance(nothing, pd.DataFrame)
    assert len(nothing) == 0


def test_wrong_truth(truth: xr.DataArray) -> None:
    with pytest.raises(NiddlError, match="truth with the variable dff, which the traces have, got \\['F'\\]"):
        nx.trace_quality(noisy(truth), xr.Dataset({"F": truth}))
    with pytest.raises(NiddlError, match="as many frames in traces as in truth, got 700 and 5"):
        nx.trace_quality(noisy(truth), truth.isel(t=slice(5)))
    with pytest.raises(NiddlError, match="expected traces, a Dataset with the variable F"):
        nx.trace_quality(truth)
