"""A projection in which points are tapped and dragged.

Bokeh's own point tool would drag every point that is still selected from an earlier tap, wherever the drag begins. So
a drag is followed here: it holds one point, the one under the cursor, and says at its end which neuron of which frame
was let go where. What it says is complete: it does not matter whether the server has drawn another frame meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, CustomJS, HoverTool, LinearColorMapper, Range1d
from bokeh.plotting import figure

from niddl_xr.plots._curation_frames import Picture
from niddl_xr.plots._curation_points import SIZE_PX, Columns
from niddl_xr.plots._image import bar_length_um
from niddl_xr.plots._style import MARK_COLOUR, palette_colours

Let = Callable[[dict[str, Any]], None]
REACH_PX = 12  # a point is meant when the cursor is this near
STILL_PX = 3  # less is no drag

_NEAREST = """
function nearest(event) {
  const plot = event.origin, d = points.data
  const sx = plot.inner_width / Math.abs(plot.x_range.end - plot.x_range.start)
  const sy = plot.inner_height / Math.abs(plot.y_range.end - plot.y_range.start)
  let best = -1, least = reach * reach
  for (let i = 0; i < d.x.length; i++) {
    const dx = (d.x[i] - event.x) * sx, dy = (d[vertical][i] - event.y) * sy
    const apart = dx * dx + dy * dy
    if (apart < least) { best = i; least = apart }
  }
  return best
}
"""
# Rows are added to what was said before: while a kernel is busy, changes of one property are merged into the last one.
_SAY = """
function say(what, neuron, t_index, event) {
  const row = {what: what, neuron: neuron, t_index: t_index, x: event.x, vertical: event.y}
  const before = said.data, after = {serial: [...before.serial, (before.serial.at(-1) ?? 0) + 1].slice(-KEPT)}
  for (const name in row) after[name] = [...before[name], row[name]].slice(-KEPT)
  said.data = after
}
""".replace("KEPT", "200")
_TAP = (
    _NEAREST
    + _SAY
    + """
const i = nearest(cb_obj)
const neuron = i < 0 ? "" : points.data.neuron[i]
say(cb_obj.modifiers?.shift ? "place" : "tap", neuron, shown.data.t_index[0], cb_obj)
"""
)
_GRAB = (
    _NEAREST
    + """
const pan = cb_obj.origin.toolbar.tools.find((tool) => tool.type == "PanTool")
const i = pan?.active ? -1 : nearest(cb_obj)
const here = {sx: cb_obj.sx, sy: cb_obj.sy}
points.grabbed = i < 0 ? null : {i: i, neuron: points.data.neuron[i], t_index: points.data.t_index[i], ...here}
"""
)
_DRAG = """
const held = points.grabbed
if (held != null && points.data.neuron[held.i] == held.neuron && points.data.t_index[held.i] == held.t_index) {
  points.data.x[held.i] = cb_obj.x
  points.data[vertical][held.i] = cb_obj.y
  points.change.emit()
}
"""
_LET_GO = (
    _SAY
    + """
const held = points.grabbed
points.grabbed = null
if (held != null) {
  const still = Math.hypot(cb_obj.sx - held.sx, cb_obj.sy - held.sy) < STILL
  say(still ? "tap" : "move", held.neuron, held.t_index, cb_obj)
}
""".replace("STILL", str(STILL_PX))
)
# Bokeh takes a mouse that rests for a moment before it moves for a press and not for the start of a drag, and the
# second of two quick taps for a double tap: a hand means the same by both.
_SCRIPTS = {
    "tap": _TAP,
    "doubletap": _TAP,
    "panstart": _GRAB,
    "press": _GRAB,
    "pan": _DRAG,
    "mousemove": _DRAG,
    "panend": _LET_GO,
    "pressup": _LET_GO,
}
_SAID = ("serial", "what", "neuron", "t_index", "x", "vertical")


class Projection:
    """A figure of pixels with rings on them, x to the right and ``vertical`` (y or z) downwards, both in µm."""

    def __init__(
        self,
        edges: tuple[float, float, float, float],
        *,
        vertical: str,
        width_px: int,
        height_px: int,
        palette: str,
        let: Let | None,
        x_range: Range1d | None = None,
        small: bool = False,
    ) -> None:
        left, top, right, bottom = edges
        self.vertical = vertical
        self.image = ColumnDataSource(
            {"image": [np.zeros((1, 1), np.uint8)], "x": [left], "y": [top], "dw": [1], "dh": [1]}
        )
        self.points = ColumnDataSource(_no_points())
        self.chosen = ColumnDataSource(_no_points())
        self.expected = ColumnDataSource({"x": [], "y": [], "z": []})
        self.shown = ColumnDataSource({"t_index": [0]})
        self.said = ColumnDataSource({name: [] for name in _SAID})
        self._heard = self._times = 0
        self.figure: Any = figure(
            name=None if small else f"x{vertical}",
            frame_width=width_px,
            frame_height=height_px,
            x_range=x_range or Range1d(start=left, end=right),
            y_range=Range1d(start=bottom, end=top),
            tools="" if small else "pan,wheel_zoom,reset",
            active_drag=None,
            active_scroll=None if small else "wheel_zoom",
            toolbar_location=None if small or vertical == "z" else "right",
            min_border=2 if small else 5,
            background_fill_color="#000000",
        )
        self._draw(palette, small)
        if let is not None:
            self._listen(let)

    def _draw(self, palette: str, small: bool) -> None:
        drawn = self.figure
        mapper = LinearColorMapper(palette=palette_colours(palette), low=0, high=255)
        drawn.image("image", "x", "y", "dw", "dh", source=self.image, color_mapper=mapper)
        ring: dict[str, Any] = {
            "x": "x",
            "y": self.vertical,
            "size": SIZE_PX,
            "marker": "marker",
            "line_color": "colour",
            "line_alpha": "alpha",
            "fill_alpha": 0.0,
            "line_width": 1.6,
        }
        rings = drawn.scatter(source=self.points, name="rings", **ring)
        around = {**ring, "size": 2 * SIZE_PX, "marker": "circle", "line_color": "#FFFFFF", "line_alpha": 1.0}
        drawn.scatter(source=self.chosen, **{**around, "line_color": "#000000", "line_width": 4})
        drawn.scatter(source=self.chosen, **{**around, "line_width": 2})
        cross = {"marker": "cross", "size": 12, "line_color": MARK_COLOUR, "line_width": 2}
        drawn.scatter("x", self.vertical, source=self.expected, **cross)
        drawn.text(
            "x",
            self.vertical,
            "label",
            source=self.chosen,
            x_offset=12,
            y_offset=-8,
            text_color="#FFFFFF",
            text_font_size="9pt" if small else "11pt",
            text_font_style="bold",
            background_fill_color="#000000",
            background_fill_alpha=0.45,
            padding=2,
        )
        drawn.grid.visible = False
        drawn.toolbar.logo = None
        drawn.outline_line_color = "#444444"
        drawn.title.text_font_size = "10pt"
        if small:
            drawn.axis.visible = False
            return
        drawn.xaxis.axis_label, drawn.yaxis.axis_label = "x (µm)", f"{self.vertical} (µm)"
        drawn.axis.axis_label_text_font_size = "9pt"
        drawn.axis.axis_label_text_font_style = "normal"
        drawn.axis.major_label_text_font_size = "8pt"
        drawn.add_tools(
            HoverTool(
                renderers=[rings],
                tooltips=[
                    ("", "@label"),
                    ("", "@provenance, suspicion @suspicion{0.00}"),
                    ("z y x", "@z{0.0} @y{0.0} @x{0.0} µm"),
                ],
            )
        )
        if self.vertical == "y":
            self._draw_scale_bar()

    def _draw_scale_bar(self) -> None:
        """Draw a bar of a round length into the lower right corner of the whole picture."""
        right, bottom = self.figure.x_range.end, self.figure.y_range.start
        width, height = right - self.figure.x_range.start, bottom - self.figure.y_range.end
        length, edge, level = bar_length_um(width), right - 0.03 * width, bottom - 0.04 * height
        veil = {"color": "#000000", "fill_alpha": 0.45, "line_alpha": 0.0}
        self.figure.quad(
            edge - length - 0.01 * width, edge + 0.01 * width, bottom - 0.02 * height, level - 0.07 * height, **veil
        )
        self.figure.segment(edge - length, level, edge, level, color="#FFFFFF", line_width=3)
        self.figure.text(
            edge - length / 2,
            level - 0.01 * height,
            [f"{length:g} µm"],
            text_color="#FFFFFF",
            text_font_size="9pt",
            text_align="center",
        )

    def _listen(self, let: Let) -> None:
        """Have ``let`` called with what a tap or the end of a drag says: the one way from the screen to the log."""
        told = {
            "points": self.points,
            "said": self.said,
            "shown": self.shown,
            "vertical": self.vertical,
            "reach": REACH_PX,
        }
        for event, code in _SCRIPTS.items():
            self.figure.js_on_event(event, CustomJS(args=told, code=code))

        def heard(attribute: str, old: Any, new: Any) -> None:
            for row in zip(*(new[name] for name in _SAID), strict=True):
                saying = dict(zip(_SAID, row, strict=True))
                if saying["serial"] > self._heard:
                    self._heard = int(saying["serial"])
                    let(saying)

        self.said.on_change("data", heard)

    def show_picture(self, picture: Picture, limits: tuple[float, float]) -> None:
        """Draw pixels between two counts."""
        left, top, right, bottom = picture.edges
        self.image.data = {
            "image": [as_bytes(picture.values, limits)],
            "x": [left],
            "y": [top],
            "dw": [right - left],
            "dh": [bottom - top],
        }

    def show_points(self, t: int, points: Columns, chosen: Columns, expected: np.ndarray | None) -> None:
        """Draw the points of frame ``t``, a ring around the chosen one, and a cross where it is expected (z, y, x)."""
        # A number of its own every time: a point that was dragged in vain is drawn back only if something has changed.
        self._times += 1
        self.points.data = points | {"time": np.full(len(points["neuron"]), self._times)}
        self.chosen.data, self.shown.data = chosen, {"t_index": [t]}
        z, y, x = ([], [], []) if expected is None else ([value] for value in expected)
        self.expected.data = {"x": x, "y": y, "z": z}


def as_bytes(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Return pixels as 0 (the lower limit, and NaN) to 255: a quarter or less of what goes over the line."""
    low, high = limits
    scaled = (values.astype(np.float32) - low) * (255.0 / (high - low))
    bytes_: np.ndarray = np.nan_to_num(np.clip(scaled, 0, 255), nan=0.0).astype(np.uint8)
    return bytes_


def _no_points() -> dict[str, list[Any]]:
    names = ("x", "y", "z", "neuron", "label", "colour", "marker", "alpha", "provenance", "suspicion", "t_index")
    return {name: [] for name in names}
