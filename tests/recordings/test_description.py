"""What is said of a recording: the numbers, where they are from, what looks wrong, how little is read."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from xml.etree import ElementTree

import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

import niddl_xr as nx
from niddl_xr.chunking import sampled_planes
from niddl_xr.recordings import Description, describe
from niddl_xr.recordings._description_html import MOST_BYTES
from niddl_xr.schema import make_recording

CAMERA = {"offset_counts": 100, "gain_counts_per_photon": 3.0, "read_noise_counts": 2.0, "excess_noise": 1.0}


def labelled(values, **attrs):
    return make_recording(values, voxel_um=(1.5, 0.4, 0.4), dt_s=0.25, attrs=attrs)


def camera_counts(shape, *, gain=3.0, offset=100.0, read_noise=2.0, seed=0):
    """Poisson light in a smooth scene through a camera whose noise is known."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    photons = 20 + 180 * np.exp(-((y - shape[-2] / 2) ** 2 + (x - shape[-1] / 2) ** 2) / (2 * 15**2))
    electrons = rng.poisson(np.broadcast_to(photons, shape))
    return np.rint(offset + gain * electrons + rng.normal(0, read_noise, shape)).clip(0, 65535).astype("uint16")


class Counting:
    """An array that says how many of its elements were read."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.elements = self.reads = 0

    def __getitem__(self, key):
        part = self.values[key]
        self.elements += part.size
        self.reads += 1
        return part


def lazy(counting, chunks):
    meta = np.empty((0,) * counting.ndim, counting.dtype)
    return da.from_array(counting, chunks, inline_array=True, asarray=False, meta=meta)


def text(description):
    """Return the text with its line breaks undone."""
    return " ".join(repr(description).split())


def complaints(values, **attrs):
    return " ".join(describe(labelled(values, **attrs)).warnings)


# ---- numbers


def test_counts_are_those_of_the_planes_that_are_named(recording):
    summary = describe(recording)
    sampled = np.stack([recording.values[t, z] for t, z in summary.planes])
    assert len(set(summary.planes)) >= 10
    assert summary.counts.pixels == sampled.size
    assert (summary.counts.lowest, summary.counts.highest) == (sampled.min(), sampled.max())
    assert summary.counts.levels == len(np.unique(sampled))
    for percent, value in summary.counts.percentiles.items():
        assert value == np.percentile(sampled, float(percent), method="inverted_cdf")
    for (t, z), (later, same) in zip(summary.planes[::2], summary.planes[1::2], strict=True):
        assert (later, same) == (t + 1, z)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_every_dtype(counts, dtype):
    values = counts(2, 3, 7, 11, dtype=dtype)
    found = describe(labelled(values)).counts
    assert found.lowest == values.min()
    assert found.highest == values.max()
    assert found.percentiles["50"] == np.percentile(values, 50, method="inverted_cdf")
    assert found.levels == len(np.unique(values))
    assert found.zero_fraction == np.mean(values == 0)


def test_extent_time_and_sizes(recording):
    summary = describe(recording)
    assert summary.sizes == {"t": 5, "z": 3, "y": 37, "x": 53}
    assert summary.extent_um == pytest.approx({"z": 4.5, "y": 14.8, "x": 15.9})
    assert summary.times.duration_s == pytest.approx(1.25)
    assert (summary.times.median_s, summary.times.irregular, summary.times.gaps) == (0.25, False, 0)
    assert summary.memory_bytes == recording.nbytes
    assert summary.blocks is None
    blocks = describe(recording.chunk(t=2)).blocks
    assert (blocks.number, blocks.shape, blocks.bytes) == (3, (2, 3, 37, 53), 2 * 3 * 37 * 53 * 2)


def test_irregular_times():
    times = np.array([0, 0.1, 0.2, 0.6, 0.7, 0.95, 1.05])  # 3 and 1 or 2 frames are missing
    movie = make_recording(np.zeros((7, 1, 3, 4)), voxel_um=(1, 1, 1), t_s=times)
    found = describe(movie, planes=0)
    assert (found.times.gaps, found.times.dropped) == (2, 5 - 1 + round(2.5) - 2)
    assert found.times.irregular
    assert (found.times.shortest_s, found.times.longest_s) == pytest.approx((0.1, 0.4))
    assert "100 ms (median; 100 ms to 400 ms), 10 per s, 4 frames missing in 2 gaps" in text(found)
    assert "4 frames seem to be missing in 2 gaps of up to 0.4 s" in " ".join(found.warnings)
    back = make_recording(np.zeros((3, 1, 3, 4)), voxel_um=(1, 1, 1), t_s=np.array([0, 0.2, 0.1]))
    assert "Times do not increase" in " ".join(describe(back, planes=0).warnings)


def test_noise_is_the_cameras():
    movie = labelled(camera_counts((6, 2, 160, 180)))
    noise = describe(movie).noise
    assert noise.noise_from == "consecutive frames"
    assert noise.slope_counts == pytest.approx(3.0, rel=0.1)
    variance = noise.slope_counts * 160 + noise.intercept_counts2  # in the background of 20 photons
    assert variance == pytest.approx(3.0 * 60 + 4, rel=0.1)
    assert "photon transfer between consecutive frames" in text(describe(movie))
    stated = describe(movie.assign_attrs(CAMERA)).noise
    assert (stated.noise_from, stated.slope_counts, stated.intercept_counts2) == ("attrs", 3.0, 4 - 300)
    assert describe(movie[:1]).noise.noise_from == "single planes"


def test_noise_is_not_measured_across_frames_that_are_apart():
    rng, y = np.random.default_rng(0), np.arange(120)[:, None]
    light = np.linspace(1, 3, 40)[:, None, None, None] * (50 + 40 * np.sin(y / 2) * np.ones(130))
    values = (100 + 3 * rng.poisson(light)).astype("uint16")  # gets three times as bright
    assert describe(labelled(values)).noise.slope_counts == pytest.approx(3, rel=0.1)


def test_dropped_and_repeated_frames_are_no_noise():
    values = camera_counts((17, 1, 120, 130))
    clean = describe(labelled(values)).noise.slope_counts
    values[0] = 0
    values[3] = values[2]
    found = describe(labelled(values))
    assert found.noise.slope_counts == pytest.approx(clean, rel=0.1)
    assert "1 of 16 sampled planes hold one value only (t 0 z 0)" in " ".join(found.warnings)
    assert "1 sampled planes equal the frame before (t 3 z 0)" in " ".join(found.warnings)


def test_chunking_changes_nothing(recording):
    whole = describe(recording).to_dict()
    for chunks in ({"t": 1}, {"t": 2, "y": 10}, {"z": 1}):
        cut = describe(recording.chunk(chunks)).to_dict()
        for name in ("counts", "noise", "planes", "picture", "times", "missing"):
            assert cut[name] == whole[name]


# ---- how little is read


def test_it_reads_its_sample_and_no_more(counts):
    counting = Counting(counts(200, 5, 13, 17))
    recording = labelled(lazy(counting, (10, 5, 13, 17)))
    describe(recording, planes=0)
    assert counting.reads == 0
    summary = describe(recording)
    assert len(summary.planes) == 16
    assert counting.elements <= (16 + 5) * 13 * 17  # the sample, and the frame that is shown
    assert recording.variable._data is recording.data  # and the caller's recording stays lazy
    assert describe(recording, planes=6).planes[-1] == (199, 4)
    assert len(describe(recording, planes=1).planes) == 1


def test_the_whole_is_never_computed(counts, lazily):
    recording = labelled(da.from_array(counts(6, 2, 5, 7), chunks=1))
    with lazily:
        summary = describe(recording, planes=0)
        repr(summary)
        summary._repr_html_()
        repr(recording.niddl)


def test_frames_that_cost_all_others_are_read_twice_only(counts, monkeypatch):
    monkeypatch.setattr("niddl_xr.recordings.description.LARGE_BLOCK_BYTES", 10_000)
    counting = Counting(counts(60, 5, 13, 17))
    summary = describe(labelled(lazy(counting, (60, 5, 13, 17))))
    assert summary.planes == ((30, 2), (31, 2))
    assert counting.elements == 3 * 13 * 17
    assert "A block holds 60 frames" in " ".join(summary.warnings)


def test_what_several_planes_need_is_computed_once_if_it_is_slow(counts):
    calls = []

    def block(frames):
        if frames.size:
            calls.append(frames.shape)
            time.sleep(0.25)
        return frames

    made = da.from_array(counts(40, 3, 8, 9), chunks=(20, 3, 8, 9)).map_blocks(block, meta=np.empty((0,) * 4, "u2"))
    describe(labelled(made))
    assert len(calls) == 1 + 2  # the first plane, and each of the blocks


def test_large_planes_are_sampled_in_their_middle():
    values = np.zeros((2, 1, 2200, 2300), "uint8")
    values[:, :, :10] = 255  # beyond the middle
    summary = describe(labelled(values))
    assert summary.counts.pixels == 2 * 2048 * 2048
    assert summary.counts.highest == 0
    assert "in the middle of each" in text(summary)


def test_a_long_recording_takes_a_moment(tmp_path):
    frames, edge = 8000, 512  # 4 GB, of which the disk holds what is sampled
    path = tmp_path / "worm.npy"
    stored = np.lib.format.open_memmap(path, "w+", "uint16", (frames, edge, edge))
    for t, _ in [*sampled_planes(frames - 1, 1, 8), (frames // 2, 0)]:
        stored[t : t + 2] = camera_counts((2, edge, edge))[: frames - t]
    stored.flush()
    started, cpu = time.perf_counter(), time.process_time()
    summary = describe(nx.open_recording(path, axes="tyx", voxel_um=(None, 1, 1), dt_s=0.1))
    elapsed = min(time.perf_counter() - started, time.process_time() - cpu)  # other work on this machine is not ours
    assert summary.memory_bytes > 4e9
    assert summary.noise.slope_counts == pytest.approx(3, rel=0.1)
    assert elapsed < 2


# ---- any recording at all


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((1, 1, 1, 1), "uint16"),
        np.full((1, 1, 1, 1), np.nan),
        np.full((4, 2, 5, 7), np.nan, "float32"),
        np.full((4, 2, 5, 7), np.inf),
        np.full((4, 2, 5, 7), 300, "uint16"),
        np.zeros((3, 1, 1, 9), "int8"),
        np.random.default_rng(0).normal(0, 1, (4, 2, 5, 7)),
        np.full((2, 1, 6, 7), 2**64 - 1, "uint64"),
        np.full((2, 1, 6, 7), np.iinfo("int64").min, "int64"),
        np.linspace(-1e307, 8e307, 84).reshape(2, 1, 6, 7),
        np.zeros((2, 1, 3, 3000), "float16"),
    ],
    ids=lambda values: f"{values.shape} {values.dtype} {values.flat[0]}",
)
@pytest.mark.parametrize("chunked", [False, True])
def test_any_recording_is_described(values, chunked):
    recording = labelled(da.from_array(values, chunks={0: 1, 1: 1}) if chunked else values)
    summary = describe(recording)
    assert isinstance(summary, Description)
    json.dumps(summary.to_dict(), allow_nan=False)
    ElementTree.fromstring(summary._repr_html_())
    assert "sizes" in repr(summary)
    assert "range" in summary.to_frame().index


def test_what_is_no_recording_is_refused():
    with pytest.raises(nx.NiddlError, match="expected a recording, a DataArray"):
        describe(np.zeros((2, 2)))
    with pytest.raises(nx.NiddlError, match="expected planes, .* got -1"):
        describe(labelled(np.zeros((1, 1, 2, 2))), planes=-1)


def test_odd_attributes_do_no_harm(recording):
    odd = {
        "bit_depth": "twelve",
        "niddl_history": "[1, {}]",
        "source": 3,
        "files": 7,
        "channel": [1],
        "list": [np.pi, {}],
    }
    entries = [{"verb": "open_recording"}, {"verb": "open_recording", "parameters": {"voxel_um": 3}}, "x", {"verb": []}]
    for attrs in (
        odd,
        {"niddl_history": json.dumps(entries)},
        {"niddl_history": "7"},
        {"bit_depth": 99, "niddl_history": "{", "source": "no\0path", "camera": b"\xff"},
    ):
        summary = describe(recording.assign_attrs(attrs))
        assert summary.bit_depth is None
        json.dumps(summary.to_dict(), allow_nan=False)
        ElementTree.fromstring(summary._repr_html_().replace("\0", ""))


def test_planes_that_cannot_be_read_are_a_warning(counts):
    def block(frames, block_info):
        if block_info[0]["array-location"][0][0] == 0:
            raise nx.NiddlError("plane 0 of worm.tif could not be read")
        return frames

    values = counts(9, 1, 6, 7)
    broken = da.from_array(values, chunks=(2, 1, 6, 7)).map_blocks(block, dtype="uint16", meta=np.empty((0,) * 4, "u2"))
    summary = describe(labelled(broken))
    assert "Planes could not be read: plane 0 of worm.tif could not be read." in summary.warnings
    assert (0, 0) not in summary.planes
    assert summary.counts.lowest == values[2:].min()
    assert summary.picture is not None


# ---- where it is known from


def test_what_the_file_states_what_the_caller_said_and_what_is_missing(tmp_path, counts):
    path = tmp_path / "worm.tif"
    tifffile.imwrite(
        path,
        counts(4, 3, 8, 9),
        imagej=True,
        resolution=(4, 4),
        metadata={"axes": "TZYX", "unit": "um", "finterval": 0.5},
    )
    with pytest.warns(nx.MissingMetadataWarning, match="voxel size along z"):
        recording = nx.open_recording(path)
    summary = describe(recording)
    assert summary.source == str(path)
    assert "TIFF" in summary.format
    assert summary.disk_bytes == path.stat().st_size
    assert summary.stated == {"voxel_um": {"y": 0.25, "x": 0.25}, "dt_s": 0.5}
    assert summary.given == {}
    assert summary.missing["voxel size along z"] == 'open_recording(…, voxel_um={"z": …})'
    assert "The distance of the planes is not known" in " ".join(summary.warnings)
    said = describe(nx.open_recording(path, voxel_um=(2, None, None), dt_s=1))
    assert said.given == {"voxel_um": {"z": 2.0}, "dt_s": 1}
    assert said.stated == {"voxel_um": {"y": 0.25, "x": 0.25}}
    assert not {"voxel size along z", "time between frames"} & set(said.missing)
    path.unlink()
    gone = describe(recording, planes=0)
    assert (gone.format, gone.disk_bytes) == (None, None)


def test_it_is_known_through_a_store_what_the_caller_said(tmp_path, counts):
    np.save(tmp_path / "a.npy", counts(4, 8, 9))
    recording = nx.open_recording(tmp_path / "a.npy", axes="tyx", voxel_um=(None, 1, 1), dt_s=2)
    stored = describe(recording.niddl.save(tmp_path / "a.zarr", progress=False))
    assert stored.given == {"axes": "tyx", "voxel_um": {"y": 1.0, "x": 1.0}, "dt_s": 2}
    on_disk = sum(file.stat().st_size for file in (tmp_path / "a.zarr").rglob("*") if file.is_file())
    assert stored.disk_bytes == on_disk


def test_a_session_is_as_large_as_its_files(tmp_path, counts):
    for number in (1, 2):
        np.save(tmp_path / f"a{number}.npy", counts(4, 8, 9))
    said = {"axes": "tyx", "voxel_um": (None, 1, 1), "dt_s": 2}
    for what in (tmp_path, tmp_path / "*.npy", sorted(tmp_path.iterdir())):
        summary = describe(nx.open_recording(what, **said), planes=0)
        assert summary.disk_bytes == 2 * (tmp_path / "a1.npy").stat().st_size
        assert "numpy" in summary.format


def test_what_is_missing_is_named_with_what_sets_it(counts):
    with pytest.warns(nx.MissingMetadataWarning):
        bare = nx.from_numpy(counts(4, 8, 9), dims="tyx")
    missing = describe(bare).missing
    assert missing["voxel size along y, x"] == "open_recording(…, voxel_um=(None, …, …))"
    assert missing["time between frames"] == "open_recording(…, dt_s=…)"
    assert "bit_depth" in missing["bit depth of the camera"]
    assert "read_noise_counts" in missing["camera"]
    complete = labelled(counts(4, 1, 8, 9), bit_depth=12, **CAMERA)
    assert describe(complete).missing == {}


# ---- what looks wrong


def test_good_recordings_pass_in_silence():
    assert describe(labelled(camera_counts((12, 3, 60, 70)))).warnings == ()
    assert describe(labelled(camera_counts((12, 3, 60, 70)).astype("float32"))).warnings == ()
    dim = np.random.default_rng(1).poisson(0.5, (12, 2, 60, 70)).astype("uint16")
    assert all(
        "different counts" not in warning and "pile" not in warning for warning in describe(labelled(dim)).warnings
    )


def test_saturation():
    values = camera_counts((4, 2, 60, 70), gain=30)
    clipped = np.minimum(values, 4095)
    fraction = np.mean(clipped == 4095)
    found = describe(labelled(clipped))
    assert found.counts.ceiling == 65535
    assert found.counts.saturated_fraction == 0
    assert found.counts.piled_at == 4095
    assert found.counts.piled_fraction == pytest.approx(fraction, rel=0.2)
    assert "pile up at 4,095, the highest count, which is that of 12 bits: probably" in complaints(clipped)
    stated = describe(labelled(clipped, bit_depth=12))
    assert stated.counts.ceiling_from == "bit_depth"
    assert stated.counts.saturated_fraction == found.counts.piled_fraction
    assert stated.counts.piled_at is None
    assert "are saturated (at 4,095 or above)" in complaints(clipped, bit_depth=12)
    assert "pile up at 3,000, the highest count: probably" in complaints(np.minimum(values, 3000))
    assert "saturated (at 65,535 or above)" in complaints(np.minimum(values.astype(int) * 30, 65535).astype("uint16"))
    assert describe(labelled(values.astype("float32"))).counts.saturated_fraction is None


def test_saturated_pixels_do_not_enter_the_noise():
    values = np.minimum(camera_counts((6, 1, 160, 180)), 450)
    for attrs in ({}, {"bit_depth": 9}):
        assert describe(labelled(values, **attrs)).noise.slope_counts == pytest.approx(3, rel=0.25)


def test_bits_that_were_shifted_scaled_or_lost():
    values = camera_counts((4, 2, 60, 70))
    assert "All counts are multiples of 16: the camera's bits were shifted left by 4; divide" in complaints(values * 16)
    assert "All counts lie in steps of 16" in complaints(values * 16 + 5)
    assert "All counts lie in steps of 257" in complaints((values // 4).clip(0, 255) * 257)
    stretched = np.rint((values // 4).clip(0, 255) * 60.3).astype("uint16")
    assert "different counts occur between" in complaints(stretched)
    assert "The counts have 8 bits" in complaints((values // 4).astype("uint8"))
    assert "The counts have 8 bits" not in complaints((values // 4).astype("uint8"), bit_depth=8)
    negative = values.astype("int16") * 4 - 2000
    assert "All counts are multiples of 4" in complaints(negative)


def test_labels_and_specks_are_no_stretched_images():
    labels = np.zeros((2, 1, 60, 70), "uint16")
    labels[..., ::2] = np.arange(35) * 3
    specks = camera_counts((4, 1, 60, 70)) // 8
    specks[:, :, ::20, ::20] += 5000
    for values in (labels, specks):
        assert "stretched" not in complaints(values)


def test_a_bright_background_is_no_ceiling():
    values = np.full((4, 1, 60, 70), 221, "uint16")
    values[..., :20] = np.arange(20) * 11
    assert "pile up" not in complaints(values)


def test_masked_empty_and_missing_pixels():
    values = camera_counts((4, 2, 60, 70)).astype("float32")
    values[..., :20] = np.nan
    assert "28.6 % of the pixels are not finite" in complaints(values)
    masked = camera_counts((4, 2, 60, 70))
    masked[..., :50] = 0
    assert "71.4 % of the pixels are 0: the background was masked" in complaints(masked)
    assert "No sampled pixel is finite" in complaints(np.full((2, 2, 3, 4), np.nan))


def test_shape_and_labels():
    flat = np.zeros((1, 5, 6, 7))
    assert "single frame: if its planes are frames, not z, set axes=" in complaints(flat)
    assert "single frame: there is no time in it." in complaints(flat[:, :1])
    wide = make_recording(np.zeros((3, 1, 6, 7)), voxel_um=(1, 325, 325), dt_s=1)
    assert "A pixel of 325 µm along y is unlikely" in " ".join(describe(wide).warnings)
    oblong = make_recording(np.zeros((3, 1, 6, 7)), voxel_um=(1, 0.3, 0.4), dt_s=1)
    assert "Pixels are not square (0.3 µm along y, 0.4 µm along x)" in " ".join(describe(oblong).warnings)


def test_skipped_frames_are_counted(tmp_path, counts):
    for number in (3, 4, 9):
        tifffile.imwrite(tmp_path / f"t_{number}.tif", counts(6, 7), metadata=None)
    with pytest.warns(UserWarning, match="skipped"):
        recording = nx.open_recording(tmp_path, gaps="skip", voxel_um=(None, 1, 1))
    assert "4 numbered frames are missing" in " ".join(describe(recording).warnings)


def test_blocks_and_cameras():
    cut = labelled(da.zeros((20, 1, 12, 14), chunks=(20, 1, 4, 14)))
    assert "Blocks cut frames along y and hold 20 of them each" in " ".join(describe(cut).warnings)
    many = labelled(da.zeros((100_001, 1, 1, 1), chunks=1))
    assert "cut into 100,001 blocks" in " ".join(describe(many, planes=0).warnings)
    values = camera_counts((3, 1, 6, 7))
    assert "The camera multiplies electrons (EMCCD)" in complaints(values, camera="Andor iXon Ultra 888")
    assert "EMCCD" not in complaints(values, camera="Andor iXon Ultra 888", excess_noise=2)
    assert "EMCCD" not in complaints(values, camera="Hamamatsu ORCA Flash 4.0")


# ---- how it is shown


def png_of(page):
    encoded = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page).group(1)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_the_picture_is_the_maximum_of_the_middle_frame():
    values = np.full((5, 3, 40, 80), 10, "uint16")
    values[2, 0, 10:15, 20:30] = 1000  # only in the middle frame, in one plane
    values[1] = 7000
    summary = describe(labelled(values))
    image = png_of(summary._repr_html_())
    assert image.shape == (160, 320)
    assert image[40:60, 80:120].min() == 255
    image = image.copy()
    image[40:60, 80:120] = 0
    assert image[:130].max() == 0
    assert (summary.picture.t, summary.picture.z) == (2, (0, 1, 2))
    assert "Maximum of 3 planes (z 0 to 2) of frame 2, black to white 10 to 1,000 counts; the bar is 5 µm" in (
        summary._repr_html_()
    )
    bar = np.flatnonzero((image[145:] == 255).any(axis=0))
    assert summary.picture.bar_um == 5  # of 32 µm
    assert len(bar) == round(5 / 32 * 320)
    assert bar.max() < 320


def test_the_picture_has_the_proportions_of_the_voxels_and_is_small():
    noise = np.random.default_rng(0).integers(0, 65535, (2, 1, 600, 700)).astype("uint16")
    picture = describe(labelled(noise)).picture
    assert len(picture.png) <= MOST_BYTES
    tall = make_recording(noise, voxel_um=(1, 2.0, 1.0), dt_s=1)
    assert describe(tall).picture.height_px / describe(tall).picture.width_px == pytest.approx(1200 / 700, rel=0.02)
    with pytest.warns(nx.MissingMetadataWarning):
        unknown = describe(make_recording(noise)).picture
    assert unknown.bar_um is None
    thin = describe(labelled(np.arange(2 * 3000, dtype="uint16").reshape(2, 1, 1, 3000))).picture
    assert (thin.height_px, thin.bar_um) == (8, None)


def test_everything_in_the_page_is_escaped(recording):
    evil = {
        "camera": '<script>alert("x")</script>',
        "source": "<img src=x onerror=alert(1)>",
        "<b>": "&",
        "channel": "<i>",
    }
    page = describe(recording.assign_attrs(evil, description="\x1b[2J" + "y" * 5000))._repr_html_()
    root = ElementTree.fromstring(page)
    assert {element.tag for element in root.iter()} <= {
        *("div", "table", "caption", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "ul", "li")
    }
    assert 'alert("x")' in "".join(root.itertext())
    assert "\x1b" not in page
    assert len(page) < 60_000
    (image,) = root.iter("img")
    assert image.get("alt").startswith("Maximum of 3 planes")
    assert all(header.get("scope") == "row" for header in root.iter("th"))
    assert not re.search(r"(?<!-)\bcolor:(?!inherit)|background:(?!transparent)", page)  # the theme's own colours


def test_text_table_and_values_say_the_same(recording):
    summary = describe(recording)
    lines = repr(summary).splitlines()
    assert max(map(len, lines)) <= 110
    table = summary.to_frame()
    assert table.loc["sizes", "value"] == "t 5, z 3, y 37, x 53 of uint16"
    for value in table["value"]:
        assert value in text(summary)
    plain = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert plain["counts"]["highest"] == float(recording.values.max())
    assert plain["planes"][0] == [0, 0]
    assert "png" not in plain["picture"]
    with pytest.raises(AttributeError):
        summary.sizes = {}


# ---- real recordings


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore::niddl_xr.schema.MissingMetadataWarning")
def test_a_mouse_and_a_dataset(realdata):
    mouse = describe(nx.open_recording(realdata / "thunder_fish_mouse" / "mouse_tyx_int16.npy"))
    assert mouse.sizes == {"t": 500, "z": 1, "y": 64, "x": 64}
    assert mouse.dtype == "int16"
    path = realdata / "allen_ophys_2p" / "movie_100x100x100.h5"
    movie = describe(nx.open_recording(path))
    with h5py.File(path) as file:
        sampled = np.stack([file["data"][t] for t, _ in movie.planes])
    assert (movie.counts.lowest, movie.counts.highest) == (sampled.min(), sampled.max())


def test_the_end_of_signed_counts_is_that_of_their_dtype():
    values = np.full((4, 1, 8, 9), 32_767, "int16")
    values[..., :4] = np.arange(4 * 8 * 4).reshape(4, 1, 8, 4)
    counts = describe(labelled(values, bit_depth=16)).counts
    assert (counts.ceiling, counts.ceiling_from) == (32_767, "dtype")
    assert counts.saturated_fraction == pytest.approx(5 / 9)
    assert describe(labelled(values, bit_depth=12)).counts.ceiling == 4095


def test_a_file_name_is_no_command_to_a_terminal():
    odd = labelled(np.zeros((2, 1, 3, 4), "uint8"), source="/data/a\x1b[31m\nb\udce9.tif")
    assert repr(describe(odd, planes=0)).splitlines()[0] == "/data/a [31m b .tif"
    with pytest.raises(nx.NiddlError, match="as a whole number of 0 or more, got 1.5"):
        describe(odd, planes=1.5)


def test_percentiles_are_counts_that_part_of_the_pixels_does_not_exceed():
    values = np.array([10, 20, 30, 40, 50], "uint16").reshape(1, 1, 1, 5)
    expected = {"0.1": 10, "1": 10, "50": 30, "99": 50, "99.9": 50}
    for dtype in ("uint16", "int32", "float32"):
        assert describe(labelled(values.astype(dtype))).counts.percentiles == expected
