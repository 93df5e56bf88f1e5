"""The verb segment: which voxels belong to which neuron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr import neurons, schema
from niddl_xr.schema import RECORDING_DIMS, SPACE_DIMS, NiddlError
from niddl_xr.segmentation._grid import Grid, grid_of
from niddl_xr.segmentation._label_methods import Gmm, Watershed, called
from niddl_xr.segmentation._lazy import lazy_frames
from niddl_xr.segmentation.label_detections import labels_to_detections as labels_to_detections

if TYPE_CHECKING:
    import pandas as pd

METHODS: dict[str, type[Gmm] | type[Watershed]] = {"gmm": Gmm, "watershed": Watershed}
_RADIUS_UM = 1.6
_OUTSIDE_UM = 2.0  # a detection farther outside is of another recording, or has its axes mixed up


def segment(
    recording: xr.DataArray,
    detections: pd.DataFrame | None = None,
    *,
    method: str | Callable[[np.ndarray], Any] = "gmm",
    **options: Any,
) -> xr.DataArray:
    """Give every voxel the number of the neuron that it belongs to.

    Lazy: a frame is segmented when it is looked at, by itself, so that no chunking changes a label.

    Parameters
    ----------
    recording
        (t, z, y, x) in µm, raw or denoised; z of size 1 is a plane movie.
    detections
        The neurons, from :func:`niddl_xr.detect`, whose ``radius_um`` is where a fit starts (1.6 µm where there is no
        such column). None where ``method`` is a function, which finds neurons by itself.
    method
        ``"gmm"``
            A Gaussian over a floor of light for each detection, fitted to the counts above the background. A voxel is
            the neuron's where its share of the light is above ``posterior`` (default 0.6; 0.5 and more, so that a
            voxel has one owner), as far out as the light of the frame's mean neuron, in the plane through its middle,
            is ``level`` (1/3) of that in the middle; or up to a squared Mahalanobis distance ``max_distance2``, where
            that is given. ``max_radius_um`` (4): each neuron is fitted to the voxels within this distance, and what is
            larger than it is background. ``split`` (True): add neurons that the detector took for one with their
            neighbour, at least ``min_separation_um`` (2.8) from it. ``psf_sigma_um`` (None): sigma of the microscope's
            blur along (z, y, x), which is taken out of the outlines. None takes out what is seen: neurons are made
            shorter along z, all by one factor, until the median one is as deep as it is wide; in the plane the blur
            stays, a few tenths of a micrometre. (0, 0, 0) outlines the image as it is.
        ``"watershed"``
            Basins around the detections, in the frame smoothed by ``smooth_um`` (0.5), of at most ``max_radius_um``
            (4), as far as the light above the background is ``level`` (0.5, the half-maximum) of the basin's brightest.
        A function
            of a frame, float32 (z, y, x), or (y, x) of a plane movie, which gives labels of the same shape, whole
            numbers, 0 for background, or a tuple that begins with them. NaN is filled with the median before. It
            travels to the workers once; see Examples for StarDist and Cellpose.
    **options
        Options of the method, as named above.

    Returns
    -------
    xarray.DataArray
        ``labels`` (t, z, y, x) with the coordinates of the recording, lazy: 0 is background, and label k of a frame is
        the k-th row of ``detections`` with that ``t_index``. Numbers beyond these rows are neurons that ``split``
        added. A neuron may have no voxel: one beside a far brighter one, or at the place of another. uint16, or uint32
        where there are too many; uint32 from a function. Blank frames and voxels that are not finite are background.
        :func:`niddl_xr.labels_to_detections` gives the rows that the labels stand for.

    Raises
    ------
    NiddlError
        Where coordinates are not in µm (:func:`niddl_xr.open_recording` takes ``voxel_um``), for detections that break
        their contract or are of another recording, for options of another method; when computed, for answers of a
        function that are no labels of the frame.

    Notes
    -----
    The mixture is that of Chaudhary et al. (eLife 10:e60321, 2021): intensity-weighted EM from covariances r²/5 (a
    ball's), posterior above 0.6. Added here: a floor in each window, the part of a Gaussian that lies outside its
    window, the edge at a level of light, and the splitting. The level lies between the half of its light at which a
    large ball ends that is seen sharply, and the quarter of a small, blurred one; 0.3 to 0.45 are about equally good. A
    neuron is added where the fit leaves a peak of light over, and stays if two Gaussians explain the light of the pair
    better than one by the Bayesian information criterion (Schwarz, Ann. Stat. 6:461, 1978), its penalty doubled for
    noise that pixels share, the noise raised by 5 % of the light for nuclei that are no Gaussians. Watershed: Beucher &
    Lantuéjoul (1979), by scikit-image. docs/decisions/0017-labels-and-neurites.md has what was measured.

    Examples
    --------
    >>> from niddl_xr.simulation import detections, whole_brain
    >>> worm = whole_brain(shape=(8, 48, 64), frames=2, neurons=4, photons=100)
    >>> found = detections(worm, missed_fraction=0, false_fraction=0)
    >>> labels = segment(worm["recording"]["F"], found, split=False)
    >>> labels.isel(t=1).values.max().item()
    4

    StarDist and Cellpose, with a model that is loaded where it is used, once a process (``functools.cache``)::

        @functools.cache
        def model():
            return StarDist3D.from_pretrained("3D_demo")

        def stardist(frame):
            return model().predict_instances(csbdeep.utils.normalize(frame))

        def cellpose(frame):
            return cellpose_model().eval(frame, z_axis=0, do_3D=True)

        labels = segment(recording, method=stardist)
    """
    schema.require_recording(recording)
    if callable(method):
        if options:
            raise NiddlError(f"expected no options beside a function, got {sorted(options)}: see functools.partial")
        data = lazy_frames(recording)
        dtype: Any = np.uint32
        labels = _mapped(_called_block, data, dtype, call=method)
        said: dict[str, Any] = {"method": getattr(method, "__qualname__", type(method).__name__)}
    else:
        chosen = _options(method, options)
        grid = grid_of(recording)
        points, radii, most = _points(recording, grid, detections)
        # A split adds at most two components a detection in practice; twice as many fit whatever happens.
        dtype = np.uint16 if 4 * most < np.iinfo(np.uint16).max else np.uint32
        labels = _mapped(
            _segmented_block,
            lazy_frames(recording),
            dtype,
            [points, radii],
            label=chosen,
            voxel_um=grid.voxel_um,
            kind=dtype,
        )
        said = {"method": method, "detections": 0 if detections is None else len(detections), **options}
    result = xr.DataArray(
        labels,
        dims=RECORDING_DIMS,
        coords=recording.coords,
        name="labels",
        attrs={
            "long_name": "neuron, 0 = background; k = the k-th detection of the frame",
            "units": "1",
            **{name: recording.attrs[name] for name in ("source", schema.HISTORY) if name in recording.attrs},
        },
    )
    return schema.with_history(result, "segment", said)


def _options(method: str, options: dict[str, Any]) -> Gmm | Watershed:
    if method not in METHODS:
        raise NiddlError(
            f"expected method as one of {', '.join(map(repr, METHODS))} or a function of a frame, got {method!r}"
        )
    kind = METHODS[method]
    known = list(kind.__dataclass_fields__)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise NiddlError(f"expected options of {method!r} among {', '.join(known)}, got {unknown}")
    return kind(**options)


def _points(recording: xr.DataArray, grid: Grid, detections: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Return points (t, most, 3) in µm from voxel 0 and radii (t, most), NaN where a frame has fewer; and ``most``."""
    if detections is None:
        raise NiddlError("expected detections, the neurons to outline, got None; see niddl_xr.detect")
    neurons.require_detections(detections)
    count = recording.sizes["t"]
    frames = neurons.frames_of(detections)
    if len(frames) > count or detections.attrs.get("frames", count) != count:
        raise NiddlError(
            f"expected detections of a recording of {count} frames, got {len(frames)}: "
            "detect in the recording that is segmented, or select its frames in both"
        )
    radius = np.full(len(detections), _RADIUS_UM)
    if "radius_um" in detections:
        given = detections["radius_um"].to_numpy(np.float64)
        if not np.all(np.isfinite(given) & (given > 0)):
            raise NiddlError(f"expected positive numbers in the column radius_um, got {given.min()} among them")
        radius = given
    most = max((len(rows) for rows in frames.rows), default=0)
    points_um, radii_um = np.full((count, most, 3), np.nan), np.full((count, most), np.nan)
    for t, (found, rows) in enumerate(zip(frames.points, frames.rows, strict=True)):
        points_um[t, : len(rows)], radii_um[t, : len(rows)] = grid.inward(found), radius[rows]
    far = (np.asarray(grid.shape) - 1) * grid.voxel_um
    flat = np.asarray(grid.shape) == 1
    outside = ((points_um < -_OUTSIDE_UM) | (points_um > far + _OUTSIDE_UM)) & ~flat
    if outside.any():
        lost = int(outside.any(axis=-1).sum())
        axes = [dim for dim, beyond in zip(SPACE_DIMS, outside.any(axis=(0, 1)), strict=True) if beyond]
        raise NiddlError(
            f"expected detections inside the recording, got {lost} of {len(detections)} outside along {axes}: "
            "are z, y, x in µm and not mixed up, and of this recording?"
        )
    points_um[..., flat] = np.where(np.isnan(points_um[..., flat]), np.nan, 0.0)
    return points_um, radii_um, most


def _mapped(
    function: Callable[..., np.ndarray], data: Any, dtype: Any, rows: Sequence[np.ndarray] = (), **arguments: Any
) -> Any:
    """Apply a function of blocks to the frames and to ``rows`` (t, ...); arguments are held once in the graph."""
    import dask.array as da
    from dask.delayed import delayed

    held = {name: delayed(value, traverse=False, pure=False) for name, value in arguments.items()}
    operands: list[Any] = [data, "tzyx"]
    for row, index in zip(rows, ("tab", "tc"), strict=False):
        from_array: Callable[..., Any] = da.from_array
        operands += [from_array(row, chunks=(data.chunks[0], *row.shape[1:]), name=False), index]
    blockwise: Callable[..., Any] = da.blockwise
    return blockwise(
        function,
        "tzyx",
        *operands,
        concatenate=True,
        dtype=dtype,
        meta=np.empty((0, 0, 0, 0), dtype),
        **held,
    )


def _segmented_block(
    frames: np.ndarray,
    points_um: np.ndarray,
    radii_um: np.ndarray,
    *,
    label: Gmm | Watershed,
    voxel_um: np.ndarray,
    kind: type[np.generic],
) -> np.ndarray:
    labels = np.zeros(frames.shape, kind)
    for place, (frame, points, radii) in enumerate(zip(frames, points_um, radii_um, strict=True)):
        there = np.isfinite(radii)
        found = label(frame, points[there], radii[there], voxel_um)
        labels[place] = found
    return labels


def _called_block(frames: np.ndarray, *, call: Callable[[np.ndarray], Any]) -> np.ndarray:
    labels = np.zeros(frames.shape, np.uint32)
    for place, frame in enumerate(frames):
        labels[place] = called(call, frame)
    return labels
