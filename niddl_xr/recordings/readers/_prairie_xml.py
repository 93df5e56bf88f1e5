"""The XML of Prairie View (``PVScan``): its settings, sequences, frames and files; nothing of what they make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from niddl_xr.recordings.readers import HEAD_BYTES
from niddl_xr.recordings.readers._lazy import damage_named
from niddl_xr.recordings.readers._xml import MALFORMED, declares_entities
from niddl_xr.schema import NiddlError

MARK = b"<PVScan"


@dataclass
class Frame:
    """The files of one frame, by channel: their names, their pages counted from 0; and when it was recorded."""

    files: dict[int, tuple[str, int]] = field(default_factory=dict)
    relative_s: float = math.nan
    absolute_s: float = math.nan
    z_um: float = math.nan


@dataclass
class Sequence:
    """One cycle: what it is, whether its planes may run the other way, and its frames."""

    kind: str
    bidirectional_z: bool
    frames: list[Frame] = field(default_factory=list)


@dataclass
class Scan:
    """What a PVScan says; ``state`` are the settings, indexed ones as ``name_index``."""

    version: str = ""
    date: str = ""
    state: dict[str, str] = field(default_factory=dict)
    sequences: list[Sequence] = field(default_factory=list)
    channels: dict[int, str] = field(default_factory=dict)


class _Collector:
    """Takes the elements of a PVScan from the parser."""

    def __init__(self, where: Path) -> None:
        self.where, self.scan = where, Scan()
        self._key = self._axis = ""
        self._depth = 0  # 1 within a sequence, 2 within a frame
        self._starts = {
            "PVScan": self._scan,
            "Sequence": self._sequence,
            "Frame": self._frame,
            "File": self._file,
            "Key": self._value,
            "PVStateValue": self._value,
            "IndexedValue": self._indexed,
            "SubindexedValues": self._indices,
            "SubindexedValue": self._subindexed,
        }

    def start(self, tag: str, found: dict[str, str]) -> None:
        """Take the start of an element."""
        if tag in self._starts:
            self._starts[tag](found)

    def end(self, tag: str) -> None:
        """Take the end of an element."""
        if tag == "Sequence":
            self._depth = 0
        elif tag == "Frame":
            self._depth = 1

    def close(self) -> None:
        """Take the end of the document."""

    def _scan(self, found: Mapping[str, str]) -> None:
        self.scan.version, self.scan.date = found.get("version", ""), found.get("date", "")

    def _sequence(self, found: Mapping[str, str]) -> None:
        self._depth = 1
        kind, both_ways = found.get("type", ""), found.get("bidirectionalZ", "").lower() == "true"
        self.scan.sequences.append(Sequence(kind, both_ways))

    def _frame(self, found: Mapping[str, str]) -> None:
        if not self.scan.sequences:
            raise NiddlError(f"{self.where} has a frame outside of every sequence; copy it again from its origin")
        self._depth = 2
        times = [_float(found.get(name, "")) for name in ("relativeTime", "absoluteTime")]
        self.scan.sequences[-1].frames.append(Frame({}, *times))

    def _file(self, found: Mapping[str, str]) -> None:
        if self._depth < 2:
            return
        name, channel, page = found.get("filename", ""), found.get("channel", "1"), found.get("page", "1")
        plain = PurePosixPath(name).name
        if not name or plain != name or "\\" in name or name in (".", "..") or "\0" in name:
            raise NiddlError(f"{self.where} lists the file {name!r}; expected one in its own folder, without a path")
        if not (channel.isdecimal() and page.isdecimal() and len(channel) < 4 and len(page) < 10):
            raise NiddlError(f"{self.where} lists {name} as channel {channel!r}, page {page!r}; expected numbers")
        self.scan.sequences[-1].frames[-1].files[int(channel)] = (name, max(0, int(page) - 1))
        self.scan.channels.setdefault(int(channel), found.get("channelName", f"Ch{channel}"))

    def _value(self, found: Mapping[str, str]) -> None:
        self._key = found.get("key", "")
        if "value" in found:
            self._keep(self._key, found["value"])

    def _indexed(self, found: Mapping[str, str]) -> None:
        self._keep(f"{self._key}_{found.get('index', '')}", found.get("value", ""))

    def _indices(self, found: Mapping[str, str]) -> None:
        self._axis = found.get("index", "")

    def _subindexed(self, found: Mapping[str, str]) -> None:
        self._keep(f"{self._key}_{self._axis}", found.get("value", ""))

    def _keep(self, name: str, value: str) -> None:
        """Keep what is stated first of a setting, and the position of every frame: the sum of all its drives."""
        if name == "positionCurrent_ZAxis" and self._depth == 2:
            frame = self.scan.sequences[-1].frames[-1]
            moved = sum(_float(part) for part in value.split(","))  # before 5.1, all drives in one text
            frame.z_um = moved if math.isnan(frame.z_um) else frame.z_um + moved
        self.scan.state.setdefault(name, value)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse(path: Path) -> Scan:
    """Return what a PVScan says.

    Raises
    ------
    NiddlError
        For a file that is no XML, declares a document type, or lists no image or a file outside its folder.
    """
    with damage_named(f"{path} could not be read"):
        content = path.read_bytes()
    if declares_entities(content) or MARK not in content[:HEAD_BYTES]:
        raise NiddlError(f"{path} is no PVScan of Prairie View; open the XML that has the name of its folder")
    collector = _Collector(path)
    parser = ElementTree.XMLParser(target=collector)
    try:
        parser.feed(content)
        parser.close()
    except MALFORMED as error:
        if isinstance(error, NiddlError):
            raise
        raise NiddlError(f"{path} is no XML that can be read: {error}; copy it again from its origin") from error
    if not collector.scan.channels:
        raise NiddlError(f"{path} lists no image; voltage recordings alone are not opened")
    return collector.scan
