"""Principal components of a matrix (t, neuron), and which way round they are."""

from __future__ import annotations

import numpy as np

LARGEST_DIRECT = 400  # of the smaller side: an SVD of more takes longer than its Gram matrix, and is as exact here


def principal_components(centred: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores (t, mode), loadings (neuron, mode) of length 1, and parts of the variance (mode,).

    ``centred`` (t, neuron) has columns of mean 0. Beyond ``LARGEST_DIRECT`` the eigenvectors of the smaller of the two
    Gram matrices are taken, whose error relative to the first singular value is that of the arithmetic, squared.
    """
    frames, neurons = centred.shape
    if min(frames, neurons) <= LARGEST_DIRECT:
        loading = np.linalg.svd(centred, full_matrices=False)[2][:modes].T
    elif neurons <= frames:
        loading = _leading(centred.T @ centred, modes)
    else:
        # Of modes without variance the product is no direction: QR completes it.
        loading = np.linalg.qr(centred.T @ _leading(centred @ centred.T, modes))[0]
    score = centred @ loading
    total = float(np.einsum("tn,tn->", centred, centred))
    return score, np.ascontiguousarray(loading), np.einsum("tm,tm->m", score, score) / total


def _leading(gram: np.ndarray, modes: int) -> np.ndarray:
    return np.asarray(np.linalg.eigh(gram)[1][:, ::-1][:, :modes])


def signs_by_largest(loading: np.ndarray) -> np.ndarray:
    """Return +1 or -1 (mode,) that makes the largest loading of each mode positive; of equal ones the first counts."""
    size = np.abs(loading)
    # What rounding alone tells apart is equal: else the sign would depend on the machine.
    first = (size >= size.max(axis=0) * (1 - 1e-9)).argmax(axis=0)
    return np.where(loading[first, np.arange(loading.shape[1])] < 0, -1.0, 1.0)


def signs_by(agreement: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Return the signs of ``agreement`` (mode,), and ``fallback`` where it is 0 or NaN."""
    decided = np.isfinite(agreement) & (agreement != 0)
    return np.where(decided, np.where(agreement < 0, -1.0, 1.0), fallback)
