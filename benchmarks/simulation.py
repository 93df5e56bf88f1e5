"""Speed of rendering, beside the way anyone would write first: ``python -m benchmarks.simulation`` (one minute).

CPU seconds of the process, one thread, arms alternated, the least of the repeats. The baseline puts the same neurons
as single bright voxels into a volume and blurs it with ``scipy.ndimage``, once for the nuclei and once for the haze,
then adds Poisson and Gaussian noise of numpy: no directions of nuclei, no stripes, no amplified electrons.
"""

from __future__ import annotations

import argparse

import dask
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

import niddl_xr as nx
from benchmarks.speed import cpu_seconds

SHAPE, VOXEL_UM = (30, 512, 512), (1.0, 0.4, 0.4)


def blurred_points(positions_um: np.ndarray, counts: np.ndarray, seed: int, *, noise: bool) -> np.ndarray:
    """The baseline: one volume of blurred points."""
    volume = np.zeros(SHAPE, np.float32)
    index = np.clip(np.rint(positions_um / VOXEL_UM).astype(int), 0, np.array(SHAPE) - 1)
    np.add.at(volume, tuple(index.T), counts)
    light = gaussian_filter(volume, np.array((1.9, 1.25, 1.25)) / VOXEL_UM)
    light += gaussian_filter(volume, np.array((4.0, 8.0, 8.0)) / VOXEL_UM)
    if not noise:
        return light
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(rng.poisson(light) + rng.normal(400, 11, SHAPE)), 0, 65535).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=4)
    repeats = parser.parse_args().repeats
    dask.config.set(scheduler="synchronous")
    scene = nx.simulate.whole_brain(
        shape=SHAPE, voxel_um=VOXEL_UM, frames=4, photons=20, motion="free", frames_per_chunk=1
    )
    positions = scene["tracks"]["position"].values
    counts = scene["traces"]["F"].values

    def lazily(node: str, name: str = "F") -> object:
        return scene[node][name].isel(t=1).values

    arms = {
        "expected light": lambda: lazily("clean"),
        "expected light, blurred points (baseline)": lambda: blurred_points(positions[1], counts[1], 0, noise=False),
        "recording": lambda: lazily("recording"),
        "recording, blurred points (baseline)": lambda: blurred_points(positions[1], counts[1], 0, noise=True),
        "labels": lambda: lazily("labels", "labels"),
    }
    seconds = cpu_seconds(arms, repeats)
    table = pd.DataFrame({"planes a second": {name: SHAPE[0] / value for name, value in seconds.items()}})
    base = {name: seconds.get(f"{name}, blurred points (baseline)") for name in arms}
    table["times the baseline"] = [base[name] / seconds[name] if base[name] else np.nan for name in arms]
    print(f"{SHAPE[1]} x {SHAPE[2]} planes of a volume of {SHAPE[0]}, {counts.shape[1]} neurons, one core")
    print(table.to_string(float_format="{:.1f}".format, na_rep=""))


if __name__ == "__main__":
    main()
