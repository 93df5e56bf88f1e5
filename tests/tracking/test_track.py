"""The verb track: what all methods share, and what it does with input that is amiss."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.neurons import ANCHOR, AUTO, FILLED, MANUAL, frames_of
from niddl_xr.schema import NiddlError
from niddl_xr.tracking import tracking
from niddl_xr.tracking._anchors import anchors_of
from niddl_xr.tracking.methods import Linked
from niddl_xr.tracking.tracking import track

METHODS = ["template", "laptrack"]


def still(frames: int = 7, count: int = 11, missed: tuple[tuple[int, int], ...] = ()) -> pd.DataFrame:
    """A row of points 6 µm apart that moves by 1 µm a frame; ``missed`` are (frame, neuron)."""
    rows = [
        (t, 3.0 * (n % 2), 0.5 * (n % 3), 6.0 * n + t, n)
        for t in range(frames)
        for n in range(count)
        if (t, n) not in missed
    ]
    found = pd.DataFrame(rows, columns=["t_index", "z", "y", "x", "true"])
    found.attrs["frames"] = frames
    return found


def place(t: int, n: int) -> list[float]:
    return [3.0 * (n % 2), 0.5 * (n % 3), 6.0 * n + t]


def anchors(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["t_index", "neuron", "z", "y", "x"])


@pytest.fixture
def given(monkeypatch):
    """Let track use a method that returns what the test says; gives what the method was called with."""
    calls = {}

    def use(detection, **fields):
        detection = np.array(detection)
        names = fields.pop("names", [""] * detection.shape[1])
        confidence = fields.pop("confidence", np.where(detection >= 0, 0.75, 0.0))

        def link(frames, **options):
            calls.update(options, frames=frames)
            return Linked(detection, confidence, names, **fields)

        monkeypatch.setattr(tracking, "find_method", lambda name, options: link)
        return calls

    return use


@pytest.mark.parametrize("method", METHODS)
def test_the_table_becomes_tracks(method):
    found = still(missed=((3, 4), (5, 0)))
    tracks = track(found, method=method)
    assert neurons.require_tracks(tracks) is not None
    assert dict(tracks.sizes) == {"t": 7, "neuron": 11, "space": 3}
    assert tracks["position"].dtype == np.float32
    assert tracks["position"].attrs["units"] == "µm"
    rows = tracks["det_id"].values
    for neuron in range(11):
        here = rows[:, neuron] >= 0
        assert len(set(found["true"].to_numpy()[rows[here, neuron]])) == 1
        np.testing.assert_allclose(
            tracks["position"].values[here, neuron], found[["z", "y", "x"]].to_numpy()[rows[here, neuron]]
        )
    assert (rows == -1).sum() == 2
    for t, n in ((3, 4), (5, 0)):
        column = int(np.flatnonzero(np.isin(rows[0], found.index[(found["t_index"] == 0) & (found["true"] == n)]))[0])
        assert not tracks["observed"].values[t, column]
        assert tracks["provenance"].values[t, column] == FILLED
        assert tracks["confidence"].values[t, column] == 0
        np.testing.assert_allclose(tracks["position"].values[t, column], place(t, n), atol=0.3)


def test_without_filling_what_is_missed_is_nan(given):
    given([[0, 1], [-1, 0]])
    found = still(2, 2, missed=((1, 0),))
    tracks = track(found, fill=False)
    assert np.isnan(tracks["position"].values[1, 0]).all()
    assert (tracks["provenance"] == AUTO).all()
    assert tracks["det_id"].values.tolist() == [[0, 1], [-1, 2]]


def test_a_position_that_the_method_knows_goes_before_the_neighbours(given):
    known = np.full((3, 2, 3), np.nan)
    known[1, 0] = 1.0, 2.0, 3.0
    given([[0, 1], [-1, 0], [0, -1]], position_um=known)
    tracks = track(still(3, 2, missed=((1, 0), (2, 1))))
    assert tracks["position"].values[1, 0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(tracks["position"].values[2, 1], place(2, 1), atol=1e-5)
    assert tracks["position"].values[0, 0].tolist() == place(0, 0)


def test_neurons_that_are_hardly_seen_are_dropped_unless_named(given):
    detection = np.full((6, 4), -1)
    detection[:5, 0] = 0  # in 5 of the 5 frames with any point
    detection[:3, 1] = 1  # in 3
    detection[:2, 2] = 2  # in 2
    detection[0, 3] = 3  # in 1, named
    given(detection, names=["", "", "", "RID"])
    found = still(6, 4)
    tracks = track(found, min_fraction=0.6, anchors=anchors((0, "RID", *place(0, 3))))
    assert tracks["neuron"].values.tolist() == ["n001", "n002", "RID"]
    assert tracks["observed"].values.sum(axis=0).tolist() == [5, 3, 1]
    assert track(found, min_fraction=0.0).sizes["neuron"] == 4


def test_names_that_are_taken_are_left_out(given):
    given([[0, 1, 2]], names=["", "n001", ""])
    assert track(still(1, 3))["neuron"].values.tolist() == ["n002", "n001", "n003"]


def test_history_and_the_recording_go_with_the_tracks(given):
    calls = given([[0, 1]])
    found = still(1, 2)
    found.attrs.update(recording_id="abc", niddl_history='[{"verb": "detect"}]', t_s=[0.25])
    tracks = track(found, gate_um=5.0, seed=3, votes=2)
    assert tracks.attrs["recording_id"] == "abc"
    before, entry = schema.history(tracks)
    assert before == {"verb": "detect"}
    assert entry["verb"] == "track"
    assert entry["parameters"]["gate_um"] == 5.0
    assert entry["parameters"]["votes"] == 2
    assert tracks["t"].values.tolist() == [0.25]
    assert tracks["t"].attrs["units"] == "s"
    assert calls["gate_um"] == 5.0
    assert calls["seed"] == 3
    assert calls["votes"] == 2
    assert calls["anchors"] is None


def test_the_table_is_not_changed_and_its_index_does_not_matter():
    found = still()
    found.index = found.index[::-1] + 100
    copy = found.copy(deep=True)
    tracks = track(found, method="template")
    pd.testing.assert_frame_equal(found, copy)
    np.testing.assert_array_equal(tracks["det_id"], track(still(), method="template")["det_id"])


def test_whole_numbers_as_floats_and_columns_in_any_order():
    found = still()[["x", "true", "y", "t_index", "z"]].astype(float)
    found.attrs["frames"] = 7
    np.testing.assert_array_equal(
        track(found, method="template")["position"], track(still(), method="template")["position"]
    )


# What is amiss.


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_give_no_neurons(method):
    empty = still()[:0]
    empty.attrs.clear()
    tracks = track(empty, method=method)
    assert dict(tracks.sizes) == {"t": 0, "neuron": 0, "space": 3}
    empty.attrs["frames"] = 5
    tracks = track(empty, method=method)
    assert dict(tracks.sizes) == {"t": 5, "neuron": 0, "space": 3}
    assert neurons.require_tracks(tracks).attrs["version_id"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("frames", "count"), [(5, 1), (1, 6), (1, 1), (2, 2)])
def test_one_neuron_one_frame(method, frames, count):
    options = {"least_points": 1} if method == "laptrack" else {}
    tracks = track(still(frames, count), method=method, **options)
    assert dict(tracks.sizes) == {"t": frames, "neuron": count, "space": 3}
    assert tracks["observed"].values.all()


@pytest.mark.parametrize("method", METHODS)
def test_frames_without_detections_are_filled(method):
    missed = tuple((t, n) for t in (0, 3, 6) for n in range(11))
    tracks = track(still(missed=missed), method=method)
    assert dict(tracks.sizes) == {"t": 7, "neuron": 11, "space": 3}
    assert not tracks["observed"].values[[0, 3, 6]].any()
    assert np.isfinite(tracks["position"]).all()
    x = tracks["position"].sel(space="x").values
    np.testing.assert_allclose(x[3], (x[2] + x[4]) / 2, atol=1e-4)
    np.testing.assert_allclose(x[0], x[1])
    np.testing.assert_allclose(x[6], x[5])


def changed(**columns):
    return still().assign(**columns)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (still().rename(columns={"t_index": "t"}), r"rename or add \['t_index'\]"),
        (still().drop(columns=["z", "x"]), r"rename or add \['z', 'x'\]"),
        (changed(y=np.nan), "expected finite numbers in the column y, got 77 that are NaN"),
        (changed(x=np.inf), "expected finite numbers in the column x, got 77"),
        (changed(t_index=0.25), "expected t_index, the number of the frame, as whole numbers from 0"),
        (changed(t_index=-1), "expected t_index, the number of the frame, as whole numbers from 0"),
        (changed(z="deep"), "expected numbers in the column z, got dtype"),
        (pd.concat([still(), still()[:3]]), "expected every point once, got 3 rows that repeat"),
        (np.zeros((3, 4)), "expected detections, a pandas table"),
    ],
)
def test_tables_that_are_amiss(found, message):
    with pytest.raises(NiddlError, match=message):
        track(found, method="template")


def test_a_frame_beyond_those_that_attrs_name():
    found = still()
    found.attrs["frames"] = 4
    with pytest.raises(NiddlError, match="expected t_index below 4, the frames in attrs, got 6"):
        track(found, method="template")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_um": 0.0}, "expected gate_um as a positive distance in µm, got 0.0"),
        ({"gate_um": np.nan}, "expected gate_um as a positive distance in µm, got nan"),
        ({"min_fraction": 1.5}, "expected min_fraction between 0 and 1, got 1.5"),
        ({"min_fraction": np.nan}, "expected min_fraction between 0 and 1, got nan"),
        ({"reference": 7}, "expected reference as a frame from 0 to 6, got 7"),
        ({"reference": -1}, "expected reference as a frame from 0 to 6, got -1"),
        ({"reference": 2.5}, "expected reference as a frame from 0 to 6, got 2.5"),
        ({"method": "magic"}, r"expected method as one of \[.*'laptrack', 'template'.*\], got 'magic'"),
        ({"step": 3}, r"method 'template' takes \['regularisation', 'step_um', 'stiffness_um'\], got \['step'\]"),
        ({"frames": 3}, r"method 'template' takes .*, got \['frames'\]"),
    ],
)
def test_options_that_are_amiss(options, message):
    with pytest.raises(NiddlError, match=message):
        track(still(), **{"method": "template", **options})


# Anchors.


def test_anchors_stand_as_they_are_said():
    said = anchors((3, "RID", *np.add(place(3, 4), (0, 0.9, 0))))
    tracks = track(still(), method="template", anchors=said).sel(neuron="RID")
    np.testing.assert_allclose(tracks["position"][3], np.add(place(3, 4), (0, 0.9, 0)), atol=1e-5)
    assert int(tracks["provenance"][3]) == ANCHOR
    assert float(tracks["confidence"][3]) == 1
    assert bool(tracks["observed"][3])
    assert int(still()["true"][int(tracks["det_id"][3])]) == 4
    assert schema.history(tracks)[-1]["parameters"]["anchors"] == 1


def test_tracks_as_anchors_give_what_a_human_has_said():
    found = still()
    first = track(found, method="template", reference=0)
    provenance, position = first["provenance"].values.copy(), first["position"].values.copy()
    provenance[2, 3], provenance[5, 6] = ANCHOR, MANUAL
    position[5, 6] += (0.5, 0, 0)
    corrected = first.assign(provenance=(("t", "neuron"), provenance), position=(("t", "neuron", "space"), position))
    shuffled = corrected.isel(space=[2, 0, 1]).transpose("space", "neuron", "t")
    for given_as in (corrected, shuffled):
        again = track(found, method="template", reference=0, anchors=given_as)
        assert int((again["provenance"] == ANCHOR).sum()) == 2
        names = first["neuron"].values
        np.testing.assert_allclose(again["position"].sel(neuron=names[6])[5], position[5, 6])
        np.testing.assert_allclose(again["position"].sel(neuron=names[3]), position[:, 3])
    with pytest.raises(NiddlError, match="expected anchors with the variable provenance"):
        track(found, method="template", anchors=corrected.drop_vars("provenance"))


def test_two_anchors_share_no_detection():
    """Of two neurons said to be near one point, one has it; the other stands where it was said to be."""
    frames = frames_of(still())
    near = anchors((1, "A", *place(1, 5)), (1, "B", *np.add(place(1, 5), (0, 0, 1.5))), (4, "A", *place(4, 5)))
    found = anchors_of(near, frames)
    assert found.detection.tolist() == [5, -1, 5]
    assert found.names == ["A", "B"]
    tracks = track(still(), method="template", anchors=near, min_fraction=0)
    ids = tracks["det_id"].values
    for row in ids:
        assert len(set(row[row >= 0])) == (row >= 0).sum()
    np.testing.assert_allclose(tracks["position"].sel(neuron="B")[1], near.loc[1, ["z", "y", "x"]].astype(float))


def test_as_many_anchors_as_can_be_have_a_detection():
    """The nearest pair would leave the other anchor without; the pairs of least sum leave none."""
    found = pd.DataFrame({"t_index": 0, "z": 0.0, "y": 0.0, "x": [0.0, 3.0]})
    said = anchors((0, "A", 0.0, 0.0, 2.9), (0, "B", 0.0, 0.0, 5.5))
    assert anchors_of(said, frames_of(found)).detection.tolist() == [0, 1]


def test_an_anchor_far_away_does_not_take_the_detection_of_another():
    found = pd.DataFrame({"t_index": 0, "z": 0.0, "y": 0.0, "x": [0.0, 4.0]})
    said = anchors((0, "A", 0.0, 0.0, 0.5), (0, "B", 0.0, 0.0, -100.0))
    assert anchors_of(said, frames_of(found)).detection.tolist() == [0, -1]


def test_an_anchor_far_from_all_detections():
    frames = frames_of(still())
    assert anchors_of(anchors((2, "A", 0.0, 0.0, -3.5)), frames).detection.tolist() == [-1]
    assert anchors_of(anchors((2, "A", 0.0, 0.0, -0.9)), frames).detection.tolist() == [0]


def test_anchors_in_frames_without_points():
    found = still(missed=tuple((4, n) for n in range(11)))
    assert anchors_of(anchors((4, "A", *place(4, 2))), frames_of(found)).detection.tolist() == [-1]
    tracks = track(found, method="template", anchors=anchors((2, "A", *place(2, 3)), (4, "A", 0.2, 0.3, 22.5)))
    np.testing.assert_allclose(tracks["position"].sel(neuron="A")[4], (0.2, 0.3, 22.5), atol=1e-5)


def test_forbidden_points_need_no_anchors():
    frames = frames_of(still())
    known = anchors_of(None, frames, forbidden=anchors((2, "A", *place(2, 3)), (2, "B", *place(2, 3))))
    assert known.forbidden.tolist() == [[2, 3], [2, 3]]
    assert known.forbidden_neuron.tolist() == ["A", "B"]
    assert len(known.frame) == 0
    assert anchors_of(anchors()[:0], frames, forbidden=anchors()[:0]) is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (anchors((7, "A", 0, 0, 0)), "expected t_index of anchors as whole numbers from 0 to 6, got 7: are they of"),
        (anchors((-1, "A", 0, 0, 0)), "whole numbers from 0 to 6, got -1"),
        (anchors((2.5, "A", 0, 0, 0)), "whole numbers from 0 to 6, got 2.5"),
        (anchors((2, "A", 0, np.nan, 0)), "expected finite t_index, z, y, x in anchors; drop rows"),
        (
            anchors((2, "A", 0, 0, 0), (2, "A", 5, 5, 5)),
            "expected one place a neuron and frame, got two of A in frame 2",
        ),
        (anchors((2, "A", 0, 0, 0), (2, "B", 0, 0, 0)), None),
        (anchors((2, "", 0, 0, 0)), "expected a name for every anchor, got none in frame 2"),
        (anchors((2, None, 0, 0, 0)), "expected a name for every anchor, got none in frame 2"),
        (anchors((2, "A", "deep", 0, 0)), "expected numbers in the columns .* of anchors"),
        (anchors((2, "A", 0, 0, 0)).drop(columns="x"), r"expected anchors as tracks or as a table with the columns"),
        ([(2, "A", 0, 0, 0)], "expected anchors as tracks or as a table .*, got list"),
        (xr.Dataset({"position": ("t", [1.0])}), "expected position with dims"),
    ],
)
def test_anchors_that_are_amiss(said, message):
    if message is None:
        assert track(still(), method="template", anchors=said).sizes["t"] == 7
        return
    with pytest.raises(NiddlError, match=message):
        track(still(), method="template", anchors=said)


def test_forbidden_that_is_amiss():
    with pytest.raises(NiddlError, match="whole numbers from 0 to 6, got 9"):
        track(still(), method="template", forbidden=anchors((9, "A", 0, 0, 0)))


def test_names_that_are_numbers_are_names():
    tracks = track(still(), method="template", anchors=anchors((2, 17, *place(2, 4))))
    assert "17" in tracks["neuron"].values


def test_a_method_that_gives_an_anchored_point_to_another_is_corrected(given):
    given([[0, 1], [0, 1]], names=["", "RID"])
    tracks = track(still(2, 2), anchors=anchors((1, "RID", *place(1, 0))), fill=False)
    assert tracks["det_id"].values.tolist() == [[0, 1], [-1, 2]]
    assert tracks["observed"].values.tolist() == [[True, True], [False, True]]


def test_many_neurons_have_names_of_equal_length(given):
    given(np.arange(600)[None])
    found = pd.DataFrame({"t_index": 0, "z": 0.0, "y": 0.0, "x": np.arange(600) * 5.0})
    assert track(found)["neuron"].values[[0, -1]].tolist() == ["n001", "n600"]


def test_several_points_of_a_frame_may_be_ruled_out_for_a_neuron():
    table = pd.DataFrame(
        [(t, 0.0, 20.0 * k, 0.1 * t) for t in range(5) for k in range(4)], columns=["t_index", "z", "y", "x"]
    )
    away = table[table["t_index"] == 2].assign(neuron="A")
    tracks = track(table, method="template", anchors=table.iloc[[1]].assign(neuron="A"), forbidden=away)
    assert tracks["observed"].sel(neuron="A").values.tolist() == [True, True, False, True, True]
    with pytest.raises(NiddlError, match="of forbidden as whole numbers from 0 to 4, got 9"):
        track(table, forbidden=away.assign(t_index=9))


def test_short_recordings_are_no_false_detections():
    pytest.importorskip("laptrack")
    table = pd.DataFrame(
        [(t, 0.0, 20.0 * k, 0.1 * t) for t in range(2) for k in range(4)], columns=["t_index", "z", "y", "x"]
    )
    assert track(table, method="laptrack").sizes["neuron"] == 4
    assert track(table[:4], method="laptrack").sizes["neuron"] == 4
