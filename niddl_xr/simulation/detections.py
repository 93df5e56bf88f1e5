"""Detections with the flaws of real ones, made from true tracks without rendering an image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm, rankdata

from niddl_xr import schema
from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.simulation._checks import require_number, require_size, shown
from niddl_xr.simulation._kernels.motion import stationary_path

_MISSED_FOR_S = 2.0  # a nucleus that is missed stays so for about this long
_FALSE_SPREAD_UM = (3.0, 6.0, 6.0)
_STREAM = 80


def detections(
    truth: xr.DataTree,
    *,
    missed_fraction: float = 0.07,
    false_fraction: float = 0.03,
    jitter_um: float = 0.35,
    seed: int = 0,
) -> pd.DataFrame:
    """Make the detections that a detector of known faults would find in a simulated recording.

    For trackers, which see points and not images: no frame is rendered.

    Parameters
    ----------
    truth
        What :func:`whole_brain` or another simulation gave: nodes ``tracks``, ``traces`` and ``recording``.
    missed_fraction
        Part of the nuclei in the field that is missed, 0 to 0.45: twice as much among the dimmest, none among the
        brightest, for 2 s or so at a time. 0.15 goes with ``motion="hard"``.
    false_fraction
        Detections that are no nucleus, a frame, relative to the number of nuclei; 0.10 goes with ``motion="hard"``.
        They lie about 6 µm (3 µm along z) from nuclei, inside the field.
    jitter_um
        RMS error of a position along each axis; none beyond the edge of the field, and none along z in a plane.
    seed
        Whole number ≥ 0.

    Returns
    -------
    pandas.DataFrame
        A row a detection, in the order of the frames, shuffled within a frame: ``t_index``, ``t`` [s], ``z``, ``y``,
        ``x`` [µm], ``radius_um``, ``intensity`` [counts above the background], ``snr`` (intensity over its noise) and
        the truth, ``neuron`` (its name, or "" for a false one).

    Raises
    ------
    NiddlError
        For fractions outside their range, a negative jitter, and a tree without the nodes named.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> found = detections(whole_brain(shape=(5, 40, 64), frames=8, neurons=6), missed_fraction=0, false_fraction=0)
    >>> len(found), sorted(found.columns)[:3]
    (48, ['intensity', 'neuron', 'radius_um'])
    """
    if not isinstance(truth, xr.DataTree):
        raise NiddlError(f"expected truth as the DataTree of a simulation, got {shown(truth)}")
    missing = [name for name in ("tracks", "traces", "recording") if name not in truth.children]
    if missing:
        raise NiddlError(f"expected a simulated tree with tracks, traces and recording, got none of {missing}")
    missed_fraction = require_number("missed_fraction", missed_fraction, most=0.45)
    false_fraction = require_number("false_fraction", false_fraction)
    jitter_um = require_number("jitter_um", jitter_um)
    rng = np.random.default_rng([require_size("seed", seed, 0), _STREAM])

    tracks, traces = (truth[name].to_dataset() for name in ("tracks", "traces"))
    recording = truth["recording"].to_dataset()["F"]
    attrs, edges_um = recording.attrs, _edges_um(recording)
    positions = tracks["position"].transpose("t", "neuron", "space").sel(space=list(SPACE_DIMS)).values
    intensity = traces["F"].transpose("t", "neuron").values
    observed = tracks["observed"].transpose("t", "neuron").values
    times_s, names = tracks["t"].values, np.asarray(tracks["neuron"].values, dtype=object)
    neurons = len(names)

    dimness = 1 - (rankdata(intensity.mean(axis=0)) - 0.5) / neurons
    luck = norm.cdf(stationary_path(times_s - times_s[0], neurons, _MISSED_FOR_S, rng))
    frame, neuron = np.nonzero(observed & (luck >= 2 * missed_fraction * dimness))
    false_frame, beside = _places_of_false_ones(observed, false_fraction, rng)
    deep = recording.sizes.get("z", 1) > 1
    spread, error = np.asarray(_FALSE_SPREAD_UM) * (deep, 1, 1), jitter_um * np.array([deep, 1, 1])

    radius = np.broadcast_to(tracks["radius_um"].values, intensity.shape)
    true_points = positions[frame, neuron] + error * rng.standard_normal((len(frame), 3))
    false_points = positions[false_frame, beside] + spread * rng.standard_normal((len(beside), 3))
    false_share = rng.uniform(0.2, 0.8, len(beside))  # dimmer than the nucleus beside it
    counts = np.concatenate([intensity[frame, neuron], false_share * intensity[false_frame, beside]])
    points = np.clip(np.concatenate([true_points, false_points]), *edges_um)
    noise = np.sqrt(
        attrs["read_noise_counts"] ** 2
        + attrs["row_noise_counts"] ** 2
        + attrs["excess_noise"] * attrs["gain_counts_per_photon"] * np.maximum(counts, 0)
    )
    table = pd.DataFrame(
        {
            "t_index": np.concatenate([frame, false_frame]),
            "t": times_s[np.concatenate([frame, false_frame])],
            **{dim: points[:, axis].astype(np.float32) for axis, dim in enumerate(SPACE_DIMS)},
            "radius_um": np.concatenate([radius[frame, neuron], radius[false_frame, beside]]).astype(np.float32),
            "intensity": counts.astype(np.float32),
            "snr": (counts / np.maximum(noise, 1e-6)).astype(np.float32),
            "neuron": np.concatenate([names[neuron], np.full(len(beside), "", dtype=object)]),
        }
    )
    order = np.lexsort((rng.random(len(table)), table["t_index"]))
    return table.iloc[order].reset_index(drop=True)


def _edges_um(recording: xr.DataArray) -> np.ndarray:
    """Return the lower and the upper edge of the field (2, 3) in µm, half a voxel beyond the outer centres."""
    voxel_um = schema.voxel_um(recording)
    centres = [recording[dim].values if dim in recording.coords else np.zeros(1) for dim in SPACE_DIMS]
    margin = np.array([voxel_um.get(dim, 0.0) / 2 for dim in SPACE_DIMS])
    return np.stack([[axis.min() for axis in centres] - margin, [axis.max() for axis in centres] + margin])


def _places_of_false_ones(
    observed: np.ndarray, false_fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of false detections, and for each a nucleus that is observed (t, neuron) in that frame."""
    frames, neurons = observed.shape
    in_field = observed.sum(axis=1)
    frame = np.repeat(np.arange(frames), rng.poisson(false_fraction * neurons, frames) * (in_field > 0))
    observed_first = np.argsort(~observed, axis=1, kind="stable")
    return frame, observed_first[frame, rng.integers(in_field[frame])]
