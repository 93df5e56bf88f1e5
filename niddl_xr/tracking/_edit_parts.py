"""The files of an edit log: one a row, complete or not there."""

from __future__ import annotations

import os
import secrets
import warnings
from pathlib import Path
from typing import Any

from niddl_xr.schema import NiddlError
from niddl_xr.tracking._edit_rows import COLUMNS, DTYPES, EditWarning, rows_of_columns

SUFFIX = ".parquet"


def part_names(folder: Path) -> list[str]:
    """Return the parts of a log, sorted. Files being written begin with a dot."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.name[0] != ".")


def read_part(path: Path) -> list[dict[str, Any]] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read(use_threads=False)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        warnings.warn(f"{path} cannot be read ({reason}); it is left as it is", EditWarning, stacklevel=4)
        return None
    try:
        return rows_of_columns(table.to_pydict())
    except NiddlError as error:
        warnings.warn(f"{path} holds no edits: {error}; it is left as it is", EditWarning, stacklevel=4)
        return None


def write_part(folder: Path, row: dict[str, Any]) -> None:
    """Write a row: first under another name, to the disk, then at once under its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row], schema=_part_schema()), content)
    hidden = folder / f".{row['edit_id']}.{secrets.token_hex(4)}.writing"
    # Readable for whom the folder is shared with, as the user's umask allows; temporary files would be private.
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.getvalue())
        file.flush()
        os.fsync(file.fileno())
    final = folder / f"{row['edit_id']}{SUFFIX}"
    if final.exists():  # a damaged part, which another log still has whole
        final = folder / f"{row['edit_id']}.{secrets.token_hex(4)}{SUFFIX}"
    os.replace(hidden, final)
    if os.name == "posix":  # the name, too, has to be on the disk; elsewhere folders cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _part_schema() -> Any:
    import pyarrow as pa

    kinds = {"string": pa.string(), "float64": pa.float64(), "Int64": pa.int64()}
    fields = [(column, kinds.get(DTYPES[column], pa.timestamp("us", tz="UTC"))) for column in COLUMNS]
    return pa.schema(fields, metadata={b"niddl_xr": b"edits 1"})
