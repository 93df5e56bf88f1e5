"""The method "body": neurons that lie on a cord are followed by their order along it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.neurons import Frames
from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.tracking._kernels import body_continuity, body_curve, body_order
from niddl_xr.tracking._kernels.body_curve import Rows
from niddl_xr.tracking._kernels.body_order import Aligned, Row
from niddl_xr.tracking.methods import Anchors, Linked
from niddl_xr.tracking.methods._body_names import Said, said_of
from niddl_xr.tracking.methods._body_row import LEAST_PROBABILITY, Ways, beside, in_direction, learned_row

TIGHTEST_BEND_UM = 100.0  # radius; a crawling worm bends by 8 to 10 per mm
# Of the points of a cord nearly all lie on its curve, and on the longest path of their tree; of those of a head half.
ON_THE_CURVE = 0.7
POOR = 0.75  # of the usual number of expected right pairs; a frame with fewer is drawn anew
CENTRELINE_DIMS = ("t", "s", "space")


def link(
    frames: Frames,
    *,
    anchors: Anchors | None,
    reference: int | None,
    gate_um: float,
    seed: int,
    centreline: Any = None,
) -> Linked:
    """Follow neurons of a cord by their order along the body.

    For recordings in which all neurons lie in a row, such as the ventral cord of a worm that moves freely, as maximum
    projections or as volumes. How far they move between two frames hardly matters.

    Parameters
    ----------
    frames
        Points of all frames; of maximum projections all have one z.
    anchors
        Points that are known. They hold in their frames, and give their neuron its name.
    reference
        The frame whose points begin the row of neurons; None takes one with as many points as is usual. Neurons that it
        lacks are added where points gather in a fifth of the frames.
    gate_um
        A point farther from the curve than this is no neuron, nor is one that is farther, by more than a bend explains,
        from the line between the neurons before and after it.
    seed
        Without effect: nothing is drawn.
    centreline
        The middle of the body in each frame, (t, s, 3) in µm along z, y, x, from head to tail: of a posture, or an
        array. NaN where it is not known. None draws a curve through the points of each frame.

    Returns
    -------
    Linked
        Neurons in order along the body; without a centreline either end may be the first. Neurons that an anchor names
        and that the row lacks come last. ``confidence`` is the probability of the pair.

    Raises
    ------
    NiddlError
        Where the points do not lie on a curve, or are too few for one, and for a centreline of other frames.

    Notes
    -----
    1. A curve through each frame: smoothing spline along the longest path of the points' minimum spanning tree; or the
    centreline, moved to where the points are. 2. Places along it, or along a line beside it: bends stretch one side of
    the body and compress the other, so that the gaps between neurons of a cord keep their length along the middle. How
    far away the middle is, and on which side, is what explains the points best. 3. Alignment of these places with a row
    of neurons, whose gaps are learned from the recording: a pair hidden Markov model (Durbin et al., Biological
    Sequence Analysis, 1998, ch. 4), which allows for points that are missed, false, or strained. The end at which a
    frame begins is the likelier one. 4. Once more, with where a neuron should be by the frames before and after.
    5. Where the body touches itself (omega turns) the tree takes short cuts: frames in which few points fit are drawn
    anew along the path of the neurons before, and after. The best of them stays.
    """
    del seed
    if not any(len(points) for points in frames.points):
        return _nothing(len(frames), anchors)
    curves = _curves(frames, centreline)
    _require_a_curve(frames, curves, gate_um)
    beside_um, strain = beside(frames, curves, gate_um, reference)
    ways = Ways.of(frames, curves, gate_um, beside_um)
    row = learned_row(ways, reference, strain)
    rows, found = in_direction(ways, row)
    said = said_of(anchors, _numbers(rows, found))

    chain = body_continuity.chain_of(frames.points, _numbers(rows, found), row)
    predicted = body_continuity.between(chain)
    spread = body_continuity.spread_um(chain, predicted)

    def evidence(part: slice) -> np.ndarray:
        expected = body_continuity.evidence(_points(frames, rows, part), predicted[part], spread)
        return np.asarray(expected + said.evidence(rows.numbers[part], part.start, len(row)))

    found = body_order.aligned(rows.places, row, least=LEAST_PROBABILITY, evidence=evidence)
    numbers, probability = _numbers(rows, found), found.probability
    _redraw(frames, row, numbers, probability, spread=spread, gate_um=gate_um, beside_um=beside_um)
    _drop_far_ones(frames, row, numbers, gate_um)
    said.impose(numbers, probability)
    return _linked(numbers, probability, said)


def _curves(frames: Frames, centreline: Any) -> list[np.ndarray | None]:
    if centreline is None:
        return [body_curve.curve_through(points) for points in frames.points]
    curves: list[np.ndarray | None] = []
    for line in _centreline(centreline, len(frames)):
        known = line[np.isfinite(line).all(axis=1)]
        curves.append(body_curve.resampled(known) if len(known) >= body_curve.FEWEST else None)
    everything = np.concatenate([*frames.points, *(curve for curve in curves if curve is not None)])
    flat = np.ptp(everything[:, 0]) == 0
    return body_curve.moved_onto(curves, frames.points) if flat else curves


def _centreline(centreline: Any, count: int) -> np.ndarray:
    if isinstance(centreline, xr.DataArray):
        if set(centreline.dims) != set(CENTRELINE_DIMS) or "space" not in centreline.coords:
            raise NiddlError(f"expected a centreline with dims {CENTRELINE_DIMS}, got {centreline.dims}")
        centreline = centreline.transpose(*CENTRELINE_DIMS).sel(space=list(SPACE_DIMS)).values
    try:
        lines = np.asarray(centreline, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise NiddlError(
            f"expected a centreline as an array {CENTRELINE_DIMS} in µm, got {centreline!r:.40}: give it again, the "
            "history of tracks does not keep it"
        ) from error
    if lines.ndim != 3 or lines.shape[0] != count or lines.shape[2] != 3:
        raise NiddlError(
            f"expected a centreline of {count} frames, (t, s, 3) in µm along z, y, x, "
            f"got an array of shape {lines.shape}"
        )
    if not np.isfinite(lines).all(axis=-1).any():
        raise NiddlError("expected a centreline that is known in some frames, got NaN in all; leave it out")
    return lines


def _require_a_curve(frames: Frames, curves: list[np.ndarray | None], gate_um: float) -> None:
    drawn = [(points, curve) for points, curve in zip(frames.points, curves, strict=True) if curve is not None]
    if not drawn:
        most = max(len(points) for points in frames.points)
        raise NiddlError(
            f"expected {body_curve.FEWEST} points or more in some frame to draw a curve through, got {most} at most: "
            'choose another method, such as "template"'
        )
    filled = [(points, curve) for points, curve in drawn if len(points)]
    near = [float((body_curve.project(points, curve)[1] <= gate_um).mean()) for points, curve in filled]
    on_path = [
        len(body_curve.longest_path(points)) / len(points) for points, _ in filled if len(points) >= body_curve.FEWEST
    ]
    if not near or np.median(near) < ON_THE_CURVE or np.median(on_path) < ON_THE_CURVE:
        share = min(float(np.median(values)) for values in (near, on_path) if values) if near else 0.0
        raise NiddlError(
            f"expected points on a curve, as neurons of a cord are, got frames in which {share:.0%} of the points are "
            'in a row: for neurons all around choose method="vote" or "template", and give positions in µm'
        )


def _numbers(rows: Rows, found: Aligned) -> np.ndarray:
    """Return the number within its frame (t, neuron) of each neuron's point, -1 for none."""
    if not rows.numbers.shape[1]:
        return found.chosen
    numbers: np.ndarray = np.take_along_axis(rows.numbers, np.maximum(found.chosen, 0), axis=1)
    return np.where(found.chosen >= 0, numbers, -1)


def _points(frames: Frames, rows: Rows, part: slice) -> np.ndarray:
    """Return the places (t, point, 3) of the points of ``rows``, NaN after the last of a frame."""
    numbers = rows.numbers[part]
    points = np.full((*numbers.shape, 3), np.nan)
    for t, (own, cloud) in enumerate(zip(numbers, frames.points[part], strict=True)):
        points[t, own >= 0] = cloud[own[own >= 0]]
    return points


def _redraw(
    frames: Frames,
    row: Row,
    numbers: np.ndarray,
    probability: np.ndarray,
    *,
    spread: float,
    gate_um: float,
    beside_um: float,
) -> None:
    """Put into ``numbers`` and ``probability`` (t, neuron) what following finds in frames in which little fits."""
    fits = probability.sum(axis=1)
    poor = np.flatnonzero(fits < POOR * np.median(fits))
    if not np.isfinite(spread) or not len(poor):
        return
    chain = body_continuity.chain_of(frames.points, numbers, row)
    chain[poor] = np.nan
    for step in (1, -1):
        found = body_continuity.followed(
            poor[::step].tolist(),
            step,
            frames.points,
            chain,
            row,
            spread=spread,
            gate_um=gate_um,
            beside_um=beside_um,
            least=LEAST_PROBABILITY,
        )
        for t, own in found.items():
            if own.probability.sum() > probability[t].sum():
                numbers[t], probability[t] = own.numbers, own.probability


def _drop_far_ones(frames: Frames, row: Row, numbers: np.ndarray, gate_um: float) -> None:
    """Take out of ``numbers`` (t, neuron) points that are far from the line between those before and after them."""
    for t, own in enumerate(numbers):
        known = np.flatnonzero(own >= 0)
        if len(known) < 3:
            continue
        places = frames.points[t][own[known]]
        at = row.places[known]
        share = (at[1:-1] - at[:-2]) / np.maximum(at[2:] - at[:-2], 1e-9)
        expected = places[:-2] + share[:, None] * (places[2:] - places[:-2])
        off = np.sqrt(((places[1:-1] - expected) ** 2).sum(axis=1))
        sagitta = ((places[2:] - places[:-2]) ** 2).sum(axis=1) / (8 * TIGHTEST_BEND_UM)
        numbers[t, known[1:-1][off > gate_um + sagitta]] = -1


def _linked(numbers: np.ndarray, probability: np.ndarray, said: Said) -> Linked:
    """Add columns for neurons that humans name and the row lacks."""
    lacking = len(said.names) - numbers.shape[1]
    frames = len(numbers)
    numbers = np.concatenate([numbers, np.full((frames, lacking), -1)], axis=1)
    probability = np.concatenate([probability, np.zeros((frames, lacking))], axis=1)
    for t, neuron, point in said.pairs[said.pairs[:, 1] >= len(said.names) - lacking]:
        numbers[t, neuron], probability[t, neuron] = point, 1.0
    return Linked(numbers, np.where(numbers >= 0, np.clip(probability, 0, 1), 0.0), said.names)


def _nothing(frames: int, anchors: Anchors | None) -> Linked:
    names = [] if anchors is None else anchors.names
    return Linked(np.full((frames, len(names)), -1), np.zeros((frames, len(names))), names)
