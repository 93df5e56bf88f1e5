"""What the tests of recordings share: proof of laziness, pickled graphs, counted reads, known arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr


def forbid_compute(*_: Any, **__: Any) -> None:
    raise AssertionError("computed")


@pytest.fixture
def lazily() -> Any:
    """Return a context in which any computation fails."""
    return dask.config.set(scheduler=forbid_compute)


@pytest.fixture
def pickled() -> Callable[[xr.DataArray], tuple[int, np.ndarray]]:
    """Return a function that sends the optimised graph through pickle, and gives its bytes and its result."""

    def through_pickle(recording: xr.DataArray) -> tuple[int, np.ndarray]:
        (optimised,) = dask.optimize(recording.data)
        message = pickle.dumps(dict(optimised.__dask_graph__()))
        graph = pickle.loads(message)
        result = dask.get(graph, optimised.__dask_keys__())
        rebuilt = type(optimised)(graph, optimised.name, optimised.chunks, meta=optimised._meta)
        assert len(result) > 0
        return len(message), rebuilt.compute(scheduler="sync")

    return through_pickle


@pytest.fixture
def counts() -> Callable[..., np.ndarray]:
    """Return a function that makes counts in which every element differs, as far as the dtype allows."""

    def make(*shape: int, dtype: str = "uint16") -> np.ndarray:
        values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) * 7 + 3
        if np.dtype(dtype).kind == "f":
            return (values / 8 - 5).astype(dtype)
        info = np.iinfo(dtype)
        span = int(info.max) - int(info.min) + 1
        return (values % span + int(info.min)).astype(dtype)

    return make
