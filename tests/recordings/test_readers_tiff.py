"""TIFF: truth is what tifffile was told to write, and what tifffile reads back."""

from __future__ import annotations

import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr.recordings.readers import tiff

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
T, Z, C, Y, X = 5, 3, 2, 7, 11


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "packbits", "zlib"])
def test_plain_pages_are_frames(tmp_path, counts, dtype, byteorder, compression):
    truth = counts(T, Y, X, dtype=dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", truth, byteorder=byteorder, compression=compression, metadata=None, photometric="minisblack"
    )
    recording = nx.open_recording(tmp_path / "a.tif", chunks=2)
    assert recording.dims == ("t", "z", "y", "x")
    assert recording.dtype == np.dtype(dtype)
    assert recording.dtype.isnative
    assert recording.data.chunks[0] == (2, 2, 1)
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    assert recording.values.dtype.isnative
    np.testing.assert_array_equal(recording[::-2, 0, 5:1:-1, [7, 2]].values, truth[::-2, 5:1:-1][..., [7, 2]])


def test_big_tiff_and_pages_one_by_one(tmp_path, counts):
    truth = counts(T, Y, X)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as writer:
        for frame in truth:
            writer.write(frame, metadata=None, contiguous=False)
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values[:, 0], truth)


@pytest.mark.parametrize(
    ("unit", "um"),
    [("micron", 1), ("µm", 1), ("um", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3), ("pixel", None), ("cm", None)],
)
def test_imagej_units(tmp_path, counts, unit, um):
    truth = counts(T, Z, C, Y, X)
    metadata = {"axes": "TZCYX", "spacing": 1.5, "finterval": 0.25, "unit": unit.replace("µ", "u")}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, truth, imagej=True, resolution=(4, 2), metadata=metadata)
    if "µ" in unit:  # as ImageJ writes it; tifffile writes ASCII only
        path.write_bytes(path.read_bytes().replace(b"unit=um", b"unit=\xb5m"))
    recording = nx.open_recording(tmp_path / "a.tif", channel=1)
    np.testing.assert_array_equal(recording.values, truth[:, :, 1])
    np.testing.assert_allclose(recording.t, np.arange(T) * 0.25)
    assert recording.t.attrs["units"] == "s"
    for dim, size in {"z": 1.5, "y": 0.5, "x": 0.25}.items():
        assert recording[dim].attrs["units"] == ("pixel" if um is None else "µm")
        np.testing.assert_allclose(recording[dim], np.arange(recording.sizes[dim]) * (size * um if um else 1))
    assert recording.attrs == {"source": str(tmp_path / "a.tif"), "channel": 1}


def test_imagej_of_one_page_header_as_above_4_gb(tmp_path, counts):
    truth = counts(T, Z, Y, X)
    first = tifffile.imwrite(tmp_path / "whole.tif", truth, imagej=True, metadata={"axes": "TZYX"}, returnoffset=True)
    assert first is not None
    whole = (tmp_path / "whole.tif").read_bytes()
    # Keep the header and the data, cut the headers of the further pages, and end the list after the first.
    with tifffile.TiffFile(tmp_path / "whole.tif") as tif:
        page = tif.pages.first
        after = page.offset + 2 + 12 * len(page.tags)
    cut = bytearray(whole[: first[0] + truth.nbytes])
    cut[after : after + 4] = struct.pack(">I", 0)
    (tmp_path / "a.tif").write_bytes(cut)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values, truth)
    (tmp_path / "a.tif").write_bytes(cut[:-200])
    with pytest.raises(nx.NiddlError, match=r"the 15 planes of .*a\.tif end at byte \d+, but the file has"):
        nx.open_recording(tmp_path / "a.tif")


def test_ome_units_order_and_channel_names(tmp_path, counts):
    truth = counts(Z, T, C, Y, X)
    metadata = {
        "axes": "ZTCYX",
        **{"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.0005, "PhysicalSizeYUnit": "mm"},
        **{"PhysicalSizeZ": 1.5, "TimeIncrement": 40, "TimeIncrementUnit": "ms"},
        "Channel": {"Name": ["GCaMP", "RFP"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", truth, ome=True, metadata=metadata, compression="zlib")
    with pytest.raises(nx.NiddlError, match=r"has 2 channels: 0 \(GCaMP\), 1 \(RFP\); choose one with channel="):
        nx.open_recording(tmp_path / "a.ome.tif")
    with pytest.raises(nx.NiddlError, match=r"no channel 'CFP'; choose one of 0 \(GCaMP\)"):
        nx.open_recording(tmp_path / "a.ome.tif", channel="CFP")
    with pytest.raises(nx.NiddlError, match="no channel -1"):
        nx.open_recording(tmp_path / "a.ome.tif", channel=-1)
    recording = nx.open_recording(tmp_path / "a.ome.tif", channel="RFP", chunks={"t": 2, "z": 1})
    np.testing.assert_array_equal(recording.values, truth[:, :, 1].transpose(1, 0, 2, 3))
    assert recording.attrs["channel"] == "RFP"
    np.testing.assert_allclose(recording.t, np.arange(T) * 0.04)
    np.testing.assert_allclose(recording.z, np.arange(Z) * 1.5)
    np.testing.assert_allclose(recording.y, np.arange(Y) * 0.5)
    np.testing.assert_allclose(recording.x, np.arange(X) * 0.25)


def test_ome_times_of_planes(tmp_path, counts):
    times = [0.0, 0.4, 1.1, 1.2, 2.0]
    metadata = {"axes": "TYX", "Plane": {"DeltaT": [1000 * time for time in times], "DeltaTUnit": ["ms"] * T}}
    tifffile.imwrite(tmp_path / "a.ome.tif", counts(T, Y, X), metadata=metadata)
    np.testing.assert_allclose(nx.open_recording(tmp_path / "a.ome.tif").t, times)


def test_ome_of_several_files(tmp_path, counts):
    truth = counts(T, Y, X)
    identifiers = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(2)]
    planes = "".join(
        f'<TiffData FirstT="{frame}" FirstC="0" FirstZ="0" IFD="{frame // 2}" PlaneCount="1">'
        f'<UUID FileName="part{frame % 2}.ome.tif">{identifiers[frame % 2]}</UUID></TiffData>'
        for frame in range(T)
    )
    for part in range(2):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{identifiers[part]}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{X}" SizeY="{Y}" '
            f'SizeZ="1" SizeC="1" SizeT="{T}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f"{planes}</Pixels></Image></OME>"
        )
        with tifffile.TiffWriter(tmp_path / f"part{part}.ome.tif", ome=False) as writer:
            for number, frame in enumerate(truth[part::2]):
                writer.write(frame, description=xml if number == 0 else None, metadata=None, contiguous=False)
    assert tifffile.imread(tmp_path / "part0.ome.tif").shape == truth.shape
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "part0.ome.tif", chunks=3).values[:, 0], truth)


def test_arguments_override_the_file(tmp_path, counts):
    metadata = {"axes": "TZYX", "spacing": 1.5, "finterval": 0.25, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", counts(T, Z, Y, X), imagej=True, resolution=(4, 2), metadata=metadata)
    recording = nx.open_recording(tmp_path / "a.tif", voxel_um=(None, 9, None), dt_s=3)
    assert [float(recording[dim][1]) for dim in "tzyx"] == [3, 1.5, 9, 0.25]


def test_missing_metadata_gives_one_warning_that_names_the_arguments(tmp_path, counts):
    tifffile.imwrite(tmp_path / "a.tif", counts(T, Y, X), metadata=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recording = nx.open_recording(tmp_path / "a.tif")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "voxel_um=" in str(caught[0].message)
    assert "dt_s=" in str(caught[0].message)
    assert recording.t.attrs["units"] == "frame"
    assert recording.x.attrs["units"] == "pixel"


@pytest.mark.parametrize(
    ("axes", "sizes", "order"),
    [
        ("zyx", None, None),
        ("tzyx", {"z": 3}, (5, 3)),
        ("ztyx", {"z": 3}, (3, 5)),
        ("TZYX", {"t": 5}, (5, 3)),
    ],
)
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_axes_of_plain_pages(tmp_path, counts, axes, sizes, order, compression):
    pages = counts(15, Y, X)
    tifffile.imwrite(tmp_path / "a.tif", pages, metadata=None, compression=compression, photometric="minisblack")
    options = {} if sizes is None else {"sizes": sizes}
    recording = nx.open_recording(tmp_path / "a.tif", axes=axes, chunks=2, **options)
    truth = pages[None] if order is None else pages.reshape(*order, Y, X)
    np.testing.assert_array_equal(recording.values, truth.transpose(1, 0, 2, 3) if axes == "ztyx" else truth)


def test_pages_split_into_channels_too(tmp_path, counts):
    pages = counts(30, Y, X)
    tifffile.imwrite(tmp_path / "a.tif", pages, metadata=None, photometric="minisblack")
    recording = nx.open_recording(tmp_path / "a.tif", axes="tzcyx", sizes={"z": 3, "c": 2}, channel=1)
    np.testing.assert_array_equal(recording.values, pages.reshape(5, 3, 2, Y, X)[:, :, 1])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"axes": "tyy"}, "expected axes as letters of t, z, c, y, x, each at most once, with y and x, got 'tyy'"),
        ({"axes": "tzyx"}, "expected axes of 3 letters, one for every dim of .*sizes="),
        ({"axes": "tx"}, "with y and x, got 'tx'"),
        ({"axes": "tqyx"}, "got 'tqyx'"),
        ({"axes": "tzyx", "sizes": {"z": 2}}, "the 5 pages of .* cannot be split into sizes {'z': 2} along 'tz'"),
        ({"axes": "tzcyx", "sizes": {"z": 5}}, "expected sizes, at least 1, of all but one"),
        ({"axes": "tzyx", "sizes": {"c": 5}}, "expected sizes"),
        ({"sizes": {"z": 5}}, "set axes= too"),
        ({"chunks": 0}, "expected chunks as 'auto', a number of frames or a mapping"),
        ({"chunks": {"c": 1}}, r"expected chunks along t, z, y, x, got \['c'\]"),
        ({"chunks": {"t": (2, 2)}}, "expected chunks that dask can apply"),
        ({"gaps": "skip"}, "unknown option gaps .* reader 'tiff' has these options: sizes, series"),
        ({"series": 1}, "so there is no series=1"),
        ({"voxel_um": (1, 2)}, r"expected voxel_um as three numbers"),
        ({"voxel_um": (1, 2, -1)}, "positive voxel size in µm along x"),
        ({"dt_s": 0}, "expected dt_s"),
    ],
)
def test_wrong_arguments(tmp_path, counts, options, text):
    tifffile.imwrite(tmp_path / "a.tif", counts(5, Y, X), metadata=None, photometric="minisblack")
    with pytest.raises(nx.NiddlError, match=text):
        nx.open_recording(tmp_path / "a.tif", **options)


def test_rgb_is_chosen_by_colour(tmp_path, counts):
    truth = counts(T, Y, X, 3, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", truth, photometric="rgb", compression="lzw", metadata=None)
    with pytest.raises(nx.NiddlError, match=r"has 3 channels: 0 \(red\), 1 \(green\), 2 \(blue\); choose"):
        nx.open_recording(tmp_path / "a.tif")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif", channel="green").values[:, 0], truth[..., 1])


def test_unnamed_axes_are_asked_for(tmp_path, counts):
    truth = counts(T, Z, Y, X)
    tifffile.imwrite(tmp_path / "a.tif", truth, photometric="minisblack")
    with pytest.raises(nx.NiddlError, match=r"a\.tif with shape \(5, 3, 7, 11\) does not name its axes .*set axes="):
        nx.open_recording(tmp_path / "a.tif")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif", axes="tzyx").values, truth)


def test_several_images_are_chosen_by_series(tmp_path, counts):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(counts(T, Y, X), photometric="minisblack")
        writer.write(counts(T + 1, X, Y), photometric="minisblack")
    with pytest.raises(nx.NiddlError, match=r"holds 2 images of shapes 0: \(5, 7, 11\), 1: .*choose one with series="):
        nx.open_recording(tmp_path / "a.tif")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif", series=1)[:, 0].values, counts(T + 1, X, Y))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_lazy_small_graph_pickles_and_reads_only_what_is_asked(
    tmp_path, counts, lazily, pickled, monkeypatch, compression
):
    truth = counts(400, C, Y, X)
    tifffile.imwrite(tmp_path / "a.tif", truth, ome=True, compression=compression, metadata={"axes": "TCYX"})
    with lazily:
        recording = nx.open_recording(tmp_path / "a.tif", channel=1, chunks=50)
        some = recording[203:206, :, 2:4]
    size, values = pickled(some)
    np.testing.assert_array_equal(values[:, 0], truth[203:206, 1, 2:4])
    assert size < 20_000
    short = tmp_path / "short.ome.tif"
    tifffile.imwrite(short, truth[:100], ome=True, compression="zlib", metadata={"axes": "TCYX"})
    short_size, _ = pickled(nx.open_recording(short, channel=1, chunks=50)[3:6, :, 2:4])
    assert abs(size - short_size) < 1000  # independent of the length of the file
    if compression:
        read = []
        original = tiff.read_page
        monkeypatch.setattr(tiff, "read_page", lambda path, number: read.append(number) or original(path, number))
        some.compute(scheduler="sync")
        assert read == [407, 409, 411]  # of channel 1


def test_threads_share_a_file(tmp_path, counts):
    truth = counts(60, Y, X)
    tifffile.imwrite(tmp_path / "a.tif", truth, compression="zlib", metadata=None, photometric="minisblack")
    recording = nx.open_recording(tmp_path / "a.tif", chunks=1)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda frame: recording[frame].compute(scheduler="sync").values, list(range(60)) * 3))
    for frame, values in enumerate(results):
        np.testing.assert_array_equal(values[0], truth[frame % 60])


def test_handles_do_not_pile_up(tmp_path, counts):
    for number in range(3 * tiff.OPEN_FILES):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, counts(2, Y, X), compression="zlib", metadata=None, photometric="minisblack")
        nx.open_recording(path).compute(scheduler="sync")
    assert tiff._opened.cache_info().currsize <= tiff.OPEN_FILES
    held = tiff._opened(*_key(path))
    tiff._opened.cache_clear()
    file = held.file
    del held
    assert file.filehandle.closed


def _key(path):
    import os

    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size, os.getpid()


def test_a_changed_file_is_read_anew(tmp_path, counts):
    for truth in (counts(T, Y, X), counts(T, Y, X) + 9):
        (tmp_path / "a.tif").unlink(missing_ok=True)
        tifffile.imwrite(tmp_path / "a.tif", truth, compression="zlib", metadata=None, photometric="minisblack")
        np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values[:, 0], truth)


@pytest.mark.parametrize("layout", ["interleaved", "imagej", "headers first", "compressed"])
@pytest.mark.parametrize("kept", [0.3, 0.97])
def test_a_file_cut_short_is_found_at_opening(tmp_path, counts, layout, kept):
    truth = counts(12, 64, 80)
    path = tmp_path / "a.tif"
    if layout == "imagej":
        tifffile.imwrite(path, truth, imagej=True, metadata={"axes": "TYX"})
    elif layout == "headers first":
        tifffile.imwrite(path, truth, photometric="minisblack", metadata={"axes": "TYX"})
    else:
        compression = "zlib" if layout == "compressed" else None
        with tifffile.TiffWriter(path) as writer:
            for frame in truth:
                writer.write(frame, metadata=None, contiguous=False, compression=compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(nx.NiddlError, match=r"a\.tif.*(cut short|not a TIFF)"):
        nx.open_recording(path)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits"])
def test_a_damaged_page_is_named_when_it_is_computed(tmp_path, counts, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(9, 30, 40), compression=compression, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[4].dataoffsets[0], tif.pages[4].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\x80" * count  # for PackBits: nothing but no-operations
    path.write_bytes(content)
    recording = nx.open_recording(path, chunks=1)
    recording[3].compute(scheduler="sync")
    with pytest.raises(nx.NiddlError, match=r"plane 4 of .*a\.tif could not be read"):
        recording[4].compute(scheduler="sync")


def test_a_file_that_vanishes_or_shrinks_is_named(tmp_path, counts):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(T, Y, X), imagej=True, metadata={"axes": "TYX"})
    recording = nx.open_recording(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(nx.NiddlError, match=r"a\.tif could not be read"):
        recording.compute(scheduler="sync")
    path.unlink()
    with pytest.raises(nx.NiddlError, match=r"a\.tif could not be read"):
        recording.compute(scheduler="sync")


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_values_that_are_no_counts(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((T, Y, X), dtype), photometric="minisblack", metadata=None)
    with pytest.raises(nx.NiddlError, match=r"expected integer or floating-point counts, got dtype .* in .*a\.tif"):
        nx.open_recording(tmp_path / "a.tif")


def test_counts_above_32767_stay(tmp_path):
    truth = np.array([[[0, 32_767, 32_768], [65_535, 40_000, 1]]], "uint16")
    tifffile.imwrite(tmp_path / "a.tif", truth, metadata=None, photometric="minisblack")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values[:, 0], truth)
