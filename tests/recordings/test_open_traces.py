from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.io import savemat

import niddl_xr as nx
from niddl_xr.neurons import require_traces
from niddl_xr.schema import HISTORY, MissingMetadataWarning, NiddlError, history, with_history

NAMES = ["AVAL", "RIML", "VB02"]


@pytest.fixture
def traces() -> xr.Dataset:
    rng = np.random.default_rng(0)
    F = rng.uniform(50, 900, (7, 3)).astype(np.float32)
    dff = (F / 100 - 1).astype(np.float32)
    dff[2, 1] = np.nan
    dims = ("t", "neuron")
    result = xr.Dataset(
        {
            "F": (dims, F, {"units": "counts"}),
            "F_var": (dims, F / 3, {"units": "counts²"}),
            "F0": (dims, np.full((7, 3), 100, np.float32), {"units": "counts"}),
            "dff": (dims, dff, {"units": "1"}),
            "valid": (dims, F > 100),
        },
        coords={
            "t": ("t", 0.25 + np.arange(7) * 0.5, {"units": "s"}),
            "neuron": NAMES,
            "state": ("t", ["forward"] * 4 + ["reversal"] * 3),
            "group": ("neuron", ["reversal", "reversal", "forward"]),
            "radius_um": ("neuron", [1.5, 2.5, 1.75], {"units": "µm"}),
        },
    )
    return with_history(result, "dff", {"q": 0.2})


def written(traces: xr.Dataset, path: Path, **options) -> Path:
    return nx.export(traces, path, progress=False, **options)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "mat", "nwb", "zarr"])
def test_what_was_exported_comes_back(traces, tmp_path, suffix):
    path = tmp_path / f"worm.{suffix}"
    if suffix == "zarr":
        traces.to_zarr(path)
    elif suffix == "nwb":
        with pytest.warns(UserWarning, match="not written to NWB"):
            written(traces, path, session_start_time="2024-05-01T10:00:00+02:00")
    else:
        written(traces, path)
    back = nx.open_traces(path)
    require_traces(back, "dff")
    assert set(back.data_vars) == set(traces.data_vars)
    for name, item in traces.data_vars.items():
        np.testing.assert_allclose(back[name].transpose("t", "neuron"), item, rtol=1e-6)
        assert back[name].attrs.get("units", "") == item.attrs.get("units", "")
    np.testing.assert_allclose(back["t"], traces["t"])
    assert back["t"].attrs["units"] == "s"
    assert back["neuron"].values.tolist() == NAMES
    assert back["group"].values.tolist() == ["reversal", "reversal", "forward"]
    np.testing.assert_allclose(back["radius_um"], traces["radius_um"])
    assert back["group"].dims == back["radius_um"].dims == ("neuron",)
    if suffix != "nwb":
        np.testing.assert_array_equal(back["state"], traces["state"])
    verbs = [entry["verb"] for entry in history(back)]
    assert verbs == (["open_traces"] if suffix in ("csv", "nwb") else ["dff", "open_traces"])
    assert back.attrs["source"] == str(path)
    np.testing.assert_allclose(nx.pca(back, modes=2, null_draws=0)["mode"], [1, 2])


def test_one_variable_of_several(traces, tmp_path):
    path = written(traces, tmp_path / "worm.parquet")
    assert list(nx.open_traces(path, variable="dff").data_vars) == ["dff"]
    with pytest.raises(NiddlError, match=r"worm.parquet has no variable 'ratio'; it has F, F_var, F0, dff"):
        nx.open_traces(path, variable="ratio")


def test_rows_that_are_not_there_are_gaps(traces, tmp_path):
    table = pd.read_csv(written(traces, tmp_path / "whole.csv"))
    shuffled = table.drop(index=[4, 11]).sample(frac=1, random_state=0)
    shuffled.to_csv(tmp_path / "part.csv", index=False)
    back = nx.open_traces(tmp_path / "part.csv").sel(neuron=NAMES)
    missing = np.zeros((7, 3), bool)
    missing[1, 1] = missing[3, 2] = True
    np.testing.assert_array_equal(back["F"].isnull(), missing)
    np.testing.assert_allclose(back["F"].values[~missing], traces["F"].values[~missing])
    pd.concat([table, table.iloc[[5]]]).to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(NiddlError, match="each neuron once at each time in .*twice.csv"):
        nx.open_traces(tmp_path / "twice.csv")


def wide(folder: Path, header: str, name: str = "wide.csv") -> Path:
    rows = ["0.0,1.5,2.5,forward,0.1", "0.4,1.25,,forward,0.2", "0.8,3.0,4.5,reversal,-0.1", "1.2,1.0,1.0,reversal,0"]
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / name


def test_a_column_for_each_neuron(tmp_path):
    path = wide(tmp_path, "time_s,AVAL,AVAR,state,speed")
    back = nx.open_traces(path, variable="dff", neurons="AVA*")
    np.testing.assert_array_equal(back["dff"], [[1.5, 2.5], [1.25, np.nan], [3, 4.5], [1, 1]])
    assert back["neuron"].values.tolist() == ["AVAL", "AVAR"]
    np.testing.assert_allclose(back["t"], [0, 0.4, 0.8, 1.2])
    assert back["t"].attrs["units"] == "s"
    assert back["state"].values.tolist() == ["forward", "forward", "reversal", "reversal"]
    np.testing.assert_allclose(back["speed"], [0.1, 0.2, -0.1, 0])
    assert nx.open_traces(path)["activity"].sizes["neuron"] == 3
    pd.read_csv(path).to_parquet(tmp_path / "wide.parquet")
    xr.testing.assert_equal(nx.open_traces(tmp_path / "wide.parquet", variable="dff", neurons=["AVAL", "AVAR"]), back)


def test_time_is_never_guessed(tmp_path):
    path = wide(tmp_path, "Time,AVAL,AVAR,state,speed")
    with pytest.warns(
        MissingMetadataWarning, match=r"wide.csv does not state its time step \(set dt_s=, or time='Time'"
    ):
        back = nx.open_traces(path)
    assert back["t"].attrs["units"] == "frame"
    np.testing.assert_array_equal(back["t"], np.arange(4))
    assert "Time" not in back["neuron"].values
    np.testing.assert_allclose(nx.open_traces(path, time="Time")["t"], [0, 0.4, 0.8, 1.2])
    given = nx.open_traces(path, dt_s=0.25)
    np.testing.assert_allclose(given["t"], np.arange(4) * 0.25)
    assert given["neuron"].values.tolist() == ["AVAL", "AVAR", "speed"]
    bare = wide(tmp_path, "a,b,c,d,e")
    with pytest.warns(MissingMetadataWarning, match=r"set dt_s=\); t is the number"):
        assert nx.open_traces(bare)["neuron"].values.tolist() == ["a", "b", "c", "e"]
    frames = xr.Dataset(
        {"F": (("t", "neuron"), np.ones((5, 2)))},
        {"t": ("t", [0, 1, 3, 4, 5], {"units": "frame"}), "neuron": ["a", "b"]},
    )
    written(frames, tmp_path / "frames.csv")
    with pytest.warns(MissingMetadataWarning, match="set dt_s="):
        np.testing.assert_array_equal(nx.open_traces(tmp_path / "frames.csv")["t"], [0, 1, 3, 4, 5])


def nwb(path: Path, series: dict[str, tuple], **roots) -> Path:
    """An NWB file by hand: name -> (data, timestamps or rate, attributes)."""
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.1.0"
        for name, (data, clock, *attrs) in series.items():
            group = file.create_group(name)
            group.attrs["neurodata_type"] = "TimeSeries"
            group["data"] = data
            group["data"].attrs.update({"unit": "none", "conversion": 1.0, **(attrs[0] if attrs else {})})
            if isinstance(clock, float):
                group["starting_time"] = 2.0
                group["starting_time"].attrs["rate"] = clock
            elif clock is not None:
                group["timestamps"] = clock
    return path


def test_a_series_for_each_neuron(tmp_path):
    t = np.array([0.0, 0.17, 0.33, 0.5, 0.66])
    values = np.random.default_rng(0).standard_normal((5, 3))
    series = {f"acquisition/Activity_{k:04d}": (values[:, k], t) for k in range(3)}
    series["acquisition/velocity"] = (np.arange(5.0), t, {"unit": "m/s", "conversion": 0.5})
    series["processing/behavior/place"] = (np.arange(10.0).reshape(5, 2), t)
    series["acquisition/temperature"] = (np.arange(4.0), np.arange(4.0))
    path = nwb(tmp_path / "worm.nwb", series)
    back = nx.open_traces(path, variable="dff")
    np.testing.assert_array_equal(back["dff"], values)
    np.testing.assert_array_equal(back["t"], t)
    assert back["neuron"].values.tolist() == ["Activity_0000", "Activity_0001", "Activity_0002"]
    np.testing.assert_array_equal(back["velocity"], np.arange(5) / 2)
    assert back["velocity"].attrs["units"] == "m/s"
    np.testing.assert_array_equal(back["place_1"], [1, 3, 5, 7, 9])
    assert back.attrs["series_left_out"] == ["/acquisition/temperature"]
    chosen = nx.open_traces(path, neurons=["Activity_0002", "velocity"])
    assert chosen["neuron"].values.tolist() == ["Activity_0002", "velocity"]
    behaviour = nx.open_traces(path, neurons=[])
    assert not behaviour.data_vars
    assert "velocity" in behaviour.coords
    with pytest.raises(NiddlError, match="worm.nwb has nothing called 'AV\\*' for neurons=; there is Activity_0000"):
        nx.open_traces(path, neurons="AV*")
    with pytest.raises(NiddlError, match="worm.nwb has neurons at different times: "):
        nx.open_traces(path, neurons=["Activity_0002", "temperature"])


def test_times_of_a_rate_and_none(tmp_path):
    values = np.random.default_rng(0).standard_normal((5, 2))
    path = nwb(tmp_path / "rate.nwb", {f"acquisition/n{k}": (values[:, k], 4.0) for k in range(2)})
    np.testing.assert_allclose(nx.open_traces(path)["t"], 2 + np.arange(5) / 4)
    path = nwb(tmp_path / "none.nwb", {f"acquisition/n{k}": (values[:, k], None) for k in range(2)})
    with pytest.warns(MissingMetadataWarning, match="none.nwb does not state its time step"):
        assert nx.open_traces(path)["t"].attrs["units"] == "frame"


def test_nwb_that_does_not_fit(tmp_path):
    path = nwb(tmp_path / "states.nwb", {"acquisition/States": (np.arange(5.0), 2.0)})
    with pytest.raises(NiddlError, match=r"states.nwb holds no traces .* its time series: States \(5,\)"):
        nx.open_traces(path)
    path = nwb(tmp_path / "back.nwb", {f"acquisition/n{k}": (np.arange(3.0), [0.0, 2, 1]) for k in range(2)})
    with pytest.raises(NiddlError, match="expected 3 times in s that rise, got others in .*back.nwb: set dt_s="):
        nx.open_traces(path)
    np.testing.assert_allclose(nx.open_traces(path, dt_s=2)["t"], [0, 2, 4])
    whole = path.read_bytes()
    (tmp_path / "cut.nwb").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(NiddlError, match="cut.nwb is not an HDF5 file that can be read"):
        nx.open_traces(tmp_path / "cut.nwb")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "empty.csv is no table"),
        ("header.csv", "time_s,AVAL\n", "header.csv holds no row"),
        ("twice.csv", "time_s,AVAL,AVAL\n0,1,2\n", "twice.csv has columns of the same name: AVAL"),
        ("words.csv", "time_s,state\n0,forward\n1,reversal\n", "words.csv has no column of numbers for a neuron"),
        ("ragged.csv", "time_s,AVAL\n0,1,2,3\n0,1\n1,2,3,4,5,6\n", "ragged.csv is no table"),
        ("falling.csv", "time_s,AVAL\n1,1\n0,2\n", "expected 2 times in s that rise, got others in .*falling.csv"),
        ("clock.csv", "time_s,AVAL\nnoon,1\nnight,2\n", "the times in column 'time_s' of .*clock.csv as numbers"),
        ("long.csv", "neuron,F\nAVAL,1\nAVAR,2\n", "long.csv has a column neuron but none of the time"),
        ("nobody.csv", "t_s,neuron,F\n0,AVAL,1\n1,,2\n", "expected a time and a neuron in every row of .*nobody.csv"),
        ("bytes.csv", "\x00\x00", "bytes.csv"),
        ("torn.parquet", "PAR1xxxx", "torn.parquet is no Parquet table"),
        ("torn.mat", "MATLAB 5.0", "torn.mat is no MATLAB file of version 5"),
        ("torn.nwb", "no HDF5", "torn.nwb is not an HDF5 file that can be read"),
        ("worm.tif", "II", "expected traces in a file that ends with .csv, .parquet, .nwb, .mat, .zarr, got worm.tif"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(NiddlError, match=message):
        nx.open_traces(tmp_path / name)


def test_other_mat_and_zarr(tmp_path, traces):
    savemat(tmp_path / "other.mat", {"activity": np.ones((3, 4))})
    with pytest.raises(NiddlError, match="expected one struct of traces .* in .*other.mat, got 0; it has activity"):
        nx.open_traces(tmp_path / "other.mat")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(NiddlError, match="empty.zarr is no zarr store"):
        nx.open_traces(tmp_path / "empty.zarr")
    traces[["F", "dff"]].rename(neuron="cell").to_zarr(tmp_path / "cells.zarr")
    with pytest.raises(NiddlError, match="expected a variable with dims t and neuron in .*cells.zarr"):
        nx.open_traces(tmp_path / "cells.zarr")
    traces[["F", "dff"]].to_zarr(tmp_path / "worm.zarr")
    lazy = nx.open_traces(tmp_path / "worm.zarr", variable="dff", dt_s=2)
    assert lazy.chunks
    assert float(lazy["t"][-1]) == 12
    damaged = traces[["F"]].assign_attrs({HISTORY: "{"})
    damaged.to_zarr(tmp_path / "damaged.zarr")
    with pytest.raises(NiddlError, match="damaged.zarr: expected attrs"):
        nx.open_traces(tmp_path / "damaged.zarr")


def test_arguments_that_do_not_fit(tmp_path):
    path = wide(tmp_path, "time_s,AVAL,AVAR,state,speed")
    with pytest.raises(FileNotFoundError, match="nothing at .*absent.csv"):
        nx.open_traces(tmp_path / "absent.csv")
    with pytest.raises(NiddlError, match="has no column 'clock' for time=; it has time_s, AVAL"):
        nx.open_traces(path, time="clock")
    with pytest.raises(NiddlError, match="expected dt_s= or time=, got both"):
        nx.open_traces(path, time="time_s", dt_s=1)
    with pytest.raises(NiddlError, match="expected dt_s, the time between frames, as a positive number"):
        nx.open_traces(path, dt_s=0)
    with pytest.raises(NiddlError, match="expected numbers in the columns of neurons of .* got others in state"):
        nx.open_traces(path, neurons=["AVAL", "state"])
    (tmp_path / "x.mat").write_text("")
    with pytest.raises(NiddlError, match="time= names a column of a table, which x.mat is not"):
        nx.open_traces(tmp_path / "x.mat", time="t")
    with pytest.raises(NiddlError, match="neurons= chooses columns or series, which x.mat does not have"):
        nx.open_traces(tmp_path / "x.mat", neurons="A*")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(NiddlError, match="expected a file with traces, got the folder"):
        nx.open_traces(tmp_path / "folder.csv")


@pytest.mark.realdata
def test_freely_moving_worm_of_scholz(realdata):
    (path,) = sorted((realdata / "scholz2018_moving_nwb").glob("*141721.nwb"))
    traces = nx.open_traces(path)
    assert dict(traces.sizes) == {"t": 2244, "neuron": 62}
    assert traces["t"].attrs["units"] == "s"
    assert float(traces["t"].diff("t").median()) == pytest.approx(0.166, abs=0.002)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(traces["activity"][:, 7], file["acquisition/Activity_0007/data"][()])
        place = file["acquisition/Tracked 2D position/ss_2D/data"][()]
    np.testing.assert_array_equal(traces["Tracked 2D position_1"], place[:, 1])


@pytest.mark.realdata
def test_states_of_kato(realdata):
    states = nx.open_traces(realdata / "kato2015_states_nwb" / "WT_Stim.0_states.nwb", neurons=[])
    assert set(np.unique(states["States"])) <= {1.0, 2.0, 3.0, 4.0}
    assert states.sizes["t"] == 2198
