from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d

import niddl_xr as nx
from niddl_xr.schema import NiddlError
from tests.traces.test_bleaching import traces_of

FRAMES, NEURONS = 600, 5


@pytest.fixture(scope="module")
def colours() -> dict[str, np.ndarray]:
    """Motion and activity (t, neuron), green and red with 8 % noise, and green of a protein that does not follow."""
    rng = np.random.default_rng(2)
    motion = gaussian_filter1d(rng.standard_normal((FRAMES, NEURONS)), 5, axis=0)
    motion = np.exp(0.25 * motion / motion.std(axis=0))
    activity = gaussian_filter1d((rng.random((FRAMES, NEURONS)) < 0.01).astype(float), 8, axis=0)
    activity = 1 + 1.2 * activity / activity.max(axis=0)

    def taken(light: np.ndarray, level: float) -> np.ndarray:
        return level * (light + 0.08 * rng.standard_normal(light.shape))

    return {
        "motion": motion,
        "activity": activity,
        "green": taken(activity * motion, 200.0),
        "red": taken(motion, 60.0),
        "control": taken(motion, 200.0),
    }


def correlations(traces: xr.Dataset, truth: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(traces["F"].values[:, k], truth[:, k])[0, 1] for k in range(truth.shape[1])])


@pytest.mark.parametrize(("method", "least"), [("ratio", 0.92), ("regress", 0.9), ("tmac", 0.985)])
def test_activity_comes_through_and_motion_does_not(colours: dict, method: str, least: float) -> None:
    green, red = traces_of(colours["green"]), traces_of(colours["red"])
    before = correlations(green, colours["activity"])
    corrected = nx.ratio(green, reference=red, method=method, smooth_s=0.5)
    after = correlations(corrected, colours["activity"])
    assert np.median(after) > least
    assert np.median(before) < 0.85
    amplitude = np.polyfit(colours["activity"].ravel(), (corrected["F"] / corrected["F"].mean("t")).values.ravel(), 1)[
        0
    ]
    assert amplitude * colours["activity"].mean() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("method", ["ratio", "regress", "tmac"])
def test_control_without_activity_is_still(colours: dict, method: str) -> None:
    control, red = traces_of(colours["control"]), traces_of(colours["red"])
    corrected = nx.ratio(control, reference=red, method=method, smooth_s=0.5)
    assert np.abs(correlations(control, colours["motion"])).min() > 0.9
    assert np.median(np.abs(correlations(corrected, colours["motion"]))) < 0.25
    assert float((corrected["F"].std("t") / corrected["F"].mean("t")).median()) < 0.13


def test_tmac_finds_the_motion(colours: dict) -> None:
    corrected = nx.ratio(traces_of(colours["green"]), reference=traces_of(colours["red"]), method="tmac")
    for neuron in range(NEURONS):
        motion = colours["motion"][:, neuron] / colours["motion"][:, neuron].mean()
        assert np.corrcoef(corrected["motion"][:, neuron], motion)[0, 1] > 0.97


def test_ratio_by_algebra() -> None:
    rng = np.random.default_rng(0)
    green, red = rng.uniform(50, 100, (41, 2)), rng.uniform(10, 20, (41, 2))
    traces = traces_of(green, variance=9.0)
    corrected = nx.ratio(traces, reference=traces_of(red), smooth_s=0)
    np.testing.assert_allclose(corrected["F"], green / red * np.median(red, axis=0), rtol=1e-5)
    np.testing.assert_allclose(corrected["motion"], red / np.median(red, axis=0), rtol=1e-5)
    np.testing.assert_allclose(corrected["F_var"], 9 / corrected["motion"] ** 2, rtol=1e-5)
    smooth = nx.ratio(traces, reference=traces_of(red), smooth_s=1.5)["motion"]
    expected = gaussian_filter1d(red, 3.0, axis=0, mode="nearest")  # 0.5 s a frame
    np.testing.assert_allclose(smooth, expected / np.median(expected, axis=0), rtol=1e-5)


def test_regression_by_algebra() -> None:
    red = np.random.default_rng(0).uniform(10, 20, (60, 1))
    activity = 30 * (np.arange(60) % 20 == 5)[:, None]  # a robust line does not follow these
    corrected = nx.ratio(traces_of(100 + 4 * red + activity), reference=traces_of(red), method="regress", smooth_s=0)
    np.testing.assert_allclose(corrected["F"], 100 + 4 * np.median(red) + activity, atol=1.5)
    assert corrected["motion"].attrs["units"] == "counts"


def test_channels_and_their_labels(colours: dict) -> None:
    green, red = traces_of(colours["green"]), traces_of(colours["red"])
    both = xr.concat([red, green], "channel").assign_coords(channel=["red", "green"])
    expected = nx.ratio(green, reference=red)
    np.testing.assert_array_equal(nx.ratio(both, signal="green", reference="red")["F"], expected["F"])
    np.testing.assert_array_equal(both.niddl.ratio(signal="green", reference="red")["F"], expected["F"])
    with pytest.raises(NiddlError, match=r"a channel of the traces, \['red', 'green'\], got 'blue'"):
        nx.ratio(both, signal="blue", reference="red")
    with pytest.raises(NiddlError, match="labels of the channels of the traces"):
        nx.ratio(both, reference="red")


def test_gaps_and_references_that_are_none() -> None:
    rng = np.random.default_rng(0)
    green, red = rng.uniform(50, 100, (80, 4)), rng.uniform(10, 20, (80, 4))
    green[10:20, 0] = np.nan
    red[30, 0] = np.nan
    red[:, 1] = -1.0
    red[5:, 2] = np.nan
    for method in ("ratio", "regress", "tmac"):
        with pytest.warns(UserWarning, match="no correction for N1, N2: fewer than 20 frames in both"):
            corrected = nx.ratio(traces_of(green), reference=traces_of(red), method=method)["F"]
        missing = np.zeros(80, bool)
        missing[[*range(10, 20), 30]] = True
        np.testing.assert_array_equal(np.isnan(corrected[:, 0]), missing)
        assert np.isfinite(corrected[:, 3]).all()


def test_a_reference_that_vanishes_gives_no_explosion() -> None:
    red = np.full((50, 1), 20.0)
    red[20:25] = 0.5
    corrected = nx.ratio(traces_of(np.full((50, 1), 100.0)), reference=traces_of(red), smooth_s=0)["F"]
    np.testing.assert_array_equal(np.isnan(corrected[:, 0]), (np.arange(50) >= 20) & (np.arange(50) < 25))


def test_constant_colours_stay() -> None:
    flat = traces_of(np.full((50, 1), 100.0), variance=4.0)
    for method in ("ratio", "regress", "tmac"):
        np.testing.assert_allclose(nx.ratio(flat, reference=flat, method=method)["F"], 100.0, rtol=1e-5)


def test_motion_of_a_simulated_worm() -> None:
    """From the pixels: a worm whose two colours lose light together when it leaves the focus."""
    tree = nx.simulate.whole_brain(
        shape=(7, 52, 70),
        frames=90,
        rate_hz=2,
        neurons=8,
        photons=100,
        red_photons=100,
        bleaching=0,
        red_bleaching=0,
        seed=6,
    )
    focus = 1 + 0.4 * np.sin(2 * np.pi * np.arange(90) / 23)
    tracks = tree["tracks"].to_dataset()
    green, red = (
        nx.extract_traces(tree[name]["F"], tracks, progress=False, position_error_um=0) for name in ("recording", "red")
    )
    green, red = (traces.assign(F=traces["F"] * focus[:, None].astype("float32")) for traces in (green, red))
    truth = tree["traces"]["dff"].values
    active = (tree["traces"]["group"] != "inactive").values
    assert np.median(correlations(green, truth)[active]) < 0.8
    for method in ("ratio", "tmac"):
        corrected = nx.ratio(green, reference=red, method=method, smooth_s=0.5)
        assert np.median(correlations(corrected, truth)[active]) > 0.94


def test_wrong_arguments() -> None:
    traces = traces_of(np.full((30, 2), 10.0))
    with pytest.raises(NiddlError, match="expected method as one of ratio, regress, tmac, got 'ica'"):
        nx.ratio(traces, reference=traces, method="ica")
    with pytest.raises(NiddlError, match="smooth_s as a number of seconds, 0 or more, got -1"):
        nx.ratio(traces, reference=traces, smooth_s=-1)
    with pytest.raises(NiddlError, match="both colours with the same neuron, got 2 and 1"):
        nx.ratio(traces, reference=traces.isel(neuron=[0]))
    with pytest.raises(NiddlError, match="reference= as the traces of the other colour"):
        nx.ratio(traces, reference="red")
    with pytest.raises(NiddlError, match="times of the traces in s, for smooth_s="):
        nx.ratio(
            *[traces_of(np.full((30, 2), 10.0), unit="frame")], reference=traces_of(np.full((30, 2), 10.0), dt_s=0.5)
        )
