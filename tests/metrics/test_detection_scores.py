"""score_detections against brute force, numbers by hand, known faults and traccuracy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial.distance import cdist

from niddl_xr import NiddlError, neurons
from niddl_xr.metrics import score_detections
from niddl_xr.metrics.detections import pair_distances
from niddl_xr.simulation import detections, whole_brain


def points_table(*frames: list[list[float]], **attrs: object) -> pd.DataFrame:
    rows = [(t, *point) for t, points in enumerate(frames) for point in points]
    table = pd.DataFrame(np.array(rows, float).reshape(-1, 4), columns=["t_index", "z", "y", "x"])
    table["t_index"] = table["t_index"].astype(int)
    table.attrs.update(attrs)
    return table


def best_by_trying_all(points: np.ndarray, true_points: np.ndarray, gate_um: float) -> tuple[int, float]:
    """Return the most pairs within the gate, and their least sum, by trying every assignment."""
    if len(points) > len(true_points):
        points, true_points = true_points, points
    distance, best = cdist(points, true_points), (0, 0.0)
    for chosen in permutations(range(len(true_points)), len(points)):
        within = [d for d in distance[range(len(points)), chosen] if d <= gate_um]
        best = max(best, (len(within), -sum(within)))
    return best[0], -best[1]


@pytest.mark.parametrize("seed", range(25))
def test_pairs_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    points, true_points = (rng.uniform(0, 6, (int(rng.integers(1, 7)), 3)) for _ in range(2))
    for gate_um in (1.0, 2.5, 4):
        distance_um = pair_distances(points, true_points, gate_um)
        count, total = best_by_trying_all(points, true_points, gate_um)
        assert len(distance_um) == count
        assert distance_um.sum() == pytest.approx(total)


def test_a_pair_is_not_given_up_for_a_smaller_sum():
    """The nearest pairing leaves one out; the most pairs count."""
    points, true_points = np.array([[0, 0, 0], [0, 0, 2.0]]), np.array([[0, 0, 1.0], [0, 0, 3.9]])
    assert pair_distances(points, true_points, 2.0).tolist() == pytest.approx([1.0, 1.9])
    chain = np.array([[0, 0, 2.9 * k] for k in range(7)])
    assert len(pair_distances(chain, chain + np.array([0, 0, 1.5]), 3)) == 7


def test_the_gate_itself_is_within_and_axes_are_not_mixed_up():
    assert len(pair_distances(np.zeros((1, 3)), np.array([[3.0, 0, 0]]), 3.0)) == 1
    assert len(pair_distances(np.zeros((1, 3)), np.array([[3.01, 0, 0]]), 3.0)) == 0
    truth = points_table([[1.0, 20.0, 30.0]])
    swapped = truth.rename(columns={"y": "x", "x": "y"})
    assert score_detections(swapped, truth)["f1"] == 0


def test_numbers_by_hand():
    truth = points_table([[0, 0, 0], [0, 0, 10], [0, 0, 20]], [[0, 0, 0], [0, 0, 10]], [[0, 0, 0], [0, 0, 10]])
    pred = points_table([[0, 0, 1], [0, 0, 10], [0, 0, 40], [0, 0, 60]], [[0, 0, 2]], [[0, 0, 2], [0, 0, 12]])
    score = score_detections(pred, truth)
    assert score["matched"] == 5
    assert score["missed"] == 2
    assert score["false"] == 2
    assert score["precision"] == score["recall"] == score["f1"] == pytest.approx(5 / 7)
    assert score["centroid_error_um"] == 2.0  # of 1, 0, 2, 2, 2
    assert score["count_error"] == 0
    # 4/3, 1/2, 1: a line from 1.111 to 0.778
    assert score["count_drift"] == pytest.approx(-1 / 3)
    assert score.dtype == np.float64


def test_gate_as_a_whole_number_keeps_fractions():
    truth, pred = points_table([[0, 0, 0]]), points_table([[0, 0.5, 0]])
    assert score_detections(pred, truth, gate_um=3)["centroid_error_um"] == 0.5


def test_points_of_other_frames_do_not_count():
    truth, pred = points_table([[0, 0, 0]], []), points_table([], [[0, 0, 0]])
    score = score_detections(pred, truth)
    assert score[["precision", "recall", "f1"]].tolist() == [0, 0, 0]


def test_what_cannot_be_divided_is_nan():
    none, one = points_table([], frames=3), points_table([[0, 0, 0]], frames=3)
    both = score_detections(none, none)
    assert both[["f1", "precision", "recall", "count_error", "count_drift", "centroid_error_um"]].isna().all()
    assert both["matched"] == 0
    nothing_found = score_detections(none, one)
    assert nothing_found[["f1", "recall", "count_error"]].tolist() == [0, 0, -1]
    assert np.isnan(nothing_found["precision"])
    all_false = score_detections(one, none)
    assert all_false[["f1", "precision"]].tolist() == [0, 0]
    assert all_false[["recall", "count_error"]].isna().all()


def test_drift_of_a_detector_that_loses_points():
    """Of ten points one more is lost in every frame: 1, 0.9, … 0.5."""
    frames = [[[0, 0, 10 * k] for k in range(10)]] * 6
    lost = [frame[number:] for number, frame in enumerate(frames)]
    score = score_detections(points_table(*lost), points_table(*frames))
    assert score["count_drift"] == pytest.approx(-0.5)
    assert score["count_error"] == pytest.approx(-0.25)


@pytest.fixture(scope="module")
def worm() -> xr.DataTree:
    return whole_brain(shape=(7, 40, 60), frames=9, neurons=6, seed=2)


def test_tracks_are_truth_where_they_are_observed(worm):
    tracks = worm["tracks"].to_dataset()
    found = detections(worm, missed_fraction=0, false_fraction=0, jitter_um=0)
    assert score_detections(found, tracks)["f1"] == 1
    hidden = tracks.copy(deep=True)
    hidden["observed"][:, 2] = False
    hidden["position"][4, 3] = np.nan
    score = score_detections(found, hidden)
    assert score["false"] == 9 + 1
    assert score["recall"] == 1
    assert score_detections(hidden, found)["missed"] == 9 + 1
    assert score_detections(found, tracks.transpose("space", "neuron", "t"))["f1"] == 1


def test_faults_of_known_number_are_found(worm):
    found = detections(worm, missed_fraction=0.2, false_fraction=0.5, jitter_um=0.1, seed=4)
    score = score_detections(found, worm["tracks"].to_dataset(), gate_um=0.8)
    real = int((found["neuron"] != "").sum())
    assert score["matched"] == pytest.approx(real, abs=1)
    assert score["missed"] == pytest.approx(9 * 6 - real, abs=1)
    assert score["count_error"] == pytest.approx(len(found) / 54 - 1)


def test_matches_are_those_of_traccuracy():
    """Its point matcher assigns the least sum of distances in a frame, as ours does where the gate is wide."""
    import networkx
    from traccuracy import TrackingGraph
    from traccuracy.matchers import PointMatcher

    rng = np.random.default_rng(11)
    truth = points_table(*[rng.uniform(0, 60, (12, 3)).tolist() for _ in range(4)])
    kept = truth[rng.random(len(truth)) < 0.8].copy()
    kept[["z", "y", "x"]] += rng.normal(0, 0.8, (len(kept), 3))
    pred = pd.concat([kept, points_table(*[rng.uniform(0, 60, (2, 3)).tolist() for _ in range(4)])], ignore_index=True)

    def graph(table: pd.DataFrame) -> TrackingGraph:
        nodes = networkx.DiGraph()
        for row in table.itertuples():
            nodes.add_node(row.Index, t=row.t_index, z=row.z, y=row.y, x=row.x)
        return TrackingGraph(nodes, location_keys=("z", "y", "x"), frame_key="t")

    matched = PointMatcher(threshold=3.0, scale_factor=None).compute_mapping(graph(truth), graph(pred))
    assert score_detections(pred, truth)["matched"] == len(matched.mapping)


def test_thousands_of_points_take_no_matrix_of_all():
    rng = np.random.default_rng(3)
    cloud = rng.uniform(0, 800, (20_000, 3))
    assert len(pair_distances(cloud + rng.normal(0, 0.2, cloud.shape), cloud, 3.0)) > 19_990


def test_frames_that_were_not_searched_do_not_count():
    truth = points_table([[0, 0, 0]], [[0, 0, 0]], [[0, 0, 0]], frames=3)
    pred = points_table([], [[0, 0, 0]], frames=3, t_index_searched=[1])
    assert score_detections(pred, truth)["recall"] == 1


def test_bad_input():
    good = points_table([[0, 0, 0]])
    with pytest.raises(NiddlError, match="pred as detections .* got list"):
        score_detections([[0, 0, 0, 0]], good)
    with pytest.raises(NiddlError, match=r"rename or add \['z'\]"):
        score_detections(good, good.drop(columns="z"))
    with pytest.raises(NiddlError, match="1 that are NaN or infinite"):
        score_detections(good.assign(x=np.nan), good)
    with pytest.raises(NiddlError, match="every point once, got 1 rows"):
        score_detections(pd.concat([good, good]), good)
    with pytest.raises(NiddlError, match="as many frames in both, got 4 in pred and 3 in truth"):
        score_detections(points_table([[0, 0, 0]], frames=4), points_table([[0, 0, 0]], frames=3))
    with pytest.raises(NiddlError, match="points of one recording"):
        score_detections(points_table(recording_id="aa"), points_table(recording_id="bb"))
    for gate_um in (0, -1, np.nan):
        with pytest.raises(NiddlError, match="gate_um as a positive distance"):
            score_detections(good, good, gate_um=gate_um)
    assert neurons.require_detections(good) is good
