"""Posture, curvature and locomotion, and their relation to traces."""
