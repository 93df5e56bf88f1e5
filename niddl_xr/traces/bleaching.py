"""Takes bleaching out of traces."""

from __future__ import annotations

from typing import Literal, NamedTuple
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.neurons import TRACE_DIMS, require_traces
from niddl_xr.schema import NiddlError, with_history
from niddl_xr.traces._kernels.bleaching import COMPONENTS, FEWEST_POINTS, LEAST_GAIN, fit_decay, gain_of_own, low_points
from niddl_xr.traces._series import names_of, quantile_between, times_of

MOST_ROUNDS = 6
SETTLED = 1e-3
LEAST_LEFT = 0.02  # of the first frame's fluorescence: less is noise, and dividing by it makes noise of traces


def correct_bleaching(
    traces: xr.Dataset,
    *,
    model: Literal["exp", "biexp"] = "exp",
    pooled: bool = True,
    quantile: float = 0.2,
) -> xr.Dataset:
    """Divide traces by how the fluorescence fades, 1 in the first frame.

    Activity hides the fading of a single neuron, but neurons are not all active at once: the fading is fitted to the
    low quantile over all neurons, frame by frame, and a neuron is given a curve of its own only where its trace speaks
    clearly for it.

    Parameters
    ----------
    traces
        ``F`` (t, neuron) above the background, as :func:`niddl_xr.extract_traces` gives, and ``F_var`` where known.
    model
        "exp": ``A exp(-t / tau) + c``; "biexp": two of these with one constant.
    pooled
        Fit all neurons together. False: a curve for each neuron, through the low quantiles of 30 parts of its trace.
    quantile
        Which quantile over neurons (or of a part of a trace) counts as not active, above 0 and below 1.

    Returns
    -------
    xarray.Dataset
        The traces with ``F`` divided by the new variable ``bleach`` (t, neuron), float32, and ``F_var`` by its square;
        to this comes ``F``² times the variance of the fitted curve over itself, but for a factor that all frames share
        and dF/F does not see.
        ``bleach`` is 1 in the first frame and falls; it is 1 throughout where a constant explains the traces as well
        (``attrs["bleaching"]`` then is "none"), and for a neuron without enough frames. Frames that are NaN stay NaN.
        The coordinate ``bleached_alone`` (neuron) says which neurons have a curve of their own.

    Raises
    ------
    NiddlError
        Where there is no ``F``, times do not rise, arguments are out of range, and for traces that are corrected
        already.

    Warns
    -----
    UserWarning
        Where a curve falls below 0.02 of its start: it is held there.

    Notes
    -----
    The pooled fit is of the quantile over neurons of ``F`` over each neuron's own quantile of the corrected trace,
    repeated until both agree; soft-L1 loss (scipy). Time
    constants lie between 1/50 and 8 times the length of the recording. A curve of its own, or none, is taken if it
    lowers the Bayesian information criterion of the neuron's 30 low points by more than 10, "very strong" evidence by
    Kass & Raftery (J. Am. Stat. Assoc. 90:773, 1995). States of a worm last for tens of seconds, so that neighbouring
    points are counted by their autocorrelation: taken as independent, they gave one neuron in four a curve that was
    activity. docs/decisions/0022-traces.md has the figures, also for neurons that fade at different speeds, where no
    way of fitting came near the truth.

    The curve's variance is that of a linear model with its slopes; residuals of a pooled curve are states of the worm,
    and count by their autocorrelation too. It holds the accident of activity in a short recording, not that a neuron
    fades in a way of its own.

    t in frames instead of s changes nothing but the unit.

    Examples
    --------
    >>> t = np.arange(200.0)
    >>> fading = xr.DataArray(np.outer(0.4 + 0.6 * np.exp(-t / 80), [100.0, 50.0, 20.0]), dims=("t", "neuron"))
    >>> traces = xr.Dataset({"F": fading.assign_coords(t=t, neuron=["AVAL", "AVAR", "RIML"])})
    >>> corrected = correct_bleaching(traces)
    >>> bool(abs(corrected["F"] / corrected["F"][0] - 1).max() < 0.01)
    True
    """
    traces = require_traces(traces)
    if model not in COMPONENTS:
        raise NiddlError(f"expected model as one of {list(COMPONENTS)}, got {model!r}")
    quantile_between(quantile, "quantile")
    if "bleach" in traces:
        raise NiddlError("expected traces as they were extracted, got traces that are corrected for bleaching already")
    times, unit = times_of(traces)
    brightness = traces["F"].values.astype(np.float64)
    bleach, relative_variance, alone = _curves(times, brightness, COMPONENTS[model], pooled, quantile)
    _warn_of_little_left(traces, bleach)
    bleach = np.maximum(bleach, LEAST_LEFT)
    corrected = traces.assign(
        F=traces["F"].copy(data=(brightness / bleach).astype(np.float32)),
        bleach=(TRACE_DIMS, bleach.astype(np.float32), {"units": "1", "long_name": "fluorescence left"}),
    ).assign_coords(bleached_alone=("neuron", alone))
    if "F_var" in traces:
        variance = traces["F_var"].values / bleach**2 + relative_variance * np.square(brightness / bleach)
        corrected["F_var"] = traces["F_var"].copy(data=variance.astype(np.float32))
    corrected.attrs["bleaching"] = f"{model}, t in {unit}" if np.any(bleach != 1) else "none"
    parameters = {"model": model, "pooled": pooled, "quantile": quantile}
    return with_history(corrected, "correct_bleaching", parameters)


class _Fading(NamedTuple):
    """What is left (t,) of the first frame's fluorescence, and the variance (t,) of that over itself."""

    left: np.ndarray
    variance: np.ndarray


def _curves(
    times: np.ndarray, brightness: np.ndarray, components: int, pooled: bool, quantile: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is left (t, neuron) of the first frame, its variance over itself, and who (neuron,) has its own."""
    bleach, variance = np.ones(brightness.shape), np.zeros(brightness.shape)
    alone = np.zeros(brightness.shape[1], bool)
    if len(times) < FEWEST_POINTS:
        return bleach, variance, alone
    common = _common_curve(times, brightness, components, quantile) if pooled else None
    if common is not None:
        bleach *= common.left[:, None]
        variance += common.variance[:, None]
    for neuron, trace in enumerate(brightness.T):
        own = _own_curve(times, trace, components, quantile, common)
        if own is not None:
            bleach[:, neuron], variance[:, neuron], alone[neuron] = *own, True
    return bleach, variance, alone


def _common_curve(times: np.ndarray, brightness: np.ndarray, components: int, quantile: float) -> _Fading | None:
    """Return the fading that the neurons share; None where there is none.

    Neurons are made comparable by their own low quantiles, of traces already corrected: before, one that is active
    early counts as dimmer than one that is active late.
    """
    brightness = brightness[:, np.isfinite(brightness).sum(axis=0) >= FEWEST_POINTS]
    if not brightness.size:
        return None
    curve = np.ones(len(times))
    for _ in range(MOST_ROUNDS):
        level = np.nanquantile(brightness / curve[:, None], quantile, axis=0)
        if not np.any(level > 0):
            return None
        relative = brightness[:, level > 0] / level[level > 0]
        frames = np.isfinite(relative).any(axis=1)
        found = _relative_curve(times, times[frames], np.nanquantile(relative[frames], quantile, axis=1), components)
        if found is None:
            return None
        change, curve = float(np.abs(found.left / curve - 1).max()), np.maximum(found.left, LEAST_LEFT)
        if change < SETTLED:
            break
    return found


def _relative_curve(times: np.ndarray, known: np.ndarray, values: np.ndarray, components: int) -> _Fading | None:
    if len(values) < FEWEST_POINTS or not np.all(np.isfinite(values)):
        return None
    start = times[0]
    decay = fit_decay(known - start, values, components, float(times[-1] - start))
    curve = decay.curve(times - start)
    if decay.is_flat or curve[0] <= 0:
        return None
    return _Fading(np.asarray(curve / curve[0]), decay.variance(times - start))


def _own_curve(
    times: np.ndarray, trace: np.ndarray, components: int, quantile: float, common: _Fading | None
) -> _Fading | None:
    """Return the fading of one neuron; None where what is common to all explains it as well."""
    middle, low = low_points(times, trace, quantile)
    if len(low) < FEWEST_POINTS or np.median(low) <= 0:
        return None
    curve = _relative_curve(times, middle, low, components)
    if curve is None and common is None:
        return None
    none = _Fading(np.ones(len(times)), np.zeros(len(times)))
    own, shared = curve or none, common or none
    left = []
    for shape in (own.left, shared.left):
        here = np.interp(middle, times, shape)
        left.append(low - here * np.median(low / here))
    gain = gain_of_own(left[0], left[1], 0 if curve is None else 2 * components, float(np.median(low)))
    return own if gain > LEAST_GAIN else None


def _warn_of_little_left(traces: xr.Dataset, bleach: np.ndarray) -> None:
    faded = bleach.min(axis=0) < LEAST_LEFT
    if faded.any():
        warn(
            f"the fluorescence of {names_of(traces, faded)} falls below {LEAST_LEFT:g} of its start: what is left "
            "cannot be told from noise, and the correction is held there; leave out the end with isel(t=...)",
            stacklevel=3,
        )
