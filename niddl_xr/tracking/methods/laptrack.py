"""Linear assignment from frame to frame, then of the ends of tracks to later beginnings: for cells that come and go.

The library laptrack does both; here its tracks become neurons, and what a human has said is put into them.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from niddl_xr.neurons import Frames
from niddl_xr.schema import NiddlError
from niddl_xr.tracking._kernels.registration import brought_near, coherent_point_drift, misfit_um
from niddl_xr.tracking.methods import Anchors, Linked

_SHARE_OF_SPACING = 0.6  # a point beyond more than half the way to the next nucleus may as well be that nucleus
_FEWEST_FOR_A_DEFORMATION = 6
Node = tuple[int, int]  # frame, number of the point within it


def link(
    frames: Frames,
    *,
    anchors: Anchors | None,
    reference: int | None,
    gate_um: float,
    seed: int,
    step_um: float | None = None,
    gap_frames: int = 16,
    least_points: int = 3,
    align: bool = True,
) -> Linked:
    """Link neighbouring frames at the least sum of squared distances, then close gaps in the same way.

    Parameters
    ----------
    frames, anchors
        As in :mod:`niddl_xr.tracking.methods`. Anchored detections of one name become one track, and a track that
        holds two names is cut between them.
    reference
        Must be None: no frame names the neurons.
    gate_um
        Neither a link nor a gap is longer, whatever ``step_um``.
    seed
        Not used: nothing is random.
    step_um
        Longest link, and longest gap, in µm. The default is 0.6 of the median distance between neighbouring points of
        a frame, at most ``gate_um``. Results depend on it: with nuclei 5 µm apart 3 µm is good, and 6 µm loses a
        tenth of the links to neighbours.
    gap_frames
        Longest run of frames in which a neuron is not detected and is still found again; 16 is 4 s at 4 volumes a
        second. After a longer one it is a new neuron.
    least_points
        Tracks of fewer points are taken for false detections, unless an anchor is in them, or no more frames have
        points.
    align
        Measure links after every frame was brought onto the one before, rigidly and then smoothly, as tissue deforms:
        of the points' distances only what is their own remains. False for cells that crawl each for itself.

    Returns
    -------
    Linked
        A neuron a track, in the order of their beginnings. One that is lost for long, or leaves and comes back, is
        two: ``min_fraction`` of :func:`niddl_xr.track` drops what is short, so set it low for cells that enter and
        leave. ``confidence`` falls off with the length of the links to both sides, as a Gaussian of half ``step_um``.

    Raises
    ------
    NiddlError
        Without the package laptrack, for a reference, and for options out of range.

    Notes
    -----
    Jaqaman et al., Nature Methods 5:695 (2008), as implemented by Fukai and Kawaguchi, Bioinformatics 39:btac799
    (2023). Nothing divides or merges.
    """
    if reference is not None:
        raise NiddlError(f"expected no reference: method 'laptrack' names neurons by no frame, got {reference}")
    if step_um is not None and not (np.isfinite(step_um) and step_um > 0):
        raise NiddlError(f"expected step_um as a positive distance in µm, got {step_um}")
    for name, value, least in (("gap_frames", gap_frames, 0), ("least_points", least_points, 1)):
        if not (isinstance(value, int | np.integer) and value >= least):
            raise NiddlError(f"expected {name} as a whole number of at least {least}, got {value!r}")
    step_um = min(gate_um, _usual_step_um(frames, gate_um) if step_um is None else step_um)
    least_points = min(least_points, sum(len(cloud) > 0 for cloud in frames.points))
    said, points = _said(anchors), _aligned(frames.points) if align else frames.points
    tracks = _cut(_tracks(points, said, step_um, gap_frames), said, points)
    tracks = [track for track in tracks if len(track) >= least_points or any(node in said for node in track)]
    return _linked(points, _named(tracks, said, anchors, least_points), step_um)


def _usual_step_um(frames: Frames, gate_um: float) -> float:
    spacings = [KDTree(points).query(points, k=2)[0][:, 1] for points in frames.points if len(points) > 1]
    if not spacings:
        return gate_um
    return _SHARE_OF_SPACING * float(np.median(np.concatenate(spacings)))


def _aligned(points: list[np.ndarray]) -> list[np.ndarray]:
    """Return the points with every frame deformed onto the frame with points before it, where that brings it nearer."""
    aligned: list[np.ndarray] = []
    before = np.empty((0, 3))
    for frame in points:
        near = brought_near(frame, before)
        if min(len(frame), len(before)) >= _FEWEST_FOR_A_DEFORMATION:
            deformed, _ = coherent_point_drift(near, before)
            near = deformed if misfit_um(deformed, before) < misfit_um(near, before) else near
        aligned.append(near)
        before = near if len(frame) else before
    return aligned


def _said(anchors: Anchors | None) -> dict[Node, str]:
    """Return the name of every anchored detection."""
    if anchors is None:
        return {}
    rows = zip(anchors.frame, anchors.detection, anchors.neuron, strict=True)
    return {(int(frame), int(number)): str(name) for frame, number, name in rows if number >= 0}


def _tracks(points: list[np.ndarray], said: dict[Node, str], step_um: float, gap_frames: int) -> list[list[Node]]:
    """Return the tracks, each a list of nodes in the order of time."""
    if not any(map(len, points)):
        return []
    tracker = _library()(
        cutoff=step_um**2,
        gap_closing_cutoff=step_um**2 if gap_frames else False,
        gap_closing_max_frame_count=gap_frames + 1,  # it counts from the last point to the next
        track_start_cost=step_um**2,
        track_end_cost=step_um**2,
        segment_start_cost=step_um**2,
        segment_end_cost=step_um**2,
        splitting_cutoff=False,
        merging_cutoff=False,
    )
    graph = tracker.predict(points, connected_edges=_edges(said) or None)
    following = {node: after for node, after in graph.edges()}
    beginnings = sorted(node for node in graph.nodes() if graph.in_degree(node) == 0)
    tracks = []
    for node in beginnings:
        track = [node]
        while track[-1] in following:
            track.append(following[track[-1]])
        tracks.append([(int(frame), int(number)) for frame, number in track])
    return tracks


def _library() -> Any:
    try:
        from laptrack import LapTrack
    except ImportError as error:
        raise NiddlError(
            "expected the package laptrack for method 'laptrack', got none: pip install \"niddl-xr[tracking]\""
        ) from error
    return LapTrack


def _edges(said: dict[Node, str]) -> list[tuple[Node, Node]]:
    """Return links between anchored detections of one name in frames that follow one another."""
    names = {(frame, name): number for (frame, number), name in said.items()}
    return [
        ((frame, number), (frame + 1, names[frame + 1, name]))
        for (frame, number), name in sorted(said.items())
        if (frame + 1, name) in names
    ]


def _cut(tracks: list[list[Node]], said: dict[Node, str], points: list[np.ndarray]) -> list[list[Node]]:
    """Cut tracks that hold several names, at the longest link between two of them."""
    parts = []
    for track in tracks:
        anchored = [place for place, node in enumerate(track) if node in said]
        path = np.array([points[frame][number] for frame, number in track])
        start = 0
        for here, there in pairwise(anchored):
            if said[track[here]] != said[track[there]]:
                lengths = np.linalg.norm(np.diff(path[here : there + 1], axis=0), axis=1)
                end = here + 1 + int(lengths.argmax())
                parts.append(track[start:end])
                start = end
        parts.append(track[start:])
    return parts


def _named(
    tracks: list[list[Node]], said: dict[Node, str], anchors: Anchors | None, least_points: int
) -> list[tuple[str, list[Node]]]:
    """Put tracks of one name together; of two points in one frame that nearer in time to an anchor stays."""
    named: dict[str, list[list[Node]]] = {} if anchors is None else {name: [] for name in anchors.names}
    others = []
    former = _former_names(tracks, anchors)
    for number, track in enumerate(tracks):
        name = next((said[node] for node in track if node in said), former.get(number, ""))
        if name:
            named[name].append(track)
        else:
            others.append(("", track))
    ruled_out = set() if anchors is None else _ruled_out(anchors)
    together = []
    for name, parts in named.items():
        best: dict[int, tuple[int, Node]] = {}
        spoken_of = [[frame for frame, number in part if (frame, number) in said] for part in parts]
        for part, own in zip(parts, spoken_of, strict=True):
            anchored = np.array(own or list(chain.from_iterable(spoken_of)))
            for node in part:
                away = int(np.abs(anchored - node[0]).min())
                if (name, node) not in ruled_out and (node[0] not in best or away < best[node[0]][0]):
                    best[node[0]] = away, node
        mine = {node for _, node in best.values()}
        together.append((name, sorted(mine)))
        left = [[node for node in part if node not in mine and (name, node) not in ruled_out] for part in parts]
        others += [("", part) for part in left if len(part) >= least_points]
    return [*together, *others]


def _former_names(tracks: list[list[Node]], anchors: Anchors | None) -> dict[int, str]:
    """Return the names of tracks that were, by former tracks, neurons of which an anchor speaks."""
    if anchors is None or anchors.former is None:
        return {}
    detection = np.full((int(anchors.former.frame.max(initial=0)) + 1, len(tracks)), -1)
    for number, track in enumerate(tracks):
        for frame, point in track:
            if frame < len(detection):
                detection[frame, number] = point
    meant = anchors.former.columns(detection)
    placed = {str(name) for name, point in zip(anchors.neuron, anchors.detection, strict=True) if point >= 0}
    return {number: name for name, number in meant.items() if name in placed}


def _ruled_out(anchors: Anchors) -> set[tuple[str, Node]]:
    rows = zip(anchors.forbidden, anchors.forbidden_neuron, strict=True)
    return {(str(name), (int(frame), int(number))) for (frame, number), name in rows}


def _linked(points: list[np.ndarray], neurons: list[tuple[str, list[Node]]], step_um: float) -> Linked:
    detection = np.full((len(points), len(neurons)), -1, dtype=np.int32)
    confidence = np.zeros(detection.shape, dtype=np.float32)
    for column, (_, track) in enumerate(neurons):
        if not track:
            continue
        frame, number = np.array(track).T
        path = np.array([points[t][n] for t, n in track])
        length = np.linalg.norm(np.diff(path, axis=0), axis=1)
        longest = np.maximum(np.append(length, 0.0), np.append(0.0, length))
        detection[frame, column] = number
        confidence[frame, column] = np.exp(-2 * (longest / step_um) ** 2)
    return Linked(detection, confidence, [name for name, _ in neurons], attrs={"step_um": step_um})
