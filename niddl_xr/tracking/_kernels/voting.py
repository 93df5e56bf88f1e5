"""Frames that vote on one another's points: arrays and numbers only.

Points of all frames are numbered through; ``labels`` gives for each the neuron (a column), -1 for none, and
:data:`UNPLACED` in frames that have no say yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from niddl_xr.tracking._kernels.corrections import spread
from niddl_xr.tracking._kernels.newcomers import newcomers
from niddl_xr.tracking._kernels.posture_order import reached

UNPLACED = -2
_LEAST_SHARE = 0.1  # of the votes, for a point to be a neuron at all
_SWEEPS = 4
_NEW_PRESENT = 0.2  # part of the frames in which a neuron that the reference lacks must be found


class Ballot:
    """All matches of a recording, cut by the frame that is voted on.

    Parameters
    ----------
    sizes
        Number of points of each frame.
    matches
        For each pair of frames (one, other) the matches of their points: arrays with the fields ``moving`` (of the
        one), ``fixed`` (of the other) and ``probability``.
    """

    def __init__(self, sizes: Sequence[int], matches: Mapping[tuple[int, int], np.ndarray]) -> None:
        self.sizes = np.asarray(sizes, dtype=int)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        own: list[list[np.ndarray]] = [[] for _ in sizes]
        far: list[list[np.ndarray]] = [[] for _ in sizes]
        chance: list[list[np.ndarray]] = [[] for _ in sizes]
        self.neighbours: list[list[int]] = [[] for _ in sizes]
        for (one, other), found in matches.items():
            first, second = found["moving"].astype(int), found["fixed"].astype(int)
            for frame, there, rows, columns in ((one, other, first, second), (other, one, second, first)):
                own[frame].append(rows)
                far[frame].append(columns + self.starts[there])
                chance[frame].append(found["probability"].astype(float))
                self.neighbours[frame].append(there)
        none = np.empty(0)
        self._own = [np.concatenate([none, *parts]).astype(int) for parts in own]
        self._far = [np.concatenate([none, *parts]).astype(int) for parts in far]
        self._chance = [np.concatenate([none, *parts]) for parts in chance]

    def __len__(self) -> int:
        return len(self.sizes)

    def points_of(self, frame: int) -> slice:
        """Return where the points of a frame stand among all points."""
        return slice(int(self.starts[frame]), int(self.starts[frame + 1]))

    def shares(self, frame: int, labels: np.ndarray, columns: int, weight: np.ndarray) -> np.ndarray:
        """Return (point, column) the share of the votes on a frame, 0 to 1, by what its neighbours are said to be.

        A neighbour has the vote that its point has ``weight`` for, split as the match is uncertain; a frame that has
        no say yet, or whose points weigh nothing, has none.
        """
        said = labels[self._far[frame]]
        votes = said >= 0
        place = self._own[frame][votes] * columns + said[votes]
        given = self._chance[frame][votes] * weight[self._far[frame][votes]]
        total = np.bincount(place, given, minlength=int(self.sizes[frame]) * columns)
        return total.reshape(int(self.sizes[frame]), columns) / max(self._voters(frame, labels, weight), 1e-9)

    def agreement(self, frame: int, labels: np.ndarray) -> float:
        """Return the sum of the probabilities of matches of a frame's points with points of the same label."""
        own = labels[self._own[frame] + self.starts[frame]]
        return float(self._chance[frame][(own >= 0) & (own == labels[self._far[frame]])].sum())

    def among(self, points: np.ndarray) -> csr_matrix:
        """Return (point, point) the probabilities of the matches between some points, in their order."""
        number = np.full(int(self.starts[-1]), -1)
        number[points] = np.arange(len(points))
        own = np.concatenate([own + start for own, start in zip(self._own, self.starts[:-1], strict=True)])
        far, chance = np.concatenate(self._far), np.concatenate(self._chance)
        kept = (number[own] >= 0) & (number[far] >= 0)
        places = (number[own[kept]], number[far[kept]])
        return csr_matrix((chance[kept], places), shape=(len(points), len(points)))

    def together(self) -> csr_matrix:
        """Return (frame, frame) 1 where two frames are matched, else 0."""
        one = np.repeat(np.arange(len(self)), [len(others) for others in self.neighbours])
        other = np.array([number for others in self.neighbours for number in others], dtype=int)
        return csr_matrix((np.ones(len(one)), (one, other)), shape=(len(self), len(self)))

    def _voters(self, frame: int, labels: np.ndarray, weight: np.ndarray) -> float:
        """Return the number of neighbours that have a say, each as much as its points weigh on average."""
        voters = 0.0
        for neighbour in self.neighbours[frame]:
            points = self.points_of(neighbour)
            if points.start < points.stop and labels[points.start] != UNPLACED:
                voters += weight[points].mean()
        return voters


def assigned(shares: np.ndarray, least: float) -> np.ndarray:
    """Return for each point (row) the column, no column twice, by the largest sum of shares; -1 below ``least``."""
    found = np.full(len(shares), -1)
    rows, columns = linear_sum_assignment(-shares)
    kept = shares[rows, columns] >= least
    found[rows[kept]] = columns[kept]
    return found


class Poll:
    """Labels of all points, by votes of their frames' neighbours.

    Parameters
    ----------
    ballot
        The matches.
    pairs
        Distances of the pairs of frames that are matched.
    reference
        Frame whose points are the first columns.
    """

    def __init__(self, ballot: Ballot, pairs: dict[tuple[int, int], float], reference: int) -> None:
        self.ballot, self.pairs, self.reference = ballot, pairs, reference
        self.columns = int(ballot.sizes[reference])
        points = int(ballot.starts[-1])
        self.labels, self.weight = np.full(points, UNPLACED), np.ones(points)
        self._frame = np.repeat(np.arange(len(ballot)), ballot.sizes)
        self._fixed = np.full(points, -1)
        self._fixed[ballot.points_of(reference)] = np.arange(self.columns)
        self._elsewhere: dict[int, list[int]] = {}
        self._away: dict[int, list[tuple[int, int]]] = {}
        self._keys: set[int] = set()

    def solve(self, sources: Sequence[int] = ()) -> None:
        """Let labels spread from the reference, and from other frames as they are labelled, then vote until stable."""
        before, self.labels = self.labels, np.full_like(self.labels, UNPLACED)
        sources = [self.reference, *sources]
        for frame in sources:
            points = self.ballot.points_of(frame)
            self.labels[points] = np.where(self._fixed[points] >= 0, self._fixed[points], before[points])
        for frame, _ in reached(self.pairs, sources, self.ballot.neighbours):
            self.labels[self.ballot.points_of(frame)] = self._placed(frame, self.labels)
        grown = (self.labels == -1) & (before >= self.ballot.sizes[self.reference])  # which no reference can spread
        self.labels[grown] = before[grown]
        self._settle()

    def grow(self) -> None:
        """Add columns for neurons that the reference lacks, which are in a fifth of the frames at least."""
        free = np.flatnonzero(self.labels == -1)
        least = max(_NEW_PRESENT * np.count_nonzero(self.ballot.sizes), 2)
        found = newcomers(self.ballot.among(free), self._frame[free], self.ballot.together(), least)
        for points in found:
            self.labels[free[points]] = self.columns
            self.columns += 1
        self._settle()

    def hear(
        self,
        *,
        frame: np.ndarray,
        point: np.ndarray,
        column: np.ndarray,
        weight: float,
        away_point: np.ndarray,
        away_column: np.ndarray,
        columns: int,
    ) -> None:
        """Vote again with frames that are known: ``point`` (-1: none) of ``frame`` is ``column``.

        They become sources beside the reference, and their points have the ``weight``. What is ruled out (``away``)
        is so for good, here and in :meth:`correct`.
        """
        self.columns = columns
        for place, number in zip(away_point.tolist(), away_column.tolist(), strict=True):
            t = int(self._frame[place])
            self._away.setdefault(t, []).append((place - int(self.ballot.starts[t]), number))
            if self._fixed[place] == number:
                self._fixed[place] = -1
        self._fix(frame, point, column)
        self.weight[point[point >= 0]] = weight
        sources = [t for t in np.unique(frame).tolist() if self.ballot.sizes[t]]
        self._keys = set(sources)
        for t in sorted({*sources, *self._away}):
            self.labels[self.ballot.points_of(t)] = self._placed(t, self.labels)
        if sources:
            self.solve([t for t in sources if t != self.reference])

    def correct(self, frame: np.ndarray, point: np.ndarray, column: int) -> None:
        """Let ``column`` be the ``point`` (-1: none) in each ``frame``, and frames like those follow where they agree.

        Frames are no sources for this: where one point had to be put right, the others may be as wrong.
        """
        self._fix(frame, point, np.full(len(frame), column))
        wrong, displaced = [], {column}
        for t, place in zip(frame.tolist(), point.tolist(), strict=True):
            here = self.labels[self.ballot.points_of(t)]
            if (place >= 0 and self.labels[place] != column) or (place < 0 and column in here):
                wrong.append(t)
                displaced.add(int(self.labels[place]) if place >= 0 else column)
        if not wrong:
            return
        alike = {t for t, numbers in self._elsewhere.items() if displaced & set(numbers) and t not in self._keys}
        self.labels = spread(
            self.labels,
            wrong,
            self._placed,
            also=sorted(alike - set(wrong)),
            starts=self.ballot.starts,
            pairs=self.pairs,
            neighbours=self.ballot.neighbours,
            agreement=self.ballot.agreement,
        )

    def _fix(self, frame: np.ndarray, point: np.ndarray, column: np.ndarray) -> None:
        for t, number in zip(frame.tolist(), column.tolist(), strict=True):
            self._elsewhere.setdefault(t, []).append(number)
        own = self._fixed[self.ballot.points_of(self.reference)]
        own[np.isin(own, self._elsewhere.get(self.reference, []))] = -1
        stands = point >= 0
        self._fixed[point[stands]] = column[stands]

    def shares(self, frame: int) -> np.ndarray:
        """Return (point, column) the shares of the votes on a frame as the labels are."""
        return self.ballot.shares(frame, self.labels, self.columns, self.weight)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each (frame, column) the point within the frame, -1 for none, and its share of the votes."""
        detection = np.full((len(self.ballot), self.columns), -1)
        share = np.zeros(detection.shape)
        for frame in np.flatnonzero(self.ballot.sizes).tolist():
            labels = self.labels[self.ballot.points_of(frame)]
            shares = self.shares(frame)
            seen = np.flatnonzero(labels >= 0)
            detection[frame, labels[seen]] = seen
            share[frame, labels[seen]] = np.minimum(shares[seen, labels[seen]], 1.0)
        return detection, share

    def _placed(
        self,
        frame: int,
        labels: np.ndarray,
        columns: np.ndarray | None = None,
        told: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return labels of a frame by the votes on it, and by what is known.

        With ``columns`` only these are given, to points that have one of them or none; with ``told`` (frame,) only
        those frames vote.
        """
        points = self.ballot.points_of(frame)
        weight = self.weight if told is None else self.weight * told[self._frame]
        shares = self.ballot.shares(frame, labels, self.columns, weight)
        fixed = self._fixed[points]
        said = fixed >= 0
        shares[said] = 0
        shares[:, fixed[said]] = 0
        shares[:, self._elsewhere.get(frame, [])] = 0
        for point, column in self._away.get(frame, []):
            shares[point, column] = 0
        if columns is None:
            found = assigned(shares, _LEAST_SHARE)
        else:
            found = labels[points].copy()
            loose = np.flatnonzero((found == -1) | np.isin(found, columns))
            of_these = assigned(shares[np.ix_(loose, columns)], _LEAST_SHARE)
            found[loose] = np.where(of_these >= 0, columns[of_these], -1)
        found[said] = fixed[said]
        return found

    def _settle(self) -> None:
        """Let frames vote anew, in their order, where a neighbour has changed; a few times round at most."""
        frames = np.flatnonzero(self.ballot.sizes).tolist()
        stale = set(frames)
        for _ in range(_SWEEPS):
            for frame in frames:
                if frame in stale:
                    stale.discard(frame)
                    points, found = self.ballot.points_of(frame), self._placed(frame, self.labels)
                    if not np.array_equal(found, self.labels[points]):
                        self.labels[points] = found
                        stale.update(self.ballot.neighbours[frame])
            if not stale:
                break
