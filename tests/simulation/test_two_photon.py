"""The simulated two-photon movie: its truth is the truth, and no chunking changes a count."""

import json
import pickle

import cloudpickle
import dask
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import center_of_mass
from scipy.spatial.distance import pdist

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera
from niddl_xr.simulation._kernels.tissue_scene import Field
from niddl_xr.simulation.two_photon import two_photon

SMALL = {"shape": (2, 48, 70), "frames": 7, "voxel_um": (9.0, 1.0, 0.9), "neurons": 5, "seed": 3}
EVEN = {"vessels": 0, "vignetting": 0}
QUIET = Camera(offset=100, gain=100, read_noise=0, row_noise=0, spurious_charge=0, excess_noise=1.3)


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


def given(frames: int, neurons: int, rate_hz: float, value: float = 0.0) -> xr.DataArray:
    return xr.DataArray(
        np.full((frames, neurons), value),
        dims=("t", "neuron"),
        coords={"t": np.arange(frames) / rate_hz, "neuron": [f"cell {n}" for n in range(neurons)]},
    )


def test_nodes_keep_the_contract():
    truth = two_photon(**SMALL, rate_hz=5.0)
    recording, clean, labels = truth["recording"]["F"], truth["clean"]["F"], truth["labels"]["labels"]
    for movie, dtype in ((recording, np.uint16), (clean, np.float32), (labels, np.uint16)):
        schema.require_recording(movie)
        assert movie.dtype == dtype
        assert dict(movie.sizes) == {"t": 7, "z": 2, "y": 48, "x": 70}
        assert schema.voxel_um(movie) == pytest.approx({"z": 9.0, "y": 1.0, "x": 0.9})
        assert schema.frame_interval_s(movie) == pytest.approx(0.2)
        assert movie.compute().dtype == dtype
    assert recording.attrs["units"] == "counts"
    assert (recording.attrs["gain_counts_per_photon"], recording.attrs["offset_counts"]) == (150.0, 170.0)
    assert dict(truth["tracks"].sizes) == {"t": 7, "neuron": 5, "space": 3}
    assert truth["tracks"]["radius_um"].dims == ("neuron",)
    assert truth["tracks"]["radius_um"].attrs["units"] == "µm"
    assert truth["tracks"]["depth_um"].dims == ("neuron",)
    for name in ("F", "F0", "dff", "neuropil", "spikes"):
        assert truth["traces"][name].dims == ("t", "neuron")
        assert bool(np.isfinite(truth["traces"][name]).all())
    for node in (recording, clean, labels, truth["tracks"].to_dataset(), truth["traces"].to_dataset()):
        assert schema.history(node)[-1]["verb"] == "simulate.two_photon"
        assert schema.history(node)[-1]["parameters"]["soma_radius_um"] == [5.0, 8.0]
    json.dumps(recording.attrs)


def test_nothing_is_computed_before_it_is_asked_for():
    with dask.config.set(scheduler=forbid):
        truth = two_photon(**SMALL)
        truth["recording"]["F"].isel(t=slice(2, 4)).mean("t")
        truth["labels"]["labels"].isel(t=3)


@pytest.mark.parametrize("frames_per_chunk", [1, 3, 7])
@pytest.mark.parametrize(("node", "name"), [("recording", "F"), ("clean", "F"), ("labels", "labels")])
def test_chunking_changes_no_bit(node, name, frames_per_chunk):
    expected = two_photon(**SMALL, frames_per_chunk=2)[node][name].compute()
    chunked = two_photon(**SMALL, frames_per_chunk=frames_per_chunk)[node][name]
    assert chunked.chunksizes["t"][0] == frames_per_chunk
    np.testing.assert_array_equal(chunked.values, expected.values)
    np.testing.assert_array_equal(chunked.isel(t=5).values, expected.isel(t=5).values)


def test_seeds_give_the_same_or_another_brain():
    first, same = (two_photon(**SMALL)["recording"]["F"] for _ in range(2))
    other = two_photon(**(SMALL | {"seed": 4}))["recording"]["F"]
    np.testing.assert_array_equal(first, same)
    assert np.mean(first.values == other.values) < 0.1
    together = dask.compute(first, other)  # two brains computed together stay two
    np.testing.assert_array_equal(together[0], first)
    np.testing.assert_array_equal(together[1], other)


def test_it_travels_to_workers():
    recording = two_photon(**SMALL)["recording"]["F"]
    for travelled in (pickle.loads(pickle.dumps(recording)), cloudpickle.loads(cloudpickle.dumps(recording))):
        np.testing.assert_array_equal(travelled.values, recording.values)


def test_photon_transfer_slope_is_gain_times_excess_noise():
    truth = two_photon(**(SMALL | {"frames": 120, "photons": 20}), camera=QUIET)
    clean = truth["clean"]["F"].values.astype(float).ravel()
    noise = truth["recording"]["F"].values.astype(float).ravel() - clean
    dim, bright = clean < np.percentile(clean, 30), clean > np.percentile(clean, 95)
    slope = (noise[bright].var() - noise[dim].var()) / (clean[bright].mean() - clean[dim].mean())
    assert slope == pytest.approx(100 * 1.3, rel=0.03)
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_labels_see_the_neuron_and_the_neuropil_that_the_traces_state(seed):
    truth = two_photon(
        shape=(1, 60, 77),
        frames=30,
        neurons=1,
        seed=seed,
        event_rate_hz=1.5,
        bleaching=0.5,
        bleaching_time_s=1.0,
        motion_um=0.7,
        camera=QUIET,
    )
    body = truth["labels"]["labels"] == 1
    seen = (truth["clean"]["F"].where(body).mean(["z", "y", "x"]) - 100).values
    own, behind = truth["traces"]["F"].values[:, 0], truth["traces"]["neuropil"].values[:, 0]
    assert np.ptp(own) > 0.3 * own.mean()
    np.testing.assert_allclose(seen, own + behind, rtol=0.05)  # labels move by whole pixels
    assert (seen / (own + behind)).mean() == pytest.approx(1, abs=0.02)
    without = two_photon(
        shape=(1, 60, 77), frames=2, neurons=1, seed=seed, neuropil=0, motion_um=0, event_rate_hz=0, camera=QUIET
    )
    assert not without["traces"]["neuropil"].values.any()
    seen = (without["clean"]["F"].where(without["labels"]["labels"] == 1).mean(["z", "y", "x"]) - 100).values
    np.testing.assert_allclose(seen, without["traces"]["F"].values[:, 0], rtol=1e-3)


def test_median_neuron_and_neuropil_have_the_photons_asked_for():
    truth = two_photon(
        shape=(1, 130, 140), frames=1, neurons=11, photons=8.0, neuropil=0.5, event_rate_hz=0, camera=QUIET, **EVEN
    )
    assert float(truth["traces"]["F0"].isel(t=0).median()) == pytest.approx(800, rel=1e-4)
    tissue_alone = two_photon(
        shape=(1, 130, 140),
        frames=1,
        neurons=1,
        photons=8.0,
        neuropil=0.5,
        camera=QUIET,
        activity=given(2, 1, 30),
        **EVEN,
    )
    counts = tissue_alone["clean"]["F"].where(tissue_alone["labels"]["labels"] == 0) - 100
    # The noise of the level has an SD of 0.1 in this one frame; the texture's mean is its own.
    level = tissue_alone["traces"]["neuropil"].values[0, 0]
    assert 200 < level < 400  # half of it comes from beyond the soma
    assert float(counts.mean()) == pytest.approx(400, rel=0.25)


def test_median_of_many_levels_is_the_neuropil_asked_for():
    truth = two_photon(
        shape=(1, 40, 50), frames=3000, rate_hz=1.0, neurons=1, activity=given(3000, 1, 1), bleaching=0, **EVEN
    )
    assert truth["traces"]["neuropil"].values.std() / truth["traces"]["neuropil"].values.mean() == pytest.approx(
        0.1, rel=0.1
    )


def test_neuropil_has_its_time_constant_and_is_shared():
    truth = two_photon(
        shape=(1, 180, 60),
        frames=20_000,
        voxel_um=(1, 4.0, 4.0),
        rate_hz=4.0,
        neurons=3,
        activity=given(20_000, 3, 4),
        bleaching=0,
        **EVEN,
    )
    level = truth["traces"]["neuropil"].values.astype(float)
    change = level / level.mean(axis=0) - 1
    assert (change[:-6] * change[6:]).mean() / change.var() == pytest.approx(np.exp(-1), abs=0.05)  # 6 frames are 1.5 s
    apart = np.abs(np.diff(truth["tracks"]["position"].isel(t=0).sel(space="y").values))
    assert apart.max() > 200
    correlation = np.corrcoef(change.T)[np.triu_indices(3, 1)]
    assert correlation.min() == pytest.approx(0.6, abs=0.1)


def test_neuropil_follows_the_neurons_near_by():
    rise = given(1000, 4, 5)
    rise[500:] = 2.0
    truth = two_photon(shape=(1, 90, 100), frames=1000, rate_hz=5.0, neurons=4, activity=rise, bleaching=0, seed=2)
    level = truth["traces"]["neuropil"].mean("neuron").values
    assert level[500:].mean() / level[:500].mean() == pytest.approx(1 + 0.5 * 2, abs=0.08)


def test_events_come_at_the_rate_asked_for():
    spikes = two_photon(
        shape=(1, 160, 190), frames=4000, rate_hz=10.0, voxel_um=(1, 1.1, 1.0), neurons=40, event_rate_hz=0.3
    )["traces"]["spikes"]
    assert spikes.dtype.kind == "i"
    assert float(spikes.sum()) / (40 * 400) == pytest.approx(0.3, rel=0.05)
    per_neuron = spikes.sum("t").values / 400
    assert np.log(per_neuron[per_neuron > 0]).std() == pytest.approx(1.3, abs=0.3)


def test_dff_is_the_events_through_the_indicator():
    rise, decay, rate = 0.1, 0.5, 20.0
    traces = two_photon(
        shape=(1, 70, 90), frames=900, rate_hz=rate, neurons=3, event_rate_hz=0.5, rise_s=rise, decay_s=decay
    )["traces"]
    t = (np.arange(900) + 0.5) / rate
    kernel = (1 - np.exp(-t / rise)) * np.exp(-t / decay)
    settled = slice(200, None)  # 10 s after what came before the first frame
    for dff, events in zip(traces["dff"].values.T, traces["spikes"].values.T, strict=True):
        shape = np.convolve(events, kernel)[:900]
        amplitude = (dff[settled] @ shape[settled]) / (shape[settled] @ shape[settled])
        assert amplitude > 0
        np.testing.assert_allclose(dff[settled], amplitude * shape[settled], atol=1e-4)
    xr.testing.assert_allclose(traces["F"], traces["F0"] * (1 + traces["dff"]))


def test_given_activity_is_played():
    activity = given(9, 2, 5)
    activity[:, 0], activity[:, 1] = np.linspace(0, 3, 9), np.linspace(1, 0, 9)
    traces = two_photon(shape=(1, 50, 60), frames=9, rate_hz=5.0, neurons=2, activity=activity)["traces"]
    played = activity.sel(neuron=traces["trace"].values).values
    np.testing.assert_allclose(traces["dff"], played, atol=1e-6)
    assert "spikes" not in traces


def test_labels_and_tracks_move_with_the_brain():
    truth = two_photon(shape=(1, 150, 160), frames=40, neurons=8, motion_um=3.0, seed=5, **EVEN)
    labels, position = truth["labels"]["labels"].values[:, 0], truth["tracks"]["position"].values[..., 1:]
    whole = np.all((position > 12) & (position < np.array([150, 160]) * 0.8 - 12), axis=(0, 2))
    assert whole.sum() >= 3
    for neuron in np.flatnonzero(whole):
        found = np.array([center_of_mass(frame == neuron + 1) for frame in labels]) * 0.8
        np.testing.assert_allclose(found, position[:, neuron], atol=0.8)  # labels move by whole pixels
        assert np.ptp(position[:, neuron]) > 3


def test_each_plane_is_read_at_its_own_time():
    options = {"shape": (3, 150, 140), "voxel_um": (20, 0.8, 0.8), "rate_hz": 3.0, "neurons": 25, "frames": 30}
    truth = two_photon(**options, motion_um=3.0, seed=5, **EVEN)
    labels, position = truth["labels"]["labels"].values, truth["tracks"]["position"].values
    inner = np.all((position[..., 1:] > 14) & (position[..., 1:] < np.array([106, 98])), axis=(0, 2))
    assert len({round(float(z) / 20) for z in position[0, inner, 0]}) == 3
    for neuron in np.flatnonzero(inner):
        plane = labels[:, round(float(position[0, neuron, 0]) / 20)]
        found = np.array([center_of_mass(frame == neuron + 1) for frame in plane]) * 0.8
        np.testing.assert_allclose(found, position[:, neuron, 1:], atol=0.8)


def test_clean_moves_with_the_brain():
    truth = two_photon(shape=(1, 80, 90), frames=40, neurons=1, motion_um=3.0, neuropil=0, seed=5, camera=QUIET, **EVEN)
    clean, position = truth["clean"]["F"].values[:, 0] - 100, truth["tracks"]["position"].values[:, 0, 1:]
    found = np.array([center_of_mass(frame) for frame in clean]) * 0.8
    np.testing.assert_allclose(found - found[0], position - position[0], atol=0.2)  # the body moves while it is scanned


def test_lines_are_read_one_after_another():
    field = Field((2, 10, 12), np.array([4.0, 0.5, 0.25]), (3, 3))
    path = np.stack([np.arange(17) * 0.1, np.arange(17) * -0.3], axis=1)  # 8 steps a plane, straight
    shifts = field.line_shifts(path, offset_px=0.0)
    steps = np.arange(20) * 8 / 10
    np.testing.assert_allclose(shifts.reshape(20, 2), np.stack([steps * 0.1 / 0.5, steps * -0.3 / 0.25], axis=1))
    displaced = field.line_shifts(path, offset_px=1.5) - shifts
    np.testing.assert_allclose(displaced[:, 1::2, 1], 1.5)
    assert not displaced[:, ::2].any()
    assert not displaced[..., 0].any()


def test_the_nodes_of_the_neuropil_cover_the_field():
    field = Field((1, 180, 60), np.array([1.0, 4.0, 4.0]), (3, 3))
    along_y, along_x = field.bumps(np.array([0.0, 360.0, 719.0]), np.array([10.0, 239.0]))
    assert (along_y.shape, along_x.shape) == ((11, 3), (6, 2))  # at -100, 0, …, one beyond 720 and 240 µm
    np.testing.assert_array_equal(along_y.argmax(axis=0), [1, 5, 8])
    np.testing.assert_array_equal(along_x.argmax(axis=0), [1, 3])


def test_every_second_line_is_displaced():
    options = {"shape": (1, 40, 50), "frames": 1, "neurons": 2, "motion_um": 0, **EVEN}
    even, odd = (two_photon(**options, bidirectional_offset_px=o)["clean"]["F"].values[0, 0] for o in (0, 2))
    inner = slice(6, -6)
    np.testing.assert_allclose(odd[::2], even[::2], rtol=0.25)
    assert np.corrcoef(odd[1::2, 2:][:, inner].ravel(), even[1::2, :-2][:, inner].ravel())[0, 1] > 0.85


def test_neurons_do_not_overlap_and_lie_at_the_planes():
    tracks = two_photon(shape=(3, 120, 130), frames=1, voxel_um=(20, 1, 1), neurons=25, motion_um=0)["tracks"]
    position = tracks["position"].isel(t=0).values.copy()
    assert set(position[:, 0]) >= {0.0, 40.0}
    assert position[:, 0].min() == 0
    assert position[:, 0].max() == 40
    position[:, 0] = tracks["depth_um"]
    radius = tracks["radius_um"].values.astype(float)
    rows, columns = np.triu_indices(25, 1)
    assert np.all(pdist(position) >= radius[rows] + radius[columns] - 1e-3)
    assert np.all((radius >= 5) & (radius <= 8))
    assert np.abs(position[:, 0, None] - np.array([0, 20, 40])).min(axis=1).max() <= 5
    assert bool(tracks["observed"].all())


def test_every_neuron_has_a_label():
    labels = two_photon(shape=(1, 150, 160), frames=1, neurons=20)["labels"]["labels"].values
    assert set(np.unique(labels)) == set(range(21))


def test_snr_rises_with_light():
    levels = []
    for photons in (2, 10, 50):
        truth = two_photon(shape=(1, 90, 130), frames=2, neurons=6, photons=photons)
        clean = truth["clean"]["F"].values
        levels.append(clean.var() / (truth["recording"]["F"].values - clean).var())
    assert levels[1] == pytest.approx(5 * levels[0], rel=0.15)  # shot noise: as the photons
    assert levels[2] == pytest.approx(5 * levels[1], rel=0.15)


def test_more_frames_leave_the_first_as_they_are():
    short, long = (two_photon(**(SMALL | {"frames": frames}), motion_um=1.0) for frames in (4, 90))
    np.testing.assert_allclose(long["clean"]["F"].values[:4], short["clean"]["F"].values, rtol=1e-4)
    np.testing.assert_array_equal(long["traces"]["spikes"][:4], short["traces"]["spikes"])
    np.testing.assert_allclose(long["traces"]["neuropil"][:4], short["traces"]["neuropil"], rtol=1e-4)


@pytest.mark.parametrize("option", [{"photons": 2000}, {"neuropil": 1000}, {"event_dff": 1e5, "event_rate_hz": 9}])
def test_light_beyond_16_bits_is_told(option):
    with pytest.warns(UserWarning, match=r"the brightest voxel reaches \d+ .* lower photons= or the gain") as told:
        truth = two_photon(**SMALL, **option)
    assert told[0].filename == __file__
    assert truth["recording"]["F"].values.max() == 65535


def test_light_within_16_bits_is_not_told(recwarn):
    two_photon(**SMALL)
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 2, 1), (1, 3, 40)])
def test_a_field_of_a_few_pixels(shape):
    truth = two_photon(shape=shape, frames=1, neurons=1, vessels=0, vignetting=1, motion_um=0, event_rate_hz=0)
    assert truth["recording"]["F"].shape == (1, *shape)
    for node in ("clean", "traces", "tracks"):
        for values in truth[node].data_vars.values():
            assert bool(np.isfinite(values).all())
    assert float(truth["traces"]["F0"][0, 0]) == pytest.approx(5 * 150, rel=1e-3)


def test_a_volume_holds_neurons_only_near_their_planes():
    options = {"shape": (9, 40, 50), "voxel_um": (20, 1, 1), "frames": 1, "neurons": 2, "motion_um": 0, "neuropil": 0}
    truth = two_photon(**options, camera=QUIET, event_rate_hz=0, seed=2)
    light = truth["clean"]["F"].values[0] - 100
    distance = np.abs(np.arange(9)[:, None] * 20 - truth["tracks"]["depth_um"].values).min(axis=1)
    assert light[distance > 40].max() == pytest.approx(0, abs=1e-3)
    assert light[distance < 6].max(axis=(1, 2)).min() > 100
    graph = truth["clean"]["F"].data.__dask_graph__()
    assert len(cloudpickle.dumps(dict(graph))) < 9 * 40 * 50 * 4 * 8  # no volume for each neuron or frame


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"photons": 0}, "expected photons as a finite number above 0, got 0"),
        ({"photons": float("nan")}, "expected photons as a finite number above 0, got nan"),
        ({"neurons": 0}, "expected neurons as a whole number of 1 or more, got 0"),
        (
            {"neurons": 400},
            r"expected room for 400 neurons whose centres are 13 µm apart or more, got \d+ into 48 x 63 µm",
        ),
        ({"neurons": 70_000}, "expected at most 65535 neurons, which 16-bit labels can name, got 70000"),
        ({"soma_radius_um": 6}, r"expected soma_radius_um as a range \(smallest, largest\), got 6"),
        ({"soma_radius_um": (8, 5)}, r"expected soma_radius_um as a range .*: exchange the two"),
        ({"voxel_um": (1, 6, 1)}, "expected voxel_um along y and x of at most the smallest soma radius, 5 µm, got 6"),
        ({"shape": (48, 70)}, r"expected shape as three sizes \(z, y, x\), got \(48, 70\)"),
        ({"frames": 0}, "expected frames as a whole number of 1 or more, got 0"),
        ({"rate_hz": 0}, "expected rate_hz as a finite number above 0, got 0"),
        ({"rise_s": 0}, "expected rise_s as a finite number above 0 and at most 60, got 0"),
        ({"decay_s": -1}, "expected decay_s as a finite number above 0 and at most 60, got -1"),
        ({"decay_s": 1e5}, "expected decay_s as a finite number above 0 and at most 60, got 100000"),
        ({"neuropil": -0.1}, r"expected neuropil as a finite number of 0 or more, got -0\.1"),
        ({"event_rate_hz": -1}, "expected event_rate_hz as a finite number of 0 or more, got -1"),
        ({"vignetting": 1.2}, r"expected vignetting as a finite number of 0 or more and at most 1, got 1\.2"),
        ({"bleaching": 1.5}, "expected bleaching as a finite number of 0 or more and at most 1, got 1.5"),
        ({"vessels": -1}, "expected vessels as a whole number of 0 or more, got -1"),
        ({"motion_um": 500}, r"expected motion within the field, got one of .* lower motion_um= or enlarge shape="),
        ({"bidirectional_offset_px": 50}, "expected bidirectional_offset_px as a finite number"),
        ({"seed": -1}, "expected seed as a whole number of 0 or more, got -1"),
        ({"frames_per_chunk": 0}, "expected frames_per_chunk as a whole number of 1 or more, got 0"),
        ({"activity": given(3, 5, 30)}, r"expected activity of at least 0\.2 s, got 0\.06"),
        ({"activity": np.zeros((7, 5))}, r"expected activity as a DataArray \(t, neuron\) of dF/F, got ndarray"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        two_photon(**(SMALL | option))
