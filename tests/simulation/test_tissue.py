"""Tissue against brute force, other libraries and formulas."""

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.distance import pdist, squareform

from niddl_xr.simulation._kernels import tissue, tissue_scene


def round_soma(radius: float, nucleus_radius: float, depth: float = 0.0, nucleus_light: float = 0.1) -> tissue.Somata:
    """One soma at (depth, 12, 14) µm without bulges, dendrites or organelles, its nucleus in the middle."""
    centre = np.array([[depth, 12.0, 14.0]])
    flat = np.zeros((1, tissue.WAVES, 3))
    flat[..., 2] = np.pi / 2
    angles, lengths, light = np.zeros((3, 1, tissue.STUBS))
    return tissue.Somata(
        centres=centre,
        radii=np.array([radius]),
        bulges=np.zeros((1, 3)),
        bulge_angles=np.zeros((1, 3)),
        nucleus_centres=centre,
        nucleus_radii=np.array([nucleus_radius]),
        nucleus_light=np.array([nucleus_light]),
        stub_angles=angles,
        stub_lengths=lengths,
        stub_light=light,
        waves=flat,
    )


@pytest.mark.parametrize("depth", [0.0, -3.0, 5.5])
def test_a_soma_is_a_shell_seen_through_the_point_spread_function(depth):
    # The shell in voxels of a quarter of a micrometre, filtered in three dims.
    z, y, x = np.ogrid[-16:16:0.25, 0:24:0.25, 0:28:0.25]
    squared = z**2 + (y - 12) ** 2 + (x - 14) ** 2
    ball, nucleus = (squared < 36).astype(float), (squared < 16).astype(float)
    blur = np.array([tissue.AXIAL_SIGMA_UM, tissue.LATERAL_SIGMA_UM, tissue.LATERAL_SIGMA_UM]) / 0.25
    plane = round(4 * (16 - depth))
    expected_inside = gaussian_filter(ball, blur)[plane]
    expected_light = gaussian_filter(ball - 0.9 * nucleus, blur)[plane]
    inside, light = tissue.footprint(
        round_soma(6.0, 4.0, depth), 0, np.zeros(1), np.arange(0, 24, 0.25), np.arange(0, 28, 0.25)
    )
    assert inside.shape == light.shape == (1, 96, 112)
    np.testing.assert_allclose(inside[0], expected_inside, atol=0.04)
    np.testing.assert_allclose(light[0], expected_light, atol=0.05)


def test_share_inside_adds_up_to_the_height_of_the_body():
    depths = np.arange(-25, 25, 0.05)
    total = sum(tissue.share_inside(np.array([0.0, 0.6, 1.3]), 7.0, depth) for depth in depths) * 0.05
    np.testing.assert_allclose(total, [14.0, 2 * 7 * 0.8, 0.0], atol=1e-6)


def test_dendrites_leave_the_soma_where_they_are_told():
    somata = round_soma(5.0, 3.0)
    somata.stub_angles[0, 0], somata.stub_lengths[0, 0], somata.stub_light[0, 0] = 0.0, 8.0, 0.8
    _, light = tissue.footprint(somata, 0, np.zeros(1), np.arange(0, 24, 0.5), np.arange(0, 28, 0.5))
    right, left, up = light[0, 24, 2 * 21], light[0, 24, 2 * 7], light[0, 2 * 5, 28]
    # 7 of 13 µm along a dendrite, blurred across from sigma 0.8 to hypot(0.8, 0.5) µm.
    assert right == pytest.approx(0.8 * (1 - 7 / 13) * 0.8 / np.hypot(0.8, 0.5), rel=0.05)
    assert max(left, up) < 0.01


def test_radii_keep_their_range_and_do_not_overlap():
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid([0, 11.1], [0, 12.0, 30], [0, 11.5, 23.5, 40]), -1).reshape(-1, 3)
    radii = tissue.separate_radii(centres, 4.0, 7.0, rng)
    assert np.all((radii >= 4) & (radii <= 7))
    assert np.all(pdist(centres) >= (squareform_sum(radii)) - 1e-9)


def squareform_sum(radii: np.ndarray) -> np.ndarray:
    sums = radii[:, None] + radii
    np.fill_diagonal(sums, 0)
    return squareform(sums)


def test_drawn_somata_keep_within_their_reach_and_their_nuclei_inside():
    rng = np.random.default_rng(3)
    somata = tissue.draw_somata(np.full((7, 3), 40.0), rng.uniform(5, 8, 7), rng)
    aside = np.linalg.norm(somata.nucleus_centres - somata.centres, axis=1)
    assert np.all(aside + somata.nucleus_radii < somata.radii)
    axis = np.arange(0, 80.0, 1.0)
    for neuron in range(7):
        _, light = tissue.footprint(somata, neuron, np.array([40.0]), axis, axis + 0.3)
        far = np.maximum(np.abs(axis - 40)[:, None], np.abs(axis + 0.3 - 40)) > somata.reach_um(neuron)
        assert light.max() > 0.5
        assert light[0][far].max() < 0.02


def test_lines_are_a_cubic_spline_of_the_moving_plane():
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(23 + 2 * 7, 31 + 2 * 6)).astype(np.float32)
    shifts = rng.uniform(-4, 4, (23, 2))
    shifts[3] = (2.0, -3.0)
    y = np.arange(23)[:, None] + 7 - shifts[:, :1] + np.zeros(31)
    x = np.arange(31) + 6 - shifts[:, 1:]
    expected = map_coordinates(plane, [y, x], order=3, prefilter=False)
    np.testing.assert_allclose(tissue_scene.scan_lines(plane, shifts, 31), expected, atol=1e-5)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_bodies_lie_over_each_other_the_one_in_focus_is_named(order):
    rng = np.random.default_rng(6)
    centres = np.array([[0.0, 24.0, 26.0], [5.0, 24.0, 32.0]])[list(order)]  # the second is off the plane
    somata = tissue.draw_somata(centres, np.array([6.0, 6.0]), rng)
    field = tissue_scene.Field((1, 60, 70), np.array([1.0, 0.8, 0.8]), (2, 3))
    drawn = tissue_scene.anatomy(field, somata, np.ones((60, 70), np.float32), (5.0, 3.0), 0.0, rng, rng)
    labels = drawn.scene.labels[0, 2:-2, 3:-3]
    in_focus, off = order.index(0) + 1, order.index(1) + 1
    assert labels[30, round(29.5 / 0.8)] == in_focus  # 3.5 µm from its centre, 2.5 µm from the other's
    assert labels[30, round(35.0 / 0.8)] == off
    assert labels[30, round(60 / 0.8) - 10] == 0


def test_labels_follow_whole_pixels():
    plane = np.arange(15 * 17, dtype=np.uint16).reshape(15, 17)
    shifts = np.tile([1.3, -1.6], (9, 1))
    np.testing.assert_array_equal(tissue_scene.scan_labels(plane, shifts, 11), plane[2:11, 5:16])


def test_spline_weights_are_the_basis_functions():
    fraction = np.array([0.0, 0.2, 0.9])
    basis = BSpline.basis_element(np.arange(-2, 3))
    expected = [[float(basis(f - tap)) if abs(f - tap) < 2 else 0.0 for tap in (-1, 0, 1, 2)] for f in fraction]
    np.testing.assert_allclose(tissue_scene.spline_weights(fraction), expected, atol=1e-12)


@pytest.mark.parametrize(("rise", "decay", "interval"), [(0.05, 0.4, 1 / 30), (0.3, 1.0, 0.25)])
def test_indicator_response_is_a_convolution(rise, decay, interval):
    events = np.random.default_rng(2).poisson(0.1, (90, 3))

    def response(t: np.ndarray) -> np.ndarray:
        return (1 - np.exp(-t / rise)) * np.exp(-t / decay)

    peak = response(np.linspace(0, 5 * decay, 100_001)).max()
    kernel = response((np.arange(90) + 0.5) * interval) / peak
    expected = np.stack([np.convolve(train, kernel)[:90] for train in events.T], axis=1)
    np.testing.assert_allclose(tissue.indicator_response(events, rise, decay, interval), expected, atol=1e-6)


def test_motion_has_its_size_and_time_constant(monkeypatch):
    monkeypatch.setattr(tissue, "JUMP_RATE_HZ", 0.0)
    path = tissue.brain_motion(400_000, 0.7, 1.0, 0.01, np.random.default_rng(0))
    assert path.std() == pytest.approx(0.7, rel=0.05)
    # An Ornstein-Uhlenbeck process smoothed with tau has the correlation (T exp(-t/T) - tau exp(-t/tau)) / (T - tau).
    tau = tissue.SMOOTH_S
    for lag in (10, 100):
        expected = (np.exp(-lag / 100) - tau * np.exp(-lag / 100 / tau)) / (1 - tau)
        assert (path[:-lag] * path[lag:]).mean() / path.var() == pytest.approx(expected, abs=0.03)


def test_jumps_come_on_top():
    rate = tissue.JUMP_RATE_HZ
    path = tissue.brain_motion(100_000, 0.5, 1.0, 0.05, np.random.default_rng(0))
    far = np.linalg.norm(path, axis=1) > 2.5  # 5 SD: almost never without a jump
    starts = np.count_nonzero(far[1:] & ~far[:-1])
    # Mean 4 SD, exponential: exp(-5 / 4) of the jumps reach so far by themselves; the rest is their time at the top.
    assert 0.5 * rate * 5000 * np.exp(-5 / 4) < starts < 2 * rate * 5000 * np.exp(-5 / 4)


def test_bumps_share_every_place_among_them():
    weights = tissue.partition(np.array([-30.0, 0.0, 17.0, 250.0, 400.0]), 260.0, 100.0)
    assert weights.shape == (6, 5)  # nodes at -100, 0, …, 400
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert weights[:, 1].argmax() == 1
    assert weights[0, 1] == pytest.approx(weights[2, 1])


def test_neuropil_is_light_of_mean_1_whose_parts_lie_together():
    texture = tissue.neuropil_texture((2, 90, 101), np.array([5.0, 1.0, 0.9]), np.random.default_rng(4))
    assert texture.dtype == np.float32
    assert texture.min() > 0
    assert texture.mean() == pytest.approx(1, rel=1e-4)
    change = texture - 1
    near, far = (float((change[..., :-k] * change[..., k:]).mean() / change.var()) for k in (1, 12))
    assert near > 0.7 > 0.4 > far


def test_curves_have_their_step_and_stiffness():
    points = tissue.wander(np.zeros((4000, 2)), np.zeros(4000), 41, 0.5, 20.0, np.random.default_rng(5))
    steps = np.diff(points, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=-1), 0.5)
    # The direction's cosine falls as exp(-way / stiffness): worm-like chain in the plane, 40 steps of 0.5 of 20 µm.
    assert (steps[0] * steps[39]).sum(-1).mean() / 0.25 == pytest.approx(np.exp(-19.5 / 20), abs=0.04)


def test_vessels_are_dark_and_many_are_darker():
    size, voxel = (80, 120), np.array([0.8, 1.1])
    none, few, many = (tissue.vessel_shadow(size, voxel, count, np.random.default_rng(0)) for count in (0, 2, 9))
    np.testing.assert_array_equal(none, np.ones(size))
    assert 1 > few.mean() > many.mean() > 0
    assert few.max() == pytest.approx(1, abs=1e-3)
    assert few.min() >= (1 - tissue.VESSEL_SHADOW) ** 2


def test_vignette_loses_its_share_in_the_corners():
    light = tissue.vignette((41, 61), 0.3)
    assert light[20, 30] == pytest.approx(1)
    # A parabola: pixel centres are 40 of 41 and 60 of 61 of the way to the corner of the field.
    corner = 1 - 0.3 * ((40 / 41) ** 2 + (60 / 61) ** 2) / 2
    np.testing.assert_allclose(light[[0, 0, -1, -1], [0, -1, 0, -1]], corner, rtol=1e-6)
    np.testing.assert_array_equal(tissue.vignette((1, 1), 0.3), [[1]])


def test_vignette_that_takes_all_leaves_every_pixel_some_light():
    assert tissue.vignette((2, 3), 1.0).min() > 0


def test_the_neuropil_follows_the_neurons_near_it_and_not_those_far_away():
    near = np.zeros((2, 3, 4))
    near[0, 0, 1] = near[1, 2, 3] = 1.0
    dff = np.zeros((9, 2))
    dff[5:, 0] = 2.0
    still, following = (tissue.neuropil_level(d, near, 0.1, np.random.default_rng(0)) for d in (0 * dff, dff))
    expected = np.zeros((9, 3, 4))
    expected[5:, 0, 1] = 0.5 * 2 / 1.001
    np.testing.assert_allclose(following - still, expected, atol=1e-12)


def test_events_have_the_height_and_the_spread_asked_for():
    # So slow a sampling and so rare events that each stands alone: half a frame after it the response is known.
    events, dff = tissue.indicator_events(3000, 400, 2.0, (0.01, 0.7), (1e-3, 2.0), np.random.default_rng(3))
    alone = (events[1:-1] == 1) & (np.cumsum(events, axis=0)[1:-1] == 1)
    heights = [dff[1:-1, n][alone[:, n]][0] for n in range(400) if alone[:, n].any() and dff[0, n] < 1e-6]
    assert len(heights) > 200
    assert np.median(heights) == pytest.approx(0.7 * np.exp(-0.5), rel=0.08)
    assert np.log(heights).std() == pytest.approx(0.4, rel=0.12)
    assert events.mean() / 2.0 == pytest.approx(0.01, rel=0.05)
    assert np.log(events.mean(axis=0)[events.mean(axis=0) > 0]).std() == pytest.approx(1.3, abs=0.15)
