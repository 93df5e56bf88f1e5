"""Fluorescence traces from recordings and tracks."""
