"""DFCAN: residual groups of blocks with Fourier channel attention, for planes of unchanged size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._layers import (
    ChannelWeights,
    Convolutions,
    Head,
    Output,
    check_counts,
    check_kernel,
    convolution,
)
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.schema import NiddlError

SPECTRUM_EXPONENT = 0.8  # compresses the amplitudes, as in the authors' code
SPECTRUM_FLOOR = 1e-8  # added to the amplitudes there, so that their power has a slope everywhere


class FourierAttention(nn.Module):
    """Weighs every channel by what its spectrum looks like: (n, c, y, x) -> (n, c, 1, 1).

    The amplitudes of the plane's Fourier transform, to the power 0.8 and with frequency 0 in the centre, are sampled
    at ``spectrum_px`` × ``spectrum_px`` frequencies, convolved, rectified and averaged. The transform is orthonormal:
    noise of one strength then has one level in planes of any size (in the authors' code, which fixes the size of the
    planes, only the scale of the weights differs).
    """

    def __init__(self, width: int, kernel_px: int, reduction: int, spectrum_px: int) -> None:
        super().__init__()
        self.spectrum_px = spectrum_px
        self.convolution = Convolutions([width, width], kernel_px)
        self.weights = ChannelWeights(width, reduction)

    def spectrum(self, features: Tensor) -> Tensor:
        """Return the compressed amplitudes (n, c, spectrum_px, spectrum_px), float32."""
        height, width = features.shape[-2:]
        planes = features.float()
        if height % self.spectrum_px == 0 and width % self.spectrum_px == 0:
            # Every k-th frequency of a plane is a frequency of the sum of its k parts: a much smaller transform.
            parts = (height // self.spectrum_px, self.spectrum_px, width // self.spectrum_px, self.spectrum_px)
            planes = planes.reshape(*planes.shape[:2], *parts).sum((2, 4))
        amplitudes = torch.fft.fft2(planes).abs() / (height * width) ** 0.5 + SPECTRUM_FLOOR
        centred = torch.fft.fftshift(amplitudes**SPECTRUM_EXPONENT, dim=(-2, -1))
        return nn.functional.interpolate(centred, size=(self.spectrum_px, self.spectrum_px), mode="nearest")

    def forward(self, features: Tensor) -> Tensor:
        """Return one weight between 0 and 1 a channel."""
        weights: Tensor = self.weights(self.convolution(self.spectrum(features)))
        return weights


class FourierAttentionBlock(nn.Module):
    """Two convolutions with GELU, every channel weighed by Fourier attention, plus the input."""

    def __init__(self, width: int, kernel_px: int, reduction: int, spectrum_px: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            convolution(width, width, kernel_px), nn.GELU(), convolution(width, width, kernel_px), nn.GELU()
        )
        self.attention = FourierAttention(width, kernel_px, reduction, spectrum_px)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape (n, width, y, x)."""
        changes = self.convolutions(features)
        result: Tensor = features + changes * self.attention(changes)
        return result


class FourierGroup(nn.Module):
    """Fourier attention blocks, plus the input."""

    def __init__(self, width: int, kernel_px: int, blocks: int, reduction: int, spectrum_px: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *[FourierAttentionBlock(width, kernel_px, reduction, spectrum_px) for _ in range(blocks)]
        )

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape (n, width, y, x)."""
        result: Tensor = features + self.blocks(features)
        return result


class Dfcan(PlaneNetwork):
    """A first convolution, residual groups, two last convolutions; the original's upscaling is left out.

    The attention sees the spectrum of the whole plane: this network cannot be tiled.

    Source: Qiao et al., Nat Methods 18:194 (2021) and their public code (DL-SR, ``DFCAN16``). With the pixel shuffle
    of scale 2 that code has 1,930,753 parameters; at scale 1, where the convolution before the shuffle keeps 64
    channels, 1,819,969. Its last sigmoid is for images of range 0 … 1; here the output is linear or rectified.
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
        spectrum_px: int,
    ) -> None:
        super().__init__()
        check_kernel(kernel_px)
        check_counts(width=width, groups=groups, blocks=blocks, reduction=reduction, spectrum_px=spectrum_px)
        if spectrum_px % 2:
            raise NiddlError(f"expected an even spectrum_px, got {spectrum_px}: frequency 0 would not be in the centre")
        self.stem = nn.Sequential(convolution(inputs, width, kernel_px), nn.GELU())
        self.groups = nn.Sequential(
            *[FourierGroup(width, kernel_px, blocks, reduction, spectrum_px) for _ in range(groups)]
        )
        self.last = nn.Sequential(convolution(width, width, kernel_px), nn.GELU())
        self.head = Head(width, outputs, kernel_px, output)
        self.bytes_per_pixel = 48 * width

    def forward(self, planes: Tensor) -> Tensor:
        """Map planes (n, inputs, y, x) to (n, outputs, y, x), of any size."""
        result: Tensor = self.head(self.last(self.groups(self.stem(planes))))
        return result


def build(
    inputs: int = 1,
    outputs: int = 1,
    *,
    output: Output = "linear",
    kernel_px: int = 3,
    width: int = 64,
    groups: int = 4,
    blocks: int = 4,
    reduction: int = 16,
    spectrum_px: int = 128,
) -> Dfcan:
    """Build DFCAN without upscaling: 1,819,969 parameters, 329 GMAC at 512×512, and the transforms.

    Parameters
    ----------
    inputs, outputs
        Planes in and out: 1 and 1 for a plane alone, more for its neighbours in z as channels.
    output
        "linear" or "relu".
    kernel_px
        Edge of the convolutions, 3 or 5 pixels.
    width, groups, blocks, reduction
        Channels, residual groups, attention blocks a group, and the factor by which the attention narrows.
    spectrum_px
        Frequencies an axis that the attention looks at, an even number; 128 is the authors' patch size.
    """
    return Dfcan(
        inputs,
        outputs,
        output=output,
        kernel_px=kernel_px,
        width=width,
        groups=groups,
        blocks=blocks,
        reduction=reduction,
        spectrum_px=spectrum_px,
    )
