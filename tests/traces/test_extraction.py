from __future__ import annotations

import json
import warnings

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import uniform_filter1d

import niddl_xr as nx
from niddl_xr.neurons import require_traces
from niddl_xr.schema import HISTORY, NiddlError, make_recording, with_history
from niddl_xr.traces.extraction import METHODS
from tests.traces.conftest import BACKGROUND, PSF_UM, SHAPE, SIGMA_UM, VOXEL_UM, Scene, gaussian, scene_of, tracks_of

CAMERA = {"gain_counts_per_photon": 4.0, "excess_noise": 2.0, "offset_counts": 100.0, "read_noise_counts": 3.0}


def extract(recording: xr.DataArray, tracks: xr.Dataset, **options: object) -> xr.Dataset:
    settings = {"psf_sigma_um": PSF_UM, "noise": CAMERA, "progress": False} | options
    return nx.extract_traces(recording, tracks, **settings)


def labels_of(scene: Scene) -> xr.DataArray:
    """1, 2, 3 where a neuron's own Gaussian is above a half."""
    positions = scene.tracks["position"].values
    volumes = [sum((k + 1) * (gaussian(p) > 0.5) for k, p in enumerate(frame)) for frame in positions]
    return scene.recording.copy(data=np.stack(volumes).astype("uint8"))


# --- truth by algebra -------------------------------------------------------------------------------------------------


def test_matched_gaussian_of_a_gaussian_is_its_peak_by_two_to_the_three_halves(scene: Scene) -> None:
    """A Gaussian's mean with itself as weights: 1/√2 along each axis, wherever between voxels it is."""
    F = extract(scene.recording, scene.tracks)["F"].values
    np.testing.assert_allclose(F / scene.peaks, 2**-1.5, rtol=2e-4)
    above = extract(scene.recording, scene.tracks, background=BACKGROUND)["F"].values
    np.testing.assert_allclose(above / scene.peaks, 2**-1.5, rtol=2e-4)
    plane = scene.recording.isel(z=[4])
    height = np.exp(-0.5 * np.square((6.0 - scene.tracks["position"].values[..., 0]) / SIGMA_UM[0]))
    np.testing.assert_allclose(extract(plane, scene.tracks)["F"] / (scene.peaks * height), 1 / 2, rtol=2e-4)


def test_least_squares_gives_the_peaks(scene: Scene) -> None:
    F = extract(scene.recording, scene.tracks, method="least_squares")["F"].values
    np.testing.assert_allclose(F, scene.peaks, rtol=2e-4)


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 2**-1.5), ({"background": BACKGROUND}, 2**-1.5), ({"method": "least_squares"}, 1.0)],
    ids=["gaussian", "known background", "least_squares"],
)
def test_neighbours_are_told_apart(close_scene: Scene, options: dict, scale: float) -> None:
    F = extract(close_scene.recording, close_scene.tracks, **options)["F"].values
    np.testing.assert_allclose(F, scale * close_scene.peaks, rtol=2e-3)
    mixed = extract(close_scene.recording, close_scene.tracks.isel(neuron=[0]), **options)["F"].values[:, 0]
    assert abs(mixed / (scale * close_scene.peaks[:, 0]) - 1).max() > 0.03


def test_light_that_bends_around_a_neuron_is_no_signal(scene: Scene) -> None:
    """A broad Gaussian of haze, beside the neuron: near it counts what is near it."""
    z, y, x = np.meshgrid(*(np.arange(n) * v for n, v in zip(SHAPE, VOXEL_UM, strict=True)), indexing="ij")
    haze = 100 * np.exp(-0.5 * (((z - 6) / 4) ** 2 + ((y - 4.5) / 2.5) ** 2 + ((x - 8.3) / 2.5) ** 2))
    hazy = scene.recording + haze
    extra = []
    for options in ({}, {"background": BACKGROUND}, {"method": "ball"}):
        with_haze, without = (extract(image, scene.tracks, **options)["F"] for image in (hazy, scene.recording))
        extra.append(float(abs(with_haze - without)[:, 0].mean()))
    assert extra[0] < 0.15 * extra[1]
    assert extra[0] < 0.15 * extra[2]


def test_background_is_that_of_the_scene(scene: Scene) -> None:
    background = extract(scene.recording, scene.tracks)["background"]
    np.testing.assert_allclose(background, BACKGROUND, atol=0.05)


def test_shell_leaves_out_neighbours() -> None:
    """One neuron in a ring of twelve bright ones, which fill most of its shell."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = [[6.0, 9 + 5.5 * np.sin(angle), 10.5 + 5.5 * np.cos(angle)] for angle in angles]
    poles = [[z, y, x] for z in (0.5, 11.5) for y, x in ((7.5, 9.0), (7.5, 12.0), (10.5, 9.0), (10.5, 12.0))]
    crowd = scene_of([[6.0, 9.0, 10.5], *ring, *poles], frames=2, drift_um=0)
    known = extract(crowd.recording, crowd.tracks)["background"][:, 0]
    blind = extract(crowd.recording, crowd.tracks.isel(neuron=[0]))["background"][:, 0]
    assert np.all(known - BACKGROUND < 0.5 * (blind - BACKGROUND))
    assert np.all(known - BACKGROUND < 12)


@pytest.mark.parametrize(
    ("method", "half"), [("pixel", (0, 0, 0)), ("box3x3", (0, 1, 1)), ("box", (1, 2, 2))], ids=["pixel", "3x3", "box"]
)
def test_boxes_are_plain_means(scene: Scene, method: str, half: tuple[int, int, int]) -> None:
    F = extract(scene.recording, scene.tracks, method=method, background=BACKGROUND)["F"]
    z, y, x = np.rint(scene.tracks["position"].values[3, 1] / VOXEL_UM).astype(int)
    box = scene.recording.values[
        3, z - half[0] : z + half[0] + 1, y - half[1] : y + half[1] + 1, x - half[2] : x + half[2] + 1
    ]
    assert float(F[3, 1]) == pytest.approx(box.mean() - BACKGROUND, rel=1e-6)


def test_ball_and_topk_are_means_of_the_voxels_within(scene: Scene) -> None:
    position = scene.tracks["position"].values[2, 0]
    grid = np.stack(np.meshgrid(*(np.arange(n) * v for n, v in zip(SHAPE, VOXEL_UM, strict=True)), indexing="ij"), -1)
    within = scene.recording.values[2][np.linalg.norm(grid - position, axis=-1) <= 2.0]
    ball = extract(scene.recording, scene.tracks, method="ball", background=0.0)["F"][2, 0]
    assert float(ball) == pytest.approx(within.mean(), rel=1e-6)
    for top, count in ((10, 10), (0.1, int(np.ceil(0.1 * len(within)))), (10**6, len(within))):
        brightest = extract(scene.recording, scene.tracks, method="topk", top=top, background=0.0)["F"][2, 0]
        assert float(brightest) == pytest.approx(np.sort(within)[-count:].mean(), rel=1e-6)


def test_labels_are_means_of_a_label(scene: Scene) -> None:
    labels = labels_of(scene)
    F = extract(scene.recording, scene.tracks, method="labels", labels=labels, background=0.0)["F"]
    assert float(F[4, 2]) == pytest.approx(scene.recording.values[4][labels.values[4] == 3].mean(), rel=1e-6)
    nothing = extract(scene.recording, scene.tracks, method="labels", labels=labels * 0)
    assert not nothing["valid"].any()


def test_a_ramp_is_no_signal_wherever_between_voxels_a_place_is() -> None:
    z, y, x = np.meshgrid(*(np.arange(n) * v for n, v in zip(SHAPE, VOXEL_UM, strict=True)), indexing="ij")
    ramp = 500 + 20 * z + 30 * y - 10 * x
    recording = make_recording(ramp[None], voxel_um=VOXEL_UM, dt_s=1)
    place = np.array([6.31, 9.13, 10.27])
    assert abs(extract(recording, tracks_of(place[None, None]))["F"].item()) < 3  # a voxel is 30


def test_plane_movie(scene: Scene) -> None:
    plane = scene.recording.isel(z=[4])
    traces = extract(plane, scene.tracks, method="gaussian")
    assert traces["valid"].all()
    flat = scene.tracks.copy(deep=True)
    flat["position"][..., 0] = 1e3  # in a plane there is no above
    np.testing.assert_array_equal(extract(plane, flat)["F"], traces["F"])


def test_crops_and_choices_of_frames_change_nothing(scene: Scene) -> None:
    whole = extract(scene.recording, scene.tracks)
    crop = scene.recording.isel(t=slice(2, 6), y=slice(2, None), x=slice(1, 52))
    part = extract(crop, scene.tracks)
    np.testing.assert_array_equal(part["t"], scene.recording["t"][2:6])
    np.testing.assert_allclose(part["F"][:, 1], whole["F"][2:6, 1], rtol=1e-5)
    few = extract(scene.recording, scene.tracks.isel(t=[1, 4]))
    np.testing.assert_array_equal(few["F"], whole["F"][[1, 4]])
    assert few.attrs["matched_by"] == "t"


def test_axis_that_falls(scene: Scene) -> None:
    turned = scene.recording.isel(y=slice(None, None, -1))
    expected = extract(scene.recording, scene.tracks)["F"]
    np.testing.assert_allclose(extract(turned, scene.tracks)["F"], expected, rtol=1e-3)


def test_dims_and_axes_of_tracks_in_any_order(scene: Scene) -> None:
    turned = scene.tracks.transpose("space", "neuron", "t").isel(space=[2, 0, 1])
    expected = extract(scene.recording, scene.tracks)
    np.testing.assert_array_equal(extract(scene.recording, turned)["F"], expected["F"])


# --- what is missing --------------------------------------------------------------------------------------------------


def test_outside_is_nan_and_partly_outside_is_scaled_up(scene: Scene) -> None:
    tracks = scene.tracks.copy(deep=True)
    tracks["position"][0, 0] = [6.0, 4.5, -0.25]  # over half a voxel before the first centre
    tracks["position"][1, 0] = np.nan
    tracks["position"][2, 0] = [6.0, 4.5, 30.0]
    traces = extract(scene.recording, tracks)
    np.testing.assert_array_equal(traces["valid"][:, 0], [False, False, False, True, True, True, True])
    np.testing.assert_array_equal(np.isfinite(traces["F"]), traces["valid"])
    assert traces["valid"][:, 1:].all()
    flat = xr.full_like(scene.recording, 300.0)
    edge = scene_of([[6.0, 7.0, 0.1], [0.2, 13.0, 10.0]], frames=2, drift_um=0)  # half of each is in the field
    np.testing.assert_allclose(extract(edge.recording, edge.tracks)["F"], 2**-1.5 * edge.peaks, rtol=2e-3)
    tracks["position"][0, 0] = [0.0, 0.0, 0.0]  # an eighth of the weights, and the voxels on the planes through it
    assert float(extract(flat, tracks, method="ball", background=0.0)["F"][0, 0]) == pytest.approx(300.0)


def test_nan_pixels_are_left_out(scene: Scene) -> None:
    values = xr.full_like(scene.recording, 300.0).values
    z, y, x = np.rint(scene.tracks["position"].values[3, 1] / VOXEL_UM).astype(int)
    values[3, z - 1 : z + 1, y, x : x + 2] = np.nan
    values[4] = np.nan
    recording = scene.recording.copy(data=values)
    for method in ("ball", "box"):
        traces = extract(recording, scene.tracks, method=method, background=0.0)
        assert float(traces["F"][3, 1]) == pytest.approx(300.0)
        assert not traces["valid"][4].any()
    holes = scene.recording.copy(data=np.where(np.isnan(values), np.nan, scene.recording.values))
    for method, scale in (("gaussian", 2**-1.5), ("least_squares", 1.0)):
        traces = extract(holes, scene.tracks, method=method)
        np.testing.assert_allclose(traces["F"][3], scale * scene.peaks[3], rtol=2e-3)
        assert not traces["valid"][4].any()


def test_no_neuron_and_one_neuron(scene: Scene) -> None:
    for method in METHODS[:-1]:
        none = extract(scene.recording, scene.tracks.isel(neuron=[]), method=method)
        assert none["F"].shape == (7, 0)
        one = extract(scene.recording, scene.tracks.isel(neuron=[1]), method=method)
        assert one["valid"].all()


def test_neurons_at_one_place_share_their_light(scene: Scene) -> None:
    twice = scene.tracks.isel(neuron=[0, 0, 1]).assign_coords(neuron=["a", "b", "c"])
    F = extract(scene.recording, twice, method="least_squares")["F"]
    np.testing.assert_allclose(F[:, 0] + F[:, 1], scene.peaks[:, 0], rtol=1e-3)
    np.testing.assert_allclose(F[:, 2], scene.peaks[:, 1], rtol=1e-3)


@pytest.mark.parametrize(("method", "scale"), [("gaussian", 2**-1.5), ("least_squares", 1.0)])
def test_two_tracks_of_a_neuron_share_its_light_in_noise_too(scene: Scene, method: str, scale: float) -> None:
    """Tracks that differ by less than positions are wrong: their difference is an accident, their sum is known."""
    rng = np.random.default_rng(0)
    noisy_scene = scene.recording + rng.normal(0, 10, scene.recording.shape)
    twice = scene.tracks.isel(neuron=[0, 0, 1]).assign_coords(neuron=["a", "b", "c"])
    twice["position"][:, 1] += 0.1
    F = extract(noisy_scene, twice, method=method, position_error_um=0.2)["F"].values / scale
    np.testing.assert_allclose(F[:, 0], scene.peaks[:, 0] / 2, atol=12)
    np.testing.assert_allclose(F[:, 0] + F[:, 1], scene.peaks[:, 0], atol=12)
    alone = extract(noisy_scene, twice.isel(neuron=[2]), method=method, position_error_um=0.2)["F"].values[:, 0] / scale
    np.testing.assert_allclose(F[:, 2], alone, rtol=1e-3)


def test_full_shell_takes_the_others_background(scene: Scene) -> None:
    crowd = np.stack(np.meshgrid([2, 5, 8], np.arange(2, 12, 2.0), np.arange(2, 12, 2.0), indexing="ij"), -1)
    positions = np.concatenate([crowd.reshape(-1, 3), [[6.0, 16.0, 19.0]]])
    tracks = tracks_of(np.broadcast_to(positions, (7, *positions.shape)))
    flat = xr.full_like(scene.recording, 300.0)
    np.testing.assert_allclose(extract(flat, tracks)["background"], 300.0)


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy() -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """Tracks, recording and clean recording of 240 frames of the same scene: all variance is noise."""
    camera = nx.simulate.Camera(gain=20, read_noise=6, row_noise=10, excess_noise=2)
    tree = nx.simulate.whole_brain(
        shape=(7, 52, 60), frames=1, neurons=6, min_distance_um=3.5, photons=15, seed=2, camera=camera
    )
    clean = tree["clean"]["F"].compute()
    photons = camera.photons(clean.values[0])
    counts = np.stack([camera.acquire(photons, np.random.default_rng([1, frame])) for frame in range(240)])
    recording = make_recording(counts, voxel_um=(1, 0.4, 0.4), dt_s=0.25, attrs=clean.attrs)
    tracks = tree["tracks"].to_dataset().isel(t=np.zeros(240, int)).assign_coords(t=recording["t"])
    return tracks, recording, clean


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("topk", "labels")])
def test_variance_is_that_of_repeated_exposures(noisy: tuple, method: str) -> None:
    tracks, recording, clean = noisy
    options = {"method": method, "position_error_um": 0.0, "progress": False}
    traces = nx.extract_traces(recording, tracks, **options)
    measured, stated = traces["F"].var("t", ddof=1), traces["F_var"].mean("t")
    # 240 variances have a standard error of 9 %; six neurons' mean of 4 %.
    assert float((measured / stated).mean()) == pytest.approx(1.0, abs=0.15)
    truth = nx.extract_traces(clean, tracks.isel(t=[0]).assign_coords(t=clean["t"]), **options)["F"].isel(t=0)
    # The shell of a noisy image is a little brighter where its light is uneven.
    np.testing.assert_allclose(traces["F"].mean("t"), truth, rtol=0.06, atol=10)
    covered = abs(traces["F"] - traces["F"].mean("t")) <= 1.6449 * np.sqrt(traces["F_var"])
    assert 0.86 <= float(covered.mean()) <= 0.94


def test_row_noise_counts_once_for_a_row(noisy: tuple) -> None:
    tracks, recording, _ = noisy
    options = {"method": "box", "position_error_um": 0.0, "background": 0.0, "progress": False}
    with_rows = nx.extract_traces(recording, tracks, **options)["F_var"]
    without = nx.extract_traces(recording, tracks, noise={"row_noise_counts": 0.0}, **options)["F_var"]
    np.testing.assert_allclose(with_rows - without, 10.0**2 / 15, rtol=1e-3)  # 15 rows of 5 in a box


def test_wrong_positions_add_the_variance_that_they_cause(close_scene: Scene) -> None:
    """Exact volumes, positions wrong by 0.15 µm: all variance is theirs."""
    frames = 200
    still = close_scene.recording.isel(t=np.zeros(frames, int)).assign_coords(t=np.arange(frames) * 0.5)
    still["t"].attrs["units"] = "s"
    places = np.repeat(close_scene.tracks["position"].values[:1], frames, axis=0)
    wrong = places + np.random.default_rng(0).normal(0, 0.15, places.shape)
    exact = {**CAMERA, "gain_counts_per_photon": 1e-9, "read_noise_counts": 0.0}
    for method in ("gaussian", "least_squares"):
        traces = extract(still, tracks_of(wrong), method=method, noise=exact, position_error_um=0.15)
        ratio = traces["F"].var("t") / traces["F_var"].mean("t")
        assert np.all((ratio > 0.5) & (ratio < 1.7)), (method, ratio.values)
    assert float(extract(still, tracks_of(wrong), noise=exact, position_error_um=0.0)["F_var"].max()) < 1e-3


def test_variance_of_a_denoised_recording_is_that_of_its_errors(noisy: tuple) -> None:
    """A filter that lets through what is smooth, and adds an error of its own in each frame."""
    tracks, recording, _ = noisy
    own = np.random.default_rng(5).normal(0, 12, (240, 1, 1, 1)).astype("float32")
    smooth = uniform_filter1d(recording.values.astype("float32"), 3, axis=3) + own
    denoised = with_history(recording.copy(data=smooth), "denoise", {})
    for method in ("pixel", "box"):
        options = {"method": method, "background": 0.0, "position_error_um": 0.0, "progress": False}
        traces = nx.extract_traces(denoised, tracks, raw=recording, **options)
        ratio = traces["F"].var("t") / traces["F_var"].mean("t")
        assert 0.8 < float(ratio.mean()) < 1.25, (method, ratio.values)


def test_unknown_noise_is_nan_with_words(scene: Scene) -> None:
    with pytest.warns(UserWarning, match="F_var is NaN.*does not state gain_counts_per_photon, excess_noise, read"):
        traces = extract(scene.recording, scene.tracks, noise=None)
    assert traces["F_var"].isnull().all()
    assert traces["valid"].all()
    assert traces.attrs["noise_from"] == "unknown"
    denoised = with_history(scene.recording, "denoise", {})
    with pytest.warns(UserWarning, match="denoised recording is not known from its pixels .* raw="):
        assert extract(denoised, scene.tracks)["F_var"].isnull().all()


def test_noise_by_photon_transfer(noisy: tuple) -> None:
    tracks, recording, _ = noisy
    options = {"method": "pixel", "position_error_um": 0.0, "background": 0.0, "progress": False}
    known = nx.extract_traces(recording, tracks, noise={"row_noise_counts": 0.0}, **options)["F_var"]
    measured = nx.extract_traces(recording, tracks, noise="photon_transfer", **options)
    assert measured.attrs["noise_from"] == "photon transfer"
    assert float(measured["F_var"].mean() / known.mean()) == pytest.approx(1.0, abs=0.25)


# --- streaming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [{"t": 1}, {"t": 3}, {"t": 7}, {"t": (2, 4, 1), "z": 4, "y": 11, "x": 20}],
    ids=["1", "3", "all", "everything"],
)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_chunks_and_schedulers_change_no_bit(scene: Scene, chunks: dict, scheduler: str) -> None:
    whole = extract(scene.recording, scene.tracks)
    with dask.config.set(scheduler=scheduler):
        cut = extract(scene.recording.chunk(chunks), scene.tracks)
    for name in whole.data_vars:
        np.testing.assert_array_equal(cut[name], whole[name])


def test_raw_and_labels_of_other_chunks(scene: Scene) -> None:
    labels = labels_of(scene)
    denoised = with_history(scene.recording, "denoise", {})
    options = {"method": "labels", "raw": scene.recording, "labels": labels}
    whole = extract(denoised, scene.tracks, **options)
    options = {"method": "labels", "raw": scene.recording.chunk(t=5, y=10), "labels": labels.chunk(t=1)}
    cut = extract(denoised.chunk(t=3), scene.tracks, **options)
    np.testing.assert_array_equal(cut["F"], whole["F"])
    np.testing.assert_array_equal(cut["F_var"], whole["F_var"])


def test_many_neurons_go_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("gaussian", "least_squares"):
        whole = extract(scene.recording, scene.tracks, method=method)
        with monkeypatch.context() as patched:
            patched.setattr("niddl_xr.traces._kernels.measuring.VOXELS_AT_ONCE", 1)
            parts = extract(scene.recording, scene.tracks, method=method)
        np.testing.assert_allclose(parts["F"], whole["F"], rtol=1e-6)
        np.testing.assert_allclose(parts["F_var"], whole["F_var"], rtol=1e-5)


def test_every_frame_is_read_once(scene: Scene) -> None:
    import dask.array as da

    read: list[int] = []

    def frame(block_info: dict) -> np.ndarray:
        start = block_info[None]["array-location"][0][0]
        read.append(start)
        return scene.recording.values[start : start + 1]

    lazy = da.map_blocks(frame, chunks=((1,) * 7, *((size,) for size in SHAPE)), dtype=float, meta=np.empty((0,) * 4))
    recording = scene.recording.copy(data=lazy)
    read.clear()
    extract(recording, scene.tracks)
    assert sorted(read) == list(range(7))


def test_memory_stays_within_a_frame_and_64_mb() -> None:
    import tracemalloc

    volume = np.random.default_rng(0).integers(90, 200, (1, 24, 256, 256)).astype("uint16")
    recording = make_recording(volume, voxel_um=(1, 0.4, 0.4), dt_s=1)
    rng = np.random.default_rng(1)
    tracks = tracks_of(rng.uniform(0, [23, 100, 100], (1, 150, 3)))
    for method in ("gaussian", "least_squares"):
        tracemalloc.start()
        extract(recording, tracks, method=method)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20, (method, peak)


# --- contract ---------------------------------------------------------------------------------------------------------


def test_coordinates_history_and_dtype(scene: Scene) -> None:
    tracks = scene.tracks.assign_coords(name=("neuron", ["AVAL", "AVAR", "RIML"]))
    tracks["observed"][2, 1] = False
    traces = require_traces(extract(scene.recording, tracks))
    assert {name: str(traces[name].dtype) for name in ("F", "F_var", "background")} == dict.fromkeys(
        ("F", "F_var", "background"), "float32"
    )
    np.testing.assert_array_equal(traces["name"], ["AVAL", "AVAR", "RIML"])
    np.testing.assert_array_equal(traces["observed"], tracks["observed"])
    assert traces["valid"][2, 1]
    assert traces["t"].attrs["units"] == "s"
    assert traces.attrs["tracks_version_id"] == tracks.attrs["version_id"]
    entry = json.loads(traces.attrs[HISTORY])[-1]
    assert (entry["verb"], entry["parameters"]["method"]) == ("extract_traces", "gaussian")


def test_accessor_is_the_verb(scene: Scene) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = nx.extract_traces(scene.recording, scene.tracks, progress=False)
        np.testing.assert_array_equal(
            scene.recording.niddl.extract_traces(scene.tracks, progress=False)["F"], expected["F"]
        )


def test_frames_are_matched_by_index_where_units_differ(scene: Scene) -> None:
    numbered = scene.tracks.assign_coords(t=("t", np.arange(7), {"units": "frame"}))
    traces = extract(scene.recording, numbered)
    assert traces.attrs["matched_by"] == "index"
    np.testing.assert_array_equal(traces["F"], extract(scene.recording, scene.tracks)["F"])
    with pytest.raises(NiddlError, match="because their times are in 's' and 'frame', got 6 and 7"):
        extract(scene.recording, numbered.isel(t=slice(6)))


def test_channel(scene: Scene) -> None:
    both = xr.concat([scene.recording, scene.recording * 2], "channel").assign_coords(channel=["red", "green"])
    green = extract(both, scene.tracks, channel="green")
    np.testing.assert_allclose(green["F"], 2 * extract(scene.recording, scene.tracks)["F"], rtol=1e-5)
    with pytest.raises(NiddlError, match="one of \\['red', 'green'\\], got 'blue'"):
        extract(both, scene.tracks, channel="blue")
    with pytest.raises(NiddlError, match="expected a recording with the dim channel"):
        extract(scene.recording, scene.tracks, channel="red")


def test_neuropil_is_a_part_of_what_is_above_the_offset(scene: Scene) -> None:
    for method in ("gaussian", "ball"):
        none = extract(scene.recording, scene.tracks, background=None, method=method)["F"]  # above the offset of 100
        part = extract(scene.recording, scene.tracks, neuropil=0.7, method=method)["F"]
        whole = extract(scene.recording, scene.tracks, method=method)["F"]
        # Weights of a Gaussian end at 2.5 sigma, and hold 1.2 % of a constant less than those of a peak.
        np.testing.assert_allclose(none - whole, BACKGROUND - 100, rtol=0.06 if method == "gaussian" else 0.005)
        np.testing.assert_allclose(part - whole, 0.3 * (BACKGROUND - 100), atol=0.1)
    blind = scene.recording.assign_attrs(offset_counts=None)
    for options in ({"neuropil": 0.7}, {"background": None}):
        with pytest.raises(NiddlError, match="states its camera's offset.*assign_attrs"):
            extract(blind, scene.tracks, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mean"}, "expected method as one of gaussian, .*, got 'mean'"),
        ({"radius_um": 0}, "radius_um as a number above 0"),
        ({"radius_um": True}, "radius_um as a number above 0"),
        ({"background": "ring"}, 'expected background="annulus"'),
        ({"neuropil": -1}, "neuropil as a number of 0 or more"),
        ({"position_error_um": np.nan}, "position_error_um as a number"),
        ({"psf_sigma_um": (1, 2)}, "psf_sigma_um as three numbers"),
        ({"psf_sigma_um": 1.0}, "psf_sigma_um as three numbers"),
        ({"top": 2.5}, "top as a number of voxels"),
        ({"top": 0}, "top as a number of voxels"),
        ({"method": "labels"}, 'expected labels= with method="labels"'),
        ({"noise": "guess"}, 'expected noise=None, "photon_transfer"'),
        ({"noise": {"gain": 3}}, "expected noise with the names .*, got \\['gain'\\]"),
        ({"noise": {**CAMERA, "excess_noise": 0.5}}, "excess noise of 1 or more"),
    ],
)
def test_wrong_arguments(scene: Scene, options: dict, message: str) -> None:
    with pytest.raises(NiddlError, match=message):
        extract(scene.recording, scene.tracks, **options)


def test_wrong_recordings(scene: Scene) -> None:
    recording, tracks = scene.recording, scene.tracks
    pixels = recording.assign_coords(y=("y", np.arange(37), {"units": "pixel"}))
    with pytest.raises(NiddlError, match="axis y of the recording in µm.*got units 'pixel': open it with voxel_um"):
        extract(pixels, tracks)
    with pytest.raises(NiddlError, match="expected dims"):
        extract(recording.transpose("t", "x", "y", "z"), tracks)
    with pytest.raises(NiddlError, match="evenly spaced voxels along x"):
        extract(recording.isel(x=[0, 1, 2, 5]), tracks)
    with pytest.raises(NiddlError, match="are they of another recording"):
        extract(recording.assign_coords(t=("t", np.arange(7) + 100.0, {"units": "s"})), tracks)
    with pytest.raises(NiddlError, match="finite and rising"):
        extract(recording.isel(t=[1, 0, 2]), tracks)
    with pytest.raises(NiddlError, match="expected raw of the frames and voxels of the recording"):
        extract(recording, tracks, raw=recording.isel(t=slice(5)))
    with pytest.raises(NiddlError, match="or other coordinates"):
        extract(recording, tracks, raw=recording.assign_coords(x=recording["x"] + 1))
    with pytest.raises(NiddlError, match="expected labels as whole numbers"):
        extract(recording, tracks, method="labels", labels=recording)
    with pytest.raises(NiddlError, match="leave it out, or set method"):
        extract(recording, tracks, labels=labels_of(scene))
    with pytest.raises(NiddlError, match="expected tracks, a Dataset with position"):
        extract(recording, tracks.drop_vars("position"))


# --- bars -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("photons", "neurons", "least"), [(20, 12, 0.96), (5, 12, 0.87)])
def test_correlation_amplitude_and_bounds(photons: float, neurons: int, least: float) -> None:
    tree = nx.simulate.whole_brain(
        shape=(10, 64, 80), frames=80, rate_hz=1, neurons=neurons, photons=photons, seed=21, bleaching=0.0
    )
    tracks = tree["tracks"].to_dataset()
    error = np.random.default_rng(0).normal(0, 0.2, tracks["position"].shape).astype("float32")
    truth = nx.dff(tree["traces"].to_dataset()[["F"]])
    active = (truth["group"] != "inactive").values
    wrong = tracks.assign(position=tracks["position"] + error)
    for method in ("gaussian", "least_squares"):
        traces = nx.extract_traces(tree["recording"]["F"], wrong, method=method, progress=False)
        quality = nx.trace_quality(nx.dff(traces), truth)
        assert quality["pearson"][active].median() >= least
        assert quality["amplitude_ratio"][active].median() == pytest.approx(1.0, abs=0.1)
        # Of the bar (.87-.93) with three standard errors of so few neurons.
        assert 0.8 <= quality["coverage90"].mean() <= 0.97


def test_sigma_of_the_scene_is_the_product_rule() -> None:
    np.testing.assert_allclose(SIGMA_UM**2, 0.36 * 1.5**2 + np.square(PSF_UM))
