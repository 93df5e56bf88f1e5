"""How good is each method at how little light?

The paper judges NIDDL beside CARE, RCAN and filters at 20 to 1000 peak photons. Here networks are trained once, on
stacks of all these lights mixed, and judged at six of them: by images of worms that they have not seen, and by the
traces of the neurons in a recording. :mod:`benchmarks.experiments._simulated` says what peak photons are.
"""

from __future__ import annotations

from dataclasses import dataclass

import holoviews as hv
import pandas as pd

import niddl_xr as nx
from benchmarks.experiments._common import DEFAULT, Setup, compared, filters, judge, means, with_best_gaussian
from benchmarks.experiments._figures import lines
from benchmarks.experiments._simulated import mixed_light, recording_at_peak, with_truth
from benchmarks.experiments._traces import TRACE_MEASURES, judge_traces

NETWORKS = ("unet_fixed", "niddl_fast", "care")  # of which those are taken that this version has


@dataclass(frozen=True)
class Size:
    """How much is simulated, and for how many minutes of one core each network is trained."""

    peak_photons: tuple[float, ...]
    training_stacks: int
    test_stacks: int
    shape: tuple[int, int, int]  # z, y, x
    frames: int  # of a recording
    neurons: int
    minutes: float


SMALL = Size((20, 200), training_stacks=6, test_stacks=3, shape=(3, 64, 64), frames=12, neurons=10, minutes=0.04)
FULL = Size(
    (20, 50, 100, 200, 500, 1000),
    training_stacks=96,
    test_stacks=12,
    shape=(5, 128, 128),
    frames=40,
    neurons=40,
    minutes=4,
)
RATE_HZ = 1.0  # few frames, but as many changes of activity as they can show
TRAINING_SEED, TEST_SEED, RECORDING_SEED = 100, 101, 102


def run(size: Size = SMALL, setup: Setup = DEFAULT) -> pd.DataFrame:
    """Return one row a method, light and stack (images) or neuron (traces)."""
    pairs = mixed_light("whole_brain", size.training_stacks, size.shape, TRAINING_SEED)
    names = [setup.network] if setup.network else [name for name in NETWORKS if name in nx.networks()]
    denoisers = filters() | {name: setup.train(pairs, size.minutes, network=name) for name in names}
    images, traces = [], []
    for peak in size.peak_photons:
        test = with_truth("whole_brain", size.test_stacks, size.shape, TEST_SEED, peak_photons=peak)
        images.append(judge(test, denoisers, peak_photons=peak).drop(columns="stack"))
        scene = recording_at_peak(
            peak, shape=size.shape, frames=size.frames, rate_hz=RATE_HZ, neurons=size.neurons, seed=RECORDING_SEED
        )
        traces.append(judge_traces(scene, denoisers).assign(peak_photons=peak).rename(columns={"neuron": "unit"}))
    by_stack = with_best_gaussian(pd.concat(images), "PSNR_dB", ["peak_photons", "unit"])
    by_neuron = with_best_gaussian(pd.concat(traces), "pearson", ["peak_photons", "readout"])
    return pd.concat([by_stack.assign(of="image"), by_neuron.assign(of="trace")], ignore_index=True)


def active(table: pd.DataFrame, readout: str = "single pixel") -> pd.DataFrame:
    """Return the rows of traces of the neurons that are active."""
    return table[(table["of"] == "trace") & (table["activity"] == "active") & (table["readout"] == readout)]


def figure(table: pd.DataFrame) -> hv.Layout:
    """Draw PSNR of the images, and correlation and amplitude of single-pixel traces, against the light."""
    images, traces = table[table["of"] == "image"], active(table)
    label = {"xlabel": "photons at the brightest voxel"}
    return hv.Layout(
        [
            lines(images, "peak_photons", "PSNR_dB", ylabel="PSNR (dB)", title="Images", **label),
            lines(traces, "peak_photons", "pearson", ylabel="correlation with truth", title="Single pixels", **label),
            lines(traces, "peak_photons", "amplitude_ratio", ylabel="amplitude ratio", title="Single pixels", **label),
        ]
    ).cols(1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return means by light: PSNR and SSIM of images, then traces of active neurons, single pixels and ROIs."""
    images = table[table["of"] == "image"]
    parts = {value: means(images, "peak_photons", value) for value in ("PSNR_dB", "SSIM")}
    for readout in table["readout"].dropna().unique():
        for value in TRACE_MEASURES:
            parts[f"{value}, {readout}"] = means(active(table, readout), "peak_photons", value)
    return pd.concat(parts, names=["value"])


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Test PSNR over stacks and single-pixel correlation over neurons, each at every light, against a Gaussian."""
    images = compared(table[table["of"] == "image"], "PSNR_dB", "unit", by=["peak_photons"])
    traces = compared(active(table), "pearson", "unit", by=["peak_photons"])
    return pd.concat({"PSNR_dB": images, "pearson": traces}, names=["value"])
