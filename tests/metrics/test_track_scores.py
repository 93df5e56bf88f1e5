"""Track scores: exchanges and losses counted by hand, the definitions spelled out in loops, and traccuracy."""

import itertools
import re
import time

import numpy as np
import pytest
import xarray as xr

from niddl_xr.metrics.tracks import score_tracks, track_errors
from niddl_xr.neurons import FILLED, make_tracks
from niddl_xr.schema import NiddlError

GATE = 3.0


def tracks_of(position, observed=None, names=None) -> xr.Dataset:
    position = np.asarray(position, float)
    known = np.isfinite(position).all(axis=-1)
    observed = known if observed is None else np.asarray(observed)
    frames, count = known.shape
    return make_tracks(
        position,
        observed,
        confidence=observed.astype(float),
        provenance=np.where(observed, 0, FILLED),
        det_id=np.full(known.shape, -1),
        t=("t", np.arange(frames) * 0.25, {"units": "s"}),
        neurons=names or [f"n{number}" for number in range(count)],
    )


def grid(frames: int, count: int) -> np.ndarray:
    """Neurons 10 µm apart that all move by 1 µm a frame."""
    position = np.zeros((frames, count, 3))
    position[..., 1] = 10 * np.arange(count)
    position[..., 2] = np.arange(frames)[:, None]
    return position


def rough(seed: int, frames: int = 9, pred: int = 6, true: int = 7) -> tuple[xr.Dataset, xr.Dataset]:
    """Crowded tracks with jitter, exchanged names, gaps and neurons that are only in one of the two."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 9, (true, 3)) + np.cumsum(rng.normal(0, 0.5, (frames, 1, 3)), axis=0)
    found = np.concatenate([truth, rng.uniform(0, 9, (frames, 2, 3))], axis=1)[:, rng.permutation(true + 2)[:pred]]
    found = found + rng.normal(0, 0.9, found.shape)
    for t in range(frames):
        if rng.random() < 0.4:
            first, second = rng.choice(pred, 2, replace=False)
            found[t:, [first, second]] = found[t:, [second, first]]
    found[rng.random(found.shape[:2]) < 0.15] = np.nan
    truth = np.where(rng.random(truth.shape[:2])[..., None] < 0.1, np.nan, truth)
    return tracks_of(found), tracks_of(truth)


def test_the_truth_is_right_whatever_its_names():
    truth = tracks_of(grid(5, 4), names=["AVA", "RID", "AIB", "RME"])
    renamed = tracks_of(grid(5, 4)[:, [2, 0, 3, 1]])
    scores = score_tracks(renamed, truth)
    assert (scores.drop("edits_to_99") == 1).all()
    assert scores["edits_to_99"] == 0
    assert scores.attrs["fraction_correct_t"] == [1] * 5
    assert scores.attrs["neurons"] == {"AVA": "n1", "RID": "n3", "AIB": "n0", "RME": "n2"}


def test_two_that_exchange_their_names_by_hand():
    """4 neurons, 10 frames; two exchange their names for the last 3."""
    position = grid(10, 4)
    position[7:, :2] = position[7:, 1::-1]
    scores = score_tracks(tracks_of(position), tracks_of(grid(10, 4)))
    association = (20 + 2 * (7 * 7 / 13 + 3 * 3 / 17)) / 40  # two neurons whole; 7 shared of 13, 3 shared of 17
    assert scores["DetA"] == 1
    assert scores["AssA"] == pytest.approx(association)
    assert scores["HOTA"] == pytest.approx(np.sqrt(association))
    assert scores["IDF1"] == scores["fraction_correct"] == pytest.approx(34 / 40)
    assert scores["DET"] == 1
    assert scores["LNK"] == pytest.approx(1 - 2 * (1.5 + 1) / (1.5 * 36))  # 2 links of 36 missed, 2 others made
    assert scores["TRA"] == pytest.approx(1 - 2 * 2.5 / (10 * 40 + 1.5 * 36))
    assert scores["edits_to_99"] == 1
    assert scores.attrs["fraction_correct_t"] == [1] * 7 + [0.5] * 3
    assert scores["fraction_correct_p10"] == 0.5


def test_a_gap_by_hand():
    """One of two neurons is missed in frame 2 of 6: a point and two links are lost, and a link over the gap is made."""
    position = grid(6, 2)
    position[2, 1] = np.nan
    scores = score_tracks(tracks_of(position), tracks_of(grid(6, 2)))
    assert scores["DET"] == pytest.approx(1 - 10 / 120)
    assert scores["LNK"] == pytest.approx(1 - (2 * 1.5 + 1) / 15)
    assert scores["fraction_correct"] == pytest.approx(11 / 12)
    assert scores["DetA"] == pytest.approx(11 / 12)


def test_filled_points_count_when_asked():
    position, observed = grid(6, 2), np.ones((6, 2), bool)
    observed[2:4, 1] = False
    position[3, 1] += 50
    pred, truth = tracks_of(position, observed), tracks_of(grid(6, 2))
    assert score_tracks(pred, truth)["fraction_correct"] == pytest.approx(10 / 12)
    assert score_tracks(pred, truth, filled=True)["fraction_correct"] == pytest.approx(11 / 12)
    assert score_tracks(pred, truth, filled=True)["DetA"] == pytest.approx(11 / 13)


def test_only_observed_points_of_the_truth_count():
    observed = np.ones((6, 3), bool)
    observed[:, 2] = False
    observed[4, 0] = False
    pred, truth = tracks_of(grid(6, 3)[:, :2]), tracks_of(grid(6, 3), observed)
    scores = score_tracks(pred, truth)
    assert scores["fraction_correct"] == 1
    assert scores["DetA"] == pytest.approx(11 / 12)
    assert scores.attrs["neurons"] == {"n0": "n0", "n1": "n1", "n2": None}


def brute_force(pred: xr.Dataset, truth: xr.Dataset) -> tuple[float, float]:
    """HOTA and IDF1 from their definitions, in loops over points and over all assignments of names."""
    first, second = pred.position.values.astype(float), truth.position.values.astype(float)
    pairs, frames = [], len(first)
    for t in range(frames):
        distance = np.linalg.norm(first[t][:, None] - second[t][None], axis=-1)
        distance[~(distance <= GATE)] = np.nan
        best: tuple = ((0, 0.0), ())
        padded = [*range(second.shape[1]), *[None] * first.shape[1]]
        for chosen in set(itertools.permutations(padded, first.shape[1])):
            taken = [(a, b) for a, b in enumerate(chosen) if b is not None and not np.isnan(distance[a, b])]
            value = (len(taken), -sum(distance[a, b] for a, b in taken))
            best = max(best, (value, tuple(taken)))
        pairs += [(t, a, b) for a, b in best[1]]
    points, true_points = np.isfinite(first[..., 0]), np.isfinite(second[..., 0])
    association = 0.0
    for _, a, b in pairs:
        both = sum((a, b) == (c, d) for _, c, d in pairs)
        association += both / (points[:, a].sum() + true_points[:, b].sum() - both)
    everything = points.sum() + true_points.sum()
    higher = np.sqrt(association / (everything - len(pairs)))
    near = np.array(
        [
            [np.sum(np.linalg.norm(first[:, a] - second[:, b], axis=-1) <= GATE) for b in range(second.shape[1])]
            for a in range(first.shape[1])
        ]
    )
    names = max(
        sum(near[a, b] for a, b in enumerate(chosen) if b < near.shape[1])
        for chosen in itertools.permutations(range(max(near.shape)), near.shape[0])
    )
    return higher, 2 * names / everything


@pytest.mark.parametrize("seed", range(4))
def test_the_definitions_in_loops(seed):
    pred, truth = rough(seed, frames=6, pred=3, true=4)
    higher, identity = brute_force(pred, truth)
    scores = score_tracks(pred, truth)
    assert scores["HOTA"] == pytest.approx(higher)
    assert scores["IDF1"] == pytest.approx(identity)
    assert 0.1 < scores["HOTA"] < 0.95  # neither trivial


def graph(tracks: xr.Dataset):
    import networkx as nx
    from traccuracy import TrackingGraph

    links = nx.DiGraph()
    position = tracks.position.values.astype(float)
    count = position.shape[1]
    for neuron in range(count):
        seen = np.flatnonzero(np.isfinite(position[:, neuron, 0]))
        for t in seen:
            links.add_node(int(t * count + neuron), t=int(t), place=position[t, neuron].tolist())
        links.add_edges_from(zip(seen[:-1] * count + neuron, seen[1:] * count + neuron, strict=True))
    return TrackingGraph(links, location_keys="place", label_key=None)


def matching(pred: xr.Dataset, truth: xr.Dataset) -> list[tuple[int, int]]:
    """Nodes of the truth and of the prediction that are one: as many as can be, then as near as can be."""
    import networkx as nx

    pairs = []
    first, second = truth.position.values.astype(float), pred.position.values.astype(float)
    for t in range(len(first)):
        candidates = nx.Graph()
        for a, b in itertools.product(range(first.shape[1]), range(second.shape[1])):
            distance = np.linalg.norm(first[t, a] - second[t, b])
            if distance <= GATE:
                candidates.add_edge(("truth", a), ("pred", b), weight=GATE - distance)
        for pair in nx.max_weight_matching(candidates, maxcardinality=True):
            (_, b), (_, a) = sorted(pair)
            pairs.append((t * first.shape[1] + a, t * second.shape[1] + b))
    return pairs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(6))
def test_traccuracy_agrees(seed):
    from traccuracy.matchers import Matched
    from traccuracy.metrics import CHOTAMetric, CTCMetrics

    pred, truth = rough(seed, frames=11, pred=8 + seed % 3, true=9)
    pairs = matching(pred, truth)
    theirs = CTCMetrics().compute(Matched(graph(truth), graph(pred), pairs, {})).results
    ours = score_tracks(pred, truth, gate_um=GATE)
    for name in ("TRA", "DET", "LNK"):
        assert ours[name] == pytest.approx(theirs[name]), name
    higher = CHOTAMetric().compute(Matched(graph(truth), graph(pred), pairs, {})).results
    assert ours["HOTA"] == pytest.approx(higher["CHOTA"])
    assert 0.1 < ours["HOTA"] < 0.9


@pytest.mark.filterwarnings("ignore")
def test_traccuracy_agrees_from_points_to_scores_where_neurons_stand_apart():
    from traccuracy.matchers import PointMatcher
    from traccuracy.metrics import CHOTAMetric, CTCMetrics

    rng = np.random.default_rng(3)
    position = grid(13, 5) + rng.normal(0, 0.4, (13, 5, 3))
    position[8:, [0, 3]] = position[8:, [3, 0]]
    position[rng.random((13, 5)) < 0.2] = np.nan
    pred, truth = tracks_of(position), tracks_of(grid(13, 5))
    matched = PointMatcher(threshold=GATE).compute_mapping(graph(truth), graph(pred))
    theirs = CTCMetrics().compute(matched).results | CHOTAMetric().compute(matched).results
    ours = score_tracks(pred, truth)
    for name, other in {"HOTA": "CHOTA", "TRA": "TRA", "DET": "DET", "LNK": "LNK"}.items():
        assert ours[name] == pytest.approx(theirs[other]), name


def test_nothing_is_printed(capfd):
    score_tracks(*rough(0))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("exchanges", "wanted"),
    [
        ([], 0),
        ([(0, 1, 10, 30)], 1),  # 40 of 400 points wrong: one exchange repairs all
        ([(0, 1, 10, 30), (2, 3, 10, 30)], 2),
        ([(0, 1, 10, 20), (0, 1, 40, 50)], 2),
        ([(0, 1, 10, 11)], 0),  # 2 of 400 are within 1 %
        ([(0, 1, 10, 11), (2, 3, 20, 22)], 1),  # the longer one suffices
        ([(0, 1, 3, 4), (2, 3, 6, 7), (0, 1, 9, 10), (2, 3, 20, 40)], 2),  # 46 wrong, 4 may stay: 40 and 2
    ],
)
def test_edits_by_hand(exchanges, wanted):
    position = grid(100, 4)
    for first, second, start, end in exchanges:
        position[start:end, [first, second]] = position[start:end, [second, first]]
    assert score_tracks(tracks_of(position), tracks_of(grid(100, 4)))["edits_to_99"] == wanted


def test_a_neuron_without_a_point_needs_an_edit_a_run():
    position = grid(100, 4)
    position[10:20, 0] = np.nan
    position[40:60, 2] += (0, 0, 7)
    assert score_tracks(tracks_of(position), tracks_of(grid(100, 4)))["edits_to_99"] == 2


def test_three_in_a_ring_need_three_edits_at_most():
    position = grid(30, 4)
    position[20:, :3] = position[20:, [1, 2, 0]]
    assert 2 <= score_tracks(tracks_of(position), tracks_of(grid(30, 4)))["edits_to_99"] <= 3


def test_frames_and_recordings_without_points():
    position = grid(6, 2)
    position[3] = np.nan
    truth = tracks_of(position)
    scores = score_tracks(tracks_of(grid(6, 2)), truth)
    assert scores["DetA"] == pytest.approx(10 / 12)
    assert scores["fraction_correct"] == 1
    assert np.isnan(scores.attrs["fraction_correct_t"]).tolist() == [False] * 3 + [True] + [False] * 2
    nobody = score_tracks(truth.isel(neuron=slice(0)), truth)
    assert nobody[["HOTA", "DetA", "AssA", "IDF1", "TRA", "DET", "LNK", "fraction_correct"]].eq(0).all()
    assert nobody["edits_to_99"] == 2
    assert score_tracks(truth.isel(neuron=slice(0)), truth.isel(neuron=slice(0))).isna().all()
    assert score_tracks(truth, truth.isel(neuron=slice(0)))["HOTA"] == 0
    lost = tracks_of(np.full((6, 2, 3), np.nan))
    assert score_tracks(lost, truth)["HOTA"] == 0
    alone = tracks_of(grid(1, 1))
    assert score_tracks(alone, alone)["TRA"] == 1
    assert np.isnan(score_tracks(alone, alone)["LNK"])


def test_dims_and_axes_in_another_order_and_lazy_tracks():
    pred, truth = rough(2)
    wanted = score_tracks(pred, truth)
    turned = pred.transpose("space", "neuron", "t").isel(space=[2, 0, 1]).chunk(t=2, neuron=3)
    got = score_tracks(turned, truth)
    assert got.equals(wanted)
    assert got.attrs == wanted.attrs


def test_scores_can_be_joined_into_a_table():
    import pandas as pd

    table = pd.DataFrame({"a": score_tracks(*rough(1)), "b": score_tracks(*rough(2))}).T
    assert table.loc["a", "HOTA"] != table.loc["b", "HOTA"]
    pd.concat([score_tracks(*rough(1)), score_tracks(*rough(2))], axis=1)


def test_which_points_are_wrong():
    position, observed = grid(6, 3), np.ones((6, 3), bool)
    position[2:4, :2] = position[2:4, 1::-1]  # minority: frames 2 and 3
    observed[5, 2] = False
    position[4, 0] = np.nan
    pred = tracks_of(np.concatenate([position, position[:, :1] + 100], axis=1))
    wrong = track_errors(pred, tracks_of(grid(6, 3), observed))
    expected = np.zeros((6, 4))
    expected[2:4, :2] = 1
    expected[:, 3] = 1  # it stands for no neuron
    expected[4, [0, 3]] = np.nan
    np.testing.assert_array_equal(wrong.values, expected)
    assert wrong.dims == ("t", "neuron")
    assert track_errors(pred.isel(neuron=slice(0)), tracks_of(grid(6, 3))).shape == (6, 0)
    assert track_errors(pred, tracks_of(grid(6, 0))).sum() == 22


def test_a_thousand_frames_take_two_seconds():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 60, (150, 3)) + np.cumsum(rng.normal(0, 1, (1000, 1, 3)), axis=0)
    found = truth + rng.normal(0, 0.35, truth.shape)
    found[rng.random(found.shape[:2]) < 0.07] = np.nan
    pred, true = tracks_of(found), tracks_of(truth)
    started = time.process_time()
    score_tracks(pred, true)
    assert time.process_time() - started < 4  # half of it on an idle core


def unlike(change) -> tuple[xr.Dataset, xr.Dataset]:
    pred, truth = tracks_of(grid(6, 3)), tracks_of(grid(6, 3))
    return change(pred), truth


def without_units(tracks):
    tracks = tracks.copy(deep=True)
    del tracks["position"].attrs["units"]
    return tracks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tracks: tracks.isel(t=slice(4)), "as many frames in pred as in truth, got 4 and 6"),
        (lambda tracks: tracks.assign_coords(t=tracks.t + 9), "up to 9 s apart"),
        (without_units, "position of pred in µm along ('z', 'y', 'x'), got units None"),
        (lambda tracks: tracks.isel(space=slice(2)), "the axes ('z', 'y', 'x'), got ['z', 'y']"),
        (lambda tracks: tracks.drop_vars("observed"), "expected the variable observed"),
        (lambda tracks: tracks["position"], "expected tracks, a Dataset"),
    ],
)
def test_what_cannot_be_compared(change, message):
    pred, truth = unlike(change)
    if "up to" in message:
        pred.t.attrs["units"] = "s"
    with pytest.raises(NiddlError, match=re.escape(message)):
        score_tracks(pred, truth)


@pytest.mark.parametrize("gate", [0, -1, np.nan, np.inf])
def test_a_gate_is_a_distance(gate):
    with pytest.raises(NiddlError, match="gate_um as a positive distance in µm, got"):
        score_tracks(tracks_of(grid(3, 2)), tracks_of(grid(3, 2)), gate_um=gate)
