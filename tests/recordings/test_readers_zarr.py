"""Zarr: truth is what zarr and xarray wrote, with metadata as the OME-NGFF specifications give them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import xarray as xr
import zarr

import niddl_xr as nx
from niddl_xr.recordings.readers import _lazy, _zarr_source
from niddl_xr.recordings.readers import zarr as reader
from tests.recordings.samples import zarr as samples

T, Z, Y, X = 10, 3, 7, 11


def our_store(path, truth, done=None):
    """Write a store as decision 4.1 says: group s0 with F and its coordinates, OME metadata on the root."""
    root = zarr.create_group(path, zarr_format=3)
    axes = [{"name": "t", "type": "time", "unit": "second"}, *({"name": dim, "type": "space"} for dim in "zyx")]
    datasets = [{"path": "s0/F", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 1]}]}]
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    level = root.create_group("s0")
    level.create_array(
        "F", data=truth, chunks=(1, Z, Y, X), shards=(4, Z, Y, X), dimension_names=("t", "z", "y", "x")
    ).attrs["niddl_history"] = '[{"verb": "denoise"}]'
    for dim, values, units in (
        ("t", 2 + np.arange(T) * 0.5, "s"),
        ("z", np.arange(Z) * 1.5, "µm"),
        ("y", 4 + np.arange(Y) * 0.25, "µm"),
        ("x", np.arange(X), "pixel"),
    ):
        level.create_array(dim, data=values, dimension_names=(dim,)).attrs["units"] = units
    if done is not None:
        root.create_group("ledger").create_array("done", data=np.asarray(done, "uint8"))


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_our_store_comes_back(tmp_path, counts, lazily, pickled):
    truth = counts(T, Z, Y, X)
    truth[0] = 0  # the fill value is a value like any other
    our_store(tmp_path / "a.zarr", truth, done=[1, 1, 1])
    with lazily:
        recording = nx.open_recording(tmp_path / "a.zarr")
    assert recording.dtype == np.uint16
    np.testing.assert_array_equal(recording.values, truth)
    np.testing.assert_allclose(recording.t, 2 + np.arange(T) * 0.5)
    np.testing.assert_allclose(recording.y, 4 + np.arange(Y) * 0.25)
    assert [recording[dim].attrs["units"] for dim in "tzyx"] == ["s", "µm", "µm", "pixel"]
    assert recording.attrs == {"niddl_history": '[{"verb": "denoise"}]', "source": str(tmp_path / "a.zarr")}
    size, values = pickled(recording[5:7])
    np.testing.assert_array_equal(values, truth[5:7])
    assert size < 20_000
    overridden = nx.open_recording(tmp_path / "a.zarr", voxel_um=(None, 2, 3), dt_s=1)
    assert [float(overridden[dim][0]) for dim in "tzyx"] == [0, 0, 0, 0]
    assert [float(overridden[dim][1]) for dim in "tzyx"] == [1, 1.5, 2, 3]


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_blocks_are_whole_shards(tmp_path, counts, monkeypatch):
    our_store(tmp_path / "a.zarr", counts(T, Z, Y, X))
    assert nx.open_recording(tmp_path / "a.zarr").data.chunks[0] == (8, 2)
    monkeypatch.setattr(_lazy, "CHUNK_BYTES", 2 * Z * Y * X * 5)
    assert nx.open_recording(tmp_path / "a.zarr").data.chunks[0] == (4, 4, 2)
    assert nx.open_recording(tmp_path / "a.zarr", chunks=5).data.chunks[0] == (5, 5)


def test_an_unfinished_store_is_refused(tmp_path, counts):
    our_store(tmp_path / "a.zarr", counts(T, Z, Y, X), done=[1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(
        nx.NiddlError, match=r"a\.zarr is unfinished: 2 of 10 regions are written; make the call that began it"
    ):
        nx.open_recording(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, counts, version):
    truth = counts(T, 2, Z, Y, X)
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2 if version == "0.4" else 3)
    root.create_array("0", data=truth, chunks=(2, 1, Z, Y, X))
    root.create_array("1", data=truth[..., ::2, ::2], chunks=(2, 1, Z, Y, X))
    names = (("t", "millisecond"), ("c", None), ("z", "nanometer"), ("y", "micrometer"), ("x", "micrometer"))
    scale = {"type": "scale", "scale": [40, 1, 750, 0.5, 0.25]}
    metadata = {
        "multiscales": [
            {
                "version": version,
                "axes": [{"name": name, **({"unit": unit} if unit else {})} for name, unit in names],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [scale, {"type": "translation", "translation": [0, 0, 150, 2, 0]}],
                    },
                    {"path": "1", "coordinateTransformations": [scale]},
                ],
                "coordinateTransformations": [{"type": "scale", "scale": [10, 1, 2, 1, 1]}],
            }
        ],
        "omero": {"channels": [{"label": "GCaMP"}, {"label": "RFP"}]},
    }
    root.attrs.update(metadata if version == "0.4" else {"ome": {"version": version, **metadata}})
    with pytest.raises(nx.NiddlError, match=r"2 channels: 0 \(GCaMP\), 1 \(RFP\)"):
        nx.open_recording(tmp_path / "a.zarr")
    recording = nx.open_recording(tmp_path / "a.zarr", channel="RFP")
    np.testing.assert_array_equal(recording.values, truth[:, 1])
    np.testing.assert_allclose(recording.t, np.arange(T) * 0.4)
    np.testing.assert_allclose(recording.z, 0.3 + np.arange(Z) * 1.5)
    np.testing.assert_allclose(recording.y, 2 + np.arange(Y) * 0.5)
    np.testing.assert_allclose(recording.x, np.arange(X) * 0.25)


def test_five_dims_are_named_by_definition_in_the_first_versions_only(tmp_path, counts):
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    root.create_array("0", data=counts(T, 2, Z, Y, X))
    root.attrs["multiscales"] = [{"version": "0.4", "datasets": [{"path": "0"}]}]
    with pytest.raises(nx.NiddlError, match=r"shape \(10, 2, 3, 7, 11\) and does not state its axes: set axes="):
        nx.open_recording(tmp_path / "a.zarr", channel=0)


def test_a_size_below_zero_in_a_chunk(tmp_path, counts):
    compressor = {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2}}
    zarr.create_array(tmp_path / "a.zarr", data=counts(T, Y, X), chunks=(T, Y, X), compressors=[compressor])
    with pytest.warns(nx.MissingMetadataWarning):
        recording = nx.open_recording(tmp_path / "a.zarr", axes="tyx")
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[4:8] = (-64).to_bytes(4, "little", signed=True)  # how many bytes blosc unpacks
    chunk.write_bytes(data)
    with pytest.raises(nx.NiddlError, match=r"the zarr array .*a\.zarr could not be read"):
        recording.compute()


def test_codecs_within_shards_are_looked_at(tmp_path, counts, monkeypatch):
    zarr.create_array(tmp_path / "a.zarr", data=counts(T, Y, X), chunks=(1, Y, X), shards=(2, Y, X))
    monkeypatch.setattr(_zarr_source, "_CODECS", _zarr_source._CODECS - {"zstd"})
    with pytest.raises(nx.NiddlError, match=r"a\.zarr is encoded with zstd, which is not known to be safe"):
        nx.open_recording(tmp_path / "a.zarr", axes="tyx")


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@pytest.mark.parametrize("transformation", [{"type": "scale", "path": "elsewhere"}, {"type": "identity"}])
def test_a_scale_that_is_not_stated_is_not_one(tmp_path, counts, transformation):
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    root.create_array("0", data=counts(T, Y, X))
    units = (("t", "second"), ("y", "micrometer"), ("x", "micrometer"))
    axes = [{"name": name, "unit": unit} for name, unit in units]
    datasets = [{"path": "0", "coordinateTransformations": [transformation]}]
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    recording = nx.open_recording(tmp_path / "a.zarr")
    assert [recording[dim].attrs["units"] for dim in "tyx"] == ["frame", "pixel", "pixel"]


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@pytest.mark.parametrize("version", [2, 3])
def test_plain_arrays(tmp_path, counts, version):
    truth = counts(Y, X, T)
    zarr.create_array(tmp_path / "a.zarr", data=truth.astype(">u2"), chunks=(Y, X, 4), zarr_format=version)
    recording = nx.open_recording(tmp_path / "a.zarr", axes="yxt")
    assert recording.dtype == np.uint16
    assert recording.dtype.isnative
    np.testing.assert_array_equal(recording.values[:, 0], truth.transpose(2, 0, 1))
    with pytest.warns(nx.MissingMetadataWarning, match="set axes="):
        nx.open_recording(tmp_path / "a.zarr")
    with pytest.raises(nx.NiddlError, match="expected axes of 3 letters"):
        nx.open_recording(tmp_path / "a.zarr", axes="tzyx")
    zarr.create_array(tmp_path / "b", data=truth, chunks=(Y, X, 4), dimension_names=("y", "x", "time"))
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "b").values[:, 0], truth.transpose(2, 0, 1))


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@pytest.mark.parametrize("version", [2, 3])
def test_groups_of_xarray(tmp_path, counts, version):
    truth = counts(T, Z, Y, X)
    coords = {"time": ("time", np.arange(T) * 40.0, {"units": "ms"})}
    movie = xr.DataArray(truth, dims=("time", "z", "y", "x"), coords=coords, attrs={"gain": 2})
    group = xr.Dataset({"movie": movie, "mean": movie.mean("time").isel(z=0)})
    group.to_zarr(tmp_path / "a.zarr", zarr_format=version)
    recording = nx.open_recording(tmp_path / "a.zarr")
    assert recording.dtype == np.uint16
    np.testing.assert_array_equal(recording.values, truth)
    np.testing.assert_allclose(recording.t, np.arange(T) * 0.04)
    assert recording.attrs["gain"] == 2
    group.assign(other=movie + 1).to_zarr(tmp_path / "b.zarr", zarr_format=version)
    with pytest.raises(nx.NiddlError, match=r"found 2; choose one with variable=.*movie \(10, 3, 7, 11\)"):
        nx.open_recording(tmp_path / "b.zarr")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "b.zarr", variable="other").values, truth + 1)
    with pytest.raises(nx.NiddlError, match="has no array 'none'; its arrays: "):
        nx.open_recording(tmp_path / "b.zarr", variable="none")


def test_packed_values_are_refused(tmp_path, counts):
    movie = xr.DataArray(counts(T, Z, Y, X) / 4, dims=("t", "z", "y", "x"))
    encoding = {"movie": {"scale_factor": 0.25, "dtype": "int32"}}
    movie.to_dataset(name="movie").to_zarr(tmp_path / "a.zarr", encoding=encoding)
    with pytest.raises(nx.NiddlError, match=r"movie is packed with \['scale_factor'\]: decode it with xarray"):
        nx.open_recording(tmp_path / "a.zarr")


def test_damaged_stores(tmp_path, counts):
    our_store(tmp_path / "a.zarr", counts(T, Z, Y, X))
    with pytest.warns(nx.MissingMetadataWarning):
        recording = nx.open_recording(tmp_path / "a.zarr", chunks=1)
    shard = tmp_path / "a.zarr" / "s0" / "F" / "c" / "1" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:40] + bytes(20))
    recording[0].compute(scheduler="sync")
    with pytest.raises(nx.NiddlError, match=r"the zarr array .*s0/F could not be read"):
        recording[4].compute(scheduler="sync")
    root = tmp_path / "a.zarr" / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "gone"
    root.write_text(json.dumps(metadata))
    (tmp_path / "a.zarr" / "s0").rename(tmp_path / "a.zarr" / "s9")
    with pytest.raises(nx.NiddlError, match=r"OME metadata of .*a\.zarr name the array 'gone', which is not"):
        nx.open_recording(tmp_path / "a.zarr")
    root.write_text("{ this is no JSON")
    with pytest.raises(nx.NiddlError, match=r"a\.zarr is not a zarr store that can be read"):
        nx.open_recording(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("array", "text"),
    [(np.ones((T, Y, X), bool), "holds bool; expected integer"), (np.ones((0, Y, X)), r"is empty: its shape is \(0, ")],
)
def test_arrays_that_are_no_recording(tmp_path, array, text):
    zarr.create_array(tmp_path / "a.zarr", shape=array.shape, dtype=array.dtype, chunks=(1, Y, X))
    with pytest.raises(nx.NiddlError, match=text):
        nx.open_recording(tmp_path / "a.zarr", axes="tyx")


def test_what_save_writes_comes_back(tmp_path, recording):
    saved = nx.save(recording, tmp_path / "a.zarr")
    opened = nx.open_recording(tmp_path / "a.zarr")
    np.testing.assert_array_equal(opened.values, recording.values)
    for dim in recording.dims:
        np.testing.assert_allclose(opened[dim], recording[dim])
        assert opened[dim].attrs["units"] == recording[dim].attrs["units"]
    assert opened.attrs.get("niddl_history") == saved.attrs.get("niddl_history")


FRAMES, DEPTH, ROWS, COLUMNS = samples.T, samples.Z, samples.Y, samples.X
FIVE = samples.counts(FRAMES, 2, DEPTH, ROWS, COLUMNS)[:, 1]
STORED = {
    **dict.fromkeys(("ome_0.1", "ome_0.3", "ome_0.4", "ome_0.5", "zipped"), FIVE),
    "bioformats2raw": FIVE + 1,
    "sharded": samples.counts(FRAMES, DEPTH, ROWS, COLUMNS, dtype="float32"),
    "plain2": samples.counts(FRAMES, ROWS, COLUMNS)[:, None],
    "minian": samples.counts(FRAMES, ROWS, COLUMNS, dtype="uint8")[:, None],
}


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@pytest.mark.parametrize("name", samples.SAMPLES)
def test_every_layout(tmp_path, lazily, pickled, name):
    path, truth = samples.SAMPLES[name](tmp_path), STORED[name]
    with lazily:
        recording = nx.open_recording(path, chunks=4, **samples.OPTIONS.get(name, {}))
    assert recording.dtype == truth.dtype
    np.testing.assert_array_equal(recording.values, truth)
    size, values = pickled(recording[1:5, :, 2:, ::3])
    np.testing.assert_array_equal(values, truth[1:5, :, 2:, ::3])
    assert size < 20_000
    if name in ("ome_0.4", "ome_0.5", "zipped", "bioformats2raw"):
        assert [float(recording[dim][1]) for dim in "tzyx"] == pytest.approx([0.4, 1.5, 0.5, 0.25])
        assert recording.attrs["channels"] == ["GCaMP", "RFP"]
    if name == "minian":
        assert recording.t.values.tolist() == list(range(10, 10 + FRAMES))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_other_libraries_write(tmp_path, counts, version):
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    truth = counts(T, 2, Z, Y, X)
    write_image(
        truth,
        str(tmp_path / "a.zarr"),
        axes="tczyx",
        axes_units={"t": "second", **dict.fromkeys("zyx", "micrometer")},
        scale={"t": 0.5, "c": 1, "z": 2, "y": 0.4, "x": 0.2},
        scale_factors=[],
        fmt=FormatV04() if version == "0.4" else FormatV05(),
    )
    recording = nx.open_recording(tmp_path / "a.zarr", channel=1)
    np.testing.assert_array_equal(recording.values, truth[:, 1])
    assert [float(recording[dim][1]) for dim in "tzyx"] == pytest.approx([0.5, 2, 0.4, 0.2])


def test_what_ngff_zarr_writes(tmp_path, counts):
    import ngff_zarr

    truth = counts(T, Z, Y, X)
    sizes = {"t": 0.5, "z": 2.0, "y": 0.4, "x": 0.2}
    units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    image = ngff_zarr.to_ngff_image(truth, dims=list("tzyx"), scale=sizes, axes_units=units)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "a.zarr"), ngff_zarr.to_multiscales(image, scale_factors=[]), version="0.4")
    recording = nx.open_recording(tmp_path / "a.zarr")
    np.testing.assert_array_equal(recording.values, truth)
    assert [float(recording[dim][1]) for dim in "tzyx"] == pytest.approx([0.5, 2, 0.4, 0.2])


def test_images_of_a_collection_are_listed(tmp_path):
    path = samples.bioformats2raw(tmp_path)
    with pytest.raises(nx.NiddlError, match=r"expected one image in .*, found 2; choose one with series=: 0 \(0\), 1"):
        nx.open_recording(path, channel=0)
    np.testing.assert_array_equal(nx.open_recording(path, series="1", channel="RFP").values, FIVE + 1)
    root = zarr.open_group(path, mode="a")
    root["OME"].attrs["series"] = ["../outside"]
    with pytest.raises(nx.NiddlError, match=r"names '\.\./outside', which leads out of the store"):
        nx.open_recording(path, channel=0)


def test_a_plate_names_an_image(tmp_path):
    root = zarr.create_group(tmp_path / "plate.zarr", zarr_format=2)
    root.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/2"}], "version": "0.4"}
    well = root.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}], "version": "0.4"}
    samples.image(well.create_group("0"), samples.counts(FRAMES, DEPTH, ROWS, COLUMNS), "tzyx", "0.4")
    with pytest.raises(
        nx.NiddlError, match=r"is a plate of 2 wells: open an image of one, such as .*plate\.zarr/A/1/0"
    ):
        nx.open_recording(tmp_path / "plate.zarr")
    for path in ("A/1/0", "A/1"):
        recording = nx.open_recording(tmp_path / "plate.zarr" / path)
        np.testing.assert_array_equal(recording.values, samples.counts(FRAMES, DEPTH, ROWS, COLUMNS))


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_variables_of_minian(tmp_path):
    path = samples.minian(tmp_path)
    other = zarr.open_group(path / "varr.zarr", mode="r")["varr"]
    group = zarr.create_group(path / "Y_fm_chk.zarr", zarr_format=3)
    group.create_array("Y_fm_chk", data=other[0, 0] + 1, dimension_names=("frame", "height", "width"))
    with pytest.raises(
        nx.NiddlError, match=r"found 2; choose one with variable=: Y_fm_chk, varr\. Its stores: A, C, Y_f"
    ):
        nx.open_recording(path)
    recording = nx.open_recording(path, variable="Y_fm_chk")
    np.testing.assert_array_equal(recording.values, STORED["minian"] + 1)
    alone = nx.open_recording(path / "varr.zarr")
    np.testing.assert_array_equal(alone.values, STORED["minian"])


def forbidden(*_):
    raise AssertionError("unpickled")


class Bomb:
    def __reduce__(self):
        return forbidden, ()


@pytest.mark.parametrize("key", ["compressor", "filters"])
def test_codecs_that_run_code_are_refused(tmp_path, counts, key):
    zarr.create_array(tmp_path / "a.zarr", data=counts(T, Y, X), chunks=(1, Y, X), zarr_format=2, compressors=None)
    metadata = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    metadata[key] = {"id": "pickle", "protocol": 5} if key == "compressor" else [{"id": "pickle", "protocol": 5}]
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    for chunk in (tmp_path / "a.zarr").glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(nx.NiddlError, match=r"a\.zarr .*pickle"):  # zarr 3.1 refuses it before we do
        nx.open_recording(tmp_path / "a.zarr", axes="tyx")
    metadata[key] = {"id": "base64"} if key == "compressor" else [{"id": "base64"}]
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(nx.NiddlError, match=r"a\.zarr is encoded with base64, which is not known to be safe"):
        nx.open_recording(tmp_path / "a.zarr", axes="tyx")


def test_coordinates_that_run_code_are_refused(tmp_path, counts):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("movie", data=counts(T, Y, X)).attrs["_ARRAY_DIMENSIONS"] = ["t", "y", "x"]
    group.create_array("t", data=np.arange(T), chunks=(T,)).attrs.update({"_ARRAY_DIMENSIONS": ["t"], "units": "s"})
    metadata = json.loads((tmp_path / "a.zarr" / "t" / ".zarray").read_text())
    metadata |= {"filters": [{"id": "pickle", "protocol": 5}], "compressor": None}
    (tmp_path / "a.zarr" / "t" / ".zarray").write_text(json.dumps(metadata))
    (tmp_path / "a.zarr" / "t" / "0").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(nx.NiddlError, match="pickle"):
        nx.open_recording(tmp_path / "a.zarr")


def test_sizes_for_which_nothing_speaks(tmp_path, counts, monkeypatch):
    zarr.create_array(tmp_path / "a.zarr", data=counts(T, Y, X), chunks=(1, Y, X), zarr_format=2)
    metadata = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    metadata["shape"] = [10**9, Y, X]
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    for chunk in (tmp_path / "a.zarr").glob("0.*"):
        chunk.unlink()
    with pytest.raises(nx.NiddlError, match=r"states \(1000000000, 7, 11\) in 1000000000 chunks, but none of those"):
        nx.open_recording(tmp_path / "a.zarr", axes="tyx")
    metadata |= {"shape": [T, Y, X], "chunks": [10**9, Y, X]}
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(nx.NiddlError, match=r"states chunks of \(1000000000, 7, 11\), larger than zarr can write"):
        nx.open_recording(tmp_path / "a.zarr", axes="tyx")


def test_zip_files_without_a_store(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "no store")
    assert not reader.recognises_file(tmp_path / "a.zip", b"PK\x03\x04")
    path = samples.zipped(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(nx.NiddlError, match=r"ome\.zarr\.zip is not a zarr store that can be read"):
        nx.open_recording(path)
