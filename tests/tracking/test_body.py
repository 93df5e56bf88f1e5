"""The method "body": probabilities by enumeration, curves by algebra, crawling worms by their truth."""

import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from niddl_xr import track
from niddl_xr.metrics.tracks import score_tracks
from niddl_xr.neurons import ANCHOR, Frames, frames_of
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import detections, freely_moving, whole_brain
from niddl_xr.tracking._kernels import body_continuity, body_curve, body_order
from niddl_xr.tracking.methods import Anchors, _body_row, body
from niddl_xr.tracking.methods._body_row import Ways


@cache
def worm(seed: int, frames: int = 60, **options) -> tuple[xr.DataTree, pd.DataFrame]:
    tree = freely_moving(frames=frames, seed=seed, omega_turns_per_min=2.5, **options)
    return tree, detections(tree, seed=seed)


def short(seed: int) -> pd.DataFrame:
    """Twenty frames."""
    return worm(seed, frames=20, neurons=18)[1]


def truth_of(tree: xr.DataTree) -> xr.Dataset:
    return tree["tracks"].to_dataset()


def bent(count: int, frames: int, bend: float = 1.2) -> np.ndarray:
    """Neurons (t, n, 3) at uneven gaps, 5 to 30 µm, on an arc that bends to and fro without any stretching."""
    gaps = 5 + 25 * np.random.default_rng(4).random(count)
    along = np.cumsum(gaps)
    places = np.zeros((frames, count, 3))
    for t in range(frames):
        turn = bend * np.sin(2 * np.pi * t / frames + 0.5) / along[-1] * along * 2
        step = np.diff(along, prepend=0.0)
        places[t, :, 1] = np.cumsum(step * np.sin(turn))
        places[t, :, 2] = np.cumsum(step * np.cos(turn)) + 2 * t
    return places


def table_of(places: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Detections in a random order within each frame; NaN is no detection; "neuron" holds the truth."""
    frame, neuron = np.nonzero(np.isfinite(places).all(axis=-1))
    points = places[frame, neuron]
    table = pd.DataFrame({"t_index": frame, "z": points[:, 0], "y": points[:, 1], "x": points[:, 2], "neuron": neuron})
    table = table.sample(frac=1, random_state=seed).sort_values("t_index", kind="stable").reset_index(drop=True)
    table.attrs["frames"] = len(places)
    return table


def purity(tracks: xr.Dataset, table: pd.DataFrame) -> float:
    """The part of the detections that are under the name most of their neuron's are under."""
    det_id, right = tracks["det_id"].values, 0
    truth = table["neuron"].to_numpy()
    for column in det_id.T:
        seen = truth[column[column >= 0]]
        right += np.bincount(seen).max() if len(seen) else 0
    return right / len(table)


# ---- kernels


def test_probabilities_are_those_of_all_alignments_enumerated():
    """Three neurons and four points have few enough alignments to write down one by one."""
    neurons, places = np.array([0.0, 11.0, 19.0]), np.array([2.0, 9.5, 14.0, 21.0])
    missed, strain = np.array([0.1, 0.3, 0.05]), 0.2
    extra = np.random.default_rng(0).normal(0, 1, (3, 4))
    miss, false = np.log(missed), np.log(body_order.FALSE_PER_UM)
    weight, total = np.zeros((3, 4)), 0.0
    for size in range(1, 4):
        for chosen in itertools.combinations(range(3), size):
            for points in itertools.combinations(range(4), size):
                log = sum(miss[i] for i in range(3) if i not in chosen) + (5 - size) * false
                log += sum(np.log(1 - missed[i]) + extra[i, a] for i, a in zip(chosen, points, strict=True))
                for (i, j), (a, b) in zip(itertools.pairwise(chosen), itertools.pairwise(points), strict=True):
                    wanted, gap = neurons[j] - neurons[i], places[b] - places[a]
                    spread = np.hypot(body_order.ERROR_UM, strain * wanted)
                    density = np.exp(-0.5 * ((gap - wanted) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
                    log += np.log(density)
                total += np.exp(log)
                for i, a in zip(chosen, points, strict=True):
                    weight[i, a] += np.exp(log)
    padded = np.array([[*places, np.nan], [np.nan] * 5])
    evidence = np.zeros((2, 3, 5))
    evidence[0, :, :4] = extra
    row = body_order.Row(neurons, missed, strain)
    probability, likelihood = body_order.posteriors(padded, row, evidence)
    np.testing.assert_allclose(probability[0, :, :4], weight / total, rtol=1e-9)
    assert likelihood[0] == pytest.approx(np.log(total))
    assert likelihood[1] == 0
    assert not probability[0, :, 4].any()
    assert not probability[1].any()


def test_frames_at_once_change_nothing(monkeypatch):
    table = short(3)
    wanted = track(table, method="body")
    monkeypatch.setattr(body_order, "FRAMES_AT_ONCE", 7)
    xr.testing.assert_equal(track(table, method="body").drop_attrs(), wanted.drop_attrs())


def test_the_longest_path_finds_the_order_of_a_row():
    arc = bent(20, 3)[1]
    shuffled = np.random.default_rng(0).permutation(20)
    path = shuffled[body_curve.longest_path(arc[shuffled])]
    assert path.tolist() in (list(range(20)), list(range(19, -1, -1)))


def test_places_along_a_circle_and_beyond_its_ends():
    radius, angle = 150.0, np.linspace(0, 2.0, 500)
    circle = np.stack([np.zeros(500), radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    curve = body_curve.resampled(circle)
    at = np.array([0.2, 0.9, 1.7])
    points = np.stack([np.zeros(3), (radius + 4) * np.sin(at), (radius + 4) * np.cos(at)], axis=1)
    places, off = body_curve.project(points, curve)
    np.testing.assert_allclose(places, radius * at, atol=0.1)
    np.testing.assert_allclose(off, 4, atol=0.05)
    straight_on = np.array([[0.0, -10.0, radius], [3.0, -10.0, radius]])  # the curve begins with a step along +y
    places, off = body_curve.project(straight_on, curve)
    np.testing.assert_allclose(places, -10, atol=0.2)
    np.testing.assert_allclose(off, [0, 3], atol=0.2)


def test_a_centreline_moves_to_where_the_points_are():
    line = np.stack([np.zeros(50), np.zeros(50), np.linspace(0, 490, 50)], axis=1)
    beside = np.stack([np.zeros(12), np.full(12, -9.0), np.linspace(20, 470, 12)], axis=1)
    curve = body_curve.resampled(line)
    moved, lost = body_curve.moved_onto([curve, None], [beside, beside])
    assert lost is None
    np.testing.assert_allclose(moved[:, 1], -9, atol=1e-6)
    assert body_curve.moved_onto([None], [beside]) == [None]


def test_a_row_learns_gaps_and_neurons_that_it_lacks():
    true = np.array([0.0, 12.0, 20.0, 37.0, 50.0, 61.0])
    rng = np.random.default_rng(1)
    places = true + rng.normal(0, 0.3, (40, 6)) + rng.normal(0, 9, (40, 1))
    places[30:, 5] = np.nan  # the last one is missed in a quarter of the frames
    row = body_order.first_row(np.array([0.0, 10.0, 36.0, 47.0, 60.0]) + 3)  # without the third, gaps wrong
    for _ in range(3):
        found = body_order.aligned(places, row, least=0.4)
        row = body_order.learned_row(places, row, found.chosen, least_fraction=0.2)
    np.testing.assert_allclose(np.diff(row.places), np.diff(true), atol=0.3)
    np.testing.assert_allclose(row.missed, [body_order.LEAST_MISSED] * 5 + [0.25])
    crowded = body_order.first_row(np.sort(np.append(true, [28.0, 55.0])))  # two that are never there
    found = body_order.aligned(places, crowded, least=0.4)
    assert len(body_order.learned_row(places, crowded, found.chosen, least_fraction=0.2)) == 6


def test_gaps_beside_a_bend_are_those_along_the_middle():
    """On a circle of 150 µm, points at angles 0.2 apart lie 30 µm apart along it and 25 along one 25 µm inside."""
    angle = np.linspace(0, 2.0, 400)
    circle = 150 * np.stack([np.zeros(400), np.sin(angle), np.cos(angle)], axis=1)
    at = np.arange(0.3, 1.8, 0.2)
    points = 150 * np.stack([np.zeros(8), np.sin(at), np.cos(at)], axis=1)
    curve = body_curve.resampled(circle)
    for way, gap in ((0.0, 30.0), (25.0, 35.0), (-25.0, 25.0)):
        rows = body_curve.in_order([points[::-1]], [curve], 8.0, beside_um=way)
        np.testing.assert_allclose(np.diff(rows.places[0]), gap, atol=0.3)
        assert rows.numbers[0].tolist() == list(range(7, -1, -1))
        np.testing.assert_allclose(rows.from_the_other_end().places[0], -rows.places[0, ::-1])


def test_the_middle_of_the_body_is_on_the_other_side_when_seen_from_the_other_end():
    """A worm that is turned by half a circle shows its other end first, and is the same worm."""
    angle = np.linspace(0.2, 1.9, 12)
    points = 150 * np.stack([np.zeros(12), np.sin(angle), np.cos(angle)], axis=1)
    frames = [Frames([cloud], [np.arange(12)], None) for cloud in (points, -points)]
    curves = [[body_curve.curve_through(cloud.points[0])] for cloud in frames]
    first, second = (Ways.of(each, curve, 8.0, 25.0) for each, curve in zip(frames, curves, strict=True))
    gaps, mean = np.diff(angle) * 150, 150 * 1.7 / 11
    np.testing.assert_allclose(np.diff(first.here.places[0]), np.diff(second.there.places[0]), atol=0.5)
    np.testing.assert_allclose(np.diff(first.there.places[0]), np.diff(second.here.places[0]), atol=0.5)
    ways = sorted(np.diff(way.places[0]).mean() for way in (first.here, first.there))
    np.testing.assert_allclose(ways, [mean * 125 / 150, mean * 175 / 150], rtol=0.02)
    assert gaps.mean() == pytest.approx(mean)


def test_a_neuron_that_is_not_needed_goes():
    true = np.array([0.0, 12.0, 20.0, 37.0, 50.0])
    places = true + np.random.default_rng(1).normal(0, 0.3, (40, 5))
    row = body_order.Row(np.array([0.0, 12.0, 20.0, 27.0, 37.0, 50.0]), np.array([0.02, 0.02, 0.02, 0.7, 0.02, 0.02]))
    np.testing.assert_allclose(_body_row._pruned(places, row).places, true, atol=0.5)
    places[:28, 2] = np.nan
    places = np.sort(places, axis=1)
    row = body_order.Row(true, np.array([0.02, 0.02, 0.7, 0.02, 0.02]))
    assert len(_body_row._pruned(places, row)) == 5  # it is missed often, and needed when it is there


def test_a_point_far_from_the_line_of_its_neighbours_is_dropped():
    row = body_order.first_row(10.0 * np.arange(6))
    points = np.stack([np.zeros(6), np.zeros(6), row.places], axis=1)
    points[3, 1] = 12
    numbers = np.tile(np.arange(6), (2, 1))
    body._drop_far_ones(Frames([points, points[:, [0, 2, 1]]], [np.arange(6)] * 2, None), row, numbers, 8.0)
    assert numbers.tolist() == [[0, 1, 2, -1, 4, 5]] * 2


def test_a_chain_goes_on_between_and_beyond_what_is_known():
    row = body_order.first_row(np.array([0.0, 10.0, 20.0, 30.0, 50.0]))
    points = np.stack([np.zeros(3), np.zeros(3), [10.0, 20.0, 30.0]], axis=1)
    numbers = np.array([[-1, 0, 1, 2, -1], [-1, 0, -1, -1, -1]])
    chain = body_continuity.chain_of([points, points], numbers, row)
    np.testing.assert_allclose(chain[0, :, 2], row.places)
    assert np.isnan(chain[1]).all()  # one of five is too little
    two = np.stack([chain[0], chain[1], chain[0] + 4])
    np.testing.assert_allclose(body_continuity.between(two)[1, :, 2], row.places + 2)
    assert body_continuity.spread_um(two * np.nan, two) == np.inf


# ---- the method


def test_a_row_that_bends_is_followed_without_a_mistake():
    places = bent(17, 25)
    table = table_of(places)
    tracks = track(table, method="body")
    assert dict(tracks.sizes) == {"t": 25, "neuron": 17, "space": 3}
    assert purity(tracks, table) == 1
    assert tracks["observed"].all()


def test_frames_that_are_shifted_turned_and_seen_from_behind_are_the_same_worm():
    rng = np.random.default_rng(2)
    places = bent(17, 25) + rng.normal(0, 0.3, (25, 17, 3)) * (0, 1, 1)
    for t in range(25):
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        places[t, :, 1:] = places[t, :, 1:] @ turn.T * (1 if t % 2 else -1) + rng.uniform(0, 500, 2)
    table = table_of(places)
    assert purity(track(table, method="body"), table) > 0.99


@pytest.mark.parametrize("seed", [3, 10])
def test_a_crawling_worm(seed):
    """7 % missed, 3 % false, jitter .35 µm; the bar is a HOTA of .85."""
    tree, table = worm(seed, frames=40, neurons=30)
    tracks = track(table, method="body", min_fraction=0.2)
    scores, filled = (score_tracks(tracks, truth_of(tree), filled=each) for each in (False, True))
    found = (table["neuron"] != "").sum() / truth_of(tree)["observed"].values.sum()
    assert scores["HOTA"] > 0.85
    assert scores["fraction_correct"] > 0.98 * found  # what is not detected is not observed
    assert filled["fraction_correct"] > 0.9


def test_an_omega_turn_in_which_the_body_touches_itself():
    """From frame 189 to 199 the shortest tree goes across from one part of the body to another."""
    tree, table = worm(1, frames=208, neurons=30)
    late = slice(170, 208)
    table = table[table["t_index"] >= late.start].assign(t_index=lambda rows: rows["t_index"] - late.start)
    truth = truth_of(tree).isel(t=late)
    turn = tree["posture"]["turn"].values[late]
    scores = score_tracks(track(table.reset_index(drop=True), method="body"), truth)
    found = (table["neuron"] != "").groupby(table["t_index"]).sum().to_numpy() / 30
    assert turn.sum() > 20
    assert np.asarray(scores.attrs["fraction_correct_t"])[turn].mean() > 0.95 * found[turn].mean()


def test_the_order_of_the_table_is_of_no_account():
    table = short(3)
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    first, second = track(table, method="body"), track(shuffled, method="body")
    np.testing.assert_array_equal(first["position"], second["position"])


def test_a_centreline_serves_in_place_of_a_curve_through_the_points():
    tree, table = worm(10, frames=30, neurons=24)
    line = tree["posture"]["centerline"].copy(deep=True)
    line[10:13] = np.nan
    by_label = track(
        table, method="body", min_fraction=0.2, centreline=line.isel(space=[2, 1, 0]).transpose("s", "t", "space")
    )
    by_array = track(table, method="body", min_fraction=0.2, centreline=line.values)
    assert score_tracks(by_label, truth_of(tree))["HOTA"] > 0.9
    np.testing.assert_array_equal(by_label["position"], by_array["position"])
    along = truth_of(tree)["body_position"]
    names = score_tracks(by_label, truth_of(tree)).attrs["neurons"]
    found = [name for name in along["neuron"].values.tolist() if names[name] is not None]
    order = [by_label["neuron"].values.tolist().index(names[name]) for name in found]
    assert len(found) > 20
    assert abs(np.corrcoef(order, along.sel(neuron=found))[0, 1]) > 0.99


def test_a_volume_works_as_a_plane_does():
    rng = np.random.default_rng(5)
    places = bent(17, 25)
    places[..., 0] = 0.3 * places[..., 1] + rng.normal(0, 0.3, (25, 17))
    table = table_of(places)
    assert purity(track(table, method="body"), table) > 0.99


def test_frames_without_points_and_with_too_few():
    places = bent(17, 25)
    places[7] = np.nan
    places[15, 3:] = np.nan
    places[24] = np.nan
    table = table_of(places)
    tracks = track(table, method="body", fill=False)
    assert tracks.sizes == {"t": 25, "neuron": 17, "space": 3}
    assert not tracks["observed"].values[[7, 24]].any()
    assert purity(tracks, table) > 0.99


def test_what_anchors_say_holds_and_names_neurons():
    places = bent(17, 25)
    table = table_of(places)
    plain = track(table, method="body")
    told = pd.DataFrame(
        {
            "t_index": [4, 4, 9, 9],
            "neuron": ["VB2", "DA3", "DA3", "nowhere"],
            "z": 0.0,
            "y": [places[4, 2, 1], places[4, 9, 1], places[9, 9, 1], -900.0],
            "x": [places[4, 2, 2], places[4, 9, 2], places[9, 9, 2], -900.0],
        }
    )
    tracks = track(table, method="body", anchors=told)
    assert {"VB2", "DA3", "nowhere"} <= set(tracks["neuron"].values.tolist())
    for name, neuron in (("VB2", 2), ("DA3", 9)):
        rows = tracks["det_id"].sel(neuron=name).values
        assert set(table["neuron"].to_numpy()[rows]) == {neuron}
        assert tracks["provenance"].sel(neuron=name)[4] == ANCHOR
    assert tracks.sizes["neuron"] == plain.sizes["neuron"] + 1


def test_a_human_may_point_beside_the_curve():
    places = bent(17, 25)
    frames = frames_of(table_of(places))
    frames.points[8] = np.concatenate([frames.points[8], [[0.0, 600.0, 600.0]]])
    frames.rows[8] = np.append(frames.rows[8], 999)
    own = int(np.flatnonzero((frames.points[3] == places[3, 2]).all(axis=1))[0])
    beside = Anchors(
        np.array([3, 8]),
        np.array(["VB2", "VB2"], object),
        np.array([places[3, 2], [0.0, 600.0, 600.0]]),
        np.array([own, 17]),
        np.empty((0, 2), int),
        np.empty(0, object),
    )
    linked = body.link(frames, anchors=beside, reference=None, gate_um=8.0, seed=0)
    assert linked.detection[8, linked.names.index("VB2")] == 17
    assert linked.confidence[8, linked.names.index("VB2")] == 1
    assert linked.detection.shape == (25, 17)


def test_what_was_put_right_does_not_rename_the_rest():
    """In frame 6 neuron 5 is said to be another point than the one tracked: all other frames keep their names."""
    places = bent(17, 25)
    table = table_of(places)
    plain = track(table, method="body")
    rows = plain["det_id"].values
    column = next(c for c in range(17) if table["neuron"].to_numpy()[rows[0, c]] == 5)
    name = str(plain["neuron"].values[column])
    was, now = places[6, 5], places[6, 6]
    anchors = pd.DataFrame({"t_index": [6], "neuron": [name], "z": now[:1], "y": now[1:2], "x": now[2:]})
    forbidden = pd.DataFrame({"t_index": [6], "neuron": [name], "z": was[:1], "y": was[1:2], "x": was[2:]})
    tracks = track(table, method="body", anchors=anchors, forbidden=forbidden)
    truth = table["neuron"].to_numpy()[tracks["det_id"].sel(neuron=name).values]
    assert truth[6] == 6
    assert (np.delete(truth, 6) == 5).all()
    others = tracks["det_id"].values[6]
    assert len(set(others[others >= 0])) == (others >= 0).sum()  # no point stands twice


def test_the_reference_may_be_chosen():
    places = bent(17, 25)
    table = table_of(places)
    assert purity(track(table, method="body", reference=3), table) == 1
    places[3] = np.nan
    with pytest.raises(NiddlError, match="a reference with points on a curve, got frame 3, which has none"):
        track(table_of(places), method="body", reference=3)


def test_points_all_around_are_refused():
    head = whole_brain(shape=(30, 256, 256), frames=6, neurons=80)
    with pytest.raises(NiddlError, match=r"expected points on a curve.*got frames in which \d\d% .* method=\"vote\""):
        track(detections(head), method="body")


def test_too_few_points_for_a_curve():
    with pytest.raises(NiddlError, match=r"expected 5 points or more in some frame .*, got 1 at most"):
        track(table_of(bent(1, 4)), method="body")
    nobody = track(table_of(np.full((4, 3, 3), np.nan)), method="body")
    assert nobody.sizes == {"t": 4, "neuron": 0, "space": 3}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (np.zeros((24, 9, 3)), r"expected a centreline of 25 frames, .* got an array of shape \(24, 9, 3\)"),
        (np.zeros((25, 9, 2)), r"got an array of shape \(25, 9, 2\)"),
        (np.full((25, 9, 3), np.nan), "known in some frames, got NaN in all"),
        ("<xarray.DataArray 'centerline'>", "give it again, the history of tracks does not keep it"),
        (xr.DataArray(np.zeros((25, 9, 3)), dims=("t", "along", "space")), "expected a centreline with dims"),
    ],
)
def test_centrelines_that_do_not_fit(line, message):
    with pytest.raises(NiddlError, match=message):
        track(table_of(bent(17, 25)), method="body", centreline=line)
