"""Cameras are recovered from the images that they took, and real images get noise like their own."""

from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import training_pairs
from niddl_xr.simulation._kernels import noise_baseline, noise_estimation, noise_histogram, noise_pairs
from niddl_xr.simulation.noise import NIDDL_EMCCD, Camera, compare, fit, fit_pairs, statistics


def scene(photons: float, shape=(224, 288), frames=6, seed=0) -> np.ndarray:
    """Expected photons (t, z, y, x) of something like a worm: a glowing band with nuclei, dark above and below."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    result = np.empty((frames, 1, *shape), np.float32)
    for frame in result:
        middle = shape[0] * rng.uniform(0.4, 0.6) + (x - shape[1] / 2) * rng.uniform(-0.2, 0.2)
        frame[0] = 0.1 * photons * np.exp(-(((y - middle) / 15) ** 2))
        for _ in range(30):
            row, column = shape[0] / 2 + rng.normal(0, 12), rng.uniform(20, shape[1] - 20)
            peak, sigma = photons * rng.lognormal(0, 0.5), rng.uniform(3, 5)
            frame[0] += peak * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / sigma**2)
    return result


def recorded(photons: np.ndarray, camera: Camera, seed=0) -> xr.DataArray:
    counts = np.stack([camera.acquire(p, np.random.default_rng([seed, t])) for t, p in enumerate(photons)])
    return from_counts(counts)


def from_counts(counts: np.ndarray) -> xr.DataArray:
    return schema.make_recording(counts, voxel_um=[1, 0.4, 0.4], t_s=np.arange(float(len(counts))), attrs={})


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


EMCCD = {"offset": 400, "gain": 25, "read_noise": 11, "row_noise": 8.5, "row_length_px": 27, "spurious_charge": 0.05}
SCMOS = {"offset": 100, "gain": 2.2, "read_noise": 3.5, "row_noise": 1.4, "row_length_px": 40, "spurious_charge": 0}


@pytest.mark.parametrize(
    ("truth", "photons"),
    [
        (Camera(**EMCCD), 30),
        (Camera(**EMCCD | {"gain": 60, "read_noise": 8, "row_noise": 4}), 5),
        (Camera(**EMCCD | {"gain": 12, "read_noise": 20, "row_noise": 0}), 100),
        (Camera(**SCMOS, excess_noise=1), 60),
        (Camera(**SCMOS | {"gain": 0.5, "read_noise": 1.2, "row_noise": 0}, excess_noise=1), 400),
    ],
)
def test_a_camera_is_recovered_from_its_images(truth, photons):
    found = fit(recorded(scene(photons), truth), excess_noise=truth.excess_noise)
    assert found.gain == pytest.approx(truth.gain, rel=0.08)
    assert found.read_noise == pytest.approx(truth.read_noise, rel=0.05)
    assert found.row_noise == pytest.approx(truth.row_noise, rel=0.08)
    assert found.offset == pytest.approx(truth.offset, abs=0.1 * truth.read_noise)
    if truth.row_noise:
        assert found.row_length_px == pytest.approx(truth.row_length_px, rel=0.15)
    assert found.spurious_charge == pytest.approx(truth.spurious_charge, abs=0.03)
    assert found.column_pattern == found.row_start == found.column_shading == ()
    assert found.fixed_pattern == found.hot_pixels == 0


def test_patterns_drifts_and_hot_pixels_are_recovered():
    truth = replace(NIDDL_EMCCD, fixed_pattern=4, hot_pixels=1e-3, hot_counts=200, offset_drift=6)
    found = fit(recorded(scene(20, shape=(320, 352), frames=10), truth))
    assert found.gain == pytest.approx(truth.gain, rel=0.08)
    assert found.read_noise == pytest.approx(truth.read_noise, rel=0.08)
    assert found.row_noise == pytest.approx(truth.row_noise, rel=0.05)
    assert found.fixed_pattern == pytest.approx(4, rel=0.1)
    assert found.hot_pixels == pytest.approx(8e-4, rel=0.4)  # the faintest are not seen
    assert found.hot_counts == pytest.approx(200, rel=0.4)
    turns = [np.roll(truth.column_pattern, turn) for turn in range(4)]
    assert min(np.abs(np.array(found.column_pattern) - turn).max() for turn in turns) < 0.4
    assert np.abs(np.array(found.read_correlation[:3]) - truth.read_correlation[:3]).max() < 0.02
    np.testing.assert_allclose(found.column_shading, truth.column_shading, atol=1.5)
    np.testing.assert_allclose(found.row_start[2:20], truth.row_start[2:20], atol=2.5)
    assert found.offset_drift == pytest.approx(6, rel=0.5)  # of ten planes


def test_projections_give_the_camera_of_their_exposures():
    truth = Camera(**EMCCD | {"spurious_charge": 0.09}, projected_planes=12)
    found = fit(recorded(np.zeros((3, 1, 224, 240), np.float32), truth), projected_planes=12)
    assert found.offset == pytest.approx(400, abs=1.5)
    assert found.gain == pytest.approx(25, rel=0.05)
    assert found.read_noise == pytest.approx(11, rel=0.1)
    assert found.row_noise == pytest.approx(8.5, rel=0.15)
    assert found.spurious_charge == pytest.approx(0.09, rel=0.1)


def test_the_likelihood_has_the_gradient_that_it_states():
    histogram = np.bincount(np.random.default_rng(0).integers(50, 200, 1000), minlength=512).astype(float)
    point = np.array([90.0, 0.4, 14.0, 20.0])
    for planes in (1, 7):
        _, gradient = noise_histogram._likelihood(histogram, *point, 1.6, planes)
        for place, step in enumerate(np.eye(4) * 1e-4):
            ends = [noise_histogram._likelihood(histogram, *(point + sign * step), 1.6, planes)[0] for sign in (1, -1)]
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-3)


def test_one_plane_is_enough():
    found = fit(recorded(scene(20, frames=1), Camera(**EMCCD)))
    assert found.gain == pytest.approx(25, rel=0.15)
    assert found.offset == pytest.approx(400, abs=2)
    assert found.offset_drift == 0


def test_only_the_sampled_planes_of_a_long_recording_are_computed():
    computed = []

    def plane(block_info=None):
        computed.append(place := block_info[None]["chunk-location"][:2])
        return np.random.default_rng(place).poisson(100, (1, 1, 128, 136)).astype(np.uint16)

    counts = da.map_blocks(plane, chunks=((1,) * 500, (1,) * 4, (128,), (136,)), dtype=np.uint16, meta=np.empty(0))
    recording = schema.make_recording(counts, voxel_um=[1, 1, 1], t_s=np.arange(500.0), attrs={})
    statistics(recording, planes=5)
    assert len(set(computed)) == 5
    with dask.config.set(scheduler=forbid), pytest.raises(AssertionError, match="computed"):
        fit(recording)


def test_statistics_are_their_definitions():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 6, (2, 200, 1))[..., None, :, :] + rng.normal(0, 8, (2, 1, 200, 210))
    bright = np.full((2, 1, 200, 210), 500.0)
    bright[..., :70, :66] = 100  # the one dark tile
    table = statistics(from_counts(np.rint(bright + noise).astype(np.uint16)))
    assert table["dark_mean"] == pytest.approx(100, abs=2)
    assert table["dark_sd"] == pytest.approx(10, rel=0.07)
    assert table["row_mean_sd"] == pytest.approx(np.sqrt(36 + 64 / 64), rel=0.15)
    assert table["correlation_x_1"] == pytest.approx(0.36, abs=0.08)
    assert abs(table["correlation_y_2"]) < 0.08
    assert abs(table["skewness"]) < 0.15
    assert table["percentile_99.9"] == pytest.approx(500 + 3.09 * 10, abs=4)


@pytest.mark.parametrize(("camera", "photons"), [(Camera(**EMCCD), 30), (Camera(**SCMOS, excess_noise=1), 60)])
def test_noise_that_is_right_compares_as_equal(camera, photons):
    recording = recorded(scene(photons), camera)
    ratio = compare(recording, camera, seed=1)["ratio"]
    for name in ("dark_mean", "dark_sd", "row_mean_sd", "percentile_99", "percentile_99.9", "percentile_99.99"):
        assert ratio[name] == pytest.approx(1, abs=0.1)
    wrong = compare(recording, replace(camera, read_noise=2 * camera.read_noise), seed=1)["ratio"]
    assert wrong["dark_sd"] > 1.3


@pytest.mark.parametrize("clean_gain", [1.4, 6.0])
def test_gains_of_pairs_are_those_drawn(clean_gain):
    pairs = training_pairs(stacks=3, shape=(4, 96, 104), clean_gain=(clean_gain, clean_gain), stray_photons=0, seed=4)
    found = fit_pairs(pairs)
    assert found["stack"].equals(pairs["stack"])
    np.testing.assert_allclose(found["clean_gain"], clean_gain, rtol=0.1)
    assert np.all(np.abs(found["clean_gain"] - clean_gain) < 6 * found["clean_gain_error"])
    assert schema.history(found)[-1]["verb"] == "simulate.noise.fit_pairs"


def test_noise_in_the_noisy_image_does_not_lower_the_gain():
    rng = np.random.default_rng(1)
    truth = scene(2, frames=4)[:, 0]
    noisy, clean = rng.poisson(truth) * 20.0, 3 * 20 * truth + rng.normal(0, 5, truth.shape)
    gain, error = noise_pairs.gain_between(noisy, clean)
    assert gain == pytest.approx(3, rel=0.05)
    assert 0 < error < 0.2
    assert np.isnan(noise_pairs.gain_between(noisy, rng.normal(0, 5, truth.shape))[0])


def test_lines_through_noisy_points_by_an_instrument():
    rng = np.random.default_rng(2)
    truth = rng.exponential(10, 4000)
    points = (truth + rng.normal(0, 8, 4000) for _ in range(2))
    line = noise_estimation.instrumental_line(*points, 30 + 4 * truth)
    assert line.slope == pytest.approx(4, rel=0.06)
    assert abs(line.slope - 4) < 4 * line.slope_error
    assert line.intercept == pytest.approx(30, abs=3)


def test_drift_is_told_from_stripes():
    rng = np.random.default_rng(5)
    planes = rng.normal(0, 10, (24, 256, 130)) + rng.normal(0, 6, (24, 256, 1))
    mask = np.ones(planes.shape, bool)
    assert noise_baseline.fit_drift(planes, mask, 64).rms == 0
    drift = np.stack([noise_baseline.drift_along_rows(256, 5.0, 20.0, rng) for _ in range(24)])
    found = noise_baseline.fit_drift(planes + drift, mask, 64)
    assert found.rms == pytest.approx(5, rel=0.2)
    assert found.length_px == pytest.approx(20, rel=0.4)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (np.full((2, 1, 64, 80), 7, np.uint16), {}, "expected images with noise, got the count 7 in every pixel"),
        (
            np.ones((2, 1, 20, 80), np.uint16),
            {},
            "planes of at least 32 x 32 px to tell noise from structure, got 2",
        ),
        (
            np.linspace(0, 1, 10_240).reshape(2, 1, 64, 80),
            {},
            "expected raw counts, whole numbers of 0 or m",
        ),
        (np.full((2, 1, 64, 80), np.nan), {}, "expected raw counts, whole numbers"),
        (
            np.arange(-10_240, 0).reshape(2, 1, 64, 80),
            {},
            "expected raw counts, whole numbers of 0 or m",
        ),
        (np.minimum(np.arange(10_240), 9000).reshape(2, 1, 64, 80), {}, "of the pixels at 9000, saturated"),
        (
            np.random.default_rng(0).poisson(50, (1, 1, 40, 50)),
            {},
            r"at least 4096 dark pixels, got \d+ in 1 pl",
        ),
        (
            np.random.default_rng(0).poisson(1, (9, 1, 128, 136)),
            {},
            r"expected dark pixels above 0, got 0 in 3\d\.\d%",
        ),
        (
            np.rint(np.random.default_rng(0).normal(100, 5, (9, 1, 128, 136))),
            {"excess_noise": 1},
            "expected some light, or the tail of single electrons in the dark, to tell the gain by, got neither",
        ),
        (np.ones((9, 1, 64, 80)), {"excess_noise": 0.5}, "expected excess_noise as a finite number of 1 or more, got"),
        (np.ones((9, 1, 64, 80)), {"projected_planes": 0}, "expected projected_planes as a whole number of 1 or more"),
        (np.ones((9, 1, 64, 80)), {"projected_planes": 9, "excess_noise": 1}, "excess_noise above 1 for projections"),
        (np.ones((9, 1, 64, 80)), {"planes": 0}, "expected planes as a whole number of 1 or more, got 0"),
    ],
)
def test_what_tells_no_camera_is_an_error(counts, options, message):
    with pytest.raises(NiddlError, match=message):
        fit(from_counts(counts), **options)


def test_an_offset_under_light_is_doubtful_and_said_to_be():
    light = np.full((4, 1, 160, 168), 3.0, np.float32)
    light[..., 60:100, :] = 40
    with pytest.warns(UserWarning, match="the darkest tiles hold .* electrons a pixel: the offset is uncertain"):
        fit(recorded(light, Camera(**EMCCD)))


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "planes"), [("whole_brain", 1), ("ventral_cord", 20)])
def test_the_other_half_of_real_images_has_the_noise_of_the_fitted_camera(folder, planes, realdata):
    with pytest.warns(UserWarning, match="files are missing"):
        images = nx.open_recording(
            realdata / "niddl_samples" / folder / "noisy", gaps="skip", voxel_um=(1, 0.4, 0.4), dt_s=1
        )
    camera = fit(images.isel(t=slice(0, None, 2)), projected_planes=planes)
    table = compare(images.isel(t=slice(1, 12, 2)), camera)
    for name, row in table.iterrows():
        if name.startswith("correlation"):
            # 4096 pixels a plane, six planes, and stripes: a correlation is known to about 0.02.
            assert row["simulated"] == pytest.approx(row["real"], abs=0.05)
        else:
            assert row["ratio"] == pytest.approx(1, abs=0.2 if name == "skewness" else 0.1)


@pytest.mark.realdata
def test_gains_of_real_pairs_are_those_of_a_straight_line_through_smooth_images(realdata):
    from scipy.ndimage import gaussian_filter

    pairs = nx.open_pairs(realdata / "w2s_pairs", noisy="noisy_avg1", clean="clean_avg400").isel(stack=slice(0, 4))
    found = fit_pairs(pairs)["clean_gain"].values
    for stack in range(4):
        noisy, clean = (gaussian_filter(pairs[n].values[stack, 0].astype(float), 6).ravel() for n in ("noisy", "clean"))
        assert found[stack] == pytest.approx(np.polyfit(noisy, clean, 1)[0], rel=0.15)
