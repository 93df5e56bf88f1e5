"""Importing sets nothing; drawing loads the bokeh backend, once, and leaves another one in place."""

from __future__ import annotations

import subprocess
import sys

RECORDING = """
import holoviews as hv, numpy as np
from niddl_xr.plots import plot_frame
from niddl_xr.schema import make_recording
movie = make_recording(np.ones((2, 1, 3, 4), "uint16"), voxel_um=(1, 1, 1), dt_s=1)
"""


def run(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_the_import_loads_no_backend_and_the_first_picture_does():
    run(
        RECORDING
        + """
assert hv.Store.loaded_backends() == []
plot_frame(movie)
assert hv.Store.loaded_backends() == ["bokeh"] and hv.Store.current_backend == "bokeh"
"""
    )
