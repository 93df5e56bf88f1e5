"""The demo as a user runs it, with a few seconds of training."""

import json

import numpy as np
import pytest
import tifffile
import xarray as xr

import niddl_xr as nx
from niddl_xr import NiddlError, cli
from niddl_xr.demo import run_demo
from tests.conftest import counts


def outputs(folder):
    """Every output of the executed notebook, by its MIME type."""
    cells = json.loads((folder / "demo.ipynb").read_text())["cells"]
    return [kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})]


def test_simulated(tmp_path):
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--training-seconds", "4"]) == 0
    page = (tmp_path / "demo" / "demo.html").read_text()
    assert "Traceback" not in page
    drawn = outputs(tmp_path / "demo")
    assert drawn.count("application/vnd.holoviews_exec.v0+json") >= 6
    stored = nx.open_recording(tmp_path / "demo" / "denoised.zarr")
    assert stored.dtype == np.float32
    assert {"/s0", "/ledger"} <= set(xr.open_datatree(tmp_path / "demo" / "denoised.zarr", engine="zarr").groups)


def test_on_a_users_file(tmp_path):
    tifffile.imwrite(
        tmp_path / "worm.tif", counts((6, 64, 83)), imagej=True, metadata={"axes": "TYX", "finterval": 0.2}
    )
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--recording", str(tmp_path / "worm.tif")]
    assert cli.main([*arguments, "--training-seconds", "2", "--voxel-um", "1", "0.4", "0.4"]) == 0
    stored = nx.open_recording(tmp_path / "demo" / "denoised.zarr")
    assert dict(stored.sizes) == {"t": 6, "z": 1, "y": 64, "x": 83}
    assert float(stored.t[1]) == pytest.approx(0.2)
    assert "Please note" in (tmp_path / "demo" / "demo.html").read_text()


def test_a_file_that_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(NiddlError, match=r"stopped in a cell of .*demo.ipynb: FileNotFoundError: .*nothing.tif"):
        run_demo(tmp_path / "demo", {"recording_path": str(tmp_path / "nothing.tif")})
    assert (tmp_path / "demo" / "demo.ipynb").exists()
