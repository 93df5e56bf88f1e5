"""What is loaded when: the import is light, importing changes nothing, rooms stay apart."""

import json
import subprocess
import sys

import pytest

HEAVY = [
    "torch",
    "holoviews",
    "panel",
    "bokeh",
    "skimage",
    "distributed",
    "sklearn",
    "dask",
    "zarr",
    "scipy",
    "tifffile",
]


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_the_import_is_light():
    beyond_xarray = loaded_after("import niddl_xr; dir(niddl_xr)") - loaded_after("import xarray")
    assert not beyond_xarray & set(HEAVY)
    assert {name for name in beyond_xarray if not name.startswith("_")} <= {"niddl_xr"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import niddl_xr; niddl_xr.denoise; niddl_xr.classical", {"torch", "holoviews", "distributed", "skimage"}),
        ("import niddl_xr; niddl_xr.open_recording; niddl_xr.save", {"torch", "holoviews", "distributed", "skimage"}),
        ("import niddl_xr; niddl_xr.simulate; niddl_xr.compare", {"torch", "holoviews", "distributed", "tifffile"}),
        ("import niddl_xr; niddl_xr.plot_frame", {"torch", "distributed", "tifffile"}),
        ("import niddl_xr.cli", {"torch", "holoviews", "dask", "zarr"}),
    ],
)
def test_a_room_loads_what_it_needs(statement, absent):
    assert not loaded_after(statement) & absent


def test_importing_changes_nothing():
    script = """
import os, random, logging, warnings, locale
import numpy as np, xarray as xr
before = (dict(os.environ), random.getstate(), str(np.random.get_state()), dict(xr.core.options.OPTIONS),
          logging.root.handlers[:], logging.root.level, list(warnings.filters), os.getcwd(), os.listdir())
import niddl_xr, niddl_xr.denoising, niddl_xr.recordings, niddl_xr.simulation, niddl_xr.metrics, niddl_xr.filling
after = (dict(os.environ), random.getstate(), str(np.random.get_state()), dict(xr.core.options.OPTIONS),
         logging.root.handlers[:], logging.root.level, list(warnings.filters), os.getcwd(), os.listdir())
assert before[:6] == after[:6] and before[7:] == after[7:], "importing changed the process"
"""
    subprocess.run([sys.executable, "-c", script], check=True)
