"""A dataset of an HDF5 file; all access goes through one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import choose_channel, damage_named, default_axes, lazy, modified_ns, native
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import h5py

READER = Reader(
    "a dataset of an HDF5 file",
    suffixes=(".h5", ".hdf5", ".hdf", ".he5"),
    magic=(b"\x89HDF\r\n\x1a\n",),
    needs=("h5py",),
    options=("dataset",),
    general=True,
)
_LOCK = threading.RLock()  # the HDF5 library is not safe in threads


@dataclass(frozen=True)
class Hdf5Dataset:
    """A dataset by the path of its file and its name; the file is opened for every read and closed after it."""

    path: str
    name: str
    shape: tuple[int, ...]
    stored: str
    modified_ns: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in the byte order of this machine."""
        return native(self.stored)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        import h5py

        with _LOCK, damage_named(f"dataset {self.name} of {self.path} could not be read"), h5py.File(self.path) as file:
            dataset = file[self.name]
            if dataset.shape != self.shape:
                raise NiddlError(f"dataset {self.name} of {self.path} had shape {self.shape}, now {dataset.shape}")
            return np.asarray(dataset[key], dtype=self.dtype)


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, dataset: str | None = None) -> Opened:
    """Open a dataset of an HDF5 file lazily.

    Parameters
    ----------
    path
        The file.
    axes
        Letters of the dims of the dataset; by default the labels that the file gives them, else ``"tyx"`` for 3
        dims and ``"tzyx"`` for 4, with a warning.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    dataset
        Its name; by default the only one of numbers with three dims or more.
    """
    import h5py

    with _LOCK, damage_named(f"{path} is not an HDF5 file that can be read"), h5py.File(path) as file:
        chosen = _choose(path, file, dataset)
        name, shape, stored = chosen.name, chosen.shape, chosen.dtype.str
        labels = _axis_labels(chosen)
        sizes = _float_list(chosen.attrs.get("element_size_um"))
        channels = _names(chosen.attrs.get("channel_names"))
    where = f"dataset {name} of {path}"
    if 0 in shape:
        raise NiddlError(f"{where} is empty: its shape is {shape}")
    letters, notes = default_axes(axes or labels, shape, where)
    source = Hdf5Dataset(str(path), name, shape, stored, modified_ns(path))
    number, label = choose_channel(channel, letters, shape, channels, path)
    return Opened(
        lazy(source, letters, chunks, number),
        voxel_um={dim: size for dim, size in zip("zyx", sizes, strict=False) if size > 0} if len(sizes) == 3 else {},
        channel=label,
        attrs={"dataset": name},
        notes=notes,
    )


def _choose(path: Path, file: h5py.File, name: str | None) -> h5py.Dataset:
    import h5py

    found = list(_datasets(file))
    listed = ", ".join(f"{item.name} {item.shape} {item.dtype}" for item in found) or "none"
    if name is not None:
        item = file.get(name)
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.dtype.kind not in "uif":
            raise NiddlError(f"{path} has no dataset {name!r} of numbers; its datasets: {listed}")
        return item
    images = [item for item in found if len(item.shape) >= 3 and item.dtype.kind in "uif"]
    if len(images) != 1:
        raise NiddlError(
            f"expected one dataset of numbers with 3 dims or more in {path}, found {len(images)}; choose one with "
            f"dataset=. Its datasets: {listed}"
        )
    return images[0]


def _datasets(group: h5py.Group) -> Iterator[h5py.Dataset]:
    """Yield the datasets of a file that have a shape, links to other files left out."""
    import h5py

    found: list[h5py.Dataset] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found.append(item)

    group.visititems(visit)
    yield from found


def _axis_labels(dataset: h5py.Dataset) -> str | None:
    """Return the axes that the file gives the dims, if they are letters of t, z, c, y, x."""
    labels = "".join(str(dim.label).lower() for dim in dataset.dims)
    complete = len(labels) == len(dataset.shape) == len(set(labels))
    return labels if complete and set("yx") <= set(labels) <= set("tzcyx") else None


def _float_list(value: Any) -> list[float]:
    """Return numbers that an attribute states, z, y, x; empty where it states something else."""
    values = np.atleast_1d(value) if value is not None else np.empty(0)
    return [float(number) for number in values] if values.dtype.kind in "uif" and np.all(np.isfinite(values)) else []


def _names(value: Any) -> tuple[str, ...]:
    values = np.atleast_1d(value) if value is not None else np.empty(0, "S1")
    if values.dtype.kind not in "SUO":
        return ()
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in values)
