"""Denoise, track and understand recordings of neurons in faint light, as labelled xarray arrays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from niddl_xr import accessor as accessor
from niddl_xr.schema import MissingMetadataWarning, NiddlError

__version__ = "0.1.0"

# Public verb -> module that holds it; loaded when first used, so that the import stays light.
_VERBS = {
    "open_recording": "niddl_xr.recordings",
    "from_numpy": "niddl_xr.recordings",
    "open_pairs": "niddl_xr.recordings",
    "pair_recordings": "niddl_xr.recordings",
    "check_pairs": "niddl_xr.metrics",
    "readers": "niddl_xr.recordings",
    "describe": "niddl_xr.recordings",
    "export": "niddl_xr.recordings.export",
    "writers": "niddl_xr.recordings.export",
    "open_catalog": "niddl_xr.recordings",
    "save": "niddl_xr.filling",
    "train": "niddl_xr.denoising",
    "denoise": "niddl_xr.denoising",
    "classical": "niddl_xr.denoising",
    "import_niddl": "niddl_xr.denoising",
    "load_denoiser": "niddl_xr.denoising",
    "Denoiser": "niddl_xr.denoising",
    "SignalToNoiseWarning": "niddl_xr.denoising",
    "networks": "niddl_xr.denoising",
    "pretrained": "niddl_xr.denoising",
    "snr": "niddl_xr.metrics",
    "compare": "niddl_xr.metrics",
    "detect": "niddl_xr.segmentation",
    "segment": "niddl_xr.segmentation",
    "segment_neurites": "niddl_xr.segmentation",
    "labels_to_detections": "niddl_xr.segmentation",
    "neurite_branches": "niddl_xr.segmentation",
    "track": "niddl_xr.tracking",
    "track_quality": "niddl_xr.tracking",
    "retrack": "niddl_xr.tracking",
    "EditLog": "niddl_xr.tracking",
    "EditWarning": "niddl_xr.tracking",
    "apply_edits": "niddl_xr.tracking",
    "merge_edits": "niddl_xr.tracking",
    "curate": "niddl_xr.curation",
    "extract_traces": "niddl_xr.traces",
    "correct_bleaching": "niddl_xr.traces",
    "dff": "niddl_xr.traces",
    "ratio": "niddl_xr.traces",
    "open_traces": "niddl_xr.recordings",
    "pca": "niddl_xr.dynamics",
    "compare_pca": "niddl_xr.dynamics",
    "open_posture": "niddl_xr.behaviour",
    "centerline": "niddl_xr.behaviour",
    "curvature": "niddl_xr.behaviour",
    "eigenworms": "niddl_xr.behaviour",
    "locomotion": "niddl_xr.behaviour",
    "assign_body_position": "niddl_xr.behaviour",
    "curvature_correlation": "niddl_xr.behaviour",
    "correlation_map": "niddl_xr.behaviour",
    "compare_curvature_correlation": "niddl_xr.behaviour",
    "score_detections": "niddl_xr.metrics",
    "score_tracks": "niddl_xr.metrics",
    "trace_quality": "niddl_xr.metrics",
    "plot_frame": "niddl_xr.plots",
    "plot_comparison": "niddl_xr.plots",
    "plot_loss": "niddl_xr.plots",
    "plot_traces": "niddl_xr.plots",
    "plot_trajectory": "niddl_xr.plots",
    "plot_explained_variance": "niddl_xr.plots",
    "plot_kymograph": "niddl_xr.plots",
    "plot_centerline": "niddl_xr.plots",
    "plot_correlation_map": "niddl_xr.plots",
    "plot_curvature_correlation": "niddl_xr.plots",
    "view": "niddl_xr.plots",
}
_MODULES = {"simulate": "niddl_xr.simulation", "metrics": "niddl_xr.metrics"}

__all__ = ["MissingMetadataWarning", "NiddlError", "__version__", *_VERBS, *_MODULES]

if TYPE_CHECKING:
    from niddl_xr import metrics as metrics
    from niddl_xr import simulation as simulate  # noqa: F401
    from niddl_xr.behaviour import assign_body_position as assign_body_position
    from niddl_xr.behaviour import centerline as centerline
    from niddl_xr.behaviour import compare_curvature_correlation as compare_curvature_correlation
    from niddl_xr.behaviour import correlation_map as correlation_map
    from niddl_xr.behaviour import curvature as curvature
    from niddl_xr.behaviour import curvature_correlation as curvature_correlation
    from niddl_xr.behaviour import eigenworms as eigenworms
    from niddl_xr.behaviour import locomotion as locomotion
    from niddl_xr.behaviour import open_posture as open_posture
    from niddl_xr.curation import curate as curate
    from niddl_xr.denoising import Denoiser as Denoiser
    from niddl_xr.denoising import SignalToNoiseWarning as SignalToNoiseWarning
    from niddl_xr.denoising import denoise as denoise
    from niddl_xr.denoising import import_niddl as import_niddl
    from niddl_xr.denoising import load_denoiser as load_denoiser
    from niddl_xr.denoising import networks as networks
    from niddl_xr.denoising import pretrained as pretrained
    from niddl_xr.denoising import train as train
    from niddl_xr.denoising.classical import classical as classical
    from niddl_xr.dynamics import compare_pca as compare_pca
    from niddl_xr.dynamics import pca as pca
    from niddl_xr.filling import save as save
    from niddl_xr.metrics import check_pairs as check_pairs
    from niddl_xr.metrics import compare as compare
    from niddl_xr.metrics import score_detections as score_detections
    from niddl_xr.metrics import score_tracks as score_tracks
    from niddl_xr.metrics import snr as snr
    from niddl_xr.metrics import trace_quality as trace_quality
    from niddl_xr.plots import plot_centerline as plot_centerline
    from niddl_xr.plots import plot_comparison as plot_comparison
    from niddl_xr.plots import plot_correlation_map as plot_correlation_map
    from niddl_xr.plots import plot_curvature_correlation as plot_curvature_correlation
    from niddl_xr.plots import plot_explained_variance as plot_explained_variance
    from niddl_xr.plots import plot_frame as plot_frame
    from niddl_xr.plots import plot_kymograph as plot_kymograph
    from niddl_xr.plots import plot_loss as plot_loss
    from niddl_xr.plots import plot_traces as plot_traces
    from niddl_xr.plots import plot_trajectory as plot_trajectory
    from niddl_xr.plots import view as view
    from niddl_xr.recordings import describe as describe
    from niddl_xr.recordings import from_numpy as from_numpy
    from niddl_xr.recordings import open_catalog as open_catalog
    from niddl_xr.recordings import open_pairs as open_pairs
    from niddl_xr.recordings import open_recording as open_recording
    from niddl_xr.recordings import open_traces as open_traces
    from niddl_xr.recordings import pair_recordings as pair_recordings
    from niddl_xr.recordings.export import export as export
    from niddl_xr.recordings.export import writers as writers
    from niddl_xr.recordings.readers import readers as readers
    from niddl_xr.segmentation import detect as detect
    from niddl_xr.segmentation import labels_to_detections as labels_to_detections
    from niddl_xr.segmentation import neurite_branches as neurite_branches
    from niddl_xr.segmentation import segment as segment
    from niddl_xr.segmentation import segment_neurites as segment_neurites
    from niddl_xr.traces import correct_bleaching as correct_bleaching
    from niddl_xr.traces import dff as dff
    from niddl_xr.traces import extract_traces as extract_traces
    from niddl_xr.traces import ratio as ratio
    from niddl_xr.tracking import EditLog as EditLog
    from niddl_xr.tracking import EditWarning as EditWarning
    from niddl_xr.tracking import apply_edits as apply_edits
    from niddl_xr.tracking import merge_edits as merge_edits
    from niddl_xr.tracking import retrack as retrack
    from niddl_xr.tracking import track as track
    from niddl_xr.tracking import track_quality as track_quality


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _VERBS:
        return getattr(import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'niddl_xr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
