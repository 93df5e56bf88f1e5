"""The simulated crawling worm: its truth is the truth, and no chunking changes a count."""

import json

import dask
import numpy as np
import pytest
import xarray as xr

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera
from niddl_xr.simulation.freely_moving import freely_moving

SMALL = {
    "shape": (1, 60, 76),
    "voxel_um": (1.0, 14.0, 13.0),
    "frames": 7,
    "neurons": 9,
    "seed": 3,
    "nir_voxel_um": 11.0,
}
TRACES = {"shape": (1, 8, 9), "voxel_um": (1.0, 90.0, 90.0)}
NOISELESS = {
    "haze": 0,
    "autofluorescence": 0,
    "neurites": 0,
    "background_photons": 0,
    "stray_photons": 0,
    "camera": Camera(spurious_charge=0),
}
LAZY = [("recording", "F"), ("clean", "F"), ("nir", "F"), ("labels", "labels"), ("labels", "body")]


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


def through_indicator(values: np.ndarray, interval_s: float) -> np.ndarray:
    """The indicator, written out: rise 0.2 s and decay 1.2 s."""
    after = (np.arange(round(7.2 / interval_s)) + 0.5) * interval_s
    kernel = (1 - np.exp(-after / 0.2)) * np.exp(-after / 1.2)
    return np.convolve(values, kernel)[: values.size]


def own_curvature(truth: xr.DataTree) -> np.ndarray:
    """Curvature (t, neuron) in 1/mm beside each neuron, positive where it is to be active."""
    posture, traces = truth["posture"], truth["traces"]
    beside = posture["curvature"].interp(s=traces["body_position"].drop_vars("t", errors="ignore"))
    return beside.transpose("t", "neuron").values * traces["curvature_sign"].values


def test_nodes_keep_the_contract():
    truth = freely_moving(**SMALL, rate_hz=2.0)
    recording, clean, nir = (truth[name]["F"] for name in ("recording", "clean", "nir"))
    for node in (recording, clean, nir):
        schema.require_recording(node)
    assert (recording.dtype, clean.dtype, nir.dtype) == (np.uint16, np.float32, np.uint16)
    assert dict(recording.sizes) == {"t": 7, "z": 1, "y": 60, "x": 76}
    assert schema.voxel_um(recording) == pytest.approx({"y": 14.0, "x": 13.0})
    assert schema.voxel_um(nir) == pytest.approx({"y": 11.0, "x": 11.0})
    assert float(nir.y[-1]) == pytest.approx(59 * 14, abs=11)
    assert schema.frame_interval_s(nir) == 0.5
    assert recording.attrs["seed"] == 3
    assert truth["labels"]["labels"].dims == truth["labels"]["body"].dims == recording.dims
    assert (truth["labels"]["labels"].dtype, truth["labels"]["body"].dtype) == (np.uint16, bool)
    assert dict(truth["tracks"].sizes) == {"t": 7, "neuron": 9, "space": 3}
    assert truth["tracks"]["radius_um"].dims == ("neuron",)
    assert truth["traces"]["dff"].dims == ("t", "neuron")
    assert truth["traces"]["dff"].dtype == np.float32
    posture = truth["posture"]
    assert posture["centerline"].dims == ("t", "s", "space")
    assert posture["curvature"].dims == ("t", "s")
    assert (posture["curvature"].attrs["units"], posture["length"].attrs["units"]) == ("1/mm", "µm")
    assert posture.sizes["s"] == 100
    assert posture.attrs["ventral_side"] in ("left", "right")
    for node in (recording, nir, truth["labels"].to_dataset(), posture.to_dataset(), truth["tracks"].to_dataset()):
        assert schema.history(node)[-1]["verb"] == "simulate.freely_moving"
        assert schema.history(node)[-1]["parameters"]["neurons"] == 9
    json.dumps(recording.attrs)


def test_nothing_is_computed_before_it_is_asked_for():
    with dask.config.set(scheduler=forbid):
        truth = freely_moving(**SMALL)
        truth["recording"]["F"].isel(t=slice(2, 4)).mean("t")
        for node, variable in LAZY:
            assert dask.is_dask_collection(truth[node][variable].data)


@pytest.mark.parametrize("frames_per_chunk", [1, 3, 7])
def test_chunking_changes_no_bit(frames_per_chunk):
    expected = freely_moving(**SMALL, frames_per_chunk=2)
    chunked = freely_moving(**SMALL, frames_per_chunk=frames_per_chunk)
    for node, variable in LAZY:
        assert chunked[node][variable].chunksizes["t"][0] == frames_per_chunk
        whole = expected[node][variable].values
        np.testing.assert_array_equal(chunked[node][variable].values, whole)
        np.testing.assert_array_equal(chunked[node][variable].isel(t=5).values, whole[5])


def test_seeds_give_the_same_or_another_worm():
    first, same = (freely_moving(**SMALL) for _ in range(2))
    other = freely_moving(**(SMALL | {"seed": 4}))
    np.testing.assert_array_equal(first["recording"]["F"], same["recording"]["F"])
    for name in ("recording", "nir"):
        assert np.mean(first[name]["F"].values == other[name]["F"].values) < 0.1
    assert np.abs(first["posture"]["curvature"] - other["posture"]["curvature"]).mean() > 1


def test_the_motion_does_not_depend_on_rate_or_duration():
    slow = freely_moving(**(SMALL | {"frames": 6}), rate_hz=2.0)
    fast = freely_moving(**(SMALL | {"frames": 1000}), rate_hz=30.0)
    common = {"t": [0, 15, 30, 45, 60, 75]}
    for name in ("centerline", "curvature", "stage"):
        np.testing.assert_allclose(slow["posture"][name], fast["posture"][name].isel(common), atol=1e-3)
    np.testing.assert_allclose(slow["tracks"]["position"], fast["tracks"]["position"].isel(common), atol=1e-3)


def test_images_are_bright_where_and_as_the_truth_says():
    truth = freely_moving(
        shape=(1, 700, 720),
        voxel_um=(1, 1.5, 1.4),
        frames=3,
        rate_hz=2.0,
        neurons=1,
        exposure_s=0.3,
        bleaching=0.6,
        bleaching_time_s=0.5,
        seed=5,
        **NOISELESS,
    )
    clean, position = truth["clean"]["F"].isel(z=0), truth["tracks"]["position"].isel(neuron=0)
    window = {dim: position.sel(space=dim, drop=True) for dim in "yx"}
    at_centre = np.array(
        [float(clean.isel(t=t).interp({d: float(window[d][t]) for d in "yx"}, method="cubic")) for t in range(3)]
    )
    np.testing.assert_allclose(at_centre - 400, truth["traces"]["F"].isel(neuron=0), rtol=0.01)
    assert bool(truth["tracks"]["observed"].all())
    standing = freely_moving(**(SMALL | {"neurons": 1, "exposure_s": 0, "bleaching": 0}))["traces"]["F0"]
    assert float(standing.std()) == pytest.approx(0, abs=1e-3)


def test_motion_within_the_exposure_dims_the_centre_as_the_formula_says():
    options = SMALL | {"shape": (1, 20, 24), "voxel_um": (1.0, 44.0, 40.0), "bleaching": 0, "rate_hz": 2.0}
    still, blurred = (freely_moving(**options, exposure_s=e)["traces"]["F0"].values for e in (0.0, 0.4))
    # With such pixels a cell is a Gaussian of variance pixel²/12 and little more; a way w adds w²/12.
    moments = freely_moving(**(options | {"frames": 60, "rate_hz": 10.0}), exposure_s=0.0)["tracks"]["position"]
    way = (moments.isel(t=12) - moments.isel(t=8)).sel(space=["y", "x"]).values  # 0.4 s around t = 1 s, frame 2
    variance = np.array([44.0, 40.0]) ** 2 / 12 + 5  # 1 µm² of the microscope, 1 to 12 µm² of the cell
    seen = np.einsum("ni,nj->nij", way, way) / 12 + np.diag(variance)
    expected = np.sqrt(np.prod(variance) / np.linalg.det(seen))
    assert expected.min() < 0.8
    np.testing.assert_allclose((blurred / still)[2], expected, rtol=0.04)


def test_coupled_neurons_correlate_with_curvature_as_asked():
    truth = freely_moving(**TRACES, frames=2000, rate_hz=10.0, neurons=16, coupling=(0.3, 0.6), seed=8)
    traces, bend = truth["traces"], own_curvature(truth)
    coupled = np.flatnonzero(traces["coupled"])
    assert coupled.size == 8
    assert sorted(set(traces["coupling"].values.tolist())) == [0.0, 0.3, 0.6]
    time_s = traces["t"].values
    for neuron in coupled:
        lag_s = float(traces["lag_s"][neuron])
        assert -0.5 <= lag_s <= 0.8
        dff = traces["dff"].values[:, neuron]
        shifts_s = lag_s - np.arange(0.0, 2.05, 0.1)
        found = [
            np.corrcoef(dff[100:-100], np.interp(time_s + shift, time_s, bend[:, neuron])[100:-100])
            for shift in shifts_s
        ]
        strongest = max(pair[0, 1] for pair in found)
        assert strongest == pytest.approx(float(traces["coupling"][neuron]), abs=0.05)


def test_activity_precedes_bending_by_the_lag():
    truth = freely_moving(**TRACES, frames=3000, rate_hz=10.0, neurons=10, coupled_fraction=1.0, lag_s=0.6, seed=2)
    dff, bend = truth["traces"]["dff"].values, own_curvature(truth)
    lags = np.arange(-12, 13)
    best = []
    for neuron in range(10):
        seen = through_indicator(bend[:, neuron], 0.1)
        inner = slice(100, 2900)
        curve = [np.corrcoef(dff[inner, neuron], seen[100 + lag : 2900 + lag])[0, 1] for lag in lags]
        best.append(0.1 * lags[int(np.argmax(curve))])
    np.testing.assert_allclose(best, 0.6, atol=0.2)
    assert np.median(best) == pytest.approx(0.6, abs=0.1)


def test_uncoupled_neurons_have_nothing_to_do_with_the_bends():
    rejected, extremes, alike = [], [], []
    for seed in range(4):
        truth = freely_moving(**TRACES, frames=900, rate_hz=5.0, neurons=20, seed=seed)
        traces, bend = truth["traces"], own_curvature(truth)
        spread = {True: [], False: []}
        for neuron in range(20):
            coupled = bool(traces["coupled"][neuron])
            spread[coupled].append(float(traces["dff"][:, neuron].std()))
            if coupled:
                continue
            assert float(traces["coupling"][neuron]) == 0
            assert np.isnan(float(traces["lag_s"][neuron]))
            # Linear shift: the middle of the trace beside curvature moved by up to 50 s.
            seen, middle = through_indicator(bend[:, neuron], 0.2), traces["dff"][250:-250, neuron].values
            shifts = range(-250, 251, 10)
            found = [np.corrcoef(middle, seen[250 + shift : 650 + shift])[0, 1] for shift in shifts]
            size = np.abs(found)
            rejected.append((1 + np.sum(np.delete(size, 25) >= size[25])) / 51 <= 0.05)
            extremes.append(found[25])
        alike.append(np.mean(spread[True]) / np.mean(spread[False]))
    assert sum(rejected) <= 6  # of 40 at 5 %: 7 or more have a chance of 0.4 %
    assert abs(np.mean(extremes)) < 0.1
    assert np.mean(alike) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_curvature_is_positive_where_the_neurons_are_inside_the_bend(side):
    truth = freely_moving(**(SMALL | {"frames": 40}), rate_hz=1.0, ventral_side=side)
    posture = truth["posture"]
    assert posture.attrs["ventral_side"] == side
    line = posture["centerline"].sel(space=["y", "x"]).values
    step = np.gradient(line, axis=1)
    turn = np.gradient(step, axis=1)
    bend = step[..., 1] * turn[..., 0] - step[..., 0] * turn[..., 1]
    own = 1000 * bend / np.linalg.norm(step, axis=-1) ** 3 * {"right": 1, "left": -1}[side]
    np.testing.assert_allclose(own[:, 3:-3], posture["curvature"][:, 3:-3], atol=0.25)
    lengths = np.linalg.norm(np.diff(line, axis=1), axis=-1).sum(axis=1)
    np.testing.assert_allclose(lengths, posture["length"], rtol=1e-4)
    # A neuron on the inside of a bend is nearer to the centre of curvature than the line beside it.
    place = np.rint(truth["tracks"]["body_position"].values * 99).astype(int)
    aside = truth["tracks"]["position"].sel(space=["y", "x"]).values - line[:, place]
    inward = (aside * turn[:, place]).sum(axis=-1)
    curvature = posture["curvature"].values[:, place]
    strong = np.abs(curvature) > 3
    assert np.mean(np.sign(inward[strong]) == np.sign(curvature[strong])) > 0.98


def test_the_worm_advances_head_first_on_the_plate():
    posture = freely_moving(**(SMALL | {"frames": 400}), rate_hz=4.0)["posture"]
    plate = (posture["centerline"].mean("s") + posture["stage"]).sel(space=["y", "x"])
    forwards = (posture["centerline"].isel(s=0) - posture["centerline"].isel(s=-1)).sel(space=["y", "x"])
    speed = (plate.differentiate("t") * forwards).sum("space") / np.sqrt((forwards**2).sum("space"))
    calm = speed.where(~posture["turn"], drop=True)
    assert 120 < float(calm.where(calm["state"] == "forward").median()) < 300  # µm/s
    assert float(calm.where(calm["state"] == "reversal").median()) < -50
    centre = posture["centerline"].mean("s").sel(space=["y", "x"]) - [59 * 7, 75 * 6.5]
    assert float(np.abs(centre).max()) < 130  # the stage follows


def test_labels_and_body_are_where_the_neurons_are():
    truth = freely_moving(shape=(1, 500, 520), voxel_um=(1, 2.0, 1.9), frames=2, neurons=12, rate_hz=1.0, seed=6)
    labels, inside = (truth["labels"][name].isel(t=1, z=0).values for name in ("labels", "body"))
    position = truth["tracks"]["position"].isel(t=1).values
    gaps = np.linalg.norm(position[:, None] - position, axis=-1) + 1e3 * np.eye(12)
    for neuron, (place, gap) in enumerate(zip(position, gaps.min(axis=1), strict=True), start=1):
        pixel = tuple(np.rint(place[1:] / [2.0, 1.9]).astype(int))
        assert inside[pixel]
        if gap > 14:
            assert labels[pixel] == neuron
    assert set(np.unique(labels)) <= set(range(13))
    nir = truth["nir"]["F"].isel(t=1, z=0)
    body = truth["labels"]["body"].isel(t=1, z=0).astype(float).interp(y=nir.y, x=nir.x, method="nearest") > 0.5
    assert float(nir.where(body).mean()) < 0.75 * float(nir.where(~body).mean())
    glow = truth["clean"]["F"].isel(t=1, z=0).compute()
    assert float(glow.where(inside).median()) > float(glow.where(~inside).median()) + 100


def test_what_leaves_the_field_is_not_observed():
    tracks = freely_moving(**(SMALL | {"voxel_um": (1.0, 6.0, 5.0)}))["tracks"]
    position = tracks["position"]
    outside = (
        (position.sel(space="y") < -3)
        | (position.sel(space="x") < -2.5)
        | (position.sel(space="y") > 59 * 6 + 3)
        | (position.sel(space="x") > 75 * 5 + 2.5)
    )
    assert bool(outside.any())
    np.testing.assert_array_equal(tracks["observed"], ~outside)
    np.testing.assert_array_equal(tracks["confidence"], tracks["observed"].astype(float))


def test_traces_agree_with_one_another_and_bleach():
    options = SMALL | {"frames": 40, "rate_hz": 1.0, "exposure_s": 0.0}
    traces = freely_moving(**options, bleaching=(0.4, 0.2), bleaching_time_s=(20.0, 5.0))["traces"]
    xr.testing.assert_allclose(traces["F"], traces["F0"] * (1 + traces["dff"]))
    time_s = traces["t"].values
    left = 1 - 0.4 * (1 - np.exp(-time_s / 20)) - 0.2 * (1 - np.exp(-time_s / 5))
    np.testing.assert_allclose((traces["F0"] / traces["F0"].isel(t=0)).values, np.tile(left[:, None], 9), rtol=1e-5)
    assert float(traces["dff"].min()) >= 0
    assert 0.3 < float(traces["dff"].mean()) < 1.0
    assert set(traces["state"].values.tolist()) <= {"forward", "reversal"}
    assert set(traces["class"].values.tolist()) <= {"DA", "DB", "DD", "VA", "VB", "VD"}
    ventral = traces["side"].values == "ventral"
    np.testing.assert_array_equal(ventral, [name.startswith("V") for name in traces["neuron"].values])


def test_given_activity_is_shown_instead():
    names = ["DB1", "AVAL", "RIML"]
    given = xr.DataArray(
        np.random.default_rng(0).uniform(0, 2, (20, 3)),
        dims=("t", "neuron"),
        coords={"t": np.arange(20.0), "neuron": names},
    )
    traces = freely_moving(**SMALL, rate_hz=1.0, activity=given)["traces"]
    assert set(traces["trace"].values.tolist()) <= set(names)
    for neuron, name in zip(traces["neuron"].values, traces["trace"].values, strict=True):
        np.testing.assert_allclose(traces["dff"].sel(neuron=neuron), given.sel(neuron=name)[:7], rtol=1e-6)
    assert str(traces["trace"].sel(neuron="DB1").values) == "DB1"
    assert "coupled" not in traces.coords


def test_a_single_frame_is_a_recording_too():
    truth = freely_moving(**(SMALL | {"frames": 1, "neurons": 1}))
    for node, variable in LAZY:
        assert truth[node][variable].values.shape[0] == 1
    assert np.isfinite(truth["traces"]["dff"]).all()


def test_light_beyond_16_bits_is_told():
    with pytest.warns(UserWarning, match="a 16-bit camera holds 65535 and clips it"):
        freely_moving(**SMALL, photons=5000, camera=Camera(gain=60))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"shape": (2, 60, 76)}, r"expected a shape \(1, y, x\) of one plane, got \(2, 60, 76\): see simulate.whole_b"),
        ({"shape": (60, 76)}, r"expected shape as three sizes \(z, y, x\), got \(60, 76\)"),
        ({"photons": 0}, "expected photons as a finite number above 0, got 0"),
        ({"neurons": 0}, "expected neurons as a whole number of 1 or more, got 0"),
        ({"frames": 2.5}, r"expected frames as a whole number of 1 or more, got 2\.5"),
        ({"rate_hz": 0}, "expected rate_hz as a finite number above 0, got 0"),
        ({"length_um": -1}, "expected length_um as a finite number above 0, got -1"),
        ({"amplitude_per_mm": 0}, "expected amplitude_per_mm as a finite number above 0, got 0"),
        ({"frequency_hz": float("nan")}, "expected frequency_hz as a finite number above 0, got nan"),
        ({"coupling": 0}, "expected coupling as a finite number above 0 and at most 0.85, got 0"),
        ({"coupling": (0.3, 0.99)}, r"expected coupling as a finite number above 0 and at most 0.85, got 0\.99"),
        ({"coupling": ()}, "expected coupling as one number or more, got an empty sequence"),
        (
            {"coupled_fraction": 1.2},
            r"expected coupled_fraction as a finite number of 0 or more and at most 1, got 1\.2",
        ),
        ({"lag_s": (0.8, -0.5)}, r"expected lag_s as one number or a range .* within -10 to 10, got \(0\.8, -0\.5\)"),
        ({"lag_s": 30}, "expected lag_s as one number or a range .* got 30"),
        ({"ventral_side": "top"}, 'expected ventral_side as "left", "right" or "random", got \'top\''),
        ({"omega_turns_per_min": 9}, "expected omega_turns_per_min as a finite number of 0 or more and at most 2.5"),
        ({"exposure_s": 0.2}, r"expected exposure_s within a frame of 0\.1 s, got 0\.2: lower it, or rate_hz="),
        ({"bleaching": 1.5}, "expected bleaching as a finite number of 0 or more and at most 1, got 1.5"),
        ({"nir_voxel_um": 0}, "expected nir_voxel_um as a finite number above 0, got 0"),
        ({"haze": -1}, "expected haze as a finite number of 0 or more, got -1"),
        ({"seed": -1}, "expected seed as a whole number of 0 or more, got -1"),
        ({"frames_per_chunk": 0}, "expected frames_per_chunk as a whole number of 1 or more, got 0"),
        ({"activity": np.zeros((7, 9))}, r"expected activity as a DataArray \(t, neuron\) of dF/F, got ndarray"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        freely_moving(**(SMALL | option))
