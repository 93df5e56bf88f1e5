"""What principal components explain of traces that have nothing to do with one another: parallel analysis."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

LEVEL, STRICT_LEVEL = 0.05, 0.01
MOST_WORK = 8.0e10  # multiplications of all draws: a second and a half on one core
FEWEST_DRAWS = 8
_FEWEST_BEYOND = 2  # draws above a bound that is one of them
_LARGEST_WHOLE = 200  # matrices of which all eigenvalues take no longer than some
_SPARE, _STEPS = 2, 20  # of the Krylov iteration: modes beside those wanted, products


def affordable_draws(shape: tuple[int, ...], wanted: int) -> int:
    """Return how many draws are made: those wanted, fewer for matrices of many frames and neurons, eight at least.

    The more neurons, the less the largest eigenvalues of chance differ from draw to draw.
    """
    each = math.prod(shape) * min(shape)
    return min(wanted, max(FEWEST_DRAWS, int(MOST_WORK / each)))


def chance_explained(centred: np.ndarray, modes: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return what the modes explain (draw, mode) after each trace was shifted in time, circularly and by itself.

    A shifted trace keeps its values and its autocorrelation, and loses its relation to the others. In float32.
    """
    frames, neurons = centred.shape
    traces = np.ascontiguousarray((centred / np.sqrt(np.mean(centred**2))).T, dtype=np.float32)
    total = float(np.sum(traces.astype(np.float64) ** 2))
    shifted = np.empty_like(traces)
    explained = np.empty((draws, modes))
    for draw in range(draws):
        shifts = np.asarray(rng.integers(frames, size=neurons))
        for neuron in range(neurons):
            shift = int(shifts[neuron])
            shifted[neuron, :shift] = traces[neuron, frames - shift :]
            shifted[neuron, shift:] = traces[neuron, : frames - shift]
        gram = shifted @ shifted.T if neurons <= frames else shifted.T @ shifted
        explained[draw] = largest_eigenvalues(gram, modes, rng) / total
    return explained


def largest_eigenvalues(gram: np.ndarray, modes: int, rng: np.random.Generator) -> np.ndarray:
    """Return the largest eigenvalues (mode,) of a symmetric matrix, the first the largest.

    Of a large matrix by block Krylov iteration (Golub & Underwood 1977), to 1e-3 also where eigenvalues lie as close as
    those of chance do. It is made of products alone, which threads do not slow down, as they do a full decomposition.
    """
    width = modes + _SPARE
    if len(gram) <= max(_LARGEST_WHOLE, width * _STEPS):
        return np.asarray(np.linalg.eigvalsh(gram)[::-1][:modes])
    block = np.linalg.qr(rng.standard_normal((len(gram), width), dtype=np.float32))[0]
    basis = block
    for _ in range(_STEPS - 1):
        block = gram @ block
        for _ in range(2):  # once leaves what rounding lets through
            block = block - basis @ (basis.T @ block)
        block = np.linalg.qr(block)[0]
        basis = np.concatenate([basis, block], axis=1)
    return np.asarray(np.linalg.eigvalsh(basis.T @ (gram @ basis))[::-1][:modes])


def upper_bound(explained: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Return per mode (mode,) what chance exceeds in a part ``level`` of all cases, from draws (draw, mode).

    Where there are draws enough, the value that this part of all, the data counted among them, reach or exceed (an
    exact test, Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9:39, 2010); of fewer the bound of a normal
    distribution for one further draw.
    """
    draws = len(explained)
    beyond = int(level * (draws + 1))
    if beyond >= _FEWEST_BEYOND:
        return np.asarray(np.sort(explained, axis=0)[draws - beyond])
    if draws < 2:
        return np.full(explained.shape[1], np.nan)
    margin = stdtrit(draws - 1, 1 - level) * np.sqrt(1 + 1 / draws)
    return np.asarray(explained.mean(axis=0) + margin * explained.std(axis=0, ddof=1))


def leading_above(explained: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Return which modes (mode,) are above chance, and all before them too."""
    return np.logical_and.accumulate(explained > bound)
