"""The nodes of a simulated tree: recording, clean recording, tracks and traces, in the forms of the data contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
import pandas as pd
import xarray as xr

from niddl_xr import schema
from niddl_xr.neurons import ANCHOR, PROVENANCE
from niddl_xr.simulation._lazy import map_blocks
from niddl_xr.simulation.camera import LARGEST_COUNT, Camera

if TYPE_CHECKING:
    import dask.array as da


def plain(value: Any) -> Any:
    """Return a parameter as JSON holds it."""
    if isinstance(value, Camera):
        return value.as_dict()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, xr.DataArray):
        return f"DataArray {dict(value.sizes)}"
    if isinstance(value, pd.DataFrame):
        return f"DataFrame of shape {value.shape}"
    if isinstance(value, np.ndarray | Sequence) and not isinstance(value, str):
        return [plain(item) for item in value] if np.size(value) <= 64 else f"array of shape {np.shape(value)}"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def tree(verb: str, parameters: Mapping[str, Any], nodes: Mapping[str, xr.DataArray | xr.Dataset]) -> xr.DataTree:
    """Return the nodes as a tree, each with the parameters of ``verb`` ("simulate.name") in its history."""
    written = {name: plain(value) for name, value in parameters.items()}
    datasets = {}
    for name, node in nodes.items():
        if isinstance(node, xr.Dataset):
            datasets[name] = schema.with_history(node, verb, written)
        else:
            datasets[name] = schema.with_history(node, verb, written).to_dataset()
    return xr.DataTree.from_dict(datasets, name=verb.removeprefix("simulate."))


def exposures(
    photons: da.Array,
    camera: Camera,
    *,
    voxel_um: Sequence[float],
    t_s: np.ndarray,
    frames_per_chunk: int,
    seed: int,
    stream: int,
    attrs: Mapping[str, Any],
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the recording (uint16 counts) and the clean recording (float32, expected counts), both lazy.

    ``photons`` (t, z, y, x) are expected; frame t is exposed with random numbers of [``seed``, ``stream``, t] alone,
    so that no chunking changes a count.
    """
    sizes = photons.shape[1:]
    counts = map_blocks(
        _expose_block,
        [photons, np.arange(photons.shape[0])],
        sizes,
        np.uint16,
        frames_per_chunk,
        camera=camera,
        seed=seed,
        stream=stream,
    )
    means = map_blocks(camera.expected, [photons], sizes, np.float32, frames_per_chunk)
    described = {**attrs, "units": "counts", **camera.attrs(), "seed": seed}
    recording, clean = (
        schema.make_recording(array, voxel_um=list(voxel_um), t_s=t_s, attrs=described) for array in (counts, means)
    )
    return recording, clean


def _expose_block(photons: np.ndarray, frames: np.ndarray, *, camera: Camera, seed: int, stream: int) -> np.ndarray:
    counts = np.empty(photons.shape, np.uint16)
    for volume, frame, expected in zip(counts, frames, photons, strict=True):
        volume[:] = camera.acquire(expected, np.random.default_rng([seed, stream, int(frame)]))
    return counts


def tracks(
    positions_um: np.ndarray, observed: np.ndarray, coords: Mapping[str, Any], radius_um: np.ndarray
) -> xr.Dataset:
    """Return the true tracks of ``positions_um`` (t, neuron, space), ``observed`` (t, neuron), ``radius_um`` (neuron,).

    Confidence is 1 where a neuron is observed, else 0; every provenance is "anchor", known to be right.
    """
    flags = {"flag_values": list(range(len(PROVENANCE))), "flag_meanings": " ".join(PROVENANCE)}
    provenance = np.full(observed.shape, ANCHOR, np.uint8)
    return xr.Dataset(
        {
            "position": (("t", "neuron", "space"), positions_um.astype(np.float32), {"units": "µm"}),
            "observed": (("t", "neuron"), observed),
            "confidence": (("t", "neuron"), observed.astype(np.float32)),
            "provenance": (("t", "neuron"), provenance, flags),
        },
        coords={
            **coords,
            "radius_um": ("neuron", radius_um.astype(np.float32), {"units": "µm"}),
            "space": list(schema.SPACE_DIMS),
        },
    )


def traces(resting_counts: np.ndarray, dff: np.ndarray, coords: Mapping[str, Any]) -> xr.Dataset:
    """Return the true traces of F0 (t, neuron) in counts above the background and dF/F (t, neuron)."""
    resting_counts, dff = resting_counts.astype(np.float32), dff.astype(np.float32)
    return xr.Dataset(
        {
            "F": (("t", "neuron"), resting_counts * (1 + dff), {"units": "counts"}),
            "F0": (("t", "neuron"), resting_counts, {"units": "counts"}),
            "dff": (("t", "neuron"), dff, {"units": "1", "long_name": "relative change of fluorescence"}),
        },
        coords=dict(coords),
    )


def inside(positions_um: np.ndarray, shape: Sequence[int], voxel_um: np.ndarray) -> np.ndarray:
    """Return where positions (..., 3) lie inside the field of ``shape`` (z, y, x), half a voxel of margin included."""
    last = (np.asarray(shape) - 1) * voxel_um
    return np.asarray(np.all((positions_um >= -voxel_um / 2) & (positions_um <= last + voxel_um / 2), axis=-1))


def warn_if_clipped(brightest_counts: float, camera: Camera) -> None:
    """Warn the caller of the verb where ``brightest_counts``, above the offset, do not fit into 16 bits."""
    brightest = camera.offset + brightest_counts
    if brightest > LARGEST_COUNT:
        warn(
            f"the brightest voxel reaches {brightest:.0f} counts, a 16-bit camera holds {LARGEST_COUNT} and clips it: "
            "lower photons= or the gain of camera=",
            stacklevel=3,
        )
