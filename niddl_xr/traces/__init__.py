"""What tracked neurons do: brightness over time, its noise, bleaching, dF/F and ratios."""

from niddl_xr.traces.bleaching import correct_bleaching
from niddl_xr.traces.extraction import extract_traces
from niddl_xr.traces.relative import dff
from niddl_xr.traces.two_colour import ratio

__all__ = ["correct_bleaching", "dff", "extract_traces", "ratio"]
