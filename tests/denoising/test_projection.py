"""Denoisers of maximum projections, and networks that see several planes, as denoise treats them."""

import sys

import dask
import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr import Denoiser, NiddlError
from niddl_xr.denoising.classical import classical
from niddl_xr.denoising.projection import maximum_projection
from niddl_xr.schema import history, voxel_um
from tests.conftest import random_denoiser

APPLY = sys.modules["niddl_xr.denoising.apply"]


def with_card(denoiser: Denoiser, **card) -> Denoiser:
    return Denoiser({**denoiser.card, **card}, denoiser.weights)


@pytest.fixture
def projecting() -> Denoiser:
    return with_card(random_denoiser(), mode="max_projection", depth=1)


@pytest.mark.parametrize(
    ("mode", "depth", "planewise", "projects"),
    [("2d", 1, True, False), ("2.5d", 5, False, False), ("3d", 4, False, False), ("max_projection", 1, True, True)],
)
def test_what_the_card_says_of_planes(mode, depth, planewise, projects):
    denoiser = with_card(classical("median"), mode=mode, depth=depth)
    got = (denoiser.mode, denoiser.depth, denoiser.planewise, denoiser.projects)
    assert got == (mode, depth, planewise, projects)


def test_a_card_without_modes_is_of_single_planes():
    smooth = classical("gaussian")
    assert (smooth.mode, smooth.depth, smooth.planewise, smooth.projects) == ("2d", 1, True, False)


@pytest.mark.parametrize("chunks", [None, {"t": 2, "z": 1}, {"t": 1, "z": 2, "y": 20}])
def test_a_projection_is_the_brightest_plane(recording, chunks):
    given = recording if chunks is None else recording.chunk(chunks)
    given = given.assign_coords(depth_um=("z", [5.0, 6.0, 7.0]), stage_um=("t", np.arange(5.0)))
    projection = maximum_projection(given)
    assert (projection.chunks is None) == (chunks is None)
    assert projection.dtype == np.uint16
    assert projection.dims == recording.dims
    np.testing.assert_array_equal(projection.values[:, 0], recording.values.max(axis=1))
    assert projection.z.values.tolist() == [1.5]  # of 0, 1.5 and 3 µm
    assert projection.z.attrs == {"units": "µm", "projection": "maximum", "projected_planes": 3}
    assert set(voxel_um(projection)) == {"y", "x"}
    assert "depth_um" not in projection.coords
    xr.testing.assert_equal(projection.stage_um, given.stage_um)
    assert projection.attrs == recording.attrs


def test_nan_is_not_projected_away(recording):
    broken = recording.astype("float32")
    broken[3, 1, 5, 7] = np.nan
    for given in (broken, broken.chunk(z=1)):
        assert int(np.isnan(maximum_projection(given)).sum()) == 1


def test_a_projected_recording_is_denoised_as_its_projection(recording, projecting, tmp_path):
    expected = recording.copy(data=recording.values).max("z").expand_dims(z=[1.5], axis=1)
    expected = expected.niddl.denoise(with_card(projecting, mode="2d"), check_voxel=False).values
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("something was computed")):
        lazy = recording.chunk(t=2, z=1).niddl.denoise(projecting)
    assert lazy.sizes == {"t": 5, "z": 1, "y": 37, "x": 53}
    np.testing.assert_array_equal(lazy.values, expected)
    stored = recording.niddl.denoise(projecting, to=tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(stored.values, expected)
    for result in (lazy, stored):
        assert result.z.values.tolist() == [1.5]
        assert history(result)[-1]["parameters"]["projection"] == {"kind": "maximum", "along": "z", "planes": 3}


def test_a_projection_goes_on_where_it_was_interrupted(recording, tmp_path, monkeypatch):
    projecting = with_card(classical("median"), mode="max_projection")
    long = xr.concat([recording] * 40, dim="t").assign_coords(t=("t", np.arange(200.0), {"units": "s"}))
    fine = long.niddl.denoise(projecting, to=tmp_path / "fine.zarr", progress=False)
    assert len(fine.chunks[0]) > 1
    original, blocks = APPLY._denoise, []

    def fails_late(block, place, units):
        blocks.append(len(block))
        if len(blocks) == 2:
            raise KeyboardInterrupt
        return original(block, place, units)

    monkeypatch.setattr(APPLY, "_denoise", fails_late)
    with pytest.raises(KeyboardInterrupt):
        long.niddl.denoise(projecting, to=tmp_path / "a.zarr", progress=False)
    stored = long.niddl.denoise(projecting, to=tmp_path / "a.zarr", progress=False)
    assert sum(blocks) < 2 * 200  # the first region was not done twice
    np.testing.assert_array_equal(stored.values, fine.values)


def test_a_single_plane_is_taken_as_projected(recording, projecting):
    one = recording.isel(z=[1])
    result = one.niddl.denoise(projecting)
    assert result.z.attrs == one.z.attrs
    np.testing.assert_array_equal(result.values, one.niddl.denoise(with_card(projecting, mode="2d")).values)
    assert "projection" not in history(result)[-1]["parameters"]


class _Neighbours:
    """A stand-in for a method of several planes: every plane becomes the sum of those from the first up to it."""

    @staticmethod
    def runner(denoiser, device, precision, memory_bytes, threads):
        return lambda block, normalisation: np.cumsum(block.astype(np.float32), axis=1)

    @staticmethod
    def choose_precision(*_):
        return "float32"


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
@pytest.mark.parametrize("chunks", [{"t": 1, "z": 1}, {"t": 3, "z": 2, "x": 20}])
def test_networks_of_several_planes_get_whole_volumes(recording, mode, chunks, tmp_path, monkeypatch):
    for module in ("apply", "preparation"):
        monkeypatch.setattr(sys.modules[f"niddl_xr.denoising.{module}"], "method_module", lambda name: _Neighbours)
    movie = recording - 33_000.0
    denoiser = Denoiser({**classical("median").card, "method": "stand-in", "mode": mode, "depth": 3})
    expected = np.cumsum(movie.values, axis=1)
    lazy = movie.chunk(chunks).niddl.denoise(denoiser)
    np.testing.assert_allclose(lazy.values, expected, atol=1 / 16)
    np.testing.assert_allclose(lazy.isel(t=2, z=1).values, expected[2, 1], atol=1 / 16)
    stored = movie.chunk(chunks).niddl.denoise(denoiser, to=tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(stored.values, lazy.values)


@pytest.mark.parametrize(("mode", "depth"), [("2.5d", 3), ("3d", 2)])
def test_networks_of_several_planes_know_their_distance(recording, mode, depth):
    trained = {"voxel_um": {"z": 0.5, "y": 0.4, "x": 0.3}}
    denoiser = with_card(classical("median"), data=trained, mode=mode, depth=depth)
    with pytest.raises(NiddlError, match=r"trained for voxels of 0.5 µm along z, the recording has 1.5 µm: resample"):
        recording.niddl.denoise(denoiser)
    nx.denoise(recording, with_card(denoiser, mode="2d", depth=1))
    nx.denoise(recording, with_card(denoiser, mode="max_projection", depth=1))
