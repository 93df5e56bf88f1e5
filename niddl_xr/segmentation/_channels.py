"""Which channel of a recording with several is worked on."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from niddl_xr.neurons import recording_id
from niddl_xr.schema import NiddlError, require_recording


def chosen_channel(
    recording: xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray], channel: str | None
) -> tuple[xr.DataArray, str | None]:
    """Return the channel that is to be worked on, and its name where there was a choice.

    Raises
    ------
    NiddlError
        For a channel that does not exist, one asked of a single recording, and channels of other coordinates, for
        which points found in one would mean nothing.
    """
    if isinstance(recording, xr.DataArray):
        if channel is not None:
            raise NiddlError(
                f"expected channel=None, because a DataArray is one channel, got {channel!r}: choose it when opening, "
                "open_recording(path, channel=...), or give all of them, {'red': red, 'green': green}"
            )
        return require_recording(recording), None
    if isinstance(recording, xr.DataTree) or not isinstance(recording, Mapping):
        raise NiddlError(
            "expected a recording, or channels as a Dataset or mapping of names, got "
            f"{type(recording).__name__}; of a tree take one node's variable, such as tree['recording']['F']"
        )
    names = [str(name) for name in (recording.data_vars if isinstance(recording, xr.Dataset) else recording)]
    if channel is None and len(names) == 1:
        channel = names[0]
    if channel not in names:
        raise NiddlError(
            f"expected channel as one of {names}, got {channel!r}: choose the one that does not follow activity, "
            "in which silent neurons are seen"
        )
    one = require_recording(recording[channel])
    others = {name: recording_id(require_recording(recording[name])) for name in names if name != channel}
    strangers = [name for name, other in others.items() if other != recording_id(one)]
    if strangers:
        raise NiddlError(
            f"expected channels with the same coordinates, got others in {strangers} than in {channel!r}: "
            "align them first, or give the one recording alone"
        )
    return one, channel if len(names) > 1 else None
