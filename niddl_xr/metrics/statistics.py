"""Is a difference between methods more than chance? Paired tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

Alternative = Literal["two-sided", "greater", "less"]
LARGEST_EXACT = 50  # units up to which the distribution of the rank sum is computed; 2**50 is exact in float64


MOST_UNITS = 10_000  # 50 million pairs, 0.4 GB


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p-values by Holm's step-down method, which controls the chance of any false alarm.

    Parameters
    ----------
    p_values
        (test,), each 0 to 1. NaN (a test that could not be made) stays NaN and is not counted.

    Returns
    -------
    numpy.ndarray
        (test,), float64, in the order given, at most 1: compare with the level, such as 0.05.

    Raises
    ------
    NiddlError
        For values outside 0 to 1, and for more than one dim.

    Notes
    -----
    Holm, Scand. J. Stat. 6:65 (1979): of m p-values in rising order, the k-th becomes
    ``max over j <= k of (m - j + 1) p_j``.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1:
        raise NiddlError(f"expected p-values as one list, got an array of shape {values.shape}")
    made = np.flatnonzero(~np.isnan(values))
    if np.any((values[made] < 0) | (values[made] > 1)):
        raise NiddlError(f"expected p-values from 0 to 1, got {values[made].min()} to {values[made].max()}")
    adjusted = np.full(values.shape, np.nan)
    rising = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(len(rising), 0, -1)
    adjusted[rising] = np.minimum(np.maximum.accumulate(factors * values[rising]), 1.0)
    return adjusted


def hodges_lehmann(
    differences: Sequence[float] | np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Estimate the typical difference, with the confidence interval that belongs to Wilcoxon's signed-rank test.

    Parameters
    ----------
    differences
        (unit,), in any unit, without NaN; taken to be spread evenly around their middle, as the test does.
    confidence
        Of the two-sided interval, 0 to 1. The interval covers at least as much; fewer than 6 units cannot give 0.95.

    Returns
    -------
    tuple of float
        The median of the means of all pairs (each difference with itself included), and the interval's ends, in the
        unit of ``differences``. The ends are -inf and inf where there are too few units, all NaN where there are none.

    Raises
    ------
    NiddlError
        For a confidence outside 0 to 1, and for more than 10,000 differences, whose pairs would fill the memory.

    Notes
    -----
    Hodges & Lehmann, Ann. Math. Stat. 34:598 (1963); the interval of Hollander, Wolfe & Chicken, *Nonparametric
    Statistical Methods*, section 3.3: of the sorted means of pairs, those whose rank the rank sum leaves in with the
    wanted confidence, exactly up to 50 units, from the normal distribution beyond.

    Examples
    --------
    >>> hodges_lehmann([1.0, 1.5, 2.0, 2.5, 3.0, 3.5])
    (2.25, 1.0, 3.5)
    """
    if not 0 < confidence < 1:
        raise NiddlError(f"expected confidence as a number between 0 and 1, such as 0.95, got {confidence}")
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        return float("nan"), float("nan"), float("nan")
    if values.size > MOST_UNITS:
        raise NiddlError(
            f"expected at most {MOST_UNITS:,} units, got {values.size:,}; choose units that are independent, such as "
            'stacks or animals, with unit="stack_index"'
        )
    first, second = np.triu_indices(values.size)
    means = np.sort((values[first] + values[second]) / 2)
    below = _rank_sum_quantile(values.size, (1 - confidence) / 2)
    low, high = (means[below], means[-1 - below]) if below >= 0 else (-np.inf, np.inf)
    return float(np.median(means)), float(low), float(high)


def _rank_sum_quantile(units: int, tail: float) -> int:
    """Return the largest k that the signed-rank sum stays within with a chance of ``tail`` or less; -1 for none."""
    total = units * (units + 1) // 2
    if units > LARGEST_EXACT:
        from scipy.stats import norm

        spread = np.sqrt(units * (units + 1) * (2 * units + 1) / 24)
        return int(np.floor(total / 2 + norm.ppf(tail) * spread - 0.5))  # 0.5: the sum is a whole number
    ways = np.zeros(total + 1)
    ways[0] = 1
    for rank in range(1, units + 1):  # each rank is in the sum or not
        ways[rank:] += ways[:-rank].copy()
    return int(np.searchsorted(np.cumsum(ways), tail * 2.0**units, side="right")) - 1


def paired_wilcoxon(
    table: pd.DataFrame,
    *,
    reference: str | None = None,
    value: str = "PSNR_dB",
    unit: str = "plane",
    alternative: Alternative = "two-sided",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Test methods against one of them, or all against each other, over the same planes, stacks or neurons.

    Parameters
    ----------
    table
        Long table with the columns ``name`` (method), ``unit`` and ``value``, as of ``compare(..., per_plane=True)``.
    reference
        Name of the method that the others are held against, such as "raw" or the best baseline. None: every pair of
        methods is tested.
    value
        Column to test.
    unit
        Column that says which rows belong together. Values of one method and unit are averaged first: planes of one
        stack or frame are not independent, so choose "stack_index" or "t_index" where there are several.
    alternative
        "greater" asks whether the method's values are larger than those of the reference.
    confidence
        Of the interval of the difference, always two-sided and for this difference alone: Holm's correction is not
        in it.

    Returns
    -------
    pandas.DataFrame
        One row per method other than the reference, in the order of the table; without a reference one per pair,
        with the index (``name``, ``reference``), the later method of the table first. Columns: ``median_difference``
        (method minus reference, in the unit of ``value``); ``hodges_lehmann``, ``confidence_low``,
        ``confidence_high``, the typical difference and its interval, see :func:`hodges_lehmann`; ``units`` (pairs
        without NaN); ``statistic`` and ``p`` of Wilcoxon's signed-rank test; ``p_holm``, corrected for the number of
        rows. Without any difference in any unit p is 1; without pairs it is NaN. Infinite values (the PSNR of an
        image that equals the truth) are left out as NaN is.

    Raises
    ------
    NiddlError
        For missing columns, a reference that is not in the table, another alternative, and fewer than two methods.

    Notes
    -----
    Zero differences are left out of the test (Wilcoxon, Biometrics Bull. 1:80, 1945), by scipy.stats.wilcoxon, not
    out of the interval. With n units the smallest two-sided p is 2^(1 - n): fewer than 6 units cannot reach 0.05, and
    the interval is infinite.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("raw", k, 30.0 + k) for k in range(8)] + [("net", k, 31.5 + 1.1 * k) for k in range(8)]
    >>> result = paired_wilcoxon(pd.DataFrame(rows, columns=["name", "plane", "PSNR_dB"]), reference="raw")
    >>> result.loc["net", ["p_holm", "confidence_low"]].round(4).tolist()
    [0.0078, 1.6]
    """
    import pandas as pd

    missing = {"name", value, unit} - set(table.columns)
    if missing:
        raise NiddlError(
            f"expected the columns name, {unit} and {value}, got {list(table.columns)}: missing {sorted(missing)}; "
            "see compare(..., per_plane=True)"
        )
    if alternative not in get_args(Alternative):
        raise NiddlError(f"expected alternative as one of {get_args(Alternative)}, got {alternative!r}")
    names = list(table["name"].unique())
    if reference is not None and reference not in names:
        raise NiddlError(f"expected a reference out of {names}, got {reference!r}")
    if len(names) < 2:
        raise NiddlError(f"expected two methods or more to compare, got {names}; see compare(..., per_plane=True)")
    finite = table.assign(**{value: table[value].where(np.isfinite(table[value]))})
    wide = finite.pivot_table(index=unit, columns="name", values=value, aggfunc="mean", sort=False, dropna=False)
    if reference is None:
        pairs = [(second, first) for first, second in combinations(names, 2)]
    else:
        pairs = [(name, reference) for name in names if name != reference]
    differences = [(wide[name] - wide[other]).dropna().to_numpy(float) for name, other in pairs]
    result = pd.DataFrame(
        [_judge(values, alternative, confidence) for values in differences],
        columns=[
            "median_difference",
            "hodges_lehmann",
            "confidence_low",
            "confidence_high",
            "units",
            "statistic",
            "p",
        ],
    )
    if reference is None:
        result.index = pd.MultiIndex.from_tuples(pairs, names=["name", "reference"])
    else:
        result.index = pd.Index([name for name, _ in pairs], name="name")
    result["p_holm"] = holm(result["p"].to_numpy(float))
    return result


def _judge(
    differences: np.ndarray, alternative: Alternative, confidence: float
) -> tuple[float, float, float, float, int, float, float]:
    from scipy.stats import wilcoxon

    estimate = hodges_lehmann(differences, confidence=confidence)
    if differences.size == 0:
        return float("nan"), *estimate, 0, float("nan"), float("nan")
    median = float(np.median(differences))
    if not np.any(differences):
        return median, *estimate, differences.size, 0.0, 1.0
    test = wilcoxon(differences, alternative=alternative)
    return median, *estimate, differences.size, float(test.statistic), float(test.pvalue)
