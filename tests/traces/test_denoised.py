from __future__ import annotations

import numpy as np
import pytest

from niddl_xr.traces._kernels.denoised import variance_of_denoised

FRAMES = 4000


@pytest.mark.parametrize(("fast_sd", "slow_sd"), [(2.0, 0.0), (2.0, 3.0), (0.5, 2.0)])
def test_signal_is_no_error_and_errors_that_last_are(fast_sd: float, slow_sd: float) -> None:
    """A wandering signal, raw noise of variance 25, and a denoiser's errors: new in each frame, and lasting ones."""
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.normal(0, 1.5, (FRAMES, 3)), axis=0)
    slow = slow_sd * np.sin(np.arange(FRAMES) / 9)[:, None] * np.sqrt(2)
    raw_noise = rng.normal(0, 5, (FRAMES, 3))
    error = 0.2 * raw_noise + rng.normal(0, fast_sd, (FRAMES, 3)) + slow
    denoised, raw = signal + error, signal + raw_noise
    found = variance_of_denoised(denoised, raw - denoised, np.full((FRAMES, 3), 25.0))
    np.testing.assert_allclose(found.mean(axis=0), 1 + fast_sd**2 + slow_sd**2, rtol=0.15)


def test_brighter_frames_are_noisier() -> None:
    rng = np.random.default_rng(1)
    noise = np.where(np.arange(300) < 150, 4.0, 12.0)[:, None] * np.ones((1, 2))
    found = variance_of_denoised(rng.normal(0, 1, (300, 2)), rng.normal(0, 1, (300, 2)), noise)
    np.testing.assert_allclose(found[200] / found[100], 3.0)


def test_gaps_and_few_frames() -> None:
    trace, noise = np.full((6, 2), 10.0), np.full((6, 2), 4.0)
    trace[2, 0] = np.nan
    trace[:, 1] = np.nan
    found = variance_of_denoised(trace, np.arange(6.0)[:, None] * np.ones((1, 2)), noise)
    assert np.array_equal(np.isnan(found), np.isnan(trace))
    assert found[0, 0] == pytest.approx(np.var([0, 1, 3, 4, 5]) + 4)  # both: too large rather than too small
