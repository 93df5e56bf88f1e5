"""Runs every benchmark: ``python -m benchmarks``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

realdata = Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
commands = [["benchmarks.speed"], ["benchmarks.memory"], ["benchmarks.simulation"]]
if realdata.is_dir():
    commands += [[f"benchmarks.{name}", "--realdata", str(realdata)] for name in ("w2s", "noise", "motion")]
for command in commands:
    print(f"\n== python -m {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)
