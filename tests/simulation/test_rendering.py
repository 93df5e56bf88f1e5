"""Rendering against the formulas written out voxel by voxel."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist

from niddl_xr.simulation._kernels import activity, geometry, rendering

VOXEL = np.array([1.0, 0.5, 0.4])
SHAPE = (9, 22, 31)
TILTED = np.array([[2.0, 0.4, 0.0], [0.4, 1.0, -0.3], [0.0, -0.3, 0.8]])


def written_out(centre: np.ndarray, covariance: np.ndarray, peak: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(n) * v for n, v in zip(SHAPE, VOXEL, strict=True)), indexing="ij"), -1)
    gaps = grid - centre
    return peak * np.exp(-0.5 * np.einsum("...i,ij,...j", gaps, np.linalg.inv(covariance), gaps))


@pytest.mark.parametrize("centre", [(4.2, 5.3, 6.1), (0.0, 0.2, 12.0), (-2.5, 5.0, 6.0)])
def test_a_tilted_gaussian_is_its_formula(centre):
    volume = np.full(SHAPE, 3.0, np.float32)
    rendering.add_gaussians(volume, np.array([centre]), TILTED[None], np.array([50.0]), VOXEL)
    # Cut off at 4 sigma per axis, where the Gaussian is at most exp(-8) = 3.4e-4 of its peak.
    np.testing.assert_allclose(volume - 3, written_out(np.array(centre), TILTED, 50.0), atol=50 * 3.4e-4)


def test_gaussians_outside_the_volume_leave_it_alone():
    volume = np.zeros(SHAPE, np.float32)
    rendering.add_gaussians(volume, np.array([[4.0, -30.0, 6.0]]), TILTED[None], np.array([50.0]), VOXEL)
    assert not volume.any()


def test_broad_gaussians_are_their_formula():
    centres, sigmas = np.array([[4.0, 5.0, 6.0], [-3.0, 12.0, 1.0]]), np.array([[2.0, 3.0, 4.0], [5.0, 2.0, 1.5]])
    expected = sum(
        written_out(centre, np.diag(sigma**2), peak)
        for centre, sigma, peak in zip(centres, sigmas, (7, 2), strict=True)
    )
    volume = rendering.broad_gaussians(SHAPE, centres, sigmas, np.array([7.0, 2.0]), VOXEL)
    np.testing.assert_allclose(volume, expected, rtol=1e-4, atol=1e-5)


def test_haze_is_the_blurred_signal():
    shape, voxel, strength = (60, 100, 104), np.array([0.7, 0.8, 0.75]), 1.5
    centre, covariance = np.array([[20.3, 40.0, 39.0]]), np.diag([4.0, 2.0, 3.0])[None]
    signal = np.zeros(shape, np.float32)
    rendering.add_gaussians(signal, centre, covariance, np.array([100.0]), voxel)
    sigmas, peaks = rendering.haze_of(covariance, np.array([100.0]), strength)
    haze = rendering.broad_gaussians(shape, centre, sigmas, peaks, voxel)
    blurred = strength * gaussian_filter(signal, np.array(rendering.HAZE_SIGMA_UM) / voxel, mode="constant", truncate=6)
    np.testing.assert_allclose(haze, blurred, atol=0.01 * blurred.max())


def test_hard_core_points_keep_their_distance_and_stop():
    rng = np.random.default_rng(0)
    points = geometry.hard_core_points(lambda n: rng.uniform(0, 20, (n, 3)), 60, 3.0)
    assert len(points) == 60
    assert pdist(points).min() >= 3.0
    assert len(geometry.hard_core_points(lambda n: rng.uniform(0, 2, (n, 3)), 60, 3.0, rounds=2)) < 5


def test_ornstein_uhlenbeck_has_unit_variance_and_its_time_constant():
    noise = activity.ornstein_uhlenbeck((4000, 40), 2.0, 0.5, np.random.default_rng(1))
    assert noise.var() == pytest.approx(1, abs=0.03)
    assert (noise[:-4] * noise[4:]).mean() == pytest.approx(np.exp(-1), abs=0.03)  # 4 frames are 2 s


def test_the_worm_reverses_a_quarter_of_the_time():
    rng = np.random.default_rng(2)
    share = np.mean([activity.command_states(4000, 0.5, rng).mean() for _ in range(5)])
    assert share == pytest.approx(activity.REVERSAL_S / (activity.REVERSAL_S + activity.FORWARD_S), abs=0.05)


def test_groups_follow_what_they_are_named_after():
    dff, group, reversing = activity.neuron_activity(1500, 50, 0.25, 0.6, np.random.default_rng(3))
    late = np.roll(reversing, 6)  # rise of the command state and of the indicator, about 1.5 s
    change = np.array([dff[late, n].mean() - dff[~late, n].mean() for n in range(50)])
    assert (group < 4).sum() == 30
    assert np.all(change[group == 0] > 0.1)
    assert np.all(change[group == 1] < -0.1)
    assert np.abs(change[group == 4]).max() < 0.05
    assert dff.min() >= activity.LOWEST_DFF


def test_indicator_kernel_keeps_amplitudes():
    assert activity.indicator_kernel(0.25).sum() == pytest.approx(1)
