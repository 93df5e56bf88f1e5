"""RCAN: residual groups of blocks with channel attention, at full resolution throughout."""

from __future__ import annotations

from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import (
    ChannelWeights,
    Head,
    Output,
    check_counts,
    check_kernel,
    convolution,
)
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork


class AttentionBlock(nn.Module):
    """Convolution, ReLU, convolution, every channel weighed by channel attention, plus the input."""

    def __init__(self, width: int, kernel_px: int, reduction: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            convolution(width, width, kernel_px), nn.ReLU(inplace=True), convolution(width, width, kernel_px)
        )
        self.attention = ChannelWeights(width, reduction)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape (n, width, y, x)."""
        changes = self.convolutions(features)
        result: Tensor = features + changes * self.attention(changes)
        return result


class ResidualGroup(nn.Module):
    """Attention blocks and a convolution, plus the input."""

    def __init__(self, width: int, kernel_px: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[AttentionBlock(width, kernel_px, reduction) for _ in range(blocks)])
        self.last = convolution(width, width, kernel_px)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape (n, width, y, x)."""
        result: Tensor = features + self.last(self.blocks(features))
        return result


class Rcan(PlaneNetwork):
    """A first convolution, residual groups inside one long skip, a last convolution; no upscaling.

    Channel attention weighs the channels by their mean over the plane, so that every pixel depends on the whole
    plane: this network cannot be tiled, and sees other statistics on a plane than on training patches.

    Sources: Zhang et al., ECCV 2018 (arXiv 1807.02758); for microscopy Chen et al., Nat Methods 18:678 (2021), whose
    public code (3D-RCAN) leaves out the upscaling too. Its map of the range 0 … 1 to -1 … 1 and back is the business
    of our normalisation.
    """

    reach_px = None
    grid_px = 1

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        output: Output,
        kernel_px: int,
        width: int,
        groups: int,
        blocks: int,
        reduction: int,
    ) -> None:
        super().__init__()
        check_kernel(kernel_px)
        check_counts(width=width, groups=groups, blocks=blocks, reduction=reduction)
        self.stem = convolution(inputs, width, kernel_px)
        self.groups = nn.Sequential(*[ResidualGroup(width, kernel_px, blocks, reduction) for _ in range(groups)])
        self.last = convolution(width, width, kernel_px)
        self.head = Head(width, outputs, kernel_px, output)
        self.bytes_per_pixel = 38 * width

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, inputs, y, x) to (n, outputs, y, x), of any size."""
        features = self.stem(planes)
        result: Tensor = self.head(features + self.last(self.groups(features)))
        return result


def build(
    inputs: int = 1,
    outputs: int = 1,
    *,
    output: Output = "linear",
    kernel_px: int = 3,
    width: int = 32,
    groups: int = 5,
    blocks: int = 3,
    reduction: int = 8,
) -> Rcan:
    """Build RCAN with the defaults of 3D-RCAN for planes: 337,917 parameters, 87.1 GMAC at 512×512.

    Parameters
    ----------
    inputs, outputs
        Planes in and out: 1 and 1 for a plane alone, more for its neighbours in z as channels.
    output
        "linear" as in the original, or "relu".
    kernel_px
        Edge of the convolutions, 3 or 5 pixels.
    width, groups, blocks, reduction
        Channels, residual groups, attention blocks a group, and the factor by which channel attention narrows. The
        original for photographs has 64, 10, 20 and 16.
    """
    return Rcan(
        inputs,
        outputs,
        output=output,
        kernel_px=kernel_px,
        width=width,
        groups=groups,
        blocks=blocks,
        reduction=reduction,
    )
