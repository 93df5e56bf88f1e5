"""The store: what xarray and the OME-Zarr tools make of it, and that nothing in it is lost."""

import errno
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import niddl_xr as nx
from niddl_xr import NiddlError
from niddl_xr.chunking import Region
from niddl_xr.schema import history, make_recording
from niddl_xr.store import (
    all_regions,
    create_store,
    frames_per_region,
    halved,
    level_shapes,
    open_store,
    unfinished_regions,
    write_region,
)
from tests.conftest import counts


def large(dtype: str = "uint16") -> xr.DataArray:
    return make_recording(counts((9, 2, 301, 530), dtype), voxel_um=(1.5, 0.4, 0.3), dt_s=0.25)


def chunk_files(folder: Path) -> dict[str, bytes]:
    """All bytes of a store that are not metadata."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", ">u2", "int32"])
def test_pixels_come_back_to_the_bit(tmp_path, dtype):
    movie = make_recording(
        counts((9, 2, 13, 17), dtype), voxel_um=(1.5, 0.4, 0.3), dt_s=0.25, attrs={"source": "w.tif"}
    )
    stored = movie.niddl.save(tmp_path / "a.zarr", progress=False)
    assert stored.dtype == movie.dtype.newbyteorder("=")
    np.testing.assert_array_equal(stored.values, movie.values)
    xr.testing.assert_equal(stored.coords.to_dataset(), movie.coords.to_dataset())
    assert {dim: stored[dim].attrs["units"] for dim in stored.dims} == {"t": "s", "z": "µm", "y": "µm", "x": "µm"}
    assert history(stored)[-1]["verb"] == "save"


def test_nan_is_kept(tmp_path, recording):
    broken = recording.astype("float32")
    broken[1, 2, 3, 4] = np.nan
    np.testing.assert_array_equal(broken.niddl.save(tmp_path / "a.zarr", progress=False).values, broken.values)


def test_xarray_opens_every_level_without_a_warning(tmp_path):
    movie = large()
    movie.niddl.save(tmp_path / "a.zarr", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        level0 = xr.open_zarr(tmp_path / "a.zarr", group="s0")["F"]
        level1 = xr.open_zarr(tmp_path / "a.zarr", group="s1")["F"]
        tree = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")
    np.testing.assert_array_equal(level0.values, movie.values)
    assert {"/s0", "/s1", "/s2"} <= set(tree.groups)
    assert level1.shape == (9, 2, 150, 265)
    expected = movie.isel(y=slice(300)).astype(float).coarsen(y=2, x=2).mean()
    np.testing.assert_allclose(level1.values, np.rint(expected.values))
    np.testing.assert_allclose(level1.y, expected.y)
    np.testing.assert_allclose(level1.x, expected.x)


def test_ome_zarr_tools_accept_the_store(tmp_path):
    import ngff_zarr
    import ome_zarr.io
    import ome_zarr.reader

    movie = large()
    movie.niddl.save(tmp_path / "a.zarr", progress=False)
    image = ngff_zarr.from_ngff_zarr(str(tmp_path / "a.zarr"), validate=True).images[0]
    np.testing.assert_array_equal(np.asarray(image.data), movie.values)
    assert image.scale == pytest.approx({"t": 0.25, "z": 1.5, "y": 0.4, "x": 0.3})
    assert image.axes_units == {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    nodes = list(ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(tmp_path / "a.zarr")))())
    assert [level.shape for level in nodes[0].data] == level_shapes(movie.shape, pyramid=True)
    np.testing.assert_array_equal(nodes[0].data[0].compute(), movie.values)


def test_level_coordinates_in_ome_metadata_are_those_of_the_arrays(tmp_path):
    large().niddl.save(tmp_path / "a.zarr", progress=False)
    for dataset in zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["multiscales"][0]["datasets"]:
        scale, shift = (transformation for transformation in dataset["coordinateTransformations"])
        group = xr.open_zarr(tmp_path / "a.zarr", group=dataset["path"].split("/")[0])
        for dim, step, start in zip("tzyx", scale["scale"], shift["translation"], strict=True):
            np.testing.assert_allclose(group[dim].values, start + step * np.arange(group.sizes[dim]))


def test_without_pyramid_there_is_one_level(tmp_path):
    large().niddl.save(tmp_path / "a.zarr", pyramid=False, progress=False)
    assert sorted(path.name for path in (tmp_path / "a.zarr").iterdir()) == ["ledger", "s0", "zarr.json"]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 600, 1), (3, 1, 2, 5), (2, 1, 1025, 3)])
def test_tiny_and_thin_recordings(tmp_path, shape):
    values = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    stored = make_recording(values, voxel_um=(1, 1, 1), dt_s=1).niddl.save(tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(stored.values, values)


def test_means_of_four_pixels_neither_wrap_nor_drift():
    block = np.full((1, 1, 5, 4), 65_535, "uint16")
    block[0, 0, 0, 0] = 65_534
    assert halved(block, block.dtype).tolist() == [[[[65_535, 65_535], [65_535, 65_535]]]]  # 65534.75 rounds up
    assert halved(-block.astype("int32"), np.dtype("int32")).min() == -65_535


def test_regions_are_shards_and_at_least_eight():
    assert frames_per_region((100, 4, 512, 512), 4) == 4  # 16 MiB
    assert frames_per_region((24, 2, 76, 87), 4) == 3
    assert frames_per_region((3, 30, 2048, 2048), 4) == 1


def test_zeros_are_finished_regions(tmp_path):
    """zarr stores no chunk that is all zero: the ledger, not the files, says what is done."""
    movie = make_recording(np.zeros((9, 1, 13, 17), "uint16"), voxel_um=(1, 1, 1), dt_s=1)
    stored = movie.niddl.save(tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(stored.values, 0)


def test_a_lost_shard_is_noticed_and_written_again(tmp_path):
    movie = large()
    movie.niddl.save(tmp_path / "a.zarr", progress=False)
    for level in ("s0", "s1"):
        shard = tmp_path / "a.zarr" / level / "F" / "c" / "3" / "0" / "0" / "0"
        content = shard.read_bytes()
        shard.unlink()
        with pytest.raises(NiddlError, match="8 of 9 regions are written; make the call that began it"):
            open_store(tmp_path / "a.zarr")
        with pytest.raises(NiddlError, match="8 of 9 regions are written"):
            nx.open_recording(tmp_path / "a.zarr" / "s0")
        movie.niddl.save(tmp_path / "a.zarr", progress=False)
        assert shard.read_bytes() == content


def test_further_coordinates_are_kept(tmp_path):
    movie = large().assign_coords(stage_um=("t", np.arange(9) * 1.5), exposure_s=0.01, depth=("y", np.arange(301.0)))
    stored = movie.niddl.save(tmp_path / "a.zarr", progress=False)
    xr.testing.assert_equal(stored.coords.to_dataset(), movie.coords.to_dataset())
    assert set(xr.open_zarr(tmp_path / "a.zarr", group="s1").coords) == {*"tzyx", "stage_um", "exposure_s"}
    with pytest.warns(UserWarning, match="the coordinates strain are no numbers and are not stored"):
        movie.assign_coords(strain="ZIM504").niddl.save(tmp_path / "b.zarr", progress=False)


def test_coordinates_that_no_store_can_hold_are_said(tmp_path, recording):
    with pytest.raises(NiddlError, match="expected the coordinate y to increase, .* see DataArray.sortby"):
        recording.isel(y=slice(None, None, -1)).niddl.save(tmp_path / "a.zarr")
    with pytest.raises(NiddlError, match="expected finite numbers as the coordinate t, got datetime64"):
        recording.assign_coords(t=np.arange(5).astype("datetime64[s]")).niddl.save(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_another_recording_of_the_same_shape_is_not_taken_for_the_first(tmp_path, recording):
    recording.niddl.save(tmp_path / "a.zarr", progress=False)
    one_plane = recording.copy(deep=True)
    one_plane[1, 0] = 0
    with pytest.raises(FileExistsError, match="recording differ"):
        one_plane.niddl.save(tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match="recording differ"):
        recording.assign_coords(x=recording.x * 2).niddl.save(tmp_path / "a.zarr")


def test_an_unfinished_store_says_so_and_is_finished_by_the_same_call(tmp_path, monkeypatch):
    movie, path = large(), tmp_path / "a.zarr"
    import niddl_xr.filling as filling

    original = filling.write_region

    def fail_at_third(folder, region, block):
        if region.index == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(folder, region, block)

    monkeypatch.setattr(filling, "write_region", fail_at_third)
    with pytest.raises(OSError, match="No space left"):
        movie.niddl.save(path, progress=False)
    monkeypatch.undo()
    with pytest.raises(NiddlError, match=r"a.zarr is unfinished: 2 of 9 regions are written"):
        open_store(path)
    before = chunk_files(path)
    written = []
    monkeypatch.setattr(filling, "write_region", lambda *a: (written.append(a[1].index), original(*a)))
    movie.niddl.save(path, progress=False)
    assert written == [2, 3, 4, 5, 6, 7, 8]
    assert {name: content for name, content in chunk_files(path).items() if name in before} == before | {
        name: b"\x01" for name in before if name.startswith("ledger")
    }
    movie.niddl.save(tmp_path / "b.zarr", progress=False)
    assert chunk_files(path) == chunk_files(tmp_path / "b.zarr")


def test_a_full_disk_names_the_region_and_loses_nothing(tmp_path, monkeypatch):
    movie, path = large(), tmp_path / "a.zarr"
    create_store(path, movie, movie.dtype, {"verb": "test"}, pyramid=False)
    first, second = all_regions(path)[:2]
    write_region(path, first, movie.values[first.start : first.stop])

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(
        OSError, match=r"region 1 of .*a.zarr could not be written \(No space left.*\); 1 regions are"
    ) as e:
        write_region(path, second, movie.values[second.start : second.stop])
    assert e.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [region.index for region in unfinished_regions(path, {"verb": "test"})] == list(range(1, 9))
    np.testing.assert_array_equal(zarr.open_array(path / "s0" / "F")[: first.stop], movie.values[: first.stop])


def test_a_block_that_is_not_a_shard_is_refused(tmp_path):
    movie, path = large(), tmp_path / "a.zarr"
    create_store(path, movie, movie.dtype, {}, pyramid=False)
    with pytest.raises(NiddlError, match="expected a block .* that starts on a shard"):
        write_region(path, Region(1, 3, 5), movie.values[3:5])
    with pytest.raises(NiddlError, match=r"got \(1, 2, 301, 530\) at frame 2"):
        write_region(path, Region(1, 2, 4), movie.values[2:3])


def test_what_exists_is_left_alone(tmp_path, recording):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="mine exists and is no recording of niddl_xr; choose another path"):
        recording.niddl.save(mine)
    with pytest.raises(FileExistsError, match="mine exists and is no recording of niddl_xr; it is not overwritten"):
        recording.niddl.save(mine, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "years of work"

    recording.niddl.save(tmp_path / "a.zarr", progress=False)
    before = chunk_files(tmp_path / "a.zarr")
    other = recording + np.uint16(1)
    with pytest.raises(FileExistsError, match=r"a.zarr exists and was made from something else \(recording differ\)"):
        other.niddl.save(tmp_path / "a.zarr", progress=False)
    with pytest.raises(FileExistsError, match=r"denoiser_sha256, .*recording.*, verb differ"):
        recording.astype("float32").niddl.denoise(nx.classical("median"), to=tmp_path / "a.zarr")
    assert chunk_files(tmp_path / "a.zarr") == before
    np.testing.assert_array_equal(
        other.niddl.save(tmp_path / "a.zarr", overwrite=True, progress=False).values, other.values
    )
    assert not (tmp_path / "a.zarr.part").exists()


def test_a_store_may_be_overwritten_with_itself_changed(tmp_path, recording):
    stored = recording.niddl.save(tmp_path / "a.zarr", progress=False)
    again = (stored + np.uint16(1)).niddl.save(tmp_path / "a.zarr", overwrite=True, progress=False)
    np.testing.assert_array_equal(again.values, recording.values + 1)


def test_a_folder_that_cannot_be_written_is_said(recording):
    with pytest.raises(OSError, match=r"the store .* cannot be made \(.*\); choose a folder that you may write to"):
        recording.niddl.save("/proc/a.zarr", progress=False)
