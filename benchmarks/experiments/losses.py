"""Which loss?

The paper trains whole brains with L1 (better RMSE and PSNR) and neurites with L2 (better SSIM). Here L1, L2 and the
Charbonnier loss are compared on simulated whole brains and neurites and on real cells (W2S), with the same time each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import holoviews as hv
import pandas as pd
import xarray as xr

from benchmarks.experiments._common import DEFAULT, Setup, compared, filters, judge, means, with_best_gaussian
from benchmarks.experiments._figures import boxes
from benchmarks.experiments._simulated import mixed_light, with_truth
from benchmarks.experiments._w2s import judge_w2s, w2s

LOSSES = ("l1", "l2", "charbonnier")


@dataclass(frozen=True)
class Size:
    """How much is simulated, and for how many minutes of one core each network is trained."""

    training_stacks: int  # of brains; of neurites as many planes
    test_stacks: int
    shape: tuple[int, int, int]  # z, y, x
    w2s_images: int
    w2s_test_fields: int
    minutes: float


SMALL = Size(5, test_stacks=2, shape=(3, 64, 64), w2s_images=3, w2s_test_fields=1, minutes=0.02)
FULL = Size(60, test_stacks=12, shape=(5, 128, 128), w2s_images=135, w2s_test_fields=12, minutes=1)
TRAINING_SEED, TEST_SEED = 400, 401


def data_sets(size: Size, setup: Setup) -> Iterator[tuple[str, xr.Dataset, xr.Dataset]]:
    """Yield name, pairs to train on and pairs to judge by."""
    planes, height, width = size.shape
    shapes = {"whole_brain": (size.training_stacks, size.shape), "neurite": (size.training_stacks * planes, None)}
    for subject, (stacks, shape) in shapes.items():
        chosen = shape or (1, height, width)  # a neurite lies in one plane
        test = with_truth(subject, size.test_stacks, chosen, TEST_SEED, peak_photons=100)
        yield subject, mixed_light(subject, stacks, chosen, TRAINING_SEED), test
    if setup.realdata is not None:
        pairs, test = w2s(setup.realdata, size.w2s_test_fields)
        yield "W2S", pairs.isel(stack=slice(size.w2s_images)), test


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a data set, method and test stack."""
    tables = []
    for name, pairs, test in data_sets(size, setup):
        denoisers = filters() | {loss: setup.train(pairs, size.minutes, loss=loss) for loss in LOSSES}
        tables.append(judge_w2s(test, denoisers) if name == "W2S" else judge(test, denoisers, data=name))
    return with_best_gaussian(pd.concat(tables, ignore_index=True), "PSNR_dB", ["data", "stack"])


def figure(table: pd.DataFrame) -> hv.Layout:
    """Draw PSNR and SSIM of the stacks by data set and method."""
    pictures = [
        boxes(table, ("data", "method"), value, ylabel=label)
        for value, label in (("PSNR_dB", "PSNR (dB)"), ("SSIM", "SSIM"))
    ]
    return hv.Layout(pictures).cols(1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean PSNR, SSIM and RMSE by data set."""
    return pd.concat({value: means(table, "data", value) for value in ("PSNR_dB", "SSIM", "RMSE")}, axis=1)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test PSNR and SSIM over stacks (fields of W2S) against L1."""
    values = {value: compared(table, value, "unit", reference="l1", by=["data"]) for value in ("PSNR_dB", "SSIM")}
    return pd.concat(values, names=["value"])
