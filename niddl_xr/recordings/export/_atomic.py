"""A file that appears when it is complete, or not at all."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REMOVALS, _PAUSE_S = 50, 0.05


@contextmanager
def complete_or_nothing(target: Path, *, overwrite: bool, folder: bool) -> Iterator[Path]:
    """Give a hidden path beside ``target``; rename what was written there to ``target`` when the block ends well.

    The hidden name ends as ``target`` does, because libraries look at suffixes. Whatever the block raises, the hidden
    file or folder is removed and ``target`` is as before.

    Raises
    ------
    FileExistsError
        If ``target`` exists and is not to be replaced, or is no file (no OME-Zarr, where ``folder`` is set).
    FileNotFoundError
        If the folder of ``target`` does not exist.
    OSError
        What writing raised, naming ``target``.
    """
    if target.is_symlink():
        target = target.resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist; make it, or choose another path")
    _require_replaceable(target, overwrite, folder)
    beside = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        try:
            yield beside
            _require_replaceable(target, overwrite, folder)  # it may have come to be in the meantime
            _put(beside, target)
        except FileExistsError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            message = f"{target} could not be written ({reason}); nothing is left of it: make room, or choose a folder"
            message += " that you may write to"
            raise (OSError(error.errno, message) if error.errno else OSError(message)) from error
    finally:
        _remove(beside)


def _require_replaceable(target: Path, overwrite: bool, folder: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{target} exists; choose another path, or say overwrite=True")
    ours = (target / ".zgroup").is_file() and (target / ".zattrs").is_file() if folder else target.is_file()
    if not ours:
        raise FileExistsError(f"{target} exists and is no {'OME-Zarr 0.4' if folder else 'file'}; it is not replaced")


def _put(beside: Path, target: Path) -> None:
    if not beside.is_dir() or not target.exists():
        os.replace(beside, target)
        return
    # A folder is moved aside only when the new one is complete, and deleted last.
    old = beside.with_name(f"{beside.name}-old")
    target.rename(old)
    try:
        beside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    # zarr writes chunks in threads, which may still be at it when one of them has failed.
    for _ in range(_REMOVALS):
        shutil.rmtree(path, ignore_errors=True)
        time.sleep(_PAUSE_S)
        if not path.exists():
            return
