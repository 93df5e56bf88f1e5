"""Atlases as users have them, and the positions that come out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from niddl_xr.schema import NiddlError
from niddl_xr.simulation import read_atlas
from niddl_xr.simulation.atlas import positions_in_field, positions_of

EXPECTED = pd.DataFrame(
    {"z": [6.5, -6.4, 0.1], "y": [-3.0, -3.1, 2.0], "x": [52.1, 51.8, 60.0]}, index=["AVAL", "AVAR", "RID"]
)


def written(folder: Path, text: str) -> Path:
    path = folder / "atlas.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "AVAL,52.1,-3.0,6.5\nAVAR,51.8,-3.1,-6.4\nRID,60,2,0.1\n",
        "\ufeffname, x, y, z\nAVAL, 52.1, -3.0, 6.5\nAVAR, 51.8, -3.1, -6.4\n\nRID, 60, 2, 0.1",
        "neuron\tz\ty\tx\nAVAL\t6.5\t-3.0\t52.1\nAVAR\t-6.4\t-3.1\t51.8\nRID\t0.1\t2\t60\n",
        "#AVAL AVAR RID\n5.21e1 -3.0 6.5\n51.8 -3.1 -6.4\n60 2 0.1\n",
        '"AVAL",52.1,-3.0,6.5\n\'AVAR\',51.8,-3.1,-6.4\n"RID",60,2,0.1\n',
    ],
)
def test_dialects_say_the_same(tmp_path, text):
    table = read_atlas(written(tmp_path, text))
    pd.testing.assert_frame_equal(table, EXPECTED, check_names=False, check_dtype=False)


def test_rows_without_names_are_numbered(tmp_path):
    assert read_atlas(written(tmp_path, "1 2 3\n4 5 6\n")).loc["n002"].to_dict() == {"z": 6, "y": 5, "x": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AVAL,52.1,-3.0\nAVAR,51.8,-3.1\nRID,1\n", r"expected rows of name, x, y, z or x, y, z in .*columns"),
        ("", "got 0 rows"),
        (
            "AVAL,52.1,-3.0,6.5\nAVAR,51.8,?,-6.4\n",
            r"numbers in .*got row 2: \['AVAR', '51.8', '\?', '-6.4'\]",
        ),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    with pytest.raises(NiddlError, match=message):
        read_atlas(written(tmp_path, text))


def test_positions_come_in_any_form(tmp_path):
    named = EXPECTED.rename_axis("name").reset_index()
    array = xr.DataArray(
        EXPECTED[["x", "y", "z"]].to_numpy().T,
        dims=("space", "neuron"),
        coords={"space": ["x", "y", "z"], "neuron": EXPECTED.index.to_numpy()},
    )
    for form in (EXPECTED, named, array):
        pd.testing.assert_frame_equal(positions_of(form), EXPECTED, check_names=False)
    bare = positions_of(EXPECTED.to_numpy())
    np.testing.assert_array_equal(bare.to_numpy(), EXPECTED.to_numpy())
    assert bare.index.tolist() == ["n001", "n002", "n003"]


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (EXPECTED.drop(columns="z"), r"columns z, y, x in µm, got \['y', 'x'\]: missing \['z'\]"),
        (np.zeros((4, 2)), r"array \(neuron, 3\) of z, y, x in µm, got shape \(4, 2\)"),
        (np.full((2, 3), np.nan), "expected finite numbers as positions of at least one neuron"),
        (pd.concat([EXPECTED, EXPECTED.iloc[:1]]), r"a name for each neuron, got \['AVAL'\] more than once"),
        (xr.DataArray(np.zeros((2, 4, 3)), dims=("t", "neuron", "space")), "dims neuron and space, got .*one frame"),
        (xr.DataArray(np.zeros((4, 3)), dims=("neuron", "space")), "coordinate space names the axes z, y and x"),
        (EXPECTED.assign(x="far"), "expected finite numbers as positions"),
        (5, r"array \(neuron, 3\) of z, y, x in µm, got shape \(\)"),
        ({"AVAL": (1, 2, 3)}, r"as a path, a DataFrame, a DataArray .* got \{'AVAL': \(1, 2, 3\)\}"),
        ([[1, 2, 3], [4, 5]], r"as a path, a DataFrame, .* got \[\[1, 2, 3\], \[4, 5\]\]"),
        (xr.Dataset(), "as a path, a DataFrame, .* got a Dataset"),
    ],
)
def test_positions_that_are_none(positions, message):
    with pytest.raises(NiddlError, match=message):
        positions_of(positions)


def test_files_that_are_no_text_or_are_not_there(tmp_path):
    (tmp_path / "atlas.xlsx").write_bytes(b"PK\x03\x04\xed\xff")
    with pytest.raises(NiddlError, match=r"expected text in .*atlas\.xlsx, got other bytes .* pass a DataFrame"):
        read_atlas(tmp_path / "atlas.xlsx")
    with pytest.raises(FileNotFoundError, match=r"no file of neuron positions at .*none\.csv"):
        read_atlas(tmp_path / "none.csv")


def in_field(points, field=(20.0, 40.0, 90.0), neurons=None, seed=0):
    return positions_in_field(positions_of(points), np.array(field), neurons, np.random.default_rng(seed))


def test_positions_are_centred_begin_at_the_left_and_end_with_the_field():
    points = EXPECTED.copy()
    points.loc["PVQL"] = (0.1, -3.0, 500.0)
    placed, names = in_field(points)
    assert names == ["AVAL", "AVAR", "RID"]
    middle = np.median(points[["z", "y"]], axis=0)  # of all, those outside the field too
    np.testing.assert_allclose(placed[:, :2], EXPECTED[["z", "y"]].to_numpy() - middle + (10, 20))
    np.testing.assert_allclose(placed[:, 2], EXPECTED["x"] - 51.8 + 0.03 * 90)
    assert not in_field(points, field=(0.0, 40.0, 90.0))[0][:, 0].any()  # a plane movie
    drawn, two = in_field(points, neurons=2)
    assert len(two) == 2
    assert {name for seed in range(20) for name in in_field(points, neurons=2, seed=seed)[1]} == set(names)
    np.testing.assert_array_equal(drawn, placed[[names.index(name) for name in two]])


def test_positions_in_another_unit_are_told():
    with pytest.raises(NiddlError, match=r"positions in µm, got neurons whose nearest neighbour is only 0\.011 away"):
        in_field(EXPECTED / 1000)


@pytest.mark.realdata
def test_published_atlases(realdata):
    folder = realdata / "neuron_positions"
    table = read_atlas(folder / "LowResAtlasWithHighResHeadsAndTails.csv")
    assert table.loc["ADAR"].to_dict() == {"z": -11.64, "y": -1.43, "x": 91.22}
    assert len(read_atlas(folder / "anatlas_neuron_positions.txt").loc[["AVAL", "AVAR"]]) == 2
    assert len(read_atlas(folder / "worm3_points_t1.csv")) == 180
    assert len(in_field(table, field=(29.0, 80.0, 160.0))[1]) > 150
