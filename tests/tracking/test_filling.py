"""Places of neurons that were missed, against motions that are known."""

import numpy as np
import pytest

from niddl_xr.simulation import whole_brain
from niddl_xr.tracking._kernels.filling import filled_positions

SHAPE = (11, 17, 3)  # t, neuron, axis


def affine_motion(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Points (t, neuron, 3) in µm of tissue that is turned, stretched and shifted anew in every frame."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform(-20, 20, shape[1:])
    matrices = np.eye(3) + 0.05 * rng.standard_normal((shape[0], 3, 3))
    return np.einsum("tij,nj->tni", matrices, rest) + rng.normal(0, 5, (shape[0], 1, 3))


def hidden(position: np.ndarray, share: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Positions that are NaN where not observed, and what is observed; every neuron is once."""
    observed = np.random.default_rng(seed).random(position.shape[:2]) >= share
    observed[np.arange(position.shape[1]) % len(position), np.arange(position.shape[1])] = True
    return np.where(observed[..., None], position, np.nan), observed


def test_affine_motion_is_undone():
    """What is left of 7 µm is what the ridge holds back of the slopes."""
    truth = affine_motion()
    position, observed = hidden(truth, 0.15)
    filled = filled_positions(position, observed)
    np.testing.assert_array_equal(filled[observed], truth[observed])
    assert np.linalg.norm((filled - truth)[~observed], axis=-1).max() < 1.0
    standing = np.linalg.norm(truth - truth.mean(axis=0), axis=-1)[~observed]
    assert np.median(standing) > 5


def test_a_shift_is_undone_exactly():
    rng = np.random.default_rng(4)
    truth = rng.uniform(0, 40, (1, 13, 3)) + np.cumsum(rng.normal(0, 4, (9, 1, 3)), axis=0)
    position, observed = hidden(truth, 0.3)
    np.testing.assert_allclose(filled_positions(position, observed), truth, atol=1e-6)


def test_two_neurons_are_enough_for_a_shift():
    truth = np.array([[0.0, 0, 0], [3, 4, 5]]) + np.arange(7.0)[:, None, None] ** 2
    position, observed = truth.copy(), np.ones((7, 2), bool)
    observed[3, 1], position[3, 1] = False, np.nan
    np.testing.assert_allclose(filled_positions(position, observed), truth, atol=1e-6)


@pytest.mark.parametrize(("motion", "median_um", "p90_um"), [("fixed", 0.35, 0.6), ("semi", 0.4, 0.7)])
def test_simulated_heads(motion, median_um, p90_um):
    """The bar is a median of 0.7 µm, detections being 0.35 µm off along each axis."""
    head = whole_brain(shape=(30, 512, 512), frames=60, motion=motion, seed=21)["tracks"].to_dataset()
    truth = head["position"].transpose("t", "neuron", "space").values.astype(float)
    seen, observed = hidden(truth + 0.35 * np.random.default_rng(0).standard_normal(truth.shape), 0.07)
    error = np.linalg.norm(filled_positions(seen, observed) - truth, axis=-1)[~observed]
    assert np.median(error) < median_um
    assert np.quantile(error, 0.9) < p90_um


def test_wrong_links_hardly_pull():
    """One neighbour stands 15 µm off in the very frame, and the neuron itself is wrong in a source."""
    rng = np.random.default_rng(5)
    truth = rng.uniform(0, 30, (1, 19, 3)) + rng.normal(0, 3, (12, 1, 3))
    position, observed = truth.copy(), np.ones((12, 19), bool)
    observed[6, 4], position[6, 4] = False, np.nan
    neighbour = np.linalg.norm(truth[6] - truth[6, 4], axis=1).argsort()[1]
    position[6, neighbour] += (0, 15, 0)
    position[5, 4] += (0, 0, 12)
    assert np.linalg.norm(filled_positions(position, observed)[6, 4] - truth[6, 4]) < 1.0


def test_the_place_is_that_of_a_posture_alike_not_of_the_time():
    """The head nods and jumps: even frames are alike, odd frames too; a neuron is missed in one of each."""
    rng = np.random.default_rng(6)
    rest = rng.uniform(0, 40, (23, 3))
    nod = np.stack([rest, rest + 6 * np.sin(rest[:, [1, 2, 0]] / 5)])  # no affine motion brings these together
    truth = nod[np.arange(14) % 2] + rng.normal(0, 30, (14, 1, 3))
    position, observed = truth.copy(), np.ones((14, 23), bool)
    observed[6, 8] = observed[9, 2] = False
    position[~observed] = np.nan
    error = np.linalg.norm(filled_positions(position, observed) - truth, axis=-1)
    assert error[~observed].max() < 0.5


def test_frames_that_share_hardly_anything_are_not_alike():
    """In ten frames only two neurons are seen, far apart and oddly moved; two points alone never disagree."""
    rng = np.random.default_rng(8)
    rest = rng.uniform(0, 40, (21, 3))
    truth = np.repeat(rest[None], 16, axis=0) + rng.normal(0, 0.05, (16, 21, 3))
    observed = np.ones((16, 21), bool)
    far = np.linalg.norm(rest - rest[0], axis=1).argmax()
    observed[6:] = False
    observed[6:, [0, far]] = True
    truth[6:, far] += (0, 9, 0)
    observed[3, 0] = False
    position = np.where(observed[..., None], truth, np.nan)
    assert np.linalg.norm(filled_positions(position, observed)[3, 0] - truth[3, 0]) < 0.5


def test_frames_without_observations_are_crossed_evenly_and_ends_held():
    truth = np.zeros((9, 4, 3)) + np.arange(9.0)[:, None, None] * (1, 2, 0)
    observed = np.ones((9, 4), bool)
    observed[[0, 4, 5, 7, 8]] = False
    filled = filled_positions(np.where(observed[..., None], truth, np.nan), observed)
    expected = truth.copy()
    expected[0] = truth[1]
    expected[7:] = truth[6]
    np.testing.assert_allclose(filled, expected, atol=1e-6)


def test_no_neighbour_in_common_means_a_straight_way():
    """Two neurons that are never seen in the same frame say nothing about one another."""
    position = np.full((5, 2, 3), np.nan)
    position[[0, 4], 0] = [[0.0, 0, 0], [4, 8, 12]]
    position[2, 1] = 50.0
    filled = filled_positions(position, np.isfinite(position).all(axis=-1))
    np.testing.assert_allclose(filled[:, 0], np.arange(5.0)[:, None] * (1, 2, 3))
    np.testing.assert_allclose(filled[:, 1], 50)


def test_never_observed_stays_unknown():
    position, observed = hidden(affine_motion(), 0.1)
    observed[:, 3], position[:, 3] = False, 7.0  # what stands there is not looked at
    filled = filled_positions(position, observed)
    assert np.isnan(filled[:, 3]).all()
    assert np.isfinite(np.delete(filled, 3, axis=1)).all()


def test_what_stands_at_unobserved_places_is_not_looked_at():
    position, observed = hidden(affine_motion(), 0.2)
    expected = filled_positions(position, observed)
    position[~observed] = 1e6
    np.testing.assert_array_equal(filled_positions(position, observed), expected)


def test_an_observed_nan_counts_as_missed():
    truth = affine_motion()
    position = truth.copy()
    position[4, 6] = np.nan
    filled = filled_positions(position, np.ones(SHAPE[:2], bool))
    assert np.linalg.norm(filled[4, 6] - truth[4, 6]) < 0.6


@pytest.mark.parametrize("shape", [(0, 3, 3), (4, 0, 3), (1, 1, 3), (1, 5, 3), (6, 1, 3)])
def test_hardly_anything_to_fill(shape):
    position = np.zeros(shape) + 2.0
    np.testing.assert_array_equal(filled_positions(position, np.ones(shape[:2], bool)), position)
    assert np.isnan(filled_positions(position, np.zeros(shape[:2], bool))).all()


def test_one_neuron_moves_evenly_over_its_gap():
    position = np.arange(6.0)[:, None, None] * (1, 1, 2) * np.ones((1, 1, 1))
    observed = np.array([[True], [False], [False], [True], [True], [False]])
    filled = filled_positions(np.where(observed[..., None], position, np.nan), observed)
    expected = position.copy()
    expected[5] = position[4]
    np.testing.assert_allclose(filled, expected)


def test_more_frames_than_one_block_and_more_missing_than_one_block():
    """Frames are compared 256 at a time and predicted 4096 at a time."""
    truth = affine_motion(seed=9, shape=(530, 31, 3))
    position, observed = hidden(truth, 0.3)
    error = np.linalg.norm(filled_positions(position, observed) - truth, axis=-1)
    assert np.median(error[~observed]) < 0.6
    assert np.quantile(error[~observed], 0.99) < 2.5
    assert error[observed].max() == 0


def test_a_plane_stays_a_plane():
    truth = affine_motion(seed=3)
    truth[..., 0] = 0.0
    position, observed = hidden(truth, 0.2)
    np.testing.assert_allclose(filled_positions(position, observed)[..., 0], 0, atol=1e-9)
