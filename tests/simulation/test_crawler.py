"""What is drawn of a crawling worm, against geometry and the formulas written out."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from niddl_xr.simulation._kernels import crawler, crawler_body, posture

ALONG = np.linspace(0, 1, 100)


def bent(curvature: np.ndarray | float, place: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    points, angles = posture.centerline(np.broadcast_to(curvature, (100,)), 1000.0)
    return points - points.mean(axis=0) + place, angles


WAVE = bent(8 * np.cos(2 * np.pi * ALONG / 0.65), (300.0, 520.0))
LOOP = bent(8.0, (150.0, 160.0))  # 8 rad: the tail lies over the head


def test_radius_is_that_of_a_worm():
    radius = crawler_body.radius_um(ALONG, 1000.0)
    assert radius.max() == pytest.approx(32, rel=0.02)
    assert radius[0] == radius[-1] * 0
    assert 0.35 < ALONG[radius.argmax()] < 0.6
    np.testing.assert_allclose(crawler_body.radius_um(ALONG, 500.0), radius / 2)


def test_mask_is_the_polygon_of_the_outline():
    points, angles = WAVE
    shape, pixel = (240, 420), np.array([2.5, 2.4])
    mask = crawler_body.body_mask(shape, points, angles, 1000.0, pixel)
    radius = crawler_body.radius_um(ALONG, 1000.0)[:, None]
    right = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    outline = np.concatenate([points + radius * right, (points - radius * right)[::-1]]) / pixel
    np.testing.assert_array_equal(mask, polygon2mask(shape, outline))
    # Area of a band: the integral of its width along the line, however it bends.
    area = np.trapezoid(2 * radius[:, 0], 1000 * ALONG)
    assert mask.sum() * 2.5 * 2.4 == pytest.approx(area, rel=0.01)


def test_a_body_that_crosses_itself_has_no_hole_there():
    points, angles = LOOP
    mask = crawler_body.body_mask((300, 320), points, angles, 1000.0, np.ones(2))
    for place in points[5:-5:5]:
        assert mask[tuple(np.rint(place).astype(int))]


def test_mask_is_cut_off_at_the_edge_of_the_field():
    points, angles = WAVE
    whole = crawler_body.body_mask((240, 420), points, angles, 1000.0, np.array([2.5, 2.5]))
    part = crawler_body.body_mask((240, 180), points, angles, 1000.0, np.array([2.5, 2.5]))
    np.testing.assert_array_equal(part, whole[:, :180])
    assert not crawler_body.body_mask((30, 40), points + 5000, angles, 1000.0, np.ones(2)).any()
    shifted = crawler_body.body_mask((240, 300), points - (0.0, 300.0), angles, 1000.0, np.array([2.5, 2.5]))
    np.testing.assert_array_equal(shifted, whole[:, 120:])


@pytest.mark.parametrize("place", [(61.3, 80.2), (0.7, 119.0)])
def test_diffuse_sources_are_gaussians(place):
    shape, pixel, sigma = (60, 110), np.array([2.0, 1.5]), 5.0
    plane = crawler_body.diffuse(shape, pixel, sigma, 4.0).render(np.array([place]), np.array([1000.0]))
    y, x = (np.arange(size) * step - at for size, step, at in zip(shape, pixel, place, strict=True))
    expected = 1000 / (2 * np.pi * sigma**2) * np.exp(-0.5 * (y[:, None] ** 2 + x**2) / sigma**2)
    np.testing.assert_allclose(plane, expected, atol=0.07 * expected.max())
    assert plane.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_sources_far_outside_leave_nothing():
    assert not crawler_body.diffuse((20, 30), np.ones(2), 4.0, 4.0).render(np.array([[500.0, 3.0]]), np.ones(1)).any()


def test_a_texture_keeps_its_light_per_area_on_a_bent_body():
    points, angles = WAVE
    texture = crawler_body.glow(1000.0, np.random.default_rng(0))
    flat = crawler_body.Texture(texture.along, texture.across, np.full_like(texture.values, 3.0), 1000.0)
    places, amounts = flat.on_plane(points, angles)
    area = np.trapezoid(2 * crawler_body.radius_um(ALONG, 1000.0), 1000 * ALONG)
    assert amounts.sum() == pytest.approx(3 * area, rel=0.01)
    shape, pixel = (300, 640), np.array([2.0, 1.6])
    plane = crawler_body.diffuse(shape, pixel, 4.5, 4.0).render(places, amounts)
    for place in points[25:75:5]:
        assert plane[tuple(np.rint(place / pixel).astype(int))] == pytest.approx(3, rel=0.05)


def test_places_on_the_body_lie_to_its_right_where_across_is_positive():
    points, angles = bent(0.0, (50.0, 500.0))  # runs along x: right is down, larger y
    along, across = np.array([0.25, 0.5]), np.array([0.8, -0.5])
    place, angle = crawler_body.on_body(points[None], angles[None], along, across, 1000.0)
    radius = crawler_body.radius_um(along, 1000.0)
    np.testing.assert_allclose(place[0, :, 0], 50 + radius * [0.8, -0.5])
    np.testing.assert_allclose(place[0, :, 1], [250, 500], atol=1e-9)
    np.testing.assert_allclose(angle, 0)


def test_covariances_turn_with_the_body():
    angle = np.array([0.0, 0.7])
    found = crawler.spread(np.array([[1.0, 4.0], [2.0, 9.0]]), angle)
    for covariance, turn, (across, along) in zip(found, angle, [(1.0, 4.0), (2.0, 9.0)], strict=True):
        right, ahead = np.array([0, np.cos(turn), -np.sin(turn)]), np.array([0, np.sin(turn), np.cos(turn)])
        np.testing.assert_allclose(covariance @ ahead, along * ahead, atol=1e-12)
        np.testing.assert_allclose(covariance @ right, across * right, atol=1e-12)


def test_the_inside_of_a_bend_holds_less_light():
    points, angles = bent(6.0, (0.0, 0.0))  # turns to the right, so that what lies on the right is crowded
    texture = crawler_body.glow(1000.0, np.random.default_rng(0))
    right = np.broadcast_to(texture.across > 0, texture.values.shape).astype(float)
    amounts = crawler_body.Texture(texture.along, texture.across, right, 1000.0).on_plane(points, angles)[1]
    radius = crawler_body.radius_um(ALONG, 1000.0)
    expected = np.trapezoid(radius - 0.006 * radius**2 / 2, 1000 * ALONG)  # of (1 - curvature x distance)
    assert amounts.sum() == pytest.approx(expected, rel=0.01)


def scene_of(**light: float) -> crawler.Scene:
    dark = {"glow_photons": 0.0, "neurite_photons": 0.0, "haze": 0.0, "nir_voxel_um": 5.0, "nir_photons": 100.0}
    return crawler.draw_scene(
        (1, 90, 500),
        np.array([1.0, 1.5, 2.0]),
        1000.0,
        1,
        np.array([[2.0, 9.0]]),
        constant_photons=np.full((90, 500), 0.25),
        rng=np.random.default_rng(4),
        **(dark | light),
    )


def test_a_cell_is_longest_along_the_body():
    scene, angle = scene_of(), 0.6
    ahead = np.array([0, np.sin(angle), np.cos(angle)])
    right = np.array([0, np.cos(angle), -np.sin(angle)])
    covariance = scene.still(np.array([angle]))[0] - np.diag([1.0, 1.5**2, 2.0**2]) / 12
    assert ahead @ covariance @ ahead == pytest.approx(9 + 1)  # the microscope blurs by 1 µm
    assert right @ covariance @ right == pytest.approx(2 + 1)


def drawn(scene: crawler.Scene, cell: tuple[float, float], peak: float, bleach: float) -> np.ndarray:
    points, angles = bent(0.0, (60.0, 500.0))
    return scene.photons(points, angles, np.array([cell]), np.array([0.5]), np.zeros((1, 2)), np.array([peak]), bleach)[
        0
    ]


def test_a_frame_is_its_formula():
    plane = drawn(scene_of(), (61.0, 440.0), 80.0, 1.0)
    gap = np.stack(np.meshgrid(np.arange(90) * 1.5 - 61, np.arange(500) * 2.0 - 440, indexing="ij"), -1)
    covariance = crawler.spread(np.array([[3.0, 10.0]]), np.array([0.5]))[0, 1:, 1:] + np.diag([1.5**2, 2.0**2]) / 12
    distance = np.einsum("...i,ij,...j", gap, np.linalg.inv(covariance), gap)
    np.testing.assert_allclose(plane, 0.25 + 80 * np.exp(-0.5 * distance), atol=80 * 4e-4)


def test_neurites_are_a_line_without_ripples_that_bleaches():
    scene = scene_of(neurite_photons=20.0)
    cord = slice(150, 420)  # of the cord at 0.8 of the radius on the right, y downwards
    along = np.arange(500)[cord] * 2.0 / 1000
    row = 60 + 0.8 * crawler_body.radius_um(along, 1000.0)
    fresh, faded = (drawn(scene, (-900.0, 0.0), 0.0, bleach)[:, cord] - 0.25 for bleach in (1.0, 0.5))
    profile = fresh[np.rint(row / 1.5).astype(int), np.arange(270)]
    away = np.rint(row / 1.5) * 1.5 - row
    ridge = profile / np.exp(-0.5 * (away / scene.cord_sigma_um) ** 2)
    uneven = np.interp(along, scene.cord_along, scene.cord_photons) * np.sqrt(2 * np.pi)
    np.testing.assert_allclose(ridge, uneven, rtol=0.03)
    assert uneven.mean() == pytest.approx(20, rel=0.2)
    np.testing.assert_allclose(faded, fresh / 2, atol=1e-4)


def test_the_shadow_is_dark_and_the_rest_is_not():
    points, angles = bent(0.0, (60.0, 500.0))
    plane = scene_of().transmitted(points, angles)
    assert plane.shape == (1, 27, 200)
    assert plane[0, 12, 60:140].max() < 70
    assert plane[0, 0].min() > 85
