"""Folders and globs of numbered files, and NIDDL's layout: truth is what was written to each file."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from tests.recordings.samples import tiff as samples

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
Y, X = 7, 11


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(values))
    else:
        tifffile.imwrite(path, values, metadata=None, photometric="minisblack")


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".png"])
def test_planes_in_natural_order(tmp_path, counts, suffix):
    truth = counts(12, Y, X)
    for number in reversed(range(12)):
        write(tmp_path / f"img_{number + 1}{suffix}", truth[number])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / f"._img_1{suffix}").write_text("of a file system")
    recording = nx.open_recording(tmp_path, chunks=5)
    assert recording.data.chunks[0] == (5, 5, 2)
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    np.testing.assert_array_equal(recording.t, np.arange(12))
    np.testing.assert_array_equal(nx.open_recording(f"{tmp_path}/img_1?{suffix}").values[:, 0], truth[9:])
    assert recording.attrs["source"] == str(tmp_path)


def test_one_png(tmp_path, counts):
    write(tmp_path / "a.png", counts(Y, X))
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.png").values[0, 0], counts(Y, X))


def test_colours_of_png(tmp_path, counts):
    write(tmp_path / "a.png", counts(Y, X, 3))
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.png", channel="blue")[0, 0], counts(Y, X, 3)[..., 2])


@pytest.mark.parametrize("name", ["t{t:04}_z{z:03}.tif", "worm2 T{t}Z{z}.tif", "time{t}-plane{z}.png", "z{z}_t{t}.tif"])
def test_two_labelled_counters(tmp_path, counts, name):
    truth = counts(3, 12, Y, X)
    for t, z in np.ndindex(3, 12):
        write(tmp_path / name.format(t=t, z=z), truth[t, z])
    np.testing.assert_array_equal(nx.open_recording(tmp_path).values, truth)


def test_channel_counter(tmp_path, counts):
    truth = counts(4, 2, Y, X)
    for t, c in np.ndindex(4, 2):
        write(tmp_path / f"t{t}_ch{c}.tif", truth[t, c])
    with pytest.raises(nx.NiddlError, match="has 2 channels: 0, 1; choose"):
        nx.open_recording(tmp_path)
    np.testing.assert_array_equal(nx.open_recording(tmp_path, channel=1).values[:, 0], truth[:, 1])


def test_unlabelled_counters_need_axes(tmp_path, counts):
    truth = counts(3, 4, Y, X)
    for a, b in np.ndindex(3, 4):
        write(tmp_path / f"run{a}_{b}.tif", truth[a, b])
    with pytest.raises(nx.NiddlError, match=r"2 numbers vary in the names of .*run0_0\.tif to run2_3\.tif: set axes="):
        nx.open_recording(tmp_path)
    np.testing.assert_array_equal(nx.open_recording(tmp_path, axes="ztyx").values, truth.swapaxes(0, 1))


def test_a_volume_a_file(tmp_path, counts):
    truth = counts(3, 4, Y, X)
    for t in range(3):
        write(tmp_path / f"time{t:03}.tif", truth[t])
    np.testing.assert_array_equal(nx.open_recording(tmp_path).values, truth)
    np.testing.assert_array_equal(nx.open_recording(tmp_path, axes="ztyx").values, truth.swapaxes(0, 1))


def test_parts_of_a_movie_are_joined(tmp_path, counts):
    truth = counts(10, Y, X)
    for part, (start, stop) in enumerate([(0, 4), (4, 8), (8, 10)]):
        write(tmp_path / "plain" / f"movie_{part}.tif", truth[start:stop])
        path = tmp_path / "imagej" / f"movie_{part}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, truth[start:stop], imagej=True, metadata={"axes": "TYX", "finterval": 0.5})
    joined = nx.open_recording(tmp_path / "plain", axes="tyx", chunks=3)
    np.testing.assert_array_equal(joined.values[:, 0], truth)
    joined = nx.open_recording(tmp_path / "imagej")
    np.testing.assert_array_equal(joined.values[:, 0], truth)
    np.testing.assert_allclose(joined.t, np.arange(10) * 0.5)


def test_gaps_are_named_or_skipped(tmp_path, counts):
    for number in (3, 4, 7, 10):
        write(tmp_path / f"img_{number:02}.tif", counts(Y, X) + number)
    with pytest.raises(
        nx.NiddlError,
        match=r"4 files are missing .*: img_05\.tif, img_06\.tif, img_08\.tif, img_09\.tif; .*gaps='skip'",
    ):
        nx.open_recording(tmp_path)
    with pytest.warns(UserWarning, match=r"missing .*img_05\.tif.*t keeps the numbers") as caught:
        recording = nx.open_recording(tmp_path, gaps="skip")
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(recording.t, [3, 4, 7, 10])
    assert recording.t.attrs["units"] == "frame"
    np.testing.assert_array_equal(recording.values[2, 0], counts(Y, X) + 7)
    with pytest.warns(UserWarning, match="missing"):
        timed = nx.open_recording(tmp_path, gaps="skip", dt_s=0.5)
    np.testing.assert_allclose(timed.t, [1.5, 2, 3.5, 5])
    with pytest.raises(nx.NiddlError, match="expected gaps as 'error' or 'skip', got 'nan'"):
        nx.open_recording(tmp_path, gaps="nan")


def test_a_missing_plane_cannot_be_skipped(tmp_path, counts):
    for t, z in np.ndindex(3, 4):
        if (t, z) != (1, 2):
            write(tmp_path / f"t{t}_z{z}.tif", counts(Y, X))
    with pytest.raises(
        nx.NiddlError, match=r"1 file is missing from .*: t1_z2\.tif; every frame needs the same planes"
    ):
        nx.open_recording(tmp_path, gaps="skip")


@pytest.mark.parametrize("odd", [np.ones((Y + 1, X), "uint16"), np.ones((Y, X), "uint8"), np.ones((2, Y, X), "uint16")])
def test_the_first_file_of_another_kind_is_named(tmp_path, counts, odd):
    for number in range(4):
        write(tmp_path / f"img_{number}.tif", odd if number > 1 else counts(Y, X))
    with pytest.raises(nx.NiddlError, match=r"img_2\.tif has shape .* but img_0\.tif has \(7, 11\) and uint16"):
        nx.open_recording(tmp_path)


def test_names_that_do_not_fit_together(tmp_path, counts):
    for name in ("img_1.tif", "img_2.tif", "mask.tif"):
        write(tmp_path / name, counts(Y, X))
    with pytest.raises(nx.NiddlError, match=r"differ in their numbers only, as img_1\.tif; mask\.tif differs"):
        nx.open_recording(tmp_path)
    (tmp_path / "mask.tif").rename(tmp_path / "img_01.tif")
    with pytest.raises(nx.NiddlError, match=r"same numbers: img_01\.tif and img_1\.tif"):
        nx.open_recording(tmp_path)
    (tmp_path / "img_01.tif").unlink()
    write(tmp_path / "img_3.png", counts(Y, X))
    with pytest.raises(nx.NiddlError, match=r"holds \.png and \.tif files; choose some with a pattern"):
        nx.open_recording(tmp_path)


def test_damaged_and_missing_files(tmp_path, counts):
    write(tmp_path / "img_0.png", counts(Y, X))
    write(tmp_path / "img_1.png", counts(Y, X))
    content = (tmp_path / "img_1.png").read_bytes()
    (tmp_path / "img_1.png").write_bytes(content[:60] + b"\0" * 40 + content[100:])
    with pytest.raises(nx.NiddlError, match=r"plane 0 of .*img_1\.png could not be read"):
        nx.open_recording(tmp_path).compute(scheduler="sync")
    (tmp_path / "img_1.png").write_bytes(b"GIF89a, renamed by somebody")
    with pytest.raises(nx.NiddlError, match=r"img_1\.png is not a PNG: its first bytes"):
        nx.open_recording(tmp_path)
    (tmp_path / "img_1.png").write_bytes(content[:20])
    with pytest.raises(nx.NiddlError, match=r"img_1\.png is not a PNG that can be read"):
        nx.open_recording(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no recording at .*b\*\.tif: no file fits this pattern"):
        nx.open_recording(tmp_path / "b*.tif")
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(nx.NiddlError, match=r"no reader for .*b\.txt: neither its first bytes nor its suffix"):
        nx.open_recording(tmp_path / "b.*")


def test_lazy_and_small_in_a_graph(tmp_path, counts, lazily, pickled):
    truth = counts(150, Y, X)
    for number in range(150):
        write(tmp_path / f"img_{number}.tif", truth[number])
    with lazily:
        recording = nx.open_recording(tmp_path)
    size, values = pickled(recording[62:67])
    np.testing.assert_array_equal(values[:, 0], truth[62:67])
    assert size < 20_000
    for number in range(150):
        if number not in range(62, 67):
            (tmp_path / f"img_{number}.tif").unlink()
    np.testing.assert_array_equal(recording[62:67].compute(scheduler="sync")[:, 0], truth[62:67])


def niddl(folder, truth, start=1):
    for t, z in np.ndindex(truth.shape[:2]):
        write(folder / f"img_{t + start}" / f"z_{z + start}.tif", truth[t, z])


@pytest.mark.parametrize("inside", ["noisy_imgs", "."])
def test_niddl_layout(tmp_path, counts, inside):
    truth = counts(11, 3, Y, X)
    niddl(tmp_path / inside, truth)
    recording = nx.open_recording(tmp_path, chunks=4)
    assert recording.data.chunks[0] == (4, 4, 3)
    np.testing.assert_array_equal(recording.values, truth)


def test_niddl_layout_of_one_stack_or_one_plane(tmp_path, counts):
    niddl(tmp_path / "a", counts(1, 3, Y, X))
    niddl(tmp_path / "b", counts(3, 1, Y, X))
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a").values, counts(1, 3, Y, X))
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "b").values, counts(3, 1, Y, X))
    with pytest.raises(nx.NiddlError, match=r"holds several recordings: a, b; open one of them"):
        nx.open_recording(tmp_path)


def test_niddl_layout_with_gaps(tmp_path, counts):
    niddl(tmp_path, counts(4, 3, Y, X))
    (tmp_path / "img_3" / "z_2.tif").unlink()
    with pytest.raises(nx.NiddlError, match=r"1 file is missing from .*: img_3/z_2\.tif; every frame needs"):
        nx.open_recording(tmp_path)
    for z in (1, 3):
        (tmp_path / "img_3" / f"z_{z}.tif").unlink()
    with pytest.raises(nx.NiddlError, match=r"3 files are missing .*: img_3/z_1\.tif, img_3/z_2\.tif, img_3/z_3\.tif"):
        nx.open_recording(tmp_path)
    with pytest.warns(UserWarning, match="missing"):
        recording = nx.open_recording(tmp_path, gaps="skip")
    np.testing.assert_array_equal(recording.t, [1, 2, 4])
    np.testing.assert_array_equal(recording.values, counts(4, 3, Y, X)[[0, 1, 3]])
    with pytest.raises(nx.NiddlError, match="whose axes are 'tzyx', got axes='ztyx'"):
        nx.open_recording(tmp_path, axes="ztyx")


@pytest.mark.parametrize("name", ["planes tiff", "planes png", "niddl layout"])
def test_samples_hold_what_was_written(tmp_path, name):
    values = samples.counts(samples.T, samples.Z, samples.Y, samples.X)
    truth = samples.counts(samples.T, samples.Y, samples.X)[:, None] if name == "planes png" else values
    np.testing.assert_array_equal(nx.open_recording(samples.SAMPLES[name](tmp_path)).values, truth)


def test_files_of_both_byte_orders(tmp_path, counts, pickled):
    truth = counts(5, Y, X)
    for number in range(5):
        samples.write_tiff(tmp_path / f"img_{number}.tif", truth[number : number + 1], order="<>"[number % 2])
    recording = nx.open_recording(tmp_path, chunks=3)
    assert recording.dtype.isnative
    np.testing.assert_array_equal(pickled(recording)[1][:, 0], truth)
    np.testing.assert_array_equal(recording[::-1, :, 2:5, 3].values[:, 0], truth[::-1, 2:5, 3])


def test_compressed_and_plain_files_together(tmp_path, counts):
    truth = counts(4, Y, X)
    for number in range(4):
        compression = "zlib" if number % 2 else None
        tifffile.imwrite(tmp_path / f"img_{number}.tif", truth[number], compression=compression)
    np.testing.assert_array_equal(nx.open_recording(tmp_path).values[:, 0], truth)


def test_volumes_of_several_channels_at_numbered_times(tmp_path, counts):
    truth = counts(3, 4, 2, Y, X)
    for t in range(3):
        metadata = {"axes": "ZCYX", "spacing": 1.5, "unit": "um"}
        tifffile.imwrite(tmp_path / f"worm_t{t}.tif", truth[t], imagej=True, resolution=(4, 2), metadata=metadata)
    recording = nx.open_recording(tmp_path, channel=1, dt_s=0.5)
    np.testing.assert_array_equal(recording.values, truth[:, :, 1])
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "tzyx"], [0.5, 1.5, 0.5, 0.25])


def test_a_png_that_says_it_is_huge_is_not_decoded(tmp_path, counts):
    write(tmp_path / "img_0.png", counts(Y, X))
    content = bytearray((tmp_path / "img_0.png").read_bytes())
    content[16:24] = b"\0\1\0\0" * 2  # 65,536 pixels each way
    (tmp_path / "img_0.png").write_bytes(content)
    with pytest.raises(nx.NiddlError, match=r"img_0\.png cannot hold \(65536, 65536\) values in \d+ bytes"):
        nx.open_recording(tmp_path / "img_0.png")


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_palette_gives_its_colours(tmp_path, bits, transparent):
    """Written by Pillow, which stores the index of every pixel among at most 2**bits colours."""
    from PIL import Image

    indices = np.arange(Y * X, dtype="uint8").reshape(Y, X) % 13
    image = Image.fromarray(indices, mode="P")
    palette = np.random.default_rng(0).integers(0, 256, (2**bits, 3), dtype="uint8")
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "a.png", bits=bits, **({"transparency": 2} if transparent else {}))
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == "P"
    for channel, colour in enumerate(("red", "green", "blue")):
        recording = nx.open_recording(tmp_path / "a.png", channel=colour, voxel_um=(1, 1, 1))
        np.testing.assert_array_equal(recording.values[0, 0], palette[indices, channel])
    if transparent:
        alpha = nx.open_recording(tmp_path / "a.png", channel="alpha", voxel_um=(1, 1, 1))
        np.testing.assert_array_equal(alpha.values[0, 0], np.where(indices == 2, 0, 255))
