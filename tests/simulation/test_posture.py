"""Bends, crawling and motor neurons against algebra and the formulas of others."""

import numpy as np
import pytest

from niddl_xr.simulation._kernels import motor_neurons, posture
from niddl_xr.simulation._kernels.activity import ornstein_uhlenbeck

BENDING = posture.Bending(amplitude_per_mm=8.0, wavelength=0.65, frequency_hz=0.35, bias_per_mm=0.6, turns_per_min=1.0)


def steady_gait(amplitude: float, wavelength: float, frequency_hz: float, duration_s: float = 12.0) -> posture.Gait:
    time_s = np.arange(0.0, duration_s, posture.STEP_S)
    return posture.Gait(
        time_s=time_s,
        phase=frequency_hz * time_s,
        amplitude_per_mm=np.full(time_s.size, amplitude),
        bias_per_mm=np.zeros(time_s.size),
        reversing=np.zeros(time_s.size, bool),
        turns_s=np.zeros(0),
        wavelength=wavelength,
    )


def circle_through(points: np.ndarray) -> np.ndarray:
    """Curvature (n - 2,) in 1/µm of the circles through three points (y, x) that follow one another, signed."""
    before, at, after = points[:-2], points[1:-1], points[2:]
    first, second, chord = at - before, after - at, after - before
    cross = first[:, 1] * second[:, 0] - first[:, 0] * second[:, 1]  # x1 y2 - y1 x2
    return 2 * cross / np.prod([np.linalg.norm(side, axis=1) for side in (first, second, chord)], axis=0)


@pytest.mark.parametrize("curvature", [2.0, -7.0])
def test_constant_curvature_is_an_arc(curvature):
    points, angles = posture.centerline(np.full(80, curvature), 900.0)
    centre = np.array([1000 / curvature, 0.0])  # y points down: positive curvature turns from x to y
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), 1000 / abs(curvature), rtol=2e-3)
    np.testing.assert_allclose(angles, np.linspace(0, 0.9 * curvature, 80), atol=1e-12)
    assert np.sign(points[20, 0]) == np.sign(curvature)


def test_a_centreline_has_its_length_and_its_curvature():
    along = np.linspace(0, 1, 100)
    curvature = 9 * (1.2 - 0.5 * along) * np.sin(2 * np.pi * along / 0.65 + 0.4)
    points, angles = posture.centerline(np.stack([curvature, 0 * curvature]), 1200.0)
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2)
    np.testing.assert_allclose(steps.sum(axis=1), 1200.0, rtol=1e-12)
    np.testing.assert_allclose(1000 * circle_through(points[0]), curvature[1:-1], atol=0.03)
    np.testing.assert_allclose(points[1, :, 0], 0, atol=1e-12)
    tangent = np.gradient(points[0], axis=0)
    np.testing.assert_allclose(np.arctan2(tangent[1:-1, 0], tangent[1:-1, 1]), angles[0, 1:-1], atol=0.01)


def test_the_undulation_is_its_formula():
    gait = steady_gait(6.0, 0.6, 0.4)
    along, time_s = np.array([0.0, 0.3, 1.0]), np.array([0.5, 3.21])
    expected = [[6 * (1.2 - 0.5 * s) * np.sin(2 * np.pi * (s / 0.6 - 0.4 * t)) for s in along] for t in time_s]
    np.testing.assert_allclose(gait.curvature(along, time_s), expected, atol=1e-9)
    # The wave runs from head to tail: what is here now was a wavelength times frequency nearer to the head.
    shape = gait.curvature(along, time_s) / (1.2 - 0.5 * along)
    np.testing.assert_allclose(gait.curvature(along - 0.24 * 0.2, time_s - 0.2) / (1.2 - 0.5 * (along - 0.048)), shape)


def test_rotation_turns_from_x_to_y():
    np.testing.assert_allclose(posture.rotate(np.array([0.0, 2.0]), np.array(np.pi / 2)), [2.0, 0.0], atol=1e-12)


def test_no_force_and_no_torque_remain():
    rng = np.random.default_rng(0)
    points, angles = posture.centerline(rng.normal(0, 4, (2, 30)), 800.0)
    vy, vx, turning = posture.force_free(points, angles)[0]
    force, torque = np.zeros(2), 0.0
    for place, angle, deforming in zip(points.mean(0), angles.mean(0), np.diff(points, axis=0)[0], strict=True):
        y, x = place
        velocity = deforming / posture.STEP_S + np.array([vy + turning * x, vx - turning * y])
        along = np.array([np.sin(angle), np.cos(angle)])
        drag = velocity @ along * along + posture.DRAG_RATIO * (velocity - velocity @ along * along)
        force += drag
        torque += x * drag[0] - y * drag[1]
    assert np.abs(force).max() < 1e-6 * np.abs(drag).max()
    assert abs(torque) < 1e-6 * np.abs(drag).max() * 800


def test_speed_of_small_waves_is_that_of_gray_and_hancock():
    # V / U = (K - 1) h / (1 + K h), h = 2 pi² b² / wavelength², for an endless filament of small amplitude b.
    wavelength_mm, curvature, frequency = 0.2, 3.0, 0.5
    gait = steady_gait(curvature, wavelength_mm, frequency)
    gait_flat = posture.Gait(**{**vars(gait), "amplitude_per_mm": np.full(gait.time_s.size, curvature / 0.95)})
    worm = posture.crawl(gait_flat, 1000.0, 1, heading=0.0)
    wave = 2 * np.pi / wavelength_mm
    h = (curvature / wave**2 * wave) ** 2 / 2
    expected = 1000 * wavelength_mm * frequency * (posture.DRAG_RATIO - 1) * h / (1 + posture.DRAG_RATIO * h)
    middle = worm.head_um[::40].mean(axis=0), worm.head_um[-160::40].mean(axis=0)
    travelled = np.linalg.norm(worm.head_um[200] - worm.head_um[0])
    assert travelled / (200 * posture.STEP_S) == pytest.approx(expected, rel=0.15)
    assert middle[1][1] < middle[0][1]  # the body lies along x from its head, so forwards is towards smaller x


def test_the_worm_goes_head_first_and_backwards_in_reversals():
    worm = posture.crawl(posture.draw_gait(120.0, BENDING, np.random.default_rng(3)), 1000.0, 1, heading=1.0)
    gait = worm.gait
    time_s = np.arange(0, 120, 0.25)
    points, _ = worm.centerline(time_s)
    plate = points.mean(axis=1) + worm.stage(time_s)
    velocity = np.gradient(plate, 0.25, axis=0)
    forwards = points[:, 0] - points[:, -1]
    speed = (velocity * forwards).sum(axis=1) / np.linalg.norm(forwards, axis=1)
    reversing = np.interp(time_s, gait.time_s, gait.reversing) > 0.5
    settled = (reversing == np.roll(reversing, 4)) & np.isnan(gait.turn_progress(time_s))
    assert 120 < np.median(speed[settled & ~reversing]) < 300  # µm/s
    assert -300 < np.median(speed[settled & reversing]) < -60
    assert np.abs(points.mean(axis=1)).max() < 120  # the stage keeps up


def test_motion_does_not_know_when_the_recording_ends():
    short, long = (posture.draw_gait(end, BENDING, np.random.default_rng(5)) for end in (60.0, 200.0))
    time_s = np.linspace(0, 60, 50)
    along = np.linspace(0, 1, 7)
    np.testing.assert_allclose(short.curvature(along, time_s), long.curvature(along, time_s), atol=1e-9)


def test_omega_turns_are_ventral_and_as_frequent_as_asked():
    often = posture.Bending(8.0, 0.65, 0.35, 0.6, turns_per_min=2.0)
    gaits = [posture.draw_gait(900.0, often, np.random.default_rng(seed)) for seed in range(3)]
    assert sum(gait.turns_s.size for gait in gaits) / (3 * 940 / 60) == pytest.approx(2.0, rel=0.25)
    gait = gaits[0]
    middle = gait.turns_s[:6] + posture.TURN_S / 2
    curvature = gait.curvature(np.linspace(0, 1, 50), middle)
    assert curvature.max(axis=1).min() > 10
    assert curvature.min() > -5
    without = posture.draw_gait(900.0, posture.Bending(8.0, 0.65, 0.35, 0.6, 0.0), np.random.default_rng(0))
    assert without.turns_s.size == 0
    assert np.isnan(without.turn_progress(np.array([1.0, 2.0]))).all()


def test_frequency_is_that_asked_for():
    gait = posture.draw_gait(600.0, BENDING, np.random.default_rng(1))
    rate = np.gradient(gait.phase, posture.STEP_S)
    settled = gait.reversing == np.roll(gait.reversing, 40)
    assert np.mean(rate[settled & ~gait.reversing]) == pytest.approx(0.35, rel=0.08)
    assert np.mean(rate[settled & gait.reversing]) == pytest.approx(-0.8 * 0.35, rel=0.12)


def test_classes_keep_their_proportions_and_count_from_the_head():
    names, classes, along = motor_neurons.motor_neurons(58, np.random.default_rng(0))
    assert np.bincount(classes).tolist() == [9, 7, 6, 12, 11, 13]
    assert np.all(np.diff(along) > 0)
    assert along[0] > 0.1
    assert along[-1] < 0.93
    assert len(set(names)) == 58
    assert [name for name in names if name.startswith("DB")] == [f"DB{n}" for n in range(1, 8)]
    assert len(motor_neurons.motor_neurons(1, np.random.default_rng(0))[0]) == 1
    assert np.bincount(motor_neurons.motor_neurons(29, np.random.default_rng(0))[1]).sum() == 29


@pytest.mark.parametrize("coupling", [0.05, 0.3, 0.6, 0.85])
@pytest.mark.parametrize("letter", ["A", "B", "D"])
def test_a_neuron_correlates_with_its_bend_as_asked(letter, coupling):
    gait = posture.draw_gait(100.0, BENDING, np.random.default_rng(2))
    bend = gait.curvature(0.4, gait.time_s)
    recorded = slice(400, 2400)
    gate = motor_neurons.gate(letter, gait.reversing)
    response = motor_neurons.follow(bend, gate, coupling, recorded, np.random.default_rng(7))
    earlier = [np.corrcoef(response[recorded], bend[400 - steps : 2400 - steps])[0, 1] for steps in range(41)]
    assert max(earlier) == pytest.approx(coupling, abs=0.01 if coupling > 0.1 else 0.03)
    assert 0.4 < 0.05 * np.argmax(earlier) < 1.0 or coupling < 0.1


def test_a_neuron_without_a_bend_of_its_side_still_follows():
    bend = -5 + ornstein_uhlenbeck((1500,), 2.0, 0.05, np.random.default_rng(0)).clip(-3, 3)
    response = motor_neurons.follow(bend, np.ones(1500), 0.5, slice(300, 1400), np.random.default_rng(1))
    assert np.isfinite(response).all()
    earlier = [np.corrcoef(response[300:1400], bend[300 - steps : 1400 - steps])[0, 1] for steps in range(41)]
    assert max(earlier) == pytest.approx(0.5, abs=0.01)


def test_gates_open_in_the_state_of_the_class():
    reversing = np.array([True, False])
    assert motor_neurons.gate("A", reversing).tolist() == [1.0, motor_neurons.GATE_FLOOR]
    assert motor_neurons.gate("B", reversing).tolist() == [motor_neurons.GATE_FLOOR, 1.0]
    assert motor_neurons.gate("D", reversing).tolist() == [1.0, 1.0]
