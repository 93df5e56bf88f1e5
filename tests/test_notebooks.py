"""The notebooks beside the demo, executed small."""

import json

import pytest

from niddl_xr.demo import notebook_path, run_notebook

SMALL = {"stacks": 1, "worms": 1, "frames": 40}


def pictures(folder, name: str) -> int:
    """Number of drawn outputs of an executed notebook."""
    cells = json.loads((folder / name).read_text(encoding="utf-8"))["cells"]
    kinds = [kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    return kinds.count("application/vnd.holoviews_exec.v0+json")


def test_simulated_worms_alone(tmp_path):
    folder = run_notebook("simulated_worms.ipynb", tmp_path / "worms", SMALL)
    assert pictures(folder, "simulated_worms.ipynb") >= 4
    assert "Traceback" not in (folder / "simulated_worms.html").read_text(encoding="utf-8")


@pytest.mark.realdata
def test_simulated_worms_beside_real_ones(tmp_path, realdata):
    folder = run_notebook("simulated_worms.ipynb", tmp_path / "worms", SMALL | {"realdata": str(realdata)})
    page = (folder / "simulated_worms.html").read_text(encoding="utf-8")
    assert "real, freely moving" in page
    assert "correlation_x_1" in page


def test_outputs_are_stripped():
    cells = json.loads(notebook_path("simulated_worms.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)


def check_formats(folder) -> str:
    """Return the page of the executed gallery, in which the largest difference from the truth is asserted to be 0."""
    page = (folder / "formats.html").read_text(encoding="utf-8")
    assert "Traceback" not in page
    assert "memory map of CaImAn" in page
    assert "scanimage" in page
    return page


def test_formats_alone(tmp_path):
    folder = run_notebook("formats.ipynb", tmp_path / "formats", {})
    assert pictures(folder, "formats.ipynb") == 2  # one is the extension itself
    assert "no folder of real recordings given" in check_formats(folder)


@pytest.mark.realdata
def test_formats_with_real_files(tmp_path, realdata):
    folder = run_notebook("formats.ipynb", tmp_path / "formats", {"realdata": str(realdata)})
    assert pictures(folder, "formats.ipynb") == 3
    assert "sample_norpix6.seq" in check_formats(folder)


def test_pixels_to_neurons(tmp_path):
    small = {"frames": 16, "neurons": 24, "corrections": 3}
    folder = run_notebook("pixels_to_neurons.ipynb", tmp_path / "neurons", small)
    assert pictures(folder, "pixels_to_neurons.ipynb") >= 5
    assert "Traceback" not in (folder / "pixels_to_neurons.html").read_text(encoding="utf-8")
    assert len(list((folder / "pixels_to_neurons" / "edits").glob("*.parquet"))) == 3


def test_freely_moving(tmp_path):
    small = {"frames": 260, "training_frames": 6, "training_seconds": 4}
    folder = run_notebook("freely_moving.ipynb", tmp_path / "worm", small)
    page = (folder / "freely_moving.html").read_text(encoding="utf-8")
    assert pictures(folder, "freely_moving.ipynb") >= 9
    assert "Traceback" not in page
    assert "significant_denoised" in page
    assert (folder / "freely_moving" / "activity_and_curvature.html").is_file()


def test_real_worms_alone(tmp_path):
    folder = run_notebook("real_worms.ipynb", tmp_path / "worms", {})
    page = (folder / "real_worms.html").read_text(encoding="utf-8")
    assert page.count("<em>Left out: ") == 5


@pytest.mark.realdata
def test_real_worms(tmp_path, realdata):
    folder = run_notebook("real_worms.ipynb", tmp_path / "worms", {"realdata": str(realdata), "null_draws": 49})
    page = (folder / "real_worms.html").read_text(encoding="utf-8")
    assert pictures(folder, "real_worms.ipynb") >= 7
    assert "0.228 0.137 0.102" in page
    assert "neurons with q ≤ 0.05: 0 of 62" in page
    assert page.count("<em>Left out: ") == 0
