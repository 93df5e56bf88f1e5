"""Networks as the modes use them: built for training, rebuilt from a denoiser's card, applied with the residual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.denoising.nn.networks import build_network, network_options
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.schema import NiddlError


def training_network_options(name: str, chosen: Mapping[str, Any], inputs: int, outputs: int) -> dict[str, Any]:
    """Return all options of a network that is to be trained: what was chosen, else a linear output where it has one.

    The paper's rectified output cannot give the negative values of a residual or of a background below the median.
    """
    options = {"inputs": inputs, "outputs": outputs, **chosen}
    if "output" in network_options(name):
        options.setdefault("output", "linear")
    return options


def load_network(denoiser: Denoiser, device: torch.device) -> PlaneNetwork:
    """Build the network that a denoiser's card names, with its weights, ready to run."""
    options = dict(denoiser.card["network"]["options"])
    if "channels" in options:  # what cards of before mode and depth called inputs and outputs, which were equal
        options["inputs"] = options["outputs"] = options.pop("channels")
    network = build_network(denoiser.card["network"]["name"], **options)
    weights = {name: torch.from_numpy(array.copy()) for name, array in denoiser.weights.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise NiddlError(
            f"the weights do not fit the network {denoiser.card['network']} that the denoiser's card names; "
            "the file was changed, or belongs to another version"
        ) from error
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def apply_network(network: torch.nn.Module, noisy: Tensor, *, residual: bool, half: torch.dtype | None) -> Tensor:
    """Return denoised planes (n, planes out, y, x), float32, of noisy ones (n, planes in, y, x).

    With ``residual`` the network's output is added to the planes it belongs to: all planes in, or the centre one.
    ``half`` is the precision of the network's inside, None for float32.
    """
    with torch.autocast(noisy.device.type, dtype=half, enabled=half is not None):
        output: Tensor = network(noisy)
    output = output.float()
    if not residual:
        return output
    first = (noisy.shape[1] - output.shape[1]) // 2
    return noisy[:, first : first + output.shape[1]] + output
