"""What a cloud of points looks like as a whole, in numbers that can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WAVES = 192
_WIDTH_UM = 5.0  # points nearer than this count as the same place; neurons of a head lie some 5 µm apart


def cloud_descriptors(clouds: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Describe each cloud (n, 3) in µm by numbers whose distance is that of the clouds, blurred to 5 µm.

    Returns
    -------
    numpy.ndarray
        (clouds, 384), float32. The Euclidean distance of two rows is 0 for equal clouds and about 1.4 times their
        spread for clouds that share no place; the number of points does not matter. NaN for a cloud without points.

    Notes
    -----
    The maximum mean discrepancy (Gretton et al., J. Machine Learning Research 13:723, 2012) of a Gaussian kernel, by
    random Fourier features (Rahimi and Recht, NIPS 2007): T clouds cost T passes, where distances of nearest
    neighbours cost T².
    """
    waves = rng.standard_normal((3, _WAVES)) / _WIDTH_UM
    table = np.full((len(clouds), 2 * _WAVES), np.nan, dtype=np.float32)
    for row, cloud in zip(table, clouds, strict=True):
        if len(cloud):
            phase = (cloud @ waves).astype(np.float32)
            row[:_WAVES], row[_WAVES:] = np.cos(phase).mean(axis=0), np.sin(phase).mean(axis=0)
    return table / np.float32(np.sqrt(_WAVES))
