"""What a catalogue may say: version 1 of the schema, frozen; see docs/data_catalog.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from niddl_xr.recordings.catalog._nodes import Value, read_values

VERSION = 1
SIMULATIONS = ("whole_brain", "freely_moving", "neurite", "two_photon", "training_pairs")
DRIVERS = ("open_recording", "open_pairs", *SIMULATIONS)
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
ARCHIVES = ("zip", "tar")

_TOP = {"metadata": "a mapping with the version", "sources": "a mapping of names to entries"}
_GENERAL = {"version": f"the number {VERSION}", "description": "a text", "homepage": "an address"}
_ENTRY = {
    "description": "a text",
    "driver": f"one of {', '.join(f'niddl_xr:{driver}' for driver in DRIVERS)}",
    "args": "a mapping of the driver's keyword arguments",
    "metadata": "a mapping",
}
_METADATA = {
    "homepage": "the https address of the page that describes the data",
    "files": "a list of what is to be downloaded",
    "licence": "a text",
    "citation": "a text",
    "doi": "a text such as 10.5281/zenodo.1",
    "voxel_um": "the size of a voxel along (z, y, x) in µm",
    "dt_s": "the time between frames in s",
    "approximate_gb": "the size of all data in GB",
    "notes": "a text",
    "unverified": "true where nobody has checked the addresses and what is said here",
}
_FILE = {
    "url": "an https address",
    "name": "the file's name in the cache",
    "sha256": "the checksum, 64 hexadecimal digits",
    "size_bytes": "the size in bytes",
    "unpack": "zip or tar",
}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
# Names that mean devices to Windows, whatever follows a dot.
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_DOI = re.compile(r"10\.\d{4,9}/\S+")


@dataclass(frozen=True)
class RemoteFile:
    """A file to be downloaded: address, name in the cache, and what it must be."""

    url: str
    name: str
    sha256: str | None = None
    size_bytes: int | None = None
    unpack: str | None = None


@dataclass(frozen=True)
class Specification:
    """An entry as its catalogue states it; ``where`` names file and line."""

    name: str
    description: str
    driver: str
    arguments: Mapping[str, Any]
    metadata: Mapping[str, Any]
    files: tuple[RemoteFile, ...]
    where: str
    folder: Path = field(default_factory=Path)


def read_catalogue(path: Path) -> dict[str, Specification]:
    """Return the entries of a catalogue by name.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        For what the schema does not allow; the message names file, line, entry, key, and what was expected.
    """
    top = read_values(path).mapping(_TOP, required=("metadata", "sources"))
    general = top["metadata"].mapping(_GENERAL, required=("version",))
    version = general["version"]
    if version.data != VERSION or isinstance(version.data, bool):
        version.fail(f"expected version {VERSION} of the schema, got {version.shown()}; a newer niddl_xr may read it")
    if "description" in general:
        general["description"].text()
    if "homepage" in general:
        _address(general["homepage"])
    return {name: _entry(name, value, path) for name, value in top["sources"].mapping().items()}


def file_name(value: Value, name: str) -> str:
    """Return a name that is one plain part of a path on every system, or fail."""
    if not _NAME.fullmatch(name) or _DEVICE.fullmatch(name):
        value.fail(f"expected a plain name of letters, digits and . _ -, at most 100 long, got {name!r}")
    return name


def _entry(name: str, value: Value, path: Path) -> Specification:
    file_name(value, name)
    keys = value.mapping(_ENTRY, required=("description", "driver"))
    driver = _driver(keys["driver"])
    arguments = keys["args"].mapping() if "args" in keys else {}
    metadata = keys["metadata"].mapping(_METADATA) if "metadata" in keys else {}
    files = tuple(_file(file) for file in metadata["files"].items()) if "files" in metadata else ()
    _require_unlike_names(files, metadata)
    if driver in SIMULATIONS and files:
        metadata["files"].fail("expected no files for a simulation")
    if driver in SIMULATIONS and "path" in arguments:
        arguments["path"].fail("expected no path for a simulation")
    for key, what in arguments.items():
        if key == "path":
            _path(what, inside=bool(files))
    return Specification(
        name=name,
        description=keys["description"].text(),
        driver=driver,
        arguments={key: what.plain() for key, what in arguments.items()},
        metadata=_checked(metadata),
        files=files,
        where=f"{value.where}, entry {name!r}",
        folder=path.parent,
    )


def _driver(value: Value) -> str:
    """Return the verb that a driver names: ``niddl_xr:verb``, or with dots, which Intake would try to import."""
    text = value.text()
    verb = text.removeprefix("niddl_xr:")
    for prefix in ("niddl_xr.simulation.", "niddl_xr.simulate.", "niddl_xr."):
        verb = verb.removeprefix(prefix)
    written = {f"niddl_xr:{verb}", f"niddl_xr.{verb}"}
    if verb in SIMULATIONS:
        written = {f"niddl_xr:{verb}", f"niddl_xr.simulation.{verb}", f"niddl_xr.simulate.{verb}"}
    if verb not in DRIVERS or text not in written:
        value.fail(f"expected {_ENTRY['driver']}, got {text!r}")
    return verb


def _path(value: Value, inside: bool) -> None:
    """Check a path: relative to the catalogue's folder, or to the entry's folder in the cache where files have one."""
    text = value.text()
    parts = re.split(r"[/\\]", text)
    if inside and (".." in parts or text.startswith(("/", "\\", "~")) or ":" in text):
        value.fail(f"expected a path within the downloaded files, got {text!r}")


def _file(value: Value) -> RemoteFile:
    keys = value.mapping(_FILE, required=("url",))
    url = _address(keys["url"])
    if "name" in keys:
        name = file_name(keys["name"], keys["name"].text())
    else:
        name = file_name(keys["url"], unquote(urlsplit(url).path.rsplit("/", 1)[-1]))
    if name.endswith((".part", ".lock", ".state", ".unpacked")):
        (keys.get("name") or keys["url"]).fail(
            f"expected another name: {name!r} has a suffix that the cache uses itself"
        )
    sha256 = keys["sha256"].text().lower() if "sha256" in keys else None
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        keys["sha256"].fail(f"expected a checksum of 64 hexadecimal digits, got {sha256!r:.80}")
    unpack = keys["unpack"].text() if "unpack" in keys else None
    if unpack is not None and unpack not in ARCHIVES:
        keys["unpack"].fail(f"expected zip or tar (compressed or not), got {unpack!r}")
    return RemoteFile(url, name, sha256, keys["size_bytes"].whole() if "size_bytes" in keys else None, unpack)


def _address(value: Value) -> str:
    url = value.text()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  # raises where it is none
    except ValueError as error:
        value.fail(f"expected an address, got {url!r}: {error}")
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOCAL_HOSTS)
    if not secure or not host or parts.username is not None or not url.isascii() or re.search(r"\s", url):
        value.fail(f"expected an https address without a user name, got {url!r}")
    return url


def _require_unlike_names(files: tuple[RemoteFile, ...], metadata: Mapping[str, Value]) -> None:
    names = [file.name.lower() for file in files]
    for place, name in enumerate(names):
        if name in names[:place]:
            metadata["files"].items()[place].fail(f"two files would be called {name!r} in the cache; set name")


def _checked(metadata: Mapping[str, Value]) -> dict[str, Any]:
    checks: dict[str, Any] = {
        "homepage": _address,
        "files": Value.plain,
        "doi": _doi,
        "voxel_um": _voxel,
        "dt_s": Value.positive,
        "approximate_gb": Value.positive,
        "unverified": Value.truth,
    }
    return {key: checks.get(key, Value.text)(value) for key, value in metadata.items()}


def _doi(value: Value) -> str:
    text = value.text()
    if not _DOI.fullmatch(text):
        value.fail(f"expected a DOI such as 10.5281/zenodo.1, without address, got {text!r}")
    return text


def _voxel(value: Value) -> list[float | None]:
    sizes = value.items()
    if len(sizes) != 3:
        value.fail(f"expected three sizes (z, y, x) in µm, null where unknown, got {value.shown()}")
    return [None if size.data is None else size.positive() for size in sizes]
