"""OME-TIFF and ImageJ's TIFF, read back with tifffile, Pillow and ome-types, and by the schema of OME."""

import json
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import ome_types
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import niddl_xr as nx
from niddl_xr.recordings.export import _blocks, _tiff, export, imagej
from niddl_xr.schema import HISTORY, make_recording
from tests.recordings.export.conftest import movie_of, numbered

BOTH = [".ome.tif", ".tif"]
COMPRESSIONS = ["none", "zlib", "zstd", "lzw"]
OME_DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def ome_of(path: Path) -> ome_types.OME:
    with tifffile.TiffFile(path) as tif:
        assert tif.ome_metadata is not None
        return ome_types.from_xml(tif.ome_metadata)


def descriptions(path: Path) -> list[str]:
    """All ImageDescription tags (270) of the first page of a little-endian classic TIFF, in the file's order."""
    raw = path.read_bytes()
    assert raw[:4] == b"II*\0"
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    found = []
    for entry in range(count):
        tag, kind, length, offset = struct.unpack_from("<HHII", raw, start + 2 + 12 * entry)
        if tag == 270:
            assert kind == 2
            found.append(raw[offset : offset + length].rstrip(b"\0").decode("ascii"))
    return found


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("suffix", BOTH)
def test_pixels_come_back_to_the_bit(tmp_path, movie, suffix, compression):
    made = export(movie, tmp_path / f"a{suffix}", compression=compression, progress=False)
    np.testing.assert_array_equal(tifffile.imread(made), movie.values)
    with tifffile.TiffFile(made) as tif:
        assert len(tif.pages) == 15
        assert tif.pages[0].compression.name.lower() in (compression, "adobe_deflate")
        assert tif.series[0].axes == "TZYX"


@pytest.mark.parametrize("dtype", OME_DTYPES)
@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_every_dtype_of_ome(tmp_path, dtype, compression):
    movie = movie_of((2, 3, 5, 7), dtype)
    made = export(movie, tmp_path / "a.ome.tif", compression=compression, progress=False)
    read = tifffile.imread(made)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, movie.values)
    expected = {"float32": "float", "float64": "double"}.get(dtype, dtype)
    assert ome_of(made).images[0].pixels.type.value == expected


def test_nan_and_another_byte_order(tmp_path):
    values = numbered(2, 3, 5, 7, dtype="float32").astype(">f4")
    values[1, 2, 3, 4] = np.nan
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    for suffix in BOTH:
        np.testing.assert_array_equal(tifffile.imread(export(movie, tmp_path / f"a{suffix}", progress=False)), values)


@pytest.mark.parametrize("suffix", BOTH)
def test_pillow_reads_the_planes_in_their_order(tmp_path, movie, suffix):
    made = export(movie, tmp_path / f"a{suffix}", progress=False)
    with Image.open(made) as image:
        assert image.n_frames == 15
        for page, (t, z) in ((0, (0, 0)), (1, (0, 1)), (14, (4, 2))):
            image.seek(page)
            np.testing.assert_array_equal(np.asarray(image), movie.values[t, z])


@pytest.mark.parametrize("suffix", BOTH)
def test_channels_run_fastest(tmp_path, movie, suffix):
    channels = {"GCaMP": movie, "RFP": movie + 1}
    made = export(channels, tmp_path / f"a{suffix}", progress=False)
    with tifffile.TiffFile(made) as tif:
        assert tif.series[0].axes == "TZCYX"
        read = tif.series[0].asarray()
        np.testing.assert_array_equal(tif.pages[3].asarray(), channels["RFP"].values[0, 1])
    for number, channel in enumerate(channels.values()):
        np.testing.assert_array_equal(read[:, :, number], channel.values)


def test_a_dataset_of_channels_is_one_file(tmp_path, movie):
    made = export(xr.Dataset({"green": movie, "red": movie + 1}), tmp_path / "a.ome.tif", progress=False)
    assert [channel.name for channel in ome_of(made).images[0].pixels.channels] == ["green", "red"]


def test_ome_states_what_the_recording_states(tmp_path, movie):
    made = export({"GCaMP": movie, "RFP": movie.assign_attrs(emission_nm=605)}, tmp_path / "a.ome.tif", progress=False)
    ome = ome_of(made)
    image, pixels = ome.images[0], ome.images[0].pixels
    assert (pixels.size_x, pixels.size_y, pixels.size_z, pixels.size_c, pixels.size_t) == (53, 37, 3, 2, 5)
    assert (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z) == (0.3, 0.4, 1.5)
    assert pixels.physical_size_x_unit.value == "µm"
    assert pixels.time_increment == 0.25
    assert pixels.time_increment_unit.value == "s"
    assert (pixels.dimension_order.value, pixels.significant_bits) == ("XYCZT", 16)
    assert [(c.name, c.emission_wavelength, c.fluor) for c in pixels.channels] == [
        ("GCaMP", 510, "GCaMP6s"),
        ("RFP", 605, "GCaMP6s"),
    ]
    assert image.name == "worm7.nd2"
    assert image.description == "a worm\nof 2 lines"
    assert image.acquisition_date is not None
    assert image.acquisition_date.isoformat() == "2024-05-01T10:00:00+02:00"
    instrument = ome.instruments[0]
    assert instrument.microscope is not None
    assert instrument.microscope.model == "Ti2"
    assert instrument.detectors[0].model == "Flash 4"
    objective = instrument.objectives[0]
    assert (objective.model, objective.lens_na, objective.nominal_magnification) == ("Plan Apo 40x µ <&>", 1.25, 40)
    entries = {entry.k: entry.value for entry in ome.structured_annotations.map_annotations[0].value.ms}
    assert json.loads(entries[HISTORY])[0]["verb"] == "open_recording"
    assert entries["emission_nm"] == "510.0"


def test_the_order_of_elements_is_that_of_the_schema(tmp_path, movie):
    """The schema is a sequence: parsers that validate refuse another order (ome.xsd, 2016-06)."""
    made = export(movie[2:, :, 4:], tmp_path / "a.ome.tif", progress=False)
    with tifffile.TiffFile(made) as tif:
        root = ElementTree.fromstring(tif.ome_metadata or "")
    order = [[child.tag.split("}")[1] for child in parent] for parent in (root, *root.iterfind(".//{*}Image"))]
    assert order[0] == ["Instrument", "Image", "StructuredAnnotations"]
    assert order[1] == [
        *("AcquisitionDate", "Description", "InstrumentRef", "ObjectiveSettings", "Pixels", "AnnotationRef"),
    ]
    (pixels,) = root.iterfind(".//{*}Pixels")
    assert [child.tag.split("}")[1] for child in pixels] == ["Channel", "TiffData", "Plane", "Plane", "Plane"]
    (instrument,) = root.iterfind(".//{*}Instrument")
    assert [child.tag.split("}")[1] for child in instrument] == ["Microscope", "Detector", "Objective"]


def test_uneven_times_and_an_origin_are_stated_plane_by_plane(tmp_path, movie):
    times = [0.5, 0.75, 1.5, 2.0, 7.125]
    moved = movie.assign_coords(t=("t", times, {"units": "s"}), y=movie.y + 12.5)
    pixels = ome_of(export(moved, tmp_path / "a.ome.tif", progress=False)).images[0].pixels
    assert pixels.time_increment is None
    assert [(p.the_t, p.the_z, p.the_c, p.delta_t) for p in pixels.planes] == [
        (i, 0, 0, t) for i, t in enumerate(times)
    ]
    assert {(p.position_y, p.position_x) for p in pixels.planes} == {(12.5, None)}
    assert pixels.planes[0].position_y_unit.value == "µm"
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.ome.tif").t.values, times)


def test_a_crop_in_time_keeps_its_times(tmp_path, movie):
    pixels = ome_of(export(movie[2:], tmp_path / "a.ome.tif", progress=False)).images[0].pixels
    assert pixels.time_increment == 0.25
    assert [plane.delta_t for plane in pixels.planes] == [0.5, 0.75, 1.0]


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@pytest.mark.parametrize("suffix", BOTH)
def test_indices_are_written_without_units(tmp_path, suffix):
    bare = make_recording(numbered(4, 3, 5, 7))
    made = export(bare, tmp_path / f"a{suffix}", progress=False)
    with tifffile.TiffFile(made) as tif:
        stated = tif.imagej_metadata or {}
        assert not {"unit", "spacing", "finterval"} & set(stated)
        if suffix == ".ome.tif":
            pixels = ome_types.from_xml(tif.ome_metadata or "").images[0].pixels
            assert pixels.physical_size_x is pixels.physical_size_z is pixels.time_increment is None
            assert pixels.planes == []
    reopened = nx.open_recording(made)
    assert {dim: reopened[dim].attrs["units"] for dim in "tzyx"} == dict(t="frame", z="pixel", y="pixel", x="pixel")


@pytest.mark.parametrize("suffix", BOTH)
def test_imagej_finds_its_own_description_last(tmp_path, movie, suffix):
    """ImageJ keeps the last description that it meets, Bio-Formats and libtiff the first."""
    made = export({"GCaMP": movie, "RFP": movie}, tmp_path / f"a{suffix}", progress=False)
    if suffix == ".tif":
        with tifffile.TiffFile(made) as tif:
            text = tif.pages[0].description
    else:
        first, text = descriptions(made)
        assert first.startswith("<?xml")
        assert first.endswith("</OME>")
        ElementTree.fromstring(first)
    lines = dict(line.split("=") for line in text.rstrip("\0").splitlines())
    expected = {
        **{"images": "30", "channels": "2", "slices": "3", "frames": "5", "hyperstack": "true", "mode": "composite"},
        **{"unit": "micron", "spacing": "1.5", "finterval": "0.25", "tunit": "sec"},
    }
    assert text.startswith("ImageJ=")
    assert expected.items() <= lines.items()
    with tifffile.TiffFile(made) as tif:
        tags = tif.pages[0].tags
        assert [up / down for up, down in (tags["XResolution"].value, tags["YResolution"].value)] == pytest.approx(
            [1 / 0.3, 1 / 0.4]
        )
        assert tags["ResolutionUnit"].value == 1  # none: the description names it


def test_planes_lie_one_after_the_other_as_imagej_expects_of_several_images(tmp_path, movie):
    made = export(movie, tmp_path / "a.ome.tif", progress=False)
    with tifffile.TiffFile(made) as tif:
        starts = [page.dataoffsets[0] for page in tif.pages]
    assert set(np.diff(starts)) == {37 * 53 * 2}


@pytest.mark.parametrize("suffix", BOTH)
def test_fields_moved_by_a_crop_have_their_origin_in_imagej(tmp_path, movie, suffix):
    made = export(movie[:, 1:, 4:, 8:], tmp_path / f"a{suffix}", progress=False)
    with tifffile.TiffFile(made) as tif:
        stated = tif.imagej_metadata
    # The pixel at which the coordinate is zero.
    assert [stated[f"{dim}origin"] for dim in "zyx"] == pytest.approx([-1, -4, -8])


def test_uneven_times_are_labels_in_imagej(tmp_path, movie):
    uneven = movie.assign_coords(t=("t", [0.5, 0.75, 1.5, 2.0, 7.125], {"units": "s"}))
    with pytest.warns(UserWarning, match="uneven frame times are in the labels"):
        made = export({"G": uneven, "R": uneven}, tmp_path / "a.tif", progress=False)
    with tifffile.TiffFile(made) as tif:
        stated = tif.imagej_metadata
    assert "finterval" not in stated
    assert stated["Labels"][0] == "G t = 0.5 s"
    assert stated["Labels"][-1] == "R t = 7.125 s"
    assert len(stated["Labels"]) == 30


def test_the_history_is_in_the_info_of_imagej(tmp_path, movie):
    with tifffile.TiffFile(export(movie, tmp_path / "a.tif", progress=False)) as tif:
        info = tif.imagej_metadata["Info"]
    (line,) = [line for line in info.splitlines() if line.startswith(HISTORY)]
    assert json.loads(line.split(" = ", 1)[1])[0]["verb"] == "open_recording"
    assert "description = a worm of 2 lines" in info


def test_the_window_is_that_of_the_pixels(tmp_path):
    values = np.full((3, 1, 50, 70), 500, "uint16")
    values[:, :, :25] = 700
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    with tifffile.TiffFile(export(movie, tmp_path / "a.tif", progress=False)) as tif:
        assert (tif.imagej_metadata["min"], tif.imagej_metadata["max"]) == (500, 700)


def test_what_is_too_large_for_a_classic_tiff(tmp_path, movie, monkeypatch):
    monkeypatch.setattr(_tiff, "LARGEST_CLASSIC_BYTES", movie.nbytes)
    big = export(movie, tmp_path / "a.ome.tif", progress=False)
    with tifffile.TiffFile(big) as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
    large = export(movie, tmp_path / "a.tif", progress=False)
    with tifffile.TiffFile(large) as tif:
        assert not tif.is_bigtiff
        assert len(tif.pages) == 1  # one header, all planes behind it, as ImageJ has it
        assert tif.imagej_metadata["images"] == 15
    for made in (big, large):
        np.testing.assert_array_equal(tifffile.imread(made), movie.values)
    with pytest.raises(nx.NiddlError, match="more than 4 GB cannot be compressed"):
        export(movie, tmp_path / "b.tif", compression="zlib")


def test_unknown_compression_is_an_error(tmp_path, movie):
    with pytest.raises(nx.NiddlError, match="expected compression as one of none, zlib, zstd, lzw, got 'jpeg'"):
        export(movie, tmp_path / "a.tif", compression="jpeg")


def test_characters_that_xml_has_not_are_replaced(tmp_path, movie):
    odd = movie.assign_attrs(description="a\x00b\x1bc", objective="\ud800", indicator="<&'\">")
    ome = ome_of(export(odd, tmp_path / "a.ome.tif", progress=False))
    assert ome.images[0].description == "a\ufffdb\ufffdc"
    assert ome.images[0].pixels.channels[0].fluor == "<&'\">"


def test_what_ome_has_no_type_for_is_left_to_the_annotation(tmp_path, movie):
    odd = movie.assign_attrs(magnification="forty", numerical_aperture=np.nan, bit_depth=40, acquired="yesterday")
    ome = ome_of(export(odd, tmp_path / "a.ome.tif", progress=False))
    assert ome.images[0].acquisition_date is None
    assert ome.images[0].pixels.significant_bits is None
    assert ome.instruments[0].objectives[0].nominal_magnification is None
    entries = {entry.k: entry.value for entry in ome.structured_annotations.map_annotations[0].value.ms}
    assert (entries["acquired"], entries["magnification"]) == ("yesterday", "forty")


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*(st.integers(1, 5) for _ in range(4))),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    chunk=st.integers(1, 5),
    channels=st.integers(1, 3),
    suffix=st.sampled_from(BOTH),
    compression=st.sampled_from(COMPRESSIONS),
)
def test_any_shape_and_chunking_gives_the_same_pixels(
    tmp_path, monkeypatch, shape, dtype, chunk, channels, suffix, compression
):
    monkeypatch.setattr(_blocks, "REGION_BYTES", 64)
    movies = {f"c{number}": movie_of(shape, dtype, chunk) + number for number in range(channels)}
    movies = {name: item.astype(dtype) for name, item in movies.items()}
    path = tmp_path / f"a{suffix}"
    export(movies, path, compression=compression, overwrite=True, progress=False)
    read = tifffile.imread(path).reshape(*shape[:2], channels, *shape[2:])
    for number, item in enumerate(movies.values()):
        np.testing.assert_array_equal(read[:, :, number], item.values)
    reopened = nx.open_recording(path, channel=channels - 1 if channels > 1 else None)
    np.testing.assert_array_equal(reopened.values, movies[f"c{channels - 1}"].values)
    for dim in "tzyx":
        # ImageJ has no voxel size where one of x and y is not known, as of a single row.
        if reopened.sizes[dim] > 1 and (suffix == ".ome.tif" or dim == "t" or min(shape[2:]) > 1):
            np.testing.assert_allclose(reopened[dim], movies["c0"][dim], rtol=1e-6)


def test_the_name_of_the_image(tmp_path, movie):
    assert ome_of(export(movie, tmp_path / "a.ome.tif", image_name="worm", progress=False)).images[0].name == "worm"
    assert re.match(r"^[\x00-\x7f]+$", descriptions(tmp_path / "a.ome.tif")[0])


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
@pytest.mark.parametrize("suffix", BOTH)
def test_a_real_hyperstack_goes_round(tmp_path, realdata, suffix):
    """What ImageJ wrote is the truth, read by tifffile; only small files, to be quick."""
    files = sorted((realdata / "format_imagej_hyperstacks").rglob("*.tif"))
    done = 0
    for file in (file for file in files if file.stat().st_size < 2e6):
        with tifffile.TiffFile(file) as tif:
            axes, dtype = tif.series[0].axes, tif.series[0].dtype
            values, truth = tif.series[0].asarray(), tif.imagej_metadata or {}
        if not set(axes) <= set("TZYX") or dtype.name not in ("uint8", "uint16", "float32"):
            continue
        recording = nx.open_recording(file)
        made = export(recording, tmp_path / f"{done}{suffix}", progress=False)
        with tifffile.TiffFile(made) as tif:
            np.testing.assert_array_equal(tif.series[0].asarray().squeeze(), values.squeeze())
            stated = tif.imagej_metadata or {}
        if recording.z.attrs["units"] == "µm" and recording.sizes["z"] > 1:
            assert stated["spacing"] == pytest.approx(truth["spacing"])
        done += 1
    assert done > 0


@pytest.mark.parametrize("suffix", BOTH)
def test_a_flipped_recording_keeps_its_pixel_size_and_an_uneven_one_is_said(tmp_path, movie, suffix):
    with pytest.warns(UserWarning, match="the pixel size is written along the falling y, but not the place"):
        path = export(movie.isel(y=slice(None, None, -1)), tmp_path / f"a{suffix}", progress=False)
    with tifffile.TiffFile(path) as tif:
        found = [num / den for num, den in (tif.pages[0].tags[f"{axis}Resolution"].value for axis in "XY")]
    np.testing.assert_allclose(found, [1 / 0.3, 1 / 0.4], rtol=1e-6)
    np.testing.assert_array_equal(tifffile.imread(path), movie.values[:, :, ::-1])
    uneven = movie.assign_coords(z=("z", [0.0, 1, 5], {"units": "µm"}))
    with pytest.warns(UserWarning, match="no pixel size is written along the uneven z"):
        export(uneven, tmp_path / f"b{suffix}", progress=False)


def test_labels_that_are_left_out_are_not_promised(tmp_path, movie, monkeypatch):
    monkeypatch.setattr(imagej, "_MOST_LABELS", 14)
    uneven = movie.assign_coords(t=("t", [0, 0.1, 0.5, 0.6, 2], {"units": "s"}))
    with pytest.warns(UserWarning, match="uneven frame times are lost, because 14 slices at most have labels"):
        export(uneven, tmp_path / "a.tif", progress=False)
