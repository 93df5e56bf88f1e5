import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import niddl_xr as nx
from niddl_xr import NiddlError
from niddl_xr.chunking import sampled_planes
from niddl_xr.denoising.nn.checkpoint import load_checkpoint, save_checkpoint
from niddl_xr.denoising.nn.data import load_stacks, split_stacks
from niddl_xr.denoising.nn.losses import LOSSES
from niddl_xr.denoising.nn.options import TrainingOptions
from niddl_xr.denoising.nn.patches import PatchSampler
from niddl_xr.denoising.nn.session import Session
from niddl_xr.denoising.nn.validation import Validation
from niddl_xr.denoising.normalisation import estimate

QUICK = {"network": "niddl_fast", "epochs": 2, "patch_px": 32, "batch": 2, "progress": False, "threads": 1}


def test_training_reduces_the_error_on_stacks_it_never_saw(tiny_pairs):
    denoiser = nx.train(tiny_pairs, **{**QUICK, "epochs": 12, "batch": 4}, patience=None, learning_rate=2e-3)
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
        truth = np.array([0.0, 100.0])
        clean = stack.clean_normalisation.apply((2 + index) * truth + 300)
        noisy = stack.normalisation.apply(truth + 100)
        np.testing.assert_allclose(np.diff(clean), np.diff(noisy), rtol=0.1)
        assert clean[0] * stack.normalisation.scale == pytest.approx(noisy[0] * stack.normalisation.scale, abs=3)


def test_augmentation_treats_both_halves_alike(tiny_pairs):
    same = tiny_pairs.assign(clean=tiny_pairs["noisy"])
    sampler = PatchSampler(load_stacks(same), patch_px=16, batch=32)
    ((noisy, clean),) = sampler.batches(sampler.plan(np.random.default_rng(0), 32))
    np.testing.assert_allclose(noisy, clean, atol=1e-4)
    assert noisy.shape == (32, 1, 16, 16)
    assert noisy.dtype == np.float32
    ((again, _),) = sampler.batches(sampler.plan(np.random.default_rng(0), 32))
    np.testing.assert_array_equal(noisy, again)


def test_patches_are_windows_of_the_stacks(tiny_pairs):
    """Every pixel of a ramp tells where it comes from; turned, flipped, scaled and shifted, it stays a ramp."""
    rows, columns = np.mgrid[:48, :64]
    ramp = np.broadcast_to(1000.0 * rows + columns, (4, 2, 48, 64)) + 100_000 * np.arange(2)[:, None, None]
    pairs = tiny_pairs.assign(noisy=(tiny_pairs["noisy"].dims, ramp), clean=(tiny_pairs["noisy"].dims, 3 * ramp))
    stacks = load_stacks(pairs)
    sampler = PatchSampler(stacks, patch_px=16, batch=8, gain_range=0.3, offset_range=0.3)
    plan = sampler.plan(np.random.default_rng(5), 400)
    assert set(plan.y) == set(range(48 - 16 + 1))
    assert set(plan.x) <= set(range(64 - 16 + 1))
    assert {*plan.stack} == {0, 1, 2, 3}
    assert {*plan.sample} == {0, 1}
    assert {*zip(plan.turns, plan.flip, strict=True)} == {(turns, flip) for turns in range(4) for flip in (False, True)}
    noisy = np.concatenate([noisy for noisy, _ in sampler.batches(plan)])
    for index in range(0, 400, 7):
        stack = stacks[plan.stack[index]]
        y, x, z = plan.y[index], plan.x[index], plan.sample[index]
        expected = (ramp[0, z, y : y + 16, x : x + 16] - stack.normalisation.offset) / stack.normalisation.scale
        for _ in range(plan.turns[index]):  # a quarter turn is a transposition, upside down
            expected = expected.T[::-1]
        expected = expected[:, ::-1] if plan.flip[index] else expected
        expected = expected * plan.gain[index] + plan.offset[index]
        np.testing.assert_allclose(noisy[index, 0], expected, rtol=1e-4, atol=1e-3)
    assert np.log(plan.gain).min() == pytest.approx(-0.3, abs=0.01)
    assert np.log(plan.gain).max() == pytest.approx(0.3, abs=0.01)
    assert plan.offset.min() == pytest.approx(-0.3, abs=0.01)


def test_validation_patches_are_spread_over_stacks_and_depths(tiny_pairs):
    sampler = PatchSampler(load_stacks(tiny_pairs), patch_px=16, batch=4)
    plan = sampler.even_plan(np.random.default_rng(0), 24)
    places, counts = np.unique(np.stack([plan.stack, plan.sample]), axis=1, return_counts=True)
    assert places.shape == (2, 8)
    assert counts.min() >= 2
    assert counts.max() <= 4
    for unvaried in (plan.turns, plan.flip, plan.offset):
        assert not unvaried.any()
    assert (plan.gain == 1).all()


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
    """The limit holds for the whole call, the last validation and the metrics included."""
    started = time.monotonic()
    denoiser = nx.train(tiny_pairs, **{**QUICK, "epochs": 10_000}, time_limit_s=4, patience=None)
    assert 4 * 0.8 < time.monotonic() - started < 4 * 1.05 + 0.3  # other programs may take the core for a moment
    curve = denoiser.card["training"]["curve"]
    assert len(curve) > 2
    assert denoiser.card["training"]["seconds"] == pytest.approx(curve[-1]["seconds"], abs=0.01)


def test_the_learning_rate_reaches_its_end_with_the_time(tiny_pairs, monkeypatch):
    rates = []
    original = Session._step

    def step(self, noisy, clean):
        rates.append(self.optimiser.param_groups[0]["lr"])
        return original(self, noisy, clean)

    monkeypatch.setattr(Session, "_step", step)
    nx.train(tiny_pairs, **{**QUICK, "epochs": 10_000}, time_limit_s=3, patience=None, learning_rate=2e-3)
    assert max(rates) == pytest.approx(2e-3, rel=0.02)
    assert 2e-5 <= rates[-1] < 2e-4


def test_early_stop_keeps_the_best_weights(tiny_pairs, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    weights = []

    def loss(self, network):
        weights.append({name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(Validation, "loss", loss)
    denoiser = nx.train(tiny_pairs, **{**QUICK, "epochs": 50}, patience=3)
    card = denoiser.card["training"]
    assert len(card["curve"]) == 5
    assert (card["best_epoch"], card["best_loss"]) == (2, 1.0)
    for name, array in denoiser.weights.items():
        np.testing.assert_array_equal(array, weights[1][name])
    assert any(not np.array_equal(array, weights[4][name]) for name, array in denoiser.weights.items())


def test_training_and_validation_draw_from_their_own_stacks(tiny_pairs, monkeypatch):
    drawn = []
    original = PatchSampler._batch

    def batch(self, plan, patches):
        drawn.append((len(patches), {self.stacks[plan.stack[index]].name for index, _ in patches}))
        return original(self, plan, patches)

    monkeypatch.setattr(PatchSampler, "_batch", batch)
    card = nx.train(tiny_pairs, **QUICK).card["training"]
    for count, names in (2, set(card["stacks"])), (16, set(card["validation_stacks"])):
        assert set().union(*(found for size, found in drawn if size == count)) == names
    assert {size for size, _ in drawn} == {2, 16}


def test_averaged_weights(tiny_pairs, monkeypatch):
    """The average by its formula, from the weights after every step."""
    steps = []
    original = Session._step

    def step(self, noisy, clean):
        if not steps:
            steps.append([p.detach().double().clone() for p in self.network.parameters()])
        result = original(self, noisy, clean)
        steps.append([p.detach().double().clone() for p in self.network.parameters()])
        return result

    monkeypatch.setattr(Session, "_step", step)
    denoiser = nx.train(tiny_pairs, **{**QUICK, "epochs": 1}, averaging=0.3)
    expected = steps[0]
    for number, weights in enumerate(steps[1:], start=1):
        keep = min(0.3, (1 + number) / (10 + number))
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, weights, strict=True)]
    assert len(steps) > 5
    for ours, theirs, last in zip(denoiser.weights.values(), expected, steps[-1], strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-6)
        assert not np.array_equal(ours, last.numpy())


TRAIN = """
import os, signal, sys, numpy, xarray, niddl_xr as nx
from niddl_xr.denoising.nn.session import Session

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell turns off for what runs in its background
pairs_path, out, signal_number = sys.argv[1:]
step = Session._step

def signalled(self, noisy, clean):
    if self.state.epoch == 2 and self.state.steps == 2 * self.steps_per_epoch + 3:
        os.kill(os.getpid(), int(signal_number))
    return step(self, noisy, clean)

Session._step = signalled
halves = numpy.load(pairs_path)
dims = ("stack", "z", "y", "x")
pairs = xarray.Dataset({name: (dims, halves[name]) for name in halves}, {"stack": [f"img_{n}" for n in range(1, 5)]})
nx.train(pairs, network="niddl_fast", epochs=5, patch_px=32, batch=2, progress=False, threads=1, patience=None,
         averaging=0.9, out=out)
"""


def signalled_training(pairs, folder, number):
    """Train in a process of its own, to which a signal comes in the middle of the third of five epochs."""
    np.savez(folder / "pairs.npz", noisy=pairs["noisy"], clean=pairs["clean"])
    out = folder / "d.safetensors"
    command = [sys.executable, "-W", "always", "-c", TRAIN, str(folder / "pairs.npz"), str(out), str(int(number))]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return finished, out, Path(f"{out}.checkpoint")


def test_a_killed_training_is_continued_to_the_same_end(tiny_pairs, tmp_path):
    killed, out, checkpoint = signalled_training(tiny_pairs, tmp_path, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    options = {**QUICK, "epochs": 5, "patience": None, "averaging": 0.9}
    resumed = nx.train(tiny_pairs, out=out, resume=checkpoint, **options)
    whole = nx.train(tiny_pairs, **options)
    curves = [
        [(row["training_loss"], row["validation_loss"]) for row in d.card["training"]["curve"]]
        for d in (whole, resumed)
    ]
    assert len(curves[0]) == 5
    assert curves[0] == curves[1]
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], array)
    assert resumed.card["metrics"] == whole.card["metrics"]
    assert not checkpoint.exists()
    assert nx.load_denoiser(out).sha256 == resumed.sha256


def test_ctrl_c_keeps_the_best(tiny_pairs, tmp_path):
    interrupted, out, checkpoint = signalled_training(tiny_pairs, tmp_path, signal.SIGINT)
    assert interrupted.returncode == 0, interrupted.stderr
    assert "training stopped by hand in epoch 3; the weights of epoch" in interrupted.stderr
    card = nx.load_denoiser(out).card["training"]
    assert len(card["curve"]) == 2
    assert card["best_loss"] == min(row["validation_loss"] for row in card["curve"])
    assert checkpoint.exists()  # it can go on from there


def test_another_training_is_not_continued(tiny_pairs, tmp_path):
    started = Session(load_stacks(tiny_pairs), TrainingOptions(**QUICK))
    started.begin()
    started.run_epoch()
    save_checkpoint(started, tmp_path / "c")
    with pytest.raises(NiddlError, match="c belongs to another training: batch, loss, network_options differ"):
        nx.train(
            tiny_pairs, resume=tmp_path / "c", loss="l2", network_options={"kernel_px": 5}, **{**QUICK, "batch": 3}
        )
    with pytest.raises(FileNotFoundError, match="no training checkpoint at .*one an epoch"):
        nx.train(tiny_pairs, resume=tmp_path / "nothing", **QUICK)
    with pytest.raises(NiddlError, match="c belongs to another training: data differ"):
        nx.train(tiny_pairs.isel(z=[0]), resume=tmp_path / "c", **QUICK)
    (tmp_path / "text").write_text("no checkpoint")
    with pytest.raises(NiddlError, match="text is not a readable training checkpoint .*train anew"):
        nx.train(tiny_pairs, resume=tmp_path / "text", **QUICK)


def test_a_checkpoint_of_another_training_is_left_alone(tiny_pairs, tmp_path):
    started = Session(load_stacks(tiny_pairs), TrainingOptions(**QUICK))
    started.begin()
    started.run_epoch()
    save_checkpoint(started, tmp_path / "mine.checkpoint")
    (tmp_path / "other.checkpoint").write_text("days of work")
    with pytest.raises(FileExistsError, match=r"other.checkpoint is left of a training .*choose another name"):
        nx.train(tiny_pairs, out=tmp_path / "other", resume=tmp_path / "mine.checkpoint", **QUICK)
    assert (tmp_path / "other.checkpoint").read_text() == "days of work"
    same_by_another_name = tmp_path / "." / ".." / tmp_path.name / "mine.checkpoint"
    denoiser = nx.train(tiny_pairs, out=tmp_path / "mine", resume=same_by_another_name, **QUICK)
    assert len(denoiser.card["training"]["curve"]) == 2


def test_threads_may_differ_when_a_training_is_continued(tiny_pairs, tmp_path):
    started = Session(load_stacks(tiny_pairs), TrainingOptions(**QUICK))
    started.begin()
    save_checkpoint(started, tmp_path / "c")
    for asked, expected in ((2, 2), (None, 1)):
        resumed = Session(load_stacks(tiny_pairs), TrainingOptions(**{**QUICK, "threads": asked}))
        load_checkpoint(resumed, tmp_path / "c")
        resumed.begin()
        assert resumed.state.threads == expected


def test_a_full_disk_ends_no_training(tiny_pairs, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("niddl_xr.denoising.nn.checkpoint.os.replace", full)
    with (
        pytest.warns(UserWarning, match="checkpoint .* could not be written .No space left on device.; training goes"),
        pytest.raises(OSError, match="No space left"),  # of the denoiser itself, at the end
    ):
        nx.train(tiny_pairs, out=tmp_path / "d", **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_the_card_can_be_read_as_json(tiny_pairs):
    card = json.loads(json.dumps(nx.train(tiny_pairs, **{**QUICK, "network": "unet_fixed", "epochs": 8}).card))
    assert card["network"]["name"] == "unet_fixed"
    assert card["network"]["options"] == {"inputs": 1, "outputs": 1, "output": "linear"}
    assert (card["mode"], card["depth"]) == ("2d", 1)
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
        ({"mode": "4d"}, "no mode '4d'; choose one of 2d, 2.5d, 3d, max_projection"),
        ({"loss": "l3"}, "no loss 'l3'; choose one of l1, l2, charbonnier"),
        ({"learningrate": 1}, r"no option \['learningrate'\]; its further options are .*learning_rate"),
        ({"epochs": 0}, "expected epochs as a whole number of 1 or more, got 0"),
        ({"time_limit_s": -1}, "positive number of seconds, got -1"),
        ({"validation": 1}, "a fraction from 0 to below 1, got 1"),
        ({"precision": "int8"}, "precision 'float32' or 'bfloat16' for training"),
        ({"averaging": 1.0}, "averaging as the share .* between 0 and 1 such as 0.999, or None, got 1.0"),
        ({"learning_rate": np.float32(1e-3)}, r"learning_rate as a number or text of Python, .* float32; convert it"),
        ({"validation": np.float32(0.2)}, r"expected validation as a number or text of Python"),
        ({"residual": "no"}, "expected residual as True or False, got 'no'"),
        ({"turns": 0}, "expected turns as True or False, got 0"),
        ({"memory": "much"}, "memory as bytes or a text such as '4 GiB', got 'much'"),
        ({"memory": 0}, "memory of more than 0 bytes, got 0"),
        ({"network_options": 5}, "network_options as a mapping such as {'kernel_px': 5}, got 5"),
        ({"network_options": {"inputs": 2}}, r"\['inputs'\] of the network follow from mode and depth"),
        ({"network_options": {"colour": 1}}, r"network niddl_fast has no option \['colour'\]"),
        ({"network_options": {"kernel_px": np.int64(5)}}, "of numbers, texts and lists, which a denoiser's card can"),
    ):
        with pytest.raises(NiddlError, match=message):
            nx.train(tiny_pairs, **{**QUICK, **options})
    with pytest.raises(NiddlError, match="expected pairs, a Dataset"):
        nx.train(tiny_pairs["noisy"], **QUICK)
    with pytest.raises(NiddlError, match="needs one that training never sees, got one; say validation=0"):
        nx.train(tiny_pairs.isel(stack=[0]), **QUICK)
    with pytest.raises(NiddlError, match="planes of at least 16×16 pixels .* got an edge of 9"):
        nx.train(tiny_pairs.isel(y=slice(9)), **{**QUICK, "network": "unet_fixed"})
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
