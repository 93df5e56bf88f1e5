"""Registration of clouds, against motions that are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from niddl_xr.tracking._kernels.registration import (
    brought_near,
    coherent_point_drift,
    misfit_um,
    rigid,
    rigid_from_pairs,
    smooth_displacement,
)

HEAD_UM = np.array([26.0, 44.0, 110.0])


def head(count: int, seed: int = 0) -> np.ndarray:
    """Points (n, 3) in a head, no two nearer than 3 µm."""
    rng, points = np.random.default_rng(seed), np.empty((0, 3))
    while len(points) < count:
        point = rng.uniform(0, HEAD_UM)
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > 3:
            points = np.vstack([points, point])
    return points


def bent(points: np.ndarray) -> np.ndarray:
    """A smooth deformation of a few µm, with another amplitude and another wave along each axis."""
    z, y, x = points.T
    return np.stack([0.8 * np.sin(x / 25), 2.0 * np.cos(x / 30 + y / 40), 1.5 * np.sin(y / 28 - z / 40)], axis=1)


def turn(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    return Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()


def test_pairs_give_the_motion_back():
    points, rotation, shift = head(23), turn(140, (1, 2, -1)), np.array([3.0, -40.0, 12.0])
    found, moved_by = rigid_from_pairs(points, points @ rotation.T + shift)
    np.testing.assert_allclose(found, rotation, atol=1e-6)
    np.testing.assert_allclose(points @ found.T + moved_by, points @ rotation.T + shift, atol=1e-5)


def test_pairs_as_scipy_aligns_them():
    rng = np.random.default_rng(1)
    points, weight = head(17), rng.uniform(0.1, 2, 17)
    others = points @ turn(25, (0, 1, 3)).T + rng.normal(0, 2, points.shape)
    found, _ = rigid_from_pairs(points, others, weight)
    centred = [cloud - weight @ cloud / weight.sum() for cloud in (others, points)]
    expected, _ = Rotation.align_vectors(*centred, weights=weight)
    np.testing.assert_allclose(found, expected.as_matrix(), atol=1e-6)


def test_a_pair_without_weight_does_not_count():
    points, shift = head(9), np.array([1.0, 2.0, 3.0])
    others = points + shift
    others[4] += 500
    rotation, translation = rigid_from_pairs(points, others, np.where(np.arange(9) == 4, 0.0, 2.0))
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(translation, shift, atol=1e-4)


def test_a_mirrored_cloud_is_not_mirrored_back():
    points = head(12)
    rotation, _ = rigid_from_pairs(points, points * (1, 1, -1))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_nothing_turns_without_a_reason():
    """None, one, a line along its own length, and a line that turns: its roll stays, so the turn is the least."""
    for points in (np.empty((0, 3)), np.array([[4.0, 5.0, 6.0]]), np.arange(5.0)[:, None] * (1, 2, 3)):
        rotation, translation = rigid_from_pairs(points, points + 7.0)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-6)
        np.testing.assert_allclose(translation, 7.0 if len(points) else 0.0, atol=1e-5)
    line = np.arange(6.0)[:, None] * (0, 0, 1)
    rotation, _ = rigid_from_pairs(line, line @ turn(30, (1, 0, 0)).T)
    np.testing.assert_allclose(rotation, turn(30, (1, 0, 0)), atol=1e-6)


def test_a_plane_turns_in_itself():
    plane, rotation = head(31) * (0, 1, 1), turn(20, (1, 0, 0))
    found, translation = rigid(plane, plane[::-1] @ rotation.T + (0, 9, -5))
    np.testing.assert_allclose(found, rotation, atol=1e-3)
    np.testing.assert_allclose(translation, (0, 9, -5), atol=0.05)


def test_rigid_finds_the_motion_among_faults():
    rng = np.random.default_rng(2)
    points, rotation, shift = head(119), turn(12, (1, 0.3, 0)), np.array([2.0, 30.0, -14.0])
    target = points @ rotation.T + shift
    seen = np.concatenate([target[rng.random(119) > 0.15], rng.uniform(0, HEAD_UM, (7, 3)) @ rotation.T + shift])
    seen = rng.permutation(seen + 0.35 * rng.standard_normal(seen.shape))
    found, translation = rigid(points, seen)
    error = np.linalg.norm(points @ found.T + translation - target, axis=1)
    assert error.max() < 0.5  # far from the truth a false point would be 3 µm away


def test_drift_finds_a_smooth_deformation():
    rng = np.random.default_rng(3)
    points = head(97)
    target, order = points + bent(points), rng.permutation(97)
    kept = order[rng.random(97) > 0.1]
    moved, probability = coherent_point_drift(points, target[kept])
    assert probability.shape == (97, len(kept))
    np.testing.assert_array_equal(probability.argmax(axis=0), kept)
    lost = np.setdiff1d(np.arange(97), kept)
    error = np.linalg.norm(moved - target, axis=1)
    assert np.median(error[kept]) < 0.1
    assert error[lost].max() < 1.0  # carried by their neighbours


def test_drift_leaves_still_points_and_false_ones_alone():
    points = head(41)
    false = np.array([[-30.0, -30, -30], [60, 90, 150]])
    moved, probability = coherent_point_drift(points, np.concatenate([points, false]))
    np.testing.assert_allclose(moved, points, atol=0.02)
    np.testing.assert_allclose(np.diag(probability), 1, atol=0.01)
    assert probability[:, 41:].sum() < 1e-6
    assert probability.sum(axis=0).max() <= 1 + 1e-12


def test_a_prior_rules_out_and_decides():
    """A point between two others goes to the one that is possible."""
    moving, fixed = np.array([[0.0, 0, 0]]), np.array([[0.0, 0, -2], [0, 0, 2]])
    for column in (0, 1):
        prior = np.zeros((1, 2))
        prior[0, column] = 1
        moved, probability = coherent_point_drift(moving, fixed, prior=prior, regularisation=0.01)
        np.testing.assert_allclose(moved[0], fixed[column], atol=0.05)
        assert probability[0, 1 - column] == 0


def test_regularisation_holds_a_point_that_runs_away_from_its_neighbours():
    grid = np.stack(np.meshgrid([0.0], np.arange(5.0) * 8, np.arange(4.0) * 8, indexing="ij"), axis=-1).reshape(-1, 3)
    away = grid.copy()
    away[7] += (0, 2, 0)
    loose, _ = coherent_point_drift(grid, away, regularisation=1e-4, stiffness_um=4.0)
    firm, _ = coherent_point_drift(grid, away, regularisation=100.0, stiffness_um=60.0)
    assert abs(loose[7, 1] - away[7, 1]) < 0.1
    assert abs(firm[7, 1] - grid[7, 1]) < 1.0


@pytest.mark.parametrize("moving", [0, 1, 2, 3])
@pytest.mark.parametrize("fixed", [0, 1, 2, 4])
def test_hardly_any_points(moving, fixed):
    first, second = head(3)[:moving], head(4, seed=5)[:fixed]
    rotation, translation = rigid(first, second)
    assert np.isfinite(rotation).all()
    assert np.isfinite(translation).all()
    assert np.linalg.det(rotation) == pytest.approx(1)
    moved, probability = coherent_point_drift(first, second)
    assert moved.shape == (moving, 3)
    assert probability.shape == (moving, fixed)
    assert np.isfinite(moved).all()
    assert np.isfinite(probability).all()


def test_clouds_out_of_sight_stay():
    """From 10 mm away nothing pulls, and nothing is NaN."""
    moved, probability = coherent_point_drift(head(7), head(6) + 1e4)
    np.testing.assert_allclose(moved, head(7), atol=1e-6)
    assert probability.max() < 1e-6


def test_identical_points_do_not_break_the_drift():
    points = np.repeat(head(4), 3, axis=0)
    moved, _ = coherent_point_drift(points, points + 1)
    np.testing.assert_allclose(moved, points + 1, atol=0.05)


def test_the_input_is_not_changed():
    points, others = head(11), head(11) + 2
    copies = points.copy(), others.copy()
    coherent_point_drift(points, others)
    rigid(points, others)
    np.testing.assert_array_equal(points, copies[0])
    np.testing.assert_array_equal(others, copies[1])


def test_brought_near_only_where_that_is_nearer():
    points, shift = head(19), np.array([0, 5, 3])
    np.testing.assert_allclose(brought_near(points, points + shift), points + shift, atol=0.1)
    few = points[:5]
    assert brought_near(few, few + 2) is few
    assert brought_near(points, np.empty((0, 3))) is points


def test_a_row_that_lost_an_end_stays():
    """One step along the row would bring it a little nearer to the points that are left and a false one."""
    row = np.arange(14.0)[:, None] * (0, 0, 5)
    seen = np.concatenate([row[:-1], [[0, 0, -5]]])
    assert brought_near(row, seen) is row
    assert not np.allclose(brought_near(row, row + np.array([0, 2, 0])), row)


def test_misfit_by_hand():
    first, second = np.array([[0.0, 0, 0], [0, 0, 100]]), np.array([[0.0, 0, 3]])
    assert misfit_um(first, second, farthest_um=8) == pytest.approx(((3 + 8) / 2 + 3) / 2)


def test_a_displacement_passes_through_what_is_known():
    points = head(29)
    known = bent(points)
    np.testing.assert_allclose(smooth_displacement(points, known, points, noise_share=1e-9), known, atol=1e-3)
    between = head(13, seed=8)
    error = smooth_displacement(points, known, between, noise_share=1e-4) - bent(between)
    assert np.abs(error).mean() < 0.3


def test_a_displacement_far_away_is_the_mean():
    points, known = head(8), np.arange(24.0).reshape(8, 3)
    far = smooth_displacement(points, known, np.array([[1e5, 0, 0]]), weight=np.array([1.0, 3, 1, 1, 1, 1, 1, 1]))
    expected = (known.sum(axis=0) + 2 * known[1]) / 10
    np.testing.assert_allclose(far[0], expected)
    near = smooth_displacement(points, known, np.concatenate([points[:1], far + 1e5]), noise_share=1e-9, local=True)
    np.testing.assert_allclose(near, [known[0], [0, 0, 0]], atol=1e-5)
    assert smooth_displacement(np.empty((0, 3)), np.empty((0, 3)), points).tolist() == np.zeros((8, 3)).tolist()
