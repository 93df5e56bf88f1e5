"""Tracking by votes: turned and deformed worms, anchors, bad input, and a real worm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

import niddl_xr as nx
from niddl_xr.metrics.linking import pair_accuracy
from niddl_xr.neurons import frames_of, neuron_names
from niddl_xr.schema import NiddlError
from niddl_xr.tracking import _matches
from niddl_xr.tracking._kernels.descriptors import cloud_descriptors
from niddl_xr.tracking._kernels.orientation import posed, poses_onto, smoothest
from niddl_xr.tracking._kernels.pair_matching import pair_matches
from niddl_xr.tracking._kernels.posture_order import reached, similar_frames
from niddl_xr.tracking._kernels.voting import Ballot, assigned
from niddl_xr.tracking.methods import Anchors
from niddl_xr.tracking.methods.vote import _columns_of, link

UM_PER_UNIT = 84.0
OPTIONS = {"gate_um": 8.0, "stiffness_um": 40.0, "regularisation": 0.03}


def head(points: int, seed: int = 0) -> np.ndarray:
    """A cloud (points, 3) of the size of a worm's head, more crowded at one end."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-12, 12, points), rng.uniform(-20, 20, points), 90 * rng.beta(2, 4, points)], axis=1)


def table_of(clouds: list[np.ndarray], frames: int | None = None) -> pd.DataFrame:
    rows = [
        pd.DataFrame(cloud, columns=["z", "y", "x"]).assign(t_index=t, truth=np.arange(len(cloud)))
        for t, cloud in enumerate(clouds)
    ]
    table = pd.concat(rows, ignore_index=True)
    table.attrs["frames"] = len(clouds) if frames is None else frames
    return table


def turned(cloud: np.ndarray, degrees: float, jitter_um: float = 0.2, seed: int = 0) -> np.ndarray:
    rotation = Rotation.from_rotvec([np.deg2rad(degrees), 0, 0]).as_matrix()
    return (cloud - 40) @ rotation.T + jitter_um * np.random.default_rng(seed).standard_normal(cloud.shape)


def fraction_right(tracks, table: pd.DataFrame) -> float:
    """Share of the points that have the neuron which most of their truth has."""
    det_id = tracks["det_id"].values
    neuron = np.full(len(table), -1)
    _, column = np.nonzero(det_id >= 0)
    neuron[det_id[det_id >= 0]] = column
    together = pd.crosstab(table["truth"].to_numpy(), neuron).drop(columns=-1, errors="ignore").to_numpy()
    return together.max(axis=1).sum() / len(table)


def test_a_worm_that_turns_round_is_followed_whatever_the_angle():
    cloud = head(37)
    table = table_of([turned(cloud, angle, seed=t) for t, angle in enumerate((0, 25, 55, 90, 130, 170, 215, 260))])
    tracks = nx.track(table, method="vote")
    assert tracks.sizes["neuron"] == 37
    assert fraction_right(tracks, table) == 1.0
    assert float(tracks["confidence"].min()) > 0.9


@pytest.mark.parametrize("degrees", [0.0, 75.0, 180.0, -140.0])
def test_poses_hold_the_rotation_and_smoothest_finds_it(degrees: float):
    cloud = head(41)
    poses = poses_onto(turned(cloud, degrees), cloud)
    np.testing.assert_allclose(posed(turned(cloud, degrees), poses[0]), cloud, atol=1.0)
    np.testing.assert_allclose(np.linalg.det(poses[0, :9].reshape(3, 3)), 1.0)
    round_about = [poses_onto(turned(cloud, degrees), cloud)[::-1] for _ in range(3)]
    rng = np.random.default_rng(0)
    clouds = [posed(turned(cloud, degrees), pose) for poses in round_about for pose in poses]
    described = cloud_descriptors([cloud, *clouds], rng)
    cuts = np.cumsum([len(poses) for poses in round_about])[:-1]
    chosen = smoothest(round_about, np.split(described[1:], cuts), described[0])
    assert chosen == [len(poses) - 1 for poses in round_about]


def test_one_doubtful_frame_is_not_turned_end_to_end():
    right, wrong = np.eye(3).ravel(), np.diag([1.0, -1, -1]).ravel()
    poses = [np.concatenate([[*right, 0, 0, 0], [*wrong, 0, 0, 0]]).reshape(2, 12) for _ in range(5)]
    descriptors = [np.array([[0.1], [1.0]]) for _ in poses]
    descriptors[2] = np.array([[0.2], [0.1]])
    assert smoothest(poses, descriptors, np.zeros(1)) == [0] * 5


def test_pairs_are_matched_through_a_smooth_deformation():
    cloud = head(43)
    bent = cloud + np.stack([0 * cloud[:, 0], 4 * np.sin(cloud[:, 2] / 25), 3 * np.cos(cloud[:, 2] / 30)], axis=1)
    shuffled = np.random.default_rng(1).permutation(43)
    found = pair_matches(cloud, bent[shuffled], **OPTIONS)
    best = found[found["probability"] > 0.5]
    assert np.mean(shuffled[best["fixed"]] == best["moving"]) > 0.97
    assert len(best) >= 41
    for side in ("moving", "fixed"):
        assert np.bincount(found[side], found["probability"]).max() <= 1 + 1e-5


def test_pairs_beyond_the_gate_are_no_match():
    cloud = head(29)
    away = cloud.copy()
    away[7] += [0, 0, 30]
    found = pair_matches(cloud, away, **OPTIONS)
    assert not np.any((found["moving"] == 7) & (found["fixed"] == 7))
    assert not len(pair_matches(cloud[:0], away, **OPTIONS))


def test_descriptors_tell_clouds_apart_by_place_and_not_by_number():
    cloud = head(200)
    same, thinned, moved, none = cloud_descriptors([cloud, cloud[::2], cloud + 15, cloud[:0]], np.random.default_rng(0))
    assert np.linalg.norm(same - thinned) < 0.5 * np.linalg.norm(same - moved)
    assert np.all(np.isnan(none))


def test_frames_are_reached_along_the_least_steps():
    descriptors = np.array([[0.0], [1.0], [5.0], [1.5], [np.nan]], dtype=np.float32)
    pairs = similar_frames(descriptors, np.array([0, 1, 2, 3]), 1)
    assert pairs == {(0, 1): 1.0, (1, 3): 0.5, (2, 3): 3.5, (1, 2): 4.0}
    neighbours = [[1], [0, 3, 2], [3, 1], [1, 2], []]
    assert reached(pairs, [0], neighbours) == [(1, 0), (3, 1), (2, 3)]
    assert reached(pairs, [0, 2], neighbours) == [(1, 0), (3, 1)]


def test_votes_are_shared_by_weight_and_by_the_frames_that_have_a_say():
    kind = [("moving", int), ("fixed", int), ("probability", float)]
    matches = {(0, 1): np.array([(0, 1, 0.8)], kind), (1, 2): np.array([(1, 0, 0.5)], kind)}
    ballot = Ballot([1, 2, 1], matches)
    labels, weight = np.array([3, -1, -1, 2]), np.array([1.0, 1, 1, 3])
    np.testing.assert_allclose(ballot.shares(1, labels, 4, weight), [[0, 0, 0, 0], [0, 0, 1.5 / 4, 0.8 / 4]])
    np.testing.assert_allclose(ballot.shares(1, np.array([3, -1, -1, -2]), 4, weight)[1], [0, 0, 0, 0.8])
    np.testing.assert_array_equal(assigned(np.array([[0.9, 0.8], [0.8, 0.05]]), 0.1), [1, 0])
    np.testing.assert_array_equal(assigned(np.array([[0.9, 0.0], [0.8, 0.05]]), 0.1), [0, -1])


def worm(motion: str, seed: int, frames: int, neurons: int = 120) -> pd.DataFrame:
    head = nx.simulate.whole_brain(shape=(30, 512, 512), frames=frames, motion=motion, neurons=neurons, seed=seed)
    return nx.simulate.detections(head, seed=seed)


@pytest.fixture(scope="module")
def moving() -> pd.DataFrame:
    return worm("free", seed=4, frames=30, neurons=80)


def test_a_simulated_worm_that_moves_freely_is_followed(moving: pd.DataFrame):
    tracks = nx.track(moving, method="vote")
    real = moving[moving["neuron"] != ""].assign(truth=lambda table: table["neuron"])
    whole = moving.assign(truth=moving["neuron"])
    wrong = len(whole) - len(real)
    assert fraction_right(tracks, whole) * len(whole) - wrong > 0.8 * len(real)
    assert tracks.attrs["reference_frame"] in range(30)
    parent = tracks.attrs["parent_frame"]
    assert [t for t, source in enumerate(parent) if source < 0] == [tracks.attrs["reference_frame"]]


def test_the_answer_is_the_same_with_and_without_what_is_kept(moving: pd.DataFrame, tmp_path: Path):
    few = moving[moving["t_index"] < 8].copy()
    few.attrs.pop("frames", None)
    _matches.forget()
    first = nx.track(few, method="vote", matches=str(tmp_path / "kept"))
    again = nx.track(few, method="vote")
    _matches.forget()
    from_disk = nx.track(few, method="vote", matches=str(tmp_path / "kept"))
    for other in (again, from_disk):
        assert first.drop_attrs().identical(other.drop_attrs())
    _matches.forget()
    other_gate = nx.track(few, method="vote", matches=str(tmp_path / "kept"), gate_um=0.3)
    assert float(other_gate["confidence"].sum()) < 0.7 * float(first["confidence"].sum())


def test_a_second_tracking_computes_no_pair_again(moving: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    few = moving[moving["t_index"] < 6].copy()
    few.attrs.pop("frames", None)
    nx.track(few, method="vote")

    def never(*args: object, **options: object) -> None:
        raise AssertionError("matched again")

    monkeypatch.setattr("niddl_xr.tracking.methods.vote.pair_matches", never)
    monkeypatch.setattr("niddl_xr.tracking.methods.vote.poses_onto", never)
    point = few[few["t_index"] == 3].iloc[5]
    anchor = pd.DataFrame({"t_index": [3], "neuron": ["AVAL"], **{dim: [point[dim]] for dim in "zyx"}})
    tracks = nx.track(few, method="vote", anchors=anchor)
    at = tracks.isel(t=3).sel(neuron="AVAL")
    assert int(at["det_id"]) == few.index.get_loc(point.name)


def swapped_twins(frames: int = 9) -> tuple[pd.DataFrame, np.ndarray]:
    """A still head in which two neurons 1 µm apart change places from frame 4 on, unseen by any position."""
    cloud = head(31)
    cloud[1] = cloud[0] + [0.0, 0.0, 1.0]
    return table_of([cloud + 1e-3 * t for t in range(frames)]), cloud


def test_a_corrected_point_is_kept_and_frames_like_it_follow():
    table, cloud = swapped_twins()
    t = 6
    said = pd.DataFrame(
        {"t_index": t, "neuron": ["n001", "n002"], **{dim: cloud[[1, 0], k] + 1e-3 * t for k, dim in enumerate("zyx")}}
    )
    tracks = nx.track(table, method="vote", reference=0, anchors=said)
    rows = tracks["det_id"].sel(neuron=["n001", "n002"]).values % 31
    np.testing.assert_array_equal(rows[0], [0, 1])
    np.testing.assert_array_equal(rows[t], [1, 0])
    assert not np.any(rows[:, 0] == rows[:, 1])
    others = tracks.drop_sel(neuron=["n001", "n002"])["det_id"].values % 31
    assert np.all(others == others[0])


def test_anchors_name_neurons_and_new_ones_where_the_reference_has_none():
    table, cloud = swapped_twins()
    keyed = [(t, f"X{number}", *(cloud[number] + 1e-3 * t)) for t in (2, 5) for number in range(4, 31)]
    lonely = [(5, "alone", 200.0, 200.0, 200.0)]
    said = pd.DataFrame(keyed + lonely, columns=["t_index", "neuron", "z", "y", "x"])
    tracks = nx.track(table, method="vote", reference=0, anchors=said)
    for number in (4, 17, 30):
        assert set(tracks["det_id"].sel(neuron=f"X{number}").values % 31) == {number}
    alone = tracks.sel(neuron="alone")
    assert alone["observed"].values.tolist() == [t == 5 for t in range(9)]


def test_a_ruled_out_point_is_not_that_neuron_also_in_the_reference():
    table, cloud = swapped_twins()
    for t in (0, 6):
        away = pd.DataFrame(
            {"t_index": [t], "neuron": ["n009"], **{dim: [cloud[8, k] + 1e-3 * t] for k, dim in enumerate("zyx")}}
        )
        anchor = away.assign(neuron="n020", **{dim: cloud[19, k] + 1e-3 * t for k, dim in enumerate("zyx")})
        anchor = pd.concat(
            [anchor, anchor.assign(neuron="n009", t_index=3, z=cloud[8, 0], y=cloud[8, 1], x=cloud[8, 2])]
        )
        tracks = nx.track(table, method="vote", reference=0, anchors=anchor, forbidden=away, fill=False)
        observed = tracks["observed"].sel(neuron="n009").values
        assert observed.tolist() == [frame != t for frame in range(9)]


def test_a_neuron_said_to_stand_where_nothing_is_detected_has_no_detection():
    table, _ = swapped_twins()
    frames = frames_of(table)
    nothing = {"forbidden": np.empty((0, 2), int), "forbidden_neuron": np.empty(0, object)}
    said = Anchors(np.array([5]), np.array(["n007"], object), np.full((1, 3), 200.0), np.array([-1]), **nothing)
    linked = link(frames, anchors=said, reference=0, gate_um=8.0, seed=0)
    assert linked.detection[:, 6].tolist() == [6, 6, 6, 6, 6, -1, 6, 6, 6]


def test_neurons_that_the_reference_lacks_are_found():
    cloud = head(37)
    clouds = [cloud + 0.1 * t for t in range(8)]
    clouds[0] = np.delete(clouds[0], [5, 20], axis=0)
    tracks = nx.track(table_of(clouds), method="vote", reference=0)
    assert tracks.sizes["neuron"] == 37
    assert tracks["observed"].isel(neuron=slice(35, None)).sum("t").values.tolist() == [7, 7]


@pytest.mark.parametrize("word", ["anchors", "forbidden"])
def test_neurons_that_the_reference_lacks_stay_when_a_human_speaks_of_another(word: str):
    cloud = head(37)
    clouds = [cloud + 0.1 * t for t in range(8)]
    clouds[0] = np.delete(clouds[0], [5, 20], axis=0)
    said = pd.DataFrame({"t_index": [4], "neuron": ["n003"], **dict(zip("zyx", clouds[4][[2]].T, strict=True))})
    tracks = nx.track(table_of(clouds), method="vote", reference=0, **{word: said})
    assert tracks.sizes["neuron"] == 37
    assert tracks["observed"].isel(neuron=slice(35, None)).sum("t").values.tolist() == [7, 7]


@pytest.mark.parametrize("name", ["AVAL", "n009"])
def test_which_neuron_a_name_means(name: str):
    """Corrections stand where the votes were wrong: however many, they do not say which neuron is meant."""

    def column(frames: list[int], found: list[int], away: list[tuple[int, int]]) -> int:
        ruled_out = np.array([(frame, 0) for frame, _ in away]).reshape(-1, 2)
        said = Anchors(
            np.array(frames),
            np.full(len(frames), name, object),
            np.zeros((len(frames), 3)),
            np.array(found),
            ruled_out,
            np.full(len(away), name, object),
        )
        labels = np.array([label for _, label in away], dtype=int)
        return _columns_of(said, np.array(found), labels, neuron_names(31), 0)[name]

    by_itself = 8 if name == "n009" else None
    assert column([0, 4, 5, 6], [3, 7, 7, 7], []) == 3
    assert column([4, 5], [7, 7], []) == (by_itself or 7)
    assert column([4, 5, 6], [7, 7, 2], [(5, 4), (6, 4)]) == (by_itself or 4)
    assert column([0, 4], [3, 7], [(0, 5)]) == (by_itself or 5)
    assert column([4], [-1], []) == (by_itself or 31)


def test_a_name_that_was_another_neurons_stands_once():
    cloud = head(31)
    table = table_of([cloud + 1e-3 * t for t in range(9)])
    said = pd.DataFrame({"t_index": [0], "neuron": ["n009"], **dict(zip("zyx", cloud[[3]].T, strict=True))})
    tracks = nx.track(table, method="vote", reference=0, anchors=said)
    assert len(set(tracks["neuron"].values.tolist())) == 31
    assert set(tracks["det_id"].sel(neuron="n009").values % 31) == {3}


@pytest.mark.parametrize("points", [1, 2, 3, 6])
def test_few_points_in_volumes_and_in_a_plane(points: int):
    cloud = head(points, seed=2)
    for flat in (1.0, 0.0):
        table = table_of([cloud * [flat, 1, 1] + [0, 0.3 * t, 0] for t in range(5)])
        tracks = nx.track(table, method="vote")
        assert tracks.sizes["neuron"] == points
        assert fraction_right(tracks, table) == 1.0


def test_empty_frames_equal_frames_and_a_single_frame():
    cloud = head(23)
    gaps = nx.track(table_of([cloud[:0], cloud, cloud, cloud[:0], cloud, cloud[:0]]), method="vote")
    assert gaps.sizes["t"] == 6
    assert gaps["observed"].sum("neuron").values.tolist() == [0, 23, 23, 0, 23, 0]
    single = nx.track(table_of([cloud]), method="vote")
    assert single["det_id"].values.tolist() == [list(range(23))]
    nothing = nx.track(table_of([cloud[:0]], frames=4), method="vote")
    assert dict(nothing.sizes) == {"t": 4, "neuron": 0, "space": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stiffness_um": 0}, "expected stiffness_um as a positive number, got 0"),
        ({"regularisation": np.nan}, "expected regularisation as a positive number, got nan"),
        ({"n_neighbors": 0}, "expected n_neighbors as a whole number from 1, got 0"),
        ({"reference": 1}, "expected a reference with points, got frame 1, which has none"),
        ({"nearest": 3}, r"method 'vote' takes \['matches', 'n_neighbors', 'regularisation', 'stiffness_um'\]"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], message: str):
    cloud = head(5)
    with pytest.raises(NiddlError, match=message):
        nx.track(table_of([cloud, cloud[:0], cloud]), method="vote", **options)


@pytest.mark.realdata
def test_a_real_worm_is_followed_where_the_plainest_linking_fails(realdata: Path):
    """Sixty volumes of the open half, from one reference; the whole is benchmarks/tracking.py."""
    folder = realdata / "fdnc_tracking" / "real_jeff_all"
    paths = sorted(folder.glob("real_*.npy"), key=lambda path: int(path.stem.removeprefix("real_")))[:240:4]
    volumes = [np.load(path) for path in paths]
    table = table_of([volume[:, 2::-1] * UM_PER_UNIT for volume in volumes])
    names = np.concatenate([volume[:, 3].astype(int) for volume in volumes])
    tracks = nx.track(table, method="vote", n_neighbors=6)
    det_id, reference = tracks["det_id"].values, tracks.attrs["reference_frame"]
    found = np.full(len(table), -2)
    own = np.where(det_id[reference] >= 0, names[det_id[reference]], -2)
    for rows in det_id:
        found[rows[rows >= 0]] = own[rows >= 0]
    judged = (names >= 0) & (table["t_index"] != reference).to_numpy() & np.isin(names, own)
    assert np.mean(found[judged] == names[judged]) > 0.75
    first, last = volumes[0], volumes[30]
    plain = pair_accuracy(first[:, :3] * UM_PER_UNIT, last[:, :3] * UM_PER_UNIT, first[:, 3], last[:, 3], unknown=-1)
    assert plain < 0.6
