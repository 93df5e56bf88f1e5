"""A row of the edit log: its columns, the operations with the fields that each takes, and its identity in time."""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from niddl_xr.schema import SPACE_DIMS, NiddlError

FROM = ("from_z", "from_y", "from_x")
_TEXT = ("edit_id", "author", "tool", "op", "neuron", "other", "name", "note", "target", "base_version", "recording_id")
_NUMBER = (*SPACE_DIMS, *FROM)
_COUNT = ("t_start", "t_end", "det_id")
COLUMNS = (
    *("edit_id", "utc", "author", "tool", "op", "t_start", "t_end", "neuron", "other"),
    *(*SPACE_DIMS, *FROM, "det_id", "name", "note", "target", "base_version", "recording_id"),
)
DTYPES = {
    "utc": "datetime64[us, UTC]",
    **dict.fromkeys(_TEXT, "string"),
    **dict.fromkeys(_NUMBER, "float64"),
    **dict.fromkeys(_COUNT, "Int64"),
}

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: sorted as text is sorted as number
_DIGITS = {letter: value for value, letter in enumerate(_ALPHABET)}
_ULID_LENGTH, _RANDOM_BITS, _STEP_BITS = 26, 80, 48


class EditWarning(UserWarning):
    """An edit, or a part of an edit log, could not be used; the message says which and why. Nothing is deleted."""


@dataclass(frozen=True)
class Operation:
    """The fields that an operation takes beside ``note``; ``single`` ones are of one frame, ``range`` ones of many.

    ``to_end``: without ``t_end`` it reaches to the end of the recording, else it is of the frame ``t_start`` alone.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    to_end: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        return self.required + self.optional

    @property
    def one_frame(self) -> bool:
        """Whether the operation is of a single point in a single frame."""
        return "t_start" in self.required and "t_end" not in self.fields


# One operation a line: what it needs, what it may have. t_start of name and reject is the frame looked at.
OPERATIONS = {
    "move": Operation(("neuron", "t_start", *SPACE_DIMS)),
    "add": Operation(("neuron", "t_start", *SPACE_DIMS)),
    "delete": Operation(("neuron", "t_start"), ("t_end",)),
    "assign": Operation(("neuron", "t_start", "det_id"), SPACE_DIMS),
    "swap": Operation(("neuron", "other", "t_start"), ("t_end",), to_end=True),
    "split": Operation(("neuron", "other", "t_start"), ("t_end",), to_end=True),
    "merge": Operation(("neuron", "other"), ("t_start", "t_end"), to_end=True),
    "reject": Operation(("neuron",), ("t_start",)),
    "name": Operation(("neuron", "name"), ("t_start",)),
    "confirm": Operation((), ("neuron", "t_start", "t_end")),
    "comment": Operation(("note",), ("neuron", "t_start", "t_end")),
    "undo": Operation(("target",)),
}
POINT_OPERATIONS = frozenset({"move", "add", "delete", "assign"})


@dataclass(frozen=True)
class Edit:
    """A row as Python values: "" for no text, None for no number, ``place`` and ``origin`` (z, y, x) in µm or None."""

    edit_id: str
    author: str
    op: str
    t_start: int | None
    t_end: int | None
    neuron: str
    other: str
    place: tuple[float, float, float] | None
    origin: tuple[float, float, float] | None
    det_id: int | None
    name: str
    note: str
    target: str
    base_version: str
    recording_id: str


def checked_fields(op: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an operation, checked and as Python values; ``t`` becomes ``t_start`` and ``t_end``."""
    if op not in OPERATIONS:
        raise NiddlError(f"expected op as one of {sorted(OPERATIONS)}, got {op!r}")
    operation = OPERATIONS[op]
    fields = _with_frames(op, operation, {key: value for key, value in given.items() if value is not None})
    allowed = (*operation.fields, "note")
    shown = tuple(
        dict.fromkeys("t" if field in ("t_start", "t_end") and operation.one_frame else field for field in allowed)
    )
    superfluous = sorted(set(fields) - set(allowed) - ({"t_end"} if operation.one_frame else set()))
    if superfluous:
        raise NiddlError(f"expected of {op} the fields {shown}, got {superfluous} beside: leave them out")
    missing = [field for field in operation.required if field not in fields]
    if missing:
        raise NiddlError(f"expected of {op} the fields {shown}, got {sorted(fields)}: add {missing}")
    checked = {key: _checked(op, key, value) for key, value in fields.items()}
    _check_together(op, checked)
    return checked


def _with_frames(op: str, operation: Operation, fields: dict[str, Any]) -> dict[str, Any]:
    if "t" in fields:
        if "t_start" in fields:
            raise NiddlError(f"expected of {op} either t, a single frame, or t_start, got both")
        frame = fields.pop("t")
        fields["t_start"] = frame
        if "t_end" in operation.fields:
            fields.setdefault("t_end", frame)
    if "t_start" in fields and not operation.to_end and (operation.one_frame or "t_end" in operation.fields):
        fields.setdefault("t_end", fields["t_start"])
    return fields


def _checked(op: str, key: str, value: Any) -> Any:
    if key in _COUNT:
        words = "the row of the detection" if key == "det_id" else "the number of the frame, not its time in s"
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise NiddlError(f"expected {key} of {op} as a whole number from 0 ({words}), got {value!r}")
        number = operator.index(value)
        if number < 0:
            raise NiddlError(f"expected {key} of {op} as a whole number from 0 ({words}), got {number}")
        return number
    if key in SPACE_DIMS:
        if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
            raise NiddlError(f"expected {key} of {op} as a number of µm, got {value!r}")
        if not math.isfinite(float(value)):
            raise NiddlError(f"expected {key} of {op} as a finite number of µm, got {float(value)}")
        return float(value)
    if not isinstance(value, str) or (not value.strip() and key not in ("note", "name")):
        raise NiddlError(f"expected {key} of {op} as text that is not empty, got {value!r}")
    return str(value)


def _check_together(op: str, fields: Mapping[str, Any]) -> None:
    start, end = fields.get("t_start"), fields.get("t_end")
    if end is not None and start is None:
        raise NiddlError(f"expected of {op} t_start with t_end, got t_end={end} alone")
    if start is not None and end is not None and end < start:
        raise NiddlError(f"expected of {op} t_end, the last frame, not before t_start, got {start} to {end}")
    if OPERATIONS[op].one_frame and end != start:
        raise NiddlError(f"expected {op} of one frame, got {start} to {end}: an edit a frame")
    if "other" in fields and fields["other"] == fields["neuron"]:
        raise NiddlError(f"expected of {op} two neurons, got {fields['neuron']!r} twice")
    if op == "confirm" and "neuron" not in fields and start is None:
        raise NiddlError("expected of confirm a neuron or a frame t or both, got neither")
    if op == "comment" and not fields["note"].strip():
        raise NiddlError("expected of comment a note that is not empty")
    given = [dim for dim in SPACE_DIMS if dim in fields]
    if given and len(given) < 3:
        raise NiddlError(f"expected of {op} all of z, y, x in µm or none, got {given}")


def new_ulid(milliseconds: int, after: str | None = None) -> str:
    """Return a ULID of this time in UTC (since 1970) that sorts behind ``after``, whatever the clock says.

    Notes
    -----
    48 bits of time and 80 random ones (github.com/ulid/spec). Where the clock has not advanced beyond ``after``, a
    random amount is added to it: two processes that continue from the same row still get different ids.
    """
    value = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    if after is not None and milliseconds <= ulid_time(after):
        value = ulid_value(after) + 1 + secrets.randbits(_STEP_BITS)
    return "".join(_ALPHABET[(value >> (5 * place)) & 31] for place in reversed(range(_ULID_LENGTH)))


def ulid_value(ulid: str) -> int:
    """Return a ULID as a number."""
    value = 0
    for letter in ulid:
        value = (value << 5) | _DIGITS[letter]
    return value


def ulid_time(ulid: str) -> int:
    """Return the time of a ULID in ms since 1970."""
    return ulid_value(ulid) >> _RANDOM_BITS


def is_ulid(text: str) -> bool:
    """Whether ``text`` is a ULID of a time before the year 3000; later ones would spoil the order of all to come."""
    return (
        len(text) == _ULID_LENGTH
        and set(text) <= set(_ALPHABET)
        and text[0] <= "7"
        and ulid_time(text) < 32_503_680_000_000
    )


def time_of(ulid: str) -> datetime:
    """Return the time of a ULID."""
    return datetime.fromtimestamp(ulid_time(ulid) / 1000, tz=UTC)


def as_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table of fixed columns and dtypes, in the order of time; equal rows stand once."""
    listed = list(rows)
    frame = pd.DataFrame({column: [row.get(column) for row in listed] for column in COLUMNS})
    for column in _TEXT:
        frame[column] = pd.Series([row.get(column) or "" for row in listed], dtype="string")
    frame["utc"] = pd.to_datetime(frame["utc"], utc=True)
    frame = frame.astype(DTYPES)
    return frame.sort_values(["utc", "edit_id"], kind="stable", ignore_index=True)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, None where nothing stands; one error names what is amiss with it."""
    return rows_of_columns({str(column): table[column].tolist() for column in table})


def rows_of_columns(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the rows of columns of values, as :func:`rows_of`."""
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise NiddlError(f"expected edits with the columns {COLUMNS}, got {list(columns)}: {missing} are missing")
    columns = {column: columns[column] for column in COLUMNS}
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [_checked_row(row) for row in rows]


def _checked_row(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as Python values if it keeps the contract: what others wrote is not trusted."""
    row: dict[str, Any] = {key: None if _absent(value) else value for key, value in given.items()}
    row |= {key: row[key] or None for key in ("tool", "base_version", "recording_id")}
    for key in _COUNT:  # a table with gaps holds whole numbers as floats
        if isinstance(row[key], float) and row[key].is_integer():
            row[key] = int(row[key])
    fields = {key: row[key] for key in (*SPACE_DIMS, *_COUNT) if row[key] is not None}
    fields |= {key: row[key] for key in ("neuron", "other", "name", "note", "target") if row[key]}
    if row["op"] == "name":
        fields["name"] = row["name"] or ""
    checked = checked_fields(row["op"], fields)
    for key in ("edit_id", "author"):
        if not isinstance(row[key], str) or not row[key]:
            raise NiddlError(f"expected {key} of every edit as text that is not empty, got {row[key]!r}")
    if not isinstance(row["utc"], datetime):
        raise NiddlError(f"expected utc of every edit as a time, got {row['utc']!r}")
    row["utc"] = row["utc"] if row["utc"].tzinfo else row["utc"].replace(tzinfo=UTC)
    for key in ("tool", "base_version", "recording_id"):
        if row[key] is not None and not isinstance(row[key], str):
            raise NiddlError(f"expected {key} of every edit as text, got {row[key]!r}")
    for key in FROM:
        if row[key] is not None and not (isinstance(row[key], float) and math.isfinite(row[key])):
            raise NiddlError(f"expected {key} of every edit as a finite number of µm, got {row[key]!r}")
    kept = {key: row[key] for key in ("edit_id", "utc", "author", "tool", "op", *FROM, "base_version", "recording_id")}
    return dict.fromkeys(COLUMNS) | kept | checked


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def edits_of(table: pd.DataFrame) -> list[Edit]:
    """Return the rows of a table, in the order of time and id."""
    rows = sorted(rows_of(table), key=lambda row: (row["utc"], row["edit_id"]))
    return [
        Edit(
            edit_id=row["edit_id"],
            author=row["author"],
            op=row["op"],
            t_start=row["t_start"],
            t_end=row["t_end"],
            neuron=row["neuron"] or "",
            other=row["other"] or "",
            place=_point(row, SPACE_DIMS),
            origin=_point(row, FROM),
            det_id=row["det_id"],
            name=row["name"] or "",
            note=row["note"] or "",
            target=row["target"] or "",
            base_version=row["base_version"] or "",
            recording_id=row["recording_id"] or "",
        )
        for row in rows
    ]


def _point(row: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[float, float, float] | None:
    values = [row[key] for key in keys]
    if any(value is None for value in values):
        return None
    first, second, third = (float(value) for value in values)
    return first, second, third


def active_ids(edits: Iterable[Edit]) -> set[str]:
    """Return the ids of the edits that count: an undo takes its target away, and the undo of an undo gives it back.

    Undos themselves are not among them. An undo can only aim at what is older than itself.
    """
    undone: set[str] = set()
    counted: set[str] = set()
    for edit in reversed(list(edits)):
        if edit.edit_id in undone:
            continue
        if edit.op == "undo":
            undone.add(edit.target)
        else:
            counted.add(edit.edit_id)
    return counted
