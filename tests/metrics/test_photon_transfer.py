"""The line of the noise, against numpy's Poisson and normal numbers of known gain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from niddl_xr.metrics.photon_transfer import noise_between, noise_of_planes

OFFSET, READ_NOISE = 400.0, 6.0
RNG = np.random.default_rng(0)


def cells(shape=(150, 180), number=40, sigma=3.5) -> np.ndarray:
    light = np.zeros(shape)
    for y, x in np.random.default_rng(1).integers(10, np.array(shape) - 10, (number, 2)):
        light[y, x] = 1
    light = gaussian_filter(light, sigma)
    return light / light.max()


def exposed(photons: np.ndarray, gain: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return OFFSET + gain * rng.poisson(photons) + rng.normal(0, READ_NOISE, photons.shape)


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(3, 40), peak=st.floats(100, 1500), seed=st.integers(0, 99))
def test_the_line_of_a_still_scene(gain, peak, seed):
    light = peak * cells() + 1
    pairs = [(exposed(light, gain, seed + k), exposed(light, gain, seed + k + 100)) for k in range(4)]
    noise = noise_between(pairs)
    assert noise.slope == pytest.approx(gain, rel=0.12)
    level = OFFSET + gain * light.max() / 2
    expected = gain**2 * light.max() / 2 + READ_NOISE**2
    assert noise.variance(np.array(level)) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize(
    "change", [lambda s: shift(s, (0.7, -0.7)), lambda s: 1.5 * s, lambda s: np.where(cells() > 0.5, 3 * s, s)]
)
def test_slow_motion_and_activity_hardly_enter(change):
    light = 200 * cells() + 1
    pairs = [(exposed(light, 5, k), exposed(change(light).clip(0), 5, k + 100)) for k in range(4)]
    assert noise_between(pairs).slope == pytest.approx(5, rel=0.08)


def test_stripes_hardly_enter():
    """The stripes of an EMCCD, 9 counts from row to row, where the read noise is 6."""
    light = 200 * cells() + 1
    stripes = RNG.normal(0, 9, (8, 150, 1))
    pairs = [(exposed(light, 5, k) + stripes[k], exposed(light, 5, k + 100) + stripes[k + 4]) for k in range(4)]
    noise = noise_between(pairs)
    assert noise.slope == pytest.approx(5, rel=0.12)
    assert noise.variance(np.array(OFFSET + 5)) < 1.3 * (READ_NOISE**2 + 5**2)  # with the stripes, 2.3 times
    columns = RNG.normal(0, 9, (1, 180))
    alone = noise_of_planes([first + columns for first, _ in pairs])
    assert alone.slope == pytest.approx(5, rel=0.12)


def test_a_sensor_whose_offset_is_uneven():
    """Most pixels are dark, and their offsets rise by 20 counts along x: that is no light."""
    light = 200 * cells() + 0.1
    shading = np.linspace(-10, 10, 180)
    planes = [exposed(light, 20, k) + shading for k in range(6)]
    assert noise_of_planes(planes).slope == pytest.approx(20, rel=0.15)


def test_flashes_and_hot_pixels_are_outliers():
    light = 200 * cells() + 1
    pairs = [(exposed(light, 5, k), exposed(light, 5, k + 100)) for k in range(4)]
    pairs[1][0][40:60, 30:60] += RNG.normal(0, 900, (20, 30))
    pairs[2][1][::37, ::41] += 5000
    assert noise_between(pairs).slope == pytest.approx(5, rel=0.15)


def test_single_planes_have_the_same_line():
    light = 200 * cells() + 1
    noise = noise_of_planes([exposed(light, 5, k) for k in range(6)])
    assert noise.slope == pytest.approx(5, rel=0.06)


def test_an_emccd_has_twice_the_slope():
    """Each electron becomes an exponentially distributed number of counts."""
    light = 30 * cells() + 0.5
    planes = [OFFSET + RNG.gamma(np.maximum(RNG.poisson(light), 1e-9), 20.0) for _ in range(6)]
    assert noise_of_planes(planes).slope == pytest.approx(40, rel=0.1)


def test_noise_that_does_not_rise_with_the_light_is_flat():
    noise = noise_of_planes([2000 * cells() + RNG.normal(0, 12, (150, 180)) for _ in range(3)])
    assert noise.slope == pytest.approx(0, abs=0.02)
    assert noise.variance(np.array(300.0)) == pytest.approx(144, rel=0.06)
    flat = noise_of_planes([RNG.normal(400, 12, (150, 180)) for _ in range(3)])
    assert flat.slope == 0
    assert flat.intercept == pytest.approx(144, rel=0.05)


def test_what_is_saturated_or_not_finite_is_left_out():
    light = 200 * cells() + 1
    whole = [exposed(light, 5, k) for k in range(6)]
    marred = [plane.clip(max=600) for plane in whole]
    for plane in marred:
        plane[:, 60:70] = np.nan
    assert noise_of_planes(marred, saturation=600).slope == pytest.approx(5, rel=0.12)
    level = np.array(600.0)
    clipped = noise_of_planes(marred).variance(level)
    assert clipped < 0.9 * noise_of_planes(marred, saturation=600).variance(level)  # what is clipped has no noise


@pytest.mark.parametrize("planes", [[], [np.ones((1, 50))], [np.full((7, 9), np.nan)]])
def test_nothing_to_measure_is_nan(planes):
    assert np.isnan(noise_of_planes(planes)).all()


def test_few_pixels_give_a_mean():
    noise = noise_of_planes([RNG.normal(0, 3, (9, 8))])
    assert noise.slope == 0
    assert noise.intercept == pytest.approx(9, rel=0.6)


def test_equal_planes_have_no_noise():
    assert tuple(noise_of_planes([np.full((20, 30), 7)])) == (0, 0)
