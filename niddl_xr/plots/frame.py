"""The verb plot_frame: one plane of one frame."""

from __future__ import annotations

from collections.abc import Sequence

import holoviews as hv
import xarray as xr

from niddl_xr.plots._image import Canvas, draw_plane, draw_scale_bar, upright
from niddl_xr.plots._planes import MAXIMUM, PERCENTILES, Extent, contrast, load_plane, require_percentiles, stamp
from niddl_xr.plots._style import load_backend, palette_colours


def plot_frame(
    recording: xr.DataArray,
    *,
    t: int = 0,
    z: int | str = MAXIMUM,
    percentiles: Sequence[float] = PERCENTILES,
    palette: str = "grey",
    scale_bar_um: float | None = None,
    colorbar: bool = True,
    title: str | None = None,
    edge_px: int = 420,
) -> hv.Overlay:
    """Draw one plane of one frame.

    Only this frame is loaded, with the dask block that it lies in.

    Parameters
    ----------
    recording
        Dims (t, z, y, x), any real dtype; NaN stays empty.
    t
        Number of the frame, from 0; negative numbers count from the end.
    z
        Number of the plane, or "max" for the maximum over all planes.
    percentiles
        Of the plane's pixels: what is drawn darkest and brightest.
    palette
        "grey"; "viridis", which shows faint structure; or "difference", blue-white-red about 0, for instance for
        ``raw - denoised``.
    scale_bar_um
        Length of the scale bar in µm; None for a round one where the recording is in µm, 0 for none.
    colorbar
        Whether the counts of the colours stand beside the picture.
    title
        In place of the time [s] and the plane.
    edge_px
        The longer edge of the picture on the screen, in pixels.

    Returns
    -------
    holoviews.Overlay
        With y downwards, both axes in µm (pixels where unknown), and equal units equally long.

    Raises
    ------
    NiddlError
        For a frame or plane that is not there, percentiles out of order, an unknown palette, or a scale bar that does
        not fit.

    Examples
    --------
    >>> recording.niddl.plot_frame(t=10, z="max")  # doctest: +SKIP
    """
    load_backend()
    palette_colours(palette)
    require_percentiles(percentiles)
    plane = upright(load_plane(recording, t, z))
    canvas = Canvas.around(Extent.of(plane), edge_px)
    limits = contrast(plane.values, percentiles, symmetric=palette == "difference")
    image = draw_plane(
        plane,
        canvas=canvas,
        limits=limits,
        palette=palette,
        title=f"{stamp(recording, t, z)}, counts" if title is None else title,
        colorbar=colorbar,
    )
    bar = draw_scale_bar(plane, canvas=canvas, scale_bar_um=scale_bar_um, palette=palette)
    return hv.Overlay([image]) if bar is None else image * bar
