"""Holm's method against the closed test that it is a shortcut of; Wilcoxon's test against scipy."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from niddl_xr import metrics
from niddl_xr.schema import NiddlError


def closed_bonferroni(p_values: list[float]) -> list[float]:
    """Marcus, Peritz & Gabriel 1976: a hypothesis falls with every intersection that holds it."""
    count = len(p_values)
    subsets = [s for size in range(1, count + 1) for s in combinations(range(count), size)]
    return [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in range(count)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_bonferroni_test(p_values):
    np.testing.assert_allclose(metrics.holm(p_values), closed_bonferroni(p_values), rtol=1e-12)


def test_holm_leaves_out_tests_that_were_not_made():
    np.testing.assert_allclose(metrics.holm([0.02, np.nan, 0.01]), [0.02, np.nan, 0.02])
    assert metrics.holm([]).size == 0


def table(seed: int = 0, stacks: int = 9, planes: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    level = rng.normal(30, 3, stacks * planes)
    shifts = {"raw": 0.0, "net": 1.0, "blur": 0.1}
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "name": name,
                    "plane": np.arange(stacks * planes),
                    "stack_index": np.repeat(np.arange(stacks), planes),
                    "PSNR_dB": level + shift + rng.normal(0, 0.5, level.size),
                }
            )
            for name, shift in shifts.items()
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_planes_are_paired(alternative):
    rows = table().sample(frac=1, random_state=1)  # the order of rows says nothing
    values = {name: group.sort_values("plane")["PSNR_dB"].to_numpy() for name, group in rows.groupby("name")}
    result = metrics.paired_wilcoxon(rows, reference="raw", alternative=alternative)
    assert set(result.index) == {"net", "blur"}
    for name in result.index:
        expected = wilcoxon(values[name], values["raw"], alternative=alternative)
        assert result.loc[name, "p"] == pytest.approx(expected.pvalue)
        assert result.loc[name, "statistic"] == pytest.approx(expected.statistic)
        assert result.loc[name, "median_difference"] == pytest.approx(np.median(values[name] - values["raw"]))
    np.testing.assert_allclose(result["p_holm"], closed_bonferroni(result["p"].tolist()))
    assert result["units"].tolist() == [36, 36]


def test_planes_of_a_stack_are_averaged_first():
    rows = table()
    means = rows.groupby(["name", "stack_index"])["PSNR_dB"].mean()
    result = metrics.paired_wilcoxon(rows, reference="raw", unit="stack_index")
    expected = wilcoxon(means["net"].to_numpy(), means["raw"].to_numpy())
    assert result.loc["net", "units"] == 9
    assert result.loc["net", "p"] == pytest.approx(expected.pvalue)


def test_equal_and_missing_values():
    rows = table()
    same = rows[rows["name"] == "raw"].assign(name="same")
    missing = same.assign(name="missing", PSNR_dB=np.nan)
    result = metrics.paired_wilcoxon(pd.concat([rows, same, missing]), reference="raw")
    assert result.loc["same", "p"] == 1
    assert result.loc["missing", "units"] == 0
    assert np.isnan(result.loc["missing", "p_holm"])


def test_all_pairs_share_one_correction():
    rows = table()
    result = metrics.paired_wilcoxon(rows)
    assert result.index.tolist() == [("net", "raw"), ("blur", "raw"), ("blur", "net")]
    for name, other in result.index:
        alone = metrics.paired_wilcoxon(rows[rows["name"].isin([name, other])], reference=other).loc[name]
        shared = result.loc[(name, other)]
        pd.testing.assert_series_equal(shared.drop("p_holm"), alone.drop("p_holm"), check_names=False)
    np.testing.assert_allclose(result["p_holm"], closed_bonferroni(result["p"].tolist()))


def means_of_pairs(values: np.ndarray) -> np.ndarray:
    return np.sort([(a + b) / 2 for i, a in enumerate(values) for b in values[i:]])


@pytest.mark.parametrize(("units", "confidence"), [(6, 0.95), (9, 0.9), (11, 0.99)])
def test_the_interval_is_the_one_that_the_test_does_not_refuse(units, confidence):
    """A shift lies in the interval if and only if the exact test of the shifted differences keeps p above 1 - c."""
    values = np.random.default_rng(units).normal(0.4, 1, units)
    estimate, low, high = metrics.hodges_lehmann(values, confidence=confidence)
    means = means_of_pairs(values)
    assert estimate == pytest.approx(np.median(means))
    between = (means[1:] + means[:-1]) / 2
    kept = [shift for shift in between if wilcoxon(values - shift, method="exact").pvalue > 1 - confidence]
    assert low == pytest.approx(means[means < kept[0]].max())
    assert high == pytest.approx(means[means > kept[-1]].min())


def test_the_interval_of_a_textbook():
    """Hollander & Wolfe, Nonparametric Statistical Methods, tables 3.1 and example 3.4: depression after a drug."""
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    estimate, low, high = metrics.hodges_lehmann(after - before, confidence=0.96)
    assert (round(estimate, 3), round(low, 3), round(high, 3)) == (-0.46, -0.786, -0.010)


def test_the_interval_covers_as_often_as_it_says():
    """Of all signs that nine differences can have, at most 5 % leave the interval beside the true shift of 0."""
    sizes = np.array([0.3, 0.7, 1.2, 1.9, 2.2, 3.1, 3.8, 4.1, 5.6])
    ends = [metrics.hodges_lehmann(np.array(signs) * sizes)[1:] for signs in product((-1, 1), repeat=9)]
    missed = np.mean([not low <= 0 <= high for low, high in ends])
    assert 0.03 < missed <= 0.05


def test_many_units_take_the_normal_distribution():
    """At the border between the two ways the ranks hardly differ."""
    from niddl_xr.metrics import statistics

    for units in (20, 35, 50):
        exact = statistics._rank_sum_quantile(units, 0.025)
        spread = np.sqrt(units * (units + 1) * (2 * units + 1) / 24)
        assert exact == pytest.approx(units * (units + 1) / 4 - 1.96 * spread, abs=1.5)
    estimate, low, high = metrics.hodges_lehmann(np.random.default_rng(0).normal(3, 2, 400))
    assert low < 3 < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / np.sqrt(400 * 3 / np.pi), rel=0.1)  # asymptotic efficiency
    assert low < estimate < high


@pytest.mark.parametrize("units", [1, 5])
def test_few_units_leave_everything_open(units):
    values = np.arange(1.0, units + 1)
    assert metrics.hodges_lehmann(values) == (np.median(means_of_pairs(values)), -np.inf, np.inf)
    assert np.isnan(metrics.hodges_lehmann([])).all()


def test_infinite_values_are_left_out():
    rows = table()
    rows.loc[3, "PSNR_dB"] = np.inf  # of raw, plane 3
    result = metrics.paired_wilcoxon(rows, reference="raw")
    assert result["units"].tolist() == [35, 35]
    assert np.isfinite(result.to_numpy()).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.holm([0.2, 1.3]), "expected p-values from 0 to 1, got 0.2 to 1.3"),
        (lambda: metrics.holm(np.zeros((2, 3))), r"expected p-values as one list, got an array of shape \(2, 3\)"),
        (lambda: metrics.paired_wilcoxon(table(), reference="care"), "expected a reference out of .*got 'care'"),
        (
            lambda: metrics.paired_wilcoxon(table().query("name == 'net'")),
            r"two methods or more to compare, got \['net'\]",
        ),
        (
            lambda: metrics.paired_wilcoxon(table(), alternative="larger"),
            r"expected alternative as one of \('two-sided', 'greater', 'less'\), got 'larger'",
        ),
        (lambda: metrics.hodges_lehmann([1.0], confidence=95), "confidence as a number between 0 and 1, such as 0.95"),
        (
            lambda: metrics.paired_wilcoxon(table(), reference="raw", value="SSIM"),
            r"missing \['SSIM'\]; see compare\(\.\.\., per_plane=True\)",
        ),
    ],
)
def test_what_cannot_be_tested_is_an_error(call, message):
    with pytest.raises(NiddlError, match=message):
        call()


def test_more_units_than_fit_in_memory_are_an_error():
    with pytest.raises(NiddlError, match=r"at most 10,000 units, got 10,001; choose units that are independent"):
        metrics.hodges_lehmann(np.arange(10_001.0))
