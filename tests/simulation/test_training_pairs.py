"""Simulated pairs: lazy, reproducible stack by stack, and of the gain that they state."""

import dask
import numpy as np
import pytest

from niddl_xr import schema
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import Camera, training_pairs

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
    assert schema.history(pairs)[-1]["parameters"]["photons"] == [20.0, 200.0]


def test_a_stack_does_not_depend_on_the_others():
    three, one = training_pairs(**SMALL), training_pairs(**(SMALL | {"stacks": 1}))
    for name in ("noisy", "clean"):
        np.testing.assert_array_equal(three[name].compute()[0], one[name][0])
        np.testing.assert_array_equal(three[name][2].values, training_pairs(**SMALL)[name].chunk(stack=2)[2].values)


def test_worms_differ_from_stack_to_stack_and_with_the_seed():
    first, other = training_pairs(**SMALL)["clean"].values, training_pairs(**(SMALL | {"seed": 9}))["clean"].values
    for a, b in ((first[0], first[1]), (first[1], first[2]), (first[0], other[0])):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0.5


def test_clean_gain_is_the_one_drawn():
    pairs = training_pairs(
        stacks=6,
        shape=(4, 48, 64),
        photons=(200, 400),
        clean_photons=(3000, 3000),
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
        stacks=3, shape=(2, 40, 56), camera=Camera(row_noise=0, read_noise=0, spurious_charge=0), **light, **nothing
    )
    noisy, clean = (float(pairs[name].astype(float).mean()) - 400 for name in ("noisy", "clean"))
    # The camera's gain is peak counts over photons: 2 * 50 / 500 = 0.2 of that of the noisy image.
    assert noisy > 2
    assert clean / noisy == pytest.approx(0.2, rel=0.1)


def test_neurites_are_there():
    options = {
        "stacks": 4,
        "shape": (6, 64, 80),
        "neurons": (0, 0),
        "autofluorescence": 0,
        "stray_photons": 0,
        "seed": 4,
    }
    without = training_pairs(**options, neurites=(0, 0))["clean"].values
    with_them = training_pairs(**options, neurites=(3, 3))["clean"].values
    assert np.all(np.ptp(with_them, axis=(1, 2, 3)) > 3 * np.ptp(without, axis=(1, 2, 3)))


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
        ({"haze": -1}, "expected haze as a finite number of 0 or more, got -1"),
    ],
)
def test_what_cannot_be_is_an_error(option, message):
    with pytest.raises(NiddlError, match=message):
        training_pairs(**(SMALL | option))
