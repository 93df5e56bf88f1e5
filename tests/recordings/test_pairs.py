"""Pairs: truth is what was written to each file."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

import niddl_xr as nx

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
    with pytest.raises(nx.NiddlError, match=r"expected .*1\.tif to hold a plane"):
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
