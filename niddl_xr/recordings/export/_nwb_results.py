"""Traces and tracks in NWB."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings.export._content import content_of
from niddl_xr.recordings.export._nwb_parts import M_PER_UM, add_plane, clock_of, plain_name, times_s
from niddl_xr.recordings.export._tidy import SPACE, flags_of, unit_suffix
from niddl_xr.schema import MICROMETRE, NiddlError

if TYPE_CHECKING:
    from pynwb import NWBFile

_RATIOS = ("dff", "dff_lo", "dff_hi")
_XYZ = "xyz"


def add_results(file: NWBFile, dataset: xr.Dataset, tracks: xr.Dataset | None) -> None:
    """Add traces and, where they are given, the tracks of the same neurons; or tracks alone."""
    if not dataset.sizes.get("neuron") or not dataset.sizes.get("t"):
        raise NiddlError(f"NWB takes recordings, and traces or tracks over (t, neuron), got {dict(dataset.sizes)}")
    _say_left_out(dataset)
    if "position" in dataset:
        if tracks is not None:
            raise NiddlError("tracks= goes with traces, but these are tracks")
        _add_tracks(file, dataset)
        return
    _add_traces(file, dataset)
    if tracks is not None:
        kind, content = content_of(tracks)
        if kind != "dataset" or "position" not in content:
            raise NiddlError("expected tracks= with the variable position (t, neuron, space)")
        _say_left_out(content)
        _add_tracks(file, content)


def _say_left_out(dataset: xr.Dataset) -> None:
    """Warn of variables and coordinates for which NWB, as it is written here, has no place."""
    placed = {"t", "neuron", "position", SPACE, *_over_time(dataset)}
    placed |= {str(name) for name, item in dataset.coords.items() if item.dims == ("neuron",)}
    left = [str(name) for name in dataset.variables if str(name) not in placed]
    if left:
        warnings.warn(f"not written to NWB, which has no place for them here: {', '.join(left)}", stacklevel=5)


def _over_time(dataset: xr.Dataset) -> list[str]:
    """Return the names of the variables of numbers over (t, neuron)."""
    found = dataset.data_vars.items()
    return [str(name) for name, item in found if set(item.dims) == {"t", "neuron"} and item.dtype.kind in "uifb"]


def _neuron_columns(dataset: xr.Dataset) -> list[Any]:
    """Return the coordinates of neurons as columns of a table, their names first."""
    from hdmf.common import VectorData

    names = dataset["neuron"].values.astype(str).tolist() if "neuron" in dataset.coords else None
    columns = [VectorData(name="neuron", description="name of the neuron", data=names or _numbered(dataset))]
    for name, coordinate in dataset.coords.items():
        if name != "neuron" and coordinate.dims == ("neuron",):
            values = coordinate.values
            stored = values if values.dtype.kind in "uifb" else values.astype(str).tolist()
            unit = coordinate.attrs.get("units", "")
            columns.append(VectorData(name=str(name), description=f"{name} {unit}".strip(), data=stored))
    return columns


def _numbered(dataset: xr.Dataset) -> list[str]:
    return [str(number) for number in range(dataset.sizes["neuron"])]


def _empty_masks(neurons: int) -> list[Any]:
    """Return the column of masks that NWB wants, with no voxel for any neuron."""
    from hdmf.common import VectorData, VectorIndex

    voxel = np.dtype([("x", "u4"), ("y", "u4"), ("z", "u4"), ("weight", "f4")])
    masks = VectorData(name="voxel_mask", description="voxels of the neuron: not stated", data=np.empty(0, voxel))
    return [masks, VectorIndex(name="voxel_mask_index", target=masks, data=np.zeros(neurons, np.uint8))]


def _add_traces(file: NWBFile, traces: xr.Dataset) -> None:
    from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, PlaneSegmentation

    clock = clock_of(times_s(traces["t"]))
    names = _over_time(traces)
    if not names:
        raise NiddlError("expected traces with a variable of numbers over (t, neuron), such as F or dff, got none")
    attrs = {**traces[names[0]].attrs, **traces.attrs}
    ophys = file.create_processing_module("ophys", "fluorescence of neurons")
    segmentation = PlaneSegmentation(
        name="PlaneSegmentation",
        description="the neurons of the traces; their masks are empty, because traces do not state them",
        imaging_plane=add_plane(file, "ImagingPlane", attrs),
        columns=[*_neuron_columns(traces), *_empty_masks(traces.sizes["neuron"])],
    )
    ophys.add(ImageSegmentation(plane_segmentations=[segmentation]))
    everyone = list(range(traces.sizes["neuron"]))
    rois = segmentation.create_roi_table_region(region=everyone, description="all neurons")
    groups = {DfOverF: [name for name in names if name in _RATIOS]}
    groups[Fluorescence] = [name for name in names if name not in _RATIOS]
    for container, members in groups.items():
        if not members:
            continue
        holder = container()
        ophys.add(holder)
        for name in members:
            item = traces[name].transpose("t", "neuron")
            described = str(item.attrs.get("long_name", name))
            unit = str(item.attrs.get("units", "n.a."))
            holder.create_roi_response_series(
                name=plain_name(name), data=_numbers(item.values), rois=rois, unit=unit, description=described, **clock
            )


def _add_tracks(file: NWBFile, tracks: xr.Dataset) -> None:
    from hdmf.common import DynamicTable
    from pynwb import TimeSeries
    from pynwb.behavior import Position

    position = tracks["position"]
    axes = tracks[SPACE].values.astype(str).tolist() if SPACE in tracks.coords else []
    if set(position.dims) != {"t", "neuron", SPACE} or not set(axes) <= set(_XYZ) or not axes:
        raise NiddlError(f"expected position over (t, neuron, space) with space of z, y, x, got {position.dims} {axes}")
    conversion, unit = (M_PER_UM, "meters") if position.attrs.get("units") in MICROMETRE else (1.0, "pixels")
    clock = clock_of(times_s(tracks["t"]))
    order = [axis for axis in _XYZ if axis in axes]
    points = position.transpose("t", "neuron", SPACE).values[..., [axes.index(axis) for axis in order]]
    module = file.create_processing_module("tracks", "where the neurons are, frame by frame")
    columns = _neuron_columns(tracks)
    module.add(DynamicTable(name="neurons", description="the neurons of the tracks", columns=columns))
    holder = Position()
    module.add(holder)
    for number, name in enumerate(columns[0].data):
        holder.create_spatial_series(
            name=plain_name(f"neuron_{number}_{name}"),
            description=f"position of neuron {name} along {', '.join(order)}",
            data=points[:, number],
            reference_frame="first pixel of the field, or as the recording's coordinates say",
            unit=unit,
            conversion=conversion,
            **clock,
        )
    for name in _over_time(tracks):
        item = tracks[name].transpose("t", "neuron")
        numbers, words = flags_of(item)
        said = ", ".join(f"{value}: {word}" for value, word in zip(numbers, words, strict=True))
        module.add(
            TimeSeries(
                name=plain_name(name),
                description=f"{name} (t, neuron) {said}".strip(),
                data=_numbers(item.values),
                unit=unit_suffix(item.attrs.get("units")) or "n.a.",
                **clock,
            )
        )


def _numbers(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8) if values.dtype == bool else values
