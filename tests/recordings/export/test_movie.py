"""Films, decoded with PyAV and with imageio: pictures, pace, sizes, and what stands in them."""

from fractions import Fraction

import av
import dask.array as da
import imageio.v3 as imageio
import numpy as np
import pytest
import xarray as xr

from niddl_xr.recordings.export import _panels, export
from niddl_xr.recordings.export._panels import GAP_PX, grey, layout_of, length_text, picture, round_length_um, time_text
from niddl_xr.schema import NiddlError, make_recording
from tests.recordings.export.conftest import movie_of

PLAIN = {"scale_bar_um": None, "time_stamp": False, "labels": False}


def decoded(path) -> tuple[np.ndarray, av.VideoStream]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(stream)]).astype(int), stream


def steps(frames: int = 4, shape=(3, 32, 64)) -> np.ndarray:
    """Frames of left and right halves, 100 and 200 counts, that brighten by 10 a frame; one plane is brighter."""
    values = np.full((frames, *shape), 100, "uint16")
    values[..., shape[2] // 2 :] = 200
    values += 10 * np.arange(frames, dtype="uint16")[:, None, None, None]
    values[:, 1] += 20
    return values


def labelled(values: np.ndarray, **options) -> xr.DataArray:
    return make_recording(
        da.from_array(values, chunks=(1, *values.shape[1:])), **{"voxel_um": (1, 0.5, 0.5), "dt_s": 0.5, **options}
    )


def test_the_film_shows_the_counts(tmp_path):
    movie = labelled(steps())
    path = export(movie, tmp_path / "a.mp4", limits_counts=(0, 300), progress=False, **PLAIN)
    frames, stream = decoded(path)
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == 20
    assert frames.shape == (4, 256, 512)  # enlarged eight times, up to 512 px
    for number, frame in enumerate(frames):
        for column, counts in ((100, 120), (400, 220)):
            expected = (counts + 10 * number) / 300 * 255
            assert frame[128, column] == pytest.approx(expected, abs=3)


def test_imageio_reads_the_same_frames(tmp_path):
    path = export(labelled(steps()), tmp_path / "a.mp4", limits_counts=(0, 300), progress=False, **PLAIN)
    frames = imageio.imread(path, plugin="pyav")
    assert frames.shape == (4, 256, 512, 3)
    assert frames[0, 128, 100] == pytest.approx([102, 102, 102], abs=3)
    assert imageio.immeta(path, plugin="pyav")["fps"] == 20


def test_a_plane_or_the_maximum_is_shown(tmp_path):
    movie = labelled(steps())
    plane, _ = decoded(export(movie, tmp_path / "a.mp4", z=0, limits_counts=(0, 255), progress=False, **PLAIN))
    last, _ = decoded(export(movie, tmp_path / "b.mp4", z=-2, limits_counts=(0, 255), progress=False, **PLAIN))
    assert plane[0, 128, 100] == pytest.approx(100, abs=3)
    assert last[0, 128, 100] == pytest.approx(120, abs=3)


def test_nan_are_black_and_the_maximum_ignores_them(tmp_path):
    values = steps().astype("float32")
    values[:, 1, :, :32] = np.nan
    values[:, :, :8] = np.nan
    frames, _ = decoded(export(labelled(values), tmp_path / "a.mp4", limits_counts=(0, 255), progress=False, **PLAIN))
    assert frames[0, 128, 100] == pytest.approx(100, abs=3)
    assert frames[0, 30, 100] == pytest.approx(0, abs=3)


def test_panels_stand_side_by_side_with_the_contrast_of_the_first(tmp_path):
    movie = labelled(steps())
    brighter = (movie + 50).astype("float32")
    path = export(movie, tmp_path / "a.mp4", compare={"brighter": brighter}, contrast=(0, 100), progress=False, **PLAIN)
    frames, stream = decoded(path)
    assert (stream.width, stream.height) == (2 * 512 + GAP_PX, 256)
    low, high = 120, 250  # of all frames of the maximum over z
    assert frames[2, 128, 100] == pytest.approx((140 - low) / (high - low) * 255, abs=3)
    assert frames[2, 128, 520 + 100] == pytest.approx((190 - low) / (high - low) * 255, abs=3)
    assert frames[0, 128, 516] == pytest.approx(24, abs=4)  # the gap
    own = {"shared_contrast": False, "contrast": (0, 100), "progress": False, **PLAIN}
    frames, _ = decoded(export({"a": movie, "b": movie + 50}, tmp_path / "b.mp4", **own))
    np.testing.assert_allclose(frames[:, :, :512], frames[:, :, 520:], atol=3)


def test_limits_by_panel(tmp_path):
    movie = labelled(steps())
    limits = {"a": (0, 255), "b": (0, 510)}
    frames, _ = decoded(
        export({"a": movie, "b": movie}, tmp_path / "a.mp4", limits_counts=limits, progress=False, **PLAIN)
    )
    assert frames[0, 128, 100] == pytest.approx(120, abs=3)
    assert frames[0, 128, 620] == pytest.approx(60, abs=3)


def test_speed_is_real_time_and_leaves_frames_out(tmp_path):
    values = np.repeat(np.arange(90, dtype="uint16") * 2, 32 * 32).reshape(90, 1, 32, 32)
    movie = labelled(values, dt_s=0.1)
    frames, stream = decoded(
        export(movie, tmp_path / "a.mp4", speed=2, limits_counts=(0, 255), progress=False, **PLAIN)
    )
    assert (stream.average_rate, len(frames)) == (20, 90)
    frames, stream = decoded(
        export(movie, tmp_path / "b.mp4", speed=15, limits_counts=(0, 255), progress=False, **PLAIN)
    )
    assert (stream.average_rate, len(frames)) == (50, 30)  # 150 a second: every third
    np.testing.assert_allclose(frames[:, 200, 200], np.arange(0, 90, 3) * 2, atol=3)


def test_odd_sizes_become_even_and_large_ones_smaller(tmp_path):
    movie = labelled(np.full((2, 1, 501, 1333), 100, "uint16"))
    _, stream = decoded(export(movie, tmp_path / "a.mp4", progress=False, max_width_px=401))
    assert (stream.width, stream.height) == (402, 150)
    _, stream = decoded(export(movie, tmp_path / "b.mp4", progress=False))
    assert (stream.width, stream.height) == (1334, 502)


def test_pixels_that_are_not_square_are_drawn_in_their_shape(tmp_path):
    movie = labelled(np.full((2, 1, 100, 100), 100, "uint16"), voxel_um=(1, 1.0, 0.5))
    _, stream = decoded(export(movie, tmp_path / "a.mp4", progress=False))
    assert stream.height == 2 * stream.width


def test_a_crop_is_shown(tmp_path):
    movie = labelled(steps())
    crop = {"x": slice(32, 64), "t": slice(1, 3)}
    frames, _ = decoded(export(movie, tmp_path / "a.mp4", crop=crop, limits_counts=(0, 255), progress=False, **PLAIN))
    assert frames.shape[0] == 2
    np.testing.assert_allclose(frames[0], 230, atol=3)


def test_what_is_written_in_the_picture(tmp_path):
    movie = labelled(np.full((3, 1, 128, 128), 0, "uint16"))
    bare, _ = decoded(export(movie, tmp_path / "a.mp4", limits_counts=(0, 10), progress=False, **PLAIN))
    assert bare.max() < 5
    options = {"limits_counts": (0, 10), "progress": False}
    full, _ = decoded(export({"raw": movie}, tmp_path / "b.mp4", **options))
    corners = {"label": full[0, :60, :200], "stamp": full[0, -60:, :200], "bar": full[0, -60:, -200:]}
    assert {name: corner.max() > 200 for name, corner in corners.items()} == dict.fromkeys(corners, True)
    assert full[0, :60, -200:].max() < 5
    # A quarter of 64 µm is 16 µm: the bar has 10 µm, 20 of 128 px, enlarged four times.
    row = full[0, -20] > 128
    runs = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
    assert max(runs[1::2] - runs[::2]) == pytest.approx(80, abs=2)
    assert np.abs(full[0, -60:, :200].astype(int) - full[1, -60:, :200]).max() > 100  # the time has moved on


def test_the_stamp_is_the_time_of_the_frame(monkeypatch, tmp_path):
    written = []
    write = _panels._write
    monkeypatch.setattr(
        _panels, "_write", lambda draw, place, text, *more: (written.append(text), write(draw, place, text, *more))
    )
    export({"raw": labelled(steps())[1:]}, tmp_path / "a.mp4", scale_bar_um=5, progress=False)
    assert written[:3] == ["raw", "0.5 s", "5 µm"]
    assert written[4::3] == ["1.0 s", "1.5 s"]
    written.clear()
    # 240 frames a second are shown every fourth: 0, 4 and 8 of 0.5 s.
    export(labelled(steps(9)), tmp_path / "b.mp4", speed=120, scale_bar_um=None, labels=False, progress=False)
    assert [stamp for stamp in written if stamp] == ["0.0 s", "2.0 s", "4.0 s"]


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_without_units_there_is_no_bar_and_the_number_of_the_frame(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(_panels, "_write", lambda draw, place, text, *more: written.append(text))
    bare = make_recording(steps())
    export(bare, tmp_path / "a.mp4", progress=False)
    assert written[:2] == ["", "frame 0"]
    assert not any("µm" in text for text in written)
    with pytest.raises(NiddlError, match="scale_bar_um= needs a recording that states its voxel size"):
        export(bare, tmp_path / "b.mp4", scale_bar_um=5)
    with pytest.raises(NiddlError, match="speed= needs a recording that states its time step"):
        export(bare, tmp_path / "b.mp4", speed=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"z": 3}, 'expected z as "max" or the index of a plane below 3'),
        ({"fps": 0}, "expected fps as a positive number, at most 60"),
        ({"fps": "20"}, "expected fps as a number, got '20'"),
        ({"speed": -1}, "expected speed as a positive number"),
        ({"speed": "fast"}, "expected speed as a number"),
        ({"limits_counts": ("a", 3)}, "expected limits_counts as a number"),
        ({"crop": {"y": slice(0, 5, 0)}}, "expected crop as slices by dim"),
        ({"crop": {"y": slice(0.5, 5)}}, "expected crop as slices by dim"),
        ({"contrast": (99, 1)}, "expected contrast as two numbers, the lower first"),
        ({"contrast": (0, 200)}, "two percentiles of 0 to 100, .* for counts, limits_counts"),
        ({"limits_counts": {"b": (0, 1)}}, "expected limits_counts for the panels"),
        ({"limits_counts": (3, 3)}, "the lower first"),
        ({"crop": {"c": slice(3)}}, "expected crop as slices by dim"),
        ({"crop": {"y": slice(90, 99)}}, "nothing is left of ''"),
        ({"scale_bar_um": 1e6}, "a length up to 32 µm"),
        ({"max_width_px": 8000}, "max_width_px as a whole number, 64 to 4096"),
        ({"quality": 99}, "quality as a whole number, 0 to 51"),
        ({"compare": {"b": movie_of()}}, "expected 'b' with the sizes"),
        ({"compare": {"recording": labelled(steps())}}, "two panels are called 'recording'"),
    ],
)
def test_mistakes_are_said(tmp_path, options, said):
    with pytest.raises(NiddlError, match=said):
        export(labelled(steps()), tmp_path / "a.mp4", progress=False, **options)


def test_a_build_without_the_encoder_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(NiddlError, match="has no encoder libx264"):
        export(labelled(steps()), tmp_path / "a.mp4", progress=False)


def test_lengths_and_times_in_words():
    assert [round_length_um(width) for width in (400, 399, 79, 12, 0.5)] == [100, 50, 10, 2, 0.1]
    assert [length_text(length) for length in (0.2, 1, 50, 5000)] == ["200 nm", "1 µm", "50 µm", "5 mm"]
    assert [time_text(1.25, step) for step in (10, 0.5, 0.01, 0.002)] == ["1.2 s", "1.2 s", "1.25 s", "1.250 s"]


def test_panels_are_repeated_pixels_or_their_means():
    plane = np.array([[0, 100, 200], [50, 150, 250]], "uint16")
    larger = layout_of(1, 2, 3, 1.0, 6)
    np.testing.assert_array_equal(grey(plane, (0, 255), larger), plane.repeat(2, 0).repeat(2, 1))
    smaller = _panels.Layout(1, 2, 2, 0.5)
    means = np.arange(16, dtype="float32").reshape(4, 4)
    np.testing.assert_array_equal(grey(means, (0, 255), smaller), [[2, 4], [10, 12]])  # 2.5, 4.5, … rounded to even


def test_the_letter_micro_has_a_tail():
    layout = layout_of(1, 200, 200, 1.0, 400)
    with_tail = picture([np.zeros((layout.height, layout.width), np.uint8)], layout, labels=["µ"])
    plain = picture([np.zeros((layout.height, layout.width), np.uint8)], layout, labels=["u"])
    below = (
        np.flatnonzero((with_tail > 128).any(axis=(1, 2))).max() - np.flatnonzero((plain > 128).any(axis=(1, 2))).max()
    )
    assert 3 <= below <= 10


def test_the_pace_is_a_fraction_that_containers_hold(tmp_path):
    movie = labelled(steps(), dt_s=1 / 29.97)
    _, stream = decoded(export(movie, tmp_path / "a.mp4", speed=1, progress=False))
    assert abs(stream.average_rate - Fraction(2997, 100)) < Fraction(1, 100)


@pytest.mark.parametrize("options", [{"fps": 0.0003}, {"speed": 1e-4}])
def test_a_pace_too_slow_for_a_film_is_refused(tmp_path, options):
    with pytest.raises(NiddlError, match=r"that shows 0\.001 frames a second or more"):
        export(labelled(steps()), tmp_path / "a.mp4", progress=False, **options)
    path = export(labelled(steps()), tmp_path / "b.mp4", progress=False, fps=0.01)
    assert decoded(path)[1].average_rate == Fraction(1, 100)


def test_a_clock_that_is_none_stops_no_film(tmp_path):
    broken = labelled(steps()).assign_coords(t=("t", [0, np.nan, 1, 2], {"units": "s"}))
    assert export(broken, tmp_path / "a.mp4", progress=False).is_file()
