"""How near labels and skeletons are to the true ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from niddl_xr.schema import MICROMETRE, RECORDING_DIMS, SPACE_DIMS, NiddlError

THRESHOLDS = (0.3, 0.5, 0.7)
_TRACE = ("position", "inside", "drift")


def score_labels(pred: xr.DataArray, truth: xr.DataArray) -> pd.Series:
    """Judge labels by the true ones, frame by frame.

    Parameters
    ----------
    pred, truth
        (t, z, y, x) of the same sizes, whole numbers, 0 = background. Their numbers need not agree, nor be the same
        from frame to frame. Frames are read one by one.

    Returns
    -------
    pandas.Series
        Over all frames together:

        ``f1_iou_0.3``, ``f1_iou_0.5``, ``f1_iou_0.7``
            2 TP / (objects found + true objects): pairs of a found and a true object are one-to-one, and chosen to be
            as many as possible whose intersection over union reaches the threshold. NaN without any object.
        ``precision``, ``recall``
            At 0.5: matched pairs over the objects found, and over the true ones; NaN where there are none.
        ``mean_matched_iou``
            Mean intersection over union of the pairs matched at 0.5; NaN where there are none.
        ``seg``
            The Cell Tracking Challenge's SEG: mean over true objects of the Jaccard index with the object that covers
            more than half of it, 0 where none does. NaN without a true object.
        ``found``, ``true``
            Objects, counted once a frame.

    Raises
    ------
    NiddlError
        For anything but whole numbers, and for other dims or sizes.

    Notes
    -----
    SEG: Maška et al., Bioinformatics 30:1609 (2014). F1 of matched objects: Caicedo et al., Nat. Methods 16:1247
    (2019); at thresholds under 0.5 the assignment decides who is matched.

    Examples
    --------
    >>> truth = xr.DataArray(np.array([[[[1, 1, 2, 2, 0]]]]), dims=("t", "z", "y", "x"))
    >>> pred = xr.DataArray(np.array([[[[7, 7, 0, 8, 8]]]]), dims=("t", "z", "y", "x"))
    >>> score = score_labels(pred, truth)
    >>> float(score["f1_iou_0.5"]), round(float(score["f1_iou_0.3"]), 3), float(score["seg"])
    (0.5, 1.0, 0.5)
    """
    for name, labels in (("pred", pred), ("truth", truth)):
        if not isinstance(labels, xr.DataArray) or labels.dims != RECORDING_DIMS or labels.dtype.kind not in "ui":
            got = f"dims {labels.dims}, {labels.dtype}" if isinstance(labels, xr.DataArray) else type(labels).__name__
            raise NiddlError(f"expected {name} as labels, whole numbers with dims {RECORDING_DIMS}, got {got}")
    if pred.shape != truth.shape:
        raise NiddlError(
            f"expected labels of the same sizes, got {dict(pred.sizes)} and {dict(truth.sizes)}; "
            "select a common part with isel"
        )
    found = true = 0
    matched = dict.fromkeys(THRESHOLDS, 0)
    overlaps: list[float] = []
    covering: list[float] = []
    for t in range(truth.sizes["t"]):
        overlap, areas, true_areas = _overlap(pred[t].values, truth[t].values)
        iou = overlap / np.maximum(areas[:, None] + true_areas - overlap, 1)
        found, true = found + len(areas), true + len(true_areas)
        for threshold in THRESHOLDS:
            pairs = _pairs(iou, threshold)
            matched[threshold] += len(pairs)
            if threshold == 0.5:
                overlaps += pairs
        covering += np.where(overlap > 0.5 * true_areas, iou, 0).max(axis=0, initial=0).tolist()
    values = {f"f1_iou_{threshold}": _share(2 * matched[threshold], found + true) for threshold in THRESHOLDS}
    values["precision"], values["recall"] = _share(matched[0.5], found), _share(matched[0.5], true)
    values["mean_matched_iou"] = _share(sum(overlaps), len(overlaps))
    values["seg"] = _share(sum(covering), true)
    return pd.Series({**values, "found": float(found), "true": float(true)})


def _overlap(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the voxels (found, true) that two objects share, and those of each, background left out."""
    names, first = np.unique(pred, return_inverse=True)
    true_names, second = np.unique(truth, return_inverse=True)
    counts = np.bincount(
        first.ravel() * len(true_names) + second.ravel(), minlength=len(names) * len(true_names)
    ).reshape(len(names), len(true_names))
    here, there = names != 0, true_names != 0
    return counts[np.ix_(here, there)], counts.sum(axis=1)[here], counts.sum(axis=0)[there]


def _pairs(iou: np.ndarray, threshold: float) -> list[float]:
    """Return the IoU of the one-to-one pairs that reach ``threshold``, as many as possible and then as high."""
    if not iou.size:
        return []
    # A pair is worth more than all IoU together, so that their number decides.
    worth = np.where(iou >= threshold, 1 + iou / (1 + min(iou.shape)), 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    chosen = iou[rows, columns]
    return [float(value) for value in chosen[chosen >= threshold]]


def score_skeleton(
    pred: xr.DataArray | xr.Dataset,
    truth: xr.DataArray | xr.Dataset,
    *,
    tolerance_um: float = 0.8,
    pred_mask: xr.DataArray | None = None,
    truth_mask: xr.DataArray | None = None,
) -> pd.Series:
    """Judge skeletons of neurites by the true ones.

    Parameters
    ----------
    pred, truth
        Boolean (t, z, y, x) with coordinates in µm; a Dataset with such a ``skeleton``, as
        :func:`niddl_xr.segment_neurites` gives it; or the node ``skeleton`` of :func:`niddl_xr.simulate.neurite`, whose
        points inside the field count, moved by its drift.
    tolerance_um
        A point is found where the other skeleton passes within this distance; 0.8 µm is two pixels of the usual 20x.
    pred_mask, truth_mask
        Boolean masks (t, z, y, x) for ``cldice``, which is NaN without both; of a Dataset with a ``mask``, that one.

    Returns
    -------
    pandas.Series
        Over all frames together: ``precision`` (part of the points of ``pred`` that are near ``truth``), ``recall``
        (part of ``truth`` near ``pred``), ``f1``, ``cldice``, and ``points`` and ``true_points``. NaN where there is
        nothing to divide by; ``f1`` is 0 where one of the two is empty and the other is not.

    Raises
    ------
    NiddlError
        For anything else, different numbers of frames, and coordinates that are not in µm.

    Notes
    -----
    Buffered matching of lines: Heipke et al., ISPRS III Comm. Workshop (1997). clDice: Shit et al., CVPR 2021: the
    harmonic mean of the part of one skeleton inside the other's mask, both ways.

    Examples
    --------
    >>> line = np.zeros((1, 1, 9, 20), bool)
    >>> line[0, 0, 4] = True
    >>> coords = {"z": ("z", [0.0], {"units": "µm"}), "t": [0]}
    >>> coords |= {d: (d, 0.4 * np.arange(n), {"units": "µm"}) for d, n in (("y", 9), ("x", 20))}
    >>> truth = xr.DataArray(line, dims=("t", "z", "y", "x"), coords=coords)
    >>> half = truth & (truth.x < 4)
    >>> score_skeleton(half, truth)[["precision", "recall"]].round(2).tolist()
    [1.0, 0.6]
    """
    if isinstance(tolerance_um, bool) or not (np.isfinite(tolerance_um) and tolerance_um >= 0):
        raise NiddlError(f"expected tolerance_um as a number of µm of 0 or more, got {tolerance_um!r}")
    frames, true_frames = _points("pred", pred), _points("truth", truth)
    if len(frames) != len(true_frames):
        raise NiddlError(
            f"expected as many frames in pred as in truth, got {len(frames)} and {len(true_frames)}; "
            "select common ones with isel(t=...)"
        )
    near = true_near = points = true_points = 0
    for here, there in zip(frames, true_frames, strict=True):
        points, true_points = points + len(here), true_points + len(there)
        near, true_near = near + _near(here, there, tolerance_um), true_near + _near(there, here, tolerance_um)
    precision, recall = _share(near, points), _share(true_near, true_points)
    masks = _mask(pred, pred_mask), _mask(truth, truth_mask)
    return pd.Series(
        {
            "precision": precision,
            "recall": recall,
            "f1": _harmonic(precision, recall) if points and true_points else _share(0, points + true_points),
            "cldice": _cldice(frames, true_frames, *masks),
            "points": float(points),
            "true_points": float(true_points),
        }
    )


class _Frames(Sequence[np.ndarray]):
    """Points (n, 3) in µm of each frame, read when asked for."""

    def __init__(self, source: xr.DataArray | xr.Dataset) -> None:
        self._source = source

    def __len__(self) -> int:
        return int(self._source.sizes["t"])

    def __getitem__(self, t: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= t < len(self):
            raise IndexError(t)
        if isinstance(self._source, xr.Dataset):
            positions, inside, drift = (self._source[name] for name in _TRACE)
            inside_points = positions.sel(space=list(SPACE_DIMS)).values[inside.values]
            return np.asarray(inside_points + drift.sel(space=list(SPACE_DIMS)).values[t], dtype=float)
        index = np.nonzero(self._source[t].values)
        axes = [self._source[dim].values.astype(float) for dim in SPACE_DIMS]
        return np.stack([axis[places] for axis, places in zip(axes, index, strict=True)], axis=1)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[t] for t in range(len(self)))


def _points(name: str, given: xr.DataArray | xr.Dataset) -> _Frames:
    if isinstance(given, xr.Dataset) and set(_TRACE) <= set(given.data_vars):
        return _Frames(given)
    skeleton = given["skeleton"] if isinstance(given, xr.Dataset) and "skeleton" in given else given
    if not isinstance(skeleton, xr.DataArray) or skeleton.dims != RECORDING_DIMS or skeleton.dtype != bool:
        got = f"dims {skeleton.dims}, {skeleton.dtype}" if isinstance(skeleton, xr.DataArray) else type(given).__name__
        raise NiddlError(
            f"expected {name} as a skeleton, booleans with dims {RECORDING_DIMS}, a Dataset with one, or the node "
            f"skeleton of simulate.neurite, got {got}"
        )
    for dim in SPACE_DIMS:
        if skeleton.sizes[dim] > 1 and skeleton[dim].attrs.get("units") not in MICROMETRE:
            raise NiddlError(
                f"expected the coordinate {dim} of {name} in µm, got units {skeleton[dim].attrs.get('units')!r}: "
                "say voxel_um=(z, y, x) when the recording is opened"
            )
    return _Frames(skeleton)


def _near(points: np.ndarray, others: np.ndarray, tolerance_um: float) -> int:
    if not len(points) or not len(others):
        return 0
    # A hair more, so that a distance of exactly the tolerance counts in spite of rounding.
    return int((KDTree(others).query(points)[0] <= tolerance_um * (1 + 1e-6)).sum())


def _mask(given: xr.DataArray | xr.Dataset, mask: xr.DataArray | None) -> xr.DataArray | None:
    if mask is None and isinstance(given, xr.Dataset) and "mask" in given:
        mask = given["mask"]
    if mask is not None and (mask.dims != RECORDING_DIMS or mask.dtype != bool):
        raise NiddlError(f"expected masks as booleans with dims {RECORDING_DIMS}, got dims {mask.dims}, {mask.dtype}")
    return mask


def _cldice(frames: _Frames, true_frames: _Frames, mask: xr.DataArray | None, true_mask: xr.DataArray | None) -> float:
    if mask is None or true_mask is None:
        return float("nan")
    inside = true_inside = points = true_points = 0
    for t, (here, there) in enumerate(zip(frames, true_frames, strict=True)):
        points, true_points = points + len(here), true_points + len(there)
        inside, true_inside = inside + _inside(here, true_mask, t), true_inside + _inside(there, mask, t)
    return _harmonic(_share(inside, points), _share(true_inside, true_points))


def _inside(points: np.ndarray, mask: xr.DataArray, t: int) -> int:
    """Return how many points lie in pixels of the mask; of a mask of one plane whatever their z."""
    plane, index = mask[t].values, []
    for axis, dim in enumerate(SPACE_DIMS):
        values = mask[dim].values.astype(float)
        step = values[1] - values[0] if len(values) > 1 else np.inf
        index.append(np.clip(np.rint((points[:, axis] - values[0]) / step), 0, len(values) - 1).astype(int))
    return int(plane[tuple(index)].sum())


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _harmonic(first: float, second: float) -> float:
    return 0.0 if first + second == 0 else 2 * first * second / (first + second)
