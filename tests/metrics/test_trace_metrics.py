"""Trace metrics against scipy."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import linregress, pearsonr

from niddl_xr import metrics
from niddl_xr.schema import NiddlError

RNG = np.random.default_rng(0)
NAMES = ["AVAL", "RIBR", "AIBL", "SMDV"]
TRUTH = xr.DataArray(RNG.random((30, 4)), dims=("t", "neuron"), coords={"neuron": NAMES})
TRACES = 0.6 * TRUTH + 0.1 + 0.05 * RNG.normal(size=TRUTH.shape)


def test_numbers_are_those_of_scipy():
    table = metrics.trace_metrics(TRACES, TRUTH)
    assert table.index.tolist() == NAMES
    for name in NAMES:
        trace, truth = TRACES.sel(neuron=name).values, TRUTH.sel(neuron=name).values
        assert table.loc[name, "pearson"] == pytest.approx(pearsonr(trace, truth).statistic)
        assert table.loc[name, "amplitude_ratio"] == pytest.approx(linregress(truth, trace).slope)
        assert table.loc[name, "mae"] == pytest.approx(np.abs(trace - truth).mean())
        assert table.loc[name, "frames"] == 30


def test_neurons_are_matched_by_label_and_dims_by_name():
    shuffled = TRUTH.isel(neuron=[2, 0, 3, 1]).transpose("neuron", "t")
    np.testing.assert_allclose(
        metrics.trace_metrics(TRACES, shuffled).to_numpy(), metrics.trace_metrics(TRACES, TRUTH).to_numpy()
    )


def test_frames_with_nan_are_left_out():
    broken, short = TRACES.copy(), TRUTH.copy()
    broken[4:9, 0], short[20:22, 0] = np.nan, np.nan
    kept = [t for t in range(30) if not (4 <= t < 9 or 20 <= t < 22)]
    row = metrics.trace_metrics(broken, short).loc["AVAL"]
    expected = metrics.trace_metrics(TRACES.isel(t=kept), TRUTH.isel(t=kept)).loc["AVAL"]
    np.testing.assert_allclose(row.to_numpy(), expected.to_numpy())
    assert row["frames"] == 23


def test_constant_and_empty_traces():
    flat, empty = xr.full_like(TRUTH, 2.0), xr.full_like(TRUTH, np.nan)
    against_flat = metrics.trace_metrics(TRACES, flat)
    assert against_flat[["pearson", "amplitude_ratio"]].isna().all(axis=None)
    assert against_flat["mae"].notna().all()
    flattened = metrics.trace_metrics(flat, TRUTH)
    assert flattened["pearson"].isna().all()
    np.testing.assert_allclose(flattened["amplitude_ratio"], 0)
    assert metrics.trace_metrics(empty, TRUTH)["mae"].isna().all()
    assert metrics.trace_metrics(empty, TRUTH)["frames"].eq(0).all()


@pytest.mark.parametrize(
    ("traces", "truth", "message"),
    [
        (
            TRACES.isel(neuron=0),
            TRUTH,
            r"traces as a DataArray with dims \('t', 'neuron'\), got dims \('t',\)",
        ),
        (TRACES, TRUTH.to_dataset(name="dff"), "expected truth as a DataArray .* got Dataset; choose one variable"),
        (TRACES.isel(t=slice(9)), TRUTH, "expected as many frames in traces as in truth, got 9 and 30"),
        (TRACES.isel(neuron=slice(3)), TRUTH, r"got 3 and 4; only in one of them: \['SMDV'\]"),
        (
            TRACES.assign_coords(neuron=["A", "A", "B", "C"]),
            TRUTH.assign_coords(neuron=["A", "A", "B", "C"]),
            "expected every neuron once, got labels that stand twice",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(traces, truth, message):
    with pytest.raises(NiddlError, match=message):
        metrics.trace_metrics(traces, truth)
