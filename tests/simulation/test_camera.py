"""The camera against the statistics that its parameters name."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gamma, norm, poisson

from niddl_xr.schema import NiddlError
from niddl_xr.simulation._kernels import noise as kernels
from niddl_xr.simulation._kernels.noise_histogram import mean_of_maximum, probabilities
from niddl_xr.simulation.noise import NIDDL_EMCCD, Camera

SHAPE = (3, 200, 301)


def quiet(**options) -> Camera:
    return Camera(**({"read_noise": 0, "row_noise": 0, "spurious_charge": 0} | options))


def exposure(camera: Camera, photons: float, seed: int = 0, shape=SHAPE) -> np.ndarray:
    return camera.acquire(np.full(shape, photons, np.float32), np.random.default_rng(seed)).astype(float)


@pytest.mark.parametrize("excess_noise", [1.0, 1.4, 2.0])
def test_photon_transfer_slope_is_gain_times_excess_noise(excess_noise):
    camera = quiet(gain=20, excess_noise=excess_noise)
    dim, bright = exposure(camera, 5), exposure(camera, 80)
    assert bright.mean() - dim.mean() == pytest.approx(75 * 20, rel=0.01)
    assert (bright.var() - dim.var()) / (bright.mean() - dim.mean()) == pytest.approx(20 * excess_noise, rel=0.03)


@pytest.mark.parametrize("photons", [0.02, 0.4, 3.0, 40.0])
def test_electrons_are_poisson(photons):
    electrons = exposure(quiet(offset=0, gain=1, excess_noise=1), photons).ravel().astype(int)
    seen = np.bincount(electrons, minlength=100)[:100]
    expected = electrons.size * poisson.pmf(np.arange(100), photons)
    often = expected > 8
    chi_square = ((seen - expected)[often] ** 2 / expected[often]).sum()
    assert abs(chi_square - often.sum()) < 5 * np.sqrt(2 * often.sum())


def test_amplification_is_the_erlang_distribution():
    charge = exposure(quiet(offset=0, gain=100), 2.0).ravel()
    edges = np.array([50.5, 150.5, 300.5, 600.5, 1200.5])
    truth = sum(poisson.pmf(n, 2.0) * gamma.cdf(edges, n, scale=100) for n in range(1, 40)) + poisson.pmf(0, 2.0)
    np.testing.assert_allclose([(charge < edge).mean() for edge in edges], truth, atol=4 * 0.5 / np.sqrt(charge.size))


def test_negative_photons_are_less_than_the_spurious_charge():
    camera = quiet(offset=0, gain=10, spurious_charge=0.5)
    assert exposure(camera, -0.3).mean() == pytest.approx(2.0, rel=0.02)
    assert not exposure(camera, -0.6).any()


@pytest.mark.parametrize("camera", [Camera(spurious_charge=0.2), replace(NIDDL_EMCCD, offset=400)])
def test_mean_is_what_the_camera_expects(camera):
    expected = camera.expected(np.float32([6.0]))
    assert expected.dtype == np.float32
    assert expected[0] == pytest.approx(400 + camera.gain * (6 + camera.spurious_charge))
    even = replace(camera, row_start=(), column_shading=(), row_drift=0)
    assert exposure(even, 6).mean() == pytest.approx(expected[0], abs=0.7)


@pytest.mark.parametrize("planes", [1, 15])
def test_photons_are_the_inverse_of_expected(planes):
    camera = Camera(projected_planes=planes)
    photons = np.float32([-0.09, 0.0, 0.3, 7.0, 150.0])
    np.testing.assert_allclose(camera.photons(camera.expected(photons)), photons, rtol=1e-3, atol=1e-3)
    assert camera.photons(np.float32([10.0]))[0] == pytest.approx(-0.09)


def test_read_noise_is_its_rms_in_counts():
    assert exposure(quiet(read_noise=7), 0).std() == pytest.approx(7, rel=0.02)


def test_stripes_run_along_x_for_their_length():
    dark = exposure(quiet(row_noise=9, row_length_px=20), 0) - 400
    power = dark.var()
    assert power == pytest.approx(81, rel=0.05)
    assert (dark[..., :-20] * dark[..., 20:]).mean() / power == pytest.approx(np.exp(-1), abs=0.05)
    assert abs((dark[:, :-1] * dark[:, 1:]).mean() / power) < 0.05
    assert abs((dark[0] * dark[1]).mean() / power) < 0.05


def test_noise_along_rows_has_the_covariance_asked_for_from_the_first_pixel_on():
    correlation = (0.1, -0.05, 0.2)
    noise = kernels.noise_along_rows((40_000, 37), 12.0, 8.0, 15.0, correlation, np.random.default_rng(0))
    for lag, read in enumerate((1.0, *correlation, 0.0, 0.0)):
        truth = 64 * np.exp(-lag / 15) + 144 * read
        products = noise[:, lag:] * noise[:, : 37 - lag]
        assert products.mean() == pytest.approx(truth, abs=1.5)
        assert products[:, 0].mean() == pytest.approx(truth, abs=5)


def test_taps_repeat_and_start_anew_in_every_exposure():
    taps = (0.0, 40.0, 10.0)
    planes = exposure(quiet(column_pattern=taps), 0, shape=(40, 5, 31)) - 400
    assert np.ptp(planes, axis=1).max() == 0
    rows = planes[:, 0]
    np.testing.assert_array_equal(rows[:, 3:], rows[:, :-3])
    assert {tuple(row[:3]) for row in rows} == {taps, taps[1:] + taps[:1], taps[2:] + taps[:2]}


def test_uneven_offsets_lie_where_they_are_said_to():
    camera = quiet(row_start=(50.0, 20.0), column_shading=(0.0, 100.0), row_shading=(0.0, 60.0, 0.0))
    plane = exposure(camera, 0, shape=(1, 61, 101))[0] - 400
    np.testing.assert_allclose(plane[0, 2:], np.arange(2, 101), atol=0.51)
    assert plane[0, :2].tolist() == [50, 21]
    np.testing.assert_allclose(plane[:, 50] - 50, 2.0 * np.minimum(np.arange(61), np.arange(61)[::-1]), atol=0.51)


def test_offsets_drift_from_image_to_image_and_from_row_to_row():
    planes = exposure(quiet(offset_drift=20), 0, shape=(400, 3, 4)) - 400
    assert np.ptp(planes, axis=(1, 2)).max() == 0
    assert planes[:, 0, 0].std() == pytest.approx(20, rel=0.1)
    rows = exposure(quiet(row_drift=30, row_drift_px=12), 0, shape=(300, 60, 3)) - 400
    assert np.ptp(rows, axis=2).max() == 0
    assert rows.std() == pytest.approx(30, rel=0.1)
    assert (rows[:, 12:] * rows[:, :-12]).mean() / 900 == pytest.approx(np.exp(-1), abs=0.07)


def test_patterns_stay_in_every_frame_and_belong_to_the_camera():
    camera = quiet(fixed_pattern=6, hot_pixels=0.01, hot_counts=500, pattern_seed=4)
    first, other = exposure(camera, 0, seed=1), exposure(camera, 0, seed=2)
    np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(first[0], first[2])
    cold = first[0] < 430
    assert 1 - cold.mean() == pytest.approx(0.01, abs=0.002)
    assert first[0][cold].std() == pytest.approx(6, rel=0.05)
    assert (first[0][~cold] - 400).mean() == pytest.approx(530, rel=0.2)  # those under 30 counts are not seen
    assert np.mean(exposure(replace(camera, pattern_seed=5), 0)[0] == first[0]) < 0.2


@pytest.mark.parametrize("photons", [0.0, 2.0])
def test_projections_are_maxima_and_have_their_mean(photons):
    camera = Camera(projected_planes=12, column_pattern=(-2, 2), row_drift=2)
    image = exposure(camera, photons, shape=(2, 90, 101))
    single = replace(camera, projected_planes=1)
    stack = exposure(single, photons, seed=5, shape=(24, 90, 101)).reshape(2, 12, 90, 101).max(1)
    assert image.mean() == pytest.approx(stack.mean(), abs=1.5)
    assert image.std() == pytest.approx(stack.std(), rel=0.05)
    assert camera.expected(np.float32([photons]))[0] == pytest.approx(stack.mean(), abs=1.5)


def test_maximum_of_gaussians_has_its_textbook_mean():
    # Expected largest of 2, 3 and 10 standard normal variables.
    for count, truth in ((2, 1 / np.sqrt(np.pi)), (3, 1.5 / np.sqrt(np.pi)), (10, 1.5387527)):
        assert mean_of_maximum(np.zeros(1), 7.0, 20.0, 2.0, count)[0] == pytest.approx(7 * truth, rel=1e-3)


@pytest.mark.parametrize("excess_noise", [1.0, 1.5, 2.0])
def test_probabilities_are_the_written_out_convolution(excess_noise):
    density = probabilities(512, 60.0, 0.7, 5.0, 30.0, excess_noise)
    assert density.sum() == pytest.approx(1)
    counts, charge = np.arange(512), np.arange(0.05, 460, 0.1)
    truth = poisson.pmf(0, 0.7) * norm.pdf(counts, 60, 5)
    for n in range(1, 14):
        if excess_noise == 1:
            truth += poisson.pmf(n, 0.7) * norm.pdf(counts, 60 + 30 * n, 5)
        else:
            electrons = gamma.pdf(charge, n / (excess_noise - 1), scale=30 * (excess_noise - 1)) * 0.1
            truth += poisson.pmf(n, 0.7) * (norm.pdf(counts[:, None], 60 + charge, 5) @ electrons)
    np.testing.assert_allclose(density[20:400], truth[20:400], atol=2e-4)  # rounding to counts blurs by 0.3


def test_default_dark_frames_look_like_the_real_ones():
    dark = exposure(Camera(), 0.0)
    dark -= dark.mean()
    assert dark.std() == pytest.approx(18, abs=1)
    assert 1.1 < (dark**3).mean() / dark.std() ** 3 < 2.2
    assert (dark[..., 1:] * dark[..., :-1]).mean() / dark.var() == pytest.approx(0.22, abs=0.04)


def test_counts_are_clipped_and_never_wrap():
    assert np.all(exposure(quiet(), 1e5) == 65535)
    assert exposure(quiet(offset=2, read_noise=30), 0).min() == 0


def test_same_generator_same_counts():
    np.testing.assert_array_equal(exposure(NIDDL_EMCCD, 0.3, seed=7), exposure(NIDDL_EMCCD, 0.3, seed=7))


def test_cameras_are_json_and_hashable():
    camera = Camera(column_pattern=[1, 2], read_correlation=np.array([0.1]))
    assert json.loads(json.dumps(camera.as_dict()))["column_pattern"] == [1, 2]
    assert hash(camera) == hash(Camera(**camera.as_dict()))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"read_noise": -1}, r"read_noise of the camera as a finite number that is not negative, got -1"),
        ({"gain": 0}, "expected gain and row_length_px above 0, got gain=0"),
        ({"row_drift_px": 0}, "row_drift_px above 0, got 0"),
        ({"excess_noise": 0.5}, r"excess_noise of 1 \(sCMOS\) to 2 \(EMCCD\) or more, got 0.5"),
        ({"offset": 70000}, r"offset within 16 bits \(0 to 65535\), got 70000"),
        ({"gain": float("nan")}, "gain of the camera as a finite number"),
        ({"column_pattern": (1, np.inf)}, r"expected column_pattern of the camera as finite numbers, got \(1.0, inf\)"),
        ({"read_correlation": (0.4, -0.2)}, r"read_correlation with magnitudes that add up to at most 0.5, got \(0.4"),
        ({"hot_pixels": 1.5}, "hot_pixels as a fraction of 0 to 1, got 1.5"),
        ({"projected_planes": 0}, "projected_planes as a whole number of 1 or more, got 0"),
        ({"projected_planes": 2.5}, "projected_planes as a whole number of 1 or more, got 2.5"),
        ({"pattern_seed": 0.5}, "pattern_seed as a whole number of 0 or more, got 0.5"),
    ],
)
def test_impossible_cameras(option, message):
    with pytest.raises(NiddlError, match=message):
        Camera(**option)
