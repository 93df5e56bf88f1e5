"""What traces and behaviour pass before they are correlated: filters, indicator, averages over intervals."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.signal import fftconvolve

from niddl_xr.behaviour._kernels.averaging import bin_means, interval_means
from niddl_xr.behaviour._kernels.highpass import highpass
from niddl_xr.behaviour._kernels.indicator import through_indicator


def test_a_straight_line_vanishes_at_the_ends_and_beside_gaps():
    line = 5.0 + 0.3 * np.arange(200.0)
    line[[0, 1, 90, 91, 92, 150]] = np.nan
    left = highpass(np.stack([line, -2 * line]), 20.0)
    assert np.array_equal(np.isnan(left[0]), np.isnan(line))
    assert np.nanmax(np.abs(left)) < 1e-9


def test_a_sine_is_weakened_as_a_gaussian_of_that_width_says():
    sigma, frames = 15.0, np.arange(2000)
    for period in (40.0, 120.0, 400.0):
        sine = np.sin(2 * np.pi * frames / period)
        kept = 1 - np.exp(-2 * (np.pi * sigma / period) ** 2)
        np.testing.assert_allclose(highpass(sine[None], sigma)[0, 500:1500], kept * sine[500:1500], atol=2e-4)


def test_highpass_equals_weighted_least_squares():
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.standard_normal(60))
    signal[rng.random(60) < 0.2] = np.nan
    known, frames, sigma = np.isfinite(signal), np.arange(60.0), 7.0
    expected = signal.copy()
    for t in np.flatnonzero(known):
        far = np.abs(frames - t) <= 28
        use = known & far
        weights = np.exp(-0.25 * ((frames[use] - t) / sigma) ** 2)  # polyfit squares its weights
        expected[t] -= np.polyval(np.polyfit(frames[use] - t, signal[use], 1, w=weights), 0.0)
    np.testing.assert_allclose(highpass(signal, sigma), expected, atol=1e-9)


@pytest.mark.parametrize(("rise", "decay"), [(0.2, 1.2), (0.0, 0.7)])
def test_the_indicator_delays_and_weakens_a_sine_as_its_response_does(rise, decay):
    interval, frequency = 0.1, 0.35
    time = np.arange(600) * interval
    # The Fourier integral of the response, normalised to sum 1.
    fast = 0.0 if rise == 0 else 1 / (1 / rise + 1 / decay)

    def transfer(omega):
        return (decay / (1 + 1j * omega * decay) - fast / (1 + 1j * omega * fast)) / (decay - fast)

    seen = through_indicator(np.exp(2j * np.pi * frequency * time).real[None], interval, rise, decay)[0]
    expected = (transfer(2 * np.pi * frequency) * np.exp(2j * np.pi * frequency * time)).real
    np.testing.assert_allclose(seen[100:], expected[100:], atol=0.01)


def test_the_indicator_passes_over_gaps_and_needs_half_of_its_memory():
    signal = np.full(300, 3.0)
    signal[100:103] = np.nan
    seen = through_indicator(signal, 0.1, 0.2, 1.2)
    assert np.isnan(seen[:5]).all()
    assert np.array_equal(np.flatnonzero(np.isnan(seen[20:])) + 20, [100, 101, 102])
    np.testing.assert_allclose(seen[20:100], 3.0)
    assert not np.isnan(fftconvolve(np.nan_to_num(signal), np.ones(1))).any()


def test_means_over_intervals_are_integrals_of_the_lines_between_samples():
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 10, 60))
    times[0], times[-1] = 0.0, 10.0
    times = np.linspace(0, 10, 60) + np.where(np.arange(60) % 2, 0.03, 0.0)
    values = rng.standard_normal((2, 60))
    centres = np.array([1.0, 2.5, 4.0, 7.7])
    found = interval_means(times, values, centres, 0.9)
    assert found.shape == (2, 4)
    for row, signal in zip(found, values, strict=True):
        for mean, centre in zip(row, centres, strict=True):
            inner = times[(times > centre - 0.45) & (times < centre + 0.45)]
            area = quad(np.interp, centre - 0.45, centre + 0.45, (times, signal), points=inner, limit=200)[0]
            assert mean == pytest.approx(area / 0.9, abs=1e-7)


def test_an_interval_that_is_half_unknown_is_unknown():
    times = np.arange(0.0, 10.0, 0.5)
    values = np.ones(20)
    values[8] = np.nan  # at 4 s: unknown from 3.5 to 4.5
    centres = np.array([-0.6, -0.4, 0.0, 3.0, 3.2, 4.0, 9.5, 11.0])
    expected = [np.nan, np.nan, 1, 1, 1, np.nan, 1, np.nan]
    np.testing.assert_allclose(interval_means(times, values, centres, 1.0), expected)
    # A long step is a gap, no line to interpolate.
    gone = np.delete(times, [9, 10, 11])
    assert np.isnan(interval_means(gone, np.ones(17), np.array([5.0]), 0.5)[0])


def test_bins_hold_means_of_the_samples_nearest_to_them():
    times = np.array([0.0, 0.52, 0.98, 1.1, 2.49])
    values = np.array([[1.0, 2.0, 3.0, 5.0, 7.0], [1.0, np.nan, 3.0, np.nan, 7.0]])
    expected = [[1, 2, 4, np.nan, np.nan, 7], [1, np.nan, 3, np.nan, np.nan, 7]]
    np.testing.assert_allclose(bin_means(times, values, 0.0, 0.5, 6), expected)
