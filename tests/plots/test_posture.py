from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from niddl_xr.plots import plot_centerline, plot_kymograph
from niddl_xr.posture import make_posture
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw, image_of, options_of

T, S = 5, 7


@pytest.fixture
def posture(recording) -> xr.Dataset:
    """A line in each frame of the recording (t 5, z 3, y 7, x 11), not in frame 3; bends rise from head to tail."""
    line = np.zeros((T, S, 3))
    line[..., 1] = np.linspace(0.5, 2.5, S)
    line[..., 2] = 1.0 + 0.1 * np.arange(T)[:, None]
    bending = np.arange(T)[:, None] + np.linspace(-4, 12, S)
    line[3], bending[3] = np.nan, np.nan
    return make_posture(
        line,
        bending,
        length_um=np.full(T, 2.0),
        quality=np.ones(T),
        reason=["", "", "", "no worm", ""],
        t=("t", recording["t"].values, {"units": "s"}),
        ventral_side="left",
    )


def test_a_kymograph_has_the_head_on_top_and_time_to_the_right(posture):
    image = image_of(plot_kymograph(posture.transpose("s", "t", ...)))
    bending = posture["curvature"]
    for t, s in ((0, 0), (0, 6), (4, 0), (2, 3)):
        assert image[float(bending["t"][t]), float(bending["s"][s])] == pytest.approx(float(bending[t, s]))
    assert np.isnan(image[float(bending["t"][3]), 0.5])
    left, bottom, right, top = image.bounds.lbrt()
    assert (left, right) == pytest.approx((-0.25, 2.25))
    assert (bottom, top) == pytest.approx((-1 / 12, 1 + 1 / 12))
    figure = draw(plot_kymograph(posture))
    assert figure.y_range.start > figure.y_range.end
    assert figure.xaxis[0].axis_label == "time (s)"


def test_colours_are_symmetric_and_sides_are_named_only_where_known(posture):
    size = np.abs(posture["curvature"].values)
    image = plot_kymograph(posture)
    limit = np.percentile(size[np.isfinite(size)], 95)
    assert options_of(image, "plot")["clim"] == pytest.approx((-limit, limit))
    assert draw(image).title.text == "red bends to the ventral side, blue to the dorsal"
    unknown = plot_kymograph(posture.assign_attrs(ventral_side="unknown"))
    assert draw(unknown).title.text == "red bends to the right, blue to the left"
    assert draw(plot_kymograph(posture["curvature"])).title.text == "red bends to the right, blue to the left"
    assert options_of(plot_kymograph(posture, limit_per_mm=3), "plot")["clim"] == (-3, 3)
    colours = options_of(image, "style")["cmap"]
    red, blue = (
        int(colours[-1][1:3], 16) > int(colours[-1][5:], 16),
        int(colours[0][5:], 16) > int(colours[0][1:3], 16),
    )
    assert red
    assert blue


def test_a_gap_in_time_is_as_wide_as_it_was_long(posture):
    lacking = posture.isel(t=[0, 1, 2, 4])
    image = image_of(plot_kymograph(lacking))
    values = image.dimension_values("curvature", flat=False)
    assert values.shape == (S, 5)
    assert np.isnan(values).all(axis=0).tolist() == [False, False, False, True, False]


def test_a_line_over_its_frame(posture, counted):
    overlay = plot_centerline(posture, counted.recording, t=2)
    assert counted.read == [2]
    path = overlay.traverse(lambda found: found, [hv.Path])[0]
    expected = posture["centerline"].sel(space=["x", "y"]).values[2]
    np.testing.assert_allclose(path.split()[0].array(), expected)
    head = overlay.traverse(lambda found: found, [hv.Points])[0]
    np.testing.assert_allclose(head.array(), expected[:1])
    image = image_of(overlay)
    plane = counted.recording.isel(t=2).max("z")
    assert image[float(plane["x"][3]), float(plane["y"][5])] == int(plane[5, 3])
    figure = draw(overlay)
    assert figure.title.text == "t = 1 s"
    assert figure.y_range.start > figure.y_range.end


def test_a_frame_without_a_line_says_why(posture, recording):
    for overlay in (plot_centerline(posture, recording, t=3), plot_centerline(posture, t=-2)):
        assert draw(overlay).title.text == "t = 1.5 s, no worm"
        assert not len(overlay.traverse(lambda found: found, [hv.Points])[0])


def test_the_slider_loads_the_frame_that_is_looked_at(posture, counted):
    slider = plot_centerline(posture, counted.recording)
    assert counted.read == []
    assert slider[4] is not None
    assert counted.read == [4]
    draw(slider)


def test_errors_say_what_was_expected(posture, recording):
    with pytest.raises(NiddlError, match="got NaN alone"):
        plot_kymograph(posture["curvature"] * np.nan)
    with pytest.raises(NiddlError, match=r"expected curvature with dims \('t', 's'\), got \('t',\)"):
        plot_kymograph(posture["length"])
    with pytest.raises(NiddlError, match="expected a posture with curvature"):
        plot_kymograph(posture[["length"]])
    with pytest.raises(NiddlError, match="expected limit_per_mm above 0, got -1"):
        plot_kymograph(posture, limit_per_mm=-1)
    with pytest.raises(NiddlError, match="expected t as a whole number from 0 to 4, got 5"):
        plot_centerline(posture, t=5)
    with pytest.raises(NiddlError, match="the recording has no frame at t = 2"):
        plot_centerline(posture, recording.isel(t=slice(0, 2)), t=4)
    with pytest.raises(NiddlError, match="expected a recording with y in µm"):
        plot_centerline(posture, recording.assign_coords(y=np.arange(7)), t=0)
    with pytest.raises(NiddlError, match="expected a posture with centerline"):
        plot_centerline(posture[["curvature"]])
