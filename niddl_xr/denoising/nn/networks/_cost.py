"""What a network costs, counted from its layers without running it."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork


class Cost(NamedTuple):
    """Parameters, bytes of the weights (not of an optimiser's checkpoint), multiply-adds of one plane."""

    parameters: int
    weight_bytes: int
    multiply_adds: int


def cost(network: PlaneNetwork, height_px: int = 512, width_px: int = 512, *, inputs: int = 1) -> Cost:
    """Count parameters, bytes and multiply-adds of one forward pass.

    Parameters
    ----------
    network
        Any network; it is neither run nor changed.
    height_px, width_px
        Size of the plane, rounded up to the network's grid as a denoiser does.
    inputs
        The number of planes that the network was built for.

    Returns
    -------
    Cost
        Multiply-adds are those of convolutions (output pixels × weights), transposed convolutions (input pixels ×
        weights, before anything is cut off) and linear layers; one is two floating-point operations. Biases,
        activations, poolings and Fourier transforms are not counted.

    Examples
    --------
    >>> from niddl_xr.denoising.nn.networks import build_network
    >>> cost(build_network("unet_fixed")).parameters
    314913
    """
    total = 0

    def count(module: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
        nonlocal total
        weight = cast(Tensor, module.weight)
        at = arguments[0] if isinstance(module, nn.ConvTranspose2d) else result
        positions = at.numel() // at.shape[-1] if isinstance(module, nn.Linear) else at.shape[-1] * at.shape[-2]
        total += positions * weight.numel()

    shadow = deepcopy(network).to("meta")  # has shapes and no numbers: nothing is computed
    for module in shadow.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(count)
    height, width = (-(-size // network.grid_px) * network.grid_px for size in (height_px, width_px))
    with torch.inference_mode():
        shadow(torch.empty(1, inputs, height, width, device="meta"))
    parameters = list(network.parameters())
    return Cost(
        parameters=sum(parameter.numel() for parameter in parameters),
        weight_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        multiply_adds=total,
    )
