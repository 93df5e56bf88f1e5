"""What every network tells about itself."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class PlaneNetwork(nn.Module):
    """A network from planes (n, channels, y, x) to planes of the same size, float32.

    Attributes
    ----------
    reach_px
        How far, in pixels, an output pixel looks at most: the halo that makes tiles equal to the whole plane.
    grid_px
        Product of the pooling strides: sizes and tile origins have to be multiples of it.
    bytes_per_pixel
        Peak memory of one forward pass per pixel of the plane, float32 on the CPU, measured: it sets the tile size.
    """

    reach_px: int
    grid_px: int
    bytes_per_pixel: int

    @abstractmethod
    def forward(self, planes: Tensor) -> Tensor: ...
