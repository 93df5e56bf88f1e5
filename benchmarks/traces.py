"""Traces beside the true ones: methods at four levels of light (X1), bleaching (X2), bounds (X3), and speed.

Run ``python -m benchmarks.traces`` (ten minutes), or one part: ``python -m benchmarks.traces bleaching``.
Simulated worms of natural density, positions 0.2 µm (RMS along each axis) beside the true ones, the whole way from
pixels to dF/F: extraction, correction of bleaching, dF/F. The truth is dF/F of the simulated brightness, by the same
verb. Medians over the active neurons of the worms; coverage is the mean over all neurons. Of each figure the bar stands
beside, where there is one.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx

PHOTONS = (5, 20, 100, 1000)
SEEDS = (21, 22)
METHODS = ("gaussian", "least_squares", "ball", "box", "box3x3", "pixel", "topk", "labels")
DENOISED_METHODS = ("gaussian", "least_squares", "box", "pixel")
POSITION_ERROR_UM = 0.2
BARS = {  # of X1: correlation, and amplitude
    (20, "raw", "gaussian"): "r >= .96, amplitude .95-1.05",
    (5, "raw", "gaussian"): "r >= .87",
    (5, "denoised", "gaussian"): "r >= .93",
    (5, "denoised", "pixel"): "r >= .90",
}
BLEACHING = ((0.2, 900.0), (0.5, 300.0), (0.7, 200.0))


def worm(photons: float, seed: int, frames: int) -> tuple[xr.DataTree, xr.Dataset]:
    """A worm, and tracks beside the true ones."""
    camera = nx.simulate.Camera(gain=25 if photons <= 100 else 5)  # 16 bits hold the brightest
    tree = nx.simulate.whole_brain(
        shape=(14, 110, 150), frames=frames, rate_hz=2, neurons=40, photons=photons, seed=seed, camera=camera
    )
    tracks = tree["tracks"].to_dataset()
    error = np.random.default_rng([seed, 7]).normal(0, POSITION_ERROR_UM, tracks["position"].shape)
    return tree, tracks.assign(position=tracks["position"] + error.astype(np.float32))


def relative(traces: xr.Dataset) -> xr.Dataset:
    return nx.dff(nx.correct_bleaching(traces))


def true_relative(tree: xr.DataTree) -> xr.Dataset:
    traces = tree["traces"].to_dataset()
    bleach = traces["F0"] / traces["F0"].isel(t=0)
    return nx.dff((traces / bleach)[["F"]])


def judged(traces: xr.Dataset, truth: xr.Dataset, noise_free: xr.Dataset) -> dict[str, float]:
    """Correlation and amplitude of active neurons; how often the bounds hold the truth, and F without noise."""
    quality = nx.trace_quality(relative(traces), truth)
    active = quality[(truth["group"] != "inactive").values]
    noise = traces["F"] - noise_free["F"]
    # Only the mean, which dF/F does not see, is left out: what the denoiser adds to all frames alike.
    within = abs(noise - noise.mean("t")) <= 1.6449 * np.sqrt(traces["F_var"])
    return {
        "r": active["pearson"].median(),
        "amplitude": active["amplitude_ratio"].median(),
        "mae": active["mae"].median(),
        "coverage": quality["coverage90"].mean(),
        "coverage of noise": float(within.where(traces["valid"]).mean()),
    }


def levels(frames: int, photons: tuple[int, ...] = PHOTONS, seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    denoiser = nx.load_denoiser("worm-sim")
    rows = []
    for level in photons:
        for seed in seeds:
            tree, tracks = worm(level, seed, frames)
            raw, clean = (tree[name]["F"].compute() for name in ("recording", "clean"))
            labels, truth = tree["labels"]["labels"].compute(), true_relative(tree)
            true_tracks = tree["tracks"].to_dataset()
            denoised = nx.denoise(raw.chunk(t=20), denoiser, progress=False).compute()
            for name, image, methods in (("raw", raw, METHODS), ("denoised", denoised, DENOISED_METHODS)):
                for method in methods:
                    options = {"method": method, "labels": labels if method == "labels" else None, "progress": False}
                    beside = {"raw": raw} if name == "denoised" else {}
                    traces = nx.extract_traces(image, tracks, **options, **beside)
                    noise_free = nx.extract_traces(clean, true_tracks, **options)
                    figures = judged(traces, truth, noise_free)
                    rows.append({"photons": level, "pixels": name, "method": method, "seed": seed, **figures})
    table = pd.DataFrame(rows).groupby(["photons", "pixels", "method"], sort=False).mean().drop(columns="seed")
    bars = [BARS.get(key, "") for key in table.index]
    return table.assign(bar=bars)


def faded(seed: int, fading: float, tau_s: float, uneven: float) -> Mapping[str, xr.Dataset]:
    """Traces of ten minutes without images: true, faded with noise, and divided by the true fading."""
    tree = nx.simulate.whole_brain(
        shape=(12, 128, 128), neurons=60, min_distance_um=1.5, frames=2400, rate_hz=4, bleaching=0.0, seed=seed
    )
    traces = tree["traces"].to_dataset()
    rng = np.random.default_rng([seed, 8])
    fadings, taus = (
        np.exp(uneven * rng.standard_normal(60)) * start for start in (fading, tau_s)
    )  # of each neuron its own
    left = 1 - np.minimum(fadings, 0.9) * (1 - np.exp(-traces["t"].values[:, None] / taus))
    clean, noise = traces["F"].values, 0.1 * traces["F0"].values * np.sqrt(left)
    noisy = clean * left + noise * rng.standard_normal(clean.shape)
    coords = traces["dff"].coords

    def dataset(values: np.ndarray, variance: np.ndarray) -> xr.Dataset:
        dims = ("t", "neuron")
        return xr.Dataset({"F": (dims, values), "F_var": (dims, variance)}, coords=coords)

    return {
        "truth": dataset(clean, np.zeros(clean.shape)),
        "faded": dataset(noisy, noise**2),
        "oracle": dataset(noisy / left, (noise / left) ** 2),
    }


def bleaching(seeds: tuple[int, ...] = (21, 22, 23)) -> pd.DataFrame:
    rows = []
    for uneven in (0.0, 0.3):
        for fading, tau_s in BLEACHING:
            figures: dict[str, list[float]] = {}
            for seed in seeds:
                traces = faded(seed, fading, tau_s, uneven)
                truth = nx.dff(traces["truth"])
                active = (truth["group"] != "inactive").values
                results = {
                    "oracle": traces["oracle"],
                    "none": traces["faded"],
                    "pooled": nx.correct_bleaching(traces["faded"]),
                    "alone": nx.correct_bleaching(traces["faded"], pooled=False),
                }
                for name, result in results.items():
                    quality = nx.trace_quality(nx.dff(result), truth)[active]
                    figures.setdefault(f"{name} r", []).append(quality["pearson"].median())
                    figures.setdefault(f"{name} MAE", []).append(quality["mae"].median())
            means = {name: float(np.mean(values)) for name, values in figures.items()}
            verdict = {
                "r below oracle (<= .003)": means["oracle r"] - means["pooled r"],
                "MAE / oracle (<= 1.1)": means["pooled MAE"] / means["oracle MAE"],
            }
            rows.append({"fading": fading, "tau_s": tau_s, "spread": uneven, **means, **verdict})
    return pd.DataFrame(rows).set_index(["spread", "fading", "tau_s"])


def speed() -> pd.Series:
    """CPU ms a frame of 30 x 512 x 512 with 120 neurons, reading aside."""
    tree = nx.simulate.whole_brain(shape=(30, 512, 512), frames=4, seed=0)
    recording, tracks = tree["recording"]["F"].compute(), tree["tracks"].to_dataset()
    figures = {}
    for method in METHODS[:-1]:
        started = time.process_time()
        nx.extract_traces(recording, tracks, method=method, progress=False)
        figures[method] = (time.process_time() - started) / 4 * 1e3
    return pd.Series(figures, name="ms a frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("levels", "bleaching", "speed"))
    parser.add_argument("--frames", type=int, default=150)
    options = parser.parse_args()
    pd.set_option("display.width", 160, "display.max_columns", 20)
    warnings.simplefilter("ignore")  # of the brightest neurons, which 16 bits do not hold
    if options.part in (None, "levels"):
        print("\nX1 and X3 (coverage: bar .87-.93 raw, .85-.95 denoised)")
        print(levels(options.frames).round(3).to_string())
    if options.part in (None, "bleaching"):
        print("\nX2\n", bleaching().round(4).T.to_string())
    if options.part in (None, "speed"):
        print("\n", speed().round(1).to_string())


if __name__ == "__main__":
    main()
