"""Signal to noise against algebra and simulated cameras of known gain."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from niddl_xr import metrics, simulate
from niddl_xr.schema import NiddlError


def movie(seed: int = 1) -> xr.DataArray:
    values = np.random.default_rng(seed).uniform(100, 60000, (5, 3, 13, 17))
    return xr.DataArray(values.astype("float32"), dims=("t", "z", "y", "x"), name="F")


def noise(shape: tuple[int, ...] = (2, 3, 150, 160)) -> xr.DataArray:
    values = np.random.default_rng(2).normal(400, 10, shape)
    return xr.DataArray(values.astype(np.float32), dims=("t", "z", "y", "x"))


def bright_cells(frames: int, gain: float = 4.0) -> xr.DataArray:
    """A camera with an offset of 100 and a read noise of 3 counts; cells of up to 150 photons above 2."""
    rng = np.random.default_rng(3)
    light = np.zeros((3, 90, 110))
    light[np.arange(3).repeat(8), rng.integers(10, 80, 24), rng.integers(10, 100, 24)] = 1
    light = gaussian_filter(light, (0, 3, 3))
    photons = 2 + 150 * light / light.max()
    counts = 100 + gain * rng.poisson(photons, (frames, 3, 90, 110)) + rng.normal(0, 3, (frames, 3, 90, 110))
    return xr.DataArray(counts.astype(np.float32), dims=("t", "z", "y", "x"))


def test_snr_by_algebra():
    bright = noise()
    bright.values.reshape(2, 3, -1)[..., :240] = 1400.0  # exactly the brightest 1 % of each plane and frame
    for per, dims in (("frame", ("t",)), ("plane", ("t", "z"))):
        table = metrics.snr(bright, per=per)
        assert table["snr_dB"].dims == dims
        np.testing.assert_allclose(table["foreground"], 1400.0)
        np.testing.assert_allclose(table["background"], 400.0, atol=0.5)
        np.testing.assert_allclose(table["noise_sd"], 10.0, rtol=0.03)
        np.testing.assert_allclose(table["snr_dB"], 40.0, atol=0.3)  # 20 log10(1000 / 10)
        assert not table["saturated"].any()


def test_snr_of_noise_alone():
    # The brightest 1 % of a normal distribution lie 2.665 SD above its mean.
    np.testing.assert_allclose(metrics.snr(noise())["snr_dB"], 20 * np.log10(2.665), atol=0.2)


def test_snr_of_a_constant_image_is_nan():
    assert metrics.snr(xr.full_like(noise((2, 1, 6, 7)), 400))["snr_dB"].isnull().all()


def test_snr_leaves_out_what_is_not_finite():
    full, cut = noise((1, 1, 40, 50)), noise((1, 1, 40, 50))
    cut.values[..., :8] = np.nan
    xr.testing.assert_allclose(metrics.snr(cut), metrics.snr(full[..., 8:]))
    assert metrics.snr(xr.full_like(full, np.nan))["background"].isnull().all()


def test_snr_measures_frames_spread_over_the_recording():
    recording = movie().assign_coords(t=[0.0, 0.5, 1.0, 1.5, 2.0])
    assert metrics.snr(recording, max_frames=3)["t"].values.tolist() == [0.0, 1.0, 2.0]
    xr.testing.assert_allclose(metrics.snr(recording.chunk(t=2, y=4)), metrics.snr(recording))


@pytest.mark.parametrize(("limit", "saturation"), [(65535, None), (4095, 4095)])
def test_saturation_is_told(limit, saturation):
    recording = xr.full_like(noise((2, 1, 10, 20)), 500).astype(np.uint16)
    recording.values[:, :, 0, :4] = limit
    with pytest.warns(UserWarning, match=rf"2 % of the pixels are saturated \(at or above {limit}\)"):
        table = metrics.snr(recording, saturation=saturation)
    np.testing.assert_allclose(table["saturated"], 0.02)


@pytest.mark.parametrize(("frames", "noise_from"), [(5, "consecutive frames"), (1, "single planes")])
def test_photons_of_a_known_camera(frames, noise_from):
    recording = bright_cells(frames)
    table = metrics.snr(recording, per="plane")
    assert table["photon_snr_dB"].dims == ("t", "z")
    assert table["photon_snr_dB"].attrs["noise_from"] == noise_from
    contrast = (table["foreground"] - table["background"]).values
    variance = 4 * (table["foreground"].values - 100) + 3**2  # of a pixel as bright as the foreground
    np.testing.assert_allclose(table["photon_snr_dB"], 20 * np.log10(contrast / np.sqrt(variance)), atol=0.7)
    np.testing.assert_allclose(table["effective_photons"], contrast / 4, rtol=0.15)
    assert np.all(table["photon_snr_dB"] < table["snr_dB"] - 6)  # the light's own noise


def test_what_the_file_says_of_its_camera_goes_first():
    recording = bright_cells(5)
    known = {"gain_counts_per_photon": 2.0, "excess_noise": 2.0, "offset_counts": 100.0, "read_noise_counts": 5.0}
    table = metrics.snr(recording.assign_attrs(known))
    contrast, above = table["foreground"] - table["background"], table["foreground"] - 100
    np.testing.assert_allclose(table["photon_snr_dB"], 20 * np.log10(contrast / np.sqrt(4 * above + 25)))
    np.testing.assert_allclose(table["effective_photons"], contrast / 4)
    assert table["photon_snr_dB"].attrs["noise_from"] == "attrs"
    as_read = {name: np.float32(value) for name, value in known.items()}  # as some file formats give numbers back
    xr.testing.assert_identical(metrics.snr(recording.assign_attrs(as_read)), table)
    for name in known:  # one that is missing is not guessed
        part = {key: value for key, value in known.items() if key != name}
        measured = metrics.snr(recording.assign_attrs(part))["photon_snr_dB"].attrs["noise_from"]
        assert measured == "consecutive frames"


def test_the_photons_of_a_simulated_worm_are_those_of_its_camera():
    camera = simulate.Camera(gain=10, excess_noise=1, row_noise=4, spurious_charge=0)
    worm = simulate.whole_brain(shape=(3, 96, 128), frames=4, neurons=30, photons=60, camera=camera)
    recording = worm["recording"]["F"]
    stated = metrics.snr(recording)
    measured = metrics.snr(recording.drop_attrs())
    assert stated["photon_snr_dB"].attrs["noise_from"] == "attrs"
    assert measured["photon_snr_dB"].attrs["noise_from"] == "consecutive frames"
    np.testing.assert_allclose(measured["photon_snr_dB"], stated["photon_snr_dB"], atol=1)
    np.testing.assert_allclose(measured["effective_photons"], stated["effective_photons"], rtol=0.2)


@pytest.mark.parametrize("frames", [1, 4])
def test_without_light_there_are_no_photons(frames):
    for recording in (noise((frames, 2, 60, 70)), xr.full_like(noise((frames, 1, 6, 7)), 400)):
        table = metrics.snr(recording)
        assert table["photon_snr_dB"].isnull().all()
        assert table["effective_photons"].isnull().all()


def test_photons_do_not_depend_on_chunks():
    recording = bright_cells(4)
    xr.testing.assert_identical(metrics.snr(recording.chunk(t=3, z=2, y=50)), metrics.snr(recording))


def test_few_planes_are_read_for_the_photons():
    """Sixteen pairs of planes, whatever the length; the table itself reads the frames that were asked for."""
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.ones((1, 1, 20, 30), np.float32)

    long = da.map_blocks(block, chunks=((1,) * 300, (1,) * 2, (20,), (30,)), dtype=np.float32, meta=np.empty((0,) * 4))
    metrics.snr(xr.DataArray(long, dims=("t", "z", "y", "x")), max_frames=3)
    assert len(read) <= 3 * 2 + 16 * 2


def test_the_median_over_planes_is_that_of_the_table():
    planes = bright_cells(2).values.reshape(6, 90, 110)
    table = metrics.snr(xr.DataArray(planes[:, None], dims=("t", "z", "y", "x")))
    assert metrics.median_snr_db(planes) == float(table["snr_dB"].median())
    blank = np.concatenate([planes, np.full((9, 90, 110), 7, np.float32)])
    assert metrics.median_snr_db(blank) == metrics.median_snr_db(planes)
    assert np.isnan(metrics.median_snr_db(blank[-2:]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.snr(movie()[0]), "expected dims"),
        (lambda: metrics.snr(movie(), per="t"), 'expected per="frame" or "plane", got \'t\''),
        (lambda: metrics.snr(movie(), foreground_fraction=0.7), "foreground_fraction above 0 and below 0.5"),
        (lambda: metrics.snr(movie(), max_frames=0), "expected max_frames of 1 or more, or None for all, got 0"),
    ],
)
def test_what_cannot_be_measured_is_an_error(call, message):
    with pytest.raises(NiddlError, match=message):
        call()
