"""A variable of a MATLAB file of version 5 to 7.2; version 7.3 is HDF5 and opened as such."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._frames import Stored
from niddl_xr.recordings.readers._lazy import DAMAGE, choose_channel, damage_named, lazy, modified_ns, require_axes
from niddl_xr.schema import MissingMetadataWarning, NiddlError

READER = Reader(
    "a variable of a MATLAB file before version 7.3",
    magic=(b"MATLAB 5.0 MAT-file",),
    needs=("scipy",),
    options=("dataset",),
)
_CLASSES = {
    "double": "float64",
    "single": "float32",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_MOST_COMPRESSED = 1_100  # deflate packs at most 1,032 bytes into one
_WRITTEN = {3: "yxt", 4: "yxzt"}


@dataclass(frozen=True)
class MatlabVariable(Stored):
    """A variable by the path of its file and its name; read as a whole, and kept until another one is read."""

    path: str
    name: str
    shape: tuple[int, ...]
    stored: str
    modified_ns: int

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        values = _load(self.path, self.name, self.modified_ns)
        if values.shape != self.shape or values.dtype.kind not in "uif":
            raise NiddlError(f"{self.name} of {self.path} is {values.shape} {values.dtype}, expected {self.shape}")
        return np.asarray(values[key], dtype=self.dtype)


def _kinds() -> tuple[type[Exception], ...]:
    from scipy.io.matlab import MatReadError

    return (*DAMAGE, MatReadError, AttributeError, NotImplementedError)


@lru_cache(maxsize=1)
def _load(path: str, name: str, modified: int) -> np.ndarray:
    from scipy.io import loadmat

    with damage_named(f"{name} of {path} could not be read", _kinds()):
        return np.asarray(loadmat(path, variable_names=[name], mat_dtype=True)[name])


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, dataset: str | None = None) -> Opened:
    """Open a variable of a MATLAB file; its values, at most 2 GB in this format, are read together when computed.

    Parameters
    ----------
    path
        The file.
    axes
        Letters of the dims of the variable in MATLAB's order; by default (y, x, t), or (y, x, z, t) of 4 dims, with
        a warning.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    dataset
        Name of the variable; by default the only one of numbers with three dims or more.

    Raises
    ------
    NiddlError
        Where the choice is not clear (the message lists the variables), or the file is damaged.
    """
    from scipy.io import whosmat

    with damage_named(f"{path} is not a MATLAB file that can be read", _kinds()):
        found = {name: (tuple(map(int, shape)), kind) for name, shape, kind in whosmat(path)}
    images = [
        name for name, (shape, kind) in found.items() if kind in _CLASSES and (len(shape) >= 3 or name == dataset)
    ]
    chosen = [name for name in images if dataset in (None, name)]
    if len(chosen) != 1:
        listed = ", ".join(f"{name} {shape} {kind}" for name, (shape, kind) in list(found.items())[:12]) or "none"
        raise NiddlError(
            f"expected one variable of numbers with 3 dims or more in {path}, found {len(chosen)}; choose one with "
            f"dataset=. Its variables: {listed}"
        )
    shape, kind = found[chosen[0]]
    stored, size = np.dtype(_CLASSES[kind]), path.stat().st_size
    if min(shape, default=0) < 1 or math.prod(shape) * stored.itemsize > _MOST_COMPRESSED * size:
        raise NiddlError(
            f"{chosen[0]} of {path} states the shape {shape}, for which the file of {size} bytes is too small"
        )
    where = f"{chosen[0]} of {path} with shape {shape}"
    notes: tuple[UserWarning, ...] = ()
    if axes is None and len(shape) in _WRITTEN:
        letters = _WRITTEN[len(shape)]
        notes = (MissingMetadataWarning(f"{where} is taken as {letters!r}, MATLAB's usual order: set axes="),)
    else:
        letters = require_axes(axes or "yx", len(shape), where)
    source = MatlabVariable(str(path), chosen[0], shape, stored.str, modified_ns(path))
    number, label = choose_channel(channel, letters, shape, (), path)
    data = lazy(source, letters, chunks, number)
    return Opened(data, channel=label, attrs={"dataset": chosen[0]}, notes=notes)
