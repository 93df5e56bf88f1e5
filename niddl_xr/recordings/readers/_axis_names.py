"""What files call the axes of their arrays, and the coordinates along them, as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from niddl_xr.recordings.readers._lazy import LETTERS
from niddl_xr.recordings.readers._units import s_per, um_per

if TYPE_CHECKING:
    import xarray as xr

_WORDS = {
    "t": ("time", "times", "frame", "frames"),
    "z": ("depth", "plane", "planes", "slice", "slices"),
    "c": ("channel", "channels"),
    "y": ("height", "row", "rows"),
    "x": ("width", "column", "columns"),
}
_LETTER_OF: Mapping[str, str] = {word: letter for letter, words in _WORDS.items() for word in words}


def letter_of(name: str) -> str:
    """Return the letter of an axis that is called by its letter or a whole word; other names in lower case."""
    return _LETTER_OF.get(name.lower(), name.lower())


def axes_of(names: Sequence[str] | None) -> str | None:
    """Return the axes string for the names of all dims, None where one of them is unknown, or y or x is missing."""
    letters = [letter_of(name) for name in names or ()]
    known = len(set(letters)) == len(letters) and {"y", "x"} <= set(letters) <= set(LETTERS)
    return "".join(letters) if known else None


def coordinate(letter: str, name: str, values: np.ndarray, unit: object) -> xr.Variable | None:
    """Return stored coordinates as ours, or None where they do not say what we need.

    In s or µm where the unit is a known one of time or length; in frames or pixels as stored. Whole numbers along
    a dim called frame, without a unit, are numbers of frames.
    """
    import xarray as xr

    if letter == "c" or values.ndim != 1 or values.dtype.kind not in "uif" or not np.all(np.isfinite(values)):
        return None
    stated = unit if isinstance(unit, str) else None
    scale = s_per(stated) if letter == "t" else um_per(stated)
    if scale is not None:
        return xr.Variable(letter, values * scale, {"units": "s" if letter == "t" else "µm"})
    if stated is None and letter == "t" and name.lower().startswith("frame") and values.dtype.kind in "ui":
        stated = "frame"
    return xr.Variable(letter, values, {"units": stated}) if stated in ("frame", "pixel") else None
