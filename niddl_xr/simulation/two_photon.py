"""Brain tissue under a two-photon microscope: the recording, and everything that is true about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.neurons import neuron_names
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import _nodes
from niddl_xr.simulation._checks import (
    require_bleaching,
    require_camera,
    require_frames_per_chunk,
    require_number,
    require_range,
    require_size,
    require_volume,
)
from niddl_xr.simulation._kernels import tissue, tissue_scene
from niddl_xr.simulation._kernels.tissue_scene import STEPS_PER_PLANE, Field, Scene
from niddl_xr.simulation._lazy import map_blocks
from niddl_xr.simulation.given_activity import given_activity
from niddl_xr.simulation.noise import Camera

VERB = "simulate.two_photon"
PHOTOMULTIPLIER = Camera(
    offset=170.0, gain=150.0, read_noise=12.0, excess_noise=1.25, row_noise=0.0, spurious_charge=0.002
)
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_ANATOMY, _TEXTURE, _EVENTS, _NEUROPIL, _MOTION, _DETECTOR = range(32, 38)
_MOTION_TIME_S = 1.0
_LONGEST_S = 60.0  # of the indicator: five times as long is simulated before the first frame
_MOST_NEURONS = int(np.iinfo(np.uint16).max)


def two_photon(
    *,
    shape: Sequence[int] = (1, 512, 512),
    frames: int = 300,
    voxel_um: Sequence[float] = (1.0, 0.8, 0.8),
    rate_hz: float = 30.0,
    neurons: int = 150,
    photons: float = 5.0,
    seed: int = 0,
    camera: Camera | None = None,
    soma_radius_um: Sequence[float] = (5.0, 8.0),
    neuropil: float = 0.6,
    vessels: int = 3,
    vignetting: float = 0.3,
    event_rate_hz: float = 0.1,
    event_dff: float = 0.4,
    rise_s: float = 0.05,
    decay_s: float = 0.3,
    activity: xr.DataArray | None = None,
    bleaching: float | Sequence[float] = 0.1,
    bleaching_time_s: float | Sequence[float] = 600.0,
    motion_um: float = 0.5,
    bidirectional_offset_px: float = 0.0,
    frames_per_chunk: int | None = None,
) -> xr.DataTree:
    """Simulate a two-photon recording of cortex, with its truth.

    Cell bodies with dark nuclei and short dendrites lie at random depths around each plane, in neuropil of fine fibres
    that glows and flickers by itself, under the shadows of blood vessels. The brain moves while the beam scans it line
    by line, so that motion shears a frame. A frame is rendered when it is computed, from random numbers that belong to
    it alone: any chunking and any order of computing gives the same counts, bit for bit.

    Parameters
    ----------
    shape
        Sizes (z, y, x) of a frame. z of size 1 is a plane movie; more are the planes of a volumetric scan, read one
        after another.
    frames
        Number of frames (volumes).
    voxel_um
        Distance of planes, lines and pixels along (z, y, x) in µm; y and x at most the smallest soma radius.
    rate_hz
        Frames (volumes) per second.
    neurons
        Number of neurons; every one lies so near to a plane that it is seen there, with its centre in the field.
    photons
        Photons detected per pixel and frame from a neuron alone, without the neuropil before and behind it: mean over
        the pixels of its label, at rest, before bleaching, of the median neuron. Brightness is lognormal over neurons
        (sigma 0.5), and somata off the plane are dimmer.
    seed
        Whole number ≥ 0. The same arguments and seed give the same result.
    camera
        :class:`niddl_xr.simulate.Camera` in the part of the detector; None for a photomultiplier of offset 170, gain
        150 counts per photon, excess noise 1.25 and read noise 12 counts.
    soma_radius_um
        Smallest and largest mean radius of a cell body in µm.
    neuropil
        Mean light of the neuropil, away from somata, vessels and dark corners, relative to ``photons``.
    vessels
        Number of blood vessels that cross the field; their radii are 2.5 to 14 µm.
    vignetting
        Part of the light that is lost in the corners of the field, 0 to 1.
    event_rate_hz
        Events (bursts of spikes) per second and neuron, the mean over neurons. Rates are lognormal over neurons (sigma
        1.3); events come at random (Poisson). Not used with ``activity``.
    event_dff
        dF/F at the peak of one event, of the median neuron; lognormal over neurons (sigma 0.4), all events of a neuron
        alike; events add up without saturation. Not used with ``activity``.
    rise_s, decay_s
        Time constants of the indicator in s, at most 60: an event shines as (1 - exp(-t / rise)) exp(-t / decay). The
        defaults look like GCaMP6f in mouse cortex; 0.15 and 1.2 are near GCaMP6s. Not used with ``activity``.
    activity
        DataArray (t, neuron) of dF/F to play instead of the events, with ``t`` in s and at least as long as the
        recording; it is interpolated to the frames. A neuron ("n001", …) plays the trace of its own name, else one
        drawn at random, each once as long as they last. None for simulated events.
    bleaching, bleaching_time_s
        ``1 - bleaching (1 - exp(-t / bleaching_time_s))`` of the fluorescence is left at time t; ``bleaching`` 0 to 1.
        Several of each are components that bleach side by side.
    motion_um
        RMS along y and along x of the brain's motion (Ornstein-Uhlenbeck of 1 s, smoothed over 0.05 s), on top of which
        come jumps: every 20 s on average, of 4 times this size on average, exponentially distributed, gone after about
        0.4 s. There is none along z. What comes into view from outside the field has neuropil and no neurons.
    bidirectional_offset_px
        Pixels by which every second line is displaced along x, as where the two directions of a resonant scan do not
        meet; at most half the width, to either side. Labels are displaced as the lines are, tracks are not.
    frames_per_chunk
        Frames that dask holds as one block; None for blocks of about 16 MiB. It changes no value.

    Returns
    -------
    xarray.DataTree
        With the nodes

        ``/recording``
            ``F`` (t, z, y, x), uint16 counts, lazy; attrs state offset, gain, read noise, excess noise and seed.
        ``/clean``
            ``F`` (t, z, y, x), float32, lazy: the expected counts, offset and spurious charge included, neither rounded
            nor clipped.
        ``/labels``
            ``labels`` (t, z, y, x), uint16, lazy: k on the cell body of the k-th neuron, counted from 1, nucleus
            included, 0 elsewhere; it follows the motion. Where bodies lie over each other, the one that fills more
            of the focus has the pixel.
        ``/tracks``
            ``position`` (t, neuron, space) in µm, float32, when the line through it is scanned; z is that of the
            nearest place within the planes, the coordinate ``depth_um`` (neuron) the true depth below the first
            plane, negative above it. ``radius_um`` (neuron) is the mean radius of the body. ``observed`` (the centre
            is inside the field), ``confidence`` (1 where observed, else 0) and ``provenance`` ("anchor": known to be
            right).
        ``/traces``
            ``F`` (t, neuron), float32: counts above offset and neuropil, from this neuron alone, mean over its label in
            the field (with the pixels that another body's label takes from it); ``F0`` the same at rest, bleached;
            ``dff`` = F / F0 - 1; ``neuropil``: counts of neuropil, mean over the same pixels. Motion enters none of
            them: it changes the mean of a moving label by a few percent.
            ``spikes``: events in each frame, without ``activity``; events before the first frame have no count and
            still glow. Coordinates ``depth_um`` (neuron), and with ``activity`` ``trace``, the name of the trace that
            a neuron plays.

        There is no NaN in any of them.

    Raises
    ------
    NiddlError
        For sizes or rates that are no positive numbers, pixels larger than the smallest soma's radius, motion larger
        than the field, too short an ``activity``, and where the tissue has no room for the neurons.

    Warns
    -----
    UserWarning
        Where a neuron or the neuropil exceeds 16 bits, so that the detector clips it.

    Notes
    -----
    A light relative of NAOMi (Song et al., J. Neurosci. Methods 358:109173, 2021): shapes and neuropil are drawn, not
    grown, and light is not propagated. The point spread function is a Gaussian of 3.5 µm FWHM along z and of sigma 0.5
    µm across; the cubic B-spline of which a frame is made adds a third of a pixel squared to the variance. No two
    somata overlap. A soma takes away half of the neuropil's light, the rest comes from beyond the focus: the darkest
    nuclei of a hippocampal movie have 0.53 of its median light (the SIMA example, measured for this project).

    The neuropil's level is 1 plus an Ornstein-Uhlenbeck process of SD 0.1 and 1.5 s, 0.6 of whose variance is the
    same everywhere (three neuropil traces of the Allen Brain Observatory: SD 0.05 to 0.09 of the mean, about 1.5 s,
    correlations 0.54 to 0.74), plus half the mean dF/F of the neurons near by (chosen by eye).

    The detector's defaults are the photon transfer of an Allen Brain Observatory movie of 100 x 100 pixels (dark
    level 167 counts, dark SD 12, slope of variance on mean 190, measured for this project; how the slope divides into
    gain and excess noise is chosen). That movie has 0.2 to 0.7 photons per pixel. Other constants are chosen by eye.

    The time constants and the size of events lie among measurements of GCaMP6f. This response, fitted to two neurons of
    mouse visual cortex with known spikes (the ground truth of Rupprecht et al., Nat. Neurosci. 24:1324, 2021), rises in
    0.014 and 0.025 s, decays in 0.35 and 0.47 s and is 0.3 and 0.6 high for a spike. Transients above 0.3 in 74 traces
    of the Allen Brain Observatory that come with it take 0.06 s from half their height to the peak and decay in 0.16 to
    0.19 s; those above 0.2 have a median of 0.39 and come at 0.05 Hz, with a sigma of 1.3 over neurons. Chen et al.
    (Nature 499:295, 2013) report a half decay of 0.14 s after a single spike. The default rate is twice the Allen
    traces', so that a movie of seconds shows something.

    Activity and neuropil stand still within a frame; motion does not.

    Examples
    --------
    >>> truth = two_photon(shape=(1, 64, 80), frames=5, neurons=4, seed=1)
    >>> truth["recording"]["F"].sizes["t"], str(truth["recording"]["F"].dtype)
    (5, 'uint16')
    >>> sorted(truth["traces"].data_vars)
    ['F', 'F0', 'dff', 'neuropil', 'spikes']
    """
    parameters = {name: value for name, value in locals().items() if name != "frames_per_chunk"}
    sizes, voxel = require_volume(shape, voxel_um)
    frames, neurons = require_size("frames", frames, 1), require_size("neurons", neurons, 1)
    seed, vessels = require_size("seed", seed, 0), require_size("vessels", vessels, 0)
    interval_s = 1 / require_number("rate_hz", rate_hz, above=True)
    radii = require_range("soma_radius_um", soma_radius_um)
    require_number("photons", photons, above=True)
    for name in ("rise_s", "decay_s"):
        require_number(name, parameters[name], most=_LONGEST_S, above=True)
    for name in ("neuropil", "event_rate_hz", "event_dff", "motion_um"):
        require_number(name, parameters[name])
    require_number("vignetting", vignetting, most=1.0)
    offset_px = require_number("bidirectional_offset_px", bidirectional_offset_px, -sizes[2] / 2, sizes[2] / 2)
    _require_resolvable(neurons, voxel, radii)
    camera = PHOTOMULTIPLIER if camera is None else require_camera(camera)
    frames_per_chunk = require_frames_per_chunk(frames_per_chunk, sizes)
    times_s = np.arange(frames) * interval_s
    bleach = require_bleaching("bleaching", bleaching, bleaching_time_s, times_s)

    path = _motion(frames, sizes[0], interval_s, motion_um, np.random.default_rng([seed, _MOTION]))
    field = Field(sizes, voxel, _margin(path, sizes, voxel, offset_px))
    rng = np.random.default_rng([seed, _ANATOMY])
    shadow = tissue.vessel_shadow(sizes[1:], voxel[1:], vessels, rng)
    centres = tissue_scene.soma_centres(field, neurons, radii, shadow, rng)
    _require_room(neurons, len(centres), field, radii)
    somata = tissue.draw_somata(centres, tissue.separate_radii(centres, *radii, rng), rng)
    light = (photons, photons * neuropil)
    texture_rng = np.random.default_rng([seed, _TEXTURE])
    anatomy = tissue_scene.anatomy(field, somata, shadow, light, vignetting, rng, texture_rng)

    names = neuron_names(neurons)
    coords: dict[str, Any] = {
        "neuron": names,
        "depth_um": ("neuron", centres[:, 0].astype(np.float32), {"units": "µm"}),
    }
    rng = np.random.default_rng([seed, _EVENTS])
    spikes = None
    if activity is None:
        event, kernel = (event_rate_hz, event_dff), (rise_s, decay_s)
        spikes, dff = tissue.indicator_events(frames, neurons, interval_s, event, kernel, rng)
    else:
        dff, played = given_activity(activity, times_s, names, rng)
        coords["trace"] = ("neuron", played)
    near = tissue_scene.near_nodes(field, centres)
    level = tissue.neuropil_level(dff, near, interval_s, np.random.default_rng([seed, _NEUROPIL]))
    glow = np.maximum(level.reshape(frames, -1) @ near.reshape(neurons, -1).T, 0)
    behind = camera.gain * anatomy.neuropil_photons * bleach[:, None] * glow
    _nodes.warn_if_clipped(_brightest_counts(anatomy.scene, dff, level, camera), camera)

    scan: dict[str, Any] = {"scene": anatomy.scene, "offset_px": offset_px}
    photons_seen = map_blocks(_render_block, [path, dff, level, bleach], sizes, np.float32, frames_per_chunk, **scan)
    source = {"source": f"niddl_xr.{VERB}"}
    recording, clean = _nodes.exposures(
        photons_seen,
        camera,
        voxel_um=voxel.tolist(),
        t_s=times_s,
        frames_per_chunk=frames_per_chunk,
        seed=seed,
        stream=_DETECTOR,
        attrs={**source, "photons": float(photons)},
    )
    bodies = map_blocks(_label_block, [path], sizes, np.uint16, frames_per_chunk, **scan)
    labels = schema.make_recording(bodies, voxel_um=voxel.tolist(), t_s=times_s, attrs={**source, "units": "1"})
    coords["t"] = recording["t"]
    positions = _positions(centres, path, field)
    traces = _nodes.traces(camera.gain * anatomy.resting_photons * bleach[:, None], dff, coords)
    traces["neuropil"] = (("t", "neuron"), behind.astype(np.float32), {"units": "counts"})
    if spikes is not None:
        traces["spikes"] = (("t", "neuron"), spikes, {"units": "1", "long_name": "events in the frame"})
    nodes: dict[str, xr.DataArray | xr.Dataset] = {
        "recording": recording,
        "clean": clean,
        "labels": labels.rename("labels"),
        "tracks": _nodes.tracks(positions, _nodes.inside(positions, sizes, voxel), coords, somata.radii),
        "traces": traces,
    }
    return _nodes.tree(VERB, parameters, nodes)


def _require_resolvable(neurons: int, voxel: np.ndarray, radii: tuple[float, float]) -> None:
    if max(voxel[1:]) > radii[0]:
        raise NiddlError(
            f"expected voxel_um along y and x of at most the smallest soma radius, {radii[0]:g} µm, "
            f"got {voxel[1]:g} and {voxel[2]:g}: make pixels smaller or raise soma_radius_um="
        )
    if neurons > _MOST_NEURONS:
        raise NiddlError(f"expected at most {_MOST_NEURONS} neurons, which 16-bit labels can name, got {neurons}")


def _require_room(neurons: int, placed: int, field: Field, radii_um: tuple[float, float]) -> None:
    if placed < neurons:
        height, width = field.shape[1:] * field.voxel_um[1:]
        raise NiddlError(
            f"expected room for {neurons} neurons whose centres are {sum(radii_um):g} µm apart or more, got "
            f"{placed} into {height:.3g} x {width:.3g} µm (y, x), z {field.shape[0]}: "
            "lower neurons=, soma_radius_um= or vessels=, or enlarge shape= or voxel_um="
        )


def _motion(frames: int, planes: int, interval_s: float, motion_um: float, rng: np.random.Generator) -> np.ndarray:
    """Return the displacement (t, step, 2) along y and x in µm, at even steps from a frame's start to its end."""
    steps = planes * STEPS_PER_PLANE
    path = tissue.brain_motion(frames * steps + 1, motion_um, _MOTION_TIME_S, interval_s / steps, rng)
    windows = np.lib.stride_tricks.sliding_window_view(path, steps + 1, axis=0)[::steps]
    return np.ascontiguousarray(np.moveaxis(windows, -1, 1))


def _margin(path: np.ndarray, sizes: Sequence[int], voxel: np.ndarray, offset_px: float) -> tuple[int, int]:
    """Return the pixels along y and x that the motion can bring into view on either side."""
    largest = np.abs(path).max(axis=(0, 1)) / voxel[1:] + (0, abs(offset_px))
    if np.any(largest > sizes[1:]):
        raise NiddlError(
            f"expected motion within the field, got one of {np.abs(path).max():.3g} µm across "
            f"{sizes[1] * voxel[1]:.3g} x {sizes[2] * voxel[2]:.3g} µm (y, x): lower motion_um= or enlarge shape="
        )
    return tuple(int(np.ceil(pixels)) + tissue_scene.SPLINE_REACH for pixels in largest)  # type: ignore[return-value]


def _positions(centres: np.ndarray, path: np.ndarray, field: Field) -> np.ndarray:
    """Return where (t, neuron, 3) in µm the neurons are seen, each at the time when its line is scanned."""
    voxel = field.voxel_um
    plane, line = (np.clip(np.rint(centres[:, axis] / voxel[axis]), 0, field.shape[axis] - 1) for axis in (0, 1))
    moved = tissue_scene.at_steps(path, (plane + line / field.shape[1]) * STEPS_PER_PLANE)
    depth = np.clip(centres[:, 0], 0, (field.shape[0] - 1) * voxel[0])
    depths = np.broadcast_to(depth[:, None], (len(path), len(centres), 1))
    return np.concatenate([depths, centres[:, 1:] + moved], axis=-1)


def _brightest_counts(scene: Scene, dff: np.ndarray, level: np.ndarray, camera: Camera) -> float:
    """Return the counts above the offset of the brightest place, of a neuron or of the neuropil."""
    somata = max(
        float(shape.max()) * (1 + float(change))
        for shape, change in zip(scene.footprints, dff.max(axis=0), strict=True)
    )
    return camera.gain * max(somata, float(scene.neuropil.max()) * float(level.max()))


def _render_block(
    path: np.ndarray, dff: np.ndarray, level: np.ndarray, bleach: np.ndarray, *, scene: Scene, offset_px: float
) -> np.ndarray:
    volumes = np.empty((len(path), *scene.field.shape), np.float32)
    for volume, moved, change, glow, left in zip(volumes, path, dff, level, bleach, strict=True):
        volume[:] = scene.photons(1 + change, glow, scene.field.line_shifts(moved, offset_px), float(left))
    return volumes


def _label_block(path: np.ndarray, *, scene: Scene, offset_px: float) -> np.ndarray:
    return np.stack([scene.labels_seen(scene.field.line_shifts(moved, offset_px)) for moved in path])
