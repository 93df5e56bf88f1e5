"""What an NWB file states of an image series beside its frames: sizes, optics, microscope, names of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers._hdf5 import attribute, follow, holds_counts, number, numbers, small, text
from niddl_xr.recordings.readers._units import um_per

if TYPE_CHECKING:
    import h5py

PLANES = ("imaging_plane", "imaging_volume", "imaging_space")
_EMPTY_TEXTS = ("no description", "unknown", "n/a", "none")


@dataclass
class Stated:
    """What a file states of a series beside its numbers."""

    voxel_um: dict[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)


def leaf(item: h5py.Group) -> str:
    """Return the last part of the name of a group."""
    return str(item.name).rpartition("/")[2]


def kind_of(group: h5py.Group) -> str:
    """Return the type of a group of NWB 2, or the last of its ``ancestry`` in NWB 1; empty for others."""
    ancestry = attribute(group, "ancestry")
    if ancestry is not None and np.size(ancestry):
        return str(np.atleast_1d(ancestry)[-1])
    return text(attribute(group, "neurodata_type")) or ""


def stated_of(group: h5py.Group, file: h5py.File) -> Stated:
    """Return what a file states of a series: voxel size, channels, and the attributes of a recording."""
    plane = _plane(group, file)
    stated = Stated(attrs={"series": str(group.name)})
    if plane is not None:
        stated.voxel_um.update(_spacing(plane))
    stated.voxel_um.update(_from_field_of_view(group, stated.voxel_um))
    attrs: dict[str, Any] = {
        "acquired": _iso(small(follow(file, "session_start_time"))),
        "description": _said(attribute(group, "description")),
        "exposure_s": number(attribute(group, "exposure_time")),
    }
    data = follow(group, "data")
    for name, usual in (("conversion", 1), ("offset", 0)):
        value = number(attribute(data, name))
        attrs[name] = None if value == usual else value
    if attrs["conversion"] is not None or attrs["offset"] is not None:
        attrs["unit"] = text(attribute(data, "unit"))
    attrs["microscope"] = _device(group, plane)
    if plane is not None:
        stated.channels = _channel_order(plane)
        attrs |= _optics(group, plane, stated)
    stated.attrs.update({name: value for name, value in attrs.items() if value is not None})
    return stated


def _plane(group: h5py.Group, file: h5py.File) -> h5py.Group | None:
    import h5py

    for name in PLANES:
        item = follow(group, name)
        if isinstance(item, h5py.Dataset):  # NWB 1 writes the name of the plane
            item = follow(file, f"general/optophysiology/{small(item)}")
        if isinstance(item, h5py.Group):
            return item
    for name in group:  # ndx-microscopy nests it under any name
        item = follow(group, name)
        if isinstance(item, h5py.Group) and kind_of(item).endswith("ImagingSpace"):
            return item
    return None


def _said(value: Any) -> str | None:
    said = text(value)
    return None if said is None or said.lower().rstrip(".") in _EMPTY_TEXTS else said


def _iso(value: Any) -> str | None:
    try:
        return datetime.fromisoformat(text(value) or "").isoformat()
    except ValueError:
        return None  # not a time in the form that NWB 2 prescribes


def _field(group: h5py.Group, name: str) -> Any:
    """Return what a file states under a name, as a small dataset or as an attribute."""
    value = small(follow(group, name))
    return attribute(group, name) if value is None else value


def _spacing(plane: h5py.Group) -> dict[str, float]:
    """Return the voxel size in µm along x, y (and z) that an imaging plane, volume or space states."""
    in_um = numbers(_field(plane, "grid_spacing_in_um"))
    if in_um:
        return _positive(in_um, 1.0)
    spacing = follow(plane, "grid_spacing")
    if spacing is not None:
        unit = text(attribute(spacing, "unit")) or text(small(follow(plane, "grid_spacing_unit"))) or "meters"
        per = um_per(unit)
        return _positive(numbers(small(spacing)), per) if per is not None else {}
    return _from_manifold(plane)


def _positive(sizes: list[float], um: float) -> dict[str, float]:
    return {dim: size * um for dim, size in zip("xyz", sizes, strict=False) if size > 0}


def _from_manifold(plane: h5py.Group) -> dict[str, float]:
    """Return the pixel size from the positions (height, width, [x, y, z]) of the first pixels, of older schemas."""
    import h5py

    manifold = follow(plane, "manifold")
    if not isinstance(manifold, h5py.Dataset) or not holds_counts(manifold) or manifold.is_virtual or manifold.external:
        return {}
    if len(manifold.shape) != 3 or manifold.shape[2] != 3 or min(manifold.shape) < 2:
        return {}
    unit = text(attribute(manifold, "unit")) or "meters"
    per = um_per(unit)
    scale = number(attribute(manifold, "conversion"))
    corner = np.asarray(manifold[:2, :2], dtype=float) * (1.0 if scale is None else scale)
    steps = {"x": corner[0, 1] - corner[0, 0], "y": corner[1, 0] - corner[0, 0]}
    lengths = {dim: float(np.linalg.norm(step)) for dim, step in steps.items()}
    return {dim: size * per for dim, size in lengths.items() if per is not None and np.isfinite(size) and size > 0}


def _from_field_of_view(group: h5py.Group, known: Mapping[str, float]) -> dict[str, float]:
    """Return the pixel size from the width and height (in m) of all pixels together, where no spacing is stated."""
    extent = numbers(small(follow(group, "field_of_view")))
    pixels = numbers(small(follow(group, "dimension")))
    if known or len(extent) not in (2, 3) or len(pixels) < len(extent):
        return {}
    return {
        dim: size * 1e6 / count
        for dim, size, count in zip("xyz", extent, pixels, strict=False)
        if size > 0 and count > 0
    }


def _device(group: h5py.Group, plane: h5py.Group | None) -> str | None:
    import h5py

    found = [follow(group, "microscope"), follow(group, "device"), plane and follow(plane, "device")]
    for item in found:
        if isinstance(item, h5py.Group):
            said = _said(attribute(item, "description"))
            return f"{leaf(item)}: {said}" if said else leaf(item)
    return None


def _channel_order(plane: h5py.Group) -> tuple[str, ...]:
    for name in ("order_optical_channels", "Order_optical_channels"):
        for leaf in ("channels", "data"):
            values = small(follow(plane, f"{name}/{leaf}"))
            if values is not None:
                return tuple(str(value) for value in np.atleast_1d(values))
    return ()


def _optics(group: h5py.Group, plane: h5py.Group, stated: Stated) -> dict[str, Any]:
    """Return indicator, place and wavelengths (in nm) of an imaging plane; of several channels, as lists."""
    import h5py

    found = [follow(plane, name) for name in plane]
    optical = [item for item in found if isinstance(item, h5py.Group) and "emission_lambda" in item]
    names = {leaf(item): item for item in optical}
    ordered = [names[name] for name in stated.channels if name in names]
    optical = ordered if len(ordered) == len(optical) else optical
    attrs: dict[str, Any] = {
        "indicator": _said(_field(plane, "indicator")),
        "location": _said(_field(plane, "location")),
        "excitation_nm": _several([plane]) or _several(optical),
        "emission_nm": _several(optical, "emission_lambda"),
        "channels": list(stated.channels) or [leaf(item) for item in optical] or None,
    }
    paths = (
        ("emission_light_path", "emission_nm", "emission"),
        ("excitation_light_path", "excitation_nm", "excitation"),
    )
    for name, key, kind in paths:  # of ndx-microscopy
        path = follow(group, name)
        if isinstance(path, h5py.Group):
            attrs[key] = number(_field(path, f"{kind}_wavelength_in_nm")) or attrs[key]
    return attrs


def _several(items: list[h5py.Group], name: str = "excitation_lambda") -> float | list[float] | None:
    values = [number(_field(item, name)) for item in items]
    known = [value for value in values if value is not None and value > 0]
    if not known or len(known) != len(values):
        return None
    return known[0] if len(known) == 1 else known


def of_channel(attrs: dict[str, Any], channel: int) -> dict[str, Any]:
    """Return the attributes with those wavelengths that belong to the chosen channel, where all channels have one."""
    count = len(attrs.get("channels", ()))
    kept = dict(attrs)
    for name in ("excitation_nm", "emission_nm"):
        value = attrs.get(name)
        if isinstance(value, list):
            if len(value) == count and channel < count:
                kept[name] = value[channel]
            else:
                del kept[name]
    return kept
