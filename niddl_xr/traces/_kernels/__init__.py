"""Computations on traces and on the pixels around neurons: arrays and numbers."""
