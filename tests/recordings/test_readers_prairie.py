"""Prairie View: truth is what the test wrote into TIFF files, and the XML that it wrote in the published layout."""

from __future__ import annotations

import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.recordings.readers import find_reader
from tests.recordings.samples import tiff as samples

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
T, Z, C, Y, X = samples.T, samples.Z, samples.C, samples.Y, samples.X
VOLUMES = samples.counts(T, Z, C, Y, X)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "TSeries-08032026-001"
    made.mkdir()
    return made


def change(folder, *pairs):
    xml = folder / f"{folder.name}.xml"
    text = xml.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    xml.write_text(text)
    return xml


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("what", ["xml", "folder", "tiff"])
def test_volumes(folder, what, bidirectional, lazily, pickled):
    xml = samples.prairie_volumes(folder, bidirectional=bidirectional)
    tiff = folder / f"{folder.name}_Cycle00002_Ch1_000003.ome.tif"
    path = {"xml": xml, "folder": folder, "tiff": tiff}[what]
    assert find_reader(path) == "prairie"
    with pytest.raises(nx.NiddlError, match=r"has 2 channels: 0 \(Ch1\), 1 \(Ch2\); choose"):
        nx.open_recording(path)
    with lazily:
        recording = nx.open_recording(path, channel="Ch2", chunks=3)
    np.testing.assert_array_equal(recording.values, VOLUMES[:, :, 1])
    np.testing.assert_array_equal(nx.open_recording(path, channel=0).values, VOLUMES[:, :, 0])
    size, values = pickled(recording[1:3, 1:, 2:5])
    np.testing.assert_array_equal(values, VOLUMES[1:3, 1:, 1, 2:5])
    assert size < 20_000


def test_what_the_xml_states(folder):
    recording = nx.open_recording(samples.prairie_volumes(folder), channel="Ch2")
    np.testing.assert_allclose(recording.t, np.arange(T))
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [3, 0.625, 0.5])
    stated = {name: value for name, value in recording.attrs.items() if name != "source"}
    assert stated == {
        "acquired": "2026-08-03T14:35:19",
        "software": "Prairie View 5.5.64.500",
        "objective": "Olympus 20x",
        "magnification": 20.0,
        "numerical_aperture": 0.95,
        "bit_depth": 13,
        "excitation_nm": 920.0,
        "dwell_time_us": 4.0,
        "channels": ["Ch1", "Ch2"],
        "channel": "Ch2",
    }


def test_positions_decide_which_way_the_planes_run(folder):
    """All cycles recorded upwards, as their positions say, though the XML says that they take turns."""
    xml = samples.prairie_volumes(folder, bidirectional=False)
    text = xml.read_text().replace('bidirectionalZ="False"', 'bidirectionalZ="True"')
    pieces = text.split("<PVStateShard /></Frame>")
    for index in range(len(pieces) - 1):
        pieces[index] += (
            '<PVStateShard><PVStateValue key="positionCurrent"><SubindexedValues index="ZAxis"><SubindexedValue '
            f'subindex="0" value="-50" /><SubindexedValue subindex="1" value="{-100 + 3 * (index % Z)}" />'
            "</SubindexedValues></PVStateValue></PVStateShard></Frame>"
        )
    xml.write_text("".join(pieces))
    np.testing.assert_array_equal(nx.open_recording(xml, channel=0).values, VOLUMES[:, :, 0])


def test_one_long_sequence_in_files_of_several_pages(folder, pickled):
    samples.prairie_movie(folder)
    recording = nx.open_recording(folder, chunks=3)
    np.testing.assert_array_equal(pickled(recording)[1][:, 0], samples.counts(7, Y, X))
    np.testing.assert_allclose(recording.t, np.arange(7) * 0.25)
    assert recording.attrs["channel"] == "Ch2"
    change(folder, ('page="3"', 'page="9"'))
    with pytest.raises(nx.NiddlError, match=r"names page 9 of TSeries.*, which has [34]"):
        nx.open_recording(folder)


def test_before_5_1(folder):
    recording = nx.open_recording(samples.prairie_old(folder))
    np.testing.assert_array_equal(recording.values[:, 0], samples.counts(T, Y, X))
    np.testing.assert_allclose(recording.t, np.arange(T) * 0.5)
    np.testing.assert_allclose([float(recording.y[1]), float(recording.x[1])], [0.625, 0.5])


def test_uneven_frames_keep_their_times(folder):
    samples.prairie_movie(folder)
    change(folder, ('absoluteTime="1.75"', 'absoluteTime="1.875"'))
    np.testing.assert_allclose(nx.open_recording(folder).t, [0, 0.25, 0.5, 0.875, 1, 1.25, 1.5])


def test_without_times_the_period_counts(folder):
    samples.prairie_movie(folder)
    text = (folder / f"{folder.name}.xml").read_text()
    (folder / f"{folder.name}.xml").write_text(text.replace("relativeTime=", "r=").replace("absoluteTime=", "a="))
    np.testing.assert_allclose(nx.open_recording(folder).t, np.arange(7) * 0.25)


def test_a_recording_that_was_stopped(folder):
    xml = samples.prairie_volumes(folder)
    missing = f"{folder.name}_Cycle00004_Ch1_000003.ome.tif"
    (folder / missing).unlink()
    with pytest.raises(nx.NiddlError, match=rf"1 file is missing from .*{missing}; put .*gaps='skip'"):
        nx.open_recording(xml, channel=0)
    with pytest.warns(UserWarning, match=rf"{missing}; 1 of 4 frames are left out"):
        recording = nx.open_recording(xml, channel=0, gaps="skip")
    np.testing.assert_array_equal(recording.values, VOLUMES[:3, :, 0])
    np.testing.assert_allclose(recording.t, [0, 1, 2])


def test_a_frame_in_the_middle_is_skipped_and_times_are_kept(folder):
    xml = samples.prairie_volumes(folder)
    (folder / f"{folder.name}_Cycle00002_Ch2_000001.ome.tif").unlink()
    with pytest.warns(UserWarning, match="1 of 4 frames are left out"):
        recording = nx.open_recording(xml, channel=1, gaps="skip")
    np.testing.assert_array_equal(recording.values, VOLUMES[[0, 2, 3], :, 1])
    np.testing.assert_allclose(recording.t, [0, 2, 3])


def test_a_last_volume_of_fewer_planes(folder):
    xml = samples.prairie_volumes(folder)
    text = xml.read_text()
    start = text.index("<Frame", text.index('cycle="4"'))
    end = text.index("</Frame>", text.index("</Frame>", start) + 1) + len("</Frame>")  # two of its three frames
    xml.write_text(text[:start] + text[end:])
    with pytest.raises(nx.NiddlError, match="1 volumes have not the 3 planes of the others, first number 3"):
        nx.open_recording(xml, channel=0)
    with pytest.warns(UserWarning, match="1 of 4 frames are left out"):
        recording = nx.open_recording(xml, channel=0, gaps="skip")
    np.testing.assert_array_equal(recording.values, VOLUMES[:3, :, 0])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("TSeries ZSeries Element", "Linescan", "sequences of the types Linescan"),
        (
            'type="TSeries ZSeries Element" cycle="1"',
            'type="TSeries Timed Element" cycle="1"',
            "of the types TSeries Timed",
        ),
        ("filename=", 'filename="../../secret.tif" old=', "expected one in its own folder, without a path"),
        ('page="1"', 'page="minus one"', "page 'minus one'; expected numbers"),
        ("</PVScan>", "", "is no XML that can be read"),
        ('<?xml version="1.0" encoding="utf-8"?>', '<!DOCTYPE a [<!ENTITY b "c">]>', "is no PVScan of Prairie View"),
        ("<File ", "<Movie ", "lists no image"),
    ],
)
def test_what_is_not_opened(folder, old, new, text):
    xml = samples.prairie_volumes(folder)
    change(folder, (old, new))
    with pytest.raises(nx.NiddlError, match=text):
        nx.open_recording(xml, channel=0)


def test_arguments(folder):
    xml = samples.prairie_volumes(folder)
    with pytest.raises(nx.NiddlError, match="whose XML states its axes; leave out axes="):
        nx.open_recording(xml, channel=0, axes="tzyx")
    with pytest.raises(nx.NiddlError, match="expected gaps as 'error' or 'skip', got 'nan'"):
        nx.open_recording(xml, channel=0, gaps="nan")
    with pytest.raises(nx.NiddlError, match="unknown option series"):
        nx.open_recording(xml, channel=0, series=1)


def test_a_voltage_recording_is_no_image(folder):
    text = '<?xml version="1.0"?><PVScan version="5.3"><Sequence type="VoltageRecording" cycle="1"/></PVScan>'
    (folder / "cell1-001.xml").write_text(text)
    with pytest.raises(nx.NiddlError, match="lists no image; voltage recordings alone are not opened"):
        nx.open_recording(folder / "cell1-001.xml")


def test_a_file_of_another_size_is_named(folder):
    xml = samples.prairie_volumes(folder)
    name = f"{folder.name}_Cycle00003_Ch1_000002.ome.tif"
    samples.write_tiff(folder / name, samples.counts(1, Y, X + 1))
    with pytest.raises(nx.NiddlError, match=rf"{name}.* has the shape \(11, 14\), expected \(11, 13\)"):
        nx.open_recording(xml, channel=0).compute(scheduler="sync")


def test_a_folder_of_two_recordings(folder):
    samples.prairie_movie(folder)
    (folder / f"{folder.name}.xml").rename(folder / "one.xml")
    (folder / "two.xml").write_bytes((folder / "one.xml").read_bytes())
    with pytest.raises(nx.NiddlError, match=r"found 2 \(one\.xml, two\.xml\): open one"):
        nx.open_recording(folder)
    np.testing.assert_array_equal(nx.open_recording(folder / "two.xml").values[:, 0], samples.counts(7, Y, X))


@pytest.mark.parametrize(
    ("old", "new"), [(b'encoding="utf-8"', b'encoding="utf-18"'), (b"<PVScan", b"<!DOCTYPE a><PVScan")]
)
def test_an_unknown_encoding_and_a_document_type_are_refused(tmp_path, old, new):
    path = next(samples.SAMPLES["prairie movie"](tmp_path).glob("*.xml"))
    content = path.read_bytes()
    if old not in content:
        content = b'<?xml version="1.0" encoding="utf-8"?>' + content.split(b"?>", 1)[-1]
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(nx.NiddlError, match=r"no XML that can be read: unknown encoding|is no PVScan of Prairie View"):
        nx.open_recording(path)
