"""A scene of Gaussians whose brightness is known by algebra. Every dim has a size of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from niddl_xr.neurons import make_tracks
from niddl_xr.schema import make_recording

VOXEL_UM = (1.5, 0.5, 0.4)
SHAPE = (9, 37, 53)
PSF_UM = (1.0, 0.4, 0.4)
RADIUS_UM = 1.5
SIGMA_UM = np.sqrt(0.36 * RADIUS_UM**2 + np.square(PSF_UM))
BACKGROUND = 120.0


@dataclass(frozen=True)
class Scene:
    """Recording (t, z, y, x), tracks, and the counts (t, neuron) at the centres above the background of 120."""

    recording: xr.DataArray
    tracks: xr.Dataset
    peaks: np.ndarray


def gaussian(position_um: np.ndarray) -> np.ndarray:
    z, y, x = (np.arange(size) * voxel for size, voxel in zip(SHAPE, VOXEL_UM, strict=True))
    square = ((z - position_um[0]) / SIGMA_UM[0]) ** 2
    square = square[:, None, None] + ((y - position_um[1]) / SIGMA_UM[1])[:, None] ** 2
    return np.exp(-0.5 * (square + ((x - position_um[2]) / SIGMA_UM[2]) ** 2))


def tracks_of(positions: np.ndarray, dt_s: float = 0.5) -> xr.Dataset:
    frames, neurons = positions.shape[:2]
    flags = np.ones((frames, neurons))
    tracks = make_tracks(
        positions,
        flags,
        confidence=flags,
        provenance=np.zeros_like(flags),
        det_id=np.zeros_like(flags),
        t=("t", np.arange(frames) * dt_s, {"units": "s"}),
        neurons=[f"N{index}" for index in range(neurons)],
    )
    return tracks.assign_coords(radius_um=("neuron", np.full(neurons, RADIUS_UM)))


def scene_of(places: list[list[float]], frames: int = 7, *, drift_um: float = 0.13) -> Scene:
    start = np.array(places)
    positions = start + drift_um * np.arange(frames)[:, None, None] * np.array([0.5, 1.0, -1.0])
    rng = np.random.default_rng(0)
    peaks = rng.uniform(50, 200, (frames, len(places)))
    volumes = [
        BACKGROUND + sum(peak * gaussian(place) for peak, place in zip(peaks[t], positions[t], strict=True))
        for t in range(frames)
    ]
    recording = make_recording(np.stack(volumes), voxel_um=VOXEL_UM, dt_s=0.5, attrs={"offset_counts": 100.0})
    return Scene(recording, tracks_of(positions), peaks)


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Three neurons far apart: none has light of another."""
    return scene_of([[6.0, 4.5, 4.8], [6.6, 13.2, 10.1], [5.8, 7.3, 16.9]])


@pytest.fixture(scope="session")
def close_scene() -> Scene:
    """Three neurons, of which two are 2.6 µm apart."""
    return scene_of([[6.0, 6.5, 8.0], [6.0, 6.5, 10.6], [5.0, 13.0, 14.0]])
