"""The verb curvature_correlation: what it finds, when, and how seldom in what is unrelated."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import false_discovery_control

from niddl_xr.behaviour.correlation import curvature_correlation
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import freely_moving
from tests.behaviour._signals import SECONDS, labelled, narrow, noise, waves

COLUMNS = ["neuron", "state", "s", "r0", "r", "lag_s", "lag_lo", "lag_hi", "p", "q", "n_eff", "null"]


@pytest.fixture(scope="module")
def worm():
    return freely_moving(shape=(1, 8, 8), frames=1500, rate_hz=5, neurons=24, coupling=0.6, seed=41)


@pytest.fixture(scope="module")
def related():
    """Three neurons: the first precedes bending by 0.75 s, the second follows it by 0.5 s and turned round."""
    rng = np.random.default_rng(3)
    behaviour = noise(3, 612, 1.0, 0.25, rng)
    activity = noise(3, 612, 1.0, 0.25, rng)
    activity[0, :-3] = behaviour[0, 3:]
    activity[1, 2:] = -behaviour[1, :-2]
    return labelled(activity[:, 6:-6], behaviour[:, 6:-6], 0.25)


def test_r_is_pearsons_of_the_frames_known_together(related):
    traces, posture = related
    holes = np.random.default_rng(0).random((600, 3)) < 0.2
    traces = traces.assign(dff=traces["dff"].where(~holes))
    posture = posture.assign(curvature=posture["curvature"].where(~np.roll(holes, 7, axis=0)))
    table = curvature_correlation(traces, posture, window=narrow(3), highpass_s=None)
    assert list(table.columns) == [*COLUMNS, "observed", "reason"]
    for row, name in enumerate(traces["neuron"].values):
        activity, bending = pd.Series(traces["dff"].values[:, row]), pd.Series(posture["curvature"].values[:, row])
        at_lag = [activity.corr(bending.shift(-lag)) for lag in range(-8, 9)]
        found = table.set_index("neuron").loc[name]
        assert found["r0"] == pytest.approx(at_lag[8], abs=1e-9)
        assert found["r"] == pytest.approx(max(at_lag, key=abs), abs=1e-9)
        assert found["observed"] == pytest.approx((activity.notna() & bending.notna()).mean())


def test_lags_above_0_are_activity_before_bending(related):
    table = curvature_correlation(*related, window=narrow(3))
    assert table["lag_s"].tolist()[:2] == pytest.approx([0.75, -0.5], abs=0.03)
    assert np.sign(table["r"]).tolist()[:2] == [1, -1]
    assert table["r"].abs().tolist()[:2] == pytest.approx([1, 1], abs=1e-3)  # the high-pass sees other ends
    assert (table["lag_lo"] <= table["lag_s"])[:2].all()
    assert (table["lag_hi"] - table["lag_lo"])[:2].max() < 0.1
    assert (table["p"] < 1e-6).tolist() == [True, True, False]
    assert table["s"].tolist() == [0.0, 0.5, 1.0]


def test_curvature_is_the_mean_within_the_window_without_its_gaps():
    rng = np.random.default_rng(9)
    bending = rng.standard_normal((11, 300))
    bending[4, 50:90] = np.nan
    activity = rng.standard_normal((1, 300))
    traces, _ = labelled(activity, activity, 0.25)
    posture = labelled(bending, bending, 0.25)[1]
    place = xr.DataArray([0.5], dims="neuron", coords={"neuron": ["n0"]})
    for window, near in ((0.1, slice(4, 7)), (0.25, slice(3, 8))):
        table = curvature_correlation(traces, posture, position=place, window=window, highpass_s=None)
        assert table["r0"][0] == pytest.approx(np.corrcoef(activity[0], np.nanmean(bending[near], axis=0))[0, 1])
        assert table["observed"][0] == 1


def test_q_is_p_corrected_for_all_rows(related):
    for method in ("bh", "by"):
        table = curvature_correlation(*related, window=narrow(3), fdr=method)
        np.testing.assert_allclose(table["q"], false_discovery_control(table["p"], method=method))


def test_order_of_dims_and_chunks_change_nothing(related):
    traces, posture = related
    expected = curvature_correlation(traces, posture, window=narrow(3))
    turned = traces.transpose("neuron", "t").chunk(t=70, neuron=2)
    pd.testing.assert_frame_equal(
        curvature_correlation(turned, posture.transpose("s", "t").chunk(t=41), window=narrow(3)), expected
    )


def test_the_order_of_neurons_does_not_matter_and_places_go_by_name(related):
    traces, posture = related
    position = traces["body_position"].reset_coords(drop=True)[::-1]
    plain = curvature_correlation(traces.drop_vars("body_position"), posture, position=position, window=narrow(3))
    expected = curvature_correlation(traces, posture, window=narrow(3))
    pd.testing.assert_frame_equal(plain, expected)


def test_history_and_interval_are_kept(related):
    traces, posture = related
    table = curvature_correlation(
        traces.assign_attrs(niddl_history='[{"verb": "dff"}]'), posture, window=narrow(3), lags_s=[-1, 1]
    )
    steps = json.loads(table.attrs["niddl_history"])
    assert [step["verb"] for step in steps] == ["dff", "curvature_correlation"]
    assert steps[1]["parameters"]["lags_s"] == [-1, 1]
    assert steps[1]["parameters"]["null"] == "linear_shift"
    assert table.attrs["interval_s"] == 0.25


# -- times ------------------------------------------------------------------------------------------------------------


def test_quicker_behaviour_is_averaged_over_each_frame():
    rng = np.random.default_rng(1)
    quick = noise(1, 6000, 0.2, 0.05, rng)[0]
    # Means of 0.5 s around every tenth sample: straight lines between samples, ends counted half.
    weights = np.r_[0.5, np.ones(9), 0.5] / 10
    means = np.array([weights @ quick[10 * k - 5 : 10 * k + 6] for k in range(1, 599)])
    traces, _ = labelled(means[None], means[None], 0.5, start_s=0.5)
    speed = xr.DataArray(quick, dims="t", coords={"t": ("t", np.arange(6000) * 0.05, SECONDS)}, name="speed")
    table = curvature_correlation(traces, behaviour=speed, highpass_s=None)
    assert table["r0"][0] == pytest.approx(1.0, abs=1e-9)
    nearest = np.corrcoef(means, quick[10:-19:10][:598])[0, 1]
    assert nearest < 0.9


def test_frames_that_are_missing_are_gaps():
    rng = np.random.default_rng(2)
    behaviour = noise(2, 500, 1.0, 0.25, rng)
    traces, posture = labelled(behaviour, behaviour, 0.25)
    dropped = np.setdiff1d(np.arange(500), [3, 70, 71, 72, 300])
    expected = curvature_correlation(
        traces.assign(dff=traces["dff"].where(np.isin(np.arange(500), dropped)[:, None])), posture, window=narrow(2)
    )
    found = curvature_correlation(traces.isel(t=dropped), posture, window=narrow(2))
    pd.testing.assert_frame_equal(found.drop(columns="observed"), expected.drop(columns="observed"))
    np.testing.assert_allclose(found["observed"], 1.0)  # of the frames that there are


def test_clocks_that_tremble_by_a_hundredth_of_a_frame_are_one_clock(related):
    traces, posture = related
    tremble = np.random.default_rng(8).uniform(-0.004, 0.004, 600)
    shaken = posture.assign_coords(t=("t", posture["t"].values + tremble, SECONDS))
    expected = curvature_correlation(traces, posture, window=narrow(3))
    pd.testing.assert_frame_equal(curvature_correlation(traces, shaken, window=narrow(3)), expected)


def test_uneven_frames_are_put_on_an_even_grid():
    rng = np.random.default_rng(20)
    quick = noise(1, 8000, 1.0, 0.05, rng)[0]
    times = 20.0 + np.arange(700) * 0.5 + rng.uniform(-0.1, 0.1, 700)
    traces = xr.Dataset(
        {"dff": (("t", "neuron"), np.interp(times, np.arange(8000) * 0.05, quick)[:, None])},
        coords={"t": ("t", times, SECONDS), "neuron": ["a"]},
    )
    speed = xr.DataArray(quick, dims="t", coords={"t": ("t", np.arange(8000) * 0.05, SECONDS)})
    table = curvature_correlation(traces, behaviour=speed)
    assert table["r"][0] > 0.95
    assert abs(table["lag_s"][0]) < 0.03


def test_a_posture_that_is_shorter_gives_the_common_part(related):
    traces, posture = related
    with pytest.warns(UserWarning, match=r"posture covers 99.75 of the 149.8 s of the traces; only the common part"):
        table = curvature_correlation(traces, posture.isel(t=slice(100, 500)), window=narrow(3))
    np.testing.assert_allclose(table["observed"], 2 / 3)
    assert table["r"].abs()[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t + 1000.0, r"of one time, got traces from 0 to 149.75 s and posture from 1000 to 1149.75 s"),
        (lambda t: t[::-1], r"times t that increase"),
        (lambda t: np.where(t == 5.0, np.nan, t), r"times t"),
    ],
)
def test_times_of_a_posture_that_cannot_be_matched_are_errors(related, change, message):
    traces, posture = related
    moved = posture.assign_coords(t=("t", change(posture["t"].values), SECONDS))
    with pytest.raises(NiddlError, match=message):
        curvature_correlation(traces, moved, window=narrow(3))


def test_times_without_unit_and_times_that_go_back_are_errors(related):
    traces, posture = related
    with pytest.raises(NiddlError, match=r"expected t of traces in s, got units None"):
        curvature_correlation(traces.assign_coords(t=traces["t"].values), posture)
    frames = ("t", np.arange(600), {"units": "frame"})
    with pytest.raises(NiddlError, match=r"expected t of posture in s, got units 'frame'"):
        curvature_correlation(traces, posture.assign_coords(t=frames))
    twice = np.sort(np.r_[0.0, traces["t"].values[:-1]])
    with pytest.raises(NiddlError, match=r"times t of traces that increase, got some that repeat or go back"):
        curvature_correlation(traces.assign_coords(t=("t", twice, SECONDS)), posture)
    far = np.r_[traces["t"].values[:-1], 1e6]
    with pytest.raises(NiddlError, match=r"nearly even steps.*cut the recording at its gaps"):
        curvature_correlation(traces.assign_coords(t=("t", far, SECONDS)), posture)


# -- what cannot be told ----------------------------------------------------------------------------------------------


def test_rows_that_cannot_be_told_say_why_and_have_no_p():
    rng = np.random.default_rng(4)
    activity, behaviour = noise(9, 480, 1.0, 0.25, rng), noise(9, 480, 1.0, 0.25, rng)
    activity[0] = np.nan
    activity[1] = 0.1
    activity[2] = np.linspace(0, 3, 480)  # only a drift, which the high-pass takes out
    behaviour[4] = np.nan
    behaviour[5] = -2.5
    activity[6, :240] = np.nan
    behaviour[6, 240:] = np.nan
    activity[7, 8:] = np.nan
    traces, posture = labelled(activity, behaviour, 0.25)
    position = traces["body_position"].where(traces["neuron"] != "n3")
    table = curvature_correlation(traces, posture, position=position, window=narrow(9))
    reasons = [
        "no activity known",
        "constant activity",
        "constant activity",
        "no place along the body",
        "no behaviour known",
        "constant behaviour",
        "never known together",
        "too few frames known together, or constant in them",
        "",
    ]
    assert table["reason"].tolist() == reasons
    assert table["p"].notna().tolist() == table["q"].notna().tolist() == [False] * 8 + [True]
    assert table["r"].notna().tolist() == [False] * 8 + [True]
    assert table["observed"].tolist()[:2] == [0, 0]


def test_one_neuron_and_a_recording_of_seconds():
    rng = np.random.default_rng(5)
    traces, posture = labelled(noise(1, 480, 1.0, 0.25, rng), noise(1, 480, 1.0, 0.25, rng), 0.25)
    table = curvature_correlation(traces, posture, window=0.2)
    assert len(table) == 1
    assert table["q"][0] == table["p"][0]
    short = curvature_correlation(traces.isel(t=slice(100)), posture.isel(t=slice(100)), window=0.2)
    assert short["reason"].tolist() == ["too short for a null"]
    assert short[["p", "lag_lo", "lag_hi"]].isna().all(axis=None)
    assert short["r"].notna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"null": "shuffle"}, r"null as one of linear_shift, circular, cross_session, phase, got 'shuffle'"),
        ({"null": "cross_session"}, r"others=, behaviour of 20 recordings or more .*, got 0"),
        ({"null_draws": 5}, r"null_draws as a whole number, 19 or more, got 5"),
        ({"fdr": "holm"}, r'fdr="bh" or "by", got \'holm\''),
        ({"lags_s": (2, -2)}, r"lags_s as \(first, last\) in s"),
        ({"lags_s": (0.0, 0.1)}, r"lags_s to span a frame"),
        ({"window": 0.0}, r"window, a part of the body length, above 0 and at most 1, got 0.0"),
        ({"position": xr.DataArray([0.3, 1.2, 0.9], dims="neuron", coords={"neuron": ["n0", "n1", "n2"]})}, r"from 0 "),
        ({"position": 0.3}, r"position as a DataArray \(neuron\)"),
        ({"highpass_s": -1}, r"highpass_s as a number of seconds above 0, or None, got -1"),
        ({"indicator_tau_s": 0.0}, r"indicator_tau_s as the decay in s, or as \(rise, decay\)"),
        ({"indicator_tau_s": (0.2, 1.2, 3)}, r"indicator_tau_s as the decay in s"),
        ({"variable": "ratio"}, r"traces, a Dataset with the variable ratio"),
        ({"state": "mood"}, r"name of such in traces or posture, got 'mood'"),
        ({"seed": -1}, r"seed as a whole number"),
        ({"behaviour": xr.DataArray(np.zeros((4, 2)), dims=("t", "x"))}, r"behaviour as a DataArray \(t\)"),
    ],
)
def test_arguments_that_cannot_be_are_errors(related, options, message):
    with pytest.raises(NiddlError, match=message):
        curvature_correlation(*related, **{"window": narrow(3), **options})


def test_missing_places_postures_and_names_are_errors(related):
    traces, posture = related
    with pytest.raises(NiddlError, match=r"position=, where along the body the neurons lie"):
        curvature_correlation(traces.drop_vars("body_position"), posture)
    with pytest.raises(NiddlError, match=r"a posture, or behaviour= in its place"):
        curvature_correlation(traces)
    with pytest.raises(NiddlError, match=r"names every neuron once"):
        curvature_correlation(traces.assign_coords(neuron=["a", "a", "b"]), posture)
    nudged = traces.assign_coords(body_position=("neuron", [0.2, 0.5, 0.9]))
    with pytest.raises(NiddlError, match=r"holds points of the posture, got 0.01, with 3 points s"):
        curvature_correlation(nudged, posture, window=0.01)
    with pytest.raises(NiddlError, match=r"others\[0\] as a posture, got DataArray"):
        curvature_correlation(traces, posture, window=narrow(3), others=[posture["curvature"][:, 0]])
    with pytest.raises(NiddlError, match=r"others\[0\] to be a third as long"):
        curvature_correlation(traces, posture, window=narrow(3), others=[posture.isel(t=slice(150))])


# -- chance -----------------------------------------------------------------------------------------------------------


def unrelated(kind, drift, runs, seed):
    """Activity and behaviour of 300 s at 4 Hz, with ``drift`` SD of slow drift each."""
    rng = np.random.default_rng(seed)
    make = {"osc": lambda: waves(runs, 1200, 0.25, rng), "slow": lambda: noise(runs, 1200, 10.0, 0.25, rng)}[kind]
    lines = np.linspace(-1.7, 1.7, 1200) * rng.choice([-1, 1], (2, runs, 1))
    return tuple(make() + drift * line for line in lines)


@pytest.mark.parametrize("kind", ["osc", "slow"])
@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_unrelated_signals_are_called_related_as_seldom_as_p_says(kind, drift):
    runs = 250
    table = curvature_correlation(*labelled(*unrelated(kind, drift, runs, 11), 0.25), window=narrow(runs))
    assert 0.02 <= (table["p"] <= 0.05).mean() <= 0.08
    assert (table["p"] <= 0.005).mean() <= 0.02
    assert table["p"].notna().all()


def test_without_highpass_drift_counts_as_correlation_for_a_circular_shift():
    signals = labelled(*unrelated("osc", 1.0, 40, 12), 0.25)
    drifting = curvature_correlation(*signals, window=narrow(40), null="circular", highpass_s=None)
    assert (drifting["p"] <= 0.05).mean() > 0.5


@pytest.mark.parametrize("null", ["linear_shift", "circular", "phase"])
def test_a_correlation_of_a_third_is_found_in_five_minutes(null):
    rng = np.random.default_rng(13)
    behaviour, drift = waves(60, 1200, 0.25, rng), np.linspace(-0.9, 0.9, 1200)
    activity = 0.3 * behaviour + np.sqrt(1 - 0.09) * noise(60, 1200, 1.5, 0.25, rng) + drift
    table = curvature_correlation(*labelled(activity, behaviour, 0.25), window=narrow(60), null=null, null_draws=99)
    assert (table["p"] <= 0.05).mean() >= 0.85
    assert (table["null"] == null).all()


def test_other_recordings_are_chance():
    rng = np.random.default_rng(14)
    activity, behaviour = waves(60, 800, 0.25, rng), waves(60, 800, 0.25, rng)
    activity[:5] = behaviour[:5] + activity[:5]
    traces, posture = labelled(activity, behaviour, 0.25)
    others = [labelled(activity, waves(60, 800, 0.25, rng), 0.25, start_s=50.0)[1] for _ in range(25)]
    others[3] = others[3].isel(t=slice(500))
    table = curvature_correlation(traces, posture, window=narrow(60), null="cross_session", others=others)
    assert (table["p"][:5] < 0.001).all()
    assert (table["p"][5:] <= 0.05).mean() <= 0.12
    assert table["p"].notna().all()


def test_independent_frames_are_worth_themselves_and_slow_ones_less():
    rng = np.random.default_rng(15)
    quick = curvature_correlation(*labelled(*rng.standard_normal((2, 5, 900)), 0.25), window=narrow(5), highpass_s=None)
    np.testing.assert_allclose(quick["n_eff"], 900, rtol=0.25)
    signals = noise(5, 2400, 2.0, 0.25, rng), noise(5, 2400, 2.0, 0.25, rng)
    slow = curvature_correlation(*labelled(*signals, 0.25), window=narrow(5), highpass_s=None)
    # Bartlett: the variance grows by the sum of the product of both autocorrelations, exp(-|lag| / 1 s).
    expected = 2400 / (2 / (1 - np.exp(-0.25)) - 1)
    np.testing.assert_allclose(slow["n_eff"].median(), expected, rtol=0.3)


def test_the_seed_moves_no_p_of_shifts(related):
    one, other = (curvature_correlation(*related, window=narrow(3), seed=seed) for seed in (0, 1))
    assert one["p"].equals(other["p"])
    assert not one["lag_lo"].equals(other["lag_lo"])
    again = curvature_correlation(*related, window=narrow(3), seed=0)
    pd.testing.assert_frame_equal(one, again)


# -- states -----------------------------------------------------------------------------------------------------------


def test_states_have_rows_of_their_own():
    rng = np.random.default_rng(16)
    activity, behaviour = noise(2, 2400, 1.0, 0.25, rng), noise(2, 2400, 1.0, 0.25, rng)
    forward = (np.arange(2400) // 80) % 3 < 2
    activity[0] = np.where(forward, behaviour[0], activity[0])
    traces, posture = labelled(activity, behaviour, 0.25)
    labels = np.where(forward, "forward", "reversal")
    named = traces.assign_coords(state=("t", labels))
    table = curvature_correlation(named, posture, window=narrow(2), state="state", highpass_s=None)
    assert table["state"].tolist() == ["forward", "forward", "reversal", "reversal"]
    assert table["neuron"].tolist() == ["n0", "n1"] * 2
    assert table["r"][0] == pytest.approx(1)
    assert (table["p"] < 1e-6).tolist() == [True, False, False, False]
    np.testing.assert_allclose(table["observed"], np.repeat([forward.mean(), 1 - forward.mean()], 2))
    held = curvature_correlation(
        traces, posture.assign(state=("t", labels)), window=narrow(2), state="state", highpass_s=None
    )
    given = curvature_correlation(traces, posture, window=narrow(2), state=named["state"], highpass_s=None)
    pd.testing.assert_frame_equal(held, table)
    pd.testing.assert_frame_equal(given, table)


# -- simulated and real worms -----------------------------------------------------------------------------------------


def test_coupled_neurons_of_a_worm_are_found_and_no_others(worm):
    traces, posture = worm["traces"].to_dataset(), worm["posture"].to_dataset()
    table = curvature_correlation(traces, posture)
    coupled = traces["coupled"].values
    assert (table["q"] <= 0.05)[coupled].all()
    assert (table["q"] <= 0.05)[~coupled].mean() <= 0.1
    assert (np.sign(table["r"])[coupled] == traces["curvature_sign"].values[coupled]).mean() >= 0.9


def test_the_lag_is_right_once_bending_passes_the_indicator(worm):
    traces, posture = worm["traces"].to_dataset(), worm["posture"].to_dataset()
    coupled = traces["coupled"].values
    truth = traces["lag_s"].values[coupled]
    errors = {
        indicator: (curvature_correlation(traces, posture, indicator_tau_s=indicator)["lag_s"][coupled] - truth)
        for indicator in (None, 1.2, (0.2, 1.2))
    }
    assert errors[(0.2, 1.2)].abs().max() <= 0.2
    assert abs(errors[(0.2, 1.2)].median()) <= 0.1
    assert -0.3 < errors[1.2].median() < -0.05
    assert errors[None].median() < -0.4


def test_tracks_tell_the_places(worm):
    traces, posture = worm["traces"].to_dataset(), worm["posture"].to_dataset()
    by_tracks = curvature_correlation(traces.drop_vars("body_position"), posture, position=worm["tracks"].to_dataset())
    expected = curvature_correlation(traces, posture)
    np.testing.assert_allclose(by_tracks["s"], expected["s"], atol=0.003)
    np.testing.assert_allclose(by_tracks["r"], expected["r"], atol=0.02)


@pytest.mark.realdata
def test_a_control_line_does_not_correlate_with_speed(realdata):
    from benchmarks.correlation import control_line

    traces, speed = control_line(realdata)
    table = curvature_correlation(traces, behaviour=speed)
    assert table["reason"].eq("").all()
    assert table["s"].isna().all()
    assert table["r0"].abs().max() <= 0.2
    assert (table["q"] <= 0.05).sum() == 0
