"""Detections, labels and neurites from recordings."""
