"""What recordings and results share in NWB: clocks and imaging planes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.export._calibration import even_step
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from pynwb import NWBFile

M_PER_UM = 1e-6
_UNKNOWN = "unknown"  # what NWB asks for and nobody states


def clock_of(times: np.ndarray) -> dict[str, Any]:
    """Return start and rate of even times, else all of them, as a TimeSeries takes them."""
    step = even_step(times) if times.size > 1 else None
    if step is None:
        return {"timestamps": times}
    return {"starting_time": float(times[0]), "rate": 1 / step}


def times_s(coordinate: xr.DataArray) -> np.ndarray:
    """Return the times of a coordinate, or an error where it is not in s."""
    if coordinate.attrs.get("units") != "s":
        raise NiddlError("NWB needs times in s, which this does not state: set dt_s= when opening the recording")
    return np.asarray(coordinate.values, dtype=float)


def plain_name(text: str) -> str:
    """Return a text as a name in HDF5, which may hold no slash, nor, in NWB, a colon."""
    return re.sub("[/:]", "_", text)


def plain_names(texts: Iterable[str]) -> list[str]:
    """Return texts as names in NWB, all of them different."""
    names: list[str] = []
    for text in texts:
        name, number = plain_name(text), 2
        while name in names:
            name, number = f"{plain_name(text)}_{number}", number + 1
        names.append(name)
    return names


def add_plane(file: NWBFile, name: str, attrs: Mapping[Any, Any], **geometry: Any) -> Any:
    """Add an imaging plane, and its device and optical channel."""
    from pynwb.ophys import OpticalChannel

    device_name = str(attrs.get("microscope") or attrs.get("camera") or "microscope")
    name_there = plain_name(device_name)
    device = file.devices.get(name_there) or file.create_device(name_there, description=device_name)
    emission = _wavelength(attrs.get("emission_nm"))
    channel = str(attrs.get("channel") or attrs.get("indicator") or _UNKNOWN)
    return file.create_imaging_plane(
        name=name,
        optical_channel=OpticalChannel(name="OpticalChannel", description=channel, emission_lambda=emission),
        description=str(attrs.get("description") or "imaging plane or volume"),
        device=device,
        excitation_lambda=_wavelength(attrs.get("excitation_nm")),
        indicator=str(attrs.get("indicator") or _UNKNOWN),
        location=str(attrs.get("location") or _UNKNOWN),
        **geometry,
    )


def _wavelength(nm: Any) -> float:
    return float(nm) if isinstance(nm, (int, float, np.number)) else math.nan
