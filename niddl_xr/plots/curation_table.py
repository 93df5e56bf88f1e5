"""The table front end of curate: the queue as rows, with buttons; no pixel is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import panel as pn

from niddl_xr.plots._curation_queue import edit_lines
from niddl_xr.plots._style import load_backend
from niddl_xr.schema import SPACE_DIMS, NiddlError

if TYPE_CHECKING:
    import pandas as pd

    from niddl_xr.curation import Curation

COLUMNS = ("state", "t_index", "t_start", "t_end", "neuron", "suspicion", "reason", *SPACE_DIMS)
TITLES = {"t_index": "frame", "t_start": "from", "t_end": "to", **{dim: f"{dim} (µm)" for dim in SPACE_DIMS}}
ROWS = 15


def table(model: Curation) -> pn.viewable.Viewable:
    """Return the queue as a table, whose chosen row the buttons below are about.

    Parameters
    ----------
    model
        The curation, of :func:`niddl_xr.curate`.

    Returns
    -------
    panel.Column
        To be shown by a notebook cell or ``panel serve``; it needs a running kernel. Positions are in µm, frames count
        from 0. Rows are loaded a page at a time. Without internet a notebook needs ``panel.config.inline = True``.
    """
    load_backend()
    pn.extension("tabulator")
    return _Table(model).app()


class _Table:
    """The widgets of one table; the curation holds what is said and done."""

    def __init__(self, model: Curation) -> None:
        self.model = model
        button: Any = pn.widgets.Button
        self.rows = pn.widgets.Tabulator(
            self._shown(),
            titles=TITLES,
            selectable=1,
            disabled=True,
            show_index=False,
            pagination="remote",
            page_size=ROWS,
            layout="fit_data_table",
            sortable=False,  # it is in the order in which to look
            sizing_mode="stretch_width",
        )
        self.heading = pn.pane.HTML(styles={"font-size": "15px", "font-weight": "600"})
        self.right = button(name="all right", button_type="success", width=90)
        self.delete = button(name="delete points", width=110)
        self.reject = button(name="reject neuron", button_type="danger", button_style="outline", width=115)
        self.other = pn.widgets.Select(name="swap with", options=[], width=150)
        self.swap = button(name="swap from here on", width=140, align="end")
        self.place = {dim: pn.widgets.FloatInput(name=f"{dim} (µm)", width=90, step=0.1) for dim in SPACE_DIMS}
        self.move = button(name="move to", width=80, align="end")
        self.name = pn.widgets.TextInput(name="name", placeholder="as AVAL", width=120)
        self.rename = button(name="name it", width=80, align="end")
        self.log = pn.widgets.Select(name="edits, the last one first", size=6, options={}, width=420)
        self.undo = button(name="undo the chosen", width=130)
        self.status = pn.pane.HTML(styles={"font-size": "13px"}, min_height=20)
        self._setting = False
        self._listen()
        self.show()

    def app(self) -> pn.Column:
        """Put the widgets together."""
        return pn.Column(
            self.rows,
            self.heading,
            pn.Row(self.right, self.delete, self.reject),
            pn.Row(self.other, self.swap, *self.place.values(), self.move, self.name, self.rename),
            self.status,
            self.log,
            self.undo,
        )

    def _listen(self) -> None:
        model = self.model
        clicks: dict[Any, tuple[Callable[[], Any], str]] = {
            self.right: (model.accept, "{neuron} is right in these frames"),
            self.delete: (self._delete, "deleted the points of {neuron} in these frames"),
            self.reject: (model.reject, "rejected {neuron}"),
            self.swap: (lambda: model.swap(self.other.value), "swapped {neuron}"),
            self.move: (self._move, "moved {neuron}"),
            self.rename: (lambda: model.name(self.name.value or ""), "named {neuron}"),
            self.undo: (lambda: model.undo(self.log.value), "taken back"),
        }
        for widget, (action, said) in clicks.items():
            widget.on_click(partial(self._clicked, action, said))
        self.rows.param.watch(self._choose, "selection")
        model.subscribe(lambda what: self.show(rows=what == "tracks"))

    def show(self, *, rows: bool = True) -> None:
        """Let the widgets say what the curation says."""
        model = self.model
        self._setting = True
        if rows:
            self.rows.value = self._shown()
            self.log.options = edit_lines(model)
        self.rows.selection = [] if model.item is None else [model.item]
        near = model.suggested()
        self.other.options = {model.label(name): name for name in near}
        self.other.value = near[0] if near else None
        place = model.position_um()
        for dim, at in zip(SPACE_DIMS, place, strict=True):
            self.place[dim].value = float(at) if np.isfinite(at) else None
        self.heading.object = f"frame {model.t_index} · {model.label(model.neuron)}"
        self._setting = False

    def _shown(self) -> pd.DataFrame:
        queue = self.model.queue
        shown = queue[[name for name in COLUMNS if name in queue]].copy()
        shown["neuron"] = [self.model.label(name) if name else "whole frame" for name in queue["neuron"]]
        numbers = [name for name in ("suspicion", *SPACE_DIMS) if name in shown]
        return shown.round(dict.fromkeys(numbers, 2))

    def _choose(self, event: Any) -> None:
        if not self._setting and event.new:
            self.model.go_to_item(int(event.new[0]))

    def _delete(self) -> None:
        start, end = self.model.item_frames()
        self.model.delete(t_index=start, t_end=end)

    def _move(self) -> None:
        z, y, x = (self.place[dim].value for dim in SPACE_DIMS)
        if z is None or y is None or x is None:
            raise NiddlError("expected z, y and x in µm, got an empty field")
        self.model.place(z, y, x)

    def _clicked(self, action: Callable[[], Any], said: str, event: Any) -> None:
        self._do(action, said)

    def _do(self, action: Callable[[], Any], said: str) -> None:
        words = said.format(neuron=self.model.label(self.model.neuron))
        try:
            action()
        except NiddlError as error:
            words = str(error).replace("&", "&amp;").replace("<", "&lt;")
            self.status.object = f'<span style="color:#B00020">{words}</span>'
        else:
            self.status.object = f'<span style="color:#1B5E20">{words}: written</span>'
