"""The verb plot_comparison: the same plane of several recordings, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import holoviews as hv
import xarray as xr

from niddl_xr.plots._image import Canvas, axes_of, draw_plane, draw_scale_bar, upright
from niddl_xr.plots._planes import MAXIMUM, PERCENTILES, Extent, Window, contrast, crop, load_plane, stamp
from niddl_xr.plots._style import MARK_COLOUR, TOOLS, load_backend, palette_colours
from niddl_xr.schema import NiddlError, require_recording

CONTRASTS = ("shared", "own")
MOST_IN_A_ROW = 3
_WHOLE = "whole "  # before the names of the axes of the whole planes, which do not follow those of their windows


def plot_comparison(
    recordings: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    t: int = 0,
    z: int | str = MAXIMUM,
    y: Window | None = None,
    x: Window | None = None,
    whole: bool = False,
    contrast: str = "shared",
    percentiles: Sequence[float] = PERCENTILES,
    palette: str = "grey",
    scale_bar_um: float | None = None,
    edge_px: int = 300,
    label: str = "raw",
    **others: xr.DataArray,
) -> hv.Layout:
    """Draw the same plane of several recordings side by side.

    Only this frame of each is loaded. The axes of the pictures are linked.

    Parameters
    ----------
    recordings
        One recording (t, z, y, x), or a mapping of names to recordings of one shape.
    t, z
        Number of the frame; number of the plane, or "max" for the maximum over all planes.
    y, x
        Windows (start, stop) in the units of the coordinates, µm where known: draw this part only.
    whole
        With a window: also draw the whole planes, above, with the window marked.
    contrast
        "shared": one range of counts for all, from the lowest to the highest of their percentiles. "own": each
        picture at its own percentiles. The title says which counts are darkest and brightest.
    percentiles, palette, scale_bar_um
        As in :func:`plot_frame`.
    edge_px
        The longer edge of every picture on the screen, in pixels.
    label
        Name of ``recordings`` where it is one recording.
    **others
        Further recordings, under their names.

    Returns
    -------
    holoviews.Layout
        One picture a recording, in the order given.

    Raises
    ------
    NiddlError
        For recordings of different shapes, a window without pixels, an unknown contrast, and as :func:`plot_frame`.

    Examples
    --------
    >>> recording.niddl.plot_comparison(denoised=clean, t=10, y=(10, 30), x=(5, 25), whole=True)  # doctest: +SKIP
    """
    named = _named(recordings, label, others)
    if contrast not in CONTRASTS:
        raise NiddlError(f"no contrast {contrast!r}; choose one of {', '.join(CONTRASTS)}")
    load_backend()
    palette_colours(palette)
    first = next(iter(named.values()))
    windowed = y is not None or x is not None
    if windowed:
        crop(first, y, x)  # a window without pixels is found before anything is loaded
    planes = {name: upright(load_plane(recording, t, z)) for name, recording in named.items()}
    windows = {name: crop(plane, y, x) for name, plane in planes.items()}
    measured = planes if whole else windows
    limits = _limits(measured, percentiles, shared=contrast == "shared", symmetric=palette == "difference")
    rows = []
    if whole and windowed:
        rows.append(_row(planes, limits, palette, scale_bar_um, edge_px, contrast, _WHOLE, windows))
        rows.append(_row(windows, limits, palette, scale_bar_um, edge_px, "named above", "", None))
    else:
        rows.append(_row(windows, limits, palette, scale_bar_um, edge_px, contrast, "", None))
    title = stamp(first, t, z)
    if contrast == "shared":
        title += f"; all from {_counts(*next(iter(limits.values())))}"
    columns = len(named) if len(named) <= MOST_IN_A_ROW or len(rows) > 1 else -(-len(named) // 2)
    pictures = hv.Layout([picture for row in rows for picture in row]).cols(columns)
    return pictures.opts(title=title, fontsize={"title": "11pt"}, merge_tools=True, toolbar="right", backend="bokeh")


def _named(
    recordings: xr.DataArray | Mapping[str, xr.DataArray], label: str, others: Mapping[str, xr.DataArray]
) -> dict[str, xr.DataArray]:
    given = {label: recordings} if isinstance(recordings, xr.DataArray) else recordings
    if not isinstance(given, Mapping) or not (given or others):
        raise NiddlError(f"expected a recording or a mapping of names to recordings, got {type(recordings).__name__}")
    if twice := sorted(set(given) & set(others)):
        raise NiddlError(f"two recordings are called {', '.join(twice)}; name the first with label=")
    named = {str(name): recording for name, recording in {**given, **others}.items()}
    for name, recording in named.items():
        if not isinstance(recording, xr.DataArray):
            raise NiddlError(
                f"expected recordings, got {type(recording).__name__} under the name {name}; "
                "options are t, z, y, x, whole, contrast, percentiles, palette, scale_bar_um, edge_px and label"
            )
        require_recording(recording)
    sizes = {name: dict(recording.sizes) for name, recording in named.items()}
    if len({tuple(size.values()) for size in sizes.values()}) > 1:
        raise NiddlError(f"expected recordings of one shape, got {sizes}; select the same part of each with isel")
    return named


def _limits(
    planes: Mapping[str, xr.DataArray], percentiles: Sequence[float], *, shared: bool, symmetric: bool
) -> dict[str, tuple[float, float]]:
    own = {name: contrast(plane.values, percentiles, symmetric=symmetric) for name, plane in planes.items()}
    if not shared:
        return own
    together = min(low for low, _ in own.values()), max(high for _, high in own.values())
    return dict.fromkeys(own, together)


def _counts(low: float, high: float) -> str:
    digits = 0 if high - low >= 10 else 3
    return f"{low:,.{digits}f} to {high:,.{digits}f} counts"


def _row(
    planes: Mapping[str, xr.DataArray],
    limits: Mapping[str, tuple[float, float]],
    palette: str,
    scale_bar_um: float | None,
    edge_px: int,
    titled: str,
    prefix: str,
    windows: Mapping[str, xr.DataArray] | None,
) -> list[hv.Overlay]:
    row: list[hv.Overlay] = []
    for name, plane in planes.items():
        canvas = Canvas.around(Extent.of(plane), edge_px)
        title = {"shared": name, "own": f"{name}: {_counts(*limits[name])}"}.get(titled, "")
        drawn = [
            draw_plane(plane, canvas=canvas, limits=limits[name], palette=palette, title=title, prefix=prefix).opts(
                yaxis="left" if not row else "bare", backend="bokeh"
            )
        ]
        if windows is not None:
            drawn.append(_outline(windows[name], prefix))
        bar = draw_scale_bar(plane, canvas=canvas, scale_bar_um=scale_bar_um, palette=palette, prefix=prefix)
        row.append(hv.Overlay(drawn if bar is None else [*drawn, *bar]))
    return row


def _outline(window: xr.DataArray, prefix: str) -> hv.Path:
    """Draw the edge of a window into a whole plane."""
    edge = Extent.of(window)
    corners = [
        (edge.left, edge.top),
        (edge.right, edge.top),
        (edge.right, edge.bottom),
        (edge.left, edge.bottom),
        (edge.left, edge.top),
    ]
    return hv.Path([corners], kdims=axes_of(window, prefix)).opts(
        color=MARK_COLOUR, line_width=1.5, **TOOLS, backend="bokeh"
    )
