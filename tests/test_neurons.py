"""The contract of detections, tracks and traces: what passes, what is refused, and with which words."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.schema import NiddlError


@pytest.fixture
def table() -> pd.DataFrame:
    """Five points in frames 0, 2 and 3, out of order."""
    return pd.DataFrame(
        {
            "t_index": [3, 0, 2, 0, 3],
            "t": [1.5, 0.0, 1.0, 0.0, 1.5],
            "z": [1.0, 2.0, 3.0, 4.0, 5.0],
            "y": [10.0, 20.0, 30.0, 40.0, 50.0],
            "x": [100.0, 200.0, 300.0, 400.0, 500.0],
            "intensity": [7.0, 8.0, 9.0, 10.0, 11.0],
        }
    )


def tracks_of(frames: int = 4, count: int = 2) -> xr.Dataset:
    shape = (frames, count)
    return neurons.make_tracks(
        np.arange(frames * count * 3, dtype=float).reshape(*shape, 3),
        np.ones(shape, bool),
        confidence=np.ones(shape),
        provenance=np.zeros(shape),
        det_id=np.zeros(shape),
        t=("t", np.arange(frames) / 2, {"units": "s"}),
        neurons=neurons.neuron_names(count),
    )


def test_frames_hold_their_own_points_and_rows(table):
    frames = neurons.frames_of(table)
    assert len(frames) == 4
    assert [len(points) for points in frames.points] == [2, 0, 1, 2]
    np.testing.assert_array_equal(frames.rows[0], [1, 3])
    np.testing.assert_array_equal(frames.points[3], [[1, 10, 100], [5, 50, 500]])
    np.testing.assert_array_equal(frames.intensity[2], [9])
    assert frames.points[1].shape == (0, 3)


def test_frames_without_points_at_the_end_are_known_from_the_attributes(table):
    table.attrs |= {"frames": 6, "t_s": [0, 0.5, 1, 1.5, 2, 2.5]}
    assert [len(points) for points in neurons.frames_of(table).points] == [2, 0, 1, 2, 0, 0]
    dim, times, attrs = neurons.frame_coordinate(table)
    assert (dim, attrs) == ("t", {"units": "s"})
    np.testing.assert_array_equal(times, [0, 0.5, 1, 1.5, 2, 2.5])


def test_times_come_from_the_rows_only_where_every_frame_has_one(table):
    assert neurons.frame_coordinate(table)[2] == {"units": "frame"}
    full = pd.concat([table, table.assign(t_index=1, t=0.5).iloc[:1]])
    np.testing.assert_array_equal(neurons.frame_coordinate(full)[1], [0, 0.5, 1, 1.5])


def test_no_points_at_all_are_a_table(table):
    none = neurons.require_detections(table.iloc[:0])
    assert len(neurons.frames_of(none)) == 0
    none.attrs["frames"] = 3
    assert [len(points) for points in neurons.frames_of(none).points] == [0, 0, 0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda table: table.to_numpy(), "expected detections, a pandas table .* got ndarray; see niddl_xr.detect"),
        (lambda table: table.drop(columns="z"), r"rename or add \['z'\]"),
        (lambda table: table.assign(y=["a"] * 5), "expected numbers in the column y"),
        (lambda table: table.assign(x=[1, np.nan, 2, np.inf, 3]), r"column x, got 2 that are NaN or infinite; drop"),
        (lambda table: table.assign(t_index=table["t"]), "t_index, the number of the frame, as whole numbers from 0"),
        (lambda table: table.assign(t_index=-1), "whole numbers from 0"),
        (lambda table: pd.concat([table, table.iloc[2:4]]), "got 2 rows that repeat .* drop_duplicates"),
    ],
)
def test_what_is_amiss_with_detections_is_said(table, spoil, words):
    with pytest.raises(NiddlError, match=words):
        neurons.require_detections(spoil(table))


def test_frames_beyond_the_recording_are_refused(table):
    table.attrs["frames"] = 3
    with pytest.raises(NiddlError, match="expected t_index below 3, the frames in attrs, got 3"):
        neurons.require_detections(table)


def test_one_recording_has_one_identity_and_another_has_another(recording):
    same = (recording.astype("float32") * 2).assign_attrs(source="denoised")
    assert neurons.recording_id(same) == neurons.recording_id(recording)
    assert neurons.recording_id(recording.isel(t=slice(4))) != neurons.recording_id(recording)
    shifted = recording.assign_coords(y=recording.y + 0.1)
    assert neurons.recording_id(shifted) != neurons.recording_id(recording)


def test_versions_of_tracks_differ_where_a_point_differs():
    tracks = tracks_of()
    moved = tracks.copy(deep=True)
    moved["position"][2, 1, 0] += 1
    assert neurons.version_id(tracks.copy(deep=True)) == tracks.attrs["version_id"]
    assert neurons.version_id(tracks.transpose("neuron", "space", "t")) == tracks.attrs["version_id"]
    assert neurons.version_id(moved) != tracks.attrs["version_id"]


def test_tracks_come_in_one_order():
    turned = tracks_of().transpose("space", "neuron", "t").isel(space=[2, 0, 1])
    ordered = neurons.require_tracks(turned)
    assert ordered["position"].dims == ("t", "neuron", "space")
    xr.testing.assert_equal(ordered, tracks_of())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tracks: tracks["position"], "expected tracks, a Dataset .* got DataArray; see niddl_xr.track"),
        (lambda tracks: tracks.rename(position="place"), "got .*'place'"),
        (lambda tracks: tracks.isel(neuron=0), r"expected position with dims \('t', 'neuron', 'space'\)"),
        (lambda tracks: tracks.assign_coords(space=["x", "y", "w"]), "coordinate space to name the axes"),
        (lambda tracks: tracks.drop_vars("space"), "no coordinate"),
        (lambda tracks: tracks.assign_coords(neuron=["a", "a"]), "names every neuron once"),
        (lambda tracks: tracks.drop_vars("observed"), "expected the variable observed"),
    ],
)
def test_what_is_amiss_with_tracks_is_said(spoil, words):
    with pytest.raises(NiddlError, match=words):
        neurons.require_tracks(spoil(tracks_of()))


def test_traces_need_their_variable_and_dims():
    traces = xr.Dataset({"F": (("neuron", "t"), np.zeros((2, 5)))})
    assert neurons.require_traces(traces)["F"].dims == ("t", "neuron")
    with pytest.raises(NiddlError, match="with the variable dff"):
        neurons.require_traces(traces, "dff")
    with pytest.raises(NiddlError, match="expected F with dims"):
        neurons.require_traces(traces.isel(t=0))


def test_simulated_tracks_keep_the_contract():
    from niddl_xr.simulation import detections, whole_brain

    worm = whole_brain(shape=(3, 20, 30), frames=4, neurons=2, min_distance_um=0.1)
    assert neurons.require_tracks(worm["tracks"].to_dataset()).sizes["neuron"] == 2
    assert len(neurons.require_detections(detections(worm)))
    assert schema.SPACE_DIMS == ("z", "y", "x")
