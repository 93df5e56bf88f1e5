"""How fluorescence fades: robust fits of exponentials with a constant to one curve, or to many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

COMPONENTS = {"exp": 1, "biexp": 2}
LONGEST_TAU = 8.0  # times the length of the recording: a slower decay is a straight line
SHORTEST_TAU = 1 / 50  # times the length: a faster one is no bleaching
START_TAUS = (0.15, 0.5, 1.5)
SOFT_L1_MAD = 1.5  # robust standard deviations of the residuals, from which on a point counts less
MAD_TO_SD = 1.4826
BLOCKS = 30  # of a trace, whose low quantiles are taken as independent: states last tens of seconds
FEWEST_POINTS = 8
LEAST_RESIDUAL = 0.002  # of the level: curves that are nearer than this explain a trace alike
LEAST_GAIN = 10.0  # of BIC: "very strong" evidence (Kass & Raftery, J. Am. Stat. Assoc. 90:773, 1995)


class Decay(NamedTuple):
    """A curve ``sum(amplitude exp(-t / tau)) + constant``, its Bayesian information criterion, and that of a line.

    ``variance`` gives that of the curve over itself, at times (t,), but for a factor that all these times share.
    """

    curve: Callable[[np.ndarray], np.ndarray]
    bic: float
    flat_bic: float
    variance: Callable[[np.ndarray], np.ndarray]

    @property
    def is_flat(self) -> bool:
        """Return whether a constant explains the points about as well."""
        return self.flat_bic - self.bic <= LEAST_GAIN


def bic(residual: np.ndarray, parameters: int, level: float) -> float:
    """Return the Bayesian information criterion of residuals (n,) of curves of this ``level``: smaller is better."""
    count = len(residual)
    scale = max(float(np.mean(np.abs(residual))), LEAST_RESIDUAL * abs(level), np.finfo(float).tiny)
    # Of Laplacian residuals, which a few flashes do not rule.
    return float(2 * count * np.log(2 * scale) + 2 * count + parameters * np.log(count))


def gain_of_own(own: np.ndarray, shared: np.ndarray, parameters: int, level: float) -> float:
    """Return by how much the BIC falls where residuals are ``own`` (n,), of a curve with ``parameters`` more.

    As if there were n (1 - r) / (1 + r) independent points, with r the mean autocorrelation of both residuals.
    """
    correlation = (_autocorrelation(own) + _autocorrelation(shared)) / 2
    share = (1 - correlation) / (1 + correlation)
    count, penalty = len(own), parameters * np.log(len(own))
    return float(share * (bic(shared, 0, level) - bic(own, 0, level)) - penalty) if count else 0.0


def _autocorrelation(values: np.ndarray) -> float:
    """Return the correlation of neighbours of values (n,), 0 to 0.95."""
    values = values - values.mean()
    power = float(values @ values)
    return float(np.clip(values[1:] @ values[:-1] / power, 0.0, 0.95)) if power > 0 else 0.0


def fit_decay(times: np.ndarray, values: np.ndarray, components: int, span: float) -> Decay:
    """Fit a decay to ``values`` (n,) at ``times`` (n,), robustly (soft L1); amplitudes and constant are not negative.

    ``span`` is the length of the recording in the unit of the times, which bounds the time constants.
    """
    level = float(np.median(values))
    flat = bic(values - level, 1, level)
    scale = max(MAD_TO_SD * float(np.median(np.abs(values - _smooth(values)))), 1e-6 * abs(level), 1e-300)
    size = max(float(np.max(values)), 1e-300)
    lower = [0.0] * components + [np.log(SHORTEST_TAU * span)] * components + [0.0]
    upper = [10 * size] * components + [np.log(LONGEST_TAU * span)] * components + [2 * size]

    def model(parameters: np.ndarray, at: np.ndarray) -> np.ndarray:
        amplitude, tau = parameters[:components], np.exp(parameters[components:-1])
        return np.asarray(np.exp(-at[:, None] / tau) @ amplitude + parameters[-1])

    fits = []
    for start in START_TAUS:
        taus = np.log(start * span * 4.0 ** -np.arange(components))
        amplitude = max(
            float(values[: max(1, len(values) // 10)].mean() - values[-max(1, len(values) // 10) :].mean()), 0.05 * size
        )
        first = np.clip([*[amplitude / components] * components, *taus, 0.5 * level], lower, upper)
        fits.append(
            least_squares(
                lambda parameters: model(parameters, times) - values,
                first,
                bounds=(lower, upper),
                loss="soft_l1",
                f_scale=SOFT_L1_MAD * scale,
                x_scale=[size] * components + [1.0] * components + [size],
            )
        )
    found = min(fits, key=lambda fit: float(fit.cost)).x
    residual = model(found, times) - values
    return Decay(
        lambda at: model(found, at),
        bic(residual, 2 * components + 1, level),
        flat,
        lambda at: _curve_variance(found, times, residual, at),
    )


def _curve_variance(found: np.ndarray, times: np.ndarray, residual: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the variance (t,) at times ``at`` of the fitted curve over itself, less its mean over these times.

    That of a linear model with the slopes of the curve, whose residuals count as n (1 - r) / (1 + r) independent ones,
    r their autocorrelation. Directions in which no residual is moved have none.
    """
    components = len(found) // 2

    def slopes(when: np.ndarray) -> np.ndarray:
        tau = np.exp(found[components:-1])
        fading = np.exp(-when[:, None] / tau)
        return np.concatenate(
            [fading, found[:components] * fading * when[:, None] / tau, np.ones((len(when), 1))], axis=1
        )

    def curve(when: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-when[:, None] / np.exp(found[components:-1])) @ found[:components] + found[-1])

    scale = np.maximum(np.abs(slopes(times)).max(axis=0), np.finfo(float).tiny)
    inverse = np.linalg.pinv(slopes(times) / scale, rcond=1e-6)
    correlation = _autocorrelation(residual)
    freedom = max(len(times) * (1 - correlation) / (1 + correlation) - len(found), 1.0)
    of_one = float(residual @ residual) / freedom
    relative = slopes(at) / scale / np.maximum(curve(at), np.finfo(float).tiny)[:, None]
    relative -= relative.mean(axis=0)
    return np.asarray(of_one * np.square(relative @ inverse).sum(axis=1))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return values (n,) averaged over a tenth of their number, for the scale of what is left."""
    width = max(3, len(values) // 10)
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="same")[width // 2 : width // 2 + len(values)]


def low_points(times: np.ndarray, values: np.ndarray, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the times (blocks,) of blocks of a trace (t,) and the low quantile of each; NaN is left out."""
    known = np.isfinite(values)
    times, values = times[known], values[known]
    blocks = np.array_split(np.arange(len(values)), min(BLOCKS, max(1, len(values) // 4)))
    middle = np.array([times[block].mean() for block in blocks if len(block)])
    low = np.array([np.quantile(values[block], quantile) for block in blocks if len(block)])
    return middle, low
