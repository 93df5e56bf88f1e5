"""Correlation of activity with bending: is chance told from coupling? C3, C4, C5, the control line, and speed.

Run ``python -m benchmarks.correlation`` (fifteen minutes), or one part: ``calibration``, ``discoveries``, ``states``,
``lags``, ``denoising``, ``speed``, ``power``, or with ``--realdata FOLDER`` ``control``. Every run of a cell of the
calibration is a pair of signals of its own, 300 s at 4 Hz, with seeds that nothing was chosen on. Of each figure the
bar stands beside.

Signals: "osc", undulations at 0.35 Hz as the simulated worm has, seen rectified through the indicator with noise;
"slow", behaviour that is correlated over 10 s, activity over 1.5 s through the indicator; "both slow", 10 s each;
"even osc", undulations that keep time for a minute; "quick", first-order noise of 2 s and 3 s; "states", runs and
reversals. "worm" are the uncoupled neurons of simulated worms. Drift is slow noise of 150 s of its own in both
signals, or as its column says.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from scipy.stats import false_discovery_control, wilcoxon

import niddl_xr as nx

INTERVAL_S, DURATION_S = 0.25, 300.0
NULLS = ("linear_shift", "circular", "phase")
INDICATOR_S = (0.2, 1.2)
CALIBRATION_BAR = "C3: .02-.08"


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)


def slow_noise(runs: int, frames: int, time_s: float, rng: np.random.Generator) -> np.ndarray:
    keep, warm = np.exp(-INTERVAL_S / time_s), int(8 * time_s / INTERVAL_S)
    noise = rng.standard_normal((runs, frames + warm))
    return standard(lfilter([1.0], [1.0, -keep], noise, axis=-1)[:, warm:])


def seen(values: np.ndarray) -> np.ndarray:
    """Through an indicator that rises in 0.2 s and decays in 1.2 s."""
    rise, decay = INDICATOR_S
    time_s = np.arange(0, 6 * decay, INTERVAL_S)
    return standard(lfilter(-np.expm1(-time_s / rise) * np.exp(-time_s / decay), [1.0], values, axis=-1))


def undulation(runs: int, frames: int, jitter: float, rng: np.random.Generator) -> np.ndarray:
    pace = 0.35 * np.maximum(1 + jitter * slow_noise(runs, frames, 4.0, rng), 0.3)
    swing = np.clip(1 + 0.12 * slow_noise(runs, frames, 10.0, rng), 0.6, 1.4)
    phase = rng.random((runs, 1)) + np.cumsum(pace, axis=-1) * INTERVAL_S
    return standard(swing * np.sin(2 * np.pi * phase))


def runs_and_reversals(runs: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    states = np.zeros((runs, frames))
    for row in states:
        ends = np.cumsum(rng.gamma(2.0, np.tile([9.0, 3.0], frames // 20)) / INTERVAL_S).astype(int)
        row[:] = np.searchsorted(ends, np.arange(frames) + 200, side="right") % 2
    return standard(gaussian_filter1d(states, 0.3 / INTERVAL_S, axis=-1) + 1e-9 * rng.standard_normal(states.shape))


def family(name: str, runs: int, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Activity and behaviour (run, frame) without relation."""
    if name == "osc":
        driven, private = seen(np.maximum(undulation(runs, frames, 0.15, rng), 0)), slow_noise(runs, frames, 1.5, rng)
        return standard(0.8 * driven + 0.6 * seen(private)), undulation(runs, frames, 0.15, rng)
    if name == "even osc":
        return undulation(runs, frames, 0.04, rng), undulation(runs, frames, 0.04, rng)
    if name == "slow":
        return seen(slow_noise(runs, frames, 1.5, rng)), slow_noise(runs, frames, 10.0, rng)
    if name == "both slow":
        return slow_noise(runs, frames, 10.0, rng), slow_noise(runs, frames, 10.0, rng)
    if name == "quick":
        return slow_noise(runs, frames, 3.0, rng), slow_noise(runs, frames, 2.0, rng)
    return seen(runs_and_reversals(runs, frames, rng)), runs_and_reversals(runs, frames, rng)


def drift(kind: str, runs: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    signs = rng.choice([-1.0, 1.0], (runs, 1))
    if kind == "line":
        return signs * standard(np.linspace(-1, 1, frames)[None])
    if kind == "bleaching":
        return signs * standard(np.exp(-np.arange(frames) * INTERVAL_S / 100)[None])
    if kind == "walk":
        return standard(np.cumsum(rng.standard_normal((runs, frames)), axis=-1))
    return slow_noise(runs, frames, 150.0, rng)


def pairs(
    name: str, runs: int, seed: int, *, drifts: float = 0.0, kind: str = "slow noise", r: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Activity and behaviour (run, frame) that correlate with ``r``, each with ``drifts`` SD of drift."""
    rng = np.random.default_rng(seed)
    frames = int(DURATION_S / INTERVAL_S)
    activity, behaviour = family(name, runs, frames, rng)
    activity = r * behaviour + np.sqrt(1 - r**2) * activity
    return tuple(values + drifts * drift(kind, runs, frames, rng) for values in (activity, behaviour))  # type: ignore[return-value]


def table_of(activity: np.ndarray, behaviour: np.ndarray, interval_s: float = INTERVAL_S, **options) -> pd.DataFrame:
    """The verb's table; every run is a neuron at a place of its own, where the body bends by its behaviour."""
    runs, frames = activity.shape
    t = ("t", np.arange(frames) * interval_s, {"units": "s"})
    places = np.linspace(0, 1, max(runs, 2))[:runs]
    traces = xr.Dataset(
        {"dff": (("t", "neuron"), activity.T)},
        coords={"t": t, "neuron": np.arange(runs), "body_position": ("neuron", places)},
    )
    posture = xr.Dataset({"curvature": (("t", "s"), behaviour.T)}, coords={"t": t, "s": places})
    return nx.curvature_correlation(traces, posture, window=0.4 / max(runs, 2), **options)


def rates(p: pd.Series) -> dict[str, float]:
    return {"at .05": float((p <= 0.05).mean()), "at .01": float((p <= 0.01).mean()), "untold": float(p.isna().mean())}


def calibration(runs: int) -> pd.DataFrame:
    rows = []
    cells = [(name, size, "slow noise") for name in ("osc", "slow") for size in (0.0, 0.5, 1.0)]
    others = [
        (name, size, "slow noise") for name in ("both slow", "even osc", "quick", "states") for size in (0.0, 1.0)
    ]
    others += [("osc", 1.0, kind) for kind in ("line", "bleaching", "walk")]
    for number, (name, size, kind) in enumerate([*cells, *others]):
        signals = pairs(name, runs, 7000 + number, drifts=size, kind=kind)
        row = {"signals": name, "drift": f"{size:g} sd {kind}" if size else "none"}
        for null in NULLS:
            chosen = [part[: runs if null != "phase" else runs // 4] for part in signals]  # it takes long
            row |= {f"{null} {key}": rate for key, rate in rates(table_of(*chosen, null=null)["p"]).items()}
        row |= {"bar": CALIBRATION_BAR if number < len(cells) else ""}
        rows.append(row)
    for frames, interval_s in ((1200, 0.25), (1500, 0.1)):
        p = pd.concat([worm_table(seed, frames, 1 / interval_s)["p"] for seed in range(500, 500 + max(4, runs // 25))])
        row = {"signals": f"worm, {frames * interval_s:g} s at {1 / interval_s:g} Hz", "drift": "bias of the worm"}
        rows.append(row | {f"linear_shift {key}": rate for key, rate in rates(p).items()} | {"bar": CALIBRATION_BAR})
    return pd.DataFrame(rows).set_index(["signals", "drift"])


def worm_table(seed: int, frames: int, rate_hz: float, **options) -> pd.DataFrame:
    """Of 40 uncoupled neurons of a simulated worm."""
    tree = nx.simulate.freely_moving(
        shape=(1, 8, 8), frames=frames, rate_hz=rate_hz, neurons=40, coupled_fraction=0.0, seed=seed
    )
    return nx.curvature_correlation(tree["traces"].to_dataset(), tree["posture"].to_dataset(), **options)


def power(runs: int) -> pd.DataFrame:
    rows = []
    for name in ("osc", "slow", "quick", "both slow"):
        chance = table_of(*pairs(name, runs, 7150, drifts=0.5))["r"].abs().quantile(0.95)
        for r in (0.17, 0.3, 0.6):
            signals = pairs(name, runs, 7100, drifts=0.5, r=r)
            row = {"signals": name, "r": r}
            for null in NULLS[:2]:
                table = table_of(*signals, null=null)
                row |= {null: float((table["p"] <= 0.05).mean())}
            # What a test could reach that knew how |r| of unrelated signals is distributed.
            row |= {"oracle": float((table["r"].abs() > chance).mean())}
            rows.append(row | {"bar": "C3: >= .85" if r == 0.3 and name in ("osc", "slow") else ""})
    return pd.DataFrame(rows).set_index(["signals", "r"])


def discoveries(worms: int) -> pd.DataFrame:
    """Of 60 neurons of which ``coupled`` are coupled: the part of false ones among those found at q <= .05."""
    rows = []
    for name in ("osc", "slow"):
        for coupled in (30, 3):
            found: dict[str, list[tuple[float, float]]] = {"bh": [], "by": []}
            for worm in range(worms):
                activity, behaviour = pairs(name, 60, 7200 + worm, drifts=0.5)
                related, place = pairs(name, 60, 7200 + worm, drifts=0.5, r=0.4)
                activity[:coupled], behaviour[:coupled] = related[:coupled], place[:coupled]
                p = table_of(activity, behaviour)["p"].to_numpy()
                for method, results in found.items():
                    called = false_discovery_control(p, method=method) <= 0.05
                    results.append((called[coupled:].sum() / max(1, called.sum()), called[:coupled].mean()))
            for method, results in found.items():
                false, right = np.mean(results, axis=0)
                row = {"signals": name, "coupled": coupled, "fdr": method, "false": false, "found of r=.4": right}
                rows.append(row | {"bar": "C3: <= .07" if coupled == 30 else ""})
    return pd.DataFrame(rows).set_index(["signals", "coupled", "fdr"])


def states(worms: int) -> pd.DataFrame:
    """False positives by state in simulated worms of five minutes."""
    tables = pd.concat([worm_table(seed, 1200, 4.0, state="state") for seed in range(600, 600 + worms)])
    return pd.DataFrame({name: rates(group["p"]) for name, group in tables.groupby("state")}).T


def lags(worms: int) -> pd.DataFrame:
    rows = []
    for coupling in (0.3, 0.6):
        for label, indicator in (("none", None), ("decay alone", 1.2), ("rise and decay", INDICATOR_S)):
            errors, covered = [], []
            for seed in range(700, 700 + worms):
                tree = nx.simulate.freely_moving(
                    shape=(1, 8, 8), frames=3000, neurons=40, coupled_fraction=1.0, coupling=coupling, seed=seed
                )
                traces = tree["traces"].to_dataset()
                table = nx.curvature_correlation(traces, tree["posture"].to_dataset(), indicator_tau_s=indicator)
                truth = traces["lag_s"].values
                errors.append(table["lag_s"] - truth)
                covered.append((table["lag_lo"] <= truth) & (truth <= table["lag_hi"]))
            error = pd.concat(errors)
            rows.append(
                {
                    "coupling": coupling,
                    "indicator": label,
                    "bias": error.median(),
                    "median error": error.abs().median(),
                    "within .2 s": (error.abs() <= 0.2).mean(),
                    "half a period off": (error.abs() > 0.7).mean(),
                    "interval holds": pd.concat(covered).mean(),
                    "bar": "C4: error <= .2, bias <= .1" if label == "rise and decay" else "",
                }
            )
    return pd.DataFrame(rows).set_index(["coupling", "indicator"])


WORMS = {  # length in µm, µm a pixel, neurons: as far apart as fifty in a worm of 1 mm, and in one another's light
    "apart": (400.0, 1.6, 16),
    "crowded": (240.0, 0.8, 24),
}


def small_worm(kind: str, seed: int, photons: float, frames: int) -> xr.DataTree:
    """A worm in 256 x 256 pixels at 4 Hz, half of its neurons coupled; bends are in proportion to its length."""
    length_um, pixel_um, neurons = WORMS[kind]
    return nx.simulate.freely_moving(
        shape=(1, 256, 256),
        voxel_um=(1, pixel_um, pixel_um),
        frames=frames,
        rate_hz=4,
        photons=photons,
        neurons=neurons,
        length_um=length_um,
        amplitude_per_mm=8000 / length_um,
        bias_per_mm=600 / length_um,
        seed=seed,
    )


def denoising(kind: str, seeds: tuple[int, ...], photons: float, frames: int) -> pd.DataFrame:
    """C5: |r| of raw and denoised worms in low light, at true tracks, and what is called coupled that is not.

    "noise free" is the same with the expected counts, which no denoiser can better: light of neighbours is in it.
    """
    denoiser = nx.load_denoiser("worm-sim")  # trained on voxels of 0.4 µm, and on no worm of these
    parts: dict[str, list[pd.DataFrame]] = {}
    for seed in seeds:
        tree = small_worm(kind, seed, photons, frames)
        recording, clean = (tree[name]["F"].compute() for name in ("recording", "clean"))
        denoised = nx.denoise(recording.chunk(t=40), denoiser, check_voxel=False, progress=False).compute()
        posture, tracks = tree["posture"].to_dataset(), tree["tracks"].to_dataset()
        for method in ("pixel", "gaussian"):
            raw, *others = (
                nx.correct_bleaching(nx.extract_traces(image, tracks, method=method, progress=False))
                for image in (recording, denoised, clean)
            )
            table = nx.compare_curvature_correlation(
                raw,
                dict(zip(("denoised", "noise free"), others, strict=True)),
                posture,
                variable="F",  # as many traces as neurons: dF/F of the dimmest is not told
                position=tracks["body_position"],
                uncoupled=~tracks["coupled"],
            )
            parts.setdefault(method, []).append(table)
    rows = []
    for method, tables in parts.items():
        for name, table in pd.concat(tables).groupby("name", sort=False):
            silent = table["uncoupled"].astype(bool)
            related, unrelated = table[~silent], table[silent]
            rows.append(
                {
                    "worm": kind,
                    "traces": method,
                    "name": name,
                    "|r| raw": related["r_raw"].abs().median(),
                    "|r|": related["r_denoised"].abs().median(),
                    "higher (bar: >= .80)": (related["difference"] > 0).mean(),
                    "p": paired_p(related),
                    "power raw": (related["p_raw"] <= 0.05).mean(),
                    "power": (related["p_denoised"] <= 0.05).mean(),
                    "uncoupled |r| raw": unrelated["r_raw"].abs().median(),
                    "uncoupled |r|": unrelated["r_denoised"].abs().median(),
                    "FPR raw": (unrelated["p_raw"] <= 0.05).mean(),
                    "FPR (bar: as raw)": (unrelated["p_denoised"] <= 0.05).mean(),
                    "neurons": len(table),
                }
            )
    return pd.DataFrame(rows).set_index(["worm", "traces", "name"])


def paired_p(table: pd.DataFrame) -> float:
    """Wilcoxon's p over the neurons of all worms."""
    return float(wilcoxon(table["difference"].dropna()).pvalue)


def control_line(folder: Path) -> tuple[xr.Dataset, xr.DataArray]:
    """Traces (t, neuron) and speed (t) in µm/s, over 1 s, of the line without indicator of Scholz et al. 2018."""
    import h5py

    with h5py.File(next((folder / "scholz2018_moving_nwb").glob("*.nwb"))) as file:
        acquisition = file["acquisition"]
        names = sorted(name for name in acquisition if name.startswith("Activity"))
        activity = np.stack([acquisition[name]["data"][()] for name in names])
        times_s = acquisition[names[0]]["timestamps"][()]
        place = acquisition["Tracked 2D position"]["ss_2D"]
        position_um, moments_s = place["data"][()] * 1e6, place["timestamps"][()]
    smooth = gaussian_filter1d(position_um, 0.5 / np.median(np.diff(moments_s)), axis=0)
    speed_um_per_s = np.linalg.norm(np.gradient(smooth, moments_s, axis=0), axis=1)
    t = {"units": "s"}
    traces = xr.Dataset({"dff": (("t", "neuron"), activity.T)}, coords={"t": ("t", times_s, t), "neuron": names})
    return traces, xr.DataArray(speed_um_per_s, dims="t", coords={"t": ("t", moments_s, t)}, name="speed")


def control(folder: Path) -> pd.DataFrame:
    """X4: correlation of the control line's neurons with its speed."""
    traces, speed_of_worm = control_line(folder)
    rows = []
    for null in NULLS:
        table = nx.curvature_correlation(traces, behaviour=speed_of_worm, null=null)
        rows.append(
            {
                "null": null,
                "neurons": len(table),
                "max |r| (bar X4: <= .2)": table["r"].abs().max(),
                "at lag 0": table["r0"].abs().max(),
                "p <= .05": int((table["p"] <= 0.05).sum()),
                "q <= .05": int((table["q"] <= 0.05).sum()),
                "smallest q": table["q"].min(),
            }
        )
    return pd.DataFrame(rows).set_index("null")


def speed() -> pd.Series:
    """200 neurons, 10,000 frames, 199 draws: CPU seconds and the peak of memory."""
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((2, 200, 10_000))
    tracemalloc.start()
    table_of(*signals, interval_s=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures = {"peak MiB (bar: 1000)": peak / 2**20}
    for null in ("linear_shift", "circular"):
        started = time.process_time()
        table_of(*signals, interval_s=0.1, null=null)
        figures[f"{null}, CPU s (bar: 60)"] = time.process_time() - started
    return pd.Series(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[], object]] = {
        "calibration": lambda: calibration(options.runs),
        "power": lambda: power(options.runs),
        "discoveries": lambda: discoveries(10),
        "states": lambda: states(10),
        "lags": lambda: lags(4),
        "denoising": lambda: pd.concat([denoising(kind, (31, 32, 33, 34, 35), 5.0, 480) for kind in options.worms]),
        "speed": speed,
    }
    parser.add_argument("part", nargs="?", choices=(*parts, "control"))
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--worms", nargs="+", choices=WORMS, default=list(WORMS))
    parser.add_argument("--realdata", type=Path)
    options = parser.parse_args()
    if options.realdata is not None:
        parts["control"] = lambda: control(options.realdata)
    pd.set_option("display.width", 200, "display.max_columns", 30)
    warnings.simplefilter("ignore")
    for name, part in parts.items():
        if options.part in (None, name):
            print(f"\n{name}\n{part().round(3).to_string()}", flush=True)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
