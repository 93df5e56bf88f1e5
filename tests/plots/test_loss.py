from __future__ import annotations

from types import SimpleNamespace

import holoviews as hv
import numpy as np
import pytest
from bokeh.models import LogScale
from bokeh.plotting import figure as Figure

from niddl_xr.plots import plot_loss
from niddl_xr.schema import NiddlError
from tests.plots.conftest import draw


def trained(rows, **card):
    return SimpleNamespace(card={"method": "niddl", "training": {"curve": rows}, **card})


def row(epoch, training, validation=None):
    losses = {"training_loss": training} | ({} if validation is None else {"validation_loss": validation})
    return {"epoch": float(epoch), "seconds": 7.0 * epoch, **losses}


CURVE = [row(1, 0.5, 0.6), row(2, 0.3, 0.2), row(3, 0.1, 0.25)]


def kept_of(layout) -> list[tuple[float, float]]:
    return [
        (points.dimension_values(0)[0], points.dimension_values(1)[0])
        for points in layout.traverse(lambda found: found, [hv.Scatter])
        if points.label == "kept"
    ]


def test_both_losses_are_drawn_over_epochs_and_over_seconds():
    curves = plot_loss(trained(CURVE)).traverse(lambda found: found, [hv.Curve])
    drawn = {(curve.kdims[0].name, curve.label): curve.data for curve in curves}
    expected = {"training": [0.5, 0.3, 0.1], "validation": [0.6, 0.2, 0.25]}
    for (axis, label), points in drawn.items():
        xs, ys = np.asarray(points).T
        np.testing.assert_allclose(xs, np.array([1, 2, 3]) * (7 if axis == "seconds" else 1))
        np.testing.assert_allclose(ys, expected[label])
    assert len(drawn) == 4


def test_the_epoch_of_the_lowest_validation_loss_is_marked():
    layout = plot_loss(trained(CURVE))
    assert kept_of(layout) == [(2.0, 0.2), (14.0, 0.2)]
    titles = {figure.title.text for figure in draw(layout).select({"type": Figure})}
    assert titles == {"kept: epoch 2, validation loss 0.2", "21 s of training"}


def test_without_validation_the_training_loss_decides():
    layout = plot_loss(trained([row(1, 0.5), row(2, 0.3), row(3, 0.4)]))
    assert kept_of(layout) == [(2.0, 0.3), (14.0, 0.3)]
    draw(layout)


def test_a_single_epoch_is_drawn():
    draw(plot_loss(trained([row(1, 0.5, 0.4)])))


@pytest.mark.parametrize(("lowest", "logarithmic"), [(0.1, True), (0.0, False), (float("nan"), False)])
def test_the_loss_is_logarithmic_where_it_can_be(lowest, logarithmic):
    figures = draw(plot_loss(trained([row(1, 0.5, 0.4), row(2, lowest, 0.3)]))).select({"type": Figure})
    assert {isinstance(figure.y_scale, LogScale) for figure in figures} == {logarithmic}


@pytest.mark.parametrize("card", [{"method": "median"}, {"method": "median", "training": {"curve": []}}])
def test_a_denoiser_without_a_curve_is_refused(card):
    with pytest.raises(NiddlError, match=r"expected a denoiser with a loss curve, got one of the method 'median'"):
        plot_loss(SimpleNamespace(card=card))


def test_a_classical_filter_is_refused():
    from niddl_xr import classical

    with pytest.raises(NiddlError, match="niddl_xr.train makes them"):
        plot_loss(classical("gaussian"))
