"""What an ND2 states: sizes of a plane, loops, channels, voxel, optics. The library nd2 decodes it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.recordings.readers._nd2_chunks import TIMESTAMP_BYTES, Chunks, WithoutMapping, chunk, enter
from niddl_xr.recordings.readers._xml import require_no_entities
from niddl_xr.schema import NiddlError

_LOOPS = {"TimeLoop": "t", "NETimeLoop": "t", "ZStackLoop": "z", "XYPosLoop": "p"}
_DEFLATE_LIMIT = 1100  # no byte of deflate can stand for more
_JULIAN_DAY_1970 = 2440587.5


@dataclass(frozen=True)
class Channel:
    """The name of a channel and the peaks of its light in nm, 0 where they are not stated."""

    name: str
    peaks: Mapping[str, float]


@dataclass(frozen=True)
class Facts:
    """What the metadata of a file state. ``loops`` are (letter of t, z, p; size), the outermost one first."""

    height: int
    width: int
    components: int
    row_bytes: int
    stored: str
    packed: bool
    channels: tuple[Channel, ...]
    loops: tuple[tuple[str, int], ...]
    positions: tuple[str, ...] = ()
    voxel_um: Mapping[str, float] = field(default_factory=dict)
    period_s: float | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)


def facts_of(path: Path, table: Chunks) -> Facts:
    """Return what the metadata state, checked against the size of the planes."""
    import nd2

    for name in table.named:
        if name.startswith((b"ImageAttributes", b"ImageMetadata", b"ImageTextInfo")):
            data = chunk(path, table, name)  # checks its length
            require_no_entities(data, f"chunk {name.decode(errors='replace')} of {path}")
    with path.open("rb") as file, nd2.ND2File(WithoutMapping(file)) as reader:
        stated, experiment = reader.attributes, reader.experiment
        raw, text = _raw_picture(reader), reader.text_info
    unknown = [loop.type for loop in experiment if loop.type not in _LOOPS and loop.count > 1]
    if unknown:
        raise NiddlError(f"{path} has the loops {', '.join(unknown)}; expected loops of time, z and position")
    kind = "f" if stated.pixelDataType == "float" else "u"
    dtype = np.dtype(f"<{kind}{stated.bitsPerComponentInMemory // 8}")
    width, components = stated.widthPx or 0, stated.componentCount
    row_bytes = stated.widthBytes or width * components * dtype.itemsize
    loops = [(_LOOPS[loop.type], loop.count) for loop in experiment if loop.type in _LOOPS and loop.count > 1]
    facts = Facts(
        *(stated.heightPx, width, components, row_bytes, dtype.str),
        packed=stated.compressionType == "lossless",
        channels=_channels(raw),
        loops=tuple(loops) if experiment else (("t", max(1, stated.sequenceCount or 1)),),
        positions=_positions(experiment),
        voxel_um=_voxel_um(raw, experiment),
        period_s=_period_s(experiment),
        attrs={**_described(text or {}), **_picture(raw), "bit_depth": stated.bitsPerComponentSignificant},
    )
    if stated.compressionType == "lossy":
        raise NiddlError(f"{path} is compressed with loss, which is not read; save it again without compression")
    _require_planes_fit(path, table, facts)
    return facts


def _require_planes_fit(path: Path, table: Chunks, facts: Facts) -> None:
    """Refuse sizes of a plane that the chunk of the first plane in the file cannot hold."""
    if not _sizes_agree(facts):
        raise NiddlError(
            f"{path} states planes of {facts.height} rows of {facts.width} pixels of {facts.components} components in "
            f"{len(facts.channels)} channels and {facts.row_bytes} bytes a row, which do not agree; it is damaged"
        )
    held = np.flatnonzero(table.planes >= 0)
    if not held.size:
        raise NiddlError(f"{path} holds no plane; was its recording stopped before the first one?")
    with path.open("rb") as file:
        for number in (int(held[0]), int(held[table.planes[held].argmax()])):  # the last one in the file may be cut
            offset = int(table.planes[number])
            _, length = enter(file, offset, b"ImageDataSeq|%d!" % number, f"plane {number} of {path}")
            room = (length - TIMESTAMP_BYTES) * (_DEFLATE_LIMIT if facts.packed else 1)
            if facts.height * facts.row_bytes > room:
                raise NiddlError(
                    f"plane {number} of {path} has {length} bytes, expected {facts.height * facts.row_bytes}; "
                    "it is damaged"
                )


def _sizes_agree(facts: Facts) -> bool:
    """Say whether the sizes that the metadata state can belong to one plane."""
    itemsize = np.dtype(facts.stored).itemsize
    return (
        min(facts.height, facts.width, facts.components, len(facts.channels)) > 0
        and facts.components % len(facts.channels) == 0
        and facts.row_bytes >= facts.width * facts.components * itemsize
        and facts.row_bytes % itemsize == 0
    )


def _positions(experiment: Sequence[Any]) -> tuple[str, ...]:
    loops = [loop for loop in experiment if _LOOPS.get(loop.type) == "p"]
    return tuple(str(point.name or "") for point in loops[0].parameters.points) if loops else ()


def _period_s(experiment: Sequence[Any]) -> float | None:
    """Return the one period of the time loops, None where there are several or none."""
    periods: list[float] = []
    for loop in experiment:
        if loop.type == "TimeLoop":
            periods.append(loop.parameters.periodDiff.avg or loop.parameters.periodMs)
        elif loop.type == "NETimeLoop":
            periods += [period.periodDiff.avg or period.periodMs for period in loop.parameters.periods]
    found = set(periods)
    period = found.pop() if len(found) == 1 else 0.0
    return period / 1000 if math.isfinite(period) and period > 0 else None


def _described(text: Mapping[str, Any]) -> dict[str, Any]:
    """Return camera and microscope from the text that NIS-Elements writes, and the user's own words."""
    lines = str(text.get("description", "")).splitlines()
    camera = next((line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("Camera Name:")), "")
    scope = re.search(r"^\s*(?:Microscope Settings:)?\s*Microscope:\s*(\S.*?)\s*$", "\n".join(lines), re.MULTILINE)
    found = {"camera": camera, "microscope": scope[1] if scope else "", "software": str(text.get("appVersion", ""))}
    return {name: value for name, value in found.items() if value}


def _raw_picture(reader: Any) -> Mapping[str, Any]:
    """Return what NIS-Elements states with the first plane: calibration, objective, time, channels."""
    for name in ("ImageMetadataSeqLV|0", "ImageMetadataSeq|0"):
        found = reader.unstructured_metadata(strip_prefix=False, include={name}).get(name)
        if isinstance(found, dict):
            inner = found.get("SLxPictureMetadata", found)
            return inner if isinstance(inner, dict) else {}
    return {}


def _positive(value: Any) -> float:
    """Return a number if it is finite and above 0, else 0: NIS-Elements writes -1 for what it does not know."""
    good = isinstance(value, (int, float)) and math.isfinite(value) and value > 0
    return float(value) if good else 0.0


def _picture(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the objective, and when the recording began (a Julian day, UTC)."""
    found: dict[str, Any] = {
        "objective": str(raw.get("wsObjectiveName") or ""),
        "magnification": _positive(raw.get("dObjectiveMag")),
        "numerical_aperture": _positive(raw.get("dObjectiveNA")),
    }
    days = _positive(raw.get("dTimeAbsolute")) - _JULIAN_DAY_1970
    if 0 < days < 100_000:
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
        found["acquired"] = start.isoformat(timespec="milliseconds")
    return {name: value for name, value in found.items() if value}


def _channels(raw: Mapping[str, Any]) -> tuple[Channel, ...]:
    planes = _level(raw, "sPicturePlanes", "sPlaneNew") or _level(raw, "sPicturePlanes", "sPlane")
    return tuple(
        Channel(
            str(plane.get("sDescription", "")),
            {
                "excitation_nm": _peak_nm(plane, "m_ExcitationSpectrum"),
                "emission_nm": _peak_nm(plane, "m_EmissionSpectrum"),
            },
        )
        for plane in planes.values()
        if isinstance(plane, Mapping)
    )


def _peak_nm(plane: Mapping[str, Any], spectrum: str) -> float:
    """Return the peak of a spectrum of the dye, else of the first filter in the light path; 0 where none is stated."""
    filters = list(_level(plane, "pFilterPath", "m_pFilter").values())
    for part in (_level(plane, "pFluorescentProbe"), *filters[:1]):
        points = [point for point in _level(part, spectrum, "pPoint").values() if isinstance(point, Mapping)]
        if points:
            highest = max(points, key=lambda point: _positive(point.get("dTValue")))
            return _positive(highest.get("dWavelength"))
    return 0.0


def _level(values: Any, *names: str) -> Mapping[str, Any]:
    """Return the level within levels that the names lead to, empty where there is none."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _voxel_um(raw: Mapping[str, Any], experiment: Sequence[Any]) -> dict[str, float]:
    """Return the size of a voxel in µm; a line scan, where x or y is time, has none along it."""
    size = _positive(raw.get("dCalibration")) if raw.get("bCalibrated") else 0.0
    steps = [_positive(abs(loop.parameters.stepUm)) for loop in experiment if loop.type == "ZStackLoop"]
    found = {
        "z": steps[0] if steps else 0.0,
        "y": 0.0 if raw.get("ePictureYAxis") == 2 else size,
        "x": 0.0 if raw.get("ePictureXAxis") == 2 else size,
    }
    return {dim: value for dim, value in found.items() if value}


def exposure(path: Path, table: Chunks) -> dict[str, float]:
    """Return the exposure where the file lists one and the same, in ms, for all planes."""
    data = chunk(path, table, b"CustomData|Camera_ExposureTime1!")
    values = np.unique(np.frombuffer(data[: len(data) // 8 * 8], "<f8"))
    one = len(values) == 1 and np.isfinite(values[0]) and values[0] > 0
    return {"exposure_s": float(values[0]) / 1000} if one else {}
