"""A worm's head full of neurons, recorded as volumes: recording, clean recording, labels, tracks and traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr.neurons import neuron_names
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import _nodes
from niddl_xr.simulation._checks import (
    require_bleaching,
    require_camera,
    require_exposure,
    require_frames_per_chunk,
    require_motion,
    require_number,
    require_size,
    require_volume,
)
from niddl_xr.simulation._kernels import activity as activities
from niddl_xr.simulation._kernels import geometry, rendering
from niddl_xr.simulation._kernels.motion import Motion, moved
from niddl_xr.simulation._kernels.scene import Scene, apparent
from niddl_xr.simulation._lazy import map_frames
from niddl_xr.simulation.atlas import Positions, positions_in_field, positions_of
from niddl_xr.simulation.camera import Camera
from niddl_xr.simulation.given_activity import given_activity

VERB = "simulate.whole_brain"
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_GEOMETRY, _ACTIVITY, _MOTION, _CAMERA, _RED, _RED_CAMERA = range(6)
_LARGEST_TILT = np.deg2rad(25.0)
_BODY_SOURCES = 24
_PAIR_SHARE = 0.65  # of the neurons of a head, two in three have a left and a right half
_NEURONS = 120


def whole_brain(
    *,
    shape: Sequence[int] = (30, 128, 128),
    frames: int = 100,
    voxel_um: Sequence[float] = (1.0, 0.4, 0.4),
    rate_hz: float = 4.0,
    neurons: int | None = None,
    photons: float = 50.0,
    seed: int = 0,
    camera: Camera | None = None,
    motion: str | Motion = "fixed",
    positions: Positions | None = None,
    activity: xr.DataArray | None = None,
    active_fraction: float = 0.6,
    min_distance_um: float = 3.2,
    background_photons: float = 0.05,
    stray_photons: float = 0.6,
    haze: float = 1.5,
    autofluorescence: float = 0.1,
    bleaching: float | Sequence[float] = 0.3,
    bleaching_time_s: float | Sequence[float] = 300.0,
    red_photons: float | None = None,
    red_bleaching: float | Sequence[float] = 0.1,
    red_bleaching_time_s: float | Sequence[float] = 600.0,
    plane_delay_s: float = 0.0,
    exposure_s: float = 0.01,
    frames_per_chunk: int | None = None,
) -> xr.DataTree:
    """Simulate a whole-brain recording of a worm, held or moving, with its truth.

    Nuclei are 3-D Gaussians of random size and direction in a tapered head, no two nearer than ``min_distance_um``,
    most with a partner on the other side. They share the command states of the worm (forward, reversal, turn) and
    flicker on their own, seen through a calcium indicator. The head moves and deforms. Out-of-focus haze, the glow of
    the body, light past the sample, bleaching and a camera with stripes come on top. A frame is rendered when it is
    computed, from random numbers that belong to it alone: any chunking and any order of computing gives the same
    counts, bit for bit.

    Parameters
    ----------
    shape
        Sizes (z, y, x) of a frame; z of size 1 is a plane movie, all neurons in that plane. Where the field is
        smaller than a head (26 x 44 x 110 µm), the head is made smaller.
    frames
        Number of frames (volumes).
    voxel_um
        Size of a voxel along (z, y, x) in µm.
    rate_hz
        Frames per second.
    neurons
        Number of nuclei; None for 120, or for all of ``positions`` that lie in the field.
    photons
        Photons detected at the centre voxel of a neuron of median brightness, at rest, before bleaching. Brightness is
        lognormal over neurons (sigma 0.6).
    seed
        Whole number ≥ 0. The same arguments and seed give the same result.
    camera
        :class:`niddl_xr.simulate.Camera`, such as :func:`niddl_xr.simulate.noise.fit` finds for a real recording;
        None for the EMCCD of its defaults.
    motion
        "fixed" (0.3 µm), "semi" (2 µm; the worm is held), "free" (10 µm and 10° within a second) or "hard" (as free,
        with bending, rolling, rests and bursts, as hard to follow as real freely moving worms), or a
        :class:`niddl_xr.simulate.Motion`.
    positions
        Where real neurons lie, x along the body, z the direction of view: the path of a text file that
        :func:`niddl_xr.simulate.read_atlas` reads, a table with columns z, y, x in µm and the names as index or
        column, a DataArray (neuron, space) or an array (neuron, 3). They are centred in the field along z and y, and
        begin at its left edge; those outside the field are left out. None for a random head.
    activity
        dF/F of real neurons, DataArray (t, neuron), t in s, to play in place of simulated activity. A neuron plays the
        trace of its own name; the others draw one. Z-scored traces have to be scaled first, so that none falls below
        -1: ``(0.2 * traces).clip(min=-0.9)``.
    active_fraction
        Part of the neurons that follow the command states, 0 to 1; without effect where ``activity`` is given.
    min_distance_um
        Hard-core distance between the centres of two nuclei of a random head.
    background_photons
        Photons per voxel that are the same everywhere and do not bleach.
    stray_photons
        Photons per voxel of the light past the sample, in the middle of a vertical band that fades up and down. It does
        not bleach.
    haze
        Out-of-focus light: this times the signal convolved with a Gaussian of sigma (4, 8, 8) µm and integral 1, and
        0.3 of this times the signal convolved with one of sigma (4, 2.2, 2.2) µm.
    autofluorescence
        Glow of the body, in broad patches: a single one has up to this times ``photons`` in its middle; where they
        overlap it is about half as much again.
    bleaching, bleaching_time_s
        ``1 - bleaching (1 - exp(-t / bleaching_time_s))`` of the fluorescence is left at time t; ``bleaching`` 0 to 1.
        Two numbers each for two components.
    red_photons, red_bleaching, red_bleaching_time_s
        The same for a second colour that does not follow activity (a red protein in the same nuclei, of other
        brightness, lognormal too), taken by the same camera; None for no second colour.
    plane_delay_s
        Time from one plane of a volume to the next, so that a moving head is sheared; in the time of a volume it moves
        straight on. 0: a volume is an instant.
    exposure_s
        Exposure of a plane: nuclei are smeared along their way by their velocity times this, and are the dimmer at
        their centres.
    frames_per_chunk
        Frames that dask holds as one block; None for blocks of about 16 MiB. It changes no value.

    Returns
    -------
    xarray.DataTree
        With the nodes

        ``/recording``
            ``F`` (t, z, y, x), uint16 counts, lazy; attrs state offset, gain, read noise, excess noise and seed.
        ``/clean``
            ``F`` (t, z, y, x), float32, lazy: the expected counts, offset included, neither rounded nor clipped.
        ``/red``
            As ``/recording``, where ``red_photons`` is given.
        ``/labels``
            ``labels`` (t, z, y, x), uint16, lazy: k + 1 inside the nucleus of neuron k, as it is before the
            microscope blurs it, 0 outside; where two overlap, the nearer one has the voxel.
        ``/tracks``
            ``position`` (t, neuron, space) in µm, float32, of all neurons in all frames, those outside the field
            included: where a neuron appears in the volume, scan included. ``observed`` (the centre is inside the
            field), ``confidence`` (1 where observed, else 0) and ``provenance`` ("anchor": known to be right).
            Coordinate ``radius_um`` (neuron).
        ``/traces``
            ``F`` (t, neuron), float32: counts above the background at the neuron's centre, from this neuron alone, were
            it not smeared in the exposure;
            ``F0`` the same at rest, bleached; ``dff`` = F / F0 - 1, never under -0.5; with a second colour ``red``,
            its counts at the centre. Coordinates ``group`` (neuron) and ``state`` (t: "forward" or "reversal"), or
            ``trace`` (neuron), the name of the trace of ``activity`` that it plays; ``partner`` (neuron), the name of
            the neuron on the other side, or "".

        There is no NaN in any of them.

    Raises
    ------
    NiddlError
        For arguments of another kind or outside their range, where the head has no room for the neurons, for a scan
        that takes longer than a frame, and for positions or activity that do not fit.
    FileNotFoundError
        If ``positions`` is a path without a file.

    Warns
    -----
    UserWarning
        Where the brightest neuron of a colour exceeds 16 bits, so that the camera clips it.

    Notes
    -----
    Follows the semi-synthetic videos of Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022), which have Poisson and
    Gaussian noise alone, and adds what their real images have and those lack: offset, stripes, excess noise, haze,
    light past the sample, motion and bleaching. Values are at voxel centres, not integrals over voxels. Nuclei keep
    their shape when the head deforms.

    Examples
    --------
    >>> truth = whole_brain(shape=(3, 40, 64), frames=5, neurons=6, seed=1, motion="semi")
    >>> truth["recording"]["F"].sizes["t"], str(truth["recording"]["F"].dtype)
    (5, 'uint16')
    >>> truth["traces"]["dff"].dims
    ('t', 'neuron')
    """
    parameters = {name: value for name, value in locals().items() if name != "frames_per_chunk"}
    sizes, voxel = require_volume(shape, voxel_um)
    frames, seed = require_size("frames", frames, 1), require_size("seed", seed, 0)
    neurons = None if neurons is None else require_size("neurons", neurons, 1)
    interval_s = 1 / require_number("rate_hz", rate_hz, above=True)
    require_number("photons", photons, above=True)
    require_number("active_fraction", active_fraction, most=1.0)
    for name in ("background_photons", "stray_photons", "haze", "autofluorescence", "min_distance_um"):
        require_number(name, parameters[name])
    _require_scan(plane_delay_s, sizes[0], interval_s)
    require_exposure(exposure_s, interval_s)
    preset = require_motion(motion, frames * interval_s)
    camera = require_camera(camera)
    frames_per_chunk = require_frames_per_chunk(frames_per_chunk, sizes)
    times_s = np.arange(frames) * interval_s
    bleach = require_bleaching("bleaching", bleaching, bleaching_time_s, times_s)
    red_bleach = require_bleaching("red_bleaching", red_bleaching, red_bleaching_time_s, times_s)
    if red_photons is not None:
        require_number("red_photons", red_photons, above=True)

    rng = np.random.default_rng([seed, _GEOMETRY])
    field = (np.asarray(sizes) - 1) * voxel
    head = geometry.head_within(field, rng, _LARGEST_TILT)
    if positions is None:
        rest, partners = _random_positions(head, field, neurons or _NEURONS, min_distance_um, rng)
        names = neuron_names(len(rest))
    else:
        rest, names = positions_in_field(positions_of(positions), field, neurons, rng)
        partners = geometry.partners_by_name(names)
    body = head.place(rng.uniform(0.2, 2.2, _BODY_SOURCES), *rng.uniform(-0.8, 0.8, (2, _BODY_SOURCES)))
    scene = Scene(
        shape=sizes,
        voxel_um=voxel,
        nuclei=rendering.nucleus_covariances(len(rest), rng),
        psf_sigma_um=np.asarray(rendering.PSF_SIGMA_UM),
        rest_photons=photons * rng.lognormal(0.0, 0.6, len(rest)),
        haze=haze,
        body_photons=autofluorescence * photons * rng.uniform(0.2, 1.0, _BODY_SOURCES),
        stray_photons=background_photons + stray_photons * rendering.stray_light(sizes[1:]),
        plane_delay_s=plane_delay_s,
        exposure_s=exposure_s,
    )

    partner_names = np.where(partners >= 0, np.asarray(names)[partners], "")
    coords: dict[str, Any] = {"t": times_s, "neuron": names, "partner": ("neuron", partner_names)}
    activity_rng = np.random.default_rng([seed, _ACTIVITY])
    if activity is None:
        dff, group, reversing = activities.neuron_activity(frames, interval_s, active_fraction, partners, activity_rng)
        coords["group"] = ("neuron", np.asarray(activities.GROUPS)[group])
        coords["state"] = ("t", np.where(reversing, "reversal", "forward"))
    else:
        dff, played = given_activity(activity, times_s, names, activity_rng)
        coords["trace"] = ("neuron", played)
    points, velocities = _ways(np.concatenate([rest, body]), head, preset, times_s, scene, seed)
    resting = (camera.gain * scene.rest_photons * bleach[:, None]).astype(np.float32)
    _nodes.warn_if_clipped(float((resting * (1 + dff)).max()), camera)

    def rendered(scene: Scene, brightness: np.ndarray, bleach: np.ndarray) -> Any:
        arrays = [points, velocities, brightness, bleach]
        return map_frames(scene.photons, arrays, sizes, np.float32, frames_per_chunk)

    described: dict[str, Any] = {
        "voxel_um": voxel.tolist(),
        "t_s": times_s,
        "frames_per_chunk": frames_per_chunk,
        "seed": seed,
    }
    attrs = {"source": f"niddl_xr.{VERB}", "photons": float(photons)}
    recording, clean = _nodes.exposures(
        rendered(scene, 1 + dff, bleach), camera, stream=_CAMERA, attrs=attrs, **described
    )
    labels = map_frames(scene.labels, [points, velocities], sizes, np.uint16, frames_per_chunk)
    coords["t"] = recording["t"]
    tracked = points[:, : len(rest)]
    radius_um = rendering.radii(scene.nuclei)
    nodes: dict[str, xr.DataArray | xr.Dataset] = {
        "recording": recording,
        "clean": clean,
        "labels": recording.copy(data=labels).rename("labels").assign_attrs(units="1"),
        "tracks": _nodes.tracks(tracked, _nodes.inside(tracked, sizes, voxel), coords, radius_um),
        "traces": _nodes.traces(resting, dff, coords),
    }
    if red_photons is not None:
        peaks = red_photons * np.random.default_rng([seed, _RED]).lognormal(0.0, 0.6, len(rest))
        light = rendered(replace(scene, rest_photons=peaks), np.ones_like(dff), red_bleach)
        attrs["photons"] = float(red_photons)
        nodes["red"], _ = _nodes.exposures(light, camera, stream=_RED_CAMERA, attrs=attrs, **described)
        counts = (camera.gain * peaks * red_bleach[:, None]).astype(np.float32)
        _nodes.warn_if_clipped(float(counts.max()), camera)
        nodes["traces"]["red"] = (("t", "neuron"), counts, {"units": "counts"})
    return _nodes.tree(VERB, parameters, nodes)


def _require_scan(plane_delay_s: float, planes: int, interval_s: float) -> None:
    require_number("plane_delay_s", plane_delay_s)
    if plane_delay_s * planes > interval_s * (1 + 1e-9):
        raise NiddlError(
            f"expected {planes} planes to be taken within a frame of {interval_s:.4g} s, got plane_delay_s="
            f"{plane_delay_s:g}, which takes {plane_delay_s * planes:.4g} s: lower it, or rate_hz="
        )


def _random_positions(
    head: geometry.Head, field: np.ndarray, neurons: int, distance_um: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (neuron, 3) in µm and the index of each one's partner, or -1."""
    margin = np.minimum(1.5, 0.05 * field)

    def inside(points: np.ndarray) -> np.ndarray:
        return np.asarray(np.all((points >= margin) & (points <= field - margin), axis=1))

    def propose(count: int) -> np.ndarray:
        points = geometry.points_in_head(head, count, rng)
        return np.asarray(points[inside(points)])

    def mirror(points: np.ndarray) -> np.ndarray:
        images = geometry.other_side(head, points, rng)
        images[~inside(images)] = np.nan  # no room there
        return images

    points, partners = geometry.paired_points(propose, mirror, neurons, distance_um, _PAIR_SHARE, rng)
    if len(points) < neurons:
        raise NiddlError(
            f"expected room for {neurons} neurons at least {distance_um:g} µm apart, got {len(points)} into a head of "
            f"{2 * head.half_depth:.3g} x {2 * head.half_height:.3g} x {head.length:.3g} µm (z, y, x): "
            "lower neurons= or min_distance_um=, or enlarge shape= or voxel_um="
        )
    return points, partners


def _ways(
    points: np.ndarray, head: geometry.Head, motion: Motion, times_s: np.ndarray, scene: Scene, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return where points (n, 3) appear in each frame, and their velocities in µm/s, both (t, n, 3) float32."""
    # Velocities are means over the scan of a volume, or over the exposure where all planes are taken at once.
    span_s = max(scene.plane_delay_s * scene.shape[0], scene.exposure_s)
    looked_at = np.stack([times_s, times_s + span_s], axis=1).ravel() if span_s else times_s
    rng = np.random.default_rng([seed, _MOTION])
    ways = moved(points, head, motion, looked_at, flat=scene.shape[0] == 1, rng=rng)
    if not span_s:
        return ways, np.zeros((len(times_s), 1, 3), np.float32)
    velocities = (ways[1::2] - ways[0::2]) / np.float32(span_s)
    return apparent(ways[0::2], velocities, scene.plane_delay_s, float(scene.voxel_um[0])), velocities
