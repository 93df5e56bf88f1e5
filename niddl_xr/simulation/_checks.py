"""What the simulations ask of their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from niddl_xr.schema import NiddlError


def require_size(name: str, value: int, least: int) -> int:
    """Return a whole number of at least ``least``, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise NiddlError(f"expected {name} as a whole number of {least} or more, got {value!r}")
    return int(value)


def require_number(name: str, value: float, least: float = 0.0, most: float = np.inf, *, above: bool = False) -> float:
    """Return a finite number from ``least`` (excluded if ``above``) to ``most``, else raise."""
    number = float(value)
    if not (np.isfinite(number) and least <= number <= most) or (above and number == least):
        bound = f"above {least:g}" if above else f"of {least:g} or more"
        limit = "" if np.isinf(most) else f" and at most {most:g}"
        raise NiddlError(f"expected {name} as a finite number {bound}{limit}, got {value!r}")
    return number


def require_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return (smallest, largest), both above 0 and in order, else raise."""
    if np.ndim(value) != 1 or len(value) != 2:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {value!r}")
    low, high = (require_number(name, end, above=True) for end in value)
    if low > high:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {value!r}: exchange the two")
    return low, high


def require_volume(shape: Sequence[int], voxel_um: Sequence[float]) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the sizes (z, y, x) and the voxel (3,) in µm, else raise."""
    if np.ndim(shape) != 1 or len(shape) != 3:
        raise NiddlError(f"expected shape as three sizes (z, y, x), got {shape!r}; a plane movie has z of size 1")
    if np.ndim(voxel_um) != 1 or len(voxel_um) != 3:
        raise NiddlError(f"expected voxel_um as three numbers (z, y, x) in µm, got {voxel_um!r}")
    sizes = tuple(require_size(f"shape along {dim}", size, 1) for dim, size in zip("zyx", shape, strict=True))
    voxel = [
        require_number(f"voxel_um along {dim}", size, above=True) for dim, size in zip("zyx", voxel_um, strict=True)
    ]
    return (sizes[0], sizes[1], sizes[2]), np.asarray(voxel)
