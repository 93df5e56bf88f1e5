"""CSV: a plain long table that pandas, R, MATLAB and spreadsheets open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._tidy import tidy

if TYPE_CHECKING:
    import pandas as pd

WRITER = Writer("CSV table", suffixes=(".csv",), takes=("dataset", "table"))


def write(content: xr.Dataset | pd.DataFrame, path: Path, *, progress: bool) -> None:
    """Write a long table: one line of names, commas, decimal points, UTF-8; NaN are empty.

    Numbers are written with as many digits as bring the same number back. The history has no place in it; ``.parquet``
    keeps it.

    Parameters
    ----------
    content
        Results over named dims, or a table.
    path
        File to make.
    progress
        Show a progress bar.
    """
    from tqdm.auto import tqdm

    table = tidy(content)
    with (
        path.open("w", encoding="utf-8", newline="") as file,
        tqdm(total=table.rows, desc="export", unit="row", disable=not progress) as bar,
    ):
        for number, block in enumerate(table.blocks):
            block.to_csv(file, index=False, header=number == 0, lineterminator="\n")
            bar.update(len(block))
