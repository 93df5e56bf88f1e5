"""The verb pca: what the neurons of a population have in common."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from niddl_xr.dynamics._activity import MISSING, Activity, activity_of, even_step_s, listed
from niddl_xr.dynamics._direction import signs_of
from niddl_xr.dynamics._kernels import chance
from niddl_xr.dynamics._kernels import derivative as rates
from niddl_xr.dynamics._kernels.components import principal_components
from niddl_xr.dynamics._kernels.reliability import signal_explained
from niddl_xr.schema import NiddlError, with_history

Derivative = Literal["savgol", "gaussian", "total_variation"]
Normalize = Literal["zscore", "peak"]
Missing = Literal["lowrank", "interpolate", "drop", "raise"]

_DERIVATIVES = (None, "savgol", "gaussian", "total_variation")
_NORMALS = (None, "zscore", "peak")
_SIGMAS_OF_WINDOW = 3.0  # standard deviations of the Gaussian in a window
_CONSTANT = 1e-12  # of the size of a trace: below lies rounding
_GAPS, _NULL = range(2)  # streams of random numbers


@dataclass(frozen=True)
class _Wanted:
    """The arguments that say what is done to every trace before the modes are found."""

    derivative: Derivative | None
    window_s: float
    smooth_s: float
    normalize: Normalize | None


def pca(
    traces: xr.Dataset | xr.DataArray,
    *,
    variable: str = "dff",
    derivative: Derivative | None = None,
    window_s: float = 4.5,
    smooth_s: float = 0.0,
    normalize: Normalize | None = "zscore",
    modes: int = 10,
    null_draws: int = 200,
    missing: Missing = "lowrank",
    least_observed: float = 0.75,
    align_to: str | xr.DataArray | xr.Dataset | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Find the principal components of a population of neurons, over time, beside what chance gives.

    Gaps are filled, traces smoothed and differentiated where asked for, then normalized and centred over time; the
    modes are the singular vectors of the result (t, neuron).

    Parameters
    ----------
    traces
        Dataset with ``variable``, or a DataArray, (t, neuron) in any order; NaN is a gap. Loaded: traces are small.
    variable
        Which variable of a Dataset: "dff", or "F" and the like.
    derivative
        None: of the traces themselves. Or of their rate of change: "savgol", the slope of the least-squares parabola
        in a window; "gaussian", the slope after a Gaussian; "total_variation", the piecewise constant rate that fits
        within the noise. It magnifies noise, plain differences so much that they are not offered.
    window_s
        Window of the derivative in s, over which noise is averaged: the length of the parabola; three standard
        deviations of the Gaussian (1.5 s); for total variation the time below which steps of the rate are taken for
        noise. 4.5 s kept most of the signal on simulated worms. Not used without a derivative.
    smooth_s
        Standard deviation in s of a Gaussian that smooths the traces before anything else; 0: none.
    normalize
        "zscore": each trace (or derivative) by its standard deviation, so that all neurons count alike; "peak": by its
        largest distance from its mean; None: as it is, so that neurons with large changes count more.
    modes
        Number of modes; at most as many as there are neurons or frames.
    null_draws
        Draws of the parallel analysis; 0: none. Of matrices beyond 4e8 multiplications (frames x neurons x the smaller
        of both) fewer are made, eight at least, and ``explained_null`` is the bound of a normal distribution.
    missing
        Gaps: "lowrank" fills them by the modes that the neurons share, fitted until they settle, as many as parallel
        analysis finds in the traces, ten at most; "interpolate" by straight lines over time; "drop" leaves out neurons
        with gaps; "raise" makes them an error. Frames without any neuron are no gaps: they take part in no fit.
    least_observed
        Neurons observed in a smaller part of the frames are left out, with a warning.
    align_to
        Which way round the modes are. None: the largest loading of each is positive. The name of a neuron: its
        loadings are positive. A DataArray (t) of numbers, such as speed or ``state == "reversal"``, with the times of
        the traces: scores (with a derivative: integrated scores) correlate positively with it. Another population:
        loadings agree with those of the mode most alike. Where that leaves a sign open, the largest loading counts.
    seed
        Of the random shifts.

    Returns
    -------
    xarray.Dataset
        A population, float64, with the coordinates of the traces over t or neuron; ``mode`` from 1:

        ``score`` (t, mode)
            Projection on the modes; NaN in frames without any neuron. With a derivative also ``integrated`` (t, mode),
            its integral over time, the trajectory of a phase plot; it bridges such frames.
        ``loading`` (neuron, mode)
            Weights, of length 1 for each mode. Neurons that were left out are not there; attrs ``left_out`` names them.
        ``explained`` (mode)
            Part of the variance.
        ``explained_signal`` (mode)
            Part of the variance without noise, where noise is independent from frame to frame: noise makes
            ``explained`` too small. NaN where there is hardly any signal, or ``window_s`` is too short for half the
            frames. Not for traces whose noise lasts, such as those of a denoiser that uses neighbouring frames.
        ``explained_null``, ``significant`` (mode)
            What chance exceeds in one of 20 cases, mode by mode; and whether this mode and all before it are above what
            chance exceeds in one of 100, so that few modes of noise are among them. A strong mode makes the bounds of
            later ones too high, not too low. Traces that drift from end to end are more alike than shifted ones:
            correct bleaching first, or take a derivative. Without draws neither is there.
        ``mean``, ``scale`` (neuron)
            Subtracted from the trace (or its rate), then divided by: ``loading * scale`` are changes in its own unit.
        ``filled`` (t, neuron)
            True where the value was a gap.

    Raises
    ------
    NiddlError
        For one neuron, fewer than three frames, infinite values, times that do not rise, names that stand twice, other
        dims, a missing variable; for a derivative or smoothing of times that are not in s or not even (5 %), or a
        window of fewer than five frames or of more than there are; for arguments out of range.

    Warns
    -----
    UserWarning
        Names neurons that were left out: seldom observed, with gaps ("drop"), or constant where they would be
        normalized.

    Notes
    -----
    Derivatives of dF/F, normalized by their peak, and the integrals of their components are those of Kato et al. (Cell
    163:656, 2015). Total variation: Chartrand (ISRN Appl. Math. 164564, 2011). Parallel analysis is Horn's
    (Psychometrika 30:179, 1965), with each trace shifted circularly by a random time, which keeps its autocorrelation;
    significance one mode after another. Filling: iterated SVD (Troyanskaya et al., Bioinformatics 17:520, 2001).
    Beyond 400 neurons and frames modes are eigenvectors of the Gram matrix.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> worm = nx.simulate.whole_brain(shape=(3, 40, 64), frames=240, rate_hz=2, neurons=9, seed=1)
    >>> population = pca(worm["traces"].to_dataset(), modes=3)
    >>> dict(population["score"].sizes), float(population["explained"].sum()) < 1
    ({'t': 240, 'mode': 3}, True)
    """
    parameters = {name: value for name, value in locals().items() if name != "traces"}
    wanted = _Wanted(derivative, window_s, smooth_s, normalize)
    _require_arguments(wanted, modes, null_draws, missing, least_observed, seed)
    rng = np.random.default_rng([seed, _GAPS])
    activity = activity_of(traces, variable, missing=missing, least_observed=least_observed, rng=rng)
    units = traces["t"].attrs.get("units") if "t" in traces.coords else None
    prepare = _preparation(activity, units, wanted)
    prepared = activity.values if prepare is None else prepare(activity.values, 1)
    mean = prepared.mean(axis=0, where=activity.seen[:, None])
    size = np.maximum(prepared.max(axis=0), -prepared.min(axis=0))
    centred = prepared - mean
    del prepared
    scale = _scale(centred, activity.seen, normalize)
    varying = scale > _CONSTANT * size
    if normalize is not None:
        activity = activity.keep(varying, f"they are constant, and cannot be normalized by {normalize!r}")
        if not varying.all():
            centred, mean, scale = centred[:, varying], mean[varying], scale[varying]
        centred /= scale
    elif not (np.ptp(centred, axis=0) > _CONSTANT * size).any():
        raise NiddlError("expected traces that change over time, got constant ones alone")
    for names, why in activity.left_out:
        warnings.warn(f"left out {listed(names)}: {why}", stacklevel=2)
    fitted = centred if activity.seen.all() else centred[activity.seen]
    modes = min(modes, *fitted.shape)
    _, loading, explained = principal_components(fitted, modes)
    score = centred @ loading
    integrated = _integral(score, activity.t) if derivative else None
    signs = signs_of(align_to, activity, loading, score if integrated is None else integrated)
    loading, score = loading * signs, score * signs
    score[~activity.seen] = np.nan
    variables: dict[str, Any] = {
        "score": (("t", "mode"), score, {"long_name": "score"}),
        "loading": (("neuron", "mode"), loading, {"long_name": "loading"}),
        "explained": ("mode", explained, {"units": "1", "long_name": "explained variance"}),
        "explained_signal": ("mode", _signal(activity, centred, prepare, mean, scale, loading), {"units": "1"}),
        "mean": ("neuron", mean),
        "scale": ("neuron", scale),
        "filled": (("t", "neuron"), ~activity.observed),
    }
    if integrated is not None:
        variables["integrated"] = (("t", "mode"), integrated * signs, {"long_name": "integrated score"})
    draws = chance.affordable_draws(fitted.shape, null_draws)
    if draws:
        null = chance.chance_explained(fitted, modes, draws, np.random.default_rng([seed, _NULL]))
        bound = chance.upper_bound(null)
        variables["explained_null"] = ("mode", bound, {"units": "1", "long_name": "chance, 95th percentile"})
        strict = chance.upper_bound(null, chance.STRICT_LEVEL)
        variables["significant"] = ("mode", chance.leading_above(explained, strict))
    population = xr.Dataset(
        variables, coords={**activity.coords, "mode": np.arange(1, modes + 1)}, attrs=dict(traces.attrs)
    )
    population.attrs |= {"left_out": [name for names, _ in activity.left_out for name in names], "null_draws": draws}
    if activity.rank is not None:
        population.attrs["filled_rank"] = activity.rank
    return with_history(population, "pca", {**parameters, "align_to": _named(align_to)})


def _preparation(activity: Activity, units: object, wanted: _Wanted) -> Callable[[np.ndarray, int], np.ndarray] | None:
    """Return what smooths and differentiates values (t, neuron) of all frames, or of every so-many-th; or None."""
    if not wanted.smooth_s and wanted.derivative is None:
        return None
    argument = f"derivative={wanted.derivative!r}" if wanted.derivative else f"smooth_s={wanted.smooth_s:g}"
    step_s = even_step_s(activity, units, argument)
    _require_window(wanted, step_s, len(activity.t))

    def prepared(values: np.ndarray, every: int) -> np.ndarray:
        dt_s = every * step_s
        if wanted.smooth_s:
            values = rates.smoothed(values, wanted.smooth_s / dt_s)
        if wanted.derivative == "savgol":
            return rates.by_parabolas(values, wanted.window_s, dt_s)
        if wanted.derivative == "gaussian":
            return rates.by_gaussian(values, wanted.window_s / _SIGMAS_OF_WINDOW, dt_s)
        return values if wanted.derivative is None else rates.by_total_variation(values, wanted.window_s, dt_s)

    return prepared


def _require_window(wanted: _Wanted, step_s: float, frames: int) -> None:
    if wanted.derivative is None:
        return
    window = rates.window_frames(wanted.window_s, step_s)
    if not rates.FEWEST_FRAMES <= window <= frames:
        raise NiddlError(
            f"expected a window of {rates.FEWEST_FRAMES} to {frames} frames for the derivative, got {window} "
            f"({wanted.window_s:g} s at {step_s:.4g} s a frame); see window_s="
        )


def _scale(centred: np.ndarray, seen: np.ndarray, normalize: Normalize | None) -> np.ndarray:
    chosen = centred if seen.all() else centred[seen]
    if normalize == "zscore":
        return np.asarray(np.sqrt(np.einsum("tn,tn->n", chosen, chosen) / len(chosen)))
    if normalize == "peak":
        return np.asarray(np.maximum(chosen.max(axis=0), -chosen.min(axis=0)))
    return np.ones(centred.shape[1])


def _integral(score: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the integral over time (t, mode) by the trapezoidal rule, from 0."""
    steps = (score[1:] + score[:-1]) / 2 * np.diff(t)[:, None]
    return np.concatenate([np.zeros((1, score.shape[1])), np.cumsum(steps, axis=0)])


def _signal(
    activity: Activity,
    centred: np.ndarray,
    prepare: Callable[[np.ndarray, int], np.ndarray] | None,
    mean: np.ndarray,
    scale: np.ndarray,
    loading: np.ndarray,
) -> np.ndarray:
    """Return what each mode explains of the variance that even and odd frames have in common."""
    pairs = len(activity.t) // 2
    halves = []
    for first in (0, 1):
        rows = slice(first, 2 * pairs, 2)
        if prepare is None:
            half = centred[rows]
        elif pairs < rates.FEWEST_FRAMES:
            return np.full(loading.shape[1], np.nan)
        else:  # a derivative of all frames would share its noise among neighbours
            half = (prepare(activity.values[rows], 2) - mean) / scale
        known = activity.observed[rows]
        halves.append(half if known.all() else np.where(known, half, 0.0))  # what was filled in is no measurement
    return signal_explained(halves[0], halves[1], loading)


def _named(align_to: str | xr.DataArray | xr.Dataset | None) -> str | None:
    """Return what the history says of ``align_to``."""
    if align_to is None or isinstance(align_to, str):
        return align_to
    return "population" if isinstance(align_to, xr.Dataset) else str(align_to.name or "behaviour")


def _require_arguments(
    wanted: _Wanted, modes: int, null_draws: int, missing: str, least_observed: float, seed: int
) -> None:
    choices: Mapping[str, tuple[object, tuple[object, ...]]] = {
        "derivative": (wanted.derivative, _DERIVATIVES),
        "normalize": (wanted.normalize, _NORMALS),
        "missing": (missing, MISSING),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise NiddlError(f"expected {name} as one of {json.dumps(known)}, got {value!r}")
    for name, count, least in (("modes", modes, 1), ("null_draws", null_draws, 0), ("seed", seed, 0)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
            raise NiddlError(f"expected {name} as a whole number of {least} or more, got {count!r}")
    for name, seconds in (("window_s", wanted.window_s), ("smooth_s", wanted.smooth_s)):
        fits = isinstance(seconds, int | float | np.number) and not isinstance(seconds, bool) and np.isfinite(seconds)
        if not fits or seconds < 0 or (name == "window_s" and seconds == 0):
            raise NiddlError(
                f"expected {name} as a number of seconds, {'0' if name == 'smooth_s' else 'above 0'}"
                f"{' or more' if name == 'smooth_s' else ''}, got {seconds!r}"
            )
    if isinstance(least_observed, bool) or not 0 <= least_observed <= 1:
        raise NiddlError(f"expected least_observed as a part of the frames, 0 to 1, got {least_observed!r}")
