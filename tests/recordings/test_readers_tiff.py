"""TIFF: truth is what tifffile was told to write, and what tifffile reads back."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr.recordings.readers import _tiff_pages
from tests.recordings.samples import tiff as samples

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
T, Z, C, Y, X = 5, 3, 2, 7, 11


def plane_movie(*size, dtype="uint16"):
    return samples.counts(*(size or (samples.T, samples.Y, samples.X)), dtype=dtype)[:, None]


def channel_of_volumes():
    return samples.counts(samples.T, samples.Z, samples.C, samples.Y, samples.X)[:, :, 1]


TRUTH = {
    "tiff plain": plane_movie,
    "tiff big-endian packbits": lambda: plane_movie(dtype="int16"),
    "tiff big lzw": lambda: plane_movie(samples.T, 40, 52),
    "tiff tiles zstd": lambda: plane_movie(samples.T, 40, 52, dtype="float32"),
    "tiff deflate float": lambda: plane_movie(dtype="float32"),
    "tiff jpeg": lambda: plane_movie(samples.T, 32, 48, dtype="uint8"),
    "tiff colours apart": lambda: samples.counts(samples.T, 3, samples.Y, samples.X, dtype="uint8")[:, 1:2],
    "tiff pyramid": lambda: plane_movie(samples.T, 32, 48),
    "imagej": channel_of_volumes,
    "ome-tiff": channel_of_volumes,
    "ome-tiff of files": lambda: samples.counts(samples.T, samples.Z, samples.Y, samples.X),
    "ome-tiff companion": plane_movie,
    "lsm": lambda: samples.counts(samples.T, samples.C, samples.Y, samples.X)[:, 1:2],
    "stk": lambda: samples.counts(samples.Z, samples.Y, samples.X)[None],
}


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


@pytest.mark.parametrize("times", [[5, 5.1, 5.2, 5.3, 5.4], [0, 0.1, 0.25, 0.3, 0.4]])
def test_ome_times_of_planes_go_before_the_interval(tmp_path, counts, times):
    metadata = {"axes": "TYX", "TimeIncrement": 0.1, "Plane": {"DeltaT": times}}
    tifffile.imwrite(tmp_path / "a.ome.tif", counts(T, Y, X), metadata=metadata)
    np.testing.assert_allclose(nx.open_recording(tmp_path / "a.ome.tif").t, times)


@pytest.mark.parametrize("times", [[0.1 * frame for frame in range(T)], [7.0] * T])
def test_ome_interval_where_times_of_planes_say_no_more(tmp_path, counts, times):
    metadata = {"axes": "TYX", "TimeIncrement": 0.1, "Plane": {"DeltaT": times}}
    tifffile.imwrite(tmp_path / "a.ome.tif", counts(T, Y, X), metadata=metadata)
    np.testing.assert_allclose(nx.open_recording(tmp_path / "a.ome.tif").t, 0.1 * np.arange(T))


def test_a_cropped_recording_comes_back_with_its_times(tmp_path, counts):
    recording = nx.from_numpy(counts(T, Y, X), dims="tyx", voxel_um=(None, 0.5, 0.25), dt_s=0.1)[2:]
    nx.export(recording, tmp_path / "a.ome.tif")
    np.testing.assert_allclose(nx.open_recording(tmp_path / "a.ome.tif").t, recording.t)


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
        ({"gap": "skip"}, "unknown option gap .* reader 'tiff' has these options: sizes, series, gaps"),
        ({"gaps": "nan"}, "expected gaps as 'error' or 'skip', got 'nan'"),
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
        original = _tiff_pages.PageReader.read
        monkeypatch.setattr(
            _tiff_pages.PageReader, "read", lambda self, *page: read.append(page[0]) or original(self, *page)
        )
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


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_no_file_stays_open(tmp_path, counts, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(T, Y, X), compression=compression, metadata=None, photometric="minisblack")
    recording = nx.open_recording(path)
    recording.compute(scheduler="sync")
    held = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path not in held


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


@pytest.mark.parametrize(
    "name", [name for name in samples.SAMPLES if name.startswith(("tiff", "imagej", "ome", "lsm", "stk"))]
)
def test_samples_hold_what_was_written(tmp_path, name, pickled):
    path = samples.SAMPLES[name](tmp_path)
    recording = nx.open_recording(path, **samples.OPTIONS.get(name, {}))
    truth = TRUTH[name]()
    assert recording.dtype == truth.dtype
    if name == "tiff jpeg":  # not without loss: what another decoder gives
        truth = tifffile.imread(path)[:, None]
    np.testing.assert_array_equal(recording.values, truth)
    np.testing.assert_array_equal(recording[::-2, :, 3:9:2, [7, 2, 5]].values, truth[::-2, :, 3:9:2][..., [7, 2, 5]])
    np.testing.assert_array_equal(recording[:, :, :, ::-1].values, truth[..., ::-1])
    np.testing.assert_array_equal(pickled(recording)[1], truth)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["int8", "uint32", "float16", "float64"])
def test_pages_by_hand(tmp_path, dtype, order, big):
    truth = samples.counts(T, Y, X, dtype=dtype)
    path = samples.write_tiff(tmp_path / "a.tif", truth, order=order, big=big)
    recording = nx.open_recording(path, chunks=2)
    assert recording.dtype == truth.dtype
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    np.testing.assert_array_equal(recording[3, 0, 2:5, 1:9:3].values, truth[3, 2:5, 1:9:3])


@pytest.mark.parametrize("bits", [2, 6, 10, 12, 14])
def test_packed_integers(tmp_path, bits):
    truth = (samples.counts(T, Y, 16) % 2**bits).astype("uint8" if bits < 8 else "uint16")
    planes = [np.frombuffer(imagecodecs.packints_encode(plane, bits), "uint8")[None] for plane in truth]
    tags = {256: (samples.LONG, 16), 257: (samples.LONG, Y), 258: (samples.SHORT, bits), 278: (samples.LONG, Y)}
    recording = nx.open_recording(samples.write_tiff(tmp_path / "a.tif", planes, tags=tags))
    np.testing.assert_array_equal(recording.values[:, 0], truth)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_of_a_crop_only_its_strips_are_read(tmp_path, counts, compression, monkeypatch):
    truth = counts(3, 64, 20)
    tifffile.imwrite(
        tmp_path / "a.tif", truth, compression=compression, rowsperstrip=8, metadata=None, photometric="minisblack"
    )
    recording = nx.open_recording(tmp_path / "a.tif")
    before = _tiff_pages.read_at
    read = []
    monkeypatch.setattr(_tiff_pages, "read_at", lambda *of: read.append(of[4]) or before(*of))
    np.testing.assert_array_equal(recording[1, 0, 17:30, 3:5].compute(scheduler="sync"), truth[1, 17:30, 3:5])
    strips = [what for what in read if what.startswith("page 1 of")]
    assert len(strips) == (2 if compression else 0) or len(strips) == 1


def test_smaller_copies_are_left_out(tmp_path, counts):
    truth = counts(T, 32, 48)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in truth:
            writer.write(frame, metadata=None, contiguous=False)
            writer.write(frame[::2, ::2], metadata=None, contiguous=False, subfiletype=1)
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values[:, 0], truth)


def test_pages_of_one_shape_and_many_compressions(tmp_path, counts):
    truth = counts(9, 32, 48)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, frame in enumerate(truth):
            compression = ("zlib", "lzw", None)[number % 3]
            writer.write(frame, metadata=None, contiguous=False, compression=compression, rowsperstrip=8 + number)
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values[:, 0], truth)


@pytest.mark.parametrize(("one", "other"), [("uint8", "uint16"), ("uint16", "int16"), ("uint32", "float32")])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_colours_of_other_numbers_are_another_image(tmp_path, one, other, byteorder):
    """What kind of number a colour is stands outside the directory, which is the same for both."""
    images = [samples.counts(Y, X, 3, dtype=dtype) for dtype in (one, other)]
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=byteorder) as writer:
        for image in (*images, images[0]):
            writer.write(image, photometric="rgb", metadata=None)
    for series, image in enumerate(images):
        recording = nx.open_recording(tmp_path / "a.tif", series=series, channel="blue")
        assert recording.dtype == image.dtype
        assert recording.sizes["t"] == 2 - series
        np.testing.assert_array_equal(recording.values[0, 0], image[..., 2])
        np.testing.assert_array_equal(recording.values[-1, 0], image[..., 2])


@pytest.mark.parametrize("compression", ["lzma", "png", "jpeg2000", "deflate", "packbits", "zstd"])
@pytest.mark.parametrize("size", [(Y, X), (1, 1), (1, X), (40, 52)])
def test_compressions_of_other_programs(tmp_path, compression, size):
    truth = samples.counts(T, *size)
    tifffile.imwrite(tmp_path / "a.tif", truth, compression=compression, metadata=None, photometric="minisblack")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.tif").values[:, 0], truth)


@pytest.mark.parametrize("frames", [1, T])
def test_strips_in_an_order_of_their_own(tmp_path, counts, frames):
    """The first strip of a page lies behind its second one."""
    truth = counts(frames, 8, X)
    tifffile.imwrite(tmp_path / "a.tif", truth, rowsperstrip=2, metadata=None, photometric="minisblack")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        for page in tif.pages:
            (one, two, *_), size = page.dataoffsets, page.databytecounts[0]
            content[one : one + size], content[two : two + size] = content[two : two + size], content[one : one + size]
            struct.pack_into("<II", content, page.tags["StripOffsets"].valueoffset, two, one)
    (tmp_path / "a.tif").write_bytes(content)
    recording = nx.open_recording(tmp_path / "a.tif")
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    np.testing.assert_array_equal(recording[-1, 0, 1:4].values, truth[-1, 1:4])


def test_pages_of_two_shapes_with_the_same_tags(tmp_path):
    planes = [*samples.counts(2, Y, X), *samples.counts(3, X, Y)]
    path = samples.write_tiff(tmp_path / "a.tif", planes)
    with pytest.raises(nx.NiddlError, match=r"holds 2 images of shapes 0: \(2, 7, 11\), 1: \(3, 11, 7\); choose one"):
        nx.open_recording(path)
    np.testing.assert_array_equal(nx.open_recording(path, series=1).values[:, 0], samples.counts(3, X, Y))


def test_a_tile_that_was_left_out_is_zero_and_a_page_without_data_an_error(tmp_path, counts):
    truth = counts(2, 32, 48)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, truth, tile=(16, 16), metadata=None, photometric="minisblack", compression="zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offsets, lengths = tif.pages[1].tags[324], tif.pages[1].tags[325]
    sizes = {tag: 2 if tag.dtype == 3 else 4 for tag in (offsets, lengths)}
    for tag, size in sizes.items():
        content[tag.valueoffset + 4 * size : tag.valueoffset + 5 * size] = bytes(size)
    path.write_bytes(content)
    expected = truth.copy()
    expected[1, 16:32, 16:32] = 0
    np.testing.assert_array_equal(nx.open_recording(path).values[:, 0], expected)
    for tag, size in sizes.items():
        content[tag.valueoffset : tag.valueoffset + 6 * size] = bytes(6 * size)
    path.write_bytes(content)
    with pytest.raises(nx.NiddlError, match=r"page 1 of .*a\.tif was never written"):
        nx.open_recording(path)


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"])
@pytest.mark.parametrize("blocks", ["", "<TiffData/>", '<TiffData IFD="0" PlaneCount="30"/>', "each"])
def test_ome_orders_of_dimensions(tmp_path, order, blocks):
    truth = samples.counts(T, Z, C, Y, X)  # t, z, c
    planes = np.einsum(f"tzcyx->{order[:1:-1].lower()}yx", truth).reshape(-1, Y, X)
    if blocks == "each":
        axes = order[:1:-1]
        sizes = [{"T": T, "Z": Z, "C": C}[axis] for axis in axes]
        blocks = ""
        for number, index in enumerate(np.ndindex(*sizes)):
            first = "".join(f'First{axis}="{place}" ' for axis, place in zip(axes, index, strict=True))
            blocks += f'<TiffData {first}IFD="{number}"/>'
    channels = '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><Channel ID="Channel:0:1" SamplesPerPixel="1"/>'
    xml = samples.ome_xml({"X": X, "Y": Y, "Z": Z, "C": C, "T": T}, blocks, order=order, inside=channels)
    path = samples.write_tiff(tmp_path / "a.ome.tif", planes, descriptions=[xml])
    np.testing.assert_array_equal(nx.open_recording(path, channel=1, chunks=2).values, truth[:, :, 1])


def test_ome_states_microscope_and_camera(tmp_path):
    before = (
        '<Instrument ID="Instrument:0"><Microscope Manufacturer="Nikon" Model="Ti2"/><Detector ID="Detector:0" '
        'Model="Kinetix"/><Objective ID="Objective:1" Model="Plan Apo" NominalMagnification="40" LensNA="1.25"/>'
        "</Instrument>"
    )
    image = (
        "<AcquisitionDate>2026-08-03T12:35:19</AcquisitionDate><Description>worm 7</Description>"
        '<ObjectiveSettings ID="Objective:1"/>'
    )
    inside = (
        '<Channel ID="Channel:0:0" Name="GFP" SamplesPerPixel="1" ExcitationWavelength="488" EmissionWavelength="0.51" '
        'EmissionWavelengthUnit="&#181;m"><DetectorSettings ID="Detector:0"/></Channel>'
    )
    planes = "".join(
        f'<Plane TheT="{t}" TheZ="0" TheC="0" DeltaT="{t * t}" ExposureTime="20" ExposureTimeUnit="ms"/>'
        for t in range(T)
    )
    xml = samples.ome_xml(
        {"X": X, "Y": Y, "Z": 1, "C": 1, "T": T},
        f"<TiffData/>{planes}",
        inside=inside,
        before=before,
        image=image,
        pixels='SignificantBits="12"',
    )
    recording = nx.open_recording(
        samples.write_tiff(tmp_path / "a.ome.tif", samples.counts(T, Y, X), descriptions=[xml])
    )
    stated = {name: value for name, value in recording.attrs.items() if name != "source"}
    assert stated == {
        "acquired": "2026-08-03T12:35:19",
        "software": "a microscope",
        "microscope": "Nikon Ti2",
        "objective": "Plan Apo",
        "magnification": 40.0,
        "numerical_aperture": 1.25,
        "camera": "Kinetix",
        "exposure_s": 0.02,
        "description": "worm 7",
        "bit_depth": 12,
        "excitation_nm": 488.0,
        "emission_nm": 510.0,
        "channel": "GFP",
    }
    np.testing.assert_allclose(recording.t, np.arange(T) ** 2)
    assert recording.t.attrs["units"] == "s"


@pytest.mark.parametrize("number", range(samples.T))
def test_ome_of_files_opens_from_any_of_them(tmp_path, number):
    samples.ome_of_files(tmp_path)
    recording = nx.open_recording(tmp_path / f"movie_T{number}.ome.tif")
    np.testing.assert_array_equal(recording.values, samples.counts(samples.T, samples.Z, samples.Y, samples.X))


def test_ome_of_files_names_what_is_missing_or_skips_it(tmp_path):
    samples.ome_of_files(tmp_path)
    (tmp_path / "movie_T1.ome.tif").unlink()
    (tmp_path / "movie_T3.ome.tif").unlink()
    with pytest.raises(
        nx.NiddlError,
        match=r"one of 4 files, and 2 of them are missing from .*: movie_T1\.ome\.tif, movie_T3\.ome\.tif",
    ):
        nx.open_recording(tmp_path / "movie_T0.ome.tif")
    with pytest.warns(UserWarning, match=r"missing from .*movie_T1\.ome\.tif.*2 frames are left out"):
        recording = nx.open_recording(tmp_path / "movie_T0.ome.tif", gaps="skip", dt_s=0.5)
    truth = samples.counts(samples.T, samples.Z, samples.Y, samples.X)
    np.testing.assert_array_equal(recording.values, truth[[0, 2]])
    np.testing.assert_allclose(recording.t, [0, 1])


def test_ome_file_of_another_recording_is_told(tmp_path):
    samples.ome_of_files(tmp_path)
    other = (tmp_path / "movie_T2.ome.tif").read_bytes().replace(b'UUID="urn:uuid:2"', b'UUID="urn:uuid:X"')
    (tmp_path / "movie_T2.ome.tif").write_bytes(other)
    with pytest.warns(UserWarning, match=r"movie_T2\.ome\.tif has another UUID than .*movie_T0\.ome\.tif states"):
        nx.open_recording(tmp_path / "movie_T0.ome.tif")


@pytest.mark.parametrize("name", ["../secret.tif", "/etc/secret.tif", "..\\\\secret.tif", ".."])
def test_ome_names_no_file_elsewhere(tmp_path, name):
    block = f'<TiffData IFD="0"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
    xml = samples.ome_xml({"X": X, "Y": Y, "Z": 1, "C": 1, "T": 1}, block)
    path = samples.write_tiff(tmp_path / "a.ome.tif", samples.counts(1, Y, X), descriptions=[xml])
    with pytest.raises(nx.NiddlError, match="expected one in its own folder, without a path"):
        nx.open_recording(path)


def test_ome_companion(tmp_path):
    samples.ome_companion(tmp_path)
    truth = samples.counts(samples.T, samples.Y, samples.X)
    for name in ("t0.ome.tif", "movie.companion.ome"):
        np.testing.assert_array_equal(nx.open_recording(tmp_path / name).values[:, 0], truth)
    (tmp_path / "movie.companion.ome").unlink()
    with pytest.raises(
        nx.NiddlError, match=r"metadata of .*t0\.ome\.tif stand in movie\.companion\.ome, which is missing"
    ):
        nx.open_recording(tmp_path / "t0.ome.tif")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (('SizeT="5"', 'SizeT="7"'), r"2 of 7 planes of .* are in none of its files, first t 5, .*gaps='skip'"),
        (('SizeT="5"', 'SizeT="70000000"'), r"states \(70000000, 1, 1\) planes, but its files hold 5"),
        (('SizeT="5"', 'SizeT="five"'), "state SizeT='five'; expected a whole number"),
        (('SizeX="11"', 'SizeX="12"'), r"has pages of \(7, 11\), but its OME metadata state 7×12"),
        (("XYZCT", "XYZZT"), "state the order 'XYZZT'"),
        (("<OME ", '<!DOCTYPE x [<!ENTITY a "b">]><OME '), "declare a document type"),
    ],
)
def test_ome_that_does_not_fit(tmp_path, change, text):
    xml = samples.ome_xml({"X": X, "Y": Y, "Z": 1, "C": 1, "T": T}, "<TiffData/>").replace(*change)
    path = samples.write_tiff(tmp_path / "a.ome.tif", samples.counts(T, Y, X), descriptions=[xml])
    with pytest.raises(nx.NiddlError, match=text):
        nx.open_recording(path)


def test_ome_that_stopped_early_opens_its_complete_frames(tmp_path):
    pixels = 'TimeIncrement="0.5"'
    xml = samples.ome_xml({"X": X, "Y": Y, "Z": Z, "C": 1, "T": T}, "<TiffData/>", pixels=pixels)
    truth = samples.counts(T, Z, Y, X)
    path = samples.write_tiff(tmp_path / "a.ome.tif", truth.reshape(-1, Y, X)[: 3 * Z + 1], descriptions=[xml])
    with pytest.warns(UserWarning, match="5 of 15 planes .*2 frames are left out"):
        recording = nx.open_recording(path, gaps="skip")
    np.testing.assert_array_equal(recording.values, truth[:3])
    np.testing.assert_allclose(recording.t, [0, 0.5, 1])


def test_ome_that_is_no_xml_is_told_and_the_pages_are_opened(tmp_path):
    path = samples.write_tiff(tmp_path / "a.ome.tif", samples.counts(T, Y, X), descriptions=["<OME><Image></OME>"])
    with pytest.warns(UserWarning, match=r"metadata of .*a\.ome\.tif cannot be read .*its pages are taken as they are"):
        recording = nx.open_recording(path)
    np.testing.assert_array_equal(recording.values[:, 0], samples.counts(T, Y, X))


def test_micromanager_states_the_rest(tmp_path):
    summary = b'{"PixelSize_um": 0.25, "z-step_um": 2, "Interval_ms": 125, "ChNames": ["GFP"]}'
    head = struct.pack("<IIIIII", 54773648, 0, 483765892, 0, 99384722, 0) + struct.pack("<II", 2355492, len(summary))
    xml = samples.ome_xml({"X": X, "Y": Y, "Z": Z, "C": 1, "T": T}, "<TiffData/>", pixels='PhysicalSizeX="0.5"')
    path = samples.write_tiff(
        tmp_path / "a_MMStack.ome.tif", samples.counts(T * Z, Y, X), descriptions=[xml], behind_header=head + summary
    )
    recording = nx.open_recording(path)
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "tzyx"], [0.125, 2, 0.25, 0.5])


def test_imagej_playing_speed_is_no_frame_rate(tmp_path):
    text = f"ImageJ=1.53t\nimages={T}\nframes={T}\nfps=7.0\nunit=\\u00B5m\nmin=3.0\nmax=900.0\n"
    tags = {282: (samples.RATIONAL, (4, 1)), 283: (samples.RATIONAL, (2, 1))}
    path = samples.write_tiff(tmp_path / "a.tif", samples.counts(T, Y, X), descriptions=[text], tags=tags, order=">")
    recording = nx.open_recording(path)
    assert recording.t.attrs["units"] == "frame"
    assert (float(recording.y[1]), float(recording.x[1])) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("stated", "depth_um"),
    [("spacing=-1.5", 1.5), ("spacing=1500\nzunit=nm", 1.5), ("spacing=1.5\nzunit=pixel", None), ("spacing=0", None)],
)
def test_imagej_depth(tmp_path, stated, depth_um):
    text = f"ImageJ=1.54f\nimages={Z}\nslices={Z}\nunit=micron\n{stated}\n"
    tags = {282: (samples.RATIONAL, (4, 1)), 283: (samples.RATIONAL, (2, 1))}
    path = samples.write_tiff(tmp_path / "a.tif", samples.counts(Z, Y, X), descriptions=[text], tags=tags)
    recording = nx.open_recording(path)
    assert [float(recording[dim][1]) for dim in "zyx"] == [depth_um or 1, 0.5, 0.25]
    assert recording.z.attrs["units"] == ("µm" if depth_um else "pixel")


def test_of_many_channels_some_are_listed(tmp_path):
    text = "ImageJ=1.54f\nimages=300\nchannels=300\n"
    path = samples.write_tiff(tmp_path / "a.tif", samples.counts(300, Y, X), descriptions=[text])
    with pytest.raises(nx.NiddlError, match=r"has 300 channels: 0, 1, .*, 19, \.\.\.; choose one"):
        nx.open_recording(path)


@pytest.mark.parametrize("order", ["czt", "zct", "tzc"])
def test_imagej_orders(tmp_path, order):
    text = f"ImageJ=1.53t\nimages={T * Z * C}\nchannels={C}\nslices={Z}\nframes={T}\nhyperstack=true\norder={order}\n"
    truth = samples.counts(T, Z, C, Y, X)
    pages = np.einsum(f"tzcyx->{order[::-1]}yx", truth).reshape(-1, Y, X)
    path = samples.write_tiff(tmp_path / "a.tif", pages, descriptions=[text])
    np.testing.assert_array_equal(nx.open_recording(path, channel=1).values, truth[:, :, 1])


def test_imagej_of_planes_before_the_one_header(tmp_path):
    truth = samples.counts(T, Y, X)
    path = samples.stk_like(tmp_path / "a.tif", truth, f"ImageJ=1.53t\nimages={T}\nframes={T}\n")
    np.testing.assert_array_equal(nx.open_recording(path).values[:, 0], truth)


def test_imagej_that_states_more_than_it_holds_is_told(tmp_path):
    text = "ImageJ=1.49i\nimages=3500\nframes=3500\nloop=false\n"
    path = samples.write_tiff(tmp_path / "a.tif", samples.counts(T, Y, X), descriptions=[text])
    with pytest.warns(UserWarning, match=r"a\.tif states 3500 planes and holds 5: its pages are taken as they are"):
        np.testing.assert_array_equal(nx.open_recording(path).values[:, 0], samples.counts(T, Y, X))


def test_lsm_and_stk_state_time_and_voxels(tmp_path):
    movie = nx.open_recording(samples.lsm(tmp_path), channel=1)
    np.testing.assert_allclose(movie.t, np.arange(samples.T) * 0.5)
    np.testing.assert_allclose([float(movie.y[1]), float(movie.x[1])], [0.5, 0.25])
    with tifffile.TiffFile(tmp_path / "series.lsm") as tif:  # the layout is the one that tifffile knows
        np.testing.assert_array_equal(tif.series[0].asarray()[:, 1], movie.values[:, 0])
        assert tif.lsm_metadata["TimeIntervall"] == 0.5
    stack = nx.open_recording(samples.stk(tmp_path))
    np.testing.assert_allclose([float(stack[dim][1]) for dim in "zyx"], [1.5, 0.25, 0.25])
    with tifffile.TiffFile(tmp_path / "stack.stk") as tif:
        np.testing.assert_array_equal(tif.series[0].asarray(), stack.values[0])
        assert tif.stk_metadata["XCalibration"] == 0.25
        assert tif.stk_metadata["CalibrationUnits"] == "um"


def test_stk_without_distances_is_a_movie_past_midnight(tmp_path):
    path = samples.stk(tmp_path)
    content = bytearray(path.read_bytes())
    place = struct.unpack_from("<I", content, directory_field(content, "<", 33629, 8))[0]
    days_ms = [(2_461_000, 86_399_000), (2_461_000, 86_399_500), (2_461_001, 0)]
    for plane, (day, ms) in enumerate(days_ms):
        struct.pack_into("<6I", content, place + 24 * plane, 0, 1, day, ms, day, ms)
    path.write_bytes(content)
    movie = nx.open_recording(path)
    np.testing.assert_array_equal(movie.values[:, 0], samples.counts(samples.Z, samples.Y, samples.X))
    np.testing.assert_allclose(movie.t, [0, 0.5, 1.0])
    assert movie.t.attrs["units"] == "s"


def directory_field(content, order, code, part):
    """Return where a part of a tag (0 code, 2 type, 4 count, 8 value) of the first page stands in a classic TIFF."""
    place = struct.unpack_from(f"{order}I", content, 4)[0]
    count = struct.unpack_from(f"{order}H", content, place)[0]
    rows = [place + 2 + 12 * row for row in range(count)]
    return next(row + part for row in rows if struct.unpack_from(f"{order}H", content, row)[0] == code)


@pytest.mark.parametrize(
    ("code", "part", "kind", "value", "text"),
    [
        (256, 8, "I", 2**31, "pixels"),
        (256, 8, "I", 60_000, "ends at byte|cannot hold|fewer"),
        (257, 8, "I", 1_000_000, "names 1 offsets and 1 lengths of its 142858 strips"),
        (277, 8, "H", 60_000, "ends at byte|cannot hold|fewer|offsets"),
        (258, 8, "H", 77, r"numbers of \[77\] bits"),
        (259, 8, "H", 7777, r"has compression 7777 \(unknown\), which is not read"),
        (259, 8, "H", 34887, r"has compression 34887 \(LERC\), which is not read"),
        (259, 8, "H", 34925, r"plane 0 of .* could not be read"),
        (259, 8, "H", 34933, r"page 0 of .* holds no PNG"),
        (273, 8, "I", 2**32 - 1, "ends at byte"),
        (273, 4, "I", 2**32 - 1, "tag 273 .* has 4294967295 values"),
        (279, 8, "I", 5, "fewer|cannot hold"),
        (279, 8, "I", 0, "was never written"),
        (339, 8, "H", 9, "format"),
    ],
)
def test_tags_that_lie_cost_an_error_and_no_memory(tmp_path, code, part, kind, value, text):
    path = samples.write_tiff(tmp_path / "a.tif", samples.counts(T, Y, X))
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{kind}", content, directory_field(content, "<", code, part), value)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(nx.NiddlError, match=text):
            nx.open_recording(path).compute(scheduler="sync")
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_list_of_pages_in_a_circle_is_found(tmp_path):
    path = samples.write_tiff(tmp_path / "a.tif", samples.counts(T, Y, X))
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    second = struct.unpack_from("<I", content, first + 2 + 12 * count)[0]
    struct.pack_into("<I", content, second + 2 + 12 * count, first)
    path.write_bytes(content)
    with pytest.raises(nx.NiddlError, match=r"pages of .*a\.tif runs in a circle after page 1"):
        nx.open_recording(path)


def test_a_png_that_says_it_is_larger_is_not_decoded(tmp_path, counts):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(1, Y, X), compression="png", metadata=None, photometric="minisblack")
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, content.index(b"IHDR") + 4, 60_000, 60_000)
    path.write_bytes(content)
    with pytest.raises(nx.NiddlError, match=r"holds 60000×60000 pixels in a strip"):
        nx.open_recording(path).compute(scheduler="sync")


def test_an_lzma_that_goes_on_is_read_up_to_its_strip(tmp_path):
    """As much as the page holds is decoded of it, not the 64 MB that it could give."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), "uint8"), compression="lzma", metadata=None, photometric="minisblack")
    content, long = bytearray(path.read_bytes()), imagecodecs.lzma_encode(bytes(2**26))
    struct.pack_into("<I", content, directory_field(content, "<", 273, 8), len(content))
    struct.pack_into("<HII", content, directory_field(content, "<", 279, 2), 4, 1, len(long))
    path.write_bytes(content + long)
    assert nx.open_recording(path).values.shape == (1, 1, 16, 16)


def test_a_jpeg_that_says_it_is_larger_is_not_decoded(tmp_path):
    path = samples.jpeg(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, place + 5, 60_000, 60_000)
    path.write_bytes(content)
    with pytest.raises(nx.NiddlError, match=r"plane 0 of .*|holds 60000×60000 pixels in a strip"):
        nx.open_recording(path).compute(scheduler="sync")


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
def test_a_strip_that_ends_early_is_no_zeros(tmp_path, counts, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(3, 30, 40) % 251, compression=compression, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        lengths = tif.pages[1].tags[279]
    content = bytearray(path.read_bytes())
    place = lengths.valueoffset
    kept = struct.unpack_from("<I" if lengths.dtype == 4 else "<H", content, place)[0] * 3 // 4
    struct.pack_into("<I" if lengths.dtype == 4 else "<H", content, place, kept)
    path.write_bytes(content)
    recording = nx.open_recording(path, chunks=1)
    with pytest.raises(nx.NiddlError, match=r"plane 1 of .*a\.tif could not be read|page 1 of .*a\.tif"):
        recording[1].compute(scheduler="sync")


@pytest.mark.parametrize("compressed", [False, True])
def test_any_slice_and_any_chunks_give_the_same(tmp_path, compressed):
    rng = np.random.default_rng(5)
    truth = samples.counts(7, 4, 9, 13)
    options = (
        {"compress": lambda plane: imagecodecs.zlib_encode(plane.tobytes()), "compression": 8} if compressed else {}
    )
    path = samples.write_tiff(tmp_path / "a.tif", truth.reshape(-1, 9, 13), **options)
    for _ in range(25):
        chunks = {dim: int(rng.integers(1, size + 1)) for dim, size in zip("tzyx", truth.shape, strict=True)}
        recording = nx.open_recording(path, axes="tzyx", sizes={"z": 4}, chunks=chunks)
        key = tuple(
            slice(*sorted(rng.integers(0, size + 1, 2).tolist()), int(rng.integers(1, 4))) for size in truth.shape
        )
        np.testing.assert_array_equal(recording[key].compute(scheduler="sync"), truth[key])
        order = tuple(slice(None, None, int(rng.choice([-2, -1, 1]))) for _ in truth.shape)
        np.testing.assert_array_equal(recording[order].compute(scheduler="sync"), truth[order])


@pytest.mark.parametrize("written", ["apart", "one piece"])
def test_of_many_pages_few_bytes_are_read_to_open(tmp_path, written):
    """What is read grows with the directories, not with the pages: 600 pages of 8 KB."""
    truth = np.zeros((600, 64, 64), "uint16")
    path = tmp_path / "a.tif"
    if written == "apart":
        samples.write_tiff(path, truth)
    else:
        tifffile.imwrite(path, truth, metadata={"axes": "TYX"}, ome=True)
    before = Path("/proc/self/io").read_text()
    nx.open_recording(path)
    after = Path("/proc/self/io").read_text()
    read = int(after.split("rchar: ")[1].split()[0]) - int(before.split("rchar: ")[1].split()[0])
    assert read < 500_000 < path.stat().st_size / 9


REAL = {  # folder: options of all its TIFF files
    "ctc_tracking": {},
    "format_imagej_hyperstacks": {},
    "format_nd2_czi_ome": {},
    "format_tiff_variants/thunder": {},
    "laptrack_data/napari_interactive_fix_data": {},
    "noise2fast_fig5/noisy": {},
    "noisenet_pairs/fmd": {"axes": "cyx"},
    "sima_2p": {},
    "sima_2p/example-tiffs": {},
    "stardist_nuclei": {},
}


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:.*its pages are taken as they are")
@pytest.mark.parametrize("folder", REAL)
def test_real_files_against_tifffile(realdata, folder):
    """Every TIFF of a folder; of several channels, each."""
    found = sorted(path for path in (realdata / folder).iterdir() if path.suffix.startswith(".tif"))
    assert found
    for path in found:
        with tifffile.TiffFile(path) as tif:
            axes, truth = tif.series[0].axes, tif.series[0].asarray()
        axes = "CYX" if "axes" in REAL[folder] else axes.replace("S", "C")
        channels = truth.shape[axes.index("C")] if "C" in axes else 1
        for channel in range(channels):
            recording = nx.open_recording(path, channel=channel, **REAL[folder])
            values = truth.take(channel, axis=axes.index("C")) if "C" in axes else truth
            assert recording.dtype == truth.dtype
            np.testing.assert_array_equal(recording.values.squeeze(), values.squeeze(), err_msg=str(path))


@pytest.mark.realdata
def test_real_ome_states_voxels_and_instrument(realdata):
    recording = nx.open_recording(realdata / "format_nd2_czi_ome" / "s_1_t_1_c_1_z_1.ome.tiff")
    with tifffile.TiffFile(realdata / "format_nd2_czi_ome" / "s_1_t_1_c_1_z_1.ome.tiff") as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert float(recording.x[1]) == pytest.approx(pixels["PhysicalSizeX"])
    assert recording.x.attrs["units"] == "µm"
    assert recording.attrs["objective"] == "Plan-Apochromat 20x/0.8 M27"
    assert recording.attrs["channel"] == "Bright"
    assert "channels" not in recording.attrs  # others stand in annotations only
