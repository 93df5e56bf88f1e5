"""From tracked neurons to their brightness over time, with its noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeGuard
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.neurons import TRACE_DIMS, recording_id, require_tracks
from niddl_xr.schema import HISTORY, NiddlError, require_recording, with_history
from niddl_xr.traces._frames import common_frames, grid_of
from niddl_xr.traces._kernels.denoised import variance_of_denoised
from niddl_xr.traces._kernels.measuring import GAUSSIAN, Measured, Noise, Recipe
from niddl_xr.traces._kernels.surroundings import shell
from niddl_xr.traces._kernels.windows import GAUSSIAN_REACH, half_box
from niddl_xr.traces._noise import UNKNOWN, is_denoised, noise_of
from niddl_xr.traces._streaming import measure_frames

BOXES = {"box": (1, 2, 2), "box3x3": (0, 1, 1), "pixel": (0, 0, 0)}  # half sizes (z, y, x) in voxels
METHODS = ("gaussian", "least_squares", "ball", *BOXES, "topk", "labels")
RADIUS_UM = 1.6  # of a neuron, as detect takes it, where neither the tracks nor the caller say
BALL_UM = 2.0
LABEL_REACH_UM = 4.0
SIGMA_PER_RADIUS = 0.6
SHELL_UM = (4.0, 8.0)
LOCAL_SIGMAS = 1.5  # within which haze is even: with more it passes for light, with less the fit is noisy
OCCUPIED_SIGMAS = 2.0  # of a neuron's light, from which on a voxel counts as background


@dataclass(frozen=True)
class _Options:
    """Checked arguments of :func:`extract_traces`."""

    method: str
    radius_um: float | None
    background: str | float | None
    neuropil: float
    position_error_um: float
    psf_sigma_um: tuple[float, ...]
    top: float

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise NiddlError(f"expected method as one of {', '.join(METHODS)}, got {self.method!r}")
        if self.radius_um is not None and not (_is_number(self.radius_um) and self.radius_um > 0):
            raise NiddlError(f"expected radius_um as a number above 0 in µm, or None, got {self.radius_um!r}")
        if self.background != "annulus" and self.background is not None and not _is_number(self.background):
            raise NiddlError(f'expected background="annulus", a number of counts, or None, got {self.background!r}')
        for name in ("neuropil", "position_error_um"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise NiddlError(f"expected {name} as a number of 0 or more, got {getattr(self, name)!r}")
        if len(self.psf_sigma_um) != 3 or not all(_is_number(size) and size >= 0 for size in self.psf_sigma_um):
            raise NiddlError(f"expected psf_sigma_um as three numbers (z, y, x) in µm, got {self.psf_sigma_um!r}")
        if not _is_number(self.top) or self.top <= 0 or (self.top > 1 and self.top != int(self.top)):
            raise NiddlError(f"expected top as a number of voxels, or as a part of them below 1, got {self.top!r}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def extract_traces(
    recording: xr.DataArray,
    tracks: xr.Dataset,
    *,
    method: str = "gaussian",
    radius_um: float | None = None,
    background: str | float | None = "annulus",
    neuropil: float = 1.0,
    channel: Any = None,
    labels: xr.DataArray | None = None,
    raw: xr.DataArray | None = None,
    noise: str | Mapping[str, float] | None = None,
    position_error_um: float = 0.2,
    psf_sigma_um: Sequence[float] = (1.5, 0.5, 0.5),
    top: float = 10,
    progress: bool = True,
) -> xr.Dataset:
    """Measure how bright each tracked neuron is in each frame, above its background, and how sure that is.

    Frames are read once, a block of dask after the other, and only what was measured is kept; how the recording is
    cut changes nothing. Positions between voxels move the weights, not the image.

    Parameters
    ----------
    recording
        (t, z, y, x) in counts, raw or denoised, with z, y, x in µm; z of size 1 is a plane, in which every position
        lies. A crop or a choice of frames keeps its coordinates, and fits the tracks of the whole.
    tracks
        As :func:`niddl_xr.track` gives: ``position`` (t, neuron, space) in µm and ``observed``. Frames are matched by
        the coordinate t (to a tenth of a frame), and those in only one of the two are left out; where t is not in the
        same unit in both, by their number, which then has to be the same. Positions that were filled in count as
        well.
    method
        ``"gaussian"``
            Mean weighted with a Gaussian as wide as the neuron seen through the microscope, of the neuron's own light:
            all neurons' Gaussians and a constant around each are fitted together, and voxels count the less the further
            they are from the neuron (a Gaussian of 1.5 sigma). Neighbours and uneven haze are told apart.
        ``"least_squares"``
            Brightness at the centres of the Gaussians, fitted in the same way with all voxels of a window alike: less
            noise in faint light, more of what uneven haze there is.
        ``"ball"``
            Mean of the voxels within ``radius_um``.
        ``"box"``, ``"box3x3"``, ``"pixel"``
            Mean of 3 x 5 x 5 voxels (z, y, x), of 1 x 3 x 3, or the one voxel.
        ``"topk"``
            Mean of the ``top`` brightest voxels of the ball. It takes noise for signal where light is faint.
        ``"labels"``
            Mean of the voxels that have the label of the voxel in which the position lies.
    radius_um
        Radius of a neuron in µm (Gaussian methods) or of the ball. None: the tracks' coordinate ``radius_um``, where
        there is none 1.6 µm; for balls 2 µm.
    background
        "annulus": the median of a shell of 4 to 8 µm without the light of any tracked neuron; for the Gaussian methods,
        the constant that is fitted around each neuron, and the shell is for comparison alone. Or a number of counts, or
        None: the camera's offset, as attrs state it; "gaussian" then fits no constant, "least_squares" always does.
    neuropil
        How much of the shell's light above the camera's offset is subtracted; 0.7 is usual for two photons. Without
        effect on "least_squares".
    channel
        Label of the channel, for a recording that has a dim channel.
    labels
        (t, z, y, x), integers, 0 for the background, of the same frames and voxels; for ``method="labels"``.
    raw
        The recording before denoising, for a denoised ``recording``: its pixels tell the noise.
    noise
        Where the noise of a pixel is known from. None: attrs of the raw recording (``gain_counts_per_photon``,
        ``excess_noise``, ``offset_counts``, ``read_noise_counts``, and where there is one ``row_noise_counts``). Or
        these numbers. Or "photon_transfer": measured in the recording, as :func:`niddl_xr.snr` does.
    position_error_um
        Standard deviation of a position along each axis; for the noise of the Gaussian methods, whose brightness
        changes where positions are wrong, and tracks that are nearer to each other share the light. 0: positions are
        exact.
    psf_sigma_um
        Width (sigma) of the point spread function along (z, y, x): by default a spinning disk's in tissue, of 0.75 NA.
    top
        Number of voxels of ``"topk"``; below 1 the part of the ball's.
    progress
        Show a bar.

    Returns
    -------
    xarray.Dataset
        Variables (t, neuron) of the frames in both:

        ``F``
            float32, counts above the background. A mean over a neuron: a number of its own for every method.
        ``F_var``
            float32, the variance of ``F`` in counts², by photons, readout, and wrong positions. NaN where the noise
            of the pixels is not known.
        ``background``
            float32, counts, the camera's offset included. Where neurons fill a neuron's shell, the median of the
            others' in that frame.
        ``valid``
            Whether there is an ``F``. Else it is NaN: where there is no position, where it lies outside the field (more
            than half a voxel beyond the outer centres), where less than a quarter of the weights lies on voxels that
            are in the field and not NaN (with more, the others speak for them), or in no label.
        ``observed``
            As in the tracks: False where the position was filled in.

        Coordinates are the tracks', t the recording's. ``attrs`` say which method, which noise, and by what frames
        were matched.

    Raises
    ------
    NiddlError
        For axes that are not in µm, tracks of other times, arguments out of range, ``raw`` or ``labels`` of other
        frames or voxels, and a background that needs a camera offset that attrs do not state.

    Warns
    -----
    UserWarning
        Where the noise is not known: of a camera that attrs do not describe, and of a denoised recording without
        ``raw``.

    Notes
    -----
    A nucleus of radius r is near a Gaussian of sigma 0.6 r, blurred by the microscope: sigma² = 0.36 r² + PSF²; weights
    reach 2.5 sigma. "gaussian" is a weighted local fit (Cleveland, J. Am. Stat. Assoc. 74:829, 1979); its ``F`` is the
    fitted peak over √2 for each axis, which is the mean of a Gaussian weighted with itself.

    ``F_var`` is Σw² (excess gain I + read²) / (Σw)² of the raw pixels I above the offset, as photon transfer has it
    (Janesick, *Photon Transfer*, SPIE 2007), with what the pixels of a row share (``row_noise_counts``) taken as one
    for a row of the window, and the variance of the background's median, π/2 that of a mean. To this comes
    ``position_error_um`` times the slope of ``F`` with the position, less what noise adds to that slope. Of denoised
    pixels, whose errors hang together, the variance is not that sum: it is read off the difference to the raw ones.

    The median of the shell is that of means of 16 neighbours: single pixels of few photons have a median below their
    mean. docs/decisions/0022-traces.md compares the methods on simulated worms.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> worm = whole_brain(shape=(5, 48, 64), frames=6, neurons=4, seed=1)
    >>> recording, tracks = worm["recording"]["F"], worm["tracks"].to_dataset()
    >>> traces = extract_traces(recording, tracks, progress=False)
    >>> traces["F"].dims, bool((traces["F"] > 0).all()), bool((traces["F_var"] > 0).all())
    (('t', 'neuron'), True, True)
    """
    options = _Options(method, radius_um, background, neuropil, position_error_um, _three(psf_sigma_um), top)
    recording, tracks = require_recording(_of_channel(recording, channel)), require_tracks(tracks)
    beside = _beside(recording, method, raw, labels)
    frames, tracked, matched_by = common_frames(recording, tracks)
    grid = grid_of(recording)
    recipe = _recipe(recording, tracks, grid.voxel_um, options)
    pixel_noise, noise_from = _pixel_noise(recording, raw, noise)
    measured = measure_frames(
        _chosen(recording, frames),
        grid.places(tracks["position"].values[tracked]),
        replace(recipe, noise=pixel_noise),
        {name: _chosen(other, frames) for name, other in beside.items()},
        progress=progress,
    )
    traces = _labelled(measured, tracks.isel(t=tracked), recording["t"].isel(t=frames), denoised=raw is not None)
    traces.attrs = {"method": method, "matched_by": matched_by, "noise_from": noise_from}
    for name, source in ((HISTORY, recording), ("version_id", tracks)):
        if name in source.attrs:
            traces.attrs[name if name == HISTORY else f"tracks_{name}"] = source.attrs[name]
    given = {"channel": channel, "labels": labels is not None, "raw": raw is not None, "noise": noise}
    return with_history(traces, "extract_traces", {**vars(options), **given})


def _three(sizes: Sequence[float]) -> tuple[float, ...]:
    return tuple(sizes) if isinstance(sizes, Sequence | np.ndarray) and not isinstance(sizes, str) else (float("nan"),)


def _of_channel(recording: xr.DataArray, channel: Any) -> xr.DataArray:
    """Return the chosen channel of a recording; one that has no dim channel already is of a single one."""
    dims = recording.dims if isinstance(recording, xr.DataArray) else ()
    if "channel" not in dims:
        if channel is not None:
            raise NiddlError(
                f"expected a recording with the dim channel to choose {channel!r} from, got dims {dims}: leave "
                "channel= out, or choose it in open_recording"
            )
        return recording
    labels = recording["channel"].values.tolist()
    if channel not in labels:
        raise NiddlError(f"expected channel as one of {labels}, got {channel!r}")
    return recording.sel(channel=channel, drop=True)


def _chosen(recording: xr.DataArray, frames: np.ndarray) -> xr.DataArray:
    """Return frames of a recording, itself where they are all: choosing by number costs a task a block."""
    return recording if len(frames) == recording.sizes["t"] else recording.isel(t=frames)


def _beside(
    recording: xr.DataArray, method: str, raw: xr.DataArray | None, labels: xr.DataArray | None
) -> dict[str, xr.DataArray]:
    """Return the recordings that are read along, checked to be of the same frames and voxels."""
    if (labels is None) == (method == "labels"):
        remedy = "give labels=, see niddl_xr.segment" if labels is None else 'leave it out, or set method="labels"'
        raise NiddlError(f'expected labels= with method="labels" and with no other, got method={method!r}: {remedy}')
    beside = {name: other for name, other in (("raw", raw), ("labels", labels)) if other is not None}
    for name, other in beside.items():
        require_recording(other)
        if other.shape != recording.shape or recording_id(other) != recording_id(recording):
            raise NiddlError(
                f"expected {name} of the frames and voxels of the recording, {dict(recording.sizes)}, got "
                f"{dict(other.sizes)} or other coordinates: choose the same part of both"
            )
    if labels is not None and labels.dtype.kind not in "ui":
        raise NiddlError(f"expected labels as whole numbers, got dtype {labels.dtype}")
    return beside


def _pixel_noise(
    recording: xr.DataArray, raw: xr.DataArray | None, noise: str | Mapping[str, float] | None
) -> tuple[Noise, str]:
    if raw is None and is_denoised(recording):
        warn(
            "the noise of traces of a denoised recording is not known from its pixels (F_var is NaN): give the "
            "recording before denoising with raw=",
            stacklevel=3,
        )
        return UNKNOWN, "unknown"
    return noise_of(recording if raw is None else raw, noise)


def _recipe(recording: xr.DataArray, tracks: xr.Dataset, voxel_um: np.ndarray, options: _Options) -> Recipe:
    """Put the arguments into numbers for the kernels, the noise apart."""
    shape = (recording.sizes["z"], recording.sizes["y"], recording.sizes["x"])
    neurons, ball_um = tracks.sizes["neuron"], options.radius_um or BALL_UM
    radius_um = np.full(neurons, options.radius_um or RADIUS_UM)
    if options.radius_um is None and "radius_um" in tracks.coords:
        stated = np.broadcast_to(tracks["radius_um"].values.astype(np.float64), neurons)
        radius_um = np.where(np.isfinite(stated) & (stated > 0), stated, RADIUS_UM)
    sigma_um = np.sqrt(np.square(SIGMA_PER_RADIUS * radius_um)[:, None] + np.square(options.psf_sigma_um))
    widest_um = sigma_um.max(axis=0, initial=0.0)
    reach_um = {**dict.fromkeys(GAUSSIAN, GAUSSIAN_REACH * widest_um), "labels": np.full(3, LABEL_REACH_UM)}
    offset, level = _levels(recording, options)
    return Recipe(
        method="box" if options.method in BOXES else options.method,
        half=BOXES.get(options.method) or half_box(reach_um.get(options.method, np.full(3, ball_um)), voxel_um, shape),
        step_um=voxel_um,
        sigma_um=sigma_um,
        radius_um=ball_um,
        top=options.top,
        offset=offset,
        background=level,
        shell=shell(*SHELL_UM, voxel_um, shape) if options.background == "annulus" else None,
        occupied_um=OCCUPIED_SIGMAS * np.median(sigma_um, axis=0) if neurons else np.zeros(3),
        neuropil=options.neuropil,
        noise=UNKNOWN,
        position_error_um=np.where(np.array(shape) > 1, options.position_error_um, 0.0),
        local_sigmas=LOCAL_SIGMAS if options.method == "gaussian" and options.background == "annulus" else np.inf,
        fits_constant=options.method == "least_squares" or options.background == "annulus",
        # The mean of a Gaussian with itself as weights is its peak by the square root of two along each axis.
        scale=2.0 ** (-np.count_nonzero(np.array(shape) > 1) / 2) if options.method == "gaussian" else 1.0,
    )


def _levels(recording: xr.DataArray, options: _Options) -> tuple[float, float]:
    """Return the camera's offset and the background that is the same for all, in counts; NaN where there is none."""
    stated = recording.attrs.get("offset_counts")
    offset = float(stated) if _is_number(stated) else float("nan")
    needed = options.background is None or (options.background == "annulus" and options.neuropil != 1)
    if needed and not np.isfinite(offset):
        raise NiddlError(
            f"expected a recording that states its camera's offset, for background={options.background!r} and neuropil="
            f"{options.neuropil:g}, got none: set it with assign_attrs(offset_counts=...), or background= in counts"
        )
    if isinstance(options.background, str):
        return offset, float("nan")
    return offset, offset if options.background is None else float(options.background)


def _labelled(measured: Measured, tracks: xr.Dataset, t: xr.DataArray, *, denoised: bool) -> xr.Dataset:
    """Return traces of measurements (t, neuron) with the coordinates of the tracks of these frames."""
    variance = measured.variance
    if denoised:
        variance = variance_of_denoised(measured.brightness, measured.raw_excess, variance)
    numbers = {
        "F": (measured.brightness, "counts"),
        "F_var": (variance + measured.place_variance, "counts²"),
        "background": (measured.background, "counts"),
    }
    traces = xr.Dataset(
        {name: (TRACE_DIMS, values.astype(np.float32), {"units": unit}) for name, (values, unit) in numbers.items()}
    )
    traces["valid"] = (TRACE_DIMS, np.isfinite(measured.brightness))
    traces["observed"] = tracks["observed"].transpose(*TRACE_DIMS).variable
    return traces.assign_coords({**tracks["observed"].coords, "t": t.variable})
