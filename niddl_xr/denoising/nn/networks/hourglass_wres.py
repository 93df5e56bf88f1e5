"""Hourglass_wres of NIDDL: an hourglass with residual blocks and pooled side branches."""

from __future__ import annotations

from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import Head, Output, ResidualTriple, Upsample, convolution
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork


class HourglassWithResiduals(PlaneNetwork):
    """Width 32, three poolings, three upsamplings; 305,793 parameters, 29.6 GMAC at 512×512.

    The skips are side branches at the size of their level, pooled and added one level below, so that no feature
    of full resolution passes the bottleneck. Source: Chaudhary, Moon and Lu, Nat Commun 13:5165 (2022), the
    TensorFlow network ``hourglass_wres``. ``reach_px`` is the measured reach of 80 px at the worst pooling phase.
    """

    reach_px = 80
    grid_px = 8
    bytes_per_pixel = 1060

    def __init__(self, channels: int = 1, width: int = 32, levels: int = 4, output: Output = "relu") -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(channels, width), nn.ReLU(inplace=True))
        self.encoders = nn.ModuleList(ResidualTriple(width) for _ in range(levels))
        self.sides = nn.ModuleList(ResidualTriple(width) for _ in range(levels - 1))
        self.upsamplers = nn.ModuleList(Upsample(width) for _ in range(levels - 1))
        self.decoders = nn.ModuleList(ResidualTriple(width) for _ in range(levels - 1))
        self.head = Head(width, channels, output)
        self.pool = nn.MaxPool2d(2)

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, channels, y, x) to planes of the same shape; y and x are multiples of ``grid_px``."""
        features = self.encoders[0](self.stem(planes))
        pooled_sides = []
        for side, encoder in zip(self.sides, self.encoders[1:], strict=True):
            pooled_sides.append(self.pool(side(features)))
            features = encoder(self.pool(features))
        for upsample, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(upsample(features + pooled_sides.pop()))
        result: Tensor = self.head(features)
        return result


def build(channels: int = 1, output: Output = "relu") -> HourglassWithResiduals:
    """Build Hourglass_wres for planes of ``channels`` channels; ``output`` "relu" is the paper's."""
    return HourglassWithResiduals(channels=channels, output=output)
