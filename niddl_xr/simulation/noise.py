"""The camera: from the photons that are expected in a voxel to the counts of a 16-bit file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from niddl_xr.schema import NiddlError
from niddl_xr.simulation._kernels.noise import row_stripes

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
        RMS in counts, independent from pixel to pixel.
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

    Notes
    -----
    The defaults come near the dark corners of the whole-brain planes that the NIDDL authors publish, whose SD is 18
    counts, skew 1.1 to 2.2, correlation along x 0.22 at 1 px and 0.09 at 24 px, and none along y (16 planes, measured
    for this project).
    """

    offset: float = 400.0
    gain: float = 25.0
    read_noise: float = 11.0
    excess_noise: float = 2.0
    row_noise: float = 8.5
    row_length_px: float = 27.0
    spurious_charge: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value) or value < 0:
                raise NiddlError(f"expected {name} of the camera as a finite number that is not negative, got {value}")
        if self.gain == 0 or self.row_length_px == 0:
            raise NiddlError(
                f"expected gain and row_length_px above 0, got gain={self.gain}, row_length_px={self.row_length_px}; "
                "set row_noise=0 for a camera without stripes"
            )
        if self.excess_noise < 1:
            raise NiddlError(f"expected excess_noise of 1 (sCMOS) to 2 (EMCCD) or more, got {self.excess_noise}")
        if self.offset > LARGEST_COUNT:
            raise NiddlError(f"expected an offset within 16 bits (0 to {LARGEST_COUNT}), got {self.offset}")

    def as_dict(self) -> dict[str, float]:
        """Return the parameters as JSON holds them."""
        return asdict(self)

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
        """Return the mean counts, float32, of expected photons of any shape; neither clipped nor rounded."""
        counts: np.ndarray = np.multiply(photons, self.gain, dtype=np.float32)
        counts += np.float32(self.offset + self.gain * self.spurious_charge)
        return counts

    def acquire(self, photons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one random exposure, uint16, of the expected photons of a volume (z, y, x).

        Counts are rounded and clipped to 0 .. 65,535.
        """
        counts = np.empty(photons.shape, np.uint16)
        for z, plane in enumerate(photons):
            electrons = rng.poisson(np.maximum(plane, 0) + self.spurious_charge)
            noisy = self._amplify(electrons, rng)
            noisy += self.offset
            noisy += self.read_noise * rng.standard_normal(plane.shape, dtype=np.float32)
            if self.row_noise:
                noisy += np.float32(self.row_noise) * row_stripes(plane.shape, self.row_length_px, rng)
            counts[z] = np.clip(np.rint(noisy), 0, LARGEST_COUNT)
        return counts

    def _amplify(self, electrons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.excess_noise == 1:
            return np.asarray(electrons * self.gain, dtype=np.float32)
        spread = self.excess_noise - 1
        counts = np.zeros(electrons.shape, np.float32)
        charged = electrons > 0  # a Gamma of shape 0 is 0: dark pixels cost nothing
        shape = electrons[charged].astype(np.float32) / np.float32(spread)
        counts[charged] = np.float32(self.gain * spread) * rng.standard_gamma(shape, dtype=np.float32)
        return counts
