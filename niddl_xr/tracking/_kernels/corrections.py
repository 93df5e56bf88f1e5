"""How far a correction reaches: arrays and numbers only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from niddl_xr.tracking._kernels.posture_order import reached

# A frame is labelled anew: (frame, labels of all points, columns that may change, frames that have a say) -> its labels
Place = Callable[[int, np.ndarray, np.ndarray | None, np.ndarray | None], np.ndarray]
_PATIENCE = 60  # frames without gain after which no farther one is tried


def spread(
    labels: np.ndarray,
    sources: Collection[int],
    place: Place,
    *,
    also: Collection[int] = (),
    starts: np.ndarray,
    pairs: dict[tuple[int, int], float],
    neighbours: Sequence[Sequence[int]],
    agreement: Callable[[int, np.ndarray], float],
) -> np.ndarray:
    """Return labels in which the frames ``sources``, in which something was corrected, have told others.

    A tracker that is wrong is mostly wrong in all frames of a posture, where one mistake agrees with the other, so that
    no frame alone would change its mind. So the frames are told one after the other, in the order of likeness, by those
    that have been told; of all numbers of frames told, that one stays with which most matches agree. None is one of
    them: nothing is changed beyond the sources that makes more matches disagree.

    Parameters
    ----------
    labels
        (point,) of all frames, -1 for none.
    sources
        Frames in which a human has said something that the labels are not.
    place
        Labels a frame anew.
    also
        Frames that have been told before, of the same mistake.
    starts, pairs, neighbours
        Where the points of each frame begin; distances of matched frames; for each frame those that it is matched with.
    agreement
        (frame, labels) -> the sum of the probabilities of the matches of a frame's points with points of the same
        label.
    """
    before, labels = labels, labels.copy()
    for frame in sources:
        labels[starts[frame] : starts[frame + 1]] = place(frame, labels, None, None)
    changed = labels != before
    columns = np.setdiff1d(np.concatenate([labels[changed], before[changed]]), [-1])
    if not len(columns):
        return labels
    told = np.zeros(len(starts) - 1, bool)
    told[[*sources, *also]] = True
    best, gain, most, since = labels.copy(), 0.0, 0.0, 0
    for frame, _ in reached(pairs, [*sources, *also], neighbours):
        points = slice(int(starts[frame]), int(starts[frame + 1]))
        old = labels[points].copy()
        new = _kept_where_unsaid(place(frame, labels, columns, told), old)
        told[frame] = True
        since += 1
        if not np.array_equal(new, old):
            less = agreement(frame, labels)
            labels[points] = new
            gain += agreement(frame, labels) - less
            if gain > most:
                best, most, since = labels.copy(), gain, 0
        if since > _PATIENCE:
            break
    return best


def _kept_where_unsaid(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Let points that nobody has a say on keep what they were, unless another point has that label now."""
    silent = (new == -1) & (old >= 0)
    silent &= ~np.isin(old, new[new >= 0])
    return np.where(silent, old, new)
