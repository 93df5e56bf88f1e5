"""The verb denoise: lazily for looking, region by region into a store for keeping; one result."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.chunking import blocks_for_looking, map_regions
from niddl_xr.denoising.classical import FILTERS, ONE_AT_A_TIME, FilterRunner
from niddl_xr.denoising.denoiser import Denoiser, Reference, load_denoiser
from niddl_xr.denoising.methods import method_module
from niddl_xr.denoising.normalisation import Units
from niddl_xr.denoising.preparation import (
    Call,
    Preparation,
    PrepareOnWorker,
    chunked,
    prepare,
    prepare_and_warn,
    sample,
)
from niddl_xr.denoising.projection import maximum_projection
from niddl_xr.denoising.suitability import SignalToNoiseWarning, check_voxel_um
from niddl_xr.filling import active_client, begin_and_fill, identity
from niddl_xr.schema import NiddlError, require_recording, with_history

if TYPE_CHECKING:
    import dask.array as da

Runner = Callable[[np.ndarray, Units], np.ndarray]
MANTISSA_BITS = 10  # decision 4.1: 4.1 times smaller, relative error below 0.05 %
COARSEST_STEP = 2.0**-3  # counts: bright pixels, too, stay within 1/16 of a count
LARGEST_COUNT = 2**24
DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 values in place to 10 mantissa bits, and never coarser than 1/8: noise bits do not compress."""
    if values.dtype != np.float32 or not values.flags.c_contiguous:
        raise ValueError("expected contiguous float32 values")
    for part in values if values.ndim > 1 else (values,):  # frame by frame, so that the steps take little memory
        # The power of two below a value is its bit pattern without the mantissa.
        power = (part.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
        step = np.minimum(power * np.float32(2.0**-MANTISSA_BITS), np.float32(COARSEST_STEP))
        np.maximum(step, np.finfo(np.float32).tiny, out=step)
        np.divide(part, step, out=part)
        np.rint(part, out=part)
        np.multiply(part, step, out=part)
    return values


@dataclass(frozen=True)
class _Place:
    """Where and how a denoiser runs."""

    reference: Reference
    device: str
    precision: str
    memory_bytes: int | None
    processes_per_machine: int | None = None  # on a cluster, where processes share the cores


@lru_cache(maxsize=4)
def _runner(place: _Place) -> tuple[Runner, AbstractContextManager[Any]]:
    """Load a denoiser once per process and device; the lock keeps dask's threads from sharing its cores."""
    denoiser = place.reference.resolve()
    if denoiser.method in FILTERS:
        # The filters of scipy and scikit-image run beside each other.
        return FilterRunner(denoiser), Lock() if denoiser.method in ONE_AT_A_TIME else nullcontext()
    runner: Runner = method_module(denoiser.method).runner(
        denoiser, place.device, place.precision, place.memory_bytes, _threads(place.processes_per_machine)
    )
    return runner, Lock()


def _threads(processes: int | None) -> int | None:
    if processes is None:
        return None
    from dask.system import CPU_COUNT  # knows affinity and container limits

    return max(1, CPU_COUNT // processes)


def _denoise(block: np.ndarray, place: _Place, units: Units) -> np.ndarray:
    """Denoise frames (t + 2 halo, z, y, x) of counts to float32 (t, z, y, x)."""
    if block.dtype.kind == "f" and not np.all(np.isfinite(block)):
        bad = int(block.size - np.isfinite(block).sum())
        raise NiddlError(
            f"expected finite counts, got {bad} NaN or infinite pixels in a block of frames {block.shape}; "
            "replace them first, for instance with recording.fillna(...)"
        )
    if block.dtype.kind in "ui" and block.dtype.itemsize > 2 and np.abs(block.astype(np.float64)).max() > LARGEST_COUNT:
        raise NiddlError(
            f"expected counts up to {LARGEST_COUNT:,}, beyond which float32 cannot tell neighbours apart, got "
            f"{max(int(block.min()), int(block.max()), key=abs):,}; subtract an offset first"
        )
    runner, lock = _runner(place)
    with lock:
        return rounded(np.ascontiguousarray(runner(block, units), dtype=np.float32))


@dataclass(frozen=True)
class _DenoiseRegion:
    """The work on one region, small enough to travel."""

    place: _Place
    units: Units

    def __call__(self, block: np.ndarray) -> np.ndarray:
        return _denoise(block, self.place, self.units)


def _denoise_lazily(block: np.ndarray, *, place: _Place, preparation: Preparation) -> np.ndarray:
    chosen = _Place(place.reference, place.device, preparation.precision, place.memory_bytes)
    return _denoise(block, chosen, preparation.units)


def denoise(
    recording: xr.DataArray,
    denoiser: Denoiser | str | os.PathLike[str],
    *,
    to: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    memory: int | str | None = None,
    client: Any = None,
    resume: bool = True,
    progress: bool = True,
    pyramid: bool = True,
    check_voxel: bool = True,
) -> xr.DataArray:
    """Denoise a recording of any length: lazily, or into a store.

    Without ``to`` nothing is computed: a frame that is drawn costs its block. With ``to`` the recording is read,
    denoised and written region by region, in memory that does not grow with its length; after an interruption
    (Ctrl-C, a crash, a full disk) the same call does the rest. Both give the same pixels, whatever the chunks.

    Parameters
    ----------
    recording
        Dims (t, z, y, x), any integer or float dtype, at least one frame of any size; NaN is an error.
    denoiser
        A :class:`Denoiser`, the path of one, or a name out of :func:`niddl_xr.pretrained`.
    to
        Store to write, usually ``*.zarr``.
    device
        "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
    precision
        "float32", "bfloat16", "float16", or "auto": half precision on CUDA if it agrees with float32 on the
        recording's own planes within 0.02 of its scale, else float32.
    memory
        For the activations of a network, as bytes or "2 GiB"; larger planes are cut into tiles. Default 1 GiB.
    client
        dask.distributed client; default: the active one, else this process. Workers with the resource GPU take
        one region each at a time.
    resume
        Continue or reopen an existing store of the same recording and denoiser; else it is an error.
    progress, pyramid
        Show a progress bar; write pyramid levels.
    check_voxel
        Refuse a recording whose voxels differ by more than a factor of 1.5 from those of the training: along y and x,
        and along z where the network sees neighbouring planes.

    Returns
    -------
    xarray.DataArray
        Same dims, coordinates and attributes (in a store named "F"), float32, in the units of the input, rounded to
        10 mantissa bits and never coarser than 1/8 count. Offset and scale are fixed once per recording, so that blocks
        have no baseline of their own. A denoiser of maximum projections gives z of size 1: the maximum along z is taken
        first, and z is the mean of the planes' z; a recording of one plane is taken to be a projection.

    Raises
    ------
    NiddlError
        For NaN, a constant recording, or a denoiser that was trained for other voxels.
    FileExistsError
        If ``to`` holds something else.

    Warns
    -----
    SignalToNoiseWarning
        Where the signal to noise of the recording (median of 16 planes, see :func:`niddl_xr.snr`) lies more than 1 dB
        outside that of the training: when the work begins, for a lazy result once, when it is first looked at.

    Examples
    --------
    >>> clean = recording.niddl.denoise("worm.safetensors", to="worm7.zarr")  # doctest: +SKIP
    """
    require_recording(recording)
    _check_options(device, precision)
    if not isinstance(denoiser, Denoiser):
        denoiser = load_denoiser(denoiser)
    if check_voxel:
        check_voxel_um(recording, denoiser)
    projected_planes = recording.sizes["z"] if denoiser.projects else 1
    if projected_planes > 1:
        recording = maximum_projection(recording)  # all that follows sees the projection alone
    memory_bytes = _memory_bytes(memory)
    place = _Place(Reference(denoiser), device, precision, memory_bytes)
    parameters = {
        "source": recording.attrs.get("source"),
        "denoiser": {key: denoiser.card.get(key) for key in ("method", "network", "options") if key in denoiser.card},
        "device": device,
        "precision": precision,
        "memory": memory,
    }
    if projected_planes > 1:
        parameters["projection"] = {"kind": "maximum", "along": "z", "planes": projected_planes}
    client = active_client(client)
    if client is not None:
        from niddl_xr.denoising.cluster import DenoiserPlugin

        client.register_plugin(DenoiserPlugin(denoiser))
    planes = sample(recording)
    if to is None:
        return _lazy(recording, place, planes, parameters, denoiser)
    preparation, place = _fixed(place, planes, client)
    if message := preparation.unusual:
        warn(message, SignalToNoiseWarning, stacklevel=2)
    job = {
        "verb": "denoise",
        "recording": identity(recording),
        "denoiser_sha256": denoiser.sha256,
        **asdict(preparation.units),
        "precision": preparation.precision,
        "pyramid": bool(pyramid),
    }
    return begin_and_fill(
        recording,
        Path(to),
        np.dtype(np.float32),
        job,
        _DenoiseRegion(place, preparation.units),
        parameters=parameters,
        pyramid=pyramid,
        halo_frames=denoiser.halo_frames,
        resume=resume,
        client=client,
        progress=progress,
        denoiser_sha256=denoiser.sha256,
    )


def _check_options(device: str, precision: str) -> None:
    if not DEVICES.fullmatch(str(device)):
        raise NiddlError(f"expected device 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', got {device!r}")
    if precision not in PRECISIONS:
        raise NiddlError(f"expected precision {', '.join(map(repr, PRECISIONS))}, got {precision!r}")


def _lazy(
    recording: xr.DataArray, place: _Place, planes: da.Array, parameters: dict[str, Any], denoiser: Denoiser
) -> xr.DataArray:
    from dask.delayed import delayed

    frames = chunked(recording).rechunk(blocks_for_looking(recording.shape, denoiser.planewise))
    preparation = delayed(prepare_and_warn, pure=True)(
        planes, place.reference, place.device, place.precision, place.memory_bytes, Call()
    )
    result = map_regions(
        _denoise_lazily, frames, denoiser.halo_frames, np.float32, place=place, preparation=preparation
    )
    lazy = with_history(recording.copy(data=result), "denoise", parameters, denoiser_sha256=denoiser.sha256)
    lazy.encoding = {}  # the file's dtype and chunks: kept, they would wrap negative pixels when this is written
    return lazy


def _fixed(place: _Place, planes: da.Array, client: Any) -> tuple[Preparation, _Place]:
    """Decide offset, scale and precision where the work will run."""
    processes = None
    if client is None:
        preparation = prepare(planes.compute(), place.reference, place.device, place.precision, place.memory_bytes)
    else:
        from dask.base import optimize

        (lazy,) = optimize(planes)
        task = PrepareOnWorker(lazy, place.reference, place.device, place.precision, place.memory_bytes)
        preparation = client.submit(task, pure=False).result()
        hosts = Counter(worker["host"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
        processes = max(hosts.values())
    return preparation, _Place(place.reference, place.device, preparation.precision, place.memory_bytes, processes)


def _memory_bytes(memory: int | str | None) -> int | None:
    if memory is None:
        return None
    from dask.utils import parse_bytes

    try:
        value = int(parse_bytes(memory if isinstance(memory, str) else int(memory)))
    except (TypeError, ValueError) as error:
        raise NiddlError(f"expected memory as bytes or a text such as '2 GiB', got {memory!r}") from error
    if value <= 0:
        raise NiddlError(f"expected memory of more than 0 bytes, got {memory!r}")
    return value
