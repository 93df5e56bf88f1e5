"""The directories of a TIFF: the list of its pages, and the tags of each; nothing of what they mean.

Layout: TIFF 6.0 and BigTIFF (awaresystems.be/imaging/tiff/bigtiff.html). A file is not trusted: every number of it is
held against the size of the file before anything is read or allocated.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np

from niddl_xr.schema import NiddlError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_TAGS = 4096
REMEDY = "the file is cut short or damaged; copy it again from its origin"
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of tags that hold whole numbers


@dataclass(frozen=True)
class Header:
    """Byte order as numpy writes it, whether offsets have 8 bytes, and where the first directory lies."""

    order: str
    big: bool
    first: int

    @cached_property
    def entry(self) -> np.dtype[Any]:
        """One tag of a directory: code, type, count, and its value or where that lies."""
        wide = f"{self.order}u{8 if self.big else 4}"
        return np.dtype([("code", f"{self.order}u2"), ("type", f"{self.order}u2"), ("count", wide), ("value", wide)])

    @cached_property
    def number(self) -> struct.Struct:
        """An offset in the file."""
        return struct.Struct(f"{self.order}{'Q' if self.big else 'I'}")

    @cached_property
    def tags(self) -> struct.Struct:
        """The number of tags, before a directory."""
        return struct.Struct(f"{self.order}{'Q' if self.big else 'H'}")


def read_at(file: BinaryIO, offset: int, count: int, size: int, what: str) -> bytes:
    """Return bytes of a file, or raise where the file ends before them."""
    if offset < 0 or offset + count > size:
        raise NiddlError(f"{what} of {file.name} ends at byte {offset + count}, but the file has {size}: {REMEDY}")
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise NiddlError(f"{what} of {file.name} ends after {len(data)} of {count} bytes: {REMEDY}")
    return data


def file_size(file: BinaryIO) -> int:
    """Return the bytes of an open file."""
    return file.seek(0, io.SEEK_END)


def read_header(file: BinaryIO) -> Header:
    """Return the header of a TIFF, or raise where the file has none."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack_from(f"{order}H", head, 2)[0] if order and len(head) >= 8 else 0
    if version == 42:
        return Header(order, False, struct.unpack_from(f"{order}I", head, 4)[0])
    if version == 43 and len(head) == 16 and struct.unpack_from(f"{order}HH", head, 4) == (8, 0):
        return Header(order, True, struct.unpack_from(f"{order}Q", head, 8)[0])
    raise NiddlError(f"{file.name} is not a TIFF that can be read: its first bytes are {head[:8]!r}")


@dataclass(frozen=True)
class Tags:
    """The tags of one page, as the directory states them; values are read, and checked, when they are asked for."""

    where: str
    header: Header
    entries: np.ndarray
    file: BinaryIO
    size: int

    @cached_property
    def places(self) -> dict[int, int]:
        """Return the row of every code; of a code that stands twice, the first one."""
        codes = self.entries["code"].tolist()
        return {code: row for row, code in reversed(list(enumerate(codes)))}

    def raw(self, code: int, most: int | None = None) -> tuple[int, bytes] | None:
        """Return the type and the bytes of a tag, of ``most`` values at most; None where the page has no such tag."""
        if code not in self.places:
            return None
        row = self.places[code]
        kind, count = int(self.entries["type"][row]), int(self.entries["count"][row])
        length = SIZES.get(kind, 0) * count
        if kind not in SIZES or length > self.size:
            raise NiddlError(f"tag {code} of {self.where} has {count} values of type {kind}: {REMEDY}")
        wanted = length if most is None else min(length, most * SIZES[kind])
        inline = self.entries["value"][row : row + 1].tobytes()  # as it stands in the file
        if length <= len(inline):
            return kind, inline[:wanted]
        offset = int(self.entries["value"][row])
        return kind, read_at(self.file, offset, wanted, self.size, f"tag {code}")

    def numbers(self, code: int, most: int | None = None) -> tuple[int, ...]:
        """Return the whole numbers of a tag, ``most`` at most; none where the page has no such tag."""
        found = self.raw(code, most)
        if found is None:
            return ()
        kind, data = found
        if kind not in _CODES:
            raise NiddlError(f"tag {code} of {self.where} is of type {kind}, expected whole numbers: {REMEDY}")
        return struct.unpack(f"{self.header.order}{len(data) // SIZES[kind]}{_CODES[kind]}", data)

    def number(self, code: int, default: int) -> int:
        """Return the first whole number of a tag."""
        found = self.numbers(code, 1)
        return found[0] if found else default

    def ratio(self, code: int) -> float:
        """Return a ratio that a tag states, 0 where it states none."""
        found = self.raw(code)
        if found is None or found[0] != 5 or len(found[1]) < 8:
            return 0.0
        over, under = struct.unpack_from(f"{self.header.order}II", found[1])
        return over / under if under else 0.0

    def text(self, code: int) -> str:
        """Return the text of a tag up to its first zero, "" where the page has none."""
        found = self.raw(code)
        if found is None:
            return ""
        data = found[1].split(b"\0", 1)[0]
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")


def first_page(file: BinaryIO, where: str) -> Tags:
    """Return the tags of the first page of an open TIFF, without a look at the others."""
    size, header = file_size(file), read_header(file)
    for _, entries in walk(file, header, size):
        return Tags(f"page 0 of {where}", header, np.frombuffer(entries, header.entry), file, size)
    raise NiddlError(f"{where} holds no readable page: {REMEDY}")


def walk(file: BinaryIO, header: Header, size: int, first: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield where the directory of every page lies, and its tags, from the first page or another place on."""
    width, entry, number = header.tags.size, header.entry.itemsize, header.number
    offset, guess, seen, used = header.first if first is None else first, 20, set[int](), 0
    while offset:
        if offset in seen:
            raise NiddlError(f"the list of pages of {file.name} runs in a circle after page {len(seen) - 1}: {REMEDY}")
        seen.add(offset)
        if offset + width > size:
            raise NiddlError(
                f"{file.name} names a page after its {len(seen) - 1} readable ones at byte {offset} of {size}: {REMEDY}"
            )
        file.seek(offset)
        data = file.read(width + guess * entry + number.size)
        count = header.tags.unpack_from(data)[0] if len(data) >= width else 0
        used += count * entry
        if not 0 < count <= MOST_TAGS or used > size:
            raise NiddlError(f"page {len(seen) - 1} of {file.name} has {count} tags at byte {offset}: {REMEDY}")
        length = width + count * entry + number.size
        if len(data) < length:
            data = read_at(file, offset, length, size, f"page {len(seen) - 1}")
            guess = max(guess, count)
        yield offset, data[width : width + count * entry]
        offset = number.unpack_from(data, width + count * entry)[0]
