"""Scores of labels and skeletons against brute force, other algorithms and algebra."""

from __future__ import annotations

from itertools import permutations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import ndimage
from skimage.metrics import contingency_table

import niddl_xr as nx
from niddl_xr.metrics import score_labels, score_skeleton
from niddl_xr.schema import space_coordinates

SHAPE = (2, 3, 30, 40)
VOXEL_UM = {"z": 1.0, "y": 0.5, "x": 0.4}


def labels(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("t", "z", "y", "x"))


def row(*values: int) -> xr.DataArray:
    return labels(np.array(values)[None, None, None])


def patches(seed: int) -> np.ndarray:
    """Random patches of five numbers and background."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (2, 1, 5, 8))
    return ndimage.zoom(coarse, (1, 3, 6, 5), order=0)


def brute_pairs(iou: np.ndarray, threshold: float) -> int:
    """The most one-to-one pairs that reach a threshold, over all assignments of small sets."""
    rows, columns = iou.shape
    if rows > columns:
        return brute_pairs(iou.T, threshold)
    return max(
        (sum(iou[r, c] >= threshold for r, c in enumerate(order)) for order in permutations(range(columns), rows)),
        default=0,
    )


@pytest.mark.parametrize("seed", range(5))
def test_labels_agree_with_brute_force(seed: int) -> None:
    truth, pred = patches(seed), patches(seed + 50)
    moved = np.random.default_rng(seed).random(truth.shape) < 0.75
    pred = np.where(moved, (truth * 3) % 17, pred)  # other numbers for the same objects
    score = score_labels(labels(pred), labels(truth))
    found = true = 0
    matched = dict.fromkeys((0.3, 0.5, 0.7), 0)
    seg: list[float] = []
    overlaps: list[float] = []
    for mine, theirs in zip(pred, truth, strict=True):
        table = contingency_table(mine, theirs).toarray()  # rows and columns by number, with empty ones
        shared = table[1:, 1:]
        union = table.sum(1)[1:, None] + table.sum(0)[None, 1:] - shared
        iou = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
        iou = iou[table.sum(1)[1:] > 0][:, table.sum(0)[1:] > 0]
        found, true = found + iou.shape[0], true + iou.shape[1]
        for threshold in matched:
            matched[threshold] += brute_pairs(iou, threshold)
        overlaps += iou[iou >= 0.5].tolist()
        sizes = table.sum(0)[1:][table.sum(0)[1:] > 0]
        covered = shared[table.sum(1)[1:] > 0][:, table.sum(0)[1:] > 0] / sizes
        seg += [float(iou[:, j][covered[:, j] > 0.5].sum()) for j in range(len(sizes))]
    for threshold, pairs in matched.items():
        assert score[f"f1_iou_{threshold}"] == pytest.approx(2 * pairs / (found + true))
    assert (score["found"], score["true"]) == (found, true)
    assert score["seg"] == pytest.approx(np.mean(seg))
    assert score["precision"] == pytest.approx(matched[0.5] / found)
    assert score["recall"] == pytest.approx(matched[0.5] / true)
    assert score["mean_matched_iou"] == pytest.approx(np.mean(overlaps))


def test_as_many_pairs_as_possible_are_matched_below_a_half() -> None:
    # Two of the found overlap the first true one; the better of them could be matched to the second as well.
    truth = row(1, 1, 1, 1, 1, 1, 2, 2, 2, 2)
    pred = row(5, 5, 6, 6, 6, 6, 6, 6, 0, 0)
    # IoU 5-1: 2/6; 6-1: 4/8; 6-2: 2/8 < 0.3: only one of the two can be matched with 1.
    assert score_labels(pred, truth)["f1_iou_0.3"] == pytest.approx(2 * 1 / 4)
    wider = row(5, 5, 6, 6, 6, 6, 6, 6, 6, 0)
    # 6-2: 3/8. Greedy by IoU would pair 6 with 1 and leave 5 and 2 alone.
    assert score_labels(wider, truth)["f1_iou_0.3"] == pytest.approx(2 * 2 / 4)


def test_perfect_empty_and_missing_labels() -> None:
    truth = labels(patches(3))
    perfect = score_labels(truth, truth)
    assert perfect[["f1_iou_0.7", "seg", "mean_matched_iou", "recall"]].tolist() == [1, 1, 1, 1]
    nothing = xr.zeros_like(truth)
    missed, invented, both = score_labels(nothing, truth), score_labels(truth, nothing), score_labels(nothing, nothing)
    assert missed[["f1_iou_0.5", "recall", "seg"]].tolist() == [0, 0, 0]
    assert np.isnan(missed["precision"])
    assert invented["f1_iou_0.5"] == 0
    assert np.isnan(invented["seg"])
    assert both[["f1_iou_0.3", "precision", "recall", "seg", "mean_matched_iou"]].isna().all()


def test_seg_needs_more_than_a_half() -> None:
    assert score_labels(row(1, 1, 0, 0), row(1, 1, 1, 1))["seg"] == 0
    assert score_labels(row(1, 1, 1, 0), row(1, 1, 1, 1))["seg"] == 0.75


def test_numbers_are_of_a_frame_and_dtypes_may_differ() -> None:
    truth = patches(1)
    pred = truth.copy()
    pred[1] = np.where(pred[1] > 0, pred[1] + 60_000, 0)
    score = score_labels(labels(pred.astype("uint16")), labels(truth.astype("int64")))
    assert score["f1_iou_0.7"] == 1


def test_one_frame_is_read_at_a_time() -> None:
    lazy = labels(patches(1)).chunk(t=1)
    sizes: list[int] = []

    def watching(dsk: object, keys: object, **kwargs: object) -> object:
        result = dask.get(dsk, keys, **kwargs)
        sizes.append(sum(np.asarray(part).size for part in np.ravel(np.array(result, dtype=object))))
        return result

    with dask.config.set(scheduler=watching):
        score_labels(lazy, labels(patches(1)))
    assert len(sizes) == 2


def test_labels_are_checked() -> None:
    truth = labels(patches(1))
    with pytest.raises(nx.NiddlError, match="expected pred as labels, whole numbers .* got dims .*float64"):
        score_labels(truth.astype(float), truth)
    with pytest.raises(nx.NiddlError, match="expected truth as labels, .*, got ndarray"):
        score_labels(truth, truth.values)
    with pytest.raises(nx.NiddlError, match="expected labels of the same sizes, .*; select a common part"):
        score_labels(truth.isel(y=slice(5)), truth)


# --- skeletons


def skeleton(values: np.ndarray, **voxel_um: float) -> xr.DataArray:
    sizes = dict(zip(("z", "y", "x"), values.shape[1:], strict=True))
    coords = {"t": ("t", np.arange(len(values)) * 1.0), **space_coordinates(sizes, VOXEL_UM | voxel_um)}
    return xr.DataArray(values, dims=("t", "z", "y", "x"), coords=coords)


def random_lines(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((2, 1, 30, 40)) < 0.01


@pytest.mark.parametrize("tolerance_um", [0.0, 0.8, 2.1])
def test_skeletons_agree_with_distance_maps(tolerance_um: float) -> None:
    pred, truth = random_lines(0), random_lines(1)

    def part_near(mine: np.ndarray, theirs: np.ndarray) -> float:
        near = [
            ndimage.distance_transform_edt(~there[0], sampling=(0.5, 0.4))[here[0]] <= tolerance_um + 1e-9
            for here, there in zip(mine, theirs, strict=True)
        ]
        return float(np.concatenate(near).mean())

    score = score_skeleton(skeleton(pred), skeleton(truth), tolerance_um=tolerance_um)
    precision, recall = part_near(pred, truth), part_near(truth, pred)
    assert score["precision"] == pytest.approx(precision)
    assert score["recall"] == pytest.approx(recall)
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert score["f1"] == pytest.approx(harmonic)
    assert (score["points"], score["true_points"]) == (pred.sum(), truth.sum())


def horizontal(y: int, stop: int = 40) -> np.ndarray:
    values = np.zeros((1, 1, 30, 40), bool)
    values[0, 0, y, :stop] = True
    return values


def test_tolerance_is_in_um_and_counts_what_is_at_it() -> None:
    truth = skeleton(horizontal(10), y=0.4)
    for pixels, tolerance, expected in ((2, 0.8, 1.0), (3, 0.8, 0.0), (3, 1.2, 1.0)):
        score = score_skeleton(skeleton(horizontal(10 + pixels), y=0.4), truth, tolerance_um=tolerance)
        assert score["f1"] == expected
    assert score_skeleton(skeleton(horizontal(12), y=0.2), skeleton(horizontal(10), y=0.2), tolerance_um=0.5)["f1"] == 1


def test_cldice_by_algebra() -> None:
    truth, pred = horizontal(10), horizontal(12, 20)
    mask, true_mask = np.zeros((2, 1, 1, 30, 40), bool)
    true_mask[..., 8:13, :10] = True  # 10 of the 20 points of pred
    mask[..., 10:15, :30] = True  # 30 of the 40 points of truth
    score = score_skeleton(skeleton(pred), skeleton(truth), pred_mask=skeleton(mask), truth_mask=skeleton(true_mask))
    assert score["cldice"] == pytest.approx(2 * 0.5 * 0.75 / (0.5 + 0.75))
    datasets = [
        xr.Dataset({"skeleton": skeleton(s), "mask": skeleton(m)}) for s, m in ((pred, mask), (truth, true_mask))
    ]
    pd.testing.assert_series_equal(score_skeleton(*datasets), score)
    assert np.isnan(score_skeleton(skeleton(pred), skeleton(truth), pred_mask=skeleton(mask))["cldice"])


def test_nodes_of_the_simulation_are_truth_and_drift_with_the_worm() -> None:
    scene = nx.simulate.neurite(kind="touch", shape=(1, 60, 80), frames=3, motion_um=6, rate_hz=0.05, seed=4)
    node = scene["skeleton"].to_dataset()
    drawn = scene["labels"]["labels"] > 0
    drift = node["drift"].values
    assert np.abs(drift[2]).max() > 1
    score = score_skeleton(drawn, node, tolerance_um=0.6)
    assert score["precision"] > 0.6  # the labels are as wide as the neurites, and some drift into the field
    still = score_skeleton(drawn, node.assign(drift=node["drift"] * 0), tolerance_um=0.6)
    assert still["recall"] < 0.8 * score["recall"]
    frames = score_skeleton(drawn.isel(t=[0]), node.isel(t=[0]), tolerance_um=0.6)
    assert frames["recall"] == 1.0


def test_empty_skeletons() -> None:
    none, some = skeleton(np.zeros((1, 1, 30, 40), bool)), skeleton(horizontal(3))
    missed, invented, both = score_skeleton(none, some), score_skeleton(some, none), score_skeleton(none, none)
    assert missed[["recall", "f1"]].tolist() == [0, 0]
    assert np.isnan(missed["precision"])
    assert invented["f1"] == 0
    assert both[["precision", "recall", "f1"]].isna().all()


def test_skeletons_are_checked() -> None:
    some = skeleton(horizontal(3))
    with pytest.raises(nx.NiddlError, match="expected pred as a skeleton, booleans .*, got dims .*int64"):
        score_skeleton(some.astype(int), some)
    with pytest.raises(nx.NiddlError, match="expected truth as a skeleton, .*, got ndarray"):
        score_skeleton(some, some.values)
    with pytest.raises(nx.NiddlError, match="expected as many frames in pred as in truth, got 1 and 2"):
        score_skeleton(some, skeleton(random_lines(0)))
    with pytest.raises(nx.NiddlError, match="expected tolerance_um as a number of µm of 0 or more, got -1"):
        score_skeleton(some, some, tolerance_um=-1)
    with pytest.raises(nx.NiddlError, match="expected masks as booleans"):
        score_skeleton(some, some, pred_mask=some.astype(int), truth_mask=some)
    pixels = some.copy()
    pixels.y.attrs["units"] = "pixel"
    with pytest.raises(nx.NiddlError, match="expected the coordinate y of truth in µm, got units 'pixel'"):
        score_skeleton(some, pixels)
