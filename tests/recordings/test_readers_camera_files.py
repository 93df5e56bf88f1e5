"""SPE, SEQ and ICS: truth is arrays written in the published layout, and a frame that another library read."""

from __future__ import annotations

import numpy as np
import pytest

import niddl_xr as nx
from tests.recordings.samples import camera_files as samples
from tests.recordings.samples.camera_files import counts, write_ics, write_seq, write_spe, write_spe3

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_spe(tmp_path, lazily, pickled, dtype):
    truth = counts(5, 6, 9, dtype=dtype)
    with lazily:
        recording = nx.open_recording(write_spe(tmp_path / "a.spe", truth, comment=b"worm 7"), chunks=2)
    size, values = pickled(recording)
    np.testing.assert_array_equal(values[:, 0], truth)
    assert values.dtype == truth.dtype
    assert size < 20_000
    assert recording.attrs["exposure_s"] == 0.05
    assert recording.attrs["acquired"] == "2021-03-03T11:22:33"
    assert recording.attrs["description"] == "worm 7"
    np.testing.assert_array_equal(recording[3:0:-1, 0, 1:5:2, 2:].values, truth[3:0:-1, 1:5:2, 2:])


def test_spe_is_recognised_by_content(tmp_path):
    path = samples.spe(tmp_path)
    other = path.rename(tmp_path / "frames.dat")
    np.testing.assert_array_equal(nx.open_recording(other).values[:, 0], counts(5, 6, 9))


def test_lightfield(tmp_path):
    recording = nx.open_recording(samples.spe3(tmp_path))
    np.testing.assert_array_equal(recording.values[:, 0], counts(4, 6, 9))
    np.testing.assert_allclose(recording.t, [1e-4, 0.0501, 0.1001, 0.1701])
    assert recording.attrs["acquired"] == "2022-05-06T07:08:09.5+02:00"
    two = write_spe3(tmp_path / "two.spe", counts(4, 6, 9), [1, 2, 3, 4], regions=2)
    with pytest.raises(nx.NiddlError, match="has 2 regions of interest; expected one"):
        nx.open_recording(two)


def test_lightfield_whose_xml_makes_no_sense(tmp_path):
    data = samples.spe3(tmp_path).read_bytes()
    for new, text in (
        (b'<?xml version="1.0" encoding="utf-9"?><SpeFormat', "XML of .* is damaged: unknown encoding"),
        (b"<!DOCTYPE SpeFormat><SpeFormat", "XML of .* defines XML entities: refused"),
    ):
        (tmp_path / "a.spe").write_bytes(data.replace(b"<SpeFormat", new))
        with pytest.raises(nx.NiddlError, match=text):
            nx.open_recording(tmp_path / "a.spe")


def test_seq_whose_last_time_stamp_is_cut_off(tmp_path):
    path = samples.seq(tmp_path)
    path.write_bytes(path.read_bytes()[: 8192 + 3 * 512 + 6 * 9 + 7])
    recording = nx.open_recording(path)
    np.testing.assert_array_equal(recording.values[:, 0], counts(4, 6, 9, dtype="uint8"))
    np.testing.assert_allclose(recording.t, [0, 0.04, 0.08, 0.12])  # by the frames per s of the header


def test_lightfield_finds_its_time_stamp(tmp_path):
    data = samples.spe3(tmp_path).read_bytes()
    stamp = b'TimeStamp event="ExposureStarted" type="Int64" bitDepth="64"'
    number = b'FrameTrackingNumber type="Int32" bitDepth="32"'
    moved = data.replace(stamp, number).replace(b"ExposureEnded", b"ExposureStarted")
    (tmp_path / "a.spe").write_bytes(moved)
    times = np.array([140, 50_140, 100_140, 170_140]) * 2.0**32 / 1e6  # 4 bytes behind: the low half of the second one
    np.testing.assert_allclose(nx.open_recording(tmp_path / "a.spe").t, times)
    for old, new in ((b'type="Int64"', b'type="Double"'), (b'resolution="1000000"', b'resolution="0"')):
        (tmp_path / "a.spe").write_bytes(data.replace(old, new))
        assert nx.open_recording(tmp_path / "a.spe").t.attrs["units"] == "frame"


def test_seq_without_a_rate(tmp_path):
    path = write_seq(tmp_path / "a.seq", counts(3, 4, 5, dtype="uint8"))
    data = bytearray(path.read_bytes())
    data[584:592] = bytes(8)
    path.write_bytes(data)
    assert nx.open_recording(path).t.attrs["units"] == "frame"


@pytest.mark.parametrize("version", [3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_seq(tmp_path, lazily, pickled, version, dtype):
    truth = counts(4, 6, 9, dtype=dtype)
    times = [(1_600_000_000 + k, 5 * k, 7 * k) for k in range(4)]
    with lazily:
        recording = nx.open_recording(write_seq(tmp_path / "a.seq", truth, version=version, times=times), chunks=3)
    size, values = pickled(recording)
    np.testing.assert_array_equal(values[:, 0], truth)
    assert size < 20_000
    np.testing.assert_allclose(recording.t, [k * 1.005007 for k in range(4)], atol=1e-6)
    assert recording.attrs["acquired"] == "2020-09-13T12:26:40.000+00:00"
    np.testing.assert_array_equal(recording[::3, 0, 2:4].values, truth[::3, 2:4])


def test_seq_without_time_stamps_and_in_colour(tmp_path):
    truth = counts(3, 4, 5, 3, dtype="uint8")
    recording = nx.open_recording(samples.seq_colour(tmp_path), channel="red")
    np.testing.assert_array_equal(recording.values[:, 0], truth[..., 2])
    np.testing.assert_allclose(recording.t, [0, 0.04, 0.08])
    packed = write_seq(tmp_path / "b.seq", truth[..., 0], kind=102)
    with pytest.raises(nx.NiddlError, match="holds JPEG; expected raw frames"):
        nx.open_recording(packed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<i2", ">f4", "<f8"])
def test_ics(tmp_path, lazily, pickled, version, packed, dtype):
    truth = counts(4, 6, 5, dtype=np.dtype(dtype).newbyteorder("=").name)
    order, scale, units = ["x", "y", "z"], [0.25, 0.5, 1.5], ["micrometers", "um", "nm"]
    path = write_ics(
        tmp_path / "a.ics",
        truth.astype(dtype),
        order,
        version=version,
        packed=packed,
        scale=scale,
        units=units,
    )
    with lazily:
        recording = nx.open_recording(path, chunks={"z": 3})
    assert recording.dtype == truth.dtype
    size, values = pickled(recording)
    np.testing.assert_array_equal(values[0], truth)
    assert size < 20_000
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [0.0015, 0.5, 0.25])
    np.testing.assert_array_equal(recording[0, 3:1:-1, 2:, 1::2].values, truth[3:1:-1, 2:, 1::2])


def test_ics_of_many_dims(tmp_path):
    recording = nx.open_recording(samples.ics1(tmp_path), channel=1)
    np.testing.assert_array_equal(recording.values, counts(2, 3, 4, 6, 5)[1])
    np.testing.assert_allclose(recording.t, [0, 0.2, 0.4])
    assert recording.attrs["emission_nm"] == 610
    interleaved = counts(3, 6, 5, 2)
    path = write_ics(tmp_path / "b.ics", interleaved, ["ch", "x", "y", "t"])
    np.testing.assert_array_equal(nx.open_recording(path, channel=1).values[:, 0], interleaved[..., 1])
    odd = write_ics(tmp_path / "c.ics", counts(3, 6, 5), ["x", "y", "lifetime"])
    with pytest.raises(nx.NiddlError, match="has the dims bits x y lifetime; expected each of x, y, z, t, ch"):
        nx.open_recording(odd)


def test_ics_packed_is_read_forwards_once(tmp_path, monkeypatch):
    from niddl_xr.recordings.readers import ics

    recording = nx.open_recording(samples.ics2_packed(tmp_path), chunks=2)
    opened = []
    original = ics.gzip.GzipFile
    monkeypatch.setattr(ics.gzip, "GzipFile", lambda **options: opened.append(1) or original(**options))
    for frame in (0, 2, 4):
        recording[frame : frame + 2].compute(scheduler="sync")
    assert len(opened) == 1
    np.testing.assert_array_equal(recording[1, 0].values, counts(7, 6, 5)[1])  # from the start again
    assert len(opened) == 2


def test_ics_never_leaves_its_folder(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    truth = counts(4, 6, 5)
    (tmp_path / "counts.dat").write_bytes(bytes(3) + truth.tobytes())
    path = write_ics(folder / "a.ics", truth, ["x", "y", "z"], source="../counts.dat")
    np.testing.assert_array_equal(nx.open_recording(path).values[0], truth)
    (folder / "counts.dat").unlink()
    with pytest.raises(FileNotFoundError, match=r"keeps its counts in counts\.dat, which is not beside it"):
        nx.open_recording(path)


@pytest.mark.parametrize("name", ["spe", "spe3", "seq", "ics1", "ics2_packed"])
def test_truncation(tmp_path, name):
    path = samples.SAMPLES[name](tmp_path)
    cut = path.with_suffix(".ids") if name == "ics1" else path
    data = cut.read_bytes()
    for kept in (len(data) - 600, len(data) * 3 // 4, 30):
        if kept > 0:
            cut.write_bytes(data[:kept])
            with pytest.raises(nx.NiddlError, match=rf"{cut.name}.*(cut short|can be read|copy it again)"):
                nx.open_recording(path, **samples.OPTIONS.get(name, {})).compute()


@pytest.mark.realdata
def test_real_spe(realdata):
    folder = realdata / "format_nd2_czi_ome"
    recording = nx.open_recording(folder / "spestack_test.spe")
    assert recording.shape == (5, 1, 128, 128)
    np.testing.assert_array_equal(recording.values[0, 0], np.load(folder / "spestack_test_frame0.npy"))
    assert recording.attrs["acquired"] == "2015-07-22T09:40:18"


@pytest.mark.realdata
def test_real_seq(realdata):
    path = realdata / "format_nd2_czi_ome" / "sample_norpix6.seq"
    recording = nx.open_recording(path)
    raw = np.fromfile(path, "u1", offset=8192).reshape(6, 8192)[:, : 32 * 36].reshape(6, 1, 32, 36)
    np.testing.assert_array_equal(recording.values, raw)
    assert np.all((np.diff(recording.t) > 0.03) & (np.diff(recording.t) < 0.04))
    assert recording.attrs["acquired"].startswith("2015-07-01T18:41:15.775")


@pytest.mark.realdata
def test_real_ics_without_its_counts(realdata):
    path = realdata / "format_imagej_hyperstacks" / "xyzct_16bit__mitosis.ics"
    with pytest.raises(FileNotFoundError, match=r"keeps its counts in xyzct_16bit__mitosis\.ids, which is not beside"):
        nx.open_recording(path)
