"""The chunks of an ND2: named pieces of the file, listed by a map at its end.

Layout: as the library nd2 (https://github.com/tlambert03/nd2) describes it.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from niddl_xr.schema import NiddlError

_MAGIC, _HEADER = 0x0ABECEDA, struct.Struct("<IIQ")  # magic, bytes of the name, bytes of the data
_MAP_NAME, _MAP_END = b"ND2 FILEMAP SIGNATURE NAME 0001!", b"ND2 CHUNK MAP SIGNATURE 0000001!"
TIMESTAMP_BYTES = 8  # before the counts of every plane


@dataclass(frozen=True)
class Chunks:
    """Where the chunks of a file lie: ``named`` by name, ``planes`` the offsets of planes.

    An offset of -1 in ``planes`` is a plane that the file does not hold.
    """

    named: Mapping[bytes, int]
    planes: np.ndarray


@lru_cache(maxsize=8)
def chunks_of(path: str, modified_ns: int) -> Chunks:
    """Return where the chunks of a file lie, from the map at its end; every offset lies in the file.

    Parameters
    ----------
    path
        The file.
    modified_ns
        When it was last written: a file that changed is read again.
    """
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 40))
        tail = file.read(40)
        if size < 40 or tail[:32] != _MAP_END:
            raise NiddlError(f"{path} is cut short: the map of its chunks, at its end, is missing; copy it again")
        start, length = enter(file, int.from_bytes(tail[32:], "little"), _MAP_NAME, f"the chunk map of {path}")
        file.seek(start)
        listing = file.read(length)
    named: dict[bytes, int] = {}
    planes: dict[int, int] = {}
    for match in re.finditer(rb"([^!]*)!(.{16})", listing, re.DOTALL):
        name = match[1] + b"!"
        if name == _MAP_END:
            break
        offset = int.from_bytes(match[2][:8], "little")
        if offset + _HEADER.size > size:
            raise NiddlError(
                f"{path} is cut short: its chunk {name.decode(errors='replace')} should begin at byte {offset}, but "
                f"the file has {size}; copy it again"
            )
        counted = re.fullmatch(rb"ImageDataSeq\|(\d{1,9})!", name)
        if counted and int(counted[1]) < size // _HEADER.size:  # a file cannot hold more
            planes[int(counted[1])] = offset
        elif not counted:
            named[name] = offset
    offsets = np.full(max(planes, default=-1) + 1, -1, dtype=np.int64)
    offsets[list(planes)] = list(planes.values())
    return Chunks(named, offsets)


def enter(file: BinaryIO, offset: int, name: bytes, where: str) -> tuple[int, int]:
    """Return where the data of a chunk begin and how many bytes they are, after a check of its header."""
    size = os.fstat(file.fileno()).st_size
    file.seek(min(offset, size))
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise NiddlError(f"{where} is cut short: it should begin at byte {offset}, but the file has {size}")
    magic, name_length, length = _HEADER.unpack(header)
    found = file.read(len(name))
    if magic != _MAGIC or found != name:
        raise NiddlError(f"{where} is damaged: no chunk {name.decode(errors='replace')} begins at byte {offset}")
    start: int = offset + _HEADER.size + name_length
    if start + length > size:
        raise NiddlError(f"{where} is cut short: it should end at byte {start + length}, but the file has {size}")
    return start, length


def chunk(path: Path, table: Chunks, name: bytes) -> bytes:
    """Return the data of a named chunk, empty where the file has none."""
    if name not in table.named:
        return b""
    with path.open("rb") as file:
        start, length = enter(file, table.named[name], name, f"chunk {name.decode(errors='replace')} of {path}")
        file.seek(start)
        return file.read(length)


class WithoutMapping(io.RawIOBase):
    """A file for the library: it cannot map it, and no damaged length makes it reserve more than the file holds."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
