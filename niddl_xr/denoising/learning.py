"""The verb train."""

from __future__ import annotations

import os
from typing import Any

import xarray as xr

from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.denoising.methods import method_module
from niddl_xr.schema import NiddlError


def train(
    data: xr.Dataset | xr.DataArray,
    *,
    method: str = "niddl",
    network: str = "unet_fixed",
    mode: str = "2d",
    loss: str = "l1",
    epochs: int = 30,
    time_limit_s: float | None = None,
    validation: float = 0.2,
    seed: int = 0,
    device: str = "auto",
    resume: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Denoiser:
    """Train a denoiser.

    Noisy images are brought to offset 0 and scale 1 per stack, and the clean ones to the units of the noisy
    (least squares), so that the result is in counts of the input. The network learns what to add to its input.
    Patches are flipped, turned, and varied in gain and offset. Adam with a cosine schedule; the weights of the best
    validation loss are kept. Ctrl-C keeps the best so far.

    Parameters
    ----------
    data
        Pairs (stack, z, y, x) with ``noisy`` and ``clean``, see :func:`open_pairs`, for supervised methods.
    method
        "niddl".
    network
        One of :func:`networks`.
    mode
        "2d": every plane by itself.
    loss
        "l1", "l2" or "charbonnier".
    epochs
        At most so many; one shows as many pixels as the pairs hold, in 250 steps at most.
    time_limit_s
        Stop after this time; the schedule is fitted to it.
    validation
        Fraction of the stacks that is set aside, whole acquisitions, never single planes; 0 for none.
    seed
        Decides split, patches and first weights: the same seed and number of threads (it stands in the card) give
        the same denoiser on the same CPU.
    device
        "auto", "cpu", "cuda", "mps".
    resume
        Checkpoint to go on from, ``<out>.checkpoint``: same data and options; epochs and time limit may be more.
    out
        File to save the denoiser to. A checkpoint lies beside it while training runs, and stays if time, Ctrl-C or
        a crash ended it.
    **options
        patch_px (128), batch (4), learning_rate (1e-3), residual (True), precision ("float32" or "bfloat16"),
        patience (10 epochs, None for no early stop), progress (True), threads (of torch on a CPU; by default all,
        or one if that is clearly faster because other programs use the cores).

    Returns
    -------
    Denoiser
        With its loss curve, split and settings in ``card["training"]``.

    Raises
    ------
    NiddlError
        For unknown options, NaN, constant or unrelated images, a single stack with validation.
    FileExistsError
        If ``out`` exists, or a checkpoint of it that ``resume`` does not name.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> denoiser = nx.train(nx.open_pairs("pairs/"), time_limit_s=600, out="worm.safetensors")  # doctest: +SKIP
    """
    from niddl_xr.denoising.nn.training import TrainingOptions

    module = method_module(method)
    settings: dict[str, Any] = {
        "network": network,
        "mode": mode,
        "loss": loss,
        "epochs": epochs,
        "time_limit_s": time_limit_s,
        "validation": validation,
        "seed": seed,
        "device": device,
        "resume": None if resume is None else os.fspath(resume),
        "out": None if out is None else os.fspath(out),
    }
    known = set(TrainingOptions.__dataclass_fields__)
    if unknown := set(options) - known:
        raise NiddlError(
            f"train has no option {sorted(unknown)}; its further options are {sorted(known - set(settings))}"
        )
    denoiser: Denoiser = module.train(data, TrainingOptions(**settings, **options))
    return denoiser
