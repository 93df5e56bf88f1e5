"""The method "laptrack", against trackpy, real cells with known tracks, and motions made by hand."""

import json
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from niddl_xr.metrics import score_tracks
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import detections, whole_brain
from niddl_xr.tracking.tracking import track


def table(frames: list[np.ndarray]) -> pd.DataFrame:
    parts = [
        pd.DataFrame(points, columns=["z", "y", "x"]).assign(t_index=t, neuron=range(len(points)))
        for t, points in enumerate(frames)
    ]
    found = pd.concat(parts, ignore_index=True)
    found.attrs["frames"] = len(frames)
    return found


def follow(found: pd.DataFrame, **options):
    return track(found, method="laptrack", **{"min_fraction": 0.0, "fill": False, **options})


def grid(frames: int = 12) -> np.ndarray:
    """Points (t, neuron, 3), 10 µm apart, that stand still."""
    rest = np.stack(np.meshgrid([0.0], np.arange(3) * 10.0, np.arange(5) * 10.0, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.repeat(rest[None], frames, axis=0)


def links(tracks) -> set[tuple[int, int]]:
    """Pairs of rows of the table that follow one another in a neuron."""
    pairs: set[tuple[int, int]] = set()
    for column in tracks["det_id"].values.T:
        rows = column[column >= 0].tolist()
        pairs |= set(pairwise(rows))
    return pairs


def test_brownian_points_as_trackpy_links_them():
    trackpy = pytest.importorskip("trackpy")
    trackpy.quiet()
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 100, (1, 37, 3))
    points = start + np.cumsum(0.4 * rng.standard_normal((23, 37, 3)), axis=0)
    keep = rng.random((23, 37)) > 0.05
    found = table([frame[there] for frame, there in zip(points, keep, strict=True)])
    found = found.sample(frac=1, random_state=2).reset_index(drop=True)
    options = {"search_range": 3.0, "memory": 4, "pos_columns": ["z", "y", "x"], "t_column": "t_index"}
    linked = trackpy.link(found.reset_index(names="row").sort_values("t_index"), **options)
    expected = set()
    for _, part in linked.groupby("particle"):
        rows = part.sort_values("t_index")["row"].tolist()
        expected |= set(pairwise(rows))
    ours = follow(found, step_um=3.0, gap_frames=4, least_points=1, align=False)
    assert links(ours) == expected


@pytest.mark.parametrize("motion", ["fixed", "semi"])
def test_heads_that_hardly_move(motion):
    head = whole_brain(shape=(30, 512, 512), frames=40, motion=motion, seed=32)
    found, truth = detections(head, seed=32), head["tracks"].to_dataset()
    scores = score_tracks(track(found, method="laptrack", fill=False), truth)
    assert scores["HOTA"] >= 0.91
    assert scores["fraction_correct"] >= 0.90


@pytest.mark.realdata
def test_real_cells_with_known_tracks(realdata):
    """Dividing cells in pixels; tracks are those that btrack's authors give as truth."""
    folder = realdata / "btrack_tracks"
    cells = pd.read_csv(folder / "test_data.csv").rename(columns={"t": "t_index"})
    truth = json.loads((folder / "test_ground_truth.json").read_text())
    tracks = follow(cells[["t_index", "z", "y", "x"]], gate_um=15.0)
    found = [set(column[column >= 0].tolist()) for column in tracks["det_id"].values.T]
    assert sorted(map(sorted, found)) == sorted(map(sorted, truth.values()))


@pytest.mark.realdata
def test_real_tracks_that_end_and_begin(realdata):
    """Cells of TrackMate's file, 2-D: links of tracks that do not split are found again."""
    spots = pd.read_csv(realdata / "laptrack_data" / "trackmate_tracks_with_splitting.csv", index_col=0)
    ends = [
        spots[[f"spot_{end}_id", f"{end}_frame", f"{end}_position_x", f"{end}_position_y"]].set_axis(
            ["spot", "t_index", "x", "y"], axis=1
        )
        for end in ("source", "target")
    ]
    cells = pd.concat(ends).drop_duplicates("spot").assign(z=0.0).reset_index(drop=True)
    row = dict(zip(cells["spot"], cells.index, strict=True))
    splits = spots["spot_source_id"].duplicated(keep=False)
    plain = spots[~splits]
    expected = {(row[a], row[b]) for a, b in zip(plain["spot_source_id"], plain["spot_target_id"], strict=True)}
    found = links(follow(cells[["t_index", "z", "y", "x"]], gate_um=15.0, step_um=15.0, align=False, least_points=1))
    assert len(expected & found) / len(expected) > 0.95


def test_a_gap_is_closed_and_a_longer_one_is_not():
    points = grid(14)
    seen = [np.delete(frame, 7, axis=0) if 4 <= t < 8 else frame for t, frame in enumerate(points)]
    assert follow(table(seen), gap_frames=4).sizes["neuron"] == 15
    assert follow(table(seen), gap_frames=3).sizes["neuron"] == 16
    assert follow(table(seen), gap_frames=0).sizes["neuron"] == 16


def test_cells_that_enter_and_leave_are_neurons_of_their_own():
    points = grid(10)
    seen = [frame[: 15 if t < 6 else 11] for t, frame in enumerate(points)]
    tracks = follow(table(seen))
    np.testing.assert_array_equal(tracks["observed"].values.sum(axis=0), [10] * 11 + [6] * 4)
    assert follow(table(seen), min_fraction=0.8).sizes["neuron"] == 11


def test_short_tracks_are_false_detections():
    points = grid(10)
    seen = [np.vstack([frame, (0, 5, 5)]) if t in (3, 4) else frame for t, frame in enumerate(points)]
    assert follow(table(seen)).sizes["neuron"] == 15
    assert follow(table(seen), least_points=2).sizes["neuron"] == 16


def test_points_farther_than_the_gate_are_not_linked():
    points = grid(8)
    points[4:, 3] += (0, 4, 0)
    assert follow(table(list(points)), step_um=5.0, align=False).sizes["neuron"] == 15
    assert follow(table(list(points)), step_um=5.0, gate_um=3.5, align=False).sizes["neuron"] == 16
    assert follow(table(list(points)), gate_um=3.5, align=False).attrs["step_um"] == 3.5


def test_one_long_way_over_a_gap_among_short_ones_is_kept():
    """The library's own price of an end is the 90th percentile of all ways, which one that jumps is far above."""
    points = grid(9) + 0.05 * np.random.default_rng(0).standard_normal((9, 15, 3))
    points[4:, 3] += (0, 2.5, 0)
    seen = [*points[:4], np.empty((0, 3)), *points[5:]]
    assert follow(table(seen), step_um=3.0, align=False, gap_frames=1).sizes["neuron"] == 15


def test_the_usual_step_follows_the_spacing():
    assert follow(table(list(grid(5)))).attrs["step_um"] == pytest.approx(6.0)
    assert follow(table([frame[:1] for frame in grid(5)]), gate_um=7.0).attrs["step_um"] == 7.0


def test_a_jump_of_the_whole_head_is_followed_only_when_aligned():
    rng = np.random.default_rng(1)
    points = grid(9) + rng.uniform(-2, 2, (1, 15, 3))
    points[5:] += (0, 7, 3)
    assert follow(table(list(points))).sizes["neuron"] == 15
    assert follow(table(list(points)), align=False).sizes["neuron"] > 15
    # What is reported is where the points are, not where they were brought.
    np.testing.assert_allclose(follow(table(list(points)))["position"].values, points, atol=1e-5)


def anchors(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["t_index", "neuron", "z", "y", "x"])


def test_an_anchor_names_its_track():
    points = grid(10)
    tracks = follow(table(list(points)), anchors=anchors((4, "RID", *points[4, 6])))
    np.testing.assert_allclose(tracks["position"].sel(neuron="RID"), points[:, 6])
    assert tracks.sizes["neuron"] == 15


def crossing() -> tuple[np.ndarray, np.ndarray]:
    """Two points (t, 2, 3) that pass one another between frames 4 and 5, and the same as if they turned back."""
    time = np.arange(10) - 4.5
    passing = np.stack([np.stack([0 * time, side * time * 1.0, 0 * time + 40], axis=-1) for side in (1, -1)], axis=1)
    return passing, np.where(np.arange(10)[:, None, None] > 4, passing[:, ::-1], passing)


def test_two_names_in_a_track_cut_it_and_one_name_joins_tracks():
    passing, turning = crossing()
    found = table(list(passing))
    alone = follow(found, align=False, step_um=3.0)
    assert [tuple(p[0, 1:]) for p in (alone["position"].values[:, 0], turning[:, 0])] == [(-4.5, 40.0)] * 2
    np.testing.assert_allclose(alone["position"].values[:, 0], turning[:, 0])
    said = anchors((2, "A", *passing[2, 0]), (7, "A", *passing[7, 0]), (2, "B", *passing[2, 1]))
    said = pd.concat([said, anchors((7, "B", *passing[7, 1]))])
    helped = follow(found, align=False, step_um=3.0, anchors=said)
    assert helped.sizes["neuron"] == 2
    observed = helped["observed"]
    for name, neuron in (("A", 0), ("B", 1)):
        there = observed.sel(neuron=name).values
        assert there.sum() >= 8  # the cut is at one of the equally long links between the anchors
        away = np.linalg.norm(helped["position"].sel(neuron=name).values - passing[:, neuron], axis=-1)
        assert (away[there] < 1e-6).sum() >= 7
        assert away[[0, 1, 2, 7, 8, 9]].max() < 1e-6


def test_anchored_neighbours_in_time_are_linked_however_far():
    points = grid(10)
    points[5:, 2] += (0, 0, 60)
    said = anchors((4, "RID", *points[4, 2]), (5, "RID", *points[5, 2]))
    tracks = follow(table(list(points)), anchors=said, align=False)
    np.testing.assert_allclose(tracks["position"].sel(neuron="RID"), points[:, 2])
    assert tracks.sizes["neuron"] == 15


def test_a_link_that_is_said_frees_the_other_one():
    """Of two that cross, one is known before and after: the other goes on too."""
    passing, _ = crossing()
    said = anchors((4, "A", *passing[4, 0]), (5, "A", *passing[5, 0]))
    tracks = follow(table(list(passing)), align=False, step_um=3.0, anchors=said)
    assert tracks.sizes["neuron"] == 2
    np.testing.assert_allclose(tracks["position"].values, passing)


def test_what_a_name_gives_up_is_a_neuron_again():
    """Two still points are both said to be A, early and late: nothing of either is lost."""
    points = grid(12)
    said = anchors((1, "A", *points[1, 3]), (10, "A", *points[10, 8]))
    tracks = follow(table(list(points)), anchors=said)
    assert tracks["observed"].values.sum() == 12 * 15
    expected = np.where(np.arange(12)[:, None] < 6, points[:, 3], points[:, 8])
    np.testing.assert_allclose(tracks["position"].sel(neuron="A"), expected)


def test_a_forbidden_point_is_given_up():
    points = grid(10)
    said, wrong = anchors((2, "RID", *points[2, 6])), anchors((7, "RID", *points[7, 6]))
    tracks = follow(table(list(points)), anchors=said, forbidden=wrong)
    np.testing.assert_array_equal(tracks["observed"].sel(neuron="RID"), np.arange(10) != 7)


def test_an_anchor_without_a_detection_is_kept():
    points = grid(10)
    tracks = follow(table(list(points)), anchors=anchors((3, "RID", 90.0, 90.0, 90.0)))
    assert tracks["observed"].sel(neuron="RID").values.nonzero()[0].tolist() == [3]


def test_empty_frames_and_no_points():
    points = list(grid(9))
    points[0] = points[4] = points[8] = np.empty((0, 3))
    tracks = follow(table(points))
    np.testing.assert_array_equal(tracks["observed"].values.sum(axis=0), [6] * 15)
    assert follow(table([np.empty((0, 3))] * 3)).sizes["neuron"] == 0
    assert follow(table(list(grid(1))), least_points=1).sizes["neuron"] == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": 2}, "expected no reference: method 'laptrack' names neurons by no frame, got 2"),
        ({"step_um": 0.0}, "expected step_um as a positive distance in µm, got 0.0"),
        ({"gap_frames": -1}, "expected gap_frames as a whole number of at least 0, got -1"),
        ({"gap_frames": 2.5}, "expected gap_frames as a whole number of at least 0, got 2.5"),
        ({"least_points": 0}, "expected least_points as a whole number of at least 1, got 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(NiddlError, match=message):
        follow(table(list(grid(4))), **options)


def test_the_package_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "laptrack", None)
    with pytest.raises(NiddlError, match=r'got none: pip install "niddl-xr\[tracking\]"'):
        follow(table(list(grid(4))))
