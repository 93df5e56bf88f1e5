"""Two thousand damaged files: an error of niddl_xr or an array, never a crash, a hang, or a flood of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.recordings import fuzz

ROOT = Path(__file__).parents[2]
CASES, SHARES = 2000, 2


def test_damaged_files_of_every_format():
    default = ROOT.parent / "shared" / "realdata"
    environment = {"NIDDL_XR_REALDATA": str(default), **os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.recordings.fuzz", "--cases", str(CASES), "--shares", str(SHARES)]
    running = [
        subprocess.Popen(
            [*command, "--share", str(share)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for share in range(SHARES)
    ]
    outputs = [process.communicate()[0] for process in running]
    summaries = [json.loads(output.splitlines()[-1]) for output in outputs]
    assert sum(summary["cases"] for summary in summaries) >= CASES
    assert [summary["findings"] for summary in summaries] == [0] * SHARES, "\n".join(outputs)


def test_the_fuzzer_finds_what_it_looks_for(tmp_path, monkeypatch):
    victim = tmp_path / "a.npy"
    victim.write_bytes(b"\x93NUMPY")
    ways = {
        "ended by SIGKILL": lambda *_: os.kill(os.getpid(), 9),
        "ended by SIGALRM": lambda *_: __import__("time").sleep(60),
        "took": lambda *_: bytearray(200 * 2**20).count(1),
        "ZeroDivisionError": lambda *_: 1 / 0,
    }
    monkeypatch.setattr(fuzz, "TIME_S", 1)
    for finding, way in ways.items():
        monkeypatch.setattr(fuzz, "looked_at", way)
        assert finding in fuzz.forked(victim, {}, [], False, 6)
