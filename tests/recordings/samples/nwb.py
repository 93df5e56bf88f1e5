"""Small NWB files: of pynwb, and of layouts that need extensions or are older than pynwb, written with h5py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np

T, Z, C, Y, X = 6, 3, 2, 7, 11
BEGAN = datetime(2026, 1, 5, 10, 30, tzinfo=timezone.utc)  # noqa: UP017


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Counts that all differ."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 + 3).astype(dtype)


def imaging_plane(nwb: Any, spacing: list[float]) -> Any:
    from pynwb.ophys import OpticalChannel

    device = nwb.create_device(name="Spinning disk", description="confocal")
    channel = OpticalChannel(name="green", description="GFP", emission_lambda=510.0)
    return nwb.create_imaging_plane(
        name="head",
        optical_channel=channel,
        description="the head of a worm",
        device=device,
        excitation_lambda=488.0,
        indicator="GCaMP6s",
        location="head ganglia",
        grid_spacing=spacing,
        grid_spacing_unit="micrometers",
    )


def pynwb_file(path: Path, *series: Any, spacing: tuple[float, ...] = (0.25, 0.5)) -> Path:
    """Write a file with the series that functions of an imaging plane give."""
    from pynwb import NWBHDF5IO, NWBFile

    nwb = NWBFile(session_description="a worm", identifier="worm7", session_start_time=BEGAN)
    plane = imaging_plane(nwb, list(spacing))
    for make in series:
        nwb.add_acquisition(make(plane))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb, cache_spec=False)
    return path


def two_photon(folder: Path) -> Path:
    from pynwb.ophys import TwoPhotonSeries

    return pynwb_file(
        folder / "two_photon.nwb",
        lambda plane: TwoPhotonSeries(
            name="Movie", data=counts(T, X, Y), imaging_plane=plane, unit="n.a.", rate=4.0, dimension=[X, Y]
        ),
    )


def one_photon(folder: Path) -> Path:
    from pynwb.ophys import OnePhotonSeries

    return pynwb_file(
        folder / "one_photon.nwb",
        lambda plane: OnePhotonSeries(
            name="Volumes",
            data=counts(T, X, Y, Z, dtype="float32"),
            imaging_plane=plane,
            unit="n.a.",
            timestamps=5 + 0.5 * np.arange(T) ** 1.5,
            exposure_time=0.125,
            conversion=2.0,
            offset=-3.0,
        ),
        spacing=(0.25, 0.5, 2.0),
    )


def several(folder: Path) -> Path:
    from pynwb.ophys import TwoPhotonSeries

    def series(name: str, first: int) -> Callable[[Any], Any]:
        return lambda plane: TwoPhotonSeries(
            name=name, data=counts(T, Y, X) + first, imaging_plane=plane, unit="n.a.", rate=4.0, starting_time=2.0
        )

    return pynwb_file(folder / "several.nwb", series("Raw", 0), series("Corrected", 1))


def group(parent: h5py.Group, name: str, kind: str, **values: Any) -> h5py.Group:
    made = parent.create_group(name)
    made.attrs.update({"neurodata_type": kind, "namespace": "ndx-of-someone"})
    for key, value in values.items():
        made[key] = value
    return made


def multichannel(folder: Path) -> Path:
    """A recording of NeuroPAL as ndx-multichannel-volume lays it out, (frame, x, y, z, channel)."""
    path = folder / "multichannel.nwb"
    with h5py.File(path, "w") as file:
        file.attrs.update({"nwb_version": "2.6.0", "namespace": "core", "neurodata_type": "NWBFile"})
        file["session_start_time"] = BEGAN.isoformat()
        volume = group(file, "general/optophysiology/Volume", "ImagingVolume", location="head", indicator="GCaMP")
        volume["grid_spacing"] = np.array([0.25, 0.5, 2.0], "float32")
        volume["grid_spacing"].attrs["unit"] = "um"
        for name, emitted in (("GCaMP", 510.0), ("TagRFP", 584.0)):
            group(volume, name, "OpticalChannelPlus", emission_lambda=emitted, excitation_lambda=emitted - 25)
        order = group(volume, "order_optical_channels", "OpticalChannelReferences")
        order.create_dataset("channels", data=["GCaMP", "TagRFP"])
        series = group(file, "acquisition/CalciumImageSeries", "MultiChannelVolumeSeries", dimension=[X, Y, Z])
        series.create_dataset("data", data=counts(T, X, Y, Z, C), chunks=(1, X, Y, Z, 1), compression="gzip")
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 2.0
        series["imaging_volume"] = h5py.SoftLink(volume.name)
        still = group(file, "acquisition/NeuroPALImageRaw", "MultiChannelVolume", data=counts(X, Y, Z, 4))
        still["imaging_volume"] = h5py.SoftLink(volume.name)
        file["processing/NeuronIDs/Series"] = h5py.SoftLink(series.name)
    return path


def microscopy(folder: Path) -> Path:
    """A series of ndx-microscopy, (frame, height, width, depth), with a nested imaging space."""
    path = folder / "microscopy.nwb"
    with h5py.File(path, "w") as file:
        file.attrs.update({"nwb_version": "2.8.0", "neurodata_type": "NWBFile"})
        series = group(file, "acquisition/Volumes", "VolumetricMicroscopySeries", data=counts(T, Y, X, Z))
        group(series, "space", "VolumetricImagingSpace", grid_spacing_in_um=[0.25, 0.5, 2.0])
        light = group(file, "general/lab/emission", "EmissionLightPath")
        light.attrs["emission_wavelength_in_nm"] = 510.0
        series["emission_light_path"] = h5py.SoftLink(light.name)
    return path


def version1(folder: Path) -> Path:
    """A file of NWB 1.0.6, whose version is a dataset, and whose series say their types as ancestry."""
    path = folder / "version1.nwb"
    with h5py.File(path, "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
        plane = file.create_group("general/optophysiology/plane_1")
        ys, xs = np.meshgrid(np.arange(Y) * 0.5, np.arange(X) * 0.25, indexing="ij")
        plane["manifold"] = np.stack([xs, ys, np.zeros_like(xs)], axis=-1)
        plane["manifold"].attrs.update({"unit": "Meter", "conversion": 1e-6})
        series = file.create_group("acquisition/timeseries/movie")
        series.attrs["ancestry"] = [b"TimeSeries", b"ImageSeries", b"TwoPhotonSeries"]
        series["data"] = counts(T, Y, X)
        series["dimension"] = [X, Y]
        series["timestamps"] = np.arange(T) / 4
        series["imaging_plane"] = "plane_1"
    return path


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "two_photon": two_photon,
    "one_photon": one_photon,
    "several": several,
    "multichannel": multichannel,
    "microscopy": microscopy,
    "version1": version1,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "several": {"series": "Raw"},
    "multichannel": {"channel": "TagRFP"},
}
