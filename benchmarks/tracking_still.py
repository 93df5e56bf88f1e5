"""Tracking of heads that hardly move, and filling of what is missed: ``python -m benchmarks.tracking_still``.

Bars, for every method: HOTA 0.91 and 0.90 of the points under the right name while 7 % are missed, 3 % are false and
positions are 0.35 µm off along each axis; with the missed ones filled, 0.98 of all points within 3 µm, half of the
filled ones within 0.7 µm. 120 neurons, 120 frames at 4 a second. The seeds are those of no test and of no trial while
the methods were made. Two minutes for template and laptrack.
"""

from __future__ import annotations

import argparse
from time import process_time

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx

BARS = {"HOTA": 0.91, "fraction": 0.90, "within 3 µm": 0.98, "filled median µm": 0.7}


def filled_error_um(tracks: xr.Dataset, truth: xr.Dataset, stands_for: dict[str, str | None]) -> np.ndarray:
    """Distances of filled points from the true ones, of neurons that are in the field."""
    true = [name for name, ours in stands_for.items() if ours]
    ours = [stands_for[name] for name in true]
    away = tracks["position"].sel(neuron=ours).transpose("t", "neuron", "space").values
    away = away - truth["position"].sel(neuron=true, space=tracks["space"]).transpose("t", "neuron", "space").values
    filled = ~tracks["observed"].sel(neuron=ours).values & truth["observed"].sel(neuron=true).values
    return np.linalg.norm(away, axis=-1)[filled]


def judged(method: str, motion: str, seed: int, frames: int) -> dict[str, float]:
    head = nx.simulate.whole_brain(shape=(30, 512, 512), frames=frames, motion=motion, seed=seed)
    found, truth = nx.simulate.detections(head, seed=seed), head["tracks"].to_dataset()
    before = process_time()
    tracks = nx.track(found, method=method)
    cpu_s = process_time() - before
    bare = nx.score_tracks(tracks, truth)
    full = nx.score_tracks(tracks, truth, filled=True)
    error = filled_error_um(tracks, truth, full.attrs["neurons"])
    return {
        "HOTA": bare["HOTA"],
        "fraction": bare["fraction_correct"],
        "within 3 µm": full["fraction_correct"],
        "filled median µm": float(np.median(error)),
        "filled p90 µm": float(np.quantile(error, 0.9)),
        "CPU ms/frame": 1000 * cpu_s / frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["template", "laptrack", "vote"])
    parser.add_argument("--motions", nargs="+", default=["fixed", "semi"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()
    rows = {"bar": {name: f"{bar}" for name, bar in BARS.items()}}
    for method in options.methods:
        for motion in options.motions:
            worms = pd.DataFrame([judged(method, motion, seed, options.frames) for seed in options.seeds])
            spread = {
                name: f"{worms[name].mean():.3f} ({worms[name].min():.3f}-{worms[name].max():.3f})" for name in worms
            }
            rows[f"{method}, {motion}"] = spread
            print(f"{method}, {motion}: {spread}", flush=True)
    print(f"\nmean (lowest-highest) of worms {options.seeds}, {options.frames} frames")
    print(pd.DataFrame(rows).T.to_string(na_rep=""))


if __name__ == "__main__":
    main()
