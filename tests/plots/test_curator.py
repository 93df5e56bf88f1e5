"""The panel and table front ends without a browser: what is drawn, what is read, what a hand's saying becomes."""

from __future__ import annotations

import asyncio

import dask.array as da
import numpy as np
import pandas as pd
import panel as pn
import param
import pytest
import xarray as xr
from bokeh.models import CustomJS

from niddl_xr.curation import Curation, curate
from niddl_xr.plots._curation_figure import as_bytes
from niddl_xr.plots._curation_frames import Frames
from niddl_xr.plots._curation_page import Page
from niddl_xr.plots._curation_points import PROVENANCE_COLOURS, SUSPICION_COLOURS, points_of, suspicion_colour
from niddl_xr.plots.curation_table import _Table
from niddl_xr.plots.curator import OF_THE_ITEM, THIS_FRAME, _Curator
from niddl_xr.schema import NiddlError, make_recording
from niddl_xr.tracking import EditLog
from tests.test_curation import NEURONS, QUEUE, SHAPE, VOXEL_UM, tracks_of


@pytest.fixture
def counts() -> np.ndarray:
    """Every voxel another number, (t 7, z 4, y 40, x 120), so that a transposed or shifted picture shows."""
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


@pytest.fixture
def position() -> np.ndarray:
    place = np.linspace((1.0, 4.0, 3.0), (5.0, 16.0, 27.0), len(NEURONS))
    position = np.broadcast_to(place, (SHAPE[0], len(NEURONS), 3)).copy()
    position[2, 4] = np.nan
    return position


@pytest.fixture
def read() -> list[int]:
    return []


@pytest.fixture
def recording(counts, read) -> xr.DataArray:
    def load(block, block_info=None):
        if block_info:
            read.append(block_info[0]["array-location"][0][0])
        return block

    lazy = da.from_array(counts, chunks=(1, *SHAPE[1:])).map_blocks(load, dtype=counts.dtype, meta=np.empty((0,) * 4))
    recording = make_recording(lazy, voxel_um=VOXEL_UM, dt_s=0.5)
    read.clear()
    return recording


@pytest.fixture
def model(recording, position, tmp_path) -> Curation:
    return curate(recording, tracks_of(recording, position), tmp_path / "edits", queue=QUEUE, author="hand")


@pytest.fixture
def page(model) -> _Curator:
    return _Curator(model, percentiles=(0.0, 100.0), palette="grey", edge_px=300)


def rows(model: Curation) -> pd.DataFrame:
    return EditLog(model.edits.path, author="reader").table()


def hear(projection, **said) -> None:
    """What the browser sends when something was tapped or let go."""
    before = projection.said.data
    serial = [*before["serial"], len(before["serial"]) + 1]
    row = {"what": "move", "neuron": "n003", "t_index": 4, "x": 1.0, "vertical": 2.0} | said
    projection.said.data = {"serial": serial} | {name: [*before[name], value] for name, value in row.items()}


# Pixels


def test_projections_are_those_of_the_frame(counts, recording):
    frames = Frames(recording)
    above, aside = frames.xy(3), frames.xz(3)
    np.testing.assert_array_equal(above.values, counts[3].max(axis=0))
    np.testing.assert_array_equal(aside.values, counts[3].max(axis=1))
    # Edges are half a voxel beyond the centres: left, top, right, bottom.
    assert above.edges == (-0.125, -0.25, 29.875, 19.75)
    assert aside.edges == (-0.125, -1.0, 29.875, 7.0)
    np.testing.assert_array_equal(frames.xy(3, plane=2).values, counts[3, 2])
    # y within 3 µm of 5 µm: rows 4 to 16 of 0.5 µm.
    np.testing.assert_array_equal(frames.xz(3, 5.0).values, counts[3, :, 4:17].max(axis=1))


def test_pixels_around_a_place_are_where_they_are(counts, recording):
    frames = Frames(recording)
    picture = frames.around(2, np.array([2.0, 10.0, 15.0]), half_um=3.0)
    # z within 3 µm of 2 µm: planes 0, 1, 2; 6 pixels up and down, 12 left and right of (20, 60).
    np.testing.assert_array_equal(picture.values, counts[2, :3].max(axis=0)[14:27, 48:73])
    assert picture.edges == (11.875, 6.75, 18.125, 13.25)
    corner = frames.around(2, np.array([2.0, 0.0, 0.0]), half_um=3.0)
    assert (corner.values[:6] == 0).all()
    assert (corner.values[:, :12] == 0).all()
    np.testing.assert_array_equal(corner.values[6:, 12:], counts[2, :3].max(axis=0)[:7, :13])
    assert corner.edges == (-3.125, -3.25, 3.125, 3.25)


def test_the_brightest_depth_is_that_of_a_column_and_not_of_a_voxel(counts, recording):
    volume = np.ones(SHAPE[1:], np.float32)
    volume[2, 18:23, 56:65] = 5  # a nucleus at z 4 µm
    volume[0, 20, 60] = 20  # a hot pixel over it
    frames = Frames(recording.isel(t=[0]).copy(data=volume[None]))
    assert frames.brightest_um(0, 10.0, 15.0) == 4.0
    assert frames.brightest_um(0, 10.0, 15.1) == 4.0
    volume[:] = np.nan
    assert np.isnan(frames.brightest_um(0, 10.0, 15.0))
    volume[3, 20, 60] = 1
    assert frames.brightest_um(0, 10.0, 15.0) == 6.0


def test_coordinates_that_fall_give_the_same_pictures(recording):
    turned = recording.isel(z=slice(None, None, -1), y=slice(None, None, -1), x=slice(None, None, -1))
    one, other = Frames(recording), Frames(turned)
    np.testing.assert_array_equal(one.xy(1).values, other.xy(1).values)
    assert one.xz(1).edges == other.xz(1).edges


def test_the_last_frames_are_kept(recording, read, monkeypatch):
    frames = Frames(recording)
    for t in (3, 4, 3, 4):
        frames.xy(t), frames.xz(t)
    assert read == [3, 4]
    monkeypatch.setattr("niddl_xr.plots._curation_frames.KEPT_BYTES", 1)
    frames.volume(5)
    frames.volume(3)
    assert read == [3, 4, 5, 3]


def test_bytes_span_the_contrast():
    values = np.array([[np.nan, 10.0, 20.0], [30.0, 5.0, 99.0]])
    np.testing.assert_array_equal(as_bytes(values, (10.0, 30.0)), [[0, 0, 127], [255, 0, 255]])


# What is drawn


def test_opening_reads_the_worst_frame_and_those_beside_it(model, read):
    _Curator(model, percentiles=(0.0, 100.0), palette="grey", edge_px=300)
    assert sorted(read) == [3, 4, 5]
    model.move(1.0, 2.0, 3.0)
    model.select("AVAL")
    assert sorted(read) == [3, 4, 5]
    model.goto(0)
    assert sorted(read) == [0, 1, 3, 4, 5]


def test_the_picture_is_that_of_the_frame_and_points_lie_on_it(model, page, counts, position):
    above = page.pictures.above
    drawn = counts[4].max(axis=0)
    expected = (255 * (drawn - drawn.min()) / (drawn.max() - drawn.min())).astype(np.uint8)
    np.testing.assert_allclose(above.image.data["image"][0], expected, atol=1)
    data = above.points.data
    assert list(data["neuron"]) == NEURONS
    np.testing.assert_array_equal(np.stack([data["z"], data["y"], data["x"]], axis=1), position[4])
    assert above.chosen.data["neuron"] == ["n002"]
    assert (above.expected.data["z"], above.expected.data["y"], above.expected.data["x"]) == ([1.0], [2.0], [3.0])
    # Upper edge at the top, and 30 µm as wide as 20 µm are high.
    assert above.figure.y_range.start > above.figure.y_range.end
    assert above.figure.frame_width / above.figure.frame_height == pytest.approx(1.5, rel=0.02)
    # From the side: neurons within 3 µm along y of n002, at 7 µm.
    assert list(page.pictures.aside.points.data["neuron"]) == ["AVAL", "n002", "n003"]
    assert [tile.figure.title.text for tile in page.pictures.tiles] == ["frame 3", "now, frame 4", "frame 5"]


def test_pixels_are_sent_once(model, page):
    image = page.pictures.above.image.data
    model.move(1.0, 2.0, 3.0)
    assert page.pictures.above.image.data is image
    model.goto(0)
    assert page.pictures.above.image.data is not image


def test_frames_at_the_ends_and_lost_neurons_are_said(model, page):
    model.goto(0)
    assert [tile.figure.visible for tile in page.pictures.tiles] == [False, True, True]
    model.select("n005").goto(2)
    titles = [tile.figure.title.text for tile in page.pictures.tiles]
    assert titles == ["frame 1", "now, frame 2: nowhere", "frame 3"]
    model.delete(t_index=1, t_end=3)
    assert [tile.figure.visible for tile in page.pictures.tiles] == [False, False, False]


def test_one_plane_shows_the_neurons_near_it(model, page, counts):
    page.maximum.value = False
    page.plane.param.trigger("value")
    page.pictures.plane = 0
    page.renew("view")
    assert list(page.pictures.above.points.data["neuron"]) == [
        "AVAL",
        "n002",
        "n003",
    ]  # z 1, 2, 3 of 1.5 planes of 2 µm


def test_colours_say_suspicion_or_provenance(model, page):
    suspicion = xr.DataArray(np.zeros((SHAPE[0], 5), np.float32), dims=("t", "neuron"), coords={"neuron": NEURONS})
    suspicion[4] = [0.0, 1.0, 0.5, np.nan, 1.0]
    model.suspicion = suspicion
    model.confirm(neuron="n005", t_index=4)
    colours = page.pictures.above.points.data["colour"]
    assert colours == [
        SUSPICION_COLOURS[0],
        SUSPICION_COLOURS[100],
        SUSPICION_COLOURS[50],
        suspicion_colour(np.nan),
        SUSPICION_COLOURS[0],
    ]
    page.colouring.value = "provenance"
    assert page.pictures.above.points.data["colour"] == [PROVENANCE_COLOURS["auto"]] * 4 + [
        PROVENANCE_COLOURS["anchor"]
    ]
    assert page.pictures.above.points.data["marker"] == ["circle"] * 4 + ["square"]


def test_the_widgets_say_what_the_curation_says(model, page):
    assert page.title.object == "frame 4 of 6, t = 2 s · n002"
    assert page.other.value == "n004"  # what the queue suggests to exchange it with
    assert page.done.object == "Look at first: 0 of 3 done"
    model.name("RID")
    model.accept()
    assert page.done.object == "Look at first: 1 of 3 done"
    assert page.title.object.endswith("RID (n002)")
    assert page.neuron.options["RID (n002)"] == "n002"
    assert next(iter(page.queue.options)) == "✓ 1. frame 4 · RID (n002) 0.90 · jump"
    assert page.written.object == "Edits: 2"
    model.next_item()
    assert (page.frame.value, page.neuron.value, page.queue.value) == (1, "n004", 1)
    model.goto(5)
    assert page.queue.value == 1


def test_names_are_text_and_not_html(model, page):
    model.name("<script>")
    assert "&lt;script&gt;" in page.title.object


# What a hand says


def test_a_drag_from_above_takes_the_brightest_depth(model, page):
    hear(page.pictures.above, neuron="n003", t_index=5, x=20.0, vertical=10.0)
    row = rows(model).iloc[0]
    assert row[["op", "neuron", "t_start"]].tolist() == ["move", "n003", 5]
    # Counts grow with z: the last plane is the brightest.
    assert row[["z", "y", "x"]].tolist() == [6.0, 10.0, 20.0]
    assert model.neuron == "n003"
    assert "moved n003 in frame 5: written" in page.status.object


def test_a_nudge_keeps_the_depth(model, page, position):
    z, y, x = position[4, 2]
    hear(page.pictures.above, neuron="n003", x=x + 2.0, vertical=y + 2.0)  # 2.8 µm
    hear(page.pictures.above, neuron="n004", x=position[4, 3, 2] + 2.2, vertical=position[4, 3, 1] + 2.2)  # 3.1 µm
    assert rows(model)["z"].tolist() == [z, 6.0]


def test_a_drag_keeps_the_depth_where_asked_and_takes_that_of_a_single_plane(model, page):
    page.keep.value = True
    hear(page.pictures.above, neuron="n003", x=20.0, vertical=10.0)
    page.keep.value = False
    page.maximum.value = False
    page.pictures.plane = 1
    hear(page.pictures.above, neuron="n003", x=21.0, vertical=10.0)
    assert rows(model)["z"].tolist() == [3.0, 2.0]


def test_a_drag_from_the_side_keeps_y(model, page, position):
    hear(page.pictures.aside, neuron="n004", t_index=2, x=20.0, vertical=1.5)
    row = rows(model).iloc[0]  # of the frame that was seen, though the curation is at another
    assert row[["t_start", "z", "y", "x"]].tolist() == [2, 1.5, position[2, 3, 1], 20.0]
    hear(page.pictures.aside, what="place", neuron="", t_index=2)
    assert len(rows(model)) == 2
    model.select("n005")
    hear(page.pictures.aside, what="place", neuron="", t_index=2)
    assert len(rows(model)) == 2
    assert "n005 is nowhere in frame 2: place it in the picture from above first" in page.status.object


def test_taps_select_and_shift_taps_place(model, page):
    hear(page.pictures.above, what="tap", neuron="AVAL")
    assert model.neuron == "AVAL"
    hear(page.pictures.aside, what="tap", neuron="n005")
    hear(page.pictures.above, what="tap", neuron="")
    assert model.neuron == "n005"
    assert not model.edits.path.exists()
    hear(page.pictures.above, what="place", neuron="AVAL", t_index=2, x=9.0, vertical=8.0)
    assert rows(model).iloc[0][["op", "neuron", "t_start", "x"]].tolist() == ["add", "n005", 2, 9.0]
    page.new.value = True
    hear(page.pictures.above, what="place", neuron="", t_index=2, x=10.0, vertical=8.0)
    assert rows(model).iloc[1][["op", "neuron", "t_start", "x"]].tolist() == ["add", "n001", 2, 10.0]
    assert (page.new.value, model.neuron) == (False, "n001")


def test_what_was_said_while_the_kernel_was_busy_is_not_lost(model, page):
    """Changes of a property that arrive together are merged into the last: it has to hold all of them."""
    said = page.pictures.above.said
    names = ("what", "neuron", "t_index", "x", "vertical")
    three = [("move", "n003", 1, 5.0, 5.0), ("move", "n004", 2, 6.0, 6.0), ("tap", "AVAL", 2, 6.0, 6.0)]
    said.data = {"serial": [1, 2, 3]} | dict(zip(names, map(list, zip(*three, strict=True)), strict=True))
    assert rows(model)[["neuron", "t_start"]].values.tolist() == [["n003", 1], ["n004", 2]]
    assert model.neuron == "AVAL"
    said.data = dict(said.data)
    assert len(rows(model)) == 2


def test_a_refused_drag_is_said_and_drawn_back(model, page):
    before = page.pictures.above.points.data
    hear(page.pictures.above, neuron="n003", x=99.0)
    assert "expected x inside the recording" in page.status.object
    after = page.pictures.above.points.data
    np.testing.assert_array_equal(after["x"], before["x"])
    assert after["time"][0] != before["time"][0]  # else bokeh would send nothing
    assert not model.edits.path.exists()


def test_the_scripts_name_what_they_are_given(page):
    scripts = page.pictures.above.figure.select({"type": CustomJS})
    assert {tuple(sorted(script.args)) for script in scripts} == {("points", "reach", "said", "shown", "vertical")}
    assert len(list(scripts)) == 8


BUTTONS = {
    "swap": {"op": "swap", "neuron": "n002", "other": "n004", "t_start": 4},
    "delete": {"op": "delete", "neuron": "n002", "t_start": 4, "t_end": 4},
    "reject": {"op": "reject", "neuron": "n002"},
    "right_here": {"op": "confirm", "neuron": "n002", "t_start": 4, "t_end": 4},
    "right_frame": {"op": "confirm", "neuron": "", "t_start": 4, "t_end": 4},
    "right_neuron": {"op": "confirm", "neuron": "n002"},
}


def test_a_button_is_a_row(model, page):
    for count, (name, expected) in enumerate(BUTTONS.items()):
        model.select("n002")
        getattr(page, name).clicks += 1
        row = rows(model).iloc[-1]
        assert row[list(expected)].to_dict() == expected
        assert ("t_end" in expected) == pd.notna(row.t_end)
        assert "written" in page.status.object
        page.undo.clicks += 1
        assert rows(model).iloc[-1][["op", "target"]].tolist() == ["undo", row.edit_id]
        assert len(rows(model)) == 2 * count + 2


def test_a_swap_may_be_of_few_frames(model, page):
    page.span.value = THIS_FRAME
    page.swap.clicks += 1
    page.span.value = OF_THE_ITEM
    page.other.value = "n003"
    page.swap.clicks += 1
    edits = rows(model)
    assert edits[["other", "t_start", "t_end"]].values.tolist() == [["n004", 4, 4], ["n003", 3, 5]]


def test_names_remarks_and_the_chosen_edit(model, page):
    page.name.value = "RID"
    page.rename.clicks += 1
    page.note.value = "faint"
    page.remark.clicks += 1
    page.rename.clicks += 1
    assert "expected a name, got an empty one" in page.status.object
    assert rows(model)[["op", "name", "note"]].values.tolist() == [["name", "RID", ""], ["comment", "", "faint"]]
    page.undo_chosen.clicks += 1
    assert "choose an edit in the list first" in page.status.object
    page.log.value = list(page.log.options.values())[1]
    page.undo_chosen.clicks += 1
    assert model.label("n002") == "n002"


def test_widgets_lead_the_curation(model, page):
    page.next.clicks += 1
    assert (model.item, model.t_index) == (1, 1)
    page.previous.clicks += 1
    page.queue.value = 2
    assert (model.item, model.t_index, model.neuron) == (2, 6, "n002")
    page.neuron.value = "n005"
    assert model.neuron == "n005"
    with param.edit_constant(page.frame):  # what the browser does when a slider is let go
        page.frame.param.update(value=3, value_throttled=3)
    assert model.t_index == 3


def test_contrast_stays_until_it_is_renewed(model, page):
    first = page.pictures._limits
    model.goto(0)
    assert page.pictures._limits == first
    page.contrast.clicks += 1
    assert page.pictures._limits == (float(3 * 4800), float(4 * 4800 - 1))  # the last plane of the first frame


def test_keys_act_once(model, page):
    page.page.pressed = [[1, "n"]]
    assert model.t_index == 1
    page.page.pressed = [[1, "n"], [2, "ArrowRight"], [3, "c"]]
    assert model.t_index == 2
    assert rows(model)[["op", "neuron", "t_start"]].values.tolist() == [["confirm", "n004", 2]]
    page.page.pressed = [*page.page.pressed, [4, "u"], [5, "ArrowLeft"], [6, "ArrowLeft"], [7, "ArrowLeft"]]
    assert model.t_index == 0
    assert len(model.active) == 0


def test_the_page_answers_every_ping():
    page = Page({})
    page.ping = 17
    assert page.pong == 17


def test_tracking_anew_runs_beside(model, page, monkeypatch):
    assert not page.track_again.visible  # without detections
    seen = []

    def slowly():
        seen.append((page.track_again.disabled, page.busy.value))
        return model.tracks.isel(neuron=slice(3))

    monkeypatch.setattr(model, "retracked", slowly)
    monkeypatch.setattr("niddl_xr.tracking.track_quality", lambda tracks, detections: QUEUE.iloc[:1])
    asyncio.run(page._track_again(None))
    assert seen == [(True, True)]
    assert (page.track_again.disabled, page.busy.value) == (False, False)
    assert model.neurons == NEURONS[:3]
    assert "tracked anew" in page.status.object


def test_tracking_anew_may_be_refused(model, page):
    asyncio.run(page._track_again(None))
    assert "expected detections to track anew" in page.status.object
    assert not page.track_again.disabled


def test_a_plane_movie_and_a_single_frame_are_drawn(tmp_path):
    flat = make_recording(np.ones((1, 1, 40, 120), np.uint16), voxel_um=VOXEL_UM, dt_s=0.5)
    tracks = tracks_of(flat, np.array([[[0.0, 5.0, 6.0]]]), ["AVAL"])
    queue = pd.DataFrame({"t_index": [0], "neuron": ["AVAL"]})
    model = curate(flat, tracks, tmp_path, queue=queue, author="hand")
    page = _Curator(model, percentiles=(1.0, 99.0), palette="grey", edge_px=300)
    assert not page.pictures.aside.figure.visible
    assert page.other.options == {}
    hear(page.pictures.above, neuron="AVAL", t_index=0, x=7.0, vertical=8.0)
    np.testing.assert_array_equal(model.position_um(), [0.0, 8.0, 7.0])


def test_frames_of_nan_and_no_neuron_are_drawn(recording, position, tmp_path):
    empty = recording.copy(data=np.full(SHAPE, np.nan, np.float32))
    model = curate(empty, tracks_of(recording, position), tmp_path, queue=QUEUE, author="hand")
    page = _Curator(model, percentiles=(1.0, 99.0), palette="grey", edge_px=300)
    assert not page.pictures.above.image.data["image"][0].any()
    hear(page.pictures.above, neuron="n003", t_index=4, x=7.0, vertical=8.0)
    np.testing.assert_array_equal(model.position_um("n003", 4), [3.0, 8.0, 7.0])  # nothing is brightest: the old depth
    for name in NEURONS:
        model.select(name).reject()
    assert points_of(model, 4, colouring="suspicion")["neuron"] == []
    assert page.neuron.options == {}


def test_the_front_end_is_shown_by_the_curation(recording, position, tmp_path):
    tracks = tracks_of(recording, position)
    options = {"queue": QUEUE, "author": "hand"}
    assert isinstance(curate(recording, tracks, tmp_path, **options, edge_px=200).view(), pn.Column)
    shown = curate(recording, tracks, tmp_path, **options, backend="table").view()
    assert len(shown.select(pn.widgets.Tabulator)) == 1
    assert curate(recording, tracks, tmp_path, **options)._repr_mimebundle_()
    with pytest.raises(NiddlError, match="no palette 'jet'"):
        curate(recording, tracks, tmp_path, **options, palette="jet").view()
    with pytest.raises(NiddlError, match="expected percentiles"):
        curate(recording, tracks, tmp_path, **options, percentiles=(9, 1)).view()


# The table


def test_the_table_reads_no_pixel_and_follows_the_queue(model, read):
    table = _Table(model)
    assert table.rows.value["neuron"].tolist() == ["n002", "n004", "n002"]
    assert table.rows.selection == [0]
    table.rows.selection = [1]
    assert (model.t_index, model.neuron) == (1, "n004")
    assert [table.place[dim].value for dim in "zyx"] == [4.0, 13.0, 21.0]
    assert read == []


def test_the_buttons_of_the_table_are_rows(model):
    table = _Table(model)
    assert table.other.value == "n004"
    table.right.clicks += 1
    table.swap.clicks += 1
    table.delete.clicks += 1
    table.place["y"].value = 2.5
    for dim, value in {"z": 1.0, "y": 2.5, "x": 3.0}.items():
        table.place[dim].value = value
    table.move.clicks += 1
    table.name.value = "RID"
    table.rename.clicks += 1
    table.reject.clicks += 1
    edits = rows(model)
    assert edits["op"].tolist() == ["confirm", "swap", "delete", "add", "name", "reject"]
    assert edits[["t_start", "t_end"]].values[[0, 2, 3]].tolist() == [[3, 5], [3, 5], [4, 4]]
    assert edits.iloc[3][["z", "y", "x"]].tolist() == [1.0, 2.5, 3.0]
    assert table.rows.value["state"].tolist() == ["confirmed", "", "corrected"]
    table.log.value = next(iter(table.log.options.values()))
    table.undo.clicks += 1
    assert rows(model)["op"].tolist()[-1] == "undo"


def test_the_table_says_what_is_refused(model):
    table = _Table(model)
    table.place["y"].value = None
    table.move.clicks += 1
    assert "expected z, y and x in µm, got an empty field" in table.status.object
    assert not model.edits.path.exists()
