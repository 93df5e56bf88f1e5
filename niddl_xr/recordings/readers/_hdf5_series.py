"""Datasets of an HDF5 file of which each is one frame, as Imaris, BigDataViewer and Fiji's HDF5 plugin write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers._frames import Stored, ranges_of
from niddl_xr.recordings.readers._hdf5 import LOCK, cut, datasets, follow, names_of, require_filters
from niddl_xr.recordings.readers._lazy import damage_named, native
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import h5py

_FIRST = {"t0/channel0": "t{t}/channel{c}", "t00000/s00/0/cells": "t{t}/s{c}/0/cells"}


@dataclass(frozen=True)
class Hdf5Series(Stored):
    """Datasets of one size whose names differ in the number of the frame, as one array whose first dim is that number.

    A name is ``before``, the number with ``digits`` digits or more, ``after``. Every dataset may be larger than its
    part of ``shape``: what stands over is cut off. ``unsigned`` are counts that are stored as if they had a sign.
    """

    path: str
    before: str
    digits: int
    after: str
    numbers: range
    shape: tuple[int, ...]
    stored: str
    modified_ns: int
    unsigned: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in the byte order of this machine."""
        found = native(self.stored)
        return np.dtype(f"u{found.itemsize}") if self.unsigned else found

    def name_of(self, number: int) -> str:
        """Return the name of the dataset of a frame."""
        return f"{self.before}{number:0{self.digits}}{self.after}"

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        import h5py

        frames, *space = ranges_of(key, self.shape)
        result = np.empty((len(frames), *(len(part) for part in space)), dtype=self.dtype)
        cuts = tuple(slice(part.start, part.stop, part.step) for part in space)
        with LOCK, damage_named(f"{self.path} could not be read"), h5py.File(self.path) as file:
            for place, frame in enumerate(frames):
                name = self.name_of(self.numbers[frame])
                dataset = follow(file, name, strict=True)
                fits = (
                    isinstance(dataset, h5py.Dataset)
                    and dataset.ndim == len(space)
                    and np.all(np.greater_equal(dataset.shape, self.shape[1:]))
                )
                if not fits or native(dataset.dtype) != native(self.stored) or dataset.is_virtual or dataset.external:
                    raise NiddlError(
                        f"{name} of {self.path} is missing, or not {self.shape[1:]} values of {native(self.stored)}"
                    )
                require_filters(dataset, f"dataset {name} of {self.path}")
                result[place] = cut(dataset, cuts)
        return result


def known_pattern(file: h5py.File) -> str | None:
    """Return how the datasets of Fiji's HDF5 plugin or of BigDataViewer are named, None in any other file."""
    return next((pattern for first, pattern in _FIRST.items() if follow(file, first) is not None), None)


def named_by(file: h5py.File, pattern: str) -> list[tuple[str, int, str, range]]:
    """Return the datasets that a pattern names, by the number at ``{c}``: before, digits, after, and the numbers."""
    import h5py

    escaped = re.escape(pattern.strip("/"))
    for letter in "tc":
        escaped = escaped.replace(rf"\{{{letter}\}}", f"(?P<{letter}>[0-9]{{1,9}})", 1)
    found: dict[int, dict[int, re.Match[str]]] = {}
    for stored in names_of(file, h5py.h5o.TYPE_DATASET):
        match = re.fullmatch(escaped, stored.decode(errors="replace"))
        if match:
            found.setdefault(int(match.groupdict().get("c", 0)), {})[int(match["t"])] = match
    if not found:
        raise NiddlError(f"{file.filename} has no dataset {pattern!r}; its datasets: {datasets(file)}")
    return [_series(file, found[channel]) for channel in sorted(found)]


def _series(file: h5py.File, found: dict[int, re.Match[str]]) -> tuple[str, int, str, range]:
    numbers = range(min(found), max(found) + 1)
    missing = next((number for number in numbers if number not in found), None)
    first = found[numbers[0]]
    if missing is not None:
        raise NiddlError(f"{file.filename} has {len(found)} datasets such as {first[0]}, but none of frame {missing}")
    return first[0][: first.start("t")], len(first["t"]), first[0][first.end("t") :], numbers
