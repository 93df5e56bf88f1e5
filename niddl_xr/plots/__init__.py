"""Pictures of recordings: what can be looked at without loading more than is looked at.

Everything here is a holoviews object with bokeh options, or a panel app made of such objects. Importing sets nothing:
the first picture loads holoviews' bokeh backend if no other call has. In a notebook, ``holoviews.extension("bokeh")``
in the first cell does the same at a place of your choice, and with your options.
"""

from niddl_xr.plots.comparison import plot_comparison
from niddl_xr.plots.frame import plot_frame
from niddl_xr.plots.loss import plot_loss
from niddl_xr.plots.traces import plot_traces
from niddl_xr.plots.viewer import view

__all__ = ["plot_comparison", "plot_frame", "plot_loss", "plot_traces", "view"]
