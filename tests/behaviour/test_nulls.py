"""What chance gives: draws, their worth, and the probability that follows."""

import numpy as np
import pytest
from scipy.stats import kstest

from niddl_xr.behaviour._kernels.bootstrap import lag_interval
from niddl_xr.behaviour._kernels.correlation import LEAST_PAIRS, peak, shifted_correlation, standardised, studentised
from niddl_xr.behaviour._kernels.nulls import independent_draws, phase_surrogates, shift_draws, strongest, tail


def gappy(rng, *shape):
    values = rng.standard_normal(shape)
    values[rng.random(shape) < 0.2] = np.nan
    return standardised(values)


@pytest.mark.parametrize("circular", [False, True])
def test_correlation_at_every_shift_is_that_of_the_frames_known_together(circular):
    rng = np.random.default_rng(0)
    first, second = gappy(rng, 61), gappy(rng, 3, 61)
    r, pairs = shifted_correlation(first, second, 40, circular=circular)
    assert r.shape == pairs.shape == (3, 81)
    frames = np.arange(61)
    for shift in (-40, -7, 0, 1, 23, 40):
        there = frames + shift
        inside = (there >= 0) & (there < 61) | circular
        for row in range(3):
            a, b = first[inside], second[row][there[inside] % 61]
            known = np.isfinite(a) & np.isfinite(b)
            assert pairs[row, shift + 40] == known.sum()
            assert r[row, shift + 40] == pytest.approx(np.corrcoef(a[known], b[known])[0, 1], abs=1e-9)


def test_few_pairs_and_constant_stretches_have_no_correlation():
    first = np.full(40, np.nan)
    first[:LEAST_PAIRS] = np.arange(LEAST_PAIRS)
    second = np.arange(40.0)
    r, _ = shifted_correlation(standardised(first), standardised(second), 3)
    assert np.isnan(r[:3]).all()
    np.testing.assert_allclose(r[3:], 1.0)
    flat = np.where(np.arange(40) < 20, 2.0, np.arange(40.0))
    half = np.where(np.arange(40) < 20, np.arange(40.0), np.nan)
    assert np.isnan(shifted_correlation(standardised(half), standardised(flat), 1)[0][1])
    assert np.isnan(standardised(np.full(5, 0.1))).all()


def test_shifts_beyond_the_recording_have_no_pairs():
    r, pairs = shifted_correlation(standardised(np.arange(12.0)), standardised(np.arange(12.0)), 15)
    assert (pairs[[0, 3, 27, 30]] == 0).all()
    assert pairs[15] == 12
    assert np.isnan(r[0])


def test_the_peak_lies_between_lags_where_a_parabola_does():
    lags = np.arange(-4, 5) * 0.5
    r = -(0.8 - 0.1 * (lags - 0.6) ** 2)
    strength, lag = peak(r, lags)
    assert lag == pytest.approx(0.6)
    assert strength == r[5]
    assert peak(np.array([0.1, 0.2, -0.9]), np.array([0.0, 1.0, 2.0])) == (-0.9, 2.0)
    assert np.isnan(peak(np.full(3, np.nan), lags[:3])).all()


@pytest.mark.parametrize(("low", "high"), [(-4, 4), (0, 3), (2, 7), (-9, -3), (-1, 6), (0, 1)])
def test_the_strongest_of_a_window_beside_every_shift(low, high):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((2, 50))
    values[0, 10:30] = np.nan
    found = strongest(values, low, high)
    for shift in range(10, 40):
        window = np.abs(values[:, shift + low : shift + high + 1])
        expected = [row[np.isfinite(row)].max() if np.isfinite(row).any() else np.nan for row in window]
        np.testing.assert_allclose(found[:, shift], expected)


def test_draws_that_repeat_count_once():
    rng = np.random.default_rng(2)
    draws = rng.standard_normal(3000)
    assert independent_draws(draws) == pytest.approx(3000, rel=0.2)
    # A moving mean of 10 has a triangular autocorrelation, whose integral is 10.
    smooth = np.convolve(draws, np.ones(10), mode="valid")
    assert independent_draws(smooth) == pytest.approx(299, rel=0.25)
    gaps = smooth.copy()
    gaps[1000:1400] = np.nan
    assert independent_draws(gaps) == pytest.approx(259, rel=0.3)
    assert independent_draws(np.full(4, np.nan)) == 0
    assert independent_draws(np.full(9, 2.0)) == 1


def test_p_of_unrelated_draws_is_even():
    rng = np.random.default_rng(3)
    # Squares that are gamma distributed, as chi of 4 dimensions.
    chi = np.sqrt(rng.chisquare(4, (3000, 13)))
    found = np.array([tail(row[0], row[1:], 12.0) for row in chi])
    assert kstest(found, "uniform").statistic < 0.06
    assert np.mean(found <= 0.05) == pytest.approx(0.045, abs=0.012)
    assert np.mean(found <= 0.01) == pytest.approx(0.01, abs=0.005)


def test_no_p_without_enough_independent_draws():
    draws = np.random.default_rng(4).random(50)
    assert np.isnan(tail(1.0, draws, 4.9))
    assert np.isnan(tail(np.nan, draws, 20))
    assert np.isnan(tail(1.0, np.full(50, 0.3), 20))
    assert np.isnan(tail(1.0, np.full(50, np.nan), 20))
    assert 0 < tail(3.0, draws, 20) < 1e-4 < tail(0.9, draws, 20)


def test_shifts_are_taken_evenly_outside_the_searched_lags():
    maxima, pairs = np.arange(101.0), np.full(101, 50.0)
    pairs[:10] = 16.0  # less than a third
    draws, independent = shift_draws(maxima, pairs, 50, 20, 45, 1000)
    assert draws.tolist() == [*range(10, 31), *range(70, 96)]
    assert independent <= draws.size
    few, _ = shift_draws(maxima, pairs, 50, 20, 45, 5)
    assert few.tolist() == [10, 22, 73, 84, 95] or len(few) == 5
    assert few[0] == 10
    assert few[-1] == 95


@pytest.mark.parametrize("frames", [60, 61])
def test_surrogates_keep_spectrum_and_gaps(frames):
    rng = np.random.default_rng(5)
    signal = rng.standard_normal(frames)
    made = phase_surrogates(signal, 7, rng)
    assert made.shape == (7, frames)
    np.testing.assert_allclose(np.abs(np.fft.rfft(made))[:, :-1], np.tile(np.abs(np.fft.rfft(signal))[:-1], (7, 1)))
    assert np.abs(np.corrcoef(made) - np.eye(7)).max() < 0.6
    signal[[0, 5, 6]] = np.nan
    assert np.array_equal(np.isnan(phase_surrogates(signal, 2, rng)), np.tile(np.isnan(signal), (2, 1)))


def test_the_lag_interval_is_narrow_where_the_lag_is_plain_and_wide_where_there_is_none():
    rng = np.random.default_rng(6)
    behaviour = rng.standard_normal(1000)
    activity = np.roll(behaviour, -3) + 0.5 * rng.standard_normal(1000)
    lags = np.arange(-8, 9)
    first, second, other = (standardised(x) for x in (activity, behaviour, rng.standard_normal(1000)))
    low, high = lag_interval(first, second, lags, 40, 200, np.random.default_rng(0))
    assert 2.5 < low <= 3 <= high < 3.5
    assert lag_interval(-first, second, lags, 40, 200, np.random.default_rng(0)) == pytest.approx((low, high))
    low, high = lag_interval(first, other, lags, 40, 200, np.random.default_rng(0))
    assert high - low > 8
    assert np.isnan(lag_interval(first[:160], second[:160], lags, 40, 200, rng)).all()


def test_fishers_z_is_alike_for_all_numbers_of_pairs():
    rng = np.random.default_rng(7)
    for pairs in (50, 800):
        r = np.array([np.corrcoef(rng.standard_normal((2, pairs)))[0, 1] for _ in range(500)])
        assert studentised(r, np.full(500, pairs)).std() == pytest.approx(1.0, abs=0.1)
