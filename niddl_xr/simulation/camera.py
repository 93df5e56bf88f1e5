"""The camera: from the photons that are expected in a voxel to the counts of a 16-bit file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from niddl_xr.schema import NiddlError
from niddl_xr.simulation._kernels.noise import amplified_charge, noise_along_rows, standing_pattern
from niddl_xr.simulation._kernels.noise_baseline import drift_along_rows, spread_evenly
from niddl_xr.simulation._kernels.noise_histogram import mean_of_maximum

LARGEST_COUNT = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Camera:
    """An sCMOS (``excess_noise=1``) or EMCCD (``excess_noise=2``) camera with stripes along its rows.

    Parameters
    ----------
    offset
        Counts of a pixel without any charge.
    gain
        Counts for one detected photon (photoelectron), electron multiplication included.
    read_noise
        RMS in counts of the noise of a pixel's own.
    excess_noise
        Variance of the amplified charge over that of the charge: 1 for an sCMOS, 2 for an EMCCD at high gain
        (Robbins & Hadwen, IEEE Trans. Electron Devices 50:1227, 2003). n electrons become a Gamma-distributed number
        of counts with mean ``n gain`` and variance ``n gain² (excess_noise - 1)``; at 2 that is the Erlang
        distribution of the multiplication register.
    row_noise
        RMS in counts of the stripes: noise whose correlation along x falls as exp(-distance / ``row_length_px``)
        and that is independent from row to row.
    row_length_px
        Length of the stripes in pixels.
    spurious_charge
        Mean number of electrons in a pixel that no photon made (clock-induced charge). They are amplified like
        photoelectrons and give the dark frames of EMCCDs their positive skew.
    read_correlation
        Correlation of the read noise with the pixels 1, 2, … to the left, -0.5 to 0.5 in sum of magnitudes; () for
        none.
    column_pattern
        Counts added to the columns 0, 1, …, n - 1, n, … of every row, n of them over and over: what the taps of an
        interleaved readout differ by. Every exposure starts at another of them. () for none.
    row_start
        Counts added to the first columns of every row, at the far left of the sensor, where the readout settles; () for
        none.
    column_shading, row_shading
        Counts added along x, and along y, at points evenly spaced from the first to the last column (row) of whatever
        size, and in between by straight lines; () for none.
    offset_drift
        RMS in counts by which the offset of one image differs from that of the next.
    row_drift, row_drift_px
        RMS in counts of the wandering of the offset while an exposure is read, row by row, and the number of rows after
        which the correlation with an earlier row has fallen to exp(-1).
    fixed_pattern
        RMS in counts of the pixels' own offsets, the same in every frame.
    hot_pixels, hot_counts
        Fraction of the pixels that are too bright in every frame, and their mean excess in counts (exponentially
        distributed).
    pattern_seed
        Whole number ≥ 0 that says which pixels are hot and what the fixed pattern is. It belongs to the camera: the
        seed of a recording does not change it.
    projected_planes
        Number of exposures whose maximum an image is: 1 for images as taken, the number of planes for maximum
        projections. All exposures of an image expect the same photons.

    Notes
    -----
    The defaults come near the dark corners of the whole-brain planes that the NIDDL authors publish, without what
    belongs to one sensor: the parameters from ``read_correlation`` on are neutral. :data:`NIDDL_EMCCD` is that camera
    with all of them. docs/decisions/0007-camera-noise.md compares real and simulated statistics.
    """

    offset: float = 400.0
    gain: float = 25.0
    read_noise: float = 11.5
    excess_noise: float = 2.0
    row_noise: float = 8.8
    row_length_px: float = 22.0
    spurious_charge: float = 0.09
    read_correlation: tuple[float, ...] = ()
    column_pattern: tuple[float, ...] = ()
    row_start: tuple[float, ...] = ()
    column_shading: tuple[float, ...] = ()
    row_shading: tuple[float, ...] = ()
    offset_drift: float = 0.0
    row_drift: float = 0.0
    row_drift_px: float = 30.0
    fixed_pattern: float = 0.0
    hot_pixels: float = 0.0
    hot_counts: float = 0.0
    pattern_seed: int = 0
    projected_planes: int = 1

    def __post_init__(self) -> None:
        for name in ("read_correlation", "column_pattern", "row_start", "column_shading", "row_shading"):
            values = tuple(float(value) for value in getattr(self, name))
            if not np.all(np.isfinite(values)):
                raise NiddlError(f"expected {name} of the camera as finite numbers, got {values}")
            object.__setattr__(self, name, values)  # a list would not be hashable
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, tuple) and (not np.isfinite(value) or value < 0):
                raise NiddlError(
                    f"expected {field.name} of the camera as a finite number that is not negative, got {value}"
                )
        if self.gain == 0 or self.row_length_px == 0 or self.row_drift_px == 0:
            raise NiddlError(
                f"expected gain and row_length_px above 0, got gain={self.gain}, row_length_px={self.row_length_px}, "
                f"and row_drift_px above 0, got {self.row_drift_px}; set row_noise=0 for a camera without stripes"
            )
        if self.excess_noise < 1:
            raise NiddlError(f"expected excess_noise of 1 (sCMOS) to 2 (EMCCD) or more, got {self.excess_noise}")
        if self.offset > LARGEST_COUNT:
            raise NiddlError(f"expected an offset within 16 bits (0 to {LARGEST_COUNT}), got {self.offset}")
        if sum(map(abs, self.read_correlation)) > 0.5:
            raise NiddlError(
                "expected read_correlation with magnitudes that add up to at most 0.5, got "
                f"{self.read_correlation}: noise that runs further along a row is row_noise="
            )
        if self.hot_pixels > 1:
            raise NiddlError(f"expected hot_pixels as a fraction of 0 to 1, got {self.hot_pixels}")
        for name, least in (("pattern_seed", 0), ("projected_planes", 1)):
            value = getattr(self, name)
            if int(value) != value or value < least:
                raise NiddlError(f"expected {name} as a whole number of {least} or more, got {value}")

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def attrs(self) -> dict[str, float]:
        """Return what the attrs of a recording of this camera say, with units in the names."""
        return {
            "offset_counts": self.offset,
            "gain_counts_per_photon": self.gain,
            "read_noise_counts": self.read_noise,
            "row_noise_counts": self.row_noise,
            "excess_noise": self.excess_noise,
        }

    def expected(self, photons: np.ndarray) -> np.ndarray:
        """Return the mean counts, float32, of expected photons of any shape; neither clipped nor rounded.

        That is the mean of an ordinary pixel: the patterns that differ from pixel to pixel are noise. For a maximum
        projection it is the mean of the maximum.
        """
        if self.projected_planes > 1:
            rates, means = _means_of_maximum(self)
            return np.asarray(np.interp(photons, rates, means), np.float32)
        counts: np.ndarray = np.multiply(photons, self.gain, dtype=np.float32)
        counts += np.float32(self.offset + self.gain * self.spurious_charge)
        return counts

    def photons(self, counts: np.ndarray) -> np.ndarray:
        """Return the photons, float32, whose mean counts these are: the inverse of :meth:`expected`.

        They are negative where the counts are below those of the dark, but never below the spurious charge: no
        exposure has fewer electrons than none.
        """
        if self.projected_planes > 1:
            rates, means = _means_of_maximum(self)
            return np.asarray(np.interp(counts, means, rates), np.float32)
        electrons = np.subtract(counts, self.offset, dtype=np.float32) / np.float32(self.gain)
        return np.asarray(np.maximum(electrons, 0) - np.float32(self.spurious_charge))

    def uneven_offset(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the counts (y, x), float32, by which shading and the start of rows change the offset."""
        along_x = spread_evenly(np.asarray(self.column_shading), shape[1])
        start = self.row_start[: shape[1]]
        along_x[: len(start)] += np.asarray(start, np.float32)
        return np.asarray(along_x + spread_evenly(np.asarray(self.row_shading), shape[0])[:, None])

    def acquire(self, photons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one random exposure, uint16, of the expected photons of a volume (z, y, x).

        Counts are rounded and clipped to 0 .. 65,535. Photons may be negative, where a place gets less than the
        spurious charge.
        """
        counts = np.empty(photons.shape, np.uint16)
        standing = _standing(self, photons.shape[1], photons.shape[2])
        for z, plane in enumerate(photons):
            expected = np.asarray(plane, np.float32) + np.float32(self.spurious_charge)
            noisy = self._expose(expected, rng)
            for _ in range(1, self.projected_planes):
                np.maximum(noisy, self._expose(expected, rng), out=noisy)
            noisy += standing
            if self.offset_drift:
                noisy += np.float32(self.offset_drift * rng.standard_normal())
            np.rint(noisy, out=noisy)
            counts[z] = np.clip(noisy, 0, LARGEST_COUNT, out=noisy)
        return counts

    def _expose(self, expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noisy = amplified_charge(expected, self.gain, self.excess_noise, rng)
        noisy += noise_along_rows(
            noisy.shape, self.read_noise, self.row_noise, self.row_length_px, self.read_correlation, rng
        )
        if self.column_pattern:
            taps = np.roll(np.asarray(self.column_pattern, np.float32), rng.integers(len(self.column_pattern)))
            noisy += np.resize(taps, noisy.shape[1])
        if self.row_drift:
            noisy += drift_along_rows(len(noisy), self.row_drift, self.row_drift_px, rng)
        return noisy


# What niddl_xr.simulate.noise.fit finds in the 16 whole-brain planes that the NIDDL authors publish, rounded. Half of
# the electrons in the dark are left to the light of the scene; and that the planes differ in offset, by 5 counts, does
# not say in what time: offset_drift is left out.
NIDDL_EMCCD = Camera(
    offset=408.0,
    gain=25.5,
    read_noise=11.5,
    excess_noise=2.0,
    row_noise=8.8,
    row_length_px=22.0,
    spurious_charge=0.05,
    read_correlation=(-0.028, -0.028, 0.046, 0.019),
    column_pattern=(-1.0, 2.5, -2.1, 0.6),
    row_start=(
        *(9.7, 8.2, 6.3, 4.9, 3.9, 3.4, 2.9, 1.9, 0.9, 0.4, 0.4, 0.3, 0.2, 0.2, 0.2, -0.1, -0.6, -0.8, -1.3, -2.0),
        *(-2.6, -2.7, -2.7, -2.6, -1.9, -1.0, -0.8, -0.9, -0.5, 0.5, 1.3, 1.5, 1.2, 1.2, 1.3, 1.3, 1.1, 1.1),
    ),
    column_shading=(-12.4, -8.8, -4.2, -0.5, 1.2, 3.1, 4.9, 6.1, 7.2),
    row_drift=3.4,
    row_drift_px=27.0,
)


@lru_cache(maxsize=8)
def _means_of_maximum(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return photons, and the mean of the maximum of as many exposures in counts."""
    electrons = np.concatenate([[0.0], np.geomspace(1e-3, LARGEST_COUNT / camera.gain + 1, 90)])
    pattern = float(np.mean(np.square(camera.column_pattern))) if camera.column_pattern else 0.0
    sigma = float(np.sqrt(camera.read_noise**2 + camera.row_noise**2 + camera.row_drift**2 + pattern))
    means = mean_of_maximum(electrons, sigma, camera.gain, camera.excess_noise, int(camera.projected_planes))
    return electrons - camera.spurious_charge, means + camera.offset


@lru_cache(maxsize=4)
def _standing(camera: Camera, rows: int, columns: int) -> np.ndarray:
    """Return the counts (y, x), float32, that every image of a camera has, light or not."""
    counts = camera.uneven_offset((rows, columns)) + np.float32(camera.offset)
    if camera.fixed_pattern or camera.hot_pixels:
        counts += standing_pattern(
            (rows, columns), camera.fixed_pattern, camera.hot_pixels, camera.hot_counts, int(camera.pattern_seed)
        )
    counts.flags.writeable = False  # shared by every exposure
    return counts
