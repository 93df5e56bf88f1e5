"""Dynamics of the population: components and the comparison of subspaces."""

from niddl_xr.dynamics.comparison import compare_pca
from niddl_xr.dynamics.population import pca

__all__ = ["compare_pca", "pca"]
