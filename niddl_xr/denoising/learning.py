"""The verb train."""

from __future__ import annotations

import os
from typing import Any

import xarray as xr

from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.denoising.methods import method_module
from niddl_xr.metrics.pairs import require_good_pairs
from niddl_xr.schema import NiddlError

CHECK_S = 5.0
CHECK_SHARE = 0.05  # of the time that a training may take


def train(
    data: xr.Dataset | xr.DataArray,
    *,
    method: str = "niddl",
    network: str = "niddl_fast",
    mode: str = "2d",
    depth: int | None = None,
    loss: str = "l1",
    epochs: int = 30,
    time_limit_s: float | None = None,
    validation: float = 0.2,
    seed: int = 0,
    device: str = "auto",
    resume: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    check_pairs: bool = True,
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
        What the network looks at. "2d": every plane by itself. "2.5d": a plane with its neighbours along z, to give
        that plane. "3d": neighbouring planes, to give them all. "max_projection": the maximum over z of both halves,
        taken before anything else, one image a stack; recordings are projected likewise when they are denoised.
    depth
        How many planes the network looks at: odd for "2.5d", 2 or more for "3d"; None: 3 for these two. Stacks need
        at least as many.
    loss
        "l1", "l2" or "charbonnier".
    epochs
        At most so many; one shows as many pixels as the pairs hold, in 250 steps at most.
    time_limit_s
        Return after this time in s: reading the pairs, the last validation and the metrics count; one step is made
        in any case. The schedule is fitted to it. A training that is continued has spent what it took before.
    validation
        Fraction of the stacks that is set aside, whole acquisitions, never single planes; 0 for none.
    seed
        Decides split, patches and first weights: the same seed and number of threads (it stands in the card) give
        the same denoiser on the same CPU, unless time ended the training.
    device
        "auto", "cpu", "cuda", "mps".
    resume
        Checkpoint to go on from, ``<out>.checkpoint``: same data and options; epochs, time limit, patience, memory,
        threads and device may differ. Continued with the same epochs and threads, it ends with the same denoiser
        as a training that was never interrupted.
    out
        File to save the denoiser to. A checkpoint lies beside it while training runs, and stays if time, Ctrl-C or
        a crash ended it.
    check_pairs
        Look at a sample of the pairs first, for at most 5 s, or 5 % of ``time_limit_s`` where that is less: see
        :func:`niddl_xr.check_pairs`. Not done for a training that is continued.
    **options
        patch_px (128), batch (4), learning_rate (None: that of the network, 2e-3 for niddl_fast and 1e-3 for the
        others), residual (True), precision ("float32" or "bfloat16", which is faster where the processor has
        instructions for it), patience (10 epochs, None for no early stop), progress (True), threads (of torch on a CPU;
        by default all, or one if that is clearly faster because other programs use the cores), turns (True: patches
        are flipped and turned; False where noise has a direction, as stripes have, and the pairs show scenes in all
        directions), network_options (a mapping that the network is built with, such as ``{"kernel_px": 5}``), memory
        ("4 GiB"; pairs of more bytes stay on the disk: every stack is read once an epoch for all its patches, with the
        same result), averaging (None; else, such as 0.999, the exponential average of the weights over about
        1 / (1 - averaging) steps is validated and kept).

    Returns
    -------
    Denoiser
        With its loss curve, split and settings in ``card["training"]``; there ``snr_range_db`` is the range of
        signal to noise of the training stacks (of their projections in mode "max_projection"). ``card["metrics"]``
        is the quality on validation patches beside that of the noisy image and two filters.

    Raises
    ------
    NiddlError
        For unknown options, NaN, constant, unrelated, turned or swapped images, a single stack with validation, a
        depth that does not fit the mode or the stacks.
    FileExistsError
        If ``out`` exists, or a checkpoint of it that ``resume`` does not name.

    Warns
    -----
    niddl_xr.metrics.PairsWarning
        Where the halves of pairs are shifted.

    Notes
    -----
    Modes, losses and optimiser are those of Chaudhary, Moon and Lu (Nat. Commun. 13:5165, 2022), who found "2d" the
    best. Beyond the ends of a stack they fill in planes of zeros; here planes are repeated by reflection, because
    after the offset is taken out zeros would tell the network where the stack ends. They slide "3d" windows one
    by one and keep the centre; here windows stand side by side, ``depth`` times less work.

    Examples
    --------
    >>> import niddl_xr as nx
    >>> pairs = nx.simulate.training_pairs(stacks=3, shape=(2, 48, 64), seed=0)
    >>> denoiser = nx.train(pairs, epochs=1, patch_px=32, progress=False)
    >>> denoiser.card["mode"], denoiser.card["training"]["patch_px"]
    ('2d', 32)
    """
    from niddl_xr.denoising.nn.options import TrainingOptions

    module = method_module(method)
    settings: dict[str, Any] = {
        "network": network,
        "mode": mode,
        "depth": depth,
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
    chosen = TrainingOptions(**settings, **options)
    if check_pairs and resume is None and isinstance(data, xr.Dataset):
        require_good_pairs(data, time_limit_s=_check_time_s(time_limit_s))
    denoiser: Denoiser = module.train(data, chosen)
    return denoiser


def _check_time_s(time_limit_s: float | None) -> float:
    """Return how long the pairs of a training may be checked, in s."""
    return CHECK_S if time_limit_s is None else min(CHECK_S, CHECK_SHARE * time_limit_s)
