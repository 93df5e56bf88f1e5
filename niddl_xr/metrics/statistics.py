"""Is a difference between methods more than chance? Paired tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd


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


def paired_wilcoxon(
    table: pd.DataFrame,
    *,
    reference: str,
    value: str = "PSNR_dB",
    unit: str = "plane",
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> pd.DataFrame:
    """Test each method against a reference over the same planes, stacks or neurons.

    Parameters
    ----------
    table
        Long table with the columns ``name`` (method), ``unit`` and ``value``, as of ``compare(..., per_plane=True)``.
    reference
        Name of the method that the others are held against, such as "raw" or the best baseline.
    value
        Column to test.
    unit
        Column that says which rows belong together. Values of one method and unit are averaged first: planes of one
        stack or frame are not independent, so choose "stack_index" or "t_index" where there are several.
    alternative
        "greater" asks whether the method's values are larger than those of the reference.

    Returns
    -------
    pandas.DataFrame
        One row per method other than the reference, in the order of the table: ``median_difference`` (method minus
        reference, in the unit of ``value``), ``units`` (pairs without NaN), ``statistic`` and ``p`` of Wilcoxon's
        signed-rank test, and ``p_holm``, corrected for the number of methods. Without any difference in any unit p
        is 1; without pairs it is NaN.

    Raises
    ------
    NiddlError
        For missing columns, and for a reference that is not in the table.

    Notes
    -----
    Zero differences are left out (Wilcoxon, Biometrics Bull. 1:80, 1945), by scipy.stats.wilcoxon. With n units the
    smallest two-sided p is 2^(1 - n): fewer than 6 units cannot reach 0.05.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("raw", k, 30.0 + k) for k in range(8)] + [("net", k, 31.5 + 1.1 * k) for k in range(8)]
    >>> result = paired_wilcoxon(pd.DataFrame(rows, columns=["name", "plane", "PSNR_dB"]), reference="raw")
    >>> float(result.loc["net", "p_holm"])
    0.0078125
    """
    import pandas as pd

    missing = {"name", value, unit} - set(table.columns)
    if missing:
        raise NiddlError(
            f"expected the columns name, {unit} and {value}, got {list(table.columns)}: missing {sorted(missing)}; "
            "see compare(..., per_plane=True)"
        )
    wide = table.pivot_table(index=unit, columns="name", values=value, aggfunc="mean", sort=False, dropna=False)
    if reference not in wide:
        raise NiddlError(f"expected a reference out of {list(wide.columns)}, got {reference!r}")
    names = [name for name in table["name"].unique() if name != reference]
    rows = [_signed_rank((wide[name] - wide[reference]).dropna().to_numpy(float), alternative) for name in names]
    result = pd.DataFrame(rows, columns=["median_difference", "units", "statistic", "p"])
    result.index = pd.Index(names, name="name")
    result["p_holm"] = holm(result["p"].to_numpy(float))
    return result


def _signed_rank(
    differences: np.ndarray, alternative: Literal["two-sided", "greater", "less"]
) -> tuple[float, int, float, float]:
    from scipy.stats import wilcoxon

    if differences.size == 0:
        return float("nan"), 0, float("nan"), float("nan")
    if not np.any(differences):
        return 0.0, differences.size, 0.0, 1.0
    test = wilcoxon(differences, alternative=alternative)
    return float(np.median(differences)), differences.size, float(test.statistic), float(test.pvalue)
