"""Recordings whose truth is known: what denoising, tracking and traces are judged by."""

from niddl_xr.simulation import noise
from niddl_xr.simulation.noise import Camera
from niddl_xr.simulation.training_pairs import training_pairs
from niddl_xr.simulation.whole_brain import whole_brain

__all__ = ["Camera", "noise", "training_pairs", "whole_brain"]
