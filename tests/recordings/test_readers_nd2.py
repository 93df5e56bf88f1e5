"""ND2: files written in the published layout, whose truth is what was written, and what the library nd2 reads."""

from __future__ import annotations

import struct

import nd2
import numpy as np
import pytest

import niddl_xr as nx
from tests.recordings.samples import nd2_czi as samples

ignore_missing = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


@ignore_missing
@pytest.mark.parametrize("name", [name for name in samples.SAMPLES if name.startswith("nd2")])
def test_samples_as_the_library_reads_them(tmp_path, lazily, pickled, name):
    path = samples.SAMPLES[name](tmp_path)
    options = samples.OPTIONS.get(name, {})
    with lazily:
        recording = nx.open_recording(path, **options, chunks=2)
    with nd2.ND2File(path) as file:
        truth, axes = file.asarray(), "".join(file.sizes).lower()
    taken = {"nd2_volumes": ("c", 1), "nd2_positions": ("p", 1), "nd2_colour": ("s", 1)}
    if name in taken:
        axis, number = taken[name]
        truth, axes = truth.take(number, axis=axes.index(axis)), axes.replace(axis, "")
    for place, axis in enumerate("tz"):
        if axis not in axes:
            truth, axes = np.expand_dims(truth, place), axes[:place] + axis + axes[place:]
    assert recording.dtype == truth.dtype
    size, values = pickled(recording)
    np.testing.assert_array_equal(values, truth.transpose([axes.index(axis) for axis in "tzyx"]))
    assert size < 20_000


def test_metadata(tmp_path):
    recording = nx.open_recording(samples.nd2_volumes(tmp_path), channel="GFP")
    np.testing.assert_allclose(recording.t, [0.1, 0.2, 0.307])  # of plane z = 0
    assert [float(recording[dim][1]) for dim in "zyx"] == [0.5, 0.25, 0.25]
    assert recording.attrs["acquired"] == "2023-02-25T00:00:00.000+00:00"
    expected = {
        **{"channel": "GFP", "channels": ["GFP", "RFP"], "camera": "Andor Zyla", "objective": "Plan Apo 40x"},
        **{"magnification": 40.0, "numerical_aperture": 0.95, "emission_nm": 509.0, "bit_depth": 16},
    }
    assert {name: recording.attrs[name] for name in expected} == expected


@ignore_missing
def test_rows_and_columns_of_any_slice(tmp_path):
    planes = samples.counts(6, 5, 7, 2)
    path = samples.write_nd2(
        tmp_path / "a.nd2", planes, [samples.time_loop(3, 10.0), samples.z_loop(2, 1.0)], channels=("a", "b"), padding=6
    )
    truth = planes.reshape(3, 2, 5, 7, 2)[..., 1]
    recording = nx.open_recording(path, channel="b")
    np.testing.assert_array_equal(recording[::2, 1, 1:4:2, 5:1:-1].values, truth[::2, 1, 1:4:2, 5:1:-1])
    np.testing.assert_array_equal(recording[[2, 0], :, [4, 1]].values, truth[[2, 0]][:, :, [4, 1]])


@ignore_missing
def test_a_slice_reads_only_its_rows(tmp_path, monkeypatch):
    from niddl_xr.recordings.readers import nd2 as reader

    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(4, 50, 30, 1), [samples.time_loop(4, 10.0)])
    recording = nx.open_recording(path)
    read = []
    original = reader.Nd2Planes._read
    monkeypatch.setattr(
        reader.Nd2Planes, "_read", lambda source, *a: read.append((a[1], *a[3:])) or original(source, *a)
    )
    recording[2, :, 10:13].compute(scheduler="sync")
    assert read == [(2, 10, 13)]


@ignore_missing
def test_positions_are_listed(tmp_path):
    path = samples.nd2_positions(tmp_path)
    with pytest.raises(nx.NiddlError, match=r"has 2 positions: 0 \(head\), 1 \(tail\); choose one with position="):
        nx.open_recording(path)
    with pytest.raises(nx.NiddlError, match=r"no position 'tale'; choose one of 0 \(head\), 1 \(tail\)"):
        nx.open_recording(path, position="tale")
    truth = samples.counts(12, 5, 7, 1)[..., 0].reshape(2, 2, 3, 5, 7)
    for position in (0, 1):
        np.testing.assert_array_equal(nx.open_recording(path, position=position).values, truth[:, position])


@ignore_missing
def test_position_is_the_outer_loop(tmp_path):
    loops = [samples.position_loop(["a", "b"]), samples.time_loop(3, 20.0)]
    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(6, 4, 5, 1), loops)
    truth = samples.counts(6, 4, 5, 1)[..., 0].reshape(2, 3, 4, 5)
    recording = nx.open_recording(path, position="b")
    np.testing.assert_array_equal(recording[:, 0].values, truth[1])
    assert float(recording.t[1]) == 0.02


@ignore_missing
def test_position_is_the_inner_loop(tmp_path):
    loops = [samples.time_loop(2, 20.0), samples.z_loop(3, 1.0), samples.position_loop(["a", "b", "c", "d"])]
    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(24, 4, 5, 1), loops)
    truth = samples.counts(24, 4, 5, 1)[..., 0].reshape(2, 3, 4, 4, 5)
    np.testing.assert_array_equal(nx.open_recording(path, position="c").values, truth[:, :, 2])


@ignore_missing
def test_a_stopped_recording(tmp_path):
    loops = [samples.time_loop(4, 20.0), samples.z_loop(3, 1.0)]
    planes = samples.counts(12, 4, 5, 1)
    path = samples.write_nd2(tmp_path / "a.nd2", planes, loops, without=(4, 10, 11))
    with pytest.raises(
        nx.NiddlError, match=r"lacks 3 of the planes .* plane 4; .* gaps='skip' opens the 2 of 4 frames"
    ):
        nx.open_recording(path)
    with pytest.warns(UserWarning, match="lacks 2 of 4 frames; t keeps the others'"):
        recording = nx.open_recording(path, gaps="skip")
    np.testing.assert_allclose(recording.t, [0, 0.04])
    np.testing.assert_array_equal(recording.values, planes[..., 0].reshape(4, 3, 4, 5)[[0, 2]])


@ignore_missing
def test_no_dye_and_no_experiment(tmp_path):
    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(3, 4, 5, 1))
    recording = nx.open_recording(path)  # as many frames as there are planes
    assert recording.sizes == {"t": 3, "z": 1, "y": 4, "x": 5}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ND2 CHUNK MAP SIGNATURE", b"XX", "the map of its chunks, at its end, is missing"),
        (b"ImageDataSeq|0!", b"ImageDataSeq|7!", "no chunk ImageDataSeq"),
    ],
)
def test_damage(tmp_path, old, new, message):
    path = samples.nd2_plain(tmp_path)
    data = path.read_bytes()
    place = data.rfind(old) if b"MAP" in old else data.find(old)
    path.write_bytes(data[:place] + new + data[place + len(new) :])
    with pytest.raises(nx.NiddlError, match=message):
        nx.open_recording(path)


@ignore_missing
def test_a_file_that_shrinks_gives_an_error(tmp_path):
    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(4, 50, 30, 1), [samples.time_loop(4, 10.0)])
    recording = nx.open_recording(path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(nx.NiddlError, match=r"is cut short"):
        recording.compute()


def test_jpeg_2000_is_refused(tmp_path):
    path = tmp_path / "old.nd2"
    path.write_bytes(struct.pack(">I4sI", 12, b"jP  ", 0x0D0A870A) + bytes(5000))
    with pytest.raises(nx.NiddlError, match="based on JPEG 2000"):
        nx.open_recording(path)


def test_sizes_from_a_header_are_checked(tmp_path):
    path = samples.nd2_plain(tmp_path)
    data = path.read_bytes()
    for name, what in (("uiHeight", "it is damaged"), ("uiWidth", "do not agree; it is damaged")):
        place = data.index((name + "\0").encode("utf-16-le")) + 2 * len(name) + 2
        path.write_bytes(data[:place] + b"\xff\xff\xff\x7f" + data[place + 4 :])
        with pytest.raises(nx.NiddlError, match=what):
            nx.open_recording(path)


@ignore_missing
def test_frames_that_are_missing_leave_their_time(tmp_path):
    for period, unit, step in ((0.0, "frame", 1), (500.0, "s", 0.5)):
        path = samples.write_nd2(
            tmp_path / "a.nd2", samples.counts(6, 5, 7, 1), [samples.time_loop(6, period)], without=[2, 5]
        )
        with pytest.warns(UserWarning, match="lacks 2 of 6 frames; t keeps the others'"):
            recording = nx.open_recording(path, gaps="skip")
        assert recording.t.attrs["units"] == unit
        np.testing.assert_allclose(recording.t, np.array([0, 1, 3, 4]) * step)
        with pytest.warns(UserWarning, match="lacks 2 of 6"):
            assert nx.open_recording(path, gaps="skip", dt_s=2).t.values.tolist() == [0, 2, 6, 8]


def test_a_line_scan_and_the_period_as_measured(tmp_path):
    loop = samples.time_loop(6, 100.0)
    loop["uLoopPars"]["dAvgPeriodDiff"] = 120.0
    planes = {"sPlaneNew": {"i0000000000": {"sDescription": "GFP", "uiCompCount": 1, "uiSampleIndex": 0}}}
    picture = {"bCalibrated": True, "dCalibration": 0.25, "ePictureYAxis": 2, "sPicturePlanes": planes}
    more = {b"ImageMetadataSeqLV|0!": samples.clx({"SLxPictureMetadata": picture})}
    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(6, 5, 7, 1), [loop], more=more)
    with pytest.warns(nx.MissingMetadataWarning, match="voxel size along y "):
        recording = nx.open_recording(path)
    np.testing.assert_allclose(recording.t, 0.12 * np.arange(6))
    assert (recording.x.attrs["units"], recording.y.attrs["units"]) == ("µm", "pixel")


@ignore_missing
def test_a_long_recording_has_a_small_graph(tmp_path, pickled):
    loops = [samples.time_loop(3000, 1.0), samples.z_loop(2, 1.0)]
    path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(6000, 1, 2, 1), loops, packed=True)
    assert pickled(nx.open_recording(path, chunks=500))[0] < 10_000


def test_entities_are_refused(tmp_path):
    for text in (b"<!DOCTYPE a>", "<!DOCTYPE a>".encode("utf-16-le")):
        path = samples.write_nd2(tmp_path / "a.nd2", samples.counts(6, 5, 7, 1), more={b"ImageTextInfoLV!": text})
        with pytest.raises(nx.NiddlError, match=r"chunk ImageTextInfoLV! of .*a\.nd2 defines XML entities: refused"):
            nx.open_recording(path)


@ignore_missing
def test_loops_of_time_around_and_within_positions(tmp_path):
    planes = samples.counts(12, 5, 7, 1)
    loops = [samples.time_loop(2, 900.0), samples.position_loop(["a", "b"]), samples.time_loop(3, 10.0)]
    path = samples.write_nd2(tmp_path / "a.nd2", planes, loops)
    truth = planes[..., 0].reshape(2, 2, 3, 5, 7)
    for position in (0, 1):
        recording = nx.open_recording(path, position=position)
        np.testing.assert_array_equal(recording.values[:, 0], truth[:, position].reshape(6, 5, 7))
        assert recording.t.attrs["units"] == "frame"  # of two periods, none is the step
    volumes = samples.write_nd2(
        tmp_path / "b.nd2", planes, [samples.phases_loop([1, 5], 10.0), samples.z_loop(2, -0.5)]
    )
    recording = nx.open_recording(volumes)
    np.testing.assert_array_equal(recording.values, planes[..., 0].reshape(6, 2, 5, 7))
    assert float(recording.z[1]) == 0.5


@pytest.mark.realdata
@pytest.mark.parametrize("channel", [0, 1])
def test_real_file(realdata, channel):
    path = realdata / "format_nd2_czi_ome" / "cluster.nd2"
    recording = nx.open_recording(path, channel=channel)
    with nd2.ND2File(path) as file:
        truth = file.asarray()[:, :, channel]
        times = file.events(orient="list")["Time [s]"][::10]
        voxel = file.voxel_size()
    np.testing.assert_array_equal(recording.values, truth)
    np.testing.assert_allclose(recording.t, times)
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [voxel.z, voxel.y, voxel.x])
    assert recording.attrs["channel"] == ("5-FAM/pH 9.0", "FM 4-64/2% CHAPS")[channel]
    assert recording.attrs["acquired"].startswith("2014-06-18T13:55:23")
    assert recording.attrs["emission_nm"] == (525.0, 700.0)[channel]
    assert recording.attrs["exposure_s"] == pytest.approx(0.0081)
