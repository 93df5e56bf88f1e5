"""How near tracks are to the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr.metrics import _track_scores
from niddl_xr.neurons import require_tracks
from niddl_xr.schema import MICROMETRE, SPACE_DIMS, NiddlError

if TYPE_CHECKING:
    import pandas as pd

_WANTED = 0.99  # of the points, for edits_to_99


def score_tracks(pred: xr.Dataset, truth: xr.Dataset, *, gate_um: float = 3.0, filled: bool = False) -> pd.Series:
    """Judge tracks by the true ones.

    Neurons need not have the same names: over the whole recording each true neuron gets the predicted one that is most
    often near it, one to one.

    Parameters
    ----------
    pred, truth
        Tracks of the same frames, in µm. Of the truth, points that are observed count; a neuron that is only in
        ``pred`` is wrong, so a truth that knows some of the neurons gives an honest ``fraction_correct`` alone.
    gate_um
        A point within this distance of a true one can be it. 3 µm is about a nucleus and less than the usual distance
        of two (4.9 µm in a worm's head).
    filled
        Count points of ``pred`` too where nothing was detected (``observed`` False) but a position is given.

    Returns
    -------
    pandas.Series
        Float, 0 to 1 but for the last:

        ``HOTA``, ``DetA``, ``AssA``
            Higher-order tracking accuracy, the geometric mean of its detection and association accuracies.
        ``IDF1``
            Points under the right name: 2 right / (points of ``pred`` + points of ``truth``).
        ``TRA``, ``DET``, ``LNK``
            Of the Cell Tracking Challenge: points and links, points, links. Successive points of a neuron are linked,
            over gaps too.
        ``fraction_correct``
            Part of the true points at which the neuron's own predicted point is within the gate.
        ``fraction_correct_p10``
            The same of single frames: a tenth of the frames are worse.
        ``edits_to_99``
            How many corrections it takes until 99 % of the true points are right, if a tracker learned nothing from
            them: one repairs a neuron as long as the same other one, or none, stands in its place; two neurons that
            stand for each other are one correction.

        ``attrs["fraction_correct_t"]`` is the list of the fraction in each frame, NaN where the truth has no point;
        ``attrs["neurons"]`` names for each true neuron the predicted one that stands for it, None for those without.
        What there is nothing to judge by is NaN.

    Raises
    ------
    NiddlError
        For what are no tracks, positions that are not in µm, other frames, and a gate that is not positive.

    See Also
    --------
    track_errors : which points are wrong.

    Notes
    -----
    *HOTA* (Luiten et al., Int. J. Comput. Vis. 129:548, 2021, eqs. 2 to 4) at one threshold of localisation, the
    gate, in place of a mean over thresholds of overlap: points have none. Points are matched frame by frame, as many
    as possible, then as near as possible; Luiten et al. let the names break ties. *IDF1* is that of Ristani et al.
    (ECCV Workshops, 2016, arXiv:1609.01775): one assignment of names for all frames. *TRA*, *DET* and *LNK* are those
    of Matula et al. (PLoS ONE 10:e0144959, 2015), for tracks without divisions.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> truth = whole_brain(shape=(5, 40, 64), frames=8, neurons=6)["tracks"].to_dataset()
    >>> exchanged = truth.position.copy(deep=True)
    >>> exchanged[:2, :2] = truth.position[:2, 1::-1].values
    >>> scores = score_tracks(truth.assign(position=exchanged), truth)
    >>> round(float(scores.fraction_correct), 3), int(scores.edits_to_99)
    (0.917, 1)
    """
    import pandas as pd

    matches, predicted = _matched(pred, truth, gate_um, filled)
    higher, detection, association = _track_scores.hota(matches)
    tracking, detected, linked = _track_scores.challenge_scores(matches)
    known = matches.true.sum(axis=1)
    curve = np.full(len(known), np.nan)
    np.divide(matches.right.sum(axis=1), known, out=curve, where=known > 0)
    points = int(known.sum())
    scores = pd.Series(
        {
            "HOTA": higher,
            "DetA": detection,
            "AssA": association,
            "IDF1": _track_scores.idf1(matches),
            "TRA": tracking,
            "DET": detected,
            "LNK": linked,
            "fraction_correct": int(matches.right.sum()) / points if points else np.nan,
            "fraction_correct_p10": float(np.nanquantile(curve, 0.1)) if points else np.nan,
            "edits_to_99": float(_track_scores.edits_needed(matches, _WANTED)) if points else np.nan,
        }
    )
    # Lists and names, not arrays: pandas compares attrs when it joins tables.
    scores.attrs = {"fraction_correct_t": curve.tolist(), "neurons": predicted}
    return scores


def track_errors(pred: xr.Dataset, truth: xr.Dataset, *, gate_um: float = 3.0, filled: bool = False) -> xr.DataArray:
    """Say of every predicted point whether it is wrong.

    Parameters
    ----------
    pred, truth, gate_um, filled
        As in :func:`score_tracks`, but a point is judged by where its neuron truly is, observed or not: a filled
        position can be right where the truth knows one.

    Returns
    -------
    xarray.DataArray
        "wrong" (t, neuron) with the neurons of ``pred``, float32: 1 where its true neuron is not within the gate, or
        where it stands for none; 0 where it is; NaN where there is no predicted point, or the truth knows no place.

    Raises
    ------
    NiddlError
        As :func:`score_tracks`.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> truth = whole_brain(shape=(5, 40, 64), frames=8, neurons=6)["tracks"].to_dataset()
    >>> float(track_errors(truth, truth).sum())
    0.0
    """
    matches, _ = _matched(pred, truth, gate_um, filled)
    pred, truth = require_tracks(pred), require_tracks(truth)
    position, places = _positions(pred, filled), truth["position"].values.astype(np.float64)
    truth_of = np.full(position.shape[1], -1)
    followed = np.flatnonzero(matches.assigned >= 0)
    truth_of[matches.assigned[followed]] = followed
    wrong = np.ones(position.shape[:2], np.float32)
    distance = np.sqrt(((position - places[:, truth_of]) ** 2).sum(axis=-1)) if len(followed) else np.nan * wrong
    named = truth_of >= 0
    wrong[:, named] = (distance > gate_um)[:, named]
    wrong[np.isnan(distance) & named] = np.nan
    wrong[~np.isfinite(position).all(axis=-1)] = np.nan
    return xr.DataArray(wrong, dims=("t", "neuron"), coords={"t": pred["t"], "neuron": pred["neuron"]}, name="wrong")


def _matched(
    pred: xr.Dataset, truth: xr.Dataset, gate_um: float, filled: bool
) -> tuple[_track_scores.Matches, dict[str, str | None]]:
    """Return the matches, and for each true neuron the name of the predicted one."""
    if not (np.isfinite(gate_um) and gate_um > 0):
        raise NiddlError(f"expected gate_um as a positive distance in µm, got {gate_um}")
    pred, truth = _require_micrometres("pred", pred), _require_micrometres("truth", truth)
    _require_same_frames(pred, truth)
    matches = _track_scores.match(_positions(pred, filled), _positions(truth, False), gate_um)
    names = [str(name) for name in pred["neuron"].values]
    stands_for = [names[number] if number >= 0 else None for number in matches.assigned]
    return matches, dict(zip(map(str, truth["neuron"].values), stands_for, strict=True))


def _positions(tracks: xr.Dataset, filled: bool) -> np.ndarray:
    position = tracks["position"].values.astype(np.float64)
    return position if filled else np.where(tracks["observed"].values.astype(bool)[..., None], position, np.nan)


def _require_micrometres(name: str, tracks: xr.Dataset) -> xr.Dataset:
    tracks = require_tracks(tracks)
    units = tracks["position"].attrs.get("units")
    if units not in MICROMETRE:
        raise NiddlError(
            f"expected position of {name} in µm along {SPACE_DIMS}, got units {units!r}: "
            "convert it, then set tracks['position'].attrs['units'] = 'µm'"
        )
    return tracks


def _require_same_frames(pred: xr.Dataset, truth: xr.Dataset) -> None:
    frames, true_frames = pred.sizes["t"], truth.sizes["t"]
    if frames != true_frames:
        raise NiddlError(
            f"expected as many frames in pred as in truth, got {frames} and {true_frames}; "
            "select common frames with isel(t=...)"
        )
    times = [tracks["t"].values for tracks in (pred, truth) if tracks["t"].attrs.get("units") == "s"]
    if len(times) == 2 and frames > 1:
        apart = float(np.abs(times[0] - times[1]).max())
        if apart > float(np.median(np.diff(times[1]))) / 2:
            raise NiddlError(
                f"expected pred and truth at the same times, got frames that are up to {apart:.3g} s apart; "
                "select common frames with isel(t=...)"
            )
