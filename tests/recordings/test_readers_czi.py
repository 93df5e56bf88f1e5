"""CZI: truth is what ZEISS' own library wrote, and arrays written in the published layout."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from tests.recordings.samples import nd2_czi as samples
from tests.recordings.samples.nd2_czi import Tile, czi_metadata, czi_tiles, write_czi

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


@pytest.mark.parametrize(
    "compression", ["uncompressed:", "zstd0:ExplicitLevel=3", "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack"]
)
@pytest.mark.parametrize(
    ("dtype", "colours"), [("uint8", 1), ("uint16", 1), ("float32", 1), ("uint8", 3), ("uint16", 3)]
)
def test_files_of_the_library_of_zeiss(tmp_path, lazily, pickled, compression, dtype, colours):
    czi = pytest.importorskip("pylibCZIrw.czi")
    truth = np.random.default_rng(3).integers(0, 250, (3, 2, 6, 9, colours)).astype(dtype)
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path), compression_options=compression) as document:
        for t, z in np.ndindex(3, 2):
            document.write(truth[t, z], plane={"T": t, "Z": z, "C": 0}, location=(5, 7))
    with lazily:
        recording = nx.open_recording(path, channel="green" if colours == 3 else None, chunks=2)
    size, values = pickled(recording)
    np.testing.assert_array_equal(values, truth[..., 1 if colours == 3 else 0])
    assert values.dtype == dtype
    assert size < 20_000
    np.testing.assert_array_equal(recording[2:0:-1, 1, 2:5, ::3].values, values[2:0:-1, 1, 2:5, ::3])


def test_mosaic_of_the_library_of_zeiss(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    truth = np.random.default_rng(3).integers(0, 60_000, (2, 13, 17, 1)).astype("uint16")
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as document:
        for t in range(2):
            for y, x in ((0, 0), (0, 9), (8, 0), (8, 9)):
                document.write(truth[t, y : y + 8, x : x + 9], plane={"T": t}, location=(x - 40, y + 1000), scene=2)
    recording = nx.open_recording(path, scene=2)
    np.testing.assert_array_equal(recording[:, 0].values, truth[..., 0])
    np.testing.assert_array_equal(recording[1, 0, 5:11, 7:12].values, truth[1, 5:11, 7:12, 0])


def test_volumes_and_metadata(tmp_path, lazily):
    with lazily:
        recording = nx.open_recording(samples.czi_volumes(tmp_path), channel="RFP")
    np.testing.assert_array_equal(recording.values, samples.counts(3, 2, 2, 5, 7)[:, :, 1])
    np.testing.assert_allclose(recording.t, [0.5, 1.5, 2.75])
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [1.5, 0.25, 0.25])
    expected = {
        **{"acquired": "2024-05-06T07:08:09.123456Z", "software": "ZEN 3.1", "objective": "Plan 20x"},
        **{"magnification": 20.0, "numerical_aperture": 0.8, "emission_nm": 501.0, "bit_depth": 12},
        **{"channel": "RFP", "channels": ["GFP", "RFP"]},
    }
    assert {name: recording.attrs[name] for name in expected} == expected
    assert recording.attrs["exposure_s"] == pytest.approx(0.02)


def test_interval_where_there_are_no_time_stamps(tmp_path):
    extra = "<T><Positions><Interval><Increment>0.25</Increment></Interval></Positions></T>"
    tiles = czi_tiles(samples.counts(3, 1, 1, 5, 7))
    recording = nx.open_recording(write_czi(tmp_path / "a.czi", tiles, czi_metadata(["GFP"], extra)))
    np.testing.assert_allclose(recording.t, [0, 0.25, 0.5])


def test_tiles_that_overlap_and_pyramids(tmp_path):
    plane = samples.counts(6, 9)
    np.testing.assert_array_equal(nx.open_recording(samples.czi_mosaic(tmp_path)).values[0, 0], plane)
    tiles = [  # the higher number in the mosaic lies on top, whatever the order in the file
        Tile(plane[:, 3:] + 1, {"X": 3, "Y": 0, "C": 0, "M": 1}),
        Tile(plane[:, :5], {"X": 0, "Y": 0, "C": 0, "M": 0}),
    ]
    expected = np.concatenate([plane[:, :3], plane[:, 3:] + 1], axis=1)
    np.testing.assert_array_equal(nx.open_recording(write_czi(tmp_path / "b.czi", tiles)).values[0, 0], expected)


def test_pixels_under_no_tile_are_warned_of(tmp_path):
    tiles = [Tile(samples.counts(4, 5), {"X": 0, "Y": 0, "C": 0}), Tile(samples.counts(4, 5), {"X": 5, "Y": 2, "C": 0})]
    with pytest.warns(UserWarning, match="leave pixels uncovered; these are 0"):
        recording = nx.open_recording(write_czi(tmp_path / "a.czi", tiles))
    assert recording.shape == (1, 1, 6, 10)
    assert not recording[0, 0, 4:, :5].any()
    far = [tiles[0], Tile(samples.counts(4, 5), {"X": 1_000_000, "Y": 0, "C": 0})]
    with pytest.raises(nx.NiddlError, match="lie so far apart"):
        nx.open_recording(write_czi(tmp_path / "b.czi", far))


def test_jpeg_xr(tmp_path):
    recording = nx.open_recording(samples.czi_jpeg_xr(tmp_path))
    np.testing.assert_array_equal(recording.values[:, 0], samples.counts(2, 33, 20))
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.open_czi(str(tmp_path / "jpeg_xr.czi")) as document:
        np.testing.assert_array_equal(recording[1, 0], document.read(plane={"T": 1})[..., 0])


def test_scenes_are_listed(tmp_path):
    values = samples.counts(2, 1, 1, 5, 7)
    tiles = czi_tiles(values, S=0) + czi_tiles(values + 9, S=3)
    path = write_czi(tmp_path / "a.czi", tiles)
    with pytest.raises(nx.NiddlError, match="has 2 scenes: 0, 3; choose one with scene="):
        nx.open_recording(path)
    with pytest.raises(nx.NiddlError, match="no scene 1; choose one of 0, 3"):
        nx.open_recording(path, scene=1)
    np.testing.assert_array_equal(nx.open_recording(path, scene=3).values[:, 0], values[:, 0, 0] + 9)


def test_channels_of_different_kinds(tmp_path):
    deep, flat = samples.counts(1, 3, 1, 5, 7), samples.counts(5, 7, dtype="uint8")
    tiles = [*czi_tiles(deep), Tile(flat, {"X": 40, "Y": -7, "C": 1, "Z": 1, "T": 0})]
    path = write_czi(tmp_path / "a.czi", tiles, czi_metadata(["GFP", "light"]))
    np.testing.assert_array_equal(nx.open_recording(path, channel="GFP").values[0], deep[0, :, 0])
    other = nx.open_recording(path, channel="light")
    assert other.dtype == "uint8"
    np.testing.assert_array_equal(other.values[0], flat[None])


def test_missing_planes(tmp_path):
    values = samples.counts(3, 2, 1, 5, 7)
    tiles = [tile for tile in czi_tiles(values) if (tile.place["T"], tile.place["Z"]) != (1, 1)]
    path = write_czi(tmp_path / "a.czi", tiles)
    with pytest.raises(nx.NiddlError, match=r"2 of 3 frames have all 2 planes along z; gaps='skip' opens these"):
        nx.open_recording(path)
    with pytest.warns(UserWarning, match="lacks 1 of 3 frames"):
        recording = nx.open_recording(path, gaps="skip")
    np.testing.assert_array_equal(recording.values, values[[0, 2], :, 0])


def test_frames_that_are_missing_leave_their_time(tmp_path):
    values = samples.counts(4, 1, 1, 5, 7)
    tiles = [Tile(tile.values, {**tile.place, "T": tile.place["T"] + 5}) for tile in czi_tiles(values)]
    del tiles[1]
    path = write_czi(tmp_path / "a.czi", tiles)
    with pytest.warns(UserWarning, match="lacks 1 of 4 frames; t keeps the others'"):
        recording = nx.open_recording(path, gaps="skip")
    np.testing.assert_array_equal(recording.values[:, 0], values[[0, 2, 3], 0, 0])
    assert recording.t.attrs["units"] == "frame"
    assert recording.t.values.tolist() == [0, 2, 3]
    with pytest.warns(UserWarning, match="lacks 1 of 4"):
        assert nx.open_recording(path, gaps="skip", dt_s=2).t.values.tolist() == [0, 4, 6]
    extra = "<T><Positions><Interval><Increment>0.25</Increment></Interval></Positions></T>"
    with pytest.warns(UserWarning, match="lacks 1 of 4"):
        timed = nx.open_recording(write_czi(tmp_path / "b.czi", tiles, czi_metadata(["GFP"], extra)), gaps="skip")
    assert timed.t.values.tolist() == [0, 0.5, 0.75]
    assert timed.t.attrs["units"] == "s"


def test_phases_are_refused(tmp_path):
    values = samples.counts(1, 1, 1, 5, 7)
    path = write_czi(tmp_path / "a.czi", czi_tiles(values, H=0) + czi_tiles(values, H=1))
    with pytest.raises(nx.NiddlError, match=r"has several H \(phases"):
        nx.open_recording(path)
    path = write_czi(tmp_path / "b.czi", [Tile(samples.counts(5, 7), {"X": 0, "Y": 0, "C": 0, "H": 4, "B": 0})])
    assert nx.open_recording(path).shape == (1, 1, 5, 7)


def test_entities_are_refused(tmp_path):
    metadata = '<!DOCTYPE a [<!ENTITY b "c">]>' + czi_metadata(["GFP"])
    path = write_czi(tmp_path / "a.czi", czi_tiles(samples.counts(1, 1, 1, 5, 7)), metadata)
    with pytest.raises(nx.NiddlError, match=r"the XML of .* defines XML entities: refused"):
        nx.open_recording(path)


@pytest.mark.parametrize("encoding", ["utf-9", "utf-7", "idna"])
def test_encodings_that_are_none(tmp_path, encoding):
    metadata = f'<?xml version="1.0" encoding="{encoding}"?>' + czi_metadata(["GFP"])
    path = write_czi(tmp_path / "a.czi", czi_tiles(samples.counts(1, 1, 1, 5, 7)), metadata)
    with pytest.raises(nx.NiddlError, match=r"the XML of .*a\.czi is damaged"):
        nx.open_recording(path)


def test_dims_of_one_element_that_files_name_or_leave_out(tmp_path):
    """Only X and Y are in every file; ZEN names H, B, V, I, R, S with one element, and a subset keeps its numbers."""
    plane = samples.counts(5, 7)
    path = write_czi(tmp_path / "a.czi", [Tile(plane, {"X": 0, "Y": 0})])
    np.testing.assert_array_equal(nx.open_recording(path).values[0, 0], plane)
    every = dict.fromkeys("HBVIRSCMTZ", 0)  # 12 dims: more than 256 bytes before the pixels
    path = write_czi(tmp_path / "b.czi", [Tile(plane, {**every, "X": -9, "Y": 8})], czi_metadata(["GFP"]))
    np.testing.assert_array_equal(nx.open_recording(path).values[0, 0], plane)
    tiles = [Tile(plane + z, {"X": 0, "Y": 0, "C": 2, "Z": z + 5}) for z in range(3)]
    recording = nx.open_recording(write_czi(tmp_path / "c.czi", tiles, czi_metadata(["a", "b", "c"])))
    np.testing.assert_array_equal(recording[0, :, 0, 0].values, plane[0, 0] + np.arange(3))
    assert (recording.attrs["channel"], recording.attrs["emission_nm"]) == ("c", 502)


def test_a_last_segment_that_is_not_filled(tmp_path):
    path = write_czi(tmp_path / "a.czi", czi_tiles(samples.counts(2, 1, 1, 5, 7)), czi_metadata(["GFP"]))
    data = bytearray(path.read_bytes())
    at = data.index(b"ZISRAWMETADATA") + 16  # more bytes are allocated than the file has
    data[at : at + 8] = (1_000_000).to_bytes(8, "little")
    path.write_bytes(data)
    assert nx.open_recording(path).attrs["channel"] == "GFP"


def test_attachments_of_tiles_are_passed_over(tmp_path):
    path = write_czi(tmp_path / "a.czi", czi_tiles(samples.counts(2, 1, 1, 5, 7)))
    data = bytearray(path.read_bytes())
    at = data.index(b"ZISRAWSUBBLOCK") + 32
    data[at + 4 : at + 8] = (16).to_bytes(4, "little")  # an attachment, behind the pixels
    path.write_bytes(data)
    np.testing.assert_array_equal(nx.open_recording(path).values[:, 0], samples.counts(2, 1, 1, 5, 7)[:, 0, 0])


def test_truncation(tmp_path):
    path = samples.czi_volumes(tmp_path)
    data = path.read_bytes()
    for kept in (40, 600, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:kept])
        with pytest.raises(nx.NiddlError, match=r"volumes\.czi.*(cut short|damaged|can be read)"):
            nx.open_recording(path, channel=0)


def test_a_damaged_jpeg_xr_tile_leaves_the_interpreter_alive(tmp_path):
    """The decoder of JPEG XR crashes on some of these images; each is an error or counts."""
    code = (
        "import sys, random, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path; import niddl_xr as nx\n"
        "path = Path(sys.argv[1]); data = path.read_bytes(); begin = data.index(b'II\\xbc\\x01')\n"
        "for seed in range(12):\n"
        "    chance, damaged = random.Random(seed), bytearray(data)\n"
        "    for _ in range(8): damaged[begin + 60 + chance.randrange(800)] = chance.randrange(256)\n"
        "    path.write_bytes(damaged)\n"
        "    try: nx.open_recording(path).values\n"
        "    except nx.NiddlError as error: assert 'jpeg_xr.czi' in str(error)\n"
        "print('alive')"
    )
    path = samples.czi_jpeg_xr(tmp_path)
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "alive", result.stderr


@pytest.mark.realdata
def test_real_file(realdata):
    stem = realdata / "format_nd2_czi_ome" / "s_1_t_1_c_1_z_1"
    recording = nx.open_recording(stem.with_suffix(".czi"))
    np.testing.assert_array_equal(recording.values[0, 0], tifffile.imread(stem.with_suffix(".ome.tiff")))
    other = nx.open_recording(stem.with_suffix(".ome.tiff"))
    np.testing.assert_allclose(recording.x, other.x)
    assert recording.attrs["objective"] == "Plan-Apochromat 20x/0.8 M27"
    assert recording.attrs["channel"] == "Bright"
