"""UNet of NIDDL: the same graph as UNet_fixed, twice as wide at every level further down."""

from __future__ import annotations

from niddl_xr.denoising.nn.networks._layers import Output, Upsampling
from niddl_xr.denoising.nn.networks._unet import UNet


def build(
    inputs: int = 1,
    outputs: int = 1,
    *,
    output: Output = "relu",
    kernel_px: int = 3,
    upsampling: Upsampling = "tensorflow",
) -> UNet:
    """Build unet: widths 32 to 512; 14,908,225 parameters, 87.1 GMAC at 512×512, reach 169 px.

    Parameters
    ----------
    inputs, outputs
        Planes in and out: 1 and 1 for a plane alone, more for its neighbours in z as channels.
    output
        "relu" as in the paper's TensorFlow code, or "linear" as in its torch port and for normalised planes.
    kernel_px
        Edge of the convolutions, 3 or 5 pixels; the paper found no gain in 5. The transposed ones follow it.
    upsampling
        "tensorflow": the paper's transposed convolution. "torch": the 2×2 one of the authors' port.
    """
    return UNet(
        inputs,
        outputs,
        widths=(32, 64, 128, 256, 512),
        output=output,
        kernel_px=kernel_px,
        upsampling_kind=upsampling,
        bytes_per_pixel=1300,
    )
