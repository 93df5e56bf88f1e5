"""How near an image is to the truth, and how good it is where there is no truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.metrics import _measures as kernels
from niddl_xr.schema import NiddlError, require_recording

if TYPE_CHECKING:
    import pandas as pd

PLANE_DIMS = ("y", "x")
_PLANES_AT_ONCE = 64

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


def compare(
    recordings: Mapping[str, xr.DataArray],
    truth: xr.DataArray | None = None,
    *,
    planes: Sequence[int] | None = None,
    max_planes: int | None = 64,
    baselines: bool = True,
    peak: float | None = None,
    per_plane: bool = False,
) -> pd.DataFrame:
    """Compare recordings of the same scene: with the truth, or by their own signal to noise.

    Parameters
    ----------
    recordings
        Name -> recording (t, z, y, x), or arrays with other dims before y and x, such as the ``noisy`` of pairs
        (stack, z, y, x). All of the same dims and sizes; they are matched by position, not by coordinate.
    truth
        What they should look like, of the same sizes; None where it is not known.
    planes
        Which planes to compare: positions in the order of the dims before y and x (for a recording
        ``t * sizes["z"] + z``).
    max_planes
        Where ``planes`` is None, so many planes, spread evenly over the recording; None for all. 64 planes at a time
        are in memory, in the stored dtype.
    baselines
        Add "median 3x3" and "gaussian sigma 1", made of the recording named "raw", where there is one: what a
        method has to beat. A blur comes within 1.5 dB of a network on real worm pairs.
    peak
        Of PSNR and SSIM, in the unit of the truth; one for all planes, so that dark and bright planes are judged alike.
        None: the 99.9th minus the 0.1th percentile of the compared planes of the truth, see :func:`psnr`.
    per_plane
        Give the long table, one row for each name and plane, for :func:`niddl_xr.metrics.paired_wilcoxon`.

    Returns
    -------
    pandas.DataFrame
        One row per name (the index), baselines after "raw". With a truth: ``PSNR_dB``, ``SSIM``, ``RMSE`` and ``MAE``
        in the unit of the truth, each after an affine match per plane, mean over planes. Without:
        ``snr_dB``, ``foreground``, ``background``, ``noise_sd``, ``saturated`` as in :func:`snr`, each of a plane, mean
        over planes that are not NaN. ``planes`` counts the planes. With ``per_plane`` the columns ``name``, ``plane``
        and one position per dim before y and x (``t_index``, ``z_index``) stand before the same numbers. SSIM is NaN
        where planes are smaller than its window of 11 x 11 px; planes that hold NaN give NaN.

    Raises
    ------
    NiddlError
        For no recordings, different dims or sizes, and planes outside the recording.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> movie = whole_brain(shape=(2, 24, 32), frames=3, neurons=4)
    >>> table = compare({"raw": movie["recording"]["F"]}, movie["clean"]["F"])
    >>> table.index.tolist(), bool(table.loc["gaussian sigma 1", "PSNR_dB"] > table.loc["raw", "PSNR_dB"])
    (['raw', 'median 3x3', 'gaussian sigma 1'], True)
    """
    import pandas as pd

    reference = _require_same(recordings, truth)
    chosen = _chosen_planes(reference, planes, max_planes)
    _require_peak(peak)
    if truth is not None and peak is None:
        peak = _common_peak(truth, chosen)

    rows: list[dict[str, Any]] = []
    for batch in _batches(chosen):
        target = None if truth is None else _load_planes(truth, batch)
        for name, recording in recordings.items():
            images = _load_planes(recording, batch)
            rows += _judge(name, images, target, reference, batch, peak)
            if name == "raw" and baselines:
                for baseline, kernel in kernels.BASELINES.items():
                    if baseline not in recordings:
                        filtered = np.stack([kernel(plane) for plane in images])
                        rows += _judge(baseline, filtered, target, reference, batch, peak)
    table = pd.DataFrame(rows)
    if per_plane:
        return table
    positions = ["plane", *_index_columns(reference)]
    summary = table.drop(columns=positions).groupby("name", sort=False).mean()
    summary["planes"] = len(chosen)
    return summary


def snr(
    recording: xr.DataArray,
    *,
    per: Literal["frame", "plane"] = "frame",
    foreground_fraction: float = 0.01,
    saturation: float | None = None,
    max_frames: int | None = 64,
) -> xr.Dataset:
    """Measure signal to noise of a recording, without any truth.

    ``snr_dB = 20 log10((foreground - background) / noise_sd)``, where the background is the median, ``noise_sd`` is
    1.4826 times the median absolute deviation, and the foreground is the mean of the brightest pixels. So most of the
    field has to be background: where the sample fills it, its own structure counts as noise. Noise alone has
    brightest pixels too: pure Gaussian noise scores 8.5 dB. A denoised image has hardly any noise left in its
    background: compare the SNR of raw recordings, not that of methods.

    Parameters
    ----------
    recording
        (t, z, y, x).
    per
        Take the brightest pixels of each frame (volume), or of each plane.
    foreground_fraction
        Part of the pixels that count as foreground: the brightest 1 %, at least one pixel.
    saturation
        Counts from which a pixel is saturated; None: the largest value of an integer dtype, and never for floating
        point. Set 4095 for a 12-bit camera.
    max_frames
        Measure so many frames, spread evenly over the recording; None for all.

    Returns
    -------
    xarray.Dataset
        ``snr_dB``, ``foreground``, ``background``, ``noise_sd`` (in the unit of the recording) and ``saturated`` (part
        of the pixels), each (t,) or (t, z), float64, of the frames measured. ``snr_dB`` is NaN where there is no
        noise to measure (more than half of the pixels equal, so also a constant image). Pixels that are not
        finite are left out. Summarise with ``.median()``.

    Raises
    ------
    NiddlError
        Where ``recording`` is none, and for arguments out of range.

    Warns
    -----
    UserWarning
        Where pixels are saturated: their counts are not proportional to light.

    Notes
    -----
    Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022) ask for an image SNR of about 20 without giving its formula;
    this one gives 12 to 35 dB on their planes.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> dim, bright = (whole_brain(shape=(2, 256, 256), frames=2, neurons=30, photons=p) for p in (5, 50))
    >>> bool(snr(bright["recording"]["F"]).snr_dB.median() > snr(dim["recording"]["F"]).snr_dB.median())
    True
    """
    require_recording(recording)
    if per not in ("frame", "plane"):
        raise NiddlError(f'expected per="frame" or "plane", got {per!r}')
    if not 0 < foreground_fraction < 0.5:
        raise NiddlError(
            f"expected foreground_fraction above 0 and below 0.5, because the median is the background, "
            f"got {foreground_fraction}"
        )
    threshold = _saturation(recording.dtype, saturation)
    frames = recording.isel(t=_spread(recording.sizes["t"], max_frames, "max_frames"))
    dims = ["z", "y", "x"] if per == "frame" else ["y", "x"]
    results = xr.apply_ufunc(
        lambda image: kernels.signal_and_noise(image, foreground_fraction, threshold),
        frames,
        input_core_dims=[dims],
        output_core_dims=[[]] * len(kernels.SignalAndNoise._fields),
        vectorize=True,
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float64] * len(kernels.SignalAndNoise._fields),
    )
    table = xr.Dataset(dict(zip(kernels.SignalAndNoise._fields, results, strict=True))).compute()
    unit = recording.attrs.get("units", "counts")
    for name in ("foreground", "background", "noise_sd"):
        table[name].attrs["units"] = unit
    table["snr_dB"].attrs.update(units="dB", foreground_fraction=foreground_fraction)
    table["saturated"].attrs["units"] = "1"
    share = float(table["saturated"].mean())
    if share > 0:
        warn(
            f"{100 * share:.3g} % of the pixels are saturated (at or above {threshold:g}): "
            "their counts are not proportional to light; lower the laser or the gain",
            stacklevel=2,
        )
    return table


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
    _require_same({"image": first}, second)
    return first, second


def _with_peak(
    kernel: Callable[[np.ndarray, np.ndarray, float], float], peak: float | None
) -> Callable[[np.ndarray, np.ndarray], float]:
    _require_peak(peak)
    return lambda image, truth: kernel(image, truth, kernels.peak_of(truth) if peak is None else peak)


def _require_peak(peak: float | None) -> None:
    if peak is not None and not (np.isfinite(peak) and peak > 0):
        raise NiddlError(f"expected peak, the range of the truth, as a positive number, got {peak}")


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


def _require_same(recordings: Mapping[str, xr.DataArray], truth: xr.DataArray | None) -> xr.DataArray:
    """Return the first recording, after checking that all have its dims and sizes."""
    everything = dict(recordings)
    if truth is not None:
        everything["the truth"] = truth
    if not recordings:
        raise NiddlError('expected at least one recording, got none; see compare({"raw": recording})')
    for name, array in everything.items():
        if not isinstance(array, xr.DataArray) or array.dims[-2:] != PLANE_DIMS or array.size == 0:
            got = f"dims {array.dims}" if isinstance(array, xr.DataArray) else type(array).__name__
            raise NiddlError(f"expected {name} as a DataArray whose last dims are y and x, not empty, got {got}")
    first_name, first = next(iter(everything.items()))
    different = {n: dict(a.sizes) for n, a in everything.items() if (a.dims, a.shape) != (first.dims, first.shape)}
    if different:
        raise NiddlError(
            f"expected the same dims and sizes everywhere, got {first_name} {dict(first.sizes)} and "
            f"{', '.join(f'{name} {sizes}' for name, sizes in different.items())}; select a common part with isel"
        )
    return first


def _spread(size: int, most: int | None, argument: str) -> np.ndarray:
    """Return at most ``most`` positions of ``size``, evenly spread, first and last included."""
    if most is not None and most < 1:
        raise NiddlError(f"expected {argument} of 1 or more, or None for all, got {most}")
    if most is None or most >= size:
        return np.arange(size)
    return np.unique(np.round(np.linspace(0, size - 1, most)).astype(int))


def _chosen_planes(reference: xr.DataArray, planes: Sequence[int] | None, max_planes: int | None) -> np.ndarray:
    count = int(np.prod(reference.shape[:-2], dtype=int))
    if planes is None:
        return _spread(count, max_planes, "max_planes")
    chosen = np.asarray(planes)
    if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise NiddlError(f"expected planes as a list of whole numbers, got {planes!r}")
    if chosen.min() < 0 or chosen.max() >= count:
        raise NiddlError(f"expected planes from 0 to {count - 1}, got {chosen.min()} to {chosen.max()}")
    return chosen


def _batches(chosen: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(chosen), _PLANES_AT_ONCE):
        yield chosen[start : start + _PLANES_AT_ONCE]


def _index_columns(reference: xr.DataArray) -> list[str]:
    return [f"{dim}_index" for dim in reference.dims[:-2]]


def _load_planes(array: xr.DataArray, planes: np.ndarray) -> np.ndarray:
    """Return planes (plane, y, x) of the flattened dims before y and x, loaded in one pass over the blocks."""
    if array.ndim == 2:
        return np.asarray(array.values[None])
    positions = np.unravel_index(planes, array.shape[:-2])
    pointwise = {dim: xr.DataArray(index, dims="plane") for dim, index in zip(array.dims, positions, strict=False)}
    return np.asarray(array.isel(pointwise).transpose("plane", *PLANE_DIMS).values)


def _common_peak(truth: xr.DataArray, chosen: np.ndarray) -> float:
    return kernels.peak_of(_load_planes(truth, chosen[_spread(len(chosen), _PLANES_AT_ONCE, "max_planes")]))


def _judge(
    name: str,
    images: np.ndarray,
    truth: np.ndarray | None,
    reference: xr.DataArray,
    planes: np.ndarray,
    peak: float | None,
) -> list[dict[str, Any]]:
    columns = _index_columns(reference)
    positions = np.unravel_index(planes, reference.shape[:-2]) if columns else ()
    rows = []
    for k, image in enumerate(images):
        row: dict[str, Any] = {"name": name, "plane": int(planes[k])}
        row |= {column: int(index[k]) for column, index in zip(columns, positions, strict=True)}
        if truth is None:
            row |= kernels.signal_and_noise(image, 0.01, _saturation(image.dtype, None))._asdict()
        else:
            row |= _errors(image, truth[k], float(peak or 0.0))
        rows.append(row)
    return rows


def _errors(image: np.ndarray, truth: np.ndarray, peak: float) -> dict[str, float]:
    on_scale = kernels.matched(image, truth)
    wide_enough = min(image.shape) >= kernels.SSIM_WINDOW_PX
    return {
        "PSNR_dB": kernels.peak_signal_to_noise_db(on_scale, truth, peak),
        "SSIM": kernels.structural_similarity(on_scale, truth, peak) if wide_enough else float("nan"),
        "RMSE": kernels.root_mean_square_error(on_scale, truth),
        "MAE": kernels.mean_absolute_error(on_scale, truth),
    }


def _saturation(dtype: np.dtype[Any], saturation: float | None) -> float:
    if saturation is not None:
        return float(saturation)
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else float("inf")
