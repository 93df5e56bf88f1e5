"""Hourglass_wores of NIDDL: an hourglass without residuals, wider further down."""

from __future__ import annotations

from niddl_xr.denoising.nn.networks._hourglass import Hourglass
from niddl_xr.denoising.nn.networks._layers import Output, Upsampling


def build(
    inputs: int = 1,
    outputs: int = 1,
    *,
    output: Output = "relu",
    kernel_px: int = 3,
    upsampling: Upsampling = "tensorflow",
) -> Hourglass:
    """Build hourglass_wores: widths 32 to 256; 5,441,921 parameters, 131.8 GMAC at 512×512, reach 81 px.

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
    return Hourglass(
        inputs,
        outputs,
        widths=(32, 64, 128, 256),
        residual=False,
        output=output,
        kernel_px=kernel_px,
        upsampling_kind=upsampling,
        bytes_per_pixel=1300,
    )
