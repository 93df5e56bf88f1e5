"""The simulated head: its truth is the truth, and no chunking changes a count."""

import json
import pickle
import time

import cloudpickle
import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial.distance import pdist

from niddl_xr import schema
from niddl_xr.metrics import snr
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera, Motion, whole_brain
from niddl_xr.simulation._nodes import inside

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
    camera = Camera(gain=21.0, offset=410.0, read_noise=9.0)
    truth = whole_brain(**SMALL, rate_hz=2.0, camera=camera)
    recording, clean = truth["recording"]["F"], truth["clean"]["F"]
    schema.require_recording(recording)
    schema.require_recording(clean)
    assert (recording.dtype, clean.dtype) == (np.uint16, np.float32)
    assert dict(recording.sizes) == {"t": 7, "z": 4, "y": 36, "x": 50}
    assert schema.voxel_um(recording) == pytest.approx({"z": 1.0, "y": 0.4, "x": 0.4})
    assert schema.frame_interval_s(recording) == 0.5
    assert recording.attrs["units"] == "counts"
    assert (recording.attrs["gain_counts_per_photon"], recording.attrs["offset_counts"]) == (21.0, 410.0)
    assert (recording.attrs["read_noise_counts"], recording.attrs["seed"]) == (9.0, 3)
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
    truth = whole_brain(**still, active_fraction=0, bleaching=0, motion=Motion())
    gap = (truth["recording"]["F"].astype(float) - truth["clean"]["F"]).mean("t")
    spread = float(truth["clean"]["F"].std(["t", "z", "y", "x"]))
    assert spread > 50
    assert abs(float(gap.mean())) < 0.5


def test_images_are_bright_where_and_as_the_truth_says():
    changing = {"frames": 3, "motion": Motion(translation_um=0.1), "bleaching": 0.6, "bleaching_time_s": 0.5}
    truth = whole_brain(shape=(15, 80, 120), voxel_um=(0.2, 0.1, 0.12), neurons=1, seed=5, **changing, **NOISELESS)
    clean, position = truth["clean"]["F"], truth["tracks"]["position"].isel(neuron=0)
    at_centre = clean.interp(t=clean.t, **{dim: position.sel(space=dim, drop=True) for dim in "zyx"}, method="linear")
    np.testing.assert_allclose(at_centre - 400, truth["traces"]["F"].isel(neuron=0), rtol=0.02)
    brightest = clean.argmax(["z", "y", "x"])
    for dim, step in zip("zyx", (0.2, 0.1, 0.12), strict=True):
        found = clean[dim].values[brightest[dim].values]
        np.testing.assert_allclose(found, position.sel(space=dim), atol=step)


def test_median_neuron_has_the_photons_asked_for():
    options = {"shape": (20, 100, 160), "frames": 1, "neurons": 101, "photons": 30, "bleaching": 0}
    brightness = [whole_brain(**options, camera=Camera(gain=10), seed=s)["traces"]["F0"].values for s in range(6)]
    assert np.median(brightness) == pytest.approx(300, rel=0.1)  # the median of 606 draws
    assert np.log(brightness).std() == pytest.approx(0.6, rel=0.1)


def test_the_microscope_blurs_most_along_z():
    truth = whole_brain(shape=(45, 70, 75), voxel_um=(0.5, 0.35, 0.3), frames=1, neurons=1, seed=1, **NOISELESS)
    light = truth["clean"]["F"].isel(t=0) - 400
    spread = {}
    for dim in "zyx":
        profile = light.sum([other for other in "zyx" if other != dim])
        middle = float((profile * profile[dim]).sum() / profile.sum())
        spread[dim] = float((profile * (profile[dim] - middle) ** 2).sum() / profile.sum())
    # 1.5² and 0.5² µm² of the microscope on top of the nucleus, whose axes differ by 15 %.
    assert spread["z"] - spread["y"] == pytest.approx(2.0, abs=0.7)
    assert spread["z"] - spread["x"] == pytest.approx(2.0, abs=0.7)


def test_traces_agree_with_one_another_and_bleach():
    traces = whole_brain(**(SMALL | {"frames": 40}), rate_hz=1.0, bleaching=0.4, bleaching_time_s=20.0)["traces"]
    xr.testing.assert_allclose(traces["F"], traces["F0"] * (1 + traces["dff"]))
    left = 1 - 0.4 * (1 - np.exp(-traces["t"].values / 20.0))
    np.testing.assert_allclose((traces["F0"] / traces["F0"].isel(t=0)).values, np.tile(left[:, None], 9), rtol=1e-5)
    assert set(traces["state"].values.tolist()) <= {"forward", "reversal"}


def test_neurons_keep_their_distance_inside_the_field():
    tracks = whole_brain(shape=(12, 64, 90), frames=1, neurons=40, min_distance_um=2.5, motion=Motion())["tracks"]
    assert pdist(tracks["position"].isel(t=0).values).min() >= 2.5 - 1e-4
    assert bool(tracks["observed"].all())
    assert tracks["provenance"].attrs["flag_meanings"].split()[int(tracks["provenance"][0, 0])] == "anchor"


def test_resting_neurons_lie_inside_a_field_smaller_than_they_need():
    for seed in range(8):
        shape = (5, 30, 60)
        position = whole_brain(shape=shape, frames=1, neurons=14, min_distance_um=1, motion=Motion(), seed=seed)
        position = position["tracks"]["position"].values[0]
        field = (np.array(shape) - 1) * (1, 0.4, 0.4)
        assert np.all(position >= np.minimum(1.5, 0.05 * field) - 1e-4)
        assert np.all(position <= field - np.minimum(1.5, 0.05 * field) + 1e-4)


def test_observed_ends_half_a_voxel_beyond_the_outer_centres():
    voxel, shape = np.array([1.0, 0.4, 0.5]), (4, 36, 50)
    middle = (np.array(shape) - 1) * voxel / 2
    for axis in range(3):
        for side in (-1, 1):
            for beyond, expected in ((0.49, True), (0.51, False)):
                point = middle.copy()
                point[axis] += side * (middle[axis] + beyond * voxel[axis])
                assert inside(point, shape, voxel) == expected


def test_a_neuron_that_drifts_out_is_not_observed():
    tracks = whole_brain(**SMALL, motion=Motion(translation_um=15.0))["tracks"]
    assert not bool(tracks["observed"].all())
    np.testing.assert_array_equal(tracks["confidence"], tracks["observed"].astype(float))


def test_plane_movie_has_all_neurons_in_its_plane():
    truth = whole_brain(shape=(1, 40, 60), frames=2, neurons=5)
    assert not truth["tracks"]["position"].sel(space="z").values.any()
    assert truth["recording"]["F"].sizes["z"] == 1


def true_snr(photons: float) -> float:
    """Signal at the neurons' centres over the noise there, from the truth."""
    truth = whole_brain(shape=(4, 50, 70), frames=12, neurons=9, photons=photons, motion=Motion(), seed=4)
    noise = (truth["recording"]["F"] - truth["clean"]["F"]).compute()
    near = truth["labels"]["labels"].compute() > 0
    return float(truth["traces"]["F"].mean() / noise.where(near).std())


def test_true_snr_rises_with_light():
    levels = [true_snr(photons) for photons in (2, 5, 10, 20, 50, 100, 200)]
    assert np.all(np.diff(levels) > 0)


def test_snr_without_truth_rises_with_light():
    heads = [whole_brain(shape=(6, 200, 220), frames=1, neurons=50, photons=p, seed=2) for p in (2, 5, 20, 80, 200)]
    assert np.all(np.diff([float(snr(head["recording"]["F"]).snr_dB.median()) for head in heads]) > 0)


def test_photon_transfer_of_a_whole_recording():
    """Variance over mean of the counts above their offset, where read noise and stripes are off."""
    camera = Camera(gain=11, excess_noise=1.7, read_noise=0, row_noise=0, spurious_charge=0)
    truth = whole_brain(shape=(6, 60, 80), frames=40, neurons=20, seed=6, camera=camera)
    counts, mean = truth["recording"]["F"].values.astype(float), truth["clean"]["F"].values.astype(float)
    bright = mean > 500
    slope = ((counts - mean)[bright] ** 2).sum() / (mean - 400)[bright].sum()
    assert slope == pytest.approx(11 * 1.7, rel=0.03)


def test_labels_are_the_nuclei():
    truth = whole_brain(shape=(12, 60, 90), frames=3, neurons=12, seed=7, motion="semi")
    labels, tracks = truth["labels"]["labels"], truth["tracks"]
    assert labels.dtype == np.uint16
    assert labels.dims == ("t", "z", "y", "x")
    values = labels.values
    voxel = np.array([1.0, 0.4, 0.4])
    for t, number in ((0, 3), (2, 9)):
        centre = tracks["position"].values[t, number - 1]
        where = np.argwhere(values[t] == number)
        # Nuclei at the edge of the field are cut off; these are inside.
        assert np.linalg.norm(where.mean(axis=0) * voxel - centre) < 0.6
        radius = float(tracks["radius_um"][number - 1])
        assert len(where) * voxel.prod() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.25)
    assert set(np.unique(values)) <= set(range(13))


def test_red_light_does_not_follow_activity_and_bleaches_on_its_own():
    options = SMALL | {"frames": 30, "motion": Motion(), "haze": 0, "autofluorescence": 0}
    truth = whole_brain(**options, red_photons=80, red_bleaching=0.5, red_bleaching_time_s=3.0)
    assert truth["red"]["F"].dtype == np.uint16
    left = 1 - 0.5 * (1 - np.exp(-truth["traces"]["t"].values / 3.0))
    red = truth["traces"]["red"]
    np.testing.assert_allclose(red / red[0], np.tile(left[:, None], 9), rtol=1e-5)
    median = float(whole_brain(**(SMALL | {"frames": 1}), red_photons=80)["traces"]["red"].median())
    assert 0.4 < median / (25 * 80) < 2.5  # the median of nine draws
    assert "red" not in whole_brain(**SMALL).children
    plain = {"rate_hz": 0.5, "stray_photons": 0, "background_photons": 0, "camera": Camera(spurious_charge=0)}
    bleached = whole_brain(**options, **plain, red_photons=300, red_bleaching=0.5, red_bleaching_time_s=3.0)
    seen = bleached["red"]["F"].sum(["z", "y", "x"]) - 400 * 4 * 36 * 50
    left = 1 - 0.5 * (1 - np.exp(-bleached["traces"]["t"].values / 3.0))
    np.testing.assert_allclose(seen / seen[0], left, rtol=0.03)
    dark = whole_brain(**(SMALL | plain), photons=1e-3, red_photons=1e-3)
    noise = [dark[node]["F"].values.ravel() for node in ("recording", "red")]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05  # noise of its own
    assert not np.array_equal(truth["red"]["F"].values, truth["recording"]["F"].values)


def test_two_components_of_bleaching_add_up():
    traces = whole_brain(**(SMALL | {"frames": 50}), bleaching=(0.2, 0.3), bleaching_time_s=(2.0, 20.0))["traces"]
    seconds = traces["t"].values
    left = 1 - 0.2 * (1 - np.exp(-seconds / 2)) - 0.3 * (1 - np.exp(-seconds / 20))
    np.testing.assert_allclose((traces["F0"] / traces["F0"][0]).values, np.tile(left[:, None], 9), rtol=1e-5)


def test_given_activity_is_played():
    seconds = np.arange(20) * 0.5
    given = xr.DataArray(
        np.linspace(0, 1, 20)[:, None] * np.arange(1, 13), dims=("t", "neuron"), coords={"t": seconds}
    ).assign_coords(neuron=[f"n{n:03d}" for n in range(1, 13)])
    traces = whole_brain(**SMALL, activity=given)["traces"]
    assert traces["trace"].values.tolist() == traces["neuron"].values.tolist()
    expected = given.interp(t=traces["t"]).isel(neuron=slice(9))
    np.testing.assert_allclose(traces["dff"], expected, rtol=1e-5)
    assert "group" not in traces.coords


def test_given_positions_lie_where_they_are_told():
    table = pd.DataFrame(
        {"x": [200.0, 212.5, 230.0, 900.0], "y": [-3.0, 2.0, 0.0, 0.0], "z": [1.0, -2.0, 0.0, 0.0]},
        index=["AVAL", "AVAR", "RID", "PVQL"],
    )
    tracks = whole_brain(shape=(8, 60, 110), frames=2, positions=table, motion=Motion(), seed=1)["tracks"].to_dataset()
    assert tracks["neuron"].values.tolist() == ["AVAL", "AVAR", "RID"]
    assert tracks["partner"].values.tolist() == ["AVAR", "AVAL", ""]
    position = tracks["position"].isel(t=0)
    gaps = position - position.sel(neuron="AVAL")
    np.testing.assert_allclose(gaps.sel(neuron="RID"), [-1, 3, 30], atol=1e-4)
    np.testing.assert_allclose(position.sel(neuron="AVAL", space="x"), 0.03 * 109 * 0.4, rtol=1e-5)
    two = whole_brain(shape=(8, 60, 110), frames=1, positions=table, neurons=2)["tracks"]
    assert two.sizes["neuron"] == 2


def test_a_moving_head_is_drawn_where_its_tracks_are():
    truth = whole_brain(
        shape=(13, 80, 110),
        frames=6,
        neurons=1,
        seed=3,
        motion=Motion(translation_um=4.0, time_constant_s=1.0),
        plane_delay_s=0.015,
        **NOISELESS,
    )
    light = truth["clean"]["F"] - 400
    for dim in ("y", "x"):  # along z the field cuts light off
        centroid = (light * light[dim]).sum(["z", "y", "x"]) / light.sum(["z", "y", "x"])
        np.testing.assert_allclose(centroid, truth["tracks"]["position"].isel(neuron=0).sel(space=dim), atol=0.15)
    assert np.ptp(truth["tracks"]["position"].values, axis=0).max() > 3


SCANNED_SLOWLY = {"plane_delay_s": 0.03, "exposure_s": 0.02}
SCANNED = {"motion": "free", **SCANNED_SLOWLY}


def test_a_short_recording_is_the_beginning_of_a_long_one():
    position = whole_brain(**(SMALL | {"frames": 7}), **SCANNED)["tracks"]["position"].values
    for frames in (1, 2, 6):
        shorter = whole_brain(**(SMALL | {"frames": frames}), **SCANNED)
        np.testing.assert_array_equal(shorter["tracks"]["position"].values, position[:frames])
        shorter["recording"]["F"].compute()


def test_the_frame_rate_does_not_change_where_a_neuron_appears():
    slow = whole_brain(**(SMALL | {"frames": 5}), rate_hz=2.0, **SCANNED)["tracks"]["position"].values
    fast = whole_brain(**(SMALL | {"frames": 9}), rate_hz=4.0, **SCANNED)["tracks"]["position"].values
    np.testing.assert_allclose(slow, fast[::2], atol=1e-3)


def test_a_scan_meets_a_neuron_on_its_way():
    """20 planes in 0.4 s: a neuron in plane z appears at z / 20 of its way from begin to end of the scan."""
    options = {"shape": (20, 80, 100), "neurons": 8, "seed": 2, "exposure_s": 0, "motion": Motion(translation_um=3)}
    scanned = whole_brain(frames=3, rate_hz=2.0, plane_delay_s=0.02, **options)["tracks"]["position"].values
    instant = whole_brain(frames=15, rate_hz=10.0, **options)["tracks"]["position"].values
    start, end = instant[[0, 5, 10]], instant[[4, 9, 14]]
    late = start[..., :1] / 20
    np.testing.assert_allclose(scanned[..., 0], start[..., 0], atol=1e-4)
    np.testing.assert_allclose(scanned[..., 1:], (start + late * (end - start))[..., 1:], atol=0.01)
    assert np.abs(scanned - start).max() > 1  # it does matter


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 50), (3, 70, 2)])
def test_fields_of_odd_shapes(shape):
    truth = whole_brain(shape=shape, frames=2, neurons=1, motion="hard", red_photons=9, **SCANNED_SLOWLY)
    for node, name in (("recording", "F"), ("red", "F"), ("labels", "labels")):
        assert truth[node][name].compute().shape == (2, *shape)
    assert np.isfinite(truth["tracks"]["position"]).all()


def test_a_tree_travels_to_other_processes():
    truth = whole_brain(**SMALL)
    sent = cloudpickle.dumps(truth)
    assert len(sent) < 3e5
    np.testing.assert_array_equal(
        pickle.loads(sent)["recording"]["F"].values,
        truth["recording"]["F"].values,
    )


def test_haze_and_stray_light_are_as_large_as_the_docstring_says():
    def light(**options: float) -> np.ndarray:
        plain = {**NOISELESS, "camera": Camera(gain=1, offset=0, spurious_charge=0), "bleaching": 0, "exposure_s": 0}
        truth = whole_brain(shape=(50, 260, 300), frames=1, neurons=12, seed=1, motion=Motion(), **(plain | options))
        return truth["clean"]["F"].values[0].astype(float)

    signal = light()
    haze = light(haze=2.0) - signal
    assert haze.sum() / signal.sum() == pytest.approx(2.0 * 1.3, rel=0.1)  # some of it leaves the field
    stray = light(stray_photons=2.0) - signal
    assert np.ptp(stray, axis=0).max() < 1e-3  # alike in all planes
    assert stray.max() == pytest.approx(2.0, rel=0.01)
    assert np.unravel_index(stray[0].argmax(), stray[0].shape)[1] == pytest.approx(0.66 * 300, abs=2)
    np.testing.assert_allclose(light(background_photons=0.7) - signal, 0.7, atol=1e-3)
    glow = light(autofluorescence=0.3) - signal
    assert 0.5 * 0.3 * 50 < glow.max() < 2.5 * 0.3 * 50
    twice = light(autofluorescence=0.3, photons=100) - light(photons=100)
    np.testing.assert_allclose(twice, 2 * glow, atol=0.05)


def test_a_table_of_positions_is_named_in_the_history():
    table = pd.DataFrame({"z": [0.0, 1.0], "y": [0.0, 9.0], "x": [0.0, 9.0]})
    truth = whole_brain(**(SMALL | {"neurons": None}), positions=table)
    assert schema.history(truth["tracks"].to_dataset())[-1]["parameters"]["positions"] == "DataFrame of shape (2, 3)"


def test_a_hundred_thousand_frames_are_planned_in_seconds():
    truth = whole_brain(shape=(30, 512, 512), frames=100_000, neurons=20, motion="fixed")
    started = time.process_time()
    plane = truth["recording"]["F"][99_999, 0].values
    assert time.process_time() - started < 10
    assert plane.shape == (512, 512)


def test_light_beyond_16_bits_is_told():
    with pytest.warns(
        UserWarning, match=r"a 16-bit camera holds 65535 and clips it: lower photons= or the gain of camera="
    ):
        truth = whole_brain(**SMALL, photons=2000, camera=Camera(gain=60))
    assert truth["recording"]["F"].values.max() == 65535
    with pytest.warns(UserWarning, match=r"16-bit camera holds 65535") as told:
        whole_brain(**SMALL, red_photons=5000)
    assert told[0].filename == __file__  # the caller's line


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
        ({"motion": "wild"}, r"expected motion as one of \['fixed', 'semi', 'free', 'hard'\] or a Motion, got 'wild'"),
        ({"motion": Motion(roll_deg=-1)}, "expected roll_deg of motion as a finite number of 0 or more, got -1"),
        ({"motion": Motion(time_constant_s=0)}, "expected time_constant_s of motion as a finite number above 0, got 0"),
        ({"bleaching": (0.2, 0.1)}, "expected one bleaching_time_s for each bleaching, got 1 and 2"),
        ({"bleaching": (0.7, 0.6), "bleaching_time_s": (1, 2)}, "add up to at most 1, got 1.3"),
        ({"plane_delay_s": 0.1}, r"expected 4 planes to be taken within a frame of 0.25 s, got plane_delay_s=0.1"),
        ({"exposure_s": 1.0}, r"expected exposure_s within a frame of 0.25 s, got 1: lower it, or rate_hz="),
        ({"red_photons": 0}, "expected red_photons as a finite number above 0, got 0"),
        ({"positions": np.array([[0.0, 0.0, 0.0]]), "neurons": 2}, r"expected 2 of the 1 positions inside the field"),
        ({"frames_per_chunk": 0}, "expected frames_per_chunk as a whole number of 1 or more, got 0"),
        ({"photons": float("nan")}, "expected photons as a finite number above 0, got nan"),
        ({"photons": None}, "expected photons as a finite number above 0, got None"),
        ({"haze": "thick"}, "expected haze as a finite number of 0 or more, got 'thick'"),
        ({"haze": "2.5"}, r"expected haze as a finite number of 0 or more, got '2\.5'"),
        ({"exposure_s": [0.1]}, r"expected exposure_s as a finite number of 0 or more, got \[0\.1\]"),
        ({"rate_hz": True}, "expected rate_hz as a finite number above 0, got True"),
        ({"stray_photons": xr.Dataset()}, "expected stray_photons as a finite number of 0 or more, got a Dataset"),
        ({"neurons": "many"}, "expected neurons as a whole number of 1 or more, got 'many'"),
        ({"shape": None}, r"expected shape as three sizes \(z, y, x\), got None"),
        ({"shape": "abc"}, "expected shape as three sizes"),
        ({"shape": [[1], [2, 3]]}, "expected shape as three sizes"),
        ({"voxel_um": np.array(0.4)}, "expected voxel_um as three numbers"),
        ({"camera": "x"}, r"expected camera as a niddl_xr\.simulate\.Camera or None, got 'x'"),
        ({"camera": {}}, r"expected camera as a niddl_xr\.simulate\.Camera or None, got \{\}"),
        ({"motion": None}, "or a Motion, got None"),
        ({"motion": {"translation_um": 3}}, r"or a Motion, got \{'translation_um': 3\}"),
        ({"motion": Motion(burst="often")}, "expected burst of motion as a finite number of 0 or more, got 'often'"),
        ({"motion": Motion(translation_um=1e9)}, "expected translation_um of motion as .* at most 1000"),
        (
            {"motion": Motion(burst_s=1e-9)},
            "expected burst_s of motion as 1.[78]e-06 s or more in a recording of 1.75 s",
        ),
        ({"bleaching": None}, "expected bleaching as a finite number of 0 or more and at most 1, got None"),
        ({"red_bleaching": 2}, "expected red_bleaching as a finite number of 0 or more and at most 1, got 2"),
        ({"positions": 5}, r"expected positions as an array \(neuron, 3\) of z, y, x in µm, got shape \(\)"),
        ({"activity": xr.Dataset()}, "expected activity as a DataArray .* got Dataset"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        whole_brain(**(SMALL | option))
