"""Tracking again: what humans have said stands, and neurons keep their names."""

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
from scipy.optimize import linear_sum_assignment

from niddl_xr import simulation
from niddl_xr.neurons import ANCHOR, AUTO, MANUAL
from niddl_xr.schema import NiddlError
from niddl_xr.tracking import EditLog, EditWarning, apply_edits, retrack, track
from niddl_xr.tracking.methods import Linked

FRAMES, NEURONS = 9, 5
NAMES = [f"n00{k}" for k in range(1, NEURONS + 1)]
WRONG_FROM = 5


def where(t, k):
    return [10.0 * k, 20.0 * k, float(t)]


def detections():
    """A point a neuron and frame, in an order that changes from frame to frame; row 5 t + i is point i of frame t."""
    rows = [(t, *where(t, (k + t) % NEURONS)) for t in range(FRAMES) for k in range(NEURONS)]
    return pd.DataFrame(rows, columns=["t_index", "z", "y", "x"])


def whose(det_id):
    """Which neuron stands behind a row of the detections."""
    return np.where(
        np.asarray(det_id) < 0, -1, (np.asarray(det_id) % NEURONS + np.asarray(det_id) // NEURONS) % NEURONS
    )


calls = []


def link(frames, *, anchors, reference, gate_um, seed, turn=0, missing=None):
    """Follow places; neurons 0 and 1 are mistaken for one another from frame 5 on, unless an anchor tells them apart.

    ``turn`` changes the order of the neurons, and with it their names; ``missing`` is a neuron that is not found.
    """
    calls.append({"anchors": anchors, "reference": reference, "gate_um": gate_um, "seed": seed, "turn": turn})
    detection = np.full((len(frames), NEURONS), -1)
    for t, points in enumerate(frames.points):
        for k in range(NEURONS):
            away = np.linalg.norm(points - where(t, k), axis=1)
            detection[t, k] = away.argmin() if away.min() < 1 else -1
    names = [""] * NEURONS
    told = False
    placed = [] if anchors is None else list(zip(anchors.frame, anchors.neuron, anchors.detection, strict=True))
    votes = {}
    for t, name, number in placed:
        if number >= 0:
            cluster = int(np.flatnonzero(detection[t] == number)[0])
            votes.setdefault(name, []).append(cluster)
            told |= t >= WRONG_FROM and cluster < 2
    if not told:
        detection[WRONG_FROM:, [0, 1]] = detection[WRONG_FROM:, [1, 0]]
    for name, clusters in votes.items():
        free = [k for k in sorted(dict.fromkeys(reversed(clusters)), key=clusters.count, reverse=True) if not names[k]]
        if free:
            names[free[0]] = name
    extra = [name for name in ([] if anchors is None else anchors.names) if name not in names]
    detection = np.concatenate([detection, np.full((len(frames), len(extra)), -1)], axis=1)
    names += extra
    for t, name, number in placed:
        if number >= 0:
            detection[t][detection[t] == number] = -1
            detection[t, names.index(name)] = number
    if missing is not None:
        detection[:, missing] = -1
    order = np.roll(np.arange(len(names)), turn)
    detection = detection[:, order]
    return Linked(detection, np.where(detection >= 0, 0.5, 0.0), [names[k] for k in order])


@pytest.fixture
def plain_method(monkeypatch):
    calls.clear()
    monkeypatch.setattr("niddl_xr.tracking.tracking.find_method", lambda name, options: link)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def base(plain_method):
    return track(detections(), gate_um=7.5, min_fraction=0.25, fill=False, seed=3)


@pytest.fixture
def log(tmp_path):
    return EditLog(tmp_path / "edits", author="anna")


def neurons_of(tracks):
    """For each neuron by name the true neuron in every frame, -1 where it is not observed."""
    return {name: whose(tracks["det_id"].sel(neuron=name)).tolist() for name in tracks["neuron"].values.tolist()}


RIGHT = {name: [k] * FRAMES for k, name in enumerate(NAMES)}


def test_the_method_is_as_wrong_as_it_says(base):
    assert neurons_of(base) == {
        **RIGHT,
        "n001": [0] * WRONG_FROM + [1] * 4,
        "n002": [1] * WRONG_FROM + [0] * 4,
    }


def test_ids_stay_when_the_method_finds_neurons_in_another_order(base, log):
    for turn in (0, 2):
        again = retrack(detections(), base, log, turn=turn)
        assert neurons_of(again) == neurons_of(base)
        xr.testing.assert_equal(again["position"].drop_vars("name"), base["position"])


def test_one_edit_repairs_a_run_of_frames(base, log):
    log.append("move", neuron="n001", t=7, **dict(zip("zyx", where(7, 0), strict=True)), tracks=base)
    assert np.sum(whose(apply_edits(base, log)["det_id"].sel(neuron="n002")) == 0) == 4
    again = retrack(detections(), base, log, turn=3)
    assert neurons_of(again) == RIGHT
    assert again["neuron"].values.tolist() == NAMES
    assert np.argwhere(again["provenance"].values == MANUAL).tolist() == [[7, 0]]
    xr.testing.assert_identical(apply_edits(again, log), again)


def test_a_swap_that_was_learned_is_not_played_again(base, log):
    log.append("swap", neuron="n001", other="n002", t_start=WRONG_FROM, tracks=base)
    again = retrack(detections(), base, log, turn=1)
    assert neurons_of(again) == neurons_of(apply_edits(base, log)) == RIGHT
    once_more = retrack(detections(), again, log)
    assert neurons_of(once_more) == RIGHT
    assert (once_more["provenance"].sel(neuron=["n001", "n002"]).values[WRONG_FROM:] == MANUAL).all()


def told():
    """What the method was told last."""
    anchors = calls[-1]["anchors"]
    if anchors is None:
        return []
    names = [name.removeprefix("@") for name in anchors.neuron.tolist()]
    known = zip(anchors.frame.tolist(), names, anchors.position_um.tolist(), strict=True)
    return sorted(known)


def test_confirmed_frames_are_anchors(base, log):
    log.append("confirm", t=2, tracks=base)
    again = retrack(detections(), base, log)
    assert told() == [(2, name, where(2, k)) for k, name in enumerate(NAMES)]
    assert np.argwhere(again["provenance"].values == ANCHOR).tolist() == [[2, k] for k in range(NEURONS)]


def test_the_method_is_told_who_is_who(base, log):
    hidden = base.assign(observed=base["observed"] & ~((base["neuron"] == "n004") & (base["t"] == base["t"][3])))
    log.append("move", neuron="n005", t=5, **dict(zip("zyx", where(5, 4), strict=True)))
    again = retrack(detections(), hidden, log)
    former = calls[-1]["anchors"].former
    rows = list(zip(former.frame.tolist(), former.neuron.tolist(), former.detection.tolist(), strict=True))
    said = {(t, f"@{name}"): hidden["det_id"].values[t, k] % NEURONS for k, name in enumerate(NAMES) for t in range(9)}
    del said[3, "@n004"]  # not observed
    assert {(t, name): point for t, name, point in rows} == said
    assert np.argwhere(again["provenance"].values != AUTO).tolist() == [[5, 4]]


def test_deleted_and_left_points_are_forbidden_and_stay_away(base, log):
    log.append("delete", neuron="n003", t_start=3, t_end=4, tracks=base)
    log.append("move", neuron="n004", t=6, z=31.0, y=61, x=6.5, tracks=base)  # put right, by 1.5 µm
    log.append("move", neuron="n005", t=1, z=99, y=99, x=99, tracks=base)
    again = retrack(detections(), base, log, turn=4)
    anchors = calls[-1]["anchors"]
    frames_and_points = anchors.forbidden.tolist()
    assert list(zip(frames_and_points, anchors.forbidden_neuron.tolist(), strict=True)) == [
        ([3, (2 - 3) % NEURONS], "@n003"),
        ([4, (2 - 4) % NEURONS], "@n003"),
        ([1, (4 - 1) % NEURONS], "@n005"),
    ]
    # The method has put n003 there again; the human's word stands.
    assert np.isnan(again["position"].sel(neuron="n003").values).any(axis=1).tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert again["position"].sel(neuron="n004").values[6].tolist() == [31, 61, 6.5]
    assert again["position"].sel(neuron="n005").values[1].tolist() == [99, 99, 99]
    third = retrack(detections(), again, log)
    xr.testing.assert_equal(third["position"], again["position"])


def test_names_and_rejections_stay(base, log):
    log.append("name", neuron="n003", name="RID", tracks=base)
    rejected = log.append("reject", neuron="n004", tracks=base)
    log.append("confirm", neuron="n001", t=2, tracks=base)
    tracks = base
    for turn in (2, 0, 4):
        tracks = retrack(detections(), tracks, log, turn=turn)
        assert tracks["neuron"].values.tolist() == ["n001", "n002", "n003", "n005"]
        assert tracks["name"].values.tolist() == ["", "", "RID", ""]
        assert neurons_of(tracks)["n005"] == RIGHT["n005"]
    log.undo(rejected)
    assert "n004" not in apply_edits(tracks, log)["neuron"].values  # it comes back with the next tracking
    tracks = retrack(detections(), tracks, log, turn=1)
    assert neurons_of(tracks)["n004"] == RIGHT["n004"]
    assert tracks["name"].sel(neuron="n003").item() == "RID"


def test_a_named_neuron_that_is_not_found_again_stays_empty(base, log):
    log.append("name", neuron="n003", name="RID", tracks=base)
    unseen = base.assign(observed=base["observed"] & (base["neuron"] != "n003"))
    again = retrack(detections(), unseen, log, missing=2)
    assert np.isnan(again["position"].sel(neuron="n003").values).all()
    assert again["name"].sel(neuron="n003").item() == "RID"
    assert {name: again[name].dtype for name in base} == {name: base[name].dtype for name in base}
    assert neurons_of(retrack(detections(), again, log))["n004"] == RIGHT["n004"]


def test_a_neuron_that_was_lost_for_a_while_comes_back_under_its_id(base, log):
    again = retrack(detections(), base.assign(observed=base["observed"] & (base["t"] < 0.5)), log, missing=2)
    assert "n003" not in again["neuron"].values
    assert neurons_of(retrack(detections(), again, log, missing=None))["n003"] == RIGHT["n003"]


def test_new_neurons_get_ids_that_were_never_used(base, log):
    log.append("reject", neuron="n002", tracks=base)
    log.append("split", neuron="n005", other="n006", t_start=4, tracks=base)
    some = base.sel(neuron=["n001", "n002", "n005"])
    again = retrack(detections(), some, log)
    assert again["neuron"].values.tolist() == ["n001", "n005", "n006", "n003", "n004"]
    assert neurons_of(again)["n006"] == [-1] * 4 + [4] * 5
    assert neurons_of(again)["n005"] == [4] * 4 + [-1] * 5


def test_undo_after_tracking_lets_go(base, log):
    move = log.append("move", neuron="n001", t=7, **dict(zip("zyx", where(7, 0), strict=True)), tracks=base)
    deletion = log.append("delete", neuron="n003", t=2, tracks=base)
    log.append("name", neuron="n003", name="RID", tracks=base)
    again = retrack(detections(), base, log)
    log.undo(move)
    log.undo(deletion)
    loose = apply_edits(again, log)
    assert loose["provenance"].sel(neuron="n001").values[7] == AUTO
    assert neurons_of(loose) == neurons_of(again)
    assert loose["name"].sel(neuron="n003").item() == "RID"
    fresh = retrack(detections(), again, log)
    assert told() == []
    assert neurons_of(fresh) == neurons_of(base)
    log.undo(log.table()["edit_id"].iloc[2])
    assert apply_edits(again, log)["name"].values.tolist() == [""] * NEURONS


def test_undo_after_tracking_brings_back_the_word_before(base, log):
    place = {"z": 50.0, "y": 50.0, "x": 50.0}
    log.append("move", neuron="n003", t=2, **place, tracks=base)
    second = log.append("move", neuron="n003", t=2, z=60, y=60, x=60, tracks=base)
    again = retrack(detections(), base, log)
    assert again["position"].sel(neuron="n003").values[2].tolist() == [60, 60, 60]
    log.undo(second)
    assert apply_edits(again, log)["position"].sel(neuron="n003").values[2].tolist() == [50, 50, 50]


def test_later_edits_are_played_on_the_new_tracks(base, log):
    log.append("confirm", t=6, tracks=base)
    again = retrack(detections(), base, log)
    log.append("swap", neuron="n003", other="n004", t_start=8, tracks=again)
    log.append("confirm", t=0, tracks=again)
    edited = apply_edits(again, log)
    assert neurons_of(edited)["n003"] == [2] * 8 + [3]
    assert (edited["provenance"].values[0] == ANCHOR).all()
    assert json.loads(edited.attrs["edits_orphaned"]) == []
    assert neurons_of(retrack(detections(), edited, log))["n003"] == [2] * 8 + [3]


def test_parameters_come_from_the_history_and_can_be_changed(base, log):
    retrack(detections(), base, log)
    assert told() == []
    assert calls[-1] | {"anchors": None} == {"anchors": None, "reference": None, "gate_um": 7.5, "seed": 3, "turn": 0}
    again = retrack(detections(), base, log, turn=2, gate_um=6.0)
    assert (calls[-1]["turn"], calls[-1]["gate_um"]) == (2, 6.0)
    retrack(detections(), again, log)
    assert (calls[-1]["turn"], calls[-1]["gate_um"]) == (2, 6.0)
    retrack(detections(), again, log, method="other")
    assert (calls[-1]["turn"], calls[-1]["gate_um"]) == (0, 6.0)  # options are a method's own
    retrack(detections(), base.drop_attrs(), log)
    assert calls[-1]["gate_um"] == 8.0


def test_lineage_is_recorded(base, log):
    log.append("confirm", t=2, tracks=base)
    base = base.assign_attrs(recording_id="rec1")
    again = retrack(detections(), base, log)
    third = retrack(detections(), again, log)
    assert json.loads(third.attrs["retracked_from"]) == [base.attrs["version_id"], again.attrs["version_id"]]
    assert third.attrs["recording_id"] == "rec1"
    verbs = [entry["verb"] for entry in json.loads(third.attrs["niddl_history"])]
    assert verbs == ["track", "retrack", "apply_edits"]
    parameters = json.loads(third.attrs["niddl_history"])[1]["parameters"]
    assert parameters == {
        "min_fraction": 0.25,
        "edits": 1,
        "anchors": NEURONS,
        "forbidden": 0,
        "version_id": again.attrs["version_id"],
    }


def test_new_detections_of_the_same_recording(base, log):
    log.append("name", neuron="n003", name="RID", tracks=base)
    other = detections().iloc[::-1].reset_index(drop=True)
    other[["z", "y", "x"]] += 0.3
    again = retrack(other, base, log, turn=2)
    assert neurons_of(base)["n003"] == [2] * FRAMES
    np.testing.assert_allclose(again["position"], base["position"] + 0.3, atol=1e-5)


def test_what_cannot_be_tracked_again(base, log):
    with pytest.raises(NiddlError, match="expected detections of the 9 frames of the tracks, got 7"):
        retrack(detections().query("t_index < 7"), base, log)
    with pytest.raises(NiddlError, match=r"expected parameters of track without \['anchors'\]: the edits say"):
        retrack(detections(), base, log, anchors=base)
    with pytest.raises(NiddlError, match="expected detections, a pandas table"):
        retrack(base, detections(), log)
    log.append("confirm", t=2, tracks=base.assign_attrs(recording_id="rec1"))
    with pytest.raises(NiddlError, match="got edits of rec1: is this the log of another recording"):
        retrack(detections(), base.assign_attrs(recording_id="rec2"), log)


def test_without_neurons(base, log):
    none = base.isel(neuron=slice(0, 0))
    again = retrack(detections(), none, log)
    assert again.sizes["neuron"] == NEURONS


# Any sequence of edits.

places = st.builds(lambda t, k: (t, where(t, k)), st.integers(0, FRAMES - 1), st.integers(0, NEURONS - 1))
frames = st.integers(0, FRAMES - 1)
one, two = st.sampled_from(NAMES), st.permutations(NAMES)
operations = st.one_of(
    st.builds(lambda n, p: ("move", {"neuron": n, "t": p[0], **dict(zip("zyx", p[1], strict=True))}), one, places),
    st.builds(lambda n, t: ("delete", {"neuron": n, "t": t}), one, frames),
    st.builds(lambda n, t: ("swap", {"neuron": n[0], "other": n[1], "t_start": t}), two, frames),
    st.builds(lambda n, t: ("split", {"neuron": n, "other": "part", "t_start": t}), one, frames),
    st.builds(lambda n: ("merge", {"neuron": n[0], "other": n[1]}), two),
    st.builds(lambda n: ("reject", {"neuron": n}), one),
    st.builds(lambda n, w: ("name", {"neuron": n, "name": w}), one, st.sampled_from(["RID", "AVB"])),
    st.builds(lambda t: ("confirm", {"t": t}), frames),
)


@pytest.mark.filterwarnings("ignore::niddl_xr.tracking.EditWarning")
@mock.patch("os.fsync", new=mock.Mock(return_value=None))
@mock.patch("niddl_xr.tracking.tracking.find_method", new=mock.Mock(return_value=link))
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(sequence=st.lists(operations, min_size=1, max_size=6), turns=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_every_edit_stands_after_tracking_again(sequence, turns):
    tracks = track(detections(), min_fraction=0, fill=False)
    with tempfile.TemporaryDirectory() as folder:
        log = EditLog(folder, author="anna")
        for op, fields in sequence:
            log.append(op, **fields)
        edited = apply_edits(tracks, log)
        again = tracks
        for turn in turns:
            again = retrack(detections(), again, log, turn=turn)
            check_standing(again, edited)
            xr.testing.assert_identical(apply_edits(again, log), again)


def check_standing(again, edited):
    assert json.loads(again.attrs["edits_applied"]) == json.loads(edited.attrs["edits_applied"])
    rejected = {name for name, _, _ in json.loads(edited.attrs["neurons_gone"])}
    assert not rejected & set(again["neuron"].values.tolist())
    for name in edited["neuron"].values.tolist():
        before = edited.sel(neuron=name)
        said = np.flatnonzero((before["edit"] >= 0) & before["observed"])
        if len(said) or before["name"].item():
            after = again.sel(neuron=name)
            np.testing.assert_array_equal(after["position"][said], before["position"][said])
            np.testing.assert_array_equal(after["provenance"][said], before["provenance"][said])
            assert after["observed"].values[said].all()
            assert after["name"].item() == before["name"].item()


@pytest.mark.parametrize("method", ["template", "laptrack"])
def test_real_methods_keep_what_was_said(log, method):
    if method == "laptrack":
        pytest.importorskip("laptrack")
    worm = simulation.whole_brain(shape=(8, 60, 90), frames=15, neurons=10, motion="semi", seed=2)
    found = simulation.detections(worm, seed=2)
    base = track(found, method=method)
    log.append("swap", neuron="n002", other="n003", t_start=9, t_end=12, tracks=base)
    log.append("name", neuron="n004", name="RID", tracks=base)
    log.append("reject", neuron="n005", tracks=base)
    log.append("delete", neuron="n001", t=5, tracks=base)
    edited = apply_edits(base, log)
    again = retrack(found, base, log)
    check_standing(again, edited)
    gone = base["position"].sel(neuron="n001").values[5]
    assert not np.linalg.norm(again["position"].sel(neuron="n001").values[5] - gone) <= 3
    once_more = retrack(found, again, log)
    check_standing(once_more, edited)
    assert set(again["neuron"].values) <= set(once_more["neuron"].values)


@pytest.mark.parametrize("seed", [1, 3, 5, 7])
def test_true_corrections_help_and_lose_no_neuron(log, seed):
    """Neurons are told by their ids; tracking again is never worse than the corrections alone."""
    worm = simulation.whole_brain(shape=(14, 160, 160), frames=30, neurons=35, motion="free", seed=seed)
    found = simulation.detections(worm, seed=seed)
    names = sorted(set(found["neuron"]) - {""})
    real = found[found["neuron"] != ""]
    row = np.full((30, len(names)), -1)
    row[real["t_index"], [names.index(name) for name in real["neuron"]]] = real.index
    base = track(found)
    shared = ((row[:, :, None] == base["det_id"].values[:, None, :]) & (row[:, :, None] >= 0)).sum(axis=0)
    pairs = list(zip(*linear_sum_assignment(shared, maximize=True), strict=True))

    def right(tracks):
        own = tracks.sel(neuron=[base["neuron"].values[number] for _, number in pairs])
        truth = row[:, [neuron for neuron, _ in pairs]]
        places = found[["z", "y", "x"]].to_numpy()[truth]
        near = np.linalg.norm(own["position"].values - places, axis=-1) < 0.01
        return near & own["observed"].values & (truth >= 0)

    before = right(base)
    wrong = np.argwhere(~before & (row[:, [neuron for neuron, _ in pairs]] >= 0))
    for t, number in wrong[:: max(len(wrong) // 12, 1)][:12].tolist():
        place = found.loc[row[t, pairs[number][0]], ["z", "y", "x"]].astype(float).to_dict()
        log.append("move", neuron=str(base["neuron"].values[pairs[number][1]]), t=t, **place, tracks=base)
    assert len(log) >= 5
    applied, again = apply_edits(base, log), retrack(found, base, log)
    assert right(applied).sum() == before.sum() + len(log)
    assert right(again).sum() >= right(applied).sum()


def test_orphans_are_tried_again_on_new_tracks(base, log):
    log.append("move", neuron="n003", t=2, z=50, y=50, x=50, tracks=base)
    moved = base.assign(position=base["position"] + 4.0 * xr.DataArray(np.arange(FRAMES) == 2, dims="t"))
    with pytest.warns(EditWarning, match="n003 stands 6.9 µm from where"):
        again = retrack(detections(), moved, log)
    assert again["position"].sel(neuron="n003").values[2].tolist() == [50, 50, 50]
    assert json.loads(again.attrs["edits_orphaned"]) == []
