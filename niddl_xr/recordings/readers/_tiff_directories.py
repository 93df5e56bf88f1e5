"""All pages of a TIFF side by side: the list is followed once, and its tags are compared as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from niddl_xr.recordings.readers._lazy import damage_named
from niddl_xr.recordings.readers._tiff_pages import DECODING, Page, page_of
from niddl_xr.recordings.readers._tiff_tags import REMEDY, SIZES, Header, Tags, file_size, read_header, walk
from niddl_xr.schema import NiddlError

_REDUCED = 254
_NUMBERS = (258, 339)  # bits and format of the numbers, one a colour: of colours they stand elsewhere in the file
_COLOURS = 16  # whose bits and format are compared
_SIZES_BY_TYPE = np.array([float(SIZES.get(kind, 2**20)) for kind in range(20)])


@dataclass(frozen=True)
class Directories:
    """All pages of a file: where their directories lie, and their tags side by side."""

    path: Path
    size: int
    header: Header
    offsets: np.ndarray
    groups: tuple[tuple[np.ndarray, np.ndarray], ...] = field(repr=False)  # numbers of pages, entries (page, tag)
    _parsed: dict[int, Page] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    def column(self, code: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return type, count and value of a tag for every page; zeros where a page has none.

        What is no single whole number of 2 bytes or more is -1.
        """
        kinds, counts, values = (np.zeros(len(self), np.int64) for _ in range(3))
        for pages, entries in self.groups:
            match = entries["code"] == code
            has = match.any(axis=1)
            found, place = entries[np.arange(len(pages)), match.argmax(axis=1)][has], pages[has]
            kinds[place] = found["type"]
            counts[place] = np.minimum(found["count"].astype(np.uint64), 2**62).astype(np.int64)
            values[place] = -1
            field_bytes = np.ascontiguousarray(found["value"]).view(np.uint8)
            field_bytes = field_bytes.reshape(len(found), self.header.number.size)
            for kind in (3, 4, 16) if self.header.big else (3, 4):  # of 2, 4 and 8 bytes
                size = SIZES[kind]
                inside = (found["type"] == kind) & (found["count"] == 1)
                short = np.ascontiguousarray(field_bytes[inside, :size]).view(f"{self.header.order}u{size}")
                values[place[inside]] = np.minimum(short[:, 0].astype(np.uint64), 2**62).astype(np.int64)
        return kinds, counts, values

    @cached_property
    def kinds(self) -> np.ndarray:
        """Return a number for every page; pages of equal numbers agree in all that decoding depends on."""
        kinds = np.zeros(len(self), int)
        known: dict[tuple[tuple[int, ...], ...], int] = {}
        for pages, entries in self.groups:
            alike = _alike(entries)
            kinds[pages] = known.setdefault(_decoding_of(entries[0]), len(known))
            for row in np.flatnonzero(~alike).tolist():
                kinds[pages[row]] = known.setdefault(_decoding_of(entries[row]), len(known))
        both = np.stack([kinds, *(self._elsewhere(code) for code in _NUMBERS)])
        return np.asarray(np.unique(both, axis=1, return_inverse=True)[1]).ravel()

    def _elsewhere(self, code: int) -> np.ndarray:
        """Return a number for every page; pages of equal numbers agree in a tag that stands outside the directory."""
        labels = np.zeros(len(self), int)
        known: dict[bytes, int] = {}
        with damage_named(f"{self.path} could not be read"), self.path.open("rb", buffering=0) as file:
            for pages, entries in self.groups:
                match = entries["code"] == code
                has = match.any(axis=1)
                found, place = entries[np.arange(len(pages)), match.argmax(axis=1)][has], pages[has]
                outside = ~_is_inside(found)
                read: dict[tuple[int, int], bytes] = {}
                for page, tag in zip(place[outside].tolist(), found[outside].tolist(), strict=True):
                    where = tag[3], SIZES.get(tag[1], 0) * min(tag[2], _COLOURS)
                    if where not in read and where[0] < self.size:
                        file.seek(where[0])
                        read[where] = file.read(where[1])
                    labels[page] = known.setdefault(read.get(where, b""), len(known) + 1)
        return labels

    @cached_property
    def reduced(self) -> np.ndarray:
        """Return for every page whether it is a smaller copy of another one."""
        stated = self.column(_REDUCED)[2]
        return np.asarray((stated > 0) & (stated % 2 == 1))

    def starts(self, page: Page, number: int) -> np.ndarray:
        """Return for every page of the kind of ``page`` where its values begin without compression, else -1.

        Of pages in several strips, only page ``number`` itself is known.
        """
        starts = np.full(len(self), -1)
        if page.start is None:
            return starts
        starts[number] = page.start
        if len(page.offsets) > 1 or len(self) == 1:
            return starts
        (_, many, offsets), (_, counted, counts) = self.column(273), self.column(279)
        plain = (self.kinds == self.kinds[number]) & (many == 1) & (offsets >= 0)
        plain &= (counted == 0) | ((counted == 1) & (counts >= page.nbytes))
        plain &= offsets + page.nbytes <= self.size
        starts[plain] = offsets[plain]
        return starts

    def tags(self, file: BinaryIO, number: int) -> Tags:
        """Return the tags of a page of the open file."""
        for pages, entries in self.groups:
            row = int(np.searchsorted(pages, number))
            if row < len(pages) and pages[row] == number:
                return Tags(f"page {number} of {self.path}", self.header, entries[row], file, self.size)
        raise NiddlError(f"{self.path} has {len(self)} pages, and no page {number}")

    def page(self, file: BinaryIO, number: int) -> Page:
        """Return what the tags of a page of the open file say of its values."""
        if number not in self._parsed:
            self._parsed[number] = page_of(self.tags(file, number))
        return self._parsed[number]

    def require_whole(self, file: BinaryIO, most: int) -> None:
        """Raise for the first page whose values end outside the file; of longer files, ``most`` pages are checked."""
        unknown = np.flatnonzero(self.starts(self.page(file, 0), 0) < 0)
        step = max(1, -(-len(unknown) // most))
        for number in {*unknown[::step].tolist(), *unknown[-1:].tolist()}:
            page_of(self.tags(file, int(number)))


def _is_inside(entries: np.ndarray) -> np.ndarray:
    """Say of every tag whether its value stands in the directory itself."""
    sizes = _SIZES_BY_TYPE[np.minimum(entries["type"], len(_SIZES_BY_TYPE) - 1)]
    return np.asarray(sizes * entries["count"].astype(float) <= entries["value"].dtype.itemsize)


def _alike(entries: np.ndarray) -> np.ndarray:
    """Say of every page (page, tag) whether it agrees with the first in all that decoding depends on."""
    chosen = entries[:, np.isin(entries["code"][0], DECODING)]
    first = chosen[0]
    same = (chosen["type"] == first["type"]) & (chosen["count"] == first["count"])
    same &= (chosen["value"] == first["value"]) | ~_is_inside(first)
    return np.asarray((entries["code"] == entries["code"][0]).all(axis=1) & same.all(axis=1))


def _decoding_of(entries: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Return the tags of a page that decoding depends on; of values elsewhere in the file, only how many there are."""
    columns = (entries[name].tolist() for name in ("code", "type", "count", "value"))
    rows: dict[int, tuple[int, ...]] = {}
    for *tag, inside in zip(*columns, _is_inside(entries).tolist(), strict=True):
        rows.setdefault(tag[0], tuple(tag if inside else tag[:3]))
    return tuple(rows[code] for code in DECODING if code in rows)


def directories(path: Path) -> Directories:
    """Follow the list of pages of a TIFF once.

    Raises
    ------
    NiddlError
        Where the file is no TIFF, or the list leads outside the file or in a circle.
    """
    with damage_named(f"{path} is not a TIFF that can be read"), path.open("rb", buffering=0) as file:
        size, header = file_size(file), read_header(file)
        found = list(walk(file, header, size))
    if not found:
        raise NiddlError(f"{path} holds no readable page: {REMEDY}")
    lengths = np.array([len(entries) for _, entries in found])
    groups = []
    for length in np.unique(lengths):
        pages = np.flatnonzero(lengths == length)
        joined = b"".join(found[page][1] for page in pages.tolist())
        groups.append((pages, np.frombuffer(joined, header.entry).reshape(len(pages), -1)))
    return Directories(path, size, header, np.array([offset for offset, _ in found]), tuple(groups))
