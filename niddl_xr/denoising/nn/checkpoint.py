"""Checkpoints of a training: everything that the next epoch depends on, in one safetensors file."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niddl_xr.denoising.nn.data import fingerprint
from niddl_xr.denoising.nn.options import TrainingOptions
from niddl_xr.denoising.nn.session import Session, State, arrays_of
from niddl_xr.schema import NiddlError

_KEY = "checkpoint"  # of the file's metadata


def checkpoint_path(out: str | os.PathLike[str]) -> Path:
    """Return where a training that ends in ``out`` keeps its state after every epoch."""
    return Path(f"{out}.checkpoint")


def require_free(options: TrainingOptions) -> Path:
    """Check before any work that the result can be written; return where the checkpoint will lie."""
    out = Path(str(options.out)).expanduser()
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another name for the denoiser, or remove it yourself")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder {out.parent.absolute()} for the denoiser does not exist; make it first")
    checkpoint = checkpoint_path(out)
    resumed = None if options.resume is None else Path(options.resume).expanduser().resolve()
    if checkpoint.exists() and checkpoint.resolve() != resumed:
        raise FileExistsError(
            f"{checkpoint} is left of a training that was interrupted; go on with resume={str(checkpoint)!r}, or "
            "choose another name for the denoiser, or remove it yourself"
        )
    return checkpoint


def keep_checkpoint(session: Session, path: Path) -> None:
    """Write the checkpoint; a disk that is full ends no training."""
    try:
        save_checkpoint(session, path)
    except OSError as error:
        warnings.warn(
            f"the checkpoint {path} could not be written ({error.strerror}); training goes on without it", stacklevel=3
        )


def save_checkpoint(session: Session, path: Path) -> None:
    """Write the state of a training whole or not at all: a process that is killed leaves the one before."""
    from safetensors.numpy import save

    arrays = {f"best/{name}": array for name, array in session.best.items()}
    arrays |= {f"now/{name}": array for name, array in arrays_of(session.network.state_dict()).items()}
    if session.averaged is not None:
        arrays |= {f"averaged/{name}": array for name, array in session.weights().items()}
    for index, moments in session.optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            arrays[f"adam/{index}/{name}"] = torch.as_tensor(value).cpu().numpy()
    contents = {"state": asdict(session.state), "curve": session.curve, "identity": _identity(session)}
    # safetensors writes memory as it lies, and channels_last tensors do not lie in the order of their dims.
    ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(save(ordered, {_KEY: json.dumps(contents)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # ours alone, and only there if something failed


def load_checkpoint(session: Session, path: Path) -> None:
    """Bring a new session to the state of a checkpoint of the same data and options."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no training checkpoint at {path.absolute()}; train(out=...) writes one an epoch")
    try:
        opened = safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise NiddlError(f"{path} is not a readable training checkpoint ({error}); train anew") from error
    with opened as file:
        contents = json.loads((file.metadata() or {}).get(_KEY, "{}"))
        if not contents:
            raise NiddlError(f"{path} is no training checkpoint of niddl_xr")
        _require_same(path, contents["identity"], _identity(session))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    session.network.load_state_dict(_group(tensors, "now/"))
    session.best = {name: tensor.numpy() for name, tensor in _group(tensors, "best/").items()}
    if session.averaged is not None:
        session.averaged.load_state_dict(_group(tensors, "averaged/"))
    adam: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _group(tensors, "adam/").items():
        index, moment = name.split("/")
        adam.setdefault(int(index), {})[moment] = tensor
    session.optimiser.load_state_dict({**session.optimiser.state_dict(), "state": adam})
    session.state = State(**contents["state"])
    session.curve = contents["curve"]


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _identity(session: Session) -> dict[str, Any]:
    """What must be equal for a checkpoint to be continued, as JSON gives it back."""
    identity = {**session.options.as_identity(), "data": fingerprint(session.training_stacks)}
    restored: dict[str, Any] = json.loads(json.dumps(identity))
    return restored


def _require_same(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    differing = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if differing:
        raise NiddlError(
            f"{path} belongs to another training: {', '.join(differing)} differ; "
            "give the same data and options, or train anew without resume"
        )
