"""Speed and memory of opening and converting TIFF files: ``python -m benchmarks.recordings`` (about five minutes).

Conversion is timed against what anyone would write: tifffile reads the frames of a region, zarr writes them, with the
chunks, shards and codec of the store. Both arms run in this process, in turn; the least of the repeats counts, of wall
and of CPU time (on a busy machine, the ratio of the latter holds). Opening and memory are measured in processes of
their own, on files of 4 GiB. ``--megabytes 40 --gigabytes 0.1 --repeats 1`` is a trial run.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

import niddl_xr as nx
from niddl_xr.store import create_store

EDGE_PX = 512
FRAME_BYTES = EDGE_PX * EDGE_PX * 2


def noise(frames: int) -> np.ndarray:
    """Counts of a camera (t, y, x), which compress as those of a recording do; fifty frames at most."""
    return (np.random.default_rng(0).poisson(60, (min(50, frames), EDGE_PX, EDGE_PX)) + 400).astype("uint16")


def write_ome(path: Path, frames: int, compression: str | None = None) -> None:
    """Write an OME-TIFF of noise, the same frames over and over: in one piece, or compressed page by page."""
    pixels = noise(frames)
    pages = (pixels[frame % len(pixels)] for frame in range(frames))
    options: dict[str, Any] = {"shape": (frames, EDGE_PX, EDGE_PX), "dtype": "uint16", "bigtiff": True}
    metadata = {"axes": "TYX", "TimeIncrement": 0.1}
    tifffile.imwrite(path, pages, compression=compression, metadata=metadata, **options)


def write_separate(path: Path, frames: int) -> None:
    """Write a BigTIFF with OME metadata, the directory of every page before it, as microscopes do."""
    pixels = noise(frames)
    planes = "".join(f'<TiffData FirstT="{frame}" IFD="{frame}" PlaneCount="1"/>' for frame in range(frames))
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint16" SizeX="{EDGE_PX}" SizeY="{EDGE_PX}" SizeZ="1" SizeC="1" '
        f'SizeT="{frames}" TimeIncrement="0.1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels>'
        "</Image></OME>"
    ).encode()
    text += bytes(-len(text) % 16)
    with path.open("wb") as file:
        file.write(b"II" + struct.pack("<HHHQ", 43, 8, 0, 16 + len(text)) + text)
        for frame in range(frames):
            place = file.tell()
            tags = [(256, EDGE_PX), (257, EDGE_PX), (258, 16), (259, 1), (262, 1), (273, 0), (277, 1), (278, EDGE_PX)]
            tags += [(279, FRAME_BYTES)]
            length = 8 + 20 * (len(tags) + (frame == 0)) + 8
            rows = [(code, 16, 1, place + length if code == 273 else value) for code, value in tags]
            rows += [(270, 2, len(text), 16)] if frame == 0 else []
            following = place + length + FRAME_BYTES if frame + 1 < frames else 0
            file.write(struct.pack("<Q", len(rows)))
            file.write(b"".join(struct.pack("<HHQQ", *row) for row in sorted(rows)) + struct.pack("<Q", following))
            file.write(pixels[frame % len(pixels)].tobytes())


def plain_loop(path: Path, target: Path) -> None:
    """What anyone would write, into a store laid out as ours: read a region with tifffile, write it with zarr."""
    import zarr

    with tifffile.TiffFile(path) as tif:
        pages = tif.series[0]
        like = nx.from_numpy(np.broadcast_to(np.uint16(0), pages.shape), dims="tyx")
        create_store(target, like, np.dtype("uint16"), {}, pyramid=False)
        array: Any = zarr.open_array(str(target), path="s0/F", mode="r+")
        step = array.shards[0]
        for start in range(0, len(pages), step):
            stop = min(start + step, len(pages))
            array[start:stop] = tif.asarray(key=slice(start, stop)).reshape(stop - start, 1, EDGE_PX, EDGE_PX)


def convert(path: Path, target: Path, *, pyramid: bool) -> None:
    """Open and save."""
    nx.open_recording(path).niddl.save(target, pyramid=pyramid, progress=False)


def seconds(arms: dict[str, Callable[[Path], object]], folder: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Run the arms in turn, each into a new store, and return the least wall and CPU time of each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, arm in arms.items():
            wall, processor = time.perf_counter(), time.process_time()
            arm(folder / "store.zarr")
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
            shutil.rmtree(folder / "store.zarr")
    return {name: tuple(min(column) for column in zip(*rows, strict=True)) for name, rows in times.items()}


def conversion(megabytes: int, repeats: int) -> pd.DataFrame:
    """Return MB/s of pixels of our conversion and of the plain loop, for a plain and a compressed OME-TIFF."""
    frames = max(2, megabytes * 10**6 // FRAME_BYTES)
    rows = []
    for compression in (None, "zlib"):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "movie.ome.tif")
            write_ome(path, frames, compression)
            best = seconds(
                {
                    "plain loop": lambda target, path=path: plain_loop(path, target),
                    "niddl_xr": lambda target, path=path: convert(path, target, pyramid=False),
                    "with a pyramid": lambda target, path=path: convert(path, target, pyramid=True),
                },
                Path(name),
                repeats,
            )
        speed = {f"{arm}, MB/s": frames * FRAME_BYTES / 1e6 / wall for arm, (wall, _) in best.items()}
        loop, ours = best["plain loop"], best["niddl_xr"]
        ratios = {"niddl_xr / plain loop": loop[0] / ours[0], "of CPU time": loop[1] / ours[1]}
        rows.append({"file": compression or "in one piece", **speed, **ratios})
    return pd.DataFrame(rows)


def first_frame(path: Path) -> tuple[float, float]:
    """Return the s from before the import, and from after it, until the first frame of a file is there."""
    script = (
        "import sys, time; before = time.perf_counter(); import niddl_xr as nx, warnings; "
        "warnings.simplefilter('ignore'); after = time.perf_counter(); "
        "nx.open_recording(sys.argv[1])[0].values; end = time.perf_counter(); print(end - before, end - after)"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    return min((float(first), float(second)) for first, second in (output.split() for output in outputs))


def resident_mib(which: str) -> float:
    """Return the resident memory of this process now (``VmRSS``) or at most (``VmHWM``)."""
    return int(Path("/proc/self/status").read_text().partition(f"{which}:")[2].split()[0]) / 2**10


def peak_over_imports_mib(path: Path) -> float:
    """Convert a file in this process, and return its peak of memory over that before, all modules loaded."""
    tiny = path.with_name("tiny.tif")
    tifffile.imwrite(tiny, noise(2), metadata=None)
    convert(tiny, path.with_name("tiny.zarr"), pyramid=True)
    before = resident_mib("VmRSS")
    convert(path, path.with_name("large.zarr"), pyramid=True)
    return resident_mib("VmHWM") - before


def large(gigabytes: float) -> pd.DataFrame:
    """Return s to the first frame, and MiB to convert, for files of this size."""
    frames = max(2, int(gigabytes * 2**30) // FRAME_BYTES)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for separate in (False, True):
            path = Path(name, "movie.ome.tif")
            (write_separate if separate else write_ome)(path, frames)
            whole, opening = first_frame(path)
            command = [sys.executable, "-m", "benchmarks.recordings", "--peak", str(path)]
            peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            shutil.rmtree(Path(name, "large.zarr"))
            shutil.rmtree(Path(name, "tiny.zarr"))
            rows.append(
                {
                    "file": "directories before their pages" if separate else "in one piece",
                    "size, GiB": path.stat().st_size / 2**30,
                    "first frame, s": opening,
                    "with imports, s": whole,
                    "peak of conversion over imports, MiB": peak,
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="of pixels, of the files that are converted")
    parser.add_argument("--gigabytes", type=float, default=4, help="of pixels, of the large files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", type=Path, help="convert this file in this process and print the memory")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the voxel sizes that these files do not state
    if options.peak:
        print(peak_over_imports_mib(options.peak))
        return
    print(conversion(options.megabytes, options.repeats).round(2).to_string(index=False))
    print(large(options.gigabytes).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
