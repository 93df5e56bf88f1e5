"""Fills a store region by region: on this machine with reading, work and writing overlapped, or on a cluster.

A sliding window of regions is the back-pressure: memory does not grow with the length of the recording. Whatever
stops the work (a signal, a full disk, a lost worker), regions in the ledger are complete, and the same call does
the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import Region, read_region, sampled_planes
from niddl_xr.schema import RECORDING_DIMS, NiddlError, require_recording, with_history
from niddl_xr.store import all_regions, create_store, is_store, open_store, unfinished_regions, write_region

if TYPE_CHECKING:
    import dask.array as da

Process = Callable[[np.ndarray], np.ndarray]
READ_AHEAD = 1
WRITE_BEHIND = 1
REGIONS_PER_WORKER = 2
RETRIES = 2
IDENTITY_PLANES = 32


@dataclass(frozen=True)
class RegionTask:
    """Everything that a worker needs to write one region: a few kilobytes, whatever the recording and the network.

    ``frames`` is the lazy part of the recording that the region reads; ``places`` says where in it the region's
    frames lie, halo included. ``process`` gets these frames (t + 2 halo, z, y, x) and gives the region (t, z, y, x).
    """

    frames: da.Array
    places: np.ndarray
    path: Path
    region: Region
    process: Process

    def read(self) -> np.ndarray:
        """Read the frames, halo included."""
        block = _in_memory(self.frames)
        return block if np.array_equal(self.places, np.arange(len(block))) else block[self.places]

    def __call__(self) -> int:
        """Read, process and write the region; return its index."""
        write_region(self.path, self.region, self.work(self.read()))
        return self.region.index

    def work(self, frames: np.ndarray) -> np.ndarray:
        """Process the frames; an error names the part of the recording."""
        try:
            return self.process(frames)
        except NiddlError as error:
            raise NiddlError(f"frames {self.region.start} to {self.region.stop - 1}: {error}") from error


def _in_memory(frames: da.Array) -> np.ndarray:
    """Compute in this thread; a single block is not copied, as ``compute`` would."""
    from dask.core import flatten
    from dask.local import get_sync

    keys = list(flatten(frames.__dask_keys__()))
    if len(keys) == 1:
        return np.asarray(get_sync(frames.__dask_graph__(), keys[0]))
    block: np.ndarray = frames.compute(scheduler="synchronous")
    return block


def _task(frames: da.Array, path: Path, region: Region, process: Process, halo_frames: int) -> RegionTask:
    from dask.base import optimize

    lazy, places = read_region(frames, region, halo_frames)
    (optimised,) = optimize(lazy)  # drops the graph of all other frames
    return RegionTask(optimised, places, path, region, process)


def active_client(client: Any = None) -> Any:
    """Return the given dask client, else the one of this process, else None."""
    if client is not None or "distributed" not in sys.modules:
        return client
    from distributed import default_client

    try:
        return default_client()
    except ValueError:  # what distributed raises where there is none
        return None


def fill(
    path: Path,
    recording: xr.DataArray,
    todo: Iterable[Region],
    process: Process,
    *,
    halo_frames: int = 0,
    client: Any = None,
    progress: bool = True,
    description: str = "write",
) -> None:
    """Process and write the regions ``todo`` of ``recording`` into an existing store."""
    from tqdm.auto import tqdm

    planned = list(todo)
    cut = all_regions(path)
    # An array in memory is cut as the regions are, so that a task takes its part along and no more.
    frames = (recording if recording.chunks else recording.chunk(t=len(cut[0]))).data
    total = len(cut)
    tasks = (_task(frames, path, region, process, halo_frames) for region in planned)
    with tqdm(total=total, initial=total - len(planned), desc=description, unit="region", disable=not progress) as bar:
        finished = _on_this_machine(tasks) if client is None else _on_cluster(tasks, client)
        for _ in finished:
            bar.update()


def _on_this_machine(tasks: Iterable[RegionTask]) -> Iterator[int]:
    """Read the next region and write the last one while this thread works on the present one."""
    with ThreadPoolExecutor(1, "niddl-read") as reader, ThreadPoolExecutor(1, "niddl-write") as writer:
        remaining = iter(tasks)
        reading: deque[tuple[RegionTask, Future[np.ndarray]]] = deque()
        writing: deque[tuple[int, Future[None]]] = deque()

        def read_next() -> None:
            if (task := next(remaining, None)) is not None:
                reading.append((task, reader.submit(task.read)))

        def oldest_written() -> int:
            index, written = writing.popleft()
            written.result()
            return index

        for _ in range(READ_AHEAD):
            read_next()
        while reading:
            task, frames = reading.popleft()
            block = frames.result()
            del frames  # a future keeps its result, and memory is what the window bounds
            read_next()
            result = task.work(block)
            del block
            if len(writing) >= WRITE_BEHIND:
                yield oldest_written()
            writing.append((task.region.index, writer.submit(write_region, task.path, task.region, result)))
            del result
        while writing:
            yield oldest_written()


def _on_cluster(tasks: Iterable[RegionTask], client: Any) -> Iterator[int]:
    """Keep two regions a worker thread under way, and no more."""
    from distributed import as_completed

    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    slots = sum(worker["nthreads"] for worker in workers)
    resources = {"GPU": 1} if any("GPU" in worker["resources"] for worker in workers) else None
    remaining = iter(tasks)

    def submit(task: RegionTask) -> Any:
        return client.submit(task, pure=False, retries=RETRIES, resources=resources)

    window = [submit(task) for task in islice(remaining, max(1, REGIONS_PER_WORKER * slots))]
    running = as_completed(window)
    for future in running:
        yield future.result()
        if (task := next(remaining, None)) is not None:
            running.add(submit(task))


def _unchanged(block: np.ndarray) -> np.ndarray:
    return block


def save(
    recording: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    pyramid: bool = True,
    client: Any = None,
    progress: bool = True,
) -> xr.DataArray:
    """Write a recording to a store and reopen it.

    The store is zarr 3 with OME-NGFF 0.5 metadata: xarray opens ``s0`` (and every pyramid level) as a Dataset,
    napari and the OME-Zarr tools open the whole. Pixels are kept to the bit, in their dtype, blosc-compressed.
    Only a few regions are in memory at a time. An interrupted call is finished by the same call.

    Parameters
    ----------
    recording
        Dims (t, z, y, x), any real dtype; NaN is kept.
    path
        Folder to make, usually ``*.zarr``.
    overwrite
        Replace an existing store of niddl_xr, after the new one is complete.
    pyramid
        Add levels of half the size in y and x until a plane is at most 256 px wide.
    client
        dask.distributed client whose workers write; default: the active one, else this process.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.DataArray
        The lazy recording in the store.

    Raises
    ------
    FileExistsError
        If the path exists and is not this recording's own unfinished or finished store.
    OSError
        If the disk is full or read-only; finished regions stay.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> stored = nx.open_recording("worm7.tif").niddl.save("worm7.zarr")  # doctest: +SKIP
    """
    require_recording(recording)
    target = Path(path).expanduser()
    if target.is_symlink():
        target = target.resolve()
    job = {"verb": "save", "recording": identity(recording), "pyramid": bool(pyramid)}
    parameters = {"source": recording.attrs.get("source"), "path": str(path), "pyramid": bool(pyramid)}
    replaces = overwrite and target.exists()
    if replaces and not is_store(target):
        raise FileExistsError(f"{target} exists and is no recording of niddl_xr; it is not overwritten")
    new, old = (target.with_name(f".{target.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    stored = begin_and_fill(
        recording,
        new if replaces else target,
        recording.dtype,
        job,
        _unchanged,
        pyramid=pyramid,
        client=client,
        progress=progress,
        parameters=parameters,
    )
    if not replaces:
        return stored
    # The old store is moved aside only when the new one is complete, and deleted last.
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old)
    return open_store(target)


def begin_and_fill(
    recording: xr.DataArray,
    target: Path,
    dtype: np.dtype,
    job: Mapping[str, Any],
    process: Process,
    *,
    parameters: Mapping[str, Any],
    pyramid: bool = True,
    halo_frames: int = 0,
    resume: bool = True,
    client: Any = None,
    progress: bool = True,
    **identities: str,
) -> xr.DataArray:
    """Make the store, or find what it still lacks; fill it; reopen it.

    ``job`` says what fills the store: one that exists is continued only if its own is equal.
    """
    job = json.loads(json.dumps(job))  # as it comes back from the store
    target = target.expanduser().absolute()  # workers have working directories of their own
    if target.exists():
        if not resume:
            raise FileExistsError(f"{target} exists; choose another path, or say resume=True to finish or reopen it")
        todo = unfinished_regions(target, job)
    else:
        like = with_history(recording, str(job["verb"]), parameters, **identities)
        # Built beside and renamed, so that a store that exists has its whole layout.
        beside = target.with_name(f".{target.name}.layout-{os.getpid()}")
        try:
            create_store(beside, like, np.dtype(dtype), job, pyramid=pyramid)
            beside.rename(target)
        except OSError as error:
            if not is_store(target):  # if it is one by now, another process has begun it too, and both fill it
                remedy = "choose a folder that you may write to, with room for it"
                message = f"the store {target} cannot be made ({error.strerror}); {remedy}"
                raise type(error)(error.errno, message) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)  # ours alone, and only there if something failed
        todo = unfinished_regions(target, job)
    fill(
        target,
        recording,
        todo,
        process,
        halo_frames=halo_frames,
        client=active_client(client),
        progress=progress,
        description=str(job["verb"]),
    )
    return open_store(target)


def identity(recording: xr.DataArray) -> dict[str, Any]:
    """Return what tells one recording from another, without reading all of it.

    Shape, dtype, the sha256 of the coordinates with their units, and the sha256 of up to 32 planes, spread evenly over
    t and z: a change of a few pixels elsewhere is not seen.
    """
    import hashlib

    labels, planes = hashlib.sha256(), hashlib.sha256()
    for dim in RECORDING_DIMS:
        labels.update(np.ascontiguousarray(recording[dim].values).tobytes())
        labels.update(str(recording[dim].attrs.get("units")).encode())
    for t, z in sampled_planes(recording.sizes["t"], recording.sizes["z"], IDENTITY_PLANES):
        planes.update(np.ascontiguousarray(recording[t, z].values).data)
    return {
        "shape": list(recording.shape),
        "dtype": str(recording.dtype),
        "coordinates_sha256": labels.hexdigest(),
        "planes_sha256": planes.hexdigest(),
    }
