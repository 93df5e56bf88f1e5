"""Training on pairs: split by stack, best weights of the validation, resumable, stopped by time or by hand."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION, Denoiser
from niddl_xr.denoising.nn.checkpoint import keep_checkpoint, load_checkpoint, require_free
from niddl_xr.denoising.nn.data import fingerprint, load_stacks, projected, snr_range_db
from niddl_xr.denoising.nn.options import TrainingOptions
from niddl_xr.denoising.nn.session import Session
from niddl_xr.denoising.nn.threads import threads


def train_on_pairs(pairs: xr.Dataset, options: TrainingOptions, *, method: str) -> Denoiser:
    """Train a network on pairs (stack, z, y, x); see :func:`niddl_xr.train`."""
    from tqdm.auto import tqdm

    started = time.monotonic()
    checkpoint = require_free(options) if options.out is not None else None
    if options.mode == "max_projection":
        pairs = projected(pairs)
    session = Session(load_stacks(pairs, options.memory_bytes), options, started)
    if options.resume is not None:
        load_checkpoint(session, Path(options.resume).expanduser())
    session.begin()
    with (
        threads(session.state.threads),
        _kept_on_interrupt(session),
        tqdm(
            total=options.epochs, initial=session.state.epoch, desc="train", unit="epoch", disable=not options.progress
        ) as bar,
    ):
        while session.time_left and session.state.epoch < options.epochs and not session.out_of_patience:
            session.run_epoch()
            if checkpoint is not None:
                keep_checkpoint(session, checkpoint)
            bar.update()
            bar.set_postfix({name: f"{value:.4g}" for name, value in session.curve[-1].items() if "loss" in name})
    with threads(session.state.threads):
        denoiser = Denoiser(_card(session, pairs, method), session.best)
    if options.out is not None and checkpoint is not None:
        denoiser = denoiser.save(options.out)
        if session.state.epoch >= options.epochs or session.out_of_patience:
            checkpoint.unlink(missing_ok=True)  # ours; where time or a hand ended the training, it can go on from there
    return denoiser


@contextmanager
def _kept_on_interrupt(session: Session) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if not session.curve:
            raise
        warnings.warn(
            f"training stopped by hand in epoch {session.state.epoch + 1}; the weights of epoch "
            f"{session.state.best_epoch} are kept",
            stacklevel=4,
        )


def _card(session: Session, pairs: xr.Dataset, method: str) -> dict[str, Any]:
    from niddl_xr import __version__
    from niddl_xr.schema import voxel_um

    options = session.options
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": method,
        "mode": options.mode,
        "depth": options.inputs,
        "network": {"name": options.network, "options": session.network_options},
        "parameters": sum(parameter.numel() for parameter in session.network.parameters()),
        "residual": options.residual,
        "normalisation": "recording",
        "halo_frames": 0,
        "training": {
            "options": options.as_card() | {"learning_rate": session.learning_rate},
            "curve": session.curve,
            "best_epoch": session.state.best_epoch,
            "best_loss": session.state.best_loss,
            "seconds": session.state.seconds,
            "steps": session.state.steps,
            "steps_per_epoch": session.steps_per_epoch,
            "patch_px": session.sampler.patch_px,
            "threads": session.state.threads,
            "stacks": [stack.name for stack in session.training_stacks],
            "validation_stacks": [stack.name for stack in session.validation_stacks],
            "snr_range_db": snr_range_db(session.training_stacks),
        },
        "metrics": session.metrics(),
        "data": {
            "source": str(pairs.attrs.get("source", "")),
            "sha256": fingerprint(session.training_stacks),
            "voxel_um": voxel_um(pairs["noisy"].isel(stack=0)),
            "dtype": str(pairs["noisy"].dtype),
        },
        "versions": {"niddl_xr": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }
