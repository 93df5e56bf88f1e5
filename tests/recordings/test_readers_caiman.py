"""Memory maps and results of CaImAn: truth is the layout of its save_memmap, written out by numpy."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.recordings.readers import caiman
from tests.recordings.samples import caiman as samples

ignore_missing = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


@ignore_missing
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("tail", ["", "_"])
def test_frames(tmp_path, lazily, pickled, order, tail):
    path = samples.write(tmp_path, samples.movie(), order, tail)
    with lazily:
        recording = nx.open_recording(path, chunks=4)
    assert recording.dtype == np.float32
    np.testing.assert_array_equal(recording.values[:, 0], samples.movie())
    size, values = pickled(recording[2:5, :, 1:])
    np.testing.assert_array_equal(values[:, 0], samples.movie()[2:5, 1:])
    assert size < 20_000


@pytest.mark.parametrize("order", ["C", "F"])
def test_volumes(tmp_path, order):
    path = samples.write(tmp_path, samples.volumes(), order)
    with pytest.warns(nx.MissingMetadataWarning, match=r"does not say which dim is z; they are taken as 'tyxz'"):
        recording = nx.open_recording(path, voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(recording.values, np.einsum("tyxz->tzyx", samples.volumes()))
    other = nx.open_recording(path, axes="tzyx", voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(other.values, samples.volumes())


def test_time_first_is_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(caiman, "MOST_UNIT_BYTES", 100)
    path = samples.write(tmp_path, samples.movie(), "C")
    with pytest.warns(UserWarning, match=r"stores the times of a pixel together: save it as a store"):
        nx.open_recording(path, voxel_um=(1, 1, 1), dt_s=1)


def test_names_and_sizes_that_do_not_fit(tmp_path):
    path = samples.write(tmp_path, samples.movie(), "C")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(nx.NiddlError, match=r"has 1840 bytes, but 6 frames of 7 × 11 × 1 pixels of float32 have 1848"):
        nx.open_recording(path)
    with pytest.raises(nx.NiddlError, match=r"expected the shape of .*in its name, .* got worm\.mmap"):
        nx.open_recording(path.rename(tmp_path / "worm.mmap"))


def test_results_are_no_movie(tmp_path):
    with h5py.File(tmp_path / "results.hdf5", "w") as file:
        file["estimates/C"] = np.ones((4, 6))
        file["estimates/W"] = np.ones((4, 6, 3))
        file["mmap_file"] = "/data/memmap_d1_7_d2_11_d3_1_order_C_frames_6.mmap"
    with pytest.raises(
        nx.NiddlError, match=r"components that CaImAn found, not a movie; the movie was /data/memmap_d1"
    ):
        nx.open_recording(tmp_path / "results.hdf5")
