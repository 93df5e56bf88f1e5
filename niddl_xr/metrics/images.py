"""How near an image is to the truth, plane by plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from niddl_xr.metrics import _measures as kernels
from niddl_xr.metrics._checks import PLANE_DIMS, require_peak, require_same
from niddl_xr.schema import NiddlError

Image = xr.DataArray | np.ndarray
Match = Literal["affine", "none"]


def affine_match(image: Image, truth: Image) -> xr.DataArray:
    """Bring every plane of an image to the scale of the truth: ``a image + b``, least squares, a ≥ 0.

    Detectors, lasers and networks change gain and offset, which say nothing about quality: they are matched before
    images are compared. Sums are in float64.

    Parameters
    ----------
    image, truth
        Planes (y, x), or arrays with further dims (t, z, stack), which are taken plane by plane; of the same
        sizes and without NaN. A bare numpy array is one plane.

    Returns
    -------
    xarray.DataArray
        float32, dims, coordinates and laziness of ``image``. Where an image is constant, or would have to be inverted
        (a < 0), it becomes the mean of the truth.

    Raises
    ------
    NiddlError
        For different dims or sizes.

    Notes
    -----
    The match of CARE's evaluation (Weigert et al., Nat. Methods 15:1090, 2018), except that a is not negative:
    an inverted image earns nothing.

    Examples
    --------
    >>> truth = np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> affine_match(10 * truth + 400, truth).values.tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    first, second = _same_sizes(image, truth)

    def kernel(plane: np.ndarray, target: np.ndarray) -> np.ndarray:
        return kernels.matched(plane, target).astype(np.float32)

    result: xr.DataArray = xr.apply_ufunc(
        kernel,
        first,
        second,
        input_core_dims=[PLANE_DIMS, PLANE_DIMS],
        output_core_dims=[PLANE_DIMS],
        vectorize=True,
        join="override",
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float32],
        keep_attrs=True,
    )
    return result


def rmse(image: Image, truth: Image, *, match: Match = "affine") -> xr.DataArray:
    """Root mean square error of every plane, in the unit of the truth.

    Parameters
    ----------
    image, truth
        As in :func:`affine_match`.
    match
        "affine" brings each plane to the truth's scale first; "none" compares as it is.

    Returns
    -------
    xarray.DataArray
        float64 over the dims other than y and x, lazy where the input is. NaN where a plane holds NaN.

    Raises
    ------
    NiddlError
        For different dims or sizes, and for another ``match``.

    Examples
    --------
    >>> float(rmse(np.full((2, 3), 5.0), np.zeros((2, 3)), match="none"))
    5.0
    """
    return _by_plane(kernels.root_mean_square_error, image, truth, match)


def mae(image: Image, truth: Image, *, match: Match = "affine") -> xr.DataArray:
    """Mean absolute error of every plane, in the unit of the truth.

    Parameters, result and errors as in :func:`rmse`. The affine match minimises the squares, not this.

    Examples
    --------
    >>> float(mae(np.full((2, 3), 5.0), np.zeros((2, 3)), match="none"))
    5.0
    """
    return _by_plane(kernels.mean_absolute_error, image, truth, match)


def psnr(image: Image, truth: Image, *, match: Match = "affine", peak: float | None = None) -> xr.DataArray:
    """Peak signal to noise ratio of every plane in dB: 20 log10(peak / RMSE).

    Parameters
    ----------
    image, truth
        As in :func:`affine_match`.
    match
        "affine" brings each plane to the truth's scale first; "none" compares as it is.
    peak
        In the unit of the truth. None: the 99.9th minus the 0.1th percentile of the truth's plane. The lower
        percentile stands for the camera's offset: unlike a median it is one in crowded planes too, and unlike a
        minimum it does not hang on one pixel; the same two percentiles scale the truth in CARE's evaluation
        (Weigert et al., Nat. Methods 15:1090, 2018), so that numbers can be laid beside theirs. Give one number, such
        as ``float(truth.max() - truth.min())``, for the range of the clean image, or to judge planes of different
        brightness alike.

    Returns
    -------
    xarray.DataArray
        float64 in dB over the dims other than y and x, lazy where the input is. inf where image and truth are
        equal; NaN where the truth is constant and no ``peak`` is given, or where a plane holds NaN.

    Raises
    ------
    NiddlError
        For different dims or sizes, another ``match``, and a ``peak`` that is not positive.

    Examples
    --------
    >>> truth = np.zeros((4, 5))
    >>> round(float(psnr(truth + 1, truth, match="none", peak=100)), 6)
    40.0
    """
    return _by_plane(_with_peak(kernels.peak_signal_to_noise_db, peak), image, truth, match)


def ssim(image: Image, truth: Image, *, match: Match = "affine", peak: float | None = None) -> xr.DataArray:
    """Mean structural similarity of every plane, 1 for equal planes.

    Parameters
    ----------
    image, truth, match, peak
        As in :func:`psnr`; ``peak`` is the data range L of the constants (K1 L)² and (K2 L)².

    Returns
    -------
    xarray.DataArray
        float64 over the dims other than y and x, lazy where the input is; the mean over the windows that lie inside
        the plane. NaN where the truth is constant and no ``peak`` is given, or where a plane holds NaN.

    Raises
    ------
    NiddlError
        As :func:`psnr`, and for planes smaller than the window of 11 x 11 px.

    Notes
    -----
    Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Process. 13:600 (2004): Gaussian window of 11 x 11 px, sigma
    1.5 px, K1 0.01, K2 0.03, population covariances; computed by scikit-image.

    Examples
    --------
    >>> plane = np.arange(144.0).reshape(12, 12)
    >>> round(float(ssim(2 * plane + 7, plane)), 6)
    1.0
    """
    first = _labelled(image)
    if min(first.sizes.get(dim, 0) for dim in PLANE_DIMS) < kernels.SSIM_WINDOW_PX:
        raise NiddlError(
            f"expected planes of at least {kernels.SSIM_WINDOW_PX} x {kernels.SSIM_WINDOW_PX} px, the window of SSIM, "
            f"got sizes {dict(first.sizes)}; use psnr"
        )
    return _by_plane(_with_peak(kernels.structural_similarity, peak), image, truth, match)


def _labelled(image: Image) -> xr.DataArray:
    if isinstance(image, xr.DataArray):
        return image
    array = np.asarray(image)
    if array.ndim != 2:
        raise NiddlError(
            f"expected a plane (y, x) or a DataArray with named dims, got an array of shape {array.shape}; "
            "see niddl_xr.from_numpy"
        )
    return xr.DataArray(array, dims=PLANE_DIMS)


def _same_sizes(image: Image, truth: Image) -> tuple[xr.DataArray, xr.DataArray]:
    first, second = _labelled(image), _labelled(truth)
    require_same({"image": first}, second)
    return first, second


def _with_peak(
    kernel: Callable[[np.ndarray, np.ndarray, float], float], peak: float | None
) -> Callable[[np.ndarray, np.ndarray], float]:
    require_peak(peak)
    return lambda image, truth: kernel(image, truth, kernels.peak_of(truth) if peak is None else peak)


def _by_plane(
    kernel: Callable[[np.ndarray, np.ndarray], float], image: Image, truth: Image, match: Match
) -> xr.DataArray:
    first, second = _same_sizes(image, truth)
    if match not in ("affine", "none"):
        raise NiddlError(f'expected match="affine" or "none", got {match!r}')

    def judge(plane: np.ndarray, target: np.ndarray) -> float:
        return kernel(kernels.matched(plane, target) if match == "affine" else plane, target)

    result: xr.DataArray = xr.apply_ufunc(
        judge,
        first,
        second,
        input_core_dims=[PLANE_DIMS, PLANE_DIMS],
        vectorize=True,
        join="override",
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float64],
    )
    return result
