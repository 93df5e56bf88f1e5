from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.optimize import lsq_linear

from niddl_xr.dynamics._kernels import chance, derivative, gaps
from niddl_xr.dynamics._kernels.reliability import signal_explained
from tests.dynamics.conftest import correlated, slow


@pytest.mark.parametrize("alpha", [0.3, 5.0, 200.0])
def test_trend_is_the_minimum_that_another_solver_finds(alpha: float) -> None:
    rng = np.random.default_rng(0)
    trace = np.cumsum(np.repeat(rng.standard_normal(6), 20)) / 5 + 0.3 * rng.standard_normal(120)
    second = np.diff(np.eye(120), n=2, axis=0)
    # The dual problem: bounded least squares.
    dual = lsq_linear(second.T, trace, bounds=(-alpha, alpha), tol=1e-12).x
    np.testing.assert_allclose(derivative.trend(trace, alpha), trace - second.T @ dual, atol=1e-3)


def test_total_variation_of_a_broken_line() -> None:
    t = np.arange(300) * 0.2
    line = np.where(t < 20, 0.5 * t, np.where(t < 42, 10 - 1.0 * (t - 20), -12.0))
    noisy = line + 0.1 * np.random.default_rng(0).standard_normal(300)
    rate = derivative.by_total_variation(noisy[:, None], 4.5, 0.2)[:, 0]
    true = np.where(t < 20, 0.5, np.where(t < 42, -1.0, 0.0))
    inside = np.min(np.abs(t[:, None] - [20, 42]), axis=1) > 3
    assert np.abs(rate - true)[inside].max() < 0.15
    assert np.sqrt(np.mean((rate - true) ** 2)) < np.sqrt(np.mean((np.gradient(noisy, 0.2) - true) ** 2)) / 4
    np.testing.assert_array_equal(derivative.by_total_variation(np.ones((20, 2)), 4.5, 0.5), 0)


def test_total_variation_has_the_units_of_its_arguments() -> None:
    """Time in other units, amplitudes in other units: the same rates, in these units."""
    _, noisy = slow(150, 3, 0.2)
    rate = derivative.by_total_variation(noisy, 4.5, 0.3)
    np.testing.assert_allclose(derivative.by_total_variation(1e3 * noisy, 4.5, 0.3), 1e3 * rate, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(derivative.by_total_variation(noisy, 45, 3), rate / 10, rtol=1e-3, atol=1e-4)


def test_total_variation_is_the_same_backwards() -> None:
    _, noisy = slow(90, 3, 0.2)
    rate = derivative.by_total_variation(noisy, 4.5, 0.3)
    np.testing.assert_allclose(derivative.by_total_variation(noisy[::-1], 4.5, 0.3), -rate[::-1], atol=1e-3)


def test_noise_of_white_noise() -> None:
    t = np.linspace(0, 20, 4001)[:, None]
    noise = np.random.default_rng(0).standard_normal((4001, 2)) * [0.1, 3]
    np.testing.assert_allclose(derivative.noise_sd(np.sin(t) + noise), [0.1, 3], rtol=0.05)


def test_derivative_of_a_gaussian_filter_is_known_for_waves() -> None:
    t = np.arange(2000) * 0.1
    rate = derivative.by_gaussian(np.sin(t)[:, None], 1.5, 0.1)[300:-300, 0]
    np.testing.assert_allclose(rate, np.exp(-(1.5**2) / 2) * np.cos(t)[300:-300], atol=1e-3)


@pytest.mark.parametrize(("window_s", "dt_s", "frames"), [(4.5, 0.3, 15), (4.5, 0.5, 9), (4.5, 1.0, 5), (0.1, 1.0, 1)])
def test_window_is_an_odd_number_of_frames(window_s: float, dt_s: float, frames: int) -> None:
    assert derivative.window_frames(window_s, dt_s) == frames


def test_largest_eigenvalues_as_lapack_has_them() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((301, 900)).astype(np.float32)
    matrix[0] *= 5
    gram = matrix @ matrix.T
    found = chance.largest_eigenvalues(gram, 6, np.random.default_rng(1))
    np.testing.assert_allclose(found, eigh(gram, eigvals_only=True)[::-1][:6], rtol=1e-3)
    np.testing.assert_allclose(
        chance.largest_eigenvalues(gram[:40, :40], 6, rng), eigh(gram[:40, :40])[0][::-1][:6], 1e-4
    )


def test_chance_keeps_each_trace_and_loses_relations() -> None:
    frames = 400
    wave = np.sin(2 * np.pi * np.arange(frames) / 50)
    one = np.random.default_rng(0).standard_normal(frames)
    related = np.tile((one - one.mean())[:, None], (1, 8))
    explained = chance.chance_explained(related, 2, 30, np.random.default_rng(1))
    assert explained[:, 0].max() < 0.35  # of 1, were it still related
    # Waves of one period stay in a plane however they are shifted: autocorrelation is kept.
    waves = chance.chance_explained(np.tile(wave[:, None], (1, 8)), 2, 30, np.random.default_rng(1))
    np.testing.assert_allclose(waves.sum(axis=1), 1, atol=1e-5)
    wide = chance.chance_explained(related[:6] - related[:6].mean(axis=0), 3, 5, np.random.default_rng(1))
    assert wide.shape == (5, 3)
    assert (wide.sum(axis=1) <= 1 + 1e-6).all()


def test_bound_counts_the_data_among_the_draws() -> None:
    draws = np.random.default_rng(0).permutation(199)[:, None].astype(float)
    assert chance.upper_bound(draws)[0] == 189  # ten of 200 reach or exceed what is just above it
    assert chance.upper_bound(draws, 0.01)[0] == 197
    few = np.random.default_rng(0).standard_normal((40_000, 8))
    bounds = np.array([chance.upper_bound(row[:, None])[0] for row in few[:4000]])
    assert np.mean(np.random.default_rng(1).standard_normal(4000) > bounds) == pytest.approx(0.05, abs=0.012)
    assert np.isnan(chance.upper_bound(np.ones((1, 3)))).all()


def test_modes_count_until_the_first_that_chance_reaches() -> None:
    above = chance.leading_above(np.array([5.0, 3, 1, 9]), np.array([1.0, 1, 2, 2]))
    assert above.tolist() == [True, True, False, False]


def test_draws_are_fewer_for_large_matrices() -> None:
    assert chance.affordable_draws((2000, 150), 200) == 200
    assert chance.affordable_draws((10_000, 1000), 200) == 8
    assert chance.affordable_draws((10_000, 1000), 3) == 3
    assert chance.affordable_draws((10_000, 1000), 0) == 0


def spurious(shape: tuple[int, int], seed: int, hidden: float = 0.0) -> int:
    import niddl_xr as nx
    from tests.dynamics.conftest import traces_of

    rng = np.random.default_rng([seed, 1])
    white = rng.standard_normal(shape)
    white[rng.random(shape) < hidden] = np.nan
    found = nx.pca(traces_of(white), null_draws=99, seed=seed, least_observed=0.5)
    return int(found["significant"].sum())


def test_white_data_have_no_modes() -> None:
    """P2: at most one spurious mode in 20 sets."""
    assert sum(spurious((150, 17), seed) for seed in range(60)) <= 3


def test_filled_white_data_have_no_modes() -> None:
    assert sum(spurious((150, 17), seed, hidden=0.2) for seed in range(40)) <= 2


def test_modes_above_chance_are_found() -> None:
    import niddl_xr as nx
    from tests.dynamics.conftest import traces_of

    _, noisy = slow(500, 23, 1.0)
    assert nx.pca(traces_of(noisy, 0.3), null_draws=59)["significant"].values.tolist() == [True] * 3 + [False] * 7


def test_low_rank_fill_restores_what_the_neurons_share() -> None:
    clean, noisy = slow(300, 19, 0.1)
    hidden = np.random.default_rng(1).random(clean.shape) < 0.2
    filled, rank = gaps.low_rank(noisy, ~hidden, np.random.default_rng(0))
    assert rank == 3
    np.testing.assert_array_equal(filled[~hidden], noisy[~hidden])
    assert np.sqrt(np.mean((filled - clean)[hidden] ** 2)) < 0.1
    white = correlated(300, 19)
    white = np.random.default_rng(3).standard_normal(white.shape)
    filled, rank = gaps.low_rank(white, ~hidden, np.random.default_rng(0))
    assert rank == 0
    means = np.broadcast_to(np.nanmean(np.where(hidden, np.nan, white), axis=0), white.shape)
    np.testing.assert_allclose(filled[hidden], means[hidden])


def test_gaps_are_bridged_in_time() -> None:
    values = np.array([[np.nan, 1.0], [2, np.nan], [np.nan, np.nan], [8, 5], [np.nan, 6]])
    t = np.array([0.0, 1, 2, 4, 5])
    filled = gaps.between_neighbours(values, np.isfinite(values), t)
    np.testing.assert_allclose(filled, [[2, 1], [2, 2], [4, 3], [8, 5], [8, 6]])


def test_signal_is_what_both_halves_have() -> None:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((5000, 2)) * [2, 1]
    loading = np.linalg.qr(rng.standard_normal((7, 2)))[0]
    even, odd = (latent @ loading.T + 2 * rng.standard_normal((5000, 7)) for _ in range(2))
    np.testing.assert_allclose(signal_explained(even, odd, loading), [0.8, 0.2], atol=0.04)
    assert np.isnan(signal_explained(rng.standard_normal((50, 7)), rng.standard_normal((50, 7)), loading)).all()
    assert np.isnan(signal_explained(even[:1], odd[:1], loading)).all()
