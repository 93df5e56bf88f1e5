"""Do the planes above and below help?

The paper finds no gain of 2.5D (neighbouring planes in, the middle one out) and 3D (planes in, the same planes out)
over 2D. Here each is trained for the same time on the same stacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import holoviews as hv
import pandas as pd

from benchmarks.experiments._common import DEFAULT, Setup, compared, filters, judge, means, with_best_gaussian
from benchmarks.experiments._figures import boxes
from benchmarks.experiments._simulated import mixed_light, with_truth


@dataclass(frozen=True)
class Size:
    """How much is simulated, and for how many minutes of one core each network is trained."""

    modes: tuple[tuple[str, int | None], ...]  # name of the mode, and number of planes in; None where it has no choice
    peak_photons: tuple[float, ...]
    training_stacks: int
    test_stacks: int
    shape: tuple[int, int, int]  # z, y, x
    minutes: float


MODES = (("2d", None), ("2.5d", 3), ("3d", 3))
SMALL = Size(MODES, (100,), training_stacks=5, test_stacks=3, shape=(4, 64, 64), minutes=0.04)
FULL = Size(MODES, (50, 500), training_stacks=60, test_stacks=12, shape=(8, 128, 128), minutes=2.5)
TRAINING_SEED, TEST_SEED = 300, 301


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a method, light and stack."""
    pairs = mixed_light("whole_brain", size.training_stacks, size.shape, TRAINING_SEED)
    denoisers = filters()
    for mode, depth in size.modes:
        label = mode if depth is None else f"{mode}, {depth} planes"
        options = {"mode": mode} if depth is None else {"mode": mode, "depth": depth}
        denoisers[label] = setup.train(pairs, size.minutes, **options)
    tables = [
        judge(
            with_truth("whole_brain", size.test_stacks, size.shape, TEST_SEED, peak_photons=peak),
            denoisers,
            peak_photons=peak,
        )
        for peak in size.peak_photons
    ]
    return with_best_gaussian(pd.concat(tables, ignore_index=True), "PSNR_dB", ["peak_photons", "unit"])


def figure(table: pd.DataFrame) -> hv.BoxWhisker:
    """Draw the PSNR of the stacks by method and light."""
    labelled = table.assign(light=table["peak_photons"].map("{:.0f} photons".format))
    return boxes(labelled, ("light", "method"), "PSNR_dB", ylabel="PSNR (dB)", title="Planes by themselves or together")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean PSNR and SSIM by light."""
    return pd.concat({value: means(table, "peak_photons", value) for value in ("PSNR_dB", "SSIM")}, axis=1)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test PSNR over stacks against the 2D network."""
    return compared(table, "PSNR_dB", "unit", reference="2d", by=["peak_photons"])
