"""OME-XML of a recording: the 2016-06 schema of openmicroscopy.org/Schemas/OME."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from niddl_xr.recordings.export._calibration import Calibration

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
PIXEL_TYPES = {
    **{name: name for name in ("uint8", "uint16", "uint32", "int8", "int16", "int32")},
    "float32": "float",
    "float64": "double",
}
_NAMESPACE = "niddl_xr/attributes"
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


def ome_xml(channels: Mapping[str, xr.DataArray], dtype: np.dtype[Any], calibration: Calibration, name: str) -> str:
    """Return the OME-XML, in ASCII, of an image whose pages run over channels first, then z, then t.

    Lengths are in µm and times in s, which are the units of the schema where none is named. What the schema has no
    place for is kept as key and value in a MapAnnotation, the history among it.
    """
    first = next(iter(channels.values()))
    sizes = {**{dim: first.sizes[dim] for dim in "tzyx"}, "c": len(channels)}
    root = ElementTree.Element("OME", {"xmlns": _SCHEMA, "Creator": "niddl_xr"})
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xsi:schemaLocation", f"{_SCHEMA} {_SCHEMA}/ome.xsd")
    instrument = _instrument(first.attrs)
    if instrument is not None:
        root.append(instrument)
    image = _child(root, "Image", ID="Image:0", Name=name)
    if when := _date(first.attrs.get("acquired")):
        _child(image, "AcquisitionDate").text = when
    if described := first.attrs.get("description"):
        _child(image, "Description").text = _text(described)
    if instrument is not None:
        _child(image, "InstrumentRef", ID="Instrument:0")
        if instrument.find("Objective") is not None:
            _child(image, "ObjectiveSettings", ID="Objective:0")
    pixels = _child(image, "Pixels", **_pixels(sizes, dtype, calibration, first))
    for number, (label, channel) in enumerate(channels.items()):
        _child(pixels, "Channel", **_channel(number, label, channel.attrs))
    _child(pixels, "TiffData", IFD=0, PlaneCount=sizes["t"] * sizes["c"] * sizes["z"])
    _planes(pixels, calibration)
    _child(image, "AnnotationRef", ID="Annotation:0")
    annotations = _child(root, "StructuredAnnotations")
    entries = _child(annotations, "MapAnnotation", ID="Annotation:0", Namespace=_NAMESPACE)
    values = _child(entries, "Value")
    for key, value in first.attrs.items():
        _child(values, "M", K=str(key)).text = _text(value)
    body = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=False).decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>{body}'


def _child(parent: ElementTree.Element, tag: str, **attributes: Any) -> ElementTree.Element:
    """Append an element; attributes that are None are left out."""
    kept = {key: _text(value) for key, value in attributes.items() if value is not None}
    return ElementTree.SubElement(parent, tag, kept)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (float, np.floating)):
        value = repr(float(value))
    elif isinstance(value, (list, tuple, dict)):
        value = json.dumps(value, default=str)
    return _UNPRINTABLE.sub("\ufffd", str(value))


def _number(value: Any, *, least: float | None = None) -> float | None:
    """Return a finite number of the attributes, else None; ``least`` is excluded."""
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not np.isfinite(value):
        return None
    return float(value) if least is None or value > least else None


def _date(stated: Any) -> str | None:
    """Return a time as the schema has it, or None where it is no ISO 8601 date."""
    try:
        return datetime.fromisoformat(str(stated)).isoformat() if stated else None
    except ValueError:
        return None


def _instrument(attrs: Mapping[Any, Any]) -> ElementTree.Element | None:
    """Return microscope, camera and objective, if any of them is stated."""
    instrument = ElementTree.Element("Instrument", {"ID": "Instrument:0"})
    if attrs.get("microscope"):
        _child(instrument, "Microscope", Model=attrs["microscope"])
    if attrs.get("camera"):
        _child(instrument, "Detector", ID="Detector:0", Model=attrs["camera"])
    objective = {
        "Model": attrs.get("objective") or None,
        "LensNA": _number(attrs.get("numerical_aperture"), least=0),
        "NominalMagnification": _number(attrs.get("magnification"), least=0),
    }
    if any(value is not None for value in objective.values()):
        _child(instrument, "Objective", ID="Objective:0", **objective)
    return instrument if len(instrument) else None


def _pixels(
    sizes: Mapping[str, int], dtype: np.dtype[Any], calibration: Calibration, first: xr.DataArray
) -> dict[str, Any]:
    bits = _number(first.attrs.get("bit_depth"), least=0)
    whole = first.dtype == dtype and dtype.kind in "ui" and bits is not None and bits <= 8 * dtype.itemsize
    return {
        "ID": "Pixels:0",
        "DimensionOrder": "XYCZT",
        "Type": PIXEL_TYPES[dtype.name],
        "SignificantBits": int(bits) if whole and bits is not None else None,
        **{f"Size{dim.upper()}": sizes[dim] for dim in "xyczt"},
        **{f"PhysicalSize{dim.upper()}": calibration.voxel_um.get(dim) for dim in "xyz"},
        "TimeIncrement": calibration.dt_s,
        "BigEndian": "false",
        "Interleaved": "false",
    }


def _channel(number: int, label: str, attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "ID": f"Channel:0:{number}",
        "Name": label or None,
        "SamplesPerPixel": 1,
        "ExcitationWavelength": _number(attrs.get("excitation_nm"), least=0),  # nm is the unit of the schema
        "EmissionWavelength": _number(attrs.get("emission_nm"), least=0),
        "Fluor": attrs.get("indicator") or None,
    }


def _planes(pixels: ElementTree.Element, calibration: Calibration) -> None:
    """State the time of every frame where the time step does not, and the place of the field where it is not zero."""
    place = {f"Position{dim.upper()}": calibration.origin_um[dim] for dim in "xyz" if calibration.origin_um.get(dim)}
    unit = {f"{key}Unit": "\N{MICRO SIGN}m" for key in place}
    times = () if calibration.t_s is None or calibration.starts_at_zero else calibration.t_s.tolist()
    for frame in range(max(len(times), 1 if place else 0)):
        time = {"DeltaT": times[frame]} if times else {}
        _child(pixels, "Plane", TheZ=0, TheC=0, TheT=frame, **time, **(place | unit))
