"""Frames that vote on one another's points: arrays and numbers only.

Points of all frames are numbered through; ``labels`` gives for each the neuron (a column), -1 for none, and
:data:`UNPLACED` in frames that have no say yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from niddl_xr.tracking._kernels.posture_order import reached

UNPLACED = -2
_LEAST_SHARE = 0.1  # of the votes, for a point to be a neuron at all
_SWEEPS = 4
_NEW_ROUNDS = 6
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
        no say yet has none.
        """
        said = labels[self._far[frame]]
        votes = said >= 0
        place = self._own[frame][votes] * columns + said[votes]
        given = self._chance[frame][votes] * weight[self._far[frame][votes]]
        total = np.bincount(place, given, minlength=int(self.sizes[frame]) * columns)
        return total.reshape(int(self.sizes[frame]), columns) / max(self._voters(frame, labels, weight), 1e-9)

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

    def solve(self, sources: Sequence[int] = ()) -> None:
        """Let labels spread from the reference, and from other frames as they are labelled, then vote until stable."""
        before, self.labels = self.labels, np.full_like(self.labels, UNPLACED)
        sources = [self.reference, *sources]
        for frame in sources:
            points = self.ballot.points_of(frame)
            self.labels[points] = np.where(self._fixed[points] >= 0, self._fixed[points], before[points])
        for frame, _ in reached(self.pairs, sources, self.ballot.neighbours):
            self.labels[self.ballot.points_of(frame)] = self._placed(frame)
        grown = (self.labels == -1) & (before >= self.ballot.sizes[self.reference])  # which no reference can spread
        self.labels[grown] = before[grown]
        self._settle()

    def grow(self) -> None:
        """Add columns for points that the reference lacks: from the frame with most of them, round by round."""
        present = np.count_nonzero(self.ballot.sizes)
        for _ in range(_NEW_ROUNDS):
            free = np.bincount(self._frame[self.labels == -1], minlength=len(self.ballot))
            labels = self._spread_of_free(int(free.argmax()))
            counts = np.bincount(labels[labels >= 0], minlength=1)
            kept = np.flatnonzero(counts >= max(_NEW_PRESENT * present, 2))
            if not len(kept):
                break
            number = np.full(len(counts), -1)
            number[kept] = self.columns + np.arange(len(kept))
            new = np.where(labels >= 0, number[labels], -1)
            self.labels = np.where(new >= 0, new, self.labels)
            self.columns += len(kept)
        self._settle()

    def hear(
        self,
        *,
        frame: np.ndarray,
        point: np.ndarray,
        column: np.ndarray,
        weight: np.ndarray,
        away_point: np.ndarray,
        away_column: np.ndarray,
        columns: int,
    ) -> None:
        """Vote again with what is known: ``point`` (-1: none) of ``frame`` is ``column``; others are ruled out.

        The frames of which something is known become sources beside the reference.
        """
        self.columns = columns
        for t, number in zip(frame.tolist(), column.tolist(), strict=True):
            self._elsewhere.setdefault(t, []).append(number)
        for place, number in zip(away_point.tolist(), away_column.tolist(), strict=True):
            t = int(self._frame[place])
            self._away.setdefault(t, []).append((place - int(self.ballot.starts[t]), number))
            if self._fixed[place] == number:
                self._fixed[place] = -1
        own = self._fixed[self.ballot.points_of(self.reference)]
        own[np.isin(own, self._elsewhere.get(self.reference, []))] = -1
        stands = point >= 0
        self._fixed[point[stands]], self.weight[point[stands]] = column[stands], weight[stands]
        sources = [t for t in np.unique(frame).tolist() if self.ballot.sizes[t]]
        for t in sources:
            self.labels[self.ballot.points_of(t)] = self._placed(t)
        self.solve([t for t in sources if t != self.reference])

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each (frame, column) the point within the frame, -1 for none, and its share of the votes."""
        detection = np.full((len(self.ballot), self.columns), -1)
        share = np.zeros(detection.shape)
        for frame in np.flatnonzero(self.ballot.sizes).tolist():
            labels = self.labels[self.ballot.points_of(frame)]
            shares = self.ballot.shares(frame, self.labels, self.columns, self.weight)
            seen = np.flatnonzero(labels >= 0)
            detection[frame, labels[seen]] = seen
            share[frame, labels[seen]] = np.minimum(shares[seen, labels[seen]], 1.0)
        return detection, share

    def _placed(self, frame: int) -> np.ndarray:
        shares = self.ballot.shares(frame, self.labels, self.columns, self.weight)
        fixed = self._fixed[self.ballot.points_of(frame)]
        said = fixed >= 0
        shares[said] = 0
        shares[:, fixed[said]] = 0
        shares[:, self._elsewhere.get(frame, [])] = 0
        for point, column in self._away.get(frame, []):
            shares[point, column] = 0
        found = assigned(shares, _LEAST_SHARE)
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
                    points, found = self.ballot.points_of(frame), self._placed(frame)
                    if not np.array_equal(found, self.labels[points]):
                        self.labels[points] = found
                        stale.update(self.ballot.neighbours[frame])
            if not stale:
                break

    def _spread_of_free(self, source: int) -> np.ndarray:
        """Return labels (point,) of the points that are no neuron yet, as they spread from those of one frame."""
        labels = np.full_like(self.labels, UNPLACED)
        points = self.ballot.points_of(source)
        free = self.labels[points] == -1
        columns = int(free.sum())
        labels[points] = np.where(free, np.cumsum(free) - 1, -1)
        if columns:
            for frame, _ in reached(self.pairs, [source], self.ballot.neighbours):
                points = self.ballot.points_of(frame)
                free = self.labels[points] == -1
                labels[points] = -1
                if free.any():
                    shares = self.ballot.shares(frame, labels, columns, self.weight)
                    shares[~free] = 0
                    labels[points] = assigned(shares, _LEAST_SHARE)
        return labels
