"""Centrelines beside the true ones (C1), coils and heads (C2), a real video, and time.

Run ``python -m benchmarks.posture`` (ten minutes; ``--realdata FOLDER`` adds the video), or one part:
``python -m benchmarks.posture masks``. Worms of seeds that nothing was chosen on. Curvature is compared over s .1 to .9
of the frames with a centreline, with the ventral side as it is. A worm is coiled where parts of its body that are not
neighbours overlap; where they are less than two pixels apart, a flag is neither right nor wrong.
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
from niddl_xr.simulation._kernels.crawler_body import radius_um

SEEDS = (101, 102, 103)
INNER = slice(10, 90)
FIELD_UM = 1100


def worm(pixel_um: float, frames: int, seed: int, *, rate_hz: float = 5.0, **options: object) -> xr.DataTree:
    size = int(FIELD_UM / pixel_um)
    return nx.simulate.freely_moving(
        shape=(1, size, size), voxel_um=(1, pixel_um, pixel_um), frames=frames, rate_hz=rate_hz, seed=seed, **options
    )


def infrared(pixel_um: float, frames: int, seed: int, **options: object) -> xr.DataTree:
    tiny = {"shape": (1, 16, 16), "voxel_um": (1, FIELD_UM / 16, FIELD_UM / 16), "nir_voxel_um": pixel_um}
    return nx.simulate.freely_moving(**tiny, frames=frames, seed=seed, **{"rate_hz": 5.0, **options})


def agreement(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    known = np.isfinite(found).all(axis=1)
    found, true = found[known], true[known]
    return {
        "RMSE 1/mm": float(np.sqrt(((found - true) ** 2).mean())),
        "r": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, true, strict=True)])),
        "slope": float(np.polyfit(true.ravel(), found.ravel(), 1)[0]),
        "known": float(known.mean()),
    }


def outlines(frames: int) -> pd.DataFrame:
    """C1 of masks and images."""
    kinds = [("mask", 0.8, frames // 4), ("mask", 1.6, frames // 2), ("mask", 2.4, frames), ("mask", 5.0, frames)]
    kinds += [("infrared", 2.4, frames // 2), ("fluorescence, 50 photons", 2.4, frames // 4)]
    kinds += [("fluorescence, 5 photons", 2.4, frames // 4)]
    rows = []
    for kind, pixel_um, count in kinds:
        for seed in SEEDS:
            options = {"photons": 5.0} if kind.endswith(" 5 photons") else {}
            tree = (infrared if kind == "infrared" else worm)(pixel_um, count, seed, **options)
            source = tree["labels"]["body"] if kind == "mask" else tree["recording"]["F"]
            source = (tree["nir"]["F"] if kind == "infrared" else source).compute()
            truth = tree["posture"].to_dataset()
            started = time.process_time()
            posture = nx.centerline(source, ventral_side=truth.attrs["ventral_side"], fill_s=0)
            spent_ms = 1e3 * (time.process_time() - started) / count
            figures = agreement(posture["curvature"].values[:, INNER], truth["curvature"].values[:, INNER])
            rows.append({"source": kind, "pixel": pixel_um, **figures, "ms a frame": spent_ms})
    table = pd.DataFrame(rows).groupby(["source", "pixel"], sort=False).mean()
    bar = "r >= .99, RMSE <= .6, slope .97-1.03"
    return table.assign(bar=[bar if kind == "mask" and pixel < 5 else "" for kind, pixel in table.index])


def cord(frames: int) -> pd.DataFrame:
    """C1 of tracked neurons, 1 µm beside the truth along each axis."""
    rows = []
    for seed in SEEDS:
        tree = infrared(60.0, frames, seed, neurons=60)
        tracks, truth = tree["tracks"].to_dataset(), tree["posture"].to_dataset()
        side, rng = truth.attrs["ventral_side"], np.random.default_rng(seed)
        order = np.argsort(tracks["body_position"].values)
        for count in (15, 25, 40):
            names = tracks["neuron"].values[order[np.linspace(0, 59, count).round().astype(int)]]
            chosen = tracks.sel(neuron=rng.permutation(names))
            error = np.array([0, 1, 1]) * rng.normal(size=chosen["position"].shape)
            chosen = chosen.assign(position=chosen["position"] + error)
            first, last = np.sort(chosen["body_position"].values)[[0, -1]]
            for offset in (0.0, 20.0):
                posture = nx.centerline(chosen, ventral_side=side, cord_offset_um=offset, fill_s=0)
                places = first + (last - first) * posture["s"].values
                inner = (places > 0.1) & (places < 0.9)
                true = truth["curvature"].interp(s=xr.DataArray(places, dims="place")).values
                figures = agreement(posture["curvature"].values[:, inner], true[:, inner])
                right = np.hypot(
                    *(posture["centerline"].values[:, 5, 1:] - truth["centerline"].values[:, 10, 1:]).T
                ) < np.hypot(*(posture["centerline"].values[:, 5, 1:] - truth["centerline"].values[:, 90, 1:]).T)
                told = set(posture["head_told"].values) - {""}
                rows.append({"neurons": count, "offset_um": offset, **figures, "head": right.mean(), "told": str(told)})
    table = pd.DataFrame(rows).groupby(["neurons", "offset_um"]).mean(numeric_only=True)
    return table.assign(bar=["r >= .98, RMSE <= 1.0"] * len(table))


def circles() -> pd.DataFrame:
    """C1: masks of arcs of known radius, turning right and left."""
    rows = []
    for radius_mm in (0.2, 0.3, 0.6):
        for turn in (1, -1):
            angle = np.linspace(0, 0.9 / radius_mm, 900)
            line = 1000 * radius_mm * np.stack([turn * (1 - np.cos(angle)), np.sin(angle)], axis=1)
            line += 80 - line.min(axis=0)
            grid = np.stack(np.indices((line.max(axis=0) / 2.4 + 40).astype(int)), -1) * 2.4
            body = np.zeros(grid.shape[:2], bool)
            for point, radius in zip(line, radius_um(np.linspace(0, 1, 900), 1000.0), strict=True):
                body |= ((grid - point) ** 2).sum(-1) <= radius**2
            axes = {
                dim: (dim, np.arange(size) * 2.4, {"units": "µm"}) for dim, size in zip("yx", body.shape, strict=True)
            }
            mask = xr.DataArray(body[None], dims=("t", "y", "x"), coords=axes)
            found = float(nx.centerline(mask)["curvature"][0, INNER].mean())
            rows.append({"radius_mm": radius_mm, "turn": turn, "found": found, "over truth": found * radius_mm / turn})
    return pd.DataFrame(rows).set_index(["radius_mm", "turn"]).assign(bar="0.99-1.01")


def gap_um(truth: xr.Dataset) -> np.ndarray:
    lines, s = truth["centerline"].values[..., 1:].astype(float), truth["s"].values
    radius = radius_um(s, 1000.0)
    both = radius[:, None] + radius
    apart = np.abs(s[:, None] - s) * 1000 > 2 * both + 20
    return np.array([(np.hypot(*np.moveaxis(line[:, None] - line, -1, 0)) - both)[apart].min() for line in lines])


def coils(frames: int) -> pd.DataFrame:
    """C2: coiled frames and false flags; heads of blocks of 5 s and more. Frames at the field's edge are left out."""
    rows = []
    for kind in ("mask", "infrared"):
        for seed in (*SEEDS, 104, 105, 106):
            tree = (worm if kind == "mask" else infrared)(2.4, frames, seed, omega_turns_per_min=2.5)
            source = (tree["labels"]["body"] if kind == "mask" else tree["nir"]["F"]).compute()
            truth = tree["posture"].to_dataset()
            posture = nx.centerline(source, fill_s=0)
            gap, reason = gap_um(truth), posture["reason"].values
            inside = reason != "cut by the edge of the field"
            flag, coiled, free = reason != "", gap < 0, gap > 4.8
            lines, true = (one["centerline"].values[..., 1:] for one in (posture, truth))
            right = np.hypot(*(lines[:, 0] - true[:, 0]).T) < np.hypot(*(lines[:, 0] - true[:, -1]).T)
            blocks = [np.flatnonzero(posture["block"].values == k) for k in range(int(posture["block"].max()) + 1)]
            long = [block for block in blocks if len(block) >= 25]
            rows.append(
                {
                    "source": kind,
                    "coiled": (coiled & inside).sum(),
                    "flagged": (coiled & inside & flag).sum(),
                    "free": (free & inside).sum(),
                    "false": (free & inside & flag).sum(),
                    "close": ((gap >= 0) & ~free & inside).sum(),
                    "close flagged": ((gap >= 0) & ~free & inside & flag).sum(),
                    "blocks >= 5 s": len(long),
                    "head right": sum(bool(right[block].mean() > 0.5) for block in long),
                }
            )
    table = pd.DataFrame(rows).groupby("source").sum()
    return table.assign(
        **{"flagged part": table["flagged"] / table["coiled"], "false part": table["false"] / table["free"]},
        bar="flagged >= .95, false <= .02, heads all",
    )


def real(folder: Path) -> pd.DataFrame:
    """Two real videos of small worms, against skimage's skeleton of a careful mask: the folder holds no skeletons."""
    from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes, label
    from skimage.morphology import skeletonize

    movies = {
        name: nx.open_recording(folder / "tierpsy_worm" / name, voxel_um=(1, 5, 5), dt_s=0.04).compute()
        for name in ("test.avi", "cropped_video.avi")
    }
    crop = movies["cropped_video.avi"].isel(x=slice(12, -10), y=slice(2, -22))
    inside = np.stack([binary_erosion(plane > 150, iterations=4) for plane in crop.values[:, 0]])
    walls = inside & (crop.values[:, 0] < 250)
    closed = np.stack([binary_closing(np.pad(plane, 8), np.ones((5, 5)))[8:-8, 8:-8] for plane in walls])
    sources = {
        "test.avi, image": (movies["test.avi"], movies["test.avi"].values[:, 0] > 25, "bright"),
        "test.avi, mask": (movies["test.avi"] > 25, movies["test.avi"].values[:, 0] > 25, None),
        "cropped_video.avi, mask": (crop.copy(data=closed[:, None]), closed, None),
    }
    rows = []
    for name, (source, masks, contrast) in sources.items():
        posture = nx.centerline(source, contrast=contrast, fill_s=0)
        errors = []
        for frame in np.flatnonzero(posture["reason"].values == ""):
            numbers, _ = label(masks[frame], np.ones((3, 3)))
            body = binary_fill_holes(numbers == 1 + np.argmax(np.bincount(numbers.ravel())[1:]))
            line = (posture["centerline"].values[frame, :, 1:] - [source["y"].values[0], source["x"].values[0]]) / 5
            pixels = np.argwhere(skeletonize(body))
            errors.append(np.median(np.hypot(*np.moveaxis(pixels[:, None] - line, -1, 0)).min(axis=1)))
        spread = np.quantile(errors, [0.5, 0.95]) if errors else [np.nan, np.nan]
        rows.append(
            {"video": name, "frames": len(masks), "known": len(errors), "error px": spread[0], "95 %": spread[1]}
        )
    return pd.DataFrame(rows).set_index("video").assign(bar="median <= 1 px")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("outlines", "cord", "circles", "coils", "real"))
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument(
        "--realdata", type=Path, default=Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    )
    options = parser.parse_args()
    pd.set_option("display.width", 180, "display.max_columns", 20)
    warnings.simplefilter("ignore")  # of heads that are not told
    if options.part in (None, "circles"):
        print("\nC1, circles\n", circles().round(4).to_string())
    if options.part in (None, "outlines"):
        print("\nC1, masks and images\n", outlines(options.frames).round(3).to_string())
    if options.part in (None, "cord"):
        print("\nC1, neurons of the ventral cord\n", cord(3 * options.frames).round(3).to_string())
    if options.part in (None, "coils"):
        print("\nC2\n", coils(3 * options.frames).round(4).T.to_string())
    if options.part in (None, "real") and options.realdata.is_dir():
        print("\nReal videos\n", real(options.realdata).round(3).to_string())


if __name__ == "__main__":
    main()
