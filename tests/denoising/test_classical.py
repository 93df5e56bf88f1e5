import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import medfilt2d

from niddl_xr import NiddlError, classical
from niddl_xr.denoising.apply import rounded


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
        ("bilateral", {}, "no classical filter 'bilateral'; choose one of median, gaussian"),
        ("median", {"size": 3}, r"no option \['size'\]; its options are \['size_px'\]"),
        ("median", {"size_px": 4}, "an odd number of pixels, got 4"),
        ("gaussian", {"sigma_px": -1}, "sigma_px as a number from 0 to 1000, got -1"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(NiddlError, match=message):
        classical(name, **options)
