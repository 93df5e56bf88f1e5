"""One entry of a catalogue: what it is, where it is, how it is opened."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from niddl_xr.recordings.catalog import _download
from niddl_xr.recordings.catalog._schema import SIMULATIONS, RemoteFile, Specification
from niddl_xr.schema import NiddlError


class UnverifiedWarning(UserWarning):
    """Nobody has checked what a catalogue says of this entry."""


class UncheckedDownloadWarning(UserWarning):
    """A file was downloaded without a checksum; the message states the one that it has."""


class Entry:
    """One entry of a catalogue: what it is, where it is, how it is opened."""

    def __init__(self, specification: Specification) -> None:
        self._stated = specification

    @property
    def name(self) -> str:
        """The name in the catalogue."""
        return self._stated.name

    @property
    def description(self) -> str:
        """What it is, in a sentence."""
        return self._stated.description

    @property
    def driver(self) -> str:
        """The verb of niddl_xr that opens it: "open_recording", "open_pairs" or one of :mod:`niddl_xr.simulate`."""
        return self._stated.driver

    @property
    def args(self) -> dict[str, Any]:
        """The keyword arguments of the verb, as the catalogue states them."""
        return dict(self._stated.arguments)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the catalogue states: homepage, files, licence, citation, doi, voxel_um, dt_s, notes, unverified."""
        return dict(self._stated.metadata)

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """What is downloaded: address, name in the cache, sha256 and size in bytes where they are known."""
        return self._stated.files

    @property
    def unverified(self) -> bool:
        """Whether nobody has checked the addresses and what is said of the data."""
        return bool(self._stated.metadata.get("unverified", False))

    @property
    def kind(self) -> str:
        """How it is got: "simulated", "download", "by hand" (a homepage only) or "local"."""
        if self.driver in SIMULATIONS:
            return "simulated"
        if self.files:
            return "download"
        return "local" if "path" in self._stated.arguments else "by hand"

    def fetch(self, *, progress: bool = True, allow_unchecked: bool = False) -> Path | list[Path]:
        """Bring the files of this entry into the cache, and say where they are.

        The cache is the folder of the environment variable ``NIDDL_XR_CACHE``, else the system's folder for caches. A
        file that lies there and has the right checksum is used without network. A download that broke off goes on where
        it stopped, and gets its name only when size and checksum are right.

        Parameters
        ----------
        progress
            Show a progress bar.
        allow_unchecked
            Take files without checksum too; a warning then states the one that was found, to be written into the
            catalogue. Archives without checksum are not unpacked.

        Returns
        -------
        pathlib.Path or list
            The file, the folder that an archive was unpacked to, or a list of these where the entry has several.

        Raises
        ------
        NiddlError
            For an entry without files (the message says where to get it and where to put it), files without
            checksum, another checksum or size than stated, no connection, no room, an answer of the server that is
            none, and archives that are not to be trusted. The message names entry and address.

        Warns
        -----
        UnverifiedWarning
            Where nobody has checked the entry.
        """
        if not self.files:
            raise self._nothing_to_fetch()
        unchecked = [file.url for file in self.files if file.sha256 is None]
        if unchecked and not allow_unchecked:
            raise NiddlError(
                f"entry {self.name!r}: no sha256 is known for {unchecked[0]}, so nothing would tell a wrong file from "
                "the right one; if you trust it: .fetch(allow_unchecked=True), which states the sha256 to pin"
            )
        self._warn_unverified()
        found = [self._fetch_file(file, progress) for file in self.files]
        return found[0] if len(found) == 1 else found

    def open(self, **overrides: Any) -> xr.DataArray | xr.Dataset | xr.DataTree:
        """Open the entry, with its arguments from the catalogue; nothing is downloaded.

        Parameters
        ----------
        **overrides
            Keyword arguments of the entry's verb in place of those in the catalogue. ``path=`` opens what you have
            elsewhere.

        Returns
        -------
        xarray.DataArray, xarray.Dataset or xarray.DataTree
            A recording (``open_recording``), pairs (``open_pairs``, ``training_pairs``), or the tree of a simulation.

        Raises
        ------
        NiddlError
            Where the files have not been fetched, are not the right ones, and as the verb does.

        Examples
        --------
        >>> from niddl_xr.recordings import open_catalog
        >>> worm = open_catalog()["whole_brain_demo"].open(frames=2, shape=(2, 24, 32), neurons=2)
        >>> dict(worm["recording"]["F"].sizes)
        {'t': 2, 'z': 2, 'y': 24, 'x': 32}
        """
        arguments = {**self._stated.arguments, **overrides}
        if self.driver in SIMULATIONS:
            from niddl_xr import simulation

            return self._call(getattr(simulation, self.driver), arguments)
        given = arguments.pop("path", None)
        path = overrides["path"] if "path" in overrides else self._path(given)
        self._warn_unverified()
        if self.driver == "open_pairs":
            from niddl_xr.recordings.pairs import open_pairs

            return self._call(open_pairs, {"path": path, **arguments})
        from niddl_xr.recordings.opening import open_recording

        return open_recording(path, **arguments)

    def _call(self, verb: Callable[..., Any], arguments: dict[str, Any]) -> xr.Dataset | xr.DataTree:
        from inspect import signature

        known = set(signature(verb).parameters)
        if unknown := sorted(set(arguments) - known):
            raise NiddlError(
                f"{self._stated.where}, key args: {self.driver} has no argument {', '.join(unknown)}; it has "
                f"{', '.join(sorted(known))}"
            )
        result: xr.Dataset | xr.DataTree = verb(**arguments)
        return result

    def _path(self, given: Any) -> Path:
        """Return what is opened: a path of the catalogue's own, or what was downloaded."""
        if not self.files:
            if given is None:
                raise self._nothing_to_fetch()
            path: Path = self._stated.folder / Path(given).expanduser()
            return path
        folder = _download.entry_folder(self.name)
        missing = [file for file in self.files if not self._is_fetched(file)]
        if missing:
            size = sum(file.size_bytes or 0 for file in missing)
            raise NiddlError(
                f"entry {self.name!r} is not in the cache {folder}: fetch it first with .fetch()"
                + (f", {size / 1e6:.1f} MB" if size else "")
            )
        if given is not None:
            found: Path = folder / str(given)
            if not found.resolve().is_relative_to(folder.resolve()):
                raise NiddlError(f"{self._stated.where}, key args.path: expected a path within {folder}, got {given!r}")
            return found
        return self._place(self.files[0]) if len(self.files) == 1 else folder

    def _fetch_file(self, file: RemoteFile, progress: bool) -> Path:
        path = _download.fetch(_download.Job(self.name, file, _download.entry_folder(self.name), progress))
        if file.sha256 is None:
            warnings.warn(
                f"entry {self.name!r}: {file.url} was not checked; to pin it, write into the catalogue: "
                f"sha256: {_download.sha256_of(path)}, size_bytes: {path.stat().st_size}",
                UncheckedDownloadWarning,
                stacklevel=4,
            )
            return path
        if file.unpack is None:
            return path
        from niddl_xr.recordings.catalog._archives import unpack

        return unpack(path, file.unpack)

    @property
    def in_cache(self) -> bool | None:
        """Whether all files are in the cache, by their sizes; None where there is nothing to download."""
        return all(self._is_fetched(file) for file in self.files) if self.files else None

    def _is_fetched(self, file: RemoteFile) -> bool:
        """Say whether a file is there, by its size: checksums are looked at when it is fetched."""
        path = _download.require_inside(_download.entry_folder(self.name) / file.name)
        present = path.is_file() and file.size_bytes in (None, path.stat().st_size)
        return present and self._place(file).exists()

    def _place(self, file: RemoteFile) -> Path:
        path = _download.entry_folder(self.name) / file.name
        unpacked = file.unpack is not None and file.sha256 is not None
        return _download.require_inside(path.with_name(path.name + ".unpacked") if unpacked else path)

    def _nothing_to_fetch(self) -> NiddlError:
        if self.kind == "simulated":
            return NiddlError(f"entry {self.name!r} is simulated, there is nothing to fetch: use .open()")
        if self.kind == "local":
            return NiddlError(f"entry {self.name!r} is a file of yours, there is nothing to fetch: use .open()")
        page = self._stated.metadata.get("homepage", "its publishers")
        unsure = " (an address that nobody has checked)" if self.unverified else ""
        return NiddlError(
            f"entry {self.name!r} has no address of a file that could be fetched: get it by hand from {page}{unsure}, "
            f"put it anywhere, such as {_download.entry_folder(self.name)}, and open it with .open(path=...)"
        )

    def _warn_unverified(self) -> None:
        if self.unverified:
            warnings.warn(
                f"entry {self.name!r} is unverified: nobody has checked what the catalogue says of it",
                UnverifiedWarning,
                stacklevel=3,
            )

    def __repr__(self) -> str:
        lines = [f"<Entry {self.name!r}: {self.kind}{', unverified' if self.unverified else ''}>", self.description]
        shown = {"driver": self.driver, **self.args, **self.metadata}
        return "\n".join([*lines, *(f"  {key}: {value}" for key, value in shown.items() if key != "files")])

    def _repr_html_(self) -> str:
        shown = {"kind": self.kind, "driver": self.driver, **self.args, **self.metadata}
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{html.escape(str(key))}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for key, value in shown.items()
        )
        return f"<b>{html.escape(self.name)}</b>: {html.escape(self.description)}<table>{rows}</table>"
