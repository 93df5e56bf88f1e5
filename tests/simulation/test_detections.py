"""Detections with known faults, and the difficulty of the presets against real point clouds."""

import numpy as np
import pandas as pd
import pytest

from niddl_xr.metrics.linking import linking_difficulty
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Motion, detections, whole_brain

FLAWLESS = {"missed_fraction": 0, "false_fraction": 0, "jitter_um": 0}


@pytest.fixture(scope="module")
def truth():
    return whole_brain(shape=(24, 150, 280), frames=120, neurons=60, seed=2, motion="semi")


def test_without_faults_they_are_the_tracks(truth):
    table = detections(truth, **FLAWLESS)
    tracks = truth["tracks"]
    assert len(table) == int(tracks["observed"].sum())
    assert table["t_index"].is_monotonic_increasing
    for row in table.sample(25, random_state=0).itertuples():
        where = tracks["position"].isel(t=row.t_index).sel(neuron=row.neuron)
        np.testing.assert_allclose([row.z, row.y, row.x], where.values, rtol=1e-6)
        assert row.t == float(where["t"])
        assert row.radius_um == pytest.approx(float(where["radius_um"]))
        assert row.intensity == pytest.approx(float(truth["traces"]["F"].isel(t=row.t_index).sel(neuron=row.neuron)))


def test_a_frame_does_not_tell_its_neurons_by_their_order(truth):
    names = detections(truth, **FLAWLESS).groupby("t_index")["neuron"].apply(tuple)
    assert len(set(names)) > 100


def test_faults_have_their_rates(truth):
    table = detections(truth, missed_fraction=0.15, false_fraction=0.1, jitter_um=0.5)
    real = table[table["neuron"] != ""]
    observed = truth["tracks"]["observed"]
    assert 1 - len(real) / int(observed.sum()) == pytest.approx(0.15, abs=0.03)
    assert (len(table) - len(real)) / observed.size == pytest.approx(0.1, abs=0.01)
    position = truth["tracks"]["position"].values
    names = truth["tracks"]["neuron"].values.tolist()
    errors = real[["z", "y", "x"]].to_numpy() - position[real["t_index"], [names.index(n) for n in real["neuron"]]]
    np.testing.assert_allclose(errors.std(axis=0), 0.5, rtol=0.05)


def test_the_dim_are_missed_and_stay_missed(truth):
    table = detections(truth, missed_fraction=0.2, false_fraction=0)
    found = pd.crosstab(table["t_index"], table["neuron"]).reindex(columns=truth["tracks"]["neuron"].values).to_numpy()
    bright = truth["traces"]["F"].mean("t").values
    assert np.corrcoef(found.mean(axis=0), np.argsort(np.argsort(bright)))[0, 1] > 0.6
    missed = found == 0
    again = (missed[1:] & missed[:-1]).sum() / missed[:-1].sum()
    assert again > 2 * missed.mean()


def test_signal_to_noise_is_that_of_the_camera(truth):
    table = detections(truth, **FLAWLESS)
    attrs = truth["recording"]["F"].attrs
    row = table.iloc[7]
    noise = attrs["read_noise_counts"] ** 2 + attrs["row_noise_counts"] ** 2
    noise += row.intensity * attrs["gain_counts_per_photon"] * attrs["excess_noise"]
    assert row.snr == pytest.approx(row.intensity / np.sqrt(noise), rel=1e-4)


def test_all_lie_in_the_field_beside_what_is_seen():
    away = whole_brain(shape=(9, 60, 90), frames=40, neurons=12, motion=Motion(translation_um=25), seed=1)
    table = detections(away, false_fraction=2.0, missed_fraction=0, jitter_um=3)
    observed = away["tracks"]["observed"]
    assert 0.1 < float((~observed).mean()) < 0.9
    for dim, edge in (("z", 8.5), ("y", 59.5 * 0.4), ("x", 89.5 * 0.4)):
        assert table[dim].between(-0.51, edge + 0.01).all()
    seen = observed.any("neuron").values
    assert table["t_index"].isin(np.flatnonzero(seen)).all()
    false_ones = table[table["neuron"] == ""]
    assert false_ones["t_index"].nunique() > 0.9 * seen.sum()
    share = false_ones["intensity"].mean() / float(away["traces"]["F"].where(observed).mean())
    assert 0.3 < share < 0.7  # dimmer than nuclei: 0.2 to 0.8


def test_one_neuron_that_stands_still_in_a_volume_is_jittered_in_depth_too():
    still = whole_brain(shape=(9, 40, 50), frames=30, neurons=1, motion=Motion())
    assert detections(still, missed_fraction=0, false_fraction=0)["z"].std() > 0.2
    flat = whole_brain(shape=(1, 40, 50), frames=30, neurons=1, motion=Motion(translation_um=1))
    assert not detections(flat)["z"].any()


def test_seeds(truth):
    pd.testing.assert_frame_equal(detections(truth, seed=3), detections(truth, seed=3))
    assert not detections(truth, seed=3).equals(detections(truth, seed=4))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"missed_fraction": 0.6},
            "expected missed_fraction as .* 0 or more and at most 0.45, got 0.6",
        ),
        ({"false_fraction": -1}, "expected false_fraction as a finite number of 0 or more, got -1"),
        ({"jitter_um": float("inf")}, "expected jitter_um as a finite number"),
        ({"jitter_um": "a lot"}, "expected jitter_um as a finite number of 0 or more, got 'a lot'"),
        ({"seed": -1}, "expected seed as a whole number of 0 or more, got -1"),
    ],
)
def test_faults_that_cannot_be(truth, option, message):
    with pytest.raises(NiddlError, match=message):
        detections(truth, **option)


def test_a_tree_without_truth(truth):
    with pytest.raises(NiddlError, match=r"with tracks, traces and recording, got none of \['tracks'\]"):
        detections(truth.drop_nodes("tracks"))
    with pytest.raises(NiddlError, match="truth as the DataTree of a simulation, got a Dataset"):
        detections(truth["tracks"].to_dataset())


def test_hard_is_as_hard_as_a_real_worm():
    """Real (fDNC): .45-.50 two frames apart, .65-.72 for the most similar frame, .15-.20 at random."""
    measured = []
    for seed in range(3):
        worm = whole_brain(shape=(30, 512, 512), frames=300, neurons=120, motion="hard", seed=seed)
        table = detections(worm, missed_fraction=0.15, false_fraction=0.10, seed=seed)
        frames = [(f[["z", "y", "x"]].to_numpy(), f["neuron"].to_numpy()) for _, f in table.groupby("t_index")]
        measured.append(linking_difficulty(frames, samples=40, unknown=""))
    mean = sum(measured) / 3
    assert 0.42 < mean["two frames apart"] < 0.56
    assert 0.60 < mean["most similar frame"] < 0.78
    assert 0.14 < mean["random frame"] < 0.24
