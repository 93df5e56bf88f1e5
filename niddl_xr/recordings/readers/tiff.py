"""TIFF files: OME in one or many files, ImageJ hyperstacks (of more than 4 GB too), BigTIFF, and plain pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import choose_channel, lazy_planes, require_axes
from niddl_xr.recordings.readers._tiff_layout import COMPANION, UNKNOWN, Layout, describe
from niddl_xr.recordings.readers._tiff_tags import MAGIC
from niddl_xr.schema import NiddlError

__all__ = ["READER", "Layout", "channel_names", "describe", "opened", "read", "recognises_file", "resolve_unknown"]

READER = Reader(
    "TIFF: OME (several files too), ImageJ, BigTIFF, plain pages",
    suffixes=(".tif", ".tiff", ".btf", ".tf8", ".tf2", ".lsm", ".stk", ".ome"),
    magic=MAGIC,
    needs=("tifffile", "imagecodecs"),
    options=("sizes", "series", "gaps"),
    general=True,
)
COLOURS = ("red", "green", "blue", "alpha")


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file holds the metadata of an OME-TIFF in several files."""
    return path.name.lower().endswith(COMPANION) and b"<OME" in head


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    sizes: Mapping[str, int] | None = None,
    series: int | None = None,
    gaps: str = "error",
) -> Opened:
    """Open a TIFF lazily.

    Parameters
    ----------
    path
        The file; of an OME-TIFF in several files, any of them, or the companion file that holds the metadata.
    axes
        Letters of its dims, in place of what the file states. Pages that the file does not name are frames (t).
        With more letters than the file has dims, its pages are split as ``sizes`` says.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    sizes
        Sizes of axes over pages, such as ``{"z": 30}``: all but one of those that ``axes`` names.
    series
        Which image of a file with several, counted from 0.
    gaps
        ``"error"`` where OME metadata name planes that no file holds, as after a recording that was stopped, or
        ``"skip"``: the complete frames are opened, one warning says which are not, and t keeps the numbers.
    """
    layout = describe(path, series, gaps=gaps)
    leading, lead_sizes, page = _page_axes(path, layout, axes, sizes)
    return opened(layout, leading, lead_sizes, page, channel, chunks, path, states_times=axes is None)


def opened(
    layout: Layout,
    leading: str,
    lead_sizes: tuple[int, ...],
    page: str,
    channel: int | str | None,
    chunks: Any,
    where: Any,
    *,
    states_times: bool = True,
) -> Opened:
    """Return one channel of what a TIFF holds, with its axes over planes and within them resolved."""
    shape = (*lead_sizes, *layout.table.page_shape)
    number_, label = choose_channel(channel, leading + page, shape, channel_names(layout, page), where)
    data, arranged = lazy_planes(layout.table, leading, lead_sizes, page, chunks, number_)
    own = layout.channel_attrs[number_] if number_ < len(layout.channel_attrs) else {}
    names = {"channels": list(layout.channels)} if len(layout.channels) > 1 else {}
    coords = {}
    if layout.frames is not None and states_times:
        coords["t"] = xr.Variable("t", layout.frames, {"units": "frame"})
    return Opened(
        data,
        arranged,
        voxel_um=layout.voxel_um,
        dt_s=layout.dt_s,
        t_s=layout.t_s if states_times else None,
        channel=label,
        coords=coords,
        attrs={**layout.attrs, **own, **names},
        notes=layout.notes,
    )


def channel_names(layout: Layout, page: str) -> tuple[str, ...]:
    """Return the names of the channels that the file states, else the colours of a colour image."""
    colours = COLOURS[: layout.table.page_shape[page.index("c")]] if "c" in page and layout.rgb else ()
    return layout.channels if not colours or len(layout.channels) == len(colours) else colours


def _page_axes(
    path: Path, layout: Layout, axes: str | None, sizes: Mapping[str, int] | None
) -> tuple[str, tuple[int, ...], str]:
    """Return the axes over pages, their sizes, and the axes within a page."""
    cut = len(layout.axes) - layout.page_dims
    where = f"{path} with shape {layout.shape}"
    if axes is None:
        if sizes is not None:
            raise NiddlError(f"sizes= splits the pages of {path} as axes= says: set axes= too, such as axes='tzyx'")
        letters = resolve_unknown(layout.axes, where)
        return letters[:cut], layout.shape[:cut], letters[cut:]
    if sizes is None:
        letters = require_axes(axes, len(layout.shape), f"{where} (set sizes= where its pages are to be split)")
        return letters[:cut], layout.shape[:cut], letters[cut:]
    letters = require_axes(axes, len(axes), where)
    lead = letters[: len(letters) - layout.page_dims]
    return lead, _split(lead, sizes, len(layout.table), where), letters[len(lead) :]


def _split(lead: str, sizes: Mapping[str, int], pages: int, where: str) -> tuple[int, ...]:
    wrong = sorted(set(sizes) - set(lead)) or [axis for axis, size in sizes.items() if size < 1]
    if wrong or len(sizes) < len(lead) - 1:
        raise NiddlError(
            f"expected sizes, at least 1, of all but one of the axes over pages {lead!r} of {where}, got {dict(sizes)}"
        )
    rest, left = divmod(pages, int(np.prod(list(sizes.values()), dtype=int)))
    if left or rest == 0 or (len(sizes) == len(lead) and rest != 1):
        raise NiddlError(f"the {pages} pages of {where} cannot be split into sizes {dict(sizes)} along {lead!r}")
    return tuple(int(sizes.get(axis, rest)) for axis in lead)


def resolve_unknown(axes: str, where: str, letter: str = "t") -> str:
    """Return axes where one that the file does not name is ``letter``; an error where that is not clear."""
    resolved = axes.replace(UNKNOWN, letter) if axes.count(UNKNOWN) == 1 and letter not in axes else axes
    if UNKNOWN in resolved:
        raise NiddlError(
            f"{where} does not name its axes (it says {axes!r}): set axes=, one letter a dim, such as axes='tzyx'"
        )
    return require_axes(resolved, len(resolved), where)
