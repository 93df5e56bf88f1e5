"""Tracks from detections: registration, linking, quality and edits by hand."""
