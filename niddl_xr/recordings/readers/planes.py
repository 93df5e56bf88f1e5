"""A folder or a glob of numbered TIFF or PNG files, each a plane, a volume, or a part of a movie."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.readers import HEAD_BYTES, Opened, Reader, scanimage
from niddl_xr.recordings.readers._lazy import (
    PlaneTable,
    choose_channel,
    damage_named,
    joined,
    lazy_planes,
    modified_ns,
    require_axes,
)
from niddl_xr.recordings.readers._tiff_layout import UNKNOWN, Layout
from niddl_xr.recordings.readers._tiff_layout import describe as describe_tiff
from niddl_xr.recordings.readers.tiff import channel_names, resolve_unknown
from niddl_xr.schema import NiddlError

READER = Reader(
    "a folder or a glob of numbered TIFF or PNG files; one PNG",
    suffixes=(".png",),
    magic=(b"\x89PNG\r\n\x1a\n",),
    needs=("tifffile",),
    options=("gaps",),
    general=True,
)
SUFFIXES = (".tif", ".tiff", ".png")
LISTED = 8  # names in a message
_PNG_EXPANSION = 1040  # how much larger than stored values can be, which deflate limits
_KEPT = "; skipped, and t keeps the numbers of the files that are there"
_LABELS = {
    "t": ("t", "tp", "time", "timepoint", "frame"),
    "z": ("z", "plane", "slice", "zplane", "zslice"),
    "c": ("c", "ch", "channel"),
}


@dataclass(frozen=True)
class Counters:
    """Numbered files in natural order; ``keys`` are the numbers that vary, the last one running fastest.

    ``letters`` says t, z or c for a number that the name labels, else "?". ``places`` says which of all numbers
    in a name they are.
    """

    names: tuple[str, ...]
    letters: str
    keys: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]

    @property
    def values(self) -> list[list[int]]:
        """The numbers along every counter, sorted."""
        return [sorted({key[place] for key in self.keys}) for place in range(len(self.letters))]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers there are along every counter."""
        return tuple(len(numbers) for numbers in self.values)

    def name_of(self, key: Sequence[int]) -> str:
        """Return how a file with these numbers would be called."""
        parts = re.split(r"(\d+)", self.names[0])
        for place, number in zip(self.places, key, strict=True):
            old = parts[2 * place + 1]
            parts[2 * place + 1] = str(number).zfill(len(old) if old.startswith("0") else 0)
        return "".join(parts)


def recognises_folder(folder: Path) -> bool:
    """Say whether a folder holds image files."""
    return any(image_names(folder))


def image_names(folder: Path) -> list[str]:
    """Return the names of the TIFF and PNG files in a folder, hidden ones left out."""
    return [
        child.name
        for child in folder.iterdir()
        if child.suffix.lower() in SUFFIXES and not child.name.startswith(".") and child.is_file()
    ]


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, gaps: str = "error") -> Opened:
    """Open numbered image files as one recording, lazily.

    Parameters
    ----------
    path
        Folder, glob such as ``worm/img_*.tif``, or one PNG. Files are taken in natural order (img_2 before img_10).
    axes
        Letters of the counters in the names, then of the dims of a file. With the letters of one file's dims
        alone, the files are joined along the first of them.  By default a counter is what the letters before it
        say (t0001_z003, T3Z2), a counter without such letters is t, pages without a name are z, and files that
        hold frames are joined.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    gaps
        ``"error"`` where numbers are missing, or ``"skip"``: one warning lists them, and t keeps the numbers.
    """
    folder, names = _find(path)
    counters = numbered(names, str(path))
    return read_counted(folder, counters, axes=axes, channel=channel, chunks=chunks, gaps=gaps, where=str(path))


def _find(path: Path) -> tuple[Path, list[str]]:
    """Return a folder, and the image files relative to it."""
    if path.is_dir():
        folder, names = path, image_names(path)
    elif path.exists():
        folder, names = path.parent, [path.name]
    else:
        found = [Path(name) for name in glob.glob(str(path))]
        if not found:
            raise FileNotFoundError(f"no recording at {path}: no file fits this pattern")
        odd = sorted(str(file) for file in found if file.suffix.lower() not in SUFFIXES or not file.is_file())
        if odd:
            raise NiddlError(f"expected the pattern {path} to name {', '.join(SUFFIXES)} files, got {odd[0]}")
        folder = Path(os.path.commonpath([file.parent for file in found]))
        names = [file.relative_to(folder).as_posix() for file in found]
    suffixes = sorted({Path(name).suffix.lower() for name in names})
    if ".png" in suffixes and len(suffixes) > 1:
        raise NiddlError(
            f"{path} holds {' and '.join(suffixes)} files; choose some with a pattern such as {path}/*.tif"
        )
    return folder, names


def numbered(names: Sequence[str], where: str, letters: str | None = None) -> Counters:
    """Return the counters in the names of files that differ in numbers only.

    Parameters
    ----------
    names
        Of files, with folders where these are numbered too.
    where
        What a message calls them.
    letters
        What the numbers that vary are, in place of what the names say.

    Raises
    ------
    NiddlError
        Where names differ in more than numbers, where two say the same, or where a number that varies is unclear.
    """
    parts = {name: re.split(r"(\d+)", name) for name in names}
    templates = Counter(tuple(text.lower() for text in part[::2]) for part in parts.values())
    template = max(sorted(templates), key=templates.__getitem__)
    odd = sorted(name for name, part in parts.items() if tuple(text.lower() for text in part[::2]) != template)
    if odd:
        usual = next(name for name in sorted(names) if name not in odd)
        raise NiddlError(
            f"expected the files of {where} to differ in their numbers only, as {usual}; {odd[0]} differs in more; "
            "choose files with a pattern such as folder/img_*.tif"
        )
    numbers = {name: tuple(int(number) for number in part[1::2]) for name, part in parts.items()}
    places = [place for place in range(len(template) - 1) if len({key[place] for key in numbers.values()}) > 1]
    if letters is not None:
        places = list(range(len(template) - 1))[-len(letters) :]
    keys = {name: tuple(key[place] for place in places) for name, key in numbers.items()}
    ordered = sorted(names, key=lambda name: (keys[name], name))
    for one, two in itertools.pairwise(ordered):
        if keys[one] == keys[two]:
            raise NiddlError(f"two files of {where} have the same numbers: {one} and {two}")
    if letters is None:
        letters = "".join(_label(template[place]) for place in places)
    return Counters(tuple(ordered), letters, tuple(keys[name] for name in ordered), tuple(places))


def _label(text: str) -> str:
    word = re.search(r"([a-z]*)[^a-z]*$", text)
    found = word.group(1) if word else ""
    return next((letter for letter, labels in _LABELS.items() if found in labels), UNKNOWN)


def gaps_note(counters: Counters, gaps: str, where: str) -> str | None:
    """Return what to warn of where numbers are missing and ``gaps`` allows it, else None.

    Raises
    ------
    NiddlError
        For missing files, named; and, with ``gaps="skip"`` too, where the numbers of one counter are not the same
        for every number of another.
    """
    if gaps not in ("error", "skip"):
        raise NiddlError(f"expected gaps as 'error' or 'skip', got {gaps!r}")
    present, values = set(counters.keys), counters.values
    full = [range(numbers[0], numbers[-1] + 1) for numbers in values]
    count = math.prod(len(numbers) for numbers in full) - len(present)
    if count == 0:
        return None
    ragged = math.prod(counters.sizes) != len(present)
    absent = (key for key in itertools.product(*(values if ragged else full)) if key not in present)
    shown = [counters.name_of(key) for key in itertools.islice(absent, LISTED)]
    if ragged:
        count = math.prod(counters.sizes) - len(present)
    listed = ", ".join([*shown, "..."] if count > LISTED else shown)
    missing = f"{count} {'file is' if count == 1 else 'files are'} missing from {where}: {listed}"
    if ragged:
        raise NiddlError(f"{missing}; every frame needs the same planes: put them back, or remove its other planes")
    if gaps == "error":
        raise NiddlError(f"{missing}; put what is missing back, or open what is there with gaps='skip'")
    return missing + _KEPT


def read_counted(
    folder: Path, counters: Counters, *, axes: str | None, channel: int | str | None, chunks: Any, gaps: str, where: str
) -> Opened:
    """Open counted files below ``folder`` as one recording; see :func:`read`."""
    note = gaps_note(counters, gaps, where)
    if axes is None and _are_scanimage(folder / counters.names[0]):
        return _read_scanimage(folder, counters, channel=channel, chunks=chunks, where=where, note=note)
    layouts = [describe(folder / name) for name in counters.names]
    first = layouts[0]
    letters, join = _all_axes(counters, first, axes, where)
    _require_alike(folder, counters.names, layouts, ignored=1 if join else 0)
    token = " ".join(layout.table.token for layout in layouts)
    table = joined([layout.table for layout in layouts], str(folder), counters.names, token)
    lead = letters[: len(letters) - first.page_dims]
    within = first.shape[: len(first.shape) - first.page_dims]
    sizes = (sum(layout.shape[0] for layout in layouts), *within[1:]) if join else (*counters.sizes, *within)
    page = letters[len(lead) :]
    number, label = choose_channel(channel, letters, (*sizes, *table.page_shape), channel_names(first, page), where)
    data, arranged = lazy_planes(table, lead, sizes, page, chunks, number)
    coords = {}
    if note and not join and "t" in lead[: len(counters.letters)]:
        numbers = counters.values[lead.index("t")]
        coords["t"] = xr.Variable("t", numbers, {"units": "frame"})
    return Opened(
        data,
        arranged,
        voxel_um=first.voxel_um,
        dt_s=first.dt_s,
        channel=label,
        coords=coords,
        attrs=first.attrs,
        notes=(*first.notes, *((UserWarning(note),) if note else ())),
    )


def _are_scanimage(path: Path) -> bool:
    with path.open("rb") as file:
        return scanimage.recognises_file(path, file.read(HEAD_BYTES))


def _read_scanimage(
    folder: Path, counters: Counters, *, channel: int | str | None, chunks: Any, where: str, note: str | None
) -> Opened:
    """Open the files of one acquisition of ScanImage (``stem_<acquisition>_<file>.tif``) as one recording."""
    if len(counters.letters) > 1:
        raise NiddlError(
            f"{where} holds several acquisitions of ScanImage, from {counters.names[0]} to {counters.names[-1]}: open "
            "one with a pattern such as scan_00001_*.tif"
        )
    if note:  # volumes may run from file to file
        raise NiddlError(f"{note.removesuffix(_KEPT)}; files of ScanImage cannot be skipped, put them back")
    return scanimage.read_files([folder / name for name in counters.names], channel=channel, chunks=chunks)


def _all_axes(counters: Counters, layout: Layout, axes: str | None, where: str) -> tuple[str, bool]:
    """Return the axes of counters and of a file, or of files joined along the first axis, and whether they are."""
    inside, outside = layout.axes, counters.letters
    dims = len(outside) + len(inside)
    if axes is not None:
        join = len(axes) == len(inside) and len(inside) > layout.page_dims and len(outside) > 0
        what = f"{where} ({len(outside)} counters in the names, then the dims of a file with shape {layout.shape})"
        return require_axes(axes, len(inside) if join else dims, what), join
    inside = resolve_unknown(inside, where, "z" if outside else "t")
    if len(outside) == 1 and inside.startswith("t") and len(inside) > layout.page_dims:
        return inside, True
    if len(outside) > 1 and UNKNOWN in outside:
        raise NiddlError(
            f"{len(outside)} numbers vary in the names of {where}, from {counters.names[0]} to {counters.names[-1]}: "
            "set axes=, one letter for every one of them and for every dim of a file, such as axes='tzyx'"
        )
    return resolve_unknown(outside + inside, where), False


def _require_alike(folder: Path, names: Sequence[str], layouts: Sequence[Layout], ignored: int) -> None:
    """Raise for the first file that is unlike the first one, but for the size of its ``ignored`` first dims."""
    first = layouts[0]
    for name, layout in zip(names, layouts, strict=True):
        if len(layout.table.names) > 1:
            raise NiddlError(f"{folder / name} is part of a recording in several files: open that file by itself")
        same = layout.axes == first.axes and layout.shape[ignored:] == first.shape[ignored:]
        if not same or layout.table.dtype != first.table.dtype:
            raise NiddlError(
                f"{folder / name} has shape {layout.shape} and dtype {layout.table.dtype}, "
                f"but {names[0]} has {first.shape} and {first.table.dtype}; choose files of one kind with a pattern"
            )


def describe(path: Path) -> Layout:
    """Return what one TIFF or PNG holds."""
    return _describe_png(path) if path.suffix.lower() == ".png" else describe_tiff(path)


def _describe_png(path: Path) -> Layout:
    if find_spec("imagecodecs") is None:
        raise NiddlError(f"{path} needs imagecodecs: pip install imagecodecs")
    with damage_named(f"{path} is not a PNG that can be read"):
        with path.open("rb") as file:
            head = file.read(26)
        if not head.startswith(b"\x89PNG\r\n\x1a\n"):
            raise NiddlError(f"{path} is not a PNG: its first bytes are {head[:8]!r}")
        width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
        samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour)
        if colour == 3 and bits <= 8:  # a palette is decoded to its colours, 8 bits each
            bits, samples = 8, 4 if _has_transparency(path) else 3
    if samples is None or bits not in (8, 16):
        raise NiddlError(f"{path} is a PNG of {bits} bits and colour type {colour}; expected 8 or 16 bits")
    shape = (height, width) if samples == 1 else (height, width, samples)
    stored = np.dtype(f"u{bits // 8}").str
    token = f"{path} {modified_ns(path)}"
    if math.prod(shape) * bits // 8 > _PNG_EXPANSION * path.stat().st_size:
        raise NiddlError(f"{path} cannot hold {shape} values in {path.stat().st_size} bytes: copy it again")
    one = np.zeros(1, int)
    places, raw = np.full(1, -1), np.zeros(1, bool)
    table = PlaneTable(str(path.parent), "png", (path.name,), one, one, places, raw, shape, (stored,), token)
    return Layout("yxc"[: len(shape)], shape, table, rgb=samples > 2)


def _has_transparency(path: Path) -> bool:
    """Say whether a chunk tRNS stands before the pixels of a PNG (Portable Network Graphics, 5.3 and 11.3.2)."""
    with path.open("rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8 and start[4:] not in (b"tRNS", b"IDAT"):
            file.seek(int.from_bytes(start[:4], "big") + 4, os.SEEK_CUR)
    return start[4:] == b"tRNS"


class PageReader:
    """Reads a PNG, whose only page is 0."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def __enter__(self) -> PageReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open."""

    def read(
        self, number: int, place: int, shape: tuple[int, ...], crop: tuple[slice, ...], room: np.ndarray | None
    ) -> np.ndarray:
        """Return a part of the image, after a check of its shape."""
        import imagecodecs

        described = _describe_png(self.path).shape
        if described != shape:
            raise NiddlError(f"{self.path} has the shape {described}, expected {shape} as in the files before it")
        values: np.ndarray = imagecodecs.png_decode(self.path.read_bytes())
        return values[crop]
