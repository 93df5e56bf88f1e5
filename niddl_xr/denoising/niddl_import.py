"""Reads the authors' trained NIDDL networks: TensorFlow 1 checkpoints, without TensorFlow.

A checkpoint is two files. ``model.index`` is a sorted table in LevelDB's format (github.com/google/leveldb,
doc/table_format.md) from tensor names to ``BundleEntryProto`` messages (tensorflow/core/protobuf/tensor_bundle.proto):
dtype, shape, offset, size and checksum. ``model.data-00000-of-00001`` holds the tensors one after another.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION, Denoiser
from niddl_xr.schema import NiddlError

_FOOTER_BYTES = 48
_TABLE_MAGIC = 0xDB4775248B80FB57
_FLOAT32 = 1  # DT_FLOAT in tensorflow/core/framework/types.proto
_CRC_MASK_DELTA = 0xA282EAD8  # LevelDB stores checksums rotated by 15 bits plus this number

# Order in which the authors' code makes the variables W1, B1, W2, B2, …, as names of our parameters.
_UNET_FIXED = [
    *[f"encoders.{level}.{2 * i}" for level in range(5) for i in range(3)],
    *[
        name
        for level in range(4)
        for name in (f"upsamplers.{level}.transposed", *(f"decoders.{level}.{2 * i}" for i in range(3)))
    ],
    "head.convolution",
]
_HOURGLASS_WRES = [
    "stem.0",
    *[f"encoders.{level}.triple.{2 * i}" for level in range(4) for i in range(3)],
    *[f"sides.{level}.triple.{2 * i}" for level in range(3) for i in range(3)],
    *[
        name
        for level in range(3)
        for name in (f"upsamplers.{level}.transposed", *(f"decoders.{level}.triple.{2 * i}" for i in range(3)))
    ],
    "head.convolution",
]
_ORDERS = {"hourglass_wres": _HOURGLASS_WRES, "unet_fixed": _UNET_FIXED}


@dataclass(frozen=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def import_niddl(folder: str | os.PathLike[str]) -> Denoiser:
    """Import a network that the authors of NIDDL, or their code, trained.

    Parameters
    ----------
    folder
        A run folder with the TensorFlow 1 checkpoint ``model.index`` and ``model.data-00000-of-00001``, such as
        ``run_hourglass_wres_l2_mp1_m2D_d1_2_317``. The network is recognised by its tensors, not by that name.

    Returns
    -------
    Denoiser
        Works on raw counts, as NIDDL does: no normalisation, float32 result without the original's rounding down.

    Raises
    ------
    FileNotFoundError
        If the two files are not there.
    NiddlError
        If they are damaged, do not belong together, or hold another network than unet_fixed or hourglass_wres.

    Notes
    -----
    Chaudhary, Moon and Lu, Nat Commun 13:5165 (2022). Kernels (y, x, in, out) and transposed kernels
    (y, x, out, in) both become torch's layout by the permutation (3, 2, 0, 1).

    Examples
    --------
    >>> denoiser = import_niddl("run_hourglass_wres_l2_mp1_m2D_d1_2_317")  # doctest: +SKIP
    """
    source = Path(folder)
    index_path, data_path = source / "model.index", source / "model.data-00000-of-00001"
    for path in (index_path, data_path):
        if not path.is_file():
            raise FileNotFoundError(
                f"no {path.name} in {source.absolute()}: expected a NIDDL run folder with model.index and "
                "model.data-00000-of-00001"
            )
    entries = _read_index(index_path)
    tensors = _read_tensors(data_path, entries)
    name, weights = _recognise(tensors, source)
    return Denoiser(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "method": "niddl",
            "mode": "2d",
            "network": {"name": name, "options": {"output": "relu"}},
            "parameters": int(sum(array.size for array in weights.values())),
            "residual": False,
            "normalisation": "none",
            "halo_frames": 0,
            "data": {"source": source.name},
        },
        weights,
    )


def _recognise(tensors: dict[str, np.ndarray], source: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the network's name and its weights by our parameter names."""
    variables = {name: tensor for name, tensor in tensors.items() if name[:1] in "WB" and name[1:].isdigit()}
    for network, order in _ORDERS.items():
        wanted = {f"{kind}{number}" for number in range(1, len(order) + 1) for kind in "WB"}
        if set(variables) == wanted:
            weights = {}
            for number, parameter in enumerate(order, start=1):
                weights[f"{parameter}.weight"] = variables[f"W{number}"].transpose(3, 2, 0, 1).copy()
                weights[f"{parameter}.bias"] = variables[f"B{number}"]
            return network, weights
    counts = {network: len(order) for network, order in _ORDERS.items()}
    raise NiddlError(
        f"{source} holds {len(variables) // 2} layers; expected a network of NIDDL with as many as one of {counts}"
    )


def _read_tensors(path: Path, entries: list[_Entry]) -> dict[str, np.ndarray]:
    """Read all tensors, and check that index and data belong together: extent, order, checksums."""
    from google_crc32c import value as crc32c

    size = path.stat().st_size
    expected = max(entry.offset + entry.size for entry in entries)
    if size != expected:
        raise NiddlError(
            f"{path} has {size} bytes, its index describes {expected}: the two files do not belong together, or one "
            "is cut off; copy both again"
        )
    content = path.read_bytes()
    tensors = {}
    for entry in entries:
        raw = content[entry.offset : entry.offset + entry.size]
        if _masked(crc32c(raw)) != entry.checksum:
            raise NiddlError(f"{path} is damaged: the checksum of tensor {entry.name} is wrong; copy the file again")
        tensors[entry.name] = np.frombuffer(raw, "<f4").reshape(entry.shape)
    return tensors


def _masked(checksum: int) -> int:
    return (((checksum >> 15) | (checksum << 17)) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def _read_index(path: Path) -> list[_Entry]:
    content = path.read_bytes()
    try:
        entries = [_entry(key, value) for key, value in _table(content) if key]
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise NiddlError(f"{path} is not a readable TensorFlow checkpoint index ({error}); copy it again") from error
    if not entries:
        raise NiddlError(f"{path} lists no tensors; expected a NIDDL checkpoint")
    for entry in entries:
        if entry.size != 4 * int(np.prod(entry.shape, dtype=np.int64)):
            raise NiddlError(f"{path}: tensor {entry.name} of shape {entry.shape} cannot have {entry.size} bytes")
    return entries


def _table(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and values of a LevelDB table."""
    footer = content[-_FOOTER_BYTES:]
    if len(content) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC:
        raise ValueError("the table's closing mark is missing")
    _, position = _varint(footer, 0)  # offset and size of the meta-index, which we do not need
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    for _, handle in _block(content, offset, size):
        block_offset, position = _varint(handle, 0)
        block_size, _ = _varint(handle, position)
        for key, value in _block(content, block_offset, block_size):
            yield key.decode(), value


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one block; keys share a prefix with the key before."""
    if offset + size + 1 > len(content):
        raise ValueError("a block lies beyond the end of the file")
    if content[offset + size] != 0:
        raise ValueError("the table is compressed, which TensorFlow never does")
    block = content[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Return a variable-length integer and the position behind it."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of every field of a protocol-buffers message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            integer, position = _varint(message, position)
            yield number, integer
        elif wire_type == 2:
            length, position = _varint(message, position)
            yield number, message[position : position + length]
            position += length
        elif wire_type == 5:
            yield number, struct.unpack("<I", message[position : position + 4])[0]
            position += 4
        else:
            raise ValueError(f"unknown wire type {wire_type}")


def _entry(name: str, message: bytes) -> _Entry:
    """Read a BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum."""
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: list[int] = []
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes):
            for dim_number, dim in _fields(value):
                if dim_number == 2 and isinstance(dim, bytes):
                    shape.append(next((size for n, size in _fields(dim) if n == 1 and isinstance(size, int)), 0))
        elif number in numbers and isinstance(value, int):
            numbers[number] = value
    if numbers[1] != _FLOAT32 or numbers[3] != 0:
        raise ValueError(f"tensor {name} is not float32 in the first data file")
    return _Entry(name, tuple(shape), numbers[4], numbers[5], numbers[6])
