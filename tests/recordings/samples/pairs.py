"""Small folders of noisy and clean images, in every layout that open_pairs knows; OPTIONS are those of open_pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

N, Z, Y, X = 3, 2, 17, 23


def scene(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Counts that all differ, as far as the dtype allows."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 + 3).astype(dtype)


def niddl(folder: Path) -> Path:
    """NIDDL's layout, one session."""
    for half in ("noisy_imgs", "gt_imgs"):
        for n, z in np.ndindex(N, Z):
            path = folder / "niddl" / half / f"img_{n + 1}" / f"z_{z + 1}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, scene(Y, X) + np.uint16(n + z))
    return folder / "niddl"


def sessions(folder: Path) -> Path:
    """Two sessions in a folder."""
    for session in ("worm1", "worm2"):
        niddl(folder / "sessions" / session).rename(folder / "sessions" / session / "Ch1")
    return folder / "sessions"


def two_folders(folder: Path) -> Path:
    """Volumes of equal names in two folders, compressed."""
    for half in ("lowSNR", "highSNR"):
        (folder / "two" / half).mkdir(parents=True)
        for n in range(N):
            values = scene(Z, Y, X) + np.uint16(n)
            tifffile.imwrite(folder / "two" / half / f"{n}.tif", values, compression="zlib")
    return folder / "two"


def colours(folder: Path) -> Path:
    """RGB images whose names differ by a word."""
    (folder / "colours").mkdir()
    for word in ("low", "high"):
        values = scene(Y, X, 3, dtype="uint8")
        (folder / "colours" / f"cell_{word}.png").write_bytes(imagecodecs.png_encode(values))
    return folder / "colours"


PAIRS: dict[str, Callable[[Path], Path]] = {
    "niddl": niddl,
    "sessions": sessions,
    "two_folders": two_folders,
    "colours": colours,
}
PAIRS_OPTIONS: dict[str, dict[str, Any]] = {"colours": {"channel": 0}}
# No SAMPLES for open_recording: these folders are pairs.
SAMPLES: dict[str, Callable[[Path], Path]] = {}
OPTIONS: dict[str, dict[str, Any]] = {}
