"""Real pairs: W2S, 60 fields of human cells in three channels (Zhou et al., ECCV Workshops 2020), 512 x 512, 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import niddl_xr as nx
from benchmarks.experiments._common import judge
from niddl_xr.schema import MissingMetadataWarning

TRAINING_FIELDS = 45  # the others judge
SEED = 7


def judge_w2s(pairs: xr.Dataset, denoisers: Mapping[str, nx.Denoiser], **conditions: Any) -> pd.DataFrame:
    """Return the table of :func:`judge`, with the field as the unit: its three channels are not independent."""
    table = judge(pairs, denoisers, data="W2S", **conditions)
    return table.assign(unit="field " + table["stack"].str.slice(0, 3))


def w2s(realdata: Path, test_fields: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the images to train on, in random order, and all channels of the first fields of the others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        pairs = nx.open_pairs(realdata / "w2s_pairs", noisy="noisy_avg1", clean="clean_avg400")
    number = pairs["stack"].str.slice(0, 3).astype(int).values
    training = np.random.default_rng(SEED).permutation(np.flatnonzero(number <= TRAINING_FIELDS))
    test = (number > TRAINING_FIELDS) & (number <= TRAINING_FIELDS + test_fields)
    return pairs.isel(stack=training), pairs.isel(stack=test)
