"""What the attributes of tracks say of the edits that stand in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import xarray as xr

from niddl_xr.schema import NiddlError

# Attributes of edited tracks, JSON lists. KNOWN are edits that the tracker was told, see retrack; GONE are neurons that
# were rejected or lost: id, edit_id of the reject or "", some points [t, z, y, x].
APPLIED, ORPHANED, CONFLICTS, KNOWN = "edits_applied", "edits_orphaned", "edits_conflicts", "edits_known"
FORBIDDEN, GONE = "edits_forbidden", "neurons_gone"


@dataclass(frozen=True)
class Before:
    """What the attributes of tracks say of earlier edits."""

    applied: list[str]
    known: list[str]
    orphans: dict[str, dict[str, Any]]
    conflicts: list[dict[str, Any]]
    forbidden: list[list[Any]]
    gone: dict[str, tuple[str, list[list[float]]]]

    @classmethod
    def of(cls, tracks: xr.Dataset) -> Before:
        orphans = listed(tracks, ORPHANED)
        return cls(
            applied=listed(tracks, APPLIED),
            known=listed(tracks, KNOWN),
            orphans={entry["edit_id"]: entry for entry in orphans},
            conflicts=listed(tracks, CONFLICTS),
            forbidden=listed(tracks, FORBIDDEN),
            gone={neuron: (edit_id, samples) for neuron, edit_id, samples in listed(tracks, GONE)},
        )


def listed(tracks: xr.Dataset, key: str) -> list[Any]:
    """Return an attribute of edited tracks that is a JSON list; empty where there is none."""
    stored = tracks.attrs.get(key, "[]")
    try:
        entries = json.loads(stored)
    except (TypeError, ValueError):
        entries = None
    if not isinstance(entries, list):
        raise NiddlError(f"expected attrs[{key!r}] as a JSON list, got {stored!r:.60}: take the tracks before editing")
    return entries
