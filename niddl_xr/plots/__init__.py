"""Pictures of recordings: what can be looked at without loading more than is looked at.

Everything here is a holoviews object with bokeh options, or a panel app made of such objects. Importing sets nothing:
the first picture loads holoviews' bokeh backend if no other call has. In a notebook, ``holoviews.extension("bokeh")``
in the first cell does the same at a place of your choice, and with your options.
"""

from niddl_xr.plots.centerline import plot_centerline
from niddl_xr.plots.comparison import plot_comparison
from niddl_xr.plots.correlation_map import plot_correlation_map
from niddl_xr.plots.curvature_correlation import plot_curvature_correlation
from niddl_xr.plots.explained_variance import plot_explained_variance
from niddl_xr.plots.frame import plot_frame
from niddl_xr.plots.kymograph import plot_kymograph
from niddl_xr.plots.loss import plot_loss
from niddl_xr.plots.traces import plot_traces
from niddl_xr.plots.trajectory import plot_trajectory
from niddl_xr.plots.viewer import view

__all__ = [
    "plot_centerline",
    "plot_comparison",
    "plot_correlation_map",
    "plot_curvature_correlation",
    "plot_explained_variance",
    "plot_frame",
    "plot_kymograph",
    "plot_loss",
    "plot_traces",
    "plot_trajectory",
    "view",
]
