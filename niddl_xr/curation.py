"""Correcting tracks by hand: what is looked at, what was said about it, and the tracks that follow from both.

:class:`Curation` draws nothing. A front end (``plots/curator.py``, ``plots/curation_table.py``,
``plots/curation_napari.py``) shows its state and calls its actions; so may a cell of a notebook. Every action is
written to the edit log before anything else happens: what is seen to be done is on the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from niddl_xr import tracking
from niddl_xr.neurons import neuron_names, require_detections, require_tracks
from niddl_xr.plots._curation_match import reach_um, require_match
from niddl_xr.plots._curation_queue import queue_states, require_queue
from niddl_xr.schema import SPACE_DIMS, NiddlError, require_recording

if TYPE_CHECKING:
    from niddl_xr.tracking import EditLog

BACKENDS = ("panel", "table", "napari")
Listener = Callable[[str], None]


def curate(
    recording: xr.DataArray,
    tracks: xr.Dataset,
    edits: EditLog | str | Path,
    *,
    backend: str = "panel",
    detections: pd.DataFrame | None = None,
    queue: Any = None,
    author: str | None = None,
    **options: Any,
) -> Curation:
    """Look at the worst frames first, and put right what is wrong: drag, swap, reject, name, confirm.

    Every change is a row of the edit log, on the disk before it is shown. Automatic tracks stay as they are;
    ``.tracks`` of what is returned are those with all active edits applied, at any moment.

    Parameters
    ----------
    recording
        Dims (t, z, y, x), in µm. A frame is loaded when it is looked at.
    tracks
        The automatic tracks of this recording: ``position`` (t, neuron, space) in µm, as :func:`track` gives them.
    edits
        An :class:`EditLog`, or the path of one, which is made where there is none. An old log goes on: what it holds
        is applied.
    backend
        "panel": pictures, in JupyterLab or as a page of its own. "table": the queue as a table with buttons, where
        pictures do not work. "napari": points in napari's viewer (extra ``napari``).
    detections
        Points of all frames, as :func:`detect` gives them; needed to track anew from the corrections.
    queue
        What to look at: what :func:`track_quality` gave, or a table with the columns t_index and neuron, and where
        known t_start, t_end, suspicion (0 to 1) and reason, the first row first. None measures the quality of the
        tracks.
    author
        Who makes the edits; for a path only. None is the name of the user of this computer.
    **options
        Of the front end; for "panel" ``percentiles``, ``palette`` and ``edge_px``, as in :func:`plot_frame`.

    Returns
    -------
    Curation
        As the last line of a notebook cell it shows itself; ``.servable()`` puts it into a page of ``panel serve``.

    Raises
    ------
    NiddlError
        Before anything is shown: for an unknown front end, a recording without µm, tracks of other frames or outside
        of the recording, tracks without neurons, an edit log of another recording, a queue of other tracks.

    Examples
    --------
    >>> import tempfile
    >>> from niddl_xr.simulation import detections, whole_brain
    >>> worm = whole_brain(shape=(8, 60, 90), frames=12, neurons=10)
    >>> found = detections(worm)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curation = curate(worm["recording"]["F"], tracking.track(found), folder + "/edits", detections=found)
    ...     edit = curation.select("n003").goto(7).move(z=2.0, y=9.5, x=14.0)
    ...     float(curation.tracks["position"].sel(neuron="n003", space="y")[7])
    9.5
    """
    if backend not in BACKENDS:
        raise NiddlError(f"expected backend as one of {', '.join(BACKENDS)}, got {backend!r}")
    if isinstance(edits, str | Path):
        require_match(require_recording(recording), require_tracks(tracks))  # nothing is made for what does not fit
        edits = tracking.EditLog(edits, author=author)
    elif author is not None:
        raise NiddlError("expected author with the path of a log; an EditLog has its author already")
    curation = Curation(recording, tracks, edits, detections=detections, queue=queue)
    return curation._shown_by(backend, options)


class Curation:
    """What is looked at (frame, neuron, place in the queue), the edit log, and the tracks that follow from it.

    Actions return the number of the edit; what they do not name is the present frame and the selected neuron. Looking
    around returns the curation itself, so that calls can be chained. Made by :func:`curate`.
    """

    def __init__(
        self,
        recording: xr.DataArray,
        tracks: xr.Dataset,
        edits: EditLog,
        *,
        detections: pd.DataFrame | None = None,
        queue: Any = None,
    ) -> None:
        self.recording = require_recording(recording)
        self.edits = edits
        self.detections = None if detections is None else require_detections(detections)
        self._automatic = require_match(self.recording, require_tracks(tracks))
        self._listeners: list[Listener] = []
        self._apply()
        self.suspicion: xr.DataArray | None = None
        self._items = self._measured() if queue is None else self._given(queue)
        self.item: int | None = None
        self.t_index = 0
        self.neuron = self.neurons[0] if self.neurons else ""
        self._backend = "panel"
        self._options: Mapping[str, Any] = {}
        if len(self._items):
            self.go_to_item(0)

    # What there is

    @property
    def tracks(self) -> xr.Dataset:
        """The tracks with all active edits applied, dims t, neuron, space; positions in µm."""
        return self._tracks

    @property
    def neurons(self) -> list[str]:
        """The neurons of the tracks as they are now."""
        return list(self._number)

    @property
    def queue(self) -> pd.DataFrame:
        """What to look at, worst first, with the column ``state``: "", "corrected" or "confirmed"."""
        return self._items.assign(state=queue_states(self._items, self.active))

    def position_um(self, neuron: str | None = None, t_index: int | None = None) -> np.ndarray:
        """Return z, y, x in µm of a neuron in a frame, NaN where it is not known to be anywhere."""
        frame = self.t_index if t_index is None else t_index
        number = self._number.get(self.neuron if neuron is None else neuron)
        return np.full(3, np.nan) if number is None else self._position[frame, number].astype(float)

    def neighbours(self) -> list[str]:
        """Return the other neurons, those nearest to the selected one in this frame first; lost ones come last."""
        apart = np.linalg.norm(self._position[self.t_index] - self.position_um(), axis=-1)
        order = np.argsort(np.where(np.isfinite(apart), apart, np.inf), kind="stable")
        names = self.neurons
        return [names[number] for number in order if names[number] != self.neuron]

    def suggested(self) -> list[str]:
        """Return the neurons to swap with: the one that the row of the queue suggests, then the neighbours."""
        near = self.neighbours()
        row = None if self.item is None else self._items.iloc[self.item]
        if row is not None and str(row["neuron"]) == self.neuron and str(row.get("exchange_with", "")) in near:
            near.remove(str(row["exchange_with"]))
            near.insert(0, str(row["exchange_with"]))
        return near

    def expected_um(self) -> np.ndarray | None:
        """Return z, y, x in µm where the present row of the queue expects its neuron in its frame; None elsewhere."""
        row = None if self.item is None else self._items.iloc[self.item]
        columns = [f"expected_{dim}" for dim in SPACE_DIMS]
        if row is None or not set(columns) <= set(row.index):
            return None
        if (str(row["neuron"]), int(row["t_index"])) != (self.neuron, self.t_index):
            return None
        place = row[columns].to_numpy(float)
        return place if np.isfinite(place).all() else None

    def reason(self) -> str:
        """Return why the present row of the queue is there, as long as its frames and its neuron are looked at."""
        start, end = self.item_frames()
        row = None if self.item is None else self._items.iloc[self.item]
        if row is None or not start <= self.t_index <= end or str(row["neuron"]) not in ("", self.neuron):
            return ""
        frames = f"frame {start}" if start == end else f"frames {start} to {end}"
        return f"{frames}: {row['reason']}" if row["reason"] else frames

    def new_name(self) -> str:
        """Return a name for a neuron that is not there yet: n001, n002, … that no neuron has or had."""
        taken = set(self._number) | set(self._automatic["neuron"].values.tolist()) | set(self.edits.table()["neuron"])
        return next(name for name in neuron_names(len(taken) + 1) if name not in taken)

    def item_frames(self) -> tuple[int, int]:
        """Return the first and the last frame of the present row of the queue, or the present frame twice."""
        if self.item is None:
            return self.t_index, self.t_index
        row = self._items.iloc[self.item]
        return int(row["t_start"]), int(row["t_end"])

    def label(self, neuron: str) -> str:
        """Return what a neuron is called: "AVAL (n012)", or what the tracks call it where it has no name."""
        return self._labels.get(neuron, neuron)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have ``listener`` called after every change, with "frame", "neuron", "item" or "tracks"; returns its end."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    # Looking around

    def goto(self, t_index: int) -> Curation:
        """Go to a frame, from 0."""
        self.t_index = self._frame(t_index)
        return self._tell("frame")

    def select(self, neuron: str) -> Curation:
        """Select the neuron that actions are about."""
        self.neuron = self._neuron(neuron)
        return self._tell("neuron")

    def go_to_item(self, number: int) -> Curation:
        """Go to the frame and neuron of a row of the queue, from 0."""
        if not 0 <= number < len(self._items):
            raise NiddlError(f"expected a row of the queue from 0 to {len(self._items) - 1}, got {number}")
        self.item = int(number)
        row = self._items.iloc[self.item]
        self.t_index = int(row["t_index"])
        if str(row["neuron"]) in self._number:  # it may have been rejected or merged meanwhile
            self.neuron = str(row["neuron"])
        return self._tell("item")

    def next_item(self) -> Curation:
        """Go to the next row of the queue; at its end it stays."""
        return self._step(1)

    def previous_item(self) -> Curation:
        """Go to the row before; at the start of the queue it stays."""
        return self._step(-1)

    def _step(self, rows: int) -> Curation:
        if not len(self._items):
            return self
        at = -1 if self.item is None else self.item
        return self.go_to_item(min(max(at + rows, 0), len(self._items) - 1))

    # Actions

    def move(self, z: float, y: float, x: float, *, neuron: str | None = None, t_index: int | None = None) -> str:
        """Say where the neuron is in this frame, in µm."""
        return self._say("move", **self._point(neuron, t_index), **self._place(z, y, x))

    def add(self, z: float, y: float, x: float, *, neuron: str | None = None, t_index: int | None = None) -> str:
        """Say where the neuron is in a frame in which it has no position, in µm; another ``neuron`` is a new one."""
        name = self.neuron if neuron is None else neuron
        frame = self._frame(self.t_index if t_index is None else t_index)
        return self._say("add", neuron=name, t=frame, **self._place(z, y, x))

    def place(self, z: float, y: float, x: float, *, neuron: str | None = None, t_index: int | None = None) -> str:
        """Move the neuron here, or add it where it has no position in this frame; z, y, x in µm."""
        known = np.isfinite(self.position_um(neuron, t_index)).all()
        return (self.move if known else self.add)(z, y, x, neuron=neuron, t_index=t_index)

    def delete(self, *, neuron: str | None = None, t_index: int | None = None, t_end: int | None = None) -> str:
        """Say that the neuron's point is wrong, in this frame or up to ``t_end`` (included)."""
        point = self._point(neuron, t_index)
        if t_end is None:
            return self._say("delete", **point)
        return self._say("delete", neuron=point["neuron"], t_start=point["t"], t_end=self._frame(t_end))

    def swap(
        self, other: str, *, neuron: str | None = None, t_start: int | None = None, t_end: int | None = None
    ) -> str:
        """Exchange two neurons from a frame on: from the present one to the last, or to ``t_end`` (included)."""
        first, second = self._neuron(self.neuron if neuron is None else neuron), self._neuron(other)
        if first == second:
            raise NiddlError(f"expected another neuron to swap {first} with, got the same")
        frames = {"t_start": self._frame(self.t_index if t_start is None else t_start)}
        if t_end is not None:
            frames["t_end"] = self._frame(t_end)
        return self._say("swap", neuron=first, other=second, **frames)

    def reject(self, *, neuron: str | None = None) -> str:
        """Say that this is no neuron at all: all its positions go."""
        return self._say("reject", neuron=self._neuron(self.neuron if neuron is None else neuron))

    def name(self, name: str, *, neuron: str | None = None) -> str:
        """Say which neuron this is, as AVAL."""
        if not name.strip():
            raise NiddlError("expected a name, got an empty one")
        return self._say("name", neuron=self._neuron(self.neuron if neuron is None else neuron), name=name.strip())

    def confirm(self, *, neuron: str | None = None, t_index: int | None = None) -> str:
        """Say that a whole frame is right, or a neuron in all frames, or, both given, the neuron in this frame."""
        if neuron is None and t_index is None:
            raise NiddlError("expected neuron, t_index or both: what is right?")
        said: dict[str, Any] = {} if neuron is None else {"neuron": self._neuron(neuron)}
        return self._say("confirm", **said, **({} if t_index is None else {"t": self._frame(t_index)}))

    def accept(self) -> str:
        """Say that the neuron is right in all frames of the present row of the queue."""
        start, end = self.item_frames()
        return self._say("confirm", neuron=self._neuron(self.neuron), t_start=start, t_end=end)

    def comment(self, note: str) -> str:
        """Write down a remark about the neuron in this frame."""
        if not note.strip():
            raise NiddlError("expected a remark, got an empty one")
        return self._say("comment", neuron=self.neuron, t=self.t_index, note=note.strip())

    def undo(self, edit_id: str | None = None) -> str:
        """Take back an edit, by its number or the last one that is active; the undoing is a row of the log, too."""
        if edit_id is None:
            if not len(self.active):
                raise NiddlError("expected an edit to take back, the log has no active one")
            edit_id = str(self.active["edit_id"].iloc[-1])
        undoing = str(self.edits.undo(edit_id))
        self._renew()
        return undoing

    def retrack(self, **options: Any) -> Curation:
        """Track anew with the edits as anchors; ``options`` as in :func:`track`. Takes seconds; the log stays."""
        return self.adopt(self.retracked(**options))

    def retracked(self, **options: Any) -> xr.Dataset:
        """Return tracks made anew from the edits, without showing them: what :meth:`retrack` does, in another thread.

        Give them to :meth:`adopt`.
        """
        if self.detections is None:
            raise NiddlError(
                "expected detections to track anew; give curate(..., detections=niddl_xr.detect(recording))"
            )
        return tracking.retrack(self.detections, self._automatic, self.edits, **options)

    def adopt(self, automatic: xr.Dataset) -> Curation:
        """Go on from other automatic tracks; all active edits are applied to them, and the queue is measured anew."""
        self._automatic = require_match(self.recording, require_tracks(automatic))
        self._apply()
        self._items = self._measured()
        self.item = None
        if self.neuron not in self._number:
            self.neuron = self.neurons[0] if self.neurons else ""
        return self._tell("tracks")

    # Showing

    def view(self) -> Any:
        """Return the front end: a panel object, or napari's viewer."""
        if self._backend == "table":
            from niddl_xr.plots.curation_table import table

            return table(self, **self._options)
        if self._backend == "napari":
            from niddl_xr.plots.curation_napari import napari_viewer

            return napari_viewer(self, **self._options)
        from niddl_xr.plots.curator import curator

        return curator(self, **self._options)

    def servable(self, **options: Any) -> Any:
        """Put the front end into a page of ``panel serve``; options as panel's."""
        return self.view().servable(**options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        if self._backend == "napari":
            self.view()
            return {"text/plain": repr(self)}
        return self.view()._repr_mimebundle_(include, exclude)

    def __repr__(self) -> str:
        states = self.queue["state"]
        return (
            f"Curation of {self._tracks.sizes['neuron']} neurons in {self._tracks.sizes['t']} frames: "
            f"{len(self.active)} edits, {int((states != '').sum())} of {len(states)} places looked at"
        )

    # Its own business

    def _shown_by(self, backend: str, options: Mapping[str, Any]) -> Curation:
        self._backend, self._options = backend, dict(options)
        return self

    def _say(self, op: str, **fields: Any) -> str:
        """Write the edit to the log, then show what follows."""
        edit_id = str(self.edits.append(op, tracks=self._tracks, **fields))
        self._renew()
        return edit_id

    def _apply(self) -> None:
        """Lay the log over the automatic tracks, and keep what every picture asks for."""
        self._tracks = tracking.apply_edits(self._automatic, self.edits)
        self.active = self.edits.active()
        names = [str(name) for name in self._tracks["neuron"].values.tolist()]
        given = self._tracks["name"].values.tolist() if "name" in self._tracks.coords else [""] * len(names)
        self.orphaned = json.loads(self._tracks.attrs.get("edits_orphaned", "[]"))
        self._number = {name: number for number, name in enumerate(names)}
        self._labels = {name: f"{word} ({name})" if word else name for name, word in zip(names, given, strict=True)}
        self._position = self._tracks["position"].values

    def _renew(self) -> None:
        self._apply()
        if self.neuron not in self._number:
            self.neuron = self.neurons[0] if self.neurons else ""
        self._tell("tracks")

    def _tell(self, what: str) -> Curation:
        for listener in list(self._listeners):
            listener(what)
        return self

    def _measured(self) -> pd.DataFrame:
        return self._given(tracking.track_quality(self._tracks, self.detections))

    def _given(self, queue: Any) -> pd.DataFrame:
        if hasattr(queue, "queue"):
            self.suspicion = (
                queue.suspicion["suspicion"] if isinstance(queue.suspicion, xr.Dataset) else queue.suspicion
            )
            queue = queue.queue
        return require_queue(queue, self._tracks)

    def _frame(self, t_index: int) -> int:
        frames = self._tracks.sizes["t"]
        if isinstance(t_index, bool) or not isinstance(t_index, int | np.integer) or not 0 <= t_index < frames:
            raise NiddlError(f"expected a frame from 0 to {frames - 1}, got {t_index!r}")
        return int(t_index)

    def _neuron(self, neuron: str) -> str:
        if neuron not in self._number:
            raise NiddlError(f"no neuron {neuron!r}; the tracks have {', '.join(self.neurons[:8])}, …")
        return str(neuron)

    def _point(self, neuron: str | None, t_index: int | None) -> dict[str, Any]:
        return {
            "neuron": self._neuron(self.neuron if neuron is None else neuron),
            "t": self._frame(self.t_index if t_index is None else t_index),
        }

    def _place(self, z: float, y: float, x: float) -> dict[str, float]:
        place = {"z": float(z), "y": float(y), "x": float(x)}
        for dim, at in place.items():
            low, high = reach_um(self.recording, dim)
            if not low <= at <= high:
                raise NiddlError(f"expected {dim} inside the recording, {low:g} to {high:g} µm, got {at:g}")
        return place
