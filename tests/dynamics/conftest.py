"""Traces whose modes are known by construction. Every dim has a size of its own."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d


def traces_of(values: np.ndarray, dt_s: float = 0.5, names: list[str] | None = None) -> xr.DataArray:
    frames, neurons = values.shape
    coords = {
        "t": ("t", np.arange(frames) * dt_s, {"units": "s"}),
        "neuron": names or [f"N{index}" for index in range(neurons)],
    }
    return xr.DataArray(values, dims=("t", "neuron"), coords=coords, name="dff")


def correlated(frames: int = 61, neurons: int = 11, seed: int = 0) -> np.ndarray:
    """Noise with modes of very different sizes and means that are not 0."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((neurons, neurons)) * 0.7 ** np.arange(neurons)
    return rng.standard_normal((frames, neurons)) @ mixing.T + rng.uniform(-3, 3, neurons)


def slow(frames: int, neurons: int, noise: float, *, dt_s: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three slow fluctuations (2 s) that neurons share in parts of their own, without noise and with it."""
    rng = np.random.default_rng(seed)
    shared = gaussian_filter1d(rng.standard_normal((frames, 3)), 2.0 / dt_s, axis=0)
    clean = shared / shared.std(axis=0) * [3.0, 2.0, 1.5] @ rng.standard_normal((3, neurons))
    return clean, clean + noise * rng.standard_normal(clean.shape)
