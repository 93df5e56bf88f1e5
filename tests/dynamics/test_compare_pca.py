from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.spatial import procrustes

import niddl_xr as nx
from niddl_xr.schema import HISTORY, NiddlError
from tests.dynamics.conftest import correlated, traces_of


def population(loading: np.ndarray, score: np.ndarray, names: list[str] | None = None) -> xr.Dataset:
    neurons, modes = loading.shape
    return xr.Dataset(
        {
            "score": (("t", "mode"), score),
            "loading": (("neuron", "mode"), loading),
            "explained": ("mode", np.linspace(0.4, 0.1, modes)),
        },
        coords={
            "t": ("t", np.arange(len(score)) * 0.5, {"units": "s"}),
            "neuron": names or [f"N{index}" for index in range(neurons)],
            "mode": np.arange(1, modes + 1),
        },
    )


def test_angles_that_are_known() -> None:
    tilt = np.deg2rad(25)
    first, second = np.eye(7)[:, :2], np.eye(7)[:, :2].copy()
    second[:, 1] = np.cos(tilt) * np.eye(7)[1] + np.sin(tilt) * np.eye(7)[4]
    score = np.random.default_rng(0).standard_normal((50, 2))
    table = nx.compare_pca(population(first, score), population(second, score * [-1, 3]), modes=2)
    np.testing.assert_allclose(table["principal_angle_deg"], [0, 25], atol=1e-6)
    np.testing.assert_allclose(table["loading_cosine"], [1, np.cos(tilt)])
    np.testing.assert_array_equal(table["explained_a"], [0.4, 0.1])
    assert table.index.tolist() == [1, 2]
    assert table.attrs["neurons"] == 7
    assert table.attrs["frames"] == 50
    assert '"verb": "compare_pca"' in table.attrs[HISTORY]


def test_turned_mirrored_scaled_and_shifted_trajectories_are_the_same() -> None:
    rng = np.random.default_rng(0)
    score = rng.standard_normal((40, 3)) * [4, 2, 1]
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0] @ np.diag([1, 1, -1])
    loading = np.linalg.qr(rng.standard_normal((9, 3)))[0]
    table = nx.compare_pca(population(loading, score), population(loading @ turn, 2.5 * score @ turn + [3, 1, -8]))
    np.testing.assert_allclose(table["trajectory_r2"], 1)
    np.testing.assert_allclose(table["principal_angle_deg"], 0, atol=1e-5)
    assert table["loading_cosine"].max() < 0.99


def test_trajectories_as_scipy_has_them() -> None:
    rng = np.random.default_rng(0)
    score = rng.standard_normal((40, 3)) * [4, 2, 1]
    other = score @ rng.standard_normal((3, 3)) + rng.standard_normal((40, 3))
    loading = np.linalg.qr(rng.standard_normal((9, 3)))[0]
    table = nx.compare_pca(population(loading, score), population(loading, other))
    disparity = procrustes(score, other)[2]
    assert table.attrs["trajectory_r2"] == pytest.approx(1 - disparity)
    weights = np.sum((score - score.mean(axis=0)) ** 2, axis=0)
    assert np.average(table["trajectory_r2"], weights=weights) == pytest.approx(1 - disparity)


def test_neurons_by_name_and_frames_by_time() -> None:
    rng = np.random.default_rng(0)
    loading, score = np.linalg.qr(rng.standard_normal((9, 3)))[0], rng.standard_normal((60, 3))
    whole = population(loading, score)
    part = whole.isel(neuron=[8, 2, 5, 1, 0, 7], t=slice(None, None, 2)).transpose("mode", ...)
    part["score"] = part["score"].where(part["t"] != part["t"][4])
    renamed = xr.concat([part, part.isel(neuron=[0]).assign_coords(neuron=["X"])], "neuron", data_vars="minimal")
    table = nx.compare_pca(whole, renamed)
    np.testing.assert_allclose(table["principal_angle_deg"], 0, atol=1e-5)
    np.testing.assert_allclose(table["loading_cosine"], 1)
    np.testing.assert_allclose(table["trajectory_r2"], 1)
    assert (table.attrs["neurons"], table.attrs["frames"]) == (6, 29)


def test_times_that_are_not_shared_give_no_number() -> None:
    rng = np.random.default_rng(0)
    loading, score = np.linalg.qr(rng.standard_normal((9, 3)))[0], rng.standard_normal((60, 3))
    whole = population(loading, score)
    with pytest.warns(UserWarning, match="no trajectory_r2: the populations share 0 times, and 9 are needed"):
        table = nx.compare_pca(whole, whole.assign_coords(t=("t", whole.t.values + 0.2, {"units": "s"})))
    assert table["trajectory_r2"].isna().all()
    assert np.isnan(table.attrs["trajectory_r2"])
    np.testing.assert_allclose(table["loading_cosine"], 1)
    with pytest.raises(NiddlError, match="expected times in the same unit in both populations, got 's' and 'frame'"):
        nx.compare_pca(whole, whole.assign_coords(t=("t", np.arange(60), {"units": "frame"})))


def test_errors() -> None:
    whole = nx.pca(traces_of(correlated()), modes=4, null_draws=0)
    with pytest.raises(NiddlError, match="expected 3 modes in b, got 2; lower modes="):
        nx.compare_pca(whole, whole.isel(mode=[0, 1]))
    with pytest.raises(NiddlError, match="expected more than 3 neurons of the same name in both .* got 3 of 11 and 3"):
        nx.compare_pca(whole, whole.isel(neuron=[1, 2, 3]))
    with pytest.raises(NiddlError, match="got 0 of 11 and 11"):
        nx.compare_pca(whole, whole.assign_coords(neuron=list("abcdefghijk")))
    with pytest.raises(NiddlError, match="expected populations with a coordinate neuron"):
        nx.compare_pca(whole, whole.drop_vars("neuron"))
    with pytest.raises(NiddlError, match="expected modes as a whole number"):
        nx.compare_pca(whole, whole, modes=0)
    with pytest.raises(NiddlError, match="expected a population"):
        nx.compare_pca(whole, whole[["score"]])
