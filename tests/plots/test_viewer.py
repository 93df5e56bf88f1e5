from __future__ import annotations

import warnings

import holoviews as hv
import numpy as np
import panel as pn
import param
import pytest
import xarray as xr

from niddl_xr.plots import view
from niddl_xr.plots.viewer import _Viewer
from niddl_xr.schema import MissingMetadataWarning, NiddlError
from tests.plots.conftest import draw, image_of, options_of, recording_of


@pytest.fixture
def tracks(recording) -> xr.Dataset:
    position = np.empty((5, 2, 3), np.float32)
    position[:, 0] = (0.0, 1.0, 0.5)
    position[:, 1] = (4.0, 2.0, 2.0)
    observed = np.ones((5, 2), bool)
    observed[3, 1] = False
    return xr.Dataset(
        {"position": (("t", "neuron", "space"), position), "observed": (("t", "neuron"), observed)},
        coords={"t": recording.t, "neuron": ["AVAL", "AVAR"], "space": ["z", "y", "x"]},
    )


@pytest.fixture
def traces(recording) -> xr.Dataset:
    dff = np.arange(10.0).reshape(5, 2)
    return xr.Dataset({"dff": (("t", "neuron"), dff)}, coords={"t": recording.t, "neuron": ["AVAL", "AVAR"]})


def viewer_of(recording, denoised=None, tracks=None, traces=None, trace_frames=3, percentiles=(1.0, 99.0)) -> _Viewer:
    recordings = {"raw": recording} | ({} if denoised is None else {"denoised": denoised})
    dff = None if traces is None else traces["dff"]
    return _Viewer(recordings, tracks, dff, percentiles, "grey", trace_frames, 3, 200)


def let_go(slider, value: int) -> None:
    """What the browser does when a slider is let go."""
    with param.edit_constant(slider):
        slider.param.update(value=value, value_throttled=value)


def go_to(viewer: _Viewer, t: int) -> None:
    let_go(viewer.player, t)


def pictures_of(app) -> list:
    return [hv.renderer("bokeh").get_plot(pane.object) for pane in app.select(pn.pane.HoloViews)]


def test_the_app_is_drawn(recording, tracks, traces):
    app = view(recording, recording.astype(np.float32), tracks, traces)
    assert len(pictures_of(app)) == 3
    assert app.select(pn.widgets.Player)[0].end == 4
    assert app.select(pn.widgets.Select)[0].options == ["AVAL", "AVAR"]


def test_opening_reads_the_first_frame_and_a_move_reads_one_more(counted):
    viewer = viewer_of(counted.recording)
    app = viewer.app()
    assert counted.read == []
    pictures = pictures_of(app)
    assert counted.read == [0]
    go_to(viewer, 3)
    assert counted.read == [0, 3]
    assert pictures


def test_dragging_reads_nothing(counted):
    viewer = viewer_of(counted.recording)
    pictures = pictures_of(viewer.app())
    viewer.player.value = 2  # not yet let go
    assert counted.read == [0]
    assert pictures


def test_picture_and_title_follow_frame_and_plane(recording):
    viewer = viewer_of(recording)
    go_to(viewer, 2)
    viewer.maximum.value = False
    let_go(viewer.plane, 2)
    image = image_of(viewer.picture("raw"))
    np.testing.assert_array_equal(np.sort(image.dimension_values("counts")), np.sort(recording.values[2, 2].ravel()))
    assert options_of(image, "plot")["title"] == "raw: t = 1 s, z = 4 µm"
    assert viewer.plane.visible


def test_contrast_is_shared_and_stays_until_it_is_renewed(recording):
    viewer = viewer_of(recording, recording * np.float32(3), percentiles=(0.0, 100.0))
    viewer.maximum.value = False
    first = recording.values[0, 1]
    assert viewer.limits() == (first.min(), 3 * first.max())
    go_to(viewer, 4)
    assert viewer.limits() == (first.min(), 3 * first.max())
    viewer.renew.clicks += 1
    last = recording.values[4, 1]
    assert viewer.limits() == (last.min(), 3 * last.max())


def test_a_tap_reads_the_frames_of_its_trace_alone(counted, recording):
    viewer = viewer_of(counted.recording, trace_frames=3)
    viewer.maximum.value = False
    go_to(viewer, 4)
    (curve,) = viewer.pixel_traces(x=1.0, y=1.5).traverse(lambda found: found, [hv.Curve])
    assert sorted(set(counted.read)) == [2, 3, 4]
    np.testing.assert_array_equal(curve.dimension_values("t"), recording.t.values[2:])
    np.testing.assert_allclose(curve.dimension_values("counts"), recording.values[2:, 1, 2:5, 3:6].mean(axis=(1, 2)))


def test_a_tap_at_the_edge_takes_the_pixels_there_are(recording):
    viewer = viewer_of(recording, trace_frames=99)
    viewer.maximum.value = False
    (curve,) = viewer.pixel_traces(x=-5.0, y=99.0).traverse(lambda found: found, [hv.Curve])
    np.testing.assert_allclose(curve.dimension_values("counts"), recording.values[:, 1, 5:, :2].mean(axis=(1, 2)))


def test_a_tap_on_a_maximum_takes_the_brightest_plane(counts):
    counts[0, 2, 3, 4] = 9000
    viewer = viewer_of(recording_of(counts))
    title = options_of(viewer.pixel_traces(1.0, 1.5).traverse(lambda found: found, [hv.Curve])[0], "plot")["title"]
    assert title == "mean of 3×3 pixels at z 4 µm, y 1.5 µm, x 1 µm"


def test_a_tap_chooses_the_nearest_neuron(recording, tracks, traces):
    viewer = viewer_of(recording, tracks=tracks, traces=traces)
    pictures = pictures_of(viewer.app())
    viewer._taps[0].event(x=1.9, y=2.1)
    assert viewer.neuron.value == "AVAR"
    assert (viewer.where.x, viewer.where.y) == (1.9, 2.1)
    np.testing.assert_array_equal(viewer.neuron_trace("AVAR").dimension_values(1), [1, 3, 5, 7, 9])
    assert pictures


def test_rings_are_of_observed_neurons_near_the_plane(recording, tracks):
    viewer = viewer_of(recording, tracks=tracks)

    def names() -> list[str]:
        return viewer.rings().dimension_values("neuron").tolist()

    assert names() == ["AVAL", "AVAR"]
    go_to(viewer, 3)
    assert names() == ["AVAL"]  # the other is not observed in this frame
    go_to(viewer, 0)
    viewer.maximum.value = False
    let_go(viewer.plane, 2)  # z = 4 µm; the first neuron is two planes away
    assert names() == ["AVAR"]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 4, 5), (2, 1, 4, 5)])
def test_tiny_recordings_are_drawn_and_tapped(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        tiny = recording_of(np.zeros(shape, np.uint16))
    app = view(tiny)
    assert pictures_of(app)
    assert app.select(pn.widgets.Player)[0].visible == (shape[0] > 1)
    draw(viewer_of(tiny).pixel_traces(0.0, 0.0))


def test_the_accessor_is_the_verb(recording):
    import niddl_xr  # noqa: F401

    assert isinstance(recording.niddl.view(denoised=recording), pn.Column)


def test_errors_say_what_was_expected(recording, tracks, traces):
    with pytest.raises(NiddlError, match="expected denoised with the sizes of raw, .*; select the same part"):
        view(recording, recording.isel(t=slice(2)))
    with pytest.raises(
        NiddlError, match=r"expected tracks as a Dataset with position \(t, neuron, space\), got DataAr"
    ):
        view(recording, tracks=tracks["position"])
    with pytest.raises(NiddlError, match="expected tracks of 5 frames, as the recording has, got 2"):
        view(recording, tracks=tracks.isel(t=slice(2)))
    with pytest.raises(NiddlError, match=r"expected traces with the variable dff or F, got \['score'\]"):
        view(recording, traces=traces.rename(dff="score"))
    with pytest.raises(NiddlError, match=r"expected traces with dims \('t', 'neuron'\), got \('t',\)"):
        view(recording, traces=traces["dff"].isel(neuron=0))
    with pytest.raises(NiddlError, match="expected trace_frames of 1 or more, got 0"):
        view(recording, trace_frames=0)
    with pytest.raises(NiddlError, match="expected roi_px of 1 or more, got 0"):
        view(recording, roi_px=0)
    with pytest.raises(NiddlError, match="no palette 'jet'"):
        view(recording, palette="jet")
