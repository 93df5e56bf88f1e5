"""The hourglass of NIDDL: with residual blocks of one width, or without and growing downwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import (
    Convolutions,
    Head,
    Output,
    ResidualTriple,
    TripleConvolution,
    Upsample,
    Upsampling,
    check_kernel,
)
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.networks._reach import convolutions, pooling, reach_px, upsampling


class Hourglass(PlaneNetwork):
    """A triple convolution a level, 2×2 max-poolings, side branches, learned upsampling that keeps the width.

    The skips are side branches at the size of their level, pooled and added one level below, so that no feature of
    full resolution passes the bottleneck. With ``residual``, blocks add their input, and a first convolution brings
    the planes to the width.

    Source: Chaudhary, Moon and Lu, Nat Commun 13:5165 (2022) and their public code, networks ``hourglass_wres`` and
    ``hourglass_wores``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        *,
        residual: bool,
        output: Output,
        kernel_px: int,
        upsampling_kind: Upsampling,
        bytes_per_pixel: int,
    ) -> None:
        super().__init__()
        check_kernel(kernel_px)
        block = ResidualTriple if residual else TripleConvolution
        self.stem = Convolutions([inputs, widths[0]], kernel_px) if residual else nn.Identity()
        downwards = list(pairwise([widths[0] if residual else inputs, *widths]))
        upwards = list(pairwise(reversed(widths)))
        self.encoders = nn.ModuleList(block(before, after, kernel_px) for before, after in downwards)
        self.sides = nn.ModuleList(block(before, after, kernel_px) for before, after in downwards[1:])
        self.upsamplers = nn.ModuleList(Upsample(below, kernel_px, upsampling_kind) for below, _ in upwards)
        self.decoders = nn.ModuleList(block(below, width, kernel_px) for below, width in upwards)
        self.head = Head(widths[0], outputs, kernel_px, output)
        self.pool = nn.MaxPool2d(2)
        self.grid_px = 2 ** len(upwards)
        self.bytes_per_pixel = bytes_per_pixel
        self.reach_px = self._reach(kernel_px, residual)

    def _reach(self, kernel_px: int, residual: bool) -> int:
        """Follow the path through all levels, the longest."""
        block = convolutions(3, kernel_px)
        ups = [upsampling(up.kernel_px, up.cut_px) for up in self.upsamplers if isinstance(up, Upsample)]
        down = [block, pooling] * len(ups)
        ends = convolutions(2 if residual else 1, kernel_px)  # stem and head
        return reach_px([*down, block, *[step for up in ups for step in (up, block)], ends], self.grid_px)

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, inputs, y, x) to (n, outputs, y, x); y and x are multiples of ``grid_px``."""
        features = self.encoders[0](self.stem(planes))
        pooled_sides = []
        for side, encoder in zip(self.sides, self.encoders[1:], strict=True):
            pooled_sides.append(self.pool(side(features)))
            features = encoder(self.pool(features))
        for upsample, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(upsample(features + pooled_sides.pop()))
        result: Tensor = self.head(features)
        return result
