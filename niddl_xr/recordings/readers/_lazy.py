"""Arrays in files as dask arrays that pickle: a block holds paths and numbers, and opens the file when computed."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from niddl_xr.chunking import CHUNK_BYTES, frames_within
from niddl_xr.schema import RECORDING_DIMS, MissingMetadataWarning, NiddlError

if TYPE_CHECKING:
    import dask.array as da

LETTERS = "tzcyx"
LISTED = 20  # channels in a message
FILES_A_BLOCK = 64  # opening a file costs more than reading a small plane
DAMAGE = (  # what libraries raise for a file whose bytes make no sense
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, EOFError),
    *(ArithmeticError, AssertionError, MemoryError, struct.error, zlib.error),
)
_PAGE_READERS = {"tiff": "niddl_xr.recordings.readers._tiff_pages", "png": "niddl_xr.recordings.readers.planes"}


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
        return np.asarray(np.squeeze(values, axis=dropped), order="C")


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
    labels = [f"{number} ({names[number]})" if names else str(number) for number in range(min(count, LISTED))]
    listed = ", ".join([*labels, "..."] if count > LISTED else labels)
    if channel is None and count > 1:
        raise NiddlError(f"{where} has {count} channels: {listed}; choose one with channel=")
    named = str(channel)  # 488 may be a name, where there are fewer channels
    numbered = channel is None or (not isinstance(channel, str) and channel in range(count))
    if not numbered and list(names).count(named) == 1:
        number = list(names).index(named)
    elif numbered:
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
    """Planes of one file: their numbers in it, and the byte at which each lies (or its directory does).

    ``raw`` planes lie there without compression, as values of the dtype ``stored``.
    """

    name: str
    pages: range
    places: range | np.ndarray
    raw: bool
    stored: str


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
        wanted = np.arange(math.prod(self.leading)).reshape(self.leading)[np.ix_(*lead)].ravel()
        spans = [span(index) for index in page]
        crop, picks = tuple(cut for cut, _ in spans), [picked for _, picked in spans]
        result = np.empty((wanted.size, *(len(index) for index in page)), dtype=self.dtype)
        stops = np.cumsum([len(run.pages) for run in self.runs])
        numbers = np.searchsorted(stops, wanted, side="right")
        for number in np.unique(numbers):
            run, rows = self.runs[number], np.flatnonzero(numbers == number)
            inside = (wanted[rows] - (stops[number] - len(run.pages))).tolist()
            fill = self._fill_raw if run.raw else self._fill_decoded
            fill(str(Path(self.folder, run.name)), run, inside, rows.tolist(), crop, picks, result)
        return np.squeeze(result.reshape([len(index) for index in indices]), axis=dropped)

    def _fill_decoded(
        self,
        path: str,
        run: Run,
        inside: Sequence[int],
        rows: Sequence[int],
        crop: tuple[slice, ...],
        picks: Sequence[list[int] | slice],
        result: np.ndarray,
    ) -> None:
        """Decode planes of a run, ``inside`` it, into rows of the result."""
        plane = run.pages[inside[0]]
        whole = result.shape[1:] == self.page_shape and all(isinstance(picked, slice) for picked in picks)
        with (
            damage_named(f"plane {plane} of {path} could not be read", (OSError,)),
            import_module(_PAGE_READERS[self.kind]).PageReader(path) as reader,
        ):
            for row, place in zip(rows, inside, strict=True):
                plane = run.pages[place]
                with damage_named(f"plane {plane} of {path} could not be read"):
                    room = result[row] if whole else None
                    values = reader.read(plane, int(run.places[place]), self.page_shape, crop, room)
                    if native(values.dtype) != self.dtype:
                        raise NiddlError(f"plane {plane} of {path} is {values.dtype}, expected {self.dtype} as before")
                    if values is not room:
                        result[row] = pick(values, picks)

    def _fill_raw(
        self,
        path: str,
        run: Run,
        inside: Sequence[int],
        rows: Sequence[int],
        crop: tuple[slice, ...],
        picks: Sequence[list[int] | slice],
        result: np.ndarray,
    ) -> None:
        """Read planes that lie in the file as they are: neighbours at once; of a crop, the lines it lies in."""
        stored = np.dtype(run.stored)
        first, last = crop[0].start, crop[0].stop
        shape = (last - first, *self.page_shape[1:])
        size, line = math.prod(shape) * stored.itemsize, math.prod(shape[1:]) * stored.itemsize
        starts = [int(run.places[place]) + first * line for place in inside]
        sliced = all(isinstance(picked, slice) for picked in picks)
        with damage_named(f"{path} could not be read", (OSError, ValueError)), open(path, "rb", buffering=0) as file:
            if sliced and shape == result.shape[1:]:
                for begin, count in _neighbours(starts, rows, size):
                    read_into(file, starts[begin], result[rows[begin] : rows[begin] + count], stored)
                return
            values = np.empty(shape, self.dtype)
            for row, start in zip(rows, starts, strict=True):
                read_into(file, start, values, stored)
                result[row] = pick(values[(slice(None, None, crop[0].step), *crop[1:])], picks)


def _neighbours(starts: Sequence[int], rows: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the number of planes that follow each other both in the file and in the result."""
    begin = 0
    for place in range(1, len(starts) + 1):
        follows = (
            place < len(starts) and starts[place] == starts[place - 1] + size and rows[place] == rows[place - 1] + 1
        )
        if not follows:
            yield begin, place - begin
            begin = place


def read_into(file: FileIO, start: int, values: np.ndarray, stored: np.dtype[Any]) -> None:
    """Fill a contiguous array with the values of a file from a byte on; ``stored`` says their byte order."""
    room = memoryview(values.reshape(-1).view(np.uint8).data)
    file.seek(start)
    done = 0
    while done < len(room):
        count = file.readinto(room[done:])
        if not count:
            raise ValueError(f"it ends at byte {start + done}, and {len(room) - done} bytes more are needed")
        done += count
    if not stored.isnative:
        values.byteswap(inplace=True)


@dataclass(frozen=True)
class PlaneTable:
    """Where every plane of an array lies: ``names[files[i]]`` in ``folder`` holds plane i as its ``pages[i]``.

    ``places`` has the byte of the file at which the values of a plane begin where ``raw`` says that they lie there
    without compression, with the dtype that ``kinds`` names for the file; else the byte of its directory, or -1 where
    it is found by its number.
    """

    folder: str
    kind: str
    names: tuple[str, ...]
    files: np.ndarray
    pages: np.ndarray
    places: np.ndarray
    raw: np.ndarray
    page_shape: tuple[int, ...]
    kinds: tuple[str, ...]
    token: str

    def __len__(self) -> int:
        return len(self.files)

    @property
    def stored(self) -> str:
        """The dtype of the first file, in its byte order."""
        return self.kinds[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return native(self.stored)

    def take(self, planes: np.ndarray) -> PlaneTable:
        """Return the table of chosen planes, in the order given."""
        chosen = {name: getattr(self, name)[planes] for name in ("files", "pages", "places", "raw")}
        return replace(self, **chosen)

    def runs(self, planes: np.ndarray) -> tuple[Run, ...]:
        """Return the chosen planes as few runs of equal step within a file."""
        files, pages, places, raw = (part[planes] for part in (self.files, self.pages, self.places, self.raw))
        if len(planes) == 1:
            file, page, place = int(files[0]), int(pages[0]), int(places[0])
            one = range(page, page + 1), range(place, place + 1)
            return (Run(self.names[file], *one, bool(raw[0]), self.kinds[file]),)
        new = np.concatenate([(files[1:] != files[:-1]) | (raw[1:] != raw[:-1]), [True]]).tolist()
        numbers, runs, begin = pages.tolist(), [], 0
        for plane in range(1, len(numbers) + 1):
            step = numbers[min(begin + 1, plane)] - numbers[begin] if not new[plane - 1] else 0
            if step == 0 or numbers[plane] != numbers[plane - 1] + step:
                file = int(files[begin])
                last = numbers[plane - 1]
                step = last - numbers[plane - 2] if plane > begin + 1 else 1
                run = range(numbers[begin], last + (1 if step > 0 else -1), step)
                runs.append(
                    Run(self.names[file], run, _compact(places[begin:plane]), bool(raw[begin]), self.kinds[file])
                )
                begin = plane
        return tuple(runs)


def _compact(numbers: np.ndarray) -> range | np.ndarray:
    """Return numbers of equal step as a range, others as they are."""
    step = int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
    if step == 0 or np.any(np.diff(numbers) != step):
        return numbers
    first = int(numbers[0])
    return range(first, first + step * len(numbers), step)


def joined(tables: Sequence[PlaneTable], folder: str, names: Sequence[str], token: str) -> PlaneTable:
    """Return the planes of many files, one table a file, as one table with ``names`` relative to ``folder``."""
    counts = [len(table) for table in tables]
    return replace(
        tables[0],
        folder=folder,
        names=tuple(names),
        files=np.repeat(np.arange(len(tables)), counts),
        pages=np.concatenate([table.pages for table in tables]),
        places=np.concatenate([table.places for table in tables]),
        raw=np.concatenate([table.raw for table in tables]),
        kinds=tuple(table.stored for table in tables),
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
