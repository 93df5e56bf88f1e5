"""Geometry, motion, activity, rendering and noise of simulated recordings: numbers in, arrays out.

Every random number comes from a Generator that the caller passes.
"""
