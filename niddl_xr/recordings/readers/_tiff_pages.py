"""The pages of a TIFF: how large they are, where their values lie, and what these are.

Every number of the file is held against its size before anything is read or allocated. Decoding is tifffile's, which
is shown the few checked tags that it needs and never the file.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers._lazy import read_into
from niddl_xr.recordings.readers._tiff_tags import REMEDY, SIZES, Header, Tags, file_size, read_at, read_header, walk
from niddl_xr.schema import NiddlError

# How many times larger than stored the values of one segment can be, for every compression that is read. Zstandard
# may repeat 128 KiB in 4 bytes, LZMA 273 bytes in a fraction of one; JPEG 2000 has no limit, and its own header is
# checked, as is that of PNG.
_EXPANSION = {1: 1, 5: 2731, 7: 2000, 8: 1040, 32946: 1040, 32773: 64, 34925: 16384, 34933: 1040, 50000: 32768}
_JPEG2000 = (33003, 33004, 33005, 34712)
_NAMES = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "old JPEG", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}
_OFFSETS, _COUNTS = (324, 273), (325, 279)  # of tiles and of strips
_FREE = (270, 305, 306, 315)  # tags of text
# What decoding depends on; pages that agree in these are of one kind.
DECODING = (256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 347, 530, 32997, 32998)


@dataclass(frozen=True)
class Page:
    """What the tags of a page say of its values: dims, dtype in the byte order of the file, and its segments.

    ``shape`` and ``axes`` have y and x, z where a page holds several planes, and S for samples (colours). ``start`` is
    where the values begin if they lie there one after the other, without compression.
    """

    where: str
    shape: tuple[int, ...]
    axes: str
    stored: np.dtype[Any]
    full: tuple[int, int, int, int, int]  # samples apart, z, y, x, samples together
    segment: tuple[int, int, int]  # z, y, x of a strip or tile
    segments: int
    tiled: bool
    compression: int
    packed: int  # bytes of a segment without compression
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    decoding: tuple[tuple[int, int, bytes], ...]
    order: str
    start: int | None
    rgb: bool
    tables: bytes | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded page."""
        return math.prod(self.full) * self.stored.itemsize


def page_of(tags: Tags) -> Page:
    """Return what the tags of a page say of its values, after a check that the file can hold them.

    Raises
    ------
    NiddlError
        For tags that contradict each other or the size of the file, and for a compression or a kind of number that
        is not read.
    """
    full, shape, axes = _dims(tags)
    stored = _dtype(tags)
    compression = tags.number(259, 1)
    if compression not in _EXPANSION and compression not in _JPEG2000:
        name = _NAMES.get(compression, "unknown")
        raise NiddlError(
            f"{tags.where} has compression {compression} ({name}), which is not read; if the file is whole, save it "
            "again without compression, as LZW, deflate or Zstandard"
        )
    segment, grid, tiled = _grid(tags, full)
    page = Page(
        tags.where,
        shape,
        axes,
        stored,
        full,
        segment,
        math.prod(grid),
        tiled,
        compression,
        _packed_bytes(tags, segment[0] * segment[1] * segment[2] * full[4], segment[2] * full[4]),
        (),
        (),
        tuple((code, *found) for code in DECODING if (found := tags.raw(code)) is not None and code != 347),
        tags.header.order,
        None,
        tags.number(262, 1) == 2,
        (tags.raw(347) or (0, None))[1],
    )
    return _with_places(tags, page)


def _with_places(tags: Tags, page: Page) -> Page:
    """Return the page with where its segments lie, after a check that they lie in the file and can hold it."""
    offsets, counts = _places(tags, page.segments)
    if not counts and page.compression == 1:
        counts = (page.packed,) * page.segments
    page = replace(page, where=tags.where, offsets=offsets, counts=counts, start=None)
    _require_room(tags, page)
    return _with_start(tags, page)


def _dims(tags: Tags) -> tuple[tuple[int, int, int, int, int], tuple[int, ...], str]:
    width, height, depth, samples = (tags.number(code, one) for code, one in ((256, 0), (257, 0), (32997, 1), (277, 1)))
    if min(width, height, depth, samples) < 1 or max(width, height, depth) >= 2**31:
        raise NiddlError(f"{tags.where} has {width}×{height} pixels, {depth} planes, {samples} samples: {REMEDY}")
    together = tags.number(284, 1) != 2
    full = (1 if together else samples, depth, height, width, samples if together else 1)
    colours = samples > 1 or tags.number(262, 1) == 2
    axes = f"{'' if together or not colours else 'S'}zyx{'S' if together and colours else ''}"
    kept = [(axis, size) for axis, size in zip("SzyxS", full, strict=True) if axis in "yx" or size > 1]
    shape, letters = tuple(size for _, size in kept), "".join(axis for axis, _ in kept)
    return full, shape, letters if "S" in axes else letters.replace("S", "")


def _dtype(tags: Tags) -> np.dtype[Any]:
    """Return the dtype of the decoded values; packed integers come as the next larger whole bytes."""
    bits, formats = set(tags.numbers(258) or (1,)), set(tags.numbers(339) or (1,))
    what = f"{tags.where} has numbers of {sorted(bits)} bits and format {sorted(formats)}"
    if len(bits) > 1 or len(formats) > 1:
        raise NiddlError(f"{what}; expected one kind of number for all its colours")
    count, kind = bits.pop(), {1: "u", 2: "i", 3: "f", 4: "u", 5: "c", 6: "c"}.get(formats.pop())
    whole = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64), "c": (64, 128)}.get(kind or "", ())
    if count in whole:
        return np.dtype(f"{tags.header.order}{kind}{count // 8}")
    if kind == "u" and count == 1:
        return np.dtype(bool)
    if kind == "u" and 1 < count < 32:
        return np.dtype(f"{tags.header.order}u{1 if count < 8 else 2 if count < 16 else 4}")
    raise NiddlError(f"{what}; expected integers or floating-point numbers")


def _grid(
    tags: Tags, full: tuple[int, int, int, int, int]
) -> tuple[tuple[int, int, int], tuple[int, int, int, int], bool]:
    """Return z, y, x of a strip or tile, how many there are along samples, z, y, x, and whether they are tiles."""
    apart, depth, height, width, _ = full
    if 322 in tags.places:
        size = (tags.number(32998, 1), tags.number(323, 0), tags.number(322, 0))
        if min(size) < 1 or max(size) >= 2**31:
            raise NiddlError(f"{tags.where} has tiles of {size} (z, y, x): {REMEDY}")
        return size, (apart, -(-depth // size[0]), -(-height // size[1]), -(-width // size[2])), True
    rows = tags.numbers(278)
    step = min(rows[0], height) if len(rows) == 1 else height
    if step < 1:
        raise NiddlError(f"{tags.where} has strips of {step} rows: {REMEDY}")
    return (1, step, width), (apart, depth, -(-height // step), 1), False


def _places(tags: Tags, expected: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the segments begin and how many bytes they have; no counts where the file leaves them out."""
    offsets, counts = (
        next((tags.numbers(code, expected) for code in codes if code in tags.places), ())
        for codes in (_OFFSETS, _COUNTS)
    )
    if len(offsets) < expected or (counts and len(counts) < expected):
        raise NiddlError(
            f"{tags.where} names {len(offsets)} offsets and {len(counts)} lengths of its {expected} strips or tiles: "
            f"{REMEDY}"
        )
    return offsets, counts


def _packed_bytes(tags: Tags, values: int, row: int) -> int:
    """Return the bytes of so many values without compression, rows filled up to whole bytes."""
    bits = tags.number(258, 1)
    return values * bits // 8 if bits % 8 == 0 else values // row * -(-row * bits // 8)


def _require_room(tags: Tags, page: Page) -> None:
    """Raise where the segments lie outside the file, or cannot hold what the page is said to hold."""
    if not page.counts:
        raise NiddlError(f"{tags.where} does not say how many bytes its compressed strips have: {REMEDY}")
    if not any(page.counts):
        raise NiddlError(f"{tags.where} was never written: it names no data; take a copy of the file that is complete")
    end = max(start + count for start, count in zip(page.offsets, page.counts, strict=True))
    if end > tags.size or (page.compression == 1 and page.packed > tags.size):
        raise NiddlError(f"{tags.where} ends at byte {max(end, page.packed)}, but the file has {tags.size}: {REMEDY}")
    most = _EXPANSION.get(page.compression, 0)
    if most and page.packed > most * max(page.counts) + 64:
        raise NiddlError(f"{tags.where} cannot hold {page.packed} bytes of a strip in {max(page.counts)}: {REMEDY}")
    if page.nbytes > max(2**40, 2 * tags.size):
        raise NiddlError(f"{tags.where} has {page.full} values, which no file of {tags.size} bytes holds: {REMEDY}")


def _with_start(tags: Tags, page: Page) -> Page:
    """Return the page with the place of its values, if they lie one after the other without compression."""
    bits = tags.number(258, 1)
    plain = page.compression == 1 and not page.tiled and bits in (8, 16, 32, 64) and page.stored.kind in "uif"
    if not plain or tags.number(317, 1) != 1 or tags.number(266, 1) != 1:
        return page
    rows = page.full[2] % page.segment[1] or page.segment[1]
    row = page.full[3] * page.full[4] * page.stored.itemsize
    sizes = [page.segment[1] * row] * (-(-page.full[2] // page.segment[1]) - 1) + [rows * row]
    sizes *= page.full[0] * page.full[1]
    follow = all(
        start + size == following for start, size, following in zip(page.offsets, sizes, page.offsets[1:], strict=False)
    )
    long_enough = all(count >= size for count, size in zip(page.counts, sizes, strict=True))
    if not follow:
        return page
    if not long_enough or page.offsets[0] + page.nbytes > tags.size:
        raise NiddlError(f"{tags.where} names fewer than its {page.nbytes} bytes: {REMEDY}")
    return replace(page, start=page.offsets[0])


class PageReader:
    """Reads pages of one file, which it holds open; a page that has the tags of the one before is not parsed anew."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._like: _Like | None = None

    def __enter__(self) -> PageReader:
        self._size, self._header = file_size(self._file), read_header(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(
        self, number: int, place: int, shape: tuple[int, ...], crop: tuple[slice, ...], room: np.ndarray | None
    ) -> np.ndarray:
        """Return a part of a page, in native byte order.

        Parameters
        ----------
        number
            The page, counted from 0.
        place
            The byte of the file at which its directory lies; -1 to follow the list of pages.
        shape
            The shape that the page must have.
        crop
            Slices of positive step along the dims of the page; only the strips or tiles that they touch are decoded.
        room
            Where a whole page may be put, if its dtype is that of the page; then it is what is returned.
        """
        file, size, header = self._file, self._size, self._header
        offset = _offset_of(file, header, size, number) if place < 0 else place
        _, data = next(walk(file, header, size, offset), (0, b""))
        where = f"page {number} of {self.path}"
        tags = Tags(where, header, np.frombuffer(data, header.entry), file, size)
        if self._like is not None and self._like.fits(data):
            tags.__dict__["places"] = self._like.places
            page = _with_places(tags, self._like.page)
        else:
            page = page_of(tags)
            self._like = _Like(page, tags.places, data, header)
        if page.shape != shape:
            raise NiddlError(f"{where} has the shape {page.shape}, expected {shape} as in the pages before it")
        if room is not None and room.dtype == page.stored.newbyteorder("="):
            if page.start is None:
                _decode(file, page, size, crop, room.reshape(page.full))
            else:
                read_into(self._file, page.start, room, page.stored)
            return room
        if page.start is not None:
            return self._lines(page, crop)
        values: np.ndarray = np.empty(page.full, page.stored.newbyteorder("="))
        _decode(file, page, size, crop, values)
        return values.reshape(page.shape)[crop]

    def _lines(self, page: Page, crop: tuple[slice, ...]) -> np.ndarray:
        """Return a part of a page that lies in the file as it is, of which the lines are read that hold it."""
        first, last = crop[0].start, crop[0].stop
        values: np.ndarray = np.empty((last - first, *page.shape[1:]), page.stored.newbyteorder("="))
        line = math.prod(page.shape[1:]) * page.stored.itemsize
        read_into(self._file, (page.start or 0) + first * line, values, page.stored)
        return values[(slice(None, None, crop[0].step), *crop[1:])]


class _Like:
    """A page, and how to see that another one differs from it only in where its values lie and what it says."""

    def __init__(self, page: Page, places: dict[int, int], data: bytes, header: Header) -> None:
        self.page, self.places = page, places
        row, value = header.entry.itemsize, header.entry.fields["value"][1]  # type: ignore[index]
        self._free = [
            slice(place * row + (4 if code in _FREE else value), (place + 1) * row)
            for code, place in places.items()
            if code in (*_FREE, *_OFFSETS, *_COUNTS)
        ]
        self._fixed = self._masked(data)

    def _masked(self, data: bytes) -> bytearray:
        masked = bytearray(data)
        for part in self._free:
            masked[part] = bytes(part.stop - part.start)
        return masked

    def fits(self, data: bytes) -> bool:
        """Say whether the tags of another page are the same."""
        return len(data) == len(self._fixed) and self._masked(data) == self._fixed


def _offset_of(file: BinaryIO, header: Header, size: int, number: int) -> int:
    for page, (offset, _) in enumerate(walk(file, header, size)):
        if page == number:
            return offset
    raise NiddlError(f"{file.name} has no page {number}: {REMEDY}")


def _decode(file: BinaryIO, page: Page, size: int, crop: Sequence[slice], values: np.ndarray) -> None:
    """Decode the strips or tiles of a page that the crop touches; the other values stay as they are."""
    decode = _decoder(page.decoding, page.order, page.segments, page.tiled)
    wanted = dict(zip(page.axes, crop, strict=True))
    options = {"jpegtables": page.tables} if page.compression == 7 else {}
    tall, wide = page.segment[1:]
    down, across = -(-page.full[2] // tall), -(-page.full[3] // wide)
    for index, (start, count) in enumerate(zip(page.offsets, page.counts, strict=True)):
        top, left = index // across % down * tall, index % across * wide
        if not (_touches(wanted["y"], top, tall) and _touches(wanted["x"], left, wide)):
            continue
        data = read_at(file, start, count, size, page.where) if count else None
        if data is not None:
            _require_honest(page, data)
        elif start:
            raise NiddlError(f"{page.where} has a strip or tile of 0 bytes: {REMEDY}")
        block, (sample, z, y, x, _), shape = decode(data, index, **options)
        room = values[sample, z : z + shape[0], y : y + shape[1], x : x + shape[2]]
        if block is None:  # a tile that was left out, by convention of GDAL's sparse files: zeros
            room[...] = 0
        else:
            room[...] = block[: room.shape[0], : room.shape[1], : room.shape[2]]


def _touches(wanted: slice, first: int, length: int) -> bool:
    return bool(first < wanted.stop and first + length > wanted.start)


def _require_honest(page: Page, data: bytes) -> None:
    """Raise where a JPEG within a page says that it is larger than the strip or tile it stands for."""
    if page.compression == 7:
        height, width = _jpeg_size(data)
    elif page.compression == 34933:
        if len(data) < 24 or data[12:16] != b"IHDR":
            raise NiddlError(f"{page.where} holds no PNG: {REMEDY}")
        width, height = struct.unpack_from(">2I", data, 16)
    elif page.compression in _JPEG2000:
        place = data.find(b"\xff\x4f\xff\x51")
        if place < 0 or place + 24 > len(data):
            raise NiddlError(f"{page.where} holds no JPEG 2000: {REMEDY}")
        width, height, left, top = struct.unpack_from(">4I", data, place + 8)
        height, width = height - top, width - left
    else:
        return
    if height > page.segment[1] or width > page.segment[2]:
        raise NiddlError(f"{page.where} holds {height}×{width} pixels in a strip or tile of {page.segment}: {REMEDY}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return the height and width that a JPEG states, zeros where it states none."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = struct.unpack_from(">BH", data, place + 1)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width
        place += 2 + length
    return 0, 0


@lru_cache(maxsize=64)
def _decoder(decoding: tuple[tuple[int, int, bytes], ...], order: str, segments: int, tiled: bool) -> Any:
    """Return tifffile's function that decodes the segments of pages with these tags.

    tifffile is given a TIFF of the tags alone, made here in memory.
    """
    import tifffile

    places = (324, 325) if tiled else (273, 279)
    zeros = struct.pack(f"{order}{segments}I", *[0] * segments)
    tags = sorted([*decoding, *((code, 4, zeros) for code in places)])
    after = 8 + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for code, kind, data in tags:
        count = len(data) // SIZES[kind]
        if kind in (16, 18):  # of BigTIFF
            kind, data = 4, struct.pack(f"{order}{count}I", *struct.unpack(f"{order}{count}Q", data))
        if len(data) <= 4:
            place = data.ljust(4, b"\0")
        else:
            place = struct.pack(f"{order}I", after + len(values))
            values += data
        entries += struct.pack(f"{order}HHI", code, kind, count) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, len(tags))
    with tifffile.TiffFile(io.BytesIO(head + entries + bytes(4) + values), name="tags") as tif:
        return tif.pages.first.decode
