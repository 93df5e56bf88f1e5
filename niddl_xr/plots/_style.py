"""The look that all pictures share: palettes, line colours, fonts, and the backend they are drawn with."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import holoviews as hv
from bokeh.palettes import Greys256, RdBu11, Viridis256, interp_palette

from niddl_xr.schema import NiddlError

# Grey is what eyes read best as brightness; viridis shows faint structure, in equal steps for every kind of colour
# vision; blue-white-red is for differences, 0 is white.
PALETTES: dict[str, list[str]] = {
    "grey": list(Greys256),
    "viridis": list(Viridis256),
    "difference": list(interp_palette(RdBu11, 256)),
}
# Okabe and Ito's colours, told apart by every kind of colour vision; grey first, for what lies behind the others.
LINE_COLOURS = ("#999999", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARK_COLOUR = "#E69F00"  # of what is drawn over a picture
FONT_SIZES = {"title": "10pt", "labels": "9pt", "ticks": "8pt", "legend": "9pt"}
# Without a box zoom, which would not keep the proportions of a picture.
TOOLS: dict[str, Any] = {"default_tools": ["pan", "wheel_zoom", "reset", "save"], "active_tools": ["pan"]}
GRID: dict[str, Any] = {"show_grid": True, "gridstyle": {"grid_line_alpha": 0.3}}


def load_backend() -> None:
    """Load holoviews' bokeh backend, unless the session has it; nothing else of holoviews is set.

    Where another backend is at work it stays the current one, and bokeh is made known beside it.
    """
    if not hv.Store.loaded_backends():
        hv.extension("bokeh", logo=False)
    elif "bokeh" not in hv.Store.loaded_backends():
        current = hv.Store.current_backend
        import_module("holoviews.plotting.bokeh")
        hv.Store.set_current_backend(current)


def palette_colours(name: str) -> list[str]:
    """Return the 256 colours of a palette."""
    if name not in PALETTES:
        raise NiddlError(f"no palette {name!r}; choose one of {', '.join(PALETTES)}")
    return PALETTES[name]
