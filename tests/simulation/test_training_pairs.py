"""Simulated pairs: lazy, reproducible stack by stack, and of the gain that they state."""

import dask
import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera, _subjects, training_pairs
from niddl_xr.simulation._kernels.tubes import Tube
from niddl_xr.simulation._kernels.ventral_cord import row_of_cells
from niddl_xr.simulation.training_pairs import _random_stray_light as stray_of

SMALL = {"stacks": 3, "shape": (4, 40, 56), "seed": 2}


def forbid(*_args, **_kwargs):
    raise AssertionError("computed")


def test_pairs_keep_the_contract_and_stay_lazy():
    with dask.config.set(scheduler=forbid):
        pairs = training_pairs(**SMALL)
    schema.require_pairs(pairs)
    assert dict(pairs.sizes) == {"stack": 3, "z": 4, "y": 40, "x": 56}
    assert pairs["noisy"].dtype == pairs["clean"].dtype == np.uint16
    assert pairs["stack"].values.tolist() == ["simulated_0001", "simulated_0002", "simulated_0003"]
    assert pairs["noisy"].chunksizes["stack"] == (1, 1, 1)
    assert pairs["y"].attrs["units"] == "µm"
    assert schema.history(pairs)[-1]["parameters"]["photons"] == [2.0, 100.0]


def test_a_stack_does_not_depend_on_the_others():
    three, one = training_pairs(**SMALL), training_pairs(**(SMALL | {"stacks": 1}))
    for name in ("noisy", "clean"):
        np.testing.assert_array_equal(three[name].compute()[0], one[name][0])
        np.testing.assert_array_equal(three[name][2].values, training_pairs(**SMALL)[name].chunk(stack=2)[2].values)


def test_worms_differ_from_stack_to_stack_and_with_the_seed():
    options = SMALL | {"shape": (2, 100, 130), "photons": (300, 300)}

    def details(name, seed=2):  # worms all lie across the field: what tells them apart is fine
        return np.diff(training_pairs(**(options | {"seed": seed}))[name].values.astype(float))

    first, other = details("clean"), details("clean", seed=9)
    assert np.corrcoef(first[0].ravel(), details("noisy")[0].ravel())[0, 1] > 0.5
    for a, b in ((first[0], first[1]), (first[1], first[2]), (first[0], other[0])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.15


def test_clean_gain_is_the_one_drawn():
    pairs = training_pairs(
        stacks=6,
        shape=(4, 48, 64),
        photons=(200, 400),
        clean_photons=(3000, 3000),
        peak_counts=(200, 300),
        stray_photons=0,
        camera=Camera(row_noise=0),
        seed=1,
    )
    for k in range(6):
        noisy, clean = (pairs[name][k].values.astype(float).ravel() for name in ("noisy", "clean"))
        bright = clean > np.percentile(clean, 97)
        drawn = float(pairs["clean_gain"][k])
        assert 1.2 <= drawn <= 8.0
        measured = (clean[bright].mean() - clean[~bright].mean()) / (noisy[bright].mean() - noisy[~bright].mean())
        assert measured == pytest.approx(drawn, rel=0.05)
    assert np.ptp(pairs["clean_gain"].values) > 1


def test_both_images_are_noisy_independently_and_the_clean_one_less():
    bright = {
        "peak_counts": (1000, 1000),
        "clean_gain": (1, 1),
        "camera": Camera(read_noise=0, row_noise=0, spurious_charge=0),
    }
    dim, again = (
        training_pairs(
            stacks=1, shape=(4, 40, 56), photons=(20, 20), clean_photons=(p, p), stray_photons=0, seed=5, **bright
        )
        for p in (500, 20)
    )
    better = dim["noisy"][0].astype(float) - dim["clean"][0]
    twice = again["noisy"][0].astype(float) - again["clean"][0]
    assert float(twice.std()) > 0  # the same light twice: not the same counts
    # Variances add: that of 20 photons and of 20 or 500, so (1/20 + 1/500) / (2/20) = 0.52.
    assert float(better.var() / twice.var()) == pytest.approx(0.52, abs=0.12)


def test_stray_light_has_the_photons_not_the_gain_of_the_laser():
    light = {"photons": (50, 50), "clean_photons": (500, 500), "clean_gain": (2, 2), "stray_photons": 30, "seed": 3}
    nothing = {"neurons": (0, 0), "neurites": (0, 0), "autofluorescence": 0}
    pairs = training_pairs(
        stacks=9, shape=(2, 40, 56), camera=Camera(row_noise=0, read_noise=0, spurious_charge=0), **light, **nothing
    )
    noisy, clean = (float(pairs[name].astype(float).mean()) - 400 for name in ("noisy", "clean"))
    # The camera's gain is peak counts over photons: 2 * 50 / 500 = 0.2 of that of the noisy image.
    assert noisy > 1
    assert clean / noisy == pytest.approx(0.2, rel=0.1)


def test_neurites_are_there():
    options = {
        "stacks": 4,
        "shape": (6, 64, 80),
        "neurons": (0, 0),
        "autofluorescence": 0,
        "stray_photons": 0,
        "peak_counts": (700, 700),
        "seed": 4,
    }
    without = training_pairs(**options, neurites=(0, 0))["clean"].values
    with_them = training_pairs(**options, neurites=(3, 3))["clean"].values
    assert np.all(np.ptp(with_them, axis=(1, 2, 3)) > 3 * np.ptp(without, axis=(1, 2, 3)))


def test_subjects_take_turns_and_a_stack_is_that_of_its_subject_alone():
    mixed = training_pairs(**(SMALL | {"stacks": 4}), subject=("ventral_cord", "neurite", "whole_brain"))
    assert mixed["subject"].values.tolist() == ["ventral_cord", "neurite", "whole_brain", "ventral_cord"]
    alone = training_pairs(**(SMALL | {"stacks": 4}), subject="neurite")
    np.testing.assert_array_equal(mixed["noisy"][1].values, alone["noisy"][1].values)
    assert np.any(mixed["noisy"][2].values != alone["noisy"][2].values)


@pytest.mark.parametrize("subject", ["whole_brain", "ventral_cord", "neurite"])
def test_a_maximum_projection_is_the_maximum_of_the_planes(subject):
    planes = training_pairs(**SMALL, subject=subject)
    projected = training_pairs(**SMALL, subject=subject, max_projection=True)
    schema.require_pairs(projected)
    assert dict(projected.sizes) == {"stack": 3, "z": 1, "y": 40, "x": 56}
    assert projected["noisy"].attrs["projection"] == "maximum of 4 planes"
    for name in ("noisy", "clean"):
        np.testing.assert_array_equal(projected[name].isel(z=0).values, planes[name].max("z").values)


@pytest.mark.parametrize("subject", ["whole_brain", "ventral_cord", "neurite"])
@pytest.mark.parametrize("shape", [(1, 30, 44), (3, 1, 44), (2, 60, 24), (1, 1, 1)])
def test_every_subject_fits_every_shape(subject, shape):
    pairs = training_pairs(stacks=2, shape=shape, subject=subject, stray_photons=0, seed=8)
    assert pairs["clean"].shape == (2, *shape)
    assert shape == (1, 1, 1) or pairs["clean"].values.std() > 0


def test_a_worm_is_drawn_once_for_both_of_its_images(monkeypatch):
    drawn = []

    def draw(worms, rng):
        drawn.append(rng.random())
        return np.ones(worms.shape, np.float32)

    monkeypatch.setitem(_subjects.SUBJECTS, "whole_brain", draw)
    dask.compute(training_pairs(**SMALL), scheduler="synchronous")
    assert len(drawn) == 3


def test_light_of_a_cord_is_one_at_its_median_cell():
    worms = _subjects.Worms((1, 400, 500), np.array([1.0, 0.4, 0.4]), (1, 1), (0, 0), 0.0, 0.0)
    peaks = []
    for seed in range(3):
        light = worms.render("ventral_cord", np.random.default_rng(seed))[0]
        summits = (light == maximum_filter(light, 5)) & (light > 0.05)  # cells of a cord, some of them pairs
        peaks.append(np.median(light[summits]))
    assert 0.5 < np.mean(peaks) < 2.0


def test_cells_of_a_cord_lie_along_one_edge():
    tube = Tube(centre=(4.0, 50.0, 90.0), angle=0.6, radius_um=20.0, depth_um=3.0)
    centres, covariances, peaks = row_of_cells(tube, 400.0, np.random.default_rng(5))
    ahead, aside = np.array([0, np.sin(0.6), np.cos(0.6)]), np.array([0, np.cos(0.6), -np.sin(0.6)])
    beside = (centres - tube.centre) @ aside
    assert np.all(np.sign(beside) == np.sign(beside[0]))
    assert np.all((np.abs(beside) > 12) & (np.abs(beside) < 22))
    assert 800 / len(centres) == pytest.approx(12.0 / 1.3, rel=0.25)  # one every 12 µm, 30 % with a neighbour
    assert np.median(peaks) == pytest.approx(1.0, rel=0.25)
    assert np.all(np.linalg.eigvalsh(covariances) > 0)
    mean = covariances.mean(axis=0)
    assert ahead @ mean @ ahead > 1.5 * (aside @ mean @ aside)  # longer along the body


def test_a_maximum_projection_of_one_plane_is_that_plane():
    options = SMALL | {"shape": (1, 30, 44), "subject": "neurite"}
    plane, projected = (training_pairs(**options, max_projection=project) for project in (False, True))
    np.testing.assert_array_equal(projected["noisy"].values, plane["noisy"].values)


def test_stray_light_is_a_vertical_band_most_often_narrow():
    widths, columns = [], []
    for seed in range(60):
        stray = stray_of((40, 400), np.random.default_rng(seed))
        assert stray.max() <= 2.0
        profile = stray.max(axis=0)
        contrast = profile[40:-40] - np.maximum(profile[:-80], profile[80:])  # with a tenth of the field to both sides
        peak = 40 + contrast.argmax()
        profile = profile - np.maximum(profile[peak - 40], profile[peak + 40])
        if profile[peak] > 0.2 * stray.max():  # else the band lies outside the field
            columns.append(peak / 400)
            widths.append(np.sum(profile[peak - 40 : peak + 41] > profile[peak] / 2) / 400)
            bright = stray[stray[:, peak] > 0.8 * stray[:, peak].max(), peak - 15 : peak + 16]
            assert np.ptp(bright.argmax(axis=1)) <= 2  # at one column in all rows: vertical
    assert len(columns) > 20
    assert np.mean(np.array(widths) < 0.06) > 0.75  # 2.4 sigma of 0.012 to 0.022
    assert np.mean(np.abs(np.array(columns) - 0.66) < 0.03) > 0.35
    assert np.ptp(columns) > 0.5


def test_nuclei_of_a_head_lie_on_its_flanks_about_a_dark_pharynx():
    head = _subjects.BentHead((0.0, 0.0, 0.0), 100.0, 20.0, 5.0, 0.4, bend=0.6)
    up = []
    for seed in range(8):
        centres, peaks = _subjects._nuclei(head, (60, 60), np.random.default_rng(seed))
        along = 0.5 + head.to_local(centres)[:, 2] / 100.0
        taper = 0.5 + 0.5 * np.clip(along, 0, 1)
        up.append(head.to_local(centres)[:, 1] / (20.0 * taper) - 0.6 * (along - 0.5) ** 2)
        gaps = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(len(centres), 1)]
        assert gaps.min() >= 3.0
        assert 0.4 < np.median(peaks) < 2.5
    up = np.abs(np.concatenate(up))
    assert up.min() > 0.15 - 1e-9
    assert np.mean(up > 0.35) > 0.85
    assert up.max() < 1.3


def test_light_of_a_nucleus_is_one_at_a_median_centre(monkeypatch):
    worms = _subjects.Worms((9, 200, 300), np.array([1.0, 0.4, 0.4]), (1, 1), (0, 0), 0.0, 0.0)
    alone = np.array([[4.0, 40.0, 60.0]])
    monkeypatch.setattr(
        _subjects,
        "_nuclei",
        lambda _head, counts, _rng: (alone, np.ones(1)) if counts == (1, 1) else (alone[:0], np.ones(0)),
    )
    light = worms.render("whole_brain", np.random.default_rng(0))
    assert 1.0 < light.max() < 1.4  # itself and its halo
    assert np.unravel_index(light.argmax(), light.shape) == (4, 100, 150)


def test_the_glow_of_a_head_follows_its_bent_axis():
    head = _subjects.BentHead((0.0, 30.0, 40.0), 100.0, 20.0, 5.0, 0.3, bend=-0.7)
    along, zero = np.array([0.5, 1.0, 1.3]), np.zeros(3)
    axis = head.to_local(head.place(along, zero, zero))
    glow = head.to_local(_subjects.body_of(head).place((along - 0.5) * head.length, zero, zero))
    np.testing.assert_allclose(axis[:, 1], -0.7 * 20.0 * (along - 0.5) ** 2, atol=1e-9)
    np.testing.assert_allclose(glow, axis, rtol=0.08, atol=1e-9)


def test_camera_counts_follow_the_photons_unless_peak_counts_are_given():
    pairs = training_pairs(stacks=40, shape=(1, 8, 9), camera=Camera(gain=3.0), seed=6)
    gain = (pairs["peak_counts"] / pairs["photons"]).values
    assert np.all((gain >= 1.5) & (gain <= 6.0))
    assert np.ptp(np.log2(gain)) > 1
    assert np.all(training_pairs(stacks=40, shape=(1, 8, 9), seed=6)["peak_counts"] <= 700)
    given = training_pairs(stacks=4, shape=(1, 8, 9), peak_counts=(90, 90), seed=6)
    np.testing.assert_allclose(given["peak_counts"], 90)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"photons": 20}, r"expected photons as a range \(smallest, largest\), got 20"),
        ({"photons": (0, 20)}, "expected photons as a finite number above 0, got 0"),
        ({"clean_gain": (8, 1.2)}, r"expected clean_gain as a range .*: exchange the two"),
        ({"stacks": 0}, "expected stacks as a whole number of 1 or more, got 0"),
        ({"neurons": (5, 2)}, r"expected neurons as a range .*: exchange the two"),
        ({"neurites": (-1, 2)}, "expected neurites as a whole number of 0 or more, got -1"),
        ({"neurites": 2}, r"expected neurites as a range \(smallest, largest\), got 2"),
        ({"shape": (8, 128)}, r"expected shape as three sizes \(z, y, x\)"),
        ({"subject": "pharynx"}, r"expected subject as one or several of 'whole_brain', .*, got 'pharynx'"),
        ({"subject": 5}, r"expected subject as one or several of .*, got 5"),
        ({"subject": [["neurite"]]}, r"expected subject as one or several of .*, got \[\['neurite'\]\]"),
        ({"subject": ()}, r"expected subject as one or several of .*, got \(\)"),
        ({"haze": -1}, "expected haze as a finite number of 0 or more, got -1"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        training_pairs(**(SMALL | option))
