"""Lazy == regions == whole array, for any chunks, size, length and dtype."""

import tempfile
from pathlib import Path

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import niddl_xr as nx
from niddl_xr import Denoiser, NiddlError
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.predictor import PlaneRunner
from niddl_xr.schema import history, make_recording
from tests.conftest import counts, random_denoiser


def forbid(dsk, keys, **kwargs):
    raise AssertionError("something was computed")


def whole_array(values: np.ndarray, denoiser: Denoiser) -> np.ndarray:
    """Denoise plane by plane with nothing but torch and numpy."""
    card = denoiser.card["network"]
    network = build_network(card["name"], **card["options"]).eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in denoiser.weights.items()})
    t, z, y, x = values.shape
    flat = np.unique(np.linspace(0, t * z - 1, min(t * z, 16)).round().astype(int))
    low, offset, high = np.percentile(values.reshape(t * z, y, x)[flat], [0.5, 50, 99.5])
    scale = (high - low) / 5.1517
    grid = network.grid_px
    result = np.empty(values.shape)
    for index in np.ndindex(t, z):
        plane = (values[index].astype(float) - offset) / scale
        padded = np.pad(plane, ((0, -y % grid), (0, -x % grid)), mode="symmetric").astype("float32")
        with torch.inference_mode():
            clean = padded + network(torch.from_numpy(padded)[None, None])[0, 0].numpy()
        result[index] = clean[:y, :x].astype(float) * scale + offset
    return result


chunk_sizes = st.fixed_dictionaries(
    {dim: st.integers(1, 4) for dim in "tz"} | {dim: st.integers(9, 60) for dim in "yx"}
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    frames=st.sampled_from([1, 2, 5]), depth=st.sampled_from([1, 3]), height=st.integers(2, 41),
    width=st.integers(2, 37), dtype=st.sampled_from(["uint8", "uint16", "int16", "float32", ">u2"]), chunks=chunk_sizes,
)  # fmt: skip
def test_lazy_regions_and_whole_array_agree(network_denoiser, frames, depth, height, width, dtype, chunks):
    offset = {"uint8": 20, "uint16": 40_000, ">u2": 40_000, "int16": -300, "float32": 0.5}[dtype]
    values = counts((frames, depth, height, width), dtype, offset=offset)
    movie = make_recording(values, voxel_um=(1.5, 0.4, 0.3), dt_s=0.2)
    expected = whole_array(values, network_denoiser)
    lazy = movie.chunk(chunks).niddl.denoise(network_denoiser)
    assert lazy.dtype == np.float32
    with tempfile.TemporaryDirectory() as folder:
        stored = movie.chunk(chunks).niddl.denoise(network_denoiser, to=Path(folder) / "a.zarr", progress=False)
        np.testing.assert_array_equal(stored.values, lazy.values)
        xr.testing.assert_equal(stored.coords.to_dataset(), movie.coords.to_dataset())
    step = np.minimum(2.0**-3, np.abs(expected) * 2.0**-10)
    np.testing.assert_allclose(lazy.values, expected, atol=step.max() / 2 + 0.02, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 6), chunks=chunk_sizes, sigma_frames=st.sampled_from([0.0, 0.7, 3.0]))
def test_a_filter_through_time_does_not_see_the_chunks(frames, chunks, sigma_frames):
    movie = make_recording(counts((frames, 2, 13, 17)), voxel_um=(1, 1, 1), dt_s=1)
    smooth = nx.classical("gaussian", sigma_px=0.8, sigma_frames=sigma_frames)
    whole = movie.chunk(t=-1).niddl.denoise(smooth).values
    np.testing.assert_array_equal(movie.chunk(chunks).niddl.denoise(smooth).values, whole)
    with tempfile.TemporaryDirectory() as folder:
        stored = movie.niddl.denoise(smooth, to=Path(folder) / "a.zarr", progress=False)
        np.testing.assert_array_equal(stored.values, whole)


FILTERS = {"median": {"size_px": 5}, "gaussian": {"sigma_px": 1.2}, "nlm": {"patch_size_px": 3, "patch_distance_px": 2}}


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=8, deadline=None)
@given(
    frames=st.integers(1, 5), depth=st.sampled_from([1, 3]), height=st.integers(9, 30), width=st.integers(9, 31),
    dtype=st.sampled_from(["uint8", "uint16", "float32", ">u2"]), chunks=chunk_sizes,
)  # fmt: skip
def test_no_filter_sees_the_chunks(name, frames, depth, height, width, dtype, chunks):
    """The recording gets brighter with time, so that a noise measured in a block would not be that of the whole."""
    values = np.linspace(0.2, 1, frames)[:, None, None, None] * counts((frames, depth, height, width), "float32")
    movie = make_recording(values.clip(0, 255).astype(dtype), voxel_um=(1, 1, 1), dt_s=1)
    denoiser = nx.classical(name, **FILTERS[name])
    whole = movie.chunk(t=-1).niddl.denoise(denoiser).values
    np.testing.assert_array_equal(movie.chunk(chunks).niddl.denoise(denoiser).values, whole)
    with tempfile.TemporaryDirectory() as folder:
        stored = movie.chunk(chunks).niddl.denoise(denoiser, to=Path(folder) / "a.zarr", progress=False)
        np.testing.assert_array_equal(stored.values, whole)


@pytest.mark.parametrize("name", ["unet_fixed", "hourglass_wres"])
def test_tiles_equal_the_whole_plane(name):
    denoiser = random_denoiser(name)
    plane = np.random.default_rng(0).normal(size=(1, 403, 531)).astype("float32")
    whole = PlaneRunner(denoiser).predict(plane)
    runner = PlaneRunner(denoiser, memory_bytes=100_000_000)
    assert runner._pixels_at_once < plane.size  # it does cut
    np.testing.assert_allclose(runner.predict(plane), whole, atol=1e-4, rtol=1e-4)


def test_a_lazy_result_computes_nothing_and_keeps_the_labels(recording, network_denoiser):
    with dask.config.set(scheduler=forbid):
        lazy = recording.chunk(t=2).niddl.denoise(network_denoiser)
        assert lazy.isel(t=3).shape == (3, 37, 53)
    assert lazy.name == recording.name
    xr.testing.assert_equal(lazy.coords.to_dataset(), recording.coords.to_dataset())
    assert lazy.t.attrs["units"] == "s"
    entry = history(lazy)[-1]
    assert entry["verb"] == "denoise"
    assert entry["denoiser_sha256"] == network_denoiser.sha256


def test_looking_at_one_plane_denoises_one_plane(recording, network_denoiser, monkeypatch):
    seen = []
    original = PlaneRunner.__call__
    monkeypatch.setattr(
        PlaneRunner, "__call__", lambda self, block, n: (seen.append(block.shape), original(self, block, n))[1]
    )
    recording.chunk(t=4).niddl.denoise(network_denoiser).isel(t=2, z=1).compute(scheduler="synchronous")
    assert seen == [(1, 1, 37, 53)]


def test_the_weights_are_not_in_the_graph(recording, network_denoiser):
    import cloudpickle

    lazy = recording.chunk(t=1).niddl.denoise(network_denoiser)
    weights = sum(array.nbytes for array in network_denoiser.weights.values())
    assert len(cloudpickle.dumps(lazy.data.dask)) < recording.nbytes + 50_000 < weights


def test_blocks_have_no_baseline_of_their_own(network_denoiser):
    """A recording whose second half is brighter: offset and scale are those of the whole recording."""
    values = counts((6, 1, 40, 50), "float32")
    values[3:] *= 3
    movie = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(
        movie.chunk(t=1).niddl.denoise(network_denoiser).values, movie.chunk(t=6).niddl.denoise(network_denoiser).values
    )


def test_the_result_is_in_the_units_of_the_input(network_denoiser):
    """Denoising commutes with a change of camera gain and offset."""
    values = counts((2, 1, 40, 50), "float32")
    one = make_recording(values, voxel_um=(1, 1, 1), dt_s=1)
    other = one.copy(data=values * 4 + 1000)
    expected = one.niddl.denoise(network_denoiser).values * 4 + 1000
    np.testing.assert_allclose(other.niddl.denoise(network_denoiser).values, expected, atol=0.5)


def test_nan_is_said(recording, network_denoiser, tmp_path):
    broken = recording.astype("float32")
    broken[3, 1, 5, 7] = np.nan
    only_late = recording.astype("float32").isel(t=[0] * 40)
    only_late.values[17, 1, 5, 7] = np.nan
    with pytest.raises(NiddlError, match=r"expected finite counts, got 1 NaN or infinite pixels .*fillna"):
        broken.niddl.denoise(network_denoiser).compute()
    with pytest.raises(NiddlError, match="frames 15 to 19: expected finite counts, got 1 NaN or infinite pixels"):
        only_late.niddl.denoise(network_denoiser, to=tmp_path / "a.zarr", progress=False)


def test_a_constant_recording_is_said(recording, network_denoiser, tmp_path):
    flat = recording.copy(data=np.full(recording.shape, 77, "uint16"))
    with pytest.raises(NiddlError, match="got constant planes: every sampled pixel is 77"):
        flat.niddl.denoise(network_denoiser, to=tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_mask_is_not_constant(recording, network_denoiser):
    mask = np.zeros(recording.shape, "uint8")
    mask[..., 0, :2] = 1  # below one pixel in two hundred
    assert np.isfinite(recording.copy(data=mask).niddl.denoise(network_denoiser).values).all()


def test_nothing_of_the_files_encoding_is_left(tmp_path, network_denoiser):
    """Kept, xarray would write negative float pixels into the source's uint16."""
    make_recording(counts((3, 1, 40, 50)), voxel_um=(1, 1, 1), dt_s=1).to_dataset(name="F").to_zarr(tmp_path / "a.zarr")
    source = xr.open_zarr(tmp_path / "a.zarr")["F"]
    assert source.encoding
    lazy = source.niddl.denoise(network_denoiser)
    lazy.to_dataset(name="F").to_zarr(tmp_path / "b.zarr")
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "b.zarr")["F"].values, lazy.values)


def test_large_integers(recording, network_denoiser):
    near = recording.astype("uint32") + np.uint32(2**23)
    difference = near.niddl.denoise(network_denoiser).values - recording.niddl.denoise(network_denoiser).values
    np.testing.assert_allclose(difference, 2**23, atol=1.5)  # float32 has steps of 1 there
    with pytest.raises(NiddlError, match="expected counts up to 16,777,216, .* subtract an offset first"):
        (recording.astype("uint32") + np.uint32(4_000_000_000)).niddl.denoise(network_denoiser).compute()
    with pytest.raises(NiddlError, match="counts up to 16,777,216, .* got -3,000,000,000; subtract an offset"):
        xr.where(recording == recording.max(), -3_000_000_000, 5).niddl.denoise(nx.classical("median")).compute()


def test_other_voxels_are_refused(recording, network_denoiser):
    card = {**network_denoiser.card, "data": {"voxel_um": {"y": 0.1, "x": 0.3}}}
    denoiser = Denoiser(card, network_denoiser.weights)
    with pytest.raises(NiddlError, match=r"trained for voxels of 0.1 µm along y, the recording has 0.4 µm"):
        recording.niddl.denoise(denoiser)
    assert recording.niddl.denoise(denoiser, check_voxel=False).shape == recording.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "expected device 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', got 'gpu'"),
        ({"precision": "double"}, "expected precision 'auto', 'float32', 'bfloat16', 'float16', got 'double'"),
        ({"memory": "lots"}, "expected memory as bytes or a text such as '2 GiB', got 'lots'"),
        ({"memory": 0}, "more than 0 bytes"),
    ],
)
def test_wrong_options_are_said(recording, network_denoiser, options, message):
    with pytest.raises(NiddlError, match=message):
        recording.niddl.denoise(network_denoiser, **options).compute()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_said(recording, network_denoiser):
    with pytest.raises(NiddlError, match="torch sees no CUDA device; say device='cpu' or 'auto'"):
        recording.niddl.denoise(network_denoiser, device="cuda").compute()


def test_bfloat16_is_close_on_the_cpu(recording, network_denoiser):
    exact = recording.niddl.denoise(network_denoiser).values
    quick = recording.niddl.denoise(network_denoiser, precision="bfloat16").values
    assert np.abs(exact - quick).max() > 0
    assert np.abs(exact - quick).mean() < 0.05 * exact.std()  # random weights are the worst case


@pytest.mark.realdata
def test_the_published_outputs_of_niddl(realdata, tmp_path):
    """Every image of the authors comes back within a count: alone, and as one plane of a recording by regions."""
    import imagecodecs
    import tifffile

    folder = realdata / "niddl_samples" / "ventral_cord"
    denoiser = nx.import_niddl(
        realdata / "niddl_samples" / "checkpoints" / "ventral_cord" / "run_hourglass_wres_l2_mp1_m2D_d1_2_317"
    )
    published = sorted((folder / "niddl_output").glob("*.tif"))
    assert len(published) == 7
    noisy = np.stack([imagecodecs.imread(str(folder / "noisy" / f"{path.stem}.png")) for path in published])
    expected = np.stack([tifffile.imread(path) for path in published]).astype(int)
    movie = nx.from_numpy(noisy, dims="tyx", voxel_um=(1, 0.325, 0.325), dt_s=0.1)
    alone = movie.isel(t=[2]).niddl.denoise(denoiser).values[0, 0]
    assert np.abs(np.floor(alone) - expected[2]).max() <= 1
    # As plane 1 of three, the others being other images.
    volume = xr.concat([movie.roll(t=1), movie, movie.roll(t=2)], dim="z", coords="minimal", compat="override")
    volume = volume.transpose("t", "z", "y", "x").assign_coords(t=movie.t.values, z=[0.0, 1.0, 2.0])
    stored = volume.niddl.denoise(denoiser, to=tmp_path / "a.zarr", progress=False)
    assert len(stored.chunks[0]) > 1
    assert np.abs(np.floor(stored.isel(z=1).values) - expected).max() <= 1
    # The authors round down, we round to 1/8 count: before that, the two are the same numbers.
    difference = stored.isel(z=1).values - expected
    assert difference.min() > -0.1
    assert difference.max() < 1.1
