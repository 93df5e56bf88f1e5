"""Files in which other tools keep postures. Every reader gives one worm's points, in order from head to tail."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Lines:
    """What a file says of one worm: ``times`` (t,), rising, and of each a line (n, 2) as y, x, None for none.

    ``in_um``: the lines are in µm, else in pixels; ``in_s``: the times are in s, else frame numbers. ``quality`` (t,)
    or None. ``pixel_um`` and ``dt_s`` where the file states them.
    """

    times: np.ndarray
    lines: list[np.ndarray | None]
    in_um: bool
    in_s: bool
    quality: np.ndarray | None = None
    pixel_um: float | None = None
    dt_s: float | None = None
    attrs: dict[str, Any] = field(default_factory=dict)


def listed(worms: list[str]) -> str:
    """Return the names of worms, ten at most."""
    return ", ".join(worms[:10]) + (f" and {len(worms) - 10} more" if len(worms) > 10 else "")


def chosen_worm(worms: list[str], worm: str | int | None, path: Path) -> str:
    """Return the one that is asked for, or the only one; else raise."""
    from niddl_xr.schema import NiddlError

    if not worms:
        raise NiddlError(f"{path}: expected a worm with a posture, got none")
    if worm is None:
        if len(worms) > 1:
            raise NiddlError(f"{path} holds {len(worms)} worms, {listed(worms)}: choose one with worm=")
        return worms[0]
    if str(worm) not in worms:
        raise NiddlError(f"{path} has no worm {worm!r}; its worms are {listed(worms)}")
    return str(worm)
