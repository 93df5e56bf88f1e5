"""What every network costs: ``python -m benchmarks.networks`` (four minutes on an idle core without a GPU).

Sizes are those of the weights alone; a training checkpoint with Adam's two moments is three times as large (the
"3.66 MB" and "3.77 MB" of the NIDDL paper are such checkpoints: 12 bytes a parameter). The paper's "20-30 times
smaller than CARE and RCAN" is not seen with the defaults of those tools, and memory is taken by activations, hardly by
weights: the table shows both. GMAC: 10⁹ multiply-adds of a 512×512 plane; Fourier transforms are not counted.

CPU: milliseconds of processor time of a 512×512 plane, one thread, channels_last, all arms in turn, the least of the
repeats; "share of peak" is 2 × GMAC / time over the rate, in the same run and precision, of the better of a large
matrix product and a large convolution (torch.mm has no AVX-512 kernels for float32 on AMD processors: 97 against 237
GFLOP/s were measured). Memory: growth of the peak of a fresh process over one float32 pass. On a CUDA device: images
a second.

``--denoiser FILE --realdata FOLDER``: what bfloat16 costs in accuracy on W2S fields 046-060.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import niddl_xr as nx
from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION
from niddl_xr.denoising.nn.networks import build_network, network_options
from niddl_xr.denoising.nn.networks._cost import cost
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.predictor import PlaneRunner
from niddl_xr.denoising.normalisation import estimate
from niddl_xr.metrics import psnr
from niddl_xr.schema import make_recording

SIZE_PX = 512
MATRIX, CHANNELS = 2048, 256  # edge of the matrices and width of the convolution that show what the machine can do
Arm = tuple[str, str]  # a network, "matrix product" or "convolution", and a precision
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LARGEST_BATCH = 64  # seven sizes: torch compiles a network eight times at most


def least_cpu_seconds(arms: dict[Arm, Callable[[], object]], budget_s: float) -> dict[Arm, float]:
    """Run the arms in turn, each until its budget is used and at least twice; return the least time of each."""
    least = dict.fromkeys(arms, float("inf"))
    used, runs = dict.fromkeys(arms, 0.0), dict.fromkeys(arms, 0)
    while waiting := [key for key in arms if used[key] < budget_s or runs[key] < 2]:
        for key in waiting:
            started = time.process_time()
            arms[key]()
            seconds = time.process_time() - started
            least[key], used[key], runs[key] = min(least[key], seconds), used[key] + seconds, runs[key] + 1
    return least


def forward(network: Callable[[torch.Tensor], torch.Tensor], planes: torch.Tensor, precision: str) -> torch.Tensor:
    """One pass as a denoiser runs it."""
    half = precision != "float32"
    with (
        torch.inference_mode(),
        torch.autocast(planes.device.type, dtype=PRECISIONS[precision] if half else None, enabled=half),
    ):
        return network(planes)


def ready(name: str, device: str = "cpu") -> PlaneNetwork:
    """A network of random weights, laid out as a denoiser lays it out."""
    network: PlaneNetwork = build_network(name).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def noise(batch: int = 1, size_px: int = SIZE_PX, device: str = "cpu") -> torch.Tensor:
    return torch.randn(batch, 1, size_px, size_px, device=device).contiguous(memory_format=torch.channels_last)


def cpu_table(names: list[str], budget_s: float) -> pd.DataFrame:
    """One row a network: its costs, times in both precisions, and shares of what matrix products reach."""
    arms: dict[Arm, Callable[[], object]] = {}
    planes = noise()
    features = torch.randn(1, CHANNELS, SIZE_PX // 4, SIZE_PX // 4).contiguous(memory_format=torch.channels_last)
    wide = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for precision, dtype in PRECISIONS.items():
        matrix = torch.randn(MATRIX, MATRIX).to(dtype)
        arms["matrix product", precision] = partial(torch.mm, matrix, matrix)
        arms["convolution", precision] = partial(forward, deepcopy(wide).to(dtype), features.to(dtype), "float32")
    flops = {"matrix product": 2 * MATRIX**3, "convolution": 2 * 9 * CHANNELS**2 * (SIZE_PX // 4) ** 2}
    networks = {name: ready(name) for name in names}
    for name, network in networks.items():
        for precision in PRECISIONS:
            arms[name, precision] = partial(forward, network, planes, precision)
    least = least_cpu_seconds(arms, budget_s)
    peak = {}
    for precision in PRECISIONS:
        rates = {work: count / least[work, precision] for work, count in flops.items()}
        peak[precision] = max(rates.values())
        print(f"{precision}: " + ", ".join(f"{work} {rate / 1e9:.0f} GFLOP/s" for work, rate in rates.items()))
    rows = []
    for name, network in networks.items():
        counted = cost(network, SIZE_PX, SIZE_PX)
        row = {
            "network": name,
            "parameters": counted.parameters,
            "weights MB": counted.weight_bytes / 1e6,
            "GMAC": counted.multiply_adds / 1e9,
            "reach px": "plane" if network.reach_px is None else network.reach_px,
            "MiB of a pass": peak_memory_mib(name),
        }
        for precision in PRECISIONS:
            seconds = least[name, precision]
            row[f"{precision} ms"] = 1000 * seconds
            row[f"{precision} / unet_fixed"] = seconds / least.get(("unet_fixed", precision), float("nan"))
            row[f"{precision} share of peak"] = 2 * counted.multiply_adds / seconds / peak[precision]
        rows.append(row)
    return pd.DataFrame(rows).set_index("network")


def peak_memory_mib(name: str) -> float:
    """Growth of the peak memory over one pass, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.networks", "--memory-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def growth_of_this_process_mib(name: str) -> float:
    torch.set_num_threads(1)
    network = ready(name)
    forward(network, noise(size_px=64), "float32")  # loads what the first pass loads
    planes = noise()
    before = peak_of_this_process_mib()
    forward(network, planes, "float32")
    return peak_of_this_process_mib() - before


def peak_of_this_process_mib() -> float:
    """Return the peak of resident memory; on Linux not ru_maxrss, which a process inherits from its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def images_per_second(run: Callable[[torch.Tensor], object], batch: int, device: str, seconds: float) -> float:
    """Rate of a batch that lies on the device already."""
    planes = noise(batch, device=device)

    def timed(repeats: int) -> float:
        _wait(device)
        started = time.perf_counter()
        for _ in range(repeats):
            run(planes)
        _wait(device)
        return time.perf_counter() - started

    timed(2)  # plans and compiles
    repeats = max(1, round(seconds / timed(1)))
    return batch * repeats / timed(repeats)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def best_batch(run: Callable[[torch.Tensor], object], device: str, seconds: float) -> tuple[float, float, int]:
    """Double the batch while it pays by 2 % and fits; return the rates at batch 1 and at the best, and the best."""
    first = best = images_per_second(run, 1, device, seconds)
    batch = 1
    while 2 * batch <= LARGEST_BATCH:
        try:
            rate = images_per_second(run, 2 * batch, device, seconds)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if rate < 1.02 * best:
            break
        best, batch = rate, 2 * batch
    return first, best, batch


def untrained(name: str) -> nx.Denoiser:
    """A denoiser with random weights: its speed is that of a trained one."""
    chosen = {"output": "linear"} if "output" in network_options(name) else {}
    weights = build_network(name, **chosen).state_dict()
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": "niddl",
        "mode": "2d",
        "network": {"name": name, "options": chosen},
        "residual": True,
        "normalisation": "recording",
    }
    return nx.Denoiser(card, {key: tensor.numpy() for key, tensor in weights.items()})


def device_table(names: list[str], device: str, seconds: float) -> pd.DataFrame:
    """Images a second on the device, data already there: eager in both precisions, and compiled in bfloat16."""
    rows = []
    for name in names:
        network = ready(name, device)
        arms: dict[str, Callable[[torch.Tensor], object]] = {
            precision: partial(forward, network, precision=precision) for precision in PRECISIONS
        }
        if importlib.util.find_spec("triton") is not None:
            arms["bfloat16, compiled"] = partial(forward, torch.compile(network, dynamic=False), precision="bfloat16")
        for arm, run in arms.items():
            first, best, batch = best_batch(run, device, seconds)
            rows.append({"network": name, "arm": arm, "batch 1": first, "best batch": best, "of size": batch})
    return pd.DataFrame(rows).set_index(["network", "arm"])


def end_to_end_table(names: list[str], device: str, frames: int) -> pd.DataFrame:
    """Images a second from store to store, and of its three parts by themselves: the slowest part limits."""
    values = (np.random.default_rng(0).poisson(60, (frames, 1, SIZE_PX, SIZE_PX)) + 400).astype("uint16")
    movie = make_recording(values, voxel_um=(1, 0.4, 0.4), dt_s=0.25)
    precision = "bfloat16" if device.startswith("cuda") else "float32"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stored = movie.niddl.save(Path(folder) / "raw.zarr", progress=False)
        read = _seconds(lambda: stored.values)
        floats = movie.astype("float32")
        write = _seconds(lambda: floats.niddl.save(Path(folder) / "floats.zarr", progress=False))
        normalisation = estimate(values[:8, 0])
        for name in names:
            denoiser = untrained(name)
            runner = PlaneRunner(denoiser, device=device, precision=precision)
            runner(values, normalisation)  # finds the batch
            network = _seconds(lambda: runner(values, normalisation))  # noqa: B023 - called at once
            options = {"device": device, "precision": precision, "progress": False}
            whole = _seconds(lambda: stored.niddl.denoise(denoiser, to=Path(folder) / f"{name}.zarr", **options))  # noqa: B023
            parts = {"read": read, "network and transfer": network, "write": write}
            row = {part: frames / seconds for part, seconds in {"store to store": whole, **parts}.items()}
            rows.append({"network": name, **row, "limited by": max(parts, key=lambda part: parts[part])})
    return pd.DataFrame(rows).set_index("network")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def precision_table(denoiser: nx.Denoiser, realdata: Path, images: int) -> pd.DataFrame:
    """bfloat16 against float32 on real pairs: differences in counts, and PSNR of both after an affine match."""
    pairs = nx.open_pairs(realdata / "w2s_pairs", noisy="noisy_avg1", clean="clean_avg400")
    field = pairs["stack"].str.slice(0, 3).astype(int)
    stacks = pairs["stack"].values[(field > 45).values]
    rows = []
    for stack in stacks[np.unique(np.linspace(0, len(stacks) - 1, images).round().astype(int))]:
        image = pairs.sel(stack=stack)
        recording = nx.from_numpy(image["noisy"].values, dims="zyx", voxel_um=(1, 1, 1), dt_s=1)
        clean = image["clean"].values[0].astype(float)
        results = {
            precision: recording.niddl.denoise(denoiser, precision=precision, device="cpu").values[0, 0]
            for precision in PRECISIONS
        }
        difference = results["bfloat16"] - results["float32"]
        peak = float(clean.max() - clean.min())
        row = {name: float(psnr(result, clean, peak=peak)) for name, result in results.items()}
        rows.append(
            {
                "image": str(stack),
                "largest difference, counts": float(np.abs(difference).max()),
                "RMS difference, counts": float(np.sqrt(np.mean(difference**2))),
                "SD of the noisy image, counts": float(image["noisy"].values.std()),
                "float32 PSNR_dB": row["float32"],
                "bfloat16 - float32, dB": row["bfloat16"] - row["float32"],
            }
        )
    return pd.DataFrame(rows).set_index("image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=nx.networks(), choices=nx.networks(), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=4.0, help="time of an arm; two runs at least")
    parser.add_argument("--device", default="cuda", help="the device of the second part")
    parser.add_argument("--frames", type=int, default=512, help="of the recording that goes from store to store")
    parser.add_argument("--denoiser", type=Path, help="measure what bfloat16 costs this denoiser, and nothing else")
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"))
    parser.add_argument("--images", type=int, default=45, help="of the 45, spread evenly")
    parser.add_argument("--memory-of", choices=nx.networks(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(growth_of_this_process_mib(options.memory_of))
        return
    torch.set_num_threads(1)
    pd.set_option("display.width", 250, "display.max_columns", 30)
    if options.denoiser:
        table = precision_table(nx.load_denoiser(options.denoiser), options.realdata, options.images)
        print(table.describe().loc[["min", "mean", "max"]].round(4).to_string())
        return
    print(cpu_table(options.networks, options.seconds).round(3).to_string())
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: images a second on a GPU and from store to store are not measured")
        return
    if options.device.startswith("cuda"):
        tf32 = "may" if torch.backends.cudnn.allow_tf32 else "do not"
        print(f"\n{torch.cuda.get_device_name(options.device)}; convolutions in float32 {tf32} use TF32")
    print("images a second on the device")
    print(device_table(options.networks, options.device, options.seconds / 4).round(2).to_string())
    print("\nimages a second, by part; from store to store parts overlap")
    print(end_to_end_table(options.networks, options.device, options.frames).round(2).to_string())


if __name__ == "__main__":
    main()
