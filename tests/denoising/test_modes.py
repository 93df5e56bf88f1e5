"""The modes: which planes a network sees and gives, in training and on recordings of any depth, chunks and memory."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr

import niddl_xr as nx
from niddl_xr import Denoiser, NiddlError
from niddl_xr.denoising.nn import predictor
from niddl_xr.denoising.nn.building import training_network_options
from niddl_xr.denoising.nn.data import load_stacks, projected
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.options import TrainingOptions
from niddl_xr.denoising.nn.patches import PatchSampler
from niddl_xr.denoising.nn.predictor import PlaneRunner
from niddl_xr.denoising.nn.session import Session
from niddl_xr.denoising.nn.windows import samples, windows
from niddl_xr.denoising.normalisation import IDENTITY, Normalisation
from niddl_xr.schema import make_recording
from tests.conftest import counts

QUICK = {
    "network": "niddl_fast", "epochs": 2, "patch_px": 32, "batch": 2, "progress": False, "threads": 1, "patience": None,
}  # fmt: skip
MODES = [("2d", 1), ("2.5d", 3), ("2.5d", 5), ("3d", 2), ("3d", 4)]


def made(mode: str, depth: int, network: str = "niddl_fast", **options) -> Denoiser:
    """A denoiser of random weights for a mode."""
    outputs = depth if mode == "3d" else 1
    chosen = {**training_network_options(network, {}, depth, outputs), **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_network(network, **chosen)
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.ndim == 4:
                torch.nn.init.kaiming_uniform_(parameter, nonlinearity="relu")
    card = {
        "format": "niddl_xr denoiser", "format_version": 1, "method": "niddl", "mode": mode, "depth": depth,
        "network": {"name": network, "options": chosen}, "residual": True, "normalisation": "recording",
        "halo_frames": 0,
    }  # fmt: skip
    return Denoiser(card, {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()})


@pytest.fixture
def pairs(tiny_pairs) -> xr.Dataset:
    """Pairs (stack 4, z 5, y 48, x 64), every plane another image."""
    planes = [tiny_pairs.roll(x=7 * z, roll_coords=False).isel(z=z % 2) for z in range(5)]
    return xr.concat(planes, dim="z").transpose("stack", "z", "y", "x")


class Telltale(torch.nn.Module):
    """Gives every plane in, plus a thousand times the first of its window: the result tells what was seen."""

    reach_px, grid_px, bytes_per_pixel = 0, 1, 8

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, planes):
        first = (planes.shape[1] - self.outputs) // 2
        return planes[:, first : first + self.outputs] + 1000 * planes[:, :1]


@pytest.mark.parametrize(
    ("mode", "depth", "planes", "expected"),
    [
        ("2d", 1, 3, [(0, 0), (1, 1), (2, 2)]),
        ("2.5d", 3, 4, [(0, 0), (1, 0), (2, 1), (3, 2)]),
        ("2.5d", 5, 3, [(0, 1), (1, 0), (2, 0)]),  # -2 is 1, -1 is 0
        ("2.5d", 3, 1, [(0, 0)]),
        ("3d", 3, 6, [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3)]),
        ("3d", 3, 7, [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 4)]),  # the last window is shifted back
        ("3d", 4, 5, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]),
        ("3d", 4, 2, [(0, 0), (1, 0)]),
    ],
)
def test_what_a_network_sees(monkeypatch, mode, depth, planes, expected):
    """The expected pairs are (plane, first plane of the window that gave it)."""
    outputs = depth if mode == "3d" else 1
    monkeypatch.setattr(predictor, "load_network", lambda denoiser, device: Telltale(outputs))
    denoiser = Denoiser({"mode": mode, "depth": depth, "method": "niddl"})
    for frames in (1, 2):
        for device_batches in (False, True):
            block = np.arange(frames * planes, dtype=np.float32).reshape(frames, planes, 1, 1) * np.ones((5, 7), "f4")
            runner = PlaneRunner(denoiser, threads=1)
            if device_batches:  # as on a GPU: several windows at once
                runner._device = torch.device("meta")
                monkeypatch.setattr(runner, "_forward", lambda x: Telltale(outputs)(torch.from_numpy(x)).numpy())
            result = runner(block, IDENTITY)
            for frame in range(frames):
                start = frame * planes
                assert [divmod(value, 1000)[::-1] for value in result[frame, :, 2, 3]] == [
                    (start + plane, start + first) for plane, first in expected
                ]


@pytest.mark.parametrize(("mode", "depth"), MODES)
@pytest.mark.parametrize("planes", [1, 2, 3, 4, 7, 8])
def test_every_plane_is_given_once(mode, depth, planes):
    written = [z for window in windows(mode, depth, planes) for z in range(planes)[window.write]]
    assert written == list(range(planes))
    for window in windows(mode, depth, planes):
        assert len(window.read) == depth
        kept = window.read[window.keep] if mode == "3d" else (window.read[depth // 2],)
        assert kept == tuple(range(planes)[window.write])
    forward_passes = len(windows(mode, depth, planes))
    assert forward_passes == (-(-planes // depth) if mode == "3d" else planes)


def plain(values: np.ndarray, denoiser: Denoiser) -> np.ndarray:
    """Denoise normalised planes (z, y, x) whole, with numpy's own continuation beyond the ends."""
    card = denoiser.card
    network = build_network(card["network"]["name"], **card["network"]["options"]).eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in denoiser.weights.items()})
    planes, height, width = values.shape
    depth, grid = card["depth"], network.grid_px
    padded = np.pad(values, ((0, 0), (0, -height % grid), (0, -width % grid)), mode="symmetric")
    result = np.empty_like(padded)
    with torch.inference_mode():
        if card["mode"] == "3d":
            stack = np.pad(padded, ((0, max(0, depth - planes)), (0, 0), (0, 0)), mode="symmetric")
            for z in [*range(0, planes - depth + 1, depth), max(0, planes - depth)][::-1]:  # the first ones win
                window = stack[z : z + depth]
                clean = window + network(torch.from_numpy(window.copy())[None])[0].numpy()
                result[z : z + depth] = clean[: planes - z]
        else:
            half = depth // 2
            stack = np.pad(padded, ((half, half), (0, 0), (0, 0)), mode="symmetric")
            for z in range(planes):
                window = torch.from_numpy(stack[z : z + depth].copy())[None]
                result[z] = padded[z] + network(window)[0, 0].numpy()
    return result[:, :height, :width]


@pytest.mark.parametrize(("mode", "depth"), MODES)
@pytest.mark.parametrize("planes", [1, 3, 5])
def test_a_block_is_what_a_plain_loop_gives(mode, depth, planes):
    denoiser = made(mode, depth)
    values = np.random.default_rng(planes).normal(size=(2, planes, 27, 41)).astype("float32")
    result = PlaneRunner(denoiser, threads=1)(values, IDENTITY)
    expected = np.stack([plain(frame, denoiser) for frame in values])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("mode", "depth"), [("2.5d", 3), ("3d", 3)])
def test_chunks_and_stores_change_nothing(mode, depth, tmp_path):
    movie = make_recording(counts((5, 4, 27, 41)), voxel_um=(1.5, 0.4, 0.3), dt_s=0.25)
    denoiser = made(mode, depth)
    whole = movie.chunk(t=-1).niddl.denoise(denoiser).values
    for chunks in ({"t": 2, "z": 3, "y": 20}, {"t": 1, "z": 1}):
        np.testing.assert_array_equal(movie.chunk(chunks).niddl.denoise(denoiser).values, whole)
    stored = movie.chunk(t=2, z=1).niddl.denoise(denoiser, to=tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(stored.values, whole)
    np.testing.assert_array_equal(movie.isel(t=[0, 1, 2, 3, 4]).niddl.denoise(denoiser)[3].values, whole[3])


@pytest.mark.parametrize(("mode", "depth"), [("2.5d", 3), ("3d", 3)])
def test_tiles_equal_the_whole_plane(mode, depth):
    denoiser = made(mode, depth, "hourglass_wres")
    planes = np.random.default_rng(0).normal(size=(4, 203, 419)).astype("float32")
    whole = PlaneRunner(denoiser, threads=1).predict(planes)
    runner = PlaneRunner(denoiser, threads=1, memory_bytes=60_000_000)
    shapes = []
    forward = runner._forward
    runner._forward = lambda noisy: (shapes.append(noisy.shape), forward(noisy))[1]
    np.testing.assert_allclose(runner.predict(planes), whole, atol=1e-4 * np.abs(whole).max(), rtol=1e-4)
    assert max(shape[3] for shape in shapes) < 419  # it does cut


def test_a_network_that_sees_the_whole_plane_is_never_cut():
    options = {"width": 8, "groups": 1, "blocks": 1, "reduction": 2}
    denoiser = made("2d", 1, "rcan", **options)
    assert PlaneRunner(denoiser)._network.reach_px is None
    plane = np.random.default_rng(0).normal(size=(1, 64, 96)).astype("float32")
    needed = 64 * 96 * PlaneRunner(denoiser)._network.bytes_per_pixel
    enough = PlaneRunner(denoiser, threads=1, memory_bytes=needed)
    np.testing.assert_array_equal(enough.predict(plane), PlaneRunner(denoiser, threads=1).predict(plane))
    with pytest.raises(
        NiddlError, match=rf"cannot be cut into tiles, and planes of 64×96 pixels need {needed:,} bytes.*; say memory='"
    ):
        PlaneRunner(denoiser, threads=1, memory_bytes=needed - 1).predict(plane)


@pytest.mark.parametrize("memory", [None, "96 MiB"])
def test_the_precision_is_chosen_within_the_memory(monkeypatch, memory, tmp_path):
    """On a CUDA device, of which there is none here: networks that cannot be cut would find no room for the trial."""
    trials = []

    class Recorder:
        depth = 1

        def __init__(self, denoiser, *, device="cpu", precision="float32", memory_bytes=None, threads=None):
            trials.append((precision, memory_bytes))

        def predict(self, planes):
            return planes

        def __call__(self, block, normalisation):
            return block.astype("float32")

    monkeypatch.setattr(predictor, "PlaneRunner", Recorder)
    monkeypatch.setattr(predictor, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    recording = make_recording(counts((2, 1, 19, 23)), voxel_um=(1, 1, 1), dt_s=1)
    memory_bytes = None if memory is None else 96 * 2**20
    for to in (None, tmp_path / "a.zarr"):
        trials.clear()
        recording.niddl.denoise(made("2d", 1), to=to, memory=memory, progress=False).compute()
        assert trials[:2] == [("float32", memory_bytes), ("bfloat16", memory_bytes)]


@pytest.mark.parametrize(("mode", "depth"), [*MODES, ("max_projection", 1)])
def test_planes_are_normalised_once(mode, depth, monkeypatch):
    seen = Counter()
    original = Normalisation.apply

    def apply(self, values):
        seen[int(values.flat[0])] += 1
        return original(self, values)

    denoiser = made(mode, depth)
    block = np.arange(14, dtype="uint16").reshape(2, 7, 1, 1) * np.ones((8, 8), "uint16")
    runner = PlaneRunner(denoiser, threads=1)
    monkeypatch.setattr(Normalisation, "apply", apply)
    runner(block, Normalisation(3.0, 2.0))
    # The corner that threads are timed on is of the first plane, which is then held.
    assert seen == dict.fromkeys(range(14), 1)


@pytest.mark.parametrize("batch_limit", [1, 3, 8])
def test_batches_shrink_when_memory_ends(monkeypatch, batch_limit):
    """The path of a GPU, with a device that holds only so many windows."""
    runner = PlaneRunner(made("2.5d", 3), threads=1)
    block = counts((3, 4, 24, 32), "float32")
    expected = runner(block, IDENTITY)
    original = runner._predict_windows
    sizes = []

    def predict(noisy):
        sizes.append(len(noisy))
        if len(noisy) > batch_limit:
            raise torch.cuda.OutOfMemoryError("full")
        return original(noisy)

    monkeypatch.setattr(runner, "_predict_windows", predict)
    monkeypatch.setattr(runner, "_device", torch.device("meta"))
    monkeypatch.setattr(runner, "_forward", lambda noisy, device=runner._forward: on_cpu(runner, device, noisy))
    np.testing.assert_allclose(runner(block, IDENTITY), expected, atol=1e-4 * np.abs(expected).max())
    assert (
        max(size for size in sizes if size <= batch_limit) == {1: 1, 3: 2, 8: 5}[batch_limit]
    )  # 12 windows are 1 + 2 + 4 + 5
    monkeypatch.setattr(runner, "_predict_windows", lambda noisy: predict(np.repeat(noisy, 99, axis=0)))
    with pytest.raises(NiddlError, match=r"no memory for a plane of \(24, 32\) pixels .*smaller tiles with memory="):
        runner(block, IDENTITY)


def on_cpu(runner, forward, noisy):
    device, runner._device = runner._device, torch.device("cpu")
    try:
        return forward(noisy)
    finally:
        runner._device = device


def test_samples_of_training(pairs):
    """Windows of training hold the planes of their mode, of one stack, noisy and clean of the same place."""
    assert samples("2d", 1, 3) == (((0,), (0,)), ((1,), (1,)), ((2,), (2,)))
    assert samples("2.5d", 3, 3) == (((0, 0, 1), (0,)), ((0, 1, 2), (1,)), ((1, 2, 2), (2,)))
    assert samples("3d", 2, 4) == (((0, 1),) * 2, ((1, 2),) * 2, ((2, 3),) * 2)
    stacks = load_stacks(pairs)
    for mode, depth, outputs in (("2.5d", 3, 1), ("3d", 4, 4)):
        sampler = PatchSampler(stacks, 16, 4, mode, depth, gain_range=0, offset_range=0)
        plan = sampler.plan(np.random.default_rng(0), 40)
        batches = list(sampler.batches(plan))
        assert [(noisy.shape, clean.shape) for noisy, clean in batches] == [
            ((4, depth, 16, 16), (4, outputs, 16, 16))
        ] * 10
        index = int(np.flatnonzero((plan.turns == 0) & ~plan.flip)[0])
        stack, first = stacks[plan.stack[index]], int(plan.sample[index])
        planes = [first] if mode == "2.5d" else list(range(first, first + 4))
        window = stack.clean[planes, plan.y[index] : plan.y[index] + 16, plan.x[index] : plan.x[index] + 16]
        scale = stack.clean_normalisation
        ours = np.concatenate([clean for _, clean in batches])[index]
        np.testing.assert_allclose(ours, (window - scale.offset) / scale.scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mode", "depth"), [("2.5d", 3), ("3d", 2), ("max_projection", 1)])
def test_training_in_every_mode(pairs, mode, depth):
    denoiser = nx.train(pairs, mode=mode, depth=depth, **{**QUICK, "epochs": 8}, learning_rate=3e-3)
    card = json.loads(json.dumps(denoiser.card))
    assert (card["mode"], card["depth"]) == (mode, depth)
    assert card["network"]["options"]["inputs"] == depth
    assert card["network"]["options"]["outputs"] == (depth if mode == "3d" else 1)
    curve = card["training"]["curve"]
    assert curve[-1]["validation_loss"] < 0.9 * curve[0]["validation_loss"]
    assert set(card["metrics"]) == {"raw", "denoised", "median 3x3", "gaussian sigma 1"}
    movie = make_recording(counts((2, 5, 37, 53)), voxel_um=(1.5, 0.4, 0.3), dt_s=0.25)
    result = movie.niddl.denoise(denoiser, check_voxel=False)
    assert result.shape == (2, 1 if mode == "max_projection" else 5, 37, 53)
    assert np.isfinite(result.values).all()


def test_projections_are_taken_before_anything_else(pairs):
    """Training on projections made by numpy beforehand, plane by plane, is the same training."""
    made_by_numpy = xr.Dataset(
        {name: (half.dims, half.values.max(axis=1, keepdims=True)) for name, half in pairs.items()},
        coords={"stack": pairs["stack"]},
    )
    ours = nx.train(pairs.chunk(stack=1), mode="max_projection", **QUICK)
    theirs = nx.train(made_by_numpy, mode="2d", **QUICK)
    for name, array in theirs.weights.items():
        np.testing.assert_array_equal(ours.weights[name], array)
    for part in "snr_range_db", "curve":
        if part == "snr_range_db":
            assert ours.card["training"][part] == theirs.card["training"][part]
    assert ours.card["metrics"] == theirs.card["metrics"]
    assert ours.card["data"]["sha256"] == theirs.card["data"]["sha256"]
    assert ours.card["training"]["snr_range_db"] != nx.train(pairs, **QUICK).card["training"]["snr_range_db"]
    broken = pairs.astype("float32")
    broken["noisy"][2, 1, 3, 4] = np.nan  # a maximum that skips NaN would hide it
    with pytest.raises(NiddlError, match="stack img_3 of the pairs: expected finite counts"):
        nx.train(broken, mode="max_projection", **QUICK)


def test_a_projection_has_no_voxel_size_along_z(pairs):
    labelled = pairs.assign_coords(
        {
            dim: (dim, size * np.arange(pairs.sizes[dim]), {"units": "µm"})
            for dim, size in (("z", 2.0), ("y", 0.5), ("x", 0.4))
        }
    )
    assert dict(projected(labelled).sizes) == {"stack": 4, "z": 1, "y": 48, "x": 64}
    assert projected(labelled)["noisy"].dtype == pairs["noisy"].dtype
    one = nx.train(labelled, mode="max_projection", **{**QUICK, "epochs": 1})
    assert one.card["data"]["voxel_um"] == {"y": 0.5, "x": 0.4}


def test_options_of_the_network_are_kept(pairs, tmp_path):
    options = {"kernel_px": 5}
    denoiser = nx.train(pairs, network_options=options, out=tmp_path / "d", **{**QUICK, "network": "hourglass_wres"})
    assert denoiser.card["network"]["options"]["kernel_px"] == 5
    loaded = predictor.load_network(nx.load_denoiser(tmp_path / "d"), torch.device("cpu"))
    kernels = {tuple(m.kernel_size) for m in loaded.modules() if type(m) is torch.nn.Conv2d}
    assert (5, 5) in kernels
    assert (3, 3) not in kernels


def test_cards_of_before_the_modes_are_read():
    new = made("2d", 1, "hourglass_wres")
    options = {"output": "linear", "channels": 1}
    card = {key: value for key, value in new.card.items() if key not in ("mode", "depth")}
    old = Denoiser({**card, "network": {"name": "hourglass_wres", "options": options}}, new.weights)
    plane = np.random.default_rng(0).normal(size=(3, 24, 32)).astype("float32")
    np.testing.assert_array_equal(
        PlaneRunner(old, threads=1).predict(plane), PlaneRunner(new, threads=1).predict(plane)
    )
    assert options == {"output": "linear", "channels": 1}  # the card stays what it is
    other = Denoiser({**new.card, "network": {"name": "hourglass_wres", "options": {"kernel_px": 5}}}, new.weights)
    with pytest.raises(NiddlError, match="the weights do not fit the network .*changed, or belongs to another version"):
        PlaneRunner(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "2d", "depth": 3},
            "mode '2d' looks at one plane, got depth=3: leave depth out, or choose mode '2.5d'",
        ),
        ({"mode": "max_projection", "depth": 2}, "mode 'max_projection' looks at one plane, got depth=2"),
        ({"mode": "2.5d", "depth": 4}, "odd depth of 3 or more for mode '2.5d', .* got 4"),
        ({"mode": "2.5d", "depth": 1}, "odd depth of 3 or more for mode '2.5d', .* got 1"),
        ({"mode": "3d", "depth": 1}, "depth of 2 or more for mode '3d', got 1; mode '2d' is the one"),
        ({"mode": "3d", "depth": 2.0}, "depth as a whole number of planes, got 2.0"),
        ({"mode": "3d", "depth": 0}, "depth as a whole number of planes, got 0"),
        (
            {"mode": "2.5d", "depth": 7},
            "stacks of at least 7 planes, the depth of mode '2.5d', got 5; choose a smaller",
        ),
        ({"mode": "3d", "depth": 6}, "stacks of at least 6 planes, the depth of mode '3d', got 5; choose a smaller"),
        ({"mode": "2.5D"}, "no mode '2.5D'; choose one of 2d, 2.5d, 3d, max_projection"),
    ],
)
def test_what_does_not_fit_is_said(pairs, options, message):
    with pytest.raises(NiddlError, match=message):
        nx.train(pairs, **QUICK, **options)


@pytest.mark.parametrize("mode", ["2d", "2.5d", "3d", "max_projection"])
def test_pairs_on_a_disk_train_as_in_memory(pairs, mode):
    within = nx.train(pairs, mode=mode, **QUICK)
    beyond = nx.train(pairs.chunk(stack=1), mode=mode, memory=2000, **QUICK)
    for name, array in within.weights.items():
        np.testing.assert_array_equal(beyond.weights[name], array)
    for key in ("metrics", "data"):
        assert within.card[key] == beyond.card[key]
    assert within.card["training"]["snr_range_db"] == beyond.card["training"]["snr_range_db"]


def test_a_stack_on_a_disk_is_read_once_an_epoch(pairs):
    reads = Counter()

    def count(block, half, block_info=None):
        if block_info:
            reads[half, block_info[0]["array-location"][0][0]] += 1
        return block

    lazy = xr.Dataset(
        {
            name: (
                half.dims,
                da.from_array(half.values, chunks=(1, 5, 48, 64)).map_blocks(count, half=name, dtype=half.dtype),
            )
            for name, half in pairs.items()
        },
        coords={"stack": pairs["stack"]},
    )
    session = Session(load_stacks(lazy, 50_000), TrainingOptions(**{**QUICK, "memory": 10**6}))
    session.begin()
    training = {int(stack.name[-1]) - 1 for stack in session.training_stacks}
    reads.clear()
    session.run_epoch()
    assert session.steps_per_epoch > 10
    assert reads == {(half, stack): 1 for half in ("noisy", "clean") for stack in training}


PEAK = """
import sys, numpy as np, dask.array as da, xarray as xr, niddl_xr as nx

def image(block_info=None, noise=0):
    rng = np.random.default_rng(block_info[None]["chunk-location"][0])
    y, x = np.ogrid[:512, :512]
    pattern = 500 + 300 * (np.sin(y / 9, dtype="f4") * np.cos(x / 7, dtype="f4"))
    return pattern.astype("uint16") + rng.integers(noise, size=(1, 6, 512, 512), dtype="uint16")

dims, chunks, meta = ("stack", "z", "y", "x"), ((1,) * 20, (6,), (512,), (512,)), np.empty((0,) * 4, "uint16")
pairs = xr.Dataset({
    half: (dims, da.map_blocks(image, chunks=chunks, noise=noise, meta=meta))
    for half, noise in (("noisy", 90), ("clean", 4))
})
nx.train(pairs, network="niddl_fast", patch_px=64, batch=1, memory=sys.argv[1], threads=1, epochs=1, progress=False,
         time_limit_s=0.1)
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(line.split()[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory of a process is read from /proc")
def test_pairs_on_a_disk_are_not_held():
    """20 stacks of 6.3 MB: 126 MB in memory, of which no more than a few stacks where they are read when needed."""

    def peak_mib(memory: str) -> float:
        command = [sys.executable, "-c", PEAK, memory]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak_mib("4 GB") > peak_mib("10 MB") + 0.6 * 120
