"""TIFF files whose planes only a tag of their maker names: Zeiss LSM and MetaMorph STK.

Layouts: the LSM file format (Zeiss, CZ_LSMINFO, tag 34412); the MetaMorph stack format (Universal Imaging, tags UIC1
to UIC4, 33628 to 33631).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from niddl_xr.recordings.readers._ome import number
from niddl_xr.recordings.readers._tiff_directories import Directories
from niddl_xr.recordings.readers._tiff_layout import Layout, one_piece, page_table, require_series, squeezed, steady
from niddl_xr.recordings.readers._tiff_tags import REMEDY, Tags, read_at
from niddl_xr.recordings.readers._units import um_per
from niddl_xr.schema import NiddlError

LSM, STK = 34412, 33629
_UIC1 = 33628
_LSM_MAGIC = (50350412, 67127628)
_LSM_HEAD = struct.Struct("<Ii8i6dHH5Id8I")
_SCANS = {0: "z", 3: "t", 6: "tz"}  # axes over planes beside channels, of the scans that have y and x
_MOST = 10**7


def describe_vendor(path: Path, found: Directories, file: BinaryIO, tags: Tags, series: int | None) -> Layout:
    """Return what a file of Zeiss or MetaMorph holds."""
    layout = (_lsm if LSM in tags.places else _stk)(path, found, file, tags)
    require_series(path, [layout.shape], series)
    return layout


def _lsm(path: Path, found: Directories, file: BinaryIO, tags: Tags) -> Layout:
    """Return what an LSM holds; the thumbnails between its pages are left out."""
    raw = tags.raw(LSM, _LSM_HEAD.size)
    if raw is None or len(raw[1]) < _LSM_HEAD.size or tags.header.order != "<":
        raise NiddlError(f"{path} has no LSM information of {_LSM_HEAD.size} bytes: {REMEDY}")
    values = _LSM_HEAD.unpack(raw[1])
    if values[0] not in _LSM_MAGIC:
        raise NiddlError(f"{path} has LSM information of an unknown kind, {values[0]}: {REMEDY}")
    depth, channels, frames = values[4:7]
    scan, interval = values[16], values[23]
    if scan not in _SCANS:
        raise NiddlError(f"{path} is a scan of type {scan}, of lines or points; expected planes (y, x)")
    if found.size >= 2**32:
        raise NiddlError(f"{path} has more than 4 GB, where offsets in LSM files are not unique: save it as OME-TIFF")
    numbers = np.flatnonzero(~found.reduced)
    if not len(numbers):
        raise NiddlError(f"{path} holds nothing but thumbnails: {REMEDY}")
    table, page = page_table(path, found, file, numbers, "lsm")
    sizes = {"t": frames, "z": depth}
    leading = _SCANS[scan]
    shape = tuple(sizes[axis] for axis in leading)
    if page.compression != 1:
        raise NiddlError(f"{path} is compressed, which LSM files state in a way of their own: save it as OME-TIFF")
    if "S" not in page.axes and channels > 1:
        leading, shape = f"{leading}c", (*shape, channels)
    if min(shape) < 1 or math.prod(shape) != len(numbers):
        raise NiddlError(
            f"{path} states {dict(zip(leading, shape, strict=True))}, but holds {len(numbers)} pages: {REMEDY}"
        )
    axes, whole = squeezed(leading, shape, page)
    voxel = {dim: size * 1e6 for dim, size in zip("xyz", values[10:13], strict=True) if number(size)}
    dt_s, t_s = _lsm_times(tags, values[27], frames)
    return Layout(axes, whole, table, voxel, dt_s or (number(interval) or None if t_s is None else None), t_s)


def _lsm_times(tags: Tags, offset: int, frames: int) -> tuple[float | None, np.ndarray | None]:
    if not 8 <= offset < tags.size - 8 or frames < 2:
        return None, None
    count = struct.unpack("<ii", read_at(tags.file, offset, 8, tags.size, "the time stamps"))[1]
    if count != frames:
        return None, None
    return steady(np.frombuffer(read_at(tags.file, offset + 8, 8 * count, tags.size, "the time stamps"), "<f8"))


def _stk(path: Path, found: Directories, file: BinaryIO, tags: Tags) -> Layout:
    """Return what a stack of MetaMorph holds: its planes follow each other behind one page header."""
    row = tags.places[STK]
    planes, offset = int(tags.entries["count"][row]), int(tags.entries["value"][row])
    if tags.header.order != "<" or not 0 < planes <= _MOST:
        raise NiddlError(f"{path} states {planes} planes of a MetaMorph stack: {REMEDY}")
    data = read_at(file, offset, 24 * planes, tags.size, "the list of planes")
    values = np.frombuffer(data, "<u4").reshape(planes, 6).astype(float)
    page = found.page(file, 0)
    table = one_piece(path, found, page, planes) if planes > 1 else page_table(path, found, file, np.arange(1))[0]
    with np.errstate(all="ignore"):
        distances = values[:, 0] / values[:, 1]
    times = (values[:, 2] - values[0, 2]) * 86_400 + values[:, 3] / 1000  # Julian days, and ms of the day
    voxel = _stk_voxel(tags)
    stack = planes > 1 and bool(np.all(distances[1:] > 0) and np.all(np.isfinite(distances)))
    if stack and voxel and np.allclose(distances[1:], distances[1]):
        voxel["z"] = float(distances[1])
    dt_s, t_s = (None, None) if stack else steady(times)
    axes, shape = squeezed("z" if stack else "t" if t_s is not None or dt_s else "?", (planes,), page)
    return Layout(axes, shape, table, voxel, dt_s, t_s)


def _stk_voxel(tags: Tags) -> dict[str, float]:
    """Return the size of a pixel in µm where the calibration states one."""
    if _UIC1 not in tags.places:
        return {}
    row = tags.places[_UIC1]
    count, offset = int(tags.entries["count"][row]), int(tags.entries["value"][row])
    pairs = struct.unpack(f"<{2 * count}I", read_at(tags.file, offset, 8 * count, tags.size, "the settings"))
    stated: dict[int, int] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    unit = _pascal(tags, stated.get(6, 0))
    scale = um_per(unit)
    voxel: dict[str, Any] = {}
    for dim, key in (("x", 4), ("y", 5)):
        if scale and 8 <= stated.get(key, 0) <= tags.size - 8:
            over, under = struct.unpack("<II", read_at(tags.file, stated[key], 8, tags.size, "the calibration"))
            if over and under:
                voxel[dim] = scale * over / under
    return voxel


def _pascal(tags: Tags, offset: int) -> str:
    """Return a text that begins with its length."""
    if not 8 <= offset <= tags.size - 4:
        return ""
    length = struct.unpack("<I", read_at(tags.file, offset, 4, tags.size, "a text"))[0]
    if not 0 < length < 256:
        return ""
    return read_at(tags.file, offset + 4, length, tags.size, "a text").decode("latin-1").rstrip("\0")
