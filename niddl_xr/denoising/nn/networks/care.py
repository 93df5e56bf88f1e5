"""CARE: the U-Net of content-aware image restoration, as its package builds it for planes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import Convolutions, Head, Output, check_counts, check_kernel
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.networks._reach import convolutions, pooling, reach_px, upsampling


class Care(PlaneNetwork):
    """Two convolutions a level, widths doubled downwards, max-pooling, pixels repeated upwards, concatenated skips.

    Sources: Weigert et al., Nat Methods 15:1090 (2018); the structure is that of ``unet_block`` and ``custom_unet``
    in CSBDeep 0.8.2. CSBDeep adds the input to the output inside the network; here the denoiser's card says so
    (``residual``).
    """

    def __init__(
        self, inputs: int, outputs: int, *, output: Output, kernel_px: int, depth_levels: int, first_width: int
    ) -> None:
        super().__init__()
        check_kernel(kernel_px)
        check_counts(depth_levels=depth_levels, first_width=first_width)
        widths = [first_width * 2**level for level in range(depth_levels)]
        deepest = widths[-1]
        self.encoders = nn.ModuleList(
            Convolutions([before, width, width], kernel_px)
            for before, width in zip([inputs, *widths], widths, strict=False)
        )
        self.middle = Convolutions([deepest, 2 * deepest, deepest], kernel_px)
        self.decoders = nn.ModuleList(
            Convolutions([2 * width, width, after], kernel_px)
            for width, after in reversed(list(zip(widths, [first_width, *widths], strict=False)))
        )
        self.head = Head(first_width, outputs, kernel_px=1, output=output)
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.grid_px = 2**depth_levels
        self.bytes_per_pixel = 34 * first_width
        block = convolutions(2, kernel_px)
        path = [*[block, pooling] * depth_levels, block, *[upsampling(2), block] * depth_levels]
        self.reach_px = reach_px(path, self.grid_px)

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, inputs, y, x) to (n, outputs, y, x); y and x are multiples of ``grid_px``."""
        features, skips = planes, []
        for encoder in self.encoders:
            features = encoder(features)
            skips.append(features)
            features = self.pool(features)
        features = self.middle(features)
        for decoder in self.decoders:
            features = decoder(torch.cat([self.upsample(features), skips.pop()], dim=1))
        result: Tensor = self.head(features)
        return result


def build(
    inputs: int = 1,
    outputs: int = 1,
    *,
    output: Output = "linear",
    kernel_px: int = 5,
    depth_levels: int = 2,
    first_width: int = 32,
) -> Care:
    """Build CARE with CSBDeep's default for planes: 922,977 parameters, 60.6 GMAC at 512×512, reach 43 px.

    Parameters
    ----------
    inputs, outputs
        Planes in and out: 1 and 1 for a plane alone, more for its neighbours in z as channels.
    output
        "linear" as in CSBDeep, or "relu".
    kernel_px
        Edge of the convolutions, 3 or 5 pixels; 5 is CSBDeep's default for planes.
    depth_levels
        Number of poolings.
    first_width
        Channels at full resolution; every pooling doubles them.
    """
    return Care(inputs, outputs, output=output, kernel_px=kernel_px, depth_levels=depth_levels, first_width=first_width)
