"""The panel front end of curate: the worst frames first, points to drag, and a list of what was done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import panel as pn

from niddl_xr.plots._curation_page import Page
from niddl_xr.plots._curation_pictures import Pictures
from niddl_xr.plots._curation_points import COLOURINGS, LEGENDS
from niddl_xr.plots._curation_queue import edit_lines, queue_lines
from niddl_xr.plots._planes import PERCENTILES, require_percentiles, time_stamp
from niddl_xr.plots._style import load_backend, palette_colours
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from niddl_xr.curation import Curation

TO_THE_END, THIS_FRAME, OF_THE_ITEM = "this frame to the end", "this frame only", "frames of the item"
NUDGE_UM = 3.0  # a point dragged no farther than this stays in its nucleus (radius 1.3 to 2.8 µm)
HEADING = {"font-size": "13px", "font-weight": "600", "color": "#333"}
HELP = (
    "**Drag** a ring to move it, **click** one to select it, **shift-click** to put the selected neuron there. The "
    "cross is where the neighbours expect it. Wheel to zoom; every row under *edits* is on the disk.\n\n"
    "Keys: **n p** next and previous in the queue · **← →** frames · **c** right here · **f** frame is right · "
    "**d** delete the point · **u** undo"
)


def curator(
    model: Curation, *, percentiles: Sequence[float] = PERCENTILES, palette: str = "grey", edge_px: int = 560
) -> pn.viewable.Viewable:
    """Return the app that shows a curation and calls its actions.

    Parameters
    ----------
    model
        The curation, of :func:`niddl_xr.curate`.
    percentiles, palette
        Of the pictures, as in :func:`niddl_xr.plot_frame`; all frames have the contrast of the first one drawn, until
        the button takes that of another.
    edge_px
        The longer edge of the picture from above on the screen, in pixels.

    Returns
    -------
    panel.Column
        To be shown by a notebook cell or ``panel serve``; it needs a running kernel, and says when there is none. A
        notebook without internet needs ``holoviews.extension("bokeh", inline=True)`` in its first cell.

    Notes
    -----
    A point dragged farther than 3 µm in the picture from above (x, y) gets the depth at which a column of 2 × 2 µm
    under it is brightest, because that is the light that the maximum shows at this place; in a single plane it gets the
    depth of this plane. Where another nucleus lies above, that is the other's depth: set it right in the picture from
    the side, (x, z), in which a point keeps its y. A point that is only nudged keeps its depth, as does every point
    while "keep the depth" is ticked.
    """
    palette_colours(palette)
    load_backend()
    return _Curator(model, percentiles=require_percentiles(percentiles), palette=palette, edge_px=edge_px).app()


class _Curator:
    """The widgets of one page; the curation itself holds what is said and done."""

    def __init__(self, model: Curation, **look: Any) -> None:
        self.model = model
        self.pictures = Pictures(model, let_above=self.let_above, let_aside=self.let_aside, **look)
        self._panes = [pn.pane.Bokeh(projection.figure) for projection in self.pictures.all]
        self._setting = False
        self._due: set[str] = set()
        self._words = ""
        self._make_view()
        self._make_buttons()
        self._make_lists()
        self._listen()
        self.renew("tracks")

    # Widgets

    def _make_view(self) -> None:
        last, planes = len(self.pictures.frames) - 1, len(self.pictures.frames.places_um["z"])
        deep = planes > 1
        self.title = pn.pane.HTML(styles={"font-size": "16px", "font-weight": "600"}, margin=(4, 5))
        self.frame = pn.widgets.IntSlider(name="frame", start=0, end=max(1, last), width=340, visible=last > 0)
        self.colouring = pn.widgets.RadioButtonGroup(name="colour", options=list(COLOURINGS), width=190)
        self.legend = pn.pane.HTML(styles={"font-size": "12px"}, margin=(0, 5))
        self.maximum = pn.widgets.Checkbox(name="maximum over z", value=True, visible=deep)
        self.plane = pn.widgets.IntSlider(name="plane", start=0, end=max(1, planes - 1), value=planes // 2, width=150)
        self.plane.visible = False
        self.cut = pn.widgets.Checkbox(name="side view: 6 µm about the neuron", value=True, visible=deep)
        self.keep = pn.widgets.Checkbox(name="keep the depth when dragging", value=False, visible=deep)
        self.contrast = pn.widgets.Button(name="contrast from this frame", button_type="light", margin=(-4, 5))

    def _make_buttons(self) -> None:
        button: Any = pn.widgets.Button
        outline = {"button_style": "outline"}
        self.previous = button(name="‹ previous", width=100)
        self.next = button(name="next ›", width=100, button_type="primary")
        self.neuron = pn.widgets.Select(name="neuron", options=[], width=150)
        self.right_here = button(name="right here", width=110, button_type="success", align="end")
        self.delete = button(name="delete point", width=110, align="end")
        self.right_neuron = button(name="neuron is right", width=120, button_type="success", **outline)
        self.right_frame = button(name="frame is right", width=120, button_type="success", **outline)
        self.reject = button(name="reject neuron", width=120, button_type="danger", **outline)
        self.other = pn.widgets.Select(name="swap with", options=[], width=150)
        self.span = pn.widgets.Select(name="in", options=[TO_THE_END, THIS_FRAME, OF_THE_ITEM], width=160)
        self.swap = button(name="swap", width=80, align="end")
        self.name = pn.widgets.TextInput(placeholder="name, as AVAL", width=110)
        self.rename = button(name="name it", width=75)
        self.note = pn.widgets.TextInput(placeholder="remark", width=140)
        self.remark = button(name="write down", width=90)
        self.new = pn.widgets.Checkbox(name="the next shift-click is a new neuron", value=False)
        self.track_again = button(name="track anew", width=110, visible=self.model.detections is not None)
        self.busy = pn.indicators.LoadingSpinner(value=False, size=22, visible=False)
        self.status = pn.pane.HTML(styles={"font-size": "13px"}, margin=(2, 5), min_height=22, width=480)

    def _make_lists(self) -> None:
        model = self.model
        self.done = pn.pane.HTML(styles=HEADING, width=230, margin=(12, 5, 0, 5))
        self.queue = pn.widgets.Select(size=8, width=480, options={})
        self.why = pn.pane.HTML(styles={"font-size": "12px", "color": "#555"}, width=480, margin=(0, 5), min_height=30)
        self.written = pn.pane.HTML(styles=HEADING, width=200, margin=(12, 5, 0, 5))
        self.log = pn.widgets.Select(size=5, width=480, options={})
        self.undo = pn.widgets.Button(name="undo the last", width=110)
        self.undo_chosen = pn.widgets.Button(name="undo the chosen", width=125)
        self.page = Page(
            {
                "n": model.next_item,
                "p": model.previous_item,
                "ArrowRight": partial(self._walk, 1),
                "ArrowLeft": partial(self._walk, -1),
                "c": self._confirm_here,
                "f": self._confirm_frame,
                "d": self._delete,
                "u": self._undo_last,
            }
        )

    def _listen(self) -> None:
        model = self.model
        clicks: dict[Any, Callable[[], Any]] = {
            self.previous: model.previous_item,
            self.next: model.next_item,
            self.swap: self._swap,
            self.delete: self._delete,
            self.reject: partial(self._do, model.reject, "rejected {neuron}"),
            self.rename: self._rename,
            self.right_here: self._confirm_here,
            self.right_frame: self._confirm_frame,
            self.right_neuron: self._confirm_neuron,
            self.remark: self._remark,
            self.undo: self._undo_last,
            self.undo_chosen: self._undo_chosen,
            self.contrast: self._renew_contrast,
        }
        for widget, action in clicks.items():
            widget.on_click(partial(_clicked, action))
        self.track_again.on_click(self._track_again)
        self.frame.param.watch(partial(self._set, model.goto), "value_throttled")
        self.neuron.param.watch(partial(self._set, model.select), "value")
        self.queue.param.watch(partial(self._set, model.go_to_item), "value")
        views: list[Any] = [self.maximum, self.cut, self.colouring]
        for view in views:
            view.param.watch(self._look, "value")
        self.plane.param.watch(self._look, "value_throttled")
        self._end = model.subscribe(self.renew)

    def app(self) -> pn.Column:
        """Put the widgets and pictures together."""
        row, column, panes = pn.Row, pn.Column, self._panes
        pictures = column(
            self.title,
            row(self.frame, self.colouring),
            self.legend,
            *panes[:2],
            row(self.maximum, self.plane, self.cut),
            row(self.keep, self.new, self.contrast),
            pn.pane.Markdown(HELP, width=620, styles={"color": "#555", "font-size": "12px"}),
        )
        said = column(
            row(self.done, self.previous, self.next),
            self.queue,
            self.why,
            row(*panes[2:]),
            row(self.neuron, self.right_here, self.delete),
            row(self.right_neuron, self.right_frame, self.reject),
            row(self.other, self.span, self.swap),
            row(self.name, self.rename, self.note, self.remark),
            self.status,
            row(self.written, self.undo, self.undo_chosen),
            self.log,
            row(self.track_again, self.busy),
            width=500,
        )
        # Side by side where there is room, as in a cell of a wide notebook, else one below the other.
        return column(self.page, pn.FlexBox(pictures, said, gap="12px"), sizing_mode="stretch_width")

    # Drawing

    def renew(self, what: str) -> None:
        """Have drawn what has changed, as the curation names it: "tracks" are all lists, too.

        On a server the pictures may be touched only while the document is locked, which the callbacks of widgets are
        not promised; there it is drawn at the next turn, once for all that has changed until then.
        """
        document = self._panes[0].object.document
        first = not self._due
        self._due.add(what)
        if document is None or not document.session_context:
            self._draw()
        elif first:
            document.add_next_tick_callback(self._draw)

    def _draw(self) -> None:
        due, self._due = self._due, set()
        self.status.object = self._words
        if due == {"status"}:
            return
        model, t = self.model, self.model.t_index
        self.pictures.draw()
        self._set_widgets("tracks" in due)
        self.legend.object = LEGENDS[self.colouring.value]
        stamp = time_stamp(model.recording, t)
        where = f"frame {t} of {len(self.pictures.frames) - 1}" + ("" if stamp.startswith("frame") else f", {stamp}")
        self.title.object = escape(f"{where} · {model.label(model.neuron)}")
        pn.io.push_notebook(*self._panes)

    def _set_widgets(self, lists: bool) -> None:
        """Let the widgets say what the curation says, without being taken for the user."""
        model = self.model
        self._setting = True
        if lists:
            states = model.queue["state"]
            self.done.object = f"Look at first: {int((states != '').sum())} of {len(states)} done"
            self.queue.options = queue_lines(model)
            lost = len(model.orphaned)
            self.written.object = f"Edits: {len(model.active)}" + (
                f", {lost} that do not fit these tracks" if lost else ""
            )
            self.log.options = edit_lines(model)
            self.neuron.options = {model.label(name): name for name in model.neurons}
        near = model.suggested()
        self.other.options = {model.label(name): name for name in near}
        self.other.value = near[0] if near else None
        self.frame.value = model.t_index
        self.neuron.value = model.neuron
        self.queue.value = model.item if model.item in self.queue.options.values() else None
        self.why.object = escape(model.reason())
        self._setting = False

    def _look(self, _: Any) -> None:
        pictures = self.pictures
        self.plane.visible = not self.maximum.value
        plane = None if self.maximum.value else int(self.plane.value or 0)
        changed = (plane is None) != (pictures.plane is None)
        pictures.plane, pictures.cut, pictures.colouring = plane, bool(self.cut.value), str(self.colouring.value)
        if changed:  # a plane is darker than the maximum of all
            pictures.renew_contrast()
        self.renew("view")

    def _renew_contrast(self) -> None:
        self.pictures.renew_contrast()
        self.renew("view")

    # What the user does

    def _do(self, action: Callable[[], Any], said: str) -> None:
        """Act, and say that it is written, or why not."""
        words = said.format(neuron=self.model.label(self.model.neuron), frame=self.model.t_index)
        try:
            action()
        except NiddlError as error:
            self._tell(str(error), bad=True)
            self.renew("view")  # what was dragged goes back to where the tracks have it
        else:
            self._tell(f"{words}: written")

    def _tell(self, words: str, *, bad: bool = False) -> None:
        self._words = f'<span style="color:{"#B00020" if bad else "#1B5E20"}">{escape(words)}</span>'
        self.renew("status")

    def _set(self, action: Callable[[Any], Any], event: Any) -> None:
        if not self._setting and event.new is not None:
            action(event.new)

    def _walk(self, frames: int) -> None:
        at = self.model.t_index + frames
        if 0 <= at < len(self.pictures.frames):
            self.model.goto(at)

    def let_above(self, said: dict[str, Any]) -> None:
        """Hear what was tapped or let go in the picture from above."""
        neuron, t, y, x = self._meant(said), int(said["t_index"]), said["vertical"], said["x"]
        if said["what"] == "tap":
            if said["neuron"]:
                self.model.select(said["neuron"])
        elif said["what"] == "place" and self.new.value:
            name = self.model.new_name()
            self.new.value = False
            place = (self._depth(name, t, y, x), y, x)
            self._do(lambda: self._selected(name, self.model.add(*place, neuron=name, t_index=t)), f"new neuron {name}")
        else:
            self._put(neuron, t, (self._depth(neuron, t, y, x), y, x))

    def let_aside(self, said: dict[str, Any]) -> None:
        """Hear what was tapped or let go in the picture from the side."""
        neuron, t = self._meant(said), int(said["t_index"])
        y = float(self.model.position_um(neuron, t)[1])
        if said["what"] == "tap":
            if said["neuron"]:
                self.model.select(said["neuron"])
        elif np.isfinite(y):
            self._put(neuron, t, (said["vertical"], y, said["x"]))
        else:
            self._tell(f"{neuron} is nowhere in frame {t}: place it in the picture from above first", bad=True)

    def _meant(self, said: dict[str, Any]) -> str:
        return str(said["neuron"]) if said["what"] == "move" else self.model.neuron

    def _put(self, neuron: str, t: int, place: tuple[float, float, float]) -> None:
        words = f"moved {self.model.label(neuron)} in frame {t}"
        self._do(lambda: self._selected(neuron, self.model.place(*place, neuron=neuron, t_index=t)), words)

    def _selected(self, neuron: str, _: str) -> None:
        if self.model.neuron != neuron:
            self.model.select(neuron)

    def _depth(self, neuron: str, t: int, y: float, x: float) -> float:
        """Return the depth of a point that was let go at y, x."""
        before, frames = self.model.position_um(neuron, t), self.pictures.frames
        if self.keep.value and np.isfinite(before[0]):
            return float(before[0])
        if self.pictures.plane is not None:
            return float(frames.places_um["z"][self.pictures.plane])
        if float(np.hypot(*(before[1:] - (y, x)))) <= NUDGE_UM:
            return float(before[0])
        brightest = frames.brightest_um(t, y, x)
        return brightest if np.isfinite(brightest) else float(before[0])

    def _swap(self) -> None:
        model, other = self.model, str(self.other.value)
        start, end = model.item_frames() if self.span.value == OF_THE_ITEM else (model.t_index, model.t_index)
        last = None if self.span.value == TO_THE_END else end
        self._do(lambda: model.swap(other, t_start=start, t_end=last), f"swapped {{neuron}} and {other}")

    def _delete(self) -> None:
        self._do(self.model.delete, "deleted the point of {neuron} in frame {frame}")

    def _rename(self) -> None:
        self._do(lambda: self.model.name(self.name.value or ""), "named {neuron}")
        self.name.value = ""

    def _remark(self) -> None:
        self._do(lambda: self.model.comment(self.note.value or ""), "remark on {neuron}")
        self.note.value = ""

    def _confirm_here(self) -> None:
        model = self.model
        self._do(
            lambda: model.confirm(neuron=model.neuron, t_index=model.t_index), "{neuron} is right in frame {frame}"
        )

    def _confirm_frame(self) -> None:
        self._do(lambda: self.model.confirm(t_index=self.model.t_index), "frame {frame} is right")

    def _confirm_neuron(self) -> None:
        self._do(lambda: self.model.confirm(neuron=self.model.neuron), "{neuron} is right in all frames")

    def _undo_last(self) -> None:
        self._do(self.model.undo, "taken back")

    def _undo_chosen(self) -> None:
        if self.log.value is None:
            self._tell("choose an edit in the list first", bad=True)
        else:
            self._do(lambda: self.model.undo(self.log.value), "taken back")

    async def _track_again(self, _: Any) -> None:
        """Track anew in a thread, so that the page goes on."""
        self.track_again.disabled, self.busy.visible, self.busy.value = True, True, True
        self._tell("tracking anew; go on meanwhile")
        try:
            automatic = await asyncio.to_thread(self.model.retracked)
            self.model.adopt(automatic)
            self._tell("tracked anew, every edit kept")
        except NiddlError as error:
            self._tell(str(error), bad=True)
        finally:
            self.track_again.disabled, self.busy.visible, self.busy.value = False, False, False


def _clicked(action: Callable[[], Any], _: Any) -> None:
    action()
