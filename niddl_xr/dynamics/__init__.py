"""Dynamics of the population: components and the comparison of subspaces."""
