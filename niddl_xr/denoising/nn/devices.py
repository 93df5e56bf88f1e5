"""Where a network runs."""

from __future__ import annotations

import torch

from niddl_xr.schema import NiddlError


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" takes CUDA, then Apple's MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise NiddlError(f"expected device 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', got {name!r}") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise NiddlError(f"expected device 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', got {name!r}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NiddlError("device 'mps' was asked for, but this torch has no MPS device; say device='cpu' or 'auto'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NiddlError(f"device {name!r} was asked for, but torch sees no CUDA device; say device='cpu' or 'auto'")
    return device
