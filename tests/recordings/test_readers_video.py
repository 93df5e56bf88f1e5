"""Movies: truth is what was given to FFmpeg for codecs without loss, else what FFmpeg decodes from first to last."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.recordings.readers import _movie, video
from tests.recordings.samples import video as samples
from tests.recordings.samples.video import moving, noise, write_movie

pytestmark = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
KINDS = {  # file, codec, options: how frames with loss are stored
    "h264": ("a.mp4", "libx264", {"gop": 8, "options": {"bf": "2", "x264-params": "scenecut=0"}}),
    "h264_open": ("a.mkv", "libx264", {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3:scenecut=0"}}),
    "h264_avi": ("a.avi", "libx264", {"gop": 8, "options": {"bf": "3"}}),
    "mpeg2_avi": ("a.avi", "mpeg2video", {"gop": 8, "rate": 25, "options": {"bf": "2"}}),
    "mpeg4": ("a.mp4", "mpeg4", {"gop": 8, "options": {"bf": "2"}}),
    "jpeg": ("a.avi", "mjpeg", {"stored": "yuvj420p"}),
}


def decoded(path, pixels="gray"):
    """Decode a movie from its first to its last frame."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format=pixels) for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "rawvideo", {}),
        ("a.avi", "ffv1", {}),
        ("a.mkv", "ffv1", {"given": "gray16le"}),
        ("a.mkv", "ffv1", {"given": "gray10le"}),
        ("a.mov", "png", {"given": "gray16le", "stored": "gray16be"}),
    ],
)
def test_gray_without_loss(tmp_path, lazily, pickled, name, codec, options):
    deep = options.get("given", "gray") != "gray"
    truth = noise(7, 12, 18, dtype="uint16" if deep else "uint8")
    truth = truth >> 6 if options.get("given") == "gray10le" else truth
    path = write_movie(tmp_path / name, truth, codec, **options)
    with lazily:
        recording = nx.open_recording(path, chunks=3)
    assert recording.dtype == truth.dtype
    assert recording.attrs["bit_depth"] == {"gray10le": 10, "gray16le": 16}.get(options.get("given"), 8)
    size, values = pickled(recording)
    np.testing.assert_array_equal(values[:, 0], truth)
    assert size < 20_000
    np.testing.assert_array_equal(recording[5:1:-2, 0, 3:9, ::4].values, truth[5:1:-2, 3:9, ::4])
    np.testing.assert_allclose(recording.t, np.arange(7) / 20)


@pytest.mark.parametrize("kind", KINDS)
def test_any_frame_is_that_of_decoding_in_order(tmp_path, kind):
    name, codec, options = KINDS[kind]
    path = write_movie(tmp_path / name, moving(30, 32, 48), codec, **{"stored": "yuv420p", **options})
    truth = decoded(path)
    assert truth.shape == (30, 32, 48)
    recording = nx.open_recording(path, chunks=4)
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    order = list(range(30))
    random.Random(4).shuffle(order)
    for frame in order:
        np.testing.assert_array_equal(recording[frame, 0].values, truth[frame], err_msg=str(frame))
    assert np.abs(truth.astype(int) - moving(30, 32, 48)).mean() < 12


def test_a_late_frame_is_sought(tmp_path, monkeypatch):
    options = {"bf": "2", "x264-params": "scenecut=0"}
    path = write_movie(
        tmp_path / "a.mp4", moving(200, 32, 48), "libx264", stored="yuv420p", gop=10, rate=50, options=options
    )
    recording = nx.open_recording(path)
    seen = []
    original = _movie.Decoder._forward
    monkeypatch.setattr(
        _movie.Decoder, "_forward", lambda decoder, number: seen.append(decoder.position) or original(decoder, number)
    )
    recording[163].compute(scheduler="sync")
    assert seen == [160]
    recording[170:180].compute(scheduler="sync")
    assert seen[1:] == list(range(170, 180))  # every frame once


def test_blocks_go_on_where_the_block_before_ended(tmp_path, monkeypatch):
    path = write_movie(tmp_path / "a.mp4", moving(40, 32, 48), "libx264", stored="yuv420p", gop=40)
    recording = nx.open_recording(path, chunks=5)
    opened = []
    original = _movie.open_movie
    monkeypatch.setattr(_movie, "open_movie", lambda path: opened.append(path) or original(path))
    for frame in range(0, 40, 5):
        recording[frame : frame + 5].compute(scheduler="sync")
    assert len(opened) == 1
    assert len(_movie._IDLE) <= _movie._IDLE_DECODERS


def test_threads(tmp_path):
    path = write_movie(tmp_path / "a.mp4", moving(40, 32, 48), "libx264", stored="yuv420p", gop=8)
    truth = decoded(path)
    recording = nx.open_recording(path, chunks=3)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda frame: recording[frame, 0].values, [*range(40), *range(39, -1, -1)]))
    for frame, values in zip([*range(40), *range(39, -1, -1)], results, strict=True):
        np.testing.assert_array_equal(values, truth[frame])


def test_irregular_times(tmp_path):
    recording = nx.open_recording(samples.irregular(tmp_path))
    np.testing.assert_allclose(recording.t, [0, 0.05, 0.1, 0.23, 0.26, 0.3])
    np.testing.assert_array_equal(recording.values[:, 0], noise(6, 12, 18))


def test_colours(tmp_path):
    truth = noise(4, 12, 18, 3)
    path = samples.coloured(tmp_path)
    with pytest.raises(nx.NiddlError, match=r"has 3 channels: 0 \(red\), 1 \(green\), 2 \(blue\); choose one"):
        nx.open_recording(path)
    for number, colour in enumerate(("red", "green", "blue")):
        recording = nx.open_recording(path, channel=colour)
        np.testing.assert_array_equal(recording.values[:, 0], truth[..., number])
        assert recording.attrs["channel"] == colour


def test_gray_stored_as_colour_is_one_channel(tmp_path):
    recording = nx.open_recording(samples.gray_as_rgb(tmp_path))
    np.testing.assert_array_equal(recording.values[:, 0], noise(5, 12, 18))
    assert "channel" not in recording.attrs


def test_a_later_frame_in_colour_is_an_error(tmp_path):
    frames = np.repeat(noise(5, 12, 18)[..., np.newaxis], 3, axis=3)
    frames[3, 4, 5, 1] ^= 1
    path = write_movie(tmp_path / "a.avi", frames, "huffyuv", given="rgb24")
    recording = nx.open_recording(path)
    np.testing.assert_array_equal(recording[:3, 0].values, frames[:3, ..., 0])
    with pytest.raises(nx.NiddlError, match=r"frame 3 of .*a\.avi is in colour, although the first one is not"):
        recording.compute()


def test_luma_of_a_colour_movie_is_the_default(tmp_path):
    path = write_movie(tmp_path / "a.mp4", noise(4, 32, 48, 3), "libx264", given="rgb24", stored="yuv420p")
    with pytest.warns(UserWarning, match="is in colour: its luma is taken; channel= chooses red, green or blue"):
        recording = nx.open_recording(path)
    np.testing.assert_array_equal(recording.values[:, 0], decoded(path))
    blue = nx.open_recording(path, channel="blue")
    np.testing.assert_array_equal(blue.values[:, 0], decoded(path, "rgb24")[..., 2])


def test_a_folder_of_a_miniscope(tmp_path, lazily, pickled):
    session = samples.miniscope(tmp_path)
    with lazily:
        recording = nx.open_recording(session, chunks=3)
    truth = noise(11, 12, 18)
    size, values = pickled(recording)
    np.testing.assert_array_equal(values[:, 0], truth)
    assert size < 20_000
    np.testing.assert_allclose(recording.t, [(50 * frame + 7 * (frame > 5)) / 1000 for frame in range(11)])
    assert recording.attrs["files"] == ["0.avi", "1.avi", "2.avi"]
    np.testing.assert_array_equal(recording[[9, 3, 4], 0].values, truth[[9, 3, 4]])


def test_movies_are_in_the_order_of_their_numbers(tmp_path):
    truth = noise(12, 6, 8)
    for number in range(12):
        write_movie(tmp_path / f"msCam{number}.avi", truth[number : number + 1], "ffv1")
    rows = [f"{camera}\t{frame}\t{frame * 40 + camera}\t1" for frame in range(12) for camera in (0, 1)]
    (tmp_path / "timestamp.dat").write_text("\n".join(["camNum\tframeNum\tsysClock\tbuffer", *rows[:-1]]) + "\n")
    recording = nx.open_recording(tmp_path)
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    np.testing.assert_allclose(recording.t, np.arange(12) * 0.04)  # camera 1 has 11 rows only


def test_irregular_times_of_movies_that_follow_each_other(tmp_path):
    frames = noise(7, 12, 18)
    write_movie(tmp_path / "1.mkv", frames[:4], "ffv1", times=[0, 10, 20, 50])
    write_movie(tmp_path / "2.mkv", frames[4:], "ffv1", times=[0, 30, 40])
    recording = nx.open_recording(tmp_path)
    np.testing.assert_array_equal(recording.values[:, 0], frames)
    np.testing.assert_allclose(recording.t, [0, 0.01, 0.02, 0.05, 0.06, 0.09, 0.1])  # the usual step between them


def test_time_stamps_that_do_not_fit_are_not_used(tmp_path):
    session = samples.miniscope(tmp_path)
    table = (session / "timeStamps.csv").read_text().splitlines()
    (session / "timeStamps.csv").write_text("\n".join(table[:-1]))
    with pytest.warns(
        UserWarning, match="is not used: expected one list of 11 increasing times, got lists of 10 times"
    ):
        recording = nx.open_recording(session)
    np.testing.assert_allclose(recording.t, np.arange(11) / 20)


def test_a_folder_of_several_cameras(tmp_path):
    session = samples.miniscope(tmp_path)
    write_movie(session / "behavCam1.avi", noise(3, 12, 18) // 2, "ffv1")
    with pytest.raises(
        nx.NiddlError, match=r"of 2 cameras: '' \(0\.avi, …\), 'behavCam' \(behavCam1\.avi, …\); choose"
    ):
        nx.open_recording(session)
    with pytest.warns(UserWarning, match="got lists of 11 times"):
        recording = nx.open_recording(session, camera="behavCam")
    np.testing.assert_array_equal(recording.values[:, 0], noise(3, 12, 18) // 2)
    (session / "plane.tif").write_bytes(b"II*")
    assert not video.recognises_folder(session)


def test_a_movie_that_is_cut_short(tmp_path):
    path = samples.raw_gray(tmp_path)
    path.write_bytes(path.read_bytes()[: 5_630 + 4 * 256])
    with pytest.raises(nx.NiddlError, match=r"announces 7 frames and holds \d whole ones; .* gaps='skip' opens those"):
        nx.open_recording(path)
    with pytest.warns(UserWarning, match="announces 7 frames"):
        recording = nx.open_recording(path, gaps="skip")
    kept = recording.sizes["t"]
    assert 1 <= kept < 7
    np.testing.assert_array_equal(recording.values[:, 0], noise(7, 12, 18)[:kept])


def test_a_frame_that_cannot_be_decoded(tmp_path):
    truth = noise(6, 12, 18)
    path = write_movie(tmp_path / "a.mov", truth, "png")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][3]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    recording = nx.open_recording(path)
    for frame in (0, 2, 5):
        np.testing.assert_array_equal(recording[frame, 0].values, truth[frame])
    with pytest.raises(nx.NiddlError, match=r"a\.mov"):
        recording[3].compute()


def test_playlists_are_refused(tmp_path):
    write_movie(tmp_path / "other.mp4", moving(4, 32, 48), "libx264", stored="yuv420p")
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(nx.NiddlError, match=r"a\.mp4 is not a movie that can be read"):
        nx.open_recording(path)


def test_frames_that_grow_in_a_changed_file(tmp_path):
    path = write_movie(tmp_path / "a.avi", noise(3, 12, 18), "ffv1")
    recording = nx.open_recording(path)
    write_movie(path, noise(3, 14, 18), "ffv1")
    with pytest.raises(nx.NiddlError, match="has 14 x 18 pixels, expected 12 x 18 as in the first"):
        recording.compute()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "shape", "dt_s"),
    [("cropped_video.avi", (285, 1, 228, 228), 1 / 25), ("test.avi", (563, 1, 96, 128), 1 / 15)],
)
def test_worms(realdata, name, shape, dt_s):
    path = realdata / "tierpsy_worm" / name
    recording = nx.open_recording(path)
    assert recording.shape == shape
    assert recording.dtype == "uint8"
    truth = decoded(path)
    np.testing.assert_array_equal(recording.values[:, 0], truth)
    for frame in (281, 7, 100):
        np.testing.assert_array_equal(recording[frame, 0].values, truth[frame])
    assert np.abs(truth.astype(int) - decoded(path, "rgb24")[..., 1]).max() <= 1
    assert float(recording.t[1]) == pytest.approx(dt_s)
