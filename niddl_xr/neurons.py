"""The contract between the rooms for what is found in a recording: detections, tracks and traces.

*Detections* are a pandas table, a row a point: ``t_index`` (which frame, from 0), ``t`` [s], ``z``, ``y``, ``x`` [µm],
``radius_um``, ``intensity`` and ``snr``; a tracker needs ``t_index``, ``z``, ``y`` and ``x`` alone. Frames without any
point stand in no row, so ``attrs`` keep the number of all frames (``frames``), their times (``t_s``) and which
recording they are of (``recording_id``).

*Tracks* are a Dataset: ``position`` (t, neuron, space = [z, y, x]) in µm, NaN where a neuron is not known to be
anywhere; ``observed`` (t, neuron), whether a detection stands there; ``confidence`` 0 to 1; ``provenance``, an index
into :data:`PROVENANCE`; ``det_id``, the row of the detections table, -1 where there is none.

*Traces* are a Dataset of variables (t, neuron): ``F``, ``F_var``, ``background``, later ``F0`` and ``dff``.

A *population* is a Dataset: ``score`` (t, mode), ``loading`` (neuron, mode), ``explained`` (mode), the part of the
variance, and ``explained_null`` (mode), what chance gives; ``mode`` counts from 1, the one that explains most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from niddl_xr.schema import SPACE_DIMS, NiddlError

TRACE_DIMS = ("t", "neuron")
TRACK_DIMS = ("t", "neuron", "space")
POINT_COLUMNS = ("t_index", *SPACE_DIMS)
DETECTION_COLUMNS = ("t_index", "t", *SPACE_DIMS, "radius_um", "intensity", "snr")

# How a position came about: found by the tracker in a detection; put where the neighbours say that the neuron must
# be; said by a human of a whole frame or neuron (confirmed); said by a human of this very point.
PROVENANCE = ("auto", "filled", "anchor", "manual")
AUTO, FILLED, ANCHOR, MANUAL = range(4)


@dataclass(frozen=True)
class Frames:
    """Detections cut into frames: what a tracker works on.

    ``points`` holds for each frame an array (n, 3) of z, y, x in µm, float64, and ``rows`` (n,) the places of these
    points in the table. ``intensity`` (n,) per frame, or None where the table has none.
    """

    points: list[np.ndarray]
    rows: list[np.ndarray]
    intensity: list[np.ndarray] | None

    def __len__(self) -> int:
        return len(self.points)


def require_detections(detections: pd.DataFrame) -> pd.DataFrame:
    """Return ``detections`` if they keep the contract, else raise one error that says what is amiss."""
    if not isinstance(detections, pd.DataFrame):
        raise NiddlError(
            f"expected detections, a pandas table with the columns {POINT_COLUMNS}, got {type(detections).__name__}; "
            "see niddl_xr.detect"
        )
    missing = [column for column in POINT_COLUMNS if column not in detections]
    if missing:
        raise NiddlError(
            f"expected detections with the columns {POINT_COLUMNS} (frame from 0; µm), got {list(detections.columns)}: "
            f"rename or add {missing}"
        )
    for column in POINT_COLUMNS:
        values = detections[column]
        if values.dtype.kind not in "uif":
            raise NiddlError(f"expected numbers in the column {column}, got dtype {values.dtype}")
        bad = int((~np.isfinite(values.to_numpy(float))).sum())
        if bad:
            raise NiddlError(
                f"expected finite numbers in the column {column}, got {bad} that are NaN or infinite; "
                "drop these rows with dropna(subset=['z', 'y', 'x'])"
            )
    index = detections["t_index"].to_numpy()
    if len(index) and (np.any(index < 0) or np.any(index != np.floor(index))):
        raise NiddlError("expected t_index, the number of the frame, as whole numbers from 0; t is the time in s")
    frames = detections.attrs.get("frames")
    if frames is not None and len(index) and index.max() >= frames:
        raise NiddlError(f"expected t_index below {frames}, the frames in attrs, got {int(index.max())}")
    twice = int(detections.duplicated(list(POINT_COLUMNS)).sum())
    if twice:
        raise NiddlError(
            f"expected every point once, got {twice} rows that repeat another's frame and place; "
            f"remove them with drop_duplicates({list(POINT_COLUMNS)})"
        )
    return detections


def frames_of(detections: pd.DataFrame) -> Frames:
    """Cut checked detections into frames; those without points have arrays of length 0."""
    count = number_of_frames(detections)
    index = detections["t_index"].to_numpy().astype(int)
    order = np.argsort(index, kind="stable")
    cuts = np.searchsorted(index[order], np.arange(1, count))
    points = detections[list(SPACE_DIMS)].to_numpy(np.float64)
    intensity = detections["intensity"].to_numpy(np.float64) if "intensity" in detections else None
    rows = np.split(order, cuts) if count else []
    return Frames(
        points=[points[part] for part in rows],
        rows=rows,
        intensity=None if intensity is None else [intensity[part] for part in rows],
    )


def number_of_frames(detections: pd.DataFrame) -> int:
    """Return the number of frames of the recording: as ``attrs`` say, else up to the last frame with a point."""
    if "frames" in detections.attrs:
        return int(detections.attrs["frames"])
    return int(detections["t_index"].max()) + 1 if len(detections) else 0


def frame_coordinate(detections: pd.DataFrame) -> tuple[str, np.ndarray, dict[str, str]]:
    """Return the coordinate ``t`` of the frames of detections: in s where the times of all are known, else indices."""
    count = number_of_frames(detections)
    stated = detections.attrs.get("t_s")
    if stated is not None and len(stated) == count:
        return "t", np.asarray(stated, dtype=float), {"units": "s"}
    if "t" in detections and count:
        times = np.full(count, np.nan)
        times[detections["t_index"].to_numpy().astype(int)] = detections["t"].to_numpy(float)
        if np.all(np.isfinite(times)):
            return "t", times, {"units": "s"}
    return "t", np.arange(count), {"units": "frame"}


def recording_id(recording: xr.DataArray) -> str:
    """Return what tells recordings apart by their coordinates: the same before and after denoising and saving."""
    digest = hashlib.sha256()
    for dim in ("t", *SPACE_DIMS):
        digest.update(np.round(np.asarray(recording[dim].values, dtype=np.float64), 6).tobytes())
    return digest.hexdigest()[:16]


def neuron_names(count: int) -> list[str]:
    """Return "n001", "n002", … for neurons that have no name of their own."""
    return [f"n{number:0{max(3, len(str(count)))}d}" for number in range(1, count + 1)]


def make_tracks(
    position_um: np.ndarray,
    observed: np.ndarray,
    *,
    confidence: np.ndarray,
    provenance: np.ndarray,
    det_id: np.ndarray,
    t: tuple[str, np.ndarray, dict[str, str]],
    neurons: Sequence[str],
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Label arrays as tracks: ``position_um`` (t, neuron, space), the others (t, neuron); ``t`` is its coordinate.

    ``attrs`` gain ``version_id``, by which an edit says what it was made on.
    """
    flags = {"flag_values": list(range(len(PROVENANCE))), "flag_meanings": " ".join(PROVENANCE)}
    tracks = xr.Dataset(
        {
            "position": (TRACK_DIMS, position_um.astype(np.float32), {"units": "µm"}),
            "observed": (TRACE_DIMS, observed.astype(bool)),
            "confidence": (TRACE_DIMS, confidence.astype(np.float32)),
            "provenance": (TRACE_DIMS, provenance.astype(np.uint8), flags),
            "det_id": (TRACE_DIMS, det_id.astype(np.int32), {"long_name": "row of the detections, -1 for none"}),
        },
        coords={"t": t, "neuron": np.asarray(list(neurons), dtype=str), "space": list(SPACE_DIMS)},
        attrs=dict(attrs or {}),
    )
    return tracks.assign_attrs(version_id=version_id(tracks))


def version_id(tracks: xr.Dataset) -> str:
    """Return a digest of neurons, positions and their provenance: two versions of tracks with the same are equal."""
    digest = hashlib.sha256(json.dumps(tracks["neuron"].values.tolist()).encode())
    ordered = tracks.transpose("t", "neuron", "space", ...)
    for name, kind in (("position", np.float32), ("observed", bool), ("provenance", np.uint8)):
        digest.update(np.ascontiguousarray(ordered[name].values, dtype=kind).tobytes())
    return digest.hexdigest()[:16]


def require_tracks(tracks: xr.Dataset) -> xr.Dataset:
    """Return ``tracks`` with dims in the order (t, neuron, space) and space z, y, x; else raise one error."""
    if not isinstance(tracks, xr.Dataset) or "position" not in tracks:
        got = list(tracks.data_vars) if isinstance(tracks, xr.Dataset) else type(tracks).__name__
        raise NiddlError(
            f"expected tracks, a Dataset with position (t, neuron, space) in µm and observed (t, neuron), got {got}; "
            "see niddl_xr.track"
        )
    dims = tracks["position"].dims
    if set(dims) != set(TRACK_DIMS):
        raise NiddlError(f"expected position with dims {TRACK_DIMS}, got {dims}")
    if "space" not in tracks.coords or set(tracks["space"].values.tolist()) != set(SPACE_DIMS):
        axes = tracks["space"].values.tolist() if "space" in tracks.coords else "no coordinate"
        raise NiddlError(f"expected the coordinate space to name the axes {SPACE_DIMS}, got {axes}")
    names = tracks["neuron"].values.tolist() if "neuron" in tracks.coords else None
    if names is None or len(set(names)) < len(names):
        raise NiddlError("expected a coordinate neuron that names every neuron once; see Dataset.assign_coords")
    if "observed" not in tracks:
        raise NiddlError("expected the variable observed (t, neuron): True where a detection stands at the position")
    return tracks.sel(space=list(SPACE_DIMS)).transpose("t", "neuron", "space", ...)


def require_traces(traces: xr.Dataset, variable: str = "F") -> xr.Dataset:
    """Return ``traces`` with dims in the order (t, neuron) if they hold ``variable``, else raise one error."""
    if not isinstance(traces, xr.Dataset) or variable not in traces:
        got = list(traces.data_vars) if isinstance(traces, xr.Dataset) else type(traces).__name__
        raise NiddlError(
            f"expected traces, a Dataset with the variable {variable} (t, neuron), got {got}; "
            "see niddl_xr.extract_traces"
        )
    if set(traces[variable].dims) != set(TRACE_DIMS):
        raise NiddlError(f"expected {variable} with dims {TRACE_DIMS}, got {traces[variable].dims}")
    return traces.transpose("t", "neuron", ...)


def require_population(population: xr.Dataset) -> xr.Dataset:
    """Return ``population`` with dims in the order (t, neuron, mode) if it keeps the contract, else raise one error."""
    wanted = {"score": ("t", "mode"), "loading": ("neuron", "mode"), "explained": ("mode",)}
    if not isinstance(population, xr.Dataset) or not set(wanted) <= set(population.data_vars):
        got = list(population.data_vars) if isinstance(population, xr.Dataset) else type(population).__name__
        raise NiddlError(f"expected a population, a Dataset with {' and '.join(wanted)}, got {got}; see niddl_xr.pca")
    for name, dims in wanted.items():
        if set(population[name].dims) != set(dims):
            raise NiddlError(f"expected {name} with dims {dims}, got {population[name].dims}")
    return population.transpose("t", "neuron", "mode", ...)
