"""A description as a page for notebooks, dark or light, with a picture of the frame in the middle."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings._description_text import number, rows_of, title_of
from niddl_xr.schema import MICROMETRE, voxel_um

if TYPE_CHECKING:
    from niddl_xr.recordings._description_sample import Shown
    from niddl_xr.recordings.description import Description

EDGES_PX = (320, 256, 208, 160, 128, 96)  # of the picture, tried until it is small enough
MOST_BYTES = 30_000
SHORTEST_EDGE_PX = 8
CONTRAST_PERCENTILES = (0.5, 99.8)
BAR_FRACTION = 0.25  # of the width, at most
LEAST_WIDTH_WITH_BAR_PX = 48

# Colours come from the notebook's theme, or are grey enough for any.
_STYLE = {
    "page": "display:flex;flex-wrap:wrap;gap:1.2em;align-items:flex-start;line-height:1.45;max-width:75em",
    "column": "flex:1 1 28em;min-width:0",
    "title": "font-weight:600;overflow-wrap:anywhere;margin:0 0 .4em",
    "table": "border-collapse:collapse;margin:0 0 .6em;width:100%;border:0;font-size:inherit;color:inherit",
    "caption": "caption-side:top;text-align:left;font-weight:600;padding:.2em 0;color:inherit;"
    "border-bottom:1px solid rgba(128,128,128,.5)",
    "row": "background:transparent",
    "th": "text-align:left;vertical-align:top;font-weight:400;padding:.1em 1em .1em 0;width:14em;opacity:.8;border:0",
    "td": "text-align:left;vertical-align:top;padding:.1em 0;overflow-wrap:anywhere;border:0;white-space:normal",
    "warnings": "border-left:.3em solid #d08700;padding:.1em 0 .1em .8em;margin:0 0 .8em",
    "item": "margin:.2em 0",
    "figure": "margin:0;flex:0 0 auto;max-width:100%",
    "image": "display:block;max-width:100%;border:1px solid rgba(128,128,128,.5)",
    "legend": "font-size:85%;max-width:24em;margin-top:.3em",
}


@dataclass(frozen=True)
class Picture:
    """A small PNG in grey of the maximum projection of one frame, and what it shows.

    ``bar_um`` is the length of the scale bar in it, None where x is not in µm or there is no room for a bar.
    """

    png: bytes
    width_px: int
    height_px: int
    t: int
    z: tuple[int, ...]
    lowest_counts: float
    highest_counts: float
    bar_um: float | None

    def facts(self) -> dict[str, Any]:
        """Return everything but the pixels."""
        return {name: value for name, value in vars(self).items() if name != "png"}


def page_of(description: Description) -> str:
    """Return a description as HTML that needs nothing else, with everything that a file states escaped."""
    parts = [_tag("div", "title", escape(title_of(description)))]
    if description.warnings:
        items = "".join(_tag("li", "item", escape(sentence)) for sentence in description.warnings)
        heading = _tag("div", "title", "What looks wrong")
        parts.append(_tag("div", "warnings", f'{heading}<ul style="margin:0;padding-left:1.2em">{items}</ul>'))
    for section, rows in groupby(rows_of(description), key=lambda row: row[0]):
        lines = "".join(
            f'<tr style="{_STYLE["row"]}"><th scope="row" style="{_STYLE["th"]}">{escape(label)}</th>'
            f"{_tag('td', 'td', escape(value))}</tr>"
            for _, label, value in rows
        )
        parts.append(_tag("table", "table", f"{_tag('caption', 'caption', escape(section))}<tbody>{lines}</tbody>"))
    column = _tag("div", "column", "".join(parts))
    figure = "" if description.picture is None else _figure(description.picture)
    return _tag("div", "page", figure + column)


def _tag(name: str, style: str, content: str) -> str:
    return f'<{name} style="{_STYLE[style]}">{content}</{name}>'


def _figure(picture: Picture) -> str:
    legend = legend_of(picture)
    data = base64.b64encode(picture.png).decode("ascii")
    image = (
        f'<img src="data:image/png;base64,{data}" width="{picture.width_px}" height="{picture.height_px}" '
        f'alt="{escape(legend)}" style="{_STYLE["image"]}" />'
    )
    return _tag("figure", "figure", f"{image}{_tag('figcaption', 'legend', escape(legend))}")


def legend_of(picture: Picture) -> str:
    """Return what a picture shows, in words."""
    if len(picture.z) > 1:
        what = f"Maximum of {len(picture.z)} planes (z {picture.z[0]} to {picture.z[-1]}) of frame {picture.t:,}"
    else:
        what = f"Frame {picture.t:,}, z {picture.z[0]}"
    bar = f"; the bar is {picture.bar_um:g} µm" if picture.bar_um is not None else ""
    return f"{what}, black to white {number(picture.lowest_counts)} to {number(picture.highest_counts)} counts{bar}"


def draw(shown: Shown, recording: xr.DataArray) -> Picture:
    """Draw a frame in the proportions of its voxels, with a scale bar where x is in µm, in at most 30 kB."""
    from PIL import Image

    grey, lowest, highest = _grey(shown.values)
    voxel = voxel_um(recording)
    height, width = shown.values.shape
    if {"y", "x"} <= set(voxel):
        ratio = voxel["y"] / voxel["x"]
        height_units, width_units = height * ratio, float(width)
    else:
        height_units, width_units = float(height), float(width)
    whole = Image.fromarray(grey)
    for edge in EDGES_PX:
        scale = edge / max(height_units, width_units)
        size = tuple(min(edge, max(SHORTEST_EDGE_PX, round(units * scale))) for units in (width_units, height_units))
        smaller = size[0] * size[1] <= width * height
        image = whole.resize((size[0], size[1]), Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)
        bar_um = _draw_bar(image, width * voxel["x"]) if _in_um(recording) and "x" in voxel else None
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return Picture(file.getvalue(), *image.size, shown.t, shown.z, lowest, highest, bar_um)


def _in_um(recording: xr.DataArray) -> bool:
    return recording["x"].attrs.get("units") in MICROMETRE


def _grey(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return 8 bits between two percentiles of the finite pixels, and these; other pixels are black."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, np.uint8), 0.0, 0.0
    low, high = (float(limit) for limit in np.percentile(finite.astype(np.float64), CONTRAST_PERCENTILES))
    with np.errstate(all="ignore"):  # numbers at the ends of floating point
        scaled = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    return (255 * np.nan_to_num(scaled, nan=0.0).clip(0, 1)).round().astype(np.uint8), low, high


def bar_length_um(width_um: float) -> float:
    """Return the longest of 1, 2, 5, 10, … µm (or parts of ten) that fits a quarter of a width.

    >>> bar_length_um(166.4), bar_length_um(0.9)
    (20.0, 0.2)
    """
    longest = width_um * BAR_FRACTION
    power = 10.0 ** np.floor(np.log10(longest))
    return float(f"{max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)):.3g}")


def _draw_bar(image: Any, width_um: float) -> float | None:
    """Draw a white bar with a black edge into the lower right corner; return its length, None without room."""
    from PIL import ImageDraw

    width, height = image.size
    if width < LEAST_WIDTH_WITH_BAR_PX or height < LEAST_WIDTH_WITH_BAR_PX or not np.isfinite(width_um):
        return None
    length_um = bar_length_um(width_um)
    length, margin = round(length_um / width_um * width), max(3, width // 32)
    right, bottom = width - margin, height - margin
    thickness = max(2, width // 80)
    box = [right - length, bottom - thickness, right - 1, bottom - 1]
    ImageDraw.Draw(image).rectangle(box, fill=255, outline=None)
    edge = [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]
    ImageDraw.Draw(image).rectangle(edge, fill=None, outline=0)
    return length_um
