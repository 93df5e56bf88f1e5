"""Recordings small enough to know every pixel, and one that tells which frames were read."""

from __future__ import annotations

from dataclasses import dataclass, field

import dask.array as da
import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from niddl_xr.schema import make_recording
from niddl_xr.simulation import whole_brain

VOXEL_UM = (2.0, 0.5, 0.25)
SHAPE = (5, 3, 7, 11)


def recording_of(data, **labels) -> xr.DataArray:
    return make_recording(data, **{"voxel_um": VOXEL_UM, "dt_s": 0.5, **labels})


def draw(element):
    """Render as a page would; an error in any option or any pixel shows here."""
    return hv.renderer("bokeh").get_plot(element).state


def image_of(element) -> hv.Image:
    return element.traverse(lambda found: found, [hv.Image])[0]


def options_of(element, group: str) -> dict:
    return hv.Store.lookup_options("bokeh", element, group).kwargs


@dataclass
class Counted:
    """A lazy recording, one block a frame, and the numbers of the frames that were read."""

    recording: xr.DataArray
    read: list[int] = field(default_factory=list)


@pytest.fixture
def counts() -> np.ndarray:
    head = whole_brain(shape=SHAPE[1:], frames=SHAPE[0], voxel_um=VOXEL_UM, rate_hz=2.0, neurons=1, photons=5, seed=3)
    return np.asarray(head["recording"]["F"].values)


@pytest.fixture
def recording(counts) -> xr.DataArray:
    return recording_of(counts)


@pytest.fixture
def counted(counts) -> Counted:
    read: list[int] = []

    def load(block, block_info=None):
        if block_info:
            read.append(block_info[0]["array-location"][0][0])
        return block

    lazy = da.from_array(counts, chunks=(1, *SHAPE[1:])).map_blocks(load, dtype=counts.dtype, meta=np.empty((0,) * 4))
    recording = recording_of(lazy.astype(np.uint16))
    read.clear()
    return Counted(recording, read)
