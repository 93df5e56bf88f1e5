"""Speed of the main job, as ratios within one run: ``python -m benchmarks.speed`` (three minutes on an idle machine).

CPU seconds of the whole process, one torch thread, arms alternated, the least of the repeats: on a busy machine the
absolute numbers are inflated, the ratios hold.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import niddl_xr as nx
from benchmarks.networks import untrained
from niddl_xr.chunking import sampled_planes
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.normalisation import estimate
from niddl_xr.schema import make_recording

NETWORKS = ("niddl_fast", "unet_fixed", "hourglass_wres")  # the others take up to 13 s a plane: benchmarks.networks


def cpu_seconds(arms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run the arms in turn and return the least CPU time of each."""
    best = dict.fromkeys(arms, float("inf"))
    for _ in range(repeats):
        for name, arm in arms.items():
            started = time.process_time()
            arm()
            best[name] = min(best[name], time.process_time() - started)
    return best


def plain_loop(values: np.ndarray, denoiser: nx.Denoiser, memory_format: torch.memory_format) -> np.ndarray:
    """What anyone would write: normalise, run the network, undo, frame by frame, in memory."""
    card = denoiser.card["network"]
    network = build_network(card["name"], **card["options"]).eval().to(memory_format=memory_format)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in denoiser.weights.items()})
    normalisation = estimate(np.stack([values[t, z] for t, z in sampled_planes(*values.shape[:2])]))
    result = np.empty(values.shape, np.float32)
    with torch.inference_mode():
        for index in np.ndindex(values.shape[:2]):
            plane = torch.from_numpy((values[index].astype(np.float32) - normalisation.offset) / normalisation.scale)
            plane = plane[None, None].to(memory_format=memory_format)
            result[index] = (plane + network(plane))[0, 0].numpy() * normalisation.scale + normalisation.offset
    return result


def imports() -> tuple[float, str]:
    """Return seconds of ``import niddl_xr`` beyond ``import xarray``, and the modules that it adds."""
    script = (
        "import time, sys, xarray; before = set(sys.modules); t = time.perf_counter(); import niddl_xr; "
        "seconds = time.perf_counter() - t; "
        "new = sorted({m.split('.')[0] for m in set(sys.modules) - before}); print(seconds, *new)"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    return min(float(output[0]) for output in outputs), " ".join(outputs[0][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    values = (rng.poisson(60, (options.frames, 1, 512, 512)) + 400).astype("uint16")
    movie = make_recording(values, voxel_um=(1, 0.4, 0.4), dt_s=0.25)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stored = movie.niddl.save(Path(folder) / "raw.zarr", progress=False)
        count = iter(range(10_000))

        def target() -> Path:
            return Path(folder) / f"{next(count)}.zarr"

        for network in NETWORKS:
            denoiser = untrained(network)
            best = cpu_seconds(
                {
                    "default layout": lambda d=denoiser: plain_loop(values, d, torch.contiguous_format),
                    "plain loop": lambda d=denoiser: plain_loop(values, d, torch.channels_last),
                    "regions": lambda d=denoiser: stored.niddl.denoise(d, to=target(), progress=False),
                    "read and write": lambda: stored.astype("float32").niddl.save(target(), progress=False),
                },
                options.repeats,
            )
            per_frame = {name: 1000 * seconds / options.frames for name, seconds in best.items()}
            rows.append(
                {
                    "network": network,
                    "plain loop, CPU ms a frame": per_frame["plain loop"],
                    "regions / plain loop": per_frame["regions"] / per_frame["plain loop"],
                    "default layout / channels_last": per_frame["default layout"] / per_frame["plain loop"],
                    "read and write, CPU ms a frame": per_frame["read and write"],
                }
            )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    seconds, modules = imports()
    print(f"import niddl_xr after xarray: {seconds * 1000:.0f} ms, loads {modules}")


if __name__ == "__main__":
    main()
