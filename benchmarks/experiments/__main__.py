"""Runs one experiment: ``python -m benchmarks.experiments NAME [--full] [--save docs/results]``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
import pandas as pd

import niddl_xr as nx
from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments._common import Setup, save_table


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--full", action="store_true", help="the size of the tables in docs/results: many minutes")
    parser.add_argument("--network", choices=nx.networks(), help="by default, that of niddl_xr.train")
    parser.add_argument("--minutes", type=float, help="of one core for each network, in place of the size's")
    parser.add_argument("--realdata", type=Path, default=os.environ.get("NIDDL_XR_REALDATA"), help="adds real pairs")
    parser.add_argument("--keep", type=Path, help="folder of trained denoisers: those there are not trained again")
    parser.add_argument("--save", type=Path, help="folder for the tidy table, NAME.csv (small: NAME_small.csv)")
    parser.add_argument("--overwrite", action="store_true", help="replace the table where there is one")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    path = None
    if options.save is not None:
        path = options.save / f"{options.name}{'' if options.full else '_small'}.csv"
        if path.exists() and not options.overwrite:
            sys.exit(f"{path} exists; say --overwrite to replace it")
    experiment: Any = import_module(f"benchmarks.experiments.{options.name}")
    size = experiment.FULL if options.full else experiment.SMALL
    if options.minutes is not None:
        size = replace(size, minutes=options.minutes)
    started, cpu_started = time.perf_counter(), time.process_time()
    with dask.config.set(scheduler="synchronous"):
        table = experiment.run(size, Setup(options.network, options.realdata, options.keep))
    minutes = (time.perf_counter() - started) / 60, (time.process_time() - cpu_started) / 60
    with pd.option_context("display.width", 200, "display.max_columns", 60, "display.max_rows", 400):
        print(experiment.summary(table).round(3))
        print(f"\nPaired Wilcoxon tests with Holm's correction\n{experiment.comparison(table).round(4)}")
        if hasattr(experiment, "warned"):
            print(f"\nFailures with and without the warning of denoise\n{experiment.warned(table).round(3)}")
    print(f"\n{size}\n{minutes[0]:.1f} minutes, {minutes[1]:.1f} of a core")
    if path is not None:
        said = ["--full"] if options.full else []
        changed = {name: getattr(options, name) for name in ("network", "minutes")}
        said += [f"--{name} {value}" for name, value in changed.items() if value is not None]
        said += ["--realdata FOLDER"] if options.realdata is not None else []
        print(save_table(table, path, f"python -m benchmarks.experiments {' '.join([options.name, *said])}"))


if __name__ == "__main__":
    main()
