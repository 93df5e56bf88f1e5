"""Classical filters with the face of a trained denoiser, so that every comparison is one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any

import numpy as np

from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION, Denoiser
from niddl_xr.denoising.normalisation import Normalisation
from niddl_xr.schema import NiddlError

LARGEST_SIGMA = 1000
TRUNCATE_SIGMAS = 4.0  # where scipy.ndimage.gaussian_filter ends its kernel by default


def median(block: np.ndarray, *, size_px: int = 3) -> np.ndarray:
    """Median of ``size_px`` × ``size_px`` pixels in every plane of a block (t, z, y, x); edges are reflected."""
    from scipy import ndimage

    result = np.empty(block.shape, np.float32)
    for index in np.ndindex(block.shape[:2]):
        plane = block[index].astype(np.float32, copy=False)
        ndimage.median_filter(plane, size=size_px, mode="reflect", output=result[index])
    return result


def gaussian(block: np.ndarray, *, sigma_px: float = 1.0, sigma_frames: float = 0.0) -> np.ndarray:
    """Gaussian filter of a block (t, z, y, x) along y and x, and along t; edges are reflected."""
    from scipy import ndimage

    sigmas = (sigma_frames, 0.0, sigma_px, sigma_px)
    values = block.astype(np.float32, copy=False)
    result: np.ndarray = ndimage.gaussian_filter(values, sigmas, mode="reflect", truncate=TRUNCATE_SIGMAS)
    return result


FILTERS: dict[str, Callable[..., np.ndarray]] = {"median": median, "gaussian": gaussian}


def classical(filter_name: str, **options: Any) -> Denoiser:
    """Make a classical filter that is used like a trained denoiser.

    Parameters
    ----------
    filter_name
        ``"median"`` with ``size_px`` (odd, default 3), or ``"gaussian"`` with ``sigma_px`` (default 1) and
        ``sigma_frames`` (along t, default 0).
    **options
        Options of the filter.

    Returns
    -------
    Denoiser
        Gives float32 in the units of the input. NaN is an error, as for every denoiser. Edges are continued by
        reflection that repeats the edge pixel, in space and in time.

    Raises
    ------
    NiddlError
        For an unknown filter or option, or a value that is no size.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> smooth = nx.classical("gaussian", sigma_px=1.5)
    >>> clean = recording.niddl.denoise(smooth)  # doctest: +SKIP
    """
    if filter_name not in FILTERS:
        raise NiddlError(f"no classical filter {filter_name!r}; choose one of {', '.join(FILTERS)}")
    parameters = signature(FILTERS[filter_name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
    if unknown := set(options) - set(defaults):
        raise NiddlError(f"filter {filter_name} has no option {sorted(unknown)}; its options are {sorted(defaults)}")
    chosen = {**defaults, **options}
    size = chosen.get("size_px")
    if size is not None and (not isinstance(size, Integral) or isinstance(size, bool) or size < 1 or size % 2 == 0):
        raise NiddlError(f"expected size_px as an odd number of pixels, got {size!r}")
    for name, value in chosen.items():
        if name.startswith("sigma") and not (isinstance(value, Real) and 0 <= float(value) <= LARGEST_SIGMA):
            raise NiddlError(f"expected {name} as a number from 0 to {LARGEST_SIGMA}, got {value!r}")
        chosen[name] = int(value) if name == "size_px" else float(value)
    return Denoiser(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "method": filter_name,
            "options": chosen,
            "normalisation": "none",
            "halo_frames": math.ceil(TRUNCATE_SIGMAS * chosen.get("sigma_frames", 0.0)),
        }
    )


class FilterRunner:
    """Runs a classical filter on blocks."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._filter = FILTERS[denoiser.method]
        self._options = dict(denoiser.card["options"])
        self._halo = denoiser.halo_frames

    def __call__(self, block: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        """Filter a block (t + 2 halo, z, y, x) to float32 (t, z, y, x)."""
        result = self._filter(block, **self._options)
        return result[self._halo : len(result) - self._halo]
