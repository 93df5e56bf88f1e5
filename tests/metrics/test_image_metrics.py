"""Image metrics against scikit-image, scipy, numpy and algebra."""

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, median_filter
from skimage.metrics import peak_signal_noise_ratio

from niddl_xr import metrics
from niddl_xr.schema import NiddlError

RNG = np.random.default_rng(0)
TRUTH = gaussian_filter(RNG.random((17, 23)), 2) * 9000 + 400
IMAGE = 0.3 * TRUTH + 120 + RNG.normal(0, 20, TRUTH.shape)


def movie(seed: int = 1, dtype: str = "float32") -> xr.DataArray:
    values = np.random.default_rng(seed).uniform(100, 60000, (5, 3, 13, 17))
    return xr.DataArray(values.astype(dtype), dims=("t", "z", "y", "x"), name="F")


def noise(shape: tuple[int, ...] = (2, 3, 150, 160)) -> xr.DataArray:
    values = np.random.default_rng(2).normal(400, 10, shape)
    return xr.DataArray(values.astype(np.float32), dims=("t", "z", "y", "x"))


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


def test_affine_match_is_the_least_squares_line():
    slope, intercept = np.polyfit(IMAGE.ravel(), TRUTH.ravel(), 1)
    result = metrics.affine_match(IMAGE, TRUTH)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.values, slope * IMAGE + intercept, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(gain=st.floats(0.01, 100), offset=st.floats(-1000, 1000))
def test_scale_and_offset_of_an_image_do_not_matter(gain, offset):
    changed = gain * IMAGE + offset
    for metric in (metrics.psnr, metrics.ssim, metrics.rmse, metrics.mae):
        assert float(metric(changed, TRUTH)) == pytest.approx(float(metric(IMAGE, TRUTH)), rel=1e-6)


@pytest.mark.parametrize("image", [-IMAGE, np.full_like(IMAGE, 7.0)])
def test_inverted_and_constant_images_earn_the_mean(image):
    np.testing.assert_allclose(metrics.affine_match(image, TRUTH), TRUTH.mean(), rtol=1e-6)
    assert float(metrics.rmse(image, TRUTH)) == pytest.approx(TRUTH.std())


def test_rmse_and_mae_by_algebra():
    errors = np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 5.0]])
    assert float(metrics.rmse(errors + 9, np.full((2, 3), 9.0), match="none")) == pytest.approx(np.sqrt(50 / 6))
    assert float(metrics.mae(errors + 9, np.full((2, 3), 9.0), match="none")) == pytest.approx(2.0)


def test_counts_do_not_wrap():
    low, high = np.full((2, 3), 10, np.uint16), np.full((2, 3), 60000, np.uint16)
    for image, truth in ((low, high), (high, low)):
        assert float(metrics.rmse(image, truth, match="none")) == 59990
        assert float(metrics.mae(image, truth, match="none")) == 59990


@pytest.mark.parametrize("peak", [None, 5000.0])
def test_psnr_is_that_of_scikit_image(peak):
    data_range = np.subtract(*np.percentile(TRUTH, [99.9, 0.1])) if peak is None else peak
    expected = peak_signal_noise_ratio(TRUTH, IMAGE, data_range=data_range)
    assert float(metrics.psnr(IMAGE, TRUTH, match="none", peak=peak)) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_equal_and_of_constant_planes():
    assert float(metrics.psnr(TRUTH, TRUTH, match="none")) == np.inf
    assert np.isnan(float(metrics.psnr(IMAGE, np.full_like(IMAGE, 3.0))))


def ssim_written_out(image: np.ndarray, truth: np.ndarray, data_range: float) -> float:
    """Wang et al. 2004, equations 12 to 16, window by window."""
    offsets = np.arange(-5, 6)
    weight = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weight /= weight.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for y in range(5, image.shape[0] - 5):
        for x in range(5, image.shape[1] - 5):
            a, b = (p[y - 5 : y + 6, x - 5 : x + 6] for p in (image, truth))
            mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
            var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
            covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(luminance * (2 * covariance + c2) / (var_a + var_b + c2))
    return float(np.mean(values))


def test_ssim_is_its_formula():
    expected = ssim_written_out(IMAGE, TRUTH, 3000.0)
    assert float(metrics.ssim(IMAGE, TRUTH, match="none", peak=3000.0)) == pytest.approx(expected, abs=1e-6)
    matched = metrics.affine_match(IMAGE, TRUTH).values.astype(float)
    assert float(metrics.ssim(IMAGE, TRUTH, peak=3000.0)) == pytest.approx(
        ssim_written_out(matched, TRUTH, 3000.0), abs=1e-6
    )


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.rmse, metrics.mae])
def test_movies_are_judged_plane_by_plane_and_lazily(metric):
    image, truth = movie(1, "uint16"), movie(2, "uint16").assign_coords(t=np.arange(5) * 0.1)
    with dask.config.set(scheduler=forbid):
        lazy = metric(image.chunk(t=2, y=5), truth.chunk(t=3))
    assert lazy.dims == ("t", "z")
    for t, z in ((0, 0), (4, 2)):
        alone = metric(image[t, z].values, truth[t, z].values)
        np.testing.assert_allclose(float(lazy[t, z]), float(alone), rtol=1e-9)


def test_affine_match_of_a_movie_stays_lazy_and_labelled():
    image, truth = movie(1), movie(2)
    with dask.config.set(scheduler=forbid):
        lazy = metrics.affine_match(image.chunk(t=1), truth.chunk(t=1))
    assert lazy.dims == image.dims
    np.testing.assert_allclose(lazy[3, 1], metrics.affine_match(image[3, 1], truth[3, 1]))


def test_nan_gives_nan():
    broken = IMAGE.copy()
    broken[3, 4] = np.nan
    for metric in (metrics.psnr, metrics.rmse, metrics.mae, metrics.ssim):
        assert np.isnan(float(metric(broken, TRUTH)))
        assert np.isnan(float(metric(IMAGE, np.where(np.isnan(broken), np.nan, TRUTH))))


def test_compare_with_a_truth():
    truth, raw, other = movie(1), movie(2), movie(3)
    table = metrics.compare({"raw": raw, "net": other}, truth)
    assert table.index.tolist() == ["raw", "median 3x3", "gaussian sigma 1", "net"]
    assert table.columns.tolist() == ["PSNR_dB", "SSIM", "RMSE", "MAE", "planes"]
    assert table["planes"].tolist() == [15] * 4
    peak = float(np.subtract(*np.percentile(truth, [99.9, 0.1])))
    filters = {"median 3x3": lambda p: median_filter(p, 3), "gaussian sigma 1": lambda p: gaussian_filter(p, 1)}
    images = {"raw": raw, "net": other}
    images |= {n: raw.copy(data=np.stack([[f(p) for p in v] for v in raw.values])) for n, f in filters.items()}
    for name, image in images.items():
        row = table.loc[name]
        assert row.PSNR_dB == pytest.approx(float(metrics.psnr(image, truth, peak=peak).mean()))
        assert pytest.approx(float(metrics.ssim(image, truth, peak=peak).mean())) == row.SSIM
        assert pytest.approx(float(metrics.rmse(image, truth).mean())) == row.RMSE
        assert pytest.approx(float(metrics.mae(image, truth).mean())) == row.MAE


def test_compare_does_not_depend_on_chunks_or_labels():
    truth, raw = movie(1), movie(2)
    labelled = raw.assign_coords(t=np.arange(5) * 0.25, x=np.arange(17) * 0.4).chunk(t=2, x=7)
    np.testing.assert_allclose(
        metrics.compare({"raw": labelled}, truth.chunk(t=3)).to_numpy(), metrics.compare({"raw": raw}, truth).to_numpy()
    )


def test_compare_per_plane_is_a_long_table():
    table = metrics.compare({"a": movie(2), "b": movie(3)}, movie(1), per_plane=True, planes=[0, 7, 14])
    assert table.columns.tolist()[:4] == ["name", "plane", "t_index", "z_index"]
    first = table[table["name"] == "a"]
    assert first[["plane", "t_index", "z_index"]].to_numpy().tolist() == [[0, 0, 0], [7, 2, 1], [14, 4, 2]]
    summary = metrics.compare({"a": movie(2), "b": movie(3)}, movie(1), planes=[0, 7, 14])
    assert summary.loc["a", "PSNR_dB"] == pytest.approx(first["PSNR_dB"].mean())


def test_compare_takes_planes_spread_over_the_recording():
    table = metrics.compare({"a": movie(2)}, movie(1), per_plane=True, max_planes=4)
    assert table["plane"].tolist() == [0, 5, 9, 14]
    assert len(metrics.compare({"a": movie(2)}, movie(1), per_plane=True, max_planes=None)) == 15


def test_compare_goes_through_large_recordings_in_batches():
    many = xr.DataArray(RNG.random((70, 1, 4, 5)), dims=("t", "z", "y", "x"))
    table = metrics.compare({"a": 2 * many}, many, per_plane=True, max_planes=None, peak=1.0)
    assert table["plane"].tolist() == list(range(70))
    assert np.allclose(table["RMSE"], 0)
    assert table["SSIM"].isna().all()  # 4 x 5 px do not hold its window


def test_compare_takes_pairs():
    stacks = {"t": "stack"}
    table = metrics.compare({"raw": movie(2).rename(stacks)}, movie(1).rename(stacks), per_plane=True, baselines=False)
    assert "stack_index" in table.columns
    assert set(table["name"]) == {"raw"}


@pytest.mark.parametrize("reference", ["raw", None])
def test_compare_paired_is_both_steps_in_one(reference):
    images, truth = {"raw": movie(2), "net": 0.5 * (movie(1) + movie(2))}, movie(1)
    options = {"value": "RMSE", "unit": "t_index", "alternative": "less", "confidence": 0.8}
    result = metrics.compare_paired(images, truth, reference=reference, max_planes=None, **options)
    table = metrics.compare(images, truth, max_planes=None, per_plane=True)
    expected = metrics.paired_wilcoxon(table, reference=reference, **options)
    pd.testing.assert_frame_equal(result, expected)
    assert len(result) == (3 if reference else 6)
    assert (result["units"] == 5).all()
    better = result.loc["net"] if reference else result.loc[("net", "raw")]
    assert better["confidence_high"] < 0
    assert better["p"] == pytest.approx(1 / 32)  # all of five differences on one side


def test_compare_without_a_truth_gives_signal_to_noise():
    table = metrics.compare({"raw": noise(), "half": 0.5 * noise()})
    assert table.index.tolist() == ["raw", "median 3x3", "gaussian sigma 1", "half"]
    assert table.loc["raw", "noise_sd"] == pytest.approx(10, rel=0.02)
    assert table.loc["half", "noise_sd"] == pytest.approx(5, rel=0.02)
    assert table.loc["half", "snr_dB"] == pytest.approx(table.loc["raw", "snr_dB"], abs=1e-3)
    # A Gaussian of sigma s leaves 1 / (2 s sqrt(pi)) of the SD of white noise: 0.282.
    assert table.loc["gaussian sigma 1", "noise_sd"] == pytest.approx(2.82, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.compare({}), "expected at least one recording, got none"),
        (
            lambda: metrics.compare({"a": movie(), "b": movie()[:, :, :5]}, movie()),
            r"same dims and sizes everywhere, got a \{'t': 5.*and b \{'t': 5, 'z': 3, 'y': 5, 'x': 17\}; select",
        ),
        (lambda: metrics.compare({"a": movie()}, movie()[:2]), "and the truth {'t': 2"),
        (lambda: metrics.compare({"a": movie().transpose("x", "y", "z", "t")}), "expected a as a DataArray whose last"),
        (lambda: metrics.compare({"a": movie().values}), "whose last dims are y and x, not empty, got ndarray"),
        (lambda: metrics.compare({"a": movie()}, movie(), planes=[15]), "expected planes from 0 to 14, got 15 to 15"),
        (lambda: metrics.compare({"a": movie()}, movie(), planes=[]), "expected planes as a list of whole numbers"),
        (lambda: metrics.compare({"a": movie()}, movie(), max_planes=0), "expected max_planes of 1 or more, or None"),
        (lambda: metrics.psnr(IMAGE, TRUTH, peak=-1), "expected peak, the range of the truth, as a positive number"),
        (lambda: metrics.rmse(IMAGE, TRUTH, match="minmax"), 'expected match="affine" or "none", got \'minmax\''),
        (lambda: metrics.rmse(IMAGE, TRUTH[:5]), "expected the same dims and sizes everywhere, got image"),
        (
            lambda: metrics.rmse(movie().values, TRUTH),
            r"an array of shape \(5, 3, 13, 17\); see niddl_xr.from",
        ),
        (lambda: metrics.ssim(IMAGE[:9], TRUTH[:9]), "expected planes of at least 11 x 11 px, the window of SSIM, got"),
    ],
)
def test_what_cannot_be_compared_is_an_error(call, message):
    with pytest.raises(NiddlError, match=message):
        call()
