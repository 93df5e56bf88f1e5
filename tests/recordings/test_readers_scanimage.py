"""ScanImage: truth is what the test wrote, page by page, in the layout that ScanImage publishes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr.recordings.readers import find_reader
from tests.recordings.samples import tiff as samples

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
T, Z, C, Y, X = samples.T, samples.Z, samples.C, samples.Y, samples.X
VOLUMES = samples.scanimage_pages().reshape(T, Z + 1, C, Y, X)[:, :Z]
ONE_PLANE = {**samples.SCANIMAGE, "SI.hStackManager.enable": "false", "SI.hFastZ.enable": "false"}
ONE_CHANNEL = {"SI.hChannels.channelSave": "1"}


def write(path, pages, changes=None, **options):
    settings = {**samples.SCANIMAGE, **(changes or {})}
    settings = {name: value for name, value in settings.items() if value is not None}
    return samples.write_scanimage(path, pages, settings, **options)


def test_volumes_without_the_flyback(tmp_path, lazily, pickled):
    path = samples.scanimage(tmp_path)
    assert find_reader(path) == "scanimage"
    with lazily:
        green = nx.open_recording(path, channel="Green")
        recording = nx.open_recording(path, channel=1, chunks=3)
    assert recording.dtype == np.int16
    np.testing.assert_array_equal(green.values, VOLUMES[:, :, 0])
    np.testing.assert_array_equal(recording.values, VOLUMES[:, :, 1])
    size, values = pickled(recording[1:3])
    np.testing.assert_array_equal(values, VOLUMES[1:3, :, 1])
    assert size < 20_000


def test_what_the_settings_state(tmp_path):
    recording = nx.open_recording(samples.scanimage(tmp_path), channel=1)
    np.testing.assert_allclose(recording.t, np.arange(T) * (Z + 1) / 30, atol=1e-8)  # of the time stamps
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [4.5, 2, 2])
    stated = {name: value for name, value in recording.attrs.items() if name != "source"}
    assert stated == {
        "software": "ScanImage 2020.1",
        "acquired": "2026-08-03T12:35:19.847000",
        "channels": ["Green", "Channel 3"],
        "channel": "Channel 3",
    }


def test_the_header_is_the_one_that_tifffile_reads(tmp_path):
    with samples.scanimage(tmp_path).open("rb") as file:
        settings, _, version = tifffile.read_scanimage_metadata(file)
    assert version == 4
    assert np.ravel(settings["SI.hChannels.channelSave"]).tolist() == [1, 3]
    with tifffile.TiffFile(tmp_path / "scan_00001.tif") as tif:
        assert tif.is_scanimage
        np.testing.assert_array_equal(tif.asarray(key=slice(None)).squeeze(), samples.scanimage_pages())


def test_settings_behind_the_header_alone(tmp_path):
    path = write(tmp_path / "a.tif", samples.scanimage_pages(), channels=C)
    path.write_bytes(path.read_bytes().replace(b"\x31\x01\x02\x00", b"\x32\x01\x02\x00"))  # Software is another tag
    np.testing.assert_array_equal(nx.open_recording(path, channel=0).values, VOLUMES[:, :, 0])


def test_frames_of_one_plane_though_a_stack_was_set_before(tmp_path):
    pages = samples.counts(7 * C, Y, X, dtype="int16")
    recording = nx.open_recording(write(tmp_path / "a.tif", pages, ONE_PLANE, channels=C), channel=0)
    np.testing.assert_array_equal(recording.values[:, 0], pages[::2])
    np.testing.assert_allclose(recording.t, np.arange(7) / 30, atol=1e-8)


def test_uneven_frames_keep_their_times(tmp_path):
    pages = samples.counts(6, Y, X, dtype="int16")
    write(tmp_path / "scan_00001.tif", pages[:4], {**ONE_PLANE, **ONE_CHANNEL})
    write(tmp_path / "scan_00002.tif", pages[4:], {**ONE_PLANE, **ONE_CHANNEL}, first=9)
    recording = nx.open_recording(tmp_path)
    np.testing.assert_array_equal(recording.values[:, 0], pages)
    np.testing.assert_allclose(recording.t, np.array([0, 1, 2, 3, 9, 10]) / 30, atol=1e-8)


@pytest.mark.parametrize("opened", ["folder", "glob"])
def test_the_files_of_an_acquisition_are_one_recording(tmp_path, opened):
    samples.scanimage_files(tmp_path)
    path = tmp_path if opened == "folder" else f"{tmp_path}/scan_00001_*.tif"
    recording = nx.open_recording(path, channel=1, chunks=1)  # a volume lies in both files
    np.testing.assert_array_equal(recording.values, VOLUMES[:, :, 1])
    np.testing.assert_allclose(recording.t, np.arange(T) * (Z + 1) / 30, atol=1e-8)


def test_files_that_do_not_make_one_acquisition(tmp_path):
    samples.scanimage_files(tmp_path)
    (tmp_path / "scan_00001_00002.tif").rename(tmp_path / "scan_00001_00003.tif")
    with pytest.raises(nx.NiddlError, match=r"scan_00001_00002\.tif; put what is missing back"):
        nx.open_recording(tmp_path)
    with pytest.raises(nx.NiddlError, match=r"scan_00001_00002\.tif; files of ScanImage cannot be skipped"):
        nx.open_recording(tmp_path, gaps="skip")
    write(tmp_path / "scan_00001_00002.tif", samples.scanimage_pages(), ONE_CHANNEL)
    with pytest.raises(nx.NiddlError, match=r"scan_00001_00002\.tif has other channels or slices than"):
        nx.open_recording(tmp_path)
    for name in ("scan_00002_00001.tif", "scan_00002_00002.tif", "scan_00002_00003.tif"):
        write(tmp_path / name, samples.scanimage_pages())
    with pytest.raises(
        nx.NiddlError, match=r"several acquisitions of ScanImage, from scan_00001_00001\.tif to scan_00002"
    ):
        nx.open_recording(tmp_path)


@pytest.mark.parametrize(
    ("changes", "volume"),
    [
        ({"SI.hStackManager.numFramesPerVolumeWithFlyback": None, "SI.hFastZ.numFramesPerVolume": str(Z + 1)}, Z + 1),
        ({"SI.hStackManager.numFramesPerVolumeWithFlyback": None}, Z + 1),  # numDiscardFlybackFrames
        ({"SI.hStackManager.numFramesPerVolumeWithFlyback": str(Z + 2)}, Z + 2),
        (
            {
                "SI.hStackManager.numFramesPerVolumeWithFlyback": None,
                "SI.hFastZ.discardFlybackFrames": "false",
            },
            Z,
        ),
    ],
)
def test_how_versions_state_the_flyback(tmp_path, changes, volume):
    pages = samples.counts(T * volume, Y, X, dtype="int16")
    recording = nx.open_recording(write(tmp_path / "a.tif", pages, {**ONE_CHANNEL, **changes}))
    np.testing.assert_array_equal(recording.values, pages.reshape(T, volume, Y, X)[:, :Z])


def test_frames_of_every_slice_of_a_slow_stack(tmp_path):
    """The order of pages is slice, frame, channel; the first frames of all slices are the first frame."""
    pages = samples.counts(Z, 5, C, Y, X, dtype="int16")
    slow = {"SI.hFastZ.enable": "false", "SI.hStackManager.framesPerSlice": "5"}
    recording = nx.open_recording(write(tmp_path / "a.tif", pages.reshape(-1, Y, X), slow, channels=C), channel=1)
    np.testing.assert_array_equal(recording.values, pages[:, :, 1].swapaxes(0, 1))
    slow["SI.hScan2D.logAverageFactor"] = "5"  # one mean a slice is in the file
    recording = nx.open_recording(write(tmp_path / "b.tif", pages[:, 0].reshape(-1, Y, X), slow, channels=C), channel=1)
    np.testing.assert_array_equal(recording.values, pages[None, :, 0, 1])
    slow["SI.hScan2D.logAverageFactor"] = "2"
    with pytest.raises(nx.NiddlError, match="5 frames a slice and means of 2 frames, .*axes='tzyx' and sizes="):
        nx.open_recording(write(tmp_path / "c.tif", pages.reshape(-1, Y, X), slow), channel=1)


def test_a_recording_that_stopped_within_a_volume(tmp_path):
    pages = samples.scanimage_pages()[: 2 * (Z + 1) * C + 3]
    with pytest.warns(UserWarning, match=r"a\.tif ends within a volume: its last 3 pages are left out"):
        recording = nx.open_recording(write(tmp_path / "a.tif", pages, channels=C), channel=0)
    np.testing.assert_array_equal(recording.values, VOLUMES[:2, :, 0])
    with pytest.warns(UserWarning, match="its last 1 pages are left out"):
        stack = nx.open_recording(write(tmp_path / "b.tif", pages[: 2 * C + 1], channels=C), channel=0)
    np.testing.assert_array_equal(stack.values, VOLUMES[:1, :2, 0])


def test_fields_of_view(tmp_path):
    pages = samples.scanimage_pages()
    degrees = {"SI.hRoiManager.imagingFovUm": None, "SI.hRoiManager.imagingFovDeg": "[-1 -2;1 -2;1 2;-1 2]"}
    recording = nx.open_recording(write(tmp_path / "a.tif", pages, degrees, channels=C), channel=0)
    np.testing.assert_allclose([float(recording.y[1]), float(recording.x[1])], [4 * 15 / Y, 2 * 15 / X])
    several = write(tmp_path / "b.tif", pages, {"SI.hRoiManager.mroiEnable": "true"}, channels=C)
    assert nx.open_recording(several, channel=0).x.attrs["units"] == "pixel"


@pytest.mark.parametrize(("places", "unit"), [("[0 4.5 9]", "µm"), ("[9 4.5 0]", "µm"), ("[0 4.5 30]", "pixel")])
def test_slices_at_places_of_a_list(tmp_path, places, unit):
    path = write(tmp_path / "a.tif", samples.scanimage_pages(), {"SI.hStackManager.zs": places}, channels=C)
    assert nx.open_recording(path, channel=0).z.attrs["units"] == unit


@pytest.mark.parametrize("prefix", ["scanimage.SI.", "scanimage.SI4.", "scanimage.SI5."])
def test_settings_in_the_description_as_before_2016(tmp_path, prefix):
    if prefix == "scanimage.SI.":
        settings = {
            "hChannels.channelSave": "[1;2]",
            "hFastZ.enable": "1",
            "hFastZ.discardFlybackFrames": "1",
            "hFastZ.numDiscardFlybackFrames": "1",
            "hStackManager.numSlices": str(Z),
            "hRoiManager.scanFrameRate": "30",
        }
    else:
        settings = {
            "channelsSave": "[1;2]",
            "fastZEnable": "1",
            "fastZDiscardFlybackFrames": "1",
            "fastZNumDiscardFrames": "1",
            "stackNumSlices": str(Z),
            "scanFrameRate": "30",
        }
    pages = samples.scanimage_pages()
    descriptions = [
        f"Frame Number = {page // C + 1}\nFrame Timestamp(s) = {page // C * 0.05:.6f}\n"
        + "\n".join(f"{prefix}{name} = {value}" for name, value in settings.items())
        for page in range(len(pages))
    ]
    recording = nx.open_recording(samples.write_tiff(tmp_path / "a.tif", pages, descriptions=descriptions), channel=1)
    np.testing.assert_array_equal(recording.values, VOLUMES[:, :, 1])
    np.testing.assert_allclose(recording.t, np.arange(T) * (Z + 1) * 0.05, atol=1e-6)


def test_version_3(tmp_path):
    recording = nx.open_recording(samples.scanimage_3(tmp_path), channel=1)
    np.testing.assert_array_equal(recording.values[:, 0], samples.counts(T * C, Y, X)[1::2])
    np.testing.assert_allclose(recording.t, np.arange(T) * 0.25)
    assert recording.attrs["software"] == "ScanImage 3.8"


def test_axes_take_the_pages_as_they_are(tmp_path):
    path = samples.scanimage(tmp_path)
    recording = nx.open_recording(path, axes="tzcyx", sizes={"z": Z + 1, "c": C}, channel=1)
    np.testing.assert_array_equal(recording.values, samples.scanimage_pages().reshape(T, Z + 1, C, Y, X)[:, :, 1])


def test_a_file_cut_short(tmp_path):
    path = samples.scanimage(tmp_path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(nx.NiddlError, match=r"scan_00001\.tif.*cut short"):
        nx.open_recording(path, channel=0)
