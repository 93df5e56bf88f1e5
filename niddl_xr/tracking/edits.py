"""The log of what humans have corrected: a folder to which rows are added, and from which nothing is ever taken."""

from __future__ import annotations

import getpass
import html
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from niddl_xr.neurons import require_tracks
from niddl_xr.schema import SPACE_DIMS, NiddlError
from niddl_xr.tracking._edit_parts import SUFFIX, part_names, read_part, write_part
from niddl_xr.tracking._edit_rows import (
    COLUMNS,
    FROM,
    EditWarning,
    active_ids,
    as_table,
    checked_fields,
    edits_of,
    is_ulid,
    new_ulid,
    rows_of,
    time_of,
)

_ROWS_SHOWN = 10


class EditLog:
    """Corrections of tracks, kept in a folder: whatever was appended is never changed, lost or deleted.

    Every edit is a file of its own, ``<edit_id>.parquet``, that appears under its name when it is complete and on the
    disk. So a process may be killed at any moment, several people may write into one shared folder at once, and two
    logs are merged by copying the files of one into the folder of the other.

    Parameters
    ----------
    path
        Folder of the log; it is made with the first edit.
    author
        Who edits; the default is the name under which the system knows the user.
    tool
        What the edits are made with.

    Raises
    ------
    NiddlError
        Where ``path`` is a file, and where the system has no name for the user.

    Warns
    -----
    EditWarning
        When the log is read, for every parquet file of the folder that holds no edits or only a part of one. It is left
        as it is; all others are read. Files of other kinds are left alone.

    Notes
    -----
    An edit_id is a ULID, sorted as text in the order of time. It always follows the ids that are in the folder, also
    where a clock is wrong, so that a correction of a correction comes after it.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> log = EditLog(folder.name, author="first reader")
    >>> moved = log.append("move", neuron="n001", t=7, z=3.0, y=40.2, x=61.5)
    >>> named = log.append("name", neuron="n001", name="AVAL")
    >>> undone = log.undo(moved)
    >>> log.active()[["op", "neuron", "name"]].values.tolist()
    [['name', 'n001', 'AVAL']]
    >>> len(EditLog(folder.name))
    3
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], *, author: str | None = None, tool: str = "niddl_xr") -> None:
        self._path = Path(path)
        if self._path.exists() and not self._path.is_dir():
            raise NiddlError(f"expected the folder of an edit log, got the file {self._path}")
        for word, value in (("author", author), ("tool", tool)):
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise NiddlError(f"expected {word} as text that is not empty, got {value!r}")
        self._author = _system_user() if author is None else author
        self._tool = tool
        self._parts: dict[str, list[dict[str, Any]]] = {}  # what was read: a part never changes
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def author(self) -> str:
        """Who appends."""
        return self._author

    def append(self, op: str, *, tracks: xr.Dataset | None = None, **fields: Any) -> str:
        """Add an edit; when this returns, it is on the disk.

        Parameters
        ----------
        op
            One of the operations below. All take ``note`` beside their fields.

            ``move``, ``add``: ``neuron, t, z, y, x``
                The neuron is at this place. ``add`` takes the name of a new neuron, too.
            ``delete``: ``neuron, t_start[, t_end]``
                The neuron is not where it is said to be in these frames; one frame without ``t_end``.
            ``assign``: ``neuron, t, det_id[, z, y, x]``
                The neuron is this row of the detections, and no other neuron is. The place is needed where the
                tracks do not know it.
            ``swap``: ``neuron, other, t_start[, t_end]``
                The two exchange their points.
            ``split``: ``neuron, t_start, other[, t_end]``
                From here on it is another neuron, whose new name is ``other``.
            ``merge``: ``neuron, other[, t_start[, t_end]]``
                The points of ``other`` are of ``neuron``, where that has none.
            ``reject``: ``neuron``
                It is no neuron, or not worth keeping.
            ``name``: ``neuron, name``
                What the neuron is called, beside its id; "" for nothing.
            ``confirm``: ``neuron`` or ``t`` or both
                The points are right: of a neuron in all frames, of all neurons in a frame, of one.
            ``comment``: ``note``
                A remark.
            ``undo``: ``target``
                See :meth:`undo`.
        tracks
            The tracks that were looked at. They let the edit say which version and recording it was made on, and where
            the neuron stood, by which it is recognised in other versions. Without them it is applied unseen.
        **fields
            ``t_start`` and ``t_end`` are numbers of frames, from 0, both included; ``t`` is short for both. Without
            ``t_end``, swap, split and merge go on to the end of the recording. ``z``, ``y``, ``x`` are in µm.

        Returns
        -------
        str
            The edit_id.

        Raises
        ------
        NiddlError
            For an unknown operation, fields that are missing, superfluous or of another kind, a neuron or frame that
            the tracks do not have, and tracks of another recording than the log's.
        """
        row = (
            dict.fromkeys(COLUMNS) | {"op": op, "author": self._author, "tool": self._tool} | checked_fields(op, fields)
        )
        if tracks is not None:
            row |= self._where_it_stood(row, require_tracks(tracks))
        if op == "undo":
            self._require_undoable(fields["target"])
        return self._write([row])[0]

    def undo(self, edit_id: str) -> str:
        """Take an edit back, by another edit; undoing that brings it back.

        Parameters
        ----------
        edit_id
            What :meth:`append` or :meth:`undo` returned, or stands in the table, whoever made it.

        Returns
        -------
        str
            The edit_id of the undo.

        Raises
        ------
        NiddlError
            For an edit that is not in the log, or is undone already.
        """
        return self.append("undo", target=edit_id)

    def extend(self, edits: EditLog | pd.DataFrame | str | os.PathLike[str]) -> int:
        """Copy edits of another log, or of a table, that are not in this one; they keep their ids, times and authors.

        Parameters
        ----------
        edits
            Log, its folder, or a table such as :func:`merge_edits` gives.

        Returns
        -------
        int
            How many were copied.

        Raises
        ------
        NiddlError
            For a table that does not hold edits, or holds ids that are no file names.
        """
        present = set(self.table()["edit_id"])
        rows = [row for row in rows_of(read_edits(edits)) if row["edit_id"] not in present]
        bad = [row["edit_id"] for row in rows if not is_ulid(row["edit_id"])]
        if bad:
            raise NiddlError(f"expected ULIDs as edit_id, got {bad[0]!r}")
        self._write(rows, keep_ids=True)
        return len(rows)

    def table(self) -> pd.DataFrame:
        """Return all edits, undos among them, in the order of time.

        Returns
        -------
        pandas.DataFrame
            ``edit_id``, ``utc``, ``author``, ``tool``, ``op``, ``t_start``, ``t_end`` (frames; <NA> for none or the
            end), ``neuron``, ``other``, ``z``, ``y``, ``x`` [µm], ``from_z``, ``from_y``, ``from_x`` [µm; where the
            neuron stood in frame ``t_start``], ``det_id``, ``name``, ``note``, ``target`` (of an undo),
            ``base_version``, ``recording_id``; texts are "" where there is none. Dtypes are the same for an empty log.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, rows in self._read_parts():
            for row in rows:
                if found.setdefault(row["edit_id"], row) != row:
                    warnings.warn(
                        f"{name} holds the edit {row['edit_id']} in another wording than an earlier file; "
                        "the earlier one counts",
                        EditWarning,
                        stacklevel=2,
                    )
        return as_table(found.values())

    def active(self) -> pd.DataFrame:
        """Return the edits that count: :meth:`table` without undos and what they undo."""
        table = self.table()
        counted = active_ids(edits_of(table))
        return table[table["edit_id"].isin(counted)].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.table())

    def __repr__(self) -> str:
        table = self.table()
        authors = ", ".join(sorted(set(table["author"]))) or "nobody"
        counted = len(active_ids(edits_of(table)))
        return f"<EditLog {str(self._path)!r}: {len(table)} edits by {authors}, {counted} count>"

    def _repr_html_(self) -> str:
        last = self.table().iloc[::-1].head(_ROWS_SHOWN)
        shown = last[["utc", "author", "op", "neuron", "t_start", "t_end", "note"]]
        rows = shown.to_html(index=False, border=0, na_rep="") if len(shown) else ""
        return f"<p>{html.escape(repr(self))}</p>{rows}"

    def _read_parts(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Read what is new in the folder. A part that fails is tried again: it may still be on its way here."""
        present = part_names(self._path)
        with self._lock:
            self._parts = {name: self._parts[name] for name in present if name in self._parts}
            for name in present:
                if name not in self._parts:
                    rows = read_part(self._path / name)
                    if rows is None:
                        continue
                    self._parts[name] = rows
            parts = sorted(self._parts.items())
        yield from parts

    def _where_it_stood(self, row: dict[str, Any], tracks: xr.Dataset) -> dict[str, Any]:
        attrs = tracks.attrs
        known: dict[str, Any] = {
            "base_version": str(attrs.get("base_version") or attrs.get("version_id") or ""),
            "recording_id": str(attrs.get("recording_id") or ""),
        }
        rows = [part_row for _, part in self._read_parts() for part_row in part]
        others = sorted({row["recording_id"] for row in rows} - {None, known["recording_id"]})
        if others and known["recording_id"]:
            raise NiddlError(
                f"expected tracks of the recording {others[0]}, as the edits in {self._path}, got tracks of "
                f"{known['recording_id']}: use a log of its own for every recording"
            )
        names = tracks["neuron"].values.tolist()
        new = {"add": "neuron", "split": "other"}.get(row["op"])
        for key in ("neuron", "other"):
            if row[key] is not None and key != new and row[key] not in names:
                raise NiddlError(f"expected {key} as one of the {len(names)} neurons of the tracks, got {row[key]!r}")
        for key in ("t_start", "t_end"):
            if row[key] is not None and row[key] >= tracks.sizes["t"]:
                raise NiddlError(f"expected {key} below {tracks.sizes['t']}, the frames of the tracks, got {row[key]}")
        known |= _frame_looked_at(row, tracks)
        frame = known.get("t_start", row["t_start"])
        if row["neuron"] in names and frame is not None:
            place = tracks["position"].sel(neuron=row["neuron"]).values[frame].astype(float)
            if np.isfinite(place).all():
                known |= dict(zip(FROM, place.tolist(), strict=True))
        if row["op"] == "assign" and row["z"] is None:
            known |= _place_of_detection(row, tracks)
        return known

    def _require_undoable(self, edit_id: str) -> None:
        edits = edits_of(self.table())
        target = next((edit for edit in edits if edit.edit_id == edit_id), None)
        if target is None:
            raise NiddlError(f"expected the edit_id of an edit in {self._path}, got {edit_id!r}; see table()")
        by = [edit.edit_id for edit in edits if edit.op == "undo" and edit.target == edit_id]
        if by and not _counts(edits, edit_id):
            raise NiddlError(f"expected an edit that counts, got {edit_id}, which {by[-1]} has undone: undo that")

    def _write(self, rows: list[dict[str, Any]], *, keep_ids: bool = False) -> list[str]:
        self._path.mkdir(parents=True, exist_ok=True)
        ids = []
        with self._lock:
            for row in rows:
                if not keep_ids:
                    written = [name.removesuffix(SUFFIX) for name in part_names(self._path)]
                    last = max((name for name in written if is_ulid(name)), default=None)
                    edit_id = new_ulid(time.time_ns() // 1_000_000, last)
                    row = row | {"edit_id": edit_id, "utc": time_of(edit_id)}
                write_part(self._path, row)
                ids.append(row["edit_id"])
        return ids


def read_edits(edits: EditLog | pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    """Return edits as a table: of a log, of the folder of one, which must exist, or as they are."""
    if isinstance(edits, EditLog):
        return edits.table()
    if isinstance(edits, pd.DataFrame):
        return edits
    if isinstance(edits, (str, os.PathLike)):
        if not Path(edits).is_dir():
            raise NiddlError(f"expected the folder of an edit log, got {os.fspath(edits)!r}, which is none")
        return EditLog(edits, author="reader").table()
    raise NiddlError(f"expected edits as an EditLog, its folder or its table, got {type(edits).__name__}")


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise NiddlError("expected author=, the name of who edits: the system has no name for this user") from error


def _counts(edits: list[Any], edit_id: str) -> bool:
    """Whether an edit or an undo is in force."""
    undone: set[str] = set()
    for edit in reversed(edits):
        if edit.edit_id == edit_id:
            return edit_id not in undone
        if edit.op == "undo" and edit.edit_id not in undone:
            undone.add(edit.target)
    return False


def _frame_looked_at(row: dict[str, Any], tracks: xr.Dataset) -> dict[str, Any]:
    """Return the frame by which a neuron is recognised that is named or rejected as a whole: its first."""
    if row["op"] not in ("name", "reject") or row["t_start"] is not None:
        return {}
    seen = np.flatnonzero(tracks["observed"].sel(neuron=row["neuron"]).values)
    return {"t_start": int(seen[0])} if len(seen) else {}


def _place_of_detection(row: dict[str, Any], tracks: xr.Dataset) -> dict[str, float]:
    if "det_id" not in tracks:
        return {}
    there = np.flatnonzero(tracks["det_id"].values[row["t_start"]] == row["det_id"])
    if not len(there):
        return {}
    place = tracks["position"].values[row["t_start"], there[0]].astype(float)
    return dict(zip(SPACE_DIMS, place.tolist(), strict=True)) if np.isfinite(place).all() else {}
