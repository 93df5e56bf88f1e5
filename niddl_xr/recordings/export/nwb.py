"""NWB 2: recordings, traces and tracks, with the core schema alone."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._blocks import Cast, frame_blocks
from niddl_xr.recordings.export._calibration import Calibration, calibration_of
from niddl_xr.recordings.export._full_disk import PatientFile
from niddl_xr.recordings.export._nwb_parts import M_PER_UM, add_plane, clock_of, plain_names, times_s
from niddl_xr.recordings.export._nwb_results import add_results
from niddl_xr.schema import HISTORY, NiddlError

if TYPE_CHECKING:
    from pynwb import NWBFile

WRITER = Writer(
    "NWB 2",
    suffixes=(".nwb",),
    takes=("recording", "dataset"),
    needs=("pynwb",),
    extra="nwb",
    options=(
        *("session_start_time", "session_description", "identifier", "subject", "modality", "tracks", "dtype"),
        *("experimenter", "institution", "lab", "keywords"),
    ),
)
_MODALITIES = ("one-photon", "two-photon")
_DTYPES = (*(f"{kind}int{bits}" for kind in ("u", "") for bits in (8, 16, 32)), "float32", "float64")
_XYZ = "xyz"


def write(
    content: Mapping[str, xr.DataArray] | xr.Dataset,
    path: Path,
    *,
    progress: bool,
    session_start_time: str | datetime | None = None,
    session_description: str | None = None,
    identifier: str | None = None,
    subject: Mapping[str, Any] | None = None,
    modality: str | None = None,
    tracks: xr.Dataset | None = None,
    dtype: Any = None,
    **file_options: Any,
) -> None:
    """Write a recording, traces or tracks as NWB 2.

    Traces become RoiResponseSeries of a PlaneSegmentation in ``processing/ophys``: dF/F in ``DfOverF``, the others in
    ``Fluorescence``. Tracks become ``processing/tracks``: a SpatialSeries (t, [x, y, z]) a neuron in ``Position``, in
    metres by its ``conversion``, a table of the neurons, and what else goes with (t, neuron). A recording becomes a
    OnePhotonSeries or TwoPhotonSeries a channel, (t, x, y) or (t, x, y, z) as the schema has it. Attributes are taken
    from ``attrs`` as readers name them (``indicator``, ``location``, ``excitation_nm``, ``emission_nm``,
    ``microscope``, ``camera``); what NWB requires and nobody states is "unknown" or NaN. The history is in ``notes``.

    Parameters
    ----------
    content
        Recordings by channel, traces (t, neuron), or tracks with ``position`` (t, neuron, space).
    path
        File to make.
    progress
        Show a progress bar.
    session_start_time
        Start of the recording with its time zone, a datetime or ISO 8601; default the attribute ``acquired``.
    session_description
        One sentence; default the attribute ``description``, else where the data came from.
    identifier
        Unique name of the file; default a random one.
    subject
        What ``pynwb.file.Subject`` takes, such as ``{"subject_id": "worm7", "species": "Caenorhabditis elegans"}``.
    modality
        "one-photon" (widefield, confocal, light-sheet) or "two-photon"; a recording needs it.
    tracks
        With traces: the tracks of the same neurons, to be written too.
    dtype
        Of a recording; default as it is.
    **file_options
        ``experimenter``, ``institution``, ``lab``, ``keywords``, as ``pynwb.NWBFile`` takes them.
    """
    import h5py
    from pynwb import NWBHDF5IO, NWBFile

    stated = content.attrs if isinstance(content, xr.Dataset) else next(iter(content.values())).attrs
    described = session_description or stated.get("description") or f"exported from {stated.get('source', 'niddl_xr')}"
    start, whom = _start(session_start_time, stated), None if subject is None else _subject(subject)
    try:
        file = NWBFile(
            session_description=str(described),
            identifier=identifier or str(uuid.uuid4()),
            session_start_time=start,
            notes=str(stated[HISTORY]) if HISTORY in stated else None,
            subject=whom,
            **file_options,
        )
    except TypeError as error:
        raise NiddlError(f"expected {', '.join(file_options)} as pynwb.NWBFile takes them: {error}") from error
    with closing(PatientFile(path)) as disk, h5py.File(disk, "w") as stored, NWBHDF5IO(mode="w", file=stored) as io:
        if isinstance(content, xr.Dataset):
            add_results(file, content, tracks)
            io.write(file)
        elif tracks is not None:
            raise NiddlError("tracks= goes with traces; export the recording by itself")
        else:
            cast = Cast(list(content.values()), dtype, _DTYPES, "NWB")
            calibration = calibration_of(next(iter(content.values())))
            calibration.warn_of_space("NWB")
            series = _add_recording(file, content, calibration, modality, cast.dtype)
            io.write(file)
            for region, blocks in frame_blocks(list(content.values()), progress=progress, description="export"):
                disk.require_written()
                for holder, block in zip(series, blocks, strict=True):
                    holder.dataset[region.start : region.stop] = _as_nwb(cast(block))
            cast.say()
    disk.require_written()


def _start(given: str | datetime | None, stated: Mapping[Any, Any]) -> datetime:
    asked = "session_start_time= as an ISO 8601 time with its zone, such as '2024-05-01T10:00:00+02:00'"
    if given is None and not stated.get("acquired"):
        raise NiddlError(f"NWB needs the time when the recording began, which its attributes do not state: set {asked}")
    try:
        start = given if isinstance(given, datetime) else datetime.fromisoformat(str(given or stated["acquired"]))
    except ValueError as error:
        raise NiddlError(f"expected {asked}, got {given or stated['acquired']!r}") from error
    if start.tzinfo is None:
        raise NiddlError(f"{start.isoformat()} has no time zone, which NWB needs: set {asked}")
    return start


def _subject(stated: Mapping[str, Any]) -> Any:
    from pynwb.file import Subject

    try:
        return Subject(**stated)
    except (TypeError, ValueError) as error:
        raise NiddlError(f"expected subject= as what pynwb.file.Subject takes, got {dict(stated)}: {error}") from error


def _add_recording(
    file: NWBFile,
    channels: Mapping[str, xr.DataArray],
    calibration: Calibration,
    modality: str | None,
    dtype: np.dtype[Any],
) -> list[Any]:
    """Add an empty series a channel; return what holds their datasets once the file is written."""
    from hdmf.backends.hdf5 import H5DataIO
    from pynwb.ophys import OnePhotonSeries, TwoPhotonSeries

    if modality not in _MODALITIES:
        raise NiddlError(
            f"NWB tells one-photon from two-photon recordings: set modality= to one of {_MODALITIES}, got {modality!r}"
        )
    kind = OnePhotonSeries if modality == "one-photon" else TwoPhotonSeries
    first = next(iter(channels.values()))
    clock = clock_of(times_s(first["t"]))
    shape = _as_nwb_shape(first)
    dims = _XYZ[: len(shape) - 1]
    holders = []
    for suffix, (label, channel) in zip(plain_names(f"_{label}" for label in channels), channels.items(), strict=True):
        suffix = suffix if len(channels) > 1 else ""
        plane = add_plane(file, f"ImagingPlane{suffix}", channel.attrs, **_geometry(calibration, dims))
        data = H5DataIO(shape=shape, dtype=dtype, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1)
        series = kind(
            name=f"{kind.__name__}{suffix}",
            description=f"{channel.attrs.get('source', 'recording')} {label}".strip(),
            data=data,
            imaging_plane=plane,
            unit="counts",
            dimension=[channel.sizes[dim] for dim in dims],
            **clock,
        )
        file.add_acquisition(series)
        holders.append(data)
    return holders


def _geometry(calibration: Calibration, dims: str) -> dict[str, Any]:
    """Return spacing and origin in metres, along x, y (and z), where all of them are stated."""
    geometry: dict[str, Any] = {}
    if set(dims) <= set(calibration.voxel_um):
        geometry["grid_spacing"] = [calibration.voxel_um[dim] * M_PER_UM for dim in dims]
    if set(dims) <= set(calibration.origin_um) and any(calibration.origin_um[dim] for dim in dims):
        geometry["origin_coords"] = [calibration.origin_um[dim] * M_PER_UM for dim in dims]
    return geometry


def _as_nwb_shape(recording: xr.DataArray) -> tuple[int, ...]:
    sizes = recording.sizes
    depth = (sizes["z"],) if sizes["z"] > 1 else ()
    return (sizes["t"], sizes["x"], sizes["y"], *depth)


def _as_nwb(block: np.ndarray) -> np.ndarray:
    """Return a block (t, z, y, x) as (t, x, y, z), without z where it is of size 1."""
    turned = block.transpose(0, 3, 2, 1)
    return turned[..., 0] if turned.shape[3] == 1 else turned
