"""What a step of training costs, as ratios within one run: ``python -m benchmarks.training`` (minutes).

CPU seconds of the whole process, one torch thread, arms alternated, the least of the repeats: on a busy machine the
absolute numbers are inflated, the ratios hold. At equal batch:

- *plain loop*: what anyone would write, and what NIDDL does. Whole planes, the default layout, everything on
  one thread, the loss fetched after every step.
- *channels_last*: the same in the layout of :func:`niddl_xr.train`.
- *patches*: a step of :func:`niddl_xr.train`, planning, cutting, varying and scaling of the patches included.
- *bfloat16*: the same with ``precision="bfloat16"``.

A step of patches shows fewer pixels than one of whole planes, so the number to compare is the one per megapixel. The
CPU time per step is printed beside it because a schedule counts steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
import xarray as xr

import niddl_xr as nx
from benchmarks.speed import cpu_seconds
from niddl_xr.denoising.nn.building import training_network_options
from niddl_xr.denoising.nn.data import Stack, load_stacks
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.options import TrainingOptions
from niddl_xr.denoising.nn.session import Session

NETWORKS = ("unet_fixed", "hourglass_wres", "niddl_fast")


def make_pairs(image_px: int, planes: int = 8) -> xr.Dataset:
    """Noise around a pattern, two stacks: the cost of a step does not depend on what it sees."""
    rng = np.random.default_rng(0)
    pattern = 500 + 100 * np.sin(np.arange(image_px) / 9) * np.sin(np.arange(image_px) / 7)[:, None]
    dims = ("stack", "z", "y", "x")
    noisy = rng.normal(pattern, 20, (2, planes, image_px, image_px)).astype("uint16")
    clean = np.broadcast_to(2 * pattern, noisy.shape).astype("uint16")
    return xr.Dataset({"noisy": (dims, noisy), "clean": (dims, clean)})


def plain_step(
    network_name: str, stacks: list[Stack], batch: int, memory_format: torch.memory_format
) -> Callable[[], object]:
    """Return a step over whole planes, in a layout."""
    network = build_network(network_name, **training_network_options(network_name, {}, 1, 1))
    network = network.to(memory_format=memory_format)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)

    def step() -> float:
        noisy, clean = [], []
        for _ in range(batch):
            stack = stacks[rng.integers(len(stacks))]
            z = rng.integers(stack.shape[0])
            for half, scale, planes in (
                (noisy, stack.normalisation, stack.noisy), (clean, stack.clean_normalisation, stack.clean),
            ):  # fmt: skip
                half.append((planes[z].astype(np.float32) - scale.offset) / scale.scale)
        inputs = torch.from_numpy(np.stack(noisy)[:, None].astype(np.float32)).to(memory_format=memory_format)
        targets = torch.from_numpy(np.stack(clean)[:, None].astype(np.float32))
        loss = (inputs + network(inputs) - targets).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.item())

    return step


def patch_step(stacks: list[Stack], options: TrainingOptions) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a step of the training, and the part of it that makes a batch."""
    session = Session(stacks, options)
    session.begin()
    session.network.train()

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch = 0
        while True:
            plan = session.sampler.plan(np.random.default_rng([0, epoch]), 250 * options.batch)
            yield from session.sampler.batches(plan)
            epoch += 1

    source = batches()
    return lambda: session._step(*session._tensors(next(source))), lambda: session._tensors(next(source))


def measure(network: str, stacks: list[Stack], options: argparse.Namespace) -> dict[str, float | str]:
    common = {"network": network, "batch": options.batch, "patch_px": options.patch_px, "threads": 1, "progress": False}
    ours, batch_alone = patch_step(stacks, TrainingOptions(**common))
    half, _ = patch_step(stacks, TrainingOptions(**common, precision="bfloat16"))
    arms = {
        "plain loop": plain_step(network, stacks, options.batch, torch.contiguous_format),
        "channels_last": plain_step(network, stacks, options.batch, torch.channels_last),
        "patches": ours,
        "bfloat16": half,
    }
    for arm in arms.values():
        arm()  # plans memory
    best = cpu_seconds(arms, options.repeats)
    started = time.process_time()
    for _ in range(50):
        batch_alone()
    sampling = (time.process_time() - started) / 50
    whole = options.batch * options.image_px**2 / 1e6
    pixels = {"plain loop": whole, "channels_last": whole}
    patches = options.batch * options.patch_px**2 / 1e6
    per_megapixel = {name: seconds / pixels.get(name, patches) for name, seconds in best.items()}
    return {
        "network": network,
        "plain loop, CPU s a step": best["plain loop"],
        "patches, CPU s a step": best["patches"],
        "plain loop, CPU s a megapixel": per_megapixel["plain loop"],
        **{
            f"{name} / plain loop, per megapixel": per_megapixel[name] / per_megapixel["plain loop"]
            for name in ("channels_last", "patches", "bfloat16")
        },
        "making a batch, % of a step": 100 * sampling / best["patches"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-px", type=int, default=512)
    parser.add_argument("--patch-px", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--networks", nargs="+", default=[name for name in NETWORKS if name in nx.networks()])
    options = parser.parse_args()
    torch.set_num_threads(1)
    stacks = load_stacks(make_pairs(options.image_px))
    table = pd.DataFrame([measure(network, stacks, options) for network in options.networks])
    print(table.set_index("network").T.round(3).to_string())


if __name__ == "__main__":
    main()
