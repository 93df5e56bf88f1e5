"""Measures of quality: of images, of traces, and of the differences between methods."""

from niddl_xr.metrics.images import affine_match, compare, mae, psnr, rmse, snr, ssim
from niddl_xr.metrics.statistics import holm, paired_wilcoxon
from niddl_xr.metrics.traces import trace_metrics

__all__ = [
    "affine_match",
    "compare",
    "holm",
    "mae",
    "paired_wilcoxon",
    "psnr",
    "rmse",
    "snr",
    "ssim",
    "trace_metrics",
]
