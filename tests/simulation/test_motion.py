"""How heads move, against algebra and against the real point clouds that "hard" was set on."""

from dataclasses import replace

import numpy as np
import pytest

from niddl_xr.simulation import MOTIONS, Motion
from niddl_xr.simulation._kernels.geometry import Head
from niddl_xr.simulation._kernels.motion import moved, own_times, stationary_path

HEAD = Head((14.0, 60.0, 90.0), 100.0, 20.0, 13.0, 0.4)
TIMES_S = np.arange(3000) * 0.25
POINTS = HEAD.from_local(np.random.default_rng(8).uniform((-10, -15, -45), (10, 15, 45), (11, 3)))


def ways(flat: bool = False, seed: int = 0, times_s: np.ndarray = TIMES_S, **motion: float) -> np.ndarray:
    return moved(POINTS, HEAD, Motion(**motion), times_s, flat=flat, rng=np.random.default_rng(seed)).astype(float)


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[..., :, None, :] - points[..., None, :, :], axis=-1)


def test_a_head_at_rest_stays():
    np.testing.assert_allclose(ways(), np.broadcast_to(POINTS, (3000, 11, 3)), atol=1e-4)


def test_shift_has_its_rms_and_moves_all_alike():
    gaps = ways(translation_um=5.0) - POINTS
    np.testing.assert_allclose(gaps, np.broadcast_to(gaps[:, :1], gaps.shape), atol=1e-4)
    np.testing.assert_allclose(gaps[:, 0].std(axis=0), (1.5, 5, 5), rtol=0.12)
    np.testing.assert_allclose(np.abs(gaps[:, 0].mean(axis=0)).max(), 0, atol=1)


def test_deformation_has_its_rms_is_smooth_and_bends_distances():
    gaps = np.concatenate([ways(deformation_um=4.0, seed=s)[::40] - POINTS for s in range(30)])
    np.testing.assert_allclose(gaps.std(axis=0).mean(axis=0), (1.2, 4, 4), rtol=0.1)
    others = POINTS[0] + np.array([[0, 0, 0], [0, 1, 1], [0, 60, 60]])
    path = moved(others, HEAD, Motion(deformation_um=4.0), TIMES_S, flat=False, rng=np.random.default_rng(1))
    here, beside, away = (path[:, n, 1] - path[:, n, 1].mean() for n in range(3))
    assert np.corrcoef(here, beside)[0, 1] > 0.99
    assert abs(np.corrcoef(here, away)[0, 1]) < 0.8


@pytest.mark.parametrize("rigid", [{"rotation_deg": 20.0}, {"roll_deg": 40.0}])
def test_rotations_keep_distances(rigid):
    path = ways(**rigid)
    np.testing.assert_allclose(distances(path[::50]), np.broadcast_to(distances(POINTS), (60, 11, 11)), atol=1e-3)
    assert np.ptp(path, axis=0).max() > 3


def test_rotation_in_the_plane_has_its_rms_and_keeps_the_centre():
    path = ways(rotation_deg=20.0)
    gaps, rest = path - HEAD.centre, POINTS - HEAD.centre
    np.testing.assert_allclose(gaps[..., 0], np.broadcast_to(rest[:, 0], (3000, 11)), atol=1e-3)
    turned = np.angle((gaps[:, 0, 2] + 1j * gaps[:, 0, 1]) / (rest[0, 2] + 1j * rest[0, 1]), deg=True)
    assert turned.std() == pytest.approx(20, rel=0.12)


def test_roll_turns_about_the_long_axis_within_its_limit():
    local = HEAD.to_local(ways(roll_deg=40.0))
    np.testing.assert_allclose(local[..., 2], np.broadcast_to(HEAD.to_local(POINTS)[:, 2], (3000, 11)), atol=1e-3)
    turned = np.unwrap(np.arctan2(local[:, 0, 0], local[:, 0, 1]))
    angle = np.rad2deg(turned - np.arctan2(*HEAD.to_local(POINTS)[0, :2]))
    assert 30 < np.abs(angle).max() <= 40
    assert angle.std() == pytest.approx(0.6 * 40, rel=0.15)


def test_bending_makes_arcs_of_at_most_its_curvature():
    axis = HEAD.from_local(np.column_stack([np.zeros(61), np.zeros(61), np.linspace(-50, 50, 61)]))
    path = moved(axis, HEAD, Motion(bend_per_mm=20.0), TIMES_S[:200], flat=False, rng=np.random.default_rng(2))
    path = path.astype(float)
    steps = np.diff(path, axis=1)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=-1), 100 / 60, rtol=2e-3)  # the axis keeps its length
    heading = np.unwrap(np.arctan2(steps[..., 1], steps[..., 2]), axis=1)
    curvature = np.diff(heading, axis=1) / (100 / 60)
    assert np.abs(curvature).max() < 1 / 30 * 1.02
    assert np.abs(curvature).max() > 1 / 60
    np.testing.assert_allclose(path[:, 30], np.broadcast_to(HEAD.centre, (200, 3)), atol=1e-3)


def test_bending_keeps_points_square_to_the_axis_at_their_distance():
    along = np.linspace(-45, 45, 91)
    local = np.column_stack([np.full(91, 3.0), np.zeros(91), along])
    both = np.concatenate([local, local + np.array([0, 12, 0])])
    path = moved(
        HEAD.from_local(both), HEAD, Motion(bend_per_mm=20.0), TIMES_S[:60], flat=False, rng=np.random.default_rng(2)
    )
    axis, beside = path[:, :91].astype(float), path[:, 91:].astype(float)
    tangent = np.gradient(axis, axis=1)
    np.testing.assert_allclose(((beside - axis) * tangent).sum(-1)[:, 1:-1], 0, atol=0.05)
    np.testing.assert_allclose(np.linalg.norm(beside - axis, axis=-1), 12, atol=1e-3)


def test_a_long_body_bends_no_more_than_its_head():
    along = np.linspace(-400, 400, 1601)
    axis = HEAD.from_local(np.column_stack([np.zeros(1601), np.zeros(1601), along]))
    path = moved(axis, HEAD, Motion(bend_per_mm=60.0), TIMES_S[:40], flat=False, rng=np.random.default_rng(2))
    steps = np.diff(path[:, 500:1101].astype(float), axis=1)  # 150 µm to either side
    heading = np.unwrap(np.arctan2(steps[..., 1], steps[..., 2]), axis=1)
    assert np.abs(np.diff(heading, axis=1) / 0.5).max() < 1 / 30 * 1.05


def test_a_flat_head_stays_in_its_plane():
    hard = replace(MOTIONS["hard"], roll_deg=30.0)
    path = moved(POINTS, HEAD, hard, TIMES_S[:50], flat=True, rng=np.random.default_rng(0))
    np.testing.assert_allclose(path[..., 0], np.broadcast_to(POINTS[:, 0], (50, 11)), atol=1e-4)


def test_the_path_belongs_to_the_seed_not_to_the_frame_rate():
    slow, fast = ways(translation_um=5.0, burst=1.0), ways(translation_um=5.0, burst=1.0, times_s=TIMES_S[:400] / 5)
    np.testing.assert_allclose(slow[:80], fast[::5], atol=0.02)


def test_stationary_path_has_its_variance_and_memory():
    path = stationary_path(np.arange(4000) * 0.5, 40, 2.0, np.random.default_rng(1))
    assert path.var() == pytest.approx(1, abs=0.04)
    assert (path[:-4] * path[4:]).mean() == pytest.approx(np.exp(-1), abs=0.04)


def test_a_path_is_the_recursion_written_out_however_long():
    """x[k + 1] = a x[k] + sqrt(1 - a²) n on the grid, straight lines between, over two blocks of the grid."""
    rng = np.random.default_rng(5)
    kicks = rng.standard_normal((150_000, 2))
    grid, keep = np.empty_like(kicks), np.exp(-1 / 16)
    grid[0] = kicks[0]
    for k in range(1, len(kicks)):
        grid[k] = keep * grid[k - 1] + np.sqrt(1 - keep**2) * kicks[k]
    times = np.sort(np.random.default_rng(6).uniform(0, 149_990 / 16 * 3.0, 4001))
    path = stationary_path(times, 2, 3.0, np.random.default_rng(5))
    expected = np.column_stack([np.interp(times, np.arange(150_000) * 3.0 / 16, grid[:, n]) for n in range(2)])
    np.testing.assert_allclose(path, expected, atol=1e-9)


def test_bursts_keep_the_pace_on_average():
    times_s = np.arange(20_000) * 0.25
    lived = own_times(times_s, Motion(burst=0.7), np.random.default_rng(3))
    assert np.all(np.diff(lived) > 0)
    assert lived[-1] == pytest.approx(times_s[-1], rel=0.1)
    assert np.std(np.log(np.diff(lived))) == pytest.approx(0.7, rel=0.15)
