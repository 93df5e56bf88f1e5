"""Runs every benchmark: ``python -m benchmarks``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

realdata = Path(os.environ.get("NIDDL_XR_REALDATA", "../shared/realdata"))
commands = [[f"benchmarks.{name}"] for name in ("speed", "memory", "recordings", "networks", "training", "simulation")]
commands.append(["benchmarks.worm_sim", "judge"])
commands += [[f"benchmarks.{name}"] for name in ("detection", "segmentation", "tracking_still", "tracking_body")]
commands += [[f"benchmarks.{name}"] for name in ("curation", "traces", "out_of_core")]
commands += [[f"benchmarks.{name}"] for name in ("posture", "correlation")]
# The experiments, an hour and a half, have a command of their own: python -m benchmarks.experiments.
if realdata.is_dir():
    on_real_ones = ("w2s", "noise", "motion", "tracking", "population")
    commands += [[f"benchmarks.{name}", "--realdata", str(realdata)] for name in on_real_ones]
    commands.append(["benchmarks.correlation", "control", "--realdata", str(realdata)])
for command in commands:
    print(f"\n== python -m {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)
