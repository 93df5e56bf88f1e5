"""ICS, the Image Cytometry Standard: a text header, and the counts in an .ids beside it (1.0) or behind it (2.0).

Layout: Dean et al., Cytometry 11:561 (1990); https://svi.nl/IcsFormat.
"""

from __future__ import annotations

import gzip
import math
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._frames import Stored
from niddl_xr.recordings.readers._lazy import (
    Contiguous,
    Source,
    choose_channel,
    damage_named,
    lazy,
    modified_ns,
    require_axes,
)
from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.schema import NiddlError

READER = Reader("ICS, the Image Cytometry Standard", suffixes=(".ics",))
_HEADER_BYTES = 1 << 20  # a header is text of some kB
_LETTERS = {"x": "x", "y": "y", "z": "z", "t": "t", "time": "t", "ch": "c", "c": "c", "channel": "c", "probe": "c"}
_DEFLATE_LIMIT = 1100  # no byte of deflate can stand for more
_UNPACKED_BYTES = 1 << 27  # of a packed file that becomes one block
_LOCK = threading.Lock()
_OPEN: dict[tuple[int, str, int], gzip.GzipFile] = {}  # (process, path, time of the file)


@dataclass(frozen=True)
class Packed(Stored):
    """Values in C order in a gzip stream: read from where the last read ended, or from its start."""

    path: str
    offset: int
    shape: tuple[int, ...]
    stored: str
    modified_ns: int

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        outer = range(*key[0].indices(self.shape[0]))
        one = math.prod(self.shape[1:]) * np.dtype(self.stored).itemsize
        result: list[np.ndarray] = []
        with _LOCK, damage_named(f"{self.path} could not be read"):
            for number in outer:
                stream = self._stream(number * one)
                data = stream.read(one)
                if len(data) < one:
                    raise NiddlError(f"{self.path} is cut short: part {number} of {self.shape[0]} is not whole")
                values = np.frombuffer(data, self.stored).reshape(self.shape[1:])
                result.append(values[key[1:]].astype(self.dtype))
        return np.stack(result) if result else np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *key[1:])]

    def _stream(self, position: int) -> gzip.GzipFile:
        """Return a stream that stands at this byte of the values."""
        owner = (os.getpid(), self.path, self.modified_ns)
        if owner not in _OPEN or _OPEN[owner].tell() > position:  # a gzip stream goes forwards only
            _OPEN.clear()
            file = open(self.path, "rb")  # noqa: SIM115  # closed with the stream
            file.seek(self.offset)
            _OPEN[owner] = gzip.GzipFile(fileobj=file)
            weakref.finalize(_OPEN[owner], file.close)  # it closes only files that it opened itself
        stream = _OPEN[owner]
        stream.seek(position)
        return stream


def recognises_file(path: Path, head: bytes) -> bool:
    """Say whether a file begins as an ICS: two separators, then its version."""
    return b"ics_version" in head[:16]


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any) -> Opened:
    """Open an ICS lazily.

    Parameters
    ----------
    path
        The ``.ics``; the counts of version 1.0 are in the ``.ids`` of the same name beside it.
    axes
        Letters of its dims from the outermost to the innermost one (``"ctzyx"``), in place of what it states.
    channel, chunks
        See :func:`niddl_xr.open_recording`.

    Returns
    -------
    Opened
        Axes ``"tzyx"``, counts as stored. Of a file packed with gzip, a slice is unpacked from where the slice before
        it ended, or from the start.

    Raises
    ------
    FileNotFoundError
        Where the ``.ids`` is not there.
    NiddlError
        For a damaged file, one that is cut short, complex values, and dims that are not x, y, z, t or a channel.
    """
    with path.open("rb") as file:
        text = file.read(_HEADER_BYTES)
    with damage_named(f"{path} is not an ICS that can be read"):
        header, end = _parse(path, text)
        letters, shape, scales = _dims(path, header)
        stored = _stored(path, header)
    data, offset = _data(path, header, end)
    letters = require_axes(axes, len(shape), f"{path} with shape {shape}") if axes else letters
    source = _source(path, data, offset, shape, stored, header)
    number, label = choose_channel(channel, letters, shape, (), path)
    scale_um = {dim: scale * factor for dim, (scale, unit) in scales.items() if (factor := um_per(unit))}
    step = scales.get("t", (0.0, ""))
    return Opened(
        lazy(source, letters, chunks, number, frames_a_unit=_unit(source, letters)),
        voxel_um={dim: size for dim, size in scale_um.items() if dim in "zyx"},
        dt_s=step[0] * factor if (factor := s_per(step[1])) else None,
        channel=label,
        attrs=_attrs(header, number),
    )


def _parse(path: Path, text: bytes) -> tuple[dict[str, str], int]:
    """Return the lines of the header by their category and name, and where the header ends."""
    field, line = chr(text[0]), chr(text[1])
    found: dict[str, str] = {}
    position = 2
    for raw in text[2:].split(line.encode("latin-1")):
        position += len(raw) + 1
        words = raw.decode("utf-8", errors="replace").strip("\r\n\t ").split(field)
        words = [word.strip() for word in words if word.strip()]
        if words == ["end"]:
            break
        if words[:1] in (["ics_version"], ["filename"]):
            found[words[0]] = " ".join(words[1:])
        elif len(words) > 2:
            found[" ".join(words[:2])] = "\t".join(words[2:])
            if words[0] == "sensor" and len(words) > 3:
                found[" ".join(words[:3])] = "\t".join(words[3:])
    else:
        if not found.get("ics_version", "").startswith("1"):  # its counts are in another file
            raise NiddlError(f"{path} is cut short: its header has no end; copy it again")
    if found.get("ics_version", "")[:1] not in ("1", "2"):
        raise NiddlError(f"expected an ICS of version 1 or 2, got {found.get('ics_version')!r} in {path}")
    return found, position


def _dims(path: Path, header: Mapping[str, str]) -> tuple[str, tuple[int, ...], dict[str, tuple[float, str]]]:
    """Return the axes from the outermost one, their sizes, and of every axis the scale and its unit."""
    order = header["layout order"].lower().split("\t")
    sizes = [int(size) for size in header["layout sizes"].split("\t")]
    scales = header.get("parameter scale", "").split("\t")
    units = header.get("parameter units", "").split("\t")
    if len(order) != len(sizes) or "bits" not in order or min(sizes) < 1:
        raise NiddlError(f"{path} is damaged: it states the order {order} and the sizes {sizes}")
    letters, shape, stated = "", [], {}
    for place in reversed(range(len(order))):
        letter = _LETTERS.get(order[place], "")
        if order[place] == "bits" or (not letter and sizes[place] == 1):
            continue
        if not letter or letter in letters:
            raise NiddlError(f"{path} has the dims {' '.join(order)}; expected each of x, y, z, t, ch at most once")
        letters += letter
        shape.append(sizes[place])
        scale = float(scales[place]) if len(scales) == len(order) else 0.0
        if math.isfinite(scale) and scale > 0 and len(units) == len(order):
            stated[letter] = scale, units[place]
    if not {"x", "y"} <= set(letters):
        raise NiddlError(f"{path} has the dims {' '.join(order)}; expected x and y among them")
    return letters, tuple(shape), stated


def _stored(path: Path, header: Mapping[str, str]) -> str:
    """Return the dtype of the counts with its byte order, as numpy writes it."""
    order = header["layout order"].lower().split("\t")
    bits = int(header["layout sizes"].split("\t")[order.index("bits")])
    form = header.get("representation format", "integer").lower()
    signed = header.get("representation sign", "unsigned").lower() == "signed"
    kind = {"integer": "i" if signed else "u", "real": "f"}.get(form)
    if kind is None or bits not in ((32, 64) if kind == "f" else (8, 16, 32)):
        raise NiddlError(f"{path} has {form} values of {bits} bits; expected integers of 8, 16, 32 or reals of 32, 64")
    places = [int(place) for place in header.get("representation byte_order", "1").split("\t")]
    rising = sorted(places) == places  # the least byte first
    return f"{'<' if rising else '>'}{kind}{bits // 8}"


def _data(path: Path, header: Mapping[str, str], end: int) -> tuple[Path, int]:
    """Return the file of the counts, in the folder of the header whatever it states, and where they begin in it."""
    if header["ics_version"].startswith("2"):
        named = header.get("source file", "")
        name = named.replace("\\", "/").rsplit("/", 1)[-1]
        data, offset = (path.with_name(name), int(header.get("source offset", 0))) if name else (path, end)
    else:
        suffixes = (".ids", ".IDS", ".ids.gz")
        found = [path.with_suffix(suffix) for suffix in suffixes if path.with_suffix(suffix).is_file()]
        data, offset = (found or [path.with_suffix(".ids")])[0], 0
    if not data.is_file():
        raise FileNotFoundError(f"{path} keeps its counts in {data.name}, which is not beside it: copy both files")
    return data, offset


def _source(
    path: Path, data: Path, offset: int, shape: tuple[int, ...], stored: str, header: Mapping[str, str]
) -> Source:
    """Return the counts, after a check that the file can hold them."""
    size, expected = data.stat().st_size, math.prod(shape) * np.dtype(stored).itemsize
    compression = header.get("representation compression", "uncompressed").lower()
    if compression not in ("uncompressed", "gzip"):
        raise NiddlError(f"{path} is compressed with {compression}, which is not read; save it with gzip, or without")
    packed = compression == "gzip" or data.suffix == ".gz"
    room = (size - offset) * (_DEFLATE_LIMIT if packed else 1)
    if offset < 0 or expected > room:
        raise NiddlError(
            f"{data} is cut short: expected {expected} bytes of counts {shape} {stored} from byte {offset}, but the "
            f"file has {size}; copy it again"
        )
    kind = Packed if packed else Contiguous
    return kind(str(data), offset, shape, stored, modified_ns=modified_ns(data))


def _attrs(header: Mapping[str, str], channel: int) -> dict[str, Any]:
    """Return what the lines about the sensor state, where it is a number above 0; one number a channel, or one."""
    names = {
        "numerical_aperture": "NumAperture",
        "excitation_nm": "LambdaEx",
        "emission_nm": "LambdaEm",
    }
    found = {}
    for name, stated in names.items():
        values = header.get(f"sensor s_params {stated}", "").split("\t")
        value = values[channel] if channel < len(values) else values[0]
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number) and number > 0:
            found[name] = number
    return found


def _unit(source: Source, letters: str) -> int:
    """Return how many frames a block should hold: all of a small packed file, which is unpacked from its start."""
    small = math.prod(source.shape) * source.dtype.itemsize <= _UNPACKED_BYTES
    return source.shape[letters.index("t")] if isinstance(source, Packed) and "t" in letters and small else 1
