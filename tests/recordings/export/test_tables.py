"""CSV, Parquet and MATLAB files, read back with the csv module, pyarrow, and the bytes of the .mat."""

import csv
import json
import math

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.io
import xarray as xr

from niddl_xr.recordings.export import _tidy, export, matlab
from niddl_xr.schema import HISTORY, NiddlError
from niddl_xr.simulation import detections


def rows_of(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def struct_of(path, name: str):
    return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False, chars_as_strings=True)[name]


def test_traces_become_a_long_csv(tmp_path, traces):
    traces["dff"][2, 3] = np.nan
    rows = rows_of(export(traces, tmp_path / "a.csv", progress=False))
    assert list(rows[0]) == ["t_s", "neuron", "partner", "group", "state", "F_counts", "F0_counts", "dff"]
    assert len(rows) == 6 * 5
    for number, row in enumerate(rows):
        t, neuron = divmod(number, 5)
        assert float(row["t_s"]) == traces.t.values[t]
        assert (row["neuron"], row["group"]) == (str(traces.neuron.values[neuron]), str(traces.group.values[neuron]))
        assert row["state"] == str(traces.state.values[t])
        for column, name in (("F_counts", "F"), ("F0_counts", "F0")):
            assert np.float32(row[column]) == traces[name].values[t, neuron]
    assert rows[13]["dff"] == ""
    assert sum(row["dff"] == "" for row in rows) == 1


def test_tracks_have_a_column_an_axis_and_words(tmp_path, tracks):
    tracks["provenance"][1, 2] = 3
    tracks["position"][4, 0] = np.nan
    rows = rows_of(export(tracks, tmp_path / "a.csv", progress=False))
    assert {"z_um", "y_um", "x_um", "observed", "confidence", "provenance", "radius_um"} <= set(rows[0])
    row = rows[1 * 5 + 2]
    assert row["provenance"] == "manual"
    assert [np.float32(row[f"{axis}_um"]) for axis in "zyx"] == tracks.position.values[1, 2].tolist()
    assert rows[4 * 5]["y_um"] == ""
    assert {other["provenance"] for number, other in enumerate(rows) if number != 7} == {"anchor"}
    assert row["observed"] in ("True", "False")


def test_pandas_reads_the_csv_with_types(tmp_path, tracks):
    table = pd.read_csv(export(tracks, tmp_path / "a.csv", progress=False))
    assert table["observed"].dtype == bool
    wide = table.pivot(index="t_s", columns="neuron", values="x_um").to_numpy().astype("float32")
    np.testing.assert_array_equal(wide, tracks.position.sel(space="x").values)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".mat"])
def test_detections(tmp_path, worm, suffix):
    table = detections(worm)
    path = export(table, tmp_path / f"a{suffix}", progress=False)
    expected = ["t_index", "t_s", "z_um", "y_um", "x_um", "radius_um", "intensity_counts", "snr", "neuron"]
    if suffix == ".csv":
        read = {name: [row[name] for row in rows_of(path)] for name in expected}
        assert list(rows_of(path)[0]) == expected
    elif suffix == ".parquet":
        stored = pq.read_table(path)
        assert stored.column_names == expected
        assert stored.schema.field("z_um").metadata == {b"units": "µm".encode()}
        read = stored.to_pydict()
    else:
        struct = struct_of(path, "table")
        assert struct._fieldnames[:9] == expected
        assert struct.units.t_s == "s"
        read = {name: getattr(struct, name) for name in expected}
    np.testing.assert_array_equal(np.asarray(read["y_um"], dtype="float32"), table["y"].to_numpy())
    np.testing.assert_array_equal(np.asarray(read["t_index"], dtype=int), table["t_index"].to_numpy())
    # An empty text of a cell comes back from scipy as an empty array.
    assert [str(name) if np.size(name) else "" for name in read["neuron"]] == table["neuron"].tolist()


def test_another_table_keeps_its_columns_and_its_index(tmp_path):
    table = pd.DataFrame({"t": [1.5, 2.5], "psnr": [30.25, math.nan]}, index=pd.Index(["raw", "median"], name="method"))
    rows = rows_of(export(table, tmp_path / "a.csv", progress=False))
    assert rows == [
        {"method": "raw", "t": "1.5", "psnr": "30.25"},
        {"method": "median", "t": "2.5", "psnr": ""},
    ]
    assert list(table.columns) == ["t", "psnr"]


def test_a_series_and_an_array_without_name(tmp_path):
    assert rows_of(export(pd.Series([1, 2], name="n"), tmp_path / "a.csv", progress=False)) == [{"n": "1"}, {"n": "2"}]
    array = xr.DataArray([[1.0, 2.0, 3.0]], dims=("t", "mode"))
    rows = rows_of(export(array, tmp_path / "b.csv", progress=False))
    assert rows[2] == {"t": "0", "mode": "2", "value": "3.0"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_blocks_do_not_change_the_table(tmp_path, tracks, monkeypatch, suffix):
    whole = export(tracks, tmp_path / f"a{suffix}", progress=False)
    monkeypatch.setattr(_tidy, "ROWS_A_BLOCK", 12)  # two frames
    blocks = export(tracks.chunk(t=1), tmp_path / f"b{suffix}", progress=False)
    if suffix == ".csv":
        assert whole.read_bytes() == blocks.read_bytes()
    else:
        assert pq.ParquetFile(blocks).num_row_groups == 3
        assert pq.read_table(whole).equals(pq.read_table(blocks))


def test_a_lazy_dataset_is_computed_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(_tidy, "ROWS_A_BLOCK", 10)
    sizes = []

    def counted(block: np.ndarray) -> np.ndarray:
        sizes.append(block.shape[0])
        return block

    lazy = da.zeros((20, 5), chunks=(2, 5)).map_blocks(counted, dtype=float, meta=np.empty((0, 0)))
    export(xr.Dataset({"F": (("t", "neuron"), lazy)}), tmp_path / "a.csv", progress=False)
    assert sizes == [2] * 10


def test_parquet_has_types_units_and_history(tmp_path, traces):
    traces["dff"][2, 3] = np.nan
    stored = pq.read_table(export(traces, tmp_path / "a.parquet", progress=False))
    assert str(stored.schema.field("F_counts").type) == "float"
    units = {field.name: (field.metadata or {}).get(b"units") for field in stored.schema}
    assert (units["t_s"], units["F_counts"], units["neuron"]) == (b"s", b"counts", None)
    attributes = json.loads(stored.schema.metadata[b"niddl_xr"])
    assert json.loads(attributes[HISTORY])[0]["verb"] == "simulate.whole_brain"
    np.testing.assert_array_equal(stored["dff"].to_numpy().reshape(6, 5), traces["dff"].values)
    assert stored["dff"].null_count == 0  # NaN, not missing


def test_a_trace_keeps_the_history_of_its_array(tmp_path, traces):
    one = traces["dff"].assign_attrs({HISTORY: traces.attrs[HISTORY]})
    stored = pq.read_table(export(one, tmp_path / "a.parquet", progress=False))
    assert HISTORY in json.loads(stored.schema.metadata[b"niddl_xr"])


def test_matlab_gets_matrices_cells_and_units(tmp_path, traces):
    traces["dff"][2, 3] = np.nan
    struct = struct_of(export(traces, tmp_path / "a.mat", progress=False), "traces")
    np.testing.assert_array_equal(struct.t_s, traces.t.values)
    np.testing.assert_array_equal(struct.F_counts, traces.F.values)
    np.testing.assert_array_equal(struct.dff, traces.dff.values)
    assert struct.F_counts.dtype == "float32"
    assert struct.neuron.tolist() == traces.neuron.values.tolist()
    assert struct.state.tolist() == traces.state.values.tolist()
    assert struct.partner.tolist()[0] is not None
    assert (struct.dims.F_counts, struct.units.F_counts, struct.units.dff) == ("t neuron", "counts", "1")
    assert json.loads(json.loads(struct.attributes)[HISTORY])[0]["verb"] == "simulate.whole_brain"


def test_matlab_gets_tracks(tmp_path, tracks):
    struct = struct_of(export(tracks, tmp_path / "a.mat", name="worm7", progress=False), "worm7")
    np.testing.assert_array_equal(struct.position_um, tracks.position.values)
    assert struct.dims.position_um == "t neuron space"
    assert struct.space.tolist() == ["z", "y", "x"]
    np.testing.assert_array_equal(struct.provenance, tracks.provenance.values)
    assert struct.provenance_meanings.tolist() == ["auto", "filled", "anchor", "manual"]
    np.testing.assert_array_equal(struct.provenance_values, [0, 1, 2, 3])
    assert struct.observed.shape == (6, 5)


def test_a_mat_file_is_of_version_5(tmp_path, traces):
    raw = export(traces, tmp_path / "a.mat", progress=False).read_bytes()
    assert raw.startswith(b"MATLAB 5.0 MAT-file")
    assert raw[124:128] == b"\x00\x01IM"


def test_columns_of_one_neuron_stay_columns(tmp_path, traces):
    path = export(traces.isel(neuron=[2]), tmp_path / "a.mat", progress=False)
    struct = scipy.io.loadmat(path, struct_as_record=False)["traces"][0, 0]
    assert struct.F_counts.shape == (6, 1)
    assert struct.t_s.shape == (6, 1)
    assert struct.neuron.shape == (1, 1)


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("dff", "dff"),
        ("2nd try", "x_2nd_try"),
        ("_x", "x_x"),
        ("end", "x_end"),
        ("größe µm", "gr__e__m"),
        ("a" * 80, "a" * 63),
        ("", "x_"),
    ],
)
def test_names_that_matlab_takes(name, legal):
    assert matlab._legal(name, ()) == legal


def test_names_that_fall_together_are_told_apart():
    assert matlab._legal("a b", {"a_b"}) == "a_b_2"
    assert matlab._legal("a" * 70, {"a" * 63}) == "a" * 61 + "_2"


def test_mistakes_are_said(tmp_path, traces, monkeypatch):
    with pytest.raises(NiddlError, match="expected name as a name that MATLAB takes, got '7th'; 'x_7th' would do"):
        export(traces, tmp_path / "a.mat", name="7th")
    with pytest.raises(NiddlError, match="columns of different names, got F_counts twice"):
        export(traces.assign(F_counts=traces.F), tmp_path / "a.csv")
    monkeypatch.setattr(matlab, "_LARGEST_BYTES", 100)
    with pytest.raises(NiddlError, match="holds up to 2 GB a variable"):
        export(traces, tmp_path / "a.mat")


def test_a_space_of_other_variables_keeps_their_names(tmp_path):
    line = xr.Dataset(
        {"centerline": (("t", "s", "space"), np.arange(12.0).reshape(2, 3, 2), {"units": "µm"})},
        coords={"space": ["y", "x"], "t": ("t", [0.0, 0.5], {"units": "s"})},
    )
    rows = rows_of(export(line, tmp_path / "a.csv", progress=False))
    assert rows[4] == {"t_s": "0.5", "s": "1", "centerline_y_um": "8.0", "centerline_x_um": "9.0"}


def test_times_without_units_have_none(tmp_path):
    data = xr.Dataset({"F": (("t", "neuron"), np.ones((2, 1)))}, coords={"t": ("t", [0, 1], {"units": "frame"})})
    assert list(rows_of(export(data, tmp_path / "a.csv", progress=False))[0]) == ["t_frame", "neuron", "F"]


def test_a_table_of_the_caller_stays_as_it_is(tmp_path):
    table = pd.DataFrame({1: [0.5, 2.0], "t": [3, 4]})
    export(table, tmp_path / "a.csv", progress=False)
    assert table.columns.tolist() == [1, "t"]


def test_objects_in_a_column_keep_their_values(tmp_path):
    mixed = pd.DataFrame({"a": np.array([1] * 200_001 + [1.5], dtype=object)})
    path = export(mixed, tmp_path / "a.parquet", progress=False)
    assert pq.read_table(path)["a"][-1].as_py() == 1.5
    with pytest.raises(NiddlError, match="expected columns of one type each, as Parquet has them"):
        export(pd.DataFrame({"a": ["x", 3]}), tmp_path / "b.parquet", progress=False)
    with pytest.raises(NiddlError, match="expected columns of different names, got t twice"):
        export(pd.DataFrame({"t": [1]}, index=pd.Index([2], name="t")), tmp_path / "b.csv", progress=False)


def test_time_runs_slowest_whatever_the_order_of_dims(tmp_path, traces):
    turned = traces[["F"]].transpose("neuron", "t")
    turned = turned.drop_vars(set(turned.coords) - {"t", "neuron"})
    rows = rows_of(export(turned, tmp_path / "a.csv", progress=False))
    assert [float(row["t_s"]) for row in rows] == np.repeat(traces.t.values, traces.sizes["neuron"]).tolist()
    np.testing.assert_array_equal([np.float32(row["F_counts"]) for row in rows], traces.F.values.ravel())
