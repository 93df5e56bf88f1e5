"""The verb segment_neurites: masks and skeletons of neurites; and the table of their branches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from scipy import ndimage

from niddl_xr import neurons, schema
from niddl_xr.schema import RECORDING_DIMS, NiddlError
from niddl_xr.segmentation._grid import Grid, grid_of
from niddl_xr.segmentation._kernels.ridges import ridge_strengths
from niddl_xr.segmentation._kernels.skeletons import completed, neighbours, pruned
from niddl_xr.segmentation._lazy import delayed_frames, lazy_frames

if TYPE_CHECKING:
    import pandas as pd

BRANCH_COLUMNS = (
    "t_index", "t", "branch", "object", "kind", "length_um", "distance_um",
    "start_y", "start_x", "end_y", "end_x",
)  # fmt: skip
_KINDS = ("between ends", "between end and junction", "between junctions", "loop")  # as skan numbers them
_EMPTY = {"t_index": int, "branch": int, "object": int, "kind": object}  # types of columns without rows
_REACH_SIGMAS = 2.0  # of the finest scale: as near as two lines are that it can tell apart
_ALL_NEIGHBOURS = np.ones((3, 3), bool)


def segment_neurites(
    recording: xr.DataArray,
    *,
    sigma_um: Sequence[float] = (0.5, 0.8, 1.2),
    low: float = 2.5,
    high: float = 5.0,
    min_length_um: float = 6.0,
    prune_um: float = 2.0,
    project: Literal["max"] | None = None,
) -> xr.Dataset:
    """Trace the neurites of a plane movie: bright lines, and the lines through their middle.

    Lazy: a frame is traced when it is looked at, by itself.

    Parameters
    ----------
    recording
        (t, z, y, x) with y and x in µm, raw or denoised, z of size 1. Of a stack choose a plane, or ``project``.
    sigma_um
        Scales of the ridge filter: sigmas of the Gaussians whose curvature is looked at. A line of half-height width w
        answers best at w / 2.4 to w / 1.4. All together say where lines are; the finest one says where their middle is,
        if it sees them, so that lines side by side stay two.
    low, high
        Thresholds on the strength of a line, in SDs of what is no line, the same for every camera: lines are followed
        as long as they are stronger than ``low``, if somewhere they reach ``high``. What is no line is noise, 1 % of
        the light around (tissue is uneven) and 2 % of the brightest lines of the plane, so that a denoised image
        without noise has a limit too. Lower ones find fainter neurites, and more that is none.
    min_length_um
        Objects whose skeleton is shorter are dropped; its pixels are counted, so oblique ones seem up to 1.4 times
        shorter than they are.
    prune_um
        Side branches of the skeleton up to this long that end freely are cut off: noise at the edge of a line grows
        them. The mask keeps them.
    project
        "max" to trace the maximum of a stack along z. None accepts plane movies only.

    Returns
    -------
    xarray.Dataset
        ``mask`` and ``skeleton`` (t, z, y, x), boolean, lazy, z of size 1, with the coordinates of the recording; of a
        projection z is the mean of the planes. Blank frames, and pixels that are not finite, are False.
        :func:`neurite_branches` measures the branches.

    Raises
    ------
    NiddlError
        For a stack without ``project``, coordinates that are not in µm, and thresholds or scales out of order.

    Notes
    -----
    The ridge filter is that of Sato et al. (Med. Image Anal. 2:143, 1998) in two dimensions, minus the smallest
    eigenvalue of the Hessian, without their factor sigma², which cancels against its noise. Hysteresis thresholds:
    Canny (IEEE PAMI 8:679, 1986); skeleton: Zhang & Suen (CACM 27:236, 1984), by scikit-image. The scale of the
    noise and the percentages are ours: docs/decisions/0017-labels-and-neurites.md.

    Examples
    --------
    >>> from niddl_xr.simulation import neurite
    >>> scene = neurite(kind="touch", shape=(1, 96, 128), photons=50, seed=2)
    >>> found = segment_neurites(scene["recording"]["F"])
    >>> bool(found.skeleton.any()), found.mask.sizes["y"]
    (True, 96)
    """
    schema.require_recording(recording)
    if np.ndim(sigma_um) != 1:
        raise NiddlError(f"expected sigma_um as some positive numbers of µm, got {sigma_um!r}")
    settings = Settings(tuple(float(sigma) for sigma in sigma_um), low, high, min_length_um, prune_um)
    plane = _plane_movie(recording, project)
    grid = grid_of(plane)
    # Bit 0 is the mask, bit 1 the skeleton: one pass over the frames gives both.
    bits = lazy_frames(plane).map_blocks(
        _traced_block,
        dtype=np.uint8,
        meta=np.empty((0, 0, 0, 0), np.uint8),
        settings=settings,
        pixel_um=grid.voxel_um[1:],
    )
    attrs = {"units": "1"}
    result = xr.Dataset(
        {
            "mask": (RECORDING_DIMS, (bits & 1) > 0, {"long_name": "neurites", **attrs}),
            "skeleton": (RECORDING_DIMS, (bits & 2) > 0, {"long_name": "middle lines of neurites", **attrs}),
        },
        coords=plane.coords,
        attrs={name: recording.attrs[name] for name in ("source", schema.HISTORY) if name in recording.attrs},
    )
    return schema.with_history(result, "segment_neurites", {**asdict(settings), "project": project})


def neurite_branches(neurites: xr.Dataset) -> pd.DataFrame:
    """Measure the branches of skeletons, frame by frame.

    Parameters
    ----------
    neurites
        What :func:`segment_neurites` gave, or any Dataset with a boolean ``skeleton`` (t, z, y, x), y and x in µm.

    Returns
    -------
    pandas.DataFrame
        A row a branch: ``t_index``, ``t`` [s] (NaN where unknown), ``branch`` (from 1, a frame), ``object`` (from 1:
        branches that hang together have the same), ``kind`` ("between ends", "between end and junction", "between
        junctions" or "loop"), ``length_um`` along it and ``distance_um`` between its ends, and the coordinates
        ``start_y``, ``start_x``, ``end_y``, ``end_x`` of the ends [µm]. A pixel without neighbours is no branch.
        ``attrs``: ``frames``, ``recording_id`` and the history.

    Raises
    ------
    NiddlError
        For anything without such a skeleton, and coordinates that are not in µm.

    Notes
    -----
    By skan (Nunez-Iglesias et al., PeerJ 6:e4312, 2018). Its lengths run from pixel to pixel, so oblique branches come
    out up to 8 % too long.

    Examples
    --------
    >>> skeleton = np.zeros((1, 1, 5, 9), bool)
    >>> skeleton[0, 0, 2, 1:8] = True
    >>> coords = schema.space_coordinates({"z": 1, "y": 5, "x": 9}, {"z": 1.0, "y": 0.5, "x": 0.5})
    >>> drawn = xr.Dataset({"skeleton": (("t", "z", "y", "x"), skeleton)}, coords={"t": [0], **coords})
    >>> neurite_branches(drawn)[["kind", "length_um", "start_x", "end_x"]].values.tolist()
    [['between ends', 3.0, 0.5, 3.5]]
    """
    import pandas as pd
    from dask.base import compute
    from dask.delayed import delayed

    if not isinstance(neurites, xr.Dataset) or "skeleton" not in neurites:
        got = list(neurites.data_vars) if isinstance(neurites, xr.Dataset) else type(neurites).__name__
        raise NiddlError(f"expected neurites, a Dataset with skeleton (t, z, y, x), got {got}; see segment_neurites")
    skeleton = neurites["skeleton"]
    if skeleton.dims != RECORDING_DIMS or skeleton.dtype != bool or skeleton.sizes["z"] != 1:
        raise NiddlError(
            f"expected skeleton as booleans with dims {RECORDING_DIMS} and z of size 1, got {skeleton.dtype} with "
            f"{dict(skeleton.sizes)}"
        )
    grid = grid_of(skeleton)
    tasks = [delayed(_measured, pure=False)(frame, grid, t) for t, frame in enumerate(delayed_frames(skeleton))]
    tables = compute(*tasks)
    table = pd.concat([part for part in tables if len(part)] or [tables[0]], ignore_index=True)
    if skeleton["t"].attrs.get("units") == "s":
        table["t"] = skeleton["t"].values.astype(float)[table["t_index"].to_numpy(dtype=int)]
    table.attrs = {"frames": skeleton.sizes["t"], "recording_id": neurons.recording_id(skeleton)}
    source = xr.DataArray(0, attrs={schema.HISTORY: json.dumps(schema.history(neurites))})
    table.attrs[schema.HISTORY] = schema.with_history(source, "neurite_branches", {}).attrs[schema.HISTORY]
    return table


@dataclass(frozen=True)
class Settings:
    """What :func:`segment_neurites` was asked for."""

    sigma_um: tuple[float, ...]
    low: float
    high: float
    min_length_um: float
    prune_um: float

    def __post_init__(self) -> None:
        if not self.sigma_um or not all(0 < sigma < np.inf for sigma in self.sigma_um):
            raise NiddlError(f"expected sigma_um as some positive numbers of µm, got {self.sigma_um}")
        for name in ("low", "high", "min_length_um", "prune_um"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
                raise NiddlError(f"expected {name} as a number of 0 or more, got {value!r}")
        if self.low > self.high:
            raise NiddlError(f"expected low up to high, got low={self.low:g} and high={self.high:g}")


def _plane_movie(recording: xr.DataArray, project: str | None) -> xr.DataArray:
    """Return the recording if it is of one plane, or its projection where that was asked for."""
    if project not in (None, "max"):
        raise NiddlError(f'expected project as "max" or None, got {project!r}')
    planes = recording.sizes["z"]
    if planes == 1:
        return recording
    if project is None:
        raise NiddlError(
            f"expected a plane movie, got {planes} planes: choose one with isel(z=[0]), or trace the maximum along z "
            'with project="max"'
        )
    projected = recording.max("z", skipna=False, keep_attrs=True).expand_dims(z=1, axis=1)
    where = {**recording["z"].attrs, "projection": "maximum", "projected_planes": planes}
    return projected.assign_coords(z=("z", [float(recording["z"].values.astype(float).mean())], where))


def _traced_block(frames: np.ndarray, *, settings: Settings, pixel_um: np.ndarray) -> np.ndarray:
    """Return frames (t, 1, y, x) of bits, 1 for the mask and 2 for the skeleton."""
    bits = np.zeros(frames.shape, np.uint8)
    for place, frame in enumerate(frames):
        mask, skeleton = _traced(frame[0], settings, pixel_um)
        bits[place, 0] = mask + 2 * skeleton
    return bits


def _traced(plane: np.ndarray, settings: Settings, pixel_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask and the skeleton (y, x) of the lines in a plane."""
    from skimage import filters, morphology

    valid = np.isfinite(plane)
    if not valid.any() or np.ptp(plane[valid]) == 0:
        return np.zeros(plane.shape, bool), np.zeros(plane.shape, bool)
    filled = np.where(valid, plane, np.median(plane[valid]))
    thin: Callable[[np.ndarray], np.ndarray] = morphology.skeletonize
    strengths = ridge_strengths(filled, settings.sigma_um, pixel_um)
    mask, fine = (
        np.asarray(filters.apply_hysteresis_threshold(strength, settings.low, settings.high)) & valid  # type: ignore[no-untyped-call]
        for strength in (strengths.max(axis=0), strengths[int(np.argmin(settings.sigma_um))])
    )
    middle_um = float(np.sqrt(np.prod(pixel_um)))
    whole = thin(mask)
    sharp = thin(fine)
    sharp &= _long_enough(fine, sharp, settings.min_length_um / middle_um)
    skeleton = thin(completed(sharp, whole, _REACH_SIGMAS * min(settings.sigma_um), pixel_um))
    skeleton = pruned(skeleton, round(settings.prune_um / middle_um))
    kept = _long_enough(mask, skeleton, settings.min_length_um / middle_um)
    return mask & kept, skeleton & kept


def _long_enough(mask: np.ndarray, skeleton: np.ndarray, pixels: float) -> np.ndarray:
    """Return the pixels of the objects of ``mask`` that hold at least so many pixels of ``skeleton``."""
    objects, count = ndimage.label(mask, _ALL_NEIGHBOURS)
    enough = np.bincount(objects[skeleton], minlength=count + 1) >= pixels
    enough[0] = False
    return np.asarray(enough[objects])


def _measured(skeleton: np.ndarray, grid: Grid, t: int) -> pd.DataFrame:
    """Return the branches of one frame (1, 1, y, x), without its time."""
    import pandas as pd

    plane = skeleton[0, 0]
    # skan refuses an image in which no two pixels touch.
    plane = plane & (neighbours(plane) > 0)
    if not plane.any():
        return pd.DataFrame({name: np.empty(0, _EMPTY.get(name, float)) for name in BRANCH_COLUMNS})
    from skan import Skeleton, summarize

    found = summarize(Skeleton(plane, spacing=grid.voxel_um[1:].tolist()), separator="-")
    ends = {
        f"{name}_{axis}": grid.start_um[1 + place] + grid.step_um[1 + place] * found[f"image-coord-{end}-{place}"]
        for end, name in (("src", "start"), ("dst", "end"))
        for place, axis in enumerate("yx")
    }
    table = pd.DataFrame(
        {
            "t_index": t,
            "t": np.nan,
            "branch": np.arange(1, len(found) + 1),
            "object": found["skeleton-id"].to_numpy().astype(int) + 1,
            "kind": [_KINDS[kind] for kind in found["branch-type"]],
            "length_um": found["branch-distance"].to_numpy(),
            "distance_um": found["euclidean-distance"].to_numpy(),
            **{name: values.to_numpy() for name, values in ends.items()},
        }
    )
    return table[list(BRANCH_COLUMNS)]
