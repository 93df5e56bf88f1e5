"""The camera against the statistics that its parameters name."""

import numpy as np
import pytest

from niddl_xr.schema import NiddlError
from niddl_xr.simulation.noise import Camera

SHAPE = (3, 200, 301)


def quiet(**options: float) -> Camera:
    return Camera(**({"read_noise": 0, "row_noise": 0, "spurious_charge": 0} | options))


def exposure(camera: Camera, photons: float, seed: int = 0) -> np.ndarray:
    return camera.acquire(np.full(SHAPE, photons, np.float32), np.random.default_rng(seed)).astype(float)


@pytest.mark.parametrize("excess_noise", [1.0, 1.4, 2.0])
def test_photon_transfer_slope_is_gain_times_excess_noise(excess_noise):
    camera = quiet(gain=20, excess_noise=excess_noise)
    dim, bright = exposure(camera, 5), exposure(camera, 80)
    assert bright.mean() - dim.mean() == pytest.approx(75 * 20, rel=0.01)
    assert (bright.var() - dim.var()) / (bright.mean() - dim.mean()) == pytest.approx(20 * excess_noise, rel=0.03)


def test_mean_is_what_the_camera_expects():
    camera = Camera(spurious_charge=0.2)
    expected = camera.expected(np.float32([6.0]))
    assert expected.dtype == np.float32
    assert expected[0] == pytest.approx(400 + 25 * 6.2)
    assert exposure(camera, 6).mean() == pytest.approx(expected[0], abs=0.5)


def test_read_noise_is_its_rms_in_counts():
    assert exposure(quiet(read_noise=7), 0).std() == pytest.approx(7, rel=0.02)


def test_stripes_run_along_x_for_their_length():
    dark = exposure(quiet(row_noise=9, row_length_px=20), 0) - 400
    power = dark.var()
    assert power == pytest.approx(81, rel=0.05)
    assert (dark[..., :-20] * dark[..., 20:]).mean() / power == pytest.approx(np.exp(-1), abs=0.05)
    assert abs((dark[:, :-1] * dark[:, 1:]).mean() / power) < 0.05
    assert abs((dark[0] * dark[1]).mean() / power) < 0.05


def test_default_dark_frames_look_like_the_real_ones():
    dark = exposure(Camera(), 0.05)  # with a little stray light, as in the corners of the real planes
    dark -= dark.mean()
    assert dark.std() == pytest.approx(18, abs=1)
    assert 1.1 < (dark**3).mean() / dark.std() ** 3 < 2.2
    assert (dark[..., 1:] * dark[..., :-1]).mean() / dark.var() == pytest.approx(0.22, abs=0.04)


def test_counts_are_clipped_and_never_wrap():
    assert np.all(exposure(quiet(), 1e5) == 65535)
    assert exposure(quiet(offset=2, read_noise=30), 0).min() == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"read_noise": -1}, r"read_noise of the camera as a finite number that is not negative, got -1"),
        ({"gain": 0}, "expected gain and row_length_px above 0, got gain=0"),
        ({"excess_noise": 0.5}, r"excess_noise of 1 \(sCMOS\) to 2 \(EMCCD\) or more, got 0.5"),
        ({"offset": 70000}, r"offset within 16 bits \(0 to 65535\), got 70000"),
        ({"gain": float("nan")}, "gain of the camera as a finite number"),
    ],
)
def test_impossible_cameras(option, message):
    with pytest.raises(NiddlError, match=message):
        Camera(**option)
