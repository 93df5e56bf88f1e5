"""Recordings by name: a catalogue says where they are, whose they are, and how they are opened."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niddl_xr.recordings.catalog._entry import Entry, UncheckedDownloadWarning, UnverifiedWarning
from niddl_xr.recordings.catalog._schema import Specification, read_catalogue
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Catalog", "Entry", "UncheckedDownloadWarning", "UnknownEntryError", "UnverifiedWarning", "open_catalog"]

SHIPPED = "data_catalog.yaml"


class UnknownEntryError(NiddlError, KeyError):
    """There is no entry of this name in the catalogue."""

    def __str__(self) -> str:
        return str(self.args[0])


class Catalog(Mapping[str, Entry]):
    """A mapping of names to entries; shown as a table."""

    def __init__(self, path: Path, specifications: Mapping[str, Specification]) -> None:
        self.path = path
        self._entries = {name: Entry(specification) for name, specification in specifications.items()}

    def __getitem__(self, name: str) -> Entry:
        if name in self._entries:
            return self._entries[name]
        close = get_close_matches(str(name), self._entries, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self._entries) or 'none'}"
        raise UnknownEntryError(f"no entry {name!r} in {self.path}; {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def to_frame(self) -> pd.DataFrame:
        """Return the entries as a table.

        Returns
        -------
        pandas.DataFrame
            One row an entry, named by the index ``name``: ``description``, ``kind`` ("simulated", "download", "by
            hand", "local"), ``size_gb`` (NaN where unknown), ``in_cache`` (None where there is nothing to
            download), ``unverified``, ``licence``, ``doi``, ``homepage`` and ``notes`` (empty where not stated).
        """
        import pandas as pd

        table = pd.DataFrame([self._row(entry) for entry in self.values()], columns=["name", *_COLUMNS])
        return table.set_index("name")

    def _row(self, entry: Entry) -> dict[str, Any]:
        stated = entry.metadata
        sizes = [file.size_bytes for file in entry.files]
        exact = sum(size or 0 for size in sizes) / 1e9 if sizes and None not in sizes else None
        return {
            "name": entry.name,
            "description": entry.description,
            "kind": entry.kind,
            "size_gb": stated.get("approximate_gb", float("nan")) if exact is None else exact,
            "in_cache": entry.in_cache,
            "unverified": entry.unverified,
            **{key: stated.get(key, "") for key in ("licence", "doi", "homepage", "notes")},
        }

    def __repr__(self) -> str:
        lines = [
            f"  {entry.name} ({entry.kind}{', unverified' if entry.unverified else ''}): {entry.description}"
            for entry in self.values()
        ]
        return "\n".join([f"<Catalog {self.path}: {len(self)} entries>", *lines])

    def _repr_html_(self) -> str:
        table: str = self.to_frame().to_html(escape=True, render_links=False, max_rows=None, na_rep="")
        return f"<b>{html.escape(str(self.path))}</b>{table}"


_COLUMNS = ("description", "kind", "size_gb", "in_cache", "unverified", "licence", "doi", "homepage", "notes")


def open_catalog(path: str | os.PathLike[str] | None = None) -> Catalog:
    """Open a catalogue of recordings.

    Parameters
    ----------
    path
        A YAML file in the schema of docs/data_catalog.md, a superset of Intake's ``sources:``. None: the one shipped
        with this package, with a simulation of every kind and the public recordings of these methods.

    Returns
    -------
    Catalog
        A mapping of names to entries, each with ``.open()``, ``.fetch()``, ``.description`` and ``.metadata``;
        ``.to_frame()`` is the table. Nothing but the file is read.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        For what the schema does not allow; the message names file, line, entry, key, and what was expected.

    Examples
    --------
    >>> catalog = open_catalog()
    >>> catalog["whole_brain_demo"].kind
    'simulated'
    """
    chosen = shipped_catalogue() if path is None else Path(path).expanduser().absolute()
    return Catalog(chosen, read_catalogue(chosen))


def shipped_catalogue() -> Path:
    """Return where the catalogue of this project lies: in the checkout, or in the installed package."""
    package = Path(__file__).parents[2]
    for folder in (package.parent, package):
        if (folder / SHIPPED).is_file():
            return folder / SHIPPED
    raise FileNotFoundError(f"{SHIPPED} is neither beside the package nor in it; install niddl-xr again")
