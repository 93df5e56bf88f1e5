"""What the tests of exports share: a movie in which every pixel differs, and results of a simulation."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from niddl_xr.schema import make_recording, with_history
from niddl_xr.simulation import whole_brain

STARTED = "2024-05-01T10:00:00+02:00"


def numbered(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Counts of which every one differs, as far as the dtype allows; beyond 32,767 for uint16."""
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) * 11 + 5
    if np.dtype(dtype).kind == "f":
        return (values / 8 - 5).astype(dtype)
    info = np.iinfo(dtype)
    span = min(int(info.max) - int(info.min) + 1, 2**62)
    return (values % span + int(info.min)).astype(dtype)


def movie_of(shape: tuple[int, ...] = (5, 3, 37, 53), dtype: str = "uint16", frames_a_chunk: int = 2) -> xr.DataArray:
    attrs = {
        "source": "/data/worm7.nd2",
        "indicator": "GCaMP6s",
        "objective": "Plan Apo 40x µ <&>",
        "numerical_aperture": 1.25,
        "magnification": 40,
        "camera": "Flash 4",
        "microscope": "Ti2",
        "acquired": STARTED,
        "bit_depth": 16,
        "emission_nm": 510.0,
        "description": "a worm\nof 2 lines",
    }
    data = da.from_array(numbered(*shape, dtype=dtype), chunks=(frames_a_chunk, *shape[1:]))
    recording = make_recording(data, voxel_um=(1.5, 0.4, 0.3), dt_s=0.25, attrs=attrs)
    return with_history(recording, "open_recording", {"dt_s": 0.25})


@pytest.fixture
def movie() -> xr.DataArray:
    return movie_of()


@pytest.fixture(scope="session")
def worm() -> xr.DataTree:
    """A simulated head: recording, tracks (t 6, neuron 5) and traces."""
    return whole_brain(shape=(4, 40, 64), frames=6, neurons=5, seed=1)


@pytest.fixture
def traces(worm: xr.DataTree) -> xr.Dataset:
    return worm["traces"].to_dataset().copy(deep=True)


@pytest.fixture
def tracks(worm: xr.DataTree) -> xr.Dataset:
    return worm["tracks"].to_dataset().copy(deep=True)
