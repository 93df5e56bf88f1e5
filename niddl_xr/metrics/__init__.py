"""Measures of quality: of images, of traces, and of the differences between methods."""

from niddl_xr.metrics.comparison import compare, compare_paired
from niddl_xr.metrics.detections import score_detections
from niddl_xr.metrics.images import affine_match, mae, psnr, rmse, ssim
from niddl_xr.metrics.pairs import PairsWarning, check_pairs
from niddl_xr.metrics.quality import trace_quality
from niddl_xr.metrics.segmentation import score_labels, score_skeleton
from niddl_xr.metrics.signal import median_snr_db, snr
from niddl_xr.metrics.statistics import hodges_lehmann, holm, paired_wilcoxon
from niddl_xr.metrics.traces import trace_metrics
from niddl_xr.metrics.tracks import score_tracks, track_errors

__all__ = [
    "PairsWarning",
    "affine_match",
    "check_pairs",
    "compare",
    "compare_paired",
    "hodges_lehmann",
    "holm",
    "mae",
    "median_snr_db",
    "paired_wilcoxon",
    "psnr",
    "rmse",
    "score_detections",
    "score_labels",
    "score_skeleton",
    "score_tracks",
    "snr",
    "ssim",
    "trace_metrics",
    "trace_quality",
    "track_errors",
]
