"""A mask that the user gives, in any of the shapes that make sense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.chunking import sampled_planes
from niddl_xr.filling import IDENTITY_PLANES
from niddl_xr.schema import RECORDING_DIMS, NiddlError


@dataclass(frozen=True)
class GivenMask:
    """Boolean array, numpy or dask, with four axes (t, z, y, x), each as long as the recording's or of size 1."""

    array: Any

    def of_frames(self, frames: np.ndarray) -> GivenMask:
        """Return the mask of these frames of the recording, the one of all where there is but one."""
        if self.array.shape[0] == 1:
            return self
        taken = self.array[frames]
        if not isinstance(taken, np.ndarray):
            from dask.base import optimize

            (taken,) = optimize(taken)
        return GivenMask(taken)

    def read(self) -> np.ndarray:
        """Return the mask (t, z, y, x) in memory."""
        if isinstance(self.array, np.ndarray):
            return self.array
        return np.asarray(self.array.compute(scheduler="synchronous"))

    def digest(self) -> str:
        """Return what tells this mask from others: its shape and up to 32 planes."""
        digest = hashlib.sha256(str(self.array.shape).encode())
        for t, z in sampled_planes(self.array.shape[0], self.array.shape[1], IDENTITY_PLANES):
            digest.update(np.packbits(np.asarray(self.array[t, z])).data)
        return digest.hexdigest()


def given_mask(mask: xr.DataArray | np.ndarray | bool | None, recording: xr.DataArray) -> GivenMask | None:
    """Return the mask that was given, None for None and False.

    Raises
    ------
    NiddlError
        For another dtype, dims or sizes that are not the recording's, and a mask without any voxel.
    """
    if mask is None or mask is False:
        return None
    if not isinstance(mask, xr.DataArray | np.ndarray):
        raise NiddlError(
            f"expected mask as None (find the worm), False (look everywhere) or a boolean array, got {mask!r:.60}"
        )
    given: Any = _in_order(mask) if isinstance(mask, xr.DataArray) else mask
    if given.ndim > 4:
        raise NiddlError(f"expected a mask of dims {RECORDING_DIMS} or the last of them, got shape {mask.shape}")
    array = given[(None,) * (4 - given.ndim)]
    if array.dtype != bool:
        raise NiddlError(f"expected a boolean mask, got dtype {array.dtype}: say mask > 0 or the like")
    wrong = [
        dim
        for dim, size, whole in zip(RECORDING_DIMS, array.shape, recording.shape, strict=True)
        if size not in (1, whole)
    ]
    if wrong:
        raise NiddlError(
            f"expected a mask that fits the recording, {dict(recording.sizes)}, got shape {mask.shape}, which differs "
            f"along {wrong}"
        )
    if array.shape[0] == 1 and not bool(np.asarray(array).any()):
        raise NiddlError("expected a mask that is True somewhere, got none; False looks everywhere")
    return GivenMask(np.asarray(array) if array.shape[0] == 1 else array)


def _in_order(mask: xr.DataArray) -> Any:
    """Return the array of a labelled mask with all four dims, in order, those that it lacks of size 1."""
    unknown = [dim for dim in mask.dims if dim not in RECORDING_DIMS]
    if unknown:
        raise NiddlError(
            f"expected a mask with dims out of {RECORDING_DIMS}, got {mask.dims}: rename or drop {unknown}"
        )
    lacking = [dim for dim in RECORDING_DIMS if dim not in mask.dims]
    return mask.expand_dims(lacking).transpose(*RECORDING_DIMS).data
