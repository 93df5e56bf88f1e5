"""The verb plot_loss: how a training went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import holoviews as hv

from niddl_xr.plots._style import FONT_SIZES, GRID, TOOLS, load_backend
from niddl_xr.schema import NiddlError

CURVES = {"training_loss": ("training", "#999999"), "validation_loss": ("validation", "#0072B2")}
BEST_COLOUR = "#D55E00"
_AXES = {"epoch": hv.Dimension("epoch"), "seconds": hv.Dimension("seconds", label="time", unit="s")}


class Trained(Protocol):
    """What :func:`plot_loss` looks at: anything with the card of a denoiser."""

    @property
    def card(self) -> Mapping[str, Any]:
        """The card, with the loss curve in ``card["training"]["curve"]``."""
        ...


def plot_loss(denoiser: Trained, *, width_px: int = 380, height_px: int = 260) -> hv.Layout:
    """Draw the loss of a training over epochs, and over seconds.

    The epoch whose weights were kept is marked: the one with the lowest validation loss (training loss where nothing
    was set aside). Loss has the unit of the normalised images, 1 being the robust scale of a stack.

    Parameters
    ----------
    denoiser
        A denoiser that was trained, see :func:`niddl_xr.train`.
    width_px, height_px
        Size of each of the two pictures on the screen, in pixels.

    Returns
    -------
    holoviews.Layout
        Over epochs and over time [s]; the loss is logarithmic where all of it is positive.

    Raises
    ------
    NiddlError
        For a denoiser without a loss curve: a classical filter, or an imported network.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> nx.plot_loss(nx.load_denoiser("worm.safetensors"))  # doctest: +SKIP
    """
    curve: Sequence[Mapping[str, float]] = denoiser.card.get("training", {}).get("curve", [])
    if not curve:
        raise NiddlError(
            f"expected a denoiser with a loss curve, got one of the method {denoiser.card.get('method', 'unknown')!r} "
            "without; niddl_xr.train makes them"
        )
    load_backend()
    judged = "validation_loss" if all("validation_loss" in row for row in curve) else "training_loss"
    best = min(curve, key=lambda row: (row[judged], row["epoch"]))
    losses = [row[name] for row in curve for name in CURVES if name in row]
    logarithmic = all(math.isfinite(loss) and loss > 0 for loss in losses)
    titles = {
        "epoch": f"kept: epoch {best['epoch']:.0f}, {CURVES[judged][0]} loss {best[judged]:.4g}",
        "seconds": f"{curve[-1]['seconds']:.0f} s of training",
    }
    shared = {
        "frame_width": width_px,
        "frame_height": height_px,
        "logy": logarithmic,
        "padding": 0.08,
        "fontsize": FONT_SIZES,
        "backend_opts": {"yaxis.minor_tick_line_color": None},
        "legend_position": "top_right",
        **GRID,
        **TOOLS,
    }
    pictures = [
        _losses(curve, axis, best, judged).opts(title=titles[axis.name], **shared, backend="bokeh")
        for axis in _AXES.values()
    ]
    return hv.Layout(pictures).cols(2).opts(merge_tools=True, backend="bokeh")


def _losses(
    curve: Sequence[Mapping[str, float]], axis: hv.Dimension, best: Mapping[str, float], judged: str
) -> hv.Overlay:
    loss = hv.Dimension("loss")
    drawn: list[hv.Element] = []
    for name, (label, colour) in CURVES.items():
        points = [(row[axis.name], row[name]) for row in curve if name in row]
        if points:
            drawn.append(
                hv.Curve(points, axis, loss, label=label).opts(color=colour, line_width=2, **TOOLS, backend="bokeh")
            )
            if len(points) == 1:
                drawn.append(hv.Scatter(points, axis, loss).opts(color=colour, size=5, **TOOLS, backend="bokeh"))
    kept = hv.Scatter([(best[axis.name], best[judged])], axis, loss, label="kept")
    drawn.append(kept.opts(color=BEST_COLOUR, size=10, marker="circle", line_color="white", **TOOLS, backend="bokeh"))
    return hv.Overlay(drawn)
