"""The simulated head: its truth is the truth, and no chunking changes a count."""

import json

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist

from niddl_xr import metrics, schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera, whole_brain

SMALL = {"shape": (4, 36, 50), "frames": 7, "neurons": 9, "seed": 3}
NOISELESS = {
    "haze": 0,
    "autofluorescence": 0,
    "background_photons": 0,
    "stray_photons": 0,
    "camera": Camera(spurious_charge=0),
}


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


def test_nodes_keep_the_contract():
    truth = whole_brain(**SMALL, rate_hz=2.0)
    recording, clean = truth["recording"]["F"], truth["clean"]["F"]
    schema.require_recording(recording)
    schema.require_recording(clean)
    assert (recording.dtype, clean.dtype) == (np.uint16, np.float32)
    assert dict(recording.sizes) == {"t": 7, "z": 4, "y": 36, "x": 50}
    assert schema.voxel_um(recording) == pytest.approx({"z": 1.0, "y": 0.4, "x": 0.4})
    assert schema.frame_interval_s(recording) == 0.5
    assert recording.attrs["units"] == "counts"
    assert (recording.attrs["gain_counts_per_photon"], recording.attrs["offset_counts"]) == (25.0, 400.0)
    assert (recording.attrs["read_noise_counts"], recording.attrs["seed"]) == (11.0, 3)
    assert dict(truth["tracks"].sizes) == {"t": 7, "neuron": 9, "space": 3}
    assert truth["tracks"]["space"].values.tolist() == ["z", "y", "x"]
    assert truth["tracks"]["observed"].dtype == bool
    assert truth["traces"]["dff"].dims == ("t", "neuron")
    for node in (recording, clean, truth["tracks"].to_dataset(), truth["traces"].to_dataset()):
        assert schema.history(node)[-1]["verb"] == "simulate.whole_brain"
        assert schema.history(node)[-1]["parameters"]["neurons"] == 9
    json.dumps(recording.attrs)


def test_nothing_is_computed_before_it_is_asked_for():
    with dask.config.set(scheduler=forbid):
        truth = whole_brain(**SMALL)
        truth["recording"]["F"].isel(t=slice(2, 4)).mean("t")


@pytest.mark.parametrize("frames_per_chunk", [1, 3, 7])
@pytest.mark.parametrize("node", ["recording", "clean"])
def test_chunking_changes_no_bit(node, frames_per_chunk):
    expected = whole_brain(**SMALL, frames_per_chunk=2)[node]["F"].compute()
    chunked = whole_brain(**SMALL, frames_per_chunk=frames_per_chunk)[node]["F"]
    assert chunked.chunksizes["t"][0] == frames_per_chunk
    np.testing.assert_array_equal(chunked.values, expected.values)
    np.testing.assert_array_equal(chunked.isel(t=5).values, expected.isel(t=5).values)


def test_seeds_give_the_same_or_another_worm():
    first, same = (whole_brain(**SMALL)["recording"]["F"].values for _ in range(2))
    other = whole_brain(**(SMALL | {"seed": 4}))["recording"]["F"].values
    np.testing.assert_array_equal(first, same)
    assert np.mean(first == other) < 0.1


def test_two_worms_computed_together_stay_two():
    first, second = (whole_brain(**(SMALL | {"seed": seed}))["recording"]["F"] for seed in (3, 4))
    together = dask.compute(first, second)
    np.testing.assert_array_equal(together[0], first)
    np.testing.assert_array_equal(together[1], second)


def test_frames_have_noise_of_their_own():
    truth = whole_brain(**SMALL)
    noise = (truth["recording"]["F"] - truth["clean"]["F"]).values.reshape(7, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(7)).max() < 0.1


def test_clean_is_the_mean_of_the_recording():
    still = SMALL | {"frames": 150, "neurons": 2}
    truth = whole_brain(**still, active_fraction=0, bleaching=0, motion_um=0)
    gap = (truth["recording"]["F"].astype(float) - truth["clean"]["F"]).mean("t")
    spread = float(truth["clean"]["F"].std(["t", "z", "y", "x"]))
    assert spread > 50
    assert abs(float(gap.mean())) < 0.5


def test_images_are_bright_where_and_as_the_truth_says():
    changing = {"frames": 3, "motion_um": 0.1, "bleaching": 0.6, "bleaching_time_s": 0.5}
    truth = whole_brain(shape=(15, 80, 120), voxel_um=(0.2, 0.1, 0.12), neurons=1, seed=5, **changing, **NOISELESS)
    clean, position = truth["clean"]["F"], truth["tracks"]["position"].isel(neuron=0)
    at_centre = clean.interp(t=clean.t, **{dim: position.sel(space=dim, drop=True) for dim in "zyx"}, method="linear")
    np.testing.assert_allclose(at_centre - 400, truth["traces"]["F"].isel(neuron=0), rtol=0.02)
    brightest = clean.argmax(["z", "y", "x"])
    for dim, step in zip("zyx", (0.2, 0.1, 0.12), strict=True):
        found = clean[dim].values[brightest[dim].values]
        np.testing.assert_allclose(found, position.sel(space=dim), atol=step)


def test_median_neuron_has_the_photons_asked_for():
    traces = whole_brain(
        shape=(20, 100, 160), frames=1, neurons=101, photons=30, camera=Camera(gain=10), bleaching=0, seed=1
    )["traces"]
    assert float(traces["F0"].isel(t=0).median()) == pytest.approx(300, rel=0.2)  # the median of 101 draws


def test_traces_agree_with_one_another_and_bleach():
    traces = whole_brain(**(SMALL | {"frames": 40}), rate_hz=1.0, bleaching=0.4, bleaching_time_s=20.0)["traces"]
    xr.testing.assert_allclose(traces["F"], traces["F0"] * (1 + traces["dff"]))
    left = 1 - 0.4 * (1 - np.exp(-traces["t"].values / 20.0))
    np.testing.assert_allclose((traces["F0"] / traces["F0"].isel(t=0)).values, np.tile(left[:, None], 9), rtol=1e-5)
    assert set(traces["state"].values.tolist()) <= {"forward", "reversal"}


def test_neurons_keep_their_distance_inside_the_field():
    tracks = whole_brain(shape=(12, 64, 90), frames=1, neurons=40, min_distance_um=2.5, motion_um=0)["tracks"]
    assert pdist(tracks["position"].isel(t=0).values).min() >= 2.5 - 1e-4
    assert bool(tracks["observed"].all())
    assert tracks["provenance"].attrs["flag_meanings"].split()[int(tracks["provenance"][0, 0])] == "anchor"


def test_a_neuron_that_drifts_out_is_not_observed():
    tracks = whole_brain(**SMALL, motion_um=15.0)["tracks"]
    assert not bool(tracks["observed"].all())
    np.testing.assert_array_equal(tracks["confidence"], tracks["observed"].astype(float))


def test_plane_movie_has_all_neurons_in_its_plane():
    truth = whole_brain(shape=(1, 40, 60), frames=2, neurons=5)
    assert not truth["tracks"]["position"].sel(space="z").values.any()
    assert truth["recording"]["F"].sizes["z"] == 1


def test_snr_rises_with_light():
    levels = [
        float(
            metrics.snr(whole_brain(shape=(2, 90, 130), frames=2, neurons=6, photons=p)["recording"]["F"]).snr_dB.mean()
        )
        for p in (2, 10, 50)
    ]
    assert levels[0] < levels[1] < levels[2]


def test_light_beyond_16_bits_is_told():
    with pytest.warns(
        UserWarning, match=r"a 16-bit camera holds 65535 and clips it: lower photons= or the gain of camera="
    ):
        truth = whole_brain(**SMALL, photons=2000, camera=Camera(gain=60))
    assert truth["recording"]["F"].values.max() == 65535


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"photons": 0}, "expected photons as a finite number above 0, got 0"),
        ({"neurons": 0}, "expected neurons as a whole number of 1 or more, got 0"),
        ({"neurons": 2.5}, r"expected neurons as a whole number of 1 or more, got 2\.5"),
        (
            {"neurons": 90, "min_distance_um": 6},
            r"expected room for 90 neurons at least 6 µm apart, got \d+ into a head",
        ),
        ({"shape": (4, 36)}, r"expected shape as three sizes \(z, y, x\), got \(4, 36\)"),
        ({"shape": (4, 0, 50)}, "expected shape along y as a whole number of 1 or more, got 0"),
        ({"voxel_um": (1, 0.4)}, r"expected voxel_um as three numbers \(z, y, x\) in µm, got \(1, 0.4\)"),
        ({"voxel_um": (1, -0.4, 0.4)}, r"expected voxel_um along y as a finite number above 0, got -0\.4"),
        ({"rate_hz": 0}, "expected rate_hz as a finite number above 0, got 0"),
        ({"bleaching": 1.5}, "expected bleaching as a finite number of 0 or more and at most 1, got 1.5"),
        ({"seed": -1}, "expected seed as a whole number of 0 or more, got -1"),
        ({"frames": 0}, "expected frames as a whole number of 1 or more, got 0"),
        ({"frames_per_chunk": 0}, "expected frames_per_chunk as a whole number of 1 or more, got 0"),
        ({"photons": float("nan")}, "expected photons as a finite number above 0, got nan"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        whole_brain(**(SMALL | option))
