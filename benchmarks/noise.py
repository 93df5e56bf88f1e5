"""Real noise and simulated noise, side by side, on the images that the NIDDL authors publish.

Run ``python -m benchmarks.noise --realdata FOLDER`` (a minute). Of each folder the statistics of the real noisy images,
of the same scenes seen by the camera fitted to them, and by the camera that was the default before there was a fit;
then the camera fitted to every second image is judged on the others. Ratios are simulated over real; correlations, of
which some are nearly 0, are shown as they are.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx
from niddl_xr.simulation.noise import NIDDL_EMCCD, Camera, compare, fit

BEFORE = Camera(
    offset=400, gain=25, read_noise=11, excess_noise=2, row_noise=8.5, row_length_px=27, spurious_charge=0.05
)
# The ventral cord and the touch neurons are maximum projections. 20 exposures of the whole-brain camera have their
# stripes and their width; the authors speak of about 40 planes.
PROJECTED_PLANES = {"whole_brain": 1, "ventral_cord": 20, "mechanosensory": 20}
SEEDS = (0, 1, 2)


def averaged(images: xr.DataArray, camera: Camera) -> pd.DataFrame:
    """Real and simulated statistics, the latter a mean over seeds for single exposures."""
    seeds = SEEDS if camera.projected_planes == 1 else SEEDS[:1]
    table = sum(compare(images, camera, seed=seed) for seed in seeds) / len(seeds)
    return table.assign(ratio=table["simulated"] / table["real"])


def speed(camera: Camera, planes: int = 30) -> float:
    """Planes of 512 x 512 px a second that a camera acquires, of a scene of 0.3 photons with brighter places."""
    rng = np.random.default_rng(0)
    photons = np.where(rng.random((planes, 512, 512)) < 0.03, 20, 0.3).astype(np.float32)
    camera.acquire(photons[:1], rng)
    started = time.perf_counter()
    camera.acquire(photons, rng)
    return planes / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--realdata", type=Path, default=Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    )
    options = parser.parse_args()
    pd.set_option("display.width", 140)
    for folder, planes in PROJECTED_PLANES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gaps between the files, and no voxel size: neither matters here
            images = nx.open_recording(options.realdata / "niddl_samples" / folder / "noisy", gaps="skip")
        camera = fit(images, projected_planes=planes)
        table = averaged(images, camera)
        half = averaged(
            images.isel(t=slice(1, None, 2)), fit(images.isel(t=slice(0, None, 2)), projected_planes=planes)
        )
        before = compare(images, BEFORE)
        table = table.assign(before=before["simulated"], before_ratio=before["ratio"], other_half=half["ratio"])
        print(f"\n{folder}: {images.sizes['t']} images, projected_planes={planes}\n{table.round(3).to_string()}")
        print({name: np.round(value, 3).tolist() for name, value in camera.as_dict().items() if np.any(value)})
    print(f"\nacquire: {speed(BEFORE):.0f} planes of 512 x 512 a second, {speed(NIDDL_EMCCD):.0f} with everything on")


if __name__ == "__main__":
    main()
