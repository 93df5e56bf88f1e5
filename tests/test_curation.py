"""The model of curation: what an action writes, what follows from it, and what is refused."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import niddl_xr
from niddl_xr.curation import Curation, curate
from niddl_xr.neurons import make_tracks, recording_id
from niddl_xr.plots._curation_queue import edit_lines, queue_lines, queue_states
from niddl_xr.schema import MissingMetadataWarning, NiddlError, make_recording
from niddl_xr.tracking import EditLog, apply_edits
from niddl_xr.tracking.quality import TrackQuality

VOXEL_UM = (2.0, 0.5, 0.25)
SHAPE = (7, 4, 40, 120)  # 8 x 20 x 30 µm
NEURONS = ["AVAL", "n002", "n003", "n004", "n005"]
QUEUE = pd.DataFrame(
    {
        "t_index": [4, 1, 6],
        "t_start": [3, 1, 5],
        "t_end": [5, 2, 6],
        "neuron": ["n002", "n004", "n002"],
        "suspicion": [0.9, 0.5, 0.4],
        "reason": ["jump", "residual", "jump"],
        "exchange_with": ["n004", "", ""],
        "expected_z": [1.0, np.nan, 3.0],
        "expected_y": [2.0, 1.0, 3.0],
        "expected_x": [3.0, 1.0, 3.0],
    }
)


def tracks_of(recording: xr.DataArray, position: np.ndarray, names: list[str] = NEURONS) -> xr.Dataset:
    known = np.isfinite(position).all(axis=-1)
    return make_tracks(
        position,
        known,
        confidence=known,
        provenance=0 * known,
        det_id=np.full(known.shape, -1),
        t=("t", recording["t"].values, dict(recording["t"].attrs)),
        neurons=names,
        attrs={"recording_id": recording_id(recording)},
    )


@pytest.fixture
def recording() -> xr.DataArray:
    return make_recording(np.zeros(SHAPE, np.uint16), voxel_um=VOXEL_UM, dt_s=0.5)


@pytest.fixture
def position() -> np.ndarray:
    """(t 7, neuron 5, space 3): neurons along the body, moving slowly; n005 is lost in frame 2."""
    place = np.linspace((1.0, 4.0, 3.0), (5.0, 16.0, 27.0), len(NEURONS))
    position = place + 0.25 * np.arange(SHAPE[0])[:, None, None] * np.array([0.0, 1.0, 1.0])
    position[2, 4] = np.nan
    return position


@pytest.fixture
def tracks(recording, position) -> xr.Dataset:
    return tracks_of(recording, position)


@pytest.fixture
def curation(recording, tracks, tmp_path) -> Curation:
    return curate(recording, tracks, tmp_path / "edits", queue=QUEUE, author="hand")


def last(curation: Curation) -> pd.Series:
    return EditLog(curation.edits.path, author="reader").table().iloc[-1]


def test_the_worst_comes_first_and_the_queue_is_walked_to_its_ends(curation):
    seen = []
    for step in ("next", "next", "next", "previous", "previous", "previous"):
        seen.append((curation.t_index, curation.neuron))
        getattr(curation, f"{step}_item")()
    assert seen == [(4, "n002"), (1, "n004"), (6, "n002"), (6, "n002"), (1, "n004"), (4, "n002")]
    assert curation.item == 0


def test_a_move_is_one_point_and_the_automatic_tracks_stay(curation, tracks, position):
    untouched = tracks.copy(deep=True)
    curation.select("n003").goto(5).move(2.5, 7.25, 9.75)
    expected = position.copy()
    expected[5, 2] = (2.5, 7.25, 9.75)
    np.testing.assert_allclose(curation.tracks["position"].values, expected.astype(np.float32))
    assert curation.tracks["provenance"].values[5, 2] == 3
    xr.testing.assert_identical(tracks, untouched)
    row = last(curation)
    assert (row.op, row.neuron, row.t_start, row.t_end, row.author) == ("move", "n003", 5, 5, "hand")
    assert row[["z", "y", "x"]].tolist() == [2.5, 7.25, 9.75]


def test_a_swap_lasts_to_the_end_or_as_far_as_is_said(curation, position):
    curation.goto(4).select("n002").swap("n003")
    expected = position.copy()
    expected[4:, [1, 2]] = expected[4:, [2, 1]]
    np.testing.assert_allclose(curation.tracks["position"].values, expected.astype(np.float32))
    curation.undo()
    curation.swap("n003", t_start=1, t_end=2)
    expected = position.copy()
    expected[1:3, [1, 2]] = expected[1:3, [2, 1]]
    np.testing.assert_allclose(curation.tracks["position"].values, expected.astype(np.float32))


def test_place_adds_a_lost_neuron_and_moves_another(curation):
    curation.goto(2).select("n005").place(1.0, 2.0, 3.0)
    assert last(curation).op == "add"
    curation.select("n004").place(1.0, 2.0, 4.0)
    assert last(curation).op == "move"
    np.testing.assert_array_equal(curation.position_um("n005"), [1, 2, 3])


def test_a_new_neuron_gets_a_name_that_nobody_had(curation):
    assert curation.new_name() == "n001"
    curation.add(1.0, 2.0, 3.0, neuron="n001", t_index=3)
    assert curation.neurons == [*NEURONS, "n001"]
    assert np.isnan(curation.position_um("n001", 2)).all()
    curation.select("n001").reject()
    assert curation.new_name() == "n006"


def test_delete_name_confirm_comment_and_undo(curation):
    curation.select("n004").delete(t_index=1, t_end=3)
    assert np.isnan(curation.tracks["position"].sel(neuron="n004").values).all(axis=1).tolist() == [
        *(False, True, True, True, False, False, False)
    ]
    curation.delete(t_index=5)
    assert np.isnan(curation.position_um("n004", 5)).all()
    assert np.isfinite(curation.position_um("n004", 6)).all()
    named = curation.name(" RIML ")
    assert curation.label("n004") == "RIML (n004)"
    curation.confirm(t_index=6)
    assert (curation.tracks["provenance"].values[6] == 2).all()
    curation.comment("faint")
    assert (last(curation).op, last(curation).note) == ("comment", "faint")
    curation.undo(named)
    assert curation.label("n004") == "n004"
    assert len(curation.active) == 4
    assert "4 edits" in repr(curation)


def test_what_is_shown_is_what_the_log_says_on_reading_it_again(curation, recording, tracks):
    curation.select("n003").goto(3).move(1.0, 2.0, 3.0)
    curation.swap("n002")
    curation.select("n005").reject()
    curation.name("RID", neuron="AVAL")
    again = curate(recording, tracks, curation.edits.path, queue=QUEUE)
    xr.testing.assert_equal(curation.tracks, again.tracks)
    xr.testing.assert_equal(curation.tracks, apply_edits(tracks, EditLog(curation.edits.path)))
    assert again.neurons == NEURONS[:-1]


def test_the_log_is_written_before_anything_is_shown(curation):
    written = []
    curation.subscribe(lambda what: written.append((what, last(curation).op)))
    curation.move(1.0, 2.0, 3.0)
    curation.confirm(t_index=0)
    assert written == [("tracks", "move"), ("tracks", "confirm")]


def test_a_listener_may_end_listening(curation):
    heard: list[str] = []
    end = curation.subscribe(heard.append)
    curation.goto(1).select("n003").next_item()
    end()
    end()
    curation.goto(2)
    assert heard == ["frame", "neuron", "item"]


def test_an_edit_that_fails_leaves_log_and_view_as_they_were(curation, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("no space left on device")

    before = curation.tracks
    monkeypatch.setattr(curation.edits, "append", full)
    with pytest.raises(OSError, match="no space left"):
        curation.move(1.0, 2.0, 3.0)
    assert curation.tracks is before


def test_the_neuron_that_is_rejected_is_not_selected_any_more(curation):
    curation.select("n003").reject()
    assert curation.neuron == "AVAL"
    curation.go_to_item(0)
    curation.reject()
    curation.go_to_item(2)  # of the same neuron
    assert (curation.t_index, curation.neuron) == (6, "AVAL")
    assert np.isnan(curation.position_um("n002")).all()
    assert "n002" in next(iter(queue_lines(curation)))


def test_all_neurons_may_be_rejected(curation):
    for name in NEURONS:
        curation.select(name).reject()
    assert curation.neurons == []
    assert np.isnan(curation.position_um()).all()
    curation.undo()
    assert curation.neurons == ["n005"]


def test_neighbours_and_suggestions(curation, position):
    assert curation.select("AVAL").goto(0).neighbours() == ["n002", "n003", "n004", "n005"]
    assert curation.select("n004").goto(2).neighbours()[-1] == "n005"  # lost in this frame
    curation.go_to_item(0)
    assert curation.suggested() == ["n004", "AVAL", "n003", "n005"]
    np.testing.assert_array_equal(curation.expected_um(), [1, 2, 3])
    curation.goto(3)
    assert curation.expected_um() is None  # said of another frame
    assert curation.go_to_item(1).expected_um() is None  # not known


@pytest.mark.parametrize(
    ("edit", "states"),
    [
        ({"op": "move", "neuron": "n002", "t_start": 3, "t_end": 3}, ["corrected", "", ""]),
        ({"op": "move", "neuron": "n002", "t_start": 2, "t_end": 2}, ["", "", ""]),
        ({"op": "delete", "neuron": "n002", "t_start": 5}, ["corrected", "", "corrected"]),
        ({"op": "swap", "neuron": "n003", "other": "n002", "t_start": 6}, ["", "", "corrected"]),
        ({"op": "swap", "neuron": "n004", "other": "n003", "t_start": 0}, ["", "corrected", ""]),
        ({"op": "reject", "neuron": "n002", "t_start": 0}, ["corrected", "", "corrected"]),
        ({"op": "confirm", "t_start": 4, "t_end": 4}, ["confirmed", "", ""]),
        ({"op": "confirm", "t_start": 5, "t_end": 5}, ["", "", ""]),
        ({"op": "confirm", "neuron": "n002"}, ["confirmed", "", "confirmed"]),
        ({"op": "confirm", "neuron": "n002", "t_start": 6, "t_end": 6}, ["", "", "confirmed"]),
        ({"op": "comment", "neuron": "n002", "t_start": 4}, ["", "", ""]),
        ({"op": "name", "neuron": "n002", "name": "RID"}, ["", "", ""]),
    ],
)
def test_what_an_edit_says_of_the_queue(edit, states, tmp_path):
    fields = {"z": 1.0, "y": 1.0, "x": 1.0} if edit["op"] == "move" else {}
    fields |= {"note": "?"} if edit["op"] == "comment" else {}
    log = EditLog(tmp_path, author="hand")
    log.append(**edit, **fields)
    assert queue_states(QUEUE, log.active()).tolist() == states


def test_the_reason_is_said_where_it_belongs(curation):
    assert curation.reason() == "frames 3 to 5: jump"
    assert curation.goto(6).reason() == ""
    assert curation.goto(3).select("n003").reason() == ""
    long = QUEUE.assign(reason="far from where its neighbours expect it, and another fits better")
    assert queue_lines(Curation(curation.recording, curation.tracks, curation.edits, queue=long)).keys() >= {
        "○ 2. frame 1 · n004 0.50 · far from where its neighbours exp…"
    }


def test_the_queue_tells_what_is_done(curation):
    curation.accept()
    row = last(curation)
    assert (row.op, row.neuron, row.t_start, row.t_end) == ("confirm", "n002", 3, 5)
    curation.next_item()
    curation.move(1.0, 2.0, 3.0)
    assert curation.queue["state"].tolist() == ["confirmed", "corrected", ""]
    assert [line[0] for line in queue_lines(curation)] == ["✓", "✎", "○"]
    curation.undo()
    assert curation.queue["state"].tolist() == ["confirmed", "", ""]
    (line,) = edit_lines(curation)
    assert line.startswith("confirm n002 frame 3–5 [")


def test_a_queue_may_be_short_and_of_whole_frames(recording, tracks, tmp_path):
    queue = pd.DataFrame({"t_index": [5], "neuron": [None]})
    curation = curate(recording, tracks, tmp_path, queue=queue, author="hand")
    assert (curation.t_index, curation.neuron, curation.item_frames()) == (5, "AVAL", (5, 5))
    assert next(iter(queue_lines(curation))) == "○ 1. frame 5 · whole frame · "
    curation.confirm(t_index=5)
    assert curation.queue["state"].tolist() == ["confirmed"]


def test_an_empty_queue_stays_where_it_is(recording, tracks, tmp_path):
    curation = curate(recording, tracks, tmp_path, queue=QUEUE.iloc[:0], author="hand")
    assert curation.next_item().previous_item().t_index == 0
    assert curation.item is None


def test_quality_is_measured_where_no_queue_is_given(recording, tracks, tmp_path, monkeypatch):
    asked = []
    detections = pd.DataFrame({"t_index": [0], "z": [1.0], "y": [2.0], "x": [3.0]})

    def quality(tracks, detections):
        asked.append((tracks, detections))
        suspicion = xr.Dataset({"suspicion": tracks["observed"].astype(np.float32)})
        return TrackQuality(suspicion, QUEUE.iloc[1:], pd.DataFrame())

    monkeypatch.setattr("niddl_xr.tracking.track_quality", quality)
    EditLog(tmp_path, author="hand").append("name", neuron="n003", name="RID", tracks=tracks)
    curation = curate(recording, tracks, tmp_path, author="hand", detections=detections)
    assert (curation.t_index, curation.neuron) == (1, "n004")
    assert curation.suspicion.dims == ("t", "neuron")
    ((judged, points),) = asked
    assert judged["name"].values[2] == "RID"  # with the edits, not the tracks as they came
    assert points is detections
    again = curate(recording, tracks, tmp_path, queue=quality(tracks, None))
    np.testing.assert_array_equal(again.suspicion.values, tracks["observed"].values)


def test_the_worst_point_of_real_quality_comes_first(tmp_path):
    worm = niddl_xr.simulate.whole_brain(shape=(16, 100, 120), frames=20, neurons=25, motion="semi", seed=2)
    found = niddl_xr.simulate.detections(worm, missed_fraction=0, false_fraction=0)
    wrong = niddl_xr.track(found)
    position = wrong["position"].values
    position[9:12, [2, 7]] = position[9:12, [7, 2]]
    curation = curate(worm["recording"]["F"], wrong, tmp_path, author="hand", detections=found)
    assert curation.t_index in (9, 10, 11)
    assert curation.neuron in wrong["neuron"].values[[2, 7]]


def test_tracking_anew_keeps_what_was_said(tmp_path):
    simulate = niddl_xr.simulate
    worm = simulate.whole_brain(shape=(8, 60, 90), frames=12, neurons=10, motion="semi", seed=2)
    found = simulate.detections(worm, seed=2)
    tracks = niddl_xr.track(found)
    curation = curate(worm["recording"]["F"], tracks, tmp_path, detections=found, author="hand")
    name = curation.neurons[3]
    z, y, x = curation.position_um(name, 5)
    curation.select(name).goto(5).move(z, y + 0.3, x + 0.3)
    curation.name("RID")
    moved = curation.position_um(name, 5)
    told: list[str] = []
    curation.subscribe(told.append)
    curation.retrack()
    assert told == ["tracks"]
    np.testing.assert_allclose(curation.position_um(name, 5), moved)
    assert curation.label(name) == f"RID ({name})"
    first = str(curation.active["edit_id"].iloc[0])
    curation.undo(first)
    # The tracker was told: until it is asked again the point stays, but no longer as said by a human.
    assert curation.tracks["provenance"].sel(neuron=name).values[5] == 0
    curation.move(1.0, 2.0, 3.0)
    np.testing.assert_array_equal(curation.position_um(name, 5), [1, 2, 3])


def test_without_detections_nothing_is_tracked_anew(curation):
    with pytest.raises(NiddlError, match=r"expected detections to track anew; give curate\(\.\.\., detections="):
        curation.retrack()


def test_nothing_of_the_recording_is_read(recording, tracks, tmp_path):
    def read(block):
        raise AssertionError("read")

    lazy = recording.chunk(t=1).copy(
        data=recording.chunk(t=1).data.map_blocks(read, dtype=np.uint16, meta=np.empty((0,) * 4))
    )
    curation = curate(lazy, tracks, tmp_path, queue=QUEUE, author="hand")
    curation.move(1.0, 2.0, 3.0)
    curation.swap("n003")
    assert len(curation.active) == 2


def test_an_action_is_instant_at_a_thousand_frames_of_150_neurons(tmp_path):
    position = np.random.default_rng(0).uniform((0, 0, 0), (6, 19, 29), (1000, 150, 3))
    recording = make_recording(np.broadcast_to(np.uint16(0), (1000, *SHAPE[1:])), voxel_um=VOXEL_UM, dt_s=0.5)
    tracks = tracks_of(recording, position, [f"n{number:03d}" for number in range(150)])
    queue = pd.DataFrame({"t_index": np.arange(500), "neuron": "n007"})
    curation = curate(recording, tracks, tmp_path, queue=queue, author="hand")
    for number in range(20):
        curation.edits.append("move", neuron="n003", t=number, z=1.0, y=2.0, x=3.0, tracks=curation.tracks)
    curation.move(1.0, 2.0, 3.0)
    start = time.process_time()
    for _ in range(5):
        curation.move(1.0, 2.0, 3.0)
    assert (time.process_time() - start) / 5 < 0.2


def test_the_accessor_is_the_verb(recording, tracks, tmp_path):
    assert isinstance(recording.niddl.curate(tracks, tmp_path, queue=QUEUE, author="hand"), Curation)


def test_a_plane_movie_is_curated_at_any_depth(tmp_path, position):
    plane = make_recording(np.zeros((7, 1, 40, 120), np.uint16), voxel_um=VOXEL_UM, dt_s=0.5)
    curation = curate(plane, tracks_of(plane, position), tmp_path, queue=QUEUE, author="hand")
    curation.move(40.0, 2.0, 3.0)
    assert last(curation).z == 40.0


ACTIONS = {
    r"expected z inside the recording, -3 to 9 µm, got 9.5": lambda c: c.move(9.5, 1, 1),
    r"expected y inside the recording, -3 to 22.5 µm, got nan": lambda c: c.move(1, np.nan, 1),
    r"expected x inside the recording, -3 to 32.75 µm, got 60": lambda c: c.add(1, 1, 60, t_index=2, neuron="n005"),
    r"expected a frame from 0 to 6, got 7": lambda c: c.goto(7),
    r"expected a frame from 0 to 6, got -1": lambda c: c.move(1, 1, 1, t_index=-1),
    r"expected a frame from 0 to 6, got True": lambda c: c.goto(True),
    r"no neuron 'AVAR'; the tracks have AVAL, n002": lambda c: c.select("AVAR"),
    r"no neuron 'AVAR'": lambda c: c.swap("AVAR"),
    r"expected another neuron to swap n002 with, got the same": lambda c: c.swap("n002"),
    r"expected a name, got an empty one": lambda c: c.name("  "),
    r"expected a remark, got an empty one": lambda c: c.comment(""),
    r"expected neuron, t_index or both: what is right\?": lambda c: c.confirm(),
    r"expected a row of the queue from 0 to 2, got 3": lambda c: c.go_to_item(3),
    r"expected an edit to take back, the log has no active one": lambda c: c.undo(),
}


@pytest.mark.parametrize("message", ACTIONS)
def test_a_refused_action_writes_nothing(curation, message):
    with pytest.raises(NiddlError, match=message):
        ACTIONS[message](curation)
    assert not curation.edits.path.exists()


def test_what_does_not_belong_together_is_refused_before_a_log_is_made(recording, tracks, position, tmp_path):
    log = tmp_path / "edits"

    def refused(match, recording=recording, tracks=tracks, **options):
        with pytest.raises(NiddlError, match=match):
            curate(recording, tracks, log, **{"queue": QUEUE, "author": "hand"} | options)
        assert not log.exists()

    refused("expected backend as one of panel, table, napari, got 'qt'", backend="qt")
    refused("expected tracks of 7 frames, as the recording has, got 5", tracks=tracks.isel(t=slice(5)))
    later = tracks.assign_coords(t=("t", tracks["t"].values + 3.5, {"units": "s"}))
    refused(r"got times up to 3.5 s apart: are they of another part", tracks=later)
    refused("expected tracks with neurons, got none", tracks=tracks.isel(neuron=slice(0)))
    refused(
        "expected tracks with positions, got NaN alone", tracks=tracks_of(recording, np.full_like(position, np.nan))
    )
    pixels = tracks_of(recording, position / VOXEL_UM)
    refused(r"79% outside .*they are to be in µm, not pixels, in the order z, y, x", tracks=pixels)
    turned = tracks_of(recording, position[..., ::-1])
    refused(r"expected positions inside the recording \(z 0 to 6, y 0 to 19.5, x 0 to 29.75 µm\)", tracks=turned)
    refused("expected dims", recording=recording.transpose("t", "x", "y", "z"))
    refused("expected tracks, a Dataset", tracks=tracks["position"])
    refused("expected a queue with the columns", queue=QUEUE.drop(columns="neuron"))
    refused("expected a queue with the columns .* got list", queue=[3])
    refused(r"expected neurons of these tracks in the queue, got \['RID'\]", queue=QUEUE.assign(neuron="RID"))
    refused("expected frames of the queue from 0 to 6", queue=QUEUE.assign(t_index=70))
    refused("expected frames of the queue from 0 to 6", queue=QUEUE.assign(t_index=np.nan))
    refused("expected detections", detections=tracks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        unknown = make_recording(recording.values, dt_s=0.5)
    refused("expected a recording in µm, as tracks are, got z, y, x in pixels; set voxel_um", recording=unknown)


def test_an_author_goes_with_a_path(recording, tracks, tmp_path):
    log = EditLog(tmp_path, author="hand")
    with pytest.raises(NiddlError, match="expected author with the path of a log"):
        curate(recording, tracks, log, queue=QUEUE, author="foot")


def test_a_log_of_another_recording_is_refused(recording, tracks, position, tmp_path):
    other = make_recording(np.zeros(SHAPE, np.uint16), voxel_um=(2.0, 0.5, 0.26), dt_s=0.5)
    curate(other, tracks_of(other, position), tmp_path, queue=QUEUE, author="hand").move(1.0, 2.0, 3.0)
    with pytest.raises(NiddlError, match="is this the log of another recording"):
        curate(recording, tracks, tmp_path, queue=QUEUE)
    assert len(EditLog(tmp_path, author="reader")) == 1
