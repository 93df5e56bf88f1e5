"""detect: the filter against algebra, the verb against simulated worms whose neurons are known."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import warnings
from itertools import pairwise, product

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial.distance import cdist

import niddl_xr as nx
from niddl_xr import NiddlError, neurons, schema
from niddl_xr.schema import make_recording
from niddl_xr.segmentation import _detection_tasks, _frame_detection, detect
from niddl_xr.segmentation._frame_detection import Settings, detect_in_frame
from niddl_xr.segmentation._kernels import blob_fit, blobs
from niddl_xr.segmentation._worm_mask import worm_mask
from niddl_xr.simulation import whole_brain

VOXEL_UM = np.array([1.0, 0.4, 0.3])


def gaussians(shape, centres_um, sigma_um, peaks, voxel_um=VOXEL_UM):
    """A sum of Gaussians (z, y, x) in closed form, at voxel centres; ``sigma_um`` one for all, or along z, y, x."""
    axes = np.meshgrid(*[np.arange(n) * v for n, v in zip(shape, voxel_um, strict=True)], indexing="ij")
    sigma = np.broadcast_to(sigma_um, 3)
    volume = np.zeros(shape)
    for centre, peak in zip(np.atleast_2d(centres_um), peaks, strict=True):
        squared = sum(((axis - c) / s) ** 2 for axis, c, s in zip(axes, centre, sigma, strict=True))
        volume += peak * np.exp(-0.5 * squared)
    return volume


def movie(volumes, voxel_um=VOXEL_UM, **options):
    return make_recording(np.asarray(volumes), voxel_um=list(voxel_um), **({"dt_s": 0.5} | options))


def noisy(volume, seed=0, sd=3.0):
    return (400 + volume + np.random.default_rng(seed).normal(0, sd, volume.shape)).astype(np.float32)


def found_in(recording, **options):
    return detect(recording, progress=False, **options)


@pytest.fixture(scope="module")
def worm() -> xr.DataTree:
    """Eleven frames of ten neurons, (t 11, z 9, y 61, x 83)."""
    return whole_brain(shape=(9, 61, 83), frames=11, neurons=10, photons=40, seed=3, motion="semi")


@pytest.fixture(scope="module")
def recording(worm) -> xr.DataArray:
    return worm["recording"]["F"].compute()


@pytest.fixture(scope="module")
def table(recording) -> pd.DataFrame:
    return found_in(recording)


def assert_same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert {**left.attrs, schema.HISTORY: None} == {**right.attrs, schema.HISTORY: None}  # it holds the time


# The filter


@pytest.mark.parametrize("voxel_um", [(0.5, 0.25, 0.25), (1.0, 0.4, 0.3)])
def test_difference_of_gaussians_of_a_gaussian_is_the_closed_form(voxel_um):
    voxel, sigma, blob = np.array(voxel_um), 1.1, 1.3
    shape = tuple(np.ceil(16 / voxel).astype(int))
    centre = (np.array(shape) // 2) * voxel
    volume = gaussians(shape, centre, blob, [100], voxel)
    response = blobs.difference_of_gaussians(volume.astype(np.float32), np.full(3, sigma), voxel)

    def blurred(s):
        return 100 * (blob**2 / (blob**2 + s**2)) ** 1.5

    expected = blurred(sigma) - blurred(1.6 * sigma)
    assert response[tuple(np.array(shape) // 2)] == pytest.approx(expected, rel=0.02)


def test_laplacian_of_a_gaussian_is_the_closed_form():
    sigma, blob, shape = 1.2, 1.4, (17, 41, 55)
    volume = gaussians(shape, np.array([8, 20, 27]) * VOXEL_UM, blob, [100])
    response = blobs.laplacian_of_gaussian(volume.astype(np.float32), np.full(3, sigma), VOXEL_UM)
    total = blob**2 + sigma**2
    assert response[8, 20, 27] == pytest.approx(100 * (blob**2 / total) ** 1.5 * 3 * sigma**2 / total, rel=0.02)


def test_the_filter_answers_most_to_a_ball_of_its_radius():
    voxel, radii = np.full(3, 0.3), np.array([1.2, 1.6, 2.0, 2.5, 3.2])
    axes = np.meshgrid(*[(np.arange(n) - n // 2) * 0.3 for n in (41, 43, 45)], indexing="ij")
    ball = (sum(a**2 for a in axes) < 2.0**2).astype(np.float32)
    answers = [
        blobs.laplacian_of_gaussian(ball, blobs.filter_sigma_um(radius, ball.shape), voxel)[20, 21, 22]
        for radius in radii
    ]
    assert radii[np.argmax(answers)] == 2.0


def test_a_plane_has_the_sigma_of_two_dims():
    assert blobs.filter_sigma_um(1.6, (1, 5, 7)).tolist() == pytest.approx([0, 1.6 / np.sqrt(2), 1.6 / np.sqrt(2)])
    assert blobs.filter_sigma_um(1.6, (4, 5, 7)).tolist() == pytest.approx([1.6 / np.sqrt(3)] * 3)


def test_local_maxima_are_those_of_scikit_image():
    from skimage.feature import peak_local_max

    response = blobs.smoothed(np.random.default_rng(2).normal(size=(9, 31, 42)).astype(np.float32), np.full(3, 1.0))
    mine = blobs.local_maxima(response, 0.02)
    theirs = peak_local_max(response, min_distance=1, threshold_abs=0.02, exclude_border=False)
    assert set(map(tuple, mine.tolist())) == set(map(tuple, theirs.tolist()))
    assert all(response[tuple(a)] >= response[tuple(b)] for a, b in pairwise(mine))


def test_apart_keeps_the_strongest_as_a_loop_would():
    points = np.random.default_rng(5).uniform(0, 9, (60, 3))
    kept: list[int] = []
    for row, point in enumerate(points):
        if all(np.linalg.norm(point - points[other]) > 2.0 for other in kept):
            kept.append(row)
    assert np.flatnonzero(blobs.apart(points, 2.0)).tolist() == kept


def test_places_between_voxels_are_those_of_a_parabola():
    z, y, x = np.meshgrid(np.arange(7.0), np.arange(9.0), np.arange(11.0), indexing="ij")
    response = (50 - (z - 3.2) ** 2 - 2 * (y - 3.9) ** 2 - 0.5 * (x - 5.4) ** 2).astype(np.float32)
    peak = np.array([np.unravel_index(response.argmax(), response.shape)])
    assert blobs.between_voxels(response, peak)[0] == pytest.approx([3.2, 3.9, 5.4], abs=1e-4)
    edge = blobs.between_voxels(-(z.astype(np.float32) + 1), np.array([[0, 4, 5]]))
    assert edge.tolist() == [[0, 4, 5]]


def test_robust_sd_of_normal_numbers_with_outliers():
    values = np.random.default_rng(0).normal(7, 3.0, 400_000)
    values[:4000] = 1e6
    assert blobs.robust_sd(values) == pytest.approx(3.0, rel=0.03)


# The fit


def test_slopes_of_the_fit_are_differences():
    response = np.zeros((8, 21, 27), np.float32)
    fit = blob_fit.BlobFit(response, np.array([0.9, 0.9, 0.9]), VOXEL_UM, 1.6)
    start = blob_fit.Blobs(np.array([[3.3, 4.1, 3.9]]), np.array([50.0]), np.log([[1.5**2, 1.1**2]]))

    def image(step):
        moved = blob_fit.Blobs(start.centre_um + step[1:4], start.peak + step[0], start.log_variance + step[4:])
        return fit._images(fit._profiles(moved), moved.peak).ravel()

    slopes = fit._slopes(start, fit._profiles(start))[0]
    for parameter in range(6):
        step = np.zeros(6)
        step[parameter] = 1e-5
        assert slopes[parameter] == pytest.approx((image(step) - image(-step)) / 2e-5, abs=1e-4)


def test_a_subtracted_blob_leaves_nothing_of_its_own_filtered_image():
    sigma_um = np.full(3, 0.92)
    volume = gaussians((15, 51, 61), [7.2, 10.1, 9.3], (1.5, 1.1, 1.1), [100])
    response = blobs.difference_of_gaussians(volume.astype(np.float32), sigma_um, VOXEL_UM)
    fit = blob_fit.BlobFit(response, sigma_um, VOXEL_UM, 1.6)
    fit.subtract(blob_fit.Blobs(np.array([[7.2, 10.1, 9.3]]), np.array([100.0]), 2 * np.log([[1.5, 1.1]])))
    inside = fit.left_over[6:9, 20:31, 27:36]
    assert np.abs(inside).max() < 0.03 * response.max()


def no_noise(points_um):
    return np.zeros(len(points_um))


def test_peaks_that_turn_out_to_be_none_leave_nothing():
    response = np.zeros((5, 17, 19), np.float32)
    response[2, 8, 9] = -3.0
    nothing, times_noise = blob_fit.taken_apart(
        response,
        np.array([[2, 8, 9]]),
        sigma_um=np.full(3, 0.9),
        voxel_um=VOXEL_UM,
        radius_um=1.6,
        snr=5.0,
        rounding=1e-3,
        distance_um=3.0,
        dimmest=0.3,
        noise_at=no_noise,
    )
    assert len(nothing) == len(times_noise) == 0


@pytest.mark.parametrize("direction", [(1, 0, 0), (0.8, 0.6, 0), (0.6, 0, 0.8)])
def test_two_nuclei_that_give_one_peak_are_taken_apart(direction):
    first = np.array([9.0, 11.0, 10.0])
    second = first + 3.3 * np.array(direction)
    lonely = [[4.0, 24.0, 24.0], [13.0, 4.0, 26.0], [5.0, 24.0, 4.0]]  # tell the size
    centres = np.array([first, second, *lonely])
    volume = noisy(gaussians((19, 73, 101), centres, (1.6, 1.15, 1.15), [400, 220, 300, 300, 300]), sd=2)
    response = blobs.difference_of_gaussians(volume, blobs.filter_sigma_um(1.6, volume.shape), VOXEL_UM)
    assert len(blobs.local_maxima(response, 20)) == 4  # the pair has one
    points = found_in(movie(volume[None]))[["z", "y", "x"]].to_numpy()
    distance = cdist(centres, points)
    assert len(points) == 5
    assert distance.min(axis=1).max() < 0.6


def test_of_blobs_close_together_those_stay_that_were_peaks_themselves():
    centre, strength = np.array([[5.0, 5, 5], [5, 5, 7], [5, 5, 20]]), np.array([40.0, 90.0, 6.0])
    as_found = {"threshold": 5.0, "distance_um": 3.0, "dimmest": 0.3, "noise_at": no_noise}
    assert blob_fit._likely(centre, strength, np.array([False] * 3), **as_found).tolist() == [True, True, True]
    assert blob_fit._likely(centre, strength, np.array([False, True, False]), **as_found).tolist() == [
        False,
        True,
        True,
    ]
    assert blob_fit._likely(centre, strength, np.array([True] * 3), **as_found | {"threshold": 7}).tolist() == [
        False,
        True,
        False,
    ]
    apart_um = np.array([[5.0, 5, 5], [5, 5, 9], [5, 5, 20]])  # 4 µm: in the shadow if dim, else not
    added = np.array([True, False, False])
    assert blob_fit._likely(apart_um, strength, added, **as_found)[0]
    assert not blob_fit._likely(apart_um, np.array([20.0, 90.0, 6.0]), added, **as_found)[0]


@pytest.mark.parametrize(
    ("gap_um", "share", "noise", "stays"),
    [
        (2.8, 0.95, 0.0, True),  # nearly as near as can be, nearly as bright
        (2.8, 0.8, 0.0, False),  # at 2.8 of 2.76 to 3 µm 0.88 of the brightness are asked for
        (2.9, 0.65, 0.0, True),  # at 2.9 µm 0.59
        (2.9, 0.5, 0.0, False),
        (2.7, 1.0, 0.0, False),
        (2.8, 0.95, 5.0, True),  # 76 counts are 15.2 times the noise
        (2.8, 0.95, 5.2, False),
        (3.1, 0.6, 50.0, True),  # at the distance of two nuclei the noise of the place does not count
    ],
)
def test_near_ones_stay_if_they_are_bright_and_no_noise(gap_um, share, noise, stays):
    centre = np.array([[5.0, 5, 5], [5, 5, 5 + gap_um]])
    asked = []

    def noise_at(points_um):
        asked.extend(points_um.tolist())
        return np.full(len(points_um), noise)

    kept = blob_fit._likely(centre, np.array([80.0, 80 * share]), np.array([False, True]), 5.0, 3.0, 0.3, noise_at)
    assert kept.tolist() == [True, stays]
    assert asked == ([[5.0, 5.0, 5 + gap_um / 2]] if gap_um < 3 else [])


@pytest.mark.parametrize("shape", [(25, 60, 71), (1, 60, 71)])
def test_noise_through_the_filter_is_that_of_a_convolution(shape):
    sigma_um = blobs.filter_sigma_um(1.6, shape)
    point = np.zeros(shape, np.float32)
    point[tuple(size // 2 for size in shape)] = 1
    kernel = blobs.difference_of_gaussians(point, sigma_um, VOXEL_UM)
    assert blobs.noise_gain(sigma_um, VOXEL_UM) == pytest.approx(np.linalg.norm(kernel), rel=0.03)


def test_noise_is_that_of_the_pixels_around_a_point():
    rng = np.random.default_rng(4)
    shape = (9, 60, 80)
    volume = (
        rng.normal(0, np.where(np.arange(80) < 40, 3.0, 30.0), shape)
        + np.arange(80) ** 2
        + 5 * np.arange(9)[:, None, None]
    )
    points = np.array([[4.0, 10.0, 6.0], [4.0, 10.0, 18.0], [0.0, 0.0, 0.0], [6.4, 23.6, 23.7]])
    measured = blobs.noise_around(volume, points, VOXEL_UM, 2.0)
    np.testing.assert_allclose(measured, [3, 30, 3, 30], rtol=0.25)
    counts = np.clip(np.round(volume + 3000), 0, 65535).astype(np.uint16)  # no wrap below zero
    np.testing.assert_allclose(blobs.noise_around(counts, points, VOXEL_UM, 2.0), measured, rtol=0.05)
    volume[:, :, :30] = np.nan
    assert np.isinf(blobs.noise_around(volume, points, VOXEL_UM, 2.0)).tolist() == [True, False, True, False]
    plane = blobs.noise_around(rng.normal(0, 3, (1, 60, 80)), points * [0, 1, 1], VOXEL_UM, 3.0)
    np.testing.assert_allclose(plane, 3, rtol=0.35)
    assert np.isinf(blobs.noise_around(volume[:, :2], points[:1] * 0, VOXEL_UM, 2.0)).all()  # too few rows
    assert len(blobs.noise_around(volume, points[:0], VOXEL_UM, 2.0)) == 0


def test_what_is_near_is_judged_by_the_noise_of_its_place(monkeypatch):
    asked = {}

    def spy(response, index, *, noise_at, **options):
        asked["noise"] = noise_at(np.array([[6.0, 12.0, 8.0]]))
        asked["response"] = response
        return blob_fit.taken_apart(response, index, noise_at=noise_at, **options)

    monkeypatch.setattr(_frame_detection, "taken_apart", spy)
    volume = noisy(gaussians((19, 73, 101), [[6.0, 12.0, 22.0]], (1.3, 1.0, 1.0), [3000]), sd=20)
    found_in(movie(volume[None]), mask=False)
    empty = asked["response"][:, :, :45]  # far from the neuron
    assert asked["noise"] == pytest.approx([empty.std()], rel=0.25)


def test_a_large_nucleus_is_one_and_its_size_and_counts_are_seen():
    centres = [[8.0, 7.0, 8.0], [8.0, 7.0, 22.0], [8.0, 21.0, 8.0], [8.0, 21.0, 22.0]]
    volume = noisy(gaussians((17, 71, 101), centres[:1], 0.6 * 2.0, [200]), sd=1) + gaussians(
        (17, 71, 101), centres[1:], 0.6 * 1.6, [100, 100, 100]
    )
    found = found_in(movie(volume[None]))
    assert len(found) == 4
    assert found["intensity"].to_numpy() == pytest.approx([200, 100, 100, 100], rel=0.1)
    assert found["radius_um"].iloc[0] > 1.1 * found["radius_um"].iloc[1:].max()
    assert found["radius_um"].iloc[1:].to_numpy() == pytest.approx(1.6, rel=0.1)


# The verb on worms whose neurons are known


@pytest.mark.parametrize(("photons", "least_f1"), [(20, 0.95), (5, 0.85)])
def test_bars_of_a_worm_in_faint_light(photons, least_f1):
    tree = whole_brain(neurons=120, shape=(30, 192, 384), voxel_um=(1.0, 0.5, 0.5), frames=1, photons=photons, seed=41)
    score = nx.score_detections(found_in(tree["recording"]["F"]), tree["tracks"].to_dataset())
    assert score["f1"] >= least_f1
    assert score["centroid_error_um"] <= 0.45


def test_a_frame_takes_less_than_six_volumes_of_memory():
    volume = whole_brain(shape=(17, 151, 203), frames=1, neurons=40, photons=20)["recording"]["F"][0].values
    settings = Settings((1.0, 0.4, 0.4), 1.6, 5.0, 1.6, "dog", outline=True)
    detect_in_frame(volume, settings)  # libraries are loaded
    tracemalloc.start()
    detect_in_frame(volume, settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * volume.size * 4


def test_the_table_keeps_the_contract(recording, table):
    assert tuple(table.columns) == neurons.DETECTION_COLUMNS
    assert table["t_index"].dtype == np.int64
    assert neurons.require_detections(table) is table
    assert table["t"].to_numpy() == pytest.approx(recording["t"].values[table["t_index"]])
    assert table["t_index"].is_monotonic_increasing
    assert table.attrs["frames"] == 11
    assert table.attrs["t_s"] == recording["t"].values.tolist()
    assert table.attrs["recording_id"] == neurons.recording_id(recording)
    verbs = [entry["verb"] for entry in json.loads(table.attrs["niddl_history"])]
    assert verbs == ["simulate.whole_brain", "detect"]
    assert (table["snr"] > 5).all()
    assert all(part["snr"].is_monotonic_decreasing for _, part in table.groupby("t_index"))


def test_points_lie_where_the_neurons_are(worm, table):
    """Many of so flat a field's neurons are cut by its edge: the bars above are of a deep one."""
    score = nx.score_detections(table, worm["tracks"].to_dataset())
    assert score["precision"] > 0.85
    assert score["recall"] > 0.65
    assert score["centroid_error_um"] < 0.3


@pytest.mark.parametrize("chunks", [{"t": 1}, {"t": 10}, {"t": -1}, {"t": 3, "z": 4, "y": 17, "x": 29}])
def test_chunks_change_nothing(recording, table, chunks):
    assert_same(found_in(recording.chunk(chunks)), table)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_change_nothing(recording, table, scheduler):
    with dask.config.set(scheduler=scheduler):
        assert_same(found_in(recording.chunk(t=2)), table)


def test_a_cluster_changes_nothing(recording, table):
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None):
        assert_same(found_in(recording.chunk(t=2)), table)


def counted(recording, seen, chunks=1, fail_at=None):
    """The lazy recording, which notes what is read; reading frame ``fail_at`` fails."""

    def read(block, block_info=None):
        place = block_info[0]["array-location"][0]
        seen.append(place[0])
        if fail_at is not None and place[0] <= fail_at < place[1]:
            raise OSError("the disk is gone")
        return block

    lazy = da.from_array(recording.values, chunks=(chunks, -1, -1, -1)).map_blocks(read, dtype=recording.dtype)
    return recording.copy(data=lazy)


def test_every_chunk_is_read_once(recording, table):
    seen: list[int] = []
    assert_same(found_in(counted(recording, seen, chunks=4)), table)
    assert sorted(seen) == [0, 4, 8]


def test_tasks_are_whole_chunks(recording, table, monkeypatch):
    monkeypatch.setattr(_detection_tasks, "CHUNK_BYTES", 5 * recording[0].nbytes)
    seen: list[int] = []
    assert_same(found_in(counted(recording, seen, chunks=2)), table)
    assert sorted(seen) == [0, 2, 4, 6, 8, 10]
    assert _detection_tasks.frames_per_part_of(recording.chunk(t=2)) == 4
    assert _detection_tasks.frames_per_part_of(recording.chunk(t=7)) == 7
    monkeypatch.setattr(_detection_tasks, "_MOST_CHUNK_BYTES", 6 * recording[0].nbytes)
    assert _detection_tasks.frames_per_part_of(recording.chunk(t=7)) == 5  # too large to be one task


def test_frames_are_searched_by_time_alone(recording, table):
    seen: list[int] = []
    lazy = counted(recording, seen)
    some = found_in(lazy, time=slice(0.5, 1.0))  # 4 frames a second, both ends
    assert sorted(seen) == [2, 3, 4]
    expected = table[table["t_index"].isin([2, 3, 4])].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected, check_exact=True)
    assert some.attrs["t_index_searched"] == [2, 3, 4]
    assert some.attrs["frames"] == 11
    assert found_in(recording, time=[2.5, 0.26])["t_index"].unique().tolist() == [1, 10]
    assert found_in(recording, time=0.0)["t_index"].unique().tolist() == [0]


@pytest.mark.parametrize("time", [slice(90, 95), "yesterday", [-3.0], 1000.0, []])
def test_times_without_a_frame_are_errors(recording, time):
    with pytest.raises(NiddlError, match="expected time"):
        found_in(recording, time=time)


def test_coordinates_say_where_points_are(recording, table):
    moved = recording.assign_coords(
        z=("z", 50 - recording["z"].values, {"units": "µm"}),  # the stage counts down
        y=("y", recording["y"].values + 1234.5, {"units": "um"}),
    )
    found = found_in(moved)
    assert found["z"].to_numpy() == pytest.approx(50 - table["z"].to_numpy())
    assert found["y"].to_numpy() == pytest.approx(table["y"].to_numpy() + 1234.5)
    assert found["x"].to_numpy() == pytest.approx(table["x"].to_numpy())
    cropped = found_in(recording.isel(x=slice(10, None)))
    x_um = cropped.loc[cropped["t_index"] == 4, "x"].to_numpy()
    assert x_um.min() > 10 * 0.4 - 0.3
    interior = table.loc[(table["t_index"] == 4) & (table["x"] > 9), ["z", "y", "x"]].to_numpy()
    assert np.median(cdist(interior, cropped.loc[cropped["t_index"] == 4, ["z", "y", "x"]]).min(axis=1)) < 0.1


def test_a_plane_movie():
    volume = np.stack(
        [gaussians((1, 93, 77), [[0, 9, 8], [0, 25, 14], [0, 17, 19]], 1.0, p) for p in ([90] * 3, [0] * 3)]
    )
    planes = movie(400 + volume + np.random.default_rng(1).normal(0, 4, volume.shape), dt_s=None, t_s=[0.0, 2.5])
    found = found_in(planes, mask=False)
    assert found["t_index"].tolist() == [0, 0, 0]
    assert (found["z"] == 0).all()
    assert cdist(found[["y", "x"]], [[9, 8], [25, 14], [17, 19]]).min(axis=0) == pytest.approx(0, abs=0.2)


def test_time_that_is_not_in_seconds_is_not_called_seconds(recording):
    frames = recording.assign_coords(t=("t", np.arange(11), {"units": "frame"}))
    found = found_in(frames, time=slice(2, 3))
    assert found["t"].isna().all()
    assert "t_s" not in found.attrs
    assert neurons.frame_coordinate(found)[2] == {"units": "frame"}
    assert sorted(found["t_index"].unique()) == [2, 3]


def test_log_finds_the_same_neurons(recording, table):
    score = nx.score_detections(found_in(recording, method="log"), table, gate_um=0.5)
    assert score["recall"] > 0.9


# Bad input


def test_blank_frames_and_holes_are_counted_and_cost_nothing_else(recording, table):
    flawed = recording.astype(np.float32).copy()
    flawed[1] = np.nan
    flawed[2] = 500.0
    flawed[3] = 0.0
    flawed[5, :, :8, :8] = np.nan
    flawed[6, 0, 0, 0] = np.inf
    with pytest.warns(UserWarning, match=r"3 of 11 frames are blank .* 2 of 11 frames hold voxels that are NaN"):
        found = found_in(flawed)
    assert not found["t_index"].isin([1, 2, 3]).any()
    same = ~table["t_index"].isin([1, 2, 3, 5, 6])
    kept = found[~found["t_index"].isin([5, 6])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, table[same].reset_index(drop=True), check_exact=True)
    for t in (5, 6):
        there, before = (part.loc[part["t_index"] == t, ["z", "y", "x"]].to_numpy() for part in (found, table))
        away = before[(before[:, 1] > 6) | (before[:, 2] > 6)]
        assert np.median(cdist(away, there).min(axis=1)) < 0.1
        inside = (there[:, 1] < 8 * 0.4 - 0.4) & (there[:, 2] < 8 * 0.4 - 0.4)
        assert t == 6 or not inside.any()


def test_noise_without_neurons_gives_next_to_nothing_and_says_so():
    rng = np.random.default_rng(4)
    noise = movie(rng.normal(400, 10, (3, 12, 71, 83)).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = found_in(noise)
    assert len(found) <= 3
    with pytest.warns(UserWarning, match=r"no neuron is found in any of 3 frames: lower snr="):
        none = found_in(noise, snr=30)
    assert tuple(none.columns) == neurons.DETECTION_COLUMNS
    assert none["t_index"].dtype == np.int64
    assert none["snr"].dtype == np.float32
    assert neurons.number_of_frames(none) == 3


def test_one_neuron_and_a_saturated_one():
    volume = gaussians((11, 61, 73), [5.0, 12.2, 10.1], 1.0, [300])
    one = found_in(movie(noisy(volume)[None]))
    assert len(one) == 1
    assert one[["z", "y", "x"]].to_numpy()[0] == pytest.approx([5.0, 12.2, 10.1], abs=0.1)
    assert one["intensity"].item() == pytest.approx(300, rel=0.1)
    clipped = np.minimum(noisy(4 * volume), 900).astype(np.uint16)
    assert found_in(movie(clipped[None]))[["z", "y", "x"]].to_numpy()[0] == pytest.approx([5.0, 12.2, 10.1], abs=0.2)


def test_counts_without_noise_are_no_noise():
    """Nothing but rounding is between the blobs: it must not be found."""
    volume = 30_000 + gaussians((11, 61, 73), [[5.0, 7.0, 7.0], [5.0, 17.0, 15.0]], 1.0, [300, 200])
    noiseless = movie(volume.astype(np.float32)[None])
    assert len(found_in(noiseless)) == 2
    everywhere = found_in(noiseless, mask=False)
    assert len(everywhere) == 2
    assert np.isfinite(everywhere["snr"]).all()
    tight = np.round(gaussians((11, 161, 173), [[5.0, 7.0, 7.0], [5.0, 17.0, 15.0]], 0.6, [300, 200])).astype(np.uint16)
    whole_numbers = found_in(movie(tight[None]), mask=False)  # the filter gives 0 almost everywhere
    assert len(whole_numbers) == 2
    assert np.isfinite(whole_numbers["snr"]).all()


def test_micrometres_are_asked_for(recording):
    pixels = recording.assign_coords(y=("y", np.arange(61), {"units": "pixel"}))
    with pytest.raises(NiddlError, match=r"coordinate y in µm, got units 'pixel': say voxel_um="):
        found_in(pixels)
    uneven = recording.assign_coords(x=("x", np.arange(83.0) ** 1.2, {"units": "µm"}))
    with pytest.raises(NiddlError, match="evenly spaced along x"):
        found_in(uneven)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius_um": 0}, "radius_um as a positive number"),
        ({"radius_um": "1.6"}, "radius_um as a positive number"),
        ({"snr": -2}, "snr as a positive number"),
        ({"min_distance_um": np.nan}, "min_distance_um as a positive number"),
        ({"method": "hessian"}, r"method as one of \('dog', 'log'\), got 'hessian'"),
        ({"channel": "red"}, "a DataArray is one channel, got 'red'"),
        ({"mask": True}, "mask as None"),
        ({"mask": np.ones((9, 61, 83))}, "a boolean mask, got dtype float64"),
        ({"mask": np.ones((83, 61, 9), bool)}, r"a mask that fits the recording, .* differs along \['z', 'x'\]"),
        ({"mask": np.zeros((61, 83), bool)}, "a mask that is True somewhere"),
        ({"mask": xr.DataArray(np.ones((3, 9), bool), dims=("neuron", "z"))}, r"rename or drop \['neuron'\]"),
    ],
)
def test_arguments_that_make_no_sense(recording, options, message):
    with pytest.raises(NiddlError, match=message):
        found_in(recording, **options)


def test_axes_in_another_order_are_an_error(recording):
    with pytest.raises(NiddlError, match=r"expected dims .* see DataArray.transpose"):
        found_in(recording.transpose("z", "t", "y", "x"))


# Channels


def test_a_channel_of_several_is_named(recording, table):
    dim = recording.copy(data=np.full_like(recording, 400) + np.arange(83, dtype=np.uint16))
    both = {"red": recording, "green": dim}
    assert_same(found_in(both, channel="red"), table)
    assert_same(found_in(xr.Dataset(both), channel="red"), table)
    assert_same(found_in(recording.to_dataset(name="F")), table)
    history = json.loads(found_in(both, channel="red").attrs["niddl_history"])
    assert history[-1]["parameters"]["channel"] == "red"
    with pytest.raises(
        NiddlError, match=r"channel as one of \['red', 'green'\], got None: choose the one that does not"
    ):
        found_in(both)
    with pytest.raises(NiddlError, match=r"other[s]? in \['green'\] than in 'red': align them"):
        found_in({"red": recording, "green": dim.assign_coords(x=dim["x"] + 3)}, channel="red")


def test_points_of_the_red_channel_are_of_the_same_recording_as_the_green():
    tree = whole_brain(shape=(7, 40, 50), frames=2, neurons=4, photons=20, red_photons=60)
    red, green = tree["red"]["F"], tree["recording"]["F"]
    assert found_in(red).attrs["recording_id"] == neurons.recording_id(green)
    with pytest.raises(NiddlError, match=r"DataTree; of a tree take one node's variable"):
        found_in(tree)


# Masks


def test_a_mask_says_where_to_look(recording, table):
    left = np.zeros((61, 83), bool)
    left[:, :40] = True
    found = found_in(recording, mask=left)
    assert found["x"].max() < 40 * 0.4 + 0.5
    assert len(found)
    labelled = xr.DataArray(left.T, dims=("x", "y"))
    assert_same(found_in(recording, mask=labelled), found)
    by_frame = xr.DataArray(np.repeat(left[None], 11, axis=0), dims=("t", "y", "x"))
    by_frame[4:] = False
    some = found_in(recording, mask=by_frame.chunk(t=2))
    expected = found[found["t_index"] < 4].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected, check_exact=True)


def test_a_mask_of_each_frame_stays_with_its_frame(recording, table, small_parts):
    odd = np.zeros((11, 1, 61, 1), bool)
    odd[1::3] = True
    assert found_in(recording, mask=odd)["t_index"].unique().tolist() == [1, 4, 7, 10]


def test_voxels_that_hold_no_count_are_not_looked_at():
    volume, valid, given = np.zeros((3, 4, 5)), np.ones((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    valid[1], given[2] = False, False
    settings = Settings((1.0, 1.0, 1.0), 1.6, 5.0, 1.6, "dog", outline=False)
    inside, _ = _frame_detection._where_to_look(volume, VOXEL_UM, settings, given, valid)
    assert inside[:, 0, 0].tolist() == [True, False, False]


def test_without_an_outline_the_threshold_is_higher():
    noise = movie(np.random.default_rng(8).normal(400, 10, (1, 14, 91, 103)).astype(np.float32))
    everywhere, given = found_in(noise, mask=False, snr=4), found_in(noise, mask=np.ones((91, 103), bool), snr=4)
    assert everywhere["snr"].min() > 4.8 > given["snr"].min() > 4
    assert len(given) > len(everywhere) > 0
    assert_same(found_in(noise, snr=4), everywhere)  # an outline of noise holds nearly all of it


def test_the_outline_holds_the_neurons_and_little_else():
    tree = whole_brain(shape=(22, 180, 330), frames=1, neurons=80, photons=5, seed=6)
    inside = worm_mask(tree["recording"]["F"][0].values, np.array([1.0, 0.4, 0.4]), 1.6)
    neurons_px = np.round(tree["tracks"]["position"].values[0] / [1.0, 0.4, 0.4]).astype(int)
    assert inside[tuple(neurons_px.T)].mean() > 0.95
    assert inside.mean() < 0.5


# On disk


def test_parts_on_disk_are_the_table_in_memory(recording, table, tmp_path):
    lazy = recording.chunk(t=2)
    assert_same(found_in(lazy, to=tmp_path / "points"), table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "points"), table, check_exact=True)
    seen: list[int] = []
    again = found_in(counted(recording, seen), to=tmp_path / "points")
    assert_same(again, table)
    assert again.attrs["niddl_history"] == found_in(recording, to=tmp_path / "points").attrs["niddl_history"]


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of two frames, whatever their size."""
    monkeypatch.setitem(detect.__globals__, "frames_per_part_of", lambda recording: 2)


def test_what_is_finished_is_not_done_again(recording, table, tmp_path, small_parts, monkeypatch):
    folder, worked_on = tmp_path / "points", []
    monkeypatch.setitem(detect.__globals__, "identity", lambda recording: {"name": "worm"})
    monkeypatch.setattr(_detection_tasks, "_workers", lambda: 1)
    monkeypatch.setattr(_detection_tasks, "_TASKS_PER_WORKER", 1)  # one after the other, in order
    with pytest.raises(OSError, match="the disk is gone"):
        found_in(counted(recording, [], fail_at=7), to=folder)
    parts = sorted(path.name for path in folder.glob("part-*.parquet"))
    assert parts == [f"part-{number:06d}.parquet" for number in range(3)]

    def noted(volume, *arguments):
        worked_on.append(1)
        return detect_in_frame(volume, *arguments)

    monkeypatch.setattr(_detection_tasks, "detect_in_frame", noted)
    assert_same(found_in(recording, to=folder), table)
    assert len(worked_on) == 11 - 6


def test_leftovers_of_a_killed_run_do_no_harm(recording, table, tmp_path, small_parts):
    folder = tmp_path / "points"
    folder.mkdir()
    (folder / "._detections.json.1234abcd").write_text('{"half')
    assert_same(found_in(recording, to=folder), table)
    (folder / ".part-000003.parquet.99999999").write_bytes(b"PAR1 half a part")
    (folder / "part-000003.parquet").unlink()
    assert_same(found_in(recording, to=folder), table)
    (folder / "part-000002.parquet").write_bytes(b"PAR1 half a part")
    with pytest.raises(NiddlError, match=r"part-000002.parquet is damaged .* remove this file"):
        found_in(recording, to=folder)


def test_a_folder_of_something_else_is_left_alone(recording, tmp_path):
    folder = tmp_path / "points"
    found_in(recording, to=folder)
    with pytest.raises(FileExistsError, match=r"other detections \(snr 5.0, not 4.0\); choose another path"):
        found_in(recording, to=folder, snr=4)
    with pytest.raises(FileExistsError, match="other detections .*recording"):
        found_in(recording + 1, to=folder)
    with pytest.raises(FileExistsError, match="other detections .*mask"):
        found_in(recording, to=folder, mask=np.eye(61, 83, dtype=bool))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="holds no detections of niddl_xr"):
        found_in(recording, to=tmp_path / "letters")
    (folder / "_detections.json").write_text("{}")
    with pytest.raises(FileExistsError, match="does not describe detections"):
        found_in(recording, to=folder)
    shutil.rmtree(folder)


def test_warnings_come_back_with_the_parts(recording, tmp_path):
    flawed = recording.astype(np.float32).copy()
    flawed[4] = np.nan
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 11 frames are blank"):
            found_in(flawed, to=tmp_path / "points")


def test_nothing_is_planned_for_frames_that_are_not_searched():
    huge = da.zeros((200_000, 9, 61, 83), chunks=(1, -1, -1, -1), dtype=np.uint16)
    lazy = make_recording(huge, voxel_um=(1, 0.4, 0.4), dt_s=0.5)
    with pytest.warns(UserWarning, match="1 of 1 frames are blank"):
        assert len(found_in(lazy, time=7.0)) == 0


# Real recordings


@pytest.mark.realdata
def test_labelled_nuclei_of_a_real_stack(realdata):
    import tifffile
    from scipy import ndimage

    folder = realdata / "stardist_nuclei"
    stack, labels = (tifffile.imread(folder / name) for name in ("img3d.tif", "mask3d.tif"))
    numbers = np.unique(labels[labels > 0])
    centres = np.asarray(ndimage.center_of_mass(labels > 0, labels, numbers))
    truth = pd.DataFrame({"t_index": 0, "z": centres[:, 0], "y": centres[:, 1], "x": centres[:, 2]})
    # Nuclei fill the field (38 % of the voxels), so a low snr; voxel sizes are not stated, so 1.
    found = found_in(movie(stack[None], (1, 1, 1)), radius_um=4.5, min_distance_um=4.5, mask=False, snr=1.6)
    score = nx.score_detections(found, truth, gate_um=5.7)
    assert score["precision"] > 0.9
    assert score["recall"] > 0.75


def test_constants_are_those_of_the_docstring():
    assert "1.85 radii" in detect.__doc__
    assert _frame_detection.NUCLEI_APART_RADII == 1.85
    assert "0.3 of its neighbour" in " ".join(detect.__doc__.split())
    assert _frame_detection.DIMMEST == 0.3
    assert "down to 1.7 radii" in " ".join(detect.__doc__.split())
    assert round(blob_fit._NEAREST * _frame_detection.NUCLEI_APART_RADII, 2) == 1.7
    assert list(product(_frame_detection.METHODS)) == [("dog",), ("log",)]
