"""What the formats of cameras and microscopes share: frames at equal distances in a file, and frames that it lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers._lazy import damage_named, native
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import xarray as xr


class Stored:
    """An array in a file, whose ``stored`` dtype, as numpy writes it, has a byte order of its own."""

    stored: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in the byte order of this machine."""
        return native(self.stored)


@dataclass(frozen=True)
class SpacedFrames(Stored):
    """Frames that lie in a file ``stride`` bytes apart, as (t, y, x) or (t, y, x, component)."""

    path: str
    offset: int
    stride: int
    shape: tuple[int, ...]
    stored: str
    modified_ns: int

    @property
    def end(self) -> int:
        """Bytes from the start of the file to the end of the last frame."""
        return self.offset + (self.shape[0] - 1) * self.stride + self._row_bytes * self.shape[1]

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[2:]) * np.dtype(self.stored).itemsize

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        frames, rows, *page = ranges_of(key, self.shape)
        result = np.empty((len(frames), len(rows), *(len(part) for part in page)), dtype=self.dtype)
        if not result.size:
            return result
        wanted = (rows[-1] + 1 - rows[0]) * self._row_bytes
        with damage_named(f"{self.path} could not be read", (OSError,)), open(self.path, "rb") as file:
            for row, frame in enumerate(frames):
                file.seek(self.offset + frame * self.stride + rows[0] * self._row_bytes)
                data = file.read(wanted)
                if len(data) < wanted:
                    raise NiddlError(f"frame {frame} of {self.path} is cut short; copy it again from its origin")
                values = np.frombuffer(data, self.stored).reshape(-1, *self.shape[2:])
                result[row] = values[(slice(None, None, rows.step), *key[2:])]
        return result

    def beside(self, place: int, stored: np.dtype[Any]) -> np.ndarray:
        """Return what lies ``place`` bytes behind the start of every frame; empty where the file ends before."""
        values = np.empty(self.shape[0], stored)
        with open(self.path, "rb") as file:
            for frame in range(len(values)):
                file.seek(self.offset + frame * self.stride + place)
                data = file.read(stored.itemsize)
                if len(data) < stored.itemsize:
                    return values[:0]
                values[frame] = np.frombuffer(data, stored)[0]
        return values


def ranges_of(key: Sequence[slice], shape: Sequence[int]) -> list[range]:
    """Return the indices that slices name along every dim."""
    return [range(*part.indices(size)) for part, size in zip(key, shape, strict=True)]


def compact(numbers: np.ndarray) -> Sequence[int]:
    """Return numbers as a range where they are one, so that a graph of many frames is small."""
    step = int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
    regular = range(int(numbers[0]), int(numbers[0]) + step * len(numbers), step)
    return regular if np.array_equal(regular, numbers) else numbers.tolist()


def require_usual(path: Path, axes: str | None, gaps: str = "error", known: Sequence[str] = ()) -> None:
    """Refuse axes for a file that states its own, other than the ``known`` ones, and an unknown way to treat gaps."""
    if axes not in (None, *known):
        raise NiddlError(f"{path} states its axes: leave out axes={axes!r}")
    if gaps not in ("error", "skip"):
        raise NiddlError(f"expected gaps='error' or 'skip', got {gaps!r}")


def numbered(path: Path, whole: np.ndarray, announced: int) -> tuple[dict[str, xr.Variable], tuple[UserWarning, ...]]:
    """Return the numbers of the whole frames as a coordinate, and what to warn of, where some of all are missing."""
    import xarray as xr

    if len(whole) == announced:
        return {}, ()
    note = UserWarning(f"{path} lacks {announced - len(whole)} of {announced} frames; t keeps the others'")
    return {"t": xr.Variable("t", whole, {"units": "frame"})}, (note,)
