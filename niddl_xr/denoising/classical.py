"""Classical filters with the face of a trained denoiser, so that every comparison is one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION, Denoiser
from niddl_xr.denoising.normalisation import Units
from niddl_xr.metrics import filters
from niddl_xr.schema import NiddlError

LARGEST_NUMBER = 1000
BM3D_SMALLEST_PX = 16  # bm3d 4.0.3 refuses planes below 8 px, and crashed on 8 x 8 px
BM3D_SD = 25 / 255  # the middle of the noise that its authors' examples have


def gaussian(block: np.ndarray, *, sigma_px: float = 1.0, sigma_frames: float = 0.0) -> np.ndarray:
    """Gaussian filter of a block (t, z, y, x) along t, y and x; edges are reflected, the edge repeated."""
    from scipy import ndimage

    values = block.astype(np.float32, copy=False)
    if sigma_frames:
        values = ndimage.gaussian_filter1d(
            values, sigma_frames, axis=0, mode="reflect", truncate=filters.TRUNCATE_SIGMAS
        )
    return filters.gaussian(values, sigma_px=sigma_px)


def nlm(plane: np.ndarray, *, patch_size_px: int = 7, patch_distance_px: int = 4, strength: float = 0.9) -> np.ndarray:
    """Non-local means of a plane (y, x) whose noise has SD 1; edges are reflected, the edge pixel not repeated."""
    from skimage.restoration import denoise_nl_means

    result: np.ndarray = denoise_nl_means(
        plane,
        patch_size=patch_size_px,
        patch_distance=patch_distance_px,
        h=strength,
        sigma=1.0,
        fast_mode=True,
    )
    return result.reshape(plane.shape)  # it drops dims of size 1


def bm3d(plane: np.ndarray, *, strength: float = 1.5) -> np.ndarray:
    """BM3D of a plane (y, x) whose noise has SD 1; planes of less than 16 px are reflected until they have as many."""
    _require_bm3d()
    height, width = plane.shape
    padding = (0, max(0, BM3D_SMALLEST_PX - height)), (0, max(0, BM3D_SMALLEST_PX - width))
    padded = np.pad(plane.astype(np.float64, copy=False), padding, mode="symmetric")
    result: np.ndarray = import_module("bm3d").bm3d(padded * BM3D_SD, strength * BM3D_SD) / BM3D_SD
    return result[:height, :width]


def _require_bm3d() -> None:
    if find_spec("bm3d") is None:
        raise NiddlError(
            "expected the package bm3d for the filter 'bm3d', got none: pip install 'niddl-xr[bm3d]'. It is no "
            "requirement of niddl_xr because its licence allows non-commercial use only; 'nlm' is free"
        )


FILTERS: dict[str, Callable[..., np.ndarray]] = {
    "median": filters.median,
    "gaussian": gaussian,
    "nlm": nlm,
    "bm3d": bm3d,
}
# Filters of planes whose noise has SD 1; the others are filters of blocks (t, z, y, x) of counts.
OF_UNIT_NOISE = frozenset({"nlm", "bm3d"})
# bm3d has threads of its own, which would wait for each other's cores.
ONE_AT_A_TIME = frozenset({"bm3d"})


class _Expected(NamedTuple):
    """What an option has to be, in words, and the check."""

    words: str
    check: Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= LARGEST_NUMBER


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= LARGEST_NUMBER


_ODD = _Expected("an odd number of pixels", lambda value: _whole(value) and value % 2 == 1)
_SIGMA = _Expected(f"a number from 0 to {LARGEST_NUMBER}", _number)
_OPTIONS = {
    "size_px": _ODD,
    "sigma_px": _SIGMA,
    "sigma_frames": _SIGMA,
    "patch_size_px": _ODD,
    "patch_distance_px": _Expected(f"a whole number of pixels from 1 to {LARGEST_NUMBER}", _whole),
    "strength": _Expected(
        f"a number above 0, up to {LARGEST_NUMBER}", lambda value: _number(value) and float(value) > 0
    ),
    "noise_sd_counts": _Expected(
        "a positive number of counts, or None to measure it",
        lambda value: value is None or (isinstance(value, Real) and 0 < float(value) < math.inf),
    ),
}


def classical(filter_name: str, **options: Any) -> Denoiser:
    """Make a classical filter that is used like a trained denoiser.

    Parameters
    ----------
    filter_name
        ``"median"``
            of ``size_px`` x ``size_px`` pixels (odd, default 3).
        ``"gaussian"``
            with ``sigma_px`` (default 1) and ``sigma_frames`` (along t, default 0).
        ``"nlm"``
            non-local means, of patches of ``patch_size_px`` (odd, default 7) out to ``patch_distance_px`` (default 4),
            each with the weight ``exp(-max(0, distance² - 2 SD²) / (strength SD)²)`` (``strength`` 0.9).
        ``"bm3d"``
            block matching and 3D filtering, told a noise of ``strength`` times (1.5) the SD. Needs the package bm3d,
            an extra because of its licence: ``pip install 'niddl-xr[bm3d]'``.

        The last two know the noise of a recording as a line of variance against light, measured once in its planes,
        and work on values in which it is the same everywhere (generalised Anscombe transform). ``noise_sd_counts``
        (default None) sets one SD for all levels in its place, without the transform.
    **options
        Options of the filter.

    Returns
    -------
    Denoiser
        Works plane by plane (``sigma_frames`` apart) and gives float32 in the units of the input. NaN is an error, as
        for every denoiser. Edges are continued by reflection that repeats the edge pixel, in space and in time; those
        of "nlm" and "bm3d" as their libraries do.

    Raises
    ------
    NiddlError
        For an unknown filter or option, a value that is no size, and bm3d where it is not installed.

    Notes
    -----
    Non-local means: Buades, Coll & Morel, CVPR 2005, in the fast form of scikit-image (Darbon et al., ISBI 2008), whose
    patches lack their first row and column.
    BM3D: Dabov et al., IEEE Trans. Image Process. 16:2080 (2007); Mäkinen, Azzari & Foi, 29:8339 (2020). The defaults
    are those that came out best on pairs of :func:`niddl_xr.simulate.training_pairs`, see
    docs/decisions/0010-fair-baselines.md. Time of a 512 x 512 plane on one core: 0.11 s for "nlm", 10 s for "bm3d".

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
    if filter_name in OF_UNIT_NOISE:
        defaults["noise_sd_counts"] = None
    if unknown := set(options) - set(defaults):
        raise NiddlError(f"filter {filter_name} has no option {sorted(unknown)}; its options are {sorted(defaults)}")
    chosen = {**defaults, **options}
    for name, value in chosen.items():
        if not _OPTIONS[name].check(value):
            raise NiddlError(f"expected {name} as {_OPTIONS[name].words}, got {value!r}")
        if value is not None:  # as JSON holds it
            chosen[name] = int(value) if isinstance(defaults[name], int) else float(value)
    if filter_name == "bm3d":
        _require_bm3d()
    return Denoiser(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "method": filter_name,
            "options": chosen,
            "normalisation": "noise" if filter_name in OF_UNIT_NOISE else "none",
            "halo_frames": math.ceil(filters.TRUNCATE_SIGMAS * chosen.get("sigma_frames", 0.0)),
        }
    )


class FilterRunner:
    """Runs a classical filter on blocks."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._filter = FILTERS[denoiser.method]
        self._of_unit_noise = denoiser.method in OF_UNIT_NOISE
        self._options = {k: v for k, v in denoiser.card["options"].items() if k != "noise_sd_counts"}
        self._halo = denoiser.halo_frames

    def __call__(self, block: np.ndarray, units: Units) -> np.ndarray:
        """Filter a block (t + 2 halo, z, y, x) of counts to float32 (t, z, y, x)."""
        if self._of_unit_noise:
            result = np.empty(block.shape, np.float32)
            for index in np.ndindex(block.shape[:2]):
                result[index] = units.invert(self._filter(units.apply(block[index]), **self._options))
            return result
        result = self._filter(block, **self._options)
        return result[self._halo : len(result) - self._halo]
