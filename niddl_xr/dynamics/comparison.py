"""The verb compare_pca: how alike two populations are, such as those of a raw and a denoised recording."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.dynamics._kernels.subspaces import cosines, principal_angles_deg, procrustes_r2
from niddl_xr.neurons import require_population
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

_SAME_TIME = 1e-3  # of a step between frames


def compare_pca(a: xr.Dataset, b: xr.Dataset, *, modes: int = 3) -> pd.DataFrame:
    """Compare two populations: the spaces of their modes, and their trajectories.

    Modes of one number are not the same in two recordings: they turn into one another where they explain alike. The
    angles and the trajectories do not depend on such turns, the cosines do.

    Parameters
    ----------
    a, b
        Populations, see :func:`niddl_xr.pca`. Neurons are matched by name, times by value; others do not count.
    modes
        How many modes of each, from the first.

    Returns
    -------
    pandas.DataFrame
        One row a ``mode`` (index, from 1):

        ``principal_angle_deg``
            Principal angles between the spaces of the loadings over the shared neurons, in degrees, the smallest first:
            0 the same direction, 90 none in common. The first does not belong to mode 1 in particular.
        ``loading_cosine``
            Cosine between the loadings of this mode in both, 0 to 1, without sign.
        ``trajectory_r2``
            Part of the variance of the score in ``a`` that the trajectory of ``b`` explains after the best shift, turn,
            mirroring and scale (Procrustes). At most 1; negative where a mode is fitted worse than by its mean.
        ``explained_a``, ``explained_b``
            Part of the variance in each.

        Attributes: ``trajectory_r2`` of all modes together, ``neurons`` and ``frames`` shared, and the history of
        ``a`` with this call.

    Raises
    ------
    NiddlError
        For fewer modes than asked for, or as few shared neurons as modes: their spaces are the same, whatever they do.

    Warns
    -----
    UserWarning
        Where fewer than three times as many times are shared as there are modes: ``trajectory_r2`` is NaN.

    Notes
    -----
    Principal angles: Björck & Golub (Math. Comput. 27:579, 1973), by scipy. Procrustes: Schönemann (Psychometrika
    31:1, 1966). Two recordings may have times in common without having anything to do with one another: whether
    trajectories are comparable is for the caller to know.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> traces = nx.simulate.whole_brain(shape=(3, 40, 64), frames=99, neurons=9, seed=1)["traces"].to_dataset()
    >>> table = compare_pca(nx.pca(traces), nx.pca(traces, normalize="peak"), modes=2)
    >>> table.index.tolist(), bool((table["principal_angle_deg"] < 45).all())
    ([1, 2], True)
    """
    import pandas as pd

    a, b = require_population(a), require_population(b)
    if isinstance(modes, bool) or not isinstance(modes, int | np.integer) or modes < 1:
        raise NiddlError(f"expected modes as a whole number of 1 or more, got {modes!r}")
    for name, population in (("a", a), ("b", b)):
        if population.sizes["mode"] < modes:
            raise NiddlError(f"expected {modes} modes in {name}, got {population.sizes['mode']}; lower modes=")
    ours, theirs = _shared_neurons(a, b, modes)
    loadings = a["loading"].values[ours, :modes], b["loading"].values[theirs, :modes]
    by_mode, overall, frames = _trajectories(a, b, modes)
    table = pd.DataFrame(
        {
            "principal_angle_deg": principal_angles_deg(*loadings),
            "loading_cosine": cosines(*loadings),
            "trajectory_r2": by_mode,
            "explained_a": a["explained"].values[:modes],
            "explained_b": b["explained"].values[:modes],
        },
        index=pd.Index(np.arange(1, modes + 1), name="mode"),
    )
    compared = schema.with_history(a, "compare_pca", {"modes": modes})
    table.attrs = {
        "trajectory_r2": overall,
        "neurons": len(ours),
        "frames": frames,
        schema.HISTORY: compared.attrs[schema.HISTORY],
    }
    return table


def _shared_neurons(a: xr.Dataset, b: xr.Dataset, modes: int) -> tuple[list[int], list[int]]:
    if "neuron" not in a.coords or "neuron" not in b.coords:
        raise NiddlError("expected populations with a coordinate neuron, by which they are matched")
    names, others = a["neuron"].values.tolist(), b["neuron"].values.tolist()
    place = {name: index for index, name in enumerate(others)}
    shared = [name for name in names if name in place]
    if len(shared) <= modes:
        raise NiddlError(
            f"expected more than {modes} neurons of the same name in both populations, got {len(shared)} of "
            f"{len(names)} and {len(others)}; lower modes=, or name the neurons with assign_coords"
        )
    return [names.index(name) for name in shared], [place[name] for name in shared]


def _trajectories(a: xr.Dataset, b: xr.Dataset, modes: int) -> tuple[np.ndarray, float, int]:
    """Return R² by mode and in all, and the number of shared times."""
    ours, theirs = _shared_times(a, b)
    first, second = a["score"].values[ours, :modes], b["score"].values[theirs, :modes]
    known = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    frames = int(known.sum())
    if frames < 3 * modes:
        warnings.warn(
            f"no trajectory_r2: the populations share {frames} times, and {3 * modes} are needed for {modes} modes",
            stacklevel=3,
        )
        return np.full(modes, np.nan), float("nan"), frames
    return (*procrustes_r2(first[known], second[known]), frames)


def _shared_times(a: xr.Dataset, b: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the times that both have."""
    units = [item["t"].attrs.get("units") if "t" in item.coords else None for item in (a, b)]
    if units[0] != units[1]:
        raise NiddlError(f"expected times in the same unit in both populations, got {units[0]!r} and {units[1]!r}")
    first, second = (
        item["t"].values.astype(float) if "t" in item.coords else np.arange(item.sizes["t"], dtype=float)
        for item in (a, b)
    )
    tolerance = _SAME_TIME * float(np.median(np.diff(first))) if len(first) > 1 else 0.0
    after = np.clip(np.searchsorted(second, first), 1, max(len(second) - 1, 1))
    nearest = np.minimum(after, len(second) - 1)
    before = np.maximum(nearest - 1, 0)
    nearest = np.where(np.abs(second[before] - first) < np.abs(second[nearest] - first), before, nearest)
    same = np.abs(second[nearest] - first) <= tolerance
    return np.flatnonzero(same), nearest[same]
