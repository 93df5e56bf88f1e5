"""The verb compare_curvature_correlation: does denoising show the relation to bending better, and invent none?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.behaviour.correlation import curvature_correlation
from niddl_xr.metrics.statistics import holm, paired_wilcoxon
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
KEYS = ["neuron", "state"]


def compare_curvature_correlation(
    raw: xr.Dataset,
    denoised: xr.Dataset | Mapping[str, xr.Dataset],
    posture: xr.Dataset | None = None,
    *,
    uncoupled: xr.DataArray | Sequence[Any] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compare how raw and denoised traces correlate with bending, neuron by neuron.

    Parameters
    ----------
    raw
        Traces from the raw recording.
    denoised
        Traces of the same neurons from the denoised one, or a mapping of names to several.
    posture
        As of :func:`niddl_xr.curvature_correlation`: one for all, so that it cannot favour either.
    uncoupled
        Neurons that are known to have no relation to the bending, as of a control line or a simulation: their names, or
        True and False (neuron). Correlation that they gain is invented. None: none is known.
    **options
        Of :func:`niddl_xr.curvature_correlation`, the same for all traces.

    Returns
    -------
    pandas.DataFrame
        One row per denoised traces, neuron and state: ``name`` ("denoised", or of the mapping), ``neuron``, ``state``,
        ``s``; ``r_raw`` and ``r_denoised``, ``lag_s_raw`` and so on, ``p_``, ``q_``, ``reason_``; ``difference``, |r|
        denoised less |r| raw; ``uncoupled``, None where ``uncoupled`` is. NaN where one of both has none.

        ``attrs["summary"]`` is a list of one dict per name, state and family of neurons ("all"; with ``uncoupled`` also
        "uncoupled" and "others"): ``neurons`` (with both), ``higher`` (the part whose |r| is higher denoised),
        ``median_difference``, ``p`` of Wilcoxon's signed-rank test and ``p_holm`` (Holm's correction for all dicts),
        ``significant_raw`` and ``significant_denoised`` (the part with p ≤ 0.05: of uncoupled neurons, false
        positives) and ``found_raw``, ``found_denoised`` (their number with q ≤ 0.05).

    Raises
    ------
    NiddlError
        Where traces are of other neurons, ``uncoupled`` names unknown ones, and as
        :func:`niddl_xr.curvature_correlation` does.

    Notes
    -----
    Less noise raises |r| of coupled neurons; a denoiser that mixes neurons, or light with motion, raises that of the
    others too, and their part with p ≤ 0.05. So does less noise where a trace holds light of coupled neighbours: on
    simulated worms in low light 0.13 of the uncoupled were called coupled raw, 0.35 to 0.40 denoised, and 0.20 to 0.35
    in images without noise. Neurons of one animal are not independent: over several animals, test
    the medians of each. Chaudhary, Moon and Lu (Nat. Commun. 13:5165, 2022) compare |r| of single pixels.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> truth = nx.simulate.freely_moving(frames=1200, rate_hz=4, neurons=8, seed=2)
    >>> clean, noise = truth["traces"].to_dataset(), np.random.default_rng(0).normal(0, 1, (1200, 8))
    >>> noisy = clean.assign(dff=clean["dff"] + noise)
    >>> table = compare_curvature_correlation(noisy, clean, truth["posture"].to_dataset(), uncoupled=~clean["coupled"])
    >>> [(part["family"], part["higher"]) for part in table.attrs["summary"][1:]]
    [('uncoupled', 0.75), ('others', 1.0)]
    """
    import pandas as pd

    named = {"denoised": denoised} if isinstance(denoised, xr.Dataset) else dict(denoised)
    if not named:
        raise NiddlError("expected denoised traces, or a mapping of names to such, got an empty mapping")
    first = curvature_correlation(raw, posture, **options)
    neurons = set(first["neuron"])
    silent = _uncoupled(uncoupled, neurons)
    parts = []
    for name, traces in named.items():
        second = curvature_correlation(traces, posture, **options)
        if set(second["neuron"]) != neurons:
            differing = sorted(map(str, neurons ^ set(second["neuron"])))
            raise NiddlError(f"expected the same neurons in raw and {name}, got {differing} in one alone; see sel")
        parts.append(_paired(first, second, name))
    table = pd.concat(parts, ignore_index=True)
    table["uncoupled"] = None if silent is None else table["neuron"].isin(silent)
    table.attrs = {
        "interval_s": first.attrs["interval_s"],
        "summary": _summary(table),
        schema.HISTORY: _history(first, list(named), silent),
    }
    return table


def _uncoupled(uncoupled: xr.DataArray | Sequence[Any] | None, neurons: set[Any]) -> set[Any] | None:
    """Return the names of the uncoupled neurons, None where it is not known which they are."""
    if uncoupled is None:
        return None
    if isinstance(uncoupled, xr.DataArray):
        if uncoupled.dims != ("neuron",) or uncoupled.dtype != bool:
            raise NiddlError(
                f"expected uncoupled as True and False (neuron), or names, got {uncoupled.dtype} {uncoupled.dims}"
            )
        named = set(uncoupled["neuron"].values[uncoupled.values].tolist())
        known = set(uncoupled["neuron"].values.tolist())
        if missing := neurons - known:
            raise NiddlError(f"expected uncoupled for every neuron, got none for {sorted(map(str, missing))}")
        return named & neurons
    named = set(uncoupled)
    if missing := named - neurons:
        raise NiddlError(f"expected uncoupled neurons out of those of the traces, got {sorted(map(str, missing))} too")
    return named


def _paired(first: pd.DataFrame, second: pd.DataFrame, name: str) -> pd.DataFrame:
    kept = ["r", "lag_s", "p", "q", "reason"]
    left, right = (
        table[[*KEYS, *kept]].rename(columns={column: f"{column}_{label}" for column in kept})
        for table, label in ((first, "raw"), (second, "denoised"))
    )
    pairs = first[[*KEYS, "s"]].merge(left, on=KEYS).merge(right, on=KEYS, how="left")
    pairs.insert(0, "name", name)
    pairs["difference"] = pairs["r_denoised"].abs() - pairs["r_raw"].abs()
    return pairs


def _summary(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one dict per name, state and family, with Wilcoxon's test and Holm's correction over all of them."""
    found = []
    for (name, state), group in table.groupby(["name", "state"], sort=False):
        families = {"all": group}
        if table["uncoupled"].notna().all():
            known = group["uncoupled"].astype(bool)
            families |= {"uncoupled": group[known], "others": group[~known]}
        found += [{"name": name, "state": state, "family": key} | _judge(part) for key, part in families.items()]
    corrected = holm([part["p"] for part in found])
    return [part | {"p_holm": float(value)} for part, value in zip(found, corrected, strict=True)]


def _judge(group: pd.DataFrame) -> dict[str, Any]:
    both = group[group["difference"].notna()]
    if both.empty:
        empty = dict.fromkeys(("higher", "median_difference", "p", "significant_raw", "significant_denoised"), np.nan)
        return {"neurons": 0} | empty | {"found_raw": 0, "found_denoised": 0}
    import pandas as pd

    strength = pd.concat(
        [
            pd.DataFrame({"name": label, "neuron": np.arange(len(both)), "r": both[f"r_{label}"].abs().to_numpy()})
            for label in ("raw", "denoised")
        ]
    )
    test = paired_wilcoxon(strength, reference="raw", value="r", unit="neuron")
    tested = both[["p_raw", "p_denoised"]].dropna()
    return {
        "neurons": len(both),
        "higher": float((both["difference"] > 0).mean()),
        "median_difference": float(both["difference"].median()),
        "p": float(test["p"].iloc[0]),
        "significant_raw": float((tested["p_raw"] <= LEVEL).mean()),
        "significant_denoised": float((tested["p_denoised"] <= LEVEL).mean()),
        "found_raw": int((both["q_raw"] <= LEVEL).sum()),
        "found_denoised": int((both["q_denoised"] <= LEVEL).sum()),
    }


def _history(first: pd.DataFrame, names: list[str], silent: set[Any] | None) -> str:
    *before, correlated = json.loads(first.attrs[schema.HISTORY])
    empty = xr.DataArray(0, attrs={schema.HISTORY: json.dumps(before)})
    told = None if silent is None else len(silent)
    parameters = {**correlated["parameters"], "denoised": names, "uncoupled": told}
    return str(schema.with_history(empty, "compare_curvature_correlation", parameters).attrs[schema.HISTORY])
