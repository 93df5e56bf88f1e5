"""What happens to a network in a worm, on a day or in a light that it has not been trained on?

The paper trains on one strain, day or laser power and tests on others, and finds that accuracy holds as long as the
signal to noise ratio lies within that of the training. Here every network meets every condition, and one network is
trained on all of them mixed, with as many stacks in all. ``lost_dB`` is what a network loses, on a stack, against the
one that was trained on that very condition, ``outside_dB`` by how much the stack's SNR lies outside that of the
training: the warning of ``denoise`` comes when that is more than 1 dB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx
from benchmarks.experiments._common import DEFAULT, RAW, Setup, compared, filters, judge, means, with_best_gaussian
from benchmarks.experiments._figures import matrix
from benchmarks.experiments._simulated import with_truth
from niddl_xr.simulation import Camera

MIXED = "all mixed"
WARNED_DB = 1.0  # beyond the training's SNR
_REFERENCE: dict[str, Any] = {"photons": (10.0, 20.0), "neurons": (50, 100)}
# Strains differ in which cells express how much, days in camera and stray light, lasers in photons.
CONDITIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "reference": _REFERENCE,
        "other strain": _REFERENCE | {"neurons": (8, 25), "neurites": (4, 8), "haze": 8.0, "autofluorescence": 0.5},
        "other day": _REFERENCE
        | {
            "stray_photons": 8.0,
            "camera": Camera(
                offset=520, gain=40, read_noise=18, row_noise=15, row_length_px=8, column_pattern=(-6.0, 3.0, 5.0, -2.0)
            ),
        },
        "low laser": _REFERENCE | {"photons": (2.0, 4.0)},
        "high laser": _REFERENCE | {"photons": (60.0, 120.0)},
    }
)


@dataclass(frozen=True)
class Size:
    """How much is simulated, and for how many minutes of one core each network is trained."""

    conditions: tuple[str, ...]
    training_stacks: int  # of each network
    test_stacks: int  # of each condition
    shape: tuple[int, int, int]  # z, y, x
    minutes: float


SMALL = Size(("reference", "low laser"), training_stacks=6, test_stacks=3, shape=(3, 64, 64), minutes=0.03)
# Fields with much background: in 128 px, which a head fills, its own structure counts as noise, and the SNR falls with
# the light (medians over 8 stacks: 18, 15 and 15 dB for low laser, reference and high laser; 25, 29 and 33 in 256 px).
FULL = Size(tuple(CONDITIONS), training_stacks=50, test_stacks=12, shape=(2, 256, 256), minutes=1.2)
TRAINING_SEED, TEST_SEED = 500, 501


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a tested condition, method (filter, or what the network was trained on) and stack."""
    training = {name: _training_pairs(name, size) for name in size.conditions}
    share = size.training_stacks // len(training)
    mixed = [pairs.isel(stack=slice(share)) for pairs in training.values()]
    training[MIXED] = xr.concat(mixed, dim="stack").assign_coords(stack=np.arange(share * len(mixed)))
    networks = {f"trained: {name}": setup.train(pairs, size.minutes) for name, pairs in training.items()}
    tables = []
    for condition in size.conditions:
        test = with_truth("whole_brain", size.test_stacks, size.shape, TEST_SEED, **CONDITIONS[condition])
        table = judge(test, filters() | networks, tested=condition)
        ratios = {str(stack): snr_db(test["noisy"].sel(stack=stack)) for stack in test["stack"].values}
        tables.append(table.assign(snr_dB=table["stack"].map(ratios)))
    table = with_best_gaussian(pd.concat(tables, ignore_index=True), "PSNR_dB", ["tested", "stack"])
    return _with_losses(table, {name: denoiser.card["training"]["snr_range_db"] for name, denoiser in networks.items()})


def _training_pairs(condition: str, size: Size) -> xr.Dataset:
    pairs = nx.simulate.training_pairs(
        stacks=size.training_stacks, shape=size.shape, seed=TRAINING_SEED, **CONDITIONS[condition]
    )
    return pairs.load()


def snr_db(stack: xr.DataArray) -> float:
    """Return the SNR of a stack (z, y, x) as training measures it: the median over its planes."""
    planes = stack.drop_vars(list(stack.coords)).rename(z="t").expand_dims("z", axis=1)
    return float(nx.snr(planes)["snr_dB"].median())


def _with_losses(table: pd.DataFrame, ranges: Mapping[str, list[float]]) -> pd.DataFrame:
    """Add ``lost_dB`` and ``outside_dB`` to the rows of networks; NaN in those of filters."""
    own = table[table["method"] == "trained: " + table["tested"]].set_index(["tested", "stack"])["PSNR_dB"]
    trained = table["method"].isin(ranges)
    lost = own.loc[pd.MultiIndex.from_frame(table[["tested", "stack"]])].to_numpy() - table["PSNR_dB"].to_numpy()
    low, high = (table["method"].map({name: ends[which] for name, ends in ranges.items()}) for which in (0, 1))
    outside = np.maximum(np.maximum(low - table["snr_dB"], table["snr_dB"] - high), 0.0)
    return table.assign(lost_dB=np.where(trained, lost, np.nan), outside_dB=outside)


def figure(table: pd.DataFrame) -> hv.Layout:
    """Draw, of what each network was trained on and tested on, the loss, and by how much the SNR lies outside."""
    networks = table[table["lost_dB"].notna()]
    titles = {"lost_dB": "Lost against the network of that condition (dB)", "outside_dB": "SNR outside training (dB)"}
    return hv.Layout(
        [matrix(networks, "tested", "method", value, title=title) for value, title in titles.items()]
    ).cols(1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return PSNR by tested condition, and of networks the loss and the distance of the SNR from the training's."""
    networks = table[table["lost_dB"].notna()]
    parts = {"PSNR_dB": means(table, "tested", "PSNR_dB")}
    parts |= {value: means(networks, "tested", value) for value in ("lost_dB", "outside_dB")}
    return pd.concat(parts, names=["value"])


def warned(table: pd.DataFrame) -> pd.DataFrame:
    """Return how networks do on stacks of foreign conditions with and without the warning: does it foretell failure?"""
    foreign = table[table["lost_dB"].notna() & (table["method"] != "trained: " + table["tested"])]
    foreign = foreign[foreign["method"] != f"trained: {MIXED}"]
    warning = np.where(foreign["outside_dB"] > WARNED_DB, "warned", "not warned")
    groups = foreign["lost_dB"].groupby(warning)
    return pd.DataFrame(
        {
            "stacks": groups.size(),
            "mean_lost_dB": groups.mean(),
            "share_that_lose_1_dB": groups.agg(lambda lost: float((lost > 1).mean())),
        }
    )


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test PSNR over stacks against the best Gaussian, for each tested condition."""
    return compared(table[table["method"] != RAW], "PSNR_dB", "unit", by=["tested"])
