"""Postures of other tools: files written here by hand, and published samples."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError, history
from tests.behaviour.posture_truth import arc

UNITS = {"t": "s", "x": "mm", "y": "µm", "ox": "mm", "oy": "m"}


def wcon(path: Path, data: object, units: dict | None = None) -> Path:
    path.write_text(json.dumps({"units": UNITS if units is None else units, "data": data}), "utf-8")
    return path


def test_wcon_units_offsets_and_records(tmp_path: Path) -> None:
    data = [
        {"id": 7, "t": [0.5], "x": [[1, 2, 3]], "y": [[10, 20, 30]], "ox": [1], "oy": [0.001]},
        {"id": 7, "t": [0.0, 0.25], "x": [[0, 1, 2], [None, 1, 2]], "y": [[0, 0, 0], [1, 1, 1]], "head": ["R", "?"]},
        {"id": "other", "t": 0, "x": [5, 6], "y": [7, 8]},
    ]
    posture = nx.open_posture(wcon(tmp_path / "a.wcon", data), worm=7)
    require_posture(posture, "centerline", "curvature", "length", "quality", "reason")
    assert posture["t"].values.tolist() == [0.0, 0.25, 0.5]
    y, x = (posture["centerline"].sel(space=axis).values for axis in "yx")
    assert x[[0, 2]].tolist() == [[2000, 1000, 0], [2000, 3000, 4000]]
    assert y[[0, 2]].tolist() == [[0, 0, 0], [1010, 1020, 1030]]
    assert posture["reason"].values.tolist() == ["", "no centreline in the file", ""]
    np.testing.assert_allclose(posture["length"], [2000, np.nan, np.hypot(2000, 20)], rtol=1e-3)
    assert history(posture)[-1]["verb"] == "open_posture"
    other = nx.open_posture(tmp_path / "a.wcon", worm="other", y_up=True)
    assert other["centerline"].sel(space="y").values.tolist() == [[-7, -8]]
    assert np.isnan(other["curvature"]).all()


def test_wcon_curvature_of_a_circle_with_points_of_two_numbers(tmp_path: Path) -> None:
    lines = [arc(250.0, 1.5, 31), arc(250.0, 1.5, 17)]
    record = {
        "id": "1",
        "t": [0, 1],
        "x": [line[:, 1].tolist() for line in lines],
        "y": [line[:, 0].tolist() for line in lines],
    }
    units = {"t": "min", "x": "um", "y": "um"}
    posture = nx.open_posture(wcon(tmp_path / "b.wcon", record, units), ventral_side="left")
    assert posture["t"].values.tolist() == [0, 60]
    # Y points down: the arc turns right, so away from a ventral side on the left.
    np.testing.assert_allclose(posture["curvature"][0], -4, rtol=1e-3)
    np.testing.assert_allclose(posture["curvature"].mean("s"), -4, rtol=0.1)  # a polygon cut anew
    again = nx.centerline(posture)
    np.testing.assert_allclose(again["curvature"][:, 10:-10], -4, rtol=0.03)
    pixels = nx.open_posture(wcon(tmp_path / "c.wcon", record, {"t": "s", "x": "px", "y": "px"}), pixel_um=2.0)
    np.testing.assert_allclose(pixels["length"][0], 750, rtol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is no WCON file: it is not JSON"),
        ("[1, 2]", "expected an object with units and data, got a list"),
        ('{"data": []}', "expected units of t, x and y"),
        ('{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": []}', "expected a worm with a posture, got none"),
        ('{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [3]}', "expected data as a list of records with an id"),
        ('{"units": {"t": "s", "x": "inch", "y": "mm"}, "data": [{"id": 1}]}', "got {'x': 'inch'}"),
        ('{"units": {"t": "d", "x": "mm", "y": "mm"}, "data": [{"id": 1}]}', "expected t in one of s, sec"),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": "now"}]}',
            "expected t as numbers, got 'now'",
        ),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": [0, 1], "x": [[1]], "y": [[1]]}]}',
            "expected y of 2 times, got 1",
        ),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": 0, "x": [1, 2], "y": [1, 2, 3]}]}',
            "expected as many x as y at t = 0 s, got 2 and 3",
        ),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": 0, "x": [1, "a"], "y": [1, 2]}]}',
            "expected x as numbers or null",
        ),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": 0, "ox": 1, "x": [1, 2], "y": [1]}]}',
            "expected units of ox, which the data hold",
        ),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": 0, "x": [1], "y": [1]}]}',
            "expected a line of two points or more in one frame at least",
        ),
        (
            '{"units": {"t": "s", "x": "mm", "y": "mm"}, "data": [{"id": 1, "t": 0, "x": [1, 2], "y": [1, 2]},'
            ' {"id": 1, "t": 0, "x": [1, 3], "y": [1, 2]}]}',
            "expected one line at t = 0 s, got two that differ",
        ),
        (
            '{"units": {"t": "s", "x": "px", "y": "px"}, "data": [{"id": 1, "t": 0, "x": [1, 2], "y": [1, 2]}]}',
            "keeps lines in pixels and does not state their size: give pixel_um=",
        ),
    ],
)
def test_malformed_wcon(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.wcon"
    path.write_text(text, "utf-8")
    with pytest.raises(NiddlError, match=message):
        nx.open_posture(path)


def tierpsy(path: Path, name: str, *, attrs: dict | None = None, columns: bool = True) -> np.ndarray:
    """Two worms by turns: worm 1 in frames 0, 2, 3 (no skeleton in 2), worm 5 in frame 1; returns the skeletons."""
    skeletons = np.stack([arc(100.0 + 10 * k, 2.0, 49)[:, ::-1] for k in range(3)])
    table = np.zeros(4, [("worm_index_joined", "i4"), ("frame_number", "i4"), ("skeleton_id", "i4")])
    table["worm_index_joined"], table["frame_number"], table["skeleton_id"] = [1, 5, 1, 1], [0, 1, 3, 2], [0, 1, 2, -1]
    with h5py.File(path, "w") as file:
        file[name] = skeletons
        if columns:
            file["trajectories_data"] = table
            stated = {"fps": 20.0, "microns_per_pixel": 3.0, "time_units": "seconds", "xy_units": "micrometers"}
            file["trajectories_data"].attrs.update(stated if attrs is None else attrs)
    return skeletons


@pytest.mark.parametrize(("name", "scale"), [("coordinates/skeletons", 1.0), ("skeleton", 3.0)])
def test_tierpsy_skeletons(tmp_path: Path, name: str, scale: float) -> None:
    skeletons = tierpsy(tmp_path / "w.hdf5", name)
    with pytest.raises(NiddlError, match=r"holds 2 worms, 1, 5: choose one with worm="):
        nx.open_posture(tmp_path / "w.hdf5")
    posture = nx.open_posture(tmp_path / "w.hdf5", worm=1)
    np.testing.assert_allclose(posture["t"], [0, 0.1, 0.15])
    np.testing.assert_allclose(posture["centerline"].sel(space="x")[0], scale * skeletons[0, :, 0], rtol=1e-5)
    np.testing.assert_allclose(posture["centerline"].sel(space="y")[2], scale * skeletons[2, :, 1], rtol=1e-5)
    assert np.isnan(posture["length"][1])
    np.testing.assert_allclose(posture["curvature"][2], 1000 / (120 * scale), rtol=1e-3)


def test_tierpsy_files_that_lack(tmp_path: Path) -> None:
    tierpsy(tmp_path / "a.hdf5", "skeleton", attrs={})
    with pytest.raises(NiddlError, match="give pixel_um="):
        nx.open_posture(tmp_path / "a.hdf5", worm="5")
    posture = nx.open_posture(tmp_path / "a.hdf5", worm="5", pixel_um=2.0)
    assert posture["t"].attrs["units"] == "frame"
    assert nx.open_posture(tmp_path / "a.hdf5", worm="5", pixel_um=2.0, dt_s=0.5)["t"].values.tolist() == [0.5]
    tierpsy(tmp_path / "b.hdf5", "skeleton", columns=False)
    with pytest.raises(NiddlError, match="expected the table trajectories_data with skeleton_id"):
        nx.open_posture(tmp_path / "b.hdf5")
    tierpsy(tmp_path / "c.hdf5", "skeleton")
    with pytest.raises(NiddlError, match=r"states pixel_um = 3, got 2"):
        nx.open_posture(tmp_path / "c.hdf5", worm=1, pixel_um=2.0)


def test_wormpose_results(tmp_path: Path) -> None:
    lines = np.stack([arc(50.0, 2.0, 30)[:, ::-1]] * 4)
    lines[1] = np.nan
    with h5py.File(tmp_path / "results.h5", "w") as file:
        file["original/skeletons"] = lines[..., ::-1]
        file["resolved/skeletons"], file["resolved/scores"] = lines, np.array([0.9, np.nan, 0.5, 1.5])
    posture = nx.open_posture(tmp_path / "results.h5", pixel_um=4.0, dt_s=0.1)
    np.testing.assert_allclose(posture["quality"], [0.9, 0, 0.5, 1])
    np.testing.assert_allclose(posture["curvature"][0], 1000 / 200, rtol=1e-3)
    np.testing.assert_allclose(posture["t"], [0, 0.1, 0.2, 0.3])


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(NiddlError, match="no file"):
        nx.open_posture(tmp_path / "gone.wcon")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(NiddlError, match="compressed ones are to be unpacked"):
        nx.open_posture(tmp_path / "a.zip")
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(NiddlError, match="is no HDF5 file that can be read"):
        nx.open_posture(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["skeletons"] = np.zeros((4, 3))
    with pytest.raises(NiddlError, match=r"expected /skeletons \(frame, point, x and y\), got \(4, 3\)"):
        nx.open_posture(tmp_path / "b.h5")
    with pytest.raises(NiddlError, match="expected pixel_um as a positive number, got 0"):
        nx.open_posture(tmp_path / "b.h5", pixel_um=0)


@pytest.mark.realdata
def test_published_samples(realdata: Path) -> None:
    folder = realdata / "wcon_samples"
    ways = [
        nx.open_posture(folder / f"{name}.wcon", worm="2")
        for name in ("offset_none", "offset_only", "offset_and_centroid", "offset_no_centroid_yes", "perimeter_points")
    ]
    for posture in ways:
        np.testing.assert_allclose(posture["centerline"].sel(space="x"), [[6500, 7500], [6600, 7500]])
        np.testing.assert_allclose(posture["centerline"].sel(space="y"), [[6400, 5700], [6200, 5500]])
    with pytest.raises(NiddlError, match="holds 23 worms"):
        nx.open_posture(folder / "multiworm.wcon")
    with pytest.raises(NiddlError, match="a table of 56 features, features_timeseries, of"):
        nx.open_posture(realdata / "tierpsy_worm" / "features_test.hdf5")
