"""The method "template", on simulated heads and on motions made by hand."""

import numpy as np
import pandas as pd
import pytest

from niddl_xr.metrics import score_tracks
from niddl_xr.neurons import frames_of
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import detections, whole_brain
from niddl_xr.tracking.methods.template import _rest, link
from niddl_xr.tracking.tracking import track


def table(frames: list[np.ndarray]) -> pd.DataFrame:
    """Detections of frames of points (n, 3); the column neuron is the place of a point within its frame."""
    parts = [
        pd.DataFrame(points, columns=["z", "y", "x"]).assign(t_index=t, neuron=range(len(points)))
        for t, points in enumerate(frames)
    ]
    found = pd.concat(parts, ignore_index=True)
    found.attrs["frames"] = len(frames)
    return found


def swaying(frames: int, neurons: int, seed: int = 0) -> np.ndarray:
    """Points (t, neuron, 3) on a grid of 5 µm that sway together by up to 6 µm and bend by 1 µm."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([0.0, 5.0], np.arange(5) * 5.0, np.arange(9) * 5.0, indexing="ij"), -1).reshape(-1, 3)
    rest = rng.permutation(grid)[:neurons] + rng.uniform(-0.8, 0.8, (neurons, 3))
    time = np.arange(frames)[:, None, None]
    sway = 6 * np.sin(time / 5) * (0.2, 1, 0.6)
    bend = np.sin(time / 4) * np.stack([0 * rest[:, 0], np.sin(rest[:, 2] / 15), np.cos(rest[:, 1] / 12)], axis=-1)
    return rest + sway + bend


def linked_table(points, **options):
    """The number of the detection (t, neuron) for a table of shuffled points, as the true neuron."""
    rng = np.random.default_rng(7)
    orders = [rng.permutation(len(frame)) for frame in points]
    frames = frames_of(table([frame[order] for frame, order in zip(points, orders, strict=True)]))
    given = {"anchors": None, "reference": None, "gate_um": 8.0, "seed": 0, **options}
    found = link(frames, **given)
    true = [
        np.where(row < 0, -1, np.append(order, -1)[row]) for row, order in zip(found.detection, orders, strict=True)
    ]
    return np.array(true), found


@pytest.mark.parametrize("motion", ["fixed", "semi"])
def test_heads_that_hardly_move(motion):
    """The bars: HOTA 0.91 and 0.90 of the points before filling; 0.98 within 3 µm after, 0.7 µm for those filled."""
    head = whole_brain(shape=(30, 512, 512), frames=40, motion=motion, seed=31)
    found = detections(head, seed=31)
    truth = head["tracks"].to_dataset()
    bare, full = (track(found, method="template", fill=fill) for fill in (False, True))
    scores = score_tracks(bare, truth)
    assert scores["HOTA"] >= 0.91
    assert scores["fraction_correct"] >= 0.90
    assert score_tracks(full, truth, filled=True)["fraction_correct"] >= 0.98
    assert full.attrs["reference_frame"] == bare.attrs["reference_frame"]


def test_every_point_is_followed_from_any_reference():
    points = swaying(29, 43)
    for reference in (0, 13, 28):
        true, found = linked_table(points, reference=reference)
        assert found.detection.shape == (29, 43)
        assert (true == true[reference]).all()
        np.testing.assert_array_equal(found.detection[reference], np.arange(43))
        assert found.confidence.min() > 0.7


def test_neurons_that_the_reference_lacks_are_found_and_false_points_are_not():
    points = list(swaying(31, 40))
    rng = np.random.default_rng(3)
    seen = []
    for t, frame in enumerate(points):
        missed = [5, 17] if t == 12 else [t % 40]
        seen.append(np.concatenate([np.delete(frame, missed, axis=0), rng.uniform(-10, 45, (1, 3))]))
    tracks = track(table(seen), method="template", reference=12, gate_um=6.0, fill=False)
    assert tracks.sizes["neuron"] == 40
    np.testing.assert_allclose(tracks["observed"].values.sum(axis=0), 30, atol=2)
    # What is observed is a true point, the same one in all frames.
    nearest = np.linalg.norm(tracks["position"].values[:, :, None] - np.array(points)[:, None], axis=-1)
    who = np.where(tracks["observed"], nearest.argmin(axis=-1), -1)
    for neuron in range(40):
        assert len(set(who[:, neuron]) - {-1}) == 1


def test_the_default_reference_is_typical_and_central():
    points = list(swaying(15, 21))
    points[7] = points[7][:11]
    points[8] = np.concatenate([points[8], points[8][:4] + 2.5])
    _, found = linked_table(points)
    assert found.attrs == {"reference_frame": 6}


def test_frames_without_points_are_bridged():
    points = list(swaying(17, 23))
    for t in (0, 8, 9, 16):
        points[t] = np.empty((0, 3))
    true, found = linked_table(points)
    assert (found.detection[[0, 8, 9, 16]] == -1).all()
    filled = np.delete(true, [0, 8, 9, 16], axis=0)
    assert (filled == filled[0]).all()


@pytest.mark.parametrize("neurons", [1, 2, 3])
def test_few_neurons(neurons):
    points = 20.0 * np.arange(neurons)[:, None] + np.sin(np.arange(9))[:, None, None] * (0, 1, 1)
    true, _ = linked_table(points)
    np.testing.assert_array_equal(true, np.tile(true[4], (9, 1)))


def test_a_single_frame_and_none():
    _, found = linked_table(swaying(1, 7))
    np.testing.assert_array_equal(found.detection, np.arange(7)[None])
    _, found = linked_table([np.empty((0, 3))] * 4)
    assert found.detection.shape == (4, 0)


def test_points_in_a_plane():
    points = swaying(19, 37) * (0, 1, 1)
    keep = np.linalg.norm(points[0][:, None] - points[0], axis=-1) + 99 * np.tri(37)
    points = points[:, keep.min(axis=0) > 2.5]  # of two layers one above the other
    true, _ = linked_table(points)
    assert (true == true[0]).all()


def test_the_gate_is_kept():
    points = [*swaying(1, 30)] * 6
    points[4] = points[4].copy()
    points[4][3] += (0, 0, 70)
    _, found = linked_table(points, reference=0, gate_um=5.0)
    assert (found.detection[4] >= 0).sum() == 29


def anchors(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["t_index", "neuron", "z", "y", "x"])


def test_an_anchor_in_the_reference_names_and_holds():
    points = swaying(21, 33)
    said = anchors((10, "RID", *points[10, 6]), (10, "AVAL", *points[10, 9]))
    tracks = track(table(list(points)), method="template", reference=10, anchors=said)
    for name, neuron in (("RID", 6), ("AVAL", 9)):
        np.testing.assert_allclose(tracks["position"].sel(neuron=name), points[:, neuron], atol=1e-4)
        assert int(tracks["provenance"].sel(neuron=name)[10]) == 2


def test_an_anchor_elsewhere_names_what_is_there():
    points = swaying(21, 33)
    tracks = track(table(list(points)), method="template", reference=0, anchors=anchors((17, "RID", *points[17, 4])))
    np.testing.assert_allclose(tracks["position"].sel(neuron="RID"), points[:, 4], atol=1e-4)


def test_one_corrected_frame_mends_the_frames_after_it():
    """Two neurons are lost in frames 8 to 10, and have changed places when they come back: only a human can say so."""
    points = swaying(20, 33)
    rest = points[0] - points[0].mean(axis=0)
    distance = np.linalg.norm(rest[:, None] - rest, axis=-1)
    first, second = np.unravel_index((distance + 99 * np.eye(33)).argmin(), distance.shape)
    points[8:, [first, second]] = points[8:, [second, first]]
    seen = [np.delete(frame, [first, second], axis=0) if 8 <= t < 11 else frame for t, frame in enumerate(points)]
    named = [(t, name, *points[t, n]) for t in (0, 11) for name, n in (("A", first), ("B", second))]
    alone, helped = (
        track(table(seen), method="template", reference=0, anchors=anchors(*rows), fill=False)
        for rows in (named[:2], named)
    )
    for name, neuron, other in (("A", first, second), ("B", second, first)):
        np.testing.assert_allclose(alone["position"].sel(neuron=name)[11:], points[11:, other], atol=1e-4)
        np.testing.assert_allclose(helped["position"].sel(neuron=name)[11:], points[11:, neuron], atol=1e-4)
        # When they changed is not known: halfway between the frames of which a human has said something.
        np.testing.assert_allclose(helped["position"].sel(neuron=name)[:6], points[:6, neuron], atol=1e-4)


def test_frames_before_a_corrected_frame_are_mended():
    """Between two frames the head turns by 150 degrees, in which the template is lost; the last frame is anchored."""
    points = swaying(24, 26)
    centre, turn = points.mean(axis=(0, 1)), np.deg2rad(150)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    points[12:] = (points[12:] - centre) @ rotation.T + centre
    said = anchors(*[(t, f"N{n}", *points[t, n]) for t in (0, 23) for n in range(26)])
    tracks = track(table(list(points)), method="template", reference=0, anchors=said, fill=False)
    for n in range(26):
        np.testing.assert_allclose(tracks["position"].sel(neuron=f"N{n}"), points[:, n], atol=1e-3)


def test_two_points_that_a_human_moves_take_their_surroundings_along():
    """A ganglion of eight in a row moves by one place along it: each looks like its neighbour did."""
    still = np.stack(np.meshgrid([0.0, 5.0], np.arange(3) * 5.0, np.arange(6) * 5.0, indexing="ij"), -1).reshape(-1, 3)
    ganglion = np.stack([np.full(8, 2.0), np.full(8, 35.0), np.arange(8) * 5.0], axis=-1)
    points = np.repeat(np.concatenate([ganglion, still])[None], 16, axis=0)
    points[6:, :8] += (0, 0, 5)
    named = [(0, f"N{n}", *points[0, n]) for n in range(8)] + [(6, f"N{n}", *points[6, n]) for n in (2, 5)]
    tracks = track(table(list(points)), method="template", reference=0, anchors=anchors(*named), fill=False)
    for n in range(8):
        found = tracks["position"].sel(neuron=f"N{n}").values[6]
        np.testing.assert_allclose(found, points[6, n], atol=1e-3)


def test_what_a_human_has_said_decides_where_a_neuron_rests():
    """Slipped in most frames, a neuron was found at its neighbour's place."""
    place, wrong, near = np.zeros(3), [np.array([0.0, 0, 5])] * 9, [np.array([0.0, 0.3, 0])] * 9
    said = [np.array([0.0, 0, 0.2])]
    assert _rest(place, wrong, said).tolist() == [0, 0, 0.2]
    assert _rest(place, near, said).tolist() == [0, 0.3, 0]
    assert _rest(place, wrong, []).tolist() == [0, 0, 5]
    assert _rest(place, [], []).tolist() == [0, 0, 0]


def test_a_forbidden_pair_is_not_made():
    points = swaying(15, 20)
    said = anchors((7, "RID", *points[7, 3]))
    wrong = anchors((11, "RID", *points[11, 3]))
    tracks = track(table(list(points)), method="template", reference=7, anchors=said, forbidden=wrong, fill=False)
    observed = tracks["observed"].sel(neuron="RID").values
    np.testing.assert_array_equal(observed, np.arange(15) != 11)


def test_an_anchor_where_nothing_was_detected():
    points = swaying(15, 20)
    seen = [np.delete(frame, 3, axis=0) if t == 9 else frame for t, frame in enumerate(points)]
    said = anchors((7, "RID", *points[7, 3]), (9, "RID", *(points[9, 3])))
    tracks = track(table(seen), method="template", reference=7, anchors=said)
    np.testing.assert_allclose(tracks["position"].sel(neuron="RID"), points[:, 3], atol=1e-4)
    assert int(tracks["det_id"].sel(neuron="RID")[9]) == -1
    assert bool(tracks["observed"].sel(neuron="RID")[9])


def test_a_named_neuron_that_is_never_detected_is_kept():
    points = swaying(12, 20)
    said = anchors((4, "RID", 60.0, 60.0, 60.0))
    tracks = track(table(list(points)), method="template", reference=6, anchors=said)
    assert tracks["observed"].sel(neuron="RID").values.nonzero()[0].tolist() == [4]


def test_the_answer_does_not_depend_on_the_seed_or_the_order_of_rows():
    points = swaying(11, 30)
    found = table(list(points))
    first = track(found, method="template", seed=0)
    again = track(found, method="template", seed=9)
    np.testing.assert_array_equal(first["det_id"], again["det_id"])
    mixed = found.sample(frac=1, random_state=1)
    other = track(mixed.reset_index(drop=True), method="template")
    np.testing.assert_allclose(
        np.sort(first["position"].values[-1], axis=0), np.sort(other["position"].values[-1], axis=0), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_um": 0.0}, "expected step_um as a positive number, got 0.0"),
        ({"stiffness_um": np.nan}, "expected stiffness_um as a positive number, got nan"),
        ({"regularisation": -1.0}, "expected regularisation as a positive number, got -1.0"),
        ({"reference": 3}, "expected a reference with points, got frame 3, which has none"),
    ],
)
def test_options_out_of_range(options, message):
    points = list(swaying(5, 9))
    points[3] = np.empty((0, 3))
    with pytest.raises(NiddlError, match=message):
        linked_table(points, **options)
