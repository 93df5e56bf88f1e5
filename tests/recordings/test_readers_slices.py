"""Every source gives for slices of any positive step, which dask hands to it, what numpy cuts from the whole."""

from __future__ import annotations

import pytest

import niddl_xr as nx
from tests.recordings.samples import caiman, camera_files, hdf5, nd2_czi, nwb, video, zarr

FAMILIES = (camera_files, caiman, hdf5, nd2_czi, nwb, video, zarr)
SAMPLES = {name: (family, write) for family in FAMILIES for name, write in family.SAMPLES.items()}
CUTS = (
    (slice(1, None, 2), slice(None), slice(1, 4, 2), slice(None, None, 3)),
    (slice(None), slice(1, None), slice(2, None), slice(1, 3)),
    (slice(0, 1), slice(None, None, 2), slice(None, None, 4), slice(3, 4)),
    (slice(1, 1), slice(None), slice(None), slice(None)),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_slices(tmp_path, name):
    family, write = SAMPLES[name]
    recording = nx.open_recording(write(tmp_path), chunks=50, **family.OPTIONS.get(name, {}))
    whole = recording.values
    for cut in CUTS:
        part = recording[cut].compute(scheduler="sync")
        assert part.dtype == whole.dtype
        assert part.values.tolist() == whole[cut].tolist(), cut
