"""Rendering against the formulas written out voxel by voxel."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist

from niddl_xr.simulation._kernels import geometry, rendering
from niddl_xr.simulation._kernels.scene import Scene, apparent

VOXEL = np.array([1.2, 0.5, 0.4])
SHAPE = (9, 22, 31)
TILTED = np.array([[2.0, 0.4, 0.0], [0.4, 1.0, -0.3], [0.0, -0.3, 0.8]])


def written_out(centre: np.ndarray, covariance: np.ndarray, peak: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(n) * v for n, v in zip(SHAPE, VOXEL, strict=True)), indexing="ij"), -1)
    gaps = grid - centre
    return peak * np.exp(-0.5 * np.einsum("...i,ij,...j", gaps, np.linalg.inv(covariance), gaps))


@pytest.mark.parametrize("centre", [(4.2, 5.3, 6.1), (0.0, 0.2, 12.0), (-2.5, 5.0, 6.0)])
def test_a_tilted_gaussian_is_its_formula(centre):
    volume = np.full(SHAPE, 3.0, np.float32)
    rendering.add_gaussians(volume, np.array([centre]), TILTED[None], np.array([50.0]), VOXEL)
    # Cut off at 4 sigma per axis, where the Gaussian is at most exp(-8) = 3.4e-4 of its peak.
    np.testing.assert_allclose(volume - 3, written_out(np.array(centre), TILTED, 50.0), atol=50 * 3.4e-4)


def test_gaussians_outside_the_volume_leave_it_alone():
    volume = np.zeros(SHAPE, np.float32)
    rendering.add_gaussians(volume, np.array([[4.0, -30.0, 6.0]]), TILTED[None], np.array([50.0]), VOXEL)
    assert not volume.any()


def test_broad_gaussians_are_their_formula():
    centres, sigmas = np.array([[4.0, 5.0, 6.0], [-3.0, 12.0, 1.0]]), np.array([[2.0, 3.0, 4.0], [5.0, 2.0, 1.5]])
    expected = sum(
        written_out(centre, np.diag(sigma**2), peak)
        for centre, sigma, peak in zip(centres, sigmas, (7, 2), strict=True)
    )
    volume = rendering.broad_gaussians(SHAPE, centres, sigmas, np.array([7.0, 2.0]), VOXEL)
    np.testing.assert_allclose(volume, expected, rtol=1e-4, atol=1e-5)


def test_haze_is_the_blurred_signal():
    shape, voxel, strength = (60, 100, 104), np.array([0.7, 0.8, 0.75]), 1.5
    centre, covariance = np.array([[20.3, 40.0, 39.0]]), np.diag([4.0, 2.0, 3.0])[None]
    signal = np.zeros(shape, np.float32)
    rendering.add_gaussians(signal, centre, covariance, np.array([100.0]), voxel)
    sigmas, peaks = rendering.haze_of(covariance, np.array([100.0]), strength)
    haze = rendering.broad_gaussians(shape, centre, sigmas, peaks, voxel)
    blurred = strength * gaussian_filter(signal, np.array(rendering.HAZE_SIGMA_UM) / voxel, mode="constant", truncate=6)
    np.testing.assert_allclose(haze, blurred, atol=0.01 * blurred.max())


def test_hard_core_points_keep_their_distance_and_stop():
    rng = np.random.default_rng(0)
    points = geometry.hard_core_points(lambda n: rng.uniform(0, 20, (n, 3)), 60, 3.0)
    assert len(points) == 60
    assert pdist(points).min() >= 3.0
    assert len(geometry.hard_core_points(lambda n: rng.uniform(0, 2, (n, 3)), 60, 3.0, rounds=2)) < 5


def test_partners_mirror_one_another_and_everyone_keeps_the_distance():
    rng = np.random.default_rng(4)
    head = geometry.Head((14.0, 40.0, 60.0), 100.0, 20.0, 13.0, 0.3)
    points, partners = geometry.paired_points(
        lambda n: geometry.points_in_head(head, n, rng),
        lambda p: geometry.other_side(head, p, rng),
        61,
        3.0,
        0.6,
        rng,
    )
    assert pdist(points).min() >= 3.0
    paired = np.flatnonzero(partners >= 0)
    assert 0.35 < len(paired) / 61 < 0.75
    np.testing.assert_array_equal(partners[partners[paired]], paired)
    mirrored = points[paired] * (-1, 1, 1) + (28, 0, 0)  # depth is not turned by the head's angle
    gaps = np.linalg.norm(points[partners[paired]] - mirrored, axis=1)
    assert np.sqrt(np.mean(gaps**2)) == pytest.approx(0.7 * np.sqrt(3), rel=0.3)


def test_nuclei_lie_in_the_tube_around_the_pharynx_in_ganglia_and_not_in_the_nerve_ring():
    head = geometry.Head((14.0, 40.0, 60.0), 100.0, 20.0, 13.0, 0.3)
    depth, up, x = head.to_local(geometry.points_in_head(head, 20_000, np.random.default_rng(1))).T
    along = x / 100 + 0.5
    assert along.min() > 0
    assert along.max() < 1
    radius = np.hypot(depth / 13, up / 20) / (0.5 + 0.5 * along)  # the tube is half as wide at the nose
    assert radius.min() == pytest.approx(0.4, abs=0.01)
    assert radius.max() == pytest.approx(1.0, abs=0.01)
    assert (radius**2).mean() == pytest.approx((0.4**2 + 1) / 2, abs=0.01)  # evenly over the ring's area
    counts = np.histogram(along, np.arange(0, 1.01, 0.05))[0]
    assert not np.any((along > 0.405) & (along < 0.455))
    assert counts[5:7].sum() > 1.5 * counts[0:2].sum()  # the ganglion at 0.30, and the nose


def test_pairs_have_their_share_where_there_is_room():
    rng = np.random.default_rng(4)
    head = geometry.Head((140.0, 400.0, 600.0), 1000.0, 200.0, 130.0, 0.3)
    _, partners = geometry.paired_points(
        lambda n: geometry.points_in_head(head, n, rng),
        lambda p: geometry.other_side(head, p, rng),
        600,
        3.0,
        0.6,
        rng,
    )
    assert np.mean(partners >= 0) == pytest.approx(0.6, abs=0.06)


def test_a_long_narrow_field_holds_its_head():
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert geometry.head_within(np.array([0.0, 0.0, 19.6]), rng, 0.4).angle == 0
        assert abs(geometry.head_within(np.array([30.0, 10.0, 200.0]), rng, 0.4).angle) < np.arctan(10 / 110)
    angles = [geometry.head_within(np.array([30.0, 60.0, 90.0]), rng, 0.4).angle for _ in range(200)]
    assert 0.36 < np.abs(angles).max() <= 0.4


def test_partners_are_found_by_name():
    assert geometry.partners_by_name(["AVAL", "RID", "AVAR", "SMDVL", "L"]).tolist() == [2, -1, 0, -1, -1]


def test_head_coordinates_come_back():
    head = geometry.Head((4.0, 20.0, 30.0), 60.0, 12.0, 8.0, -0.7)
    points = np.random.default_rng(0).uniform(0, 50, (7, 3))
    np.testing.assert_allclose(head.from_local(head.to_local(points)), points)
    # The head's axis runs at its angle in the plane.
    np.testing.assert_allclose(
        head.from_local(np.array([0.0, 0.0, 10.0])), [4, 20 + 10 * np.sin(-0.7), 30 + 10 * np.cos(-0.7)]
    )


def test_labels_are_the_ellipsoids_of_their_formula():
    centres = np.array([[4.0, 5.0, 6.0], [4.5, 6.0, 7.5]])
    covariances = np.stack([TILTED, 0.5 * TILTED])
    inside = np.stack([written_out(c, k, 1.0) for c, k in zip(centres, covariances, strict=True)])
    limit = np.exp(-0.5 / rendering.SIGMA_PER_RADIUS**2)
    expected = np.where(inside.max(axis=0) > limit, inside.argmax(axis=0) + 1, 0)
    labels = rendering.label_ellipsoids(SHAPE, centres, covariances, VOXEL)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, expected)
    assert {1, 2} <= set(np.unique(labels).tolist())


def test_a_scanned_nucleus_is_that_of_an_instant_seen_plane_by_plane():
    """A moving Gaussian, each plane at its own time, written out, against the sheared one of the scene."""
    velocity, delay_s, exposure_s = np.array([0.0, 8.0, -12.0]), 0.05, 0.0
    scene = Scene(
        shape=SHAPE,
        voxel_um=VOXEL,
        nuclei=TILTED[None],
        psf_sigma_um=np.array([0.6, 0.4, 0.5]),
        rest_photons=np.array([40.0]),
        haze=0.0,
        body_photons=np.zeros(0),
        stray_photons=np.zeros(SHAPE[1:]),
        plane_delay_s=delay_s,
        exposure_s=exposure_s,
    )
    start = np.array([4.0, 3.0, 7.0])
    where = apparent(start[None, None], velocity[None, None], delay_s, VOXEL[0])[0]
    volume = scene.photons(where, velocity[None], np.ones(1), 1.0)
    seen = TILTED + np.diag([0.36, 0.16, 0.25])  # the PSF acts on what each plane sees
    planes = [written_out(start + velocity * delay_s * z, seen, 40.0)[z] for z in range(SHAPE[0])]
    np.testing.assert_allclose(volume, np.stack(planes), atol=40 * 3.4e-4)
    bodies = np.stack([written_out(start + velocity * delay_s * z, TILTED, 1.0)[z] for z in range(SHAPE[0])])
    np.testing.assert_array_equal(scene.labels(where, velocity[None]), bodies > np.exp(-0.5 / 0.6**2))


def test_exposure_smears_along_the_way():
    moving = np.array([[0.0, 0.0, 30.0]])
    seen = Scene(
        shape=SHAPE,
        voxel_um=VOXEL,
        nuclei=TILTED[None],
        psf_sigma_um=np.zeros(3),
        rest_photons=np.ones(1),
        haze=0.0,
        body_photons=np.zeros(0),
        stray_photons=np.zeros(SHAPE[1:]),
        plane_delay_s=0.0,
        exposure_s=0.1,
    ).seen(moving)[0]
    way = np.linspace(-1.5, 1.5, 100_001)  # 30 µm/s for 0.1 s
    expected = TILTED + np.diag([0, 0, way.var()])
    np.testing.assert_allclose(seen, expected, rtol=1e-4)


def test_smearing_takes_no_light_away():
    still = Scene(
        shape=(30, 60, 140),
        voxel_um=VOXEL,
        nuclei=TILTED[None],
        psf_sigma_um=np.array([0.6, 0.4, 0.5]),
        rest_photons=np.array([40.0]),
        haze=0.5,
        body_photons=np.zeros(0),
        stray_photons=np.zeros((60, 140)),
        plane_delay_s=0.0,
        exposure_s=0.2,
    )
    where, ones = np.array([[14.4, 15.0, 28.0]]), np.ones(1)
    at_rest, moving = (still.photons(where, np.array([[0.0, 0.0, speed]]), ones, 1.0) for speed in (0.0, 40.0))
    assert moving.sum() == pytest.approx(at_rest.sum(), rel=2e-3)
    narrow, wide = TILTED + np.diag([0.36, 0.16, 0.25]), TILTED + np.diag([0.36, 0.16, 0.25 + 64 / 12])
    bare = replace(still, haze=0.0).photons(where, np.array([[0.0, 0.0, 40.0]]), ones, 1.0)
    assert bare.max() == pytest.approx(40 * np.sqrt(np.linalg.det(narrow) / np.linalg.det(wide)), rel=1e-3)


def test_a_frame_is_the_sum_of_nucleus_haze_halo_body_and_stray_light():
    """At the voxel of a round nucleus, from the peaks of Gaussians whose variances add and whose integrals stay."""
    scene = Scene(
        shape=SHAPE,
        voxel_um=VOXEL,
        nuclei=np.eye(3)[None] * 1.21,
        psf_sigma_um=np.array([1.5, 0.5, 0.5]),
        rest_photons=np.array([40.0]),
        haze=2.0,
        body_photons=np.array([9.0]),
        stray_photons=np.full(SHAPE[1:], 0.7),
        plane_delay_s=0.0,
        exposure_s=0.0,
    )
    points = np.array([[4.8, 5.0, 6.0], [1.8, 8.0, 6.0]])
    centre = scene.photons(points, np.zeros((1, 3)), np.array([1.5]), 0.5)[4, 10, 15]
    variances, peak = 1.21 + np.array([2.25, 0.25, 0.25]), 40 * 1.5 * 0.5
    haze, halo = (
        share * peak * np.sqrt(np.prod(variances / (variances + np.square(sigma))))
        for share, sigma in ((2.0, (4, 8, 8)), (2.0 * 0.3, (4, 2.2, 2.2)))
    )
    body = 9 * 0.5 * np.exp(-0.5 * ((3 / 6) ** 2 + (3 / 7) ** 2))
    assert centre == pytest.approx(peak + haze + halo + body + 0.7, rel=1e-5)


def test_nuclei_have_the_sizes_of_the_specification():
    covariances = rendering.nucleus_covariances(20_000, np.random.default_rng(0))
    radius = rendering.radii(covariances)
    assert np.median(radius) == pytest.approx(1.9, abs=0.01)
    # The mean of the logarithms of three axes that differ by 15 % each comes on top of the clipped SD of 0.3 µm.
    assert radius.std() == pytest.approx(np.hypot(0.297, 1.9 * 0.15 / np.sqrt(3)), rel=0.03)
    assert radius.min() > 1.3 * np.exp(-4.5 * 0.15 / np.sqrt(3))
    assert radius.max() < 2.8 * np.exp(4.5 * 0.15 / np.sqrt(3))
    longest = np.linalg.eigh(covariances)[1][:, :, 2]
    np.testing.assert_allclose(np.square(longest).mean(axis=0), 1 / 3, atol=0.01)  # all directions alike
