"""A recording of 50 GB through detect, track and traces, on workers of 4 GB: ``python -m benchmarks.out_of_core``.

The recording (30×512×512 voxels a frame) is a dask array of simulated frames. By default 128 frames of a worm are
rendered into a store first and then played forth and back, so that the time taken is that of the pipeline and not of
the simulator, which takes as long; ``--loop 0`` renders every frame, each time that it is read. A part of the frames is
then done again in one thread with other chunks: the answer has to be the same.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import psutil
import xarray as xr

import niddl_xr as nx
from niddl_xr.schema import make_recording

SHAPE = (30, 512, 512)
VOXEL_UM = (1.0, 0.4, 0.4)
RATE_HZ = 4.0
AGAIN = 24  # frames done a second time
BAR_GB = 4.0


def simulated(frames: int, loop: int, folder: Path) -> tuple[xr.DataArray, xr.Dataset]:
    """Return a recording of ``frames`` frames and its true tracks."""
    options: dict[str, Any] = {"shape": SHAPE, "voxel_um": VOXEL_UM, "rate_hz": RATE_HZ, "neurons": 120}
    worm = nx.simulate.whole_brain(frames=loop or frames, photons=20, motion="semi", **options)
    recording, tracks = worm["recording"]["F"], worm["tracks"].to_dataset()
    if not loop:
        return recording, tracks
    stored = recording.niddl.save(folder / "loop.zarr", pyramid=False)
    there_and_back = np.r_[np.arange(loop), np.arange(loop - 2, 0, -1)]
    shown = np.resize(there_and_back, frames)
    pixels = stored.chunk(t=1).data[shown]
    times_s = np.arange(frames) / RATE_HZ
    long = make_recording(pixels, voxel_um=VOXEL_UM, t_s=times_s, attrs=recording.attrs)
    return long, tracks.isel(t=shown).assign_coords(t=("t", times_s, {"units": "s"}))


class Watch:
    """The peak of resident memory of some processes, sampled twice a second while the block runs."""

    def __init__(self, processes: list[int]) -> None:
        self._processes = [psutil.Process(number) for number in processes]
        self.peaks_gb = dict.fromkeys(processes, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(0.5):
            for process in self._processes:
                if process.is_running():
                    used = process.memory_info().rss / 1e9
                    self.peaks_gb[process.pid] = max(self.peaks_gb[process.pid], used)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def same_answers(recording: xr.DataArray, tracks: xr.Dataset, found: pd.DataFrame, traces: xr.Dataset) -> pd.Series:
    """Do some frames again in one thread, five frames a chunk, and compare."""
    part = recording.isel(t=slice(AGAIN)).chunk(t=5)
    with dask.config.set(scheduler="synchronous"):
        again = part.niddl.detect(progress=False)
        traces_again = part.niddl.extract_traces(tracks.isel(t=slice(AGAIN)), progress=False)
    first = found[found["t_index"] < AGAIN].reset_index(drop=True)
    same = bool(again.reset_index(drop=True).equals(first))
    difference = np.abs(traces_again["F"] - traces["F"].isel(t=slice(AGAIN))) / np.abs(traces["F"].isel(t=slice(AGAIN)))
    return pd.Series({"detections the same bits": same, "largest relative difference of F": float(difference.max())})


def main() -> None:
    from dask.distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=50.0)
    parser.add_argument("--loop", type=int, default=128, help="frames rendered and played forth and back; 0: all")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    frames = round(options.gigabytes * 1e9 / (2 * int(np.prod(SHAPE))))
    rows: dict[str, Any] = {"frames": frames}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording, truth = simulated(frames, options.loop, folder)
        rows["recording GB"] = recording.nbytes / 1e9
        capped = LocalCluster(
            n_workers=options.workers, threads_per_worker=1, memory_limit=f"{BAR_GB}GB", dashboard_address=None
        )
        with capped as cluster, Client(cluster) as client:
            workers = sorted(client.run(os.getpid).values())
            with Watch([*workers, os.getpid()]) as watch:
                start = time.perf_counter()
                found = recording.niddl.detect(to=folder / "detections", progress=False)
                rows["detect s"] = time.perf_counter() - start
                start = time.perf_counter()
                tracks = nx.track(found)
                rows["track s"] = time.perf_counter() - start
                start = time.perf_counter()
                traces = recording.niddl.extract_traces(tracks, progress=False)
                rows["traces s"] = time.perf_counter() - start
            rows["workers restarted"] = len(set(workers) - set(client.run(os.getpid).values()))
            rows["peak of a worker GB (bar 4)"] = max(watch.peaks_gb[number] for number in workers)
            rows["peak of this process GB"] = watch.peaks_gb[os.getpid()]
        rows["ms a frame, all workers"] = 1e3 * (rows["detect s"] + rows["track s"] + rows["traces s"]) / frames
        rows["HOTA"] = nx.score_tracks(tracks, truth)["HOTA"]
        rows |= dict(same_answers(recording, tracks, found, traces))
    print(pd.Series(rows).to_string())


if __name__ == "__main__":
    main()
