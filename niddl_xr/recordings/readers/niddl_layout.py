"""NIDDL's layout of a movie: one TIFF a plane, ``img_<t>/z_<k>.tif``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers.planes import image_names, numbered, read_counted
from niddl_xr.schema import NiddlError

READER = Reader("NIDDL's folders img_<t>/z_<k>.tif", needs=("tifffile",), options=("gaps",))
_STACK = re.compile(r"img_\d+", re.IGNORECASE)
_PLANE = re.compile(r"z_\d+\.(tif|tiff|png)", re.IGNORECASE)


def recognises_folder(folder: Path) -> bool:
    """Say whether a folder, or a folder in it, holds ``img_<t>`` with ``z_<k>.tif``."""
    return bool(_holders(folder))


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any, gaps: str = "error") -> Opened:
    """Open a movie in NIDDL's layout lazily.

    Parameters
    ----------
    path
        The folder of the ``img_<t>``, or a folder with one such folder in it, such as ``noisy_imgs``.
    axes
        None or ``"tzyx"``: this layout names its axes.
    channel, chunks
        See :func:`niddl_xr.open_recording`.
    gaps
        ``"error"`` where numbers are missing, or ``"skip"``: one warning lists them, and t keeps the numbers.
    """
    if axes not in (None, "tzyx"):
        raise NiddlError(f"{path} is in NIDDL's layout, img_<t>/z_<k>.tif, whose axes are 'tzyx', got axes={axes!r}")
    holders = _holders(path)
    if len(holders) > 1:
        listed = ", ".join(holder.name for holder in holders)
        raise NiddlError(f"{path} holds several recordings: {listed}; open one of them, or the pairs with open_pairs")
    names = [name for stack in stack_folders(holders[0]) for name in plane_names(stack)]
    counters = numbered(names, str(holders[0]), letters="tz")
    return read_counted(
        holders[0], counters, axes=axes, channel=channel, chunks=chunks, gaps=gaps, where=str(holders[0])
    )


def _holders(folder: Path) -> list[Path]:
    """Return the folder itself if it holds stacks, else the folders in it that do."""
    if stack_folders(folder):
        return [folder]
    return sorted(child for child in folder.iterdir() if child.is_dir() and stack_folders(child))


def stack_folders(folder: Path) -> list[Path]:
    """Return the folders ``img_<n>`` in a folder that hold a plane, in no order."""
    found = (child for child in folder.iterdir() if _STACK.fullmatch(child.name) and child.is_dir())
    return [child for child in found if plane_names(child)]


def plane_names(stack: Path) -> list[str]:
    """Return the planes of a stack as ``img_<n>/z_<k>.tif``, in no order."""
    return [f"{stack.name}/{name}" for name in image_names(stack) if _PLANE.fullmatch(name)]
