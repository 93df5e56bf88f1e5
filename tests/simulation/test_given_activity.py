"""Traces that the user brings."""

import numpy as np
import pytest
import xarray as xr

from niddl_xr.schema import NiddlError
from niddl_xr.simulation.given_activity import given_activity

TIMES_S = np.arange(9) * 0.5


def traces(names=("AVAL", "RID", "AVAR", "SMDVL"), samples=11, interval_s=0.6, start_s=3.0, **coords) -> xr.DataArray:
    """Straight lines of slope 1, 2, … per s, so that interpolation is exact."""
    seconds = start_s + np.arange(samples) * interval_s
    values = (seconds - start_s)[:, None] * np.arange(1, len(names) + 1)
    return xr.DataArray(values, dims=("t", "neuron"), coords={"t": seconds, "neuron": list(names)} | coords)


def played(activity, names, seed=0):
    return given_activity(activity, TIMES_S, names, np.random.default_rng(seed))


def test_a_named_neuron_plays_its_own_trace_from_its_first_sample():
    dff, source = played(traces(), ["AVAR", "AVAL"])
    assert source.tolist() == ["AVAR", "AVAL"]
    np.testing.assert_allclose(dff, TIMES_S[:, None] * (3, 1), rtol=1e-6)
    assert dff.dtype == np.float32


def test_the_others_draw_what_is_left_each_once_while_it_lasts():
    dff, source = played(traces(), ["AVAL", "x", "y", "z", "w", "v"])
    assert source[0] == "AVAL"
    assert sorted(source[1:4]) == ["AVAR", "RID", "SMDVL"]
    slope = {"AVAL": 1, "RID": 2, "AVAR": 3, "SMDVL": 4}
    np.testing.assert_allclose(dff, TIMES_S[:, None] * [slope[name] for name in source], rtol=1e-6)
    assert {tuple(played(traces(), ["x", "y"], seed)[1]) for seed in range(9)} != {tuple(source[1:3])}


def test_dims_in_any_order_and_without_names():
    dff, source = played(traces().drop_vars("neuron").T, ["a", "b", "c", "d"])
    assert sorted(source.tolist()) == ["0", "1", "2", "3"]
    assert dff.shape == (9, 4)


@pytest.mark.parametrize(
    ("activity", "message"),
    [
        (np.zeros((9, 2)), r"activity as a DataArray \(t, neuron\) of dF/F, got ndarray: wrap it"),
        (traces().rename(neuron="cell"), r"dims t and neuron and the coordinate t in s, got dims \('t', 'cell'\)"),
        (traces().drop_vars("t"), "the coordinate t in s"),
        (traces().where(traces()["neuron"] != "RID"), r"without NaN, got some in \['RID'\]"),
        (traces() - 3, r"never below -1 \(no fluorescence\), got -3: scale z-scored traces first"),
        (traces(samples=5), r"activity of at least 4 s, got 2.4 s: lower frames= or raise rate_hz="),
        (traces().isel(t=slice(None, None, -1)), "whose t rises from sample to sample"),
        (traces().assign_coords(t=np.full(11, np.nan)), "whose t rises from sample to sample"),
        (traces(("AVAL", "RID", "RID")), r"a name for each trace of activity, got \['RID'\] more than once"),
        (traces().assign_coords(t=traces()["t"].astype("datetime64[s]")), r"t of datetime64\[s\]: bring dates into s"),
        (traces().isel(neuron=slice(0)), "activity of numbers at t in s, got .*'neuron': 0"),
        (traces().astype(str), "activity of numbers at t in s, got .* values of <U"),
        (traces().to_dataset(name="dff"), "activity as a DataArray .* got Dataset"),
        (traces(samples=5, start_s=1.7e9), "activity of at least 4 s, got 2.4 s"),  # clock time
    ],
)
def test_activity_that_cannot_be_played(activity, message):
    with pytest.raises(NiddlError, match=message):
        played(activity, ["AVAL", "x"])
