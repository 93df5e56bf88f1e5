"""Pairs of dim and bright images of the same worm, to train a denoiser where there are no real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation._checks import require_camera, require_number, require_range, require_size, require_volume
from niddl_xr.simulation._kernels import rendering
from niddl_xr.simulation._lazy import map_blocks
from niddl_xr.simulation._nodes import plain
from niddl_xr.simulation._subjects import SUBJECTS, Worms
from niddl_xr.simulation.noise import Camera

VERB = "simulate.training_pairs"
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_LIGHT, _WORM, _NOISY, _CLEAN, _STRAY = range(16, 21)
_MOST_COUNTS = 700.0


@dataclass(frozen=True)
class Light:
    """How the two images of a stack are taken."""

    photons: float  # at the centre of a median nucleus, cell or neurite, low laser
    clean_photons: float  # the same, high laser
    peak_counts: float  # at that centre above the offset, low laser
    clean_gain: float  # counts of the clean image over counts of the noisy one


def training_pairs(
    *,
    stacks: int = 30,
    shape: Sequence[int] = (8, 128, 128),
    subject: str | Sequence[str] = "whole_brain",
    max_projection: bool = False,
    photons: Sequence[float] = (2.0, 100.0),
    clean_gain: Sequence[float] = (1.2, 8.0),
    clean_photons: Sequence[float] = (500.0, 2000.0),
    peak_counts: Sequence[float] | None = None,
    seed: int = 0,
    voxel_um: Sequence[float] = (1.0, 0.4, 0.4),
    neurons: Sequence[int] = (20, 140),
    neurites: Sequence[int] = (0, 2),
    camera: Camera | None = None,
    stray_photons: float = 3.0,
    haze: float = 4.0,
    autofluorescence: float = 0.15,
) -> xr.Dataset:
    """Simulate stacks taken twice, with a low and a high laser, of as many different worms.

    Every stack is an independent worm: other cells or neurites, another direction, other haze, other light. The
    clean image is noisy too, as real ones are. Its gain over the noisy one differs from stack to stack, so that a
    network cannot learn one.

    Parameters
    ----------
    stacks
        Number of stacks. Stack k is the same whatever their number.
    shape
        Sizes (z, y, x) of a stack.
    subject
        What the images show: ``"whole_brain"`` (nuclei of a head, in clusters, and some neurites), ``"ventral_cord"``
        (worms in a channel, a row of cells along an edge of each) or ``"neurite"`` (the tree of a PVD neuron, or
        processes of touch neurons); or several of them in a sequence, which the stacks take in turn. The NIDDL
        authors train one network for each, which is why one is the default.
    max_projection
        Take each image as the maximum of a stack's planes, each with noise of its own, as the authors' images of
        ventral cords and neurites are: z is then of size 1.
    photons
        Range of the photons detected at the centre of a nucleus or cell of median brightness, or of a neurite 0.8 µm
        wide within a plane, in the noisy image; each stack draws one, log-uniformly. So for the ranges below.
    clean_gain
        Range of the counts of the clean image over those of the noisy one, both above the offset.
    clean_photons
        Range of the photons at that centre in the clean image. The camera's gain is lowered for it so that
        ``clean_gain`` comes out: it is the photons that make it clean.
    peak_counts
        Range of the counts, above the offset, at that centre in the noisy image; over ``photons`` it is the gain of
        the camera in counts per photon. None for the gain of ``camera``, times 0.5 to 2 from stack to stack, but at
        most 700 counts, so that a bright clean image stays within 16 bits.
    seed
        Whole number ≥ 0. The same arguments and seed give the same pairs.
    voxel_um
        Size of a voxel along (z, y, x) in µm.
    neurons
        Smallest and largest number of nuclei in and around a stack of ``"whole_brain"``; fewer where there is no room
        for them. Up to as many again shine in from above and below the planes, blurred. The cords have as many cells as
        their length asks for.
    neurites
        Smallest and largest number of neurites in a stack of ``"whole_brain"``.
    camera
        :class:`niddl_xr.simulate.Camera` of both images, whose gain is set stack by stack; None for its defaults.
    stray_photons
        Photons per voxel of the light past the sample, in a vertical band (which may lie outside the field) of the
        worst stack; the others have down to 2 % of it. It is not from the laser: the same photons in both images, at
        the lower gain of the clean one fewer counts, so that a network learns to remove it. In half of the stacks the
        band is where the authors' images have it, and in 19 of 20 as narrow.
    haze
        Out-of-focus light: this, times a number from 0.1 to 1.1 that differs from stack to stack, times the signal
        blurred by a Gaussian of (4, 8, 8) µm.
    autofluorescence
        Glow of the body relative to a median nucleus, cell or neurite; times 0.4 to 3 from stack to stack. In heads,
        twice that at the brightest places of what lies behind them.

    Returns
    -------
    xarray.Dataset
        Pairs: ``noisy`` and ``clean`` (stack, z, y, x), uint16 counts, lazy, one block a stack; no NaN, clipped to
        16 bits. Coordinates: ``stack`` ("simulated_0001", …), z, y, x in µm (z = 0 for maximum projections), and per
        stack its ``subject`` and the ``photons``, ``clean_photons``, ``peak_counts`` and ``clean_gain`` that were
        drawn.

    Raises
    ------
    NiddlError
        For ranges that are not positive or not in order, sizes below 1, an unknown subject, and a camera that cannot
        be.

    Notes
    -----
    The gains of 1.2 to 8 are those of the pairs of Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022). So are the
    maximum projections. Photons from 2 upwards, the sizes of worms and cells, and the strengths of haze and glow were
    set by eye, until the images looked like the ones that the authors publish, at the same contrast. The sources
    of the neurites are those of :func:`neurite`. A body is flattened along z to the planes of the stack. Levels: with
    ``photons=(1, 3)`` the 99 and 99.9 percentiles of the noisy images (sigma 2 px, above the 2nd percentile, medians of
    14 images) are 96 and 176 counts in heads, 76 and 140 in cords; in the authors' images 88 and 152, 88 and 137. For
    neurites they are 1.5 to 1.8 times those of the authors (106 and 193). The default ranges go far beyond.

    Examples
    --------
    >>> pairs = training_pairs(stacks=2, shape=(3, 24, 32), subject=("whole_brain", "neurite"), seed=7)
    >>> pairs["noisy"].dims, pairs["stack"].values.tolist(), pairs["subject"].values.tolist()
    (('stack', 'z', 'y', 'x'), ['simulated_0001', 'simulated_0002'], ['whole_brain', 'neurite'])
    """
    written = {name: plain(value) for name, value in locals().items()}
    sizes, voxel = require_volume(shape, voxel_um)
    stacks, seed = require_size("stacks", stacks, 1), require_size("seed", seed, 0)
    subjects = _require_subjects(subject)
    require_number("stray_photons", stray_photons)
    camera = require_camera(camera)
    ranges = {
        "photons": require_range("photons", photons),
        "clean_photons": require_range("clean_photons", clean_photons),
        "clean_gain": require_range("clean_gain", clean_gain),
    }
    if peak_counts is not None:
        ranges["peak_counts"] = require_range("peak_counts", peak_counts)
    worms = Worms(
        shape=sizes,
        voxel_um=voxel,
        neurons=_require_counts("neurons", neurons),
        neurites=_require_counts("neurites", neurites),
        haze=require_number("haze", haze),
        autofluorescence=require_number("autofluorescence", autofluorescence),
    )
    lights = [_draw_light(ranges, camera, np.random.default_rng([seed, _LIGHT, index])) for index in range(stacks)]
    index = np.arange(stacks)
    # Both images of a stack share the worm: computed together, it is drawn once.
    signal = map_blocks(_render_stacks, [index], sizes, np.float32, 1, worms=worms, subjects=subjects, seed=seed)
    imaged = (1, *sizes[1:]) if max_projection else sizes
    images = {
        name: map_blocks(
            _expose_stacks,
            [index, signal],
            imaged,
            np.uint16,
            1,
            high_laser=name == "clean",
            max_projection=max_projection,
            camera=camera,
            lights=lights,
            stray_photons=stray_photons,
            seed=seed,
        )
        for name in ("noisy", "clean")
    }
    attrs = {"units": "counts", **camera.attrs(), "seed": seed}
    del attrs["gain_counts_per_photon"]  # differs from stack to stack: peak_counts over photons
    if max_projection:
        attrs["projection"] = f"maximum of {sizes[0]} planes"
    pairs = xr.Dataset(
        {name: (schema.PAIR_DIMS, image, attrs) for name, image in images.items()},
        coords={
            "stack": [f"simulated_{number:04d}" for number in range(1, stacks + 1)],
            **{
                dim: (dim, np.arange(size) * step, {"units": "µm"})
                for dim, size, step in zip(schema.SPACE_DIMS, imaged, voxel, strict=True)
            },
            "subject": ("stack", [subjects[number % len(subjects)] for number in range(stacks)]),
            **{field.name: ("stack", [getattr(light, field.name) for light in lights]) for field in fields(Light)},
        },
        attrs={"source": f"niddl_xr.{VERB}"},
    )
    pairs["peak_counts"].attrs["units"] = "counts"
    return schema.require_pairs(schema.with_history(pairs, VERB, written))


def _require_subjects(subject: str | Sequence[str]) -> tuple[str, ...]:
    subjects = tuple(np.atleast_1d(np.asarray(subject, object)).tolist())
    if not subjects or not all(isinstance(name, str) and name in SUBJECTS for name in subjects):
        raise NiddlError(f"expected subject as one or several of {', '.join(map(repr, SUBJECTS))}, got {subject!r}")
    return subjects


def _require_counts(name: str, value: Sequence[int]) -> tuple[int, int]:
    if np.ndim(value) != 1 or len(value) != 2:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {value!r}")
    low, high = (require_size(name, end, 0) for end in value)
    if low > high:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {value!r}: exchange the two")
    return low, high


def _draw_light(ranges: dict[str, tuple[float, float]], camera: Camera, rng: np.random.Generator) -> Light:
    drawn = {name: float(np.exp(rng.uniform(*np.log(ends)))) for name, ends in ranges.items()}
    if "peak_counts" not in drawn:
        drawn["peak_counts"] = min(drawn["photons"] * camera.gain * float(2 ** rng.uniform(-1.0, 1.0)), _MOST_COUNTS)
    return Light(**drawn)


def _render_stacks(index: np.ndarray, *, worms: Worms, subjects: tuple[str, ...], seed: int) -> np.ndarray:
    signal = np.empty((len(index), *worms.shape), np.float32)
    for volume, stack in zip(signal, index.tolist(), strict=True):
        volume[:] = worms.render(subjects[stack % len(subjects)], np.random.default_rng([seed, _WORM, stack]))
    return signal


def _random_stray_light(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Return the light past the sample (y, x), 0.02 to 1 in its band; half of them have it at one column."""
    known, narrow = rng.random(2) < (0.5, 0.9)
    stray = rendering.stray_light(
        shape,
        column=rng.normal(0.66, 0.01) if known else rng.uniform(-0.3, 1.3),
        width=rng.uniform(0.012, 0.022) if known or narrow else rng.uniform(0.022, 0.06),
        row=rng.uniform(0.35, 0.65) if known else rng.uniform(0.2, 0.8),
    )
    strength = np.float32(np.exp(rng.uniform(np.log(0.02), 0.0)))
    return strength * (stray if known else stray[:, :: rng.choice([-1, 1])])


def _expose_stacks(
    index: np.ndarray,
    signals: np.ndarray,
    *,
    high_laser: bool,
    max_projection: bool,
    camera: Camera,
    lights: Sequence[Light],
    stray_photons: float,
    seed: int,
) -> np.ndarray:
    planes = 1 if max_projection else signals.shape[1]
    images = np.empty((len(index), planes, *signals.shape[2:]), np.uint16)
    for image, signal, stack in zip(images, signals, index.tolist(), strict=True):
        light = lights[stack]
        stray = stray_photons * _random_stray_light(signal.shape[1:], np.random.default_rng([seed, _STRAY, stack]))
        photons = light.clean_photons if high_laser else light.photons
        peak_counts = light.peak_counts * (light.clean_gain if high_laser else 1.0)
        noise = np.random.default_rng([seed, _CLEAN if high_laser else _NOISY, stack])
        counts = replace(camera, gain=peak_counts / photons).acquire(photons * signal + stray, noise)
        image[:] = counts.max(axis=0) if max_projection else counts
    return images
