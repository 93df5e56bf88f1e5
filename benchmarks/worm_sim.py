"""The denoiser that ships with the package: how it is trained, and how it does on simulated and on real worms.

``python -m benchmarks.worm_sim train --out worm-sim.safetensors`` trains it (CPU-minutes are an option), and
``python -m benchmarks.worm_sim judge --realdata FOLDER`` judges the one that ships: on worms that it has not seen, and
on the images that NIDDL's authors publish, for which there is no clean partner: there it is laid beside the authors'
own outputs, and the noise that is left in dark places is measured. ``--images FOLDER`` leaves pictures to look at.

Every training image is a plane of another worm, or a maximum projection of one, seen by the camera that was fitted to
the authors' images (docs/decisions/0007-camera-noise.md) and by others like it, from a third to four times their
light. Its clean partner is seen by a camera without noise or shading: what belongs to the camera has to go.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx
from benchmarks.w2s import FILTERS
from niddl_xr.metrics import psnr, ssim

VOXEL_UM = (1.0, 0.4, 0.4)  # of a 40x objective, as the authors use
CLEAN_PHOTONS = (5000.0, 20000.0)
# Subject, share of the images, planes of a stack, maximum projection, and range of photons: from a third of what the
# authors' images look like (docs of simulate.training_pairs) to four times as many.
SUBJECTS = (
    ("whole_brain", 0.65, 5, False, (0.4, 8.0)),
    ("ventral_cord", 0.14, 20, True, (0.4, 8.0)),
    ("neurite", 0.14, 20, True, (0.25, 5.0)),
    ("whole_brain", 0.07, 20, True, (0.4, 8.0)),
)
STACKS_A_CAMERA = 6
TRAINING_SEEDS, TEST_SEED = (21, 23), 9
SHADING_POINTS = 6
STRAY_PHOTONS = 6.0  # the brightest vertical band of the authors' projections needs as many
THIS_CAMERA = 0.6  # of the stacks are seen by the authors' camera, the others by one like it
REAL_FOLDERS = ("whole_brain", "ventral_cord", "mechanosensory")
DARK_PERCENT = 50  # the darker half of an image, smoothed, is taken as dark


def similar_camera(rng: np.random.Generator) -> nx.simulate.Camera:
    """A camera like the authors', with other noise, stripes, and shading; its gain stays."""
    camera = nx.simulate.NIDDL_EMCCD
    shadings = [np.cumsum(rng.normal(0, rng.uniform(0, 6), SHADING_POINTS)) for _ in "yx"]
    return replace(
        camera,
        read_noise=camera.read_noise * rng.uniform(0.8, 1.3),
        row_noise=camera.row_noise * rng.uniform(0, 1.2),
        row_length_px=camera.row_length_px * rng.uniform(0.5, 2),
        spurious_charge=camera.spurious_charge * rng.uniform(0.3, 2.5),
        column_pattern=tuple(rng.uniform(0, 1.5) * np.array(camera.column_pattern)),
        row_start=tuple(rng.uniform(-0.3, 1.3) * np.array(camera.row_start)),
        row_drift=camera.row_drift * rng.uniform(0, 1.5),
        row_shading=tuple(shadings[0] - shadings[0].mean()),
        column_shading=tuple(shadings[1] - shadings[1].mean()),
    )


def worms(images: int, seed: int, size_px: int = 512) -> xr.Dataset:
    """Pairs (stack, z, y, x) of single planes, each of a worm of its own, in memory."""
    rng = np.random.default_rng(seed)
    gain = nx.simulate.NIDDL_EMCCD.gain
    ideal = nx.simulate.Camera(gain=gain, read_noise=0, row_noise=0, spurious_charge=0, excess_noise=1)
    parts = []
    for number, (subject, share, depth, projected, photons) in enumerate(SUBJECTS):
        for part in range(max(1, round(images * share / STACKS_A_CAMERA))):
            settings = {
                "stacks": STACKS_A_CAMERA,
                "shape": (depth, size_px, size_px),
                "subject": subject,
                "max_projection": projected,
                "photons": photons,
                "clean_photons": CLEAN_PHOTONS,
                "stray_photons": STRAY_PHOTONS,
                "voxel_um": VOXEL_UM,
                "seed": 10_000 * seed + 1000 * number + part,
            }
            camera = nx.simulate.NIDDL_EMCCD if rng.random() < THIS_CAMERA else similar_camera(rng)
            pairs = nx.simulate.training_pairs(camera=camera, **settings)
            ideal_pairs = nx.simulate.training_pairs(camera=ideal, **settings)
            view = "projection" if projected else "plane"
            names = [f"{subject}_{view}_{seed}_{part}_{index}" for index in range(STACKS_A_CAMERA)]
            stacks = pairs.assign(clean=ideal_pairs["clean"]).assign_coords(stack=names)
            for name in names:
                z = int(rng.integers(stacks.sizes["z"]))
                parts.append(stacks.sel(stack=[name]).isel(z=[z]).assign_coords(z=[0.0]).load())
    return xr.concat(
        parts, "stack", data_vars="all", coords="different", compat="equals", join="exact", combine_attrs="override"
    )


def recording_of(plane: np.ndarray) -> xr.DataArray:
    """A single image (y, x) as a recording of its own: offset and scale are its own."""
    return nx.from_numpy(plane[None], dims="zyx", voxel_um=VOXEL_UM, dt_s=1)


def results(plane: np.ndarray, denoisers: dict[str, nx.Denoiser]) -> Iterator[tuple[str, np.ndarray]]:
    """The raw image, and what every denoiser makes of it."""
    yield "raw", plane.astype(float)
    recording = recording_of(plane)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of images outside the training's range, which are judged all the same
        for name, denoiser in denoisers.items():
            yield name, recording.niddl.denoise(denoiser).values[0, 0].astype(float)


def judge_simulated(denoisers: dict[str, nx.Denoiser], images: int, seed: int) -> pd.DataFrame:
    """One row a worm and method: affine PSNR in dB (peak: the clean image's percentiles 0.1 to 99.9) and SSIM."""
    rows = []
    pairs = worms(images, seed)
    for name in pairs["stack"].values:
        pair = pairs.sel(stack=name)
        clean = pair["clean"].values[0].astype(float)
        for method, image in results(pair["noisy"].values[0], denoisers):
            figures = {"PSNR_dB": float(psnr(image, clean)), "SSIM": float(ssim(image, clean))}
            rows.append({"method": method, "image": name, "subject": name.rsplit("_", 3)[0], **figures})
    return pd.DataFrame(rows)


def judge_real(denoisers: dict[str, nx.Denoiser], folder: Path, pictures: Path | None) -> pd.DataFrame:
    """One row a real image and method: noise left in dark places (counts), agreement with the authors' output."""
    from scipy.ndimage import gaussian_filter
    from skimage import io

    rows = []
    for subject in REAL_FOLDERS:
        for path in sorted((folder / subject / "niddl_output").glob("*.tif")):
            noisy = io.imread(folder / subject / "noisy" / f"{path.stem}.png")
            output = io.imread(path).astype(float)
            smooth = gaussian_filter(noisy.astype(float), 6)
            dark = smooth < np.percentile(smooth, DARK_PERCENT)
            images = dict(results(noisy, denoisers)) | {"authors": output}
            for method, image in images.items():
                fine = image - gaussian_filter(image, 3)
                rows.append(
                    {
                        "method": method,
                        "image": path.stem,
                        "subject": subject,
                        "dark_noise_counts": float(fine[dark].std()),
                        "PSNR_dB_to_authors": float("nan") if method == "authors" else float(psnr(image, output)),
                        "SSIM_to_authors": float("nan") if method == "authors" else float(ssim(image, output)),
                    }
                )
            if pictures is not None:
                side_by_side(images, pictures / f"{subject}_{path.stem}.png")
    return pd.DataFrame(rows)


def side_by_side(images: dict[str, np.ndarray], path: Path) -> None:
    """Raw, the best filter by eye, ours and the authors' image, each from its percentile 1 to 99.8."""
    from PIL import Image

    panels = []
    for name in ("raw", "Gaussian σ 1.5", "worm-sim", "authors"):
        low, high = np.percentile(images[name], [1, 99.8])
        panels.append(np.clip((images[name] - low) / (high - low), 0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.concatenate(panels, axis=1) * 255).astype("uint8")).save(path)


def train(arguments: argparse.Namespace) -> None:
    import torch

    threads = arguments.threads or torch.get_num_threads()
    if arguments.pairs is None:
        halves = [worms(arguments.images // len(TRAINING_SEEDS), seed) for seed in TRAINING_SEEDS]
        pairs = xr.concat(
            halves,
            "stack",
            data_vars="all",
            coords="different",
            compat="equals",
            join="exact",
            combine_attrs="override",
        )
    else:
        pairs = xr.open_zarr(arguments.pairs)
    pairs.attrs["source"] = f"python -m benchmarks.worm_sim train --images {arguments.images}"
    denoiser = nx.train(
        pairs,
        network="niddl_fast",
        network_options={"width": arguments.width},
        epochs=100_000,
        time_limit_s=arguments.cpu_minutes * 60 / threads,
        threads=threads,
        patch_px=256,  # the broad shading of a camera is not seen in smaller ones
        batch=2,
        turns=False,  # stripes and shading have directions, and the simulated worms have all of them
        precision=arguments.precision,
        validation=0.05,
        patience=None,
        out=arguments.out,
    )
    print(denoiser, denoiser.card["metrics"], denoiser.card["training"]["snr_range_db"])


def judge(arguments: argparse.Namespace) -> None:
    ours = nx.load_denoiser(arguments.denoiser)
    denoisers = {**FILTERS, "worm-sim": ours}
    simulated = judge_simulated(denoisers, arguments.images, TEST_SEED)
    # The strongest baseline: the filter that suits each image best, chosen with the truth at hand.
    filters = simulated[simulated["method"].isin(FILTERS)]
    best = filters.groupby(["image", "subject"])[["PSNR_dB", "SSIM"]].max().reset_index()
    simulated = pd.concat([simulated, best.assign(method="best filter of each image")])
    print(simulated.pivot_table(index="method", columns="subject", values=["PSNR_dB", "SSIM"]).round(3).to_string())
    samples = arguments.realdata / "niddl_samples"
    if not samples.is_dir():
        print(f"no real images: {samples} does not exist")
        return
    real = judge_real(denoisers, samples, arguments.pictures)
    print(real.drop(columns="image").groupby(["subject", "method"], sort=False).mean().round(3).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the denoiser")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--images", type=int, default=480)
    training.add_argument("--pairs", type=Path, help="store of such pairs, simulated before")
    training.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    training.add_argument("--width", type=int, default=24, help="of niddl_fast")
    training.add_argument("--cpu-minutes", type=float, default=40)
    training.add_argument("--threads", type=int, help="of torch; default: all")
    judging = commands.add_parser("judge", help="judge a denoiser")
    judging.add_argument("--denoiser", default="worm-sim", help="a name that ships, or a file")
    judging.add_argument("--images", type=int, default=40, help="simulated worms")
    judging.add_argument(
        "--realdata", type=Path, default=Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    )
    judging.add_argument("--pictures", type=Path, help="folder for pictures of the real images")
    arguments = parser.parse_args()
    (train if arguments.command == "train" else judge)(arguments)


if __name__ == "__main__":
    main()
