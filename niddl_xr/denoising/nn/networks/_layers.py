"""Blocks that several networks share. Planes are tensors (n, channels, y, x), float32."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from niddl_xr.schema import NiddlError

Output = Literal["relu", "linear"]
Upsampling = Literal["tensorflow", "torch"]


def convolution(inputs: int, outputs: int, kernel_px: int = 3) -> nn.Conv2d:
    """Return a convolution that keeps the size of the plane (zeros beyond the edge)."""
    return nn.Conv2d(inputs, outputs, kernel_size=kernel_px, padding=kernel_px // 2)


def check_kernel(kernel_px: int) -> None:
    """Refuse kernels other than those of the paper."""
    if kernel_px not in (3, 5):
        raise NiddlError(f"expected kernel_px 3 or 5, got {kernel_px!r}: choose one of the paper's two kernels")


def check_counts(**counts: int) -> None:
    """Refuse widths, depths and numbers of layers that no network can have."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise NiddlError(f"expected {name} of 1 or more, got {count!r}: give a whole number")


class Convolutions(nn.Sequential):
    """Convolutions one after another through these widths, each followed by ReLU."""

    def __init__(self, widths: Sequence[int], kernel_px: int = 3) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [convolution(before, after, kernel_px), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class TripleConvolution(Convolutions):
    """Three convolutions, each followed by ReLU: the block of all networks of NIDDL."""

    def __init__(self, inputs: int, outputs: int, kernel_px: int = 3) -> None:
        super().__init__([inputs, outputs, outputs, outputs], kernel_px)


class ResidualTriple(nn.Module):
    """Three convolutions with ReLU, plus the input; nothing after the sum, so that ``inputs`` equals ``outputs``."""

    def __init__(self, inputs: int, outputs: int, kernel_px: int = 3) -> None:
        super().__init__()
        self.triple = TripleConvolution(inputs, outputs, kernel_px)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.triple(features)
        return result


class Upsample(nn.Module):
    """Learned transposed convolution of stride 2 and ReLU: (n, c, y, x) -> (n, c, 2y, 2x).

    "tensorflow" is the "SAME" transposed convolution of the paper's networks, of the network's own kernel: the whole
    result has ``kernel_px - 2`` rows and columns too many, of which (kernel_px - 2) // 2 are cut off in front and the
    others behind. With torch's ``padding=1, output_padding=1`` the grid is shifted, and the authors' weights do not
    work. "torch" is the 2×2 kernel of the authors' port, where nothing is cut.
    """

    def __init__(self, width: int, kernel_px: int = 3, upsampling: Upsampling = "tensorflow") -> None:
        super().__init__()
        if upsampling not in get_args(Upsampling):
            raise NiddlError(
                f"expected upsampling 'tensorflow' or 'torch', got {upsampling!r}: 'tensorflow' is the paper's"
            )
        self.kernel_px = kernel_px if upsampling == "tensorflow" else 2
        self.cut_px = (self.kernel_px - 2) // 2
        self.transposed = nn.ConvTranspose2d(width, width, kernel_size=self.kernel_px, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        planes = self.transposed(features)
        return torch.relu(planes[..., self.cut_px :, self.cut_px :][..., : 2 * height, : 2 * width])


class Head(nn.Module):
    """The last convolution: with ReLU as in the paper's TensorFlow code, or linear as in its torch port."""

    def __init__(self, width: int, outputs: int, kernel_px: int, output: Output) -> None:
        super().__init__()
        if output not in get_args(Output):
            raise NiddlError(
                f"expected output 'relu' or 'linear', got {output!r}: residuals and normalised planes need 'linear'"
            )
        self.convolution = convolution(width, outputs, kernel_px)
        self.rectify = output == "relu"

    def forward(self, features: Tensor) -> Tensor:
        planes: Tensor = self.convolution(features)
        return torch.relu(planes) if self.rectify else planes


class ChannelWeights(nn.Sequential):
    """One weight between 0 and 1 a channel, from the channels' means over the plane: (n, c, y, x) -> (n, c, 1, 1).

    Two 1×1 convolutions with ``width // reduction`` channels between them (Zhang et al., ECCV 2018, equation 10).
    """

    def __init__(self, width: int, reduction: int) -> None:
        if not 1 <= reduction <= width:
            raise NiddlError(f"expected reduction from 1 to the width {width}, got {reduction!r}: choose a divisor")
        squeezed = width // reduction
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, width, kernel_size=1),
            nn.Sigmoid(),
        )
