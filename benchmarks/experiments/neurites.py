"""Are neurites easier to segment after denoising, and in fewer pieces?

The paper shows that faint neurites of PVD and touch neurons come out whole after denoising. Here the branches are
known: simulated neurites in low laser light are segmented in one fixed way, from the raw image, from what each method
makes of it, and from the image without noise, which is the best that this segmentation can do.
"""

from __future__ import annotations

from dataclasses import dataclass

import holoviews as hv
import pandas as pd
import xarray as xr

import niddl_xr as nx
from benchmarks.experiments._common import DEFAULT, Setup, compared, denoised, filters, means, with_best_gaussian
from benchmarks.experiments._figures import boxes
from benchmarks.experiments._neurites import judge_mask, segment
from benchmarks.experiments._simulated import mixed_light

WITHOUT_NOISE = "without noise"
MEASURES = ("dice", "iou", "sensitivity", "false_length", "pieces")
PIXEL_UM = 0.4


@dataclass(frozen=True)
class Size:
    """How much is simulated, and for how many minutes of one core the network is trained."""

    photons: tuple[float, ...]  # at the centre of a neurite 0.6 µm wide
    worms: int  # of each kind
    training_stacks: int
    edge_px: int
    minutes: float


SMALL = Size((2,), worms=2, training_stacks=8, edge_px=96, minutes=0.04)
FULL = Size((0.5, 1, 2, 5), worms=6, training_stacks=200, edge_px=192, minutes=3)
KINDS = ("pvd", "touch")
TRAINING_PHOTONS = (0.8, 40.0)  # of a neurite 0.8 µm wide, which has 1.8 times the light of one of 0.6 µm
TRAINING_SEED, TEST_SEED = 700, 750


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a method, light, kind of neuron and worm."""
    plane = (1, size.edge_px, size.edge_px)
    pairs = mixed_light("neurite", size.training_stacks, plane, TRAINING_SEED, photons=TRAINING_PHOTONS)
    denoisers = filters() | {setup.network_name: setup.train(pairs, size.minutes)}
    tables = []
    for photons in size.photons:
        for number in range(size.worms):
            for kind in KINDS:
                scene = nx.simulate.neurite(kind=kind, shape=plane, photons=photons, seed=TEST_SEED + number)
                judged = judge_scene(scene, denoisers)
                tables.append(judged.assign(photons=photons, kind=kind, worm=f"{kind} {number}"))
    return with_best_gaussian(pd.concat(tables, ignore_index=True), "dice", ["photons", "worm"])


def judge_scene(scene: xr.DataTree, denoisers: dict[str, nx.Denoiser]) -> pd.DataFrame:
    """Return one row a method with ``MEASURES`` of the first plane of a scene of :func:`niddl_xr.simulate.neurite`."""
    arms = denoised(scene["recording"].to_dataset()["F"], denoisers) | {WITHOUT_NOISE: scene["clean"].to_dataset()["F"]}
    centreline = scene["labels"].to_dataset()["labels"].values[0, 0] > 0
    rows = [
        {"method": name, **judge_mask(segment(arm.values[0, 0]), centreline, PIXEL_UM)} for name, arm in arms.items()
    ]
    return pd.DataFrame(rows)


def figure(table: pd.DataFrame) -> hv.Layout:
    """Draw Dice, sensitivity, false length and pieces of the worms by light and method."""
    labelled = table.assign(light=table["photons"].map("{:g} photons".format))
    labels = {
        "dice": "Dice",
        "sensitivity": "part of the centreline found",
        "false_length": "false length / true length",
        "pieces": "pieces / true pieces",
    }
    pictures = [boxes(labelled, ("light", "method"), value, ylabel=label) for value, label in labels.items()]
    return hv.Layout(pictures).cols(1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over worms by light."""
    return pd.concat({value: means(table, "photons", value) for value in MEASURES}, names=["value"])


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test Dice and pieces over worms against the best Gaussian, at every light."""
    methods = table[table["method"] != WITHOUT_NOISE]
    values = {value: compared(methods, value, "worm", by=["photons"]) for value in ("dice", "pieces")}
    return pd.concat(values, names=["value"])
