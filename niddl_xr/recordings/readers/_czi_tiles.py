"""The tiles of a CZI: segments of the file, the directory of sub-blocks, and how the counts of one are decoded."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import BinaryIO

import numpy as np

from niddl_xr.recordings.readers._jpeg_xr import decode_jpeg_xr
from niddl_xr.schema import NiddlError

_SEGMENT = struct.Struct("<16sqq")  # name, bytes allocated, bytes used
_FILE = struct.Struct("<4i16s16siqqiq")  # version, identities, part, where directory, metadata and attachments begin
_BLOCK = struct.Struct("<iiq")  # bytes of metadata, attachment and data of a sub-block
_ENTRY_BYTES, _DIM_BYTES = 32, 20
_ENTRY = np.dtype(
    [
        ("schema", "S2"),
        ("pixel", "<i4"),
        ("position", "<i8"),
        ("part", "<i4"),
        ("compression", "<i4"),
        ("spare", "V6"),
        ("dims", "<i4"),
    ]
)
_DIM = np.dtype([("letter", "S4"), ("start", "<i4"), ("size", "<i4"), ("coordinate", "<f4"), ("stored", "<i4")])
UNCOMPRESSED, JPEG_XR, ZSTD, ZSTD_PACKED = 0, 4, 5, 6
_LETTERS = "TZCSMXY"  # dims with a meaning here; others must have one element


@dataclass(frozen=True)
class Tiles:
    """The tiles of full resolution in a file: arrays with one element a tile.

    ``dims`` holds the start along T, Z, C, S, M, X, Y, ``width`` and ``height`` are in pixels, ``position`` is where
    the sub-block begins. ``other`` are the dims beside these that have several starts.
    """

    position: np.ndarray
    pixel: np.ndarray
    compression: np.ndarray
    dims: dict[str, np.ndarray]
    width: np.ndarray
    height: np.ndarray
    other: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.position)

    def where(self, chosen: np.ndarray) -> Tiles:
        """Return the tiles for which ``chosen`` is true."""
        names = ("position", "pixel", "compression", "width", "height")
        dims = {letter: starts[chosen] for letter, starts in self.dims.items()}
        return replace(self, dims=dims, **{name: getattr(self, name)[chosen] for name in names})


def enter(file: BinaryIO, position: int, name: bytes, least: int, where: str) -> tuple[int, int]:
    """Return where the data of a segment begin and how many bytes there are, after a check of its header."""
    size = os.fstat(file.fileno()).st_size
    if not 0 <= position <= size - _SEGMENT.size - least:
        raise NiddlError(f"{where} is cut short: it should begin at byte {position}, but the file has {size}")
    file.seek(position)
    found, allocated, used = _SEGMENT.unpack(file.read(_SEGMENT.size))
    if found.rstrip(b"\0") != name:
        raise NiddlError(f"{where} is damaged: no {name.decode()} begins at byte {position}")
    length = used if 0 < used <= allocated else allocated
    start: int = position + _SEGMENT.size
    if not 0 <= length <= size - start:
        raise NiddlError(f"{where} is cut short: it should end at byte {start + length}, but the file has {size}")
    return start, length


def header_of(file: BinaryIO, path: str) -> tuple[int, int, int]:
    """Return where the directory, the metadata and the list of attachments begin; 0 where there is none."""
    start, _ = enter(file, 0, b"ZISRAWFILE", _FILE.size, path)
    file.seek(start)
    fields = _FILE.unpack(file.read(_FILE.size))
    part, directory, metadata, attachments = fields[6], fields[7], fields[8], fields[10]
    if part != 0:
        raise NiddlError(f"{path} is part {part} of a recording in several files, which is not read; save it as one")
    if directory <= 0:
        raise NiddlError(f"{path} has no directory of its tiles; was its recording cut short? open and save it in ZEN")
    return directory, metadata, attachments


@lru_cache(maxsize=8)
def tiles_of(path: str, modified_ns: int) -> Tiles:
    """Return the tiles of full resolution of a file; every one begins within it, and the last one ends there.

    Parameters
    ----------
    path
        The file.
    modified_ns
        When it was last written: a file that changed is read again.
    """
    with open(path, "rb") as file:
        directory, _, _ = header_of(file, path)
        where = f"the directory of {path}"
        start, length = enter(file, directory, b"ZISRAWDIRECTORY", 128, where)
        file.seek(start)
        count = int.from_bytes(file.read(4), "little")
        file.seek(start + 128)
        listing = file.read(length - 128)
        tiles = _parse(listing, count, where)
        size = os.fstat(file.fileno()).st_size
        late = tiles.position + _SEGMENT.size + 256 > size
        if np.any(late | (tiles.position <= 0)):
            raise NiddlError(
                f"{path} is cut short: {np.count_nonzero(late)} of {len(tiles)} tiles begin behind its end; copy "
                "it again"
            )
        if len(tiles):
            last = int(tiles.position.max())
            enter_block(file, last, f"the sub-block at byte {last} of {path}")
    return tiles


def _parse(listing: bytes, count: int, where: str) -> Tiles:
    """Return the tiles that the entries of a directory describe, without those of pyramids and of attachments."""
    offsets: list[tuple[int, int]] = []
    offset = 0
    for _ in range(count):
        dims = int.from_bytes(listing[offset + 28 : offset + 32], "little")
        end = offset + _ENTRY_BYTES + dims * _DIM_BYTES
        if listing[offset : offset + 2] != b"DV" or not 0 < dims < 64 or end > len(listing):
            raise NiddlError(f"{where} is damaged: entry {len(offsets)} of {count} makes no sense")
        offsets.append((offset, dims))
        offset = end
    if not offsets:
        raise NiddlError(f"{where} is empty: the file has no image")
    table = np.array(offsets, dtype=np.int64)
    data = np.frombuffer(listing, np.uint8)
    starts: dict[str, np.ndarray] = {}
    stored: dict[str, np.ndarray] = {}
    sizes: dict[str, np.ndarray] = {}
    heads = np.empty(count, _ENTRY)
    for dims in np.unique(table[:, 1]).tolist():  # entries of one length at once
        rows = np.flatnonzero(table[:, 1] == dims)
        length = _ENTRY_BYTES + dims * _DIM_BYTES
        raw = data[table[rows, :1] + np.arange(length)]
        heads[rows] = np.ascontiguousarray(raw[:, :_ENTRY_BYTES]).view(_ENTRY)[:, 0]
        described = np.ascontiguousarray(raw[:, _ENTRY_BYTES:]).view(_DIM)
        for letter in np.unique(described["letter"]).tolist():
            at_row, at_dim = np.nonzero(described["letter"] == letter)
            name = letter.decode(errors="replace")
            for found, what in ((starts, "start"), (sizes, "size"), (stored, "stored")):
                found.setdefault(name, np.zeros(count, np.int64))[rows[at_row]] = described[what][at_row, at_dim]
    if not {"X", "Y"} <= set(starts):
        raise NiddlError(f"{where} is damaged: its tiles have no X and Y")
    if np.any(heads["part"] != 0):
        raise NiddlError(f"{where} names other files of the recording, which are not read; save it as one file")
    full = (sizes["X"] == stored["X"]) & (sizes["Y"] == stored["Y"])  # tiles of a pyramid are stored smaller
    other = tuple(sorted(name for name, begun in starts.items() if name not in _LETTERS and len(np.unique(begun)) > 1))
    zero = np.zeros(count, np.int64)
    tiles = Tiles(
        heads["position"].astype(np.int64),
        heads["pixel"],
        heads["compression"],
        {letter: starts.get(letter, zero) for letter in _LETTERS},
        sizes["X"],
        sizes["Y"],
        other,
    ).where(full & (heads["position"] != 0))
    least = min((int(tiles.dims[letter].min()) for letter in "TZCS"), default=-1) if len(tiles) else -1
    if least < 0 or np.any((tiles.width <= 0) | (tiles.height <= 0)):
        raise NiddlError(f"{where} is damaged: expected tiles of one pixel or more, with numbers from 0")
    return tiles


def enter_block(file: BinaryIO, position: int, where: str) -> tuple[int, int]:
    """Return where the pixels of a sub-block begin and how many bytes they have."""
    start, _ = enter(file, position, b"ZISRAWSUBBLOCK", 256, where)
    head = file.read(_BLOCK.size + _ENTRY_BYTES)
    metadata, _, size = _BLOCK.unpack(head[: _BLOCK.size])
    dims = int.from_bytes(head[-4:], "little")
    entry = _BLOCK.size + _ENTRY_BYTES + dims * _DIM_BYTES
    begin: int = start + max(256, entry) + metadata
    end = os.fstat(file.fileno()).st_size
    if min(metadata, size) < 0 or begin + size > end:
        raise NiddlError(f"{where} is cut short: it should end at byte {begin + size}, but the file has {end}")
    return begin, size


def decode(
    file: BinaryIO, size: int, compression: int, stored: str, wanted: tuple[int, int, int, int, int], where: str
) -> np.ndarray:
    """Return the wanted rows (first, last, of height, width, components) of a tile as (y, x, component)."""
    first, last, height, width, components = wanted
    row_bytes = width * components * np.dtype(stored).itemsize
    if compression == UNCOMPRESSED:
        if size < height * row_bytes:
            raise NiddlError(f"{where} is cut short: expected {height * row_bytes} bytes of counts, got {size}")
        file.seek(first * row_bytes, os.SEEK_CUR)
        values = np.frombuffer(file.read((last - first) * row_bytes), stored)
        return values.reshape(last - first, width, components)
    data = file.read(size)
    if compression == JPEG_XR:
        decoded = decode_jpeg_xr(data, (height, width, components), stored, where)
    else:
        decoded = _decode_zstd(data, height * row_bytes, compression == ZSTD_PACKED, np.dtype(stored).itemsize, where)
        decoded = decoded.view(stored).reshape(height, width, components)
    return decoded[first:last]


def _decode_zstd(data: bytes, size: int, headed: bool, itemsize: int, where: str) -> np.ndarray:
    """Return the bytes of a Zstandard tile; with a header, which says whether low and high bytes lie apart."""
    import imagecodecs

    packed, begin = False, 0
    if headed:
        begin = data[0]
        if begin not in (1, 3) or (begin == 3 and data[1] != 1):
            raise NiddlError(f"{where} has a header of its compression that is not known")
        packed = begin == 3 and bool(data[2] & 1)
    if size > 65536 * max(1, len(data)):  # the most that a byte of Zstandard can stand for
        raise NiddlError(f"{where} is damaged: its {len(data)} bytes cannot hold {size} bytes of counts")
    decoded = np.frombuffer(imagecodecs.zstd_decode(data[begin:], out=size), np.uint8)
    if decoded.size != size:
        raise NiddlError(f"{where} is damaged: it holds {decoded.size} bytes of counts, expected {size}")
    if packed:
        decoded = np.ascontiguousarray(decoded.reshape(itemsize, -1).T).ravel()
    return decoded
