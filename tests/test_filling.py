"""Out of core: memory, interruption, and a cluster, each in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.schema import make_recording
from tests.conftest import counts
from tests.test_store import chunk_files


def run(script: str, *arguments: str | Path) -> str:
    """Run a script as a user would, in a fresh process; return the last line that it prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


PEAK_MEMORY = """
    import resource, sys
    import numpy as np
    import niddl_xr as nx
    from niddl_xr.schema import make_recording
    import dask.array as da

    frames, folder = int(sys.argv[1]), sys.argv[2]
    rng = da.random.default_rng(0)
    movie = rng.poisson(100, (frames, 2, 512, 512), chunks=(4, 2, 512, 512)).astype("uint16")
    movie = make_recording(movie, voxel_um=(1, 1, 1), dt_s=1)
    raw = movie.niddl.save(f"{folder}/raw{frames}.zarr", progress=False, pyramid=False)
    raw.niddl.denoise(nx.classical("gaussian"), to=f"{folder}/clean{frames}.zarr", progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path):
    short, long = (int(run(PEAK_MEMORY, frames, tmp_path)) for frames in (48, 192))
    assert long <= 1.1 * short, f"{short} kB for 48 frames, {long} kB for 192"


KILLED = """
    import sys
    import niddl_xr as nx

    raw, out, denoiser = sys.argv[1:]
    nx.open_recording(raw).niddl.denoise(denoiser, to=out, progress=False)
    print("finished")
"""


def test_killed_in_mid_run_and_finished_by_the_same_call(tmp_path, network_denoiser):
    movie = make_recording(counts((16, 1, 250, 270)), voxel_um=(1, 0.4, 0.3), dt_s=0.2)
    raw, denoiser = tmp_path / "raw.zarr", tmp_path / "d.safetensors"
    movie.niddl.save(raw, progress=False)
    network_denoiser.save(denoiser)
    run(KILLED, raw, tmp_path / "whole.zarr", denoiser)

    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(raw), str(tmp_path / "cut.zarr"), str(denoiser)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    ledger = tmp_path / "cut.zarr" / "ledger" / "done" / "c"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(ledger.glob("*"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(ledger.glob("*")))
    assert 2 <= done < 8, "the run has to be killed in its middle for this test to mean anything"
    kept = {path.name: path.stat().st_mtime_ns for path in ledger.glob("*")}

    run(KILLED, raw, tmp_path / "cut.zarr", denoiser)
    assert chunk_files(tmp_path / "cut.zarr") == chunk_files(tmp_path / "whole.zarr")
    assert {path.name: path.stat().st_mtime_ns for path in ledger.glob("*") if path.name in kept} == kept


CLUSTER = """
    import json, sys
    import numpy as np
    import niddl_xr as nx

    def main():
        import cloudpickle
        import dask
        from dask.distributed import Client, LocalCluster
        from distributed.client import Client as OriginalClient

        raw, out, denoiser_path = sys.argv[1:]
        sizes = []
        submit = OriginalClient.submit
        def measured(self, function, *args, **kwargs):
            sizes.append(len(cloudpickle.dumps((function, args))))
            return submit(self, function, *args, **kwargs)
        OriginalClient.submit = measured
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"})
        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
            with Client(cluster) as client:
                denoiser = nx.load_denoiser(denoiser_path)
                unsaved = nx.Denoiser(denoiser.card, denoiser.weights)
                recording = nx.open_recording(raw)
                result = recording.niddl.denoise(unsaved, to=out, progress=False)
                lazy = recording.niddl.denoise(unsaved).isel(t=3).values
                pids = set(client.run(__import__("os").getpid).values())
        assert np.array_equal(lazy, result.isel(t=3).values)
        print(json.dumps({"total": sum(sizes), "largest": max(sizes), "tasks": len(sizes), "processes": len(pids)}))

    if __name__ == "__main__":
        main()
"""


def test_a_cluster_writes_the_same_bytes(tmp_path, network_denoiser):
    movie = make_recording(counts((11, 2, 60, 70)), voxel_um=(1, 0.4, 0.3), dt_s=0.2)
    raw, denoiser = tmp_path / "raw.zarr", tmp_path / "d.safetensors"
    movie.niddl.save(raw, progress=False)
    network_denoiser.save(denoiser)
    nx.open_recording(raw).niddl.denoise(network_denoiser, to=tmp_path / "one.zarr", progress=False)
    script = tmp_path / "cluster.py"
    script.write_text(textwrap.dedent(CLUSTER))
    result = subprocess.run(
        [sys.executable, str(script), str(raw), str(tmp_path / "two.zarr"), str(denoiser)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout.strip().splitlines()[-1])
    assert measured["processes"] == 2
    assert measured["total"] < 100_000
    assert chunk_files(tmp_path / "one.zarr") == chunk_files(tmp_path / "two.zarr")


def test_a_finished_store_is_reopened_without_work(tmp_path, recording, monkeypatch):
    first = recording.niddl.denoise(nx.classical("median"), to=tmp_path / "a.zarr", progress=False)
    monkeypatch.setattr("niddl_xr.filling.write_region", None)
    again = recording.niddl.denoise(nx.classical("median"), to=tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(first.values, again.values)
    with pytest.raises(FileExistsError, match="exists; choose another path, or say resume=True"):
        recording.niddl.denoise(nx.classical("median"), to=tmp_path / "a.zarr", resume=False)
