"""Losses over normalised planes, chosen by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from niddl_xr.schema import NiddlError

Loss = Callable[[Tensor, Tensor], Tensor]


def l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, the default of NIDDL for whole brains: its minimum is the median."""
    return (predicted - target).abs().mean()


def l2(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, the choice of NIDDL for neurites: its minimum is the mean."""
    return (predicted - target).square().mean()


def charbonnier(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth mean absolute error sqrt(d² + 0.01²), d in units of the image's scale (Charbonnier et al. 1994)."""
    return ((predicted - target).square() + 1e-4).sqrt().mean()


LOSSES: dict[str, Loss] = {"l1": l1, "l2": l2, "charbonnier": charbonnier}


def loss_function(name: str) -> Loss:
    """Return a loss by its name; an unknown one is an error that lists the known ones."""
    if name not in LOSSES:
        raise NiddlError(f"no loss {name!r}; choose one of {', '.join(LOSSES)}")
    return LOSSES[name]
