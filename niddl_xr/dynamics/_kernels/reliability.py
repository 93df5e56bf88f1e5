"""What of the variance is signal: the part that two halves of the frames, with noise of their own, have in common."""

from __future__ import annotations

import numpy as np

_FEWEST_SD = 3.0  # of the common variance above nothing, below which parts of it say nothing


def signal_explained(even: np.ndarray, odd: np.ndarray, loading: np.ndarray) -> np.ndarray:
    """Return the part (mode,) of the signal's variance along each mode; NaN where there is no signal to speak of.

    ``even`` and ``odd`` (t, neuron) hold neighbouring frames, centred and scaled. Noise that is independent from frame
    to frame has no covariance between them, so that theirs is the signal's, whatever the noise.
    """
    common = np.einsum("tn,tn->t", even, odd)
    pairs = len(common)
    error = common.std() / np.sqrt(pairs) if pairs else np.inf
    if pairs < 2 or not common.mean() > _FEWEST_SD * error:
        return np.full(loading.shape[1], np.nan)
    return np.asarray(np.einsum("tm,tm->m", even @ loading, odd @ loading) / common.sum())
