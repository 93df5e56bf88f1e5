"""How hard the motion presets are to track, beside a real worm: ``python -m benchmarks.motion`` (two minutes).

Means over simulated worms of the share of neurons that the plainest linking of two frames pairs rightly
(:func:`niddl_xr.metrics.linking.linking_difficulty`). The real worm moves freely (fdnc_tracking among the real
recordings: 1,522 volumes at 6 a second; its normalised coordinates are 84 µm each); without that folder its rows are
left out.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

import niddl_xr as nx
from niddl_xr.metrics.linking import linking_difficulty

UM_PER_UNIT = 84.0
# Faults of the detections that go with a preset: missed and false, relative to the number of neurons.
FAULTS = {"fixed": (0.07, 0.03), "semi": (0.07, 0.03), "free": (0.07, 0.03), "hard": (0.15, 0.10)}


def real_worm(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points in µm and neuron numbers (-1 unknown) of each volume."""
    paths = sorted(folder.glob("real_*.npy"), key=lambda path: int(path.stem.removeprefix("real_")))
    volumes = [np.load(path) for path in paths]
    return [(volume[:, :3] * UM_PER_UNIT, volume[:, 3].astype(int)) for volume in volumes]


def simulated_worm(motion: str, seed: int, frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    worm = nx.simulate.whole_brain(shape=(30, 512, 512), frames=frames, motion=motion, seed=seed)
    missed, false = FAULTS[motion]
    table = nx.simulate.detections(worm, missed_fraction=missed, false_fraction=false, seed=seed)
    return [(frame[["z", "y", "x"]].to_numpy(), frame["neuron"].to_numpy()) for _, frame in table.groupby("t_index")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realdata", default=os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    parser.add_argument("--worms", type=int, default=6)
    parser.add_argument("--frames", type=int, default=360)
    options = parser.parse_args()
    rows = {}
    folder = Path(options.realdata) / "fdnc_tracking" / "real_jeff_all"
    if folder.is_dir():
        volumes = real_worm(folder)
        rows["real worm, every volume (6 a second)"] = linking_difficulty(volumes, unknown=-1, samples=100)
        rows["real worm, every second volume"] = linking_difficulty(volumes[::2], unknown=-1, samples=100)
    for motion in FAULTS:
        worms = [simulated_worm(motion, seed, options.frames) for seed in range(options.worms)]
        difficulty = pd.DataFrame([linking_difficulty(worm, unknown="") for worm in worms])
        rows[f"{motion} (4 a second)"] = difficulty.mean()
        low, high = difficulty["two frames apart"].min(), difficulty["two frames apart"].max()
        rows[f"{motion}, lowest and highest worm"] = pd.Series({"two frames apart": f"{low:.2f}-{high:.2f}"})
    table = pd.DataFrame(rows).T
    print(table.to_string(float_format="{:.3f}".format, na_rep=""))


if __name__ == "__main__":
    main()
