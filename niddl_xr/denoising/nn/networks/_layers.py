"""Blocks that the networks of NIDDL share (Chaudhary, Moon and Lu, Nat Commun 13:5165, 2022)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Output = Literal["relu", "linear"]


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the size of the plane (zeros beyond the edge)."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


class TripleConvolution(nn.Sequential):
    """Three 3×3 convolutions, each followed by ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        widths = [inputs, outputs, outputs, outputs]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [convolution(before, after), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class ResidualTriple(nn.Module):
    """Three 3×3 convolutions with ReLU, plus the input; nothing after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.triple = TripleConvolution(width, width)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.triple(features)
        return result


class Upsample(nn.Module):
    """Learned transposed 3×3 convolution of stride 2 and ReLU: (n, c, y, x) -> (n, c, 2y, 2x).

    TensorFlow's "SAME" transposed convolution gives 2y + 1 rows and columns and drops the last of each. With
    torch's ``padding=1, output_padding=1`` the grid is shifted and the authors' weights do not work.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transposed = nn.ConvTranspose2d(width, width, kernel_size=3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.transposed(features)[..., :-1, :-1])


class Head(nn.Module):
    """The last 3×3 convolution: with ReLU as in the paper's TensorFlow code, or linear as in its torch port."""

    def __init__(self, width: int, channels: int, output: Output) -> None:
        super().__init__()
        if output not in ("relu", "linear"):
            raise ValueError(f"expected output 'relu' or 'linear', got {output!r}")
        self.convolution = convolution(width, channels)
        self.rectify = output == "relu"

    def forward(self, features: Tensor) -> Tensor:
        planes: Tensor = self.convolution(features)
        return torch.relu(planes) if self.rectify else planes
