"""OME-Zarr 0.4, read back with zarr and judged by ome-zarr-py, ngff-zarr and ome-zarr-models."""

import json
import os

import ngff_zarr
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ome_zarr_models import open_ome_zarr

import niddl_xr as nx
from niddl_xr.recordings.export import _blocks, export
from niddl_xr.schema import HISTORY, make_recording
from tests.recordings.export.conftest import movie_of, numbered

CHANNELS = ("GCaMP", "RFP")


@pytest.fixture
def large(tmp_path):
    """A folder of two channels of planes that have two smaller levels, one of odd edges."""
    movie = movie_of((4, 3, 307, 553))
    return movie, export({"GCaMP": movie, "RFP": movie // 2}, tmp_path / "a.ome.zarr", progress=False)


def test_pixels_come_back_to_the_bit_and_levels_are_means(large):
    movie, path = large
    levels = [zarr.open_array(path, path=str(level), mode="r") for level in range(3)]
    assert [level.shape for level in levels] == [(4, 2, 3, 307, 553), (4, 2, 3, 153, 276), (4, 2, 3, 76, 138)]
    np.testing.assert_array_equal(levels[0][:, 0], movie.values)
    np.testing.assert_array_equal(levels[0][:, 1], movie.values // 2)
    expected = movie.isel(y=slice(306), x=slice(552)).astype(float).coarsen(y=2, x=2).mean()
    np.testing.assert_array_equal(levels[1][:, 0], np.rint(expected.values))


def test_the_tools_of_ome_zarr_accept_it(large):
    _, path = large
    images = ngff_zarr.from_ngff_zarr(str(path), validate=True)
    assert images.images[0].scale == {"t": 0.25, "c": 1.0, "z": 1.5, "y": 0.4, "x": 0.3}
    assert images.images[1].translation == pytest.approx({"t": 0, "c": 0, "z": 0, "y": 0.2, "x": 0.15})
    units = {"t": "second", "c": None, "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    assert images.images[0].axes_units == units
    (node, *_) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(path)))()
    assert [level.shape for level in node.data] == [(4, 2, 3, 307, 553), (4, 2, 3, 153, 276), (4, 2, 3, 76, 138)]
    assert node.metadata["channel_names"] == list(CHANNELS)
    model = open_ome_zarr(zarr.open_group(str(path), mode="r"))
    assert model.attributes.multiscales[0].version == "0.4"


def test_it_is_zarr_2_with_a_file_a_plane_or_volume(large):
    _, path = large
    described = json.loads((path / "0" / ".zarray").read_text())
    assert (described["zarr_format"], described["dimension_separator"]) == (2, "/")
    assert described["chunks"] == [1, 1, 3, 307, 553]
    assert (path / "0" / "3" / "1" / "0" / "0" / "0").is_file()
    assert not list(path.rglob("zarr.json"))


def test_large_volumes_are_cut_into_planes(tmp_path):
    movie = movie_of((2, 7, 300, 301))
    path = export(movie, tmp_path / "a.ome.zarr", progress=False, pyramid=False)
    assert zarr.open_array(path, path="0", mode="r").chunks == (1, 1, 1, 300, 301)
    assert sorted(os.listdir(path)) == [".zattrs", ".zgroup", "0"]


def test_channels_have_names_colours_and_a_window_from_their_pixels(tmp_path):
    values = np.full((3, 1, 50, 70), 500, "uint16")
    values[:, :, :25] = 700
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    one = zarr.open_group(export(movie, tmp_path / "a.ome.zarr", progress=False), mode="r").attrs["omero"]
    (shown,) = one["channels"]
    assert shown["window"] == {"min": 0, "max": 65535, "start": 500, "end": 700}
    assert (shown["color"], one["rdefs"]["model"]) == ("FFFFFF", "greyscale")
    two = zarr.open_group(export({"G": movie, "R": movie + 9}, tmp_path / "b.ome.zarr", progress=False), mode="r")
    shown = two.attrs["omero"]["channels"]
    assert [(item["label"], item["color"]) for item in shown] == [("G", "00FF00"), ("R", "FF00FF")]
    assert shown[1]["window"]["start"] == 509


def test_origins_are_kept(tmp_path, movie):
    path = export(movie[2:, 1:, 4:, 8:], tmp_path / "a.ome.zarr", progress=False)
    images = ngff_zarr.from_ngff_zarr(str(path), validate=True)
    expected = {"t": 0.5, "c": 0.0, "z": 1.5, "y": 1.6, "x": 2.4}
    assert images.images[0].translation == pytest.approx(expected)
    reopened = nx.open_recording(path)
    for dim in "tzyx":
        np.testing.assert_allclose(reopened[dim], movie[2:, 1:, 4:, 8:][dim], rtol=1e-12)


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_indices_have_no_units(tmp_path):
    path = export(make_recording(numbered(4, 3, 5, 7)), tmp_path / "a.ome.zarr", progress=False)
    (image,) = zarr.open_group(path, mode="r").attrs["multiscales"]
    assert all("unit" not in axis for axis in image["axes"])
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0] * 5


def test_uneven_times_are_said_and_kept(tmp_path, movie):
    times = [0.5, 0.75, 1.5, 2.0, 7.125]
    uneven = movie.assign_coords(t=("t", times, {"units": "s"}))
    with pytest.warns(UserWarning, match="that of t is the median size of the steps"):
        path = export(uneven, tmp_path / "a.ome.zarr", progress=False)
    attributes = zarr.open_group(path, mode="r").attrs
    assert attributes["niddl_xr"]["coordinates"] == {"t": times}
    assert attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 0.625


def test_falling_coordinates_keep_their_voxel_size(tmp_path, movie):
    with pytest.warns(UserWarning, match="that of y is the median size"):
        path = export(movie.isel(y=slice(None, None, -1)), tmp_path / "a.ome.zarr", progress=False)
    attributes = zarr.open_group(path, mode="r").attrs
    scale, shift = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert (scale["scale"][-2:], shift["translation"][-2:]) == ([0.4, 0.3], [0, 0])
    np.testing.assert_allclose(attributes["niddl_xr"]["coordinates"]["y"], movie.y[::-1])


def test_the_metadata_are_json_for_every_reader(tmp_path, movie):
    odd = movie.assign_attrs(gain_counts_per_photon=float("nan"), exposure_s=np.inf)
    path = export(odd, tmp_path / "a.ome.zarr", progress=False)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    stored = json.loads((path / ".zattrs").read_text(), parse_constant=refuse)["niddl_xr"]["attributes"]["0"]
    assert (stored["gain_counts_per_photon"], stored["exposure_s"]) == ("NaN", "Infinity")


def test_attributes_and_history_are_kept(tmp_path, movie):
    path = export({"GCaMP": movie}, tmp_path / "a.ome.zarr", progress=False)
    kept = zarr.open_group(path, mode="r").attrs["niddl_xr"]["attributes"]["GCaMP"]
    assert kept["indicator"] == "GCaMP6s"
    assert json.loads(kept[HISTORY])[0]["verb"] == "open_recording"
    assert zarr.open_group(path, mode="r").attrs["multiscales"][0]["name"] == "worm7.nd2"


def test_nan_are_kept_and_another_dtype_is_written(tmp_path):
    values = numbered(2, 3, 5, 7, dtype="float32")
    values[1, 2, 3, 4] = np.nan
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    path = export(movie, tmp_path / "a.ome.zarr", progress=False)
    np.testing.assert_array_equal(zarr.open_array(path, path="0", mode="r")[:, 0], values)
    with pytest.warns(UserWarning, match="clipped to it; 1 pixels are NaN"):
        path = export(movie, tmp_path / "b.ome.zarr", dtype="uint8", progress=False)
    assert zarr.open_array(path, path="0", mode="r").dtype == "uint8"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*(st.integers(1, 5) for _ in range(4))),
    dtype=st.sampled_from(["uint8", "int16", "uint64", "float32", "float64"]),
    chunk=st.integers(1, 5),
    channels=st.integers(1, 3),
)
def test_any_shape_and_chunking_gives_the_same_pixels(tmp_path, monkeypatch, shape, dtype, chunk, channels):
    monkeypatch.setattr(_blocks, "REGION_BYTES", 64)
    movies = {f"c{number}": (movie_of(shape, dtype, chunk) + number).astype(dtype) for number in range(channels)}
    path = export(movies, tmp_path / "a.ome.zarr", overwrite=True, progress=False)
    read = zarr.open_array(path, path="0", mode="r")[:]
    assert read.dtype == dtype
    for number, item in enumerate(movies.values()):
        np.testing.assert_array_equal(read[:, number], item.values)
