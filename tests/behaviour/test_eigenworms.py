from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

import niddl_xr as nx
from niddl_xr.posture import make_posture
from niddl_xr.schema import NiddlError

T, S = 50, 64


def posture_of_angles(angles: np.ndarray, side: str = "unknown") -> xr.Dataset:
    """A body of 1 mm whose direction (t, s) from head to tail is given, from x towards y; NaN frames have no line."""
    steps = 1000 / (angles.shape[1] - 1) * np.stack([0 * angles, np.sin(angles), np.cos(angles)], axis=-1)
    # Points in the middle of steps of half, one and half length, so that differences are the angles.
    line = np.cumsum(steps, axis=1) - steps / 2
    frames = len(angles)
    return make_posture(
        line,
        np.zeros(angles.shape),
        length_um=np.full(frames, 1000.0),
        quality=np.ones(frames),
        reason=[""] * frames,
        t=("t", np.arange(frames) * 0.1, {"units": "s"}),
        ventral_side=side,
    )


def two_modes(count: int = S) -> np.ndarray:
    s = (np.arange(count) + 0.5) / count
    return np.sqrt(2) * np.stack([np.sin(2 * np.pi * s), np.cos(2 * np.pi * s)])


@pytest.fixture
def amounts() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(T, 2)) * [0.5, 0.2]


def test_modes_and_amplitudes_by_algebra(amounts: np.ndarray) -> None:
    heading = np.linspace(-2, 2, T)
    posture = posture_of_angles(amounts @ two_modes() + heading[:, None])
    shapes = nx.eigenworms(posture, modes=2)
    # Differences over two steps smooth the angles a little.
    found, true = shapes["eigenworm"].values, two_modes()
    overlap = found @ true.T / S
    np.testing.assert_allclose(np.linalg.svd(overlap)[1], 1, atol=0.05)
    assert float(shapes["explained"].sum()) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose((found**2).mean(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(found[:, :16].mean(axis=1) > 0, True)
    np.testing.assert_allclose(shapes["heading"], heading, atol=0.02)
    rebuilt = shapes["amplitude"].values @ found
    np.testing.assert_allclose(rebuilt[:, 2:-2], (amounts @ true)[:, 2:-2], atol=0.03)


def test_a_given_basis_of_other_length_gives_its_amplitudes(amounts: np.ndarray) -> None:
    posture = posture_of_angles(amounts @ two_modes())
    basis = xr.DataArray(two_modes(101)[::-1] * 7, dims=("mode", "s"))
    for given in (basis, basis.transpose("s", "mode"), basis.values):
        shapes = nx.eigenworms(posture, modes=2, basis=given)
        np.testing.assert_allclose(shapes["amplitude"], amounts[:, ::-1], atol=0.03)
    assert shapes["explained"][1] > 3 * shapes["explained"][0]


def test_the_ventral_side_turns_the_sign(amounts: np.ndarray) -> None:
    angles = amounts @ two_modes()
    right, left = (
        nx.eigenworms(posture_of_angles(angles, side), modes=2, basis=two_modes())["amplitude"].values
        for side in ("right", "left")
    )
    np.testing.assert_allclose(left, -right, atol=1e-6)


def test_frames_without_a_line_stay_so(amounts: np.ndarray) -> None:
    posture = posture_of_angles(amounts @ two_modes())
    lacking = posture.copy(deep=True)
    lacking["centerline"][3] = np.nan
    lacking["centerline"][7, 0] = np.nan
    shapes = nx.eigenworms(lacking, modes=2)
    assert np.isnan(shapes["amplitude"].values).any(axis=1).nonzero()[0].tolist() == [3, 7]
    assert np.isnan(shapes["heading"].values[[3, 7]]).all()
    rest = nx.eigenworms(posture.isel(t=[k for k in range(T) if k not in (3, 7)]), modes=2)
    np.testing.assert_allclose(shapes["amplitude"].dropna("t"), rest["amplitude"], atol=1e-5)


def test_four_modes_explain_a_crawling_worm() -> None:
    truth = nx.simulate.freely_moving(shape=(1, 16, 16), voxel_um=(1, 70, 70), frames=200, neurons=2, seed=4)["posture"]
    shapes = nx.eigenworms(truth.to_dataset())
    assert float(shapes["explained"].sum()) >= 0.95


def test_errors_say_what_was_expected(amounts: np.ndarray) -> None:
    posture = posture_of_angles(amounts @ two_modes())
    with pytest.raises(NiddlError, match="at most 3 modes of 4 known frames of 64 points, got 4"):
        nx.eigenworms(posture.isel(t=slice(0, 4)))
    with pytest.raises(NiddlError, match="modes as a whole number from 1 on, got 0"):
        nx.eigenworms(posture, modes=0)
    with pytest.raises(NiddlError, match=r"rows are modes, got shape \(64, 2\): give its transpose"):
        nx.eigenworms(posture, basis=two_modes().T)
    with pytest.raises(NiddlError, match="at most the 2 modes of the basis, got 4"):
        nx.eigenworms(posture, basis=two_modes())
    with pytest.raises(NiddlError, match="whole centreline in one frame at least"):
        nx.eigenworms(posture.assign(centerline=posture["centerline"] * np.nan))
    with pytest.raises(NiddlError, match="got one of zeros"):
        nx.eigenworms(posture, modes=1, basis=np.zeros((1, 9)))


@pytest.mark.realdata
def test_published_bases_of_three_samplings_agree(realdata) -> None:
    """Three groups' eigenworms, of 48, 100 and 101 points, span nearly the same space of three shapes."""
    folder = realdata / "worm_posture"
    with h5py.File(folder / "master_eigen_worms_N2.mat") as file:
        yemini = file["eigenWorms"][:].T
    bases = [
        yemini,
        np.loadtxt(folder / "EigenWorms.csv", delimiter=",").T,
        scipy.io.loadmat(folder / "leifer_eigenWorms.mat")["eigbasis"],
    ]
    assert [basis.shape[1] for basis in bases] == [48, 100, 101]
    truth = nx.simulate.freely_moving(shape=(1, 16, 16), voxel_um=(1, 70, 70), frames=200, neurons=2, seed=4)["posture"]
    for basis in bases:
        assert float(nx.eigenworms(truth.to_dataset(), modes=4, basis=basis)["explained"].sum()) > 0.85
