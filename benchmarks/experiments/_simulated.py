"""Simulated worms at a chosen light, with a truth without noise.

The paper counts light as *peak photons*: its videos are scaled so that the brightest voxel expects 20 to 1000 photons,
then Poisson noise and read noise of one photon are added. Here peak photons are those of the worm at the brightest
voxel of a stack, or of a whole recording; light past the sample comes on top, and the camera is an EMCCD, whose excess
noise makes 1000 photons as noisy as 500 of the paper's. ``photons`` of :mod:`niddl_xr.simulate` are those at the centre
of a nucleus of median brightness: the brightest voxel of a stack of ``training_pairs`` expects 5 to 16 times as many,
8 in the median (measured on 12 stacks of 5 x 128 x 128), so that 20 to 1000 peak photons are about 2.5 to 125 photons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

import niddl_xr as nx

PEAK_OVER_MEDIAN = 8.0
IDEAL_CAMERA = nx.simulate.Camera(offset=0, gain=1, read_noise=0, excess_noise=1, row_noise=0, spurious_charge=0)
_COUNTS, _GAIN, _PHOTONS = 300.0, 8.0, 1e6  # of the truth, per nucleus of median brightness
PEAK_PHOTONS = (20.0, 1000.0)  # the range of the paper


def mixed_light(subject: str, stacks: int, shape: Sequence[int], seed: int, **options: Any) -> xr.Dataset:
    """Return pairs to train on whose light is spread over the whole range of the paper, one draw a stack."""
    low, high = (peak / PEAK_OVER_MEDIAN for peak in PEAK_PHOTONS)
    chosen = {"photons": (low, high), **options}
    return nx.simulate.training_pairs(subject=subject, stacks=stacks, shape=shape, seed=seed, **chosen).load()


def light(subject: str, stacks: int, shape: Sequence[int], seed: int, **options: Any) -> xr.DataArray:
    """Return the light of the worms (stack, z, y, x) relative to a median nucleus, as good as without noise."""
    pairs = nx.simulate.training_pairs(
        subject=subject,
        stacks=stacks,
        shape=shape,
        seed=seed,
        photons=(1.0, 1.0),
        clean_photons=(_PHOTONS, _PHOTONS),
        peak_counts=(_COUNTS, _COUNTS),
        clean_gain=(_GAIN, _GAIN),
        stray_photons=0.0,
        camera=IDEAL_CAMERA,
        **options,
    )
    clean = pairs["clean"].drop_vars(["photons", "clean_photons", "peak_counts", "clean_gain"])  # of this truth alone
    return (clean / (_COUNTS * _GAIN)).astype("float32").load()


def with_truth(
    subject: str,
    stacks: int,
    shape: Sequence[int],
    seed: int,
    *,
    photons: Sequence[float] | None = None,
    peak_photons: float | None = None,
    camera: nx.simulate.Camera | None = None,
    stray_photons: float = 3.0,
    **options: Any,
) -> xr.Dataset:
    """Return pairs to judge by: noisy stacks, and as ``clean`` the worms' :func:`light`, float32.

    Either ``photons``, the range from which a stack draws those of its median nucleus, or ``peak_photons``, those that
    every stack has at its brightest voxel. ``stray_photons`` past the sample are no part of the truth.
    """
    truth = light(subject, stacks, shape, seed, **options)

    def noisy(drawn: Sequence[float]) -> xr.DataArray:
        return nx.simulate.training_pairs(
            subject=subject,
            stacks=stacks,
            shape=shape,
            seed=seed,
            photons=drawn,
            camera=camera,
            stray_photons=stray_photons,
            **options,
        )["noisy"]

    if photons is not None:
        return xr.Dataset({"noisy": noisy(photons).load(), "clean": truth})
    if peak_photons is None:
        raise ValueError("expected photons or peak_photons, got neither")
    needed = (peak_photons / truth.max(["z", "y", "x"])).values.tolist()
    # Lazy: of each set only the stack with this light is rendered.
    single = [noisy((each, each)).isel(stack=[number]).load() for number, each in enumerate(needed)]
    return xr.Dataset({"noisy": xr.concat(single, dim="stack"), "clean": truth})


def recording_at_peak(peak_photons: float, **options: Any) -> xr.DataTree:
    """Return a simulated whole-brain recording whose brightest voxel expects ``peak_photons`` from the worm.

    ``options`` are those of :func:`niddl_xr.simulate.whole_brain`.
    """
    unit = nx.simulate.whole_brain(
        photons=1.0, stray_photons=0.0, background_photons=0.0, camera=IDEAL_CAMERA, **options
    )
    return nx.simulate.whole_brain(photons=peak_photons / float(unit["clean"]["F"].max()), **options)
