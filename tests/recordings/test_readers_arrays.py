"""Arrays in .npy and HDF5: truth is what numpy and h5py wrote."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.recordings.readers import hdf5

T, Z, Y, X = 6, 3, 7, 11
ignore_missing = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


@ignore_missing
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "<f4", ">f8"])
@pytest.mark.parametrize("fortran", [False, True])
def test_npy(tmp_path, counts, lazily, pickled, dtype, fortran):
    truth = counts(T, Z, Y, X, dtype=np.dtype(dtype).newbyteorder("=").name)
    np.save(tmp_path / "a.npy", np.asarray(truth.astype(dtype), order="F" if fortran else "C"))
    with lazily:
        recording = nx.open_recording(tmp_path / "a.npy", chunks=4)
    assert recording.dtype == truth.dtype
    np.testing.assert_array_equal(recording.values, truth)
    size, values = pickled(recording[2:5, 1:])
    np.testing.assert_array_equal(values, truth[2:5, 1:])
    assert size < 20_000


@ignore_missing
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("axes", ["yxtz", "cyxt", "xyz"])
def test_any_order_of_axes_reads_only_the_slice(tmp_path, counts, suffix, axes, monkeypatch):
    sizes = {"t": T, "z": Z, "c": 2, "y": Y, "x": X}
    truth = counts(*(sizes[axis] for axis in axes))
    save(tmp_path / f"a{suffix}", truth)
    options = {"channel": 1} if "c" in axes else {}
    recording = nx.open_recording(tmp_path / f"a{suffix}", axes=axes, **options)
    expected = truth[1] if "c" in axes else truth
    left = axes.replace("c", "")
    expected = expected.transpose([left.index(dim) for dim in "tzyx" if dim in left])
    expected = expected[tuple(slice(None) if dim in left else None for dim in "tzyx")]
    np.testing.assert_array_equal(recording.values, expected)
    if suffix == ".h5" and "t" in axes:
        read = []
        original = hdf5.Hdf5Dataset.__getitem__
        monkeypatch.setattr(
            hdf5.Hdf5Dataset, "__getitem__", lambda source, key: read.append(key) or original(source, key)
        )
        values = recording[3].compute(scheduler="sync")
        np.testing.assert_array_equal(values, expected[3])
        assert read[0][axes.index("t")].indices(T) == (3, 4, 1)


def save(path, truth, **attrs):
    if path.suffix == ".npy":
        np.save(path, truth)
        return
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", data=truth).attrs.update(attrs)


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_assumed_axes_are_warned_of(tmp_path, counts, suffix):
    save(tmp_path / f"a{suffix}", counts(T, Y, X))
    with pytest.warns(
        nx.MissingMetadataWarning, match=r"does not state its axes; .* taken as 'tyx' \(set axes=\)"
    ) as caught:
        recording = nx.open_recording(tmp_path / f"a{suffix}", voxel_um=(1, 0.5, 0.5), dt_s=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert recording.sizes == {"t": T, "z": 1, "y": Y, "x": X}
    save(tmp_path / f"b{suffix}", counts(T, Z, 2, Y, X))
    with pytest.raises(nx.NiddlError, match=r"shape \(6, 3, 2, 7, 11\) and does not state its axes: set axes="):
        nx.open_recording(tmp_path / f"b{suffix}")
    save(tmp_path / f"c{suffix}", np.zeros((0, Y, X)))
    with pytest.raises(nx.NiddlError, match=r"is empty: its shape is \(0, 7, 11\)"):
        nx.open_recording(tmp_path / f"c{suffix}")


@pytest.mark.parametrize(
    "array", [np.array([{}, 1], dtype=object), np.ones((T, Y, X), bool), np.ones((T, Y, X), complex)]
)
def test_npy_of_no_counts_is_never_unpickled(tmp_path, array, monkeypatch):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    monkeypatch.setattr(pickle, "load", None)
    with pytest.raises(nx.NiddlError, match=r"a\.npy holds .*; expected integer or floating-point counts"):
        nx.open_recording(tmp_path / "a.npy")


def test_npy_cut_short(tmp_path, counts):
    np.save(tmp_path / "a.npy", counts(T, Y, X))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-100])
    with pytest.raises(
        nx.NiddlError, match=r"a\.npy is cut short: its \(6, 7, 11\) uint16 end at byte 1052, but .* 952"
    ):
        nx.open_recording(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(content[:40])
    with pytest.raises(nx.NiddlError, match=r"a\.npy is not a \.npy that can be read"):
        nx.open_recording(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"no numpy at all")
    with pytest.raises(nx.NiddlError, match=r"b\.npy is not a \.npy that can be read"):
        nx.open_recording(tmp_path / "b.npy")


def test_hdf5_states_axes_voxel_and_channels(tmp_path, counts):
    truth = counts(T, Z, Y, X, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("group/imaging", data=truth.astype(">u2"), chunks=True, compression="gzip")
        for dim, label in zip(dataset.dims, "tzyxc", strict=True):
            dim.label = label
        dataset.attrs["element_size_um"] = [2.0, 0.5, 0.25]
        dataset.attrs["channel_names"] = np.array([b"green", b"red"])
        file["traces"] = np.ones((4, 9))
        file["names"] = "text"
    recording = nx.open_recording(tmp_path / "a.h5", channel="red", dt_s=1)
    np.testing.assert_array_equal(recording.values, truth[..., 1])
    assert recording.dtype.isnative
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [2, 0.5, 0.25])
    assert recording.attrs["dataset"] == "/group/imaging"


@ignore_missing
def test_hdf5_datasets_are_listed(tmp_path, counts):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["left"], file["right"], file["flat"] = counts(T, Y, X), counts(T, Y, X) + 1, np.ones((Y, X))
    with pytest.raises(nx.NiddlError, match=r"found 2; choose one with dataset=.*/left \(6, 7, 11\) uint16"):
        nx.open_recording(tmp_path / "a.h5")
    with pytest.raises(nx.NiddlError, match=r"has no dataset 'middle' of numbers; its datasets: /flat"):
        nx.open_recording(tmp_path / "a.h5", dataset="middle")
    recording = nx.open_recording(tmp_path / "a.h5", dataset="right", chunks=1)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda frame: recording[frame].compute(scheduler="sync").values, range(T)))
    np.testing.assert_array_equal(np.stack(frames)[:, 0], counts(T, Y, X) + 1)
    (tmp_path / "a.h5").unlink()
    with pytest.raises(nx.NiddlError, match=r"dataset /right of .*a\.h5 could not be read"):
        recording.compute(scheduler="sync")


def test_damaged_hdf5(tmp_path, counts):
    save(tmp_path / "a.h5", counts(T, Y, X))
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[:700])
    with pytest.raises(nx.NiddlError, match=r"a\.h5 is not an HDF5 file that can be read"):
        nx.open_recording(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"not HDF5 at all, whatever its name")
    with pytest.raises(nx.NiddlError, match=r"b\.h5 is not an HDF5 file that can be read"):
        nx.open_recording(tmp_path / "b.h5")
