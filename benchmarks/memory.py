"""Peak memory of denoising out of core, by the length of the recording: ``python -m benchmarks.memory``.

Every length runs in a process of its own: a recording of 2×512×512 voxels a frame is simulated lazily and denoised
into a store by regions, with a Gaussian filter and, a quarter as long, with unet_fixed of random weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

import pandas as pd

import niddl_xr as nx
from benchmarks.networks import peak_of_this_process_mib, untrained
from niddl_xr.schema import make_recording


def peak_mib(method: str, frames: int) -> float:
    """Denoise ``frames`` frames in this process and return its peak resident memory."""
    import dask.array as da

    pixels = da.random.default_rng(0).poisson(100, (frames, 2, 512, 512), chunks=(4, 2, 512, 512)).astype("uint16")
    movie = make_recording(pixels, voxel_um=(1, 0.4, 0.4), dt_s=0.25)
    denoiser = nx.classical("gaussian") if method == "gaussian" else untrained("unet_fixed")
    with tempfile.TemporaryDirectory() as folder:
        movie.niddl.denoise(denoiser, to=f"{folder}/clean.zarr", progress=False)
    return peak_of_this_process_mib()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FRAMES"), help="one run in this process")
    options = parser.parse_args()
    if options.one:
        print(peak_mib(options.one[0], int(options.one[1])))
        return
    rows = []
    for method, frames in (("gaussian", 64), ("gaussian", 256), ("unet_fixed", 16), ("unet_fixed", 64)):
        command = [sys.executable, "-m", "benchmarks.memory", "--one", method, str(frames)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append({"method": method, "frames": frames, "peak MiB": float(output)})
    table = pd.DataFrame(rows)
    table["over the shorter"] = table["peak MiB"] / table.groupby("method")["peak MiB"].transform("first")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
