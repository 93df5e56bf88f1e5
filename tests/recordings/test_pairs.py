"""Pairs: truth is what was written to each file."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from tests.recordings.samples.pairs import PAIRS, PAIRS_OPTIONS

N, Z, Y, X = 11, 3, 7, 13


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(values))
    else:
        tifffile.imwrite(path, values, metadata=None, photometric="minisblack")


def niddl(folder, noisy, clean):
    for half, values in (("noisy_imgs", noisy), ("gt_imgs", clean)):
        for n, z in np.ndindex(values.shape[:2]):
            write(folder / half / f"img_{n + 1}" / f"z_{z + 1}.tif", values[n, z])


def test_niddl_layout(tmp_path, counts, lazily, pickled):
    noisy, clean = counts(N, Z, Y, X), counts(N, Z, Y, X) + np.uint16(40_000)
    niddl(tmp_path, noisy, clean)
    with lazily:
        pairs = nx.open_pairs(tmp_path)
    assert pairs.noisy.dims == ("stack", "z", "y", "x")
    assert pairs.clean.dtype == np.uint16
    assert int(pairs.clean.max()) > 32_767
    np.testing.assert_array_equal(pairs.noisy, noisy)
    np.testing.assert_array_equal(pairs.clean, clean)
    assert pairs["stack"].values.tolist() == [f"img_{n + 1}" for n in range(N)]
    assert pairs.attrs["source"] == str(tmp_path)
    assert pairs.noisy.data.chunks[0] == (1,) * N
    size, values = pickled(pairs.clean[4:6])
    np.testing.assert_array_equal(values, clean[4:6])
    assert size < 20_000


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    "names", [("noisy_imgs", "gt_imgs"), ("lowSNR", "highSNR"), ("raw", "target"), ("input", "GT")]
)
def test_folders_of_like_named_files(tmp_path, counts, suffix, names, recwarn):
    noisy, clean = counts(N, Y, X), counts(N, Y, X, dtype="uint8")
    for n in range(N):
        write(tmp_path / names[0] / f"img_{n + 1}{suffix}", noisy[n])
        write(tmp_path / names[1] / f"img_{n + 1}{suffix}", clean[n])
    (tmp_path / "noise2noise_output").mkdir()
    pairs = nx.open_pairs(tmp_path)
    np.testing.assert_array_equal(pairs.noisy[:, 0], noisy)
    np.testing.assert_array_equal(pairs.clean[:, 0], clean)
    assert pairs.clean.dtype == np.uint8
    assert pairs["stack"].values.tolist() == [f"img_{n + 1}" for n in range(N)]
    assert not recwarn.list


def test_volumes_and_pattern(tmp_path, counts):
    noisy = counts(4, Z, Y, X)
    for n in range(4):
        write(tmp_path / "a" / f"f{n // 2}_{n % 2}.tif", noisy[n])
        write(tmp_path / "b" / f"f{n // 2}_{n % 2}.tif", noisy[n] + 1)
    pairs = nx.open_pairs(tmp_path, noisy="a", clean="b", pattern="*_1.tif")
    np.testing.assert_array_equal(pairs.noisy, noisy[1::2])
    np.testing.assert_array_equal(pairs.clean, noisy[1::2] + 1)
    with pytest.raises(nx.NiddlError, match=r"found no \.tif or \.png file that fits pattern='\*_7\.tif' in .*a"):
        nx.open_pairs(tmp_path, noisy="a", clean="b", pattern="*_7.tif")


def test_folders_that_are_not_clear(tmp_path, counts):
    for name in ("noisy_1", "noisy_2", "truth", "other"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        nx.NiddlError,
        match=r"expected one folder of noisy images .* recognised \['noisy_1', 'noisy_2'\]; name the folders with "
        r"noisy= and clean=\. Its folders: noisy_1, noisy_2, other, truth",
    ):
        nx.open_pairs(tmp_path)
    with pytest.raises(nx.NiddlError, match="has no folder 'noisy_3' for noisy="):
        nx.open_pairs(tmp_path, noisy="noisy_3")
    with pytest.raises(nx.NiddlError, match=r"'truth' of .* would be both noisy and clean"):
        nx.open_pairs(tmp_path, noisy="truth")
    with pytest.raises(nx.NiddlError, match=r"found no \.tif or \.png file in .*noisy_1, nor NIDDL's"):
        nx.open_pairs(tmp_path, noisy="noisy_1")
    with pytest.raises(FileNotFoundError, match=r"no pairs at .*gone"):
        nx.open_pairs(tmp_path / "gone")
    (tmp_path / "file").write_text("x")
    with pytest.raises(nx.NiddlError, match=r"expected a folder with .*, got the file"):
        nx.open_pairs(tmp_path / "file")


def test_missing_partners_are_named(tmp_path, counts):
    niddl(tmp_path, counts(3, Z, Y, X), counts(3, Z, Y, X))
    (tmp_path / "gt_imgs" / "img_2" / "z_3.tif").unlink()
    (tmp_path / "noisy_imgs" / "img_3" / "z_1.tif").unlink()
    with pytest.raises(
        nx.NiddlError,
        match=r"1 of noisy_imgs have no partner in gt_imgs: img_2/z_3\.tif; "
        r"1 of gt_imgs have no partner in noisy_imgs: img_3/z_1\.tif",
    ):
        nx.open_pairs(tmp_path)


def test_ragged_stacks_and_gaps(tmp_path, counts):
    niddl(tmp_path, counts(3, Z, Y, X), counts(3, Z, Y, X))
    for half in ("noisy_imgs", "gt_imgs"):
        (tmp_path / half / "img_2" / "z_3.tif").unlink()
    with pytest.raises(nx.NiddlError, match=r"different numbers of planes: img_2/z_1\.tif has 2, img_1/z_1\.tif has 3"):
        nx.open_pairs(tmp_path)
    for half in ("noisy_imgs", "gt_imgs"):
        (tmp_path / half / "img_3" / "z_2.tif").unlink()
    with pytest.raises(nx.NiddlError, match=r"planes \[2\] of .*noisy_imgs/img_3 are missing"):
        nx.open_pairs(tmp_path)


def test_sizes_that_differ(tmp_path, counts):
    for n in range(3):
        write(tmp_path / "noisy" / f"{n}.tif", counts(Y, X))
        write(tmp_path / "clean" / f"{n}.tif", counts(Y, X + (n == 1)))
    with pytest.raises(nx.NiddlError, match=r"1\.tif is \(7, 13\) in .*noisy, but \(7, 14\) in .*clean"):
        nx.open_pairs(tmp_path)
    write(tmp_path / "noisy" / "1.tif", counts(Y, X + 1))
    with pytest.raises(nx.NiddlError, match=r"1\.tif has planes of \(7, 14\) uint16, but 0\.tif has \(7, 13\) uint16"):
        nx.open_pairs(tmp_path)
    write(tmp_path / "noisy" / "1.tif", counts(2, 2, Y, X))
    with pytest.raises(nx.NiddlError, match=r"1\.tif .*\(4, 7, 13\) in .*noisy, but \(7, 14\)"):
        nx.open_pairs(tmp_path)
    tifffile.imwrite(tmp_path / "noisy" / "1.tif", counts(Y, X, 3, dtype="uint8"), photometric="rgb")
    with pytest.raises(nx.NiddlError, match=r"1\.tif is \(7, 13\) in .*noisy, but \(7, 14\)"):
        nx.open_pairs(tmp_path)
    (tmp_path / "noisy" / "1.tif").write_bytes(b"II*\0 cut")
    with pytest.raises(nx.NiddlError, match=r"1\.tif"):
        nx.open_pairs(tmp_path)


def test_one_nested_and_one_plain_folder(tmp_path, counts):
    write(tmp_path / "noisy" / "img_1" / "z_1.tif", counts(Y, X))
    write(tmp_path / "clean" / "img_1.tif", counts(Y, X))
    with pytest.raises(nx.NiddlError, match=r"noisy is in NIDDL's layout .* but .*clean holds plain files"):
        nx.open_pairs(tmp_path)


def test_voxels_of_the_files_or_of_the_caller(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("noisy", "clean"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            tifffile.imwrite(
                tmp_path / folder / f"{name}.tif", rng.integers(0, 99, (3, 17, 19)).astype("uint16"), imagej=True,
                resolution=(4, 2), metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"},
            )  # fmt: skip
    pairs = nx.open_pairs(tmp_path)
    assert nx.schema.voxel_um(pairs["noisy"].isel(stack=0)) == pytest.approx({"z": 1.5, "y": 0.5, "x": 0.25})
    given = nx.open_pairs(tmp_path, voxel_um=(None, 0.3, 0.4))
    assert nx.schema.voxel_um(given["noisy"].isel(stack=0)) == pytest.approx({"z": 1.5, "y": 0.3, "x": 0.4})
    with pytest.raises(nx.NiddlError, match="positive voxel size in µm along y, got -1"):
        nx.open_pairs(tmp_path, voxel_um=(1, -1, 1))


def test_a_folder_of_sessions(tmp_path, counts, lazily, pickled):
    first, second = counts(4, Z, Y, X), counts(2, Z, Y, X) + np.uint16(30_000)
    niddl(tmp_path / "20210729" / "cond_1" / "Ch3", first, first + np.uint16(1))
    niddl(tmp_path / "20210730", second, second + np.uint16(1))
    (tmp_path / "notes").mkdir()
    (tmp_path / "again").symlink_to(tmp_path / "20210730")  # else a pair would be in training and in validation
    (tmp_path / "20210729" / "loop").symlink_to(tmp_path)
    with lazily:
        pairs = nx.open_pairs(tmp_path)
    assert pairs["stack"].values.tolist() == [
        *(f"20210729/cond_1/Ch3/img_{n}" for n in (1, 2, 3, 4)),
        "20210730/img_1",
        "20210730/img_2",
    ]
    np.testing.assert_array_equal(pairs.noisy, np.concatenate([first, second]))
    np.testing.assert_array_equal(pairs.clean, np.concatenate([first, second]) + 1)
    size, values = pickled(pairs.clean[3:5])
    np.testing.assert_array_equal(values, np.stack([first[3], second[0]]) + 1)
    assert size < 20_000
    listed = nx.open_pairs([tmp_path / "20210730", tmp_path / "20210729"])
    assert listed["stack"].values.tolist()[1:3] == ["20210730/img_2", "20210729/cond_1/Ch3/img_1"]
    np.testing.assert_array_equal(listed.noisy, np.concatenate([second, first]))
    assert listed.attrs["source"] == [str(tmp_path / "20210730"), str(tmp_path / "20210729")]
    alike = tmp_path / "other" / "20210730"
    niddl(alike, second, second)
    names = nx.open_pairs([tmp_path / "20210730", alike])["stack"].values.tolist()
    assert names[0].endswith("20210730/img_1")
    assert names[2].endswith("other/20210730/img_1")
    assert len(set(names)) == 4


def test_half_a_session_is_not_left_out(tmp_path, counts):
    niddl(tmp_path / "a", counts(1, Z, Y, X), counts(1, Z, Y, X))
    write(tmp_path / "b" / "noisy_imgs" / "img_1" / "z_1.tif", counts(Y, X))
    with pytest.raises(nx.NiddlError, match=r"expected one folder of clean images in .*b, recognised none"):
        nx.open_pairs(tmp_path)
    with pytest.raises(nx.NiddlError, match="expected a folder of pairs, or several, got none"):
        nx.open_pairs([])
    with pytest.raises(nx.NiddlError, match="expected each folder once"):
        nx.open_pairs([tmp_path / "a", tmp_path / "a"])


def test_files_of_one_folder_that_differ_by_a_word(tmp_path, counts):
    noisy, clean = counts(3, Y, X), counts(3, Y, X, dtype="uint8")
    for n in range(3):
        write(tmp_path / f"worm{n}_low_2.png", noisy[n])
        write(tmp_path / f"worm{n}_high_2.png", clean[n])
    write(tmp_path / "mask.png", clean[0])
    pairs = nx.open_pairs(tmp_path)
    assert pairs["stack"].values.tolist() == ["worm0_2", "worm1_2", "worm2_2"]
    np.testing.assert_array_equal(pairs.noisy[:, 0], noisy)
    np.testing.assert_array_equal(pairs.clean[:, 0], clean)
    (tmp_path / "worm1_high_2.png").unlink()
    with pytest.raises(nx.NiddlError, match=r"differ by one word.* 1 have no partner: worm1_low_2\.png"):
        nx.open_pairs(tmp_path)
    write(tmp_path / "worm1_high_2.png", counts(Y, X + 1))
    with pytest.raises(nx.NiddlError, match=r"worm1_low_2\.png is \(7, 13\) in .*, but worm1_high_2\.png is \(7, 14\)"):
        nx.open_pairs(tmp_path)
    assert nx.open_pairs(tmp_path, pattern="worm[02]*").sizes["stack"] == 2
    write(tmp_path / "worm_raw_gt.png", noisy[0])
    with pytest.raises(nx.NiddlError, match=r"worm_raw_gt\.png would be both noisy and clean by its name"):
        nx.open_pairs(tmp_path)


def test_one_pair_of_files_whatever_else_their_names_say(tmp_path, counts):
    noisy, clean = counts(Y, X), counts(Y, X) + np.uint16(9)
    write(tmp_path / "noisy_avg1.png", noisy)
    write(tmp_path / "target_avg.png", clean)
    pairs = nx.open_pairs(tmp_path)
    np.testing.assert_array_equal(pairs.noisy[0, 0], noisy)
    np.testing.assert_array_equal(pairs.clean[0, 0], clean)
    write(tmp_path / "b" / "t1_a.tif", noisy)
    write(tmp_path / "b" / "t400_a.tif", clean)
    given = nx.open_pairs(tmp_path / "b", noisy="t1", clean="t400")
    np.testing.assert_array_equal(given.clean[0, 0], clean)
    write(tmp_path / "b" / "t1_b.tif", noisy)
    with pytest.raises(nx.NiddlError, match=r"1 have no partner: t1_b\.tif"):
        nx.open_pairs(tmp_path / "b", noisy="t1", clean="t400")


def test_colours_and_channels(tmp_path, counts):
    noisy, clean = counts(2, Y, X, 3, dtype="uint8"), counts(2, Y, X, 3, dtype="uint8") // 2
    for n in range(2):
        write(tmp_path / "rgb" / f"{n}_low.png", noisy[n])
        write(tmp_path / "rgb" / f"{n}_high.png", clean[n])
    with pytest.raises(nx.NiddlError, match=r"0_low\.png has 3 channels: 0.*, 1.*, 2.*; choose one with channel="):
        nx.open_pairs(tmp_path / "rgb")
    green = nx.open_pairs(tmp_path / "rgb", channel=1)
    np.testing.assert_array_equal(green.noisy[:, 0], noisy[..., 1])
    np.testing.assert_array_equal(green.clean[:, 0], clean[..., 1])
    gray = nx.open_pairs(tmp_path / "rgb", channel="gray")
    np.testing.assert_allclose(gray.noisy[:, 0], noisy.mean(axis=-1), rtol=1e-6)
    assert gray.noisy.dtype == np.float32
    with pytest.raises(nx.NiddlError, match="has no channel 3; choose one of 0.*, 1.*, 2"):
        nx.open_pairs(tmp_path / "rgb", channel=3)
    volumes = counts(Z, 2, Y, X)
    for word in ("raw", "gt"):
        (tmp_path / "czyx").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "czyx" / f"a_{word}.tif", volumes, imagej=True, metadata={"axes": "ZCYX"})
    second = nx.open_pairs(tmp_path / "czyx", channel=1, voxel_um=(1, 1, 1))
    np.testing.assert_array_equal(second.noisy[0], volumes[:, 1])


def test_pairs_of_two_recordings(counts, lazily):
    noisy = nx.from_numpy(counts(5, Z, Y, X), dims="tzyx", voxel_um=(2, 0.5, 0.4), dt_s=0.5)
    clean = nx.from_numpy(counts(5, Z, Y, X).astype("float32") * 2, dims="tzyx", voxel_um=(2, 0.5, 0.4), dt_s=0.2)
    with lazily:
        pairs = nx.pair_recordings(noisy.chunk(t=1), clean.chunk(t=1))
    np.testing.assert_array_equal(pairs.noisy, noisy.values)
    np.testing.assert_array_equal(pairs.clean, clean.values)
    assert pairs["stack"].values.tolist() == [f"t_{n}" for n in range(5)]
    assert nx.schema.voxel_um(pairs.noisy.isel(stack=0)) == pytest.approx({"z": 2, "y": 0.5, "x": 0.4})
    assert nx.pair_recordings(noisy, clean, stack="worm")["stack"].values[4] == "worm/t_4"
    named = nx.pair_recordings(noisy, clean, stack=["a", "b", "c", "d", "e"])
    assert named["stack"].values.tolist() == ["a", "b", "c", "d", "e"]
    with pytest.raises(nx.NiddlError, match="expected 5 different names, one for each frame, in stack=, got 2"):
        nx.pair_recordings(noisy, clean, stack=["a", "b"])
    with pytest.raises(nx.NiddlError, match="two recordings of equal sizes, got noisy .*'t': 5.*clean .*'t': 4"):
        nx.pair_recordings(noisy, clean[:4])
    other = nx.from_numpy(clean.values, dims="tzyx", voxel_um=(2, 0.5, 0.3), dt_s=0.5)
    with pytest.raises(nx.NiddlError, match="equal voxels, got 0.4 µm along x in noisy .* and 0.3 µm in clean"):
        nx.pair_recordings(noisy, other)
    with pytest.raises(nx.NiddlError, match="expected a recording"):
        nx.pair_recordings(noisy, clean.values)


@pytest.mark.realdata
def test_real_pairs(realdata):
    """Sizes of the files as other readers give them; the values of one pair."""
    w2s = nx.open_pairs(realdata / "w2s_pairs")
    assert dict(w2s.sizes) == {"stack": 180, "z": 1, "y": 512, "x": 512}
    one = tifffile.imread(realdata / "w2s_pairs" / "clean_avg400" / "031_1.tif")
    np.testing.assert_array_equal(w2s.clean.sel(stack="031_1")[0], one)
    folder = realdata / "noisenet_pairs"
    bacteria = nx.open_pairs(folder / "bacteria")
    png = imagecodecs.png_decode((folder / "bacteria" / "target_avg.png").read_bytes())
    np.testing.assert_array_equal(bacteria.clean[0, 0], png)
    with pytest.raises(
        nx.NiddlError, match="bpae_3ch_raw_uint8.tif has 1 of 3 channels; .* choose stacks with pattern="
    ):
        nx.open_pairs(folder / "fmd")
    bpae = nx.open_pairs(folder / "fmd", pattern="bpae*", channel=2)
    np.testing.assert_array_equal(bpae.noisy[0, 0], tifffile.imread(folder / "fmd" / "bpae_3ch_raw_uint8.tif")[2])
    assert nx.open_pairs(folder / "fmd", pattern="confocal*")["stack"].values.tolist() == ["confocal_zebrafish"]


@pytest.mark.realdata
def test_real_pairs_of_colours(realdata):
    folder = realdata / "noisenet_pairs" / "gigadb"
    pairs = nx.open_pairs(folder, pattern="nucleus*", channel=0)
    png = imagecodecs.png_decode((folder / "nucleus_low.png").read_bytes())
    np.testing.assert_array_equal(pairs.noisy[0, 0], png[..., 0])


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_damaged_pairs_give_one_kind_of_error(tmp_path, name):
    """Truncated files, flipped bytes and wrong headers: an error of this package, or an array of the stated sizes."""
    folder = PAIRS[name](tmp_path)
    options = PAIRS_OPTIONS.get(name, {})
    sizes = dict(nx.open_pairs(folder, **options).sizes)
    victim = sorted(path for path in folder.rglob("*") if path.is_file())[-1]
    whole = victim.read_bytes()
    rng = np.random.default_rng(0)
    for turn in range(40):
        damaged = bytearray(whole)
        if turn % 2:
            damaged = damaged[: rng.integers(0, len(whole))]
        else:
            for place in rng.integers(0, min(len(whole), 300), 3):
                damaged[place] = rng.integers(0, 256)
        victim.write_bytes(bytes(damaged))
        message = victim.name
        try:
            found = dict(nx.open_pairs(folder, **options).compute().sizes)
        except nx.NiddlError as error:
            message = str(error)
        else:
            assert found == sizes
        assert victim.name in message or str(tmp_path) in message


def test_a_superscript_in_a_name_is_no_number(tmp_path, counts):
    values = counts(2, 5, 7)
    for number, name in enumerate(["1²2", "1²10"]):
        for half in ("noisy", "clean"):
            write(tmp_path / half / f"{name}.tif", values[number])
    assert nx.open_pairs(tmp_path)["stack"].values.tolist() == ["1²2", "1²10"]
