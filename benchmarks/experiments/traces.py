"""Does the activity of neurons survive?

The paper reads traces from single pixels and from means over regions (5 x 5 x 3 voxels of volumes, 3 x 3 pixels of
maximum projections) and finds that single pixels of denoised recordings are as good as regions of raw ones. Here the
activity is known: simulated recordings, held and moving, dim and bright, read at the true places of the neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

import holoviews as hv
import pandas as pd

from benchmarks.experiments._common import DEFAULT, Setup, compared, filters, means, with_best_gaussian
from benchmarks.experiments._figures import boxes
from benchmarks.experiments._simulated import mixed_light, recording_at_peak
from benchmarks.experiments._traces import TRACE_MEASURES, judge_traces
from benchmarks.experiments.photons import TRAINING_SEED  # the network of that experiment, where it is kept


@dataclass(frozen=True)
class Size:
    """How much is simulated, and for how many minutes of one core the networks are trained."""

    peak_photons: tuple[float, ...]
    motions: tuple[str, ...]
    training_stacks: int
    training_shape: tuple[int, int, int]  # z, y, x
    shape: tuple[int, int, int]  # of the recording: deep enough for a worm that moves
    frames: int
    neurons: int
    minutes: float
    projection_minutes: float  # of the network for maximum projections


SMALL = Size(
    (100,),
    ("semi",),
    training_stacks=6,
    training_shape=(3, 64, 64),
    shape=(6, 64, 64),
    frames=12,
    neurons=10,
    minutes=0.04,
    projection_minutes=0.03,
)
FULL = Size(
    (50, 200),
    ("fixed", "semi"),
    training_stacks=96,
    training_shape=(5, 128, 128),
    shape=(10, 96, 128),
    frames=60,
    neurons=60,
    minutes=4,
    projection_minutes=2,
)
RECORDING_SEED = 600
CONDITIONS = ("view", "motion", "peak_photons")


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a method, view (volume or maximum projection), motion, light, readout and neuron."""
    pairs = mixed_light("whole_brain", size.training_stacks, size.training_shape, TRAINING_SEED)
    networks = {
        "volume": setup.train(pairs, size.minutes),
        "projection": setup.train(pairs, size.projection_minutes, mode="max_projection"),
    }
    tables = []
    for motion in size.motions:
        for peak in size.peak_photons:
            scene = recording_at_peak(
                peak,
                shape=size.shape,
                frames=size.frames,
                rate_hz=1.0,
                neurons=size.neurons,
                motion=motion,
                seed=RECORDING_SEED,
            )
            for view, network in networks.items():
                denoisers = filters() | {setup.network_name: network}
                judged = judge_traces(scene, denoisers, projected=view == "projection")
                tables.append(judged.assign(view=view, motion=motion, peak_photons=peak))
    return with_best_gaussian(pd.concat(tables, ignore_index=True), "pearson", [*CONDITIONS, "readout"])


def figure(table: pd.DataFrame) -> hv.Layout:
    """Draw correlation, error and amplitude of the active neurons by readout and method, all conditions together."""
    active = table[table["activity"] == "active"].assign(read=table["view"] + ", " + table["readout"])
    labels = {"pearson": "correlation with truth", "mae": "error of dF/F", "amplitude_ratio": "amplitude ratio"}
    labels["mae_of_level"] = "error of F / F0"
    pictures = [boxes(active, ("read", "method"), value, ylabel=labels[value]) for value in TRACE_MEASURES]
    return hv.Layout(pictures).cols(1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over neurons and conditions: all measures of active neurons, the error of silent ones."""
    table = table.assign(read=table["view"] + ", " + table["readout"])
    parts = {f"{value}, active": means(table[table["activity"] == "active"], "read", value) for value in TRACE_MEASURES}
    parts["mae, silent"] = means(table[table["activity"] == "silent"], "read", "mae")
    return pd.concat(parts, names=["value"])


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test correlation and error of active neurons, single pixels, against the best Gaussian, over neurons."""
    chosen = table[(table["activity"] == "active") & (table["readout"] == "single pixel")]
    values = {value: compared(chosen, value, "neuron", by=list(CONDITIONS)) for value in ("pearson", "mae")}
    return pd.concat(values, names=["value"])
