"""Labels: scenes whose outlines are known from algebra, other libraries' numbers, and simulated heads."""

from __future__ import annotations

import json
import pickle

import cloudpickle
import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import ndimage
from skimage.measure import regionprops_table

import niddl_xr as nx
from niddl_xr.metrics import score_labels
from niddl_xr.schema import make_recording
from niddl_xr.segmentation._grid import grid_of
from niddl_xr.segmentation._kernels import mixture, outlines, splitting
from niddl_xr.segmentation.label_detections import labels_to_detections
from niddl_xr.segmentation.labels import _points, segment

VOXEL_UM = np.array([1.0, 0.5, 0.4])
SHAPE = (15, 48, 60)  # 15 x 24 x 24 µm
FLOOR = 300.0


def grid_um(shape: tuple[int, ...] = SHAPE, voxel_um: np.ndarray = VOXEL_UM) -> np.ndarray:
    """Positions (z, y, x, 3) in µm."""
    return np.stack(np.meshgrid(*(np.arange(n) * v for n, v in zip(shape, voxel_um, strict=True)), indexing="ij"), -1)


def distance2(centre: list[float], sigma_um: list[float]) -> np.ndarray:
    return np.square((grid_um() - centre) / sigma_um).sum(axis=-1)


def scene(*spots: tuple[list[float], list[float], float]) -> np.ndarray:
    """A frame with Gaussians (centre, sigma along z, y, x in µm, peak) on a floor."""
    return FLOOR + sum(peak * np.exp(-distance2(centre, sigma) / 2) for centre, sigma, peak in spots)


def movie(*frames: np.ndarray, **options: object) -> xr.DataArray:
    return make_recording(np.stack(frames).astype("float32"), voxel_um=VOXEL_UM.tolist(), dt_s=0.5, **options)


def points(*rows: tuple[int, float, float, float], **columns: object) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["t_index", "z", "y", "x"]).assign(**columns)


SHARP = (0.0, 0.0, 0.0)  # psf_sigma_um of an image that is outlined as it is
LEFT, RIGHT = [7.0, 12.0, 6.0], [7.0, 12.0, 18.0]
SIGMA = [1.4, 1.1, 1.2]
BOTH = scene((LEFT, SIGMA, 500), (RIGHT, SIGMA, 900))


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


class Forbidden(AssertionError):
    pass


def forbid(*args: object, **kwargs: object) -> None:
    raise Forbidden("computed")


# --- the mixture


def test_gaussian_is_labelled_up_to_the_squared_distance_asked_for() -> None:
    table = points((0, *RIGHT), (0, *LEFT))
    labels = segment(movie(BOTH), table, split=False, max_distance2=3, psf_sigma_um=SHARP).values[0]
    for number, centre in ((1, RIGHT), (2, LEFT)):
        assert iou(labels == number, distance2(centre, SIGMA) <= 3) > 0.9
    wide = segment(movie(BOTH), table, split=False, max_distance2=6, psf_sigma_um=SHARP).values[0]
    assert iou(wide == 2, distance2(LEFT, SIGMA) <= 6) > 0.85


@pytest.mark.parametrize("level", [0.2, 1 / 3, 0.6])
def test_gaussian_is_labelled_up_to_its_level(level: float) -> None:
    labels = segment(movie(BOTH), points((0, *LEFT)), split=False, level=level, psf_sigma_um=SHARP).values[0]
    assert iou(labels == 1, np.exp(-0.5 * distance2(LEFT, SIGMA)) >= level) > 0.88


def test_edge_of_a_gaussian_and_of_a_ball() -> None:
    """A Gaussian falls to 1 / e at sqrt(2) sigma; a ball of radius r, whose sigma is r / sqrt(5), ends at sqrt(5)."""
    for image, edge, tolerance in (
        (scene((LEFT, SIGMA, 700)) - FLOOR, np.sqrt(2), 0.06),
        (700 * (np.square(grid_um() - LEFT).sum(axis=-1) <= 3.0**2), np.sqrt(5), 0.2),
    ):
        signal = image.astype("float32")
        start = mixture.start(np.array([LEFT]), np.array([1.6]))
        seen = mixture.windows(start.means_um, np.ones(SHAPE, bool), VOXEL_UM, 5.0)
        fitted = mixture.fit(signal, start, seen, VOXEL_UM, iterations=60)
        assert outlines.edge_distance(signal, fitted, seen, 1 / np.e) == pytest.approx(edge, abs=tolerance)


def test_edge_is_that_of_the_neuron_without_its_neighbours() -> None:
    near = [7.0, 12.0, 9.0]
    signal = (scene((LEFT, SIGMA, 700), (near, SIGMA, 1400)) - FLOOR).astype("float32")
    start = mixture.start(np.array([LEFT, near]), np.array([1.6, 1.6]))
    seen = mixture.windows(start.means_um, np.ones(SHAPE, bool), VOXEL_UM, 5.0)
    fitted = mixture.fit(signal, start, seen, VOXEL_UM, iterations=100)
    assert outlines.edge_distance(signal, fitted, seen, 1 / np.e) == pytest.approx(np.sqrt(2), abs=0.1)


@pytest.mark.parametrize("blur_z_um", [0.0, 1.5, 3.0])
def test_blur_along_z_that_all_neurons_share_is_taken_out(blur_z_um: float) -> None:
    places = [[7.0, 6.0, 6.0], [6.5, 18.0, 7.0], [7.5, 18.0, 18.0], [7.0, 6.0, 18.0]]
    widths = [1.0, 1.1, 1.2, 1.3]
    image = scene(*[(p, [np.hypot(w, blur_z_um), w, w], 600) for p, w in zip(places, widths, strict=True)])
    labels = segment(movie(image), points(*[(0, *place) for place in places]), split=False).values[0]
    deep, wide = [], []
    for number, place in enumerate(places, start=1):
        inside = np.argwhere(labels == number) * VOXEL_UM - place
        deep.append(inside[:, 0].std())
        wide.append(inside[:, 1:].std())
    assert np.mean(deep) == pytest.approx(np.mean(wide), rel=0.12)  # planes are 1 µm apart
    ball = np.sqrt(2 * np.log(3) / 5)  # SD of a ball that ends where a Gaussian of sigma 1 falls to a third
    np.testing.assert_allclose(wide, ball * np.array(widths), rtol=0.15)


def test_flat_neurons_are_not_made_round() -> None:
    flat = np.tile(np.diag([0.5, 2.0, 2.0]), (3, 1, 1))
    np.testing.assert_allclose(outlines.as_deep_as_wide(flat), flat)
    assert outlines.as_deep_as_wide(flat[:0]).shape == (0, 3, 3)


def test_one_factor_makes_the_median_neuron_round() -> None:
    seen = np.stack([np.diag([ratio * 1.5, 1.5, 1.5]) for ratio in (2.0, 4.0, 5.0)])
    seen[1, 0, 1] = seen[1, 1, 0] = 0.4
    rounded = outlines.as_deep_as_wide(seen)
    np.testing.assert_allclose(rounded[:, 0, 0], [0.75, 1.5, 1.875])
    np.testing.assert_allclose(rounded[1, 0, 1], 0.2)  # what leans keeps its direction in scaled space
    np.testing.assert_allclose(rounded[:, 1, 1], 1.5)


def test_blur_larger_than_the_neuron_leaves_a_third() -> None:
    known = outlines.deblurred(np.diag([9.0, 2.0, 2.0])[None], np.array([3.0, 1.0, 0.0]))
    np.testing.assert_allclose(np.diagonal(known[0]), [1.0, 1.0, 2.0])


def test_label_is_the_place_in_the_frame_of_the_table() -> None:
    table = points((1, *LEFT), (0, *RIGHT), (1, *RIGHT), (0, *LEFT))
    labels = segment(movie(BOTH, BOTH), table, split=False).values
    at = {"left": (7, 24, 15), "right": (7, 24, 45)}
    assert [labels[0][at["right"]], labels[0][at["left"]]] == [1, 2]
    assert [labels[1][at["left"]], labels[1][at["right"]]] == [1, 2]


def test_psf_is_taken_out_of_the_outline() -> None:
    blur = [1.0, 0.5, 0.5]
    seen = np.hypot(SIGMA, blur).tolist()
    image, table = movie(scene((LEFT, seen, 800))), points((0, *LEFT))
    labels = segment(image, table, psf_sigma_um=blur, split=False, max_distance2=3).values[0]
    assert iou(labels == 1, distance2(LEFT, SIGMA) <= 3) > 0.85
    as_seen = segment(image, table, psf_sigma_um=SHARP, split=False, max_distance2=3).values[0]
    assert iou(as_seen == 1, distance2(LEFT, seen) <= 3) > 0.85


@pytest.mark.parametrize("centre", [[7.0, 12.0, 12.0], [0.5, 12.0, 12.0], [7.0, 23.0, 12.0]])
def test_fit_is_not_biased_by_windows_nor_by_the_edge_of_the_field(centre: list[float]) -> None:
    signal = (scene((centre, SIGMA, 700)) - FLOOR).astype("float32")
    start = mixture.start(np.add([centre], 0.4), np.array([1.6]))
    seen = mixture.windows(start.means_um, np.ones(SHAPE, bool), VOXEL_UM, 4.0)
    fitted = mixture.fit(signal, start, seen, VOXEL_UM, iterations=60)
    np.testing.assert_allclose(np.sqrt(np.diagonal(fitted.covariances_um2[0])), SIGMA, rtol=0.04)
    np.testing.assert_allclose(fitted.means_um[0], centre, atol=0.06)
    assert fitted.peaks[0] == pytest.approx(700, rel=0.04)


def test_dim_component_does_not_drift_to_the_light_of_another() -> None:
    signal = (scene((LEFT, SIGMA, 700)) - FLOOR).astype("float32")
    start = mixture.start(np.array([LEFT, [7.0, 12.0, 10.0]]), np.array([1.6, 1.6]))
    seen = mixture.windows(start.means_um, np.ones(SHAPE, bool), VOXEL_UM, 5.0)
    fitted = mixture.fit(signal, start, seen, VOXEL_UM, iterations=200)
    assert np.linalg.norm(fitted.means_um - start.means_um, axis=1).max() <= 2.0 + 1e-9
    np.testing.assert_allclose(fitted.means_um[0], LEFT, atol=0.1)


def test_voxel_between_two_belongs_to_nobody_unless_its_share_is_large() -> None:
    near = [7.0, 12.0, 8.4]
    both = scene((LEFT, [1.2] * 3, 500), (near, [1.2] * 3, 500))
    table = points((0, *LEFT), (0, *near))
    labels = {p: segment(movie(both), table, split=False, posterior=p).values[0] for p in (0.5, 0.95)}
    row = labels[0.95][7, 24]
    # ln(p / (1 - p)) = d (x - middle) / sigma², d = 2.4 µm: 0.95 is reached 1.77 µm from the middle, at x = 7.2 µm.
    assert not row[14:22].any()
    assert row[13] == 1
    assert row[23] == 2
    assert (labels[0.5] > 0).sum() > 1.3 * (labels[0.95] > 0).sum()


def test_dim_neuron_beside_a_bright_one_keeps_its_label() -> None:
    labels = segment(movie(scene((LEFT, SIGMA, 150), ([7.0, 12.0, 10.5], SIGMA, 1500))),
                     points((0, *LEFT), (0, 7.0, 12.0, 10.5)), split=False).values[0]  # fmt: skip
    assert labels[7, 24, 15] == 1


# --- splitting


def pair(distance_um: float, *, noise: float = 0.0, axis: int = 2, dimmer: float = 1.0) -> np.ndarray:
    first, second = [7.0, 12.0, 12.0], [7.0, 12.0, 12.0]
    first[axis] -= distance_um / 2
    second[axis] += distance_um / 2
    frame = scene((first, SIGMA, 1000), (second, SIGMA, 1000 * dimmer))
    return frame + noise * np.random.default_rng(3).standard_normal(frame.shape)


@pytest.mark.parametrize(("axis", "distance_um"), [(0, 4.6), (1, 3.6), (2, 3.6)])
def test_two_neurons_of_one_detection_are_split(axis: int, distance_um: float) -> None:
    labels = segment(movie(pair(distance_um, axis=axis)), points((0, 7.0, 12.0, 12.0))).values[0]
    assert set(np.unique(labels)) == {0, 1, 2}
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, [1, 2])) * VOXEL_UM
    assert abs(np.diff(centres[:, axis])[0]) == pytest.approx(distance_um, abs=0.8)


def test_dimmer_neighbour_is_split_in_noise_and_only_when_asked() -> None:
    frame = movie(pair(4.2, noise=40, dimmer=0.5))
    assert segment(frame, points((0, 7.0, 12.0, 10.1))).values.max() == 2
    assert segment(frame, points((0, 7.0, 12.0, 10.1)), split=False).values.max() == 1
    assert segment(frame, points((0, 7.0, 12.0, 10.1)), min_separation_um=6).values.max() == 1


@pytest.mark.parametrize("seed", range(4))
def test_single_neuron_stays_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 60) * rng.standard_normal(SHAPE)
    sigma = rng.uniform(0.9, 1.7, 3).tolist()
    assert segment(movie(scene((LEFT, sigma, 800)) + noise), points((0, *LEFT))).values.max() == 1


def test_noise_is_not_split_off() -> None:
    frames = [scene((LEFT, SIGMA, 120)) + 60 * np.random.default_rng(seed).standard_normal(SHAPE) for seed in range(8)]
    labels = segment(movie(*frames), points(*[(t, *LEFT) for t in range(8)])).values
    assert [int(frame.max()) for frame in labels] == [1] * 8


def test_ball_of_uniform_density_stays_one() -> None:
    inside = distance2(LEFT, [1, 1, 1]) <= 2.3**2
    blurred = ndimage.gaussian_filter(inside.astype(float), 0.4 / VOXEL_UM)
    assert segment(movie(FLOOR + 900 * blurred), points((0, *LEFT))).values.max() == 1


def test_noise_is_measured_where_it_is() -> None:
    quiet, loud = np.random.default_rng(0).standard_normal((2, 12, 40, 50))
    frame = np.concatenate([5 * quiet, 20 * loud], axis=2)
    measured = splitting.noise_of(frame, VOXEL_UM)
    assert np.median(measured[..., :40]) == pytest.approx(5, rel=0.05)
    assert np.median(measured[..., 60:]) == pytest.approx(20, rel=0.05)


# --- watershed


def test_watershed_ends_at_half_of_the_maximum() -> None:
    labels = segment(movie(BOTH), points((0, *RIGHT), (0, *LEFT)), method="watershed", smooth_um=0).values[0]
    for number, centre in ((1, RIGHT), (2, LEFT)):
        assert iou(labels == number, distance2(centre, SIGMA) <= 2 * np.log(2)) > 0.85


def test_watershed_parts_neighbours_and_keeps_to_the_radius() -> None:
    frame, table = movie(pair(3.2)), points((0, 7, 12, 10.4), (0, 7, 12, 13.6))
    labels = segment(frame, table, method="watershed", level=0.05).values[0]
    assert set(labels[7, 24, 20:29]) == {1}
    assert set(labels[7, 24, 32:40]) == {2}
    small = segment(frame, table, method="watershed", level=0.05, max_radius_um=1.0).values[0]
    assert np.all(np.linalg.norm(grid_um() - [7, 12, 10.4], axis=-1)[small == 1] <= 1.0 + 1e-6)


# --- functions


def bright(frame: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(frame > FLOOR + 100)
    return labels


def test_function_receives_float_frames_and_gives_labels() -> None:
    seen: list[tuple[tuple[int, ...], np.dtype]] = []

    def method(frame: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
        seen.append((frame.shape, frame.dtype))
        return bright(frame), {"like": 1}

    labels = segment(movie(BOTH, BOTH), method=method)
    assert labels.dtype == np.uint32
    assert not seen
    np.testing.assert_array_equal(labels.values[1], bright(BOTH))
    assert seen == [(SHAPE, np.dtype("float32"))] * 2
    assert "method" in json.loads(labels.attrs["niddl_history"])[-1]["parameters"]


def test_function_receives_planes_of_a_plane_movie() -> None:
    plane = make_recording(BOTH[None, 7:8].astype("uint16"), voxel_um=(1, 0.5, 0.4), dt_s=1)
    labels = segment(plane, method=bright)
    assert labels.shape == (1, 1, 48, 60)
    np.testing.assert_array_equal(labels.values[0, 0], bright(BOTH[7]))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((3, 4), int), r"expected labels of shape \(15, 48, 60\) from .*, got \(3, 4\)"),
        (np.zeros(SHAPE), "expected whole numbers from .*, got dtype float64"),
        (np.zeros(SHAPE, bool), "expected whole numbers from .*, got dtype bool"),
        (np.full(SHAPE, -1), "expected labels from 0 to .*, got -1"),
        (None, r"got \(\)"),
    ],
)
def test_answers_that_are_no_labels_are_refused(answer: object, message: str) -> None:
    with pytest.raises(nx.NiddlError, match=message):
        segment(movie(BOTH), method=lambda frame: answer).compute()


class Heavy:
    """A function that weighs 4 MB, like a small network."""

    def __init__(self) -> None:
        self.weights = np.random.default_rng(0).random(500_000)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return bright(frame)


def test_heavy_function_is_in_the_graph_once() -> None:
    long = movie(*[BOTH[:2, :9, :11]] * 30)
    graph = dict(segment(long.chunk(t=1), method=Heavy()).data.__dask_graph__())
    travelling = len(pickle.dumps([value for key, value in graph.items() if "array" not in str(key)]))
    assert 4e6 < travelling < 8e6 + long.nbytes
    labels = cloudpickle.loads(cloudpickle.dumps(segment(long.chunk(t=1), method=Heavy())))
    assert labels.compute().max() == 0


# --- lazy, chunked, blank


def test_no_frame_is_computed_until_it_is_looked_at() -> None:
    counted: list[int] = []

    def counting(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        if block_info is not None and block.size:
            counted.append(block.shape[0])
        return block

    recording = movie(*[BOTH] * 4).chunk(t=1)
    recording = recording.copy(data=recording.data.map_blocks(counting, dtype="float32", meta=recording.data._meta))
    table = points(*[(t, *LEFT) for t in range(4)])
    with dask.config.set(scheduler=forbid):
        labels = segment(recording, table)
    assert isinstance(labels.data, dask.array.Array)
    counted.clear()
    labels.isel(t=2).compute()
    assert counted == [1]


@pytest.mark.parametrize("method", ["gmm", "watershed"])
def test_chunks_change_no_label(method: str) -> None:
    rng = np.random.default_rng(1)
    frames = [BOTH + 20 * rng.standard_normal(SHAPE) for _ in range(3)]
    recording = movie(*frames)
    table = points((0, *LEFT), (2, *RIGHT), (2, *LEFT), (1, *RIGHT))
    whole = segment(recording, table, method=method).values
    for chunks in ({"t": 1}, {"t": 2, "z": 4}, {"t": 3, "y": 17, "x": 23}):
        np.testing.assert_array_equal(segment(recording.chunk(chunks), table, method=method).values, whole)
    assert [len(np.unique(frame)) - 1 for frame in whole] == [1, 1, 2]


@pytest.mark.parametrize("method", ["gmm", "watershed", bright])
def test_blank_frames_and_nan_are_background(method: object) -> None:
    hole = BOTH.copy()
    hole[:, :, 16:20] = np.nan
    recording = movie(np.full(SHAPE, np.nan), np.full(SHAPE, 7.0), hole, BOTH)
    table = None if callable(method) else points(*[(t, *LEFT) for t in range(3)])
    labels = segment(recording, table, method=method).values
    assert not labels[:2].any()
    assert labels[2][7, 24, 14] > 0
    assert not labels[2][np.isnan(hole)].any()
    assert labels[3].any() == callable(method)  # no detection, no label


def test_function_cannot_label_what_is_not_finite() -> None:
    hole = BOTH.copy()
    hole[3, 4:6, 7] = np.inf
    labels = segment(movie(hole), method=lambda frame: np.ones(frame.shape, int)).values[0]
    np.testing.assert_array_equal(labels == 0, ~np.isfinite(hole))


def test_radius_goes_with_its_detection() -> None:
    table = points((1, *RIGHT), (0, *LEFT), (1, *LEFT), radius_um=[1.1, 1.2, 1.3])
    _, radii, most = _points(movie(BOTH, BOTH), grid_of(movie(BOTH, BOTH)), table)
    assert most == 2
    np.testing.assert_array_equal(radii, [[1.2, np.nan], [1.1, 1.3]])


def test_no_detections_at_all_and_one_that_misses_everything() -> None:
    none = points().astype({"t_index": int, "z": float, "y": float, "x": float})
    assert not segment(movie(BOTH), none).values.any()
    labels = segment(movie(BOTH), points((0, 2.0, 2.0, 22.0), (0, *LEFT))).values
    assert (labels == 2).any()


def test_detections_almost_on_top_of_each_other_do_not_break_the_fit() -> None:
    labels = segment(movie(BOTH), points((0, *LEFT), (0, LEFT[0], LEFT[1], LEFT[2] + 1e-4)), posterior=0.5).values
    assert labels.any()


def test_plane_movie_is_segmented_in_the_plane() -> None:
    plane = make_recording(BOTH[None, 7:8].astype("float32"), voxel_um=(None, 0.5, 0.4), dt_s=1)
    for method in ("gmm", "watershed"):
        labels = segment(plane, points((0, 0.0, *LEFT[1:]), (0, 5.0, *RIGHT[1:])), method=method).values[0, 0]
        reach = 2 * np.log(3 if method == "gmm" else 2)
        assert iou(labels == 1, distance2(LEFT, SIGMA)[7] <= reach) > 0.75


def test_fine_voxels_are_fitted_coarsely_and_labelled_finely() -> None:
    fine = np.repeat(np.repeat(BOTH, 4, axis=1), 4, axis=2)
    voxel = [1.0, 0.125, 0.1]
    recording = make_recording(fine[None].astype("float32"), voxel_um=voxel, dt_s=1)
    # Voxel k of four has its centre at 4 k + 1.5.
    shift = 1.5 * np.array([0, 0.125, 0.1])
    labels = segment(recording, points((0, *(np.array(LEFT) + shift))), split=False, psf_sigma_um=SHARP).values[0]
    assert iou(labels == 1, np.repeat(np.repeat(distance2(LEFT, SIGMA) <= 2 * np.log(3), 4, axis=1), 4, axis=2)) > 0.85


def test_coordinates_decide_where_a_detection_is() -> None:
    recording = movie(BOTH)
    shifted = recording.assign_coords(y=recording.y + 100, x=("x", (50 - recording.x.values), recording.x.attrs))
    table = points((0, LEFT[0], LEFT[1] + 100, 50 - LEFT[2]))
    here, there = segment(recording, points((0, *LEFT))), segment(shifted, table)
    np.testing.assert_array_equal(here.values, there.values)
    xr.testing.assert_identical(there.coords.to_dataset(), shifted.coords.to_dataset())
    again = labels_to_detections(there, shifted)
    np.testing.assert_allclose(again[["z", "y", "x"]], [[7, 112, 44]], atol=0.1)


def test_many_detections_need_wide_integers() -> None:
    table = points(*[(0, 1.0, 1.0, 1 + 1e-4 * k) for k in range(17_000)])
    assert segment(movie(BOTH), table, split=False).dtype == np.uint32
    assert segment(movie(BOTH), table.iloc[:100], split=False).dtype == np.uint16


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "stardist"},
            "expected method as one of 'gmm', 'watershed' or a function of a frame, got 'stardist'",
        ),
        ({"smooth_um": 0.5}, r"expected options of 'gmm' among posterior, .*, got \['smooth_um'\]"),
        ({"level": 1.0}, "expected level as a number above 0 and below 1, got 1"),
        ({"max_distance2": 0.0}, "expected max_distance2 as a number above 0, got 0"),
        ({"method": "watershed", "posterior": 0.6}, r"expected options of 'watershed' among .*, got \['posterior'\]"),
        ({"posterior": 0.4}, "expected posterior as a number of at least 0.5 and below 1, got 0.4"),
        ({"max_radius_um": 0}, "expected max_radius_um as a number above 0, got 0"),
        ({"psf_sigma_um": 1.0}, r"expected psf_sigma_um as three numbers \(z, y, x\) in µm, got 1.0"),
        ({"psf_sigma_um": (1, -1, 0)}, "expected psf_sigma_um as a number of at least 0, got -1"),
        ({"split": "yes"}, "expected split as True or False, got 'yes'"),
        ({"method": "watershed", "level": 1}, "expected level as a number above 0 and below 1, got 1"),
        ({"method": bright, "posterior": 0.6}, r"expected no options beside a function, got \['posterior'\]"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(nx.NiddlError, match=message):
        segment(movie(BOTH), points((0, *LEFT)), **options)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "expected detections, the neurons to outline, got None"),
        (points((0, *LEFT), (0, *LEFT)), "expected every point once, got 1 rows"),
        (points((3, *LEFT)), "expected detections of a recording of 1 frames, got 4"),
        (points((0, 6.0, 12.0, 70.0)), r"got 1 of 1 outside along \['x'\]: .*not mixed up"),
        (points((0, *LEFT), radius_um=np.nan), "expected positive numbers in the column radius_um, got nan"),
        (points((0, *LEFT)).drop(columns="z"), r"rename or add \['z'\]"),
    ],
)
def test_detections_are_checked(table: pd.DataFrame | None, message: str) -> None:
    with pytest.raises(nx.NiddlError, match=message):
        segment(movie(BOTH), table)


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_recordings_are_checked() -> None:
    pixels = make_recording(BOTH[None])
    with pytest.raises(nx.NiddlError, match=r"expected the coordinate z in µm, got units 'pixel': say voxel_um="):
        segment(pixels, points((0, *LEFT)))
    assert segment(pixels, method=bright).values.any()  # a function needs no µm
    with pytest.raises(nx.NiddlError, match="see DataArray.transpose"):
        segment(movie(BOTH).transpose("z", "t", "y", "x"), points((0, *LEFT)))
    uneven = movie(BOTH).assign_coords(y=("y", np.arange(48.0) ** 2, {"units": "µm"}))
    with pytest.raises(nx.NiddlError, match="expected voxels evenly spaced along y"):
        segment(uneven, points((0, *LEFT)))


def test_history_and_attributes_are_kept() -> None:
    recording = nx.schema.with_history(movie(BOTH, attrs={"source": "worm.tif", "gain": 3}), "denoise", {})
    labels = segment(recording, points((0, *LEFT)), posterior=0.7)
    assert [entry["verb"] for entry in json.loads(labels.attrs["niddl_history"])] == ["denoise", "segment"]
    assert json.loads(labels.attrs["niddl_history"])[-1]["parameters"]["posterior"] == 0.7
    assert labels.attrs["source"] == "worm.tif"
    assert "gain" not in labels.attrs


# --- and back to detections


def test_labels_become_the_points_they_stand_for() -> None:
    table = points((1, *RIGHT), (0, *LEFT), (1, *LEFT))
    recording = movie(BOTH, BOTH)
    labels = segment(recording, table, psf_sigma_um=SHARP, max_distance2=3)
    found = labels_to_detections(labels, recording, detections=table)
    assert found["det_id"].tolist() == [1, 0, 2]
    np.testing.assert_allclose(found[["z", "y", "x"]].to_numpy(), [LEFT, RIGHT, LEFT], atol=0.1)
    assert found["t"].tolist() == [0, 0.5, 0.5]
    assert found.attrs["frames"] == 2
    assert found.attrs["t_s"] == [0, 0.5]
    assert found.attrs["recording_id"] == nx.neurons.recording_id(recording)
    assert json.loads(found.attrs["niddl_history"])[-1]["verb"] == "labels_to_detections"
    volume = np.prod(np.sqrt(3) * np.array(SIGMA))  # of an ellipsoid, over 4/3 pi
    np.testing.assert_allclose(found["radius_um"], np.cbrt(volume), rtol=0.05)


def test_split_neurons_have_no_detection() -> None:
    recording, table = movie(pair(3.6)), points((0, 7.0, 12.0, 10.2))
    found = labels_to_detections(segment(recording, table), recording, detections=table)
    assert found["det_id"].tolist() == [0, -1]
    np.testing.assert_allclose(found["x"], [10.2, 13.8], atol=0.5)
    nx.neurons.require_detections(found)


def test_measures_agree_with_scikit_image() -> None:
    rng = np.random.default_rng(2)
    numbers = ndimage.zoom(rng.integers(0, 5, (3, 4, 5)), (5, 12, 12), order=0).astype("uint16")
    recording = movie(FLOOR + 0 * BOTH + rng.uniform(0, 1, SHAPE))
    found = labels_to_detections(recording.copy(data=numbers[None]), recording)
    # Light is nearly uniform: the weighted centroid is the plain one, within the noise.
    oracle = regionprops_table(numbers, spacing=VOXEL_UM, properties=("label", "centroid", "area"))
    assert found["label"].tolist() == oracle["label"].tolist()
    np.testing.assert_allclose(found["radius_um"], np.cbrt(oracle["area"] * 3 / 4 / np.pi), rtol=1e-5)
    np.testing.assert_allclose(found["z"], oracle["centroid-0"], atol=0.5)
    np.testing.assert_allclose(found["y"], oracle["centroid-1"], atol=0.5)
    np.testing.assert_allclose(found["x"], oracle["centroid-2"], atol=0.5)


def test_intensity_and_snr_are_of_the_label() -> None:
    noise = 25 * np.random.default_rng(4).standard_normal(SHAPE)
    recording = movie(BOTH + noise)
    ball = distance2(RIGHT, SIGMA) <= 1
    found = labels_to_detections(recording.copy(data=ball[None].astype("uint8")), recording)
    expected = (BOTH - FLOOR)[ball].mean()
    assert found["intensity"][0] == pytest.approx(expected, rel=0.1)
    assert found["snr"][0] == pytest.approx(expected / 25, rel=0.25)


def test_frames_without_labels_give_no_rows() -> None:
    recording = movie(BOTH, BOTH)
    found = labels_to_detections(recording.copy(data=np.zeros(recording.shape, "uint8")), recording)
    assert len(found) == 0
    assert found.attrs["frames"] == 2
    nx.neurons.require_detections(found)
    blank = movie(np.full(SHAPE, np.nan))
    labels = blank.copy(data=np.ones(blank.shape, "uint8"))
    assert np.isfinite(labels_to_detections(labels, blank)[["z", "y", "x"]].to_numpy()).all()


def test_labels_are_checked() -> None:
    recording = movie(BOTH)
    with pytest.raises(nx.NiddlError, match="expected labels as whole numbers"):
        labels_to_detections(recording, recording)
    with pytest.raises(nx.NiddlError, match="expected labels and recording of the same sizes"):
        labels_to_detections(segment(recording, method=bright).isel(y=slice(0, 9)), recording)


# --- bars


def test_close_pairs_of_a_simulated_head_are_found_and_outlined() -> None:
    worm = nx.simulate.whole_brain(shape=(24, 100, 130), neurons=24, frames=1, photons=50, seed=31)
    true = worm["tracks"]["position"].values[0]
    clean, recording = worm["clean"]["F"].compute(), worm["recording"]["F"].compute()
    # The detector's merges: of two nuclei within 4 µm only the brighter one is given.
    brightness = worm["traces"]["F"].values[0]
    distance = np.linalg.norm(true[:, None] - true, axis=-1) + 99 * np.eye(len(true))
    merged = ((distance < 4) & (brightness > brightness[:, None])).any(axis=1)
    given = points(*[(0, *place) for place in true[~merged]])
    assert merged.mean() > 0.05
    table = labels_to_detections(segment(clean, given), clean)
    score = nx.score_detections(table, worm["tracks"].to_dataset())
    assert score["recall"] >= 0.95  # one of 24 may be missed
    assert score["precision"] >= 0.95
    everyone = points(*[(0, *place) for place in true])
    for options in ({}, {"psf_sigma_um": (1.5, 0.5, 0.5)}):
        labels = segment(recording, everyone, **options)
        assert score_labels(labels, worm["labels"]["labels"])["f1_iou_0.5"] >= 0.85


@pytest.mark.realdata
def test_real_nuclei_are_outlined_from_their_centroids(realdata) -> None:  # type: ignore[no-untyped-def]
    import tifffile

    image, mask = (tifffile.imread(realdata / "stardist_nuclei" / f"{name}3d.tif") for name in ("img", "mask"))
    recording = make_recording(image[None], voxel_um=(0.5, 0.5, 0.5), dt_s=1)
    truth = recording.copy(data=mask[None].astype("uint16"))
    markers = labels_to_detections(truth, recording)
    for method, least in (("gmm", 0.95), ("watershed", 0.7)):
        options = {"split": False} if method == "gmm" else {}
        assert score_labels(segment(recording, markers, method=method, **options), truth)["f1_iou_0.3"] >= least
