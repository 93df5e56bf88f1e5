"""Real pairs: a network trained on W2S fields 001-045, judged on 046-060 beside four filters.

Run ``python -m benchmarks.w2s --realdata FOLDER`` (15 CPU-minutes at the default). Every image is a recording of its
own, because the files of this data set were scaled one by one. PSNR after an affine match to the clean image, peak =
range of the clean image; SSIM with a Gaussian window of 11×11 pixels, σ 1.5.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import pandas as pd
import xarray as xr

import niddl_xr as nx
from niddl_xr.metrics import psnr, ssim

FILTERS = {
    "median 3×3": nx.classical("median", size_px=3),
    **{f"Gaussian σ {sigma:g}": nx.classical("gaussian", sigma_px=sigma) for sigma in (1.0, 1.5, 2.0)},
}


def judge(pairs: xr.Dataset, denoisers: dict[str, nx.Denoiser]) -> pd.DataFrame:
    """One row a method and image, with PSNR in dB and SSIM."""
    rows = []
    for name, denoiser in denoisers.items():
        for stack in pairs["stack"].values:
            image = pairs.sel(stack=stack)
            recording = nx.from_numpy(image["noisy"].values, dims="zyx", voxel_um=(1, 1, 1), dt_s=1)
            clean = image["clean"].values[0].astype(float)
            result = recording.niddl.denoise(denoiser).values[0, 0]
            peak = float(clean.max() - clean.min())
            quality = {"PSNR_dB": psnr(result, clean, peak=peak), "SSIM": ssim(result, clean, peak=peak)}
            rows.append(
                {
                    "method": name,
                    "image": str(stack),
                    "channel": str(stack).split("_")[1],
                    **{figure: float(value) for figure, value in quality.items()},
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--realdata", type=Path, default=Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    )
    parser.add_argument("--network", default="unet_fixed", choices=nx.networks())
    parser.add_argument("--cpu-minutes", type=float, default=15, help="training stops before it has used as many")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="keep the denoiser in this file")
    options = parser.parse_args()

    import torch

    threads = torch.get_num_threads()
    pairs = nx.open_pairs(options.realdata / "w2s_pairs", noisy="noisy_avg1", clean="clean_avg400")
    field = pairs["stack"].str.slice(0, 3).astype(int)
    started = time.process_time()
    with warnings.catch_warnings():
        denoiser = nx.train(
            pairs.isel(stack=(field <= 45).values),
            network=options.network,
            epochs=1000,
            time_limit_s=options.cpu_minutes * 60 / threads * 0.95,
            patience=None,
            precision=options.precision,
            out=options.out,
        )
    used = (time.process_time() - started) / 60
    table = judge(pairs.isel(stack=(field > 45).values), {**FILTERS, options.network: denoiser})
    # The strongest baseline: the filter that suits each image best, chosen with the truth at hand.
    best = table[table["method"].isin(FILTERS)].groupby(["image", "channel"])[["PSNR_dB", "SSIM"]].max().reset_index()
    table = pd.concat([table, best.assign(method="best filter of each image")])
    wide = table.pivot_table(index="method", columns="channel", values=["PSNR_dB", "SSIM"], margins=True)
    training = denoiser.card["training"]
    batch = training["options"]["batch"]
    steps = len(training["curve"]) * training["steps_per_epoch"]
    print(wide.drop(index="All").round(3).to_string())
    print(f"{options.network}: {used:.1f} CPU-minutes on {threads} threads, up to {steps} steps of {batch} patches")
    for figure in ("PSNR_dB", "SSIM"):
        gain = wide[figure, "All"][options.network] - wide[figure, "All"]["best filter of each image"]
        print(f"{figure}: {gain:+.3f} against the best filter of each image")


if __name__ == "__main__":
    main()
