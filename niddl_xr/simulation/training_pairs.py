"""Pairs of dim and bright images of the same worm, to train a denoiser where there are no real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation._checks import require_number, require_range, require_size, require_volume
from niddl_xr.simulation._kernels import geometry, rendering
from niddl_xr.simulation._lazy import map_blocks
from niddl_xr.simulation._nodes import plain
from niddl_xr.simulation.noise import Camera

VERB = "simulate.training_pairs"
# Streams of random numbers; a new one gets a new number, so that the old ones never change.
_LIGHT, _WORM, _NOISY, _CLEAN = range(16, 20)


@dataclass(frozen=True)
class Light:
    """How the two images of a stack are taken."""

    photons: float  # at the centre of a median nucleus, low laser
    clean_photons: float  # the same, high laser
    peak_counts: float  # at the centre of a median nucleus above the offset, low laser
    clean_gain: float  # counts of the clean image over counts of the noisy one


@dataclass(frozen=True)
class Worms:
    """What the worms of a set have in common."""

    shape: tuple[int, int, int]
    voxel_um: np.ndarray  # (3,)
    neurons: tuple[int, int]
    neurites: tuple[int, int]
    haze: float
    autofluorescence: float

    def render(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a random worm's signal (z, y, x), 1 at a median nucleus, and the light past it (y, x)."""
        field = (np.asarray(self.shape) - 1) * self.voxel_um
        head = self._random_head(field, rng)
        volume, peaks, covariances, centres = self._nuclei(head, rng)
        sigmas, haze = rendering.haze_of(covariances, peaks, self.haze * rng.uniform(0.3, 1.7))
        glow = self.autofluorescence * rng.uniform(0.0, 1.0, 14)
        body = head.place(rng.uniform(-0.5, 1.5, 14), *rng.uniform(-0.8, 0.8, (2, 14)))
        volume += rendering.broad_gaussians(
            self.shape,
            np.concatenate([centres, body]),
            np.concatenate([sigmas, rng.uniform(4.0, 12.0, (14, 3))]),
            np.concatenate([haze, glow]),
            self.voxel_um,
        )
        for _ in range(rng.integers(*self.neurites, endpoint=True)):
            self._add_neurite(volume, head, rng)
        stray = rendering.stray_light(
            self.shape[1:],
            column=rng.uniform(-0.3, 1.3),
            width=rng.uniform(0.01, 0.06),
            row=rng.uniform(0.2, 0.8),
            broad=rng.uniform(0.0, 1.0),
        )
        return volume, stray[:, :: rng.choice([-1, 1])]

    def _random_head(self, field: np.ndarray, rng: np.random.Generator) -> geometry.Head:
        depth, height, width = field
        longest = max(height, width)
        return geometry.Head(
            centre=(
                rng.uniform(0.2, 0.8) * depth,
                height * rng.uniform(0.3, 0.7),
                width * rng.uniform(0.3, 0.7),
            ),
            length=min(geometry.HEAD_LENGTH_UM, 1.2 * longest),
            half_height=min(geometry.HEAD_HALF_HEIGHT_UM, 0.35 * longest) * rng.uniform(0.5, 1.0),
            half_depth=min(geometry.HEAD_HALF_DEPTH_UM, 0.6 * depth + 2.0),
            angle=rng.uniform(0, 2 * np.pi),
        )

    def _nuclei(
        self, head: geometry.Head, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        volume = np.zeros(self.shape, np.float32)
        count = int(rng.integers(*self.neurons, endpoint=True))
        # A head that is too small for all of them holds as many as it can: worms differ.
        centres = geometry.hard_core_points(lambda n: geometry.points_in_head(head, n, rng), count, 2.8, rounds=8)
        peaks = rng.lognormal(0.0, 0.6, len(centres))
        blur = np.asarray(rendering.PSF_SIGMA_UM) * rng.uniform(0.8, 2.0)
        covariances = rendering.nucleus_covariances(len(centres), rng, blur)
        rendering.add_gaussians(volume, centres, covariances, peaks, self.voxel_um)
        return volume, peaks, covariances, centres

    def _add_neurite(self, volume: np.ndarray, head: geometry.Head, rng: np.random.Generator) -> None:
        sigma = np.hypot(rng.uniform(0.1, 0.5), np.asarray(rendering.PSF_SIGMA_UM))
        step_um = 0.9 * float(sigma.min())  # at one sigma the sum of Gaussians ripples by less than 1e-7
        points = geometry.random_curve(head, step_um, rng)
        along = np.arange(len(points)) * step_um
        beads = (
            1 + rng.uniform(0.2, 2.0) * np.clip(np.sin(along / rng.uniform(0.6, 2.0) + rng.uniform(0, 6)), 0, 1) ** 8
        )
        # Gaussians that follow one another at a step d add up to a ridge of sqrt(2 pi) sigma / d times their peak.
        peak = rng.lognormal(-0.7, 0.6) * step_um / (np.sqrt(2 * np.pi) * sigma[2])
        covariances = np.broadcast_to(np.diag(sigma**2), (len(points), 3, 3))
        rendering.add_gaussians(volume, points, covariances, peak * beads, self.voxel_um)


def training_pairs(
    *,
    stacks: int = 30,
    shape: Sequence[int] = (8, 128, 128),
    photons: Sequence[float] = (20.0, 200.0),
    clean_gain: Sequence[float] = (1.2, 8.0),
    clean_photons: Sequence[float] = (500.0, 2000.0),
    peak_counts: Sequence[float] = (200.0, 1500.0),
    seed: int = 0,
    voxel_um: Sequence[float] = (1.0, 0.4, 0.4),
    neurons: Sequence[int] = (10, 45),
    neurites: Sequence[int] = (0, 4),
    camera: Camera | None = None,
    stray_photons: float = 3.0,
    haze: float = 1.5,
    autofluorescence: float = 0.1,
) -> xr.Dataset:
    """Simulate stacks taken twice, with a low and a high laser, of as many different worms.

    Every stack is an independent worm: other nuclei, other neurites along random curves, another direction, other
    haze, other light. The clean image is noisy too, as real ones are. Its gain over the noisy one differs from stack to
    stack, so that a network cannot learn one.

    Parameters
    ----------
    stacks
        Number of stacks. Stack k is the same whatever their number.
    shape
        Sizes (z, y, x) of a stack.
    photons
        Range of the photons detected at the centre of a nucleus of median brightness in the noisy image; each stack
        draws one, log-uniformly. So for the ranges below.
    clean_gain
        Range of the counts of the clean image over those of the noisy one, both above the offset.
    clean_photons
        Range of the photons at that centre in the clean image. The camera's gain is lowered for it so that
        ``clean_gain`` comes out: it is the photons that make it clean.
    peak_counts
        Range of the counts, above the offset, at that centre in the noisy image; over ``photons`` it is the gain of
        the camera in counts per photon.
    seed
        Whole number ≥ 0. The same arguments and seed give the same pairs.
    voxel_um
        Size of a voxel along (z, y, x) in µm.
    neurons
        Smallest and largest number of nuclei in and around a stack; fewer where there is no room for them.
    neurites
        Smallest and largest number of neurites.
    camera
        :class:`niddl_xr.simulate.Camera` of both images, whose gain is set stack by stack; None for its defaults.
    stray_photons
        Photons per voxel of the light past the sample, a vertical band (which may lie outside the field) and a
        broad rise, in the band of the worst stack; the others have down to 2 % of it. It is not from the laser: the
        same photons in both images, at the lower gain of the clean one fewer counts, so that a network learns to
        remove it.
    haze
        Out-of-focus light: 0.3 to 1.7 times this times the signal blurred by a Gaussian of (4, 8, 8) µm.
    autofluorescence
        Glow of the body at its brightest, relative to a median nucleus.

    Returns
    -------
    xarray.Dataset
        Pairs: ``noisy`` and ``clean`` (stack, z, y, x), uint16 counts, lazy, one block a stack; no NaN, clipped to
        16 bits. Coordinates: ``stack`` ("simulated_0001", …), z, y, x in µm, and per stack the ``photons``,
        ``clean_photons``, ``peak_counts`` and ``clean_gain`` that were drawn.

    Raises
    ------
    NiddlError
        For ranges that are not positive or not in order, sizes below 1, and a camera that cannot be.

    Notes
    -----
    The gains of 1.2 to 8 are those of the pairs of Chaudhary, Moon & Lu (Nat. Commun. 13:5165, 2022).

    Examples
    --------
    >>> pairs = training_pairs(stacks=2, shape=(3, 24, 32), seed=7)
    >>> pairs["noisy"].dims, pairs["stack"].values.tolist()
    (('stack', 'z', 'y', 'x'), ['simulated_0001', 'simulated_0002'])
    """
    written = {name: plain(value) for name, value in locals().items()}
    sizes, voxel = require_volume(shape, voxel_um)
    stacks, seed = require_size("stacks", stacks, 1), require_size("seed", seed, 0)
    require_number("stray_photons", stray_photons)
    ranges = {
        "photons": require_range("photons", photons),
        "clean_photons": require_range("clean_photons", clean_photons),
        "peak_counts": require_range("peak_counts", peak_counts),
        "clean_gain": require_range("clean_gain", clean_gain),
    }
    worms = Worms(
        shape=sizes,
        voxel_um=voxel,
        neurons=_require_counts("neurons", neurons),
        neurites=_require_counts("neurites", neurites),
        haze=require_number("haze", haze),
        autofluorescence=require_number("autofluorescence", autofluorescence),
    )
    camera = camera or Camera()
    lights = [_draw_light(ranges, np.random.default_rng([seed, _LIGHT, index])) for index in range(stacks)]
    images = {
        name: map_blocks(
            _expose_stacks,
            [np.arange(stacks)],
            sizes,
            np.uint16,
            1,
            high_laser=name == "clean",
            worms=worms,
            camera=camera,
            lights=lights,
            stray_photons=stray_photons,
            seed=seed,
        )
        for name in ("noisy", "clean")
    }
    attrs = {"units": "counts", **camera.attrs(), "seed": seed}
    del attrs["gain_counts_per_photon"]  # differs from stack to stack: peak_counts over photons
    pairs = xr.Dataset(
        {name: (schema.PAIR_DIMS, image, attrs) for name, image in images.items()},
        coords={
            "stack": [f"simulated_{number:04d}" for number in range(1, stacks + 1)],
            **{
                dim: (dim, np.arange(size) * step, {"units": "µm"})
                for dim, size, step in zip(schema.SPACE_DIMS, sizes, voxel, strict=True)
            },
            **{name: ("stack", [getattr(light, name) for light in lights]) for name in ranges},
        },
        attrs={"source": f"niddl_xr.{VERB}"},
    )
    pairs["peak_counts"].attrs["units"] = "counts"
    return schema.require_pairs(schema.with_history(pairs, VERB, written))


def _require_counts(name: str, value: Sequence[int]) -> tuple[int, int]:
    if np.ndim(value) != 1 or len(value) != 2:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {value!r}")
    low, high = (require_size(name, end, 0) for end in value)
    if low > high:
        raise NiddlError(f"expected {name} as a range (smallest, largest), got {value!r}: exchange the two")
    return low, high


def _draw_light(ranges: dict[str, tuple[float, float]], rng: np.random.Generator) -> Light:
    drawn = {name: float(np.exp(rng.uniform(*np.log(ends)))) for name, ends in ranges.items()}
    return Light(**drawn)


def _expose_stacks(
    index: np.ndarray,
    *,
    high_laser: bool,
    worms: Worms,
    camera: Camera,
    lights: Sequence[Light],
    stray_photons: float,
    seed: int,
) -> np.ndarray:
    images = np.empty((len(index), *worms.shape), np.uint16)
    for image, stack in zip(images, index.tolist(), strict=True):
        light = lights[stack]
        rng = np.random.default_rng([seed, _WORM, stack])
        signal, stray = worms.render(rng)
        stray = stray * stray_photons * np.exp(rng.uniform(np.log(0.02), 0.0))
        photons = light.clean_photons if high_laser else light.photons
        peak_counts = light.peak_counts * (light.clean_gain if high_laser else 1.0)
        noise = np.random.default_rng([seed, _CLEAN if high_laser else _NOISY, stack])
        image[:] = replace(camera, gain=peak_counts / photons).acquire(photons * signal + stray, noise)
    return images
