from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d

import niddl_xr as nx
from niddl_xr.posture import make_posture
from niddl_xr.schema import NiddlError, history

T, S = 40, 23


def posture_of(curvature: np.ndarray, *, dt_s: float = 0.1, side: str = "right") -> xr.Dataset:
    frames, points = curvature.shape
    known = np.isfinite(curvature).all(axis=1)
    return make_posture(
        np.zeros((frames, points, 3)),
        curvature,
        length_um=np.where(known, 800.0, np.nan),
        quality=known.astype(float),
        reason=["" if line else "coil" for line in known],
        t=("t", np.arange(frames) * dt_s, {"units": "s"}),
        ventral_side=side,
    )


def test_without_smoothing_it_is_the_postures() -> None:
    values = np.random.default_rng(0).normal(size=(T, S))
    values[5] = np.nan
    bending = nx.curvature(posture_of(values, side="left"))
    np.testing.assert_array_equal(bending, values.astype("float32"))
    assert (bending.dims, bending.dtype, bending.attrs["units"]) == (("t", "s"), "float32", "1/mm")
    assert bending.attrs["ventral_side"] == "left"
    assert history(bending)[-1]["verb"] == "curvature"


def test_smoothing_is_scipys_gaussian() -> None:
    values = np.random.default_rng(1).normal(size=(T, S))
    in_time = nx.curvature(posture_of(values), smooth_s=0.2)
    np.testing.assert_allclose(in_time[12:28], gaussian_filter1d(values, 2, axis=0)[12:28], atol=1e-5)
    along = nx.curvature(posture_of(values), smooth_body=1.5 / (S - 1))
    np.testing.assert_allclose(along[:, 8:-8], gaussian_filter1d(values, 1.5, axis=1)[:, 8:-8], atol=1e-5)


def test_what_is_not_known_stays_so_and_does_not_count() -> None:
    values = np.full((T, S), 3.0)
    values[10:12] = np.nan
    bending = nx.curvature(posture_of(values), smooth_s=0.3, smooth_body=0.1)
    assert np.isnan(bending[10:12]).all()
    np.testing.assert_allclose(bending.dropna("t"), 3.0, rtol=1e-5)


def test_times_length_has_no_unit() -> None:
    bending = nx.curvature(posture_of(np.full((T, S), 5.0)), times_length=True)
    np.testing.assert_allclose(bending, 4.0)
    assert bending.attrs["units"] == "1"
    with pytest.raises(NiddlError, match="with a length in one frame at least"):
        nx.curvature(posture_of(np.full((T, S), np.nan)), times_length=True)


def test_errors_say_what_was_expected() -> None:
    posture = posture_of(np.zeros((T, S)))
    with pytest.raises(NiddlError, match="expected a posture with curvature, got"):
        nx.curvature(posture[["length"]])
    with pytest.raises(NiddlError, match="expected times t in s to smooth along them, got units None"):
        nx.curvature(posture.assign_coords(t=np.arange(T)), smooth_s=0.1)
    with pytest.raises(NiddlError, match="evenly spaced in time to smooth along it, got steps of 0.1 to 0.9"):
        nx.curvature(posture.isel(t=[0, 1, 2, 3, 12]), smooth_s=0.1)
    with pytest.raises(NiddlError, match="expected smooth_body as a finite number from 0 on, got nan"):
        nx.curvature(posture, smooth_body=np.nan)
    with pytest.raises(NiddlError, match="times t that increase"):
        nx.curvature(posture.isel(t=[1, 0]))
