"""Labels of nuclei and skeletons of neurites, held against simulated truth: ``python -m benchmarks.segmentation``.

About ten minutes of one core; ``--worms 1`` takes a third. With the folder of real recordings, also against the labels
of a stack of nuclei that the authors of StarDist publish. Bars: D3, recall of nuclei without noise 0.97 or more, F1 of
labels at an intersection over union of 0.5 at 50 photons 0.85 or more; N1, F1 of skeletons within 0.8 µm 0.90 or more
at high light, 0.85 or more at low light after denoising.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import xarray as xr
from scipy.ndimage import gaussian_filter

import niddl_xr as nx
from niddl_xr.metrics import score_detections, score_labels, score_skeleton
from niddl_xr.neurons import DETECTION_COLUMNS
from niddl_xr.segmentation.label_detections import labels_to_detections

SHAPE = (30, 256, 320)
PSF_UM = (1.5, 0.5, 0.5)  # of simulate.whole_brain
FIRST_WORM, FIRST_NEURITE = 340, 420  # no setting was chosen on these
LOW_PHOTONS = (2.0, 5.0, 10.0)
METHODS = {
    "gmm": {},
    "gmm, PSF known": {"psf_sigma_um": PSF_UM},
    "gmm, no split": {"split": False},
    "watershed": {"method": "watershed"},
}


def nuclei(worms: int, neurons: int) -> pd.DataFrame:
    """One row a worm, light and method."""
    rows = []
    for seed in range(FIRST_WORM, FIRST_WORM + worms):
        worm = nx.simulate.whole_brain(neurons=neurons, shape=SHAPE, frames=1, photons=50, seed=seed)
        truth, outlines = worm["tracks"].to_dataset(), worm["labels"].to_dataset()["labels"]
        for light, node in (("no noise", "clean"), ("50 photons", "recording")):
            recording = worm[node].to_dataset()["F"].compute()
            found = nx.detect(recording, progress=False)
            rows.append({"neurons": neurons, "light": light, "method": "detect", **detected(found, truth)})
            for method, options in METHODS.items():
                started = time.process_time()
                labels = nx.segment(recording, found, **options).compute()
                row = {"neurons": neurons, "light": light, "method": method, "cpu_s": time.process_time() - started}
                row |= detected(labels_to_detections(labels, recording), truth)
                rows.append(row | score_labels(labels, outlines)[["f1_iou_0.3", "f1_iou_0.5", "seg"]].to_dict())
    return pd.DataFrame(rows)


# Radius, PSF sigma along z and in the plane, voxel along z and in the plane (all in µm), and planes.
BALLS = {
    "1.9 µm, PSF 1.5/0.5": (1.9, 1.5, 0.5, 1.0, 0.4, 20),
    "1.3 µm, PSF 1.0/0.3": (1.3, 1.0, 0.3, 1.0, 0.4, 16),
    "3.0 µm, PSF 0.8/0.25": (3.0, 0.8, 0.25, 0.5, 0.5, 50),
    "2.0 µm, PSF 0.3/0.3": (2.0, 0.3, 0.3, 0.6, 0.3, 30),
    "1.9 µm, PSF 3.0/0.6": (1.9, 3.0, 0.6, 2.0, 0.5, 16),
}


def ball_scene(
    sizes: tuple[float, float, float, float, float, int], seed: int
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """A recording of 25 balls of uniform light at 50 photons, its true labels, and the places of the balls."""
    radius, blur_z, blur, voxel_z, voxel, planes = sizes
    rng = np.random.default_rng(seed)
    shape = np.array([planes, 110, 130])
    voxel_um, size_um = np.array([voxel_z, voxel, voxel]), shape * [voxel_z, voxel, voxel]
    places: list[np.ndarray] = []
    radii: list[float] = []
    for _ in range(5000):
        own = radius * float(np.clip(rng.normal(1, 0.14), 0.7, 1.4))
        place = rng.uniform(own, size_um - own)
        if len(places) < 25 and all(
            np.linalg.norm(place - p) > 0.95 * (own + r) for p, r in zip(places, radii, strict=True)
        ):
            places.append(place)
            radii.append(own)
    parts = np.maximum(1, np.round(voxel_um / 0.25)).astype(int)
    fine_um = voxel_um / parts
    axes = [(np.arange(n * k) + 0.5) * f - v / 2 for n, k, f, v in zip(shape, parts, fine_um, voxel_um, strict=True)]
    light, labels = np.zeros(shape * parts, np.float32), np.zeros(shape, np.uint16)
    coarse = [np.arange(n) * v for n, v in zip(shape, voxel_um, strict=True)]
    for number, (place, own) in enumerate(zip(places, radii, strict=True), start=1):
        for grid, image, value in ((axes, light, np.exp(rng.normal(0, 0.5))), (coarse, labels, number)):
            box = tuple(slice(*np.searchsorted(axis, (p - own, p + own))) for axis, p in zip(grid, place, strict=True))
            z, y, x = (np.square(axis[s] - p) for axis, s, p in zip(grid, box, place, strict=True))
            image[box][z[:, None, None] + y[:, None] + x <= own**2] = value
    light = gaussian_filter(light, [blur_z, blur, blur] / fine_um)
    for axis, part in enumerate(parts):
        light = np.add.reduceat(light, np.arange(0, light.shape[axis], part), axis=axis) / part
    peak = np.median([light[tuple(np.rint(p / voxel_um).astype(int).clip(0, shape - 1))] for p in places])
    counts = 100 + 10 * rng.poisson(50 * light / peak + 5) + rng.normal(0, 10, shape)
    recording = nx.from_numpy(counts[None].astype(np.float32), dims="tzyx", voxel_um=(voxel_z, voxel, voxel), dt_s=1.0)
    return recording, recording.copy(data=labels[None]), xr.DataArray(np.array(places))


def balls(seeds: int) -> pd.DataFrame:
    """F1 at an intersection over union of 0.5, of balls whose places are known to 0.15 µm."""
    rows = []
    for name, sizes in BALLS.items():
        for seed in range(FIRST_WORM, FIRST_WORM + seeds):
            recording, truth, places = ball_scene(sizes, seed)
            given = places.values + np.random.default_rng(seed).normal(0, 0.15, places.shape)
            found = pd.DataFrame(given, columns=["z", "y", "x"]).assign(t_index=0)
            for method, options in {**METHODS, "gmm, PSF known": {"psf_sigma_um": sizes[1:3] + sizes[2:3]}}.items():
                score = score_labels(nx.segment(recording, found, **options), truth)
                rows.append({"balls": name, "method": method, "f1_iou_0.5": score["f1_iou_0.5"]})
    return pd.DataFrame(rows).groupby(["balls", "method"], sort=False).mean().unstack()


def detected(found: pd.DataFrame, truth: xr.Dataset) -> dict[str, float]:
    """Recall, precision and centroid error of points against true tracks."""
    score = score_detections(found, truth)
    names = [name for name in score.index if name in ("recall", "precision") or "error_um" in name]
    return score[names].to_dict()


def neurites(scenes: int, denoisers: dict[str, nx.Denoiser], photons: Sequence[float]) -> pd.DataFrame:
    """One row a scene, light and image."""
    rows = []
    for kind in ("pvd", "touch"):
        for seed in range(FIRST_NEURITE, FIRST_NEURITE + scenes):
            for light in photons:
                scene = nx.simulate.neurite(kind=kind, photons=light, seed=seed)
                truth, raw = scene["skeleton"].to_dataset(), scene["recording"].to_dataset()["F"]
                images = {"raw": raw} | {name: nx.denoise(raw, denoiser) for name, denoiser in denoisers.items()}
                images[f"high light ({10 * light:g} photons)"] = scene["high_laser"].to_dataset()["F"]
                images["no noise"] = scene["clean"].to_dataset()["F"]
                for image, recording in images.items():
                    score = score_skeleton(nx.segment_neurites(recording), truth)
                    rows.append(
                        {
                            "kind": kind,
                            "photons": light,
                            "image": image,
                            **score[["precision", "recall", "f1"]].to_dict(),
                        }
                    )
    return pd.DataFrame(rows)


def trained_on_neurites(minutes: float) -> nx.Denoiser:
    """A denoiser that saw simulated neurites of other seeds."""
    pairs = nx.simulate.training_pairs(stacks=150, subject="neurite", shape=(1, 192, 192), photons=(1.0, 40.0), seed=7)
    return nx.train(pairs, time_limit_s=60 * minutes, epochs=500)


def real_nuclei(folder: Path) -> pd.DataFrame:
    """Labels of a real stack from the centroids of its own mask: the outlines are judged, not the detection."""
    image, mask = (tifffile.imread(folder / "stardist_nuclei" / f"{name}3d.tif") for name in ("img", "mask"))
    # Its voxels are not stated; at 0.5 µm its nuclei, 9 voxels across, are as large as a worm's.
    recording = nx.from_numpy(image[None], dims="tzyx", voxel_um=(0.5, 0.5, 0.5), dt_s=1.0)
    truth = recording.copy(data=mask[None].astype(np.uint16))
    markers = labels_to_detections(truth, recording)[list(DETECTION_COLUMNS)]
    rows = {name: score_labels(nx.segment(recording, markers, **options), truth) for name, options in REAL.items()}
    return pd.DataFrame(rows).T


REAL = {"gmm": {"split": False}, "gmm, split": {}, "watershed": {"method": "watershed"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--realdata", type=Path, default=Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    )
    parser.add_argument("--worms", type=int, default=3)
    parser.add_argument("--train-minutes", type=float, default=0, help="train a denoiser on simulated neurites, too")
    options = parser.parse_args()
    pd.set_option("display.width", 160)

    table = pd.concat([nuclei(options.worms, neurons) for neurons in (120, 60)])
    print("D3: recall without noise >= 0.97, f1_iou_0.5 at 50 photons >= 0.85")
    print(table.groupby(["neurons", "light", "method"], sort=False).mean().round(3).to_string())

    print("\nD3 on balls of uniform light, other sizes, blurs and voxels")
    print(balls(options.worms).round(3).to_string())

    denoisers = {"worm-sim": nx.load_denoiser("worm-sim")}
    if options.train_minutes:
        denoisers["trained on neurites"] = trained_on_neurites(options.train_minutes)
    table = neurites(options.worms, denoisers, LOW_PHOTONS)
    print("\nN1: f1 >= 0.90 at high light, >= 0.85 at low light after denoising")
    print(table.groupby(["photons", "image", "kind"], sort=False).mean().unstack().round(3).to_string())

    if (options.realdata / "stardist_nuclei").is_dir():
        print(f"\nReal nuclei (StarDist's stack)\n{real_nuclei(options.realdata).round(3).to_string()}")


if __name__ == "__main__":
    main()
