"""Learning the row of neurons on which the frames of a cord agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niddl_xr.neurons import Frames
from niddl_xr.schema import NiddlError
from niddl_xr.tracking._kernels import body_curve, body_order
from niddl_xr.tracking._kernels.body_curve import Rows
from niddl_xr.tracking._kernels.body_order import Aligned, Row

LEAST_PROBABILITY = 0.4  # of a pair; what is less probable stays unassigned
REFERENCES = 2  # frames from which the row is learned
LEARNING_ROUNDS = 5  # at most
LEARNING_FRAMES = 120  # enough for the gaps between neurons
LEAST_FRACTION = 0.2  # of the frames, in which a neuron of the row is seen; false points gather in a twentieth at most
SIDES_UM = (-36.0, -24.0, -12.0, 0.0, 12.0, 24.0, 36.0)  # a worm of 1 mm is 64 µm wide
# How far beside the curve, and what strain is left there; for neurons along no such line, more strain.
BESIDE = (*((way, body_order.REST_STRAIN) for way in SIDES_UM), (0.0, body_order.STRAIN))
SIDE_FRAMES, SIDE_ROUNDS = 30, 2
RARELY_SEEN = 0.4  # missed in more frames than this, a neuron may be another one that was counted twice


@dataclass(frozen=True)
class Ways:
    """The points of all frames in order along the curve, and from its other end.

    The side on which the middle of the body lies changes with the end from which one looks.
    """

    here: Rows
    there: Rows

    @classmethod
    def of(cls, frames: Frames, curves: list[np.ndarray | None], gate_um: float, beside_um: float) -> Ways:
        """Put the points in order, at places along a line ``beside_um`` beside the curve."""
        here, there = (
            body_curve.in_order(frames.points, curves, gate_um, beside_um=way) for way in (beside_um, -beside_um)
        )
        return cls(here, there.from_the_other_end())

    def part(self, most: int) -> Ways:
        """Return at most so many of the frames with points, evenly spread."""
        filled = np.flatnonzero(np.isfinite(self.here.places).any(axis=1))
        chosen = filled[np.unique(np.linspace(0, len(filled) - 1, most).astype(int))]
        return Ways(self.here.part(chosen), self.there.part(chosen))


def beside(
    frames: Frames, curves: list[np.ndarray | None], gate_um: float, reference: int | None
) -> tuple[float, float]:
    """Return how far beside the cord lies the line along which gaps stay alike, in µm, and their strain along it."""
    explained = []
    for beside_um, strain in BESIDE:
        ways = Ways.of(frames, curves, gate_um, beside_um)
        count = np.isfinite(ways.here.places).sum(axis=1)
        start = _references(count, reference)[0]
        row = body_order.first_row(ways.here.places[start, : count[start]], strain)
        explained.append(_improved(ways.part(SIDE_FRAMES), row, SIDE_ROUNDS)[1])
    return BESIDE[int(np.argmax(explained))]


def learned_row(ways: Ways, reference: int | None, strain: float) -> Row:
    """Learn the row of neurons from several beginnings, and return the one that explains the points best."""
    count = np.isfinite(ways.here.places).sum(axis=1)
    some = ways.part(LEARNING_FRAMES)
    learned = []
    for start in _references(count, reference):
        row = body_order.first_row(ways.here.places[start, : count[start]], strain)
        learned.append(_improved(some, row))
    row, _ = max(learned, key=lambda one: one[1])
    return _improved(some, _pruned(in_direction(some, row)[0].places, row))[0]


def _improved(ways: Ways, row: Row, rounds: int = LEARNING_ROUNDS) -> tuple[Row, float]:
    """Learn as long as the row explains the points better; return it with the log likelihood of all frames."""
    turned, found = in_direction(ways, row)
    best, most = row, float(found.likelihood.sum())
    for number in range(rounds):
        row = body_order.learned_row(turned.places, row, found.chosen, least_fraction=LEAST_FRACTION)
        if number:
            found = body_order.aligned(turned.places, row, least=LEAST_PROBABILITY)
        else:  # only now is the row good enough to tell the ends apart
            turned, found = in_direction(ways, row)
        likelihood = float(found.likelihood.sum())
        if likelihood <= most:
            break
        best, most = row, likelihood
    return best, most


def _pruned(places: np.ndarray, row: Row) -> Row:
    """Take neurons out, the least seen first, where the others explain the points better: one may stand twice."""
    likelihood = float(body_order.aligned(places, row, least=LEAST_PROBABILITY).likelihood.sum())
    for place in row.places[np.argsort(-row.missed, kind="stable")][: int((row.missed > RARELY_SEEN).sum())]:
        fewer = row.without(int(np.abs(row.places - place).argmin()))
        if not len(fewer):
            break
        found = body_order.aligned(places, fewer, least=LEAST_PROBABILITY)
        fewer = body_order.learned_row(places, fewer, found.chosen, least_fraction=LEAST_FRACTION)
        explained = float(body_order.aligned(places, fewer, least=LEAST_PROBABILITY).likelihood.sum())
        if explained > likelihood:
            row, likelihood = fewer, explained
    return row


def _references(count: np.ndarray, reference: int | None) -> list[int]:
    """Return the frames to begin from: the one asked for, else such with a usual number of points, spread in time."""
    if reference is not None:
        if not count[reference]:
            raise NiddlError(f"expected a reference with points on a curve, got frame {reference}, which has none")
        return [reference]
    unusual = np.where(count > 0, np.abs(count - np.median(count[count > 0])), np.inf)
    parts = np.array_split(np.arange(len(count)), min(REFERENCES, len(count)))
    chosen = [int(part[unusual[part].argmin()]) for part in parts]
    return [frame for frame in chosen if count[frame]]


def in_direction(ways: Ways, row: Row) -> tuple[Rows, Aligned]:
    """See each frame from the end from which its gaps agree better with ``row``, and align it."""
    rows, other = ways.here, ways.there
    here, there = (body_order.aligned(each.places, row, least=LEAST_PROBABILITY) for each in (rows, other))
    turn = (there.likelihood > here.likelihood)[:, None]
    return (
        Rows(np.where(turn, other.places, rows.places), np.where(turn, other.numbers, rows.numbers)),
        Aligned(
            np.where(turn, there.chosen, here.chosen),
            np.where(turn, there.probability, here.probability),
            np.maximum(here.likelihood, there.likelihood),
        ),
    )
