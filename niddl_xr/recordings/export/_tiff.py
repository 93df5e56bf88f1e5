"""What OME-TIFF and ImageJ's TIFF share: pages in the order that both use, ImageJ's description, compression."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.export._blocks import Cast, display_window, frame_blocks
from niddl_xr.recordings.export._calibration import Calibration, calibration_of
from niddl_xr.schema import NiddlError

LARGEST_CLASSIC_BYTES = 2**32 - 2**26  # of pixels: beyond, offsets of 32 bits do not reach the page headers
PAGE_HEADER_BYTES = 256
_DESCRIPTION, _ASCII = 270, 2  # tag and type
_COMPRESSIONS = {"none": None, "zlib": "zlib", "zstd": "zstd", "lzw": "lzw"}


def _compression_options(name: str, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return what tifffile takes for a compression; differences of neighbours (a predictor) make counts smaller."""
    if name not in _COMPRESSIONS:
        raise NiddlError(f"expected compression as one of {', '.join(_COMPRESSIONS)}, got {name!r}")
    if name == "none":
        return {}
    return {"compression": _COMPRESSIONS[name], "predictor": dtype.kind in "ui"}


def fits_classic(channels: Mapping[str, xr.DataArray], dtype: np.dtype[Any]) -> bool:
    """Whether pixels and page headers can be addressed by a TIFF that is no BigTIFF."""
    first = next(iter(channels.values()))
    pages = len(channels) * first.sizes["t"] * first.sizes["z"]
    return len(channels) * first.size * dtype.itemsize + pages * PAGE_HEADER_BYTES <= LARGEST_CLASSIC_BYTES


def write_pages(
    path: Path,
    channels: Mapping[str, xr.DataArray],
    cast: Cast,
    descriptions: Sequence[str],
    *,
    compression: str,
    big: bool,
    progress: bool,
    further_tags: Sequence[tuple[int, int, int, Any, bool]] = (),
    first_header_only: bool = False,
) -> None:
    """Write the planes of all channels, one page each: channels run fastest, then z, then t.

    ImageJ calls this order xyczt, OME XYCZT. tifffile is told of pages only, because its own ways to write OME and
    ImageJ take some small shapes for colours, and write one of the two descriptions.

    Parameters
    ----------
    path
        File to make.
    channels
        Recordings (t, z, y, x).
    cast
        Gives the pixels as they are written.
    descriptions
        ImageDescription tags of the first page, ASCII.
    compression
        "none", "zlib", "zstd" or "lzw".
    big
        Write a BigTIFF.
    progress
        Show a progress bar.
    further_tags
        Of the first page, as tifffile takes them.
    first_header_only
        Write no header after that of the first page, as ImageJ does beyond 4 GB.
    """
    import tifffile

    first = next(iter(channels.values()))
    count = first.sizes["t"] * first.sizes["z"] * len(channels)
    texts = [(_DESCRIPTION, _ASCII, 0, text, True) for text in descriptions]
    # "shaped" allows to truncate, and writes nothing of its own without metadata.
    with tifffile.TiffWriter(path, bigtiff=big, byteorder="<", ome=False, shaped=first_header_only) as tiff:
        tiff.write(
            _pages(list(channels.values()), cast, progress=progress),
            shape=(count, first.sizes["y"], first.sizes["x"]),
            dtype=cast.dtype,
            photometric="minisblack",
            metadata=None,
            software="niddl_xr",
            extratags=[*texts, *further_tags],
            truncate=first_header_only,
            **_resolution(calibration_of(first)),
            **_compression_options(compression, cast.dtype),
        )


def _pages(channels: Sequence[xr.DataArray], cast: Cast, *, progress: bool) -> Iterator[np.ndarray]:
    for _, blocks in frame_blocks(channels, progress=progress, description="export"):
        cast_blocks = [cast(block) for block in blocks]
        for frame in range(len(blocks[0])):
            for plane in range(blocks[0].shape[1]):
                for block in cast_blocks:
                    yield block[frame, plane]


def imagej_description(channels: Mapping[str, xr.DataArray], calibration: Calibration) -> str:
    """Return ImageJ's description of a hyperstack (ij.io.FileSaver, ij.io.TiffDecoder): lines of key=value."""
    first = next(iter(channels.values()))
    sizes = {"channels": len(channels), "slices": first.sizes["z"], "frames": first.sizes["t"]}
    entries: dict[str, Any] = {"ImageJ": "1.54f", "images": math.prod(sizes.values())}
    entries |= {name: size for name, size in sizes.items() if size > 1}
    entries |= {"hyperstack": "true", "mode": "composite" if len(channels) > 1 else "grayscale", "loop": "false"}
    return "".join(f"{key}={value}\n" for key, value in {**entries, **_imagej_entries(channels, calibration)}.items())


def _imagej_entries(channels: Mapping[str, xr.DataArray], calibration: Calibration) -> dict[str, Any]:
    """Return ImageJ's calibration (ij.io.TiffDecoder, ij.io.Opener) as keys of its description, in their order."""
    first = next(iter(channels.values()))
    entries: dict[str, Any] = {}
    if {"x", "y"} <= set(calibration.voxel_um):
        entries["unit"] = "micron"
    if "z" in calibration.voxel_um and "unit" in entries:
        entries["spacing"] = calibration.voxel_um["z"]
    if calibration.dt_s is not None:
        entries |= {"finterval": calibration.dt_s, "fps": 1 / calibration.dt_s, "tunit": "sec"}
    for dim, origin in calibration.origin_um.items():
        if origin and dim in calibration.voxel_um:
            entries[f"{dim}origin"] = -origin / calibration.voxel_um[dim]  # the pixel where the coordinate is 0
    entries["min"], entries["max"] = display_window(first)
    return entries


def _resolution(calibration: Calibration) -> dict[str, Any]:
    """Return the tags of the pixel size as ImageJ has them: pixels per µm, no unit of print."""
    if not {"x", "y"} <= set(calibration.voxel_um):
        return {}
    return {"resolution": (1 / calibration.voxel_um["x"], 1 / calibration.voxel_um["y"]), "resolutionunit": "NONE"}
