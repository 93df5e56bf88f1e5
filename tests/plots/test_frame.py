from __future__ import annotations

import warnings

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from niddl_xr.plots import plot_frame
from niddl_xr.plots._image import bar_length_um
from niddl_xr.plots._planes import contrast
from niddl_xr.schema import MissingMetadataWarning, NiddlError
from tests.plots.conftest import SHAPE, draw, image_of, options_of, recording_of


def pixels(element) -> np.ndarray:
    """Return the drawn pixels, top row first: y points down, so that the largest y is at the bottom."""
    return image_of(element).dimension_values("counts", flat=False)


def test_it_draws_the_plane_that_was_asked_for_first_row_on_top(recording):
    picture = plot_frame(recording, t=2, z=1)
    image = image_of(picture)
    ys = image.dimension_values("y", expanded=False)
    np.testing.assert_allclose(np.sort(ys), recording.y.values)
    np.testing.assert_array_equal(pixels(picture)[np.argsort(ys)], recording.values[2, 1])
    assert options_of(image, "plot")["invert_yaxis"]
    figure = draw(picture)
    assert figure.y_range.start > figure.y_range.end


def test_maximum_over_z_is_the_default(recording):
    image = image_of(plot_frame(recording, t=-1))
    rows = np.argsort(image.dimension_values("y", expanded=False))
    np.testing.assert_array_equal(image.dimension_values("counts", flat=False)[rows], recording.values[4].max(axis=0))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int32"])
def test_pixels_keep_their_dtype_up_to_four_bytes(counts, dtype):
    picture = plot_frame(recording_of(counts.astype(dtype)))
    assert pixels(picture).dtype == (np.float32 if dtype == "float64" else dtype)
    draw(picture)


def test_only_the_frame_that_is_drawn_is_read(counted):
    plot_frame(counted.recording, t=3)
    assert counted.read == [3]


def test_axes_are_in_micrometres_and_title_in_seconds(recording):
    picture = plot_frame(recording, t=3, z=2)
    figure = draw(picture)
    assert (figure.xaxis[0].axis_label, figure.yaxis[0].axis_label) == ("x (µm)", "y (µm)")
    assert figure.title.text == "t = 1.5 s, z = 4 µm, counts"


def test_indices_are_called_frames_and_pixels(counts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        unknown = recording_of(counts, voxel_um=None, dt_s=None)
    figure = draw(plot_frame(unknown, t=3, z=2))
    assert figure.xaxis[0].axis_label == "x (pixel)"
    assert figure.title.text == "frame 3, plane 2, counts"


def test_a_recording_without_coordinates_is_drawn(counts):
    figure = draw(plot_frame(xr.DataArray(counts, dims=("t", "z", "y", "x"))))
    assert figure.title.text == "frame 0, maximum of 3 planes, counts"


def test_proportions_are_those_of_the_voxels(recording):
    figure = draw(plot_frame(recording, edge_px=350))
    # 7 rows of 0.5 µm and 11 columns of 0.25 µm: 3.5 by 2.75 µm.
    assert (figure.frame_height, figure.frame_width) == (350, 275)


def test_a_line_of_pixels_keeps_its_proportions_with_a_margin():
    figure = draw(plot_frame(recording_of(np.ones((2, 1, 1, 400), np.uint16)), edge_px=300))
    um_per_px = (figure.x_range.end - figure.x_range.start) / figure.frame_width
    assert (figure.frame_width, figure.frame_height) == (300, 40)
    assert abs(figure.y_range.end - figure.y_range.start) / figure.frame_height == pytest.approx(um_per_px)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 2), (2, 1, 5, 1)])
def test_tiny_recordings_are_drawn(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        draw(plot_frame(recording_of(np.zeros(shape, np.float32))))


def test_decreasing_coordinates_are_drawn_by_position(recording):
    turned = image_of(plot_frame(recording.isel(y=slice(None, None, -1), x=slice(None, None, -1)), z=0))
    straight = image_of(plot_frame(recording, z=0))
    np.testing.assert_array_equal(turned.dimension_values("counts"), straight.dimension_values("counts"))
    np.testing.assert_array_equal(turned.dimension_values("x"), straight.dimension_values("x"))


def test_contrast_is_that_of_the_percentiles(recording):
    image = image_of(plot_frame(recording, z=0, percentiles=(10, 90)))
    np.testing.assert_allclose(options_of(image, "plot")["clim"], np.percentile(recording.values[0, 0], [10, 90]))


def test_contrast_leaves_nan_out_and_never_is_empty():
    assert contrast(np.array([np.nan, 1.0, 3.0, np.inf]), (0, 100)) == (1.0, 3.0)
    assert contrast(np.full(4, 7.0), (1, 99)) == (7.0, 8.0)
    assert contrast(np.full(4, np.nan), (1, 99)) == (0.0, 1.0)
    assert contrast(np.array([0.0] * 999 + [5.0]), (1, 99)) == (0.0, 5.0)  # one bright pixel is seen
    assert contrast(np.array([-1.0, 4.0]), (0, 100), symmetric=True) == (-4.0, 4.0)
    assert contrast(np.zeros(3), (0, 100), symmetric=True) == (-1.0, 1.0)


def test_differences_have_white_at_zero(recording):
    image = image_of(plot_frame(recording - 210.0, z=0, palette="difference"))
    low, high = options_of(image, "plot")["clim"]
    assert low == -high
    colours = options_of(image, "style")["cmap"]
    assert [min(bytes.fromhex(colour[1:])) > 240 for colour in (colours[0], colours[127], colours[128])] == [
        False,
        True,
        True,
    ]


def test_nan_is_drawn(counts):
    holed = counts.astype(np.float32)
    holed[:, :, 2] = np.nan
    draw(plot_frame(recording_of(holed)))


@pytest.mark.parametrize(("width", "length"), [(51.2, 10), (3.0, 0.5), (8.1, 2), (4000, 1000), (20, 5)])
def test_scale_bar_is_the_longest_round_length_within_a_quarter(width, length):
    assert bar_length_um(width) == pytest.approx(length)


def test_scale_bar_has_its_length_and_lies_inside(recording):
    (bar,) = plot_frame(recording, scale_bar_um=2).traverse(lambda found: found, [hv.Path])
    xs, ys = bar.dimension_values("x"), bar.dimension_values("y")
    assert np.ptp(xs) == pytest.approx(2)
    # The outer edge lies half a voxel beyond the last centre.
    assert -0.125 < xs.min() < xs.max() < 2.5 + 0.125
    assert ys.max() < 3.0 + 0.25
    (label,) = plot_frame(recording, scale_bar_um=2).traverse(lambda found: found, [hv.Labels])
    assert label.dimension_values("label")[0] == "2 µm"


def test_no_scale_bar_where_none_is_wanted_or_the_size_is_unknown(recording, counts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        unknown = recording_of(counts, voxel_um=None)
    for picture in (plot_frame(recording, scale_bar_um=0), plot_frame(unknown)):
        assert picture.traverse(lambda found: found, [hv.Path]) == []
    with pytest.raises(NiddlError, match="expected a recording in µm for a scale bar of 5 µm, its x is in pixel"):
        plot_frame(unknown, scale_bar_um=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t": 5}, r"expected t as a whole number from 0 to 4, got 5; .*sel\(t="),
        ({"t": 1.0}, "expected t as a whole number from 0 to 4, got 1.0"),
        ({"z": 3}, "expected z as a whole number from 0 to 2 or 'max', got 3"),
        ({"z": "mean"}, "expected z as a whole number from 0 to 2 or 'max', got 'mean'"),
        ({"percentiles": (99, 1)}, r"expected percentiles as \(low, high\) with 0 <= low < high <= 100, got \(99, 1\)"),
        ({"percentiles": (1, 2, 3)}, "expected percentiles as"),
        ({"palette": "jet"}, "no palette 'jet'; choose one of grey, viridis, difference"),
        ({"scale_bar_um": 30}, "expected scale_bar_um from 0 to the width of the picture, 2.75 µm, got 30"),
        ({"scale_bar_um": -1}, "expected scale_bar_um from 0"),
        ({"edge_px": 3}, "expected edge_px of at least 40 screen pixels, got 3"),
    ],
)
def test_errors_say_what_was_expected(recording, options, message):
    with pytest.raises(NiddlError, match=message):
        plot_frame(recording, **options)


def test_what_is_no_recording_is_refused():
    with pytest.raises(NiddlError, match="expected dims"):
        plot_frame(xr.DataArray(np.zeros(SHAPE), dims=("z", "t", "y", "x")))


def test_the_accessor_is_the_verb(recording):
    import niddl_xr  # noqa: F401

    np.testing.assert_array_equal(pixels(recording.niddl.plot_frame(t=1)), pixels(plot_frame(recording, t=1)))
