"""Recordings whose truth is known: what denoising, tracking and traces are judged by."""

from niddl_xr.simulation import noise
from niddl_xr.simulation._kernels.motion import MOTIONS, Motion
from niddl_xr.simulation.atlas import read_atlas
from niddl_xr.simulation.camera import NIDDL_EMCCD, Camera
from niddl_xr.simulation.detections import detections
from niddl_xr.simulation.freely_moving import freely_moving
from niddl_xr.simulation.neurite import neurite
from niddl_xr.simulation.training_pairs import training_pairs
from niddl_xr.simulation.two_photon import two_photon
from niddl_xr.simulation.whole_brain import whole_brain

__all__ = [
    "MOTIONS",
    "NIDDL_EMCCD",
    "Camera",
    "Motion",
    "detections",
    "freely_moving",
    "neurite",
    "noise",
    "read_atlas",
    "training_pairs",
    "two_photon",
    "whole_brain",
]
