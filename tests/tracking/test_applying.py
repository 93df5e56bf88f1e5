"""Edits laid over tracks: against a plain model of what the words mean, in any order, with undos, by two people."""

from __future__ import annotations

import json
import tempfile
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niddl_xr.neurons import PROVENANCE, make_tracks
from niddl_xr.schema import NiddlError
from niddl_xr.tracking import EditLog, EditWarning, apply_edits, merge_edits

AUTO, FILLED, ANCHOR, MANUAL = range(len(PROVENANCE))
FRAMES, NEURONS = 7, 4
NAMES = ["n001", "n002", "n003", "n004"]


def where(t, k):
    """Where neuron k stands: 10 µm from its neighbours and 1 µm a frame along x."""
    return [10.0 * k, 20.0 * k, float(t)]


def tracks(shift=0.0, recording_id="rec1", neurons=NAMES, frames=FRAMES):
    count = len(neurons)
    position = np.array([[where(t, k) for k in range(count)] for t in range(frames)]).reshape(frames, count, 3) + shift
    observed = np.ones((frames, count), bool)
    provenance = np.zeros((frames, count))
    if count > 3 and frames > 2:
        observed[2, 3], provenance[2, 3] = False, FILLED
    return make_tracks(
        position,
        observed,
        confidence=np.where(observed, 0.5, 0),
        provenance=provenance,
        det_id=np.where(observed, np.arange(frames * count).reshape(frames, count), -1),
        t=("t", np.arange(frames) * 0.25, {"units": "s"}),
        neurons=neurons,
        attrs={"recording_id": recording_id},
    )


@pytest.fixture
def log(tmp_path):
    return EditLog(tmp_path / "anna", author="anna")


@pytest.fixture
def second(tmp_path):
    return EditLog(tmp_path / "bert", author="bert")


def at(edited, neuron, t):
    return edited["position"].sel(neuron=neuron).values[t].tolist()


def said(edited, neuron):
    return edited["provenance"].sel(neuron=neuron).values.tolist()


def test_nothing_is_changed_without_edits(log):
    base = tracks()
    edited = apply_edits(base, log)
    for name in base.data_vars:
        xr.testing.assert_equal(edited[name].drop_vars("name"), base[name])
    assert edited["name"].values.tolist() == [""] * NEURONS
    assert (edited["edit"] == -1).all()
    assert edited.attrs["version_id"] == edited.attrs["base_version"] == base.attrs["version_id"]


def test_move(log):
    base = tracks()
    before = base.copy(deep=True)
    edit_id = log.append("move", neuron="n002", t=4, z=1, y=2, x=3.5, tracks=base)
    edited = apply_edits(base, log)
    assert at(edited, "n002", 4) == [1, 2, 3.5]
    assert at(edited, "n002", 3) == where(3, 1)
    assert said(edited, "n002") == [0, 0, 0, 0, MANUAL, 0, 0]
    here = edited.sel(neuron="n002").isel(t=4)
    assert (bool(here.observed), float(here.confidence), int(here.det_id), int(here.edit)) == (True, 1, -1, 0)
    assert json.loads(edited.attrs["edits_applied"]) == [edit_id]
    assert edited.attrs["base_version"] == base.attrs["version_id"] != edited.attrs["version_id"]
    assert json.loads(edited.attrs["niddl_history"])[-1]["verb"] == "apply_edits"
    assert {name: edited[name].dtype for name in base.variables} == {name: base[name].dtype for name in base.variables}
    xr.testing.assert_identical(base, before)


def test_a_point_that_was_filled_is_observed_when_it_is_put_by_hand(log):
    log.append("move", neuron="n004", t=2, z=1, y=2, x=3, tracks=tracks())
    edited = apply_edits(tracks(), log)
    assert bool(edited["observed"].sel(neuron="n004")[2])
    assert said(edited, "n004")[2] == MANUAL


def test_add_to_an_old_and_to_a_new_neuron(log):
    log.append("add", neuron="n001", t=1, z=5, y=5, x=5, tracks=tracks())
    log.append("add", neuron="left over", t=6, z=6, y=7, x=8, tracks=tracks())
    edited = apply_edits(tracks(), log)
    assert edited["neuron"].values.tolist() == [*NAMES, "left over"]
    assert at(edited, "n001", 1) == [5, 5, 5]
    assert at(edited, "left over", 6) == [6, 7, 8]
    assert np.isnan(edited["position"].sel(neuron="left over").values[:6]).all()
    assert edited["observed"].sel(neuron="left over").values.tolist() == [False] * 6 + [True]


def test_other_things_of_neurons_stay_and_are_empty_for_new_ones(log):
    radius, side = [1.0, 2, 3, 4], ["l", "r", "l", "r"]
    base = tracks().assign_coords(radius_um=("neuron", radius), side=("neuron", side))
    log.append("reject", neuron="n002")
    log.append("add", neuron="z", t=1, z=0, y=0, x=0)
    edited = apply_edits(base, log)
    np.testing.assert_array_equal(edited["radius_um"], [1, 3, 4, np.nan])
    assert edited["side"].values.tolist() == ["l", "l", "r", ""]


def test_delete(log):
    log.append("delete", neuron="n003", t_start=2, t_end=4, tracks=tracks())
    log.append("delete", neuron="n001", t=0, tracks=tracks())
    edited = apply_edits(tracks(), log)
    assert np.isnan(edited["position"].sel(neuron="n003").values).any(axis=1).tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert edited["observed"].sel(neuron="n003").values.tolist() == [True, True, False, False, False, True, True]
    assert np.isnan(at(edited, "n001", 0)).all()
    assert edited["det_id"].sel(neuron="n003").values.tolist() == [2, 6, -1, -1, -1, 22, 26]
    assert (edited["confidence"].sel(neuron="n003").values[2:5] == 0).all()


def test_assign_takes_the_detection_from_another(log):
    log.append("assign", neuron="n001", t=3, det_id=3 * NEURONS + 2, tracks=tracks())
    edited = apply_edits(tracks(), log)
    assert at(edited, "n001", 3) == where(3, 2)
    assert np.isnan(at(edited, "n003", 3)).all()
    assert edited["det_id"].sel(neuron=["n001", "n003"]).values[3].tolist() == [14, -1]
    xr.testing.assert_equal(edited["position"][4], apply_edits(tracks(), log)["position"][4])


def test_assign_finds_the_place_of_a_detection_of_no_neuron(log):
    table = pd.DataFrame({"t_index": [0, 3, 3], "z": [1.0, 2, 3], "y": [4.0, 5, 6], "x": [7.0, 8, 9]})
    log.append("assign", neuron="n001", t=3, det_id=2)
    log.append("assign", neuron="n002", t=3, det_id=0)  # of another frame
    with pytest.warns(EditWarning, match="the place of detection 2 in frame 3 is not known: give z, y, x, or detect"):
        apply_edits(tracks(), log)
    with pytest.warns(EditWarning, match="the place of detection 0 in frame 3"):
        edited = apply_edits(tracks(), log, detections=table)
    assert at(edited, "n001", 3) == [3, 6, 9]


def test_swap_to_the_end_and_of_some_frames(log):
    log.append("swap", neuron="n001", other="n004", t_start=4, tracks=tracks())
    log.append("swap", neuron="n002", other="n003", t_start=1, t_end=2, tracks=tracks())
    edited = apply_edits(tracks(), log)
    whose = [0, 0, 0, 0, 3, 3, 3]
    assert edited["position"].sel(neuron="n001").values.tolist() == [where(t, k) for t, k in enumerate(whose)]
    assert at(edited, "n004", 5) == where(5, 0)
    assert edited["det_id"].sel(neuron="n002").values.tolist() == [1, 6, 10, 13, 17, 21, 25]
    assert said(edited, "n003") == [0, MANUAL, MANUAL, 0, 0, 0, 0]


def test_a_filled_point_that_is_swapped_stays_filled(log):
    log.append("swap", neuron="n001", other="n004", t_start=1, t_end=3)
    edited = apply_edits(tracks(), log)
    assert said(edited, "n001")[1:4] == [MANUAL, FILLED, MANUAL]
    assert not edited["observed"].sel(neuron="n001")[2]


def test_split(log):
    log.append("split", neuron="n002", other="n099", t_start=5, tracks=tracks())
    edited = apply_edits(tracks(), log)
    assert edited["neuron"].values.tolist() == [*NAMES, "n099"]
    assert np.isfinite(edited["position"].sel(neuron="n002").values).all(axis=1).tolist() == [True] * 5 + [False] * 2
    assert at(edited, "n099", 6) == where(6, 1)
    assert said(edited, "n099")[5:] == [MANUAL, MANUAL]
    assert said(edited, "n002")[:5] == [0, 0, 0, 0, ANCHOR]  # what it was up to then
    log.append("split", neuron="n002", other="n001", t_start=1)
    with pytest.warns(EditWarning, match="there is a neuron n001 already"):
        apply_edits(tracks(), log)


def test_merge_lists_frames_in_which_both_are(log):
    log.append("delete", neuron="n001", t_start=3, t_end=5)
    edit_id = log.append("merge", neuron="n001", other="n003")
    edited = apply_edits(tracks(), log)
    assert edited["neuron"].values.tolist() == ["n001", "n002", "n004"]
    whose = [0, 0, 0, 2, 2, 2, 0]
    assert edited["position"].sel(neuron="n001").values.tolist() == [where(t, k) for t, k in enumerate(whose)]
    assert json.loads(edited.attrs["edits_conflicts"]) == [
        {"edit_id": edit_id, "neuron": "n001", "frames": [0, 1, 2, 6]}
    ]


def test_merge_of_some_frames_leaves_the_rest(log):
    log.append("merge", neuron="n001", other="n003", t_start=5)
    edited = apply_edits(tracks(), log)
    assert np.isfinite(edited["position"].sel(neuron="n003").values).all(axis=1).tolist() == [True] * 5 + [False] * 2


def test_reject_and_name(log):
    log.append("name", neuron="n003", name="RID", tracks=tracks())
    log.append("reject", neuron="n001", tracks=tracks())
    edited = apply_edits(tracks(), log)
    assert edited["neuron"].values.tolist() == ["n002", "n003", "n004"]
    assert edited["name"].values.tolist() == ["", "RID", ""]
    assert at(edited, "n004", 1) == where(1, 3)
    log.append("name", neuron="n003", name="AVB")
    log.append("name", neuron="n002", name="AVB")
    with pytest.warns(EditWarning, match="two neurons have the name AVB"):
        assert apply_edits(tracks(), log)["name"].values.tolist() == ["AVB", "AVB", ""]


def test_confirm_a_frame_a_neuron_and_a_point(log):
    base = tracks()
    log.append("move", neuron="n003", t=2, z=1, y=1, x=1, tracks=base)
    log.append("confirm", t=2, tracks=base)
    log.append("confirm", neuron="n001", tracks=base)
    log.append("confirm", neuron="n002", t_start=5, t_end=6, tracks=base)
    edited = apply_edits(base, log)
    # A filled point is nowhere seen, so nothing of it can be confirmed; what was moved stays manual.
    assert edited["provenance"].values[2].tolist() == [ANCHOR, ANCHOR, MANUAL, FILLED]
    assert said(edited, "n001") == [ANCHOR] * 7
    assert said(edited, "n002") == [0, 0, ANCHOR, 0, 0, ANCHOR, ANCHOR]
    assert edited["confidence"].sel(neuron="n002").values.tolist() == [0.5, 0.5, 1, 0.5, 0.5, 1, 1]
    assert edited["position"].sel(neuron="n001").equals(apply_edits(base, log)["position"].sel(neuron="n001"))


def test_later_wins_and_undo_gives_back(log):
    first = log.append("move", neuron="n001", t=2, z=1, y=1, x=1)
    later = log.append("move", neuron="n001", t=2, z=2, y=2, x=2)
    assert at(apply_edits(tracks(), log), "n001", 2) == [2, 2, 2]
    undo = log.undo(later)
    assert at(apply_edits(tracks(), log), "n001", 2) == [1, 1, 1]
    log.undo(first)
    assert at(apply_edits(tracks(), log), "n001", 2) == where(2, 0)
    log.undo(undo)
    assert at(apply_edits(tracks(), log), "n001", 2) == [2, 2, 2]


def test_axes_in_another_order_and_fewer_variables(log):
    log.append("move", neuron="n002", t=4, z=1, y=2, x=3)
    base = tracks()
    turned = base.transpose("space", "neuron", "t").sel(space=["x", "y", "z"])
    xr.testing.assert_equal(apply_edits(turned, log)["position"], apply_edits(base, log)["position"])
    small = apply_edits(base[["position", "observed"]], log)
    assert at(small, "n002", 4) == [1, 2, 3]
    assert said(small, "n004") == [0, 0, FILLED, 0, 0, 0, 0]


def test_a_folder_a_table_and_a_log_are_the_same(log):
    log.append("move", neuron="n002", t=4, z=1, y=2, x=3)
    for edits in (log, log.table(), log.path, str(log.path)):
        assert at(apply_edits(tracks(), edits), "n002", 4) == [1, 2, 3]


def test_a_table_that_went_through_a_spreadsheet(log, tmp_path):
    log.append("move", neuron="n002", t=4, z=1, y=2, x=3, tracks=tracks())
    log.append("name", neuron="n002", name="RID")
    log.table().to_csv(tmp_path / "edits.csv", index=False)
    read = pd.read_csv(tmp_path / "edits.csv", parse_dates=["utc"])
    xr.testing.assert_equal(apply_edits(tracks(), read), apply_edits(tracks(), log))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ("nowhere", "expected the folder of an edit log, got 'nowhere', which is none"),
        (7, "expected edits as an EditLog, its folder or its table, got int"),
        (pd.DataFrame({"op": ["move"]}), r"expected edits with the columns .*\['edit_id', 'utc'.* are missing"),
    ],
)
def test_what_is_no_log_is_refused(edits, message):
    with pytest.raises(NiddlError, match=message):
        apply_edits(tracks(), edits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "teleport"}, "expected op as one of"),
        ({"z": np.nan}, r"add \['z'\]"),
        ({"z": np.inf}, "expected z of move as a finite number"),
        ({"edit_id": ""}, "expected edit_id of every edit as text"),
        ({"author": ""}, "expected author of every edit as text"),
        ({"utc": "yesterday"}, "expected utc of every edit as a time, got 'yesterday'"),
        ({"from_z": "left"}, "expected from_z of every edit as a finite number of µm"),
        ({"neuron": 4}, "expected neuron of move as text"),
        ({"t_start": 1.5}, "expected t_start of move as a whole number"),
    ],
)
def test_rows_of_others_are_checked(log, change, message):
    log.append("move", neuron="n002", t=4, z=1, y=2, x=3)
    table = log.table().astype(object)
    for column, value in change.items():
        table[column] = pd.Series([value], dtype=object)
    with pytest.raises(NiddlError, match=message):
        apply_edits(tracks(), table)


def test_tracks_without_neurons_and_without_frames(log):
    log.append("add", neuron="first", t=3, z=1, y=2, x=3)
    edited = apply_edits(tracks(neurons=[]), log)
    assert edited["neuron"].values.tolist() == ["first"]
    assert at(edited, "first", 3) == [1, 2, 3]
    with pytest.warns(EditWarning, match="frame 3 is beyond the 0 frames"):
        assert apply_edits(tracks(frames=0), log).sizes["t"] == 0
    with pytest.raises(NiddlError, match="expected tracks, a Dataset with position"):
        apply_edits(pd.DataFrame(), log)


def test_a_log_of_another_recording_is_refused(log):
    log.append("move", neuron="n002", t=4, z=1, y=2, x=3, tracks=tracks())
    with pytest.raises(
        NiddlError, match="expected edits of the recording rec2, .*got edits of rec1: is this the log of"
    ):
        apply_edits(tracks(recording_id="rec2"), log)
    assert at(apply_edits(tracks(recording_id=""), log), "n002", 4) == [1, 2, 3]  # not known to be another


def test_edits_whose_point_is_elsewhere_are_listed_and_not_applied(log):
    base = tracks()
    near, far = tracks(shift=1.5), tracks(shift=2.0)  # 2.6 and 3.5 µm
    edit_id = log.append("move", neuron="n002", t=4, z=50, y=50, x=50, tracks=base)
    assert at(apply_edits(near, log), "n002", 4) == [50, 50, 50]
    with pytest.warns(
        EditWarning, match=r"not applied: 1 \(move .*n002 stands 3.5 µm from where it was edited in frame"
    ):
        edited = apply_edits(far, log)
    xr.testing.assert_equal(edited["position"].drop_vars("name"), far["position"])
    [orphan] = json.loads(edited.attrs["edits_orphaned"])
    assert (orphan["edit_id"], orphan["op"], orphan["neuron"], orphan["t_start"]) == (edit_id, "move", "n002", 4)
    assert json.loads(edited.attrs["edits_applied"]) == []


def test_a_point_that_stands_where_the_edit_puts_it_is_no_orphan(log):
    base = tracks()
    log.append("move", neuron="n002", t=4, z=50, y=50, x=50, tracks=base)
    other = apply_edits(base, log).drop_attrs(deep=False).drop_vars(["edit", "name"])
    assert at(apply_edits(other.isel(t=slice(0, 6)), log), "n002", 4) == [50, 50, 50]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"op": "delete", "neuron": "n077", "t": 2}, "there is no neuron n077"),
        ({"op": "swap", "neuron": "n001", "other": "n077", "t": 2}, "there is no neuron n077"),
        ({"op": "delete", "neuron": "n001", "t": 7}, "frame 7 is beyond the 7 frames"),
        ({"op": "delete", "neuron": "n001", "t": 2, "t_end": 70}, "frame 70 is beyond the 7 frames"),
        ({"op": "name", "neuron": "n077", "name": "RID"}, "there is no neuron n077"),
    ],
)
def test_orphans_for_other_reasons(log, fields, reason):
    log.append(**fields)
    with pytest.warns(EditWarning, match=reason):
        apply_edits(tracks(), log)


def test_a_rejected_neuron_takes_no_more_points(log):
    rejected = log.append("reject", neuron="n001")
    log.append("move", neuron="n001", t=2, z=1, y=1, x=1)
    with pytest.warns(EditWarning, match=f"n001 is rejected by {rejected}"):
        edited = apply_edits(tracks(), log)
    assert "n001" not in edited["neuron"].values


def test_a_frame_confirmed_in_another_version_is_no_truth_about_this(log):
    log.append("confirm", t=2, tracks=tracks())
    log.append("confirm", neuron="n001", t=3, tracks=tracks())
    with pytest.warns(EditWarning, match="it confirms another version of the tracks"):
        edited = apply_edits(tracks(shift=0.5), log)
    assert np.argwhere(edited["provenance"].values == ANCHOR).tolist() == [[3, 0]]


def test_an_undo_of_nothing_is_named(log, second):
    target = second.append("reject", neuron="n001")
    second.undo(target)
    lonely = second.table().iloc[1:]
    with pytest.warns(EditWarning, match=f"the edit that it undoes, {target}, is not in the log"):
        edited = apply_edits(tracks(), lonely)
    xr.testing.assert_identical(apply_edits(edited, lonely), edited)


def test_a_log_that_mostly_does_not_fit_is_refused(log):
    base = tracks()
    for t in range(3):
        log.append("move", neuron="n002", t=t, z=50, y=50, x=50, tracks=base)
    with pytest.raises(NiddlError, match="got 3 of 3 edits of points that do not fit .*of another recording, or of"):
        apply_edits(tracks(shift=30), log)
    for t in range(3):
        log.append("move", neuron="n003", t=t, z=50, y=50, x=50)
    with pytest.warns(EditWarning, match="not applied: 3"):
        apply_edits(tracks(shift=30), log)  # half of them fit


def test_applying_again_and_more(log):
    base = tracks()
    log.append("swap", neuron="n001", other="n002", t_start=2, tracks=base)
    log.append("name", neuron="n002", name="RID", tracks=base)
    log.append("reject", neuron="n002", tracks=base)
    edited = apply_edits(base, log)
    xr.testing.assert_identical(apply_edits(edited, log), edited)
    log.append("swap", neuron="n001", other="n003", t_start=4, tracks=edited)
    more, anew = apply_edits(edited, log), apply_edits(base, log)
    for name in anew.variables:
        xr.testing.assert_equal(more[name], anew[name])
    assert more.attrs["base_version"] == base.attrs["version_id"]
    xr.testing.assert_identical(apply_edits(more, log), more)


def test_edited_tracks_cannot_forget_an_edit(log, second):
    base = tracks()
    early = second.append("move", neuron="n003", t=1, z=1, y=1, x=1)
    moved = log.append("move", neuron="n001", t=2, z=1, y=1, x=1)
    edited = apply_edits(base, log)
    log.extend(second)
    with pytest.raises(
        NiddlError, match=f"the edit {early} is older than others that stand in these tracks: apply all"
    ):
        apply_edits(edited, log)
    log.undo(early)
    log.undo(moved)
    with pytest.raises(NiddlError, match=f"the edit {moved} stands in these tracks, but is undone in the log"):
        apply_edits(edited, log)
    xr.testing.assert_equal(apply_edits(base, log)["position"].drop_vars("name"), base["position"])


def test_broken_attributes_are_named(log):
    base = tracks().assign_attrs(edits_applied="{")
    with pytest.raises(NiddlError, match=r"expected attrs\['edits_applied'\] as a JSON list, got '\{'"):
        apply_edits(base, log)


@pytest.mark.filterwarnings("ignore:The data type")
def test_edited_tracks_survive_a_store(log, tmp_path):
    log.append("swap", neuron="n001", other="n002", t_start=2, tracks=tracks())
    log.append("name", neuron="n002", name="RID", tracks=tracks())
    edited = apply_edits(tracks(), log)
    edited.to_zarr(tmp_path / "tracks.zarr", consolidated=False)
    stored = xr.open_zarr(tmp_path / "tracks.zarr", consolidated=False)
    xr.testing.assert_equal(apply_edits(stored, log), edited)


# Two people.


def test_merge_edits_unites_and_lists_conflicts(log, second):
    same = {"neuron": "n003", "t": 1, "z": 1, "y": 1, "x": 1}
    log.append("move", **same)
    a_move = log.append("move", neuron="n001", t=2, z=1, y=8, x=5)
    log.append("name", neuron="n001", name="RID")
    log.append("delete", neuron="n002", t_start=1, t_end=5)
    second.append("move", **same)
    b_move = second.append("move", neuron="n001", t=2, z=1, y=8, x=9)
    second.append("name", neuron="n001", name="AVB")
    second.append("delete", neuron="n002", t=4)
    second.append("move", neuron="n002", t=5, z=1, y=1, x=1)
    second.append("comment", neuron="n001", t=2, note="sure?")
    edits, conflicts = merge_edits(log, second)
    assert len(edits) == 10
    assert edits["utc"].is_monotonic_increasing
    shown = ["neuron", "t_start", "t_end", "earlier_author", "earlier_op", "later_author", "later_op", "distance_um"]
    assert conflicts[shown].astype(object).where(conflicts[shown].notna(), None).values.tolist() == [
        ["n001", 2, 2, "anna", "move", "bert", "move", 4.0],
        ["n001", None, None, "anna", "name", "bert", "name", None],
        ["n002", 5, 5, "anna", "delete", "bert", "move", None],
    ]
    first = conflicts.iloc[0]
    assert (first.earlier_id, first.later_id, first.wins) == (a_move, b_move, b_move)
    for ours, others in ((log, second), (second, log), (log.table(), second.path)):
        again, conflicts_again = merge_edits(ours, others)
        pd.testing.assert_frame_equal(again, edits)
        pd.testing.assert_frame_equal(conflicts_again, conflicts)
    assert at(apply_edits(tracks(), edits), "n001", 2) == [1, 8, 9]
    assert len(merge_edits(log, log)[1]) == 0


SWAP = ("swap", {"neuron": "n001", "other": "n002", "t_start": 3})
TURNED = ("swap", {"neuron": "n002", "other": "n001", "t_start": 3})
OTHER_SWAP = ("swap", {"neuron": "n001", "other": "n003", "t_start": 4})
REJECT = ("reject", {"neuron": "n001"})
DELETE = ("delete", {"neuron": "n001", "t": 2})
SPLIT = {"neuron": "n001", "t_start": 3}


@pytest.mark.parametrize(
    ("mine", "yours", "expected"),
    [
        (SWAP, ("delete", {"neuron": "n002", "t": 5}), [5, 5]),
        (SWAP, ("delete", {"neuron": "n002", "t": 2}), None),
        (SWAP, TURNED, None),
        (SWAP, OTHER_SWAP, [4, None]),
        (REJECT, DELETE, [2, 2]),
        (REJECT, REJECT, None),
        (("confirm", {"t": 2}), DELETE, [2, 2]),
        (("confirm", {"t": 2}), ("confirm", {"neuron": "n001", "t": 2}), None),
        (("split", {**SPLIT, "other": "a"}), ("split", {**SPLIT, "other": "b"}), [3, None]),
    ],
)
def test_conflicts_of_ranges(log, second, mine, yours, expected):
    log.append(mine[0], **mine[1])
    second.append(yours[0], **yours[1])
    conflicts = merge_edits(log, second)[1]
    found = [[None if pd.isna(value) else value for value in row] for row in conflicts[["t_start", "t_end"]].values]
    assert found == ([] if expected is None else [expected])


def test_a_reject_wins_over_later_points(log, second):
    rejected = log.append("reject", neuron="n001")
    second.append("move", neuron="n001", t=2, z=1, y=1, x=1)
    edits, conflicts = merge_edits(log, second)
    assert conflicts["wins"].tolist() == [rejected]
    with pytest.warns(EditWarning, match="n001 is rejected"):
        assert "n001" not in apply_edits(tracks(), edits)["neuron"].values


def test_undone_edits_are_no_conflict(log, second):
    log.undo(log.append("move", neuron="n001", t=2, z=1, y=1, x=1))
    second.append("move", neuron="n001", t=2, z=2, y=2, x=2)
    assert len(merge_edits(log, second)[1]) == 0


def test_two_who_swap_the_same_have_swapped_it_once(log, second):
    base = tracks()
    for each in (log, second):
        each.append("swap", neuron="n001", other="n002", t_start=2, tracks=base)
    edits, _ = merge_edits(log, second)
    assert at(apply_edits(base, edits), "n001", 3) == where(3, 1)
    log.append("swap", neuron="n001", other="n002", t_start=2, tracks=apply_edits(base, log))  # on purpose
    assert at(apply_edits(base, log), "n001", 3) == where(3, 0)


def test_two_who_move_the_same_point_the_later_wins(log, second):
    base = tracks()
    log.append("move", neuron="n001", t=2, z=40, y=1, x=1, tracks=base)
    second.append("move", neuron="n001", t=2, z=80, y=2, x=2, tracks=base)
    edits, conflicts = merge_edits(second, log)
    assert at(apply_edits(base, edits), "n001", 2) == [80, 2, 2]
    assert conflicts["distance_um"].tolist() == [pytest.approx(np.sqrt(1602))]


def test_what_two_saw_before_either_edited_fits_after_both(log, second):
    base = tracks()
    log.append("move", neuron="n001", t=2, z=40, y=1, x=1, tracks=base)
    second.append("move", neuron="n001", t=2, z=80, y=2, x=2, tracks=base)
    log.extend(second)
    edited = apply_edits(tracks(shift=0.5), log)  # another version, in which the neuron stands nearly there
    assert at(edited, "n001", 2) == [80, 2, 2]
    assert json.loads(edited.attrs["edits_orphaned"]) == []


def test_merging_what_does_not_belong_together(log, second):
    log.append("reject", neuron="n001", tracks=tracks())
    second.append("reject", neuron="n001", tracks=tracks(recording_id="rec2"))
    with pytest.raises(NiddlError, match="expected edits of one recording, got edits of rec1, rec2"):
        merge_edits(log, second)
    with pytest.raises(NiddlError, match="got two different ones of the id"):
        merge_edits(log, log.table().assign(neuron="n002"))


# Any sequence of edits, against a model that is a dict of points.

points = st.tuples(*(st.integers(0, 60).map(float),) * 3)
frames, names = st.integers(0, FRAMES - 1), st.sampled_from([*NAMES, "new"])
spans = st.tuples(frames, st.none() | frames).map(lambda s: (s[0], s[1] if s[1] is None or s[1] >= s[0] else s[0]))
operations = st.one_of(
    st.builds(
        lambda n, t, p: ("move", {"neuron": n, "t": t, **dict(zip("zyx", p, strict=True))}), names, frames, points
    ),
    st.builds(
        lambda n, t, p: ("add", {"neuron": n, "t": t, **dict(zip("zyx", p, strict=True))}), names, frames, points
    ),
    st.builds(lambda n, s: ("delete", {"neuron": n, "t_start": s[0], "t_end": s[1]}), names, spans),
    st.builds(
        lambda n, s: ("swap", {"neuron": n[0], "other": n[1], "t_start": s[0], "t_end": s[1]}),
        st.permutations([*NAMES, "new"]),
        spans,
    ),
    st.builds(
        lambda n, k, s: ("split", {"neuron": n, "other": f"s{k}", "t_start": s[0], "t_end": s[1]}),
        names,
        st.integers(0, 1),
        spans,
    ),
    st.builds(
        lambda n, s: ("merge", {"neuron": n[0], "other": n[1], "t_start": s[0], "t_end": s[1]}),
        st.permutations([*NAMES, "s0"]),
        spans,
    ),
    st.builds(lambda n: ("reject", {"neuron": n}), names),
    st.builds(lambda n, w: ("name", {"neuron": n, "name": w}), names, st.sampled_from(["RID", "AVB", ""])),
    st.builds(lambda s: ("confirm", {"t_start": s[0], "t_end": s[1]}), spans),
    st.builds(lambda n: ("confirm", {"neuron": n}), names),
)


class Model:
    """Tracks as a dict: (neuron, t) to (place, whether observed)."""

    def __init__(self, base):
        observed, position = base["observed"].values, base["position"].values
        self.neurons = base["neuron"].values.tolist()
        self.points = {
            (name, t): (tuple(position[t, k].tolist()), bool(observed[t, k]))
            for k, name in enumerate(self.neurons)
            for t in range(FRAMES)
        }
        self.names, self.rejected = {}, set()

    def play(self, op, t=None, t_start=None, t_end=None, **fields):
        present = {"add": ["neuron"], "split": ["other"]}.get(op, [])
        for key in ("neuron", "other"):
            name = fields.get(key)
            if name in self.rejected or (name and name not in self.neurons and key not in present):
                return
        if t is not None:
            t_start = t_end = t
        elif t_end is None:
            one_frame = op in ("delete", "confirm") and t_start is not None
            t_end = t_start if one_frame else FRAMES - 1
        getattr(self, op)(frames=range(t_start or 0, t_end + 1), **fields)

    def move(self, neuron, frames, z, y, x):
        self.points[neuron, frames[0]] = ((z, y, x), True)

    def add(self, neuron, **fields):
        self.neurons += [neuron] if neuron not in self.neurons else []
        self.move(neuron, **fields)

    def delete(self, neuron, frames):
        for frame in frames:
            self.points.pop((neuron, frame), None)

    def swap(self, neuron, other, frames):
        for frame in frames:
            here, there = self.points.pop((neuron, frame), None), self.points.pop((other, frame), None)
            self.points |= {(neuron, frame): there} if there else {}
            self.points |= {(other, frame): here} if here else {}

    def split(self, neuron, other, frames):
        if other not in self.neurons:
            self.neurons.append(other)
            self.swap(neuron, other, frames)

    def merge(self, neuron, other, frames):
        for frame in frames:
            mine, theirs = self.points.get((neuron, frame)), self.points.pop((other, frame), None)
            if theirs and theirs[1] and not (mine and mine[1]):
                self.points[neuron, frame] = theirs
        if not any(name == other for name, _ in self.points):
            self.neurons.remove(other)
            self.names.pop(other, None)

    def reject(self, neuron, frames):
        self.rejected.add(neuron)

    def name(self, neuron, name, frames):
        self.names[neuron] = name

    def confirm(self, frames, neuron=None):
        """Positions stay."""

    def check(self, edited):
        alive = [n for n in self.neurons if n not in self.rejected]
        assert edited["neuron"].values.tolist() == alive
        assert edited["name"].values.tolist() == [self.names.get(n, "") for n in alive]
        for k, n in enumerate(alive):
            for t in range(FRAMES):
                place, seen = self.points.get((n, t), ((np.nan,) * 3, False))
                np.testing.assert_array_equal(edited["position"].values[t, k], np.float32(place))
                assert bool(edited["observed"].values[t, k]) == seen


def filled_log(folder, author, sequence):
    log = EditLog(folder, author=author)
    ids = [log.append(op, **{k: v for k, v in fields.items() if v is not None}) for op, fields in sequence]
    return log, ids


quick = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
quiet = pytest.mark.filterwarnings("ignore::niddl_xr.tracking.EditWarning")
unsynced = mock.patch("os.fsync", new=mock.Mock(return_value=None))  # a disk is slower than all else here


def applied(base, edits):
    """Apply edits; a sequence of which most do not fit is refused as a whole, and tells nothing here."""
    try:
        return apply_edits(base, edits)
    except NiddlError as error:
        if "edits of points that do not fit" in str(error):
            return None
        raise


@quiet
@unsynced
@settings(quick, max_examples=30)
@given(sequence=st.lists(operations, max_size=9))
def test_any_sequence_does_what_its_words_mean(sequence):
    with tempfile.TemporaryDirectory() as folder:
        edited = applied(tracks(), filled_log(folder, "anna", sequence)[0])
    if edited is None:
        return
    model = Model(tracks())
    for op, fields in sequence:
        model.play(op, **fields)
    model.check(edited)


@quiet
@unsynced
@quick
@given(sequence=st.lists(operations, min_size=1, max_size=7), data=st.data())
def test_undo_is_as_if_never_made_and_applying_again_changes_nothing(sequence, data):
    with tempfile.TemporaryDirectory() as folder:
        log, ids = filled_log(folder, "anna", sequence)
        without = data.draw(st.lists(st.sampled_from(ids), unique=True))
        everything = applied(tracks(), log)
        undos = [log.undo(edit_id) for edit_id in without]
        undone = applied(tracks(), EditLog(folder, author="reader"))
        table = log.table()
        never = applied(tracks(), table[~table["edit_id"].isin([*without, *undos])])
        for undo in undos:
            log.undo(undo)
        redone = applied(tracks(), log)
        assert log.active()["edit_id"].tolist() == ids
        if undone is not None:
            xr.testing.assert_equal(undone, never)
            assert undone.attrs["edits_applied"] == never.attrs["edits_applied"]
            xr.testing.assert_identical(apply_edits(undone, table), undone)
        if everything is not None:
            xr.testing.assert_equal(redone, everything)


@quiet
@unsynced
@quick
@given(
    mine=st.lists(operations, max_size=5),
    yours=st.lists(operations, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_merging_is_the_same_in_any_order(mine, yours, order):
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as other:
        log, _ = filled_log(first, "anna", mine)
        second, _ = filled_log(other, "bert", yours)
        edits, conflicts = merge_edits(log, second)
        swapped, same = merge_edits(second, log)
        log.extend(second)
        pd.testing.assert_frame_equal(edits, swapped)
        pd.testing.assert_frame_equal(conflicts, same)
        pd.testing.assert_frame_equal(edits, EditLog(first, author="reader").table())
        assert len(edits) == len(mine) + len(yours)
        rows = list(range(len(edits)))
        order.shuffle(rows)
        united, shuffled = applied(tracks(), edits), applied(tracks(), edits.iloc[rows])
        if united is not None:
            xr.testing.assert_equal(united, shuffled)
