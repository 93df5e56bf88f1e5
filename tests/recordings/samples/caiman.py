"""Small memory maps of CaImAn, as its ``save_memmap`` lays them out, and arrays of numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

T, Z, Y, X = 6, 3, 7, 11


def movie() -> np.ndarray:
    """Frames (t, y, x) that all differ."""
    return (np.arange(T * Y * X, dtype="float32").reshape(T, Y, X) * 3 - 5) / 4


def volumes() -> np.ndarray:
    """Volumes (t, d1, d2, d3) that all differ."""
    return np.arange(T * Y * X * Z, dtype="float32").reshape(T, Y, X, Z) / 8


def write(folder: Path, frames: np.ndarray, order: str, tail: str = "_") -> Path:
    """Write frames as the matrix (pixels, frames) in ``order``; the pixels of a frame are in Fortran order."""
    count, *dims = frames.shape
    d1, d2, d3 = (*dims, 1)[:3]
    path = folder / f"memmap_d1_{d1}_d2_{d2}_d3_{d3}_order_{order}_frames_{count}{tail}.mmap"
    matrix = np.memmap(path, dtype="float32", mode="w+", shape=(d1 * d2 * d3, count), order=order)
    for at, frame in enumerate(frames):
        matrix[:, at] = frame.ravel(order="F")
    matrix.flush()
    return path


def npy(folder: Path) -> Path:
    np.save(folder / "plain.npy", movie().astype(">f8"))
    return folder / "plain.npy"


def npy_fortran(folder: Path) -> Path:
    np.save(folder / "fortran.npy", np.asfortranarray(volumes().astype("uint16")))
    return folder / "fortran.npy"


def npz(folder: Path) -> Path:
    np.savez(folder / "arrays.npz", movie=movie(), times=np.arange(T))
    return folder / "arrays.npz"


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "caiman_c": lambda folder: write(folder, movie(), "C"),
    "caiman_f": lambda folder: write(folder, movie(), "F", tail=""),
    "caiman_volumes": lambda folder: write(folder, volumes(), "F"),
    "npy": npy,
    "npy_fortran": npy_fortran,
    "npz": npz,
}
OPTIONS: dict[str, dict[str, Any]] = {"npz": {"variable": "movie"}}
