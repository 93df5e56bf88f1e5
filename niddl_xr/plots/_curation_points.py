"""The neurons of one frame as columns of a table that a picture draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.palettes import interp_palette

from niddl_xr.neurons import ANCHOR, PROVENANCE
from niddl_xr.plots._style import LINE_COLOURS

if TYPE_CHECKING:
    from niddl_xr.curation import Curation

SUSPICION_COLOURS = list(interp_palette(("#56B4E9", "#F0E442", "#D55E00"), 101))  # sure, hm, wrong
UNKNOWN_COLOUR = "#56B4E9"
PROVENANCE_COLOURS = dict(zip(PROVENANCE, ("#56B4E9", LINE_COLOURS[4], "#009E73", "#E69F00"), strict=True))
PROVENANCE_MARKERS = dict(zip(PROVENANCE, ("circle", "diamond", "square", "square_dot"), strict=True))
PROVENANCE_WORDS = dict(zip(PROVENANCE, ("tracked", "filled in", "confirmed", "put by hand"), strict=True))
_SIGNS = dict(zip(PROVENANCE, "○◇□⊡", strict=True))
COLOURINGS = ("suspicion", "provenance")
SIZE_PX = 10


def _legends() -> dict[str, str]:
    """Return what the colours and marks mean, as HTML, for each way to colour."""
    marked = " ".join(
        f'<span style="color:{{}};font-weight:700">{_SIGNS[name]}</span>&nbsp;{PROVENANCE_WORDS[name]}&ensp;'
        for name in PROVENANCE
    )
    ramp = ", ".join(SUSPICION_COLOURS[::25])
    bar = f'<span style="display:inline-block;width:90px;height:9px;background:linear-gradient(90deg,{ramp})"></span>'
    return {
        "suspicion": f"sure {bar} suspicious&emsp;" + marked.format(*["#555"] * len(PROVENANCE)),
        "provenance": marked.format(*PROVENANCE_COLOURS.values()),
    }


LEGENDS = _legends()
Columns = dict[str, Any]


def points_of(model: Curation, t: int, *, colouring: str) -> Columns:
    """Return the neurons of frame ``t`` that have a position, a column a property, all of one length.

    ``x``, ``y``, ``z`` in µm, ``neuron`` (what the tracks call it), ``label`` (what it is called), ``colour``,
    ``marker``, ``alpha``, ``provenance``, ``suspicion``, ``t_index``.
    """
    tracks = model.tracks
    position = np.asarray(tracks["position"].values[t], dtype=float)
    numbers = np.flatnonzero(np.isfinite(position).all(axis=1))
    names = np.asarray(model.neurons, dtype=object)[numbers]
    flags = (
        tracks["provenance"].values[t, numbers].astype(int) if "provenance" in tracks else np.zeros(len(numbers), int)
    )
    words = np.array(PROVENANCE, dtype=object)[flags]
    suspicion = np.where(flags >= ANCHOR, 0.0, suspicion_of(model, t, names))  # a human has spoken
    if colouring == "provenance":
        colours = [PROVENANCE_COLOURS[word] for word in words]
    else:
        colours = [suspicion_colour(value) for value in suspicion.tolist()]
    return {
        "x": position[numbers, 2],
        "y": position[numbers, 1],
        "z": position[numbers, 0],
        "neuron": names.tolist(),
        "label": [model.label(name) for name in names],
        "colour": colours,
        "marker": [PROVENANCE_MARKERS[word] for word in words],
        "alpha": np.where(tracks["observed"].values[t, numbers], 1.0, 0.6),
        "provenance": words.tolist(),
        "suspicion": suspicion,
        "t_index": np.full(len(numbers), t),
    }


def those(points: Columns, kept: np.ndarray) -> Columns:
    """Return the points for which ``kept`` is True."""
    return {
        name: values[kept] if isinstance(values, np.ndarray) else [values[number] for number in np.flatnonzero(kept)]
        for name, values in points.items()
    }


def chosen_of(points: Columns, neuron: str) -> Columns:
    """Return the point of one neuron, or none."""
    return those(points, np.array([name == neuron for name in points["neuron"]], dtype=bool))


def suspicion_of(model: Curation, t: int, names: np.ndarray) -> np.ndarray:
    """Return the suspicion of neurons in a frame, 0 to 1; NaN where it is not known."""
    if model.suspicion is None:
        return np.full(len(names), np.nan)
    known = dict(zip(model.suspicion["neuron"].values.tolist(), model.suspicion.values[t].tolist(), strict=True))
    return np.array([known.get(name, np.nan) for name in names], dtype=float)


def suspicion_colour(value: float) -> str:
    """Return the colour of a suspicion from 0 to 1, from blue over yellow to vermilion."""
    if not np.isfinite(value):
        return UNKNOWN_COLOUR
    return str(SUSPICION_COLOURS[int(np.clip(round(100 * value), 0, 100))])
