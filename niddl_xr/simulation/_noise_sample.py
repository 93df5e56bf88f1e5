"""The planes of a recording that its noise is estimated from."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import maximum_filter, minimum_filter

from niddl_xr import schema
from niddl_xr.chunking import sampled_planes
from niddl_xr.schema import NiddlError
from niddl_xr.simulation._checks import require_size
from niddl_xr.simulation._kernels.noise_estimation import dark_mask

SMALLEST_PLANE_PX = 32
FEWEST_DARK_PIXELS = 4096
DARK_FRACTION = 0.08  # of the tiles of a plane: small enough for a worm that fills the field, chosen by eye


def require_plane(images: xr.DataArray) -> None:
    """Raise unless planes are large enough to tell noise from structure."""
    if min(images.sizes["y"], images.sizes["x"]) < SMALLEST_PLANE_PX:
        raise NiddlError(
            f"expected planes of at least {SMALLEST_PLANE_PX} x {SMALLEST_PLANE_PX} px to tell noise from structure, "
            f"got {images.sizes['y']} x {images.sizes['x']}: take the whole field of the camera"
        )


def load_planes(recording: xr.DataArray, planes: int) -> np.ndarray:
    """Return the sampled planes (plane, y, x), float32."""
    chosen = sampled_planes(recording.sizes["t"], recording.sizes["z"], planes)
    t, z = (xr.DataArray(list(index), dims="plane") for index in zip(*chosen, strict=True))
    return np.asarray(recording.isel(t=t, z=z).transpose("plane", "y", "x").values, np.float32)


def raw_planes(recording: xr.DataArray, planes: int) -> np.ndarray:
    """Return the sampled planes (plane, y, x), float32, of a recording of raw counts, else raise."""
    schema.require_recording(recording)
    require_plane(recording)
    sample = load_planes(recording, require_size("planes", planes, 1))
    if not np.all(np.isfinite(sample)) or np.any(sample != np.rint(sample)) or sample.min() < 0:
        raise NiddlError(
            f"expected raw counts, whole numbers of 0 or more, got values from {sample.min():g} to "
            f"{sample.max():g} of dtype {recording.dtype}: take the recording as it came from the camera, neither "
            "denoised nor normalised"
        )
    counts, amounts = np.unique(sample, return_counts=True)
    if len(counts) == 1:
        raise NiddlError(f"expected images with noise, got the count {counts[0]:g} in every pixel: is the file empty?")
    if len(counts) > 5 and amounts[-1] > max(1e-3 * sample.size, 4 * amounts[-6:-1].mean()):
        raise NiddlError(
            f"expected images within the range of the camera, got {amounts[-1] / sample.size:.1%} of the pixels at "
            f"{counts[-1]:g}, saturated: take a recording with less light or a lower gain"
        )
    still = [maximum_filter(plane, 5) == minimum_filter(plane, 5) for plane in sample]
    if np.mean(still) > 0.005:
        raise NiddlError(
            f"expected noise in every pixel, got {np.mean(still):.1%} of them in areas of one value, such as the "
            "margins that a registration leaves: cut them off with isel(y=slice(...), x=slice(...))"
        )
    return sample


def tile_px(planes: np.ndarray) -> int:
    """Return the edge of the tiles that dark is looked for in: a quarter of the plane, in steps of 8 px, at most 64."""
    smallest: int = min(planes.shape[1:])
    return min(max(smallest // 4 // 8 * 8, 8), 64)


def dark_tile_px(planes: np.ndarray, asked: int) -> int:
    """Return the edge of the one dark tile of the statistics, such that a plane holds four."""
    smallest: int = min(planes.shape[1:])
    return min(require_size("dark_px", asked, 8), smallest // 2)


def dark_pixels(sample: np.ndarray, size: int) -> np.ndarray:
    """Return where (plane, y, x) the darkest tiles are, else raise if they are too few or cut off at 0."""
    dark = dark_mask(sample, size, DARK_FRACTION)
    if dark.sum() < FEWEST_DARK_PIXELS:
        raise NiddlError(
            f"expected at least {FEWEST_DARK_PIXELS} dark pixels, got {dark.sum()} in {len(sample)} planes of "
            f"{sample.shape[1]} x {sample.shape[2]} px: take larger planes or more of them (planes=)"
        )
    zeros = float((sample[dark] == 0).mean())
    if zeros > 0.005:
        raise NiddlError(
            f"expected dark pixels above 0, got 0 in {zeros:.1%} of them, cut off: the offset has been subtracted or "
            "is too low, and the noise below it is lost; take the recording as it came from the camera"
        )
    return dark
