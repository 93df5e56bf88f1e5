"""What simulated neurons do, against the statistics that it is made to have."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from niddl_xr.simulation._kernels import activity

INTERVAL_S = 0.25


def explained_by_three(traces: np.ndarray) -> float:
    """Share of the variance of z-scored traces (t, neuron) in the first three principal components."""
    scores = (traces - traces.mean(axis=0)) / traces.std(axis=0)
    variances = np.linalg.eigvalsh(np.cov(scores.T))
    return float(variances[-3:].sum() / variances.sum())


@pytest.fixture(scope="module")
def partners() -> np.ndarray:
    """120 neurons, the first 78 of them in pairs."""
    partners = np.full(120, -1)
    partners[:78] = np.arange(78).reshape(-1, 2)[:, ::-1].ravel()
    return partners


@pytest.fixture(scope="module")
def worms(partners):
    """Five minutes of six worms at 4 Hz."""
    return [activity.neuron_activity(1200, INTERVAL_S, 0.6, partners, np.random.default_rng(seed)) for seed in range(6)]


def test_population_has_the_dimension_of_real_ones(worms):
    assert all(0.45 < explained_by_three(dff) < 0.65 for dff, _, _ in worms)
    assert 0.5 < np.mean([explained_by_three(dff) for dff, _, _ in worms]) < 0.65


def test_derivative_of_the_population_has_it_too(worms):
    slopes = [savgol_filter(dff, 19, 2, deriv=1, axis=0) for dff, _, _ in worms]  # over 4.5 s
    assert all(0.43 < explained_by_three(slope) < 0.65 for slope in slopes)
    assert np.mean([explained_by_three(slope) for slope in slopes]) > 0.45


def test_active_neurons_remember_for_5_to_20_s(worms):
    for dff, group, _ in worms:
        traces = dff[:, group < 5] - dff[:, group < 5].mean(axis=0)
        power = np.abs(np.fft.rfft(traces, 2 * len(traces), axis=0)) ** 2
        correlation = np.fft.irfft(power, axis=0)[: len(traces)]
        correlation /= correlation[0]
        remembered_s = INTERVAL_S * np.argmax(correlation < np.exp(-1), axis=0)
        assert 5 < np.median(remembered_s) < 20


def test_the_two_of_a_pair_agree(worms, partners):
    for dff, group, _ in worms:
        left = np.arange(0, 78, 2)
        np.testing.assert_array_equal(group[left], group[left + 1])
        active = left[group[left] < 5]
        agreement = [np.corrcoef(dff[:, n], dff[:, n + 1])[0, 1] for n in active]
        assert min(agreement) > 0.7
        assert 0.82 < np.median(agreement) < 0.97


def test_groups_have_their_shares(worms):
    for _, group, _ in worms:
        shares = np.bincount(group, minlength=6) / 120
        np.testing.assert_allclose(shares[[0, 1, 4]], 0.6 * np.array([0.22, 0.20, 0.08]) / 0.6, atol=0.03)
        assert shares[5] == pytest.approx(0.4, abs=0.02)


def test_ornstein_uhlenbeck_has_unit_variance_and_its_time_constant():
    noise = activity.ornstein_uhlenbeck((4000, 40), 2.0, 0.5, np.random.default_rng(1))
    assert noise.var() == pytest.approx(1, abs=0.03)
    assert (noise[:-4] * noise[4:]).mean() == pytest.approx(np.exp(-1), abs=0.03)  # 4 frames are 2 s


def test_the_worm_reverses_a_quarter_of_the_time():
    rng = np.random.default_rng(2)
    share = np.mean([activity.command_states(4000, 0.5, rng).mean() for _ in range(5)])
    assert share == pytest.approx(activity.REVERSAL_S / (activity.REVERSAL_S + activity.FORWARD_S), abs=0.05)


def test_runs_and_reversals_have_their_durations():
    states = activity.command_states(400_000, 0.1, np.random.default_rng(0))
    ends = np.flatnonzero(np.diff(states.astype(int))) + 1
    lengths = np.diff(ends) * 0.1
    reversals = lengths[states[ends[:-1]]]
    runs = lengths[~states[ends[:-1]]]
    assert runs.mean() == pytest.approx(18, rel=0.08)
    assert reversals.mean() == pytest.approx(6, rel=0.08)
    assert runs.std() / runs.mean() == pytest.approx(1 / np.sqrt(2), rel=0.08)  # Gamma of shape 2


def test_drives_are_ramps_and_pulses_of_the_command_states():
    drives, _, states = activity.shared_drives(40_000, 0.05, np.random.default_rng(1))
    reversal, forward, dorsal, ventral, onset, none = drives.T
    np.testing.assert_allclose(reversal + forward, 1)
    assert not none.any()
    starts, ends = (np.flatnonzero(change) + 1 for change in (~states[:-1] & states[1:], states[:-1] & ~states[1:]))
    long = [first for first in starts if states[first : first + 30].all() and reversal[first - 1] < 0.02]
    assert np.mean(reversal[np.array(long) + 30 - 1]) == pytest.approx(1 - np.exp(-1), abs=0.02)  # 1.5 s
    calm = [end for end in ends if not states[end : end + 60].any() and reversal[end - 1] > 0.9]
    assert np.mean([reversal[end + 60 - 1] / reversal[end - 1] for end in calm]) == pytest.approx(np.exp(-1), abs=0.02)
    turning = dorsal + ventral
    assert all(turning[end : end + 40].all() for end in ends if end + 40 < 40_000)  # 2 s
    assert turning.sum() <= 40 * len(ends)
    assert 0.3 < dorsal.sum() / turning.sum() < 0.7
    assert onset.max() == 1
    assert states[onset > 0.1].mean() > 0.97  # a central difference: it begins one sample before the reversal


def test_dff_is_zero_at_its_tenth_percentile(worms):
    for dff, _, _ in worms:
        np.testing.assert_allclose(np.quantile(dff, 0.1, axis=0), 0, atol=1e-5)


def test_groups_follow_what_they_are_named_after():
    dff, group, reversing = activity.neuron_activity(1500, 0.25, 0.6, np.full(50, -1), np.random.default_rng(3))
    late = np.roll(reversing, 6)  # rise of the command state and of the indicator, about 1.5 s
    change = np.array([dff[late, n].mean() - dff[~late, n].mean() for n in range(50)])
    assert (group < 5).sum() == 30
    assert np.mean(change[group == 0]) > 0.3  # each follows the others' drives a little, too
    assert np.mean(change[group == 0] > 0.05) > 0.8
    assert np.mean(change[group == 1]) < -0.3
    assert np.mean(change[group == 1] < -0.05) > 0.8
    assert np.abs(change[group == 5]).max() < 0.2
    assert dff.min() >= activity.LOWEST_DFF


def test_indicator_kernel_keeps_amplitudes():
    for interval_s in (1e-3, 0.25, 10.0, 1e6):
        assert activity.indicator_kernel(interval_s).sum() == pytest.approx(1)


def test_indicator_has_its_rise_and_decay_at_any_rate():
    for interval_s in (0.01, 0.05, 0.25):
        kernel = activity.indicator_kernel(interval_s)
        times_s = (np.arange(len(kernel)) + 0.5) * interval_s
        # The mean delay of (1 - exp(-t / r)) exp(-t / d), with u = 1 / (1 / r + 1 / d): (d² - u²) / (d - u).
        u = 1 / (1 / 0.2 + 1 / 1.2)
        assert (kernel * times_s).sum() == pytest.approx(1.2 + u, rel=0.03)
