"""Small zarr stores: OME-Zarr 0.1 to 0.5, bioformats2raw, a plate, xarray's, Minian's, plain arrays, zip files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

T, Z, C, Y, X = 6, 3, 2, 7, 11
UNITS = {"t": "millisecond", "z": "nanometer", "y": "micrometer", "x": "micrometer"}
SCALE = {"t": 400.0, "c": 1.0, "z": 1500.0, "y": 0.5, "x": 0.25}


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Counts that all differ."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 + 3).astype(dtype)


def image(group: Any, values: np.ndarray, axes: str, version: str) -> None:
    """Write an image of two levels into a group, as the specification of that version has it."""
    separator = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if group.metadata.zarr_format == 2 else {}
    for level, pixels in enumerate((values, values[..., ::2, ::2])):
        group.create_array(str(level), data=pixels, chunks=(2, *[1] * (len(axes) - 3), *pixels.shape[-2:]), **separator)
    scale = [{"type": "scale", "scale": [SCALE[axis] for axis in axes]}]
    stated: Any = [{"name": axis, **({"unit": UNITS[axis]} if axis in UNITS else {})} for axis in axes]
    datasets: list[dict[str, Any]] = [{"path": str(level), "coordinateTransformations": scale} for level in range(2)]
    if version in ("0.1", "0.3"):
        stated, datasets = list(axes), [{"path": str(level)} for level in range(2)]
    multiscale = {"version": version, "axes": stated, "datasets": datasets, "name": "worm"}
    if version == "0.1":
        del multiscale["axes"]
    metadata = {"multiscales": [multiscale], "omero": {"channels": [{"label": "GCaMP"}, {"label": "RFP"}]}}
    group.attrs.update({"ome": {"version": version, **metadata}} if version == "0.5" else metadata)


def ome(version: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import zarr

        path = folder / f"ome_{version}.zarr"
        group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
        image(group, counts(T, C, Z, Y, X), "tczyx", version)
        return path

    return write


def bioformats2raw(folder: Path) -> Path:
    import zarr

    path = folder / "bioformats2raw.zarr"
    root = zarr.create_group(path, zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    root.create_group("OME").attrs["series"] = ["0", "1"]
    for number in range(2):
        image(root.create_group(str(number)), counts(T, C, Z, Y, X) + number, "tczyx", "0.4")
    return path


def sharded(folder: Path) -> Path:
    import zarr

    path = folder / "sharded.zarr"
    zarr.create_array(
        path,
        data=counts(T, Z, Y, X, dtype="float32"),
        chunks=(1, Z, Y, X),
        shards=(4, Z, Y, X),
        compressors=zarr.codecs.BloscCodec(cname="zstd", shuffle="bitshuffle"),
        dimension_names=("t", "z", "y", "x"),
    )
    return path


def plain2(folder: Path) -> Path:
    import zarr
    from numcodecs import GZip

    path = folder / "plain2.zarr"
    zarr.create_array(
        path,
        data=counts(T, Y, X).astype(">u2"),
        chunks=(4, 4, X),
        zarr_format=2,
        compressors=GZip(1),
        order="F",
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    return path


def minian_dataset(version: int) -> Any:
    import xarray as xr

    coords = {"animal": "worm7", "session": "s1", "frame": np.arange(10, 10 + T), "height": np.arange(Y)}
    movie = xr.DataArray(counts(T, Y, X, dtype="uint8"), dims=("frame", "height", "width"), coords=coords)
    return movie.expand_dims(("animal", "session")).rename("varr") if version == 2 else movie.rename("varr")


def minian(folder: Path) -> Path:
    """The intermediate folder of Minian: a store a variable, with footprints and traces beside the movie."""
    import xarray as xr

    path = folder / "minian"
    path.mkdir()
    minian_dataset(2).to_dataset().to_zarr(path / "varr.zarr", zarr_format=2)
    footprints = xr.DataArray(counts(4, Y, X, dtype="float32"), dims=("unit_id", "height", "width"), name="A")
    footprints.to_dataset().to_zarr(path / "A.zarr", zarr_format=2)
    traces = xr.DataArray(counts(4, T, dtype="float32"), dims=("unit_id", "frame"), name="C")
    traces.to_dataset().to_zarr(path / "C.zarr", zarr_format=2)
    return path


def zipped(folder: Path) -> Path:
    inner = ome("0.4")(folder / "zipped")
    return Path(shutil.make_archive(str(folder / "ome.zarr"), "zip", inner))


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "ome_0.1": ome("0.1"),
    "ome_0.3": ome("0.3"),
    "ome_0.4": ome("0.4"),
    "ome_0.5": ome("0.5"),
    "bioformats2raw": bioformats2raw,
    "sharded": sharded,
    "plain2": plain2,
    "minian": minian,
    "zipped": zipped,
}
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"channel": "RFP"} for name in ("ome_0.1", "ome_0.3", "ome_0.4", "ome_0.5", "zipped")},
    "bioformats2raw": {"channel": "RFP", "series": 1},
}
