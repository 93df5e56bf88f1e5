"""Tracking by votes against its bars: ``python -m benchmarks.tracking`` (ten minutes; ``--short`` two).

T2: HOTA of simulated worms that move freely, 120 neurons, 120 frames, 7 % missed and 3 % false detections. T3: a real
worm (fdnc_tracking among the real recordings; Yu et al., eLife 10:e66410, 2021): labelled neurons that are found in
the other volumes, from the points of one reference, or with some volumes labelled by hand. T4: CPU time, cold and with
the matches of pairs at hand. ``--half`` chooses the volumes of the real worm: "open" (t < 800, even), on which the
method was developed, "odd" (t < 800, odd) or "late" (t >= 800), which it had not seen.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx
from niddl_xr.tracking import _matches

UM_PER_UNIT = 84.0
HALVES = {"open": (0, 800, 0), "odd": (0, 800, 1), "late": (800, 1600, 0)}  # first, last, remainder of t by 2
FAULTS = {"free": (0.07, 0.03), "hard": (0.15, 0.10)}


def real_worm(folder: Path, half: str) -> pd.DataFrame:
    """Detections with the column label: the number of the neuron, -1 unknown."""
    first, last, odd = HALVES[half]
    numbers = sorted(int(path.stem.removeprefix("real_")) for path in folder.glob("real_*.npy"))
    numbers = [number for number in numbers if first <= number < last and number % 2 == odd]
    rows = []
    for t, number in enumerate(numbers):
        volume = np.load(folder / f"real_{number}.npy")
        places = pd.DataFrame(volume[:, 2::-1] * UM_PER_UNIT, columns=["z", "y", "x"])
        rows.append(places.assign(t_index=t, label=volume[:, 3].astype(int)))
    return pd.concat(rows, ignore_index=True)


def found_labels(tracks: xr.Dataset, table: pd.DataFrame, own: np.ndarray) -> np.ndarray:
    """Return for each detection the label of its neuron; ``own`` (neuron,) are the labels of the neurons."""
    found = np.full(len(table), -2)
    frame, neuron = np.nonzero(tracks["det_id"].values >= 0)
    found[tracks["det_id"].values[frame, neuron]] = own[neuron]
    return found


def accuracy_from_reference(table: pd.DataFrame, reference: int | None) -> float:
    tracks = nx.track(table, reference=reference, min_fraction=0, fill=False)
    label, start = table["label"].to_numpy(), tracks.attrs["reference_frame"]
    rows = tracks["det_id"].values[start]
    own = np.where(rows >= 0, label[rows], -3)
    judged = (label >= 0) & (table["t_index"].to_numpy() != start) & np.isin(label, own)
    return float(np.mean(found_labels(tracks, table, own)[judged] == label[judged]))


def accuracy_with_anchors(table: pd.DataFrame, anchored: int, seed: int) -> float:
    frames = int(table["t_index"].max()) + 1
    chosen = np.random.default_rng(seed).choice(frames, anchored, replace=False)
    label, known = table["label"].to_numpy(), table["t_index"].isin(chosen).to_numpy()
    said = table[known & (label >= 0)]
    said = said.assign(neuron="L" + said["label"].astype(str))
    tracks = nx.track(table, anchors=said, min_fraction=0, fill=False)
    names = [str(name) for name in tracks["neuron"].values]
    own = np.array([int(name[1:]) if name.startswith("L") else -3 for name in names])
    judged = (label >= 0) & ~known
    return float(np.mean(found_labels(tracks, table, own)[judged] == label[judged]))


def simulated_worm(motion: str, seed: int, frames: int) -> tuple[pd.DataFrame, xr.Dataset]:
    worm = nx.simulate.whole_brain(shape=(30, 512, 512), frames=frames, motion=motion, seed=seed)
    missed, false = FAULTS[motion]
    found = nx.simulate.detections(worm, missed_fraction=missed, false_fraction=false, seed=seed)
    return found, worm["tracks"].to_dataset()


def simulated(motion: str, seeds: int, frames: int = 120) -> list[dict[str, float]]:
    rows = []
    for seed in range(seeds):
        found, truth = simulated_worm(motion, seed, frames)
        _matches.forget()
        started = time.process_time()
        tracks = nx.track(found, fill=False)
        cold = time.process_time() - started
        point = found[found["neuron"] != ""].iloc[[len(found) // 3]]
        started = time.process_time()
        nx.track(found, fill=False, anchors=point)
        again = time.process_time() - started
        scores = nx.score_tracks(tracks, truth)
        rows.append(
            {
                "HOTA": float(scores["HOTA"]),
                "fraction_correct": float(scores["fraction_correct"]),
                "ms a frame": 1e3 * cold / frames,
                "again, s": again,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", default=os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    parser.add_argument("--half", choices=sorted(HALVES), default="open")
    parser.add_argument("--short", action="store_true", help="two simulated worms, two anchor sets")
    parser.add_argument("--frames", type=int, default=0, help="frames of one long worm for T4, such as 1000")
    options = parser.parse_args()
    few = options.short
    for motion, bar in (("free", "HOTA mean >= .83, least >= .78"), ("hard", "no bar")):
        table = pd.DataFrame(simulated(motion, 2 if few else 5))
        print(f"\nT2, T4 {motion} ({bar}; <= 150 ms a frame, again <= 5 s)\n{table.round(3).to_string()}")
        print(f"mean HOTA {table['HOTA'].mean():.3f}, least {table['HOTA'].min():.3f}", flush=True)
    folder = Path(options.realdata) / "fdnc_tracking" / "real_jeff_all"
    if folder.is_dir():
        table = real_worm(folder, options.half)
        frames = int(table["t_index"].max()) + 1
        references = [None, *np.linspace(0, frames - 1, 3 if few else 6).astype(int)[1:-1].tolist()]
        alone = [accuracy_from_reference(table, reference) for reference in references]
        print(f"\nT3 {options.half}: no labels (>= .70) {np.mean(alone):.3f}: {np.round(alone, 3)}", flush=True)
        for anchored, least in ((10, 0.82), (20, 0.87)):
            known = [accuracy_with_anchors(table, anchored, seed) for seed in range(2 if few else 5)]
            print(f"T3 {anchored} frames labelled (>= {least}) {np.mean(known):.3f}: {np.round(known, 3)}", flush=True)
    if options.frames:
        row = simulated("free", 1, options.frames)
        print(f"\nT4 {options.frames} frames\n{pd.DataFrame(row).round(3).to_string()}")


if __name__ == "__main__":
    main()
