"""Skeletons in HDF5: of Tierpsy Tracker, and of WormPose and tools that keep theirs alike. No object is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.behaviour.readers import Lines, chosen_worm
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import h5py

TIERPSY = {"coordinates/skeletons": True, "skeleton": False}  # in µm, else in pixels
TABLE = "trajectories_data"
FEATURES = ("features_timeseries", "timeseries_data")
WORM_COLUMNS = ("worm_index_joined", "worm_index")
FRAME_COLUMNS = ("timestamp_raw", "frame_number", "timestamp")
RESULTS = ("resolved", "original", "")  # of WormPose: after head and tail were told apart, before; or at the root


def read(path: Path, worm: str | int | None) -> Lines:
    """Read the skeletons of one worm, whichever of the known layouts the file has."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise NiddlError(f"{path} is no HDF5 file that can be read ({error})") from error
    with file:
        for name, in_um in TIERPSY.items():
            if isinstance(file.get(name), h5py.Dataset):
                return _tierpsy(file, name, in_um, worm, path)
        for group in RESULTS:
            held = file.get(group) if group else file
            if isinstance(held, h5py.Group) and isinstance(held.get("skeletons"), h5py.Dataset):
                return _wormpose(held, worm, path)
        raise NiddlError(f"{path} holds no skeletons: {_holdings(file)}")


def _points(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    """Return skeletons (n, points, 2) as y, x; files hold x, y."""
    if dataset.ndim != 3 or dataset.shape[2] != 2 or dataset.dtype.kind not in "fiu" or dataset.shape[1] < 2:
        raise NiddlError(
            f"{path}: expected {dataset.name} (frame, point, x and y), got {dataset.shape}, {dataset.dtype}"
        )
    return np.asarray(dataset[:], dtype=np.float64)[..., ::-1]


def _tierpsy(file: h5py.File, name: str, in_um: bool, worm: str | int | None, path: Path) -> Lines:
    points = _points(file[name], path)
    table = file.get(TABLE)
    if table is None or table.dtype.names is None or "skeleton_id" not in table.dtype.names:
        raise NiddlError(f"{path}: expected the table {TABLE} with skeleton_id, which says whose the skeletons are")
    columns = table.dtype.names
    owner = next((column for column in WORM_COLUMNS if column in columns), None)
    clock = next((column for column in FRAME_COLUMNS if column in columns), None)
    if owner is None or clock is None:
        raise NiddlError(f"{path}: expected {TABLE} with a worm and a frame number, got the columns {columns}")
    rows = table[:]
    names = [str(number) for number in np.unique(rows[owner][rows["skeleton_id"] >= 0])]
    name = chosen_worm(names, worm, path)
    rows = rows[(rows[owner].astype(str) == name) & np.isfinite(rows[clock].astype(np.float64))]
    rows = rows[np.argsort(rows[clock], kind="stable")]
    times = rows[clock].astype(np.float64)
    if np.any(np.diff(times) <= 0):
        raise NiddlError(f"{path}: expected every frame of worm {name} once, got some twice in {clock}")
    places = rows["skeleton_id"]
    if np.any(places >= len(points)):
        raise NiddlError(f"{path}: expected skeleton_id below {len(points)}, the skeletons held, got {places.max()}")
    lines = [_line(points[place]) if place >= 0 else None for place in places]
    fps = _attribute(table, "fps") if _text(table, "time_units") != "frames" else None
    pixel_um = _attribute(table, "microns_per_pixel") if _text(table, "xy_units") != "pixels" else None
    if in_um and _text(table, "xy_units") == "pixels":
        in_um = False
    return Lines(
        times,
        lines,
        in_um=in_um,
        in_s=False,
        pixel_um=pixel_um,
        dt_s=1 / fps if fps else None,
        attrs={"worm": name},
    )


def _wormpose(group: h5py.Group, worm: str | int | None, path: Path) -> Lines:
    chosen_worm(["0"], worm, path)
    points = _points(group["skeletons"], path)
    scores = group.get("scores")
    quality = None
    if scores is not None:
        quality = np.asarray(scores[:], dtype=np.float64).reshape(len(scores), -1)[:, 0]
        if len(quality) != len(points):
            raise NiddlError(f"{path}: expected a score for each of {len(points)} skeletons, got {len(quality)}")
        quality = np.clip(np.nan_to_num(quality), 0, 1)
    lines = [_line(place) for place in points]
    return Lines(np.arange(len(points), dtype=np.float64), lines, in_um=False, in_s=False, quality=quality)


def _line(points: np.ndarray) -> np.ndarray | None:
    return points if np.isfinite(points).all() else None


def _attribute(holder: Any, name: str) -> float | None:
    """Return a positive number kept as an attribute, None where there is none."""
    value = holder.attrs.get(name)
    if value is None or np.size(value) != 1 or np.asarray(value).dtype.kind not in "iuf":
        return None
    number = float(np.ravel(value)[0])
    return number if np.isfinite(number) and number > 0 else None


def _text(holder: Any, name: str) -> str:
    value = holder.attrs.get(name, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _holdings(file: h5py.File) -> str:
    """Say what the file holds instead."""
    for name in FEATURES:
        table = file.get(name)
        if table is not None and getattr(table.dtype, "names", None):
            columns = table.dtype.names
            worms = len(np.unique(table["worm_index"])) if "worm_index" in columns else 1
            return (
                f"it is a table of {len(columns)} features, {name}, of {worms} worms in {len(table)} rows, without the "
                "shapes they were computed from; give the file of skeletons (..._skeletons.hdf5, ..._featuresN.hdf5), "
                "or read the table with pandas"
            )
    return f"expected coordinates/skeletons, skeleton or skeletons, got {sorted(file)[:12]}"
