"""Points of nobody that are a neuron, and how far a correction reaches, on graphs small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from niddl_xr.tracking._kernels.newcomers import newcomers
from niddl_xr.tracking._kernels.voting import Ballot, Poll

KIND = [("moving", int), ("fixed", int), ("probability", float)]


def every_pair(frames: int) -> np.ndarray:
    return ~np.eye(frames, dtype=bool)


def test_a_neuron_is_gathered_from_all_frames_and_a_stray_point_is_none():
    # Seven frames: points 0 to 6 are one neuron; 7 and 8, in frames 1 and 2, are something that is twice alike.
    frame = np.array([0, 1, 2, 3, 4, 5, 6, 1, 2])
    same = np.zeros((9, 9))
    same[:7, :7] = 0.9 * every_pair(7)
    same[7, 8] = same[8, 7] = 1.0
    same[7, 3] = same[3, 7] = 0.2
    found = newcomers(csr_matrix(same), frame, csr_matrix(every_pair(7).astype(float)), 2)
    assert [points.tolist() for points in found] == [[0, 1, 2, 3, 4, 5, 6]]
    assert newcomers(csr_matrix(same), frame, csr_matrix(every_pair(7).astype(float)), 8) == []


def test_of_two_points_in_a_frame_the_one_that_more_agree_on_joins_and_order_is_nothing():
    rng = np.random.default_rng(0)
    frame = np.repeat(np.arange(6), 2)  # two neurons, a point of each a frame
    same = np.zeros((12, 12))
    for one in range(12):
        for other in range(12):
            if frame[one] != frame[other]:
                same[one, other] = 0.8 if one % 2 == other % 2 else 0.15
    order = rng.permutation(12)
    found = newcomers(csr_matrix(same[np.ix_(order, order)]), frame[order], csr_matrix(every_pair(6).astype(float)), 6)
    assert sorted(sorted(order[points].tolist()) for points in found) == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]


def test_without_points_nobody_is_found():
    nothing = csr_matrix((0, 0))
    assert newcomers(nothing, np.empty(0, int), csr_matrix((4, 4)), 1) == []


def two_postures(apart: float) -> Poll:
    """Two postures of five frames and two neurons, which the matches between the postures exchange (less ``apart``).

    Frames 0 to 4 are one posture, 5 to 9 the other. Point k of a frame is neuron k.
    """
    matches, pairs = {}, {}
    for one in range(10):
        for other in range(one + 1, 10):
            alike = one // 5 == other // 5
            if not alike and other - one != 5:
                continue
            right, wrong = (0.9, 0.05) if alike else (0.5 - apart, 0.5 + apart)
            rows = [(0, 0, right), (1, 1, right), (0, 1, wrong), (1, 0, wrong)]
            matches[one, other] = np.array(rows, KIND)
            pairs[one, other] = 1.0 if alike else 5.0
    poll = Poll(Ballot([2] * 10, matches), pairs, reference=0)
    poll.solve()
    return poll


@pytest.mark.parametrize("frame", [5, 7, 9])
def test_a_correction_reaches_all_frames_of_its_posture_and_no_other(frame: int):
    poll = two_postures(apart=0.02)
    detection, _ = poll.tables()
    assert detection.tolist() == [[0, 1]] * 5 + [[1, 0]] * 5
    nothing = np.empty(0, int)
    poll.hear(
        frame=nothing, point=nothing, column=nothing, weight=4.0, away_point=nothing, away_column=nothing, columns=2
    )
    poll.correct(np.array([frame]), np.array([2 * frame]), 0)
    # 5 matches of the postures agree less, by 0.04 each, which is little; the four of the frame alone would be much.
    assert poll.tables()[0].tolist() == [[0, 1]] * 10


def test_a_correction_that_nothing_agrees_with_stays_alone():
    poll = two_postures(apart=-0.4)
    assert poll.tables()[0].tolist() == [[0, 1]] * 10
    poll.correct(np.array([6]), np.array([13]), 0)
    expected = [[0, 1]] * 10
    expected[6] = [1, -1]  # of the votes on the other point 6 % are for neuron 1, less than a tenth
    assert poll.tables()[0].tolist() == expected


def test_agreement_counts_matches_of_points_with_one_label():
    matches = {(0, 1): np.array([(0, 1, 0.8), (1, 0, 0.1)], KIND), (1, 2): np.array([(1, 0, 0.5)], KIND)}
    ballot = Ballot([2, 2, 1], matches)
    assert ballot.agreement(1, np.array([4, 3, 3, 4, 4])) == pytest.approx(0.8 + 0.1 + 0.5)
    assert ballot.agreement(1, np.array([4, 3, -1, 4, 2])) == pytest.approx(0.8)
    assert ballot.agreement(1, np.array([-1, -1, -1, -1, -1])) == 0
    np.testing.assert_allclose(ballot.among(np.array([3, 0])).toarray(), [[0, 0.8], [0.8, 0]])
    assert ballot.together().toarray().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
