"""What the simulations ask of their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import CHUNK_BYTES, frames_within
from niddl_xr.schema import NiddlError
from niddl_xr.simulation._kernels.motion import LONGEST_TIME_CONSTANTS, MOTIONS, Motion
from niddl_xr.simulation.camera import Camera

_LARGEST_SHIFT_UM = 1000.0  # a worm's length: what moves farther is never seen


def shown(value: Any) -> str:
    """Return what was given as it is written, or what it is where that would take more than a line."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def require_size(name: str, value: int, least: int) -> int:
    """Return a whole number of at least ``least``, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise NiddlError(f"expected {name} as a whole number of {least} or more, got {shown(value)}")
    return int(value)


def require_number(name: str, value: float, least: float = 0.0, most: float = np.inf, *, above: bool = False) -> float:
    """Return a finite number from ``least`` (excluded if ``above``) to ``most``, else raise."""
    number = _number(value)
    if not (np.isfinite(number) and least <= number <= most) or (above and number == least):
        bound = f"above {least:g}" if above else f"of {least:g} or more"
        limit = "" if np.isinf(most) else f" and at most {most:g}"
        raise NiddlError(f"expected {name} as a finite number {bound}{limit}, got {shown(value)}")
    return number


def _number(value: Any) -> float:
    """Return a number, also one held by an array without dims, or NaN for what is none."""
    if isinstance(value, np.ndarray | xr.DataArray) and value.ndim == 0:
        value = value.item()
    return float(value) if isinstance(value, Real) and not isinstance(value, bool | np.bool_) else np.nan


def _row(value: Any) -> list[Any]:
    """Return the entries of what holds several in their order, or none for anything else."""
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
        return []
    return [] if getattr(value, "ndim", 1) == 0 else list(value)


def require_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return (smallest, largest), both above 0 and in order, else raise."""
    ends = _row(value)
    if len(ends) != 2:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {shown(value)}")
    low, high = (require_number(name, end, above=True) for end in ends)
    if low > high:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {shown(value)}: exchange the two")
    return low, high


def require_volume(shape: Sequence[int], voxel_um: Sequence[float]) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the sizes (z, y, x) and the voxel (3,) in µm, else raise."""
    given, given_um = _row(shape), _row(voxel_um)
    if len(given) != 3:
        raise NiddlError(f"expected shape as three sizes (z, y, x), got {shown(shape)}; a plane movie has z of size 1")
    if len(given_um) != 3:
        raise NiddlError(f"expected voxel_um as three numbers (z, y, x) in µm, got {shown(voxel_um)}")
    sizes = [require_size(f"shape along {dim}", size, 1) for dim, size in zip("zyx", given, strict=True)]
    voxel = [
        require_number(f"voxel_um along {dim}", size, above=True) for dim, size in zip("zyx", given_um, strict=True)
    ]
    return (sizes[0], sizes[1], sizes[2]), np.asarray(voxel)


def require_frames_per_chunk(frames_per_chunk: int | None, sizes: tuple[int, int, int]) -> int:
    """Return the frames of ``sizes`` (z, y, x) that dask holds as one block, about 16 MiB of them for None."""
    if frames_per_chunk is None:
        frames_per_chunk = frames_within(sizes, np.dtype(np.float32).itemsize, CHUNK_BYTES)
    return require_size("frames_per_chunk", frames_per_chunk, 1)


def require_exposure(exposure_s: float, interval_s: float) -> None:
    """Raise unless an exposure takes no longer than a frame."""
    if require_number("exposure_s", exposure_s) > interval_s * (1 + 1e-9):
        raise NiddlError(
            f"expected exposure_s within a frame of {interval_s:.4g} s, got {exposure_s:g}: lower it, or rate_hz="
        )


def require_camera(camera: Camera | None) -> Camera:
    """Return a camera, the one of the defaults for None, else raise."""
    if camera is None:
        return Camera()
    if not isinstance(camera, Camera):
        raise NiddlError(f"expected camera as a niddl_xr.simulate.Camera or None, got {shown(camera)}")
    return camera


def require_motion(motion: str | Motion, duration_s: float) -> Motion:
    """Return a motion given by itself or by its name that can be followed for ``duration_s``, else raise."""
    chosen = MOTIONS.get(motion) if isinstance(motion, str) else motion
    if not isinstance(chosen, Motion):
        raise NiddlError(f"expected motion as one of {list(MOTIONS)} or a Motion, got {shown(motion)}")
    least_s = duration_s / LONGEST_TIME_CONSTANTS
    for name, value in asdict(chosen).items():
        timed = name in ("time_constant_s", "burst_s")
        most = _LARGEST_SHIFT_UM if name.endswith("_um") else np.inf
        number = require_number(f"{name} of motion", value, most=most, above=timed)
        if timed and number < least_s:
            raise NiddlError(
                f"expected {name} of motion as {least_s:.2g} s or more in a recording of {duration_s:.4g} s, got "
                f"{number:g}: raise it or rate_hz=, or lower frames="
            )
    return chosen


def require_bleaching(
    name: str, fraction: float | Sequence[float], time_s: float | Sequence[float], times_s: np.ndarray
) -> np.ndarray:
    """Return the part of the fluorescence (t,) that is left at ``times_s``, else raise.

    Each component of ``fraction`` bleaches with its own time constant; what they leave of 1 does not bleach.
    """
    fractions, constants = _row(fraction) or [fraction], _row(time_s) or [time_s]
    if len(fractions) != len(constants):
        raise NiddlError(f"expected one {name}_time_s for each {name}, got {len(constants)} and {len(fractions)}")
    fractions = [require_number(name, part, most=1.0) for part in fractions]
    if sum(fractions) > 1 + 1e-9:
        raise NiddlError(f"expected components of {name} that add up to at most 1, got {sum(fractions):g}")
    left = np.ones(len(times_s))
    for part, constant in zip(fractions, constants, strict=True):
        left += part * np.expm1(-times_s / require_number(f"{name}_time_s", constant, above=True))
    return np.maximum(left, 0.0)
