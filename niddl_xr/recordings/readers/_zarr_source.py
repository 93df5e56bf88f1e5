"""Arrays of zarr stores, in folders and zip files, that pickle; nothing is decoded before its codecs are known."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers._frames import Stored
from niddl_xr.recordings.readers._lazy import DAMAGE, damage_named, modified_ns
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import zarr

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
DAMAGED = (*DAMAGE, AttributeError, SystemError, zipfile.BadZipFile)  # the third, of blosc for sizes below 0
_MANY_BYTES = 2**28  # beyond which a store must have some of the chunks that it states
_PROBES = 64
_MOST_CHUNK_BYTES = 2**31
# What turns bytes into numbers and does nothing else; unpickling is a codec, too.
_COMPRESSORS = ("blosc", "zstd", "gzip", "zlib", "bz2", "lz4", "lzma", "zfpy", "pcodec")
_FILTERS = ("shuffle", "delta", "fixedscaleoffset", "quantize", "packbits", "bitround", "astype", "transpose")
_CHECKS = ("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3")
_CODECS = {*_COMPRESSORS, *_FILTERS, *_CHECKS, "bytes", "endian", "sharding_indexed", "vlen-utf8"}


@dataclass(frozen=True)
class Place:
    """A group or array of a store: the folder or zip file, and the path within it."""

    root: str
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.root}/{self.inner}" if self.inner else self.root

    def within(self, name: str) -> Place:
        """Return what a name that the store states leads to, which must not lead out of it."""
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise NiddlError(f"{self} names {name!r}, which leads out of the store")
        return replace(self, inner=str(PurePosixPath(self.inner, name)).removeprefix("./"))

    def modified(self) -> int:
        """Return when its metadata were last written, in ns."""
        root = Path(self.root)
        files = [root] if root.is_file() else [root / self.inner / name for name in METADATA]
        return max((modified_ns(file) for file in files if file.is_file()), default=0)


def has_metadata(folder: Path) -> bool:
    """Say whether a folder is a group or array of zarr."""
    return any((folder / name).is_file() for name in METADATA)


def open_node(place: Place) -> zarr.Array[Any] | zarr.Group:
    """Return the group or the array at a place, by its own metadata, not by the copy that a store may have of them."""
    import zarr

    store, inner = _store(place.root), place.inner
    try:
        return zarr.open_group(store, path=inner, mode="r", use_consolidated=False)
    except (zarr.errors.ContainsArrayError, zarr.errors.GroupNotFoundError, zarr.errors.NodeTypeValidationError):
        return decodable(zarr.open_array(store, path=inner, mode="r"), place)


@dataclass(frozen=True)
class ZarrSource(Stored):
    """An array of a zarr store by its place; missing chunks read as the fill value, as zarr has it.

    Of the dims of the array, ``kept`` are those of this source; the others have size 1.
    """

    root: str
    inner: str
    stored_shape: tuple[int, ...]
    kept: tuple[int, ...]
    stored: str
    modified_ns: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dims that are kept."""
        return tuple(self.stored_shape[dim] for dim in self.kept)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        place = Place(self.root, self.inner)
        with damage_named(f"the zarr array {place} could not be read", DAMAGED):
            cuts = dict(zip(self.kept, key, strict=True))
            array = _array(place, self.modified_ns)
            if array.shape != self.stored_shape:
                raise NiddlError(f"the zarr array {place} had shape {self.stored_shape}, now {array.shape}")
            values = np.asarray(array[tuple(cuts.get(dim, slice(0, 1)) for dim in range(array.ndim))])
            dropped = tuple(dim for dim in range(array.ndim) if dim not in self.kept)
            return np.squeeze(values, axis=dropped)


@lru_cache(maxsize=16)
def _array(place: Place, modified: int) -> zarr.Array[Any]:
    import zarr

    return decodable(zarr.open_array(_store(place.root), path=place.inner, mode="r"), place)


def _store(root: str) -> Any:
    from zarr.storage import ZipStore

    return ZipStore(root, mode="r") if Path(root).is_file() else root


def decodable(array: zarr.Array[Any], place: Place) -> zarr.Array[Any]:
    """Return an array if all of its codecs are known to do nothing but to decode numbers or text."""
    unknown = sorted(set(_codec_names(array.metadata.to_dict())) - _CODECS)
    if unknown:
        raise NiddlError(
            f"the zarr array {place} is encoded with {', '.join(unknown)}, which is not known to be safe; known: "
            f"{', '.join(sorted(_CODECS))}"
        )
    return array


def _codec_names(metadata: Any) -> Iterator[str]:
    """Yield the names of all codecs in the metadata of an array of zarr 2 or 3, those within shards too."""
    for key in ("compressor", "filters", "codecs", "index_codecs"):
        listed = metadata.get(key) or ()
        for codec in (listed,) if isinstance(listed, Mapping) else listed:
            name = str(codec.get("id") or codec.get("name")).removeprefix("numcodecs.")
            if not name.startswith("imagecodecs_"):
                yield name
            yield from _codec_names(codec.get("configuration") or {})


def make_source(place: Place, array: zarr.Array[Any], kept: Sequence[int]) -> ZarrSource:
    """Return an array to read from later; refuse what is not counts, is empty, or has sizes that cannot be true."""
    if array.dtype.kind not in "uif":
        raise NiddlError(f"{place} holds {array.dtype}; expected integer or floating-point counts")
    if 0 in array.shape:
        raise NiddlError(f"{place} is empty: its shape is {array.shape}")
    _require_chunks(place, array)
    return ZarrSource(place.root, place.inner, tuple(array.shape), tuple(kept), array.dtype.str, place.modified())


def _require_chunks(place: Place, array: zarr.Array[Any]) -> None:
    """Refuse sizes that nothing in the store speaks for: they would fill the memory with zeros."""

    chunk = array.shards or array.chunks
    if math.prod(chunk) * array.dtype.itemsize > max(_MOST_CHUNK_BYTES, 4 * array.nbytes):
        raise NiddlError(f"{place} states chunks of {chunk}, larger than zarr can write: it is damaged")
    if array.nbytes < _MANY_BYTES or not Path(place.root).is_dir():
        return
    folder = Path(place.root, place.inner)
    grid = [-(-size // length) for size, length in zip(array.shape, chunk, strict=True)]
    total = math.prod(grid)
    for at in range(min(_PROBES, total)):
        index = [int(place_) for place_ in np.unravel_index(at * total // min(_PROBES, total), grid)]
        if (folder / array.metadata.encode_chunk_key(tuple(index))).is_file():
            return
    raise NiddlError(f"{place} states {array.shape} in {total} chunks, but none of those looked for is there")
