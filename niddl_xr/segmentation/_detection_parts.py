"""Detections on disk: a folder of Parquet parts, each there complete or not at all, and what they are parts of."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

FORMAT, FORMAT_VERSION = "niddl_xr detections", 1
DESCRIPTION = "_detections.json"  # readers of Parquet folders pass over names with an underscore
_COUNTS = b"niddl_xr"


def begin(folder: Path, job: Mapping[str, Any], frames_per_part: int, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Make the folder of ``job``, or find it begun; return its description: job, frames_per_part and attrs.

    Raises
    ------
    FileExistsError
        If the folder holds something else: other settings, another recording, or no detections.
    """
    job = json.loads(json.dumps(job))  # as it comes back from the file
    path = folder / DESCRIPTION
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(not _is_unfinished(item) for item in folder.iterdir())):
            raise FileExistsError(f"{folder} exists and holds no detections of niddl_xr; choose another path")
        folder.mkdir(parents=True, exist_ok=True)
        description = {"format": FORMAT, "format_version": FORMAT_VERSION, "job": job}
        description |= {"frames_per_part": frames_per_part, "attrs": dict(attrs)}
        _write(path, lambda beside: beside.write_text(json.dumps(description, indent=1), encoding="utf-8"))
    found = _description(path)
    differing = sorted(key for key in job | found["job"] if job.get(key) != found["job"].get(key))
    if differing:
        told = ", ".join(f"{key} {found['job'].get(key)!r:.60}, not {job.get(key)!r:.60}" for key in differing)
        raise FileExistsError(f"{folder} holds other detections ({told}); choose another path")
    return found


def part_path(folder: Path, number: int) -> Path:
    """Return the path of a part."""
    return folder / f"part-{number:06d}.parquet"


def write_part(path: Path, table: pd.DataFrame, counts: Mapping[str, int]) -> None:
    """Write a part beside its place and rename it; ``counts`` of its frames go along."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({**(content.schema.metadata or {}), _COUNTS: json.dumps(counts).encode()})
    _write(path, lambda beside: pq.write_table(content, beside, compression="zstd"))


def read_part(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return a part and the counts of its frames; an error names the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(path)
        counts = json.loads((content.schema.metadata or {})[_COUNTS])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise NiddlError(f"{path} is damaged ({error}): remove this file, and the same call makes it again") from error
    return content.to_pandas(), counts


def _description(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found["format"] == FORMAT and found["format_version"] == FORMAT_VERSION
        parts = found["frames_per_part"]
        complete = isinstance(parts, int) and parts > 0 and isinstance(found["job"], dict)
        complete = complete and isinstance(found["attrs"], dict)
    except (ValueError, KeyError, TypeError) as error:
        raise FileExistsError(f"{path} does not describe detections of niddl_xr; choose another path") from error
    if not (known and complete):
        raise FileExistsError(f"{path} describes detections of another version; choose another path")
    return dict(found)


def _write(path: Path, write: Any) -> None:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written ({error}); make room, and the same call does the rest"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith((f".{DESCRIPTION}.", ".part-"))
