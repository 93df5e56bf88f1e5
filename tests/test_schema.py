import re
import warnings

import numpy as np
import pytest
import xarray as xr

from niddl_xr import MissingMetadataWarning, NiddlError
from niddl_xr.schema import (
    HISTORY,
    frame_interval_s,
    history,
    make_recording,
    require_pairs,
    require_recording,
    voxel_mapping,
    voxel_um,
    with_history,
)


def test_coordinates_are_in_um_and_s():
    movie = make_recording(np.zeros((5, 2, 3, 4), "uint16"), voxel_um=(1.5, 0.4, 0.3), dt_s=0.25)
    assert movie.dims == ("t", "z", "y", "x")
    assert movie.t.values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert [movie[d].attrs["units"] for d in movie.dims] == ["s", "µm", "µm", "µm"]
    assert voxel_um(movie) == pytest.approx({"z": 1.5, "y": 0.4, "x": 0.3})
    assert frame_interval_s(movie) == 0.25


def test_missing_metadata_gives_indices_and_names_the_arguments():
    with pytest.warns(MissingMetadataWarning, match=r"voxel_um=.*dt_s="):
        movie = make_recording(np.zeros((5, 2, 3, 4), "uint16"))
    assert movie.x.values.tolist() == [0, 1, 2, 3]
    assert (movie.t.attrs["units"], movie.x.attrs["units"]) == ("frame", "pixel")
    assert voxel_um(movie) == {}
    assert frame_interval_s(movie) is None


def test_a_single_plane_lacks_no_z_spacing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_recording(np.zeros((1, 1, 3, 4)), voxel_um=(None, 0.4, 0.3))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5, 3, 4), {}, r"expected an array \(t, z, y, x\), got 3 dims"),
        ((0, 2, 3, 4), {"voxel_um": (1, 1, 1), "dt_s": 1}, "the recording is empty.*'t': 0"),
        ((5, 2, 3, 4), {"dt_s": 0}, "positive number of seconds, got 0"),
        ((5, 2, 3, 4), {"voxel_um": (1, 1)}, r"three numbers \(z, y, x\)"),
        ((5, 2, 3, 4), {"voxel_um": (1, -1, 1)}, "positive voxel size in µm along y, got -1"),
        ((5, 2, 3, 4), {"voxel_um": {"q": 1}}, r"along z, y, x, got \['q'\]"),
        ((5, 2, 3, 4), {"t_s": np.arange(4)}, "expected 5 finite frame times"),
    ],
)
def test_what_cannot_be_labelled_is_said(shape, options, message):
    with pytest.raises(NiddlError, match=message):
        make_recording(np.zeros(shape), **options)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (np.zeros(3), "expected a recording, a DataArray .* got ndarray; see niddl_xr.open_recording"),
        (xr.DataArray(np.zeros((2, 3)), dims=("y", "x")), r"missing \['t', 'z'\] with expand_dims"),
        (xr.DataArray(np.zeros((2, 3, 4, 5)), dims=("x", "y", "z", "t")), "see DataArray.transpose"),
        (xr.DataArray(np.zeros((2, 3, 4, 5), "c8"), dims=("t", "z", "y", "x")), "got dtype complex64"),
    ],
)
def test_what_is_no_recording_is_refused(thing, message):
    with pytest.raises(NiddlError, match=message):
        require_recording(thing)


def test_what_are_no_pairs_is_refused(tiny_pairs):
    with pytest.raises(NiddlError, match="expected pairs, a Dataset with the variables noisy and clean"):
        require_pairs(tiny_pairs.drop_vars("clean"))
    with pytest.raises(NiddlError, match=re.escape("expected dims ('stack', 'z', 'y', 'x') for noisy")):
        require_pairs(tiny_pairs.transpose("z", "stack", "y", "x"))
    with pytest.raises(NiddlError, match="the pairs are empty"):
        require_pairs(tiny_pairs.isel(stack=slice(0)))


def test_history_grows_and_leaves_the_original_alone(recording):
    once = with_history(recording, "first", {"sigma": 1.5}, denoiser_sha256="abc")
    twice = with_history(once, "second", {})
    assert [entry["verb"] for entry in history(twice)] == ["first", "second"]
    assert history(twice)[0]["parameters"] == {"sigma": 1.5}
    assert history(twice)[0]["denoiser_sha256"] == "abc"
    assert set(history(twice)[1]) == {"verb", "parameters", "version", "time"}
    assert history(recording) == []


@pytest.mark.parametrize("voxel", [("a", 1, 1), {"z": "thick"}, {"y": [1, 2]}])
def test_a_voxel_size_is_a_number(voxel):
    with pytest.raises(NiddlError, match="expected voxel_um as numbers in µm, got"):
        voxel_mapping(voxel)


@pytest.mark.parametrize("stored", ["5", "{}", "not JSON", 5])
def test_a_history_is_a_list(recording, stored):
    with pytest.raises(NiddlError, match="expected attrs.* as a JSON list"):
        history(recording.assign_attrs({HISTORY: stored}))
