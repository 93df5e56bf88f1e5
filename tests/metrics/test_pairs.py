"""Pairs whose faults are known because the test made them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tifffile
import xarray as xr
from scipy.ndimage import fourier_shift, gaussian_filter

import niddl_xr as nx
from niddl_xr.metrics import PairsWarning, _registration, check_pairs
from niddl_xr.metrics import pairs as module
from niddl_xr.schema import PAIR_DIMS, NiddlError

STACKS, Z, Y, X = 5, 2, 200, 224


def scene(seed: int, shape: tuple[int, int] = (Y, X)) -> np.ndarray:
    """A plane of blobs of two sizes over an even background."""
    rng = np.random.default_rng(seed)
    points = np.zeros(shape)
    points[rng.integers(0, shape[0], 60), rng.integers(0, shape[1], 60)] = rng.uniform(0.5, 1, 60)
    return 400 + 90_000 * (gaussian_filter(points, 2.2) + gaussian_filter(points, 5))


def halves(noise: float = 900.0, *, size: tuple[int, int] = (Y, X)) -> xr.Dataset:
    """Pairs of other scenes, the same in the planes of a stack, with white noise; the clean half has a tenth of it."""
    rng = np.random.default_rng(1)
    truth = np.stack([np.stack([scene(stack, size)] * Z) for stack in range(STACKS)])
    data = {
        "noisy": (PAIR_DIMS, (truth + rng.normal(0, noise, truth.shape)).astype("float32")),
        "clean": (PAIR_DIMS, (3 * truth + rng.normal(0, 0.3 * noise, truth.shape)).astype("float32")),
    }
    return xr.Dataset(data, coords={"stack": [f"img_{n}" for n in range(STACKS)]})


@pytest.fixture(scope="module")
def pairs() -> xr.Dataset:
    return halves()


def moved(pairs: xr.Dataset, y: float, x: float) -> xr.Dataset:
    planes = [
        np.real(np.fft.ifftn(fourier_shift(np.fft.fftn(plane), (y, x))))
        for plane in pairs["clean"].values.reshape(-1, *pairs["clean"].shape[-2:])
    ]
    return pairs.assign(clean=(PAIR_DIMS, np.reshape(planes, pairs["clean"].shape)))


def test_good_pairs(pairs):
    table = check_pairs(pairs)
    assert table["verdict"].tolist() == ["good"] * STACKS
    assert table.index.tolist() == pairs["stack"].values.tolist()
    assert table[["shift_y_px", "shift_x_px"]].abs().to_numpy().max() < 0.25
    assert table.attrs["checked"] == f"{STACKS} of {STACKS} stacks"
    # The noise that was put in: 900 and 0.3 * 900, at equal brightness a tenth.
    np.testing.assert_allclose(table["noise_noisy"], 900, rtol=0.05)
    np.testing.assert_allclose(table["noise_clean"], 270, rtol=0.1)
    np.testing.assert_allclose(table["noise_ratio"], 0.1, rtol=0.35)
    flat = [
        np.corrcoef(pairs["noisy"][n].values.ravel(), pairs["clean"][n].values.ravel())[0, 1] for n in range(STACKS)
    ]
    np.testing.assert_allclose(table["correlation"], flat, rtol=1e-4)


@pytest.mark.parametrize(("y", "x"), [(1, 0), (0, -2), (-3.4, 1.7), (7, -11)])
def test_shifts_are_measured(pairs, y, x):
    table = check_pairs(moved(pairs, y, x))
    assert table["verdict"].tolist() == ["shifted"] * STACKS
    np.testing.assert_allclose(table["shift_y_px"], y, atol=0.3)
    np.testing.assert_allclose(table["shift_x_px"], x, atol=0.3)
    assert f"{table['shift_y_px'].iloc[0]:+.1f} px along y" in table["sentence"].iloc[0]


def test_less_than_a_pixel_is_good(pairs):
    table = check_pairs(moved(pairs, 0.4, -0.4))
    assert table["verdict"].tolist() == ["good"] * STACKS
    np.testing.assert_allclose(table["shift_y_px"], 0.4, atol=0.25)


def test_swapped_halves(pairs):
    swapped = pairs.rename(noisy="clean", clean="noisy")
    table = check_pairs(swapped)
    assert table["verdict"].tolist() == ["swapped"] * STACKS
    assert table["sentence"].str.contains("exchange noisy and clean").all()


def test_a_noisy_half_that_was_smoothed_is_not_taken_for_the_clean_one(pairs):
    """As cameras and compression do it: then the clean half has more fine detail, but it is not noise."""
    smoothed = pairs.assign(noisy=(PAIR_DIMS, gaussian_filter(pairs["noisy"].values, (0, 0, 2, 2))))
    clean = halves(30)["clean"]
    assert set(check_pairs(smoothed.assign(clean=clean))["verdict"]) == {"good"}
    assert set(check_pairs(smoothed.assign(clean=pairs["noisy"]))["verdict"]) == {"swapped"}


def test_the_clean_half_of_another_stack(pairs):
    permuted = pairs.assign(clean=(PAIR_DIMS, np.roll(pairs["clean"].values, 1, axis=0)))
    table = check_pairs(permuted)
    assert table["verdict"].tolist() == ["unrelated"] * STACKS
    for stack, sentence in enumerate(table["sentence"]):
        assert f"fits the clean half of img_{(stack + 1) % STACKS}:" in sentence
    assert table["shift_y_px"].isna().all()


def test_unrelated_and_turned_halves(pairs):
    one = pairs.isel(stack=[0])
    other = check_pairs(one.assign(clean=(PAIR_DIMS, pairs["clean"].values[3:4])))
    assert other["verdict"].tolist() == ["unrelated"]
    mirrored = check_pairs(one.assign(clean=(PAIR_DIMS, one["clean"].values[..., ::-1])))
    assert mirrored["verdict"].tolist() == ["turned"]
    assert "mirrored left to right" in mirrored["sentence"].iloc[0]
    square = halves(size=(192, 192)).isel(stack=[2])
    turned = check_pairs(square.assign(clean=(PAIR_DIMS, np.rot90(square["clean"].values, -1, axes=(2, 3)))))
    assert "turned by 90°" in turned["sentence"].iloc[0]


def test_what_noise_hides_is_unclear():
    rng = np.random.default_rng(5)
    noise = {half: (PAIR_DIMS, rng.normal(0, 1, (6, Z, 128, 144))) for half in ("noisy", "clean")}
    assert set(check_pairs(xr.Dataset(noise))["verdict"]) == {"unclear"}
    smooth = {half: (PAIR_DIMS, gaussian_filter(values, (0, 0, 1.2, 1.2))) for half, (_, values) in noise.items()}
    assert set(check_pairs(xr.Dataset(smooth))["verdict"]) == {"unclear"}


@pytest.mark.parametrize("colour_px", [0, 1])
def test_extreme_noise_is_no_fault(colour_px):
    """Aligned although the correlation is 0.1; in noise that a camera or a program has smoothed, too."""
    rng = np.random.default_rng(7)
    truth = np.stack([scene(stack, (512, 500)) for stack in range(4)])[:, None]
    noise = rng.normal(0, 1, truth.shape)
    noise = gaussian_filter(noise, (0, 0, colour_px, colour_px))
    noise *= truth.std() * np.sqrt(1 / 0.1**2 - 1) / noise.std()
    table = check_pairs(xr.Dataset({"noisy": (PAIR_DIMS, truth + noise), "clean": (PAIR_DIMS, truth)}))
    assert table["correlation"].between(0.05, 0.15).all()
    assert set(table["verdict"]) <= ({"good"} if colour_px == 0 else {"good", "unclear"})


def test_stripes_that_both_halves_share_do_not_make_them_a_pair(pairs):
    rng = np.random.default_rng(3)
    stripes = rng.normal(0, 1500, (1, 1, Y, 1)) + rng.normal(0, 1500, (1, 1, 1, X))
    striped = pairs.assign(
        noisy=pairs["noisy"] + stripes, clean=(PAIR_DIMS, np.roll(pairs["clean"].values, 1, axis=0) + 3 * stripes)
    )
    assert set(check_pairs(striped)["verdict"]) == {"unrelated"}


@pytest.mark.parametrize("subject", ["whole_brain", "ventral_cord", "neurite"])
def test_simulated_pairs_are_good(subject):
    for photons, projected in (((2, 4), True), ((2, 1000), False), ((800, 1000), False)):
        made = nx.simulate.training_pairs(
            stacks=4, shape=(4, 128, 144), subject=subject, photons=photons, max_projection=projected, seed=11
        )
        assert set(check_pairs(made)["verdict"]) <= {"good", "unclear"}, (photons, projected)


def test_only_some_are_read_and_nothing_else(pairs):
    read = []

    def load(block: np.ndarray, block_info: dict) -> np.ndarray:
        read.append(block_info[0]["chunk-location"][0])
        return block

    lazy = pairs.chunk(stack=1).map(lambda half: half.copy(data=half.data.map_blocks(load, dtype=half.dtype)))
    read.clear()
    table = check_pairs(lazy, max_stacks=2, planes=1)
    assert set(read) == {0, STACKS - 1}
    assert table.index.tolist() == ["img_0", "img_4"]
    assert table.attrs["checked"] == "2 of 5 stacks"
    assert len(check_pairs(pairs, time_limit_s=1e-9)) == 1
    whole = check_pairs(pairs, planes=1)
    np.testing.assert_allclose(check_pairs(lazy, planes=1)["shift_y_px"], whole["shift_y_px"])


def test_odd_images(pairs):
    odd = pairs.copy(deep=True)
    odd["noisy"][0, :, 3:9, 4:7] = np.nan
    odd["clean"][1] = 7
    odd["noisy"][2] = np.nan
    table = check_pairs(odd)
    assert table["verdict"].tolist() == ["good", "unclear", "unclear", "good", "good"]
    assert "the clean half is constant" in table["sentence"].iloc[1]
    assert set(check_pairs(pairs.isel(y=slice(9)))["verdict"]) == {"unclear"}
    for size in (16, 17, 23, 40):
        check_pairs(pairs.isel(y=slice(size), x=slice(size + 3)))
    integers = (pairs / 400).clip(0, 255).astype("uint8")
    assert set(check_pairs(integers)["verdict"]) == {"good"}


def test_large_planes_are_cut_to_where_most_is_to_be_seen():
    plane = np.zeros((1500, 2000), "uint16")
    plane[1400:1450, 100:150] = np.arange(50)
    rows, columns = _registration.choose_window(plane)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (1024, 1024)
    assert rows.stop == 1500
    assert columns.start == 0


def test_wrong_arguments(pairs):
    with pytest.raises(NiddlError, match="expected pairs, a Dataset"):
        check_pairs(pairs["noisy"])
    with pytest.raises(NiddlError, match="expected planes, how many of a stack are looked at, as 1 or more, got 0"):
        check_pairs(pairs, planes=0)
    with pytest.raises(NiddlError, match="expected max_stacks of 1 or more, or None for all, got 0"):
        check_pairs(pairs, max_stacks=0)
    with pytest.raises(NiddlError, match="time_limit_s as a positive number of seconds, got -1"):
        check_pairs(pairs, time_limit_s=-1)


QUICK = {"network": "niddl_fast", "epochs": 1, "patch_px": 32, "batch": 2, "progress": False, "threads": 1}


def test_a_training_looks_at_its_pairs_first(pairs):
    permuted = pairs.assign(clean=(PAIR_DIMS, np.roll(pairs["clean"].values, 1, axis=0)))
    with pytest.raises(
        NiddlError, match=r"5 of 5 stacks checked \(img_0, .*\) cannot be learned from: .*pair each image"
    ):
        nx.train(permuted, **QUICK)
    with pytest.raises(NiddlError, match=r"cannot be learned from: .*exchange noisy and clean.*check_pairs=False"):
        nx.train(pairs.rename(noisy="clean", clean="noisy"), **QUICK)
    small = pairs.isel(y=slice(96), x=slice(96))
    with pytest.warns(PairsWarning, match=r"5 of 5 stacks checked .* are shifted, .*\+[23]\.\d px along x"):
        nx.train(small.assign(clean=small["clean"].roll(x=3)), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PairsWarning)
        nx.train(small.assign(clean=small["clean"].roll(x=3)), check_pairs=False, **QUICK)


@pytest.mark.realdata
def test_real_pairs_are_good_and_spoilt_ones_are_found(realdata):
    w2s = nx.open_pairs(realdata / "w2s_pairs")
    assert set(check_pairs(w2s, max_stacks=30)["verdict"]) == {"good"}
    some = w2s.isel(stack=slice(None, None, 12)).compute()
    size = some.isel(y=slice(8, -8), x=slice(8, -8))
    for y, x in ((1, 0), (0, -2), (5, 0)):
        shifted = size.assign(clean=(PAIR_DIMS, some["clean"].values[:, :, 8 - y : 504 - y, 8 - x : 504 - x]))
        assert set(check_pairs(shifted)["verdict"]) == {"shifted"}
    assert set(check_pairs(some.rename(noisy="clean", clean="noisy"))["verdict"]) == {"swapped"}
    permuted = some.assign(clean=(PAIR_DIMS, np.roll(some["clean"].values, 1, axis=0)))
    assert set(check_pairs(permuted)["verdict"]) == {"unrelated"}
    for kind in ("whole_brain", "ventral_cord", "mechanosensory"):
        folder = realdata / "niddl_samples" / kind
        names = sorted(path.stem for path in (folder / "niddl_output").glob("*.tif"))
        clean = np.stack([tifffile.imread(folder / "niddl_output" / f"{name}.tif") for name in names])[:, None]
        noisy = np.concatenate([nx.open_recording(folder / "noisy" / f"{n}.png", voxel_um=(1, 1, 1)) for n in names])
        made = xr.Dataset({"noisy": (PAIR_DIMS, noisy), "clean": (PAIR_DIMS, clean)})
        assert set(check_pairs(made)["verdict"]) == {"good"}, kind
    for folder, options in (("bacteria", {}), ("fmd", {"pattern": "c*"}), ("fmd", {"pattern": "b*", "channel": 1})):
        assert set(check_pairs(nx.open_pairs(realdata / "noisenet_pairs" / folder, **options))["verdict"]) == {"good"}


def test_what_is_kept_of_stacks_does_not_grow_with_their_number(pairs, monkeypatch):
    kept = []
    real = module._with_others
    monkeypatch.setattr(module, "_MOST_COMPARED", 2)
    monkeypatch.setattr(
        module,
        "_with_others",
        lambda rows: kept.append(sum(row.sketch is not None for row in rows.values())) or real(rows),
    )
    assert check_pairs(pairs, max_stacks=None)["verdict"].tolist() == ["good"] * STACKS
    assert kept == [2]


def test_the_first_stacks_that_are_checked_are_spread_over_all():
    for count in range(1, 90):
        order = list(module._spread(range(count)))
        assert sorted(order) == list(range(count))
    assert max(np.diff(sorted([*order[:8], 0, 88]))) < 25


def test_how_long_a_training_looks_at_its_pairs(pairs, monkeypatch, tmp_path):
    from niddl_xr.denoising import learning

    limits = []
    monkeypatch.setattr(learning, "require_good_pairs", lambda data, time_limit_s: limits.append(time_limit_s))
    monkeypatch.setattr(learning.method_module("niddl"), "train", lambda data, options: options)
    nx.train(pairs)
    nx.train(pairs, time_limit_s=20)
    nx.train(pairs, time_limit_s=2000)
    assert limits == [5, 1, 5]
    nx.train(pairs, resume=tmp_path / "a.checkpoint")
    nx.train(pairs, check_pairs=False)
    assert len(limits) == 3
