"""What humans have said about the neurons of a row: which ones they mean, and what follows for points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from niddl_xr.tracking.methods import Anchors

RULED_OUT = -50.0  # log probability of what humans say is not so; finite, so that some alignment remains


@dataclass(frozen=True)
class Said:
    """What humans have said, of neurons by their number in the row.

    ``names`` (neuron,), "" for those without; more names than neurons are of some that the row lacks. ``pairs`` and
    ``forbidden`` are rows of (frame, neuron, point).
    """

    names: list[str]
    pairs: np.ndarray
    forbidden: np.ndarray

    def evidence(self, numbers: np.ndarray, first: int, neurons: int) -> np.ndarray:
        """Return the log probability (t, neuron, point) of points ``numbers`` (t, point) from frame ``first`` on."""
        table = np.zeros((len(numbers), neurons, numbers.shape[1]))
        for t, neuron, point in self._within(self.pairs, first, len(numbers), neurons):
            own = numbers[t] == point
            table[t, neuron, ~own] = RULED_OUT
            table[t, np.arange(neurons) != neuron] += np.where(own, RULED_OUT, 0.0)
        for t, neuron, point in self._within(self.forbidden, first, len(numbers), neurons):
            table[t, neuron, numbers[t] == point] = RULED_OUT
        return table

    @staticmethod
    def _within(said: np.ndarray, first: int, count: int, neurons: int) -> np.ndarray:
        here = said - np.array([first, 0, 0])
        return np.asarray(here[(here[:, 0] >= 0) & (here[:, 0] < count) & (here[:, 1] < neurons)])

    def impose(self, numbers: np.ndarray, probability: np.ndarray) -> None:
        """Put into ``numbers`` and ``probability`` (t, neuron) what is said, and take out what is said not to be."""
        for t, neuron, point in self.forbidden:
            if neuron < numbers.shape[1] and numbers[t, neuron] == point:
                numbers[t, neuron], probability[t, neuron] = -1, 0.0
        for t, neuron, point in self.pairs:
            others = numbers[t] == point
            numbers[t, others], probability[t, others] = -1, 0.0
            if neuron < numbers.shape[1]:
                numbers[t, neuron], probability[t, neuron] = point, 1.0


def said_of(anchors: Anchors | None, numbers: np.ndarray) -> Said:
    """Find out which neurons of the row the names mean, by the points ``numbers`` (t, neuron) that the row has.

    A point that is ruled out for a name counts twice as much as an anchor: it was put right because the row had it, so
    that it tells the row, while an anchor beside it is where the row was wrong.
    """
    neurons = numbers.shape[1]
    if anchors is None:
        return Said([""] * neurons, np.empty((0, 3), int), np.empty((0, 3), int))
    known = list(dict.fromkeys([*anchors.names, *anchors.forbidden_neuron.tolist()]))
    if anchors.former is not None:
        return _said(anchors, known, anchors.former.columns(numbers), neurons)
    place = {name: number for number, name in enumerate(known)}
    votes = np.zeros((len(known), neurons))
    for t, name, point in zip(anchors.frame, anchors.neuron, anchors.detection, strict=True):
        votes[place[name]] += (numbers[t] == point) & (point >= 0)
    for (t, point), name in zip(anchors.forbidden, anchors.forbidden_neuron, strict=True):
        votes[place[name]] += 2 * (numbers[t] == point)
    found = zip(*linear_sum_assignment(votes, maximize=True), strict=True)
    return _said(anchors, known, {known[row]: int(neuron) for row, neuron in found if votes[row, neuron] > 0}, neurons)


def _said(anchors: Anchors, known: list[str], meant: dict[str, int], neurons: int) -> Said:
    """Return what is said of neurons by their number, where ``meant`` has them by name, and others come last."""
    names, own = [""] * neurons, {name: meant[name] for name in known if name in meant}
    for name, neuron in own.items():
        names[neuron] = name
    for name in anchors.names:
        if name not in own:
            own[name] = len(names)
            names.append(name)
    pairs = [
        (t, own[name], point)
        for t, name, point in zip(anchors.frame, anchors.neuron, anchors.detection, strict=True)
        if point >= 0
    ]
    away = [
        (t, own[name], point)
        for (t, point), name in zip(anchors.forbidden, anchors.forbidden_neuron, strict=True)
        if name in own
    ]
    return Said(names, np.array(pairs, int).reshape(-1, 3), np.array(away, int).reshape(-1, 3))
