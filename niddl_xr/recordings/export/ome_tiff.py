"""OME-TIFF that ImageJ opens calibrated, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._blocks import Cast
from niddl_xr.recordings.export._calibration import calibration_of
from niddl_xr.recordings.export._ome_xml import PIXEL_TYPES, ome_xml
from niddl_xr.recordings.export._tiff import fits_classic, imagej_description, write_pages

WRITER = Writer(
    "OME-TIFF",
    suffixes=(".ome.tif", ".ome.tiff"),
    takes=("recording",),
    needs=("tifffile",),
    options=("dtype", "compression", "image_name"),
)


def write(
    channels: Mapping[str, xr.DataArray],
    path: Path,
    *,
    progress: bool,
    dtype: Any = None,
    compression: str = "none",
    image_name: str | None = None,
) -> None:
    """Write channels as an OME-TIFF.

    The first page has two descriptions: OME-XML, then ImageJ's. Bio-Formats and libtiff take the first (a repeated tag
    does not replace the one before), ImageJ's own reader keeps the last, so that both open a calibrated hyperstack.
    What is larger than 4 GB becomes a BigTIFF, which only Bio-Formats (Fiji: Plugins > Bio-Formats) opens.

    Parameters
    ----------
    channels
        Recordings (t, z, y, x) by channel name.
    path
        File to make.
    progress
        Show a progress bar.
    dtype
        uint8 to uint32, int8 to int32, float32 or float64; default as it is.
    compression
        "none" (the fastest, and what ImageJ reads as one block), "zlib", "zstd" or "lzw".
    image_name
        Name of the image; default the name of the file that the recording came from.
    """
    cast = Cast(list(channels.values()), dtype, tuple(PIXEL_TYPES), "OME-TIFF")
    first = next(iter(channels.values()))
    calibration = calibration_of(first)
    calibration.warn_of_space("OME-TIFF")
    name = image_name or Path(str(first.attrs.get("source", "recording"))).name
    descriptions = [
        ome_xml(channels, cast.dtype, calibration, name),
        imagej_description(channels, calibration),
    ]
    big = not fits_classic(channels, cast.dtype)
    write_pages(path, channels, cast, descriptions, compression=compression, big=big, progress=progress)
    cast.say()
