"""What a CZI states: its XML, and the time stamps that it attaches."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers._czi_tiles import enter, header_of
from niddl_xr.recordings.readers._xml import parse_xml
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_UM_PER_M = 1e6


@dataclass(frozen=True)
class Facts:
    """What the metadata of a file state; ``channels`` are in the order of C, ``times`` in s by T."""

    voxel_um: dict[str, float] = field(default_factory=dict)
    channels: tuple[dict[str, Any], ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    interval_s: float | None = None
    times: np.ndarray = field(default_factory=lambda: np.empty(0))

    def of_channel(self, number: int) -> dict[str, Any]:
        """Return what is stated about one channel, its name left out."""
        stated = self.channels[number] if number < len(self.channels) else {}
        return {name: value for name, value in stated.items() if name != "name"}


def facts_of(path: Path) -> Facts:
    """Return what the XML and the time stamps of a file state."""
    with path.open("rb") as file:
        _, metadata, attachments = header_of(file, str(path))
        times = _time_stamps(file, attachments, path)
        if metadata <= 0:
            return Facts(times=times)
        where = f"the XML of {path}"
        start, length = enter(file, metadata, b"ZISRAWMETADATA", 256, where)
        file.seek(start)
        size = int.from_bytes(file.read(4), "little")
        if size > length - 256:
            raise NiddlError(f"{where} is cut short: expected {size} bytes, got {length - 256}")
        file.seek(start + 256)
        return _stated(parse_xml(file.read(size), where), times)


def _stated(root: Element, times: np.ndarray) -> Facts:
    """Return what the elements below ``Metadata`` state."""
    image = root.find("Metadata/Information/Image")
    scaling = {one.get("Id", ""): one for one in root.iterfind("Metadata/Scaling/Items/Distance")}
    voxel_um = {dim: _number(scaling.get(dim.upper()), "Value") * _UM_PER_M for dim in "zyx"}
    attrs: dict[str, Any] = {
        "acquired": re.sub(r"(\.\d{6})\d+", r"\1", _text(image, "AcquisitionDateAndTime")),  # 0.1 µs is not ISO
        "bit_depth": int(_number(image, "ComponentBitCount")),
        "software": " ".join(_text(root, f"Metadata/Information/Application/{part}") for part in ("Name", "Version")),
        "microscope": _name(root.find("Metadata/Information/Instrument/Microscopes/Microscope")),
        "camera": _name(root.find("Metadata/Information/Instrument/Detectors/Detector")),
        "description": _text(root, "Metadata/Information/Document/Description"),
        **_objective(root, image),
    }
    attrs["software"] = attrs["software"].strip()
    channels = [] if image is None else image.findall("Dimensions/Channels/Channel")
    return Facts(
        {dim: size for dim, size in voxel_um.items() if size},
        tuple(_channel(one) for one in channels),
        {name: value for name, value in attrs.items() if value},
        _number(image, "Dimensions/T/Positions/Interval/Increment") or None,
        times,
    )


def _objective(root: Element, image: Element | None) -> dict[str, Any]:
    """Return the objective that the image refers to, or the only one."""
    all_of_them = root.findall("Metadata/Information/Instrument/Objectives/Objective")
    reference = None if image is None else image.find("ObjectiveSettings/ObjectiveRef")
    wanted = None if reference is None else reference.get("Id")
    chosen = [one for one in all_of_them if one.get("Id") == wanted] or (all_of_them if len(all_of_them) == 1 else [])
    if not chosen:
        return {}
    return {
        "objective": _name(chosen[0]),
        "magnification": _number(chosen[0], "NominalMagnification"),
        "numerical_aperture": _number(chosen[0], "LensNA"),
    }


def _channel(element: Element) -> dict[str, Any]:
    stated = {
        "name": element.get("Name") or _text(element, "Fluor") or element.get("Id", ""),
        "excitation_nm": _number(element, "ExcitationWavelength"),
        "emission_nm": _number(element, "EmissionWavelength"),
        "exposure_s": _number(element, "ExposureTime") * 1e-9,  # in ns
    }
    return {name: value for name, value in stated.items() if value}


def _name(element: Element | None) -> str:
    """Return how an instrument is called: by its name, else its model."""
    return "" if element is None else element.get("Name") or _text(element, "Manufacturer/Model")


def _text(element: Element | None, where: str) -> str:
    return "" if element is None else (element.findtext(where) or "").strip()


def _number(element: Element | None, where: str) -> float:
    """Return a number above 0 that an element states, 0 where there is none."""
    try:
        value = float(_text(element, where) or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _time_stamps(file: BinaryIO, directory: int, path: Path) -> np.ndarray:
    """Return the time stamps in s that the file attaches, one for every T; none where there are none."""
    if directory <= 0:
        return np.empty(0)
    start, length = enter(file, directory, b"ZISRAWATTDIR", 256, f"the list of attachments of {path}")
    file.seek(start)
    count = int.from_bytes(file.read(4), "little")
    file.seek(start + 256)
    listing = file.read(min(length - 256, count * 128))
    for entry in range(0, len(listing) - 127, 128):
        if listing[entry + 40 : entry + 48].rstrip(b"\0") == b"CZTIMS":
            position = int.from_bytes(listing[entry + 12 : entry + 20], "little", signed=True)
            begin, size = enter(file, position, b"ZISRAWATTACH", 264, f"the time stamps of {path}")
            file.seek(begin + 256)
            head = file.read(8)
            stamps = int.from_bytes(head[4:], "little")
            return np.frombuffer(file.read(min(stamps * 8, (size - 264) // 8 * 8)), "<f8")
    return np.empty(0)
