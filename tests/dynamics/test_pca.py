from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import cumulative_trapezoid
from scipy.signal import savgol_filter

import niddl_xr as nx
from niddl_xr.neurons import require_population
from niddl_xr.schema import NiddlError, history
from tests.dynamics.conftest import correlated, slow, traces_of

NO_NULL = {"null_draws": 0}


def svd_of(centred: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """numpy's SVD, with the largest loading of each mode positive."""
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    loading = right[:modes].T
    signs = np.sign(loading[np.abs(loading).argmax(axis=0), np.arange(modes)])
    return (left * size)[:, :modes] * signs, loading * signs, (size**2 / np.sum(size**2))[:modes]


@pytest.mark.parametrize("normalize", [None, "zscore", "peak"])
@pytest.mark.parametrize("shape", [(61, 11), (13, 29)])
def test_as_numpys_svd(normalize: str | None, shape: tuple[int, int]) -> None:
    values = correlated(*shape)
    population = nx.pca(traces_of(values), normalize=normalize, modes=5, **NO_NULL)
    centred = values - values.mean(axis=0)
    scale = {None: np.ones(shape[1]), "zscore": values.std(axis=0), "peak": np.abs(centred).max(axis=0)}[normalize]
    score, loading, explained = svd_of(centred / scale, 5)
    np.testing.assert_allclose(population["score"], score, atol=1e-8 * np.abs(score).max())
    np.testing.assert_allclose(population["loading"], loading, atol=1e-8)
    np.testing.assert_allclose(population["explained"], explained, atol=1e-10)
    np.testing.assert_allclose(population["mean"], values.mean(axis=0))
    np.testing.assert_allclose(population["scale"], scale)
    assert population["mode"].values.tolist() == [1, 2, 3, 4, 5]
    assert require_population(population)["score"].dtype == "float64"


@pytest.mark.parametrize("shape", [(430, 409), (409, 430)])
def test_large_matrices_as_numpys_svd(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((shape[0], 12)) * 3.0 ** -np.arange(12) @ rng.standard_normal((12, shape[1]))
    population = nx.pca(traces_of(values), normalize=None, modes=8, **NO_NULL)
    score, loading, explained = svd_of(values - values.mean(axis=0), 8)
    np.testing.assert_allclose(population["score"], score, atol=1e-8 * np.abs(score).max())
    np.testing.assert_allclose(population["loading"], loading, atol=1e-8)
    np.testing.assert_allclose(population["explained"], explained, atol=1e-10)


@pytest.mark.parametrize("shape", [(430, 409), (409, 430)])
def test_modes_without_variance_are_directions_all_the_same(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))
    population = nx.pca(traces_of(values), normalize=None, modes=4, **NO_NULL)
    loading = population["loading"].values
    np.testing.assert_allclose(loading.T @ loading, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(population["explained"], [1, 0, 0, 0], atol=1e-12)


def test_dims_in_any_order_and_lazy_traces_give_the_same() -> None:
    traces = traces_of(correlated()).assign_coords(state=("t", ["forward"] * 61), side=("neuron", list("LRLRLRLRLRL")))
    expected = nx.pca(traces)
    for other in (traces.transpose("neuron", "t"), traces.chunk(t=7, neuron=3), traces.to_dataset().chunk(t=13)):
        xr.testing.assert_allclose(nx.pca(other), expected, rtol=1e-12)
    assert expected["state"].dims == ("t",)
    assert expected["side"].dims == ("neuron",)
    assert expected["t"].attrs["units"] == "s"
    xr.testing.assert_identical(traces.niddl.pca(modes=2)["score"], nx.pca(traces, modes=2)["score"])
    entry = history(expected)[-1]
    assert entry["verb"] == "pca"
    assert entry["parameters"]["normalize"] == "zscore"


def test_another_variable_is_named() -> None:
    F = traces_of(correlated()).rename("F")
    traces = xr.Dataset({"F": F, "dff": F * 2 + np.arange(61)[:, None]})
    np.testing.assert_array_equal(nx.pca(traces, variable="F")["score"], nx.pca(F)["score"])
    with pytest.raises(NiddlError, match=r"expected traces with the variable dff .*got \['F'\].*or make dff with"):
        nx.pca(F.to_dataset())


def test_at_most_as_many_modes_as_there_are() -> None:
    assert nx.pca(traces_of(correlated(61, 3)), **NO_NULL).sizes["mode"] == 3
    assert nx.pca(traces_of(correlated(4, 9)), **NO_NULL).sizes["mode"] == 4


def test_signs() -> None:
    values = correlated()
    traces = traces_of(values, names=["AVAL", *(f"N{k}" for k in range(10))])
    plain = nx.pca(traces, modes=4, **NO_NULL)
    loading = plain["loading"].values
    assert (loading[np.abs(loading).argmax(axis=0), np.arange(4)] > 0).all()
    named = nx.pca(traces, modes=4, align_to="AVAL", **NO_NULL)
    assert (named["loading"].sel(neuron="AVAL") > 0).all()
    assert (plain["loading"].sel(neuron="AVAL") < 0).any()
    behaviour = -traces.sel(neuron="AVAL", drop=True) + 40
    behaviour[3] = np.nan
    aligned = nx.pca(traces, modes=4, align_to=behaviour, **NO_NULL)
    correlation = [
        np.corrcoef(np.delete(aligned["score"].values[:, k], 3), np.delete(behaviour.values, 3))[0, 1] for k in range(4)
    ]
    assert min(correlation) > 0
    np.testing.assert_array_equal(named["score"] * -1, aligned["score"])
    turned = named.assign(loading=-named["loading"], score=-named["score"]).isel(neuron=[3, 5, 1, 9, 0])
    following = nx.pca(traces, modes=4, align_to=turned, **NO_NULL)
    np.testing.assert_array_equal(following["loading"], -named["loading"])
    np.testing.assert_allclose(named["score"] @ named["loading"], plain["score"] @ plain["loading"])


def test_equal_loadings_do_not_leave_the_sign_to_rounding() -> None:
    wave = np.sin(np.arange(50.0))
    for first in (1, -1):
        population = nx.pca(traces_of(np.stack([first * wave, -first * wave], axis=1)), modes=1, **NO_NULL)
        np.testing.assert_allclose(population["loading"].values.ravel(), np.array([1, -1]) / np.sqrt(2))


def test_derivative_by_savgol_as_scipy_has_it_and_its_integral() -> None:
    _, noisy = slow(200, 9, 0.1)
    population = nx.pca(traces_of(noisy, 0.3), derivative="savgol", window_s=2.7, normalize="peak", modes=3, **NO_NULL)
    rate = savgol_filter(noisy, 9, 2, deriv=1, delta=0.3, axis=0)
    centred = rate - rate.mean(axis=0)
    score, loading, explained = svd_of(centred / np.abs(centred).max(axis=0), 3)
    np.testing.assert_allclose(population["loading"], loading, atol=1e-8)
    np.testing.assert_allclose(population["explained"], explained, atol=1e-10)
    integral = cumulative_trapezoid(score, dx=0.3, axis=0, initial=0)
    np.testing.assert_allclose(population["integrated"], integral, atol=1e-8)


@pytest.mark.parametrize("derivative", ["savgol", "gaussian", "total_variation"])
def test_derivatives_of_a_ramp_are_its_slope(derivative: str) -> None:
    t = np.arange(80) * 0.4
    values = np.stack([2 * t + np.sin(t), -3 * t + np.cos(t / 2), np.sin(t / 3)], axis=1)
    population = nx.pca(traces_of(values, 0.4), derivative=derivative, normalize=None, window_s=4, **NO_NULL)
    np.testing.assert_allclose(population["mean"], (values[-1] - values[0]) / (t[-1] - t[0]), atol=0.12)


def test_smoothing_lowers_the_noise() -> None:
    clean, noisy = slow(400, 13, 2.0)
    truth = nx.pca(traces_of(clean, 0.3), **NO_NULL)
    r2 = [
        nx.compare_pca(truth, nx.pca(traces_of(noisy, 0.3), smooth_s=smooth_s, **NO_NULL)).attrs["trajectory_r2"]
        for smooth_s in (0.0, 1.0)
    ]
    assert r2[1] > r2[0] + 0.05


def test_noise_does_not_lower_the_explained_part_of_the_signal() -> None:
    clean, noisy = slow(1200, 30, 1.5)
    truth = nx.pca(traces_of(clean, 0.3), normalize=None, modes=3, **NO_NULL)["explained"]
    for options in ({}, {"smooth_s": 0.5}):
        population = nx.pca(traces_of(noisy, 0.3), normalize=None, modes=3, **options, **NO_NULL)
        np.testing.assert_allclose(population["explained_signal"], truth, atol=0.03)
    assert float(nx.pca(traces_of(noisy, 0.3), normalize=None, **NO_NULL)["explained"][0]) < float(truth[0]) - 0.05
    rate = {"derivative": "savgol", "normalize": None, "modes": 3}
    truth = nx.pca(traces_of(clean, 0.3), **rate, **NO_NULL)["explained"]
    np.testing.assert_allclose(nx.pca(traces_of(noisy, 0.3), **rate, **NO_NULL)["explained_signal"], truth, atol=0.05)
    white = np.random.default_rng(0).standard_normal((200, 7))
    assert nx.pca(traces_of(white), **NO_NULL)["explained_signal"].isnull().all()


def test_too_many_gaps_and_constant_traces_are_left_out_by_name() -> None:
    values = correlated(60, 6)
    values[:30, 1] = np.nan
    values[:, 4] = 7.3
    values[:, 2] = np.nan
    with pytest.warns(UserWarning, match="left out") as caught:
        population = nx.pca(traces_of(values), **NO_NULL)
    said = [str(item.message) for item in caught]
    assert said == [
        "left out N1, N2: they were observed in less than 75% of the frames; see least_observed=",
        "left out N4: they are constant, and cannot be normalized by 'zscore'",
    ]
    assert all(item.filename == __file__ for item in caught)
    assert population["neuron"].values.tolist() == ["N0", "N3", "N5"]
    assert population.attrs["left_out"] == ["N1", "N2", "N4"]
    with pytest.warns(UserWarning, match="left out N2: "):
        raw = nx.pca(traces_of(values), normalize=None, least_observed=0.5, missing="interpolate", **NO_NULL)
    assert float(abs(raw["loading"].sel(neuron="N4")[:4]).max()) < 1e-12
    assert raw["filled"].sel(neuron="N1").values.sum() == 30


def test_frames_without_any_neuron_have_no_score_and_do_not_count() -> None:
    values = correlated()
    gappy = values.copy()
    gappy[[0, 17, 18, 60]] = np.nan
    kept = np.delete(np.arange(61), [0, 17, 18, 60])
    whole = nx.pca(traces_of(values).isel(t=kept), modes=3, **NO_NULL)
    for missing in ("lowrank", "interpolate", "drop"):
        population = nx.pca(traces_of(gappy), missing=missing, modes=3, **NO_NULL)
        np.testing.assert_array_equal(population["score"].isnull().all("mode"), np.isnan(gappy).all(axis=1))
        np.testing.assert_allclose(population["score"][kept], whole["score"], atol=1e-9)
        np.testing.assert_allclose(population["explained"], whole["explained"])
    assert population["filled"][17].all()
    rates = nx.pca(traces_of(gappy), derivative="gaussian", **NO_NULL)
    assert rates["score"].isnull().sum() == 4 * rates.sizes["mode"]
    assert rates["integrated"].notnull().all()


def test_missing_values_as_asked() -> None:
    _, noisy = slow(400, 29, 0.3)
    hidden = np.random.default_rng(1).random(noisy.shape) < 0.15
    hidden[:, 0] = False
    traces = traces_of(np.where(hidden, np.nan, noisy), 0.3)
    full = nx.pca(traces_of(noisy, 0.3), modes=3, **NO_NULL)
    filled = nx.pca(traces, modes=3, **NO_NULL)
    assert filled.attrs["filled_rank"] == 3
    np.testing.assert_array_equal(filled["filled"], hidden)
    assert nx.compare_pca(full, filled).attrs["trajectory_r2"] > 0.98
    assert nx.compare_pca(full, nx.pca(traces, missing="interpolate", modes=3, **NO_NULL)).attrs["trajectory_r2"] > 0.95
    with pytest.raises(NiddlError, match=r"expected two neurons or more .*got 1 of 29 \(they have gaps"):
        nx.pca(traces, missing="drop")
    with pytest.raises(NiddlError, match=r"expected no NaN, got \d+ in N1, N2.* and 20 more: choose missing="):
        nx.pca(traces, missing="raise")
    with pytest.warns(UserWarning, match="left out N5: they have gaps"):
        nx.pca(
            traces_of(noisy, 0.3).where(lambda item: (item.neuron != "N5") | (item.t > 1)), missing="drop", **NO_NULL
        )


def test_the_same_seed_the_same_null() -> None:
    traces = traces_of(correlated())
    a, b, c = (nx.pca(traces, null_draws=20, seed=seed)["explained_null"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert "explained_null" not in nx.pca(traces, **NO_NULL)
    assert "significant" not in nx.pca(traces, **NO_NULL)


def test_irregular_or_unknown_times() -> None:
    traces = traces_of(correlated())
    jittered = traces.assign_coords(t=("t", traces.t.values + 0.2 * (np.arange(61) % 7 == 3), {"units": "s"}))
    np.testing.assert_allclose(nx.pca(jittered, **NO_NULL)["score"], nx.pca(traces, **NO_NULL)["score"])
    for options, said in (({"derivative": "savgol"}, "derivative='savgol'"), ({"smooth_s": 1.0}, "smooth_s=1")):
        with pytest.raises(NiddlError, match=f"expected even steps of time, for {said}, got 18 of 60 .*traces.interp"):
            nx.pca(jittered, **options)
        frames = traces.assign_coords(t=("t", np.arange(61), {"units": "frame"}))
        for unknown in (frames, traces.drop_vars("t")):
            with pytest.raises(NiddlError, match=f"expected the times of the traces in s, for {said}, got t in units"):
                nx.pca(unknown, **options)
    with pytest.raises(NiddlError, match="expected the times of the traces finite and rising"):
        nx.pca(traces.isel(t=[0, 2, 1, *range(3, 61)]))
    with pytest.raises(NiddlError, match="expected the times of the traces as numbers in s, got dtype <U"):
        nx.pca(traces.assign_coords(t=[f"{k}" for k in range(61)]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (correlated(61, 1), "expected two neurons or more .*got 1 of 1"),
        (correlated(2, 5), "expected 3 frames or more with a value, got 2 of 2"),
        (np.full((20, 4), np.nan), "expected 3 frames or more with a value, got 0 of 20"),
        (np.ones((20, 4)), r"expected two neurons or more .*got 0 of 4 \(they are constant"),
        (np.where(np.arange(20)[:, None] == 3, np.inf, correlated(20, 4)), "expected finite numbers .*got 4 infinite"),
    ],
)
def test_what_cannot_be_used(values: np.ndarray, message: str) -> None:
    with pytest.raises(NiddlError, match=message):
        nx.pca(traces_of(values))


def test_constant_traces_have_no_modes() -> None:
    with pytest.raises(NiddlError, match="expected traces that change over time, got constant ones alone"):
        nx.pca(traces_of(np.full((20, 4), 0.1)), normalize=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"derivative": "diff"}, r'expected derivative as one of \[null, "savgol"'),
        ({"normalize": "max"}, "expected normalize as one of"),
        ({"missing": "zero"}, "expected missing as one of"),
        ({"modes": 0}, "expected modes as a whole number of 1 or more, got 0"),
        ({"null_draws": -1}, "expected null_draws as a whole number of 0 or more"),
        ({"seed": 1.5}, "expected seed as a whole number"),
        ({"window_s": 0}, "expected window_s as a number of seconds, above 0, got 0"),
        ({"smooth_s": -1}, "expected smooth_s as a number of seconds, 0 or more, got -1"),
        ({"least_observed": 75}, "expected least_observed as a part of the frames, 0 to 1, got 75"),
        ({"derivative": "savgol", "window_s": 1.5}, r"expected a window of 5 to 61 frames .*got 3 \(1.5 s at 0.5 s"),
        ({"derivative": "total_variation", "window_s": 99}, "expected a window of 5 to 61 frames .*got 197"),
        ({"align_to": "AVAL"}, "expected align_to as the name of a neuron, got 'AVAL'; those of the population are N0"),
        ({"align_to": 3}, "expected align_to as the name of a neuron, a DataArray .*got int"),
    ],
)
def test_arguments_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(NiddlError, match=message):
        nx.pca(traces_of(correlated()), **options)


def test_behaviour_that_does_not_fit() -> None:
    traces = traces_of(correlated())
    with pytest.raises(NiddlError, match="expected align_to as numbers over t, got dtype <U7"):
        nx.pca(traces, align_to=xr.DataArray(["forward"] * 61, dims="t"))
    with pytest.raises(NiddlError, match="expected align_to at the 61 times of the traces, got 40 others"):
        nx.pca(traces, align_to=traces[:40, 0])
    with pytest.raises(NiddlError, match="at the 61 times of the traces"):
        nx.pca(traces, align_to=traces[:, 0].assign_coords(t=traces.t + 0.1))
    with pytest.raises(NiddlError, match="expected align_to with numbers .*got NaN alone"):
        nx.pca(traces, align_to=traces[:, 0] * np.nan)
    with pytest.raises(NiddlError, match="shares neurons with the traces by name, got none"):
        nx.pca(traces, align_to=nx.pca(traces.assign_coords(neuron=list("abcdefghijk")), **NO_NULL))
    with pytest.raises(NiddlError, match="expected every neuron once"):
        nx.pca(traces.assign_coords(neuron=["a"] * 11))
    with pytest.raises(NiddlError, match=r"expected traces with dims \('t', 'neuron'\), got \('t',\)"):
        nx.pca(traces[:, 0])
    with pytest.raises(NiddlError, match="expected dff as real numbers, got dtype <U"):
        nx.pca(traces.astype(str))


@pytest.mark.realdata
def test_freely_moving_worm_as_numpy_has_it(realdata) -> None:
    """AVAL and AVAR of Atanas, Kim et al. (2023) go together, in the traces and in the modes."""
    folder = realdata / "wormwideweb_traces"
    entries = json.loads((folder / "time_trace.json").read_text())
    values = np.array([row for _, row in entries])
    names = json.loads((folder / "neurons.json").read_text())[: values.shape[1]]
    t = ("t", np.array([time for time, _ in entries]), {"units": "s"})
    traces = xr.DataArray(values, dims=("t", "neuron"), coords={"t": t, "neuron": names})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        population = nx.pca(traces, align_to="AVAL", null_draws=59)
    size = np.linalg.svd((values - values.mean(axis=0)) / values.std(axis=0), compute_uv=False)
    np.testing.assert_allclose(population["explained"], (size**2 / np.sum(size**2))[:10], atol=1e-8)
    np.testing.assert_allclose(population["explained"][:3], [0.228, 0.137, 0.102], atol=0.002)
    assert population["significant"][:3].all()
    left, right = (population["loading"].sel(neuron=name).values for name in ("AVAL", "AVAR"))
    assert np.corrcoef(traces.sel(neuron="AVAL"), traces.sel(neuron="AVAR"))[0, 1] > 0.95
    kept = population["score"].values @ population["loading"].values.T
    place = [names.index(name) for name in ("AVAL", "AVAR")]
    assert np.corrcoef(kept[:, place].T)[0, 1] > 0.95
    assert left[0] > 0
    assert right[0] > 0
