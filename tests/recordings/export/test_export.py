"""The verb: formats by suffix, files that appear whole or not at all, memory that does not grow, words for mistakes."""

import errno
import os
import re
import stat
import subprocess
import sys
import threading

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr

from niddl_xr.chunking import REGION_BYTES
from niddl_xr.recordings.export import _atomic, _blocks, _modules, export, ome_tiff, writers
from niddl_xr.recordings.export._blocks import Cast, frame_blocks
from niddl_xr.recordings.export._calibration import calibration_of, even_step
from niddl_xr.schema import NiddlError, make_recording
from tests.recordings.export.conftest import movie_of

EVERY = {
    **{suffix: {} for suffix in (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".mp4")},
    ".nwb": {"modality": "one-photon"},
}


def names_in(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_every_module_says_what_it_writes():
    table = writers()
    assert set(table.index) >= {"ome_tiff", "imagej", "ome_zarr", "movie", "csv", "parquet", "nwb", "matlab"}
    assert table["installed"].all()
    assert (table["what"].str.len() > 0).all()
    suffixes = [suffix for module in _modules().values() for suffix in module.WRITER.suffixes]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize(("suffix", "options"), EVERY.items())
def test_a_recording_becomes_every_format_and_nothing_else_is_left(tmp_path, movie, suffix, options):
    made = export(movie, tmp_path / f"worm{suffix}", progress=False, **options)
    assert made == tmp_path / f"worm{suffix}"
    assert names_in(tmp_path) == [f"worm{suffix}"]


def test_a_format_for_a_path_without_suffix(tmp_path, movie):
    made = export(movie, tmp_path / "worm", format="ome.tif", progress=False)
    assert made.name == "worm"
    with tifffile.TiffFile(made) as tif:
        assert tif.is_ome


def test_suffixes_are_read_in_any_case_and_the_longest_counts(tmp_path, movie):
    with tifffile.TiffFile(export(movie, tmp_path / "A.OME.TIF", progress=False)) as tif:
        assert tif.is_ome
    with tifffile.TiffFile(export(movie, tmp_path / "A.TIF", progress=False)) as tif:
        assert not tif.is_ome


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.zarr", "written by save"),
        ("a.xlsx", "expected a file name that ends with one of .csv"),
        (".tif", "expected a file name that ends with"),
        ("a", "or set format="),
    ],
)
def test_a_suffix_that_is_none_is_named(tmp_path, movie, name, said):
    with pytest.raises(NiddlError, match=said):
        export(movie, tmp_path / name, progress=False)
    assert names_in(tmp_path) == []


def test_unknown_format_and_options_are_errors(tmp_path, movie, traces):
    with pytest.raises(NiddlError, match="expected format as one of"):
        export(movie, tmp_path / "a", format="png")
    with pytest.raises(NiddlError, match="OME-TIFF has no option pyramid; it takes dtype, compression"):
        export(movie, tmp_path / "a.ome.tif", pyramid=True)
    with pytest.raises(NiddlError, match="CSV table .* takes no recording; export it to .mp4, .nwb, .ome.tif"):
        export(movie, tmp_path / "a.csv")
    with pytest.raises(NiddlError, match="takes no dataset; export it to .csv, .mat, .nwb, .parquet"):
        export(traces, tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (np.zeros((2, 3)), "expected a recording, .* got ndarray"),
        (xr.DataTree(), "choose a node"),
        (xr.Dataset(), "no variables"),
        (pd.DataFrame(), "expected a table with columns"),
        ({}, "got dict"),
        (xr.Dataset({"noisy": (("stack", "z", "y", "x"), np.zeros((1, 2, 3, 4)))}), "expected images with dims"),
        (xr.DataArray(np.zeros((3, 4)), dims=("y", "x")), "expected dims"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path, obj, said):
    with pytest.raises(NiddlError, match=said):
        export(obj, tmp_path / "a.ome.tif")


def test_channels_have_to_fit(tmp_path, movie):
    with pytest.raises(NiddlError, match="channels of one shape"):
        export({"a": movie, "b": movie[1:]}, tmp_path / "a.ome.tif")
    with pytest.raises(NiddlError, match="coordinates, but y of 'b'"):
        export({"a": movie, "b": movie.assign_coords(y=movie.y + 1)}, tmp_path / "a.ome.tif")
    with pytest.raises(NiddlError, match="set dtype="):
        export({"a": movie, "b": movie.astype("float32")}, tmp_path / "a.ome.tif")


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".mp4", ".nwb"])
def test_what_exists_stays_unless_said(tmp_path, movie, suffix):
    path = tmp_path / f"a{suffix}"
    options = EVERY[suffix]
    export(movie, path, progress=False, **options)
    with pytest.raises(FileExistsError, match="say overwrite=True"):
        export(movie, path, progress=False, **options)
    before = path.stat().st_ino
    export(movie, path, overwrite=True, progress=False, **options)
    assert path.stat().st_ino != before
    assert names_in(tmp_path) == [path.name]


def test_what_is_of_another_kind_is_not_replaced(tmp_path, movie):
    folder, file = tmp_path / "a.ome.tif", tmp_path / "a.ome.zarr"
    folder.mkdir()
    (folder / "kept").touch()
    file.touch()
    for path in (folder, file):
        with pytest.raises(FileExistsError, match="it is not replaced"):
            export(movie, path, overwrite=True, progress=False)
    assert (folder / "kept").exists()
    assert file.is_file()


def test_a_link_stays_a_link(tmp_path, movie):
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "a.tif").touch()
    (tmp_path / "a.tif").symlink_to(target / "a.tif")
    export(movie, tmp_path / "a.tif", overwrite=True, progress=False)
    assert (tmp_path / "a.tif").is_symlink()
    assert tifffile.imread(target / "a.tif").shape == movie.shape


def test_a_missing_folder_is_named(tmp_path, movie):
    with pytest.raises(FileNotFoundError, match=re.escape(f"the folder {tmp_path / 'no'} does not exist")):
        export(movie, tmp_path / "no" / "a.tif")


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".ome.zarr", ".mp4", ".nwb"])
def test_a_block_that_cannot_be_read_leaves_nothing_behind(tmp_path, movie, suffix):
    def broken(block: np.ndarray, block_info=None) -> np.ndarray:
        if block_info[0]["chunk-location"][0] == 2:
            raise NiddlError("plane 4 of worm7.tif could not be read")
        return block

    bad = movie.copy(data=da.map_blocks(broken, movie.data, dtype=movie.dtype))
    window = {"limits_counts": (0, 100)} if suffix == ".mp4" else {}
    with pytest.raises(NiddlError, match="plane 4 of worm7.tif"):
        export(bad, tmp_path / f"a{suffix}", progress=False, **window, **EVERY[suffix])
    assert names_in(tmp_path) == []


def test_a_failing_export_keeps_the_old_file(tmp_path, movie, monkeypatch):
    path = export(movie, tmp_path / "a.ome.tif", progress=False)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ome_tiff, "write", full)
    with pytest.raises(OSError, match=r"a.ome.tif could not be written \(No space left") as caught:
        export(movie, path, overwrite=True, progress=False)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["a.ome.tif"]


def test_an_old_folder_comes_back_where_the_new_one_cannot_be_put(tmp_path, movie, monkeypatch):
    path = export(movie, tmp_path / "a.ome.zarr", progress=False)
    rename = _atomic.Path.rename

    def failing(self, target):
        if re.match(r"\.\w{8}-a\.ome\.zarr$", self.name):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(_atomic.Path, "rename", failing)
    with pytest.raises(OSError, match="could not be written"):
        export(movie, path, overwrite=True, progress=False)
    assert (path / ".zattrs").is_file()
    assert names_in(tmp_path) == ["a.ome.zarr"]


FULL_DISK = """
import os, pathlib, resource, signal, sys
import numpy as np
import xarray as xr
import niddl_xr as nx
from niddl_xr.recordings.export import export
folder = pathlib.Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 60000, (20, 2, 100, 120), dtype="uint16")
movie = nx.from_numpy(noise, dims="tzyx", voxel_um=(1, 1, 1), dt_s=0.5)
values = np.random.default_rng(0).normal(size=(3000, 5))
traces = xr.Dataset({"F": (("t", "neuron"), values)}, coords={"t": ("t", np.arange(3000.0), {"units": "s"})})
nwb = {"modality": "one-photon", "session_start_time": "2024-05-01T10:00:00+02:00"}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for suffix in (".ome.tif", ".tif", ".ome.zarr", ".mp4", ".nwb", ".csv", ".parquet", ".mat"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, -1))  # what is written beyond fails, as on a full disk
    try:
        export(
            traces if suffix in (".csv", ".parquet", ".mat") else movie,
            folder / f"a{suffix}", progress=False, **(nwb if suffix == ".nwb" else {})
        )
    except OSError as error:
        assert f"a{suffix} could not be written" in str(error) and chr(10) not in str(error), str(error)
    else:
        raise AssertionError(suffix)
    assert os.listdir(folder) == [], os.listdir(folder)
"""


def test_a_full_disk_leaves_nothing_behind_and_is_named(tmp_path):
    result = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_named(tmp_path, movie):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    for suffix, options in EVERY.items():
        with pytest.raises(OSError, match="could not be written"):
            export(movie, tmp_path / f"a{suffix}", progress=False, **options)
    tmp_path.chmod(stat.S_IRWXU)
    assert names_in(tmp_path) == []


def test_packages_that_are_missing_are_named(tmp_path, movie, traces, monkeypatch):
    monkeypatch.setattr(sys.modules["niddl_xr.recordings._formats"], "find_spec", lambda _: None)
    with pytest.raises(NiddlError, match=r"pip install 'niddl-xr\[nwb\]'"):
        export(traces, tmp_path / "a.nwb")


@pytest.mark.parametrize("chunk", [1, 3, 7, 40])
def test_blocks_are_the_frames_in_order_and_few_are_held(monkeypatch, chunk):
    monkeypatch.setattr(_blocks, "REGION_BYTES", 5 * 2 * 3 * 4 * 2)  # five frames
    monkeypatch.setattr(_blocks, "LARGEST_CHUNK", 2)
    movie = movie_of((40, 2, 3, 4), frames_a_chunk=chunk)
    held, most, lock = 0, 0, threading.Lock()
    read = _blocks._read

    def counted(*arguments):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return read(*arguments)

    monkeypatch.setattr(_blocks, "_read", counted)
    seen = []
    for region, (block,) in frame_blocks([movie], progress=False, description="x"):
        assert len(block) == len(region) <= max(5, min(chunk, 10))
        seen.append(block)
        held -= 1
    np.testing.assert_array_equal(np.concatenate(seen), movie.values)
    assert most <= 2


def test_regions_do_not_split_dask_chunks(monkeypatch):
    monkeypatch.setattr(_blocks, "REGION_BYTES", 5 * 2 * 3 * 4 * 2)
    movie = movie_of((11, 2, 3, 4)).chunk(t=(2, 3, 1, 4, 1))
    assert [(region.start, region.stop) for region in _blocks._cut([movie])] == [(0, 5), (5, 10), (10, 11)]


def test_regions_of_a_usual_size():
    movie = make_recording(
        da.zeros((1000, 1, 1024, 1024), dtype="uint16", chunks=(8, 1, 1024, 1024)), voxel_um=(1, 1, 1), dt_s=1
    )
    assert {len(region) for region in _blocks._cut([movie])} == {REGION_BYTES // 2**21}


@pytest.mark.parametrize(
    ("values", "dtype", "expected", "clipped", "undefined"),
    [
        (np.array([-1.0, 0.5, 1.5, 254.7, 255.6, np.nan, np.inf]), "uint8", [0, 0, 2, 255, 255, 0, 255], 3, 1),
        (np.array([70_000, -3, 9], "int32"), "uint16", [65535, 0, 9], 2, 0),
        (np.array([40_000, 9], "uint16"), "int8", [127, 9], 1, 0),
        (np.array([2**32 - 1, 2**31, 4], "uint32"), "int32", [2**31 - 1, 2**31 - 1, 4], 2, 0),
        (np.array([1.25, np.nan], "float64"), "float32", [1.25, np.nan], 0, 0),
        (np.array([40_000, 2], "uint16"), "float32", [40_000.0, 2.0], 0, 0),
    ],
)
def test_another_dtype_rounds_clips_and_counts(values, dtype, expected, clipped, undefined):
    cast = Cast([xr.DataArray(values)], dtype, ("uint8", "uint16", "int8", "int32", "float32"), "it")
    result = cast(values)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.array(expected, dtype))
    assert (cast.clipped, cast.undefined) == (clipped, undefined)


def test_what_was_clipped_is_said(tmp_path, movie):
    floating = movie.astype("float32") - 300
    floating[0, 0, 0, 0] = np.nan
    below = int((floating < -0.5).sum())
    with pytest.warns(UserWarning, match=f"exported as uint16: {below} pixels beyond .* 1 pixels are NaN"):
        made = export(floating, tmp_path / "a.ome.tif", dtype="uint16", progress=False)
    expected = np.clip(np.rint(np.nan_to_num(floating.values)), 0, 65535).astype("uint16")
    np.testing.assert_array_equal(tifffile.imread(made), expected)


def test_a_dtype_that_a_format_does_not_have_is_refused(tmp_path, movie):
    with pytest.raises(NiddlError, match="ImageJ's TIFF holds uint8, uint16, float32, not int16; set dtype="):
        export(movie.astype("int16"), tmp_path / "a.tif")
    with pytest.raises(NiddlError, match="OME-TIFF holds .*, not int64"):
        export(movie.astype("int64"), tmp_path / "a.ome.tif")
    with pytest.raises(NiddlError, match="expected dtype as one of"):
        export(movie, tmp_path / "a.ome.tif", dtype="counts")


def test_steps_are_those_that_the_coordinate_was_made_with():
    assert even_step(np.arange(1000) * 0.1) == 0.1
    rounded = [count for count in range(3, 400) if (np.arange(count) * 0.07)[-1] / (count - 1) != 0.07]
    assert rounded
    assert {even_step(np.arange(count) * 0.07) for count in rounded} == {0.07}
    assert even_step(np.arange(7) * 0.3 + 2.0) == pytest.approx(0.3, rel=1e-14)
    assert even_step(np.array([0.0, 1.0, 2.1])) is None
    assert even_step(np.array([2.0, 1.0, 0.0])) is None
    assert even_step(np.array([0.0, 0.0, 0.0])) is None


def test_calibration_states_nothing_for_indices():
    with pytest.warns(UserWarning, match="does not state"):
        bare = make_recording(np.zeros((2, 3, 4, 5), "uint8"))
    stated = calibration_of(bare)
    assert (dict(stated.voxel_um), dict(stated.origin_um), stated.dt_s, stated.t_s) == ({}, {}, None, None)


def test_nothing_is_computed_before_the_first_block(tmp_path, movie, lazily):
    with lazily, pytest.raises(NiddlError, match="has no option"):
        export(movie, tmp_path / "a.ome.tif", nonsense=1)


@pytest.mark.parametrize("dtype", ["uint64", "int64", "uint8"])
@pytest.mark.parametrize("stored", ["float32", "float64"])
def test_the_ends_of_integers_do_not_wrap(dtype, stored):
    values = np.array([[np.inf, 1e30, -1e30, -np.inf, 7.4]], dtype=stored)
    cast = _blocks.Cast([xr.DataArray(values)], dtype, [dtype], "a test")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    assert cast(values).tolist() == [[high, high, low, low, 7]]
    assert cast.clipped == 4


def test_a_file_name_that_is_no_utf8(tmp_path, movie):
    named = movie.assign_attrs(source="/data/caf\udce9.tif")
    when = {"modality": "one-photon", "session_start_time": "2024-05-01T10:00:00+02:00"}
    for suffix, options in ((".tif", {}), (".ome.tif", {}), (".ome.zarr", {}), (".nwb", when)):
        assert export(named, tmp_path / f"a{suffix}", progress=False, **options).exists()


def test_what_came_to_be_in_the_meantime_is_not_replaced(tmp_path, movie, monkeypatch):
    write = ome_tiff.write

    def slow(*arguments: object, **options: object) -> None:
        write(*arguments, **options)
        (tmp_path / "a.ome.tif").write_bytes(b"of another program")

    monkeypatch.setattr(ome_tiff, "write", slow)
    with pytest.raises(FileExistsError, match=r"a\.ome\.tif exists; choose another path"):
        export(movie, tmp_path / "a.ome.tif", progress=False)
    assert (tmp_path / "a.ome.tif").read_bytes() == b"of another program"
    assert names_in(tmp_path) == ["a.ome.tif"]
