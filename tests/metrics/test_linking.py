"""Linking of centred clouds, by algebra."""

import numpy as np
import pytest

from niddl_xr.metrics.linking import linking_difficulty, pair_accuracy
from niddl_xr.schema import NiddlError

SQUARE = np.array([[0.0, 0, 0], [0, 10, 0], [0, 0, 10], [0, 10, 10], [0, 5, 5]])
NAMES = np.array(["a", "b", "c", "d", "e"])


def test_a_shifted_and_shuffled_cloud_is_linked():
    order = np.array([3, 1, 4, 0, 2])
    assert pair_accuracy(SQUARE, SQUARE[order] + (4, -70, 9), NAMES, NAMES[order], unknown="") == 1


def test_two_that_changed_places_are_wrong():
    assert pair_accuracy(SQUARE, SQUARE, NAMES, NAMES[[1, 0, 2, 3, 4]], unknown="") == pytest.approx(3 / 5)


def test_only_neurons_in_both_frames_count():
    others = np.array(["a", "b", "c", "", "x"])
    assert pair_accuracy(SQUARE, SQUARE, NAMES, others, unknown="") == 1  # of a, b and c
    assert np.isnan(pair_accuracy(SQUARE, SQUARE, NAMES, np.full(5, ""), unknown=""))


def test_unknown_pairs_are_not_right():
    blank = np.array(["", "b", "c", "d", "e"])
    swapped = np.array(["", "b", "c", "e", "d"])
    assert pair_accuracy(SQUARE, SQUARE, blank, swapped, unknown="") == pytest.approx(2 / 4)


def test_difficulty_finds_the_frame_that_is_alike():
    """Frames 0 … 7 turn by 0, 90, 180, 270, 0, … degrees: every fourth is the same, the next is a quarter turn."""
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-20, 20, (12, 3)) * (0, 1, 1)
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    frames = [(cloud @ np.linalg.matrix_power(turn, k), np.arange(12)) for k in range(8)]
    found = linking_difficulty(frames, unknown=-1)
    assert found["most similar frame"] == 1
    assert found["next frame"] < 0.5
    assert found["two frames apart"] < 0.5


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([(SQUARE, NAMES)] * 2, "at least three frames, got 2"),
        ([(SQUARE, NAMES)] * 3 + [(SQUARE[:0], NAMES[:0])], r"points in every frame, got none in frames \[3\]"),
    ],
)
def test_too_little_to_measure(frames, message):
    with pytest.raises(NiddlError, match=message):
        linking_difficulty(frames, unknown="")
