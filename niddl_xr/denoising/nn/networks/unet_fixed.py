"""UNet_fixed of NIDDL: a U-Net with the same width at every level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import Head, Output, TripleConvolution, Upsample
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork


class UNetFixed(PlaneNetwork):
    """Five levels of width 32, four 2×2 max-poolings, concatenated skips; 314,913 parameters, 21.0 GMAC at 512×512.

    Source: Chaudhary, Moon and Lu, Nat Commun 13:5165 (2022), the TensorFlow network ``unet_v``. ``reach_px`` is
    the measured reach of 165 px at the worst pooling phase.
    """

    reach_px = 165
    grid_px = 16
    bytes_per_pixel = 900

    def __init__(self, channels: int = 1, width: int = 32, levels: int = 5, output: Output = "relu") -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            TripleConvolution(channels if level == 0 else width, width) for level in range(levels)
        )
        self.upsamplers = nn.ModuleList(Upsample(width) for _ in range(levels - 1))
        self.decoders = nn.ModuleList(TripleConvolution(2 * width, width) for _ in range(levels - 1))
        self.head = Head(width, channels, output)
        self.pool = nn.MaxPool2d(2)

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, channels, y, x) to planes of the same shape; y and x are multiples of ``grid_px``."""
        features = self.encoders[0](planes)
        skips = [features]
        for encoder in self.encoders[1:]:
            features = encoder(self.pool(features))
            skips.append(features)
        skips.pop()
        for upsample, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(torch.cat([upsample(features), skips.pop()], dim=1))
        result: Tensor = self.head(features)
        return result


def build(channels: int = 1, output: Output = "relu") -> UNetFixed:
    """Build UNet_fixed for planes of ``channels`` channels; ``output`` "relu" is the paper's, "linear" its port's."""
    return UNetFixed(channels=channels, output=output)
