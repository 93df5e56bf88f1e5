"""Small files of HDF5 and what is built on it: sima, CaImAn, Tierpsy, ilastik, MATLAB 7.3, Imaris, dimension scales."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

T, Z, C, Y, X = 6, 3, 2, 7, 11


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Counts that all differ."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 + 3).astype(dtype)


def plain(folder: Path) -> Path:
    path = folder / "plain.h5"
    with h5py.File(path, "w") as file:
        file["movie"] = counts(T, Y, X).astype(">u2")
        file["traces"] = np.ones((4, 9))
        file["note"] = "text"
    return path


def chunked(folder: Path) -> Path:
    path = folder / "chunked.hdf5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "data", data=counts(T, Z, Y, X, dtype="float32"), chunks=(2, 1, Y, X), compression="gzip", shuffle=True
        )
        for dim, label in zip(made.dims, ("time", "depth", "height", "width"), strict=True):
            dim.label = label
    return path


def sima(folder: Path) -> Path:
    path = folder / "sima.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("imaging", data=counts(T, Z, Y, X, C, dtype="uint8"), chunks=(1, 1, Y, X, 1))
        for dim, label in zip(made.dims, "tzyxc", strict=True):
            dim.label = label
        made.attrs["element_size_um"] = [2.0, 0.5, 0.25]
        made.attrs["channel_names"] = np.array([b"green", b"red"])
    return path


def caiman_movie(folder: Path) -> Path:
    path = folder / "caiman_movie.hdf5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("mov", data=counts(T, Y, X, dtype="float32"))
        made.attrs.update({"fr": 4.0, "start_time": 0, "file_name": [b"worm.tif"], "meta_data": b"\x80\x03]."})
    return path


def tierpsy(folder: Path) -> Path:
    path = folder / "tierpsy.hdf5"
    with h5py.File(path, "w") as file:
        for name, frames in (("mask", T), ("full_data", 2)):
            made = file.create_dataset(name, data=counts(frames, Y, X, dtype="uint8"), chunks=(1, Y, X), compression=4)
            units = {"time_units": "seconds", "xy_units": "micrometers"}
            made.attrs.update({"expected_fps": 25.0, "microns_per_pixel": 10.5, **units})
    return path


def ilastik(folder: Path) -> Path:
    path = folder / "ilastik.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("exported_data", data=counts(Y, X, T, C))
        axes = [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in "yxtc"]
        made.attrs["axistags"] = json.dumps({"axes": axes})
    return path


def scales(folder: Path) -> Path:
    path = folder / "scales.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("movie", data=counts(T, Y, X))
        for at, (name, values, unit) in enumerate(
            (("time", 1 + 0.5 * np.arange(T), "s"), ("height", 0.3 * np.arange(Y), "um"), ("width", np.arange(X), ""))
        ):
            file[name] = values
            file[name].make_scale(name)
            file[name].attrs["units"] = unit
            made.dims[at].attach_scale(file[name])
    return path


def matlab73(folder: Path) -> Path:
    """A variable (y, x, t) as MATLAB 7.3 writes it: a block of 512 bytes, then HDF5 with the dims reversed."""
    path = folder / "matlab73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["Y"] = counts(Y, X, T).transpose()
        file["Y"].attrs["MATLAB_class"] = np.bytes_("uint16")
        file["name"] = np.array([[119, 111]], dtype="uint16")
        file["name"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/a"] = np.ones((2, 3, 4))
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  5 10:00:00 2026 HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(text.ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def matlab5(folder: Path) -> Path:
    from scipy.io import savemat

    path = folder / "matlab5.mat"
    savemat(path, {"Y": counts(Y, X, T), "fs": 4.0, "name": "worm"}, do_compression=True)
    return path


def characters(said: Any) -> np.ndarray:
    """Text as Imaris writes it: an array of single bytes."""
    return np.frombuffer(str(said).encode(), dtype="S1")


def imaris(folder: Path) -> Path:
    """Two channels over time, in datasets that stand over the image to fill their chunks of (2, 4, 8)."""
    path = folder / "imaris.ims"
    with h5py.File(path, "w") as file:
        image = file.create_group("DataSetInfo/Image")
        stated = {"X": X, "Y": Y, "Z": Z, "Unit": "um", "RecordingDate": "2026-01-05 10:00:00.000"}
        extents = {"ExtMin0": 5, "ExtMin1": 0, "ExtMin2": -1, "ExtMax0": 5 + X * 0.25, "ExtMax1": Y * 0.5, "ExtMax2": 5}
        for name, value in {**stated, **extents}.items():
            image.attrs[name] = characters(value)
        time = file.create_group("DataSetInfo/TimeInfo")
        time.attrs["DatasetTimePoints"] = characters(T)
        for frame in range(T):
            time.attrs[f"TimePoint{frame + 1}"] = characters(f"2026-01-05 10:00:0{frame // 2}.{frame % 2 * 5}00")
        truth = counts(T, C, Z, Y, X)
        for channel, name in enumerate(("GCaMP", "RFP")):
            info = file.create_group(f"DataSetInfo/Channel {channel}")
            info.attrs["Name"] = characters(name)
            info.attrs["LSMEmissionWavelength"] = characters(510 + 70 * channel)
            for frame in range(T):
                group = file.create_group(f"DataSet/ResolutionLevel 0/TimePoint {frame}/Channel {channel}")
                padded = np.zeros((4, 8, 16), "uint16")
                padded[:Z, :Y, :X] = truth[frame, channel]
                group.create_dataset("Data", data=padded, chunks=(2, 4, 8), compression="gzip")
                for dim, size in (("X", X), ("Y", Y), ("Z", Z)):
                    group.attrs[f"ImageSize{dim}"] = characters(size)
    return path


def fiji(folder: Path) -> Path:
    """A dataset (z, y, x) for every frame and channel, as Fiji's HDF5 plugin writes them."""
    path = folder / "fiji.h5"
    with h5py.File(path, "w") as file:
        for frame, volumes in enumerate(counts(T, C, Z, Y, X)):
            for channel, volume in enumerate(volumes):
                made = file.create_dataset(f"t{frame}/channel{channel}", data=volume, compression="gzip")
                made.attrs["element_size_um"] = np.array([2.0, 0.5, 0.25])
    return path


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "plain": plain,
    "chunked": chunked,
    "sima": sima,
    "caiman_movie": caiman_movie,
    "tierpsy": tierpsy,
    "ilastik": ilastik,
    "scales": scales,
    "matlab73": matlab73,
    "matlab5": matlab5,
    "imaris": imaris,
    "fiji": fiji,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sima": {"channel": "red"},
    "ilastik": {"channel": 1},
    "imaris": {"channel": "RFP"},
    "fiji": {"channel": 1},
}
