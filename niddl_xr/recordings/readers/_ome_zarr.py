"""The metadata of OME-Zarr (NGFF 0.1 to 0.5): which image, its axes, steps and channels. JSON in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings.readers._axis_names import axes_of, letter_of
from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import xarray as xr

_BEFORE_AXES = ("0.1", "0.2")  # five dims by definition
_KINDS = {"time": "t", "channel": "c"}


def ome_attributes(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes that NGFF defines: under "ome" since 0.5, else all of them."""
    inner = attrs.get("ome")
    return inner if isinstance(inner, Mapping) else attrs


def multiscales(attrs: Mapping[str, Any], series: int | str | None, where: str) -> Mapping[str, Any] | None:
    """Return the image (multiscale) that is wanted of those of a group, by default the first, as NGFF says."""
    found = _listed(ome_attributes(attrs).get("multiscales"))
    images = [item for item in found if isinstance(item, Mapping) and item.get("datasets")]
    if series is None or not images:
        return images[0] if images else None
    names = [str(item.get("name", number)) for number, item in enumerate(images)]
    return images[chosen(series, names, where)]


def chosen(series: int | str | None, names: Sequence[str], where: str) -> int:
    """Return the number of the wanted one of several images, by number or name; the only one needs no choice."""
    if series is None and len(names) == 1:
        return 0
    if isinstance(series, str) and list(names).count(series) == 1:
        return list(names).index(series)
    if isinstance(series, int) and 0 <= series < len(names):
        return series
    listed = ", ".join(f"{number} ({name})" for number, name in enumerate(names[:12])) or "none"
    raise NiddlError(f"expected one image in {where}, found {len(names)}; choose one with series=: {listed}")


def images_of(attrs: Mapping[str, Any], inner: Mapping[str, Any], groups: Sequence[str]) -> list[str] | None:
    """Return the paths of the images of a collection of bioformats2raw, or of a well; None for anything else.

    ``inner`` are the attributes of its group OME, ``groups`` the names of its groups.
    """
    ours = ome_attributes(attrs)
    if "bioformats2raw.layout" in ours:
        listed = [str(item) for item in _listed(ome_attributes(inner).get("series"))]
        return listed or sorted(filter(str.isdecimal, groups), key=int)
    well = ours.get("well")
    images = _listed(well.get("images")) if isinstance(well, Mapping) else []
    return [str(image["path"]) for image in images] or None


def wells_of(attrs: Mapping[str, Any]) -> list[str] | None:
    """Return the paths of the wells of a plate, or None for anything else."""
    plate = ome_attributes(attrs).get("plate")
    wells = _listed(plate.get("wells")) if isinstance(plate, Mapping) else []
    return [str(well["path"]) for well in wells] or None


def stated_axes(image: Mapping[str, Any], dims: int) -> tuple[str | None, list[Mapping[str, Any]]]:
    """Return the axes of an image where they are stated and known, and what is stated of each of them."""
    listed = _listed(image.get("axes"))
    if not listed:
        by_definition = dims == 5 and image.get("version", _BEFORE_AXES[0]) in _BEFORE_AXES
        return ("tczyx" if by_definition else None), [{} for _ in range(dims)]
    stated: list[Mapping[str, Any]] = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in listed]
    names = [_KINDS.get(str(axis.get("type")), letter_of(str(axis.get("name")))) for axis in stated]
    letters = axes_of(names)
    return (letters if letters is not None and len(letters) == dims else None), stated


def coordinates(
    image: Mapping[str, Any], letters: str, stated: Sequence[Mapping[str, Any]], shape: Sequence[int]
) -> dict[str, xr.Variable]:
    """Return the coordinates of the first level of an image, in s and µm, where unit and step are stated."""
    import xarray as xr

    coords = {}
    scale, shift = _scale_and_shift([image["datasets"][0], image], len(shape))
    for letter, axis, size, step, start in zip(letters, stated, shape, scale, shift, strict=True):
        unit = axis.get("unit")
        factor = (s_per if letter == "t" else um_per)(unit if isinstance(unit, str) else None)
        if letter != "c" and factor is not None and np.isfinite([step, start]).all() and step > 0:
            values = (start + step * np.arange(size)) * factor
            coords[letter] = xr.Variable(letter, values, {"units": "s" if letter == "t" else "µm"})
    return coords


def _scale_and_shift(holders: Sequence[Mapping[str, Any]], dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of a step and the place of the first element, the level's transformations before the image's."""
    scale, shift = np.zeros(dims), np.zeros(dims)
    for number, holder in enumerate(holders):
        for transformation in holder.get("coordinateTransformations") or []:
            kind = transformation.get("type")
            missing = np.ones(dims) if kind == "identity" else np.full(dims, np.nan)  # in a file of its own
            values = np.asarray(transformation.get(kind, missing), dtype=float)
            if values.shape != (dims,):
                raise NiddlError(f"expected a {kind} of {dims} numbers, one a dim, got {values.tolist()}")
            if kind == "scale":
                scale, shift = (values if number == 0 and not scale.any() else scale * values), shift * values
            elif kind == "translation":
                shift = shift + values
    return scale, shift


def channel_names(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of channels that the omero metadata state, where all have one."""
    omero = ome_attributes(attrs).get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    names = [str(channel.get("label") or "") for channel in channels or [] if isinstance(channel, Mapping)]
    return tuple(names) if names and all(names) else ()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
