"""The verb curvature_correlation: which neurons go with the bending of the body next to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.behaviour._correlation_nulls import (
    LEAST_OTHERS,
    Chance,
    Null,
    Search,
    circular_shift,
    cross_session,
    linear_shift,
    phase,
    require_null,
)
from niddl_xr.behaviour._correlation_signals import (
    Behaviour,
    Filters,
    IndicatorTimes,
    Signals,
    behaviour_of,
    require_lags,
    signals_of,
)
from niddl_xr.behaviour._kernels.bootstrap import lag_interval
from niddl_xr.behaviour._kernels.correlation import peak, shifted_correlation, studentised
from niddl_xr.behaviour._kernels.nulls import tail
from niddl_xr.behaviour._time_base import Grid, times_of
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

VERB = "curvature_correlation"
BLOCK_S = 20.0
BOOTSTRAP_DRAWS = 500


def curvature_correlation(
    traces: xr.Dataset,
    posture: xr.Dataset | None = None,
    *,
    position: xr.DataArray | xr.Dataset | None = None,
    lags_s: tuple[float, float] = (-2.0, 2.0),
    window: float = 0.05,
    state: str | xr.DataArray | None = None,
    highpass_s: float | None = 60.0,
    null: Null = "linear_shift",
    null_draws: int = 199,
    fdr: Literal["bh", "by"] = "bh",
    indicator_tau_s: IndicatorTimes | None = None,
    behaviour: xr.DataArray | None = None,
    variable: str = "dff",
    others: Sequence[Behaviour] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate the activity of every neuron with the curvature of the body next to it.

    Parameters
    ----------
    traces
        ``variable`` (t, neuron), t in s, in nearly even steps. NaN is left out, pair by pair. Frames that are missing
        or uneven are put on an even grid of the median step.
    posture
        ``curvature`` (t, s) in 1/mm, t in s of the same clock; may be sampled otherwise: it is averaged over each
        frame of the traces. Where it is shorter the common part counts. Not needed with ``behaviour``.
    position
        Where along the body the neurons lie: (neuron), 0 (head) to 1 (tail), as of
        :func:`niddl_xr.assign_body_position`; or tracks, for which that is called. None: the coordinate
        ``body_position`` of the traces.
    lags_s
        Lags that are searched, in s. Above 0 activity precedes bending. Lags that reach beyond half the period of the
        undulation (1.4 s at 0.35 Hz) cannot be told from their other side with the sign turned.
    window
        Curvature is the mean over so much of the body length to both sides of the neuron; 0.05 is 50 µm of an adult.
    state
        Name of a variable or coordinate over t in traces or posture ("state"), or such labels (t): every state gets
        rows of its own, from the frames in which the activity falls into it; the behaviour before and after counts
        whatever its state. None: all frames.
    highpass_s
        What changes more slowly than this (full width at half maximum of a Gaussian, in s) is taken out of both
        signals first. None leaves it in: then slow drifts of both count as correlation.
    null
        What chance is (see Notes). "linear_shift": the behaviour of this recording at other times. "circular": the
        same, its end joined to its beginning; calls too many neurons unless both are high-passed. "cross_session": the
        behaviour of ``others``. "phase": behaviour with random phases; right for Gaussian signals only.
    null_draws
        Number of draws of chance: shifts, evenly spread over those allowed, or random phases.
    fdr
        Correction of p for the number of rows, ``q``: "bh" (Benjamini and Hochberg), or "by" (Benjamini and Yekutieli),
        which holds for any dependence.
    indicator_tau_s
        Decay time of the calcium indicator in s, or (rise, decay): the curvature passes the indicator before it is
        correlated, so that lags are those of the activity itself. None: lags are those of what is seen, which follows.
        An indicator of (0.2, 1.2) s shifts them by about -0.7 s at 0.35 Hz; with the decay alone -0.15 s are left.
    behaviour
        Another series (t), such as a speed, in place of curvature.
    variable
        Of the traces: "dff", "F", "ratio" or another.
    others
        Postures, or with ``behaviour`` series (t), of 20 or more other recordings, for "cross_session". The first
        frames of each meet the first of the traces; they must be at least a third as long.
    seed
        Of random phases and of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row per neuron, or per neuron and state: ``neuron``; ``state`` ("all" without states); ``s``, its place;
        ``r0``, Pearson's correlation at lag 0; ``r``, the one farthest from 0 within ``lags_s``, with its sign;
        ``lag_s``, where it is; ``lag_lo``, ``lag_hi``, the 95 % interval of the lag in s; ``p``, the probability that
        unrelated signals correlate as strongly at any of these lags; ``q``, p corrected for the number of rows;
        ``n_eff``, from how many independent frames chance would be as wide; ``null``; ``observed``, the part of all
        frames in which both are known and the state is this one; ``reason``, why numbers are missing, "" where none is:
        p is NaN then. ``attrs`` hold the history and ``interval_s``, between frames.

    Raises
    ------
    NiddlError
        Where times are not in s, do not rise or have no common part, places or behaviour are missing, ``others`` are
        fewer than 20, and for arguments out of range.

    Warns
    -----
    UserWarning
        Where behaviour covers less than 95 % of the traces.

    Notes
    -----
    *Statistic.* The largest |r| within ``lags_s``, so that the choice of the lag is part of the test; r of pairs
    without NaN by FFT (Padfield, IEEE Trans. Image Process. 21:2706, 2012), as Fisher's z times the root of the number
    of pairs.

    *Chance.* Linear shifts (Harris, bioRxiv 2020.08.27.270389) leave both signals as they are. They go to two thirds of
    the recording and begin 8 s beyond the lags that are searched; the overlap becomes shorter, which the root above
    makes up for. Slow drift is taken out before, by a straight line fitted around each frame, which leaves no edges.
    The largest |r|² of the draws is taken as gamma distributed with their mean and variance (Winkler et al., NeuroImage
    141:502, 2016): counting could not fall below 1 / (number of draws + 1), too much for any correction over many
    neurons. Neighbouring shifts are alike: as their mean is worth only as many independent draws as their
    autocorrelation leaves, the ratio to it has an F distribution. Fewer than 5 give no p.

    *Lag interval.* 500 bootstrap draws of blocks of 20 s (Künsch, Ann. Stat. 17:1217, 1989); none below 5 blocks.

    A correlation with curvature that tracks and posture have in common, by a mistake of both, is no chance: compare
    a control line without indicator.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> truth = nx.simulate.freely_moving(frames=1200, rate_hz=4, neurons=8, coupling=0.7, seed=2)
    >>> table = curvature_correlation(truth["traces"].to_dataset(), truth["posture"].to_dataset())
    >>> found = table.set_index("neuron")["q"] <= 0.05
    >>> bool((found == truth["traces"]["coupled"].to_series()).all())
    True
    """
    require_null(null)
    lags_s = require_lags(lags_s)
    _require_options(null_draws, fdr, seed)
    filters = Filters(highpass_s, indicator_tau_s)
    signals, grid = signals_of(
        traces,
        posture,
        position=position,
        window=window,
        state=state,
        behaviour=behaviour,
        variable=variable,
        filters=filters,
    )
    first, last = signals.lags(lags_s)
    if first == last:
        raise NiddlError(
            f"expected lags_s to span a frame ({signals.interval_s:g} s) or more, got {lags_s}: widen them"
        )
    search = Search(first, last, int(null_draws), signals.interval_s)
    foreign = _foreign(others, grid, signals, window, filters, of_series=behaviour is not None)
    if null == "cross_session" and len(foreign) < LEAST_OTHERS:
        raise NiddlError(
            f"expected others=, behaviour of {LEAST_OTHERS} recordings or more for the null across sessions, "
            f"got {len(foreign)}: take null='linear_shift'"
        )
    rows = [
        _row(signals, neuron, name, search, null, foreign, seed)
        for name in signals.states
        for neuron in range(len(signals.neurons))
    ]
    parameters = {
        "lags_s": lags_s,
        "window": window,
        "state": state if isinstance(state, str | None) else "DataArray",
        "highpass_s": highpass_s,
        "null": null,
        "null_draws": null_draws,
        "fdr": fdr,
        "indicator_tau_s": indicator_tau_s,
        "behaviour": None if behaviour is None else str(behaviour.name),
        "variable": variable,
        "others": len(foreign),
        "seed": seed,
    }
    return _table(rows, fdr, null, traces, parameters, signals.interval_s)


def _require_options(null_draws: int, fdr: str, seed: int) -> None:
    if isinstance(null_draws, bool) or not isinstance(null_draws, int | np.integer) or null_draws < 19:
        raise NiddlError(f"expected null_draws as a whole number, 19 or more, got {null_draws!r}")
    if fdr not in ("bh", "by"):
        raise NiddlError(f'expected fdr="bh" or "by", got {fdr!r}')
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise NiddlError(f"expected seed as a whole number ≥ 0, got {seed!r}")


def _foreign(
    others: Sequence[Behaviour] | None,
    grid: Grid,
    signals: Signals,
    window: float,
    filters: Filters,
    *,
    of_series: bool,
) -> list[np.ndarray]:
    """Return the behaviour (neuron or 1, frame) of other recordings, each on a grid from its own first frame on."""
    found = []
    for number, other in enumerate(others or ()):
        what = f"others[{number}]"
        if not isinstance(other, xr.DataArray if of_series else xr.Dataset):
            wanted = "a series (t), as behaviour is" if of_series else "a posture"
            raise NiddlError(f"expected {what} as {wanted}, got {type(other).__name__}")
        times = times_of(other, what)
        frames = min(grid.centres_s.size, int((times[-1] - times[0]) / grid.interval_s + 1e-6) + 1)
        if frames < grid.centres_s.size / 3:
            raise NiddlError(
                f"expected {what} to be a third as long as the traces or more, got {times[-1] - times[0]:.4g} s of "
                f"{grid.centres_s[-1] - grid.centres_s[0]:.4g} s: leave it out"
            )
        centres = times[0] + np.arange(frames) * grid.interval_s
        own = Grid(centres, grid.interval_s, centres, even=True)
        values = behaviour_of(other, what, own, signals.place, window)
        found.append(filters.slow_removed(filters.as_seen(values, grid.interval_s), grid.interval_s))
    return found


def _row(
    signals: Signals,
    neuron: int,
    state: str,
    search: Search,
    null: Null,
    foreign: Sequence[np.ndarray],
    seed: int,
) -> dict[str, Any]:
    """Return the row of one neuron in one state."""
    first = np.where(signals.states[state], signals.activity[neuron], np.nan)
    second = signals.behaviour[neuron]
    row: dict[str, Any] = {"neuron": signals.neurons[neuron], "state": state, "s": signals.place[neuron]}
    row |= dict.fromkeys(("r0", "r", "lag_s", "lag_lo", "lag_hi", "p", "n_eff"), float("nan"))
    together = np.isfinite(first) & np.isfinite(second)
    row |= {"observed": min(1.0, float(together.sum()) / signals.frames), "reason": signals.reason[neuron]}
    if row["reason"]:
        return row
    r, pairs = (values[0] for values in shifted_correlation(first, second[None], search.reach))
    lags = np.arange(search.first, search.last + 1)
    searched = r[search.reach + lags]
    row["r0"] = float(r[search.reach])
    row["r"], row["lag_s"] = peak(searched, lags * signals.interval_s)
    if not np.isfinite(row["r"]):
        return row | {"reason": "too few frames known together, or constant in them"}
    rng = np.random.default_rng([seed, neuron])
    block = max(1, round(BLOCK_S / signals.interval_s))
    ends = lag_interval(first, second, lags, block, BOOTSTRAP_DRAWS, rng)
    row["lag_lo"], row["lag_hi"] = (end * signals.interval_s for end in ends)
    chance = _chance(first, second, [other[min(neuron, len(other) - 1)] for other in foreign], search, null, rng)
    observed = float(np.nanmax(np.abs(studentised(searched, pairs[search.reach + lags]))))
    row["p"] = tail(observed, chance.draws, chance.independent)
    row["n_eff"] = float(pairs[search.reach] / chance.deviation**2) if chance.deviation > 0 else float("nan")
    if np.isnan(row["p"]):
        row["reason"] = "too short for a null"
    return row


def _chance(
    first: np.ndarray,
    second: np.ndarray,
    foreign: list[np.ndarray],
    search: Search,
    null: Null,
    rng: np.random.Generator,
) -> Chance:
    if null == "linear_shift":
        return linear_shift(first, second, search)
    if null == "circular":
        return circular_shift(first, second, search)
    if null == "phase":
        return phase(first, second, search, rng)
    return cross_session(first, foreign, search)


def _table(
    rows: list[dict[str, Any]],
    fdr: Literal["bh", "by"],
    null: str,
    traces: xr.Dataset,
    parameters: Mapping[str, Any],
    interval_s: float,
) -> pd.DataFrame:
    import pandas as pd
    from scipy.stats import false_discovery_control

    columns = ["neuron", "state", "s", "r0", "r", "lag_s", "lag_lo", "lag_hi", "p", "q", "n_eff", "null"]
    table = pd.DataFrame(rows).reindex(columns=[*columns, "observed", "reason"])
    told = table["p"].notna().to_numpy()
    corrected = np.full(len(table), np.nan)
    if told.any():
        corrected[told] = false_discovery_control(table["p"].to_numpy(float)[told], method=fdr)
    table["q"] = corrected
    table["null"] = null
    empty = xr.DataArray(0, attrs={schema.HISTORY: json.dumps(schema.history(traces))})
    table.attrs = {
        "interval_s": interval_s,
        schema.HISTORY: schema.with_history(empty, VERB, parameters).attrs[schema.HISTORY],
    }
    return table
