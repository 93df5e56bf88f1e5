"""Real pairs: networks trained on W2S fields 001-045, judged on 046-060 beside four filters.

``python -m benchmarks.w2s --realdata FOLDER`` trains each network for 10 CPU-minutes. Networks are given as names, or
as ``niddl_fast:24`` with a width, for the curve of accuracy against cost. Every image is a recording of its own,
because the files of this data set were scaled one by one. PSNR after an affine match to the clean image, peak = range
of the clean image; SSIM with a Gaussian window of 11×11 pixels, σ 1.5.
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
                    "field": str(stack).split("_")[0],
                    "channel": str(stack).split("_")[1],
                    **{figure: float(value) for figure, value in quality.items()},
                }
            )
    return pd.DataFrame(rows)


def train(pairs: xr.Dataset, network: str, options: argparse.Namespace) -> tuple[nx.Denoiser, float]:
    """Train one network, written "name" or "name:width"; return it and the CPU-minutes that it took."""
    import torch

    name, _, width = network.partition(":")
    threads = options.threads or torch.get_num_threads()
    started = time.process_time()
    denoiser = nx.train(
        pairs,
        network=name,
        network_options={"width": int(width)} if width else {},
        epochs=1000,
        time_limit_s=options.cpu_minutes * 60 / threads * 0.95,
        threads=threads,
        patience=None,
        precision=options.precision,
    )
    return denoiser, (time.process_time() - started) / 60


def described(network: str, denoiser: nx.Denoiser, minutes: float) -> dict[str, object]:
    """What a network costs, and how much training it got."""
    from niddl_xr.denoising.nn.networks import build_network
    from niddl_xr.denoising.nn.networks._cost import cost

    card = denoiser.card["network"]
    counted = cost(build_network(card["name"], **card["options"]))
    training = denoiser.card["training"]
    steps = round(len(training["curve"]) * training["steps_per_epoch"], -2)
    costs = {"parameters": counted.parameters, "GMAC": counted.multiply_adds / 1e9}
    return {"method": network, **costs, "CPU_minutes": minutes, "steps_at_most": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--realdata", type=Path, default=Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    )
    parser.add_argument("--networks", nargs="+", default=["niddl_fast", "unet_fixed"], metavar="NAME[:WIDTH]")
    parser.add_argument(
        "--cpu-minutes", type=float, default=10, help="training of each stops before it has used as many"
    )
    parser.add_argument("--threads", type=int, help="of torch; default: all")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--save", type=Path, help="append what is printed, network by network, to this table (CSV)")
    options = parser.parse_args()

    pairs = nx.open_pairs(options.realdata / "w2s_pairs", noisy="noisy_avg1", clean="clean_avg400")
    field = pairs["stack"].str.slice(0, 3).astype(int)
    filters = judge(pairs.isel(stack=(field > 45).values), FILTERS)
    # The strongest baseline: the filter that suits each image best, chosen with the truth at hand.
    best = filters.groupby(["image", "field", "channel"])[["PSNR_dB", "SSIM"]].max().reset_index()
    tables, costs = [filters, best.assign(method="best filter of each image")], []
    for network in options.networks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            denoiser, minutes = train(pairs.isel(stack=(field <= 45).values), network, options)
        tables.append(judge(pairs.isel(stack=(field > 45).values), {network: denoiser}))
        costs.append(described(network, denoiser, minutes) | dict(tables[-1][["PSNR_dB", "SSIM"]].mean()))
        if options.save is not None:
            row = pd.DataFrame(costs[-1:]).assign(precision=options.precision)
            row.to_csv(options.save, mode="a", header=not options.save.exists(), index=False, float_format="%.4f")
    table = pd.concat(tables)
    wide = table.pivot_table(index="method", columns="channel", values=["PSNR_dB", "SSIM"], margins=True)
    print(wide.drop(index="All").round(3).to_string())
    print(pd.DataFrame(costs).round(3).to_string(index=False))
    named, reference = table.rename(columns={"method": "name"}), "best filter of each image"
    for figure in ("PSNR_dB", "SSIM"):  # the three channels of a field are not independent
        tested = nx.metrics.paired_wilcoxon(named, reference=reference, value=figure, unit="field")
        print(f"\n{figure}, against the {reference}\n{tested.round(4).to_string()}")


if __name__ == "__main__":
    main()
