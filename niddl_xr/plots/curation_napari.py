"""The napari front end of curate: points in napari's viewer, whose changes become edits (extra ``napari``).

napari is a front end and no more: what its layer holds is never read later. Every change of the points is compared with
what was drawn, half a second after the hand comes to rest, and written to the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from niddl_xr.neurons import PROVENANCE
from niddl_xr.plots._curation_frames import upright
from niddl_xr.schema import SPACE_DIMS, NiddlError

if TYPE_CHECKING:
    from niddl_xr.curation import Curation

DEBOUNCE_S = 0.5
STILL_UM = 1e-3  # less is the rounding of numbers that were handed to and fro
COLUMNS = ("t_index", *SPACE_DIMS)
Later = Callable[[Callable[[], None], float], None]


def napari_viewer(model: Curation) -> Any:
    """Open napari with the recording and a layer of points, and write every change of a point to the log.

    Parameters
    ----------
    model
        The curation, of :func:`niddl_xr.curate`.

    Returns
    -------
    napari.Viewer
        Axes are the number of the frame and z, y, x in µm; frames are read when they are looked at. A point that is
        added belongs to the neuron that is selected in the panel on the right, as do the buttons.

    Raises
    ------
    NiddlError
        Where napari is not installed.
    """
    try:
        import napari
        from magicgui import widgets
        from qtpy.QtCore import QTimer
    except ImportError as error:
        raise NiddlError('backend="napari" needs napari: pip install "niddl-xr[napari]"') from error
    recording = upright(model.recording)
    viewer = napari.Viewer(title="niddl_xr: curate")
    steps = [float(recording[dim][1] - recording[dim][0]) if recording.sizes[dim] > 1 else 1.0 for dim in SPACE_DIMS]
    origin = [float(recording[dim][0]) for dim in SPACE_DIMS]
    viewer.add_image(recording.data, name="recording", scale=(1.0, *steps), translate=(0.0, *origin))
    layer = viewer.add_points(
        np.empty((0, 4)), ndim=4, name="neurons", size=3.0, face_color="transparent", out_of_slice_display=False
    )
    points = PointsOfLayer(model, layer, lambda action, wait_s: QTimer.singleShot(round(1000 * wait_s), action))

    def look(what: str) -> None:
        viewer.dims.set_point(0, model.t_index)

    model.subscribe(look)
    viewer.window.add_dock_widget(_buttons(model, points, widgets), name="corrections", area="right")
    look("frame")
    return viewer


class PointsOfLayer:
    """A points layer kept like the tracks, and the tracks like the layer.

    ``later(action, wait_s)`` calls an action after a while; the viewer gives Qt's timer.
    """

    def __init__(self, model: Curation, layer: Any, later: Later) -> None:
        self.model = model
        self.layer = layer
        self._later = later
        self._changes = 0
        self._drawing = False
        self._drawn = self.draw()
        self._end = model.subscribe(lambda what: self._follow(what))
        layer.events.data.connect(self._changed)

    def draw(self) -> pd.DataFrame:
        """Put the points of the tracks into the layer, and return them."""
        self._drawn = points_of_tracks(self.model)
        self._drawing = True
        self.layer.data = self._drawn[list(COLUMNS)].to_numpy(float)
        self.layer.features = self._drawn[["row", "neuron", "confidence", "provenance"]]
        self._drawing = False
        self._default()
        return self._drawn

    def _default(self) -> None:
        """Let points that are added be of the selected neuron."""
        self.layer.feature_defaults = pd.DataFrame(
            {"row": [-1], "neuron": [self.model.neuron], "confidence": [1.0], "provenance": [PROVENANCE[-1]]}
        )

    def _follow(self, what: str) -> None:
        if what == "tracks" and not self._drawing:
            self.draw()
        elif what in ("neuron", "item"):
            self._default()

    def _changed(self, event: Any = None) -> None:
        """Wait until the hand rests: a drag is a hundred changes and one edit."""
        if self._drawing:
            return
        self._changes += 1
        seen = self._changes

        def rested() -> None:
            if seen != self._changes:
                return
            try:
                self.write()
            except NiddlError:
                self.draw()  # what was refused goes back; napari shows the reason
                raise

        self._later(rested, DEBOUNCE_S)

    def write(self) -> list[str]:
        """Write what has changed since the layer was drawn; returns the numbers of the edits."""
        after = pd.DataFrame(np.asarray(self.layer.data, dtype=float).reshape(-1, 4), columns=list(COLUMNS))
        features = pd.DataFrame(self.layer.features).reset_index(drop=True)
        actions: dict[str, Callable[..., str]] = {
            "move": self.model.move,
            "add": self.model.add,
            "delete": self.model.delete,
        }
        written: list[str] = []
        self._drawing = True  # the layer is drawn once, after the last of them
        try:
            edits = edits_between(self._drawn, after.assign(row=features["row"], neuron=features["neuron"]))
            if not edits:
                return written
            for edit in edits:
                written.append(actions[edit.pop("op")](**edit))
        finally:
            self._drawing = False
        self.draw()
        return written


def points_of_tracks(model: Curation) -> pd.DataFrame:
    """Return the known positions: row (a number), t_index, z, y, x [µm], neuron, confidence, provenance."""
    tracks = model.tracks
    position = tracks["position"].values
    frame, number = np.nonzero(np.isfinite(position).all(axis=-1))
    words = np.array(PROVENANCE, dtype=object)
    shape = position.shape[:2]
    confidence = tracks["confidence"].values if "confidence" in tracks else np.ones(shape)
    flags = tracks["provenance"].values if "provenance" in tracks else np.zeros(shape)
    return pd.DataFrame(
        {
            "row": np.arange(len(frame)),
            "t_index": frame,
            **dict(zip(SPACE_DIMS, position[frame, number].T.astype(float), strict=True)),
            "neuron": np.asarray(model.neurons, dtype=object)[number],
            "confidence": confidence[frame, number],
            "provenance": words[flags[frame, number].astype(int)],
        }
    )


def edits_between(before: pd.DataFrame, after: pd.DataFrame) -> list[dict[str, Any]]:
    """Say in edits what has become of points.

    Parameters
    ----------
    before
        Columns row (a number a point, unique), neuron, t_index, z, y, x [µm]; one point a neuron and frame.
    after
        The same columns, in any order of the rows. A point whose ``row`` is not among those before, or stands there a
        second time, is a new one.

    Returns
    -------
    list of dict
        Arguments of :class:`niddl_xr.curation.Curation`'s actions beside ``op``: first what is deleted, then "move"
        and "add" (z, y, x in µm), in the order of the rows. A new point of a neuron that has one in this frame moves
        that; of several new ones the last counts. A point moved to another frame is deleted where it was.

    Raises
    ------
    NiddlError
        For new points without a neuron, or at no number.
    """
    old = {int(point.row): point for point in before.itertuples()}
    kept: set[int] = set()
    placed: dict[tuple[str, int], tuple[bool, dict[str, float]]] = {}
    for point in after.itertuples():
        place = {"z": float(point.z), "y": float(point.y), "x": float(point.x)}
        if not np.isfinite([point.t_index, *place.values()]).all():
            raise NiddlError("expected points at numbers, got NaN")
        t = round(float(point.t_index))
        row = -1 if pd.isna(point.row) else int(point.row)
        known = old.get(row) if row not in kept else None
        if known is not None and t == known.t_index:
            kept.add(row)
            moved = any(abs(place[dim] - getattr(known, dim)) > STILL_UM for dim in SPACE_DIMS)
            if moved and (known.neuron, t) not in placed:
                placed[known.neuron, t] = False, place
            continue
        neuron = known.neuron if known is not None else point.neuron
        if not isinstance(neuron, str) or not neuron:
            raise NiddlError("expected a neuron with every new point; select the neuron first, then add the point")
        placed[neuron, t] = True, place
    standing = {(point.neuron, int(point.t_index)) for row, point in old.items()}
    gone = [(point.neuron, int(point.t_index)) for row, point in old.items() if row not in kept]
    edits: list[dict[str, Any]] = [
        {"op": "delete", "neuron": neuron, "t_index": t} for neuron, t in gone if (neuron, t) not in placed
    ]
    for (neuron, t), (_, place) in placed.items():
        edits.append({"op": "move" if (neuron, t) in standing else "add", "neuron": neuron, "t_index": t, **place})
    return edits


def _buttons(model: Curation, points: PointsOfLayer, widgets: Any) -> Any:
    """Return magicgui's container of what a mouse on points cannot say."""
    neuron = widgets.ComboBox(label="neuron", choices=model.neurons, value=model.neuron)
    other = widgets.ComboBox(label="swap with", choices=model.neurons)
    name = widgets.LineEdit(label="name")
    neuron.changed.connect(lambda value: model.select(value) if value and value != model.neuron else None)
    actions: dict[str, Callable[[], Any]] = {
        "next in the queue": model.next_item,
        "previous in the queue": model.previous_item,
        "right in this frame": lambda: model.confirm(neuron=model.neuron, t_index=model.t_index),
        "frame is right": lambda: model.confirm(t_index=model.t_index),
        "swap from this frame on": lambda: model.swap(other.value),
        "reject neuron": model.reject,
        "name it": lambda: model.name(name.value),
        "undo the last": model.undo,
    }
    buttons = []
    for text, action in actions.items():
        button = widgets.PushButton(text=text)
        button.changed.connect(lambda *_, action=action: (points.write(), action()))
        buttons.append(button)

    def renew(what: str) -> None:
        neuron.choices = other.choices = model.neurons
        neuron.value = model.neuron

    model.subscribe(renew)
    return widgets.Container(widgets=[neuron, *buttons[:5], other, *buttons[5:7], name, buttons[7]])
