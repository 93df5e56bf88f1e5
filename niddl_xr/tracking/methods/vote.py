"""Every frame is matched to those that are most like it, which vote: for brains that move, turn and deform."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from niddl_xr.neurons import Frames, neuron_names
from niddl_xr.schema import NiddlError
from niddl_xr.tracking._kernels.descriptors import cloud_descriptors
from niddl_xr.tracking._kernels.orientation import posed, poses_onto, smoothest
from niddl_xr.tracking._kernels.pair_matching import MATCH, MOST_POINTS, pair_matches
from niddl_xr.tracking._kernels.posture_order import distances, most_typical, reached, similar_frames
from niddl_xr.tracking._kernels.voting import Ballot, Poll
from niddl_xr.tracking._matches import Matches, digest_of
from niddl_xr.tracking.methods import Anchors, Former, Linked

_VERSION = "1"  # of what is kept: another one with every change of the numbers that the kernels give
_KEY_WEIGHT = 4.0  # of the points of a key frame that a human has named, beside those of other frames
_KEY_FRAMES = 4  # with which each frame is matched beside those that are most like it
_KEY_SHARE = 0.5  # of a frame's points: where a human has named as many, the frame is a key frame


def link(
    frames: Frames,
    *,
    anchors: Anchors | None,
    reference: int | None,
    gate_um: float,
    seed: int,
    n_neighbors: int = 12,
    stiffness_um: float = 40.0,
    regularisation: float = 0.03,
    matches: str | os.PathLike[str] | None = None,
) -> Linked:
    """Link frames by the votes of those that are most alike.

    All frames are turned onto one another, each is matched to the frames most like it and to the next in time, and
    neurons spread from the reference, in the order of likeness, to frames whose matched neighbours vote. Then all
    frames vote anew, until nothing changes.

    Parameters
    ----------
    frames, anchors, gate_um
        As in :mod:`niddl_xr.tracking.methods`. Points of a pair of frames that lie farther apart than ``gate_um``
        after one frame is deformed onto the other are no match.
    reference
        Frame whose points become the neurons. The default is the frame that is most like all others.
    seed
        Of the random waves by which frames are compared.
    n_neighbors
        Frames, most alike, with which each is matched.
    stiffness_um
        Distance over which neighbours move alike, of two frames that are turned alike.
    regularisation
        How much smoothness counts beside nearness.
    matches
        Folder of its own in which matches of pairs are kept beyond the process; it is made where it is missing. They
        are kept in memory always, so that tracking again takes seconds.

    Returns
    -------
    Linked
        The points of the reference in their order, named n001, n002, … unless anchors name them, then points that the
        reference lacks and a fifth of the frames have, then neurons that only anchors know. ``confidence`` is the
        share of the votes, 0 to 1. ``attrs`` hold ``reference_frame`` and ``parent_frame``, for each frame the one
        from which it was reached (-1 for the reference and frames without points).

    Raises
    ------
    NiddlError
        For a reference without points, options out of range, frames of more than 65,535 points, and a folder of
        matches that holds other files.

    Notes
    -----
    Votes of many frames: Nguyen et al., PLoS Comput. Biol. 13:e1005517 (2017). A spanning tree of postures and votes
    along it, neurons found among points of nobody, and how far an anchor reaches: docs/decisions/0018.

    Frames of which half is anchored (key frames) are sources beside the reference, are matched to frames that are like
    them, and their points have four times the weight of others. Another anchor changes the frames like its own as far
    as more matches agree than before, one anchor after the other in the order in which they are given. A name means
    the neuron that former tracks say. Without them it is that of the reference's point that it stands at; of a name
    without an anchor in the reference, that of the neuron n001, ... that it has the form of, else of the neuron that
    the frames, without any anchor, take most of its points for; a point that is ruled out counts twice.
    """
    _require_options(stiffness_um=stiffness_um, regularisation=regularisation, n_neighbors=n_neighbors)
    sizes = [len(points) for points in frames.points]
    if max(sizes, default=0) > MOST_POINTS:
        raise NiddlError(f"expected at most {MOST_POINTS} points a frame, got {max(sizes)}: are they neurons?")
    filled = np.flatnonzero(sizes)
    if reference is not None and reference not in filled:
        raise NiddlError(f"expected a reference with points, got frame {reference}, which has none")
    if not len(filled):
        names = [] if anchors is None else anchors.names
        nothing = np.zeros((len(frames), len(names)))
        return Linked(nothing.astype(int) - 1, nothing, names)
    clouds, descriptors, typical = _turned(frames.points, filled, seed, matches)
    reference = typical if reference is None else reference
    pairs = similar_frames(descriptors, filled, n_neighbors)
    if anchors is not None:
        pairs |= _pairs_with_key_frames(descriptors, filled, np.asarray(sizes), anchors)
    options = {"gate_um": gate_um, "stiffness_um": stiffness_um, "regularisation": regularisation}
    poll = Poll(Ballot(sizes, _matched(clouds, pairs, matches, options)), pairs, reference)
    poll.solve()
    poll.grow()
    names = neuron_names(poll.columns)
    if anchors is not None:
        names = _heard(poll, anchors, names)
    detection, confidence = poll.tables()
    parent = np.full(len(frames), -1)
    for frame, source in reached(pairs, [reference], poll.ballot.neighbours):
        parent[frame] = source
    return Linked(detection, confidence, names, attrs={"reference_frame": reference, "parent_frame": parent.tolist()})


def _require_options(*, stiffness_um: float, regularisation: float, n_neighbors: int) -> None:
    for name, value in (("stiffness_um", stiffness_um), ("regularisation", regularisation)):
        if not (np.isfinite(value) and value > 0):
            raise NiddlError(f"expected {name} as a positive number, got {value}")
    if n_neighbors < 1 or n_neighbors != int(n_neighbors):
        raise NiddlError(f"expected n_neighbors as a whole number from 1, got {n_neighbors}")


def _turned(
    points: Sequence[np.ndarray], filled: np.ndarray, seed: int, folder: str | os.PathLike[str] | None
) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Turn all frames alike; returns the clouds, their descriptors (t, k) and the frame that is most like all.

    The first frame onto which they are turned, the middle one of those with many points, is any; the second is the
    most typical.
    """
    counts = np.array([len(points[t]) for t in filled])
    full = filled[counts >= np.median(counts)]
    target = int(full[len(full) // 2])
    digests = {int(t): digest_of(points[t]) for t in filled}
    clouds, descriptors = list(points), np.empty((0, 0))
    with Matches("poses", np.dtype(float), folder) as cache:
        for _ in range(2):
            found = []
            for t in filled.tolist():
                key = digest_of(_VERSION, digests[t], digests[target])
                poses = cache.get(key)
                if poses is None:
                    poses = poses_onto(points[t], points[target]).ravel()
                    cache.put(key, poses)
                found.append(poses.reshape(-1, 12))
            every = [posed(points[t], pose) for t, poses in zip(filled, found, strict=True) for pose in poses]
            table = cloud_descriptors([points[target], *every], np.random.default_rng(seed))
            starts = 1 + np.cumsum([0, *[len(poses) for poses in found]])
            chosen = smoothest(found, np.split(table[1:], starts[1:-1] - 1), table[0])
            descriptors = np.full((len(points), table.shape[1]), np.nan, dtype=table.dtype)
            for t, poses, start, number in zip(filled, found, starts[:-1], chosen, strict=True):
                clouds[t], descriptors[t] = posed(points[t], poses[number]), table[start + number]
            before, target = target, most_typical(descriptors, full)
            if target == before:
                break
    return clouds, descriptors, target


def _key_frames(anchors: Anchors, sizes: np.ndarray) -> np.ndarray:
    """Return the frames of whose points half are named."""
    named = np.bincount(anchors.frame[anchors.detection >= 0], minlength=len(sizes))
    return np.flatnonzero((named > 0) & (named >= _KEY_SHARE * sizes))


def _pairs_with_key_frames(
    descriptors: np.ndarray, filled: np.ndarray, sizes: np.ndarray, anchors: Anchors
) -> dict[tuple[int, int], float]:
    """Return pairs of each frame with the key frames that are most like it, and their distances."""
    key_frames = _key_frames(anchors, sizes)
    pairs = {}
    for t in filled.tolist():
        others = key_frames[key_frames != t]
        away = distances(descriptors[[t]], descriptors[others])[0]
        for number in np.argsort(away, kind="stable")[:_KEY_FRAMES]:
            pairs[min(t, int(others[number])), max(t, int(others[number]))] = float(away[number])
    return pairs


def _matched(
    clouds: Sequence[np.ndarray],
    pairs: dict[tuple[int, int], float],
    folder: str | os.PathLike[str] | None,
    options: dict[str, float],
) -> dict[tuple[int, int], np.ndarray]:
    digests = [digest_of(cloud) for cloud in clouds]
    word = f"{_VERSION}{sorted((name, float(value)) for name, value in options.items())}"
    found = {}
    with Matches("pairs", MATCH, folder) as cache:
        for one, other in sorted(pairs):
            key = digest_of(word, digests[one], digests[other])
            entry = cache.get(key)
            if entry is None:
                entry = pair_matches(clouds[one], clouds[other], **options)
                cache.put(key, entry)
            found[one, other] = entry
    return found


def _heard(poll: Poll, anchors: Anchors, names: list[str]) -> list[str]:
    """Vote again with what a human has said; returns the names, in which those of anchors have their place."""
    starts = poll.ballot.starts
    points = np.where(anchors.detection >= 0, starts[anchors.frame] + anchors.detection, -1)
    away_points = starts[anchors.forbidden[:, 0]] + anchors.forbidden[:, 1]
    if anchors.former is not None:
        columns = _columns_meant(anchors.former, anchors, points, poll)
    else:
        labels = np.where(points >= 0, poll.labels[points], -1)
        columns = _columns_of(anchors, labels, poll.labels[away_points], names, poll.reference)
    unknown = max([-1, *columns.values()]) + 1 - poll.columns
    names = ["" if name in columns else name for name in names] + [""] * unknown
    for name, column in columns.items():
        names[column] = name
    said = np.array([columns[name] for name in anchors.neuron], dtype=int)
    known = [row for row, name in enumerate(anchors.forbidden_neuron) if name in columns]
    in_key_frame = np.isin(anchors.frame, _key_frames(anchors, poll.ballot.sizes))
    poll.hear(
        frame=anchors.frame[in_key_frame],
        point=points[in_key_frame],
        column=said[in_key_frame],
        weight=_KEY_WEIGHT,
        away_point=away_points[known],
        away_column=np.array([columns[anchors.forbidden_neuron[row]] for row in known], dtype=int),
        columns=len(names),
    )
    single = np.flatnonzero(~in_key_frame)
    # One after the other, as they were said: another one at the end changes nothing of what came before.
    for rows in np.split(single, np.flatnonzero(np.diff(said[single])) + 1):
        if len(rows):
            poll.correct(anchors.frame[rows], points[rows], int(said[rows[0]]))
    return names


def _columns_meant(former: Former, anchors: Anchors, points: np.ndarray, poll: Poll) -> dict[str, int]:
    """Return the column of each anchored name: that of the neuron of former tracks with which it shares most points.

    A name that they know too little of takes a neuron that was none of theirs, if votes say that it is at its
    ``points``, else a new column.
    """
    meant = former.columns(poll.tables()[0])
    columns = {name: meant[name] for name in anchors.names if name in meant}
    nobodys = np.setdiff1d(np.arange(poll.columns), list(meant.values()))
    for name in anchors.names:
        if name not in columns:
            shares = np.zeros(len(nobodys))
            for row in np.flatnonzero((anchors.neuron == name) & (points >= 0)):
                shares += poll.shares(int(anchors.frame[row]))[anchors.detection[row], nobodys]
            if shares.any():
                columns[name] = int(nobodys[shares.argmax()])
                nobodys = nobodys[nobodys != columns[name]]
    new = poll.columns
    for name in anchors.names:
        if name not in columns:
            columns[name], new = new, new + 1
    return columns


def _columns_of(
    anchors: Anchors, found: np.ndarray, away: np.ndarray, names: list[str], reference: int
) -> dict[str, int]:
    """Return the column of each anchored name, where ``found`` and ``away`` are those of its points by the votes.

    The reference decides, then the name itself, then the votes, and what is left gets new columns. Votes are asked
    last, as a correction stands just where they were wrong; so a point that is ruled out, which the votes took for the
    neuron, counts twice.
    """
    astray = set(anchors.forbidden_neuron[anchors.forbidden[:, 0] == reference].tolist())
    columns = {
        str(name): int(column)
        for frame, name, column in zip(anchors.frame, anchors.neuron, found, strict=True)
        if frame == reference and column >= 0 and name not in astray
    }
    taken, place = set(columns.values()), {name: column for column, name in enumerate(names)}
    columns |= {
        name: place[name]
        for name in anchors.names
        if name not in columns and name in place and place[name] not in taken
    }
    others = [name for name in anchors.names if name not in columns]
    number = {name: row for row, name in enumerate(others)}
    together = np.zeros((len(others), len(names)))
    for said, labels, count in ((anchors.neuron, found, 1), (anchors.forbidden_neuron, away, 2)):
        for name, column in zip(said, labels, strict=True):
            if name in number and column >= 0:
                together[number[name], column] += count
    together[:, list(columns.values())] = 0
    for row, column in zip(*linear_sum_assignment(-together), strict=True):
        if together[row, column] > 0:
            columns[others[row]] = int(column)
    for name in others:
        columns.setdefault(name, max([len(names) - 1, *columns.values()]) + 1)
    return columns
