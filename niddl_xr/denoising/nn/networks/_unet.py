"""The U-Net of NIDDL: unet_fixed and unet differ in the widths of the levels alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import Head, Output, TripleConvolution, Upsample, Upsampling, check_kernel
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.networks._reach import convolutions, pooling, reach_px, upsampling


class UNet(PlaneNetwork):
    """A triple convolution a level, 2×2 max-poolings, learned upsampling that keeps the width, concatenated skips.

    Source: Chaudhary, Moon and Lu, Nat Commun 13:5165 (2022) and their public code, networks ``unet_v`` (the paper's
    UNet_fixed) and ``unet_v2`` (UNet).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        *,
        output: Output,
        kernel_px: int,
        upsampling_kind: Upsampling,
        bytes_per_pixel: int,
    ) -> None:
        super().__init__()
        check_kernel(kernel_px)
        self.encoders = nn.ModuleList(
            TripleConvolution(before, after, kernel_px) for before, after in pairwise([inputs, *widths])
        )
        upwards = list(pairwise(reversed(widths)))
        self.upsamplers = nn.ModuleList(Upsample(below, kernel_px, upsampling_kind) for below, _ in upwards)
        self.decoders = nn.ModuleList(TripleConvolution(below + width, width, kernel_px) for below, width in upwards)
        self.head = Head(widths[0], outputs, kernel_px, output)
        self.pool = nn.MaxPool2d(2)
        self.grid_px = 2 ** len(upwards)
        self.bytes_per_pixel = bytes_per_pixel
        self.reach_px = self._reach(kernel_px)

    def _reach(self, kernel_px: int) -> int:
        """Follow the path through all levels, the longest."""
        block = convolutions(3, kernel_px)
        ups = [upsampling(up.kernel_px, up.cut_px) for up in self.upsamplers if isinstance(up, Upsample)]
        down = [block, pooling] * len(ups)
        path = [*down, block, *[step for up in ups for step in (up, block)], convolutions(1, kernel_px)]
        return reach_px(path, self.grid_px)

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, inputs, y, x) to (n, outputs, y, x); y and x are multiples of ``grid_px``."""
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
