"""NWB: truth is what pynwb wrote, or what the tests wrote in the layout of an extension or an older version."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.image import ImageSeries

import niddl_xr as nx
from tests.recordings.samples import nwb as samples

T, Z, Y, X = samples.T, samples.Z, samples.Y, samples.X
ignore_missing = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


def steps(recording):
    return [float(recording[dim][1] - recording[dim][0]) for dim in "zyx" if recording.sizes[dim] > 1]


def test_a_series_of_pynwb(tmp_path, lazily, pickled):
    path = samples.two_photon(tmp_path)
    with lazily:
        recording = nx.open_recording(path)
    truth = samples.counts(T, X, Y).transpose(0, 2, 1)  # (time, width, height) as the schema has it
    assert recording.dtype == np.uint16
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    np.testing.assert_allclose(recording.t, np.arange(T) / 4)
    assert steps(recording) == pytest.approx([0.5, 0.25])
    kept = {name: value for name, value in recording.attrs.items() if name != "source"}
    assert kept == {
        "series": "/acquisition/Movie",
        "acquired": "2026-01-05T10:30:00+00:00",
        "microscope": "Spinning disk: confocal",
        "indicator": "GCaMP6s",
        "location": "head ganglia",
        "excitation_nm": 488.0,
        "emission_nm": 510.0,
        "channels": ["green"],
    }
    size, values = pickled(recording[1:3])
    np.testing.assert_array_equal(values[:, 0], truth[1:3])
    assert size < 20_000


def test_volumes_with_timestamps_stay_counts(tmp_path):
    path = samples.one_photon(tmp_path)
    with pytest.warns(nx.MissingMetadataWarning, match=r"'txyz', the order of the NWB schema; many writers store 'ty"):
        recording = nx.open_recording(path, chunks=2)
    truth = samples.counts(T, X, Y, Z, dtype="float32")
    np.testing.assert_array_equal(recording.values, np.einsum("txyz->tzyx", truth))
    np.testing.assert_allclose(recording.t, 5 + 0.5 * np.arange(T) ** 1.5)
    assert steps(recording) == pytest.approx([2, 0.5, 0.25])
    assert recording.attrs["exposure_s"] == 0.125
    assert (recording.attrs["conversion"], recording.attrs["offset"], recording.attrs["unit"]) == (2, -3, "n.a.")


@ignore_missing
def test_several_series_are_listed(tmp_path):
    path = samples.several(tmp_path)
    with pytest.raises(nx.NiddlError, match=r"has 2 image series; choose one with series=: .*/Corrected \(TwoPhoton"):
        nx.open_recording(path)
    with pytest.raises(nx.NiddlError, match=r"has 0 image series 'None'; its image series: /acquisition/Corrected"):
        nx.open_recording(path, series="None")
    for name, first in (("Raw", 0), ("/acquisition/Corrected", 1)):
        recording = nx.open_recording(path, series=name, axes="tyx")
        np.testing.assert_array_equal(recording.values[:, 0], samples.counts(T, Y, X) + first)
        np.testing.assert_allclose(recording.t, 2 + np.arange(T) / 4)


@pytest.mark.parametrize(
    ("dimension", "shape", "axes"),
    [
        ([X, Y], (T, Y, X), "tyx"),
        ([X, Y], (T, X, Y), "txy"),
        ([X, Y, Z], (T, Z, Y, X), "tzyx"),
        ([Y, X], (T, 5, 5), ""),
    ],
)
def test_the_number_of_pixels_tells_x_from_y(tmp_path, dimension, shape, axes):
    path = tmp_path / "a.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        series = samples.group(file, "acquisition/movie", "TwoPhotonSeries", data=samples.counts(*shape))
        series["dimension"] = dimension
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 4.0
    if not axes:
        with pytest.warns(nx.MissingMetadataWarning, match="the order of the NWB schema"):
            nx.open_recording(path, voxel_um=(1, 1, 1))
        return
    recording = nx.open_recording(path, voxel_um=(1, 1, 1))
    assert [recording.sizes[dim] for dim in "yx"] == [Y, X]
    stored = axes if len(axes) == 4 else axes[0] + axes[1:]
    expected = np.einsum(f"{stored}->{''.join(dim for dim in 'tzyx' if dim in axes)}", samples.counts(*shape))
    np.testing.assert_array_equal(recording.values.squeeze(), expected)


def test_the_layout_of_neuropal(tmp_path):
    path = samples.multichannel(tmp_path)
    with pytest.raises(nx.NiddlError, match=r"2 channels: 0 \(GCaMP\), 1 \(TagRFP\)"):
        nx.open_recording(path)
    recording = nx.open_recording(path, channel="TagRFP")
    truth = samples.counts(T, X, Y, Z, 2)[..., 1]
    np.testing.assert_array_equal(recording.values, np.einsum("txyz->tzyx", truth))
    assert steps(recording) == pytest.approx([2, 0.5, 0.25])
    assert (recording.attrs["excitation_nm"], recording.attrs["emission_nm"]) == (559, 584)
    assert float(recording.t[-1]) == (T - 1) / 2
    still = nx.open_recording(path, series="NeuroPALImageRaw", channel=3)
    np.testing.assert_array_equal(still.values[0], np.einsum("xyz->zyx", samples.counts(X, Y, Z, 4)[..., 3]))


def test_microscopy_series_have_rows_first(tmp_path):
    recording = nx.open_recording(samples.microscopy(tmp_path), dt_s=1)
    np.testing.assert_array_equal(recording.values, np.einsum("tyxz->tzyx", samples.counts(T, Y, X, Z)))
    assert steps(recording) == pytest.approx([2, 0.5, 0.25])
    assert recording.attrs["emission_nm"] == 510


def test_version_1(tmp_path):
    path = samples.version1(tmp_path)
    recording = nx.open_recording(path.rename(tmp_path / "old.h5"))  # known by its content
    np.testing.assert_array_equal(recording.values[:, 0], samples.counts(T, Y, X))
    assert steps(recording) == pytest.approx([0.5, 0.25])
    np.testing.assert_allclose(recording.t, np.arange(T) / 4)


def test_frames_in_other_files(tmp_path):
    nwb = NWBFile(session_description="a worm", identifier="worm7", session_start_time=samples.BEGAN)
    nwb.add_acquisition(
        ImageSeries(
            name="Behaviour",
            external_file=["worm.avi"],
            format="external",
            starting_frame=[0],
            timestamps=np.arange(3.0),
            unit="n.a.",
        )
    )
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwb)
    with pytest.raises(nx.NiddlError, match=r"of /acquisition/Behaviour .* in other files, worm\.avi: find and open"):
        nx.open_recording(tmp_path / "a.nwb")
    (tmp_path / "worm.avi").touch()
    with pytest.raises(nx.NiddlError, match=rf"in other files, worm\.avi: open {tmp_path / 'worm.avi'}"):
        nx.open_recording(tmp_path / "a.nwb")
    with h5py.File(tmp_path / "b.nwb", "w") as file:
        series = samples.group(file, "acquisition/movie", "TwoPhotonSeries")
        series["data"] = h5py.ExternalLink("raw.nwb", "/acquisition/movie/data")
    with pytest.raises(nx.NiddlError, match=r"/acquisition/movie of .*b\.nwb are in other files, raw\.nwb: find"):
        nx.open_recording(tmp_path / "b.nwb")


@ignore_missing
def test_a_camera_in_other_files_beside_the_movie(tmp_path):
    path = samples.two_photon(tmp_path)
    with h5py.File(path, "a") as file:
        behaviour = samples.group(file, "acquisition/Behaviour", "ImageSeries")
        behaviour["external_file"] = np.array([b"worm.avi"])
    assert nx.open_recording(path).attrs["series"] == "/acquisition/Movie"
    with pytest.raises(nx.NiddlError, match=r"of /acquisition/Behaviour .* in other files, worm\.avi"):
        nx.open_recording(path, series="Behaviour")


@pytest.mark.parametrize("shape", [(1, T), (T, 1)])
def test_times_in_a_row_or_a_column(tmp_path, shape):
    times = 3 + np.arange(float(T)) ** 2
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        samples.group(
            file, "acquisition/m", "TwoPhotonSeries", data=samples.counts(T, X, Y), timestamps=times.reshape(shape)
        )
    recording = nx.open_recording(tmp_path / "a.nwb", axes="txy", voxel_um=(1, 1, 1))
    np.testing.assert_array_equal(recording.t, times)


def test_one_plane_of_a_volume_has_two_numbers_of_pixels(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        series = samples.group(file, "acquisition/m", "TwoPhotonSeries", data=samples.counts(T, Y, X, 1))
        series["dimension"] = [X, Y]
    recording = nx.open_recording(tmp_path / "a.nwb", voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(recording.values[:, 0], samples.counts(T, Y, X))


def test_traces_are_no_movie(tmp_path):
    nwb = NWBFile(session_description="a worm", identifier="worm7", session_start_time=samples.BEGAN)
    nwb.add_acquisition(TimeSeries(name="Speed", data=np.arange(9.0), unit="m/s", rate=4.0))
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwb)
    with pytest.raises(
        nx.NiddlError, match=r"holds no movie.*its time series: /acquisition/Speed \(TimeSeries\) \(9,\)"
    ):
        nx.open_recording(tmp_path / "a.nwb")


@pytest.mark.parametrize(
    ("times", "text"),
    [(np.arange(3.0), r"6 frames, but timestamps of shape \(3,\)"), (np.full(T, np.nan), "no numbers")],
)
@ignore_missing
def test_wrong_times_are_left_out(tmp_path, times, text):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        samples.group(file, "acquisition/m", "TwoPhotonSeries", data=samples.counts(T, X, Y), timestamps=times)
    with pytest.warns(nx.MissingMetadataWarning, match=text):
        recording = nx.open_recording(tmp_path / "a.nwb", axes="txy", voxel_um=(1, 1, 1))
    assert recording.t.attrs["units"] == "frame"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("format_nwb/1.0.3_nwbfile.nwb", "its time series: none"),
        ("format_nwb/1.5.1_timeseries_no_data.nwb", r"/acquisition/test_timeseries \(TimeSeries\) without data"),
        ("format_nwb/2.2.0_subject_no_age__reference.nwb", "its time series: none"),
        ("kato2015_states_nwb/WT_Stim.0_states.nwb", r"/acquisition/States \(TimeSeries\) \(2198,\)"),
        ("scholz2018_moving_nwb/AML175_moving_BrainScanner20180223_141721.nwb", r"ss_2D .*\(2244, 2\).* more"),
    ],
)
def test_real_files_without_a_movie(realdata, name, text):
    with pytest.raises(nx.NiddlError, match=rf"holds no movie, no series of images; .*{text}"):
        nx.open_recording(realdata / name)
