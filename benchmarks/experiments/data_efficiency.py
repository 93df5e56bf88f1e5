"""How many image pairs does a network need?

The paper finds that accuracy no longer grows beyond some 500 image pairs (25 to 40 stacks). Here networks are trained
for the same time on 10 to 500 planes and judged on the same test set; the planes set aside for validation are counted
too, because a user has to take them as well. Plane means a pair of images (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import holoviews as hv
import pandas as pd

from benchmarks.experiments._common import DEFAULT, RAW, Setup, compared, filters, judge, means, with_best_gaussian
from benchmarks.experiments._figures import lines
from benchmarks.experiments._simulated import mixed_light, with_truth
from benchmarks.experiments._w2s import judge_w2s, w2s


@dataclass(frozen=True)
class Size:
    """How many planes there are to train on, and for how many minutes of one core each network is trained."""

    stacks: tuple[int, ...]  # of ``shape[0]`` planes each
    test_stacks: int
    shape: tuple[int, int, int]  # z, y, x
    w2s_images: tuple[int, ...]
    w2s_test_fields: int
    minutes: float


SMALL = Size((2, 6), test_stacks=3, shape=(3, 64, 64), w2s_images=(3,), w2s_test_fields=1, minutes=0.03)
FULL = Size(
    (2, 5, 10, 20, 50, 100),
    test_stacks=12,
    shape=(5, 128, 128),
    w2s_images=(10, 45, 135),
    w2s_test_fields=12,
    minutes=1.5,
)
TRAINING_SEED, TEST_SEED = 200, 201


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a data set, method, number of planes and test stack; filters have no number of planes."""
    everything = mixed_light("whole_brain", max(size.stacks), size.shape, TRAINING_SEED)
    test = with_truth("whole_brain", size.test_stacks, size.shape, TEST_SEED, peak_photons=100)
    tables = [judge(test, filters(), data="simulated")]
    for stacks in size.stacks:
        denoiser = setup.train(everything.isel(stack=slice(stacks)), size.minutes)
        planes = stacks * size.shape[0]
        tables.append(judge(test, {f"{setup.network_name}, {planes}": denoiser}, data="simulated", planes=planes))
    if setup.realdata is not None:
        pairs, test = w2s(setup.realdata, size.w2s_test_fields)
        tables.append(judge_w2s(test, filters()))
        for images in size.w2s_images:
            denoiser = setup.train(pairs.isel(stack=slice(images)), size.minutes)
            tables.append(judge_w2s(test, {f"{setup.network_name}, {images}": denoiser}, planes=images))
    table = pd.concat([table[table["method"] != RAW] if "planes" in table else table for table in tables])
    return with_best_gaussian(table.reset_index(drop=True), "PSNR_dB", ["data", "stack"])


def figure(table: pd.DataFrame) -> hv.Layout:
    """Draw PSNR against the number of planes; the best Gaussian, which needs none, as a level line."""
    pictures = []
    for data, group in table.groupby("data", sort=False):
        trained = group[group["planes"].notna()].assign(method="network")
        level = group.loc[group["method"] == "best Gaussian", ["PSNR_dB", "method"]]
        ends = [level.assign(planes=planes) for planes in (trained["planes"].min(), trained["planes"].max())]
        drawn = pd.concat([trained, *ends])
        pictures.append(
            lines(drawn, "planes", "PSNR_dB", xlabel="image pairs (planes)", ylabel="PSNR (dB)", title=str(data))
        )
    return hv.Layout(pictures).cols(1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean PSNR and SSIM of every method on both data sets."""
    return pd.concat({value: means(table, "data", value) for value in ("PSNR_dB", "SSIM")}, axis=1)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test PSNR against the best Gaussian over stacks (simulated) and fields (W2S)."""
    return compared(table, "PSNR_dB", "unit", by=["data"])
