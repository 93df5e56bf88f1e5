"""TIFF files: OME, ImageJ hyperstacks (of more than 4 GB too), BigTIFF, and plain pages of any compression."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._lazy import (
    PlaneTable,
    choose_channel,
    damage_named,
    lazy_planes,
    modified_ns,
    require_axes,
)
from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import tifffile

READER = Reader(
    "TIFF: OME, ImageJ, BigTIFF, plain pages",
    suffixes=(".tif", ".tiff", ".btf", ".tf8"),
    magic=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    needs=("tifffile",),
    options=("sizes", "series"),
    general=True,
)
OPEN_FILES = 8  # handles that a process keeps
CHECKED_PAGES = 1000  # of a longer file, this many pages are checked at opening, the last one among them
UNKNOWN = "?"
COLOURS = ("red", "green", "blue", "alpha")
IN_ORDER = ("uniform", "shaped", "imagej", "generic", "scanimage")  # kinds whose planes are the pages, one by one
NUMBERED = ("ome", *IN_ORDER)  # kinds whose pages know their number in the file


@dataclass(frozen=True)
class Layout:
    """What one TIFF holds: its axes ("?" where the file does not name one), where its planes lie, what it states."""

    axes: str
    shape: tuple[int, ...]
    table: PlaneTable
    voxel_um: Mapping[str, float] = field(default_factory=dict)
    dt_s: float | None = None
    t_s: np.ndarray | None = None
    channels: tuple[str, ...] = ()

    @property
    def page_dims(self) -> int:
        """How many dims a plane has: y and x, and colours in some files."""
        return len(self.table.page_shape)


@dataclass(frozen=True)
class _Stated:
    """What the metadata of a TIFF states; ``t_s`` by channel."""

    voxel_um: Mapping[str, float] = field(default_factory=dict)
    dt_s: float | None = None
    t_s: np.ndarray | None = None
    channels: tuple[str, ...] = ()


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    sizes: Mapping[str, int] | None = None,
    series: int | None = None,
) -> Opened:
    """Open a TIFF lazily.

    Parameters
    ----------
    path
        The file.
    axes
        Letters of its dims, in place of what the file states. Pages that the file does not name are frames (t).
        With more letters than the file has dims, its pages are split as ``sizes`` says.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    sizes
        Sizes of axes over pages, such as ``{"z": 30}``: all but one of those that ``axes`` names.
    series
        Which image of a file with several, counted from 0.
    """
    layout = describe(path, series)
    leading, lead_sizes, page = _page_axes(path, layout, axes, sizes)
    shape = (*lead_sizes, *layout.table.page_shape)
    number, label = choose_channel(channel, leading + page, shape, channel_names(layout, page), path)
    data, arranged = lazy_planes(layout.table, leading, lead_sizes, page, chunks, number)
    return Opened(
        data,
        arranged,
        voxel_um=layout.voxel_um,
        dt_s=layout.dt_s,
        t_s=layout.t_s if axes is None else None,
        channel=label,
    )


def channel_names(layout: Layout, page: str) -> tuple[str, ...]:
    """Return the names of the channels that the file states, else the colours of pages with samples."""
    return layout.channels or (COLOURS[: layout.table.page_shape[page.index("c")]] if "c" in page else ())


def _page_axes(
    path: Path, layout: Layout, axes: str | None, sizes: Mapping[str, int] | None
) -> tuple[str, tuple[int, ...], str]:
    """Return the axes over pages, their sizes, and the axes within a page."""
    cut = len(layout.axes) - layout.page_dims
    where = f"{path} with shape {layout.shape}"
    if axes is None:
        if sizes is not None:
            raise NiddlError(f"sizes= splits the pages of {path} as axes= says: set axes= too, such as axes='tzyx'")
        letters = resolve_unknown(layout.axes, where)
        return letters[:cut], layout.shape[:cut], letters[cut:]
    if sizes is None:
        letters = require_axes(axes, len(layout.shape), f"{where} (set sizes= where its pages are to be split)")
        return letters[:cut], layout.shape[:cut], letters[cut:]
    letters = require_axes(axes, len(axes), where)
    lead = letters[: len(letters) - layout.page_dims]
    return lead, _split(lead, sizes, len(layout.table), where), letters[len(lead) :]


def _split(lead: str, sizes: Mapping[str, int], pages: int, where: str) -> tuple[int, ...]:
    wrong = sorted(set(sizes) - set(lead)) or [axis for axis, size in sizes.items() if size < 1]
    if wrong or len(sizes) < len(lead) - 1:
        raise NiddlError(
            f"expected sizes, at least 1, of all but one of the axes over pages {lead!r} of {where}, got {dict(sizes)}"
        )
    rest, left = divmod(pages, int(np.prod(list(sizes.values()), dtype=int)))
    if left or rest == 0 or (len(sizes) == len(lead) and rest != 1):
        raise NiddlError(f"the {pages} pages of {where} cannot be split into sizes {dict(sizes)} along {lead!r}")
    return tuple(int(sizes.get(axis, rest)) for axis in lead)


def resolve_unknown(axes: str, where: str, letter: str = "t") -> str:
    """Return axes where one that the file does not name is ``letter``; an error where that is not clear."""
    resolved = axes.replace(UNKNOWN, letter) if axes.count(UNKNOWN) == 1 and letter not in axes else axes
    if UNKNOWN in resolved:
        raise NiddlError(
            f"{where} does not name its axes (it says {axes!r}): set axes=, one letter a dim, such as axes='tzyx'"
        )
    return require_axes(resolved, len(resolved), where)


def describe(path: Path, series: int | None = None) -> Layout:
    """Return what a TIFF holds, after a check that the file is whole.

    Raises
    ------
    NiddlError
        For a file that is no TIFF, is cut short, holds several images (``series`` chooses), or has axes that a
        recording cannot have.
    """
    import tifffile

    with damage_named(f"{path} is not a TIFF that can be read"), tifffile.TiffFile(path) as tif:
        _require_whole_chain(path, tif)
        images = tif.series
        if len(images) > 1 and series is None:
            shapes = ", ".join(f"{number}: {image.shape}" for number, image in enumerate(images))
            raise NiddlError(f"{path} holds {len(images)} images of shapes {shapes}; choose one with series=")
        if not 0 <= (series or 0) < len(images):
            raise NiddlError(f"{path} holds {len(images)} images, so there is no series={series}")
        image = images[series or 0]
        axes, shape = _squeezed(path, image)
        table = _plane_table(path, tif, series or 0)
        stated = _stated(tif, series or 0, len(images))
    return Layout(axes, shape, table, stated.voxel_um, stated.dt_s, stated.t_s, stated.channels)


def _require_whole_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise where the list of pages ends outside the file, or the data of a page do."""
    pages, handle = len(tif.pages), tif.filehandle
    size = handle.size
    remedy = "the file is cut short or damaged; copy it again from its origin"
    if pages == 0 or tif.pages.next_page_offset is None:
        raise NiddlError(f"{path} holds no readable page: {remedy}")
    handle.seek(tif.pages.next_page_offset)
    following = int.from_bytes(handle.read(tif.tiff.offsetsize), "little" if tif.byteorder == "<" else "big")
    if following:
        raise NiddlError(
            f"{path} names a page after its {pages} readable ones, at byte {following} of {size}: {remedy}"
        )
    step = -(-pages // CHECKED_PAGES)
    for number in sorted({*range(0, pages, step), pages - 1}):
        page = tif.pages.get(number, aspage=True)
        end = max((start + count for start, count in _segments(page)), default=0)
        if end > size:
            raise NiddlError(f"page {number} of {path} ends at byte {end}, but the file has {size}: {remedy}")
    # ImageJ writes more than 4 GB after a single page header that stands before the data.
    first = tif.pages.first
    planes = int((tif.imagej_metadata or {}).get("images", 1))
    if pages == 1 < planes and first.is_contiguous and first.offset < first.dataoffsets[0]:
        end = first.dataoffsets[0] + planes * first.nbytes
        if end > size:
            raise NiddlError(f"the {planes} planes of {path} end at byte {end}, but the file has {size}: {remedy}")


def _segments(page: tifffile.TiffPage | tifffile.TiffFrame) -> list[tuple[int, int]]:
    return list(zip(page.dataoffsets, page.databytecounts, strict=False))


def _squeezed(path: Path, image: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """Return the axes and shape of an image without dims of size 1 other than y and x."""
    axes, shape = image.get_axes(False), image.get_shape(False)
    if 0 in shape:
        raise NiddlError(f"{path} is empty: it states the shape {shape}")
    kept = [(axis, size) for axis, size in zip(axes, shape, strict=True) if size > 1 or axis in "YX"]
    letters = "".join(axis.lower() if axis in "TZCYX" else axis for axis, _ in kept)
    if "S" in letters and "c" not in letters:
        letters = letters.replace("S", "c")
    letters = "".join(letter if letter in "tzcyx" else UNKNOWN for letter in letters)
    return letters, tuple(size for _, size in kept)


def _plane_table(path: Path, tif: tifffile.TiffFile, series: int) -> PlaneTable:
    image = tif.series[series]
    keyframe = image.keyframe
    page_shape = tuple(keyframe.shape)
    kept = sum(size > 1 or axis in "YX" for axis, size in zip(keyframe.axes, page_shape, strict=True))
    shape = _squeezed(path, image)[1]
    page_shape = shape[len(shape) - kept :]
    if int(np.prod(page_shape)) != int(np.prod(keyframe.shape)):
        raise NiddlError(f"{path} has pages of shape {keyframe.shape}, which do not fit its shape {shape}")
    planes = int(np.prod(shape)) // int(np.prod(page_shape))
    stored = (keyframe.dtype or np.dtype("V1")).newbyteorder("=").str
    names: tuple[str, ...] = (path.name,)
    files, pages, offset = np.zeros(planes, int), np.arange(planes), None
    if image.dataoffset is not None and not image.is_multifile:
        stored = (keyframe.dtype or np.dtype("V1")).newbyteorder(tif.byteorder).str
        offset = int(image.dataoffset)
    elif not (image.kind in IN_ORDER and len(tif.series) == 1 and len(tif.pages) == planes):
        names, files, pages = _scattered(path, image)
    folder = str(path.parent)
    token = f"{path} {modified_ns(path)} {series}"
    offsets = (offset,) * len(names)
    return PlaneTable(folder, "tiff", names, offsets, files, pages, page_shape, stored, token)


def _scattered(path: Path, image: tifffile.TiffPageSeries) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the files of an image, relative to the folder of ``path``, and the file and number of every page."""
    numbers: dict[str, int] = {}
    by_offset: dict[str, dict[int, int]] = {}
    files, pages = [], []
    for plane, page in enumerate(image.pages):
        if page is None or not page.offset:
            raise NiddlError(
                f"plane {plane} of {path} is in none of its files; put the files of the recording together"
            )
        name = os.path.relpath(page.parent.filehandle.path, path.parent)
        if image.kind in NUMBERED:
            number = int(page.index)
        else:
            if name not in by_offset:
                chain = page.parent.pages
                by_offset[name] = {chain.get(i, aspage=True).offset: i for i in range(len(chain))}
            number = by_offset[name][page.offset]
        files.append(numbers.setdefault(name, len(numbers)))
        pages.append(number)
    return tuple(numbers), np.array(files), np.array(pages)


def _stated(tif: tifffile.TiffFile, series: int, images: int) -> _Stated:
    if tif.is_ome and tif.ome_metadata:
        return _ome(tif.ome_metadata, series, images)
    if tif.is_imagej:
        return _imagej(tif)
    return _Stated()


def _imagej(tif: tifffile.TiffFile) -> _Stated:
    metadata = tif.imagej_metadata or {}
    scale = um_per(metadata.get("unit"), print_units=False)
    voxel: dict[str, float] = {}
    if scale is not None:
        tags = tif.pages.first.tags
        for dim, tag in (("x", "XResolution"), ("y", "YResolution")):
            pixels, units = tags[tag].value if tag in tags else (0, 0)
            if pixels and units:
                voxel[dim] = scale * units / pixels
        spacing = _number(metadata.get("spacing"))
        if spacing:
            voxel["z"] = scale * spacing
    interval = _number(metadata.get("finterval")) * (s_per(metadata.get("tunit", "s")) or 0)
    return _Stated(voxel, interval if interval > 0 else None)


def _ome(xml: str, series: int, images: int) -> _Stated:
    try:
        found = [item for item in ElementTree.fromstring(xml).iter() if _tag(item) == "Pixels"]
    except ElementTree.ParseError:
        found = []  # what cannot be read is not stated; the caller is warned of every quantity that is missing
    if not found:
        return _Stated()
    pixels = found[series] if len(found) == images else found[0]
    voxel: dict[str, float] = {}
    for dim in "zyx":
        size, scale = (
            _number(pixels.get(f"PhysicalSize{dim.upper()}")),
            um_per(pixels.get(f"PhysicalSize{dim.upper()}Unit", "µm")),
        )
        if size and scale:
            voxel[dim] = size * scale
    interval = _number(pixels.get("TimeIncrement")) * (s_per(pixels.get("TimeIncrementUnit", "s")) or 0)
    channels = [item.get("Name") or "" for item in pixels if _tag(item) == "Channel"]
    return _Stated(
        voxel,
        interval or None,
        None if interval else _ome_times(pixels),
        tuple(channels) if all(channels) else (),
    )


def _ome_times(pixels: ElementTree.Element) -> np.ndarray | None:
    """Return the times in s of the first plane of every volume, if the file states them for all, in order."""
    times: dict[int, float] = {}
    for plane in pixels:
        if _tag(plane) == "Plane" and plane.get("TheZ", "0") == "0" and plane.get("TheC", "0") == "0":
            scale = s_per(plane.get("DeltaTUnit", "s"))
            if scale and plane.get("DeltaT"):
                times[int(plane.get("TheT", "0"))] = _number(plane.get("DeltaT")) * scale
    count = int(_number(pixels.get("SizeT")))
    if count < 2 or sorted(times) != list(range(count)):
        return None
    ordered = np.array([times[frame] for frame in range(count)])
    return ordered if np.all(np.diff(ordered) > 0) else None


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _number(stated: Any) -> float:
    """Return a positive, finite number that a file states, else 0."""
    try:
        value = float(stated or 0)
    except (ValueError, TypeError):
        return 0.0
    return value if np.isfinite(value) and value > 0 else 0.0


class _OpenTiff:
    """A TIFF held open; it is closed when the cache and every task have dropped it."""

    def __init__(self, path: str) -> None:
        import tifffile

        self.lock = threading.RLock()
        self.file = tifffile.TiffFile(path)
        weakref.finalize(self, self.file.close)


@lru_cache(maxsize=OPEN_FILES)
def _opened(path: str, modified: int, size: int, process: int) -> _OpenTiff:
    return _OpenTiff(path)


def read_page(path: str, number: int) -> np.ndarray:
    """Return a page of a TIFF, in native byte order; safe in threads, decoding outside the lock of the file."""
    status = os.stat(path)
    opened = _opened(path, status.st_mtime_ns, status.st_size, os.getpid())
    with opened.lock:
        page = opened.file.pages.get(number, aspage=True)
    segments = _segments(page)
    if not segments or any(count <= 0 or start + count > status.st_size for start, count in segments):
        raise NiddlError(
            f"page {number} of {path} has data outside the file; if it is damaged or cut short, copy it again"
        )
    return _plain(page.asarray(lock=opened.lock, maxworkers=1), page.axes)


def _plain(values: np.ndarray, axes: str) -> np.ndarray:
    extra = tuple(dim for dim, axis in enumerate(axes) if axis not in "YX" and values.shape[dim] == 1)
    return np.squeeze(values, axis=extra)
