"""Fixtures that several rooms share. Every dim of every array has a size of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from niddl_xr.denoising import Denoiser
from niddl_xr.schema import make_recording
from niddl_xr.simulation import Camera, whole_brain


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real recordings, which is not part of the project."""
    default = Path(__file__).parents[2] / "shared" / "realdata"
    folder = Path(os.environ.get("NIDDL_XR_REALDATA", default))
    if not folder.is_dir():
        pytest.skip(f"no folder of real recordings at {folder}; set NIDDL_XR_REALDATA")
    return folder


def counts(shape: tuple[int, ...], dtype: str = "uint16", *, offset: float = 400, seed: int = 0) -> np.ndarray:
    """A simulated worm's head of this shape ([t], [z], y, x) in counts above ``offset``, clipped to ``dtype``."""
    frames, *volume = (1,) * (4 - len(shape)) + shape
    camera = Camera(gain=2, read_noise=2, row_noise=1)
    options = {"neurons": 2, "min_distance_um": 0.1, "photons": 10, "camera": camera, "seed": seed}
    head = whole_brain(shape=volume, frames=frames, **options)
    values = head["recording"]["F"].values.reshape(shape).astype(np.float64) - 400 + offset
    if np.dtype(dtype).kind in "ui":
        values = np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype)


@pytest.fixture
def recording() -> xr.DataArray:
    """A labelled movie (t 5, z 3, y 37, x 53), uint16, with counts above 32,767."""
    return make_recording(counts((5, 3, 37, 53), offset=33_000), voxel_um=(1.5, 0.4, 0.3), dt_s=0.25)


def random_denoiser(network: str = "unet_fixed", *, normalisation: str = "recording", seed: int = 0) -> Denoiser:
    """A denoiser with random weights whose residual is large enough to be seen."""
    import torch

    from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION
    from niddl_xr.denoising.nn.networks import build_network, network_options

    options = {"output": "linear"} if "output" in network_options(network) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(network, **options)
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                torch.nn.init.kaiming_uniform_(parameter, nonlinearity="relu")
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": "niddl",
        "mode": "2d",
        "network": {"name": network, "options": options},
        "residual": True,
        "normalisation": normalisation,
        "halo_frames": 0,
    }
    return Denoiser(card, {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()})


@pytest.fixture(scope="session")
def network_denoiser() -> Denoiser:
    return random_denoiser()


@pytest.fixture(scope="session")
def tiny_pairs() -> xr.Dataset:
    """Pairs (stack 4, z 2, y 48, x 64) in which the clean half has another gain, 2 to 5, and offset, 300 over 100."""
    camera, noisy, clean = Camera(gain=6, row_noise=0), [], []
    for stack in range(4):
        worm = whole_brain(shape=(2, 48, 64), frames=1, neurons=6, photons=8, camera=camera, seed=stack)
        noisy.append(worm["recording"]["F"].values[0].astype(float) - 300)
        clean.append((worm["clean"]["F"].values[0] - 400) * (2 + stack) + 300)
    dims = ("stack", "z", "y", "x")
    return xr.Dataset(
        {"noisy": (dims, np.stack(noisy).astype("uint16")), "clean": (dims, np.stack(clean).astype("uint16"))},
        coords={"stack": [f"img_{n}" for n in range(1, 5)]},
    )
