import json

import numpy as np
import pytest
import torch
import xarray as xr

import niddl_xr as nx
from niddl_xr import NiddlError
from niddl_xr.chunking import sampled_planes
from niddl_xr.denoising.nn import training
from niddl_xr.denoising.nn.data import PatchSampler, load_stacks, split_stacks
from niddl_xr.denoising.nn.losses import LOSSES
from niddl_xr.denoising.normalisation import estimate

QUICK = {"epochs": 2, "patch_px": 32, "batch": 2, "progress": False, "threads": 1}


def test_training_reduces_the_error_on_stacks_it_never_saw(tiny_pairs):
    denoiser = nx.train(tiny_pairs, epochs=12, patch_px=32, batch=4, progress=False, patience=None)
    curve = denoiser.card["training"]["curve"]
    assert len(curve) == 12
    assert curve[-1]["validation_loss"] < 0.8 * curve[0]["validation_loss"]
    assert denoiser.card["training"]["best_loss"] == min(row["validation_loss"] for row in curve)
    # In counts of the input, although the clean half had another gain and offset.
    noisy = tiny_pairs["noisy"].isel(stack=[0]).rename(stack="t").drop_vars("t")
    movie = nx.schema.make_recording(noisy.values, voxel_um=(1, 1, 1), dt_s=1)
    result = movie.niddl.denoise(denoiser).values
    assert abs(result.mean() - movie.values.mean()) < 2


def test_the_same_seed_gives_the_same_denoiser(tiny_pairs):
    torch.rand(3)  # the global generator plays no part
    first = nx.train(tiny_pairs, seed=3, **QUICK)
    before = torch.random.get_rng_state()
    second = nx.train(tiny_pairs, seed=3, **QUICK)
    assert torch.equal(before, torch.random.get_rng_state())
    other = nx.train(tiny_pairs, seed=4, **QUICK)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(array, second.weights[name])
    assert any(not np.array_equal(array, other.weights[name]) for name, array in first.weights.items())


def test_whole_stacks_are_set_aside(tiny_pairs):
    stacks = load_stacks(tiny_pairs)
    for seed in range(5):
        train, validation = split_stacks(stacks, 0.3, seed)
        assert len(validation) == 1
        assert sorted(stack.name for stack in (*train, *validation)) == [f"img_{n}" for n in range(1, 5)]
    assert split_stacks(stacks, 0, 0)[1] == []
    card = nx.train(tiny_pairs, **QUICK).card["training"]
    assert not set(card["stacks"]) & set(card["validation_stacks"])


def test_the_clean_half_is_brought_to_the_units_of_the_noisy(tiny_pairs):
    """Stack n was made as clean = (2 + n) * truth + 300 and noisy = truth + 100."""
    for index, stack in enumerate(load_stacks(tiny_pairs)):
        assert stack.gain == pytest.approx(1 / (2 + index), rel=0.1)
        assert stack.gain * 300 + stack.bias == pytest.approx(100, abs=3)


def test_augmentation_treats_both_halves_alike(tiny_pairs):
    same = tiny_pairs.assign(clean=tiny_pairs["noisy"])
    sampler = PatchSampler(load_stacks(same), patch_px=16, batch=32)
    noisy, clean = sampler.draw(np.random.default_rng(0))
    np.testing.assert_allclose(noisy, clean, atol=1e-4)
    assert noisy.shape == (32, 1, 16, 16)
    assert noisy.dtype == np.float32
    again, _ = sampler.draw(np.random.default_rng(0))
    np.testing.assert_array_equal(noisy, again)


def test_offset_and_scale():
    rng = np.random.default_rng(0)
    normalisation = estimate(rng.normal(500, 20, (8, 200, 300)))
    assert normalisation.offset == pytest.approx(500, abs=1)
    assert normalisation.scale == pytest.approx(20, rel=0.02)
    values = np.array([[480.0, 500.0, 540.0]])
    np.testing.assert_allclose(normalisation.invert(normalisation.apply(values)), values, rtol=1e-6)


def test_sampled_planes_spread_over_time_and_depth():
    places = sampled_planes(1000, 7)
    assert len(places) == 16
    assert places[0] == (0, 0)
    assert places[-1] == (999, 6)
    assert len({z for _, z in places}) > 3
    assert sampled_planes(1, 1) == [(0, 0)]


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_losses(loss):
    predicted, target = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 1.0])
    expected = {"l1": 5 / 3, "l2": 13 / 3, "charbonnier": (0.01 + np.sqrt(4.0001) + np.sqrt(9.0001)) / 3}[loss]
    assert float(LOSSES[loss](predicted, target)) == pytest.approx(expected, rel=1e-5)


def test_time_limit(tiny_pairs):
    denoiser = nx.train(tiny_pairs, epochs=10_000, time_limit_s=2, patch_px=32, patience=None, progress=False)
    assert 1.9 < denoiser.card["training"]["seconds"] < 4
    assert denoiser.weights


def test_early_stop_keeps_the_best_weights(tiny_pairs, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    weights = []

    def validation_loss(self):
        weights.append(self._weights())
        return next(losses)

    monkeypatch.setattr(training._Session, "validation_loss", validation_loss)
    denoiser = nx.train(tiny_pairs, **{**QUICK, "epochs": 50}, patience=3)
    card = denoiser.card["training"]
    assert len(card["curve"]) == 5
    assert (card["best_epoch"], card["best_loss"]) == (2, 1.0)
    for name, array in denoiser.weights.items():
        np.testing.assert_array_equal(array, weights[1][name])
    assert any(not np.array_equal(array, weights[4][name]) for name, array in denoiser.weights.items())


def test_training_and_validation_draw_from_their_own_stacks(tiny_pairs, monkeypatch):
    drawn = {}
    original = PatchSampler.draw

    def draw(self, rng):
        drawn.setdefault(self.batch, set()).update(stack.name for stack in self.stacks)
        return original(self, rng)

    monkeypatch.setattr(PatchSampler, "draw", draw)
    card = nx.train(tiny_pairs, **QUICK).card["training"]
    assert drawn == {2: set(card["stacks"]), training.VALIDATION_PATCHES: set(card["validation_stacks"])}


def test_an_interrupted_training_is_continued_to_the_same_end(tiny_pairs, tmp_path, monkeypatch):
    options = {**QUICK, "epochs": 4, "patience": None}
    whole = nx.train(tiny_pairs, **options)
    original = training._Session.run_epoch

    def killed(self, deadline):
        if self.state.epoch == 2:
            raise SystemExit("killed")
        return original(self, deadline)

    monkeypatch.setattr(training._Session, "run_epoch", killed)
    out = tmp_path / "d.safetensors"
    with pytest.raises(SystemExit):
        nx.train(tiny_pairs, out=out, **options)
    monkeypatch.undo()
    checkpoint = tmp_path / "d.safetensors.checkpoint"
    assert checkpoint.exists()
    resumed = nx.train(tiny_pairs, out=out, resume=checkpoint, **options)
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], array)
    losses = [[row["training_loss"] for row in d.card["training"]["curve"]] for d in (whole, resumed)]
    assert losses[0] == losses[1]
    assert not checkpoint.exists()
    assert nx.load_denoiser(out).sha256 == resumed.sha256


def test_another_training_is_not_continued(tiny_pairs, tmp_path, monkeypatch):
    original = training._Session.run_epoch

    def killed(self, deadline):
        original(self, deadline)
        self.save_checkpoint(tmp_path / "c")
        raise SystemExit

    monkeypatch.setattr(training._Session, "run_epoch", killed)
    with pytest.raises(SystemExit):
        nx.train(tiny_pairs, **QUICK)
    monkeypatch.undo()
    with pytest.raises(NiddlError, match="c belongs to another training: batch, loss differ"):
        nx.train(tiny_pairs, resume=tmp_path / "c", loss="l2", **{**QUICK, "batch": 3})
    with pytest.raises(FileNotFoundError, match="no training checkpoint at .*one an epoch"):
        nx.train(tiny_pairs, resume=tmp_path / "nothing", **QUICK)


def test_ctrl_c_keeps_the_best(tiny_pairs, monkeypatch):
    original = training._Session.run_epoch

    def interrupted(self, deadline):
        if self.state.epoch == 2:
            raise KeyboardInterrupt
        return original(self, deadline)

    monkeypatch.setattr(training._Session, "run_epoch", interrupted)
    with pytest.warns(UserWarning, match="stopped by hand in epoch 3; the weights of epoch [12] are kept"):
        denoiser = nx.train(tiny_pairs, **{**QUICK, "epochs": 9})
    assert len(denoiser.card["training"]["curve"]) == 2


def test_the_card_can_be_read_as_json(tiny_pairs):
    card = json.loads(json.dumps(nx.train(tiny_pairs, **{**QUICK, "epochs": 8}).card))
    assert card["network"] == {"name": "unet_fixed", "options": {"output": "linear"}}
    assert card["parameters"] == 314_913
    assert card["normalisation"] == "recording"
    assert set(card["metrics"]) == {"raw", "denoised", "median 3x3", "gaussian sigma 1"}
    assert card["metrics"]["denoised"]["PSNR_dB"] > card["metrics"]["raw"]["PSNR_dB"]
    low, high = card["training"]["snr_range_db"]
    assert 0 < low <= high < 60
    assert {"seed", "loss", "learning_rate"} <= set(card["training"]["options"])
    assert len(card["data"]["sha256"]) == 64
    assert {"niddl_xr", "torch"} <= set(card["versions"])


def test_wrong_input_is_said(tiny_pairs, tmp_path):
    for options, message in (
        ({"method": "magic"}, "no method 'magic'; choose one of niddl"),
        ({"network": "resnet"}, "no network 'resnet'"),
        ({"mode": "4d"}, "no mode '4d'; choose one of 2d"),
        ({"loss": "l3"}, "no loss 'l3'; choose one of l1, l2, charbonnier"),
        ({"learningrate": 1}, r"no option \['learningrate'\]; its further options are .*learning_rate"),
        ({"epochs": 0}, "expected epochs as a whole number of 1 or more, got 0"),
        ({"time_limit_s": -1}, "positive number of seconds, got -1"),
        ({"validation": 1}, "a fraction from 0 to below 1, got 1"),
        ({"precision": "int8"}, "precision 'float32' or 'bfloat16' for training"),
    ):
        with pytest.raises(NiddlError, match=message):
            nx.train(tiny_pairs, **{**QUICK, **options})
    with pytest.raises(NiddlError, match="expected pairs, a Dataset"):
        nx.train(tiny_pairs["noisy"], **QUICK)
    with pytest.raises(NiddlError, match="needs one that training never sees, got one; say validation=0"):
        nx.train(tiny_pairs.isel(stack=[0]), **QUICK)
    with pytest.raises(NiddlError, match="planes of at least 16×16 pixels .* got an edge of 9"):
        nx.train(tiny_pairs.isel(y=slice(9)), **QUICK)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match="mine exists; choose another name for the denoiser"):
        nx.train(tiny_pairs, out=mine, **QUICK)
    assert mine.read_text() == "mine"


def test_bad_pairs_are_named(tiny_pairs):
    broken = tiny_pairs.astype("float32")
    broken["noisy"][2, 1, 3, 4] = np.nan
    with pytest.raises(NiddlError, match="stack img_3 of the pairs: expected finite counts"):
        nx.train(broken, **QUICK)
    flat = tiny_pairs.copy(deep=True)
    flat["clean"][1] = 7
    with pytest.raises(NiddlError, match="stack img_2 of the pairs: expected images, got constant planes"):
        nx.train(flat, **QUICK)
    swapped = tiny_pairs.copy(deep=True)
    swapped["clean"].values[0] = np.random.default_rng(0).integers(0, 99, (2, 48, 64))
    with pytest.warns(UserWarning, match=r"left out 1 of 4 stacks, .*: img_1 \(correlation -?0.[01]"):
        nx.train(swapped, **QUICK)
    unrelated = xr.Dataset({k: v.isel(stack=slice(1)) for k, v in swapped.items()})
    with pytest.raises(NiddlError, match="expected noisy and clean images of the same scene, got 1 stacks"):
        nx.train(unrelated, validation=0, **QUICK)
