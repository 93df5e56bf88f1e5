"""The edit log: rows that are never lost, whoever writes and whatever is killed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import warnings
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from niddl_xr.neurons import make_tracks
from niddl_xr.schema import NiddlError
from niddl_xr.tracking import EditLog, EditWarning
from niddl_xr.tracking._edit_rows import is_ulid, new_ulid, time_of, ulid_time

DTYPES = {
    "edit_id": "string",
    "utc": "datetime64[us, UTC]",
    "author": "string",
    "tool": "string",
    "op": "string",
    "t_start": "Int64",
    "t_end": "Int64",
    "neuron": "string",
    "other": "string",
    "z": "float64",
    "y": "float64",
    "x": "float64",
    "from_z": "float64",
    "from_y": "float64",
    "from_x": "float64",
    "det_id": "Int64",
    "name": "string",
    "note": "string",
    "target": "string",
    "base_version": "string",
    "recording_id": "string",
}
PLACE = {"z": 1.0, "y": 2.0, "x": 3.0}


@pytest.fixture
def log(tmp_path):
    return EditLog(tmp_path / "edits", author="anna")


def tracks(frames=7, neurons=4, recording_id="rec1"):
    """Neuron k stands at z = 10 k, y = 20 k, x = t; it is not observed in frame 0."""
    position = np.zeros((frames, neurons, 3))
    position[..., 0], position[..., 1] = 10 * np.arange(neurons), 20 * np.arange(neurons)
    position[..., 2] = np.arange(frames)[:, None]
    observed = np.ones((frames, neurons), bool)
    observed[0] = False
    return make_tracks(
        position,
        observed,
        confidence=observed * 0.5,
        provenance=np.zeros((frames, neurons)),
        det_id=np.where(observed, np.arange(frames * neurons).reshape(frames, neurons), -1),
        t=("t", np.arange(frames) * 0.25, {"units": "s"}),
        neurons=[f"n{k:03d}" for k in range(1, neurons + 1)],
        attrs={"recording_id": recording_id},
    )


def test_an_empty_log_has_the_same_columns_and_dtypes_as_a_full_one(log):
    empty = log.table()
    log.append("move", neuron="n001", t=3, **PLACE)
    log.append("comment", note="blurred")
    for table in (empty, log.table(), log.active()):
        assert {name: str(kind) for name, kind in table.dtypes.items()} == DTYPES
    assert len(empty) == 0
    assert len(log) == 2


def test_the_folder_is_made_with_the_first_edit(log):
    assert not log.path.exists()
    log.append("comment", note="a")
    assert [path.suffix for path in log.path.iterdir()] == [".parquet"]


@pytest.mark.parametrize(
    ("op", "fields", "expected"),
    [
        ("move", {"neuron": "n1", "t": 3, **PLACE}, {"t_start": 3, "t_end": 3, "z": 1.0}),
        ("add", {"neuron": "new", "t": np.int64(3), **PLACE}, {"t_start": 3, "t_end": 3, "neuron": "new"}),
        ("delete", {"neuron": "n1", "t_start": 3}, {"t_start": 3, "t_end": 3}),
        ("delete", {"neuron": "n1", "t": 3, "t_end": 5}, {"t_start": 3, "t_end": 5}),
        ("assign", {"neuron": "n1", "t": 0, "det_id": 17}, {"det_id": 17, "t_start": 0}),
        ("assign", {"neuron": "n1", "t": 0, "det_id": 17, **PLACE}, {"det_id": 17, "x": 3.0}),
        ("swap", {"neuron": "n1", "other": "n2", "t_start": 3}, {"t_start": 3, "t_end": None, "other": "n2"}),
        ("swap", {"neuron": "n1", "other": "n2", "t": 3}, {"t_start": 3, "t_end": 3}),
        ("split", {"neuron": "n1", "other": "n9", "t_start": 3}, {"t_end": None}),
        ("merge", {"neuron": "n1", "other": "n2"}, {"t_start": None, "t_end": None}),
        ("reject", {"neuron": "n1"}, {"t_start": None}),
        ("name", {"neuron": "n1", "name": "AVAL"}, {"name": "AVAL"}),
        ("name", {"neuron": "n1", "name": ""}, {"name": ""}),
        ("confirm", {"t": 4}, {"t_start": 4, "t_end": 4, "neuron": ""}),
        ("confirm", {"t_start": 4}, {"t_start": 4, "t_end": 4}),
        ("confirm", {"neuron": "n1"}, {"t_start": None, "t_end": None}),
        ("comment", {"note": "dim"}, {"note": "dim"}),
    ],
)
def test_operations_take_their_fields(log, op, fields, expected):
    edit_id = log.append(op, **fields)
    row = EditLog(log.path, author="bert").table().iloc[0]
    assert (row.edit_id, row.author, row.tool, row.op) == (edit_id, "anna", "niddl_xr", op)
    for key, value in expected.items():
        assert pd.isna(row[key]) if value is None else row[key] == value
    assert np.isnan(row.from_x)
    assert row.base_version == row.recording_id == ""


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        ("teleport", {}, "expected op as one of .*'swap'.*got 'teleport'"),
        ("move", {"neuron": "n1", "t": 3, "z": 1.0, "y": 2.0}, r"expected of move the fields .*add \['x'\]"),
        ("move", {"neuron": "n1", **PLACE}, r"add \['t_start'\]"),
        ("move", {"neuron": "n1", "t": 3, "other": "n2", **PLACE}, r"got \['other'\] beside: leave them out"),
        ("move", {"neuron": "n1", "t_start": 3, "t_end": 5, **PLACE}, "expected move of one frame, got 3 to 5"),
        ("move", {"neuron": "n1", "t": 3, "z": 1, "y": np.nan, "x": 2}, "expected y of move as a finite number of µm"),
        ("move", {"neuron": "n1", "t": 3, "z": 1, "y": 2, "x": np.inf}, "expected x of move as a finite number"),
        ("move", {"neuron": "n1", "t": 3, "z": "1", "y": 2, "x": 2}, "expected z of move as a number of µm, got '1'"),
        ("move", {"neuron": "n1", "t": -1, **PLACE}, "expected t_start of move as a whole number from 0 .*got -1"),
        ("move", {"neuron": "n1", "t": 0.75, **PLACE}, "the number of the frame, not its time in s.*got 0.75"),
        ("move", {"neuron": "n1", "t": True, **PLACE}, "whole number from 0 .*got True"),
        ("move", {"neuron": "", "t": 3, **PLACE}, "expected neuron of move as text that is not empty, got ''"),
        ("move", {"neuron": 4, "t": 3, **PLACE}, "expected neuron of move as text that is not empty, got 4"),
        ("move", {"neuron": "n1", "t": 3, "t_start": 3, **PLACE}, "either t, a single frame, or t_start, got both"),
        ("assign", {"neuron": "n1", "t": 3, "det_id": -1}, "expected det_id of assign .*row of the detection"),
        ("assign", {"neuron": "n1", "t": 3, "det_id": 2, "z": 1.0}, r"all of z, y, x in µm or none, got \['z'\]"),
        ("delete", {"neuron": "n1", "t_start": 5, "t_end": 3}, "t_end, the last frame, not before t_start, got 5 to 3"),
        ("swap", {"neuron": "n1", "other": "n1", "t": 3}, "expected of swap two neurons, got 'n1' twice"),
        ("merge", {"neuron": "n1", "other": "n2", "t_end": 3}, "t_start with t_end, got t_end=3 alone"),
        ("reject", {"neuron": "n1", "t_start": 3, "t_end": 5}, r"got \['t_end'\] beside"),
        ("confirm", {}, "a neuron or a frame t or both, got neither"),
        ("comment", {"note": " "}, "a note that is not empty"),
        ("undo", {"target": "nothing"}, "expected the edit_id of an edit in .*got 'nothing'"),
    ],
)
def test_wrong_fields_are_refused_and_leave_no_row(log, op, fields, message):
    with pytest.raises(NiddlError, match=message):
        log.append(op, **fields)
    assert len(log) == 0


def test_an_edit_says_what_it_was_made_on_and_where_the_neuron_stood(log):
    seen = tracks()
    log.append("move", neuron="n003", t=5, tracks=seen, **PLACE)
    log.append("reject", neuron="n002", tracks=seen)  # recognised by its first observed frame
    log.append("add", neuron="new", t=5, tracks=seen, **PLACE)
    log.append("assign", neuron="n001", t=5, det_id=5 * 4 + 3, tracks=seen)
    table = log.table()
    assert table[["from_z", "from_y", "from_x"]].iloc[0].tolist() == [20, 40, 5]
    assert table[["t_start", "from_z", "from_y", "from_x"]].iloc[1].tolist() == [1, 10, 20, 1]
    assert np.isnan(table["from_z"].iloc[2])
    assert table[["z", "y", "x"]].iloc[3].tolist() == [
        30,
        60,
        5,
    ]  # the detection's own place, which stays when rows move
    assert set(table["base_version"]) == {seen.attrs["version_id"]}
    assert set(table["recording_id"]) == {"rec1"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"op": "delete", "neuron": "n009", "t": 2},
            "expected neuron as one of the 4 neurons of the tracks, got 'n009'",
        ),
        ({"op": "merge", "neuron": "n001", "other": "n009"}, "expected other as one of the 4 neurons"),
        ({"op": "delete", "neuron": "n001", "t": 7}, "expected t_start below 7, the frames of the tracks, got 7"),
        ({"op": "delete", "neuron": "n001", "t": 2, "t_end": 9}, "expected t_end below 7"),
    ],
)
def test_what_the_tracks_do_not_have_is_refused(log, fields, message):
    with pytest.raises(NiddlError, match=message):
        log.append(**fields, tracks=tracks())


def test_a_log_takes_edits_of_one_recording(log):
    log.append("reject", neuron="n001", tracks=tracks())
    with pytest.raises(
        NiddlError, match="expected tracks of the recording rec1, .*got tracks of rec2: use a log of its"
    ):
        log.append("reject", neuron="n001", tracks=tracks(recording_id="rec2"))
    assert len(log) == 1


def test_undo_and_its_undo(log):
    first = log.append("reject", neuron="n001")
    second = log.append("comment", note="b")
    undo = log.undo(first)
    assert log.active()["edit_id"].tolist() == [second]
    with pytest.raises(NiddlError, match=f"expected an edit that counts, got {first}, which {undo} has undone"):
        log.undo(first)
    redo = log.undo(undo)
    assert log.active()["edit_id"].tolist() == [first, second]
    log.undo(redo)
    assert log.active()["edit_id"].tolist() == [second]
    assert len(log) == 5
    assert log.table()["target"].tolist() == ["", "", first, undo, redo]


def test_ulid_of_the_specification():
    # The example of github.com/ulid/spec and its time, 2016-07-30T23:54:10.259Z.
    assert is_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert time_of("01ARZ3NDEKTSV4RRFFQ69G5FAV") == datetime(2016, 7, 30, 23, 54, 10, 259000, tzinfo=UTC)
    assert not any(is_ulid(text) for text in ("", "merged", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"))


def test_ids_of_one_millisecond_differ_and_rise():
    ids = ["01HF7YAT00ABCDEFGHJKMNPQRS"]  # 1,700,000,000,000 ms
    for _ in range(200):
        ids.append(new_ulid(1_700_000_000_000, ids[-1]))
    assert ids == sorted(set(ids))
    assert len({new_ulid(5, ids[0]) for _ in range(200)}) == 200  # two processes that continue from the same row
    assert all(ulid_time(ulid) == 1_700_000_000_000 for ulid in ids)


def test_a_clock_that_goes_back_keeps_the_order(log, monkeypatch):
    times = iter([2_000_000_000_000, 1_900_000_000_000, 2_000_000_000_001])
    monkeypatch.setattr("niddl_xr.tracking.edits.time.time_ns", lambda: next(times) * 1_000_000)
    made = [log.append("comment", note="a"), EditLog(log.path, author="bert").append("comment", note="b")]
    made.append(log.append("comment", note="c"))
    assert log.table()["edit_id"].tolist() == made == sorted(made)
    assert log.table()["utc"].is_monotonic_increasing


def test_the_author_is_the_user_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "carla")
    log = EditLog(tmp_path)
    log.append("comment", note="a")
    assert log.table()["author"].tolist() == ["carla"]

    def nameless():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nameless)
    with pytest.raises(NiddlError, match="expected author=, the name of who edits"):
        EditLog(tmp_path)
    assert EditLog(tmp_path, author="dora", tool="panel").author == "dora"
    with pytest.raises(NiddlError, match="expected author as text that is not empty, got ''"):
        EditLog(tmp_path, author="")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "edits").write_text("x")
    with pytest.raises(NiddlError, match="expected the folder of an edit log, got the file"):
        EditLog(tmp_path / "edits")


def test_another_user_can_read_the_parts(log):
    before = os.umask(0o027)
    try:
        log.append("comment", note="a")
    finally:
        os.umask(before)
    part = next(log.path.iterdir())
    assert stat.S_IMODE(part.stat().st_mode) == 0o640


def test_a_log_sees_what_others_append(log):
    other = EditLog(log.path, author="bert")
    first = log.append("comment", note="a")
    assert other.table()["edit_id"].tolist() == [first]
    second = other.append("comment", note="b")
    assert log.table()["edit_id"].tolist() == [first, second]
    assert log.table()["author"].tolist() == ["anna", "bert"]


@pytest.mark.parametrize("length", [0, 1, 4, 500, -9, -1])
def test_a_half_written_part_is_named_and_kept_and_costs_no_other(log, length):
    kept = [log.append("comment", note=note) for note in "abc"]
    part = log.path / f"{kept[1]}.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:length])
    with pytest.warns(EditWarning, match=f"{kept[1]}.parquet cannot be read .*left as it is"):
        table = EditLog(log.path, author="bert").table()
    assert table["edit_id"].tolist() == [kept[0], kept[2]]
    assert part.read_bytes() == whole[:length]
    part.write_bytes(whole)  # it was still on its way: the same log reads it then
    assert len(log) == 3


def test_foreign_files_are_left_alone(log):
    kept = log.append("comment", note="a")
    odd = log.table().assign(op="teleport", edit_id="x")
    (log.path / "README.txt").write_text("notes")
    (log.path / ".01ARZ3NDEKTSV4RRFFQ69G5FAV.beef.writing").write_bytes(b"PAR1")
    (log.path / "folder.parquet").mkdir()
    pd.DataFrame({"t_index": [1]}).to_parquet(log.path / "detections.parquet")
    odd.to_parquet(log.path / "odd.parquet")
    before = sorted(path.name for path in log.path.iterdir())
    with pytest.warns(EditWarning) as caught:
        assert log.table()["edit_id"].tolist() == [kept]
    words = "\n".join(str(warning.message) for warning in caught)
    assert "detections.parquet holds no edits: expected edits with the columns" in words
    assert "odd.parquet holds no edits: expected op as one of" in words
    assert "folder.parquet" in words
    assert "README" not in words
    log_again = EditLog(log.path, author="anna")
    with pytest.warns(EditWarning):
        log_again.append("reject", neuron="n001", tracks=tracks())
    assert set(before) < {path.name for path in log.path.iterdir()}


def test_a_table_in_the_folder_counts_and_a_part_twice_counts_once(log, tmp_path):
    other = EditLog(tmp_path / "other", author="bert")
    ids = [other.append("comment", note="a"), other.append("confirm", t=3), log.append("comment", note="c")]
    other.table().to_parquet(log.path / "from bert.parquet")
    (log.path / f"{ids[0]} (copy).parquet").write_bytes((other.path / f"{ids[0]}.parquet").read_bytes())
    assert log.table()["edit_id"].tolist() == ids
    pd.testing.assert_frame_equal(log.table().iloc[:2], other.table())


def test_an_id_in_two_wordings_is_reported(log):
    log.append("comment", note="a")
    log.table().assign(note="b").to_parquet(log.path / "zz.parquet")
    with pytest.warns(EditWarning, match="zz.parquet holds the edit .* in another wording"):
        assert log.table()["note"].tolist() == ["a"]


def test_extend_copies_what_is_missing(log, tmp_path):
    other = EditLog(tmp_path / "other", author="bert")
    moved = other.append("move", neuron="n001", t=3, tracks=tracks(), **PLACE)
    other.undo(moved)
    other.append("delete", neuron="n001", t=3)
    log.append("comment", note="mine")
    assert log.extend(other) == 3
    assert log.extend(other.path) == log.extend(other.table()) == 0
    united = EditLog(log.path, author="x").table()
    assert sorted(united["author"]) == ["anna", "bert", "bert", "bert"]
    theirs = united[united["author"] == "bert"].reset_index(drop=True)
    pd.testing.assert_frame_equal(theirs, other.table())


def test_extend_never_replaces_a_damaged_part(log, tmp_path):
    other = EditLog(tmp_path / "other", author="bert")
    edit_id = other.append("comment", note="a")
    log.path.mkdir()
    (log.path / f"{edit_id}.parquet").write_bytes(b"PAR1")
    with pytest.warns(EditWarning, match="cannot be read"):
        assert log.extend(other) == 1
    assert (log.path / f"{edit_id}.parquet").read_bytes() == b"PAR1"
    with pytest.warns(EditWarning, match="cannot be read"):
        assert log.table()["edit_id"].tolist() == [edit_id]


def test_extend_refuses_ids_that_leave_the_folder(log):
    table = EditLog(log.path, author="bert").table()
    log.append("comment", note="a")
    table = log.table().assign(edit_id="../../escape")
    with pytest.raises(NiddlError, match="expected ULIDs as edit_id, got '../../escape'"):
        log.extend(table)


@pytest.mark.parametrize("step", ["os.replace", "os.fsync"])
def test_an_append_that_fails_leaves_no_row_and_says_so(log, monkeypatch, step):
    kept = log.append("comment", note="a")

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"niddl_xr.tracking._edit_parts.{step}", full)
        with pytest.raises(OSError, match="No space left"):
            log.append("comment", note="b")
    assert log.table()["edit_id"].tolist() == [kept]
    log.append("comment", note="c")
    assert log.table()["note"].tolist() == ["a", "c"]


def test_it_shows_itself(log):
    assert "0 edits by nobody" in repr(log)
    log.append("comment", note="<b>bold</b>")
    log.undo(log.table()["edit_id"].iloc[0])
    assert repr(log) == f"<EditLog {str(log.path)!r}: 2 edits by anna, 0 count>"
    assert "&lt;b&gt;bold" in log._repr_html_()
    assert "<b>" not in log._repr_html_()


# Forks children that append for as long as they live, and kills them at random moments; what came back is printed.
KILLED = """
import json, os, random, signal, sys, time
from niddl_xr.tracking import EditLog
folder, rounds, writers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
EditLog(folder + "-warm", author="x").append("comment", note="the libraries are loaded")
random.seed(3)
returned = []
for number in range(rounds):
    children = []
    for writer in range(writers):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            log = EditLog(folder, author=f"author {writer}")
            for t in range(10_000):
                edit_id = log.append("confirm", t=t, note=f"{number} {writer}")
                os.write(write, (edit_id + "\\n").encode())
            os._exit(0)
        os.close(write)
        children.append((child, read))
    time.sleep(random.uniform(0.02, 0.12))
    for child, read in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            returned.append([line.strip() for line in pipe if line.endswith("\\n")])
print(json.dumps(returned))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed")
def test_nothing_that_was_appended_is_lost_when_writers_are_killed(tmp_path):
    folder = tmp_path / "edits"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), "14", "2"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    returned = json.loads(done.stdout)
    assert sum(len(ids) for ids in returned) > 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no part is half written
        table = EditLog(folder, author="reader").table()
    present = table["edit_id"].tolist()
    assert {edit_id for ids in returned for edit_id in ids} <= set(present)
    assert len(present) <= sum(len(ids) for ids in returned) + len(returned)  # at most one a writer did not come back
    assert all(ids == sorted(ids) for ids in returned)
    assert len(set(present)) == len(present)
