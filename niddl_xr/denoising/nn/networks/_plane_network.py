"""What every network tells about itself."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class PlaneNetwork(nn.Module):
    """A network from planes (n, inputs, y, x) to planes (n, outputs, y, x) of the same height and width, float32.

    Attributes
    ----------
    reach_px
        How far, in pixels, an output pixel looks at most: the halo that makes tiles equal to the whole plane. None:
        every output pixel depends on the whole plane, which can therefore not be cut into tiles.
    grid_px
        Product of the pooling strides: sizes and tile origins have to be multiples of it.
    learning_rate
        Of the Adam optimiser at its highest, with which the network trains best.
    bytes_per_pixel
        Peak memory of one forward pass per pixel of the plane: it sets the tile size. Measured as the growth of the
        process over two passes, float32 on the CPU, one thread, channels last: the most of planes of 256, 384, 512
        and 1024 pixels, rounded up (the allocator's share differs with the size).
    """

    learning_rate: float = 1e-3
    reach_px: int | None
    grid_px: int
    bytes_per_pixel: int

    @abstractmethod
    def forward(self, planes: Tensor) -> Tensor: ...
