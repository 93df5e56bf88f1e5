"""ImageJ hyperstacks, of more than 4 GB too."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._blocks import Cast
from niddl_xr.recordings.export._calibration import Calibration, calibration_of
from niddl_xr.recordings.export._tiff import fits_classic, imagej_description, write_pages
from niddl_xr.schema import NiddlError

WRITER = Writer(
    "ImageJ TIFF",
    suffixes=(".tif", ".tiff"),
    takes=("recording",),
    needs=("tifffile",),
    options=("dtype", "compression"),
)
_DTYPES = ("uint8", "uint16", "float32")
_MOST_LABELS = 100_000


def write(
    channels: Mapping[str, xr.DataArray],
    path: Path,
    *,
    progress: bool,
    dtype: Any = None,
    compression: str = "none",
) -> None:
    """Write channels as an ImageJ hyperstack (order xyczt).

    More than 4 GB are written as ImageJ itself does: one page header, and the planes one after the other, which ImageJ
    and tifffile read, but few others.

    Parameters
    ----------
    channels
        Recordings (t, z, y, x) by channel name.
    path
        File to make.
    progress
        Show a progress bar.
    dtype
        uint8, uint16 or float32, which are all that ImageJ has; default as it is.
    compression
        "none", "zlib", "zstd" or "lzw"; "none" for more than 4 GB.
    """
    import tifffile

    cast = Cast(list(channels.values()), dtype, _DTYPES, "ImageJ's TIFF")
    first = next(iter(channels.values()))
    calibration = calibration_of(first)
    calibration.warn_of_space("ImageJ's TIFF")
    labels = _labels(channels, calibration)
    if "t" in calibration.uneven:
        where = (
            "in the labels of its slices" if labels else f"lost, because {_MOST_LABELS:,} slices at most have labels"
        )
        warnings.warn(f"ImageJ has one time step: the uneven frame times are {where}", stacklevel=4)
    large = not fits_classic(channels, cast.dtype)
    if large and compression != "none":
        raise NiddlError(
            "ImageJ's TIFF of more than 4 GB cannot be compressed; leave out compression=, or use .ome.tif"
        )
    metadata = {"Info": _info(channels), **labels}
    write_pages(
        path,
        channels,
        cast,
        [imagej_description(channels, calibration)],
        compression=compression,
        big=False,
        progress=progress,
        further_tags=tifffile.imagej_metadata_tag(metadata, "<"),
        first_header_only=large,
    )
    cast.say()


def _info(channels: Mapping[str, xr.DataArray]) -> str:
    """Return the attributes as lines, as ImageJ shows them under Image > Show Info."""
    first = next(iter(channels.values()))
    names = {"channels": ", ".join(channels)} if len(channels) > 1 else {}
    return "\n".join(f"{key} = {_plain(value)}" for key, value in {**first.attrs, **names}.items())


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(text.splitlines())


def _labels(channels: Mapping[str, xr.DataArray], calibration: Calibration) -> dict[str, list[str]]:
    """Return what ImageJ writes above every slice, where step and order do not say it: channel and uneven time."""
    first = next(iter(channels.values()))
    times = calibration.t_s.tolist() if calibration.t_s is not None and not calibration.starts_at_zero else None
    count = first.sizes["t"] * first.sizes["z"] * len(channels)
    if (len(channels) == 1 and times is None) or count > _MOST_LABELS:
        return {}
    return {
        "Labels": [
            " ".join(part for part in (name, "" if times is None else f"t = {times[frame]!r} s") if part)
            for frame in range(first.sizes["t"])
            for _ in range(first.sizes["z"])
            for name in channels
        ]
    }
