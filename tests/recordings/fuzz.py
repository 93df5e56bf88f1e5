"""Damages files of every format in many ways, and opens them: ``python -m tests.recordings.fuzz --cases 2000``.

Every case runs in a process of its own, forked from one that has read the undamaged file, so that a crash, a hang, or
the memory of one case is seen and hurts no other. What may come out is an error of niddl_xr, or an array; of a file
that was only cut short, nothing but values of the whole file.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import logging
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

TIME_S = 10
MEMORY_TIMES_THE_FILE = 4
MEMORY_OF_A_PROCESS = 48 * 2**20  # pages that a forked process writes without asking for memory, and lazy imports
REAL = (  # folders of real files, each opened as it is
    "format_imagej_hyperstacks",
    "format_nd2_czi_ome",
    "format_nwb",
    "format_tiff_variants/thunder",
    "kato2015_states_nwb",
    "sima_2p",
    "tierpsy_worm",
    "noisenet_pairs/bacteria",
)
LARGEST_REAL = 1_500_000  # bytes
MAGICS = (b"II*\0", b"MM\0*", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"RIFF", b"ZISRAWFILE", b"\xda\xce\xbe\x0a", b"<?xml")


def written_samples(folder: Path) -> str:
    """Write one file of every format; return as JSON name -> [path to open, arguments of open_recording]."""
    package = importlib.import_module("tests.recordings.samples")
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        family = importlib.import_module(f"{package.__name__}.{module.name}")
        for name, write in family.SAMPLES.items():
            target = folder / name
            target.mkdir()
            found[name] = (str(write(target)), getattr(family, "OPTIONS", {}).get(name, {}))
    return json.dumps(found)


def samples(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Write one file of every format; return name -> (path to open, arguments of open_recording)."""
    message, _, _ = in_a_fork(written_samples, folder, time_s=120)
    return {name: (Path(path), options) for name, (path, options) in json.loads(message).items()}


def real_files(folder: Path | None) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return small real files of many kinds, where the folder is there."""
    if folder is None or not folder.is_dir():
        return {}
    files = [file for name in REAL for file in sorted((folder / name).iterdir()) if file.is_file()]
    return {
        f"real {file.parent.name}/{file.name}": (file, {"channel": 0} if "xyzc" in file.name else {})
        for file in files
        if 0 < file.stat().st_size < LARGEST_REAL and file.suffix not in (".md", ".zip")
    }


def damaged(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done to the content of a file, and the result."""
    size = len(content)
    kind = str(rng.choice(["cut", "cut early", "flip", "flip header", "number", "drop", "insert", "header", "zeros"]))
    place = int(rng.integers(size))
    values = bytearray(content)
    if kind == "cut":
        return f"{kind} at {place}", content[:place]
    if kind == "cut early":
        place = int(rng.integers(min(size, 512)))
        return f"{kind} at {place}", content[:place]
    if kind in ("flip", "flip header"):
        places = rng.integers(size if kind == "flip" else min(size, 600), size=int(rng.integers(1, 9)))
        for where in places:
            values[where] ^= int(rng.integers(1, 256))
        return f"{kind} {places.tolist()}", bytes(values)
    if kind == "number":
        width = int(rng.choice([2, 4, 8]))
        number = [b"\xff" * width, b"\x00" * width, b"\xff" * (width - 1) + b"\x7f", b"\x00" * (width - 1) + b"\x80"]
        place = int(rng.integers(min(size, 4096)))
        values[place : place + width] = number[int(rng.integers(4))]
        return f"{kind} of {width} bytes at {place}", bytes(values)
    length = int(rng.integers(1, max(2, size // 4)))
    if kind == "drop":
        return f"{kind} {length} at {place}", content[:place] + content[place + length :]
    if kind == "insert":
        return f"{kind} {length} at {place}", content[:place] + rng.bytes(length) + content[place:]
    if kind == "zeros":
        values[place : place + length] = bytes(len(values[place : place + length]))
        return f"{kind} {length} at {place}", bytes(values)
    magic = MAGICS[int(rng.integers(len(MAGICS)))]
    return f"{kind} {magic!r}", magic + content[len(magic) :]


def looked_at(path: Path, options: dict[str, Any]) -> dict[tuple[int, int], np.ndarray]:
    """Open a recording and read planes of its first, middle and last frame."""
    import niddl_xr as nx

    recording = nx.open_recording(path, **options)
    frames, planes = recording.sizes["t"], recording.sizes["z"]
    chosen = {(t, z) for t in (0, frames // 2, frames - 1) for z in (0, planes - 1)}
    return {(t, z): recording[t, z].compute(scheduler="synchronous").values for t, z in sorted(chosen)}


def case(path: Path, options: dict[str, Any], whole: list[str], cut: bool) -> str:
    """Open a damaged file in this process; return what is wrong with what came out, or nothing."""
    import niddl_xr as nx

    try:
        planes = looked_at(path, options)
    except (nx.NiddlError, FileNotFoundError):
        return ""
    except Exception:  # noqa: BLE001 - which one it is, is the finding
        return traceback.format_exc(limit=-6)
    if cut and whole and not {digest(plane) for plane in planes.values()} <= set(whole):
        return "a file that was cut short gave values that the whole file does not hold"
    return ""


def digest(plane: np.ndarray) -> str:
    """Return a hash of a plane."""
    return hashlib.sha256(np.ascontiguousarray(plane).tobytes()).hexdigest()[:16]


def all_planes(path: Path, options: dict[str, Any]) -> str:
    """Return a hash of every plane of an undamaged recording; nothing for a real file that is none."""
    import niddl_xr as nx

    try:
        values = nx.open_recording(path, **options).compute(scheduler="synchronous").values
    except (nx.NiddlError, FileNotFoundError):
        return ""
    return " ".join(digest(values[place]) for place in np.ndindex(values.shape[:2]))


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def in_a_fork(function: Callable[..., str], *arguments: Any, time_s: int = 0) -> tuple[str, int, int]:
    """Call a function in a forked process; return what it said, how the process ended, and its memory in bytes.

    This process itself never opens a file: threads of a library would not live on in a fork, their locks would.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(time_s or TIME_S)
        # Far above what is allowed: what asks for it is told no, and does not bring the machine down.
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        try:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(f"{resident()}\n".encode())  # less than the parent's: pages of files are not there yet
                pipe.flush()
                pipe.write(function(*arguments).encode())
        finally:  # whatever happens, this copy of the process ends here
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        before, _, message = pipe.read().decode(errors="replace").partition("\n")
    _, status, used = os.wait4(child, 0)
    return message, status, used.ru_maxrss * 1024 - int(before)


def forked(path: Path, options: dict[str, Any], whole: list[str], cut: bool, bytes_on_disk: int) -> str:
    """Run a case in a process of its own; return what is wrong, or nothing."""
    began = time.monotonic()
    message, status, grown = in_a_fork(case, path, options, whole, cut)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"ended by {signal.Signals(number).name} after {time.monotonic() - began:.1f} s"
    if grown > MEMORY_TIMES_THE_FILE * bytes_on_disk + MEMORY_OF_A_PROCESS:
        return f"took {grown / 2**20:.0f} MiB of memory for {bytes_on_disk / 2**20:.2f} MiB of file. {message}"
    return message


def files_below(path: Path) -> list[Path]:
    """Return the files of a recording: itself, or all that its folder holds."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def findings(
    found: dict[str, tuple[Path, dict[str, Any]]], cases: int, seed: int, share: int, shares: int
) -> Iterator[str]:
    """Run the cases of this share; yield what is wrong."""
    each = -(-cases // len(found))
    for number, (name, (source, options)) in enumerate(found.items()):
        if number % shares != share:
            continue
        whole, status, _ = in_a_fork(all_planes, source, options)
        if status or not (whole or name.startswith("real")):
            yield f"{name}: the undamaged file could not be read\n"
        with tempfile.TemporaryDirectory() as scratch:
            for index in range(each):
                rng = np.random.default_rng([seed, number, index])
                root = source.parent if source.is_file() and not name.startswith("real") else source
                copy = Path(scratch, str(index), root.name)
                copy.parent.mkdir()
                if root.is_dir():
                    shutil.copytree(root, copy)
                else:
                    shutil.copy(root, copy)
                target = copy / source.relative_to(root) if root != source else copy
                victims = files_below(copy)
                victim = victims[int(rng.integers(len(victims)))]
                victim.chmod(0o644)
                what, content = damaged(victim.read_bytes() or b"\0", rng)
                victim.write_bytes(content)
                size = sum(file.stat().st_size for file in files_below(copy))
                single = len(victims) == 1
                wrong = forked(target, options, whole.split(), single and what.startswith("cut"), size)
                if wrong:
                    yield f"{name}, case {index}, {victim.relative_to(copy.parent)}: {what}\n{wrong}\n"
                shutil.rmtree(copy.parent)


def main() -> int:
    """Print what is wrong, then how many cases ran; the exit status is 1 where anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--shares", type=int, default=1)
    parser.add_argument("--only", default="", help="names of samples that hold this text")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()  # tifffile reports every odd tag
    folder = os.environ.get("NIDDL_XR_REALDATA")
    importlib.import_module("niddl_xr.recordings.readers").readers()
    for library in (
        "av",
        "dask.array",
        "distributed",
        "h5py",
        "imagecodecs",
        "nd2",
        "scipy.io",
        "tifffile",
        "zarr",
        "xarray",
    ):
        importlib.import_module(library)  # once, not in every fork
    with tempfile.TemporaryDirectory() as written:
        found = samples(Path(written)) | real_files(Path(folder) if folder else None)
        found = {name: value for name, value in found.items() if options.only in name}
        wrong = list(findings(found, options.cases, options.seed, options.share, options.shares))
        each = -(-options.cases // len(found))
        count = each * len([number for number in range(len(found)) if number % options.shares == options.share])
    for text in wrong:
        print(text)
    print(json.dumps({"samples": len(found), "cases": count, "findings": len(wrong)}))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
