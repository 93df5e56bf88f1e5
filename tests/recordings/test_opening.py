"""The verbs themselves: from_numpy, how a format is found, what the import loads, that reading writes nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr.recordings.readers import Reader
from niddl_xr.recordings.readers._units import s_per, um_per

T, Z, Y, X = 5, 3, 7, 11


@pytest.mark.parametrize("dims", ["tzyx", "xyzt", "tyx", "zyx", "yx", ("x", "t", "y")])
def test_from_numpy_puts_dims_in_order(counts, dims):
    sizes = {"t": T, "z": Z, "y": Y, "x": X}
    array = counts(*(sizes[dim] for dim in dims))
    recording = nx.from_numpy(array, dims=dims, voxel_um=(2, 0.5, 0.25), dt_s=0.1)
    assert recording.dims == ("t", "z", "y", "x")
    assert np.shares_memory(recording.values, array)
    for index in np.ndindex(array.shape):
        place = dict(zip(dims, index, strict=True))
        assert recording.values[tuple(place.get(dim, 0) for dim in "tzyx")] == array[index]
    assert float(recording.x[1]) == 0.25


def test_from_numpy_keeps_dask_lazy_and_makes_bytes_native(counts, lazily):
    with lazily:
        recording = nx.from_numpy(da.zeros((T, Y, X), chunks=2), dims="tyx", voxel_um=(1, 1, 1), dt_s=1)
    assert recording.chunks is not None
    recording = nx.from_numpy(counts(T, Y, X).astype(">u2"), dims="tyx", voxel_um=(1, 1, 1), dt_s=1)
    assert recording.dtype.isnative
    np.testing.assert_array_equal(recording.values[:, 0], counts(T, Y, X))


@pytest.mark.parametrize("dims", ["tzyx", "tyy", "tzy", "cyx"])
def test_from_numpy_wrong_dims(counts, dims):
    with pytest.raises(nx.NiddlError, match=r"expected dims as letters of t, z, y, x, .* shape \(5, 7, 11\), got"):
        nx.from_numpy(counts(T, Y, X), dims=dims)


def test_from_numpy_wrong_values():
    with pytest.raises(nx.NiddlError, match="expected integer or floating-point counts, got dtype bool"):
        nx.from_numpy(np.ones((T, Y, X), bool), dims="tyx", voxel_um=(1, 1, 1), dt_s=1)
    with pytest.raises(nx.NiddlError, match="the recording is empty"):
        nx.from_numpy(np.ones((0, Y, X)), dims="tyx", voxel_um=(1, 1, 1), dt_s=1)
    with pytest.warns(nx.MissingMetadataWarning, match="voxel_um=") as caught:
        nx.from_numpy(np.ones((T, Y, X)), dims="tyx")
    assert caught[0].filename == __file__


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recording at .*worm\.tif: there is no such file or folder"):
        nx.open_recording(tmp_path / "worm.tif")
    with pytest.raises(nx.NiddlError, match=r"expected a recording in the folder .* but it is empty"):
        nx.open_recording(tmp_path)
    (tmp_path / "worm.tif").touch()
    with pytest.raises(nx.NiddlError, match=r"worm\.tif is empty: it has 0 bytes"):
        nx.open_recording(tmp_path / "worm.tif")


def test_unknown_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("mouse 3")
    with pytest.raises(nx.NiddlError, match=r"no reader for .*notes\.txt.*Known: .*hdf5 .*; tiff \(\.tif \.tiff "):
        nx.open_recording(tmp_path / "notes.txt")
    with pytest.raises(nx.NiddlError, match=r"no reader recognises the folder .*it holds notes\.txt"):
        nx.open_recording(tmp_path)
    (tmp_path / "worm.tif").write_text("this was a TIFF once")
    with pytest.raises(nx.NiddlError, match=r"worm\.tif is not a TIFF that can be read"):
        nx.open_recording(tmp_path / "worm.tif")


def test_content_comes_before_the_suffix(tmp_path, counts):
    tifffile.imwrite(tmp_path / "a.h5", counts(T, Y, X), metadata=None)
    recording = nx.open_recording(tmp_path / "a.h5", voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(recording.values[:, 0], counts(T, Y, X))


def test_readers_lists_every_file_of_the_room(monkeypatch, tmp_path):
    registry = importlib.import_module("niddl_xr.recordings.readers")
    table = nx.readers()
    files = Path(registry.__file__).parent.glob("[!_]*.py")
    assert list(table.index) == sorted(file.stem for file in files)
    assert table["installed"].all()
    assert ".tif" in table.loc["tiff", "suffixes"]
    odd = Reader("odd files", (".odd",), needs=("no_such_package",))
    extra = Reader("odder files", (".odder",), needs=("no_such_package",), extra="odd")
    modules = {**registry._modules(), "odd": SimpleNamespace(READER=odd), "odder": SimpleNamespace(READER=extra)}
    monkeypatch.setattr(registry, "_modules", lambda: modules)
    assert not nx.readers().loc["odd", "installed"]
    (tmp_path / "a.odd").write_text("odd")
    with pytest.raises(nx.NiddlError, match=r"a\.odd needs no_such_package: pip install no_such_package"):
        nx.open_recording(tmp_path / "a.odd")
    (tmp_path / "a.odder").write_text("odd")
    with pytest.raises(nx.NiddlError, match=r'a\.odder needs no_such_package: pip install "niddl-xr\[odd\]"'):
        nx.open_recording(tmp_path / "a.odder")


def test_reading_changes_nothing_on_disk(tmp_path, counts):
    tifffile.imwrite(tmp_path / "a.tif", counts(T, Y, X), metadata=None)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.iterdir()]}
    nx.open_recording(tmp_path / "a.tif", voxel_um=(1, 1, 1), dt_s=1).compute(scheduler="sync")
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.iterdir()]} == before


def test_the_import_is_light():
    code = (
        "import sys, niddl_xr.recordings; print([m for m in ('dask', 'tifffile', 'h5py', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    baseline = "import sys, xarray; print([m for m in ('dask', 'tifffile', 'h5py', 'zarr') if m in sys.modules])"
    assert (
        loaded
        == subprocess.run([sys.executable, "-c", baseline], capture_output=True, text=True, check=True).stdout.strip()
    )


@pytest.mark.parametrize(
    ("unit", "um", "s"),
    [
        ("µm", 1, None),
        ("μm", 1, None),
        ("nm", 1e-3, None),
        ("ms", None, 1e-3),
        ("pixel", None, None),
        (None, None, None),
    ],
)
def test_units(unit, um, s):
    assert um_per(unit) == um
    assert s_per(unit) == s


def test_centimetres_of_dots_per_inch_are_unknown():
    assert um_per("cm") == 1e4
    assert um_per("cm", print_units=False) is None


@pytest.mark.parametrize("path", [None, 3, [None], b"worm.tif", np.zeros((2, 3, 4))])
def test_what_is_no_path_is_said(path):
    with pytest.raises(nx.NiddlError, match=r"expected a path, or the paths .*; an array in memory .*from_numpy"):
        nx.open_recording(path)


def test_arguments_of_another_type(tmp_path, counts):
    np.save(tmp_path / "a.npy", counts(3, 4, 5))
    for axes in (5, ["t", "y", "x"]):
        with pytest.raises(nx.NiddlError, match="expected axes as letters, such as 'tzyx', got"):
            nx.open_recording(tmp_path / "a.npy", axes=axes)
    for dt_s in ("0.1", True, [1, 2]):
        with pytest.raises(nx.NiddlError, match="expected dt_s, the time between frames, as a number of seconds"):
            nx.open_recording(tmp_path / "a.npy", axes="tyx", dt_s=dt_s)
