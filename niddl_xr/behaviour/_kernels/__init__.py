"""Computations on how worms lie and move and on how that goes with traces: arrays and numbers."""
