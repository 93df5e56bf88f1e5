"""Modes of a population beside the true ones (P1), chance (P2), real worms (X4), and speed.

Run ``python -m benchmarks.population`` (a quarter of an hour), or one part: ``python -m benchmarks.population noise``.
Of each figure the bar stands beside, where there is one. Real worms are read from ``--realdata``.

- noise: 120 simulated neurons, 600 frames of 0.3 s, white noise on dF/F. R² of the true modes 1 to 3: the squared
  correlation of the score of the same number with that of the traces without noise. Truth of all derivatives is that
  of Savitzky-Golay without noise, which favours it.
- denoised: the same from pixels: simulated heads at 5 photons, traces of the raw and of the denoised recording (by
  the denoiser that ships, "worm-sim") at the true positions. The loss is 1 - R².
- chance: sets of white noise, with and without gaps, in which every significant mode is spurious.
- real: explained variance beside numpy's SVD, and how left and right AVA go together in traces and in modes.
- speed: 1,000 neurons x 10,000 frames.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx

SEEDS = (31, 32, 33, 34, 35)
NOISES = (0.05, 0.1, 0.2, 0.5)
KINDS: dict[str, dict[str, object]] = {
    "raw": {},
    "z-scored": {"normalize": "zscore"},
    "savgol": {"derivative": "savgol"},
    "gaussian": {"derivative": "gaussian"},
    "total variation": {"derivative": "total_variation"},
}
BARS = {(0.2, "raw"): ">= .98/.90/.70", (0.2, "savgol"): ">= .80/.80/.40"}


def recovered(truth: xr.Dataset, found: xr.Dataset, modes: int = 3) -> np.ndarray:
    """Squared correlations of the scores of the first modes."""
    pairs = zip(truth["score"].values.T[:modes], found["score"].values.T[:modes], strict=True)
    return np.array([np.corrcoef(true, score)[0, 1] ** 2 for true, score in pairs])


def noise(seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    rows = []
    for seed in seeds:
        tree = nx.simulate.whole_brain(shape=(30, 256, 256), frames=600, rate_hz=1 / 0.3, neurons=120, seed=seed)
        clean = tree["traces"]["dff"].astype(float)
        for level in NOISES:
            noisy = clean + level * np.random.default_rng([seed, 9]).standard_normal(clean.shape)
            for kind, options in KINDS.items():
                fixed = {"normalize": None, "modes": 3, "null_draws": 0, **options}
                true = {**fixed, "derivative": "savgol"} if "derivative" in options else fixed
                truth, found = nx.pca(clean, **true), nx.pca(noisy, **fixed)
                parts = {"true": truth["explained"], "noisy": found["explained"], "signal": found["explained_signal"]}
                r2 = dict(zip(("R2 1", "R2 2", "R2 3"), recovered(truth, found), strict=True))
                sums = {f"EV {name}": float(part.sum()) for name, part in parts.items()}
                rows.append({"noise": level, "kind": kind, "seed": seed, **r2, **sums})
    by_kind = pd.DataFrame(rows).groupby(["noise", "kind"], sort=False)
    table = by_kind.mean().drop(columns="seed")
    lowest = by_kind[["R2 1", "R2 2", "R2 3"]].min().add_prefix("least ")
    return table.join(lowest).assign(bar=[BARS.get(key, "") for key in table.index])


def denoised(seeds: tuple[int, ...] = (41, 42, 43), frames: int = 240) -> pd.DataFrame:
    denoiser = nx.load_denoiser("worm-sim")
    rows = []
    for seed in seeds:
        tree = nx.simulate.whole_brain(
            shape=(14, 110, 150), frames=frames, rate_hz=2, neurons=40, photons=5, seed=seed, bleaching=0.0,
            camera=nx.simulate.Camera(gain=25),
        )  # fmt: skip
        raw, tracks = tree["recording"]["F"].compute(), tree["tracks"].to_dataset()
        clean = nx.denoise(raw.chunk(t=20), denoiser, progress=False).compute()
        truth = tree["traces"].to_dataset()
        for method in ("gaussian", "least_squares", "pixel"):
            traces = {
                name: nx.dff(nx.extract_traces(image, tracks, method=method, progress=False, **beside))
                for name, image, beside in (("raw", raw, {}), ("denoised", clean, {"raw": raw}))
            }
            for kind in ("raw", "z-scored", "savgol"):
                options = {"normalize": None, "modes": 3, "null_draws": 0, **KINDS[kind]}
                known = [name for name in truth["neuron"].values if all(t["dff"].sel(neuron=name).notnull().all()
                                                                       for t in traces.values())]  # fmt: skip
                true = nx.pca(truth.sel(neuron=known), **options)
                losses = {
                    name: 1 - recovered(true, nx.pca(item.sel(neuron=known), **options))
                    for name, item in traces.items()
                }
                spaces = {
                    name: nx.compare_pca(true, nx.pca(item.sel(neuron=known), **options)).attrs["trajectory_r2"]
                    for name, item in traces.items()
                }
                rows.append(
                    {"pixels": method, "kind": kind, "seed": seed}
                    | {f"loss {name} {mode + 1}": loss[mode] for mode in range(3) for name, loss in losses.items()}
                    | {f"space loss {name}": 1 - r2 for name, r2 in spaces.items()}
                )
    table = pd.DataFrame(rows).groupby(["pixels", "kind"], sort=False).mean().drop(columns="seed")
    ratio = table["space loss denoised"] / table["space loss raw"]
    return table.assign(**{"denoised / raw (<= .5)": ratio})


def chance(sets: int = 200) -> pd.DataFrame:
    rows = []
    for frames, neurons, hidden in ((300, 37, 0.0), (1600, 98, 0.0), (80, 120, 0.0), (300, 37, 0.2)):
        modes = spurious = above = 0
        for seed in range(sets):
            rng = np.random.default_rng([seed, frames, neurons])
            values = rng.standard_normal((frames, neurons))
            values[rng.random(values.shape) < hidden] = np.nan
            white = xr.DataArray(values, dims=("t", "neuron"))
            found = nx.pca(white, seed=seed, least_observed=0.5)
            spurious += int(found["significant"].sum())
            above += int((found["explained"] > found["explained_null"]).sum())
            modes += found.sizes["mode"]
        rows.append(
            {
                "frames": frames,
                "neurons": neurons,
                "gaps": hidden,
                "significant in 20 sets (<= 1)": 20 * spurious / sets,
                "above the line in 20 modes (<= 1)": 20 * above / modes,
            }
        )
    return pd.DataFrame(rows).set_index(["frames", "neurons", "gaps"])


def real(folder: Path) -> pd.DataFrame:
    entries = json.loads((folder / "wormwideweb_traces" / "time_trace.json").read_text())
    values = np.array([row for _, row in entries])
    names = json.loads((folder / "wormwideweb_traces" / "neurons.json").read_text())[: values.shape[1]]
    t = ("t", np.array([when for when, _ in entries]), {"units": "s"})
    moving = xr.DataArray(values, dims=("t", "neuron"), coords={"t": t, "neuron": names}, name="dff")
    (control,) = (folder / "scholz2018_moving_nwb").glob("*141721.nwb")
    worms = {"atanas 2023": moving, "scholz 2018 (GFP)": nx.open_traces(control)["activity"]}
    rows = []
    for worm, traces in worms.items():
        population = nx.pca(traces)
        plain = (traces.values - traces.values.mean(axis=0)) / traces.values.std(axis=0)
        size = np.linalg.svd(plain, compute_uv=False) ** 2
        explained = population["explained"].values
        row = {f"EV {mode + 1}": explained[mode] for mode in range(3)}
        row |= {f"chance {mode + 1}": float(population["explained_null"][mode]) for mode in range(3)}
        row["largest difference to numpy (<= 1e-8)"] = np.abs(explained - (size / size.sum())[: len(explained)]).max()
        row["significant"] = int(population["significant"].sum())
        if "AVAL" in traces["neuron"].values:
            kept = population["score"].values @ population["loading"].values.T
            place = [names.index(name) for name in ("AVAL", "AVAR")]
            row["AVAL-AVAR in traces (>= .80)"] = np.corrcoef(plain[:, place].T)[0, 1]
            row["AVAL-AVAR in ten modes (>= .80)"] = np.corrcoef(kept[:, place].T)[0, 1]
        rows.append({"worm": worm, **row})
    return pd.DataFrame(rows).set_index("worm").T


def speed() -> pd.Series:
    rng = np.random.default_rng(0)
    slow = rng.standard_normal((10_000, 1000)).cumsum(axis=0) * 0.01
    traces = xr.DataArray(slow + rng.standard_normal(slow.shape), dims=("t", "neuron"))
    nx.pca(traces[:50, :9])  # imports
    wall, started = time.perf_counter(), time.process_time()
    draws = nx.pca(traces).attrs["null_draws"]
    return pd.Series(
        {
            "s (<= 3)": time.perf_counter() - wall,
            "CPU s": time.process_time() - started,
            "GB in all (<= 1)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "draws": draws,
        },
        name="1,000 neurons x 10,000 frames",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("speed", "noise", "denoised", "chance", "real"))
    parser.add_argument("--realdata", default=os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
    options = parser.parse_args()
    pd.set_option("display.width", 170, "display.max_columns", 30)
    warnings.simplefilter("ignore")  # of the brightest neurons, which 16 bits do not hold; of neurons left out
    if options.part in (None, "speed"):
        print("\n", speed().round(2).to_string())
    if options.part in (None, "noise"):
        print("\nP1\n", noise().round(3).to_string())
    if options.part in (None, "denoised"):
        print("\nP1, raw and denoised\n", denoised().round(3).to_string())
    if options.part in (None, "chance"):
        print("\nP2\n", chance().round(2).to_string())
    folder = Path(options.realdata)
    if options.part in (None, "real") and folder.is_dir():
        print("\nX4, real traces\n", real(folder).to_string(float_format=lambda value: f"{value:.3g}"))


if __name__ == "__main__":
    main()
