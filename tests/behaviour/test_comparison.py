"""The verb compare_curvature_correlation: raw and denoised, coupled and not."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from niddl_xr.behaviour.comparison import compare_curvature_correlation
from niddl_xr.behaviour.correlation import curvature_correlation
from niddl_xr.schema import NiddlError
from tests.behaviour._signals import labelled, narrow, noise, waves

NEURONS, COUPLED = 20, 8


@pytest.fixture(scope="module")
def signals():
    """Eight coupled and twelve other neurons; raw with noise, clean without, and one into which bending leaks."""
    rng = np.random.default_rng(0)
    behaviour = waves(NEURONS, 800, 0.25, rng)
    activity = noise(NEURONS, 800, 1.5, 0.25, rng)
    activity[:COUPLED] = 0.6 * behaviour[:COUPLED] + 0.8 * activity[:COUPLED]
    noisy = activity + 1.5 * rng.standard_normal(activity.shape)
    clean, posture = labelled(activity, behaviour, 0.25)
    raw, leaking = (clean.assign(dff=(("t", "neuron"), values.T)) for values in (noisy, activity + 0.8 * behaviour))
    return raw, clean, leaking, posture


def test_rows_are_those_of_both_tables(signals):
    raw, clean, _, posture = signals
    table = compare_curvature_correlation(raw, clean, posture, window=narrow(NEURONS))
    one, other = (curvature_correlation(traces, posture, window=narrow(NEURONS)) for traces in (raw, clean))
    for name, part in (("raw", one), ("denoised", other)):
        for column in ("r", "lag_s", "p", "q", "reason"):
            pd.testing.assert_series_equal(table[f"{column}_{name}"], part[column], check_names=False)
    np.testing.assert_allclose(table["difference"], other["r"].abs() - one["r"].abs())
    assert table["uncoupled"].isna().all()
    assert (table["name"] == "denoised").all()
    assert [part["family"] for part in table.attrs["summary"]] == ["all"]


def test_the_summary_tests_each_family_and_corrects_for_all(signals):
    raw, clean, leaking, posture = signals
    uncoupled = [f"n{number}" for number in range(COUPLED, NEURONS)]
    table = compare_curvature_correlation(
        raw, {"clean": clean, "leaking": leaking}, posture, uncoupled=uncoupled, window=narrow(NEURONS)
    )
    summary = pd.DataFrame(table.attrs["summary"]).set_index(["name", "family"])
    assert summary["neurons"].tolist() == [20, 12, 8] * 2
    for (name, family), part in summary.iterrows():
        rows = table[table["name"] == name]
        rows = {"all": rows, "uncoupled": rows[rows["uncoupled"]], "others": rows[~rows["uncoupled"]]}[family]
        assert part["p"] == pytest.approx(wilcoxon(rows["r_denoised"].abs(), rows["r_raw"].abs()).pvalue)
        assert part["higher"] == pytest.approx((rows["difference"] > 0).mean())
        assert part["significant_denoised"] == pytest.approx((rows["p_denoised"] <= 0.05).mean())
        assert part["found_raw"] == (rows["q_raw"] <= 0.05).sum()
    order = summary["p"].rank(method="first")
    steps = [min(1.0, (6 - rank + 1) * p) for rank, p in sorted(zip(order, summary["p"], strict=True))]
    np.testing.assert_allclose(np.sort(summary["p_holm"]), np.maximum.accumulate(steps))
    assert summary.loc[("clean", "others"), "higher"] == 1.0
    assert summary.loc[("clean", "uncoupled"), "significant_denoised"] <= 0.25
    # Invented correlation is seen where the uncoupled are.
    assert summary.loc[("leaking", "uncoupled"), "significant_denoised"] > 0.9
    assert json.dumps(table.attrs["summary"])


def test_uncoupled_may_be_flags_of_more_neurons_in_another_order(signals):
    raw, clean, _, posture = signals
    flags = (raw["dff"].isel(t=0, drop=True) * 0 + np.arange(NEURONS) >= COUPLED)[::-1]
    few = [f"n{number}" for number in (2, 5, 11, 17)]
    table = compare_curvature_correlation(
        raw.sel(neuron=few), clean.sel(neuron=few), posture, uncoupled=flags, window=narrow(NEURONS)
    )
    assert table["uncoupled"].tolist() == [False, False, True, True]


def test_states_and_reasons_are_kept_apart(signals):
    raw, clean, _, posture = signals
    labels = np.where(np.arange(800) % 200 < 100, "forward", "reversal")
    raw = raw.assign_coords(state=("t", labels))
    dark = clean.assign(dff=clean["dff"].where(clean["neuron"] != "n3")).assign_coords(state=("t", labels))
    table = compare_curvature_correlation(raw, dark, posture, state="state", window=narrow(NEURONS))
    assert len(table) == 2 * NEURONS
    assert [part["state"] for part in table.attrs["summary"]] == ["forward", "reversal"]
    assert [part["neurons"] for part in table.attrs["summary"]] == [NEURONS - 1] * 2
    assert (table[table["neuron"] == "n3"]["reason_denoised"] == "no activity known").all()
    assert table[table["neuron"] == "n3"]["difference"].isna().all()


def test_nothing_to_compare_is_nan_and_no_number(signals):
    raw, clean, _, posture = signals
    table = compare_curvature_correlation(raw, clean * np.nan, posture, window=narrow(NEURONS))
    part = table.attrs["summary"][0]
    assert part["neurons"] == 0
    assert np.isnan([part["higher"], part["p"], part["p_holm"], part["significant_raw"]]).all()


def test_the_history_names_the_call(signals):
    raw, clean, _, posture = signals
    table = compare_curvature_correlation(raw, clean, posture, window=narrow(NEURONS), uncoupled=["n9"])
    (step,) = json.loads(table.attrs["niddl_history"])
    assert step["verb"] == "compare_curvature_correlation"
    assert step["parameters"]["denoised"] == ["denoised"]
    assert step["parameters"]["uncoupled"] == 1
    assert step["parameters"]["null"] == "linear_shift"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda raw, clean: (raw, clean.isel(neuron=slice(3)), {}),
            r"the same neurons in raw and denoised, got \['n10'",
        ),
        (lambda raw, clean: (raw, {}, {}), r"denoised traces, or a mapping of names to such, got an empty mapping"),
        (
            lambda raw, clean: (raw, clean, {"uncoupled": ["n1", "AVA"]}),
            r"uncoupled neurons out of .*, got \['AVA'\] too",
        ),
        (
            lambda raw, clean: (raw, clean, {"uncoupled": raw["body_position"]}),
            r"uncoupled as True and False \(neuron\)",
        ),
        (
            lambda raw, clean: (raw, clean, {"uncoupled": (raw["body_position"] > 0.5)[:4]}),
            r"uncoupled for every neuron, got none for \['n10'",
        ),
        (lambda raw, clean: (raw, clean, {"null": "no"}), r"null as one of"),
    ],
)
def test_what_cannot_be_compared_is_an_error(signals, change, message):
    raw, clean, _, posture = signals
    raw, clean, options = change(raw, clean)
    with pytest.raises(NiddlError, match=message):
        compare_curvature_correlation(raw, clean, posture, **{"window": narrow(NEURONS), **options})
