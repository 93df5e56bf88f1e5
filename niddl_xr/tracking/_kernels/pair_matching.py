"""Which point of one frame may be which of another: probabilities, of one pair of frames at a time."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from niddl_xr.tracking._kernels.orientation import drawn_onto
from niddl_xr.tracking._kernels.registration import coherent_point_drift

MATCH = np.dtype([("moving", np.uint16), ("fixed", np.uint16), ("probability", np.float32)])
MOST_POINTS = int(np.iinfo(np.uint16).max)
_NARROWING_UM = (5.0, 4.0, 3.0)
_STEPS = 2
_VARIANCE_UM2 = 9.0  # neurons of similar postures lie about 3 µm from where a rigid head would have them
_LEAST_PROBABILITY = 0.02
_ITERATIONS = 30


def pair_matches(
    moving: np.ndarray, fixed: np.ndarray, *, gate_um: float, stiffness_um: float, regularisation: float
) -> np.ndarray:
    """Match two clouds (m, 3) and (n, 3) in µm that are turned alike; one dimension, of dtype :data:`MATCH`.

    Each element is a pair of points and the probability that they are the same neuron, by what one deformation of the
    whole cloud brings near; pairs below 0.02, and those more than ``gate_um`` apart after the deformation, are left
    out. Seen from either cloud, the probabilities of a point sum to at most 1.
    """
    if not len(moving) or not len(fixed):
        return np.empty(0, MATCH)
    centre = fixed.mean(axis=0)
    moving, fixed = moving - centre, fixed - centre
    rotation, translation = drawn_onto(moving, fixed, np.eye(3), _NARROWING_UM, _STEPS)
    moved, probability = coherent_point_drift(
        moving @ rotation.T + translation,
        fixed,
        stiffness_um=stiffness_um,
        regularisation=regularisation,
        variance_um2=_VARIANCE_UM2,
        iterations=_ITERATIONS,
    )
    probability = probability / np.maximum(probability.sum(axis=1, keepdims=True), 1.0)
    probability[cdist(moved, fixed) > gate_um] = 0
    rows, columns = np.nonzero(probability >= _LEAST_PROBABILITY)
    matches = np.empty(len(rows), MATCH)
    matches["moving"], matches["fixed"], matches["probability"] = rows, columns, probability[rows, columns]
    return matches
