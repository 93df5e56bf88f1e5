"""Memory maps of CaImAn (``.mmap``): numbers without a header, whose shape is in the name of the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from niddl_xr.recordings.readers import Opened, Reader
from niddl_xr.recordings.readers._chunked import MOST_UNIT_BYTES
from niddl_xr.recordings.readers._lazy import Contiguous, choose_channel, lazy, modified_ns, require_axes
from niddl_xr.schema import MissingMetadataWarning, NiddlError

READER = Reader("a memory map of CaImAn", suffixes=(".mmap",))
_NAME = re.compile(r"_d1_(\d{1,9})_d2_(\d{1,9})_d3_(\d{1,9})_order_([CF])_frames_(\d{1,12})_?\.mmap$")
_DTYPE = "<f4"  # the only one that CaImAn writes


def read(path: Path, *, axes: str | None, channel: int | str | None, chunks: Any) -> Opened:
    """Open a memory map of CaImAn lazily.

    Parameters
    ----------
    path
        A file whose name ends as CaImAn names it, such as ``Yr_d1_60_d2_80_d3_1_order_C_frames_300_.mmap``. It
        holds float32 as a matrix (pixels, frames) in C or Fortran order, whose pixels are the (d1, d2[, d3]) of a
        frame in Fortran order, d1 first (``caiman.mmapping.save_memmap`` and ``load_memmap``).
    axes
        Letters of (frames, d1, d2), or (frames, d1, d2, d3) of a movie of volumes. By default d1 is y and d2 is x,
        as CaImAn shows them; of volumes ``"tyxz"`` with a warning, because CaImAn takes them in any order.
    channel, chunks
        See :func:`niddl_xr.open_recording`. In C order the times of a pixel lie together, so that every block of
        frames reads all of the file; beyond 256 MiB a warning says so.

    Raises
    ------
    NiddlError
        For a name without a shape, and where the size of the file is not that of its name.
    """
    found = _NAME.search(path.name)
    if found is None:
        raise NiddlError(
            f"expected the shape of {path} in its name, as CaImAn writes it, such as "
            f"Yr_d1_60_d2_80_d3_1_order_C_frames_300_.mmap, got {path.name}: give it back the name that CaImAn gave it"
        )
    d1, d2, d3, frames = (int(found[group]) for group in (1, 2, 3, 5))
    wanted, size = 4 * d1 * d2 * d3 * frames, path.stat().st_size
    if wanted == 0 or wanted != size:
        raise NiddlError(
            f"{path} has {size} bytes, but {frames} frames of {d1} × {d2} × {d3} pixels of float32 have {wanted}: it "
            "is cut short, or was renamed"
        )
    where = f"{path} with the shape {(frames, d1, d2, d3)}"
    notes: list[UserWarning] = []
    letters = require_axes(axes, 3 if d3 == 1 else 4, where) if axes else "tyxz"[: 3 if d3 == 1 else 4]
    if axes is None and d3 > 1:
        text = f"{where} does not say which dim is z; they are taken as 'tyxz' (set axes=)"
        notes.append(MissingMetadataWarning(text))
    space = letters[:0:-1]  # the last dim varies slowest
    shape: tuple[int, ...] = (d2, d1) if d3 == 1 else (d3, d2, d1)
    if found[4] == "C":
        order, shape = space + letters[0], (*shape, frames)
        if size > MOST_UNIT_BYTES:
            text = f"{path} stores the times of a pixel together: save it as a store of niddl_xr before any work"
            notes.append(UserWarning(text))
    else:
        order, shape = letters[0] + space, (frames, *shape)
    source = Contiguous(str(path), 0, shape, _DTYPE, "C", modified_ns(path))
    number, label = choose_channel(channel, order, shape, (), path)
    return Opened(lazy(source, order, chunks, number), channel=label, notes=tuple(notes))
