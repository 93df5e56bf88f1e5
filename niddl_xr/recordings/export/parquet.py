"""Parquet: the long table with types and units, for pandas, R, DuckDB and the like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._tidy import tidy
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    import pandas as pd

WRITER = Writer("Parquet table", suffixes=(".parquet",), takes=("dataset", "table"))


def write(content: xr.Dataset | pd.DataFrame, path: Path, *, progress: bool) -> None:
    """Write a long table as Parquet (zstd).

    The metadata of a column hold its ``units``; those of the schema the attributes, the history among them, as JSON
    under ``niddl_xr``. NaN stay NaN.

    Parameters
    ----------
    content
        Results over named dims, or a table.
    path
        File to make.
    progress
        Show a progress bar.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tqdm.auto import tqdm

    table = tidy(content)
    attributes = json.dumps({str(key): value for key, value in table.attrs.items()}, default=str)
    blocks = iter(table.blocks)
    first = next(blocks)
    try:
        schema = pa.Schema.from_pandas(first, preserve_index=False)
    except pa.ArrowException as error:
        raise NiddlError(f"expected columns of one type each, as Parquet has them: {error}; see astype") from error
    fields = [
        field.with_metadata({"units": table.units[field.name]}) if field.name in table.units else field
        for field in schema
    ]
    schema = pa.schema(fields, metadata={**(schema.metadata or {}), b"niddl_xr": attributes.encode()})
    with (
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
        tqdm(total=table.rows, desc="export", unit="row", disable=not progress) as bar,
    ):
        for block in (first, *blocks):
            # NaN is a number here, not a missing one, as it was.
            columns = [
                pa.array(block[field.name].to_numpy(), field.type, from_pandas=not pa.types.is_floating(field.type))
                for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            bar.update(len(block))
