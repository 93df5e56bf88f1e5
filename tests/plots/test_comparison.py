from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
from bokeh.plotting import figure as Figure

from niddl_xr.plots import plot_comparison
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw, options_of


def images_of(layout) -> list[hv.Image]:
    return layout.traverse(lambda found: found, [hv.Image])


def limits_of(layout) -> list[tuple[float, float]]:
    return [options_of(image, "plot")["clim"] for image in images_of(layout)]


def titles_of(layout) -> list[str]:
    return [options_of(image, "plot")["title"] for image in images_of(layout)]


def figures_of(layout) -> list[Figure]:
    return list(draw(layout).select({"type": Figure}))


@pytest.fixture
def brighter(recording):
    return (recording * 2.0).astype(np.float32)


def test_pictures_stand_in_the_order_given_under_their_names(recording, brighter):
    layout = plot_comparison(recording, denoised=brighter, truth=recording, t=1, z=0)
    assert titles_of(layout) == ["raw", "denoised", "truth"]
    shown = [np.sort(image.dimension_values("counts")) for image in images_of(layout)]
    expected = [np.sort(movie.values[1, 0].ravel()) for movie in (recording, brighter, recording)]
    for pixels, values in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(pixels, values)
    assert len(figures_of(layout)) == 3


def test_a_mapping_gives_any_names(recording, brighter):
    assert titles_of(plot_comparison({"before training": recording, "t": brighter})) == ["before training", "t"]
    assert titles_of(plot_comparison(recording, after=brighter, label="before")) == ["before", "after"]


def test_shared_contrast_spans_the_percentiles_of_all(recording, brighter):
    layout = plot_comparison(recording, denoised=brighter, t=2, z=1, percentiles=(5, 95))
    plane = recording.values[2, 1]
    expected = np.percentile(plane, 5), np.percentile(2.0 * plane, 95)
    for limits in limits_of(layout):
        np.testing.assert_allclose(limits, expected)
    title = options_of(layout, "plot")["title"]
    assert title == f"t = 1 s, z = 2 µm; all from {expected[0]:,.0f} to {expected[1]:,.0f} counts"


def test_own_contrast_is_stated_above_each_picture(recording, brighter):
    layout = plot_comparison(recording, denoised=brighter, z=1, percentiles=(5, 95), contrast="own")
    low, high = np.percentile(recording.values[0, 1], [5, 95])
    np.testing.assert_allclose(limits_of(layout), [(low, high), (2 * low, 2 * high)])
    assert titles_of(layout)[1] == f"denoised: {2 * low:,.0f} to {2 * high:,.0f} counts"
    assert options_of(layout, "plot")["title"] == "t = 0 s, z = 2 µm"


def test_a_window_shows_its_pixels_alone(recording):
    (image,) = images_of(plot_comparison({"raw": recording}, z=0, y=(0.5, 1.5), x=(1.0, 1.3)))
    rows = np.argsort(image.dimension_values("y", expanded=False))
    np.testing.assert_array_equal(image.dimension_values("counts", flat=False)[rows], recording.values[0, 0, 1:4, 4:6])


def test_whole_planes_stand_above_their_windows_and_are_not_linked(recording, brighter):
    layout = plot_comparison(recording, denoised=brighter, y=(0.5, 1.5), x=(1.0, 2.0), whole=True)
    figures = figures_of(layout)
    assert len(figures) == 4
    widths = sorted(round(abs(one.x_range.end - one.x_range.start), 6) for one in figures)
    assert widths == [1.25, 1.25, 2.75, 2.75]
    assert len({id(one.x_range) for one in figures}) == 2  # those of a row are linked
    assert len(set(limits_of(layout))) == 1
    outlines = [path for path in layout.traverse(lambda found: found, [hv.Path]) if len(path.dimension_values(0)) > 2]
    for outline in outlines:
        assert np.ptp(outline.dimension_values(0)) == pytest.approx(1.25)
    assert len(outlines) == 2


def test_one_frame_of_each_is_read(counted, recording):
    plot_comparison(counted.recording, other=recording, t=4, y=(0, 1), whole=True)
    assert counted.read == [4]


def test_nothing_is_read_where_the_arguments_are_wrong(counted, recording):
    with pytest.raises(NiddlError):
        plot_comparison(counted.recording, other=recording, y=(90, 95))
    assert counted.read == []


@pytest.mark.parametrize("number", [1, 4, 5])
def test_any_number_of_recordings_is_drawn(recording, number):
    assert len(figures_of(plot_comparison({f"movie {k}": recording for k in range(number)}))) == number


def test_pairs_are_compared_by_stack(recording):
    names = [f"worm {k}" for k in range(5)]
    stacks = recording.assign_coords(t=names)
    assert options_of(plot_comparison(noisy=stacks, recordings={}, t=3), "plot")["title"].startswith("worm 3, maximum")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": "best"}, "no contrast 'best'; choose one of shared, own"),
        ({"y": (90, 95)}, r"expected y as \(start, stop\) inside 0 to 3 µm, got \(90, 95\), which holds no pixel"),
        ({"x": (2, 1)}, r"expected x as \(start, stop\) in µm with start < stop, got \(2, 1\)"),
        ({"zoom": 3}, "expected recordings, got int under the name zoom; options are t, z, y, x, whole"),
        ({"t": 7}, "expected t as a whole number from 0 to 4, got 7"),
        ({"palette": "jet"}, "no palette 'jet'"),
    ],
)
def test_errors_say_what_was_expected(recording, options, message):
    with pytest.raises(NiddlError, match=message):
        plot_comparison(recording, **options)


def test_recordings_have_to_fit_together(recording):
    with pytest.raises(NiddlError, match=r"expected recordings of one shape, got \{'raw': \{.*select the same part"):
        plot_comparison(recording, denoised=recording.isel(x=slice(4)))
    with pytest.raises(NiddlError, match="two recordings are called raw; name the first with label="):
        plot_comparison(recording, raw=recording)
    with pytest.raises(NiddlError, match="expected a recording or a mapping of names to recordings, got list"):
        plot_comparison([recording])
    with pytest.raises(NiddlError, match="expected a recording or a mapping"):
        plot_comparison({})
