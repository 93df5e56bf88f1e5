"""One template follows the deformation: for worms that hardly move, and for all whose frames follow closely.

The points of the reference are carried from frame to frame, first rigidly, then by Coherent Point Drift, which needs
to start from nearby. What is learnt on the way (where each neuron rests, which neurons the reference misses) makes a
better template, with which every frame is matched a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from niddl_xr.neurons import Frames
from niddl_xr.schema import NiddlError
from niddl_xr.tracking._kernels.registration import (
    brought_near,
    coherent_point_drift,
    misfit_um,
    smooth_displacement,
)
from niddl_xr.tracking.methods import Anchors, Linked

_SLIPPED_UM = 1.0  # an anchor farther from where the template is says that the template has slipped
_LOCAL_STIFFNESS_UM = 10.0  # a slip is that of a ganglion, not of the head
_NO_BETTER_UM = 0.1  # sums of misfits nearer than this say nothing
_SAME_PLACE_UM = 1.8  # points of one neuron at rest scatter less (jitter 0.35 µm an axis); two neurons lie farther
_TYPICAL = 4.0  # times the median distance of pairs: of Gaussian errors practically none is farther
_LEAST_SHARE = 0.2  # of the frames in which a point that the reference lacks must come back to be a neuron
_LEAST_FRAMES = 3
_POLISH_UM = 1.5  # how far, along an axis, the second matching starts from the first
_DOUBT_UM = 1.5  # standard deviation of a right pair's distance, for the confidence


@dataclass(frozen=True)
class _Said:
    """What a human has said of one frame: neurons (by number) at places, their detections, and pairs ruled out."""

    neuron: np.ndarray
    position: np.ndarray
    detection: np.ndarray
    forbidden: list[tuple[int, int]]


_NOTHING = _Said(np.empty(0, int), np.empty((0, 3)), np.empty(0, int), [])


@dataclass(frozen=True)
class _Drift:
    """How the template drifts; see :func:`link`."""

    gate_um: float
    step_um: float
    stiffness_um: float
    regularisation: float


def link(
    frames: Frames,
    *,
    anchors: Anchors | None,
    reference: int | None,
    gate_um: float,
    seed: int,
    step_um: float = 2.5,
    stiffness_um: float = 25.0,
    regularisation: float = 1.0,
) -> Linked:
    """Link by a template that drifts from frame to frame, both ways from the reference.

    Parameters
    ----------
    frames, anchors, gate_um
        As in :mod:`niddl_xr.tracking.methods`.
    reference
        Frame whose points are the template. The default is a frame with the most typical number of points, near the
        middle of the recording.
    seed
        Not used: nothing is random.
    step_um
        How far, along one axis, a neuron is expected from where the frame before leads to, once the whole head is
        aligned: 2 to 3 µm for worms that are held or hardly move at 4 volumes a second.
    stiffness_um
        Distance over which neighbours move alike.
    regularisation
        How much smoothness counts beside nearness.

    Returns
    -------
    Linked
        The points of the reference in their order, then neurons that an anchor names and the reference lacks, then
        those that come back, unmatched, at the same place of the template in a fifth of the frames or more.
        ``confidence`` weighs the detection against the other neurons near it and against none.

    Raises
    ------
    NiddlError
        For a reference without points, and options that are not positive.

    Notes
    -----
    Myronenko and Song, IEEE Trans. Pattern Anal. Mach. Intell. 32:2262 (2010), from frame to frame. Each frame passes
    through the anchors that it has; where one is more than 1 µm off, a template with its surroundings shifted is tried
    too. Frames between the reference and an anchored frame follow the one or the other, cut where both together fit
    the points best.
    """
    drift = _Drift(gate_um, step_um, stiffness_um, regularisation)
    for name in ("step_um", "stiffness_um", "regularisation"):
        if not (np.isfinite(getattr(drift, name)) and getattr(drift, name) > 0):
            raise NiddlError(f"expected {name} as a positive number, got {getattr(drift, name)}")
    reference = _reference(frames, reference)
    if reference is None:
        return Linked(np.empty((len(frames), 0), int), np.empty((len(frames), 0)), [])
    walk = _Walk(frames, anchors, reference, drift)
    template, states = walk.states()
    template, states = walk.learned(template, states)
    return walk.linked(template, states)


def _reference(frames: Frames, reference: int | None) -> int | None:
    counts = np.array([len(points) for points in frames.points])
    if reference is not None:
        if not counts[reference]:
            raise NiddlError(f"expected a reference with points, got frame {reference}, which has none")
        return reference
    filled = np.flatnonzero(counts)
    if not len(filled):
        return None
    untypical = np.abs(counts[filled] - np.median(counts[filled]))
    return int(filled[np.lexsort([np.abs(filled - len(frames) // 2), untypical])[0]])


def _former_names(anchors: Anchors | None, reference: int, points: int) -> list[str]:
    """Return the names that the points of the reference had in former tracks, of neurons that an anchor names."""
    names = [""] * points
    if anchors is not None and anchors.former is not None:
        former = anchors.former
        for row in np.flatnonzero((former.frame == reference) & np.isin(former.neuron, anchors.names)):
            names[former.detection[row]] = str(former.neuron[row])
    return names


class _Walk:
    """A template on its way through the frames, with the names that it learns from anchors."""

    def __init__(self, frames: Frames, anchors: Anchors | None, reference: int, drift: _Drift) -> None:
        self.frames, self.anchors, self.reference, self.drift = frames, anchors, reference, drift
        self.template = frames.points[reference].copy()
        self.names = _former_names(anchors, reference, len(self.template))

    def states(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the template (neuron, 3) and where it is in every frame (t, neuron, 3)."""
        last = len(self.frames) - 1
        states = {self.reference: self._introduced(self.reference, self.template)}
        for frame in [*range(self.reference + 1, last + 1), *range(self.reference - 1, -1, -1)]:
            before = frame - 1 if frame > self.reference else frame + 1
            state = self._introduced(frame, self._grown(states[before]))
            states[frame] = self._moved(frame, state, self.drift.step_um)
        known = np.stack([self._grown(states[frame]) for frame in range(last + 1)])
        self._walk_back(known)
        return self.template, known

    def _walk_back(self, states: np.ndarray) -> None:
        """Let frames before an anchored frame, on the way from the reference, follow it where that fits better."""
        if self.anchors is None:
            return
        for side in (1, -1):
            anchored = {int(t) for t in self.anchors.frame if (t - self.reference) * side > 0}
            before = self.reference
            for frame in sorted(anchored, key=lambda t: abs(t - self.reference)):
                back: dict[int, np.ndarray] = {}
                state = states[frame]
                for t in range(frame - side, before, -side):
                    back[t] = state = self._moved(t, state, self.drift.step_um)
                    if np.linalg.norm(state - states[t], axis=1).max() < _SLIPPED_UM:
                        break  # from here on both ways agree
                between = sorted(back, key=lambda t: abs(t - frame))
                gain = [self._misfit(t, states[t]) - self._misfit(t, back[t]) for t in between]
                for t in between[: _best_cut(np.array(gain))]:
                    states[t] = back[t]
                before = frame

    def _misfit(self, frame: int, state: np.ndarray) -> float:
        points = self.frames.points[frame]
        return misfit_um(state, points, farthest_um=self.drift.gate_um) if len(points) else 0.0

    def learned(self, template: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a template with every neuron where it rests, and with neurons that the reference lacks."""
        resting: list[list[np.ndarray]] = [[] for _ in template]
        said_of: list[list[np.ndarray]] = [[] for _ in template]
        over, over_frame = [], []
        for frame, (points, state) in enumerate(zip(self.frames.points, states, strict=True)):
            said = self._said(frame)
            numbers, _ = self._matched(frame, state)
            back = points + self._field(state, template, points)
            for neuron in np.flatnonzero(numbers >= 0).tolist():
                resting[neuron].append(back[numbers[neuron]])
            rest = said.position + self._field(state, template, said.position)
            for neuron, place in zip(said.neuron, rest, strict=True):
                said_of[neuron].append(place)
            free = np.setdiff1d(np.arange(len(points)), numbers)
            over.append(back[free])
            over_frame.append(np.full(len(free), frame))
        better = np.array([_rest(*places) for places in zip(template, resting, said_of, strict=True)]).reshape(-1, 3)
        frames_with_points = sum(len(points) > 0 for points in self.frames.points)
        least = max(_LEAST_FRAMES, int(np.ceil(_LEAST_SHARE * frames_with_points)))
        better = np.concatenate([better, _recurring(np.concatenate(over), np.concatenate(over_frame), least)])
        self.names += [""] * (len(better) - len(self.names))
        moved = np.stack([better + self._field(template, state, better) for state in states])
        # What a human has seen to change its place among its neighbours follows its own way.
        wandering = [number for number, places in enumerate(said_of) if _scattered(places)]
        moved[:, wandering] = states[:, wandering]
        return better, moved

    def linked(self, template: np.ndarray, states: np.ndarray) -> Linked:
        """Return the pairs of every frame after a second drift that starts from ``states``."""
        detection = np.full(states.shape[:2], -1)
        confidence = np.zeros(states.shape[:2])
        for frame, state in enumerate(states):
            moved = self._moved(frame, state, min(_POLISH_UM, self.drift.step_um))
            detection[frame], confidence[frame] = self._matched(frame, moved)
        return Linked(detection, confidence, self.names, attrs={"reference_frame": self.reference})

    def _field(self, source: np.ndarray, target: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the displacement at ``at`` of the tissue that brings ``source`` to ``target``, neuron by neuron."""
        return smooth_displacement(source, target - source, at, stiffness_um=self.drift.stiffness_um, noise_share=0.01)

    def _grown(self, state: np.ndarray) -> np.ndarray:
        """Return a state with the neurons that the template has gained since."""
        new = self.template[len(state) :]
        if not len(new):
            return state
        return np.concatenate([state, new + self._field(self.template[: len(state)], state, new)])

    def _introduced(self, frame: int, state: np.ndarray) -> np.ndarray:
        """Give the names of anchors that are met for the first time to neurons near, or to new ones."""
        if self.anchors is None:
            return state
        here = np.flatnonzero(self.anchors.frame == frame)
        here = here[[self.anchors.neuron[row] not in self.names for row in here]]
        if not len(here):
            return state
        points, said = self.frames.points[frame], self.anchors.position_um[here]
        moved = state if frame == self.reference else self._moved(frame, state, self.drift.step_um)
        free = np.flatnonzero([not name for name in self.names])
        distance = cdist(said, moved[free])
        limit = 2 * _SAME_PLACE_UM if len(points) else self.drift.gate_um
        rows, columns = linear_sum_assignment(np.minimum(distance, self.drift.gate_um + 1e-3 * distance))
        near = distance[rows, columns] <= limit
        taken = dict(zip(rows[near].tolist(), free[columns[near]].tolist(), strict=True))
        for row, place in enumerate(said):
            name = str(self.anchors.neuron[here[row]])
            if row in taken:
                self.names[taken[row]] = name
                continue
            self.names.append(name)
            rest = place + self._field(moved, self.template, place[None])[0]
            self.template = np.concatenate([self.template, rest[None]])
            state = np.concatenate([state, place[None]])
            moved = np.concatenate([moved, place[None]])
        return state

    def _said(self, frame: int) -> _Said:
        if self.anchors is None:
            return _NOTHING
        number = {name: neuron for neuron, name in enumerate(self.names) if name}
        here = [row for row in np.flatnonzero(self.anchors.frame == frame) if self.anchors.neuron[row] in number]
        forbidden = [
            (number[name], int(point))
            for (t, point), name in zip(self.anchors.forbidden, self.anchors.forbidden_neuron, strict=True)
            if t == frame and name in number
        ]
        neuron = np.array([number[self.anchors.neuron[row]] for row in here], dtype=int)
        return _Said(neuron, self.anchors.position_um[here].reshape(-1, 3), self.anchors.detection[here], forbidden)

    def _moved(self, frame: int, state: np.ndarray, step_um: float) -> np.ndarray:
        """Return where the template is in a frame, from where it was in a neighbour or in an earlier attempt."""
        points, said = self.frames.points[frame], self._said(frame)
        if not len(points):
            state = state.copy()
            state[said.neuron] = said.position
            return state
        prior, drift = _prior(said, len(state), len(points)), self.drift
        starts = [brought_near(state, points, farthest_um=drift.gate_um)]
        off = said.position - starts[0][said.neuron]
        if np.any(np.linalg.norm(off, axis=1) > _SLIPPED_UM):
            at = starts[0][said.neuron]
            shift = smooth_displacement(
                at, off, starts[0], stiffness_um=_LOCAL_STIFFNESS_UM, noise_share=0.01, local=True
            )
            starts.append(starts[0] + shift)
        found = []
        for start in starts:
            moved, _ = coherent_point_drift(
                start,
                points,
                stiffness_um=drift.stiffness_um,
                regularisation=drift.regularisation,
                variance_um2=step_um**2,
                prior=prior,
            )
            moved[said.neuron] = said.position
            found.append(moved)
        return min(found, key=lambda moved: self._misfit(frame, moved))

    def _matched(self, frame: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the detection (neuron,) that each neuron of a state is, -1 for none, and how sure that is."""
        points, said = self.frames.points[frame], self._said(frame)
        numbers, confidence = np.full(len(state), -1), np.zeros(len(state))
        if not len(points) or not len(state):
            return numbers, confidence
        distance, gate_um = cdist(state, points), self.drift.gate_um
        known = np.flatnonzero(said.detection >= 0)
        allowed = _prior(said, len(state), len(points)) > 0
        for _ in range(2):  # the second time with the gate that the frame's own pairs ask for
            possible = allowed & (distance <= gate_um)
            possible[said.neuron[known], said.detection[known]] = True
            cost = np.where(possible, np.minimum(distance, gate_um) ** 2, 2 * gate_um**2)
            cost[said.neuron[known], said.detection[known]] = -1.0
            rows, columns = linear_sum_assignment(cost)
            kept = possible[rows, columns]
            rows, columns = rows[kept], columns[kept]
            if len(rows):
                typical = _TYPICAL * float(np.median(distance[rows, columns]))
                gate_um = min(gate_um, max(typical, _SAME_PLACE_UM))
        likeness = np.exp(-(distance**2) / (2 * _DOUBT_UM**2))
        nothing = np.exp(-(self.drift.gate_um**2) / (8 * _DOUBT_UM**2))  # as likely as none at half the gate
        either = likeness.sum(axis=0)[columns] + likeness.sum(axis=1)[rows] - likeness[rows, columns] + nothing
        numbers[rows] = columns
        confidence[rows] = likeness[rows, columns] / either
        return numbers, confidence


def _prior(said: _Said, neurons: int, points: int) -> np.ndarray:
    """Return (neuron, point) 1 where a pair is possible, 0 where a human has ruled it out."""
    prior = np.ones((neurons, points))
    for neuron, point in said.forbidden:
        prior[neuron, point] = 0.0
    prior[said.neuron] = 0.0
    known = said.detection >= 0
    prior[:, said.detection[known]] = 0.0
    prior[said.neuron[known], said.detection[known]] = 1.0
    return prior


def _rest(place: np.ndarray, seen: list[np.ndarray], said: list[np.ndarray]) -> np.ndarray:
    """Return where a neuron rests, from where it was found at rest; what a human has said decides between places."""
    found = np.median(seen, axis=0) if seen else place
    if not said:
        return np.asarray(found)
    told = np.median(said, axis=0)
    return np.asarray(found if np.linalg.norm(found - told) <= _SAME_PLACE_UM else told)


def _scattered(places: list[np.ndarray]) -> bool:
    """Return whether places at rest lie too far apart to be one."""
    return len(places) > 1 and bool(np.any(np.ptp(places, axis=0) > 2 * _SAME_PLACE_UM))


def _best_cut(gain: np.ndarray) -> int:
    """Return how many of the first values have the largest sum; of sums that are alike, that nearest to half."""
    total = np.append(0.0, np.cumsum(gain))
    best = np.flatnonzero(total >= total.max() - _NO_BETTER_UM)
    return int(best[np.abs(best - len(gain) / 2).argmin()])


def _recurring(places: np.ndarray, frame: np.ndarray, least: int) -> np.ndarray:
    """Return the places (k, 3) to which points of at least so many frames come back, the most frequent first."""
    found, left = [np.empty((0, 3))], np.ones(len(places), dtype=bool)
    while left.sum() >= least:
        candidates = np.flatnonzero(left)
        near = KDTree(places[candidates]).query_ball_point(places[candidates], _SAME_PLACE_UM)
        frames = np.array([len(np.unique(frame[candidates[members]])) for members in near])
        best = int(frames.argmax())
        if frames[best] < least:
            break
        members = candidates[near[best]]
        found.append(np.median(places[members], axis=0, keepdims=True))
        left[members] = False
    return np.concatenate(found)
