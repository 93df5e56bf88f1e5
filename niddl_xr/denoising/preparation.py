"""What is fixed once per recording before it is denoised: offset and scale, or noise; precision; signal to noise."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.chunking import CHUNK_BYTES, frames_within, sampled_planes
from niddl_xr.denoising.classical import FILTERS
from niddl_xr.denoising.denoiser import Reference
from niddl_xr.denoising.methods import method_module
from niddl_xr.denoising.normalisation import IDENTITY, Units, estimate, estimate_noise
from niddl_xr.denoising.suitability import SignalToNoiseWarning, trained_snr_range_db, unusual_signal_to_noise
from niddl_xr.metrics import median_snr_db

if TYPE_CHECKING:
    import dask.array as da


_WARNED: set[str] = set()  # the calls of denoise that have warned in this process


@dataclass(frozen=True)
class Preparation:
    """What is fixed once per recording, so that no region differs from its neighbour.

    ``unusual`` says in words how its signal to noise differs from that of the training; None where it does not.
    """

    units: Units
    precision: str
    unusual: str | None


class Call:
    """Names one call of denoise: its graph is run for every frame that is looked at, and is to warn once.

    Python's own rule, once a place, does not hold: ``warnings.catch_warnings`` anywhere in the process undoes it, and
    plotting libraries use that all the time.
    """

    def __init__(self) -> None:
        self.name = uuid4().hex

    def __dask_tokenize__(self) -> str:
        return "call"  # who asks changes nothing in the pixels: equal work keeps equal names


def prepare(
    planes: np.ndarray, reference: Reference, device: str, precision: str, memory_bytes: int | None
) -> Preparation:
    """Decide on planes (n, y, x) sampled from a recording."""
    denoiser = reference.resolve()
    unusual = None
    if trained_snr_range_db(denoiser) is not None:
        unusual = unusual_signal_to_noise(median_snr_db(planes), denoiser)
    if denoiser.method in FILTERS:
        noise_sd_counts = denoiser.card["options"].get("noise_sd_counts")
        units = estimate_noise(planes, noise_sd_counts) if denoiser.of_unit_noise else IDENTITY
        return Preparation(units, "float32", unusual)
    normalisation = estimate(planes) if denoiser.normalised else IDENTITY
    choose = method_module(denoiser.method).choose_precision
    chosen = choose(denoiser, planes, normalisation, device, precision, memory_bytes)
    return Preparation(normalisation, chosen, unusual)


def prepare_and_warn(
    planes: np.ndarray, reference: Reference, device: str, precision: str, memory_bytes: int | None, call: Call
) -> Preparation:
    """Decide, and say aloud what is unusual, once a call: inside a graph, where the caller cannot."""
    preparation = prepare(planes, reference, device, precision, memory_bytes)
    if (message := preparation.unusual) and call.name not in _WARNED:
        if "distributed" in sys.modules:
            from distributed import warn as warn_client  # from a worker to the client, elsewhere as usual

            warn_client(message, SignalToNoiseWarning)
        else:
            warn(message, SignalToNoiseWarning, stacklevel=1)
        _WARNED.add(call.name)  # not before: where a warning is an error, it is one for every frame
    return preparation


@dataclass(frozen=True)
class PrepareOnWorker:
    """The same as a task of a cluster, which samples the recording itself."""

    planes: da.Array
    reference: Reference
    device: str
    precision: str
    memory_bytes: int | None

    def __call__(self) -> Preparation:
        """Read the planes and decide."""
        planes = self.planes.compute(scheduler="synchronous")
        return prepare(planes, self.reference, self.device, self.precision, self.memory_bytes)


def chunked(recording: xr.DataArray) -> da.Array:
    """Return the lazy pixels (t, z, y, x) of a recording, cut along t where it is in memory."""
    if recording.chunks is not None:
        data: da.Array = recording.data
    else:
        frames = frames_within(recording.shape[1:], recording.dtype.itemsize, CHUNK_BYTES)
        data = recording.chunk(t=frames).data
    return data


def sample(recording: xr.DataArray) -> da.Array:
    """Return the lazy planes (n, y, x) that offset and scale are estimated from."""
    import dask.array as da

    frames = chunked(recording)
    places = sampled_planes(recording.sizes["t"], recording.sizes["z"])
    planes: da.Array = da.stack([frames[t, z] for t, z in places]).rechunk(-1)
    return planes
