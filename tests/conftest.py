"""Fixtures that several rooms share. Every dim of every array has a size of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from niddl_xr.denoising import Denoiser
from niddl_xr.schema import make_recording


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real recordings, which is not part of the project."""
    default = Path(__file__).parents[2] / "shared" / "realdata"
    folder = Path(os.environ.get("NIDDL_XR_REALDATA", default))
    if not folder.is_dir():
        pytest.skip(f"no folder of real recordings at {folder}; set NIDDL_XR_REALDATA")
    return folder


def counts(shape: tuple[int, ...], dtype: str = "uint16", *, offset: float = 400, seed: int = 0) -> np.ndarray:
    """Blobs on a dark background with noise: something that is neither constant nor flat."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    image = np.zeros(shape[-2:])
    for _ in range(6):
        cy, cx = rng.uniform(0, shape[-2]), rng.uniform(0, shape[-1])
        image += rng.uniform(20, 60) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
    values = offset + rng.poisson(image + 5, size=shape)
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
    from niddl_xr.denoising.nn.networks import build_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(network, output="linear")
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                torch.nn.init.kaiming_uniform_(parameter, nonlinearity="relu")
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": "niddl",
        "mode": "2d",
        "network": {"name": network, "options": {"output": "linear"}},
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
    """Pairs (stack 4, z 2, y 48, x 64) in which the clean half has another gain and offset."""
    noisy, clean = [], []
    for stack in range(4):
        truth = counts((2, 48, 64), "float32", offset=0, seed=stack)
        noise = np.random.default_rng([stack, 1]).normal(0, 6, truth.shape)
        noisy.append(np.clip(truth + noise + 100, 0, None))
        clean.append(truth * (2 + stack) + 300)
    coords = {"stack": [f"img_{n}" for n in range(1, 5)]}
    dims = ("stack", "z", "y", "x")
    return xr.Dataset(
        {"noisy": (dims, np.stack(noisy).astype("uint16")), "clean": (dims, np.stack(clean).astype("uint16"))},
        coords=coords,
    )
