"""How a crawling worm bends, and where that takes it.

Positions are (y, x) in µm with y pointing down, as in an image. ``along`` runs from 0 (head) to 1 (tail), angles are
those of the direction from head to tail, from x towards y. Curvature is in 1/mm, positive where the worm bends to its
ventral side; ``side`` is +1 where that is the right side of one who walks over the displayed image from head to tail,
and -1 where it is the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from niddl_xr.simulation._kernels.activity import (
    FORWARD_S,
    REVERSAL_S,
    command_states,
    ornstein_uhlenbeck,
)

STEP_S = 0.05  # of the motion, whatever the frame rate
MARGIN_S = 20.0  # simulated before and after the recording: start-up of filters, lags
POINTS = 100  # of a centreline
REVERSAL_PACE = -0.8  # undulation frequency in reversals, relative to forward
PACE_CHANGE_S = 0.3
FREQUENCY_SD, FREQUENCY_TIME_S = 0.15, 4.0
AMPLITUDE_SD, AMPLITUDE_TIME_S = 0.12, 10.0
BIAS_TIME_S = 20.0
SMOOTHING_S = 0.4  # of the fluctuations: a worm has no kinks in time
MOST_TURNS_PER_MIN = 60 / (FORWARD_S + REVERSAL_S)  # one after every reversal
TURN_S, TURN_CURVATURE, TURN_WIDTH = 4.0, 13.0, 0.12  # duration; peak in 1/mm; SD along the body
TURN_STILLNESS = 0.85  # part of the undulation that a turn suppresses
DRAG_RATIO = 30.0  # of the drag across the body to the drag along it, on agar
STAGE_LAG_S = 0.3


@dataclass(frozen=True)
class Bending:
    """What the undulation of a worm is drawn from."""

    amplitude_per_mm: float
    wavelength: float  # of the body length
    frequency_hz: float
    bias_per_mm: float  # SD
    turns_per_min: float


@dataclass(frozen=True)
class Gait:
    """The undulation of one worm on a time grid (step,)."""

    time_s: np.ndarray
    phase: np.ndarray  # in cycles
    amplitude_per_mm: np.ndarray
    bias_per_mm: np.ndarray
    reversing: np.ndarray  # bool
    turns_s: np.ndarray  # (turn,): their beginnings
    wavelength: float

    def turn_progress(self, time_s: np.ndarray) -> np.ndarray:
        """Return how far an omega turn is at given times, 0 to 1; NaN where there is none."""
        if not self.turns_s.size:
            return np.full(np.shape(time_s), np.nan)
        latest = np.maximum(np.searchsorted(self.turns_s, time_s, side="right") - 1, 0)
        progress = (time_s - self.turns_s[latest]) / TURN_S
        return np.asarray(np.where((progress >= 0) & (progress <= 1), progress, np.nan))

    def curvature(self, along: np.ndarray, time_s: np.ndarray) -> np.ndarray:
        """Return the curvature (t, s) in 1/mm; ``along`` and ``time_s`` may also broadcast against one another."""
        if np.ndim(along) == 1 and np.ndim(time_s) == 1:
            time_s = np.asarray(time_s)[:, None]
        phase, amplitude, bias = (
            np.interp(time_s, self.time_s, values) for values in (self.phase, self.amplitude_per_mm, self.bias_per_mm)
        )
        curvature = amplitude * (1.2 - 0.5 * along) * np.sin(2 * np.pi * (along / self.wavelength - phase))
        progress = self.turn_progress(time_s)
        turning = np.nan_to_num(1 - (2 * progress - 1) ** 4)
        centre = np.nan_to_num(1.2 * progress - 0.1)
        deep = TURN_CURVATURE * np.exp(-0.5 * ((along - centre) / TURN_WIDTH) ** 2)
        return np.asarray(curvature * (1 - TURN_STILLNESS * turning) + bias + turning * deep)


def draw_gait(end_s: float, bending: Bending, rng: np.random.Generator) -> Gait:
    """Return a random gait from -MARGIN_S to ``end_s`` + MARGIN_S.

    What happens until a given time does not depend on ``end_s``.
    """
    steps = int(np.ceil((end_s + 2 * MARGIN_S) / STEP_S)) + 1
    generators = rng.spawn(5)
    reversing = command_states(steps, STEP_S, generators[0])
    keep = np.exp(-STEP_S / PACE_CHANGE_S)
    wanted = np.where(reversing, REVERSAL_PACE, 1.0)
    pace = lfilter([1 - keep], [1.0, -keep], wanted, zi=[keep * wanted[0]])[0]
    spread = [
        sd * smooth_noise(steps, time_s, generator)
        for sd, time_s, generator in zip(
            (FREQUENCY_SD, AMPLITUDE_SD, bending.bias_per_mm),
            (FREQUENCY_TIME_S, AMPLITUDE_TIME_S, BIAS_TIME_S),
            generators[1:4],
            strict=True,
        )
    ]
    frequency = bending.frequency_hz * pace * np.maximum(1 + spread[0], 0.3)
    chance = bending.turns_per_min / MOST_TURNS_PER_MIN
    time_s = np.arange(steps) * STEP_S - MARGIN_S
    return Gait(
        time_s=time_s,
        phase=generators[4].random() + np.cumsum(frequency) * STEP_S,
        amplitude_per_mm=bending.amplitude_per_mm * np.clip(1 + spread[1], 0.6, 1.4),
        bias_per_mm=spread[2],
        reversing=reversing,
        turns_s=_draw_turns(time_s, reversing, chance, generators[4]),
        wavelength=bending.wavelength,
    )


def smooth_noise(steps: int, time_constant_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return stationary noise (step,) of SD near 1 that is correlated over ``time_constant_s`` and has no kinks."""
    noise = ornstein_uhlenbeck((steps,), time_constant_s, STEP_S, rng)
    return np.asarray(gaussian_filter1d(noise, SMOOTHING_S / STEP_S, mode="nearest"))


def _draw_turns(time_s: np.ndarray, reversing: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    turns: list[float] = []
    for end in np.flatnonzero(reversing[:-1] & ~reversing[1:]) + 1:
        if rng.random() < chance and not (turns and time_s[end] - turns[-1] < TURN_S):
            turns.append(float(time_s[end]))
    return np.asarray(turns)


def centerline(curvature: np.ndarray, length_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points (..., s, 2) in µm and angles (..., s) of a body bent by ``curvature`` (..., s) in 1/mm.

    The curvature is that of the image, positive where the line from head to tail turns from x towards y. The
    head lies at (0, 0) and points away from x. The distance of two points that follow one another is the length
    over the number of steps, exactly.
    """
    step_um = length_um / (curvature.shape[-1] - 1)
    turning = np.cumsum(curvature, axis=-1) * (step_um / 1000)
    first, half = curvature[..., :1] * (step_um / 2000), curvature * (step_um / 2000)
    between = (turning - first)[..., :-1]
    steps = step_um * np.stack([np.sin(between), np.cos(between)], axis=-1)
    points = np.concatenate([np.zeros((*steps.shape[:-2], 1, 2)), np.cumsum(steps, axis=-2)], axis=-2)
    return points, turning - first - half


def rotate(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return vectors (..., 2) as (y, x) turned by ``angle`` (...) from x towards y."""
    y, x = vectors[..., 0], vectors[..., 1]
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([x * sine + y * cosine, x * cosine - y * sine], axis=-1)


@dataclass(frozen=True)
class Crawl:
    """Where one worm is: head (step, 2) and heading (step,) on the plate, and the stage (step, 2) that follows it."""

    gait: Gait
    length_um: float
    side: int
    head_um: np.ndarray
    heading: np.ndarray
    stage_um: np.ndarray

    def centerline(self, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points (t, POINTS, 2) in µm about the middle of the field, and angles (t, POINTS)."""
        curvature = self.side * self.gait.curvature(np.linspace(0, 1, POINTS), time_s)
        points, angles = centerline(curvature, self.length_um)
        heading = np.interp(time_s, self.gait.time_s, self.heading)[:, None]
        place = at(time_s, self.gait.time_s, self.head_um) - self.stage(time_s)
        return rotate(points, heading) + place[:, None], angles + heading

    def stage(self, time_s: np.ndarray) -> np.ndarray:
        """Return where on the plate the middle of the field is (t, 2), in µm."""
        return at(time_s, self.gait.time_s, self.stage_um)


def at(time_s: np.ndarray, known_s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return ``values`` (step, n), known at ``known_s``, at other times (t, n)."""
    return np.stack([np.interp(time_s, known_s, column) for column in values.T], axis=-1)


def crawl(gait: Gait, length_um: float, side: int, heading: float) -> Crawl:
    """Return where the undulation takes the worm, whose stage starts at (0, 0) at time 0.

    Resistive-force theory: the drag on a piece of the body is DRAG_RATIO times larger across it than along it, and
    the total force and torque vanish.
    """
    rates, centres = _body_rates(gait, length_um, side)
    turned = heading + np.concatenate([[0.0], np.cumsum(rates[:, 2] * STEP_S)])
    moved = rotate(rates[:, :2], (turned[1:] + turned[:-1]) / 2) * STEP_S
    head = np.concatenate([np.zeros((1, 2)), np.cumsum(moved, axis=0)])
    centre = head + rotate(centres, turned)
    keep = np.exp(-STEP_S / STAGE_LAG_S)
    stage = lfilter([1 - keep], [1.0, -keep], centre, axis=0, zi=keep * centre[:1])[0]
    origin = at(np.zeros(1), gait.time_s, stage)
    return Crawl(gait, length_um, side, head - origin, turned, stage - origin)


def _body_rates(gait: Gait, length_um: float, side: int, block: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Return (step - 1, 3): velocity (y, x) in µm/s of the head and its turning in rad/s; and centroids (step, 2)."""
    along = np.linspace(0, 1, POINTS // 2)
    rates, centres = [], []
    for start in range(0, gait.time_s.size - 1, block):
        points, angles = centerline(side * gait.curvature(along, gait.time_s[start : start + block + 1]), length_um)
        rates.append(force_free(points, angles))
        centres.append(points[: block if start + block < gait.time_s.size - 1 else None].mean(axis=1))
    return np.concatenate(rates), np.concatenate(centres)


def force_free(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return the motion (step - 1, 3) between shapes (step, s, 2) that leaves no total force and torque.

    ``points`` are relative to the head, whose direction is fixed; the result is as that of the head's frame: its
    velocity (y, x) in µm/s and its turning in rad/s.
    """
    deforming = np.diff(points, axis=0) / STEP_S
    middle = (points[1:] + points[:-1]) / 2
    angle = (angles[1:] + angles[:-1]) / 2
    across = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)
    zeros, ones = np.zeros(angle.shape), np.ones(angle.shape)
    # Motions of the whole body: along y, along x, and a rotation about the head.
    rigid = np.stack(
        [
            np.stack([ones, zeros], -1),
            np.stack([zeros, ones], -1),
            np.stack([middle[..., 1], -middle[..., 0]], -1),
        ],
        axis=-2,
    )
    rigid_across = np.einsum("tsjc,tsc->tsj", rigid, across)
    deforming_across = np.einsum("tsc,tsc->ts", deforming, across)
    excess = DRAG_RATIO - 1
    resistance = np.einsum("tsjc,tskc->tjk", rigid, rigid) + excess * np.einsum(
        "tsj,tsk->tjk", rigid_across, rigid_across
    )
    push = np.einsum("tsjc,tsc->tj", rigid, deforming) + excess * np.einsum(
        "tsj,ts->tj", rigid_across, deforming_across
    )
    return np.asarray(np.linalg.solve(resistance, -push[..., None])[..., 0])
