"""A worm's head whose neurons flicker: the recording, and everything that is true about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from warnings import warn

import numpy as np
import xarray as xr

from niddl_xr.chunking import CHUNK_BYTES, frames_within
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import _nodes
from niddl_xr.simulation._checks import require_number, require_size, require_volume
from niddl_xr.simulation._kernels import activity, geometry, rendering
from niddl_xr.simulation._kernels.activity import GROUPS
from niddl_xr.simulation._lazy import map_blocks
from niddl_xr.simulation.noise import LARGEST_COUNT, Camera

VERB = "simulate.whole_brain"
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_GEOMETRY, _ACTIVITY, _MOTION, _CAMERA = range(4)
_MOTION_TIME_S = 2.0
_LARGEST_TILT = np.deg2rad(25.0)
_BODY_SOURCES = 24


@dataclass(frozen=True)
class Scene:
    """What stands still: shapes of the neurons and of the haze, the body's own light, the light past the sample."""

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    covariances: np.ndarray  # (neuron, 3, 3) in µm²
    rest_photons: np.ndarray  # (neuron,) at a neuron's centre
    haze: float
    body_centres: np.ndarray  # (source, 3) in µm
    body_photons: np.ndarray  # (source,)
    stray_photons: np.ndarray  # (y, x)

    def photons(self, positions: np.ndarray, drift: np.ndarray, brightness: np.ndarray, bleach: float) -> np.ndarray:
        """Return the photons (z, y, x), float32, that are expected from one frame.

        ``positions`` (neuron, 3) and ``drift`` (3,) in µm; ``brightness`` (neuron,) relative to rest; ``bleach`` is
        the part of the fluorophores that still shines.
        """
        peaks = self.rest_photons * brightness * bleach
        sigmas, haze_peaks = rendering.haze_of(self.covariances, peaks, self.haze)
        broad = np.concatenate([positions, self.body_centres + drift])
        spread = np.concatenate([sigmas, np.full((len(self.body_photons), 3), (6.0, 7.0, 9.0))])
        shine = np.concatenate([haze_peaks, self.body_photons * bleach])
        volume = rendering.broad_gaussians(self.shape, broad, spread, shine, self.voxel_um)
        volume += self.stray_photons
        rendering.add_gaussians(volume, positions, self.covariances, peaks, self.voxel_um)
        return volume


def whole_brain(
    *,
    shape: Sequence[int] = (30, 128, 128),
    frames: int = 100,
    voxel_um: Sequence[float] = (1.0, 0.4, 0.4),
    rate_hz: float = 4.0,
    neurons: int = 120,
    photons: float = 50.0,
    seed: int = 0,
    camera: Camera | None = None,
    background_photons: float = 0.05,
    stray_photons: float = 0.6,
    haze: float = 2.5,
    autofluorescence: float = 0.1,
    bleaching: float = 0.3,
    bleaching_time_s: float = 300.0,
    active_fraction: float = 0.6,
    min_distance_um: float = 2.8,
    motion_um: float = 0.3,
    frames_per_chunk: int | None = None,
) -> xr.DataTree:
    """Simulate a whole-brain recording of a held worm, with its truth.

    Nuclei are 3-D Gaussians of random size and direction in a tapered head, no two nearer than
    ``min_distance_um``. They share the command states of the worm (forward, reversal, turn) and flicker on their own,
    seen through a calcium indicator. Out-of-focus haze, the glow of the body, light past the sample, bleaching and a
    camera with stripes come on top. A frame is rendered when it is computed, from random numbers that belong to
    it alone: any chunking and any order of computing gives the same counts, bit for bit.

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
        Number of nuclei.
    photons
        Photons detected at the centre voxel of a neuron of median brightness, at rest, before bleaching. Brightness is
        lognormal over neurons (sigma 0.6).
    seed
        Whole number ≥ 0. The same arguments and seed give the same result.
    camera
        :class:`niddl_xr.simulate.Camera`, such as :func:`niddl_xr.simulate.noise.fit` finds for a real recording;
        None for the EMCCD of its defaults.
    background_photons
        Photons per voxel that are the same everywhere and do not bleach.
    stray_photons
        Photons per voxel of the light past the sample, at the brightest: a vertical band, and a broad rise to 0.4 of
        that. It does not bleach.
    haze
        Out-of-focus light: this times the signal convolved with a Gaussian of sigma (4, 8, 8) µm and integral 1.
    autofluorescence
        Glow of the body at its brightest patches, relative to ``photons``.
    bleaching, bleaching_time_s
        ``1 - bleaching (1 - exp(-t / bleaching_time_s))`` of the fluorescence is left at time t; ``bleaching`` 0 to 1.
    active_fraction
        Part of the neurons that follow the command states, 0 to 1.
    min_distance_um
        Hard-core distance between the centres of two nuclei.
    motion_um
        RMS per axis of the drift of the whole head (Ornstein-Uhlenbeck, 2 s); along z none in a plane movie.
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
        ``/tracks``
            ``position`` (t, neuron, space) in µm, float32, of all neurons in all frames, those outside the field
            included; ``observed`` (the centre is inside the field), ``confidence`` (1 where observed, else 0) and
            ``provenance`` ("anchor": known to be right).
        ``/traces``
            ``F`` (t, neuron), float32: counts above the background at the neuron's centre, from this neuron alone;
            ``F0`` the same at rest, bleached; ``dff`` = F / F0 - 1, never under -0.5. Coordinates ``group`` (neuron)
            and ``state`` (t: "forward" or "reversal").

        There is no NaN in any of them.

    Raises
    ------
    NiddlError
        For sizes or rates that are no positive numbers, and where the head has no room for the neurons.

    Warns
    -----
    UserWarning
        Where the brightest neuron exceeds 16 bits, so that the camera clips it.

    Notes
    -----
    Follows the semi-synthetic videos of Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022), which have Poisson and
    Gaussian noise alone, and adds what their real images have and those lack: offset, stripes, excess noise, haze,
    light past the sample, motion and bleaching. Values are at voxel centres, not integrals over voxels. A frame
    is an instant: neurons do not move between its planes.

    Examples
    --------
    >>> truth = whole_brain(shape=(3, 40, 64), frames=5, neurons=6, seed=1)
    >>> truth["recording"]["F"].sizes["t"], str(truth["recording"]["F"].dtype)
    (5, 'uint16')
    >>> truth["traces"]["dff"].dims
    ('t', 'neuron')
    """
    parameters = {name: value for name, value in locals().items() if name != "frames_per_chunk"}
    sizes, voxel = require_volume(shape, voxel_um)
    frames, neurons = require_size("frames", frames, 1), require_size("neurons", neurons, 1)
    seed = require_size("seed", seed, 0)
    interval_s = 1 / require_number("rate_hz", rate_hz, above=True)
    require_number("photons", photons, above=True)
    require_number("bleaching", bleaching, most=1.0)
    require_number("bleaching_time_s", bleaching_time_s, above=True)
    require_number("active_fraction", active_fraction, most=1.0)
    for name in ("background_photons", "stray_photons", "haze", "autofluorescence", "min_distance_um", "motion_um"):
        require_number(name, parameters[name])
    camera = camera or Camera()
    if frames_per_chunk is None:
        frames_per_chunk = frames_within(sizes, np.dtype(np.float32).itemsize, CHUNK_BYTES)
    frames_per_chunk = require_size("frames_per_chunk", frames_per_chunk, 1)

    rng = np.random.default_rng([seed, _GEOMETRY])
    field = (np.asarray(sizes) - 1) * voxel
    head = geometry.head_within(field, rng, _LARGEST_TILT)
    rest = _rest_positions(head, field, neurons, min_distance_um, rng)
    body = head.place(rng.uniform(0.0, 2.0, _BODY_SOURCES), *rng.uniform(-0.7, 0.7, (2, _BODY_SOURCES)))
    glow = autofluorescence * photons * rng.uniform(0.2, 1.0, _BODY_SOURCES)
    stray = background_photons + stray_photons * rendering.stray_light(sizes[1:])
    brightness = rng.lognormal(0.0, 0.6, neurons)
    covariances = rendering.nucleus_covariances(neurons, rng, rendering.PSF_SIGMA_UM)
    scene = Scene(sizes, voxel, covariances, photons * brightness, haze, body, glow, stray)

    times_s = np.arange(frames) * interval_s
    dff, group, reversing = activity.neuron_activity(
        frames, neurons, interval_s, active_fraction, np.random.default_rng([seed, _ACTIVITY])
    )
    drift = motion_um * activity.ornstein_uhlenbeck(
        (frames, 3), _MOTION_TIME_S, interval_s, np.random.default_rng([seed, _MOTION])
    )
    drift[:, 0] *= sizes[0] > 1
    bleach = 1 + bleaching * np.expm1(-times_s / bleaching_time_s)
    resting = (camera.gain * scene.rest_photons * bleach[:, None]).astype(np.float32)
    _warn_if_clipped(resting * (1 + dff), camera)

    expected = map_blocks(
        _render_block, [drift, dff, bleach], sizes, np.float32, frames_per_chunk, rest=rest, scene=scene
    )
    recording, clean = _nodes.exposures(
        expected,
        camera,
        voxel_um=voxel.tolist(),
        t_s=times_s,
        frames_per_chunk=frames_per_chunk,
        seed=seed,
        stream=_CAMERA,
        attrs={"source": f"niddl_xr.{VERB}", "photons": float(photons)},
    )
    positions = (rest + drift[:, None]).astype(np.float32)
    coords = {
        "t": recording["t"],
        "neuron": _nodes.neuron_names(neurons),
        "group": ("neuron", np.asarray(GROUPS)[group]),
    }
    observed = _nodes.inside(positions, sizes, voxel)
    traces = _nodes.traces(resting, dff, coords).assign_coords(state=("t", np.where(reversing, "reversal", "forward")))
    tracks = _nodes.tracks(positions, observed, coords)
    nodes: dict[str, xr.DataArray | xr.Dataset] = {
        "recording": recording,
        "clean": clean,
        "tracks": tracks,
        "traces": traces,
    }
    return _nodes.tree(VERB, parameters, nodes)


def _rest_positions(
    head: geometry.Head, field: np.ndarray, neurons: int, distance_um: float, rng: np.random.Generator
) -> np.ndarray:
    margin = np.minimum(1.5, 0.05 * field)

    def propose(count: int) -> np.ndarray:
        points = geometry.points_in_head(head, count, rng)
        inside = np.all((points >= margin) & (points <= field - margin), axis=1)
        return np.asarray(points[inside])

    points = geometry.hard_core_points(propose, neurons, distance_um)
    if len(points) < neurons:
        raise NiddlError(
            f"expected room for {neurons} neurons at least {distance_um:g} µm apart, got {len(points)} into a head of "
            f"{2 * head.half_depth:.3g} x {2 * head.half_height:.3g} x {head.length:.3g} µm (z, y, x): "
            "lower neurons= or min_distance_um=, or enlarge shape= or voxel_um="
        )
    return points


def _warn_if_clipped(fluorescence: np.ndarray, camera: Camera) -> None:
    brightest = camera.offset + float(fluorescence.max())
    if brightest > LARGEST_COUNT:
        warn(
            f"the brightest neuron reaches {brightest:.0f} counts, a 16-bit camera holds {LARGEST_COUNT} and clips it: "
            "lower photons= or the gain of camera=",
            stacklevel=3,
        )


def _render_block(
    drift: np.ndarray, dff: np.ndarray, bleach: np.ndarray, *, rest: np.ndarray, scene: Scene
) -> np.ndarray:
    volumes = np.empty((len(drift), *scene.shape), np.float32)
    for volume, moved, change, left in zip(volumes, drift, dff, bleach, strict=True):
        volume[:] = scene.photons(rest + moved, moved, 1 + change, float(left))
    return volumes
