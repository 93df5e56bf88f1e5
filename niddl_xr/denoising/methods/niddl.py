"""NIDDL: supervised denoising of planes or a few at once (Chaudhary, Moon and Lu, Nat Commun 13:5165, 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.denoising.normalisation import Normalisation
from niddl_xr.schema import require_pairs

if TYPE_CHECKING:
    from niddl_xr.denoising.nn.options import TrainingOptions
    from niddl_xr.denoising.nn.predictor import PlaneRunner


def train(data: xr.Dataset, options: TrainingOptions) -> Denoiser:
    """Train a network on pairs (stack, z, y, x) of noisy and clean images, in the mode of the options."""
    from niddl_xr.denoising.nn.training import train_on_pairs

    return train_on_pairs(require_pairs(data), options, method="niddl")


def runner(
    denoiser: Denoiser, device: str, precision: str, memory_bytes: int | None, threads: int | None
) -> PlaneRunner:
    """Return what runs the denoiser on blocks of frames."""
    from niddl_xr.denoising.nn.predictor import PlaneRunner

    return PlaneRunner(denoiser, device=device, precision=precision, memory_bytes=memory_bytes, threads=threads)


def choose_precision(
    denoiser: Denoiser,
    planes: np.ndarray,
    normalisation: Normalisation,
    device: str,
    precision: str,
    memory_bytes: int | None,
) -> str:
    """Decide what precision "auto" means for planes (n, y, x) of a recording."""
    from niddl_xr.denoising.nn.predictor import choose_precision

    return choose_precision(denoiser, list(planes), normalisation, device, precision, memory_bytes)
