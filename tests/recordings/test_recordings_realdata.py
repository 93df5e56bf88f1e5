"""Real files of many microscopes against what other code reads from them."""

from __future__ import annotations

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile

import niddl_xr as nx

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning", "ignore:.*missing from:UserWarning"),
]
TIFFS = {  # path: options, axes of the file
    "format_tiff_variants/thunder/dot1_grey_lzw.tif": ({}, "yx"),
    "format_tiff_variants/thunder/dotdot_lzw.tif": ({}, "tyx"),
    "format_tiff_variants/thunder/dotdotdot_float32.tif": ({}, "zyx"),
    "format_tiff_variants/thunder/dotdotdot_lzw.tif": ({}, "tyx"),
    "format_tiff_variants/thunder/test_signed.tif": ({}, "tyx"),
    "format_imagej_hyperstacks/xyt_calibrated_16bit__golgi_bfa_sum_projection.tif": ({}, "tyx"),
    "format_imagej_hyperstacks/xyz_8bit__chromosomes.tif": ({}, "zyx"),
    "format_imagej_hyperstacks/xyz_8bit__nuclei_autothresh.tif": ({}, "zyx"),
    "format_imagej_hyperstacks/xyzc_8bit_spheres.tif": ({"channel": 1}, "zcyx"),
    "sima_2p/example.tif": ({}, "tyx"),
    "sima_2p/example-tiffs/1.tif": ({}, "yx"),
}


def as_recording(values, axes):
    """Put an array with these axes, of one channel, into the order t, z, y, x by hand."""
    for axis in "tz":
        if axis not in axes:
            values, axes = values[None], axis + axes
    return np.einsum(f"{axes}->tzyx", values)


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs(realdata, name):
    options, axes = TIFFS[name]
    truth = tifffile.imread(realdata / name)
    if "c" in axes:
        truth, axes = truth.take(options["channel"], axis=axes.index("c")), axes.replace("c", "")
    recording = nx.open_recording(realdata / name, **options)
    assert recording.dtype == truth.dtype
    np.testing.assert_array_equal(recording.values, as_recording(truth, axes))


def test_units_of_imagej(realdata):
    folder = realdata / "format_imagej_hyperstacks"
    movie = nx.open_recording(folder / "xyt_calibrated_16bit__golgi_bfa_sum_projection.tif")
    assert float(movie.t[1]) == 59.86
    assert float(movie.x[1]) == pytest.approx(0.351435, rel=1e-5)
    volume = nx.open_recording(folder / "xyz_8bit__chromosomes.tif")
    assert [float(volume[dim][1]) for dim in "zyx"] == pytest.approx([0.15, 0.0338542, 0.0338542], rel=1e-5)


def test_one_movie_in_two_containers(realdata):
    tiff = nx.open_recording(realdata / "sima_2p" / "example.tif")
    hdf5 = nx.open_recording(realdata / "sima_2p" / "example.h5", axes="yxt")
    np.testing.assert_array_equal(tiff.values, hdf5.values)


def test_volumes_of_two_channels(realdata):
    path = realdata / "sima_2p" / "example-volume.h5"
    recording = nx.open_recording(path, channel=1)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(recording.values, file["imaging"][..., 1])
    assert [float(recording[dim][1]) for dim in "zyx"] == pytest.approx([1, 0.29258788, 0.29386463])


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("792757260_test_data.h5", "input_frames"),
        ("movie_100x100x100.h5", "data"),
        ("dewarping_regression_test_input.h5", "data"),
    ],
)
def test_hdf5(realdata, name, dataset):
    path = realdata / "allen_ophys_2p" / name
    with h5py.File(path) as file:
        np.testing.assert_array_equal(nx.open_recording(path).values[:, 0], file[dataset][...])


@pytest.mark.parametrize("name", ["demix_traces.h5", "neuropil_traces.h5"])
def test_traces_are_no_recording(realdata, name):
    with pytest.raises(nx.NiddlError, match=r"found 0; .* /data \(3, 48160\) float64"):
        nx.open_recording(realdata / "allen_ophys_2p" / name)


def test_npy(realdata):
    found = sorted((realdata / "thunder_fish_mouse").glob("*.npy"))
    assert found
    for path in found:
        recording = nx.open_recording(path)
        np.testing.assert_array_equal(recording.values.squeeze(), np.load(path).squeeze())


@pytest.mark.parametrize("kind", ["whole_brain", "ventral_cord", "mechanosensory"])
@pytest.mark.parametrize("half", ["noisy", "niddl_output"])
def test_numbered_planes_of_niddl(realdata, kind, half):
    folder = realdata / "niddl_samples" / kind / half
    with pytest.raises(nx.NiddlError, match=r"files are missing from .*: X_"):
        nx.open_recording(folder)
    recording = nx.open_recording(folder, gaps="skip")
    numbers = sorted(int(path.stem[2:]) for path in folder.iterdir())
    assert recording.t.values.tolist() == numbers
    for place in (0, len(numbers) - 1):
        path = next(folder.glob(f"X_{numbers[place]}.*"))
        truth = imagecodecs.png_decode(path.read_bytes()) if path.suffix == ".png" else tifffile.imread(path)
        np.testing.assert_array_equal(recording[place, 0].values, truth)


def test_pairs(realdata):
    folder = realdata / "w2s_pairs"
    pairs = nx.open_pairs(folder)
    names = sorted(path.stem for path in (folder / "noisy_avg1").iterdir())
    assert pairs["stack"].values.tolist() == names
    chosen = nx.open_pairs(folder, pattern="*_0.tif")
    assert chosen["stack"].values.tolist() == [name for name in names if name.endswith("_0")]
    for name in (names[0], names[-1]):
        for half, place in (("noisy", "noisy_avg1"), ("clean", "clean_avg400")):
            truth = tifffile.imread(folder / place / f"{name}.tif")
            np.testing.assert_array_equal(pairs[half].sel(stack=name, z=0), truth)
