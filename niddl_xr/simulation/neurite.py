"""Neurites on a worm's body, dim and bright: the recordings, and the branches that are really there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import _nodes, _swc
from niddl_xr.simulation._checks import (
    require_bleaching,
    require_camera,
    require_frames_per_chunk,
    require_number,
    require_size,
    require_volume,
)
from niddl_xr.simulation._kernels import activity, lines, neurite_growth, neurites, rendering
from niddl_xr.simulation._kernels.tubes import Tube, random_tube
from niddl_xr.simulation._lazy import map_blocks, map_frames
from niddl_xr.simulation.noise import Camera

VERB = "simulate.neurite"
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_GEOMETRY, _GLOW, _MOTION, _CAMERA, _BRIGHT_CAMERA = range(32, 37)
_MOTION_TIME_S = 20.0
_LARGEST_ANGLE = np.deg2rad(30.0)
_BODY_RADIUS_UM = (22.0, 30.0)


@dataclass(frozen=True)
class Scene:
    """What stands still: the body, the branches on it and their light, relative to that of a median neurite."""

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    body: Tube
    arbor: neurites.Arbor
    haze: float
    autofluorescence: float
    psf_sigma_um: np.ndarray  # (3,)
    seed: int

    def signal(self, drift: np.ndarray) -> np.ndarray:
        """Return the light (z, y, x), float32, from the worm after it moved by ``drift`` (3,) in µm."""
        sigmas, peaks = neurites.light_of(self.arbor, self.psf_sigma_um)
        centres, spread, haze = neurites.haze_of(self.arbor, sigmas, peaks, self.haze)
        volume = rendering.broad_gaussians(self.shape, centres + drift, spread, haze, self.voxel_um)
        if self.autofluorescence:
            z, y, x = (float(middle + moved) for middle, moved in zip(self.body.centre, drift, strict=True))
            body = replace(self.body, centre=(z, y, x))
            rng = np.random.default_rng([self.seed, _GLOW])  # the same patches in every frame
            volume += np.float32(self.autofluorescence) * body.glow(self.shape[1:], self.voxel_um, rng)
        neurites.add_light(volume, self.arbor, sigmas, peaks, self.voxel_um, drift)
        return volume

    def labels(self, drift: np.ndarray) -> np.ndarray:
        """Return the branch (z, y, x), int32, that each voxel belongs to, 0 where none passes."""
        arbor = self.arbor
        return lines.draw_labels(self.shape, arbor.points_um + drift, arbor.width_um, arbor.branch, self.voxel_um)


def neurite(
    *,
    kind: str = "pvd",
    morphology: str | PathLike[str] | np.ndarray | None = None,
    shape: Sequence[int] = (1, 512, 512),
    frames: int = 1,
    voxel_um: Sequence[float] = (1.0, 0.4, 0.4),
    rate_hz: float = 1.0,
    photons: float = 10.0,
    high_laser: float = 10.0,
    seed: int = 0,
    camera: Camera | None = None,
    psf_sigma_um: Sequence[float] = (1.5, 0.85, 0.85),
    background_photons: float = 0.2,
    stray_photons: float = 0.6,
    haze: float = 6.0,
    autofluorescence: float = 0.2,
    bleaching: float | Sequence[float] = 0.3,
    bleaching_time_s: float | Sequence[float] = 300.0,
    motion_um: float = 0.3,
    frames_per_chunk: int | None = None,
) -> xr.DataTree:
    """Simulate neurites of a worm in low and in high laser light, with the truth about their branches.

    A gently bent body crosses the field at some angle. On its wall lie either the tree of a PVD neuron, a primary
    dendrite along the body and "menorahs" upon it, with the nerve cords and other long processes, or the long processes
    of touch neurons, some with their cell bodies. In a third of the first and a seventh of the second, the nerve ring
    lies near one end of the field and the body tapers towards it. Widths vary slowly and swell at beads. Out-of-focus
    haze, the glow of the body, light past the sample, bleaching, a slow drift and a camera come on top. A frame is
    rendered when it is computed, from random numbers that belong to it alone: any chunking and any order of computing
    gives the same counts, bit for bit.

    Parameters
    ----------
    kind
        ``"pvd"`` for the branched dendrites of PVD, one to three processes in the ventral cord, most often some in the
        dorsal one, and one to four beside them; ``"touch"`` for two to four long processes of touch neurons.
    morphology
        A traced neuron in place of a grown one: path of an SWC file, or its table (node, 7) of identifier, type, x, y,
        z, radius and parent (-1 for a root) in µm; identifiers are whole numbers of 0 or more. It is moved so that the
        middle of its extent lies in the middle of the field. Its widths are twice the mean radius of each branch,
        without beads, and the orders count the branch points on the way from the root; nodes of type 1 are the cell
        body. ``kind`` is then unused, and the body that glows around it lies at random. None to grow one.
    shape
        Sizes (z, y, x) of a frame. With z of size 1 all branches lie in that plane, as in a maximum projection of
        a stack; with more planes they lie on the body's wall, most on its near half, flattened where the planes do not
        reach as deep. Where the field is smaller than the body, the body is made narrower.
    frames
        Number of frames.
    voxel_um
        Size of a voxel along (z, y, x) in µm.
    rate_hz
        Frames per second.
    photons
        Photons detected per voxel at the centre of a neurite 0.6 µm wide that runs within a plane, low laser, before
        bleaching. Light per length grows with the square of the width, as a fluorophore in the cytosol gives it.
    high_laser
        Light of the high laser over that of the low one, above 0; it enhances the worm, not the background and the
        light past the sample. The camera is the same.
    seed
        Whole number ≥ 0. The same arguments and seed give the same result.
    camera
        :class:`niddl_xr.simulate.Camera`, such as :func:`niddl_xr.simulate.noise.fit` finds for a real recording;
        None for the EMCCD of its defaults.
    psf_sigma_um
        Sigma of the microscope's blur along (z, y, x) in µm. The default makes neurites 2.1 µm wide at half height;
        in the authors' denoised images they are 2.4 µm at 0.4 µm per pixel.
    background_photons
        Photons per voxel that are the same everywhere and do not bleach.
    stray_photons
        Photons per voxel of the light past the sample, in the middle of a vertical band that fades up and down. It does
        not bleach.
    haze
        Out-of-focus light: this times the signal convolved with a Gaussian of sigma (4, 8, 8) µm and integral 1.
    autofluorescence
        Glow of the body, relative to ``photons``.
    bleaching, bleaching_time_s
        ``1 - bleaching (1 - exp(-t / bleaching_time_s))`` of the fluorescence is left at time t; ``bleaching`` 0 to 1.
        Sequences of the same length for several components.
    motion_um
        RMS per axis of the drift of the worm (Ornstein-Uhlenbeck, 20 s) about its place; the first frame is where the
        skeleton lies. Along z none in a plane movie.
    frames_per_chunk
        Frames that dask holds as one block; None for blocks of about 16 MiB. It changes no value.

    Returns
    -------
    xarray.DataTree
        With the nodes

        ``/recording``, ``/high_laser``
            ``F`` (t, z, y, x), uint16 counts, lazy: the same worm in low and in high laser light, with noise of
            its own in each; attrs state offset, gain, read noise, excess noise and seed.
        ``/clean``
            ``F`` (t, z, y, x), float32, lazy: the expected counts of ``/recording``, offset included, neither rounded
            nor clipped.
        ``/labels``
            ``labels`` (t, z, y, x), int32, lazy: the branch whose centreline passes the voxel, or passes nearest and
            within half its width; 0 elsewhere.
        ``/skeleton``
            Points along the centrelines, branch after branch, at most half a pixel and 0.3 µm apart: ``position``
            (point, space) in µm in the first frame, ``width_um`` (point) with its beads, ``inside`` (point; within the
            field in the first frame; the others are kept) and the coordinate ``point_branch`` (point). Of each
            ``branch``, 1 and up as in the labels: ``order`` (branch; 1 primary or process, those of the nerve ring too,
            2 secondary, 3 tertiary, 4 quaternary, 0 for a cell body, whose centreline is its long axis; the short
            neurite that ties it to a process is of order 2), ``parent`` (branch; 0 for none) and ``length_um``
            (branch). ``drift`` (t, space) in µm: in frame t a point lies at position + drift.

        There is no NaN in any of them.

    Raises
    ------
    NiddlError
        For another kind, a ``morphology`` that is no tree of positive radii, and sizes or rates that are no positive
        numbers.

    Notes
    -----
    Two processes of a plane movie that cross add up. Secondaries leave the primary every 40 µm on each side, with stems
    of about 15 µm, the arms of neighbours almost meet, and a whole menorah is about 125 µm long. In the PVD of the
    OpenWorm reconstruction (CElegansNeuroML, PVDL, 23 menorahs; measured for this project) they follow one another at
    41 µm on each side, with stems of 9 µm and 128 µm of length (medians). The diameters of that reconstruction, 0.18 to
    0.67 µm, are finer than what a light microscope shows; ours are 0.32 µm (quaternary) to 0.8 µm (primary), give or
    take a quarter. Beads, crookedness, cords, the nerve ring, cell bodies and the strength of the haze are chosen by
    eye, beside the images of mechanosensory neurons that the NIDDL authors publish. Values are at voxel centres, not
    integrals over voxels.

    Examples
    --------
    >>> truth = neurite(shape=(1, 60, 90), photons=30, seed=1)
    >>> truth["recording"]["F"].dims, int(truth["skeleton"]["order"].max())
    (('t', 'z', 'y', 'x'), 4)
    """
    parameters = {name: value for name, value in locals().items() if name != "frames_per_chunk"}
    if not isinstance(kind, str) or kind not in neurite_growth.KINDS:
        raise NiddlError(f"expected kind as one of {', '.join(map(repr, neurite_growth.KINDS))}, got {kind!r}")
    sizes, voxel = require_volume(shape, voxel_um)
    frames, seed = require_size("frames", frames, 1), require_size("seed", seed, 0)
    interval_s = 1 / require_number("rate_hz", rate_hz, above=True)
    for name in ("photons", "high_laser"):
        require_number(name, parameters[name], above=True)
    for name in ("background_photons", "stray_photons", "haze", "autofluorescence", "motion_um"):
        require_number(name, parameters[name])
    camera = require_camera(camera)
    frames_per_chunk = require_frames_per_chunk(frames_per_chunk, sizes)

    psf = _require_psf(psf_sigma_um)
    body, arbor = _worm(kind, morphology, sizes, voxel, np.random.default_rng([seed, _GEOMETRY]))
    scene = Scene(sizes, voxel, body, arbor, haze, autofluorescence, psf, seed)
    times_s = np.arange(frames) * interval_s
    drift = motion_um * activity.ornstein_uhlenbeck(
        (frames, 3), _MOTION_TIME_S, interval_s, np.random.default_rng([seed, _MOTION])
    )
    drift = (drift - drift[0]) * [sizes[0] > 1, True, True]
    bleach = require_bleaching("bleaching", bleaching, bleaching_time_s, times_s)
    stray = (background_photons + stray_photons * rendering.stray_light(sizes[1:])).astype(np.float32)

    def expose(light: float, stream: int) -> tuple[xr.DataArray, xr.DataArray]:
        expected = map_blocks(
            _render_block, [drift, light * bleach], sizes, np.float32, frames_per_chunk, scene=scene, stray=stray
        )
        return _nodes.exposures(
            expected,
            camera,
            voxel_um=voxel.tolist(),
            t_s=times_s,
            frames_per_chunk=frames_per_chunk,
            seed=seed,
            stream=stream,
            attrs={"source": f"niddl_xr.{VERB}", "photons": float(light)},
        )

    recording, clean = expose(photons, _CAMERA)
    bright, _ = expose(photons * high_laser, _BRIGHT_CAMERA)
    labels = map_frames(scene.labels, [drift], sizes, np.int32, frames_per_chunk)
    nodes: dict[str, xr.DataArray | xr.Dataset] = {
        "recording": recording,
        "clean": clean,
        "high_laser": bright,
        "labels": xr.DataArray(
            labels,
            dims=schema.RECORDING_DIMS,
            coords=recording.coords,
            name="labels",
            attrs={"long_name": "branch, 0 = background", "source": f"niddl_xr.{VERB}"},
        ),
        "skeleton": _skeleton(scene, drift, recording["t"]),
    }
    return _nodes.tree(VERB, parameters, nodes)


def _require_psf(psf_sigma_um: Sequence[float]) -> np.ndarray:
    if np.ndim(psf_sigma_um) != 1 or len(psf_sigma_um) != 3:
        raise NiddlError(f"expected psf_sigma_um as three numbers (z, y, x) in µm, got {psf_sigma_um!r}")
    return np.asarray([require_number("psf_sigma_um", sigma, above=True) for sigma in psf_sigma_um])


def _worm(
    kind: str,
    morphology: str | PathLike[str] | np.ndarray | None,
    sizes: tuple[int, int, int],
    voxel: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Tube, neurites.Arbor]:
    field = (np.asarray(sizes) - 1) * voxel
    step_um, flat = min(0.3, 0.5 * float(voxel[1:].min())), sizes[0] == 1
    if morphology is not None:
        body = random_tube(field, rng, radius_um=_BODY_RADIUS_UM, largest_angle=_LARGEST_ANGLE)
        return body, _swc.arbor_in_field(morphology, field, step_um, flat)
    body, wall = neurite_growth.random_worm(kind, field, rng, radius_um=_BODY_RADIUS_UM, largest_angle=_LARGEST_ANGLE)
    return body, neurite_growth.on_body(wall, body, step_um, flat, rng)


def _skeleton(scene: Scene, drift: np.ndarray, t: xr.DataArray) -> xr.Dataset:
    arbor = scene.arbor
    inside = _nodes.inside(arbor.points_um, scene.shape, scene.voxel_um)
    length = np.bincount(arbor.branch, arbor.length_um, minlength=1 + len(arbor))[1:]
    return xr.Dataset(
        {
            "position": (("point", "space"), arbor.points_um.astype(np.float32), {"units": "µm"}),
            "width_um": ("point", arbor.width_um.astype(np.float32), {"units": "µm"}),
            "inside": ("point", inside, {"long_name": "within the field in the first frame"}),
            "order": ("branch", arbor.orders.astype(np.int32)),
            "parent": ("branch", arbor.parents.astype(np.int32)),
            "length_um": ("branch", length.astype(np.float32), {"units": "µm"}),
            "drift": (("t", "space"), drift.astype(np.float32), {"units": "µm"}),
        },
        coords={
            "t": t,
            "space": list(schema.SPACE_DIMS),
            "branch": np.arange(1, 1 + len(arbor), dtype=np.int32),
            "point_branch": ("point", arbor.branch.astype(np.int32)),
        },
    )


def _render_block(drift: np.ndarray, light: np.ndarray, *, scene: Scene, stray: np.ndarray) -> np.ndarray:
    volumes = np.empty((len(drift), *scene.shape), np.float32)
    for volume, moved, strength in zip(volumes, drift, light, strict=True):
        volume[:] = np.float32(strength) * scene.signal(moved) + stray
    return volumes
