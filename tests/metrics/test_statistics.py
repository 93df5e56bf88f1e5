"""Holm's method against the closed test that it is a shortcut of; Wilcoxon's test against scipy."""

from itertools import combinations

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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.holm([0.2, 1.3]), "expected p-values from 0 to 1, got 0.2 to 1.3"),
        (lambda: metrics.holm(np.zeros((2, 3))), r"expected p-values as one list, got an array of shape \(2, 3\)"),
        (lambda: metrics.paired_wilcoxon(table(), reference="care"), "expected a reference out of .*got 'care'"),
        (
            lambda: metrics.paired_wilcoxon(table(), reference="raw", value="SSIM"),
            r"missing \['SSIM'\]; see compare\(\.\.\., per_plane=True\)",
        ),
    ],
)
def test_what_cannot_be_tested_is_an_error(call, message):
    with pytest.raises(NiddlError, match=message):
        call()
