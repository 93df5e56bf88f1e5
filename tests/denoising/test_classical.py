import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import medfilt2d

from niddl_xr import Denoiser, NiddlError, classical, compare, simulate
from niddl_xr.denoising.apply import rounded
from niddl_xr.denoising.classical import nlm
from niddl_xr.schema import make_recording
from tests.conftest import counts

needs_bm3d = pytest.mark.skipif(find_spec("bm3d") is None, reason="the package bm3d is not installed: niddl-xr[bm3d]")


def test_median_equals_scipy_signal_inside(recording):
    result = recording.niddl.denoise(classical("median", size_px=3)).values
    expected = medfilt2d(recording.values[2, 1].astype(float), 3)
    np.testing.assert_allclose(result[2, 1, 1:-1, 1:-1], expected[1:-1, 1:-1], atol=1 / 16)


def test_median_repeats_the_edge_pixel(recording):
    plane = recording.values[0, 2].astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(plane, 2, mode="symmetric"), (5, 5))
    result = recording.niddl.denoise(classical("median", size_px=5)).values[0, 2]
    np.testing.assert_allclose(result, np.median(windows, axis=(2, 3)), atol=1 / 16)


def test_gaussian_in_space_and_time(recording):
    result = recording.niddl.denoise(classical("gaussian", sigma_px=1.5, sigma_frames=0.8)).values
    expected = ndimage.gaussian_filter(recording.values.astype(float), (0.8, 0, 1.5, 1.5), mode="reflect")
    np.testing.assert_allclose(result, expected, atol=1 / 16 + 0.01)  # rounding, and float32 at 33,000 counts


def test_a_constant_movie_stays_constant(recording):
    flat = recording.copy(data=np.full(recording.shape, 77, "uint8"))
    np.testing.assert_array_equal(flat.niddl.denoise(classical("gaussian", sigma_px=2)).values, 77)


def test_the_baselines_of_compare_are_these_filters(recording):
    images = {"raw": recording, "median": recording.niddl.denoise(classical("median"))}
    images["gaussian"] = recording.niddl.denoise(classical("gaussian"))
    table = compare(images, recording.isel(t=[0] * 5))
    for ours, baseline in (("median", "median 3x3"), ("gaussian", "gaussian sigma 1")):
        # The results are rounded to 1/8 count.
        assert table.loc[ours, "RMSE"] == pytest.approx(table.loc[baseline, "RMSE"], rel=1e-4)
        assert table.loc[ours, "PSNR_dB"] != pytest.approx(table.loc["raw", "PSNR_dB"], rel=1e-2)


def means_of_similar_places(plane: np.ndarray, size: int, distance: int, strength: float) -> np.ndarray:
    """Non-local means (Buades, Coll & Morel 2005) of noise with SD 1, pixel by pixel.

    As scikit-image has its fast form: patches without their first row and column, and none that are very unlike.
    """
    half = size // 2
    padded = np.pad(plane, half + distance, mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    result = np.empty_like(plane)
    for y, x in np.ndindex(plane.shape):
        here = patches[y + distance, x + distance]
        window = patches[y : y + 2 * distance + 1, x : x + 2 * distance + 1]
        squares = (window - here) ** 2 - 2  # two noises of SD 1 differ by as much
        unlike = np.maximum(squares[..., 1:, 1:].sum(axis=(2, 3)), 0) / (size * strength) ** 2
        weight = np.where(unlike > 5, 0, np.exp(-unlike))
        result[y, x] = np.sum(weight * window[:, :, half, half]) / weight.sum()
    return result


@pytest.mark.parametrize(("size", "distance", "strength"), [(3, 2, 0.9), (7, 4, 0.6)])
def test_nlm_is_its_formula(size, distance, strength):
    values = np.random.default_rng(0).normal(1000, 20, (1, 2, 23, 29))
    values[..., 5:14, 8:17] += 90
    movie = make_recording(values.astype("float32"), voxel_um=(1, 1, 1), dt_s=1)
    filtered = movie.niddl.denoise(
        classical("nlm", patch_size_px=size, patch_distance_px=distance, strength=strength, noise_sd_counts=20)
    )
    for z in range(2):
        expected = 20 * means_of_similar_places(values[0, z] / 20, size, distance, strength)
        # 1/16 of rounding; scikit-image takes its exponential from a coarse table.
        np.testing.assert_allclose(filtered.values[0, z], expected, atol=1 / 16 + 0.8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 3), (41, 5)])
def test_nlm_takes_planes_of_any_size(shape):
    plane = np.full(shape, 7.5)
    np.testing.assert_allclose(nlm(plane), plane)


def test_nlm_keeps_its_precision_beside_bright_cells():
    """Its running sums of squares must not bury the noise of what lies behind a bright cell."""
    plane = np.random.default_rng(1).normal(0, 1, (90, 110))
    dark = nlm(plane)[:, 40:]
    plane[20:50, 5:25] += 30_000
    np.testing.assert_allclose(nlm(plane)[:, 40:], dark, atol=1e-3)


def test_nlm_measures_the_noise_and_follows_the_camera():
    """The noise of a bright place is larger: what is right in the dark blurs nothing there, and the other way round."""
    values = counts((2, 1, 60, 70), "float32")
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    filtered = movie.niddl.denoise(classical("nlm")).values
    other = movie.copy(data=values * 4 + 1000).niddl.denoise(classical("nlm")).values
    np.testing.assert_allclose(other, filtered * 4 + 1000, atol=0.5)
    assert np.std(np.diff(filtered)) < 0.4 * np.std(np.diff(values))


def test_faint_light_is_neither_lost_nor_made():
    """Poisson light of 2 photons: the mean of the result is that of the recording."""
    rng = np.random.default_rng(2)
    light = np.repeat([0.5, 2.0, 20.0], 50)[None, None, None, :] * np.ones((3, 1, 150, 1))
    values = 400 + 30 * rng.poisson(light) + rng.normal(0, 8, light.shape)
    filtered = make_recording(values, voxel_um=(1, 1, 1), dt_s=1).niddl.denoise(classical("nlm")).values
    for part in (slice(5, 45), slice(55, 95), slice(105, 145)):
        mean = values[..., part].mean() - 400
        assert filtered[..., part].mean() - 400 == pytest.approx(mean, rel=0.06, abs=1.5)
        assert filtered[..., part].std() < 0.4 * values[..., part].std()


def test_nlm_beats_the_plain_filters_on_simulated_worms():
    pairs = simulate.training_pairs(stacks=3, shape=(1, 128, 128), subject=("whole_brain", "ventral_cord"), seed=3)
    images = {"raw": pairs["noisy"].rename(stack="t")}
    movie = make_recording(images["raw"].values, voxel_um=(1, 0.4, 0.4), dt_s=1)
    planes = [movie.isel(t=[k]).niddl.denoise(classical("nlm")).values for k in range(3)]  # of different cameras
    images["nlm"] = images["raw"].copy(data=np.concatenate(planes))
    quality = compare(images, pairs["clean"].rename(stack="t"))["PSNR_dB"]
    assert quality["nlm"] > quality.drop("nlm").max() + 0.5


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 1, 30), r"planes of at least 3 x 3 px to measure the noise in, got 1 x 30 px; say noise_sd_counts="),
        ((2, 1, 30, 2), r"planes of at least 3 x 3 px to measure the noise in, got 30 x 2 px; say noise_sd_counts="),
        ((2, 3, 11, 13), r"images with noise, got none in 6 sampled planes .*noise_sd_counts="),
    ],
)
def test_where_there_is_no_noise_to_measure(shape, message):
    flat = make_recording(np.full(shape, 77, "uint16"), voxel_um=(1, 1, 1), dt_s=1)
    with pytest.raises(NiddlError, match=message):
        flat.niddl.denoise(classical("nlm")).compute()
    assert np.all(flat.niddl.denoise(classical("nlm", noise_sd_counts=2)).values == 77)


def test_nan_is_said_before_noise_is_measured(recording):
    broken = recording.astype("float32")
    broken[0, 0, 5, 7] = np.nan
    with pytest.raises(NiddlError, match="expected finite counts, got 1 NaN or infinite pixels in 15 sampled planes"):
        broken.niddl.denoise(classical("nlm")).compute()


def test_bm3d_that_is_not_installed_is_said(recording, monkeypatch):
    module = sys.modules[nlm.__module__]  # the package has the function classical under the module's name
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    message = r"the package bm3d .*pip install 'niddl-xr\[bm3d\]'.*non-commercial use only; 'nlm' is free"
    with pytest.raises(NiddlError, match=message):
        classical("bm3d")
    card = {**classical("nlm").card, "method": "bm3d", "options": {"strength": 1.0, "noise_sd_counts": 3.0}}
    with pytest.raises(NiddlError, match=message):
        # In this thread: of several, one would go on into the next test.
        recording.niddl.denoise(Denoiser(card)).compute(scheduler="synchronous")


def test_what_bm3d_is_given(monkeypatch):
    """A stand-in that changes nothing: planes come large enough, in one scale with their noise, and go back."""
    seen = []
    stand_in = ModuleType("bm3d")
    stand_in.__spec__ = ModuleSpec("bm3d", None)
    stand_in.bm3d = lambda plane, sd: (seen.append((plane, sd)), plane)[1]
    monkeypatch.setitem(sys.modules, "bm3d", stand_in)
    values = np.random.default_rng(0).normal(1000, 20, (2, 3, 11, 40)).astype("float32")
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    same = movie.niddl.denoise(classical("bm3d", strength=1.25, noise_sd_counts=20))
    np.testing.assert_allclose(same.values, values, atol=1 / 16 + 1e-3)
    assert [plane.shape for plane, _ in seen] == [(16, 40)] * 6
    for plane, sd in seen:
        assert plane[:11].std() == pytest.approx(sd / 1.25, rel=0.15)


@needs_bm3d
def test_bm3d_beats_the_plain_filters():
    clean = ndimage.gaussian_filter(np.random.default_rng(0).random((1, 1, 96, 80)), (0, 0, 4, 4)) * 4000
    noisy = np.random.default_rng(1).poisson(clean / 20) * 20.0
    movie = make_recording(noisy, voxel_um=(1, 1, 1), dt_s=1)
    images = {"raw": movie, "bm3d": movie.niddl.denoise(classical("bm3d"))}
    quality = compare(images, movie.copy(data=clean))["PSNR_dB"]
    assert quality["bm3d"] > quality.drop("bm3d").max() + 1
    assert images["bm3d"].values.mean() == pytest.approx(clean.mean(), rel=0.01)


@needs_bm3d
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (7, 40), (33, 5)])
def test_bm3d_takes_planes_of_any_size(shape):
    movie = make_recording(np.full((1, 1, *shape), 50.0), voxel_um=(1, 1, 1), dt_s=1)
    filtered = movie.niddl.denoise(classical("bm3d", noise_sd_counts=3))
    np.testing.assert_allclose(filtered.values, 50, atol=0.3)


def test_rounding_keeps_ten_bits_and_an_eighth_of_a_count():
    values = np.random.default_rng(0).lognormal(4, 4, 10_000).astype(np.float32)
    values[::3] *= -1
    values[:2] = 0, 1e-30
    result = rounded(values.copy())
    assert np.all(np.abs(result - values) <= np.minimum(np.abs(values) * 2.0**-11, 2.0**-4))
    assert np.array_equal(result, rounded(result.copy()))
    moderate = np.abs(values) < 128  # above, the eighth of a count needs more than ten bits
    assert not np.any(result[moderate].view(np.uint32) & 0x1FFF)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bilateral", {}, "no classical filter 'bilateral'; choose one of median, gaussian, nlm, bm3d"),
        ("median", {"size": 3}, r"no option \['size'\]; its options are \['size_px'\]"),
        ("median", {"size_px": 4}, "an odd number of pixels, got 4"),
        ("median", {"size_px": True}, "an odd number of pixels, got True"),
        ("gaussian", {"sigma_px": -1}, "sigma_px as a number from 0 to 1000, got -1"),
        ("nlm", {"patch_size_px": 6}, "patch_size_px as an odd number of pixels, got 6"),
        ("nlm", {"patch_distance_px": 0}, "patch_distance_px as a whole number of pixels from 1 to 1000, got 0"),
        ("nlm", {"strength": 0}, "strength as a number above 0, up to 1000, got 0"),
        ("nlm", {"noise_sd_counts": "high"}, "noise_sd_counts as a positive number of counts, or None .*got 'high'"),
        ("nlm", {"h": 1}, r"nlm has no option \['h'\]; its options are \['noise_sd_counts', 'patch_distance_px'"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(NiddlError, match=message):
        classical(name, **options)
