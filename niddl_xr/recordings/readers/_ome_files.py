"""OME-TIFF: which planes of the files that its metadata name are which."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np

from niddl_xr.recordings.readers._lazy import PlaneTable, damage_named, joined
from niddl_xr.recordings.readers._ome import Block, Document, Image, number, parse
from niddl_xr.recordings.readers._tiff_directories import Directories, directories
from niddl_xr.recordings.readers._tiff_layout import (
    CHECKED_PAGES,
    DESCRIPTION,
    Layout,
    page_table,
    require_series,
    squeezed,
)
from niddl_xr.recordings.readers._tiff_pages import Page
from niddl_xr.recordings.readers._tiff_tags import MAGIC
from niddl_xr.schema import NiddlError

LISTED = 8  # names in a message
_HEAD = 10_000  # bytes of metadata in which the UUID of a file stands
_UUID = re.compile(r'UUID="([^"]*)"')
_MICROMANAGER = 2355492  # before its summary


def describe_companion(path: Path, series: int | None, gaps: str) -> Layout:
    """Return what the files of a companion file (``.companion.ome``) hold together."""
    with damage_named(f"{path} could not be read"):
        document = parse(path.read_bytes(), str(path))
    if not document.images:
        raise NiddlError(f"{path} describes no image; open the TIFF files themselves")
    return _Files(path, None, document).layout(series, gaps)


def describe_ome(path: Path, found: Directories, xml: str, series: int | None, gaps: str) -> Layout | None:
    """Return what an OME-TIFF holds, together with the files that belong to it; None where its metadata say nothing.

    Raises
    ------
    NiddlError
        For metadata that cannot be read or do not fit the pages, and where files or planes are missing.
    """
    document = parse(xml, str(path))
    if document.metadata_file and not document.images:
        own = document.uuid
        document = _master(path, document.metadata_file)
        document = replace(document, uuid=own or document.uuid)
    if not any(image.blocks for image in document.images) and len(document.images) != 1:
        return None
    return _Files(path, found, document).layout(series, gaps)


def _master(path: Path, name: str) -> Document:
    """Return the metadata that stand in another file of the folder."""
    master = _beside(path, name)
    if not master.is_file():
        raise NiddlError(
            f"the metadata of {path} stand in {master.name}, which is missing from {path.parent}: put it there, or "
            f"take the pages as they are with a glob such as {path.parent}/{path.stem}*"
        )
    with damage_named(f"{master} could not be read"), master.open("rb", buffering=0) as file:
        if not file.read(4).startswith(MAGIC):
            file.seek(0)
            return parse(file.read(), str(master))
        return parse(directories(master).tags(file, 0).text(DESCRIPTION), str(master))


def _beside(path: Path, name: str) -> Path:
    """Return a file in the same folder, or raise where its name leads elsewhere."""
    plain = PureWindowsPath(name).name if "\\" in name else PurePath(name).name
    if not plain or plain in (".", "..") or plain != name or "\0" in name:
        raise NiddlError(f"{path} names the file {name!r}; expected one in its own folder, without a path")
    return path.parent / name


class _Files:
    """The files that metadata name: which they are, and where their pages lie."""

    def __init__(self, path: Path, found: Directories | None, document: Document) -> None:
        self.path, self.document = path, document
        self.names: list[str] = []
        self.pages: list[Directories | None] = []
        self.notes: list[UserWarning] = []
        self._known: dict[str, int] = {}
        if found is not None:
            self.names, self.pages = [path.name], [found]

    def layout(self, series: int | None, gaps: str) -> Layout:
        """Return one image of the document."""
        images = [image for image in self.document.images if image.blocks] or list(self.document.images)
        shapes = [tuple(image.sizes[axis] for axis in (*image.leading.upper(), "Y", "X")) for image in images]
        image = images[require_series(self.path, shapes, series)]
        lead = tuple(image.sizes[axis.upper()] for axis in image.leading)
        files, pages, missing = self._planes(image, lead, gaps)
        frames, note, lead, files, pages = _complete(self.path, image, lead, files, pages, missing, gaps)
        table, page = self._table(files, pages, images.index(image))
        if page.shape[page.axes.index("y")] != image.sizes["Y"] or page.shape[page.axes.index("x")] != image.sizes["X"]:
            raise NiddlError(
                f"{self.path} has pages of {page.shape}, but its OME metadata state {image.sizes['Y']}×"
                f"{image.sizes['X']} pixels; save it again with the program that wrote it"
            )
        axes, shape = squeezed(image.leading, lead, page)
        if axes.count("c") > 1:
            raise NiddlError(
                f"{self.path} has {image.sizes['C']} channels of {image.samples} colours each, "
                "which a recording cannot have: save every channel as a file of its own"
            )
        layout = Layout(
            axes,
            shape,
            table,
            image.voxel_um,
            image.dt_s,
            image.t_s if frames is None else image.t_s[frames] if image.t_s is not None else None,
            image.channels,
            image.attrs,
            image.channel_attrs,
            page.rgb,
            frames if image.t_s is None else None,
            (*self.notes, *((note,) if note else ())),
        )
        return _with_micromanager(layout, self.path, self.pages[0]) if self.pages[0] else layout

    def _planes(self, image: Image, lead: tuple[int, ...], gaps: str) -> tuple[np.ndarray, np.ndarray, str]:
        """Return file and page of every plane, -1 where there is none, and which files are missing."""
        blocks = [(block, self._file(block.uuid, block.file)) for block in image.blocks]
        if not blocks and self.pages:
            blocks = [(Block({"T": 0, "C": 0, "Z": 0}, 0, None, "", ""), 0)]
        absent = sorted({self.names[file] for _, file in blocks if self.pages[file] is None})
        missing = ""
        if absent:
            listed = ", ".join(absent[:LISTED]) + (", ..." if len(absent) > LISTED else "")
            missing = (
                f"{self.path} is one of {len(self.names)} files, and {len(absent)} of them are missing from "
                f"{self.path.parent}: {listed}"
            )
            if gaps == "error":
                raise NiddlError(
                    f"{missing}; put the files of the recording together, or open the complete frames with gaps='skip'"
                )
        total, there = math.prod(lead), sum(len(pages) for pages in self.pages if pages is not None)
        if total > 100 * there + 1000:
            raise NiddlError(f"{self.path} states {lead} planes, but its files hold {there} pages: take whole files")
        files, pages = np.full(total, -1), np.full(total, -1)
        for first, file, page, count in self._runs(image, lead, blocks):
            files[first : first + count] = file
            pages[first : first + count] = np.arange(page, page + count) if count > 1 else page
        return files, pages, missing

    def _runs(
        self, image: Image, lead: tuple[int, ...], blocks: Sequence[tuple[Block, int]]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield for every block of planes the first plane, the file, the first page, and how many there are."""
        total, axes = math.prod(lead), image.leading.upper()
        for block, file in blocks:
            directory = self.pages[file]
            first = 0
            for axis, size in zip(axes, lead, strict=True):
                place = block.first[axis]
                if place >= size:
                    break  # left over where a file was cropped
                first = first * size + place
            else:
                if directory is not None:
                    wanted = len(directory) if block.count is None else block.count
                    count = min(wanted, len(directory) - block.page, total - first)
                    if count > 0:
                        yield first, file, block.page, count

    def _file(self, uuid: str, name: str) -> int:
        """Return the number of the file that a block of planes names."""
        own = self.pages and self.pages[0] is not None
        if own and (not (uuid or name) or (uuid and uuid == self.document.uuid) or name == self.path.name):
            return 0
        key = name or uuid
        if key not in self._known:
            if not name:
                raise NiddlError(f"{self.path} names the file {uuid} without its name; open the file with the metadata")
            place = _beside(self.path, name)
            self._known[key] = len(self.names)
            self.names.append(name)
            self.pages.append(self._open(place, uuid) if place.is_file() else None)
        return self._known[key]

    def _open(self, place: Path, uuid: str) -> Directories:
        found = directories(place)
        with damage_named(f"{place} could not be read"), place.open("rb", buffering=0) as file:
            found.require_whole(file, CHECKED_PAGES)
            head = (found.tags(file, 0).raw(DESCRIPTION, _HEAD) or (0, b""))[1].decode("latin-1")
            stated = _UUID.search(head)
        if uuid and stated and stated.group(1) != uuid and not any("another UUID" in str(note) for note in self.notes):
            text = f"{place} has another UUID than {self.path} states: it may belong to another recording"
            self.notes.append(UserWarning(text))
        return found

    def _table(self, files: np.ndarray, pages: np.ndarray, token: int) -> tuple[PlaneTable, Page]:
        """Return where all planes lie, whatever the file, and the first of them."""
        used = [int(file) for file in np.unique(files)]
        tables: list[PlaneTable] = []
        first: Page | None = None
        for file in used:
            directory = self.pages[file]
            assert directory is not None
            path = self.path.parent / self.names[file]
            with damage_named(f"{path} could not be read"), path.open("rb", buffering=0) as opened:
                table, page = page_table(path, directory, opened, pages[files == file], f"ome {token}")
            first = first or page
            if page.shape != first.shape or table.dtype != tables[0].dtype if tables else False:
                raise NiddlError(
                    f"{path} has pages of {page.shape} {table.dtype}, but {self.names[used[0]]} has {first.shape} "
                    f"{tables[0].dtype}; put the files of one recording together"
                )
            tables.append(table)
        assert first is not None
        names = [self.names[file] for file in used]
        whole = joined(tables, str(self.path.parent), names, " ".join(table.token for table in tables))
        order = np.concatenate([np.flatnonzero(files == file) for file in used])
        return whole.take(np.argsort(order, kind="stable")), first


def _complete(
    path: Path, image: Image, lead: tuple[int, ...], file: np.ndarray, page: np.ndarray, missing: str, gaps: str
) -> tuple[np.ndarray | None, UserWarning | None, tuple[int, ...], np.ndarray, np.ndarray]:
    """Return the planes of the complete frames, and which these are where some are not."""
    absent = (page < 0).reshape(lead)
    if not absent.any():
        return None, None, lead, file, page
    place = image.leading.index("t")
    others = tuple(axis for axis in range(len(lead)) if axis != place)
    incomplete = absent.any(axis=others)
    frames = np.flatnonzero(~incomplete)
    first = np.argwhere(absent)[0]
    plane = ", ".join(f"{axis} {index}" for axis, index in zip(image.leading, first.tolist(), strict=True))
    text = missing or f"{int(absent.sum())} of {absent.size} planes of {path} are in none of its files, first {plane}"
    if gaps == "error" or not len(frames):
        raise NiddlError(
            f"{text}; put the files of the recording together"
            + (", or open the complete frames with gaps='skip'" if len(frames) else "")
        )
    note = UserWarning(f"{text}; {int(incomplete.sum())} frames are left out, and t keeps the numbers of the others")
    kept = [np.take(part.reshape(lead), frames, axis=place).ravel() for part in (file, page)]
    left = (*lead[:place], len(frames), *lead[place + 1 :])
    return frames, note, left, kept[0], kept[1]


def _with_micromanager(layout: Layout, path: Path, found: Directories) -> Layout:
    """Add what the summary of Micro-Manager states where OME metadata do not state it.

    Layout: micro-manager.org/Micro-Manager_Image_File_Stacks: the summary follows the header at byte 32, as JSON.
    """
    with damage_named(f"{path} could not be read"), (path.parent / found.path.name).open("rb") as file:
        head = file.read(40)
        if len(head) < 40 or struct.unpack_from(f"{found.header.order}I", head, 32)[0] != _MICROMANAGER:
            return layout
        length = min(struct.unpack_from(f"{found.header.order}I", head, 36)[0], found.size - 40)
        try:
            summary: Any = json.loads(file.read(length).rstrip(b"\0"))
        except ValueError:
            return layout  # only what the OME metadata lack would come from it, and the user is told what that is
    if not isinstance(summary, dict):
        return layout
    pixel, step, interval = (number(summary.get(name)) for name in ("PixelSize_um", "z-step_um", "Interval_ms"))
    voxel = {dim: size for dim, size in (("z", step), ("y", pixel), ("x", pixel)) if size}
    timed = layout.dt_s is not None or layout.t_s is not None or not interval
    names: Sequence[Any] = summary.get("ChNames") if isinstance(summary.get("ChNames"), list) else []  # type: ignore[assignment]
    return replace(
        layout,
        voxel_um={**voxel, **layout.voxel_um},
        dt_s=layout.dt_s if timed else interval / 1000,
        channels=layout.channels or tuple(str(name) for name in names),
    )
