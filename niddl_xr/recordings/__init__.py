"""Recordings: files of many formats become lazy labelled arrays, and arrays become files of other tools."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Called like the packages that hold them: bound now, because importing these later would put them in their place.
from niddl_xr.recordings.export import export
from niddl_xr.recordings.readers import readers

# Public verb -> module of this room that holds it, loaded when first used.
_VERBS = {
    "from_numpy": "opening",
    "open_recording": "opening",
    "open_pairs": "pairs",
    "pair_recordings": "pairs",
    "describe": "description",
    "Description": "description",
    "open_catalog": "catalog",
    "open_traces": "traces",
}

__all__ = [
    "Description",
    "describe",
    "export",
    "from_numpy",
    "open_catalog",
    "open_pairs",
    "open_recording",
    "open_traces",
    "pair_recordings",
    "readers",
]

if TYPE_CHECKING:
    from niddl_xr.recordings.catalog import open_catalog as open_catalog
    from niddl_xr.recordings.description import Description as Description
    from niddl_xr.recordings.description import describe as describe
    from niddl_xr.recordings.opening import from_numpy as from_numpy
    from niddl_xr.recordings.opening import open_recording as open_recording
    from niddl_xr.recordings.pairs import open_pairs as open_pairs
    from niddl_xr.recordings.pairs import pair_recordings as pair_recordings
    from niddl_xr.recordings.traces import open_traces as open_traces


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_VERBS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
