"""What was computed of pairs of frames, kept: so that tracking again after a correction takes seconds.

An entry is found by a digest of all that it follows from, the points of both frames and the options. So entries of
other recordings and of other options never answer, and stale ones cannot exist. In memory they are shared by all calls
in a process, the oldest given up first; a folder keeps them beyond the process.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from niddl_xr.schema import NiddlError

_MEMORY_BYTES = 512 * 2**20
_OVERHEAD_BYTES = 200
_PART_ENTRIES = 2000  # computed in some twenty seconds: the most that is lost when the process is killed
_DIGEST_BYTES = 16
_PREFIX, _SUFFIX = "matches-", ".npz"


class _Memory:
    """Entries by digest, up to a number of bytes; the one that was not used for longest goes first."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.used_bytes = limit_bytes, 0
        self._entries: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> np.ndarray | None:
        with self._lock:
            if digest not in self._entries:
                return None
            self._entries.move_to_end(digest)
            return self._entries[digest]

    def put(self, digest: bytes, entry: np.ndarray) -> None:
        with self._lock:
            if digest in self._entries:
                return
            self._entries[digest] = entry
            self.used_bytes += entry.nbytes + _OVERHEAD_BYTES
            while self.used_bytes > self.limit_bytes:
                _, oldest = self._entries.popitem(last=False)
                self.used_bytes -= oldest.nbytes + _OVERHEAD_BYTES

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.used_bytes = 0


_memory = _Memory(_MEMORY_BYTES)


def digest_of(*parts: np.ndarray | bytes | str) -> bytes:
    """Return 16 bytes that stand for arrays (with shape and dtype), bytes and words, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.shape}{part.dtype.str}".encode())
            part = np.ascontiguousarray(part).tobytes()
        elif isinstance(part, str):
            part = part.encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()[:_DIGEST_BYTES]


class Matches:
    """Entries, one-dimensional arrays of one dtype, found by their digest; a context, at whose end they are written.

    Parameters
    ----------
    kind
        Word for what the entries are; entries of other kinds may lie in the same folder.
    dtype
        Of all entries.
    folder
        Where they are kept beyond the process; made where it is missing. None: in memory only.

    Raises
    ------
    NiddlError
        For a folder that holds other files, and a path that is no folder.

    Warns
    -----
    UserWarning
        For a file of the folder that cannot be read; what it held is computed again.
    """

    def __init__(self, kind: str, dtype: np.dtype, folder: str | os.PathLike[str] | None = None) -> None:
        self.dtype, self._kind = np.dtype(dtype), f"{kind}-{_PREFIX}"
        self.folder = None if folder is None else _folder_of(Path(folder))
        self._word = f"{kind}{self.dtype.descr}"
        self._written: dict[bytes, np.ndarray] = {}
        self._new: dict[bytes, np.ndarray] = {}

    def __enter__(self) -> Self:
        if self.folder is not None:
            for path in sorted(self.folder.glob(f"{self._kind}*{_SUFFIX}")):
                self._written.update(self._read(path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write()

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the entry of a digest; None where there is none."""
        key = digest_of(self._word, key)
        entry = _memory.get(key)
        if entry is None:
            entry = self._written.get(key)
            if entry is not None:
                _memory.put(key, entry)
        elif self.folder is not None and key not in self._written:
            self._new[key] = entry
        return entry

    def put(self, key: bytes, entry: np.ndarray) -> None:
        """Keep the entry of a digest."""
        if entry.dtype != self.dtype or entry.ndim != 1:
            raise NiddlError(
                f"expected an entry of one dimension and dtype {self.dtype}, got {entry.ndim}, {entry.dtype}"
            )
        entry.setflags(write=False)
        key = digest_of(self._word, key)
        _memory.put(key, entry)
        if self.folder is not None and key not in self._written:
            self._new[key] = entry
            if len(self._new) >= _PART_ENTRIES:
                self.write()

    def write(self) -> None:
        """Write what is new as one file, which appears under its name when it is complete and on the disk."""
        if self.folder is None or not self._new:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = list(self._new.values())
        path = self.folder / f"{self._kind}{secrets.token_hex(8)}{_SUFFIX}"
        unfinished = path.with_suffix(".unfinished")
        with open(unfinished, "xb") as file:
            np.savez_compressed(
                file,
                digests=np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, _DIGEST_BYTES),
                lengths=np.array([len(entry) for entry in entries], np.int64),
                entries=np.concatenate(entries).view(np.uint8),
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        self._written.update(self._new)
        self._new.clear()

    def _read(self, path: Path) -> dict[bytes, np.ndarray]:
        try:
            with np.load(path, allow_pickle=False) as part:
                digests, lengths, values = part["digests"], part["lengths"], part["entries"].view(self.dtype)
            if digests.shape != (len(lengths), _DIGEST_BYTES) or lengths.min() < 0 or lengths.sum() != len(values):
                raise ValueError("its arrays do not fit one another")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(
                f"{path} cannot be read ({error}): its matches are computed again; remove it", UserWarning, stacklevel=4
            )
            return {}
        values.setflags(write=False)
        cuts = np.cumsum(lengths)[:-1]
        return dict(zip((bytes(digest) for digest in digests), np.split(values, cuts), strict=True))


def _folder_of(path: Path) -> Path:
    if not path.exists():
        return path
    if not path.is_dir():
        raise NiddlError(f"expected matches as a folder, got the file {path}")
    foreign = sorted(entry.name for entry in path.iterdir() if _PREFIX not in entry.name)
    if foreign:
        raise NiddlError(
            f"expected matches as a folder of their own, got {path}, which holds {foreign[:3]}: name a new one"
        )
    return path


def forget() -> None:
    """Empty the memory that is shared by all calls of this process; folders stay as they are."""
    _memory.clear()
