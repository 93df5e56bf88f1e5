"""Neurites: lines whose curvature, middle and length are known from algebra, and simulated worms."""

from __future__ import annotations

import json

import dask
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage
from skimage.feature import hessian_matrix, hessian_matrix_eigvals

import niddl_xr as nx
from niddl_xr.metrics import score_skeleton
from niddl_xr.schema import make_recording, space_coordinates
from niddl_xr.segmentation._kernels.ridges import curvature, ridge_strengths
from niddl_xr.segmentation._kernels.skeletons import completed, pruned
from niddl_xr.segmentation.neurites import neurite_branches, segment_neurites

PIXEL_UM = np.array([0.5, 0.4])
SHAPE = (60, 90)  # 30 x 36 µm
WIDTH_UM = 0.6
OFFSET = 400.0


def coordinates(shape: tuple[int, int] = SHAPE, pixel_um: np.ndarray = PIXEL_UM) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(*(np.arange(n) * p for n, p in zip(shape, pixel_um, strict=True)), indexing="ij")
    return y, x


def line(angle: float = 0.0, *, peak: float = 300, width_um: float = WIDTH_UM) -> np.ndarray:
    """A line through the middle of the field, a Gaussian across, at ``angle`` from x."""
    y, x = coordinates()
    across = (y - 15) * np.cos(angle) - (x - 18) * np.sin(angle)
    return OFFSET + peak * np.exp(-np.square(across / width_um) / 2)


def strongest(plane: np.ndarray, sigma_um: tuple[float, ...], pixel_um: np.ndarray) -> np.ndarray:
    return ridge_strengths(plane, sigma_um, pixel_um).max(axis=0)


def movie(*planes: np.ndarray, **options: object) -> xr.DataArray:
    data = np.stack(planes)[:, None].astype("float32")
    return make_recording(data, voxel_um=(1.0, *PIXEL_UM.tolist()), dt_s=0.5, **options)


def noise(sd: float, seed: int = 0) -> np.ndarray:
    return sd * np.random.default_rng(seed).standard_normal(SHAPE)


def drawn(*rows: str, frames: int = 1) -> xr.Dataset:
    """A skeleton of 0.5 x 0.4 µm pixels from rows of text."""
    plane = np.array([[letter == "#" for letter in row] for row in rows])
    skeleton = np.broadcast_to(plane, (frames, 1, *plane.shape)).copy()
    sizes = dict(zip("zyx", skeleton.shape[1:], strict=True))
    coords = space_coordinates(sizes, {"z": 1.0, "y": 0.5, "x": 0.4})
    t = ("t", np.arange(frames) * 0.5, {"units": "s"})
    return xr.Dataset({"skeleton": (("t", "z", "y", "x"), skeleton)}, coords={"t": t, **coords})


# --- the ridge filter


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
@pytest.mark.parametrize("sigma_um", [0.8, 1.2])
def test_curvature_across_a_line_is_that_of_algebra(angle: float, sigma_um: float) -> None:
    # A Gaussian of width w and peak A, blurred by sigma, is A w / s exp(-d²/2s²) with s² = w² + sigma².
    expected = 300 * WIDTH_UM / np.hypot(WIDTH_UM, sigma_um) ** 3
    across = curvature(line(angle), sigma_um, PIXEL_UM)
    assert across[30, 45] == pytest.approx(expected, rel=0.03)


def test_curvature_agrees_with_scikit_image() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 50)), 1)
    hessian = hessian_matrix(image, sigma=2, order="rc", mode="reflect", use_gaussian_derivatives=True)
    oracle = -hessian_matrix_eigvals(hessian)[1]
    inner = (slice(10, -10), slice(10, -10))
    np.testing.assert_allclose(curvature(image, 2.0, np.ones(2))[inner], oracle[inner], atol=2e-3 * np.ptp(oracle))


def test_strength_knows_neither_gain_nor_offset() -> None:
    image = (line(0.3) + noise(20)).astype("float32")
    strength = strongest(image, (0.4, 0.8), PIXEL_UM)
    np.testing.assert_allclose(strongest(7 * image - 900, (0.4, 0.8), PIXEL_UM), strength, rtol=2e-2, atol=2e-2)


def test_strength_counts_standard_deviations_of_the_noise() -> None:
    dim = strongest(line(peak=3) - OFFSET + noise(2), (0.8,), PIXEL_UM)
    # Noise of SD 2 through the filter, by brute force in another noise.
    filtered = ndimage.gaussian_filter(noise(2, 7), 0.8 / PIXEL_UM, order=(0, 2)) / PIXEL_UM[1] ** 2
    expected = 3 * WIDTH_UM / np.hypot(WIDTH_UM, 0.8) ** 3 / filtered.std()
    assert dim[30].mean() == pytest.approx(expected, rel=0.3)


def test_scales_answer_by_themselves_and_in_their_order() -> None:
    image = line(0.5) + noise(10)
    scales = [ridge_strengths(image, (sigma,), PIXEL_UM)[0] for sigma in (0.4, 1.2, 0.8)]
    np.testing.assert_array_equal(ridge_strengths(image, (0.4, 1.2, 0.8), PIXEL_UM), scales)
    # The scale that fits the line best answers best where noise is white.
    assert scales[2][30].mean() > scales[0][30].mean()


# --- skeletons


def test_pruning_takes_what_ends_freely_and_is_short() -> None:
    rows = (
        "......#.........",
        "......#.........",
        "......#.........",
        "......#.........",
        "......#.........",
        "################",
        "................",
        ".###............",
    )
    skeleton = np.array([[letter == "#" for letter in row] for row in rows])
    # The pixel of a branch beside the line has more than two neighbours: a junction, which stays.
    short, long = skeleton.copy(), skeleton.copy()
    long[:4, 6] = False
    for pixels, expected in ((0, short), (3, short), (4, long)):
        np.testing.assert_array_equal(pruned(skeleton, pixels), expected)
    ring = np.zeros((7, 9), bool)
    ring[1:6, 1:8] = True
    ring[2:5, 2:7] = False
    np.testing.assert_array_equal(pruned(ring, 9), ring)


def picture(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_a_fine_skeleton_is_completed_by_a_coarse_one() -> None:
    fine = picture(
        "#####.....",
        "..........",
        "#####.....",
        "..........",
        "..........",
    )
    coarse = picture(
        "..........",
        "##########",
        "..........",
        "..........",
        "..........",
    )
    both = completed(fine, coarse, 1.5, np.ones(2))
    # Beside the fine lines the coarse one is theirs; from x = 6 on, 2 px from them, it counts, and back to x = 3.
    np.testing.assert_array_equal(both & ~fine, coarse & (np.arange(10) >= 3))
    # Of pixels three times as long along x, x = 5 is already too far, and the way back is 6 µm.
    np.testing.assert_array_equal(
        completed(fine, coarse, 1.5, np.array([1.0, 3.0])) & ~fine, coarse & (np.arange(10) >= 3)
    )
    np.testing.assert_array_equal(completed(np.zeros_like(fine), coarse, 1.5, np.ones(2)), coarse)
    np.testing.assert_array_equal(completed(fine, np.zeros_like(fine), 1.5, np.ones(2)), fine)


# --- masks and skeletons in images


@pytest.mark.parametrize("sigma_um", [(0.5, 0.8, 1.2), (1.2, 0.5)])
def test_lines_side_by_side_stay_two(sigma_um: tuple[float, ...]) -> None:
    y = coordinates()[0]
    apart_um = 1.8
    image = OFFSET + sum(300 * np.exp(-np.square((y - middle) / 0.6) / 2) for middle in (15, 15 + apart_um))
    skeleton = segment_neurites(movie(image + noise(3)), sigma_um=sigma_um).skeleton.values[0, 0]
    inner = skeleton[:, 8:-8]
    assert (inner.sum(axis=0) == 2).mean() > 0.95
    places = y[:, :1] * np.ones(inner.shape[1])
    np.testing.assert_allclose(np.unique(places[inner]), [15, 15 + apart_um], atol=0.5)


@pytest.mark.parametrize("order", [(0.5, 1.2), (1.2, 0.5)])
def test_line_that_only_a_coarse_scale_sees_is_traced(order: tuple[float, float]) -> None:
    image = movie(line(0.2, peak=25, width_um=1.0) + noise(20))
    assert not segment_neurites(image, sigma_um=(0.5,)).skeleton.values[..., 8:-8].mean() > 2e-3
    y, x = coordinates()
    on_line = np.abs((y - 15) * np.cos(0.2) - (x - 18) * np.sin(0.2)) < 0.25
    near = ndimage.binary_dilation(segment_neurites(image, sigma_um=order).skeleton.values[0, 0], iterations=3)
    assert near[on_line].mean() > 0.7


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.1])
def test_skeleton_runs_along_the_middle_of_a_line(angle: float) -> None:
    found = segment_neurites(movie(line(angle) + noise(15)))
    y, x = coordinates()
    across = np.abs((y - 15) * np.cos(angle) - (x - 18) * np.sin(angle))
    skeleton = found.skeleton.values[0, 0]
    inner = (np.abs(y - 15) < 12) & (np.abs(x - 18) < 15)  # at the border the skeleton turns into the corner of a mask
    assert across[skeleton & inner].max() < 0.8
    inside = (np.hypot(y - 15, x - 18) < 10) & (across < 0.3)
    assert ndimage.binary_dilation(skeleton, iterations=2)[inside].all()
    assert found.mask.values[0, 0][inside].all()
    assert found.mask.values[0, 0][across > 3].sum() == 0
    assert skeleton[~found.mask.values[0, 0]].sum() == 0


@pytest.mark.parametrize("gain", [1, 30])
def test_noise_alone_gives_hardly_any_neurite(gain: float) -> None:
    rng = np.random.default_rng(5)
    planes = OFFSET + gain * rng.poisson(9, (6, *SHAPE))
    assert segment_neurites(movie(*planes)).skeleton.values.mean() < 2e-3


def test_noise_counts_where_it_is() -> None:
    loud = np.where(np.arange(SHAPE[1]) < 30, 60, 3) * noise(1)
    found = segment_neurites(movie(OFFSET + loud + (line() - OFFSET) / 4))
    assert found.mask.values[0, 0, 30, 40:].all()
    assert found.skeleton.values[0, 0, :, :25].mean() < 0.03  # 0.1 if the noise of the quiet part counted


def test_thresholds_are_in_units_of_noise_and_follow_lines_that_fade() -> None:
    fading = OFFSET + (line() - OFFSET) * np.exp(-np.arange(SHAPE[1]) / 20) + noise(10)
    strength = strongest(fading.astype("float32"), (0.5, 0.8, 1.2), PIXEL_UM)[30]
    low, high = float(np.median(strength[50:60])), float(np.median(strength[20:30]))
    assert low < high
    mask = segment_neurites(movie(fading), low=low, high=high).mask.values[0, 0, 30]
    assert mask[:48].all()  # beyond pixel 30 because the line goes on
    assert not mask[62:].any()
    assert segment_neurites(movie(fading), low=high, high=high).mask.values[0, 0, 30, 35:].sum() == 0
    assert not segment_neurites(movie(fading), low=low, high=500).mask.any()


def test_short_objects_are_dropped() -> None:
    y, x = coordinates()
    short = OFFSET + 300 * np.exp(-np.square((y - 24) / WIDTH_UM) / 2) * (np.abs(x - 18) < 2)
    both = movie(np.maximum(line(), short) + noise(3))
    few, all_of_them = (segment_neurites(both, min_length_um=length).mask.values[0, 0] for length in (8, 1))
    there = (48, 45)
    assert all_of_them[there]
    assert not few[there]
    assert few[30, 45]


def test_project_traces_the_maximum_of_a_stack() -> None:
    flat = np.full(SHAPE, OFFSET)
    stack = make_recording(
        np.stack([line(), flat, line(np.pi / 2)])[None].astype("float32"),
        voxel_um=(2.0, *PIXEL_UM.tolist()),
        dt_s=1,
    )
    with pytest.raises(nx.NiddlError, match=r'expected a plane movie, got 3 planes: .* with project="max"'):
        segment_neurites(stack)
    projected = segment_neurites(stack.chunk(z=1), project="max")
    assert projected.skeleton.shape == (1, 1, *SHAPE)
    assert projected.z.values.tolist() == [2.0]
    assert projected.z.attrs["projected_planes"] == 3
    plane = segment_neurites(stack.max("z", keep_attrs=True).expand_dims(z=[0.0], axis=1))
    np.testing.assert_array_equal(projected.mask.values, plane.mask.values)
    assert projected.mask.values[0, 0, 30, 10]
    assert projected.mask.values[0, 0, 5, 45]


def test_lazy_and_the_same_for_any_chunks() -> None:
    planes = [line(0.2 * k) + noise(15, k) for k in range(3)]
    recording = movie(*planes)

    def forbid(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    whole = segment_neurites(recording).compute()
    for chunks in ({"t": 1}, {"t": 2, "y": 17}, {"t": 3, "y": 60, "x": 31}):
        with dask.config.set(scheduler=forbid):
            lazy = segment_neurites(recording.chunk(chunks))
        xr.testing.assert_equal(lazy.compute(), whole)
    xr.testing.assert_equal(segment_neurites(recording.isel(t=[1])).compute(), whole.isel(t=[1]))


def test_blank_frames_and_nan_are_no_neurite() -> None:
    hole = line() + noise(15)
    hole[:, 40:50] = np.nan
    found = segment_neurites(movie(np.full(SHAPE, np.nan), np.full(SHAPE, 3.0), hole)).mask.values[:, 0]
    assert not found[:2].any()
    assert not found[2][:, 40:50].any()
    assert found[2][30, [10, 80]].all()


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_arguments_are_checked() -> None:
    recording = movie(line())
    for options, message in (
        ({"low": 6}, "expected low up to high, got low=6 and high=5"),
        ({"high": -1}, "expected high as a number of 0 or more, got -1"),
        ({"min_length_um": np.nan}, "expected min_length_um as a number of 0 or more, got nan"),
        ({"prune_um": -2}, "expected prune_um as a number of 0 or more, got -2"),
        ({"sigma_um": ()}, r"expected sigma_um as some positive numbers of µm, got \(\)"),
        ({"sigma_um": 0.8}, "expected sigma_um as some positive numbers of µm, got 0.8"),
        ({"sigma_um": (0.4, 0.0)}, r"expected sigma_um as some positive numbers of µm, got \(0.4, 0.0\)"),
        ({"project": "mean"}, "expected project as \"max\" or None, got 'mean'"),
    ):
        with pytest.raises(nx.NiddlError, match=message):
            segment_neurites(recording, **options)
    with pytest.raises(nx.NiddlError, match="expected the coordinate y in µm, got units 'pixel'"):
        segment_neurites(make_recording(line()[None, None]))
    with pytest.raises(nx.NiddlError, match=r"expected dims .* see DataArray.transpose"):
        segment_neurites(recording.transpose("t", "y", "x", "z"))


def test_history_is_kept() -> None:
    recording = nx.schema.with_history(movie(line(), attrs={"source": "pvd.tif"}), "denoise", {})
    found = segment_neurites(recording, high=7)
    entries = json.loads(found.attrs["niddl_history"])
    assert [entry["verb"] for entry in entries] == ["denoise", "segment_neurites"]
    assert entries[-1]["parameters"]["high"] == 7
    assert found.attrs["source"] == "pvd.tif"
    xr.testing.assert_equal(found.y, recording.y)


# --- branches

# skan's lengths run from pixel centre to pixel centre.
TEE = (
    "...........",
    ".#########.",
    ".....#.....",
    ".....#.....",
    ".....#.....",
    "...........",
)


def test_branches_of_a_tee() -> None:
    table = neurite_branches(drawn(*TEE, frames=2))
    assert table["t_index"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["t"].tolist() == [0, 0, 0, 0.5, 0.5, 0.5]
    assert set(table["kind"]) == {"between end and junction"}
    first = table[table["t_index"] == 0]
    assert first["branch"].tolist() == [1, 2, 3]
    assert set(first["object"]) == {1}
    # 8 steps of 0.4 along x, cut in two at the junction, and 3 of 0.5 down.
    down = first[first["start_y"].sub(first["end_y"]).abs() > 1]
    assert down["length_um"].item() == pytest.approx(1.5, abs=0.15)
    assert first["length_um"].sum() == pytest.approx(8 * 0.4 + 3 * 0.5, abs=0.4)
    ends = {(round(y, 2), round(x, 2)) for y, x in first[["end_y", "end_x"]].to_numpy()} | {
        (round(y, 2), round(x, 2)) for y, x in first[["start_y", "start_x"]].to_numpy()
    }
    assert {(0.5, 0.4), (0.5, 3.6), (2.0, 2.0)} <= ends


def test_kinds_and_objects() -> None:
    table = neurite_branches(
        drawn(
            "#####......####",
            "..........#....",
            "..........#....",
            "..........#....",
            "####......#....",
        )
    )
    assert table["object"].nunique() == 3
    assert set(table["kind"]) == {"between ends"}
    straight = table[table["length_um"].between(1.5, 1.7)]
    assert straight["distance_um"].item() == pytest.approx(1.6)
    ring = neurite_branches(drawn("......", "..##..", ".#..#.", ".#..#.", "..##..", "......"))
    assert ring["kind"].tolist() == ["loop"]
    assert ring["length_um"].item() == pytest.approx(2 * 0.4 + 2 * 0.5 + 4 * np.hypot(0.4, 0.5))


def test_coordinates_of_ends_are_those_of_the_recording() -> None:
    moved = drawn("....", ".###", "....")
    moved = moved.assign_coords(
        y=("y", 100 + moved.y.values, moved.y.attrs), x=("x", 50 - moved.x.values, moved.x.attrs)
    )
    row = neurite_branches(moved).iloc[0]
    assert sorted([row["start_x"], row["end_x"]]) == pytest.approx([48.8, 49.6])
    assert row["start_y"] == pytest.approx(100.5)


def test_nothing_and_lone_pixels_are_no_branch() -> None:
    for rows in (("...", "..."), ("#..", "...", "..#")):
        table = neurite_branches(drawn(*rows, frames=2))
        assert len(table) == 0
        assert table.attrs["frames"] == 2
        assert "length_um" in table
    assert len(neurite_branches(drawn("#..##", ".....", "#...."))) == 1


def test_neurites_are_checked() -> None:
    with pytest.raises(nx.NiddlError, match="expected neurites, a Dataset with skeleton .*, got DataArray"):
        neurite_branches(drawn("##").skeleton)
    with pytest.raises(nx.NiddlError, match="expected skeleton as booleans .* got int64"):
        neurite_branches(drawn("##").astype(int))
    pixels = drawn("##.", "...")
    pixels.x.attrs["units"] = "pixel"
    with pytest.raises(nx.NiddlError, match="expected the coordinate x in µm"):
        neurite_branches(pixels)


# --- bars


# Where the nerve ring lies in the field, bundles that no filter parts lower the recall to 0.7: not in this scene.
@pytest.mark.parametrize(("kind", "least"), [("pvd", 0.88), ("touch", 0.9)])
def test_neurites_of_a_simulated_worm_are_traced_at_high_light(kind: str, least: float) -> None:
    scene = nx.simulate.neurite(kind=kind, shape=(1, 256, 256), photons=10, seed=53)
    found = segment_neurites(scene["high_laser"]["F"])
    score = score_skeleton(found, scene["skeleton"].to_dataset())
    assert score["f1"] >= least
    table = neurite_branches(found)
    # Every step from pixel to pixel is 1 to sqrt(2) pixels of 0.4 µm; at junctions a few are counted twice.
    assert 0.4 * score["points"] < 1.05 * table["length_um"].sum() < 1.05 * 0.6 * score["points"]
