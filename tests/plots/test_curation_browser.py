"""The curator in a real browser: what a hand does with the mouse is in the log, also after the server is killed.

Run as a program (``python test_curation_browser.py PORT FOLDER``) this file is the served page itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from niddl_xr.neurons import make_tracks, recording_id
from niddl_xr.simulation import whole_brain

# Places in µm (z, y, x) that are far from one another on the screen, in planes of their own.
PLACES_UM = {"n001": (2.0, 6.0, 8.0), "n002": (3.0, 16.0, 12.0), "n003": (5.0, 8.0, 26.0), "n004": (1.0, 18.0, 30.0)}
FRAMES = 5
PATIENCE_S = 40


def recording_and_tracks() -> tuple[xr.DataArray, xr.Dataset]:
    shape, voxel = (8, 60, 90), (1.0, 0.4, 0.4)
    recording = whole_brain(shape=shape, frames=FRAMES, neurons=3, voxel_um=voxel, seed=1)["recording"]["F"].compute()
    # The brightest voxel of the column at y 12, x 20 µm is in the plane 6.
    recording[3, 6, 29:32, 49:52] = 40_000
    position = np.broadcast_to(np.array(list(PLACES_UM.values())), (FRAMES, len(PLACES_UM), 3)).copy()
    flat = np.ones(position.shape[:2])
    tracks = make_tracks(
        position,
        flat.astype(bool),
        confidence=flat,
        provenance=0 * flat,
        det_id=-flat,
        t=("t", recording["t"].values, {"units": "s"}),
        neurons=list(PLACES_UM),
        attrs={"recording_id": recording_id(recording)},
    )
    return recording, tracks


def serve(port: int, folder: str) -> None:
    import panel as pn

    from niddl_xr.curation import curate

    recording, tracks = recording_and_tracks()
    queue = pd.DataFrame({"t_index": [3, 1], "neuron": ["n001", "n003"], "suspicion": [0.9, 0.2], "reason": "jump"})

    def page(backend: str) -> Any:
        return curate(recording, tracks, folder, queue=queue, author="hand", backend=backend).view()

    pages = {"panel": lambda: page("panel"), "table": lambda: page("table")}
    pn.serve(pages, port=port, show=False, websocket_origin=f"localhost:{port}")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; the machine may be busy."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"waited {PATIENCE_S} s for {what}")


def answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("localhost", port)) == 0


class Served:
    """The pages in a process of their own, with their log and a browser that looks at one of them."""

    def __init__(self, folder: Path, browser: Any) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]
        self.folder = folder / "edits"
        self.said = folder / "server.txt"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(self.port), str(self.folder)],
                stdout=said,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        until(lambda: self.process.poll() is not None or answers(self.port), "the server")
        assert self.process.poll() is None, self.said.read_text()
        self.page = browser.new_page(viewport={"width": 1600, "height": 1000})
        self.page.set_default_timeout(1000 * PATIENCE_S)

    def open(self, backend: str) -> None:
        self.page.goto(f"http://localhost:{self.port}/{backend}")

    def rows(self, count: int) -> pd.DataFrame:
        """Wait until the log on the disk has so many rows; read as anybody else would."""
        from niddl_xr.tracking import EditLog

        log = EditLog(self.folder, author="reader")
        until(lambda: len(log) >= count, f"{count} rows in the log")
        table = log.table()
        assert len(table) == count, table
        return table

    def on_screen(self, figure: str, x: float, vertical: float) -> tuple[float, float]:
        """Return where a place in µm is on the screen, and µm a screen pixel along x is not asked for."""
        script = """([name, x, vertical]) => {
            const model = Bokeh.documents.map((doc) => doc.get_model_by_name(name)).find((found) => found != null)
            const view = Bokeh.index.find_one(model)
            const box = view.canvas_view.el.getBoundingClientRect()
            return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(vertical)]
        }"""
        sx, sy = self.page.evaluate(script, [figure, x, vertical])
        return sx, sy

    def drag(
        self, figure: str, start: tuple[float, float], end: tuple[float, float], *, hesitate_ms: float = 0
    ) -> None:
        mouse = self.page.mouse
        mouse.move(*self.on_screen(figure, *start))
        mouse.down()
        self.page.wait_for_timeout(hesitate_ms)  # what is tested, not waited for: bokeh calls it another gesture
        mouse.move(*self.on_screen(figure, *(np.array([start, end]).mean(axis=0))), steps=4)
        mouse.move(*self.on_screen(figure, *end), steps=4)
        mouse.up()

    def tap(self, figure: str, x: float, vertical: float, *, shift: bool = False) -> None:
        if shift:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(*self.on_screen(figure, x, vertical))
        if shift:
            self.page.keyboard.up("Shift")

    def click(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser is driven")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium is installed: no browser is driven")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def served(browser, tmp_path) -> Iterator[Served]:
    served = Served(tmp_path, browser)
    yield served
    served.page.close()
    served.kill()
    print(served.said.read_text())  # noqa: T201, shown by pytest where the test fails


def test_what_a_hand_does_is_in_the_log_and_kill_9_loses_nothing(served):
    served.open("panel")
    served.wait_for("frame 3 of 4")
    _, y, x = PLACES_UM["n002"]
    served.tap("xy", x, y)
    served.wait_for("t = 0.75 s · n002")
    served.click("swap")  # with the nearest neuron, from this frame on
    edits = served.rows(1)
    assert edits[["op", "neuron", "other", "t_start"]].values.tolist() == [["swap", "n002", "n001", 3]]
    assert pd.isna(edits.t_end[0])
    served.click("undo the last")
    assert served.rows(2).iloc[1][["op", "target"]].tolist() == ["undo", edits.edit_id[0]]
    served.page.get_by_placeholder("name, as AVAL").fill("AVAL")
    served.page.get_by_placeholder("name, as AVAL").press("Tab")
    served.click("name it")
    assert served.rows(3).iloc[2][["op", "neuron", "name"]].tolist() == ["name", "n002", "AVAL"]
    served.wait_for("AVAL (n002)")
    served.tap("xy", 1.0, 1.0)  # nothing is there; from now on the page has the keys
    served.page.keyboard.press("c")
    assert served.rows(4).iloc[3][["op", "neuron", "t_start", "t_end"]].tolist() == ["confirm", "n002", 3, 3]
    served.page.keyboard.press("n")
    served.wait_for("frame 1 of 4")
    served.click("frame is right")
    assert served.rows(5).iloc[4][["op", "neuron", "t_start"]].tolist() == ["confirm", "", 1]
    served.tap("xy", 24.0, 20.0, shift=True)  # the neuron of this item, n003, is put where the mouse is
    row = served.rows(6).iloc[5]
    assert row[["op", "neuron", "t_start"]].tolist() == ["move", "n003", 1]
    assert row[["y", "x"]].tolist() == pytest.approx([20.0, 24.0], abs=0.1)
    served.wait_for("moved n003 in frame 1: written")
    for name in ("n001", "n004"):  # quick taps, which bokeh calls a double tap
        served.tap("xy", *PLACES_UM[name][:0:-1])
    served.wait_for("frame 1 of 4, t = 0.25 s · n004")
    served.tap("xy", 24.0, 20.0)
    served.wait_for("frame 1 of 4, t = 0.25 s · n003")
    served.click("reject neuron")
    assert served.rows(7).iloc[6][["op", "neuron"]].tolist() == ["reject", "n003"]
    served.wait_for("rejected n003: written")

    # What is refused goes back to where it was, also on the screen.
    _, y, x = PLACES_UM["n001"]
    served.drag("xy", (x, y), (41.0, y))
    served.wait_for("expected x inside the recording, -3 to 38.6 µm, got")
    script = """() => Bokeh.documents.map((doc) => doc.get_model_by_name("xy")).find((found) => found != null)
        .renderers.find((renderer) => renderer.name == "rings").data_source.data.x[0]"""
    until(lambda: abs(served.page.evaluate(script) - x) < 1e-3, "the point to go back")

    # The picture from the side keeps y; in the one from above the depth is that of the brightest voxel.
    served.page.keyboard.press("p")
    served.wait_for("frame 3 of 4")
    z, y, x = PLACES_UM["n001"]
    served.drag("xz", (x, z), (10.0, 4.0), hesitate_ms=800)
    served.wait_for("moved n001 in frame 3: written")
    row = served.rows(8).iloc[7]
    assert row[["op", "neuron", "t_start", "y"]].tolist() == ["move", "n001", 3, y]
    assert row[["z", "x"]].tolist() == pytest.approx([4.0, 10.0], abs=0.1)
    z, y, x = PLACES_UM["n004"]
    served.drag("xy", (x, y), (20.0, 12.0))
    served.wait_for("moved n004 in frame 3: written")
    served.kill()
    row = served.rows(9).iloc[8]
    assert (row.op, row.neuron, row.t_start, row.t_end, row.author) == ("move", "n004", 3, 3, "hand")
    # A pixel of the screen is 36 µm / 560.
    assert row[["y", "x"]].tolist() == pytest.approx([12.0, 20.0], abs=0.1)
    assert row.z == 6.0
    assert row[["from_z", "from_y", "from_x"]].tolist() == pytest.approx([z, y, x], abs=1e-5)
    served.wait_for("The kernel does not answer")


def test_the_table_writes_its_rows(served):
    served.open("table")
    served.wait_for("frame 3 · n001")
    served.page.get_by_role("gridcell", name="n003").click()
    served.wait_for("frame 1 · n003")
    served.click("all right")
    served.wait_for("confirmed")
    served.click("swap from here on")
    served.wait_for("swapped n003: written")
    edits = served.rows(2)
    assert edits[["op", "neuron", "other", "t_start"]].values.tolist() == [
        ["confirm", "n003", "", 1],
        ["swap", "n003", "n004", 1],
    ]


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
