"""Methods side by side: one table of quality, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.metrics import _measures as kernels
from niddl_xr.metrics._checks import PLANE_DIMS, evenly_spread, require_peak, require_same, saturation_counts
from niddl_xr.metrics.filters import BASELINES
from niddl_xr.metrics.statistics import Alternative, paired_wilcoxon
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

_PLANES_AT_ONCE = 64


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

    reference = require_same(recordings, truth)
    chosen = _chosen_planes(reference, planes, max_planes)
    require_peak(peak)
    if truth is not None and peak is None:
        peak = _common_peak(truth, chosen)

    rows: list[dict[str, Any]] = []
    for batch in _batches(chosen):
        target = None if truth is None else _load_planes(truth, batch)
        for name, recording in recordings.items():
            images = _load_planes(recording, batch)
            rows += _judge(name, images, target, reference, batch, peak)
            if name == "raw" and baselines:
                for baseline, kernel in BASELINES.items():
                    if baseline not in recordings:
                        rows += _judge(baseline, kernel(images), target, reference, batch, peak)
    table = pd.DataFrame(rows)
    if per_plane:
        return table
    positions = ["plane", *_index_columns(reference)]
    summary = table.drop(columns=positions).groupby("name", sort=False).mean()
    summary["planes"] = len(chosen)
    return summary


def compare_paired(
    recordings: Mapping[str, xr.DataArray],
    truth: xr.DataArray | None = None,
    *,
    reference: str | None = None,
    value: str = "PSNR_dB",
    unit: str = "plane",
    alternative: Alternative = "two-sided",
    confidence: float = 0.95,
    planes: Sequence[int] | None = None,
    max_planes: int | None = 64,
    baselines: bool = True,
    peak: float | None = None,
) -> pd.DataFrame:
    """Ask of which methods the quality differs by more than chance: from images to corrected p-values in one call.

    ``paired_wilcoxon(compare(recordings, truth, per_plane=True), ...)``.

    Parameters
    ----------
    recordings, truth, planes, max_planes, baselines, peak
        As in :func:`niddl_xr.compare`.
    reference, unit, alternative, confidence
        As in :func:`niddl_xr.metrics.paired_wilcoxon`. Neighbouring planes show the same cells: choose
        "t_index" or "stack_index" where there are several frames or stacks.
    value
        Column of :func:`niddl_xr.compare`: with a truth "PSNR_dB", "SSIM", "RMSE" or "MAE"; without one "snr_dB", say.

    Returns
    -------
    pandas.DataFrame
        As of :func:`niddl_xr.metrics.paired_wilcoxon`, differences in the unit of ``value``.

    Raises
    ------
    NiddlError
        As the two functions.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> movie = whole_brain(shape=(2, 24, 32), frames=8, neurons=4)
    >>> images, truth = {"raw": movie["recording"]["F"]}, movie["clean"]["F"]
    >>> table = compare_paired(images, truth, reference="raw", unit="t_index")
    >>> table.index.tolist(), bool(table.loc["gaussian sigma 1", "p_holm"] < 0.05)
    (['median 3x3', 'gaussian sigma 1'], True)
    """
    table = compare(
        recordings,
        truth,
        planes=planes,
        max_planes=max_planes,
        baselines=baselines,
        peak=peak,
        per_plane=True,
    )
    return paired_wilcoxon(
        table, reference=reference, value=value, unit=unit, alternative=alternative, confidence=confidence
    )


def _chosen_planes(reference: xr.DataArray, planes: Sequence[int] | None, max_planes: int | None) -> np.ndarray:
    count = int(np.prod(reference.shape[:-2], dtype=int))
    if planes is None:
        return evenly_spread(count, max_planes, "max_planes")
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
    return kernels.peak_of(_load_planes(truth, chosen[evenly_spread(len(chosen), _PLANES_AT_ONCE, "max_planes")]))


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
            row |= kernels.signal_and_noise(image, 0.01, saturation_counts(image.dtype, None))._asdict()
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
