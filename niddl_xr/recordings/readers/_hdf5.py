"""What the readers of formats within HDF5 share: one lock, checks before anything is read, no way out of the file.

The HDF5 library is not safe in threads, so that every access goes through :data:`LOCK`. Links to other files, virtual
datasets and external storage are refused: a file from elsewhere must not choose what else is read.
"""

from __future__ import annotations

import math
import mmap
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers._frames import Stored
from niddl_xr.recordings.readers._lazy import DAMAGE, damage_named, modified_ns
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LOCK = threading.RLock()
MOST_LISTED = 12  # datasets in a message
FEWEST_WRITTEN = 0.25  # part of the chunks of a dataset; with less of them, its size is not believed
MOST_COMPRESSED = 1_100  # deflate packs at most 1,032 bytes into one
_MOST_LINKS = 32
_MOST_ATTRIBUTE_VALUES = 100_000
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3  # numbers of filters, https://github.com/HDFGroup/hdf5_plugins
_HEAP = b"GCOL\x01\0\0\0"
_HEAP_BYTES = 2**24
_OURS = {_DEFLATE, _SHUFFLE, _FLETCHER32}


@dataclass(frozen=True)
class Hdf5Dataset(Stored):
    """A dataset by the path of its file and its name; the file is opened for every read and closed after it."""

    path: str
    name: str
    shape: tuple[int, ...]
    stored: str
    modified_ns: int
    chunk: tuple[int, ...] | None = None

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        import h5py

        with LOCK, damage_named(f"dataset {self.name} of {self.path} could not be read"), h5py.File(self.path) as file:
            dataset = file[self.name]
            if dataset.shape != self.shape:
                raise NiddlError(f"dataset {self.name} of {self.path} had shape {self.shape}, now {dataset.shape}")
            require_filters(dataset, f"dataset {self.name} of {self.path}")
            return cut(dataset, key)


def cut(dataset: h5py.Dataset, key: tuple[slice, ...]) -> np.ndarray:
    """Return what slices name; with steps, the HDF5 library takes twenty times as long as for all between."""
    spans = tuple(slice(part.start, part.stop) for part in key)
    steps = tuple(slice(None, None, part.step) for part in key)
    outer = range(*key[0].indices(dataset.shape[0]))
    if outer.step > 1 and outer.step >= (dataset.chunks or (1,))[0]:  # no chunk is read twice
        values = [dataset[(slice(row, row + 1), *spans[1:])][(slice(None), *steps[1:])] for row in outer]
        return np.concatenate(values) if values else np.asarray(dataset[(slice(0, 0), *spans[1:])])
    return np.asarray(dataset[spans][steps])


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file under the lock; what the library says of damage names the file."""
    import h5py

    damage = damage_named(f"{path} is not an HDF5 file that can be read", (*DAMAGE, AttributeError))
    with LOCK, damage:
        require_heaps(path)
        with h5py.File(path) as file:
            yield file


def require_heaps(path: Path) -> None:
    """Refuse a file whose texts the HDF5 library would look for without an end.

    Texts of any length lie in global heap collections: ``GCOL``, version 1, size, then objects of 16 bytes (number,
    uses, size) and their content; number 0 is the space that is left (HDF5 File Format Specification, III.E). Where
    damage leaves a space of size 0, or a size beyond the end, the library never gets past it. Collections are
    looked for where writers put them, in the first and the last 16 MiB of a file.
    """
    size = path.stat().st_size
    if size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start, stop in {(0, min(size, _HEAP_BYTES)), (max(0, size - _HEAP_BYTES), size)}:
            at = content.find(_HEAP, start, stop)
            while at >= 0:
                if _endless(content, at, size):
                    raise NiddlError(f"{path} is damaged: the texts at byte {at} have no end; copy it again")
                at = content.find(_HEAP, at + len(_HEAP), stop)


def _endless(content: mmap.mmap, at: int, file_bytes: int) -> bool:
    end = at + int.from_bytes(content[at + 8 : at + 16], "little")
    place = at + 16
    while place + 16 <= min(end, file_bytes):
        number_, size = struct.unpack_from("<HxxxxxxQ", content, place)
        step = 16 + (size + 7) // 8 * 8 if number_ else size
        if step == 0 or place + step > end:
            return True
        place += step
    return False


def is_hdf5(head: bytes) -> bool:
    """Say whether the first bytes of a file are those of HDF5, with or without a block of the user before it."""
    return any(head[start : start + len(SIGNATURE)] == SIGNATURE for start in (0, 512, 1024, 2048))


def root_has(path: Path, head: bytes, *names: str) -> bool:
    """Say whether a file is HDF5 and has members or attributes of these names; what is damaged has none."""
    import h5py

    if not is_hdf5(head):
        return False
    try:
        with LOCK, h5py.File(path) as file:
            return all(name in file or name in file.attrs for name in names)
    except DAMAGE:
        return False  # the general reader of HDF5 says what is wrong


def follow(group: h5py.Group, name: str, *, strict: bool = False) -> Any:
    """Return what a name leads to within the file, or None.

    Links to other files, and links that lead round in a circle, lead to nothing; with ``strict`` they are errors.
    """
    import h5py

    ahead, node, links = name.split("/"), group, 0
    where = f"{name} of {group.file.filename}"
    while ahead:
        part = ahead.pop(0)
        if part in ("", "."):
            continue
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            if strict:
                raise NiddlError(f"{where} lies in another file, {link.filename}: open that file")
            return None
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > _MOST_LINKS:
                if strict:
                    raise NiddlError(f"{where} is a link that leads round in a circle")
                return None
            node = node.file["/"] if link.path.startswith("/") else node
            ahead = link.path.split("/") + ahead
        else:
            node = node[part]
    return node


@dataclass(frozen=True)
class Listing:
    """The datasets of a file: the arrays of two dims or more, and what else there is."""

    arrays: list[h5py.Dataset]
    others: list[h5py.Dataset]  # the first few
    count: int

    def __str__(self) -> str:
        shown = [*self.arrays, *self.others][:MOST_LISTED]
        more = f" and {self.count - len(shown)} more" if self.count > len(shown) else ""
        return (", ".join(_described(item) for item in shown) or "none") + more


def datasets(file: h5py.File) -> Listing:
    """Return the datasets of a file, each once; links are not followed, what MATLAB refers to is left out."""
    import h5py

    names, listing = names_of(file, h5py.h5o.TYPE_DATASET), Listing([], [], 0)
    arrays, others = listing.arrays, listing.others
    for name in names:
        identifier = h5py.h5d.open(file.id, name)  # a tenth of the time of File[name], for files of many small ones
        if identifier.rank >= 2:
            arrays.append(h5py.Dataset(identifier))
        elif len(others) < MOST_LISTED:
            others.append(h5py.Dataset(identifier))
    return Listing(arrays, others, len(names))


def names_of(file: h5py.File, kind: int) -> list[bytes]:
    """Return the names of the objects of a kind, each once; links are not followed."""
    import h5py

    names: list[bytes] = []

    def visit(name: bytes, info: Any) -> None:
        if info.type == kind and not name.startswith(b"#"):
            names.append(name)

    h5py.h5o.visit(file.id, visit, info=True)
    return names


def _described(dataset: h5py.Dataset) -> str:
    return f"{dataset.name} {dataset.shape} {'table' if dataset.dtype.kind == 'V' else dataset.dtype}"


def holds_counts(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset holds integer or floating-point numbers, which truth values and enumerations are not."""
    import h5py

    return dataset.shape is not None and dataset.dtype.kind in "uif" and h5py.check_enum_dtype(dataset.dtype) is None


def attribute(item: h5py.Dataset | h5py.Group, name: str) -> Any:
    """Return an attribute, text as str (of several, as an array), or None where it is missing or too long."""
    if name not in item.attrs:
        return None
    stored = item.attrs.get_id(name)
    if math.prod(stored.shape or ()) > _MOST_ATTRIBUTE_VALUES or not _is_simple(stored.get_type()):
        return None
    return plain(item.attrs[name])


def _is_simple(kind: Any) -> bool:
    """Say whether a type is a number or a text; the library crashes on damaged lists of any length."""
    import h5py

    simple = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeEnumID, h5py.h5t.TypeStringID)
    return isinstance(kind, simple) and kind.get_size() <= _MOST_ATTRIBUTE_VALUES


def plain(value: Any) -> Any:
    """Return a stored value with text as str; an array of single bytes, as MATLAB and Imaris write it, is one text."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "S" and value.dtype.itemsize == 1 and value.ndim == 1:
        value = value.tobytes()
    if isinstance(value, np.ndarray) and value.dtype.kind in "SUO":
        texts = [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in value.ravel()]
        return texts[0] if value.ndim == 0 or value.shape == (1,) else np.array(texts, dtype=object)
    return value.decode(errors="replace").rstrip("\0") if isinstance(value, bytes) else value


def text(value: Any) -> str | None:
    """Return what is a text that says something, else None."""
    return value.strip() if isinstance(value, str) and value.strip() else None


def number(value: Any) -> float | None:
    """Return a single finite number, else None."""
    values = np.asarray(value) if value is not None else np.empty(0)
    if values.size != 1 or values.dtype.kind not in "uif" or not np.isfinite(values.item()):
        return None
    return float(values.item())


def numbers(value: Any) -> list[float]:
    """Return finite numbers; empty where something else is stated."""
    values = np.atleast_1d(value) if value is not None else np.empty(0)
    return [float(item) for item in values.ravel()] if values.dtype.kind in "uif" and np.isfinite(values).all() else []


def small(item: Any, most: int = 4096) -> Any:
    """Return the values of a small dataset within the file, text as str; None for anything else."""
    import h5py

    if not isinstance(item, h5py.Dataset) or item.shape is None or math.prod(item.shape) > most:
        return None
    if item.is_virtual or item.external or not _is_simple(item.id.get_type()):
        return None
    return plain(item[()])


def source(path: Path, dataset: h5py.Dataset) -> tuple[Hdf5Dataset, tuple[UserWarning, ...]]:
    """Return a dataset of counts to read from later, and what to warn of.

    Raises
    ------
    NiddlError
        For what is not counts, is empty, lies in other files, is compressed by a filter that is not installed, or
        whose size does not agree with the bytes that the file holds for it.
    """
    where = f"dataset {dataset.name} of {path}"
    if not holds_counts(dataset) or dataset.shape == ():
        raise NiddlError(
            f"{where} holds {'one ' if dataset.shape == () else ''}{dataset.dtype}; expected an array of integer or "
            "floating-point counts"
        )
    if 0 in dataset.shape:
        raise NiddlError(f"{where} is empty: its shape is {dataset.shape}")
    if dataset.is_virtual or dataset.external:
        others = [item.file_name for item in dataset.virtual_sources()] if dataset.is_virtual else dataset.external
        raise NiddlError(f"{where} lies in other files: {str(others)[:200]}; open these one by one, or as one list")
    require_filters(dataset, where)
    note = _require_bytes(dataset, where, path.stat().st_size)
    found = Hdf5Dataset(str(path), dataset.name, dataset.shape, dataset.dtype.str, modified_ns(path), dataset.chunks)
    return found, note


def _filters(dataset: h5py.Dataset) -> dict[int, str]:
    layout = dataset.id.get_create_plist()
    found = [layout.get_filter(index) for index in range(layout.get_nfilters())]
    return {int(item[0]): item[3].decode(errors="replace") for item in found}


def require_filters(dataset: h5py.Dataset, where: str) -> None:
    import h5py

    missing = {code: name for code, name in _filters(dataset).items() if not h5py.h5z.filter_avail(code)}
    if missing and find_spec("hdf5plugin") is not None:
        import hdf5plugin  # noqa: F401  (it adds its filters when it is imported)

        missing = {code: name for code, name in missing.items() if not h5py.h5z.filter_avail(code)}
    if missing:
        listed = ", ".join(f"{name or 'unnamed'} ({code})" for code, name in missing.items())
        raise NiddlError(f"{where} is compressed by a filter that is missing here, {listed}: pip install hdf5plugin")


def _require_bytes(dataset: h5py.Dataset, where: str, file_bytes: int) -> tuple[UserWarning, ...]:
    stored, wanted = dataset.id.get_storage_size(), math.prod(dataset.shape) * dataset.dtype.itemsize
    damaged = f"{where} states the shape {dataset.shape}, for which the file has {stored} bytes"
    if stored > file_bytes:
        raise NiddlError(f"{damaged}, more than its own size, {file_bytes}: it is cut short or damaged; copy it again")
    if dataset.chunks is None:
        if stored < wanted:
            raise NiddlError(f"{damaged} of {wanted}: it was never written, or is damaged; copy it again")
        return ()
    chunks = math.prod(-(-size // length) for size, length in zip(dataset.shape, dataset.chunks, strict=True))
    written, filters = dataset.id.get_num_chunks(), set(_filters(dataset))
    unpacked = written * math.prod(dataset.chunks) * dataset.dtype.itemsize
    wrong = (not filters and unpacked != stored) or (filters <= _OURS and unpacked > MOST_COMPRESSED * (stored + 1))
    if written < FEWEST_WRITTEN * chunks or wrong:
        raise NiddlError(
            f"{damaged} in {written} of {chunks} chunks: the recording was broken off early, or is damaged; read "
            "what is there with h5py, then use from_numpy"
        )
    if written < chunks:
        return (UserWarning(f"{where}: {chunks - written} of {chunks} chunks were never written and read as zeros"),)
    return ()
