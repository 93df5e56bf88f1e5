"""napari's points as edits: the comparison on its own, and the layer with a stand-in for napari's."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niddl_xr.curation import Curation, curate
from niddl_xr.plots.curation_napari import DEBOUNCE_S, PointsOfLayer, edits_between, points_of_tracks
from niddl_xr.schema import NiddlError, make_recording
from niddl_xr.tracking import EditLog
from tests.test_curation import NEURONS, QUEUE, SHAPE, VOXEL_UM, tracks_of

BEFORE = pd.DataFrame(
    {
        "row": [0, 1, 2, 3],
        "t_index": [0, 0, 1, 1],
        "z": [1.0, 2.0, 1.5, 2.5],
        "y": [3.0, 4.0, 3.5, 4.5],
        "x": [5.0, 6.0, 5.5, 6.5],
        "neuron": ["AVAL", "n002", "AVAL", "n002"],
    }
)


def moved(**columns) -> pd.DataFrame:
    """BEFORE with cells changed: ``column=(row, value)``."""
    after = BEFORE.copy()
    for name, (row, value) in columns.items():
        after.loc[row, name] = value
    return after


def added(row: int, t: float, neuron: object, z: float = 7.0) -> pd.DataFrame:
    new = {"row": row, "t_index": t, "z": z, "y": 8.0, "x": 9.0, "neuron": neuron}
    return pd.concat([BEFORE, pd.DataFrame([new])], ignore_index=True)


def test_nothing_changed_is_no_edit():
    assert edits_between(BEFORE, BEFORE) == []
    assert edits_between(BEFORE, BEFORE.iloc[::-1]) == []
    assert edits_between(BEFORE, BEFORE.assign(x=BEFORE["x"] + 1e-4)) == []  # float32 of a layer
    assert edits_between(BEFORE.iloc[:0], BEFORE.iloc[:0]) == []


def test_a_moved_point_is_a_move_of_its_neuron_in_its_frame():
    edits = edits_between(BEFORE, moved(y=(2, 30.0)))
    assert edits == [{"op": "move", "neuron": "AVAL", "t_index": 1, "z": 1.5, "y": 30.0, "x": 5.5}]


def test_a_removed_point_is_a_deletion():
    assert edits_between(BEFORE, BEFORE.drop(index=1)) == [{"op": "delete", "neuron": "n002", "t_index": 0}]
    assert len(edits_between(BEFORE, BEFORE.iloc[:0])) == 4


def test_an_added_point_is_of_the_selected_neuron():
    place = {"z": 7.0, "y": 8.0, "x": 9.0}
    assert edits_between(BEFORE, added(-1, 3.0, "n002")) == [{"op": "add", "neuron": "n002", "t_index": 3, **place}]
    # A second point of a neuron in one frame is where it is now.
    assert edits_between(BEFORE, added(-1, 1.0, "n002")) == [{"op": "move", "neuron": "n002", "t_index": 1, **place}]
    # napari copies the features of another point.
    assert edits_between(BEFORE, added(3, 1.0, "n002")) == [{"op": "move", "neuron": "n002", "t_index": 1, **place}]
    (edit,) = edits_between(BEFORE, added(3, 1.0, "AVAL"))
    assert (edit["op"], edit["neuron"]) == ("move", "AVAL")
    assert edits_between(BEFORE, added(np.nan, 0.4, "n009")) == [{"op": "add", "neuron": "n009", "t_index": 0, **place}]


def test_of_several_new_points_the_last_counts():
    after = pd.concat([added(-1, 3.0, "n002", z=1.0), added(-1, 3.0, "n002", z=2.0).tail(1)])
    (edit,) = edits_between(BEFORE, after)
    assert (edit["op"], edit["z"]) == ("add", 2.0)


def test_a_new_point_wins_over_a_dragged_one():
    after = added(-1, 0.0, "AVAL")
    after.loc[0, "x"] = 40.0
    (edit,) = edits_between(BEFORE, after)
    assert (edit["op"], edit["neuron"], edit["x"]) == ("move", "AVAL", 9.0)
    (edit,) = edits_between(BEFORE, after.iloc[::-1])
    assert (edit["op"], edit["neuron"], edit["x"]) == ("move", "AVAL", 9.0)


def test_a_point_taken_to_another_frame_leaves_its_own():
    edits = edits_between(BEFORE, moved(t_index=(0, 4)))
    assert edits == [
        {"op": "delete", "neuron": "AVAL", "t_index": 0},
        {"op": "add", "neuron": "AVAL", "t_index": 4, "z": 1.0, "y": 3.0, "x": 5.0},
    ]


def test_removed_and_added_again_is_a_move():
    edits = edits_between(BEFORE, added(-1, 0.0, "AVAL").drop(index=0))
    assert edits == [{"op": "move", "neuron": "AVAL", "t_index": 0, "z": 7.0, "y": 8.0, "x": 9.0}]


@pytest.mark.parametrize("neuron", [np.nan, "", None])
def test_a_point_of_nobody_is_refused(neuron):
    with pytest.raises(NiddlError, match="expected a neuron with every new point; select the neuron first"):
        edits_between(BEFORE, added(-1, 0.0, neuron))


def test_a_point_at_no_number_is_refused():
    with pytest.raises(NiddlError, match="expected points at numbers, got NaN"):
        edits_between(BEFORE, moved(y=(2, np.nan)))


PLACES = list(itertools.product(range(4), ["a", "b", "c"]))
CLOUDS = st.dictionaries(st.sampled_from(PLACES), st.tuples(*[st.integers(0, 9)] * 3), max_size=12)


@settings(max_examples=100, deadline=None)
@given(before=CLOUDS, after=CLOUDS, order=st.randoms(use_true_random=False))
def test_the_edits_turn_the_one_into_the_other(before, after, order):
    """Whatever was dragged, added and removed: played on the points before, the edits give the points after."""
    old = pd.DataFrame(
        [
            {"row": row, "t_index": t, "neuron": name, "z": z, "y": y, "x": x}
            for row, ((t, name), (z, y, x)) in enumerate(before.items())
        ],
        columns=["row", "t_index", "neuron", "z", "y", "x"],
    )
    rows = {key: row for row, key in enumerate(before)}
    new = [
        {
            "row": rows.get((t, name), -1) if order.random() < 0.7 else -1,
            "t_index": t,
            "neuron": name,
            "z": z,
            "y": y,
            "x": x,
        }
        for (t, name), (z, y, x) in after.items()
    ]
    order.shuffle(new)
    played = dict(before)
    for edit in edits_between(old, pd.DataFrame(new, columns=list(old.columns))):
        key = edit["t_index"], edit["neuron"]
        assert (edit["op"] == "add") == (key not in played)
        if edit["op"] == "delete":
            del played[key]
        else:
            played[key] = (edit["z"], edit["y"], edit["x"])
    assert played == after


class Events:
    """napari's emitter, as far as it is used."""

    def __init__(self) -> None:
        self.listeners: list[Callable] = []

    def connect(self, listener: Callable) -> None:
        self.listeners.append(listener)


class Layer:
    """A points layer that tells of changes of its data, as napari's does; the features follow the data."""

    def __init__(self) -> None:
        self.events = type("All", (), {"data": Events()})()
        self._data = np.empty((0, 4))
        self.features = pd.DataFrame()
        self.feature_defaults = pd.DataFrame()

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, value: np.ndarray) -> None:
        self._data = np.asarray(value, dtype=np.float32)
        self.tell()

    def tell(self) -> None:
        for listener in self.events.data.listeners:
            listener(None)

    def drag(self, row: int, place: tuple[float, float, float]) -> None:
        self._data[row, 1:] = place
        self.tell()

    def add(self, point: tuple[float, float, float, float]) -> None:
        self.features = pd.concat([self.features, self.feature_defaults], ignore_index=True)
        self._data = np.vstack([self._data, point])
        self.tell()

    def remove(self, row: int) -> None:
        self.features = self.features.drop(index=row).reset_index(drop=True)
        self._data = np.delete(self._data, row, axis=0)
        self.tell()


class Clock:
    """Calls what is due when the hand has rested."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, action: Callable[[], None], wait_s: float) -> None:
        assert wait_s == DEBOUNCE_S == 0.5
        self.due.append(action)

    def rest(self) -> None:
        due, self.due = self.due, []
        for action in due:
            action()


@pytest.fixture
def model(tmp_path) -> Curation:
    recording = make_recording(np.zeros(SHAPE, np.uint16), voxel_um=VOXEL_UM, dt_s=0.5)
    place = np.linspace((1.0, 4.0, 3.0), (5.0, 16.0, 27.0), len(NEURONS))
    position = np.broadcast_to(place, (SHAPE[0], len(NEURONS), 3)).copy()
    position[2, 4] = np.nan
    return curate(
        recording, tracks_of(recording, position), tmp_path / "edits", queue=QUEUE, author="hand", backend="napari"
    )


@pytest.fixture
def layer() -> Layer:
    return Layer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def points(model, layer, clock) -> PointsOfLayer:
    return PointsOfLayer(model, layer, clock.later)


def rows(model: Curation) -> pd.DataFrame:
    return EditLog(model.edits.path, author="reader").table()


def test_the_layer_holds_all_known_points(model, points, layer, clock):
    assert layer.data.shape == (5 * 7 - 1, 4)
    np.testing.assert_allclose(layer.data[3], [0, 4.0, 13.0, 21.0])
    assert layer.features["neuron"].tolist()[:6] == [*NEURONS, "AVAL"]
    assert set(layer.features["provenance"]) == {"auto"}
    assert clock.due == []  # drawing is no change
    assert (points_of_tracks(model)["t_index"] == layer.data[:, 0]).all()


def test_a_drag_of_many_steps_is_one_edit(model, points, layer, clock):
    for x in (3.5, 4.0, 5.5):
        layer.drag(0, (1.0, 4.0, x))
    for early in clock.due[:2]:
        early()  # the hand has moved since
    assert not model.edits.path.exists()
    clock.rest()
    row = rows(model).iloc[0]
    assert len(rows(model)) == 1
    assert row[["op", "neuron", "t_start", "z", "y", "x"]].tolist() == ["move", "AVAL", 0, 1.0, 4.0, 5.5]
    assert layer.features["provenance"][0] == "manual"
    assert clock.due == []


def test_points_are_added_to_the_selected_neuron_and_removed(model, points, layer, clock):
    model.select("n005")
    layer.add((2, 1.0, 2.0, 3.0))
    clock.rest()
    assert rows(model).iloc[0][["op", "neuron", "t_start"]].tolist() == ["add", "n005", 2]
    assert len(layer.data) == 35
    layer.remove(1)
    layer.remove(1)
    clock.rest()
    assert rows(model)[["op", "neuron", "t_start"]].values.tolist()[1:] == [
        ["delete", "n002", 0],
        ["delete", "n003", 0],
    ]
    assert len(layer.data) == 33


def test_edits_made_elsewhere_are_drawn(model, points, layer, clock):
    model.select("n003").reject()
    assert "n003" not in set(layer.features["neuron"])
    model.undo()
    assert len(layer.data) == 34
    assert clock.due == []


def test_a_refused_change_is_drawn_back(model, points, layer, clock):
    layer.drag(0, (1.0, 4.0, 500.0))
    with pytest.raises(NiddlError, match="expected x inside the recording"):
        clock.rest()
    np.testing.assert_allclose(layer.data[0], [0, 1.0, 4.0, 3.0])
    assert not model.edits.path.exists()


def test_a_point_of_nobody_goes_away(model, points, layer, clock):
    layer.feature_defaults = pd.DataFrame({"row": [-1], "neuron": [""]})
    layer.add((2, 1.0, 2.0, 3.0))
    with pytest.raises(NiddlError, match="expected a neuron with every new point"):
        clock.rest()
    assert len(layer.data) == 34


@pytest.mark.skipif(importlib.util.find_spec("napari") is not None, reason="napari is installed here")
def test_without_napari_the_extra_is_named(model):
    with pytest.raises(NiddlError, match=r'needs napari: pip install "niddl-xr\[napari\]"'):
        model.view()
