"""Arrays in files as dask arrays that pickle: a block holds paths and numbers, and opens the file when computed."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from niddl_xr.chunking import CHUNK_BYTES, frames_within
from niddl_xr.schema import RECORDING_DIMS, MissingMetadataWarning, NiddlError

if TYPE_CHECKING:
    import dask.array as da

LETTERS = "tzcyx"
FILES_A_BLOCK = 64  # opening a file costs more than reading a small plane
DAMAGE = (  # what libraries raise for a file whose bytes make no sense
    *(OSError, ValueError, RuntimeError, KeyError, IndexError, TypeError, EOFError),
    *(ArithmeticError, AssertionError, MemoryError, struct.error, zlib.error),
)
_PAGE_READERS = {"tiff": "niddl_xr.recordings.readers.tiff", "png": "niddl_xr.recordings.readers.planes"}


class Source(Protocol):
    """An array in a file: it pickles, and slices of positive step read what they name."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray: ...


@contextmanager
def damage_named(what: str, kinds: tuple[type[Exception], ...] = DAMAGE) -> Iterator[None]:
    """Turn the exceptions by which libraries report a damaged file into one that starts with ``what``."""
    try:
        yield
    except NiddlError:
        raise
    except kinds as error:
        reason = str(error) or type(error).__name__
        raise NiddlError(f"{what}: {reason}; if it is damaged or cut short, copy it again from its origin") from error


def native(dtype: Any) -> np.dtype[Any]:
    """Return a dtype in the byte order of this machine."""
    wanted: np.dtype[Any] = np.dtype(dtype)
    return wanted.newbyteorder("=")


def modified_ns(path: Path) -> int:
    """Return when a file was last written, so that a changed file is another array to dask."""
    return path.stat().st_mtime_ns


def require_axes(axes: str, dims: int, where: str) -> str:
    """Return an axes string in lower case if it names every one of ``dims`` dims once, y and x among them."""
    letters = axes.lower()
    known = len(set(letters)) == len(letters) and set("yx") <= set(letters) <= set(LETTERS)
    if not known:
        raise NiddlError(
            f"expected axes as letters of t, z, c, y, x, each at most once, with y and x, got {axes!r} for {where}; "
            'a movie of volumes is "tzyx"'
        )
    if len(letters) != dims:
        raise NiddlError(f"expected axes of {dims} letters, one for every dim of {where}, got {axes!r}")
    return letters


def default_axes(axes: str | None, shape: tuple[int, ...], where: str) -> tuple[str, tuple[UserWarning, ...]]:
    """Return the axes of an array whose file does not state them, and what to warn of: (t, z, y, x) from the left."""
    if axes is not None:
        return require_axes(axes, len(shape), f"{where} with shape {shape}"), ()
    if len(shape) not in (2, 3, 4):
        raise NiddlError(f"{where} has shape {shape} and does not state its axes: set axes=, such as axes='tzcyx'")
    assumed = {2: "yx", 3: "tyx", 4: "tzyx"}[len(shape)]
    text = f"{where} does not state its axes; its shape {shape} is taken as {assumed!r} (set axes=)"
    return assumed, (MissingMetadataWarning(text),)


def block_lengths(
    chunks: Any, axes: str, shape: tuple[int, ...], dtype: Any, *, frames_a_unit: int = 1, at_most: int | None = None
) -> tuple[tuple[int, ...], ...]:
    """Return the lengths of the dask blocks along every axis of an array with the dims ``axes``.

    Parameters
    ----------
    chunks
        ``"auto"`` (frames of about ``CHUNK_BYTES``, one channel, z, y, x whole), a number of frames, or a mapping
        of dims to what dask takes; dims that are not in it stay whole, t and c as in ``"auto"``.
    frames_a_unit
        How many frames the file stores together: ``"auto"`` gives multiples of it.
    at_most
        Upper limit of the frames in a block of ``"auto"``.
    """
    from dask.array.core import normalize_chunks

    sizes = dict(zip(axes, shape, strict=True))
    frame = tuple(sizes.get(dim, 1) for dim in "zyx")
    frames = min(frames_within(frame, np.dtype(dtype).itemsize, CHUNK_BYTES), at_most or sizes["t"])
    frames = max(frames_a_unit, frames // frames_a_unit * frames_a_unit)
    wanted: dict[str, Any] = {**dict.fromkeys(axes, -1), "c": 1, "t": frames}
    if isinstance(chunks, Mapping):
        unknown = sorted(set(chunks) - set("tzyx"))
        if unknown:
            raise NiddlError(f"expected chunks along t, z, y, x, got {unknown}")
        wanted.update(chunks)
    elif isinstance(chunks, (int, np.integer)) and not isinstance(chunks, bool) and chunks > 0:
        wanted["t"] = int(chunks)
    elif chunks != "auto":
        raise NiddlError(f"expected chunks as 'auto', a number of frames or a mapping of dims, got {chunks!r}")
    try:
        lengths: tuple[tuple[int, ...], ...] = normalize_chunks(
            tuple(wanted[axis] for axis in axes), shape, dtype=np.dtype(dtype)
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        raise NiddlError(f"expected chunks that dask can apply to sizes {sizes}, got {chunks!r}: {error}") from error
    return lengths


def indices_of(key: Any, shape: tuple[int, ...]) -> tuple[list[Sequence[int]], tuple[int, ...]]:
    """Return the indices that a key names along every dim, and the dims that it drops.

    A key is what dask passes on: slices, integers, or an array of integers or truth values along a dim.
    """
    given = list(key) if isinstance(key, tuple) else [key]
    given += [slice(None)] * (len(shape) - len(given))
    indices: list[Sequence[int]] = []
    dropped = []
    for dim, (index, size) in enumerate(zip(given, shape, strict=True)):
        if isinstance(index, slice):
            indices.append(range(*index.indices(size)))
        elif np.ndim(index):
            indices.append(np.arange(size)[np.asarray(index)].tolist())
        else:
            indices.append([int(index) % size])
            dropped.append(dim)
    return indices, tuple(dropped)


def span(indices: Sequence[int]) -> tuple[slice, list[int] | slice]:
    """Return a slice of positive step that covers ``indices``, and what picks them from what the slice gives."""
    if not indices:
        return slice(0, 0), slice(None)
    if isinstance(indices, range) and indices.step > 0:
        return slice(indices[0], indices[-1] + 1, indices.step), slice(None)
    first = min(indices)
    return slice(first, max(indices) + 1), [index - first for index in indices]


def pick(values: np.ndarray, picks: Sequence[list[int] | slice]) -> np.ndarray:
    """Return what ``picks`` name along every dim by itself."""
    for dim, wanted in enumerate(picks):
        if isinstance(wanted, list):
            values = np.take(values, wanted, axis=dim)
    return values


@dataclass(frozen=True)
class Arranged:
    """A source seen with the dims (t, z, y, x), of one channel; missing dims have size 1."""

    source: Source
    axes: str  # of the source
    channel: int

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = dict(zip(self.axes, self.source.shape, strict=True))
        return tuple(sizes.get(dim, 1) for dim in RECORDING_DIMS)

    @property
    def ndim(self) -> int:
        return len(RECORDING_DIMS)

    @property
    def dtype(self) -> np.dtype[Any]:
        return native(self.source.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        indices, dropped = indices_of(key, self.shape)
        spans = {dim: span(wanted) for dim, wanted in zip(RECORDING_DIMS, indices, strict=True)}
        spans["c"] = slice(self.channel, self.channel + 1), slice(None)
        values = np.asarray(self.source[tuple(spans[axis][0] for axis in self.axes)], dtype=self.dtype)
        if "c" in self.axes:
            values = np.squeeze(values, axis=self.axes.index("c"))
        axes = self.axes.replace("c", "")
        values = values.transpose([axes.index(dim) for dim in RECORDING_DIMS if dim in axes])
        values = np.expand_dims(values, [place for place, dim in enumerate(RECORDING_DIMS) if dim not in axes])
        absent = {dim: list(wanted) for dim, wanted in zip(RECORDING_DIMS, indices, strict=True) if dim not in axes}
        values = pick(values, [absent.get(dim, spans[dim][1]) for dim in RECORDING_DIMS])
        return np.ascontiguousarray(np.squeeze(values, axis=dropped))


def lazy(source: Source, axes: str, chunks: Any, channel: int = 0, *, frames_a_unit: int = 1) -> da.Array:
    """Return one channel of a source with the dims ``axes`` as a dask array (t, z, y, x).

    A slice of it reads that slice only; of a slice of a slice, dask tells the file about the first one only.
    """
    import dask.array as da

    arranged = Arranged(source, axes, channel)
    lengths = block_lengths(chunks, "tzyx", arranged.shape, arranged.dtype, frames_a_unit=frames_a_unit)
    meta = np.empty((0,) * arranged.ndim, dtype=arranged.dtype)
    data: da.Array = da.from_array(arranged, lengths, inline_array=True, meta=meta)
    return data


def choose_channel(
    channel: int | str | None, axes: str, shape: Sequence[int], names: Sequence[str], where: Any
) -> tuple[int, int | str | None]:
    """Return the number of the channel that the caller wants, and what to call it (None where there is only one)."""
    count = shape[axes.index("c")] if "c" in axes else 1
    names = names if len(names) == count else ()
    listed = ", ".join(f"{number} ({name})" for number, name in enumerate(names)) or ", ".join(map(str, range(count)))
    if channel is None and count > 1:
        raise NiddlError(f"{where} has {count} channels: {listed}; choose one with channel=")
    if isinstance(channel, str) and names and list(names).count(channel) == 1:
        number = list(names).index(channel)
    elif channel is None or (not isinstance(channel, str) and channel in range(count)):
        number = int(channel or 0)
    else:
        raise NiddlError(f"{where} has no channel {channel!r}; choose one of {listed} with channel=")
    if names:
        return number, names[number]
    return number, number if count > 1 or channel is not None else None


@dataclass(frozen=True)
class Contiguous:
    """Values that lie in a file one after the other, memory-mapped while they are read."""

    path: str
    offset: int
    shape: tuple[int, ...]
    stored: str  # dtype with its byte order, as numpy writes it
    order: Literal["C", "F"] = "C"
    modified_ns: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return native(self.stored)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        with damage_named(f"{self.path} could not be read", (OSError, ValueError)):
            mapped = np.memmap(self.path, self.stored, "r", self.offset, self.shape, self.order)
            return np.array(mapped[key], dtype=self.dtype)


@dataclass(frozen=True)
class Run:
    """Planes ``first``, ``first + step``, ... of one file; with ``offset``, bytes from the file's start to plane 0."""

    name: str
    first: int
    step: int
    count: int
    offset: int | None


@dataclass(frozen=True)
class PlaneBlock:
    """A block of planes from one or many files, in the order of its leading dims."""

    folder: str
    kind: str
    runs: tuple[Run, ...]
    leading: tuple[int, ...]
    page_shape: tuple[int, ...]
    stored: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.leading, *self.page_shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return native(self.stored)

    def __getitem__(self, key: Any) -> np.ndarray:
        indices, dropped = indices_of(key, self.shape)
        lead, page = indices[: len(self.leading)], indices[len(self.leading) :]
        places = np.arange(math.prod(self.leading)).reshape(self.leading)[np.ix_(*lead)]
        spans = [span(wanted) for wanted in page]
        result = np.empty((places.size, *(len(wanted) for wanted in page)), dtype=self.dtype)
        stops = np.cumsum([run.count for run in self.runs])
        for row, place in enumerate(places.ravel()):
            number = int(np.searchsorted(stops, place, side="right"))
            run = self.runs[number]
            plane = run.first + run.step * int(place - stops[number] + run.count)
            result[row] = pick(self._read(run, plane, tuple(cut for cut, _ in spans)), [picks for _, picks in spans])
        return np.squeeze(result.reshape([len(wanted) for wanted in indices]), axis=dropped)

    def _read(self, run: Run, plane: int, crop: tuple[slice, ...]) -> np.ndarray:
        path = str(Path(self.folder, run.name))
        if run.offset is not None:
            size = math.prod(self.page_shape) * np.dtype(self.stored).itemsize
            return Contiguous(path, run.offset + plane * size, self.page_shape, self.stored)[crop]
        with damage_named(f"plane {plane} of {path} could not be read"):
            values: np.ndarray = import_module(_PAGE_READERS[self.kind]).read_page(path, plane)
            if values.shape != self.page_shape or native(values.dtype) != self.dtype:
                raise NiddlError(
                    f"plane {plane} of {path} is {values.shape} {values.dtype}, expected {self.page_shape} "
                    f"{self.dtype} as in the first plane"
                )
            return values[crop]


@dataclass(frozen=True)
class PlaneTable:
    """Where every plane of an array lies: ``names[files[i]]`` in ``folder`` holds plane i as its ``pages[i]``.

    ``offsets`` has, for every file, the bytes from its start to its first plane where planes lie one after the
    other without compression, else None.
    """

    folder: str
    kind: str
    names: tuple[str, ...]
    offsets: tuple[int | None, ...]
    files: np.ndarray
    pages: np.ndarray
    page_shape: tuple[int, ...]
    stored: str
    token: str

    def __len__(self) -> int:
        return len(self.files)

    @property
    def dtype(self) -> np.dtype[Any]:
        return native(self.stored)

    def runs(self, planes: np.ndarray) -> tuple[Run, ...]:
        """Return the chosen planes as few runs of equal step within a file."""
        runs: list[list[int]] = []  # file, first, step, count
        for file, page in zip(self.files[planes].tolist(), self.pages[planes].tolist(), strict=True):
            last = runs[-1] if runs else [-1, 0, 0, 0]
            if last[0] == file and last[3] == 1:
                last[2:] = [page - last[1], 2]
            elif last[0] == file and page == last[1] + last[2] * last[3]:
                last[3] += 1
            else:
                runs.append([file, page, 0, 1])
        return tuple(Run(self.names[file], first, step, count, self.offsets[file]) for file, first, step, count in runs)


def joined(tables: Sequence[PlaneTable], folder: str, names: Sequence[str], token: str) -> PlaneTable:
    """Return the planes of many files, one table a file, as one table with ``names`` relative to ``folder``."""
    counts = [len(table) for table in tables]
    one_order = len({table.stored for table in tables}) == 1  # else tifffile sorts out the byte order of each file
    return replace(
        tables[0],
        folder=folder,
        names=tuple(names),
        offsets=tuple(table.offsets[0] if one_order else None for table in tables),
        files=np.repeat(np.arange(len(tables)), counts),
        pages=np.concatenate([table.pages for table in tables]),
        token=token,
    )


def lazy_planes(
    table: PlaneTable, leading: str, sizes: tuple[int, ...], page: str, chunks: Any, channel: int = 0
) -> tuple[da.Array, str]:
    """Return the planes of a table as a dask array, and its axes.

    Parameters
    ----------
    table
        Its planes are in C order of ``leading``.
    leading, sizes
        Axes over planes and their sizes.
    page
        Axes within a plane.
    chunks
        As :func:`block_lengths` takes them.
    channel
        The number of the channel to take.

    Returns
    -------
    tuple
        The array and its axes: t and z of ``leading`` in this order, then ``page`` without c. A slice of it reads
        only the planes that it names; the graph of a few frames holds only where these lie.
    """
    import dask.array as da
    from dask._task_spec import DataNode, Task
    from dask.array.core import getter
    from dask.base import tokenize

    places: np.ndarray = np.arange(len(table)).reshape(sizes)
    if "c" in leading:
        places = np.asarray(places.take(channel, axis=leading.index("c")))
    left = leading.replace("c", "")
    order = [axis for axis in "tz" if axis in left]
    places = places.transpose([left.index(axis) for axis in order])
    for position, axis in enumerate("tz"):
        if axis not in leading and axis not in page:
            places = np.expand_dims(places, min(position, places.ndim))
            order.insert(position, axis)
    axes = "".join(order) + page
    shape = (*places.shape, *table.page_shape)
    at_most = None
    if len(table.names) > 1 and order[0] == "t":
        at_most = max(1, FILES_A_BLOCK * places.shape[0] // len(table.names))
    lengths = block_lengths(chunks, axes, shape, table.stored, at_most=at_most)
    ends = [np.cumsum((0, *parts)) for parts in lengths]
    name = f"open-{tokenize(table.token, axes, lengths, leading, sizes, channel)}"
    blocks: dict[Any, Any] = {}
    for index in np.ndindex(*(len(parts) for parts in lengths)):
        window = [slice(int(ends[dim][i]), int(ends[dim][i + 1])) for dim, i in enumerate(index)]
        chosen = places[tuple(window[: places.ndim])]
        block = PlaneBlock(
            table.folder,
            table.kind,
            table.runs(chosen.ravel()),
            chosen.shape,
            table.page_shape,
            table.stored,
        )
        key = (*(slice(0, size) for size in chosen.shape), *window[places.ndim :])
        blocks[(name, *index)] = Task((name, *index), getter, DataNode(None, block), DataNode(None, key))
    meta = np.empty((0,) * len(shape), dtype=native(table.stored))
    data: Any = da.Array(blocks, name, lengths, meta=meta)
    if "c" in page:
        data = data[(slice(None),) * axes.index("c") + (channel,)]
    return data, axes.replace("c", "")
