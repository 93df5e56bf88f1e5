"""OME-XML: what the metadata of an OME-TIFF, or of its companion file, state.

Layout: the OME schema 2016-06 and the OME-TIFF specification (docs.openmicroscopy.org/ome-model). Elements are read
one by one as the parser meets them, so that the memory does not grow with what is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np

from niddl_xr.recordings.readers._units import s_per, um_per
from niddl_xr.recordings.readers._xml import MALFORMED, declares_entities
from niddl_xr.schema import NiddlError

Attributes = dict[str, str]


class UnreadableMetadata(NiddlError):
    """The metadata are no XML; the pages of the file may be whole."""


_FIRST = {axis: f"First{axis}" for axis in "TCZ"}
_ORDERS = {f"XY{''.join(rest)}" for rest in ("ZCT", "ZTC", "CZT", "CTZ", "TZC", "TCZ")}


@dataclass(frozen=True)
class Block:
    """Planes that follow each other: where they begin among all planes, and in which file; None for all of it.

    ``first`` has the indices along T, C, Z; ``page`` counts from 0.
    """

    first: Mapping[str, int]
    page: int
    count: int | None
    uuid: str
    file: str


@dataclass(frozen=True)
class Image:
    """One image: its sizes along T, C (planes, not samples), Z, Y, X, the order of its planes, and what is stated."""

    sizes: Mapping[str, int]
    leading: str  # t, c, z, the slowest first
    samples: int
    blocks: tuple[Block, ...]
    voxel_um: Mapping[str, float]
    dt_s: float | None
    t_s: np.ndarray | None
    channels: tuple[str, ...]
    attrs: Mapping[str, Any]
    channel_attrs: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Document:
    """The images of an OME-XML, or the name of the file that holds the metadata in its place."""

    uuid: str
    images: tuple[Image, ...]
    metadata_file: str


def parse(xml: str | bytes, where: str) -> Document:
    """Return what an OME-XML states.

    Raises
    ------
    UnreadableMetadata
        For text that is no XML.
    NiddlError
        For a document type (OME needs none, and its entities may expand without end), and sizes that are no numbers.
    """
    if declares_entities(xml if isinstance(xml, bytes) else xml.encode(errors="replace")):
        raise NiddlError(f"the OME metadata of {where} declare a document type, which OME does not need")
    collector = _Collector()
    parser = ElementTree.XMLParser(target=collector)
    try:
        parser.feed(xml)
        parser.close()
    except MALFORMED as error:
        raise UnreadableMetadata(f"the OME metadata of {where} cannot be read ({error})") from error
    images = tuple(_image(raw, collector, where) for raw in collector.images)
    return Document(collector.root.get("UUID", ""), images, collector.binary_only.get("MetadataFile", ""))


@dataclass
class _Raw:
    """What the parser met within one Image."""

    pixels: Attributes = field(default_factory=dict)
    settings: Attributes = field(default_factory=dict)
    channels: list[Attributes] = field(default_factory=list)
    detectors: list[str] = field(default_factory=list)
    blocks: list[tuple[Attributes, list[tuple[str, str]]]] = field(default_factory=list)
    times: dict[int, tuple[str, str]] = field(default_factory=dict)
    exposure: Attributes | None = None
    texts: dict[str, str] = field(default_factory=dict)


class _Collector:
    """Takes the elements of an OME-XML from the parser."""

    def __init__(self) -> None:
        self.root: Attributes = {}
        self.binary_only: Attributes = {}
        self.microscope: Attributes = {}
        self.parts: dict[str, Attributes] = {}  # objectives and detectors by ID
        self.images: list[_Raw] = []
        self._names: dict[str, str] = {}  # of elements, without their namespace
        self._text: list[str] | None = None
        self._file = ""
        self._annotation = False  # where programs keep what they read elsewhere, with elements of the same names
        self._starts: dict[str, Callable[[Attributes], None]] = {
            "OME": self.root.update,
            "BinaryOnly": self.binary_only.update,
            "Microscope": self.microscope.update,
            "Objective": self._part,
            "Detector": self._part,
            "Image": lambda _: self.images.append(_Raw()),
        }
        self._within: dict[str, Callable[[_Raw, Attributes], None]] = {
            "Pixels": lambda image, found: image.pixels.update(found),
            "ObjectiveSettings": lambda image, found: image.settings.update(found),
            "Channel": self._channel,
            "DetectorSettings": lambda image, found: image.detectors.append(found.get("ID", "")),
            "TiffData": lambda image, found: image.blocks.append((found, [])),
            "Plane": self._plane,
        }

    def start(self, tag: str, found: Attributes) -> None:
        """Take the start of an element."""
        name = self._names.get(tag) or self._names.setdefault(tag, tag.rsplit("}", 1)[-1])
        if name == "StructuredAnnotations":
            self._annotation = True
        if self._annotation:
            return
        if name in self._starts:
            self._starts[name](found)
        elif self.images and name in self._within:
            self._within[name](self.images[-1], found)
        elif name in ("AcquisitionDate", "Description", "UUID"):
            self._text, self._file = [], found.get("FileName", "")

    def data(self, text: str) -> None:
        """Take a part of the text of an element."""
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """Take the end of an element."""
        if self._annotation and tag.endswith("StructuredAnnotations"):
            self._annotation = False
        if self._text is None:
            return
        name, text = tag.rsplit("}", 1)[-1], "".join(self._text).strip()
        self._text = None
        if not self.images:
            return
        image = self.images[-1]
        if name == "UUID" and image.blocks:
            image.blocks[-1][1].append((text, self._file))
        elif name in ("AcquisitionDate", "Description") and not image.pixels:  # of the image, not of what follows
            image.texts[name] = text

    def close(self) -> None:
        """Take the end of the document."""

    def _part(self, found: Attributes) -> None:
        self.parts[found.get("ID", "")] = found

    @staticmethod
    def _channel(image: _Raw, found: Attributes) -> None:
        image.channels.append(found)

    @staticmethod
    def _plane(image: _Raw, found: Attributes) -> None:
        if found.get("TheZ", "0") == "0" and found.get("TheC", "0") == "0" and found.get("TheT", "0").isdigit():
            image.times[int(found.get("TheT", "0"))] = (found.get("DeltaT", ""), found.get("DeltaTUnit", "s"))
        if image.exposure is None:
            image.exposure = found


def _image(raw: _Raw, document: _Collector, where: str) -> Image:
    pixels = raw.pixels
    sizes = {axis: _whole(pixels.get(f"Size{axis}", "1"), f"Size{axis}", where, least=1) for axis in "TCZYX"}
    order = pixels.get("DimensionOrder", "XYZCT")
    if order not in _ORDERS:
        raise NiddlError(f"the OME metadata of {where} state the order {order!r}; expected one such as 'XYZCT'")
    samples = [_whole(item.get("SamplesPerPixel", "1"), "SamplesPerPixel", where, least=1) for item in raw.channels]
    if len(set(samples)) > 1:
        raise NiddlError(f"{where} has channels of different numbers of samples, {samples}, which are not read")
    together = samples[0] if samples and sizes["C"] % samples[0] == 0 else 1
    interval = number(pixels.get("TimeIncrement")) * (s_per(pixels.get("TimeIncrementUnit", "s")) or 0)
    times = _times(raw.times, sizes["T"])
    names = tuple(item.get("Name", "") for item in raw.channels)
    return Image(
        {**sizes, "C": sizes["C"] // together},
        order[:1:-1].lower(),
        together,
        tuple(_block(found, uuids, where) for found, uuids in raw.blocks),
        _voxel(pixels),
        interval or None,
        None if _counts_on(times, interval) else times,
        names if all(names) else (),
        _attrs(raw, document),
        tuple(_channel_attrs(item) for item in raw.channels),
    )


def _block(found: Attributes, uuids: list[tuple[str, str]], where: str) -> Block:
    first = {axis: _whole(found[name], name, where) if name in found else 0 for axis, name in _FIRST.items()}
    stated = found.get("PlaneCount", found.get("NumPlanes", "1" if "IFD" in found else ""))
    count = _whole(stated, "PlaneCount", where) if stated else None
    uuid, file = uuids[0] if uuids else ("", "")
    return Block(first, _whole(found["IFD"], "IFD", where) if "IFD" in found else 0, count, uuid, file)


def _whole(text: str, what: str, where: str, least: int = 0) -> int:
    if not text.isdecimal() or len(text) > 18 or int(text) < least:
        raise NiddlError(f"the OME metadata of {where} state {what}={text!r}; expected a whole number from {least} on")
    return int(text)


def number(stated: Any) -> float:
    """Return a positive, finite number that a file states, else 0."""
    try:
        value = float(stated or 0)
    except (ValueError, TypeError):
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _voxel(pixels: Attributes) -> dict[str, float]:
    sizes = {
        dim: number(pixels.get(f"PhysicalSize{dim.upper()}"))
        * (um_per(pixels.get(f"PhysicalSize{dim.upper()}Unit", "µm")) or 0)
        for dim in "zyx"
    }
    return {dim: size for dim, size in sizes.items() if size > 0}


def _times(stated: Mapping[int, tuple[str, str]], count: int) -> np.ndarray | None:
    """Return the times in s of the first plane of every volume, if the file states them for all, in order."""
    if count < 2 or len(stated) != count or any(not text for text, _ in stated.values()):
        return None
    if sorted(stated) != list(range(count)):
        return None
    try:
        times = np.array([float(stated[frame][0]) * (s_per(stated[frame][1]) or np.nan) for frame in range(count)])
    except ValueError:
        return None
    return times if np.all(np.isfinite(times)) and np.all(np.diff(times) > 0) else None


def _counts_on(times: np.ndarray | None, interval: float) -> bool:
    """Say whether times are those that the interval gives from 0 on; times that are stated go before it otherwise."""
    if times is None or not interval:
        return False
    return bool(np.all(np.abs(times - interval * np.arange(len(times))) <= interval / 1000))


def _attrs(raw: _Raw, document: _Collector) -> dict[str, Any]:
    """Return what is stated of microscope and camera, under the names that all readers use."""
    objective = document.parts.get(raw.settings.get("ID", ""), {})
    cameras = {document.parts.get(name, {}).get("Model", "") for name in raw.detectors} - {""}
    exposure = raw.exposure or {}
    magnification = number(objective.get("CalibratedMagnification")) or number(objective.get("NominalMagnification"))
    microscope = " ".join(filter(None, (document.microscope.get("Manufacturer"), document.microscope.get("Model"))))
    stated = {
        "acquired": raw.texts.get("AcquisitionDate"),
        "software": document.root.get("Creator"),
        "microscope": microscope,
        "objective": objective.get("Model"),
        "magnification": magnification,
        "numerical_aperture": number(objective.get("LensNA")),
        "camera": cameras.pop() if len(cameras) == 1 else None,
        "exposure_s": number(exposure.get("ExposureTime")) * (s_per(exposure.get("ExposureTimeUnit", "s")) or 0),
        "description": raw.texts.get("Description"),
        "bit_depth": int(number(raw.pixels.get("SignificantBits"))),
    }
    return {name: value for name, value in stated.items() if value}


def _channel_attrs(channel: Attributes) -> dict[str, float]:
    stated = {}
    for name, attribute in (("excitation_nm", "ExcitationWavelength"), ("emission_nm", "EmissionWavelength")):
        length_um = number(channel.get(attribute)) * (um_per(channel.get(f"{attribute}Unit", "nm")) or 0)
        if length_um:
            stated[name] = round(length_um * 1000, 6)
    return stated
