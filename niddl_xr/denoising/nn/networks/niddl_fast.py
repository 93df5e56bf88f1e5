"""niddl_fast: the default network, a small U-Net of residual blocks at half resolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from niddl_xr.denoising.nn.networks._layers import check_counts, check_kernel
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.networks._reach import Step, convolutions, pooling, reach_px, upsampling

_RELATIVE_WIDTHS = (1.0, 1.5, 2.5, 4.0)  # of the four levels, each of half the height and width of the one before


def _bilinear(first: int, last: int) -> tuple[int, int]:
    """Be the step of a bilinear interpolation to twice the size: a pixel mixes the two whose centres enclose it."""
    return (first - 1) // 2, (last + 1) // 2


def _path(kernel_px: int) -> list[Step]:
    """Return the longest path through the network: down through all levels and up again."""
    pair = convolutions(2, kernel_px)
    downwards = [step for _ in _RELATIVE_WIDTHS[1:] for step in (pooling, pair)]
    upwards = [step for _ in _RELATIVE_WIDTHS[1:] for step in (_bilinear, pair)]
    return [pooling, convolutions(1, 3), *downwards, *upwards, convolutions(1, 3), upsampling(2)]


class ResidualPair(nn.Module):
    """Two convolutions with a ReLU between them, plus the input."""

    def __init__(self, width: int, kernel_px: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel_px, padding=kernel_px // 2)
        self.second = nn.Conv2d(width, width, kernel_px, padding=kernel_px // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, width, y, x) to features of the same shape."""
        result: Tensor = features + self.second(torch.relu(self.first(features)))
        return result


class NiddlFast(PlaneNetwork):
    """A U-Net of residual blocks that works at half resolution: 177,988 parameters, 1.09 GMAC at 512×512.

    2×2 pixels become channels, so that the finest level has half the height and width. Coarser levels are wider,
    because a channel there costs a quarter. Down by 2×2 convolutions of stride 2, up by a 1×1 convolution and bilinear
    interpolation, which cannot overshoot; skips are added. The finest level, where most of the work of a U-Net lies,
    has one block, after all others have been added to it. docs/decisions/0011 says what was tried beside it.
    """

    grid_px = 16
    learning_rate = 2e-3

    def __init__(self, inputs: int, outputs: int, width: int, kernel_px: int) -> None:
        super().__init__()
        check_kernel(kernel_px)
        check_counts(width=width)
        self.reach_px = reach_px(_path(kernel_px), self.grid_px)
        self.bytes_per_pixel = 12 * width
        widths = [round(width * relative) for relative in _RELATIVE_WIDTHS]
        pairs = list(pairwise(widths))
        self.stem = nn.Conv2d(4 * inputs, width, 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.encoders = nn.ModuleList(ResidualPair(coarse, kernel_px) for coarse in widths[1:])
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.decoders = nn.ModuleList(ResidualPair(fine, kernel_px) for fine in widths[:-1])
        self.head = nn.Conv2d(width, 4 * outputs, 3, padding=1)

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, inputs, y, x) to planes (n, outputs, y, x); y and x are multiples of ``grid_px``."""
        features = self.stem(pixel_unshuffle(planes, 2))
        skips = []
        for down, encoder in zip(self.downs, self.encoders, strict=True):
            skips.append(features)
            features = encoder(down(features))
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            finer = interpolate(up(features), scale_factor=2, mode="bilinear", align_corners=False)
            features = decoder(finer + skips.pop())
        return pixel_shuffle(self.head(features), 2)


def build(inputs: int = 1, outputs: int = 1, *, width: int = 16, kernel_px: int = 3) -> NiddlFast:
    """Build niddl_fast.

    Parameters
    ----------
    inputs, outputs
        Planes in and out.
    width
        Channels of the finest level; cost grows with the square of it: 10 for 0.45 GMAC at 512×512, 16 for 1.09, 24
        for 2.4, 32 for 4.2, 48 for 9.4.
    kernel_px
        Edge of the convolutions inside the blocks, 3 or 5 pixels.
    """
    return NiddlFast(inputs, outputs, width, kernel_px)
