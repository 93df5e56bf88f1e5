"""Signals of known relation, for tests of correlation."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.signal import lfilter

SECONDS = {"units": "s"}


def noise(runs: int, frames: int, time_s: float, interval_s: float, rng: np.random.Generator) -> np.ndarray:
    """First-order noise (run, frame) that is correlated over ``time_s``, SD near 1."""
    keep = np.exp(-interval_s / time_s)
    drawn = rng.standard_normal((runs, frames + int(8 * time_s / interval_s)))
    return lfilter([np.sqrt(1 - keep**2)], [1.0, -keep], drawn, axis=-1)[:, -frames:]


def waves(runs: int, frames: int, interval_s: float, rng: np.random.Generator) -> np.ndarray:
    """Undulations (run, frame) at about 0.35 Hz."""
    pace = 0.35 * np.maximum(1 + 0.2 * noise(runs, frames, 4.0, interval_s, rng), 0.3)
    return np.sqrt(2) * np.sin(2 * np.pi * (rng.random((runs, 1)) + np.cumsum(pace, axis=-1) * interval_s))


def labelled(
    activity: np.ndarray, behaviour: np.ndarray, interval_s: float, start_s: float = 0.0
) -> tuple[xr.Dataset, xr.Dataset]:
    """Traces and a posture: every row is a neuron, and the bending at its place."""
    runs, frames = activity.shape
    t = ("t", start_s + np.arange(frames) * interval_s, SECONDS)
    places = np.linspace(0, 1, max(runs, 2))
    names = [f"n{row}" for row in range(runs)]
    traces = xr.Dataset(
        {"dff": (("t", "neuron"), activity.T)},
        coords={"t": t, "neuron": names, "body_position": ("neuron", places[:runs])},
    )
    bending = np.resize(behaviour, (places.size, frames))
    return traces, xr.Dataset({"curvature": (("t", "s"), bending.T)}, coords={"t": t, "s": places})


def narrow(runs: int) -> float:
    """A window that holds one place of :func:`labelled`."""
    return 0.4 / max(runs, 2)
