"""The verb eigenworms: postures as sums of a few shapes."""

from __future__ import annotations

import numpy as np
import xarray as xr

from niddl_xr.behaviour._kernels import modes as kernel
from niddl_xr.behaviour._kernels.spline import tangent_angles
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError, with_history

BASIS_DIMS = ("mode", "s")


def eigenworms(posture: xr.Dataset, *, modes: int = 4, basis: xr.DataArray | np.ndarray | None = None) -> xr.Dataset:
    """Describe postures by a few shapes and how much of each is in every frame.

    Parameters
    ----------
    posture
        With ``centerline`` (t, s, space).
    modes
        How many; four explain 95 % of the variance of a crawling worm. Of a given basis, the first ones.
    basis
        None for the shapes along which this posture varies most. Or shapes to use, (mode, s), rows are modes, at any
        number of equally spaced points from head to tail: those of another worm or of a publication.

    Returns
    -------
    xarray.Dataset
        ``eigenworm`` (mode, s): angles of mean square 1 over the body. ``amplitude`` (t, mode) in rad: the RMS angle
        over the body that the mode makes; NaN in frames whose centreline is not known to the ends. ``explained``
        (mode): the part of the variance over the known frames. ``heading`` (t) in rad, the mean angle that was taken
        off, from x towards y. ``mode`` counts from 1. Angles rise where the body turns to the ventral side, or to the
        right where that is unknown.

    Raises
    ------
    NiddlError
        For more modes than points or known frames, a basis with other dims or NaN, and postures without a known frame.

    Notes
    -----
    Angles of the tangent less their mean over the body, then principal components over frames (Stephens et al., PLoS
    Comput. Biol. 4:e1000028, 2008). Amplitudes are of the angles themselves, not of their deviation from the mean
    shape, as there. A basis of unit length over n points gives amplitudes sqrt(n) times as large elsewhere. The sign
    of a mode is such that its mean over the head quarter is positive; a given basis keeps its own. Modes that are not
    orthogonal are fitted together, by least squares.

    Examples
    --------
    >>> from niddl_xr.simulation import freely_moving
    >>> worm = freely_moving(shape=(1, 64, 80), voxel_um=(1, 12, 12), frames=60, neurons=6, seed=1)
    >>> shapes = eigenworms(worm["posture"].to_dataset(), modes=3)
    >>> dict(shapes.sizes), bool(shapes["explained"].sum() > 0.9)
    ({'mode': 3, 's': 100, 't': 60}, True)
    """
    checked = require_posture(posture, "centerline")
    if isinstance(modes, bool) or not isinstance(modes, int | np.integer) or modes < 1:
        raise NiddlError(f"expected modes as a whole number from 1 on, got {modes!r}")
    line = checked["centerline"].sel(space=["y", "x"]).transpose("t", "s", "space").values.astype(np.float64)
    known = np.isfinite(line).all(axis=(1, 2))
    if not known.any():
        raise NiddlError("expected a posture with a whole centreline in one frame at least, got none; see its reason")
    sign = -1.0 if checked.attrs.get("ventral_side") == "left" else 1.0
    angles = sign * tangent_angles(line[known])
    heading = np.full(len(line), np.nan)
    heading[known] = np.angle(np.exp(1j * sign * angles.mean(axis=1)))
    angles = kernel.mean_removed(angles)
    if basis is None:
        most = min(len(angles) - 1, angles.shape[1] - 1)
        if modes > most:
            raise NiddlError(
                f"expected at most {most} modes of {len(angles)} known frames of {angles.shape[1]} points, got {modes}"
            )
        found = kernel.principal_modes(angles, int(modes))
    else:
        shapes = kernel.resampled_modes(_given(basis, int(modes)), angles.shape[1])
        found = kernel.Modes(shapes, kernel.explained_by(angles, shapes))
    amount = np.full((len(line), len(found.shapes)), np.nan)
    amount[known] = kernel.amplitudes(angles, found.shapes)
    result = xr.Dataset(
        {
            "eigenworm": (BASIS_DIMS, found.shapes.astype(np.float32)),
            "amplitude": (("t", "mode"), amount.astype(np.float32), {"units": "rad"}),
            "explained": ("mode", found.explained.astype(np.float32)),
            "heading": ("t", heading.astype(np.float32), {"units": "rad"}),
        },
        coords={"mode": np.arange(1, len(found.shapes) + 1), "s": checked["s"], "t": checked["t"]},
        attrs={name: checked.attrs[name] for name in ("ventral_side", "niddl_history") if name in checked.attrs},
    )
    return with_history(result, "eigenworms", {"modes": int(modes), "basis": "given" if basis is not None else None})


def _given(basis: xr.DataArray | np.ndarray, modes: int) -> np.ndarray:
    if isinstance(basis, xr.DataArray):
        if set(basis.dims) != set(BASIS_DIMS):
            raise NiddlError(f"expected a basis with dims {BASIS_DIMS}, got {basis.dims}")
        basis = basis.transpose(*BASIS_DIMS).values
    shapes = np.asarray(basis)
    if shapes.ndim != 2 or shapes.dtype.kind not in "uif" or not np.isfinite(shapes).all():
        raise NiddlError(f"expected a basis (mode, s) of finite numbers, got shape {shapes.shape} of {shapes.dtype}")
    if len(shapes) > shapes.shape[1]:
        raise NiddlError(f"expected a basis (mode, s), rows are modes, got shape {shapes.shape}: give its transpose")
    if modes > len(shapes):
        raise NiddlError(f"expected at most the {len(shapes)} modes of the basis, got {modes}")
    chosen = shapes[:modes].astype(np.float64)
    if np.any((chosen**2).sum(axis=1) == 0):
        raise NiddlError("expected a basis without empty modes, got one of zeros")
    return np.asarray(chosen)
