"""NWB, read back with h5py and judged by pynwb's validator."""

import json
from datetime import datetime

import h5py
import numpy as np
import pynwb
import pytest

import niddl_xr as nx
from niddl_xr.recordings.export import _blocks, export
from niddl_xr.recordings.export._full_disk import PatientFile
from niddl_xr.schema import HISTORY, NiddlError, make_recording
from tests.recordings.export.conftest import STARTED, movie_of

WHEN = {"session_start_time": STARTED, "progress": False}


def text(dataset: h5py.Dataset) -> list[str]:
    return [item.decode() for item in dataset[:]]


def require_valid(path) -> None:
    assert pynwb.validate(path=str(path)) == []


def test_traces(tmp_path, traces):
    traces["dff"][2, 3] = np.nan
    path = export(traces.drop_vars("state"), tmp_path / "a.nwb", **WHEN)
    require_valid(path)
    with h5py.File(path) as file:
        ophys = file["processing/ophys"]
        np.testing.assert_array_equal(ophys["Fluorescence/F/data"][:], traces.F.values)
        np.testing.assert_array_equal(ophys["Fluorescence/F0/data"][:], traces.F0.values)
        np.testing.assert_array_equal(ophys["DfOverF/dff/data"][:], traces.dff.values)
        assert ophys["Fluorescence/F/data"].attrs["unit"] == "counts"
        assert ophys["Fluorescence/F/starting_time"][()] == 0
        assert ophys["Fluorescence/F/starting_time"].attrs["rate"] == 4
        table = ophys["ImageSegmentation/PlaneSegmentation"]
        assert text(table["neuron"]) == traces.neuron.values.tolist()
        assert text(table["group"]) == traces.group.values.tolist()
        np.testing.assert_array_equal(ophys["DfOverF/dff/rois"][:], np.arange(5))
        plane = file["general/optophysiology/ImagingPlane"]
        assert plane["indicator"][()] == b"unknown"
        assert np.isnan(plane["excitation_lambda"][()])
        assert json.loads(file["general/notes"][()])[0]["verb"] == "simulate.whole_brain"
        assert datetime.fromisoformat(file["session_start_time"][()].decode()) == datetime.fromisoformat(STARTED)


def test_what_the_attributes_state(tmp_path, traces):
    stated = {"indicator": "GCaMP6s", "location": "head", "excitation_nm": 488, "emission_nm": 510, "microscope": "Ti2"}
    traces.attrs |= {**stated, "acquired": STARTED, "description": "a worm"}
    path = export(traces.drop_vars("state"), tmp_path / "a.nwb", progress=False, identifier="w7", lab="ours")
    require_valid(path)
    with h5py.File(path) as file:
        plane = file["general/optophysiology/ImagingPlane"]
        assert (plane["indicator"][()], plane["location"][()]) == (b"GCaMP6s", b"head")
        assert plane["excitation_lambda"][()] == 488
        assert plane["OpticalChannel/emission_lambda"][()] == 510
        assert list(file["general/devices"]) == ["Ti2"]
        assert file["session_description"][()] == b"a worm"
        assert (file["identifier"][()], file["general/lab"][()]) == (b"w7", b"ours")


def test_tracks_are_in_metres_in_the_order_of_nwb(tmp_path, tracks):
    tracks["position"][3, 1] = np.nan
    # A turn of the axes is not its own inverse, as a reversal is.
    turned = tracks.drop_vars("state").sel(space=["y", "z", "x"])
    path = export(turned, tmp_path / "a.nwb", **WHEN)
    require_valid(path)
    with h5py.File(path) as file:
        module = file["processing/tracks"]
        assert len(module["Position"]) == 5
        for number, name in enumerate(tracks.neuron.values):
            data = module[f"Position/neuron_{number}_{name}/data"]
            expected = tracks.position.sel(space=["x", "y", "z"], neuron=name).values
            np.testing.assert_array_equal(data[:], expected)
            assert (data.attrs["unit"], data.attrs["conversion"]) == ("meters", pytest.approx(1e-6))
        np.testing.assert_array_equal(module["observed/data"][:], tracks.observed.values)
        np.testing.assert_array_equal(module["provenance/data"][:], tracks.provenance.values)
        assert "3: manual" in module["provenance"].attrs["description"]
        np.testing.assert_array_equal(module["neurons/radius_um"][:], tracks.radius_um.values)


def test_traces_and_tracks_in_one_file(tmp_path, traces, tracks):
    subject = {"subject_id": "worm7", "species": "Caenorhabditis elegans", "age": "P3D", "sex": "O"}
    with pytest.warns(UserWarning, match="not written to NWB, which has no place for them here: state"):
        path = export(traces, tmp_path / "a.nwb", tracks=tracks.drop_vars("state"), subject=subject, **WHEN)
    require_valid(path)
    with h5py.File(path) as file:
        assert sorted(file["processing"]) == ["ophys", "tracks"]
        assert file["general/subject/species"][()] == b"Caenorhabditis elegans"
    with pynwb.NWBHDF5IO(path, "r") as io:
        read = io.read()
        assert read.processing["ophys"]["DfOverF"]["dff"].rois.table["neuron"][1] == "n002"


def test_uneven_times_are_all_there(tmp_path, traces):
    times = np.array([0.5, 0.75, 1.5, 2.0, 7.125, 8.0])
    uneven = traces.drop_vars("state").assign_coords(t=("t", times, {"units": "s"}))
    path = export(uneven, tmp_path / "a.nwb", **WHEN)
    require_valid(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["processing/ophys/Fluorescence/F/timestamps"][:], times)


@pytest.mark.parametrize(("modality", "kind"), [("one-photon", "OnePhotonSeries"), ("two-photon", "TwoPhotonSeries")])
def test_a_recording_is_t_x_y_z(tmp_path, movie, modality, kind, monkeypatch):
    monkeypatch.setattr(_blocks, "REGION_BYTES", movie[:2].nbytes)
    path = export(movie[1:, :, 3:], tmp_path / "a.nwb", modality=modality, progress=False)
    require_valid(path)
    with h5py.File(path) as file:
        series = file[f"acquisition/{kind}"]
        np.testing.assert_array_equal(series["data"][:], movie.values[1:, :, 3:].transpose(0, 3, 2, 1))
        assert series["dimension"][:].tolist() == [53, 34, 3]
        assert (series["starting_time"][()], series["starting_time"].attrs["rate"]) == (0.25, 4)
        plane = file["general/optophysiology/ImagingPlane"]
        np.testing.assert_allclose(plane["grid_spacing"][:], [0.3e-6, 0.4e-6, 1.5e-6])
        np.testing.assert_allclose(plane["origin_coords"][:], [0, 1.2e-6, 0])
        assert plane["indicator"][()] == b"GCaMP6s"
    reopened = nx.open_recording(path)
    np.testing.assert_array_equal(reopened.values, movie.values[1:, :, 3:])
    np.testing.assert_allclose(reopened.t, movie.t[1:])


def test_a_plane_and_channels(tmp_path, movie):
    plane = export(movie[:, :1], tmp_path / "a.nwb", modality="one-photon", progress=False)
    require_valid(plane)
    with h5py.File(plane) as file:
        data = file["acquisition/OnePhotonSeries/data"][:]
    np.testing.assert_array_equal(data, movie.values[:, 0].transpose(0, 2, 1))
    two = export({"GCaMP": movie, "RFP": movie + 1}, tmp_path / "b.nwb", modality="one-photon", progress=False)
    require_valid(two)
    with h5py.File(two) as file:
        assert sorted(file["acquisition"]) == ["OnePhotonSeries_GCaMP", "OnePhotonSeries_RFP"]
        data = file["acquisition/OnePhotonSeries_RFP/data"][:]
    np.testing.assert_array_equal(data, (movie.values + 1).transpose(0, 3, 2, 1))


def test_nothing_is_invented(tmp_path, traces, movie):
    with pytest.raises(NiddlError, match="which its attributes do not state: set session_start_time="):
        export(traces, tmp_path / "a.nwb")
    with pytest.raises(NiddlError, match="2024-05-01T10:00:00 has no time zone"):
        export(traces, tmp_path / "a.nwb", session_start_time="2024-05-01T10:00:00")
    with pytest.raises(NiddlError, match="as an ISO 8601 time with its zone, .* got 'today'"):
        export(traces, tmp_path / "a.nwb", session_start_time="today")
    with pytest.raises(NiddlError, match="set modality= to one of"):
        export(movie, tmp_path / "a.nwb")
    bare = traces.drop_vars("state").assign_coords(t=("t", np.arange(6), {"units": "frame"}))
    with pytest.raises(NiddlError, match="NWB needs times in s"):
        export(bare, tmp_path / "a.nwb", **WHEN)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_said(tmp_path, traces, tracks, movie):
    tracks, traces = tracks.drop_vars("state"), traces.drop_vars("state")
    with pytest.raises(NiddlError, match="expected subject= as what pynwb.file.Subject takes"):
        export(traces, tmp_path / "a.nwb", subject={"colour": "red"}, **WHEN)
    with pytest.raises(NiddlError, match="tracks= goes with traces, but these are tracks"):
        export(tracks, tmp_path / "a.nwb", tracks=tracks, **WHEN)
    with pytest.raises(NiddlError, match="export the recording by itself"):
        export(movie, tmp_path / "a.nwb", tracks=tracks, modality="one-photon")
    with pytest.raises(NiddlError, match="expected tracks= with the variable position"):
        export(traces, tmp_path / "a.nwb", tracks=traces, **WHEN)
    with pytest.raises(NiddlError, match=r"traces or tracks over \(t, neuron\), got .*'mode': 5"):
        export(traces.rename(neuron="mode"), tmp_path / "a.nwb", **WHEN)
    assert list(tmp_path.iterdir()) == []


def test_the_history_of_a_recording(tmp_path, movie):
    path = export(movie, tmp_path / "a.nwb", modality="one-photon", progress=False)
    with h5py.File(path) as file:
        assert file["general/notes"][()].decode() == movie.attrs[HISTORY]


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_a_recording_without_voxel_size(tmp_path):
    bare = make_recording(movie_of().values, dt_s=0.5)
    path = export(bare, tmp_path / "a.nwb", modality="two-photon", dtype="float32", **WHEN)
    require_valid(path)
    with h5py.File(path) as file:
        assert "grid_spacing" not in file["general/optophysiology/ImagingPlane"]
        assert file["acquisition/TwoPhotonSeries/data"].dtype == "float32"


class Full:
    """A file that takes 10 bytes."""

    def __init__(self, file) -> None:
        self.file = file

    def write(self, block: bytes) -> int:
        room = 10 - self.file.tell()
        if room <= 0:
            raise OSError(28, "No space left on device")
        return self.file.write(block[:room])

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_a_patient_file_holds_what_the_disk_refuses(tmp_path):
    patient = PatientFile(tmp_path / "a")
    patient._file = Full(patient._file)
    written = bytes(range(1, 31))
    assert patient.write(written[:8]) == 8
    patient.require_written()
    assert patient.write(written[8:20]) == 12
    patient.write(written[20:])
    with pytest.raises(OSError, match="No space"):
        patient.require_written()
    buffer = bytearray(40)
    patient.seek(0)
    assert patient.readinto(buffer) == 30
    assert bytes(buffer[:30]) == written
    patient.seek(-4, 2)
    patient.write(b"late")
    patient.seek(24)
    assert patient.readinto(buffer) == 6
    assert bytes(buffer[:6]) == written[24:26] + b"late"
    patient.close()


def test_names_with_signs_that_hdf5_has_not(tmp_path, traces, movie):
    microscope = movie.assign_attrs(microscope="Ti2/E: left")
    channels = {"a/b": microscope, "a:b": microscope + np.uint16(1)}
    path = export(channels, tmp_path / "a.nwb", modality="one-photon", **WHEN)
    require_valid(path)
    with h5py.File(path) as file:
        assert sorted(file["acquisition"]) == ["OnePhotonSeries_a_b", "OnePhotonSeries_a_b_2"]
        np.testing.assert_array_equal(file["acquisition/OnePhotonSeries_a_b/data"][1, 2, 3], movie.values[1, :, 3, 2])
        assert file["acquisition/OnePhotonSeries_a_b_2/data"][1, 2, 3, 0] == movie.values[1, 0, 3, 2] + 1
        assert file["general/devices/Ti2_E_ left"].attrs["description"] == "Ti2/E: left"
    odd = traces.drop_vars("state")[["F"]].rename(F="F/raw")
    with h5py.File(export(odd, tmp_path / "b.nwb", **WHEN)) as file:
        assert list(file["processing/ophys/Fluorescence"]) == ["F_raw"]


def test_what_has_no_place_is_said(tmp_path, traces, tracks):
    speed = (("t", "neuron", "space"), np.zeros((6, 5, 3)))
    more = {"velocity": speed, "kind": (("t", "neuron"), np.full((6, 5), "auto"))}
    with pytest.warns(UserWarning, match="no place for them here: .*velocity, kind"):
        path = export(tracks.assign(more), tmp_path / "a.nwb", **WHEN)
    require_valid(path)
    beside = traces.drop_vars("state").assign_coords(laser=(("t", "neuron"), np.ones((6, 5))))
    with pytest.warns(UserWarning, match="no place for them here: laser"):
        export(beside, tmp_path / "b.nwb", **WHEN)
    with pytest.warns(UserWarning, match="no place for them here: .*velocity"):
        export(traces.drop_vars("state"), tmp_path / "c.nwb", tracks=tracks.assign(velocity=speed), **WHEN)


def test_wrong_options_are_one_clear_error(tmp_path, traces):
    with pytest.raises(NiddlError, match="expected keywords as pynwb.NWBFile takes them: .*'keywords'"):
        export(traces, tmp_path / "a.nwb", keywords=3, **WHEN)
    with pytest.raises(NiddlError, match=r"traces or tracks over \(t, neuron\), got .*'neuron': 0"):
        export(traces.isel(neuron=slice(0)), tmp_path / "a.nwb", **WHEN)
    assert list(tmp_path.iterdir()) == []
