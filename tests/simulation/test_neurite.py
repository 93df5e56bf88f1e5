"""Neurites: the light is that of the branches, the labels are theirs, and no chunking changes a count."""

import json
from dataclasses import replace

import dask
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.distance import cdist

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera
from niddl_xr.simulation._kernels import lines, neurite_growth, neurites
from niddl_xr.simulation._kernels.tubes import Tube
from niddl_xr.simulation.neurite import neurite

SMALL = {"shape": (3, 50, 70), "frames": 5, "seed": 3}
NOISELESS = {
    "haze": 0,
    "autofluorescence": 0,
    "background_photons": 0,
    "stray_photons": 0,
    "camera": Camera(offset=100, gain=2, spurious_charge=0),
}
PSF = np.array([1.5, 0.7, 0.7])


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


def straight(start, stop, width_um=0.6, step_um=0.2):
    return neurites.sample([np.array([start, stop], float)], [1], [0], [width_um], step_um, None)


def image(arbor, shape, voxel, psf=PSF):
    volume = np.zeros(shape, np.float32)
    neurites.add_light(volume, arbor, *neurites.light_of(arbor, psf), np.asarray(voxel, float))
    return volume


def test_nodes_keep_the_contract():
    truth = neurite(**SMALL, rate_hz=2.0)
    for node in ("recording", "high_laser", "clean"):
        recording = truth[node]["F"]
        schema.require_recording(recording)
        assert recording.dtype == (np.float32 if node == "clean" else np.uint16)
        assert dict(recording.sizes) == {"t": 5, "z": 3, "y": 50, "x": 70}
        assert schema.voxel_um(recording) == pytest.approx({"z": 1.0, "y": 0.4, "x": 0.4})
        assert schema.frame_interval_s(recording) == 0.5
        assert schema.history(recording)[-1]["verb"] == "simulate.neurite"
        json.dumps(recording.attrs)
    assert (truth["recording"]["F"].attrs["photons"], truth["high_laser"]["F"].attrs["photons"]) == (10.0, 100.0)
    labels, skeleton = truth["labels"]["labels"], truth["skeleton"]
    assert (labels.dims, labels.dtype) == (("t", "z", "y", "x"), np.int32)
    assert labels["x"].attrs["units"] == "µm"
    assert skeleton["position"].dims == ("point", "space")
    assert skeleton["space"].values.tolist() == ["z", "y", "x"]
    assert skeleton["order"].dims == skeleton["parent"].dims == skeleton["length_um"].dims == ("branch",)
    assert skeleton["drift"].dims == ("t", "space")
    for variable in skeleton.data_vars.values():
        assert not variable.isnull().any()


def test_nothing_is_computed_before_it_is_asked_for():
    with dask.config.set(scheduler=forbid):
        truth = neurite(**SMALL)
        truth["high_laser"]["F"].isel(t=slice(2, 4)).mean("t")


@pytest.mark.parametrize("frames_per_chunk", [1, 3, 5])
@pytest.mark.parametrize("node", ["recording", "high_laser", "clean", "labels"])
def test_chunking_changes_no_bit(node, frames_per_chunk):
    variable = "labels" if node == "labels" else "F"
    expected = neurite(**SMALL, frames_per_chunk=2)[node][variable].compute()
    chunked = neurite(**SMALL, frames_per_chunk=frames_per_chunk)[node][variable]
    assert chunked.chunksizes["t"][0] == frames_per_chunk
    np.testing.assert_array_equal(chunked.values, expected.values)
    np.testing.assert_array_equal(chunked.isel(t=4).values, expected.isel(t=4).values)


def test_seeds_give_the_same_or_another_worm():
    first, same = (neurite(**SMALL)["recording"]["F"].values for _ in range(2))
    other = neurite(**(SMALL | {"seed": 4}))["recording"]["F"].values
    np.testing.assert_array_equal(first, same)
    assert np.mean(first == other) < 0.1


def test_the_two_lasers_have_noise_of_their_own_about_the_means_they_state():
    truth = neurite(shape=(1, 40, 50), frames=40, bleaching=0, motion_um=0, high_laser=1.0, seed=1)
    clean = truth["clean"]["F"]
    low, high = (truth[node]["F"].astype(float) - clean for node in ("recording", "high_laser"))
    for noise in (low, high):
        assert abs(float(noise.mean())) < 4 * float(noise.std()) / np.sqrt(noise.size)
    assert abs(np.corrcoef(low.values.ravel(), high.values.ravel())[0, 1]) < 0.05


def test_high_laser_multiplies_the_worm_alone():
    options = {"shape": (1, 60, 80), "photons": 400, "high_laser": 3.0, "stray_photons": 0, "background_photons": 50}
    truth = neurite(**options, camera=Camera(offset=0, gain=1, spurious_charge=0, row_noise=0), seed=2)
    low, high = (truth[node]["F"].values.astype(float) for node in ("clean", "high_laser"))
    bright = low > np.percentile(low, 90)
    assert (high[bright].mean() - 50) / (low[bright].mean() - 50) == pytest.approx(3.0, rel=0.02)


# The light of a line against independent formulas


@pytest.mark.parametrize("voxel", [(1.0, 0.4, 0.4), (0.7, 0.3, 0.2)])
def test_a_neurite_of_median_width_has_light_one_at_its_centre_and_a_gaussian_beside_it(voxel):
    z, y = 3 * voxel[0], 20 * voxel[1]
    volume = image(straight((z, y, -20), (z, y, 60)), (7, 41, 90), voxel)
    assert volume[3, 20, 45] == pytest.approx(1.0, abs=1e-3)
    variance = PSF**2 + 0.6**2 / 16
    beside = np.exp(-0.5 * (np.arange(-5, 6) * voxel[1]) ** 2 / variance[1])
    np.testing.assert_allclose(volume[3, 15:26, 45], beside, atol=1e-3)
    np.testing.assert_allclose(
        volume[:, 20, 45], np.exp(-0.5 * (np.arange(-3, 4) * voxel[0]) ** 2 / variance[0]), atol=1e-3
    )


def test_a_slanted_line_is_the_integral_of_the_blur_along_it():
    start, stop = np.array([1.0, 2.0, 1.0]), np.array([7.0, 9.0, 16.0])
    volume = image(straight(start, stop, width_um=0.9, step_um=0.02), (9, 30, 45), (1.0, 0.4, 0.4))
    sigma, reference = np.sqrt(PSF**2 + 0.9**2 / 16), np.sqrt(PSF**2 + 0.6**2 / 16)
    length = np.linalg.norm(stop - start)
    per_um = (0.9 / 0.6) ** 2 * np.prod(reference[:2]) / (np.prod(sigma[:2]) * np.sqrt(2 * np.pi) * sigma[2])
    for voxel in ((4, 14, 22), (1, 5, 3), (8, 24, 41), (5, 12, 20)):
        place = np.array(voxel) * (1.0, 0.4, 0.4)

        def blur(part, place=place):
            return np.exp(-0.5 * np.sum(((place - start - part / length * (stop - start)) / sigma) ** 2))

        expected = per_um * quad(blur, 0, length, epsabs=1e-9, limit=200)[0]
        assert volume[voxel] == pytest.approx(expected, abs=2e-3)


def test_light_does_not_depend_on_the_steps_and_leaves_the_field():
    coarse, fine = (
        image(straight((2, -4, -3), (2, 25, 30), step_um=step), (5, 40, 60), (1, 0.4, 0.4)) for step in (0.5, 0.1)
    )
    np.testing.assert_allclose(coarse, fine, atol=2e-3)


def test_haze_has_the_light_of_the_signal_times_its_strength():
    arbor = straight((8, 40, 30), (8, 40, 50), width_um=0.8)
    sigmas, peaks = neurites.light_of(arbor, PSF)
    _, spread, haze = neurites.haze_of(arbor, sigmas, peaks, 2.5)
    of_points, of_haze = (np.sum(p * np.prod(s, axis=1)) for p, s in ((peaks, sigmas), (haze, spread)))
    assert of_haze == pytest.approx(2.5 * of_points, rel=1e-6)


def test_ridge_of_a_recording_follows_the_widths_of_its_skeleton():
    truth = neurite(
        kind="touch",
        shape=(1, 200, 260),
        voxel_um=(1, 0.2, 0.2),
        photons=100,
        psf_sigma_um=(1, 0.4, 0.4),
        seed=6,
        **NOISELESS,
    )
    skeleton, clean = truth["skeleton"], (truth["clean"]["F"].isel(t=0, z=0) - 100) / 2
    process = (skeleton["order"].values[skeleton["point_branch"].values - 1] == 1) & skeleton["inside"].values
    place = np.rint(skeleton["position"].values[process, 1:] / 0.2).astype(int)
    width = skeleton["width_um"].values[process]
    expected = (
        100
        * (width / 0.6) ** 2
        * np.sqrt((0.4**2 + 0.6**2 / 16) / (0.4**2 + width**2 / 16))
        / np.sqrt((1 + width**2 / 16) / (1 + 0.6**2 / 16))
    )
    measured = clean.values[place[:, 0], place[:, 1]]
    assert process.sum() > 300
    assert np.median(measured / expected) == pytest.approx(1.0, abs=0.06)
    assert np.corrcoef(measured, expected)[0, 1] > 0.7


# Labels


def test_labels_are_those_of_the_nearest_point_within_half_its_width():
    rng = np.random.default_rng(0)
    shape, voxel = (4, 11, 13), np.array([1.0, 0.5, 0.4])
    points = rng.uniform(-1, np.array(shape) * voxel + 1, (60, 3))
    width, branch = rng.uniform(0.2, 2.5, 60), rng.integers(1, 9, 60)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    distance = cdist(grid * voxel, points)
    holds = np.all(grid[:, None] == np.rint(points / voxel), axis=-1)
    reaches = np.where(holds | (distance <= width / 2), distance, np.inf)
    expected = np.where(np.isfinite(reaches.min(axis=1)), branch[reaches.argmin(axis=1)], 0).reshape(shape)
    np.testing.assert_array_equal(lines.draw_labels(shape, points, width, branch, voxel), expected)


@pytest.mark.parametrize("shape", [(1, 90, 120), (4, 80, 100)])
@pytest.mark.parametrize("kind", ["pvd", "touch"])
def test_skeleton_and_labels_agree_in_every_frame(kind, shape):
    truth = neurite(kind=kind, shape=shape, frames=3, motion_um=2.0, rate_hz=0.1, seed=1)
    skeleton, labels = truth["skeleton"], truth["labels"]["labels"].values
    assert float(np.abs(skeleton["drift"]).max()) > 0.5
    assert not skeleton["drift"].isel(t=0).values.any()
    for frame in range(3):
        points = skeleton["position"].values + skeleton["drift"].values[frame]
        voxel = np.rint(points / (1.0, 0.4, 0.4)).astype(int)
        inside = np.all((voxel >= 0) & (voxel < shape), axis=1)
        assert inside.any()
        if frame == 0:
            np.testing.assert_array_equal(skeleton["inside"], inside)
        assert np.all(labels[frame][tuple(voxel[inside].T)] > 0)
        for branch in np.unique(labels[frame])[1:]:
            own = skeleton["point_branch"].values == branch
            gap = cdist(np.argwhere(labels[frame] == branch) * (1.0, 0.4, 0.4), points[own])
            half_width = np.maximum(skeleton["width_um"].values[own] / 2, np.linalg.norm([0.5, 0.2, 0.2]))
            assert np.all(np.any(gap <= half_width + 1e-3, axis=1))


def test_the_worm_moves_with_its_skeleton():
    truth = neurite(
        kind="touch", shape=(1, 120, 160), frames=4, motion_um=4.0, rate_hz=0.05, bleaching=0, seed=4, **NOISELESS
    )
    skeleton, clean = truth["skeleton"], truth["clean"]["F"].values[:, 0]
    assert float(np.abs(skeleton["drift"].isel(t=3)).max()) > 1.5
    for frame in range(4):
        voxel = np.rint((skeleton["position"].values + skeleton["drift"].values[frame])[:, 1:] / 0.4).astype(int)
        voxel = voxel[np.all((voxel >= 0) & (voxel < (120, 160)), axis=1)]
        assert np.percentile(clean[frame][tuple(voxel.T)], 5) > 5 + np.percentile(clean[frame], 50)


# The tree


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_branches_leave_their_parents_and_are_of_the_next_order(seed):
    skeleton = neurite(shape=(1, 120, 300), seed=seed)["skeleton"]
    order, parent = skeleton["order"].values, skeleton["parent"].values
    owner, position = skeleton["point_branch"].values, skeleton["position"].values
    assert set(order.tolist()) >= {1, 2, 3, 4}
    np.testing.assert_array_equal(np.unique(owner), skeleton["branch"])
    assert np.all(parent < skeleton["branch"].values)
    for branch in np.flatnonzero(order > 1) + 1:
        mother = parent[branch - 1]
        assert order[mother - 1] == order[branch - 1] - 1
        first = position[owner == branch][0]
        assert np.linalg.norm(position[owner == mother] - first, axis=1).min() < 0.3
    steps = np.linalg.norm(np.diff(position, axis=0), axis=1)[np.diff(owner) == 0]
    assert steps.max() <= 0.2 + 1e-4  # half a pixel
    summed = np.bincount(owner[1:][np.diff(owner) == 0], steps)[1:]
    np.testing.assert_allclose(skeleton["length_um"], summed, rtol=1e-3)


def test_menorahs_have_the_spacing_and_length_of_the_reconstruction():
    wall = neurite_growth.grow_pvd((0.0, 3000.0), 27.0, np.random.default_rng(1))
    orders = np.array(wall.orders)
    secondaries = np.sum((orders == 2) & (np.array(wall.parents) == 1))
    assert 2 * 3000 / secondaries == pytest.approx(41, rel=0.1)
    lengths = np.array([np.hypot(np.diff(c[:, 0]), 27 * np.diff(c[:, 1])).sum() for c in wall.curves])
    assert lengths[orders > 1].sum() / secondaries == pytest.approx(128, rel=0.15)


def test_touch_neurons_are_long_processes_some_with_cell_bodies():
    cell_bodies = 0
    for seed in range(6):
        wall = neurite_growth.grow_touch((-100.0, 100.0), 25.0, np.random.default_rng(seed))
        orders = np.array(wall.orders)
        assert set(orders.tolist()) <= {0, 1, 2}
        assert 2 <= np.sum(orders == 1) <= 4
        cell_bodies += np.sum(orders == 0)
    assert cell_bodies > 0


def test_tertiary_arms_of_neighbours_join_into_lines_along_the_body():
    wall = neurite_growth.grow_pvd((0.0, 1000.0), 25.0, np.random.default_rng(3))
    arms = [curve for curve, order in zip(wall.curves, wall.orders, strict=True) if order == 3]
    primary = wall.curves[0]
    for side in (-1, 1):
        own = [c for c in arms if side * (c[-1, 1] - np.interp(c[-1, 0], *primary.T)) > 0]
        covered = np.zeros(1001, bool)
        for curve in own:
            low, high = np.clip(np.sort(curve[[0, -1], 0]), 0, 1000).round().astype(int)
            covered[low : high + 1] = True
        assert 0.75 < covered[50:950].mean() < 1.0
        ends = np.array([c[-1, 1] for c in own])
        assert 25 * ends.std() < 4  # on one line, give or take some µm


def test_a_nerve_ring_crosses_the_body_near_an_end_of_the_field(monkeypatch):
    monkeypatch.setitem(neurite_growth.NERVE_RING_PROBABILITY, "touch", 1.0)
    field = np.array([0.0, 120.0, 180.0])
    for seed in range(4):
        body, wall = neurite_growth.random_worm(
            "touch", field, np.random.default_rng(seed), radius_um=(20.0, 25.0), largest_angle=0.3
        )
        around = [c for c, order in zip(wall.curves, wall.orders, strict=True) if order == 1 and np.ptp(c[:, 1]) > 1.7]
        assert 2 <= len(around) <= 4
        middle = np.mean([c[:, 0].mean() for c in around])
        assert -0.5 * field[2] - 25 < middle < -0.5 * field[2] + 45
        radius = body.radius_at(np.array([middle - 30, middle, middle + 150]))
        assert 0 < radius[0] < radius[1] < 0.95 * radius[2]  # tapers towards the ring and on
        assert all(c[:, 0].min() > body.tip_um for c in wall.curves[:2])


def test_a_field_with_no_room_has_no_nerve_ring(monkeypatch):
    monkeypatch.setitem(neurite_growth.NERVE_RING_PROBABILITY, "pvd", 1.0)
    body, _ = neurite_growth.random_worm(
        "pvd", np.array([0.0, 16.0, 20.0]), np.random.default_rng(0), radius_um=(20.0, 25.0), largest_angle=0.3
    )
    assert body.tip_um == -np.inf


@pytest.mark.parametrize("kind", ["pvd", "touch"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 2, 3), (2, 1, 40), (1, 50, 1)])
def test_the_smallest_fields_hold_a_worm(kind, shape):
    truth = neurite(kind=kind, shape=shape, frames=2, seed=2)
    assert np.isfinite(truth["clean"]["F"].values).all()
    assert truth["recording"]["F"].shape == truth["labels"]["labels"].shape == (2, *shape)
    assert np.isfinite(truth["skeleton"]["position"].values).all()


@pytest.mark.parametrize("frames_per_chunk", [1, 3])
def test_chunking_changes_no_bit_of_a_worm_that_moves_far(frames_per_chunk):
    options = SMALL | {"motion_um": 5.0, "rate_hz": 0.1}
    expected, chunked = (neurite(**options, frames_per_chunk=n) for n in (5, frames_per_chunk))
    assert np.ptp(expected["skeleton"]["drift"].values) > 5
    for node, variable in (("recording", "F"), ("clean", "F"), ("labels", "labels")):
        np.testing.assert_array_equal(chunked[node][variable].values, expected[node][variable].values)


def test_a_worm_that_does_not_move_is_the_same_in_every_frame():
    truth = neurite(**(SMALL | {"motion_um": 0}), bleaching=0)
    assert not truth["skeleton"]["drift"].values.any()
    for values in (truth["clean"]["F"].values, truth["labels"]["labels"].values):
        np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))


def test_points_far_outside_the_field_give_no_light_and_change_none():
    near = straight((2, 4, 3), (2, 9, 15))
    far = straight((2, 60, 3), (2, 90, 15))
    both = neurites.sample(
        [np.array([(2, 4, 3), (2, 9, 15)], float), np.array([(2, 60, 3), (2, 90, 15)], float)],
        [1, 1],
        [0, 0],
        [0.6, 0.6],
        0.2,
        None,
    )
    shape, voxel = (5, 40, 60), (1, 0.4, 0.4)
    assert not image(far, shape, voxel).any()
    np.testing.assert_allclose(image(both, shape, voxel), image(near, shape, voxel), atol=1e-6)


def test_the_glow_of_a_body_moves_with_it():
    voxel = np.array([1.0, 0.5, 0.5])
    tube = Tube((0.0, 20.0, 25.0), 0.3, 9.0, 4.0, bend_um=3.0, tip_um=-20.0)
    moved = replace(tube, centre=(0.0, 20.0 + 3 * 0.5, 25.0 + 7 * 0.5))
    still, shifted = (body.glow((90, 110), voxel, np.random.default_rng(4)) for body in (tube, moved))
    np.testing.assert_allclose(shifted[3:, 7:], still[:-3, :-7], atol=2e-3)
    inside = still[35:45, 45:60]
    assert inside.std() > 0.02  # patches and texture
    assert still[:5].max() < 0.01


def test_planes_show_the_near_half_of_the_wall_and_a_plane_movie_all_in_its_plane():
    deep = neurite(kind="pvd", shape=(40, 60, 90), seed=2)["skeleton"]["position"].values
    assert np.ptp(deep[:, 0]) > 5
    assert not neurite(shape=(1, 60, 90))["skeleton"]["position"].sel(space="z").values.any()
    assert not neurite(shape=(1, 60, 90), frames=4)["skeleton"]["drift"].sel(space="z").values.any()


def test_a_tube_places_points_where_its_coordinates_find_them():
    bent = Tube((3.0, 30.0, 40.0), 0.4, 12.0, 6.0, bend_um=9.0, bend_length_um=300.0, bend_phase=1.0)
    along, across = bent.coordinates((150, 200), np.array([1.0, 0.4, 0.4]))
    for y, x in ((75, 100), (45, 80), (125, 140)):
        place = bent.place(along[y, x], across[y, x], np.zeros(()))
        np.testing.assert_allclose(place, (3.0, 0.4 * y, 0.4 * x), atol=0.1)
        assert (abs(across[y, x]) > 5) == (y != 75)
    facing, edge = bent.on_wall(np.zeros(2), np.array([0.0, np.pi / 2]))
    np.testing.assert_allclose(facing, (3.0 - 6.0, 30.0, 40.0), atol=1e-9)
    assert np.linalg.norm(edge - (3.0, 30.0, 40.0)) == pytest.approx(12.0)
    ended = Tube((3.0, 30.0, 40.0), 0.0, 12.0, 6.0, tip_um=-10.0)
    assert ended.radius_at(np.array([-20.0, -10.0])).tolist() == [0.0, 0.0]
    assert ended.radius_at(np.array([500.0])) == pytest.approx(12.0, rel=1e-3)


def test_bleaching_dims_the_worm():
    truth = neurite(
        shape=(1, 40, 60), frames=3, rate_hz=0.01, bleaching=0.5, bleaching_time_s=100.0, motion_um=0, **NOISELESS
    )
    light = (truth["clean"]["F"] - 100).sum(["z", "y", "x"]).values
    np.testing.assert_allclose(light / light[0], 0.5 + 0.5 * np.exp([0.0, -1.0, -2.0]), rtol=1e-3)


# A traced neuron: a stem of 20 µm along x that forks into arms of 10 µm along y and 5 µm along x
FORK = """# a comment
1 1 0 0 0 2.0 -1
2 1 2 0 0 2.0 1
3 3 10 0 0 0.5 2
4 3 22 0 0 0.5 3
5 3 22 10 0 0.3 4
6 3 27 0 0 0.2 4
"""


def test_a_traced_neuron_keeps_its_branches_lengths_and_widths(tmp_path):
    path = tmp_path / "fork.swc"
    path.write_text(FORK)
    skeleton = neurite(morphology=path, shape=(1, 60, 90))["skeleton"]
    table = {
        (int(order), int(parent)): float(length)
        for order, parent, length in zip(skeleton["order"], skeleton["parent"], skeleton["length_um"], strict=True)
        if order < 2
    }
    assert table == pytest.approx({(0, 0): 2.0, (1, 1): 20.0})
    arms = skeleton.to_dataset().isel(branch=skeleton["order"].values == 2)
    assert sorted(arms["length_um"].values.tolist()) == pytest.approx([5.0, 10.0])
    assert set(arms["parent"].values.tolist()) == {2}
    np.testing.assert_allclose(np.unique(skeleton["width_um"].values), [0.4, 0.6, 1.0, 4.0], rtol=1e-6)
    low, high = skeleton["position"].min("point"), skeleton["position"].max("point")
    np.testing.assert_allclose((low + high).values / 2, [0, 59 * 0.4 / 2, 89 * 0.4 / 2], atol=1e-5)
    np.testing.assert_allclose((high - low).values, [0, 10, 27], atol=1e-5)
    from_table = neurite(morphology=np.loadtxt(path), shape=(1, 60, 90))["skeleton"]
    np.testing.assert_array_equal(from_table["position"], skeleton["position"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1 0 0 0 2\n2 1 0 0 0 2\n", r"with two or more rows of seven numbers .*, got an array of shape \(2, 6\)"),
        ("1 1 0 0 0 2 -1\n", r"with two or more rows of seven numbers"),
        ("1 1 0 0 a 2 -1\n", "as an SWC file of seven numbers a row, but"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 0 1\n", "of finite numbers with radii above 0 µm"),
        ("", r"with two or more rows of seven numbers .*, got an array of shape \(0,\)"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 1\n", "as an SWC file of seven numbers a row, but"),
        ("1 3 0 0 0 2 -1\n2.5 3 5 0 0 1 1\n", "identifiers and parents of .* as whole numbers"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 1 1.4\n", "identifiers and parents of .* as whole numbers"),
        ("1 3 0 0 0 2 -1\n1e300 3 5 0 0 1 1\n", "identifiers and parents of .* as whole numbers"),
        ("-3 3 0 0 0 2 -1\n2 3 5 0 0 1 -3\n", "as whole numbers, identifiers of 0 or more"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 1 -2\n", "among its identifiers or -1, got -2"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 nan 1\n", "of finite numbers with radii above 0 µm"),
        ("1 3 0 0 0 2 -1\n1 3 5 0 0 1 1\n", "with one row an identifier, got some of them twice"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 1 7\n", "among its identifiers, got 7, which is not"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 1 1\n3 3 5 0 0 1 4\n4 3 5 0 0 1 3\n", "expected a tree, got 2 nodes"),
        ("1 3 0 0 0 2 -1\n2 3 5 0 0 1 -1\n", "expected a tree with branches, got roots alone"),
    ],
)
def test_a_file_that_is_no_tree_is_an_error(tmp_path, text, message):
    path = tmp_path / "bad.swc"
    path.write_text(text)
    with pytest.raises(NiddlError, match=message):
        neurite(morphology=path, shape=(1, 30, 40))


def test_comments_and_marks_of_other_encodings_do_no_harm(tmp_path):
    path = tmp_path / "marked.swc"
    path.write_bytes(b"\xef\xbb\xbf# caf\xe9\n\n" + FORK.encode() + b"# \xff at the end\n")
    (tmp_path / "plain.swc").write_text(FORK)
    marked, plain = (
        neurite(morphology=tmp_path / name, shape=(1, 30, 40))["skeleton"] for name in ("marked.swc", "plain.swc")
    )
    np.testing.assert_array_equal(marked["position"], plain["position"])


def test_a_table_that_holds_no_numbers_is_an_error():
    for table in ([["a"] * 7] * 2, [[1, 2], [3]]):
        with pytest.raises(NiddlError, match="expected the table of seven numbers a row, but"):
            neurite(morphology=table, shape=(1, 30, 40))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(NiddlError, match=r"expected .*nothing.swc as an SWC file"):
        neurite(morphology=tmp_path / "nothing.swc", shape=(1, 30, 40))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"kind": "AVA"}, "expected kind as one of 'pvd', 'touch', got 'AVA'"),
        ({"kind": ["pvd"]}, "expected kind as one of 'pvd', 'touch'"),
        ({"shape": (50, 70)}, r"expected shape as three sizes \(z, y, x\), got \(50, 70\)"),
        ({"photons": 0}, "expected photons as a finite number above 0, got 0"),
        ({"high_laser": 0}, "expected high_laser as a finite number above 0, got 0"),
        ({"frames": 0}, "expected frames as a whole number of 1 or more, got 0"),
        ({"rate_hz": 0}, "expected rate_hz as a finite number above 0, got 0"),
        ({"bleaching": 1.2}, "expected bleaching as a finite number of 0 or more and at most 1, got 1.2"),
        ({"motion_um": -1}, "expected motion_um as a finite number of 0 or more, got -1"),
        ({"haze": float("inf")}, "expected haze as a finite number of 0 or more, got inf"),
        ({"psf_sigma_um": 0.5}, r"expected psf_sigma_um as three numbers \(z, y, x\) in µm, got 0.5"),
        ({"psf_sigma_um": (1, 0, 1)}, "expected psf_sigma_um as a finite number above 0, got 0"),
        ({"seed": -1}, "expected seed as a whole number of 0 or more, got -1"),
        ({"frames_per_chunk": 0}, "expected frames_per_chunk as a whole number of 1 or more, got 0"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        neurite(**(SMALL | option))
