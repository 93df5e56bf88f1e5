"""What a TIFF holds: its axes, where its planes lie, and what it states, whichever program wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.recordings.readers._lazy import PlaneTable, damage_named, modified_ns
from niddl_xr.recordings.readers._ome import UnreadableMetadata, number
from niddl_xr.recordings.readers._tiff_directories import Directories, directories
from niddl_xr.recordings.readers._tiff_pages import Page
from niddl_xr.recordings.readers._tiff_tags import REMEDY, Tags
from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.schema import NiddlError

CHECKED_PAGES = 1000  # whose data are not in one piece: of a longer file, this many are checked at opening
UNKNOWN = "?"
COMPANION = ".companion.ome"  # holds the metadata of an OME-TIFF in several files
DESCRIPTION = 270
_VENDORS = (33629, 34412)  # tags of MetaMorph STK and Zeiss LSM


@dataclass(frozen=True)
class Layout:
    """What a TIFF holds: its axes ("?" where the file does not name one), where its planes lie, what it states.

    ``axes`` are those over planes, then those within one. ``channel_attrs`` are attributes of one channel each.
    ``frames`` has the numbers of the frames where some were left out.
    """

    axes: str
    shape: tuple[int, ...]
    table: PlaneTable
    voxel_um: Mapping[str, float] = field(default_factory=dict)
    dt_s: float | None = None
    t_s: np.ndarray | None = None
    channels: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    channel_attrs: tuple[Mapping[str, Any], ...] = ()
    rgb: bool = False
    frames: np.ndarray | None = None
    notes: tuple[UserWarning, ...] = ()

    @property
    def page_dims(self) -> int:
        """How many dims a plane has: y and x, and colours in some files."""
        return len(self.table.page_shape)


def describe(path: Path, series: int | None = None, *, gaps: str = "error") -> Layout:
    """Return what a TIFF holds, after a check that the file is whole.

    Raises
    ------
    NiddlError
        For a file that is no TIFF, is cut short, holds several images (``series`` chooses), or has axes that a
        recording cannot have.
    """
    if gaps not in ("error", "skip"):
        raise NiddlError(f"expected gaps as 'error' or 'skip', got {gaps!r}")
    if path.name.lower().endswith(COMPANION):
        from niddl_xr.recordings.readers._ome_files import describe_companion

        return describe_companion(path, series, gaps)
    found = directories(path)
    with damage_named(f"{path} could not be read"), path.open("rb", buffering=0) as file:
        found.require_whole(file, CHECKED_PAGES)
        first = found.tags(file, 0)
        text = first.text(DESCRIPTION)
        notes: tuple[UserWarning, ...] = ()
        if "<OME" in text[:10_000]:
            from niddl_xr.recordings.readers._ome_files import describe_ome

            try:
                layout = describe_ome(path, found, text, series, gaps)
            except UnreadableMetadata as error:
                notes = (UserWarning(f"{error}; its pages are taken as they are"),)
            else:
                if layout is not None:
                    return layout
        if any(code in first.places for code in _VENDORS):
            from niddl_xr.recordings.readers._tiff_vendors import describe_vendor

            return describe_vendor(path, found, file, first, series)
        if text.startswith("ImageJ="):
            return _hyperstack(path, found, file, text)
        return replace(_plain(path, found, file, series), notes=notes)


def require_series(path: Path, shapes: list[tuple[int, ...]], series: int | None) -> int:
    """Return which image of a file is wanted, or raise where that is not clear."""
    if len(shapes) > 1 and series is None:
        listed = ", ".join(f"{place}: {shape}" for place, shape in enumerate(shapes[:20]))
        raise NiddlError(f"{path} holds {len(shapes)} images of shapes {listed}; choose one with series=")
    if series is not None and series not in range(len(shapes)):
        raise NiddlError(f"{path} holds {len(shapes)} images, so there is no series={series}")
    return series or 0


def page_table(
    path: Path, found: Directories, file: Any, numbers: np.ndarray, token: str = ""
) -> tuple[PlaneTable, Page]:
    """Return where chosen pages of a file lie, and the first of them, after a check that they are of one kind."""
    first_number = int(numbers[0])
    page = found.page(file, first_number)
    for kind in np.unique(found.kinds[numbers])[1 if len(numbers) == 1 else 0 :]:
        place = int(numbers[np.argmax(found.kinds[numbers] == kind)])
        other = found.page(file, place)
        if other.shape != page.shape or other.stored.newbyteorder("=") != page.stored.newbyteorder("="):
            raise NiddlError(
                f"page {place} of {path} is {other.shape} {other.stored}, but page {first_number} is {page.shape} "
                f"{page.stored}; expected pages of one kind"
            )
    starts = found.starts(page, first_number)[numbers]
    raw = starts >= 0
    return PlaneTable(
        str(path.parent),
        "tiff",
        (path.name,),
        np.zeros(len(numbers), int),
        numbers,
        np.where(raw, starts, found.offsets[numbers]),
        raw,
        page.shape,
        (page.stored.str,),
        f"{path} {modified_ns(path)} {found.size} {token}",
    ), page


def one_piece(path: Path, found: Directories, page: Page, planes: int, remedy: str = REMEDY) -> PlaneTable:
    """Return where planes lie that follow each other behind a single page header."""
    if page.start is None:
        raise NiddlError(f"{path} has {planes} planes behind one page header, which cannot be compressed: {remedy}")
    end = page.start + planes * page.nbytes
    if end > found.size:
        raise NiddlError(f"the {planes} planes of {path} end at byte {end}, but the file has {found.size}: {remedy}")
    numbers = np.arange(planes)
    return PlaneTable(
        str(path.parent),
        "tiff",
        (path.name,),
        np.zeros(planes, int),
        numbers,
        page.start + numbers * page.nbytes,
        np.ones(planes, bool),
        page.shape,
        (page.stored.str,),
        f"{path} {modified_ns(path)} {found.size} one piece",
    )


def squeezed(leading: str, sizes: tuple[int, ...], page: Page) -> tuple[str, tuple[int, ...]]:
    """Return axes and shape over planes and within one, without those over planes that have size 1."""
    kept = [(axis, size) for axis, size in zip(leading, sizes, strict=True) if size > 1]
    axes = "".join(axis for axis, _ in kept) + page.axes.replace("S", "c")
    return axes, (*(size for _, size in kept), *page.shape)


def steady(times: np.ndarray) -> tuple[float | None, np.ndarray | None]:
    """Return the step of times in s that are even to a thousandth of it, else the times from the first one on.

    Neither is given where times are missing or do not increase.
    """
    if len(times) < 2 or not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
        return None, None
    step = float(times[-1] - times[0]) / (len(times) - 1)
    even = times[0] + step * np.arange(len(times))
    if np.all(np.abs(times - even) <= step / 1000 + 1e-9):
        return step, None
    return None, times - times[0]


def _plain(path: Path, found: Directories, file: Any, series: int | None) -> Layout:
    """Return the pages of a file as they are, or as tifffile names their axes; smaller copies are left out."""
    images = _shaped(found, file) or _alike(found, file)
    chosen = require_series(path, [shape for _, shape, *_ in images], series)
    axes, shape, numbers, planes = images[chosen]
    table, page = page_table(path, found, file, numbers, str(chosen))
    if planes > len(numbers):
        table = one_piece(path, found, page, planes)
    return Layout(axes, shape, table, rgb=page.rgb)


_Plain = tuple[str, tuple[int, ...], np.ndarray, int]  # axes, shape, numbers of pages, number of planes


def _alike(found: Directories, file: Any) -> list[_Plain]:
    """Return the images of a file: pages of one shape and dtype each."""
    chosen = ~found.reduced if not found.reduced.all() else np.ones(len(found), bool)
    groups: dict[tuple[Any, ...], list[int]] = {}
    pages: dict[tuple[Any, ...], Page] = {}
    for kind in dict.fromkeys(found.kinds[chosen].tolist()):
        numbers = np.flatnonzero(chosen & (found.kinds == kind))
        page = found.page(file, int(numbers[0]))
        key = (page.shape, page.axes, page.stored.str)
        pages.setdefault(key, page)
        groups.setdefault(key, []).extend(numbers.tolist())
    return [
        (*squeezed(UNKNOWN, (len(numbers),), pages[key]), np.array(sorted(numbers)), len(numbers))
        for key, numbers in groups.items()
    ]


def _shaped(found: Directories, file: Any) -> list[_Plain]:
    """Return the images that tifffile describes in JSON on the first page of each; none where that does not fit."""
    images: list[_Plain] = []
    place = 0
    while place < len(found):
        tags = found.tags(file, place)
        text, page = tags.text(DESCRIPTION), found.page(file, place)
        shape, letters, truncated = _json_shape(text)
        cut = _cut(shape, page)
        if cut is None:
            return []
        planes = int(np.prod(shape[:cut], dtype=object))
        alone = planes > 1 and (truncated or len(found) == 1)
        if not alone and place + planes > len(found):
            return []
        leading = "".join(
            letter.lower() if letter in "TZC" else UNKNOWN for letter in letters[:cut].ljust(cut, UNKNOWN)
        )
        numbers = np.arange(place, place + (1 if alone else planes))
        axes, sizes = squeezed(leading, shape[:cut], page)
        inside = "".join(letter for letter, size in zip(letters[cut:], shape[cut:], strict=False) if size > 1).lower()
        if sorted(inside) == sorted(page.axes) and "s" not in inside:  # axes in an order of their own
            axes = axes[: -len(inside)] + inside
        images.append((axes, sizes, numbers, planes))
        place += len(numbers)
    return images


def _json_shape(text: str) -> tuple[tuple[int, ...], str, bool]:
    """Return shape, axes and whether only the first page has a header, of a description that tifffile wrote."""
    try:
        stated = json.loads(text) if text.startswith('{"shape":') else {}
    except ValueError:
        stated = {}
    shape, axes = stated.get("shape"), stated.get("axes")
    if not isinstance(shape, list) or len(shape) > 16 or not all(type(size) is int and size > 0 for size in shape):
        return (), "", False
    fits = isinstance(axes, str) and len(axes) == len(shape)
    return tuple(shape), str(axes).upper() if fits else "", bool(stated.get("truncated"))


def _cut(shape: tuple[int, ...], page: Page) -> int | None:
    """Return how many dims of a shape are over pages, None where the others are not those of a page."""
    inside = [size for size in page.shape if size > 1]
    for cut in range(len(shape)):
        if [size for size in shape[cut:] if size > 1] == inside:
            return cut
    return None


def _hyperstack(path: Path, found: Directories, file: Any, text: str) -> Layout:
    """Return what the description of ImageJ says of a file.

    Its playing speed (fps) is no frame rate, and its centimetres are the dots per inch of a plain TIFF.
    """
    stated = dict(re.findall(r"^ *(\w+) *= *(.*?) *$", text, re.MULTILINE))
    sizes = {axis: _count(stated.get(name)) for axis, name in (("t", "frames"), ("z", "slices"), ("c", "channels"))}
    tags = found.tags(file, 0)
    page = found.page(file, 0)
    if sizes["c"] in (page.full[0], page.full[4]) and "S" in page.axes:
        sizes["c"] = 1  # colours of a page
    order = stated.get("order", "czt").lower()
    leading = order[::-1] if sorted(order) == ["c", "t", "z"] else "tzc"
    shape = tuple(sizes[axis] for axis in leading)
    planes = int(np.prod(shape, dtype=object))
    if planes == 1:
        leading, planes = UNKNOWN, _count(stated.get("images")) if "images" in stated else len(found)
        shape = (planes,)
    voxel, interval = _imagej_units(stated, tags)
    notes: tuple[UserWarning, ...] = ()
    if planes == len(found):
        table, page = page_table(path, found, file, np.arange(planes), "imagej")
    elif len(found) == 1 and _is_one_piece(found, page, planes):
        table = one_piece(path, found, page, planes)
    else:
        text = f"{path} states {planes} planes and holds {len(found)}: its pages are taken as they are"
        leading, shape, notes = UNKNOWN, (len(found),), (UserWarning(text),)
        table, page = page_table(path, found, file, np.arange(len(found)), "imagej")
    axes, whole = squeezed(leading, shape, page)
    return Layout(axes, whole, table, voxel, interval, rgb=page.rgb, notes=notes)


def _is_one_piece(found: Directories, page: Page, planes: int) -> bool:
    """Say whether a file of one page header may hold more planes, as ImageJ writes them above 4 GB.

    They stand behind the header, or fill the file before it.
    """
    if page.start is None:
        return False
    header = int(found.offsets[0])
    return header < page.start or page.start + planes * page.nbytes <= header


def _count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and 0 < len(text) < 10 and int(text) > 0 else 1


def _imagej_units(stated: Mapping[str, str], tags: Tags) -> tuple[dict[str, float], float | None]:
    """Return voxel size and time step that ImageJ states in physical units."""
    spacing = stated.get("spacing", "").removeprefix("-")  # old versions of ImageJ; the sign says nothing
    pixels_a_unit = {dim: tags.ratio(code) for dim, code in (("x", 282), ("y", 283))}
    sizes = {"z": number(spacing), **{dim: 1 / pixels for dim, pixels in pixels_a_unit.items() if pixels}}
    scales = {  # y and z state a unit where theirs is another one
        dim: um_per(stated.get(f"{dim}unit", stated.get("unit")), print_units=False) for dim in sizes
    }
    voxel = {dim: size * (scales[dim] or 0) for dim, size in sizes.items() if size and scales[dim]}
    interval = number(stated.get("finterval")) * (s_per(stated.get("tunit", "s")) or 0)
    return voxel, interval or None
