"""CZI of ZEISS' ZEN: segments, and a directory of the sub-blocks, each of them one tile of one plane.

Layout: ZEISS, "CZI (ZISRAW) File Format"; https://zeiss.github.io/libczi. Read here without ZEISS' library, which maps
the file and holds it open: a tile is read by its place in the file, rows by rows where it is not compressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._czi_metadata import Facts, facts_of
from niddl_xr.recordings.readers._czi_tiles import (
    JPEG_XR,
    UNCOMPRESSED,
    ZSTD,
    ZSTD_PACKED,
    Tiles,
    decode,
    enter_block,
    tiles_of,
)
from niddl_xr.recordings.readers._frames import Stored, compact, numbered, ranges_of, require_usual
from niddl_xr.recordings.readers._lazy import choose_channel, damage_named, lazy, modified_ns
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import xarray as xr

READER = Reader(
    "CZI of ZEISS' ZEN",
    suffixes=(".czi",),
    magic=(b"ZISRAWFILE",),
    needs=("imagecodecs",),
    options=("scene", "gaps"),
)
_PIXELS = {  # number in the file: dtype of a component, components
    **{0: ("<u1", 1), 1: ("<u2", 1), 2: ("<f4", 1), 3: ("<u1", 3), 4: ("<u2", 3), 8: ("<f4", 3), 9: ("<u1", 4)},
    **{12: ("<i4", 1), 13: ("<f8", 1)},
}
_COLOURS = ("blue", "green", "red")  # order of the components
_COMPRESSIONS = {1: "JPEG", 2: "LZW", 4: "JPEG XR", 5: "Zstandard", 6: "Zstandard with packed bytes"}
_SPARSE = 16  # times the area of its tiles that a plane may have


@dataclass(frozen=True)
class CziPlanes(Stored):
    """The planes of one channel of one scene as (t, z, y, x, component); the file is opened for every read."""

    path: str
    modified_ns: int
    scene: int
    channel: int
    times: Sequence[int]
    planes: Sequence[int]
    corner: tuple[int, int]  # (y, x) of pixel 0 among all tiles of the scene
    shape: tuple[int, ...]
    stored: str

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        times, planes, rows, columns, components = ranges_of(key, self.shape)
        shape = tuple(len(part) for part in (times, planes, rows, columns, components))
        result = np.empty(shape, dtype=self.dtype)
        if not result.size:
            return result
        tiles = tiles_of(self.path, self.modified_ns)
        tiles = tiles.where((tiles.dims["S"] == self.scene) & (tiles.dims["C"] == self.channel))
        with damage_named(f"a plane of {self.path} could not be read"), open(self.path, "rb") as file:
            for row, t in enumerate(times):
                of_time = tiles.where(tiles.dims["T"] == self.times[t])
                for column, z in enumerate(planes):
                    of_plane = of_time.where(of_time.dims["Z"] == self.planes[z])
                    window = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
                    plane = self._plane(file, of_plane, window)
                    result[row, column] = plane[
                        :: rows.step, :: columns.step, components.start : components.stop : components.step
                    ]
        return result

    def _plane(self, file: BinaryIO, tiles: Tiles, window: tuple[int, int, int, int]) -> np.ndarray:
        """Return a window (top, bottom, left, right) of a plane as (y, x, component); later tiles lie on top."""
        top, bottom, left, right = window
        plane = np.zeros((bottom - top, right - left, self.shape[-1]), dtype=self.dtype)
        for number in np.lexsort((tiles.position, tiles.dims["M"])).tolist():
            y = int(tiles.dims["Y"][number]) - self.corner[0]
            x = int(tiles.dims["X"][number]) - self.corner[1]
            height, width = int(tiles.height[number]), int(tiles.width[number])
            first, last = max(top, y), min(bottom, y + height)
            start, stop = max(left, x), min(right, x + width)
            if first < last and start < stop:
                where = f"the sub-block at byte {tiles.position[number]} of {self.path}"
                offset, size = enter_block(file, int(tiles.position[number]), where)
                file.seek(offset)
                wanted = (first - y, last - y, height, width, self.shape[-1])
                values = decode(file, size, int(tiles.compression[number]), self.stored, wanted, where)
                plane[first - top : last - top, start - left : stop - left] = values[:, start - x : stop - x]
        return plane


def read(
    path: Path,
    *,
    axes: str | None,
    channel: int | str | None,
    chunks: Any,
    scene: int | None = None,
    gaps: str = "error",
) -> Opened:
    """Open a CZI lazily; the tiles of a mosaic are joined at full resolution.

    Parameters
    ----------
    path
        The file.
    axes
        None: the file states its axes.
    channel, chunks
        See :func:`niddl_xr.open_recording`. The channels of a colour camera are blue, green and red.
    scene
        Which scene of several, by its number in the file.
    gaps
        ``"error"`` where planes are missing, or ``"skip"``: frames without all their planes are left out, one
        warning counts them, and t keeps the others'.

    Returns
    -------
    Opened
        Axes ``"tzyx"``, counts as stored. Where tiles overlap, that of the higher number in the mosaic is seen, as in
        ZEN; pixels under no tile are 0, with a warning. Times in s are the time stamps that the file attaches, else
        the interval that its metadata state.

    Raises
    ------
    NiddlError
        For a damaged file, a file of several parts, an unknown compression or pixel type, several scenes or channels
        without a choice, dims beside T, Z, C and S, and missing planes.
    """
    require_usual(path, axes, gaps)
    stamp = modified_ns(path)
    with damage_named(f"{path} is not a CZI that can be read"):
        tiles = tiles_of(str(path), stamp)
        facts = facts_of(path)
    tiles, scene_number = _choose_scene(path, tiles, scene)
    numbers = sorted(set(tiles.dims["C"].tolist()))
    pixels = [_pixel_type(path, tiles, number) for number in numbers]
    names = _channel_names(facts, numbers, [components for _, components in pixels])
    index, label = choose_channel(channel, "c", (sum(components for _, components in pixels),), names, path)
    owners = [place for place, (_, components) in enumerate(pixels) for _ in range(components)]
    owner = owners[index]
    stored, components = pixels[owner]
    corner, size = _bounds(path, tiles)
    mine = tiles.where(tiles.dims["C"] == numbers[owner])
    _require_known(path, mine)
    times, planes, coords, notes = _frames(path, mine, gaps, size)
    source = CziPlanes(
        *(str(path), stamp, scene_number, numbers[owner], compact(times), compact(planes), corner),
        (len(times), len(planes), *size, components),
        stored,
    )
    listed = facts.times[times] if times[-1] < len(facts.times) else np.empty(0)
    increasing = len(listed) > 1 and bool(np.all(np.isfinite(listed)) and np.all(np.diff(listed) > 0))
    details = facts.of_channel(numbers[owner])
    if len(names) > 1:
        details["channels"] = list(names)
    return Opened(
        lazy(source, "tzyxc", chunks, index - owners.index(owner)),
        voxel_um=facts.voxel_um,
        dt_s=None if increasing else facts.interval_s,
        t_s=listed if increasing else None,
        channel=label,
        coords=coords,
        attrs={**facts.attrs, **details},
        notes=notes,
    )


def _choose_scene(path: Path, tiles: Tiles, wanted: int | None) -> tuple[Tiles, int]:
    """Return the tiles of the scene that the caller wants, and its number."""
    if tiles.other:
        raise NiddlError(
            f"{path} has several {' and '.join(tiles.other)} (phases, rotations, illuminations or views); expected "
            "one: split it in ZEN"
        )
    scenes = sorted(set(tiles.dims["S"].tolist()))
    listed = ", ".join(map(str, scenes[:20]))
    if wanted is None and len(scenes) > 1:
        raise NiddlError(f"{path} has {len(scenes)} scenes: {listed}; choose one with scene=")
    number = scenes[0] if wanted is None else wanted
    if number not in scenes:
        raise NiddlError(f"{path} has no scene {wanted!r}; choose one of {listed} with scene=")
    return tiles.where(tiles.dims["S"] == number), int(number)


def _pixel_type(path: Path, tiles: Tiles, channel: int) -> tuple[str, int]:
    """Return the dtype of a component and the number of components of a channel."""
    kinds = set(tiles.pixel[tiles.dims["C"] == channel].tolist())
    if len(kinds) > 1 or not kinds <= set(_PIXELS):
        raise NiddlError(
            f"{path} has pixels of type {sorted(kinds)} in channel {channel}; expected one of {list(_PIXELS)}"
        )
    return _PIXELS[kinds.pop()]


def _channel_names(facts: Facts, numbers: Sequence[int], components: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the channels, those of colour cameras one a colour; empty where one has no name."""
    names: list[str] = []
    for number, count in zip(numbers, components, strict=True):
        name = facts.channels[number].get("name", "") if number < len(facts.channels) else ""
        if count == 1:
            names.append(name)
        else:
            colours = (*_COLOURS, "alpha")[:count]
            names += [colour if len(numbers) == 1 else f"{name or number} {colour}" for colour in colours]
    return tuple(names) if all(names) else ()


def _bounds(path: Path, tiles: Tiles) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the corner and the size (y, x) of the smallest rectangle around all tiles of a scene."""
    y, x = tiles.dims["Y"], tiles.dims["X"]
    corner = int(y.min()), int(x.min())
    height, width = int((y + tiles.height).max()) - corner[0], int((x + tiles.width).max()) - corner[1]
    if height * width > _SPARSE * int((tiles.width * tiles.height).sum()):
        raise NiddlError(
            f"the tiles of {path} lie so far apart that most of their {height} x {width} pixels would be empty; "
            "save them as scenes of their own"
        )
    return corner, (height, width)


def _require_known(path: Path, tiles: Tiles) -> None:
    unknown = sorted(set(tiles.compression.tolist()) - {UNCOMPRESSED, JPEG_XR, ZSTD, ZSTD_PACKED})
    if unknown:
        named = ", ".join(_COMPRESSIONS.get(number, f"number {number}") for number in unknown)
        raise NiddlError(f"{path} is compressed with {named}, which is not read; save it with Zstandard, or without")


def _frames(
    path: Path, tiles: Tiles, gaps: str, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, dict[str, xr.Variable], tuple[UserWarning, ...]]:
    """Return the numbers along T whose planes are all there, those along Z, coordinates, and what to warn of."""
    planes = np.unique(tiles.dims["Z"])
    times, of_tile = np.unique(tiles.dims["T"], return_inverse=True)
    announced = range(int(times[0]), int(times[-1]) + 1)
    pairs = np.unique(np.stack([of_tile, np.searchsorted(planes, tiles.dims["Z"])]), axis=1)
    whole = np.bincount(pairs[0], minlength=len(times)) == len(planes)
    step = {int(after - before) for before, after in pairwise(planes.tolist())}
    missing = len(announced) - int(whole.sum())
    if step - {1} or (missing and gaps == "error"):
        raise NiddlError(
            f"{path} lacks planes: {int(whole.sum())} of {len(announced)} frames have all {len(planes)} planes along z"
            + ("" if step - {1} else "; gaps='skip' opens these")
        )
    if not whole.any():
        raise NiddlError(f"{path} has no frame with all its {len(planes)} planes")
    coords, notes = numbered(path, times[whole] - times[0], len(announced))
    covered = int((tiles.width * tiles.height).sum())
    if covered < len(pairs[0]) * size[0] * size[1]:
        notes += (UserWarning(f"the tiles of {path} leave pixels uncovered; these are 0"),)
    return times[whole], planes, coords, notes
