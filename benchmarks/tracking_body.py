"""Neurons of a cord, and what to look at first: ``python -m benchmarks.tracking_body`` (ten minutes; ``--short``: two).

*body*: simulated crawling worms, 50 neurons, 7 % missed, 3 % false, jitter .35 µm. Our own bar is a HOTA of .85, the
mean of three worms, omega turns included. "detected" is the part of the neurons that has a detection: no tracker can
have more right before it fills.

*quality*: simulated heads, tracked by a method. How much better than chance suspicion tells wrong points from right
ones (area under the curve; chance .5), and how many of the first 50 items of the queue are wrong (chance: the part that
is). The weights of the suspicion were fitted on other worms (seeds 20 to 22, method "template").
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

import niddl_xr as nx
from niddl_xr.metrics.tracks import track_errors

FAULTS = {"semi": (0.07, 0.03), "free": (0.07, 0.03), "hard": (0.15, 0.10)}
WORMS = {
    "crawling, 10 frames a second": {},
    "with omega turns (2.5 a minute)": {"omega_turns_per_min": 2.5},
    "with omega turns, 3 frames a second": {"omega_turns_per_min": 2.5, "rate_hz": 3.0},
    "1 frame a second": {"rate_hz": 1.0},
    "15 neurons": {"neurons": 15},
    "field of 410 µm (worm 1 mm)": {"shape": (1, 512, 512), "voxel_um": (1, 0.8, 0.8)},
}


def body(name: str, options: dict, seed: int, frames: int, method: str, **faults: float) -> dict[str, float | str]:
    worm = nx.simulate.freely_moving(frames=frames, seed=seed, **options)
    points = nx.simulate.detections(worm, seed=seed, **faults)
    truth = worm["tracks"].to_dataset()
    started = time.process_time()
    tracks = nx.track(points, method=method)
    seconds = time.process_time() - started
    scores, filled = (nx.score_tracks(tracks, truth, filled=each) for each in (False, True))
    turn = worm["posture"]["turn"].values
    curve = np.asarray(scores.attrs["fraction_correct_t"])
    return {
        "worm": name,
        "method": method,
        "HOTA": scores["HOTA"],
        "correct": scores["fraction_correct"],
        "detected": (points["neuron"] != "").sum() / truth["observed"].values.sum(),
        "in turns": curve[turn].mean() if turn.any() else np.nan,
        "filled": filled["fraction_correct"],
        "ms/frame": 1000 * seconds / frames,
    }


def quality(motion: str, seed: int, frames: int, method: str) -> dict[str, float | str]:
    missed, false = FAULTS[motion]
    head = nx.simulate.whole_brain(shape=(30, 512, 512), frames=frames, motion=motion, seed=seed)
    points = nx.simulate.detections(head, missed_fraction=missed, false_fraction=false, seed=seed)
    rng = np.random.default_rng(seed)  # a real detector measures brightness and size with errors
    points["intensity"] *= np.exp(rng.normal(0, 0.2, len(points)))
    points["radius_um"] *= np.exp(rng.normal(0, 0.15, len(points)))
    tracks = nx.track(points, method=method)
    wrong = track_errors(tracks, head["tracks"].to_dataset(), filled=True).values
    row: dict[str, float | str] = {"head": f"{motion}, {method}", "wrong": np.nanmean(wrong)}
    for name, table in (("", points), (" (tracks alone)", None)):
        found = nx.track_quality(tracks, table)
        suspicion = found.suspicion["suspicion"].values
        known = np.isfinite(wrong) & np.isfinite(suspicion)
        bad, good = suspicion[known & (wrong > 0)], suspicion[known & (wrong == 0)]
        row["area" + name] = mannwhitneyu(bad, good).statistic / max(len(bad) * len(good), 1)
        number = {neuron: n for n, neuron in enumerate(tracks["neuron"].values.tolist())}
        top = found.queue.head(50)
        hits = [wrong[t, number[neuron]] for t, neuron in zip(top["t_index"], top["neuron"], strict=True)]
        row["first 50" + name] = np.nanmean(hits) if hits else np.nan
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one worm of each kind, of 60 frames")
    parser.add_argument("--seeds", type=int, nargs="+", default=[40, 41, 42])
    options = parser.parse_args()
    seeds, frames = (options.seeds[:1], 60) if options.short else (options.seeds, 300)
    warnings.simplefilter("ignore")  # of pixels that the simulated camera clips
    rows = [body(name, worm, seed, frames, "body") for name, worm in WORMS.items() for seed in seeds]
    harder = {"missed_fraction": 0.15, "false_fraction": 0.10}
    omega = WORMS["with omega turns (2.5 a minute)"]
    rows += [body("15 % missed, 10 % false", omega, seed, frames, "body", **harder) for seed in seeds]
    for method in ("vote", "template", "laptrack"):
        rows += [body("crawling, 10 frames a second", {}, seed, min(frames, 100), method) for seed in seeds[:1]]
    table = pd.DataFrame(rows)
    grouped = table.groupby(["worm", "method"], sort=False)
    shown = grouped.mean(numeric_only=True).assign(**{"least HOTA": grouped["HOTA"].min(), "bar": 0.85})
    print(shown.to_string(float_format="{:.3f}".format))
    heads = [
        quality(motion, seed, min(frames, 120), method)
        for method in ("template", "vote")
        for motion in FAULTS
        for seed in seeds
    ]
    print(pd.DataFrame(heads).groupby("head", sort=False).mean().to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
