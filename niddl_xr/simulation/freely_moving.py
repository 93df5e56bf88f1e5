"""A crawling worm under a tracking microscope: the recording, its behaviour, and everything that is true about both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import _nodes
from niddl_xr.simulation._checks import (
    require_bleaching,
    require_camera,
    require_exposure,
    require_frames_per_chunk,
    require_number,
    require_size,
    require_volume,
)
from niddl_xr.simulation._kernels import crawler, crawler_body, motor_neurons, posture, rendering
from niddl_xr.simulation._lazy import map_frames
from niddl_xr.simulation.camera import Camera
from niddl_xr.simulation.given_activity import given_activity

VERB = "simulate.freely_moving"
NIR_CAMERA = Camera(offset=100.0, gain=2.0, read_noise=4.0, excess_noise=1.0, row_noise=0.0, spurious_charge=0.0)
_LEAST_S = 60.0  # neurons of a shorter recording are made for one of this duration
_FARTHEST_LAG_S = 10.0
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_WORM, _ANATOMY, _LIGHT, _ACTIVITY, _PRIVATE, _OTHER_WORMS, _CAMERA, _NIR = range(32, 40)


@dataclass(frozen=True)
class Cord:
    """The neurons of the ventral cord, all (neuron,)."""

    names: list[str]
    kinds: np.ndarray  # index into motor_neurons.CLASSES
    along: np.ndarray
    across: np.ndarray
    radius_um: np.ndarray
    somata: np.ndarray  # (neuron, 2): variances across and along the body in µm²

    @property
    def classes(self) -> np.ndarray:
        """Return the names of the classes."""
        return np.asarray([motor_neurons.CLASSES[kind] for kind in self.kinds])

    @property
    def signs(self) -> np.ndarray:
        """Return the sign of the curvature that goes with activity."""
        return np.asarray([motor_neurons.SIGNS[kind] for kind in self.kinds])


def freely_moving(
    *,
    shape: Sequence[int] = (1, 640, 640),
    frames: int = 300,
    voxel_um: Sequence[float] = (1.0, 1.6, 1.6),
    rate_hz: float = 10.0,
    neurons: int = 50,
    photons: float = 50.0,
    seed: int = 0,
    camera: Camera | None = None,
    length_um: float = 1000.0,
    amplitude_per_mm: float = 8.0,
    wavelength: float = 0.65,
    frequency_hz: float = 0.35,
    bias_per_mm: float = 0.6,
    omega_turns_per_min: float = 1.0,
    ventral_side: str = "random",
    coupling: float | Sequence[float] = 0.6,
    coupled_fraction: float = 0.5,
    lag_s: float | Sequence[float] = (-0.5, 0.8),
    activity: xr.DataArray | None = None,
    exposure_s: float = 0.01,
    background_photons: float = 0.05,
    stray_photons: float = 0.6,
    haze: float = 0.8,
    autofluorescence: float = 0.5,
    neurites: float = 0.2,
    bleaching: float | Sequence[float] = 0.3,
    bleaching_time_s: float | Sequence[float] = 300.0,
    nir_voxel_um: float = 2.4,
    nir_photons: float = 1000.0,
    frames_per_chunk: int | None = None,
) -> xr.DataTree:
    """Simulate a worm that crawls under a tracking microscope, with its truth.

    The worm undulates forwards and backwards, drifts and makes omega turns; drag on agar turns its bends into motion,
    and a stage keeps it near the middle of the field. Motor neurons lie in its ventral cord. Half of them follow the
    bending next to them with a correlation and a lag that are known, the others do the like without any relation to
    this worm. One channel shows fluorescence, another the body in transmitted infrared light. Frames are rendered
    when they are computed, from random numbers that belong to each alone: any chunking and any order of computing gives
    the same counts, bit for bit. The motion depends on time, not on ``rate_hz`` or ``frames``.

    Parameters
    ----------
    shape
        Sizes (z, y, x) of a frame, z of size 1: the maximum projection of a stack, or one plane. What does not fit is
        cut off at the edge of the field.
    frames
        Number of frames.
    voxel_um
        Size of a voxel along (z, y, x) in µm; 0.8 along y and x is a 20x objective, and 1.6 the same, binned.
    rate_hz
        Frames per second.
    neurons
        Number of cord neurons.
    photons
        Photons detected at the centre of a neuron of median brightness, at rest, standing still, before bleaching.
        Brightness is lognormal over neurons (sigma 0.6).
    seed
        Whole number ≥ 0. The same arguments and seed give the same result.
    camera
        :class:`niddl_xr.simulate.Camera` of the fluorescence, None for the EMCCD of its defaults. For the noise of a
        maximum projection set its ``projected_planes``.
    length_um
        Length of the worm in µm. Its width is in proportion: 64 µm for 1 mm.
    amplitude_per_mm
        Amplitude of the curvature in 1/mm, at two fifths of the body: it is 1.2 times that at the head and 0.7 times
        at the tail, and varies by 12 % in time.
    wavelength
        Of the undulation, in body lengths.
    frequency_hz
        Of the undulation; varies by 15 % in time. In reversals -0.8 times that.
    bias_per_mm
        SD of the curvature that all of the body has in common and that drifts within 20 s, in 1/mm.
    omega_turns_per_min
        Mean number of omega turns a minute, 0 to 2.5: deep bends to the ventral side, of 4 s, after reversals.
    ventral_side
        "right" or "left" of one who walks over the displayed image (y downwards) from head to tail; "random" draws.
    coupling
        Correlation of coupled neurons with curvature (see Notes), above 0 and at most 0.85. A sequence is dealt out
        over the coupled neurons in turn.
    coupled_fraction
        Part of the neurons that follow the bending of the body, 0 to 1.
    lag_s
        By how much activity precedes bending, in s: one number, or a range from which each coupled neuron draws one.
        Within -10 to 10.
    activity
        Traces dF/F (t, neuron) with t in s to show in place of simulated ones. A neuron plays the trace of its own
        name ("DA1", "VB2", …) where there is one; the others draw from the rest. ``coupling``, ``coupled_fraction`` and
        ``lag_s`` then have no effect.
    exposure_s
        Of a frame of fluorescence, in s: moving neurons are spread along their way.
    background_photons
        Photons per voxel that are the same everywhere and do not bleach.
    stray_photons
        Photons per voxel of the light past the sample, in the middle of a vertical band that fades up and down. It does
        not bleach.
    haze
        Out-of-focus light: this times the light of neurons and neurites, convolved with a Gaussian of sigma 4.5 µm.
    autofluorescence
        Glow of the body at its middle, relative to ``photons``.
    neurites
        Light of the bundle of neurites along the cord, relative to ``photons``.
    bleaching, bleaching_time_s
        ``1 - bleaching (1 - exp(-t / bleaching_time_s))`` of the fluorescence is left at time t; ``bleaching`` 0 to 1.
        Several components are given as two sequences.
    nir_voxel_um
        Size of a pixel of the infrared channel, which shows the same field, in µm.
    nir_photons
        Photons per pixel of the infrared channel in the middle of the field, where there is no worm; 12 % fewer in the
        corners.
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
        ``/nir``
            ``F`` (t, z, y, x) of its own y and x, uint16 counts, lazy: the worm is dark on a bright field.
        ``/labels``
            ``labels`` (t, z, y, x), uint16, lazy: 0 background, k inside neuron k (from 1, in the order of ``neuron``),
            the nearer of two; ``body`` (t, z, y, x), bool, lazy: inside the outline.
        ``/tracks``
            ``position`` (t, neuron, space) in µm, float32, of all neurons in all frames, those outside the field
            included; ``observed`` (the centre is inside the field), ``confidence`` (1 where observed, else 0) and
            ``provenance`` ("anchor": known to be right). Coordinate ``radius_um`` (neuron) of the cell.
        ``/traces``
            ``F`` (t, neuron), float32: counts above the background at the neuron's centre, from this neuron alone;
            ``F0`` the same at dF/F 0, bleached and spread by motion; ``dff`` = F / F0 - 1, not negative where
            simulated: F0 is the least a neuron does.
        ``/posture``
            ``centerline`` (t, s, space) in µm of the image, ``curvature`` (t, s) in 1/mm, positive in ventral bends,
            ``length`` (t) in µm, ``quality`` (t, 1) and ``reason`` (t, ""), all known; ``turn`` (t), True in omega
            turns, where the body may cross itself; ``stage`` (t, space) in µm: add it to a place in the image for the
            place on the plate. 100 points s from 0 (head) to 1 (tail); coordinate ``state`` (t); attribute
            ``ventral_side``.

        Tracks and traces have the coordinates ``state`` (t: "forward" or "reversal"), ``class`` (neuron: "DA", "DB",
        "DD", "VA", "VB", "VD"), ``side`` of the muscles that it drives, ``body_position`` (0 head to 1 tail); with
        simulated activity ``curvature_sign`` (+1: more active in ventral bends, -1 in dorsal ones), ``coupled``,
        ``coupling`` (0 where not coupled) and ``lag_s`` (NaN there), with given activity ``trace``, the
        name of the one it plays. There is no other NaN. z of all positions is 0.

    Raises
    ------
    NiddlError
        For sizes, rates and parts that cannot be, several planes, a coupling or lag out of range, an exposure longer
        than a frame, and traces that do not fit.

    Warns
    -----
    UserWarning
        Where the brightest neuron exceeds 16 bits, so that the camera clips it.

    Notes
    -----
    *Posture.* kappa(s, t) = A(t) (1.2 - 0.5 s) sin 2 pi (s / wavelength - integral of f) + bias(t); the centreline is
    its integral. Where the body turns right from head to tail on the displayed image (y downwards), x' y'' - y' x'' is
    positive; kappa is that if the ventral side is the right, minus that if it is the left. Motion follows from
    resistive-force theory (Gray & Hancock, J. Exp. Biol. 32:802, 1955): no total force and no total torque, the drag
    across the body 30 times that along it. Shen et al. (arXiv:1112.1118) find 10 on agar; no slip is infinite. The
    result is 0.16 mm/s forwards and 0.12 backwards (medians of 300 s). Runs and reversals last 18 s and 6 s on
    average. The sizes and durations of fluctuations, the turns and the shape of the body were chosen by eye.

    *Coupling.* A neuron at s that precedes bending by lag is driven by gate(t) [sign kappa(s, t + lag)]+, where gate is
    1 in the state of its class (A reversal, B forward, D both) and 0.3 else, and sign is +1 for VA, VB and DD, -1 for
    DA, DB and VD: DD and VD relax the muscles of their side. ``coupling`` is the strongest Pearson correlation of dF/F
    with sign kappa(s, t + l) within 2 s, over the recording or the first minute, whichever is longer. The indicator
    (rise 0.2 s, decay 1.2 s) delays it: it is found at l = lag less about 0.7 s (at 0.35 Hz); if kappa passes the
    indicator too, at l = lag. Private noise (Ornstein-Uhlenbeck, 1.5 s, through the indicator) makes the coupling
    exact: it is orthogonal to drive, bend and rate of bend. A coupling above what rectification and gate leave room for
    makes the neuron less rectified.

    *No coupling.* The other neurons follow, with the same rules, the bends and states of worms of their own, which are
    drawn from the same distributions and never shown: the same spectrum, amplitude and gates, and no relation to this
    worm. A linear-shift test at 5 % calls 6 % of them coupled (300 neurons in 30 recordings of 300 s).

    *Light.* By default the glow of the body, the cord and its 14 brightest neurons stand to one another about as in the
    ventral cords that the NIDDL authors publish: 27 counts above the background, 37 and 120 above the body (medians;
    body and cord of 2 images, neurons of 14). Values are at pixel centres; neurons are spread by the microscope
    (sigma 1 µm), a pixel and their way within the exposure. They lie at 0.8 of the radius on the ventral side, in
    clusters with gaps between, not where an atlas has them.

    Examples
    --------
    >>> truth = freely_moving(shape=(1, 64, 80), voxel_um=(1, 12, 12), frames=5, neurons=6, seed=1)
    >>> dict(truth["recording"]["F"].sizes), str(truth["recording"]["F"].dtype)
    ({'t': 5, 'z': 1, 'y': 64, 'x': 80}, 'uint16')
    >>> truth["traces"]["coupled"].values.sum(), truth["posture"]["curvature"].dims
    (np.int64(3), ('t', 's'))
    """
    parameters = {name: value for name, value in locals().items() if name != "frames_per_chunk"}
    sizes, voxel = require_volume(shape, voxel_um)
    if sizes[0] != 1:
        raise NiddlError(f"expected a shape (1, y, x) of one plane, got {sizes}: see simulate.whole_brain for volumes")
    frames, seed = require_size("frames", frames, 1), require_size("seed", seed, 0)
    neurons = require_size("neurons", neurons, 1)
    interval_s = 1 / require_number("rate_hz", rate_hz, above=True)
    positive = ("photons", "length_um", "amplitude_per_mm", "wavelength", "frequency_hz", "nir_voxel_um", "nir_photons")
    for name in positive:
        require_number(name, parameters[name], above=True)
    for name in ("bias_per_mm", "background_photons", "stray_photons", "haze", "autofluorescence", "neurites"):
        require_number(name, parameters[name])
    require_number("coupled_fraction", coupled_fraction, most=1.0)
    require_number("omega_turns_per_min", omega_turns_per_min, most=posture.MOST_TURNS_PER_MIN)
    require_exposure(exposure_s, interval_s)
    couplings, lags = _require_couplings(coupling), _require_lags(lag_s)
    camera = require_camera(camera)
    frames_per_chunk = require_frames_per_chunk(frames_per_chunk, sizes)
    times_s = np.arange(frames) * interval_s
    bleach = require_bleaching("bleaching", bleaching, bleaching_time_s, times_s)

    end_s = max(float(times_s[-1]), _LEAST_S)
    bending = posture.Bending(amplitude_per_mm, wavelength, frequency_hz, bias_per_mm, omega_turns_per_min)
    rng = np.random.default_rng([seed, _WORM])
    side = _draw_side(ventral_side, rng)
    gait = posture.draw_gait(end_s, bending, rng)
    worm = posture.crawl(gait, length_um, side, rng.uniform(0, 2 * np.pi))
    cord = _draw_cord(neurons, side, np.random.default_rng([seed, _ANATOMY]))
    coords: dict[str, Any] = {
        "class": ("neuron", cord.classes),
        "side": ("neuron", np.where(np.char.startswith(cord.classes, "V"), "ventral", "dorsal")),
        "body_position": ("neuron", cord.along),
    }
    if activity is None:
        chosen = _draw_couplings(neurons, couplings, coupled_fraction, lags, np.random.default_rng([seed, _ACTIVITY]))
        dff = _simulated_activity(cord, gait, bending, times_s, end_s, chosen, seed)
        coords |= {"curvature_sign": ("neuron", cord.signs)} | {
            name: ("neuron", chosen[name].values) for name in ("coupled", "coupling", "lag_s")
        }
    else:
        dff, played = given_activity(activity, times_s, cord.names, np.random.default_rng([seed, _ACTIVITY]))
        coords["trace"] = ("neuron", played)

    middle = (np.asarray(sizes[1:]) - 1) * voxel[1:] / 2
    light = np.random.default_rng([seed, _LIGHT])
    brightness = light.lognormal(0.0, 0.6, neurons)
    scene = crawler.draw_scene(
        sizes,
        voxel,
        length_um,
        side,
        cord.somata,
        glow_photons=autofluorescence * photons,
        neurite_photons=neurites * photons,
        haze=haze,
        constant_photons=background_photons + stray_photons * rendering.stray_light(sizes[1:]),
        nir_voxel_um=nir_voxel_um,
        nir_photons=nir_photons,
        rng=light,
    )
    line = _ways(worm, cord, middle, times_s, exposure_s)
    points, angles, cells, directions, ways = line
    still, moving = (np.linalg.det(spread) for spread in (scene.still(directions), scene.seen(directions, ways)))
    rest_photons = photons * brightness * bleach[:, None] * np.sqrt(still / moving)
    resting = (camera.gain * rest_photons).astype(np.float32)
    _nodes.warn_if_clipped(float((resting * (1 + dff)).max()), camera)

    described: dict[str, Any] = {"t_s": times_s, "frames_per_chunk": frames_per_chunk, "seed": seed}
    source = {"source": f"niddl_xr.{VERB}"}
    recording, clean = _nodes.exposures(
        map_frames(scene.photons, [*line, rest_photons * (1 + dff), bleach], sizes, np.float32, frames_per_chunk),
        camera,
        voxel_um=voxel.tolist(),
        stream=_CAMERA,
        attrs={**source, "photons": float(photons), "exposure_s": float(exposure_s)},
        **described,
    )
    nir, _ = _nodes.exposures(
        map_frames(scene.transmitted, [points, angles], (1, *scene.nir_photons.shape), np.float32, frames_per_chunk),
        NIR_CAMERA,
        voxel_um=[float(voxel[0]), nir_voxel_um, nir_voxel_um],
        stream=_NIR,
        attrs={**source, "channel": "near infrared, transmitted"},
        **described,
    )
    numbers = map_frames(scene.labels, [cells, directions], sizes, np.uint16, frames_per_chunk)
    labels = recording.copy(data=numbers).drop_attrs(deep=False)
    mask = labels.copy(data=map_frames(scene.mask, [points, angles], sizes, np.bool_, frames_per_chunk))
    state = ("t", np.where(np.interp(times_s, gait.time_s, gait.reversing) > 0.5, "reversal", "forward"))
    coords |= {"t": recording["t"], "neuron": cord.names, "state": state}
    positions = crawler.in_space(cells)
    nodes: dict[str, xr.DataArray | xr.Dataset] = {
        "recording": recording,
        "clean": clean,
        "nir": nir,
        "labels": xr.Dataset({"labels": labels, "body": mask}),
        "tracks": _nodes.tracks(positions, _nodes.inside(positions, sizes, voxel), coords, cord.radius_um),
        "traces": _nodes.traces(resting, dff, coords),
        "posture": _posture(worm, points, times_s).assign_coords(t=recording["t"], state=state),
    }
    return _nodes.tree(VERB, parameters, nodes)


def _require_couplings(coupling: float | Sequence[float]) -> list[float]:
    values = np.atleast_1d(np.asarray(coupling, dtype=float)).ravel().tolist()
    if not values:
        raise NiddlError("expected coupling as one number or more, got an empty sequence")
    return [require_number("coupling", value, most=motor_neurons.LARGEST_COUPLING, above=True) for value in values]


def _require_lags(lag_s: float | Sequence[float]) -> tuple[float, float]:
    ends = np.atleast_1d(np.asarray(lag_s, dtype=float)).ravel().tolist()
    if len(ends) not in (1, 2) or not -_FARTHEST_LAG_S <= ends[0] <= ends[-1] <= _FARTHEST_LAG_S:
        raise NiddlError(
            "expected lag_s as one number or a range (smallest, largest) in s, "
            f"within -{_FARTHEST_LAG_S:g} to {_FARTHEST_LAG_S:g}, got {lag_s!r}"
        )
    return ends[0], ends[-1]


def _draw_side(ventral_side: str, rng: np.random.Generator) -> int:
    sides = {"right": 1, "left": -1, "random": int(rng.choice([-1, 1]))}
    if ventral_side not in sides:
        raise NiddlError(f'expected ventral_side as "left", "right" or "random", got {ventral_side!r}')
    return sides[ventral_side]


def _draw_cord(count: int, side: int, rng: np.random.Generator) -> Cord:
    names, kinds, along = motor_neurons.motor_neurons(count, rng)
    across = side * crawler.CORD_OFFSET * (1 + rng.normal(0, 0.04, count))
    return Cord(names, kinds, along, across, *crawler.draw_somata(count, rng))


def _draw_couplings(
    count: int, couplings: Sequence[float], fraction: float, lags: tuple[float, float], rng: np.random.Generator
) -> xr.Dataset:
    """Return for each neuron whether it is coupled, how strongly (0 where not), with which lag (NaN where not).

    ``follows`` and ``leads_s`` are the like for all neurons, also those that follow another worm.
    """
    order = rng.permutation(count)
    coupled = np.zeros(count, bool)
    coupled[order[: round(fraction * count)]] = True
    follows = np.empty(count)
    follows[order] = np.resize(couplings, count)
    leads_s = rng.uniform(*lags, count)
    return xr.Dataset(
        {
            "follows": ("neuron", follows),
            "leads_s": ("neuron", leads_s),
            "coupled": ("neuron", coupled),
            "coupling": ("neuron", np.where(coupled, follows, 0.0)),
            "lag_s": ("neuron", np.where(coupled, leads_s, np.nan)),
            "amplitude": ("neuron", rng.lognormal(-0.08, 0.4, count)),  # mean 1
        }
    )


def _simulated_activity(
    cord: Cord,
    gait: posture.Gait,
    bending: posture.Bending,
    times_s: np.ndarray,
    end_s: float,
    chosen: xr.Dataset,
    seed: int,
) -> np.ndarray:
    """Return dF/F (t, neuron), float32, 0 where a neuron does least and its amplitude at the 95 % quantile."""
    dff = np.empty((times_s.size, len(cord.names)), np.float32)
    recorded = slice(*np.searchsorted(gait.time_s, [-posture.STEP_S / 2, end_s + posture.STEP_S / 2]))
    for neuron, letters in enumerate(cord.classes):
        leader = gait
        if not chosen["coupled"].values[neuron]:
            leader = posture.draw_gait(end_s, bending, np.random.default_rng([seed, _OTHER_WORMS, neuron]))
        bend_s = leader.time_s + chosen["leads_s"].values[neuron]
        bend = cord.signs[neuron] * leader.curvature(cord.along[neuron], bend_s)
        response = motor_neurons.follow(
            bend,
            motor_neurons.gate(letters[1], leader.reversing),
            float(chosen["follows"].values[neuron]),
            recorded,
            np.random.default_rng([seed, _PRIVATE, neuron]),
        )
        least, usual = np.quantile(response[recorded], [0.0, 0.95])
        shown = np.interp(times_s, leader.time_s, (response - least) / (usual - least))
        dff[:, neuron] = chosen["amplitude"].values[neuron] * np.maximum(shown, 0)
    return dff


def _ways(
    worm: posture.Crawl, cord: Cord, middle: np.ndarray, times_s: np.ndarray, exposure_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return of the centreline points (t, s, 2) and angles (t, s); of cells positions, directions and ways.

    Positions and ways within the exposure are (t, neuron, 2) in µm, directions (t, neuron).
    """

    def at(moments_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        points, angles = worm.centerline(moments_s)
        points += middle
        return points, angles, *crawler_body.on_body(points, angles, cord.along, cord.across, worm.length_um)

    points, angles, cells, directions = at(times_s)
    ways = at(times_s + exposure_s / 2)[2] - at(times_s - exposure_s / 2)[2]
    return points, angles, cells, directions, ways


def _posture(worm: posture.Crawl, points: np.ndarray, times_s: np.ndarray) -> xr.Dataset:
    along = np.linspace(0, 1, posture.POINTS)
    frames = times_s.size
    curvature = worm.gait.curvature(along, times_s).astype(np.float32)
    bends = {"units": "1/mm", "long_name": "curvature, positive in ventral bends"}
    return xr.Dataset(
        {
            "centerline": (("t", "s", "space"), crawler.in_space(points).astype(np.float32), {"units": "µm"}),
            "curvature": (("t", "s"), curvature, bends),
            "length": ("t", np.full(frames, worm.length_um, np.float32), {"units": "µm"}),
            "quality": ("t", np.ones(frames, np.float32)),
            "reason": ("t", np.full(frames, "")),
            "turn": ("t", ~np.isnan(worm.gait.turn_progress(times_s)), {"long_name": "omega turn"}),
            "stage": (
                ("t", "space"),
                crawler.in_space(worm.stage(times_s)).astype(np.float32),
                {"units": "µm", "long_name": "place on the plate less place in the image"},
            ),
        },
        coords={
            "s": ("s", along, {"long_name": "place along the body, 0 head to 1 tail"}),
            "space": list(schema.SPACE_DIMS),
        },
        attrs={
            "ventral_side": "right" if worm.side > 0 else "left",
            "ventral_side_meaning": "of one who walks over the displayed image, y downwards, from head to tail",
        },
    )
