"""Training on pairs: split by stack, best weights of the validation, resumable, stopped by time or by hand."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from niddl_xr.chunking import sampled_planes
from niddl_xr.denoising.denoiser import FORMAT, FORMAT_VERSION, Denoiser
from niddl_xr.denoising.nn.data import PatchSampler, Stack, fingerprint, load_stacks, split_stacks
from niddl_xr.denoising.nn.devices import choose_device
from niddl_xr.denoising.nn.losses import Loss, loss_function
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.threads import best_thread_count, threads
from niddl_xr.metrics import compare, snr
from niddl_xr.schema import RECORDING_DIMS, NiddlError

MODES = ("2d",)
VALIDATION_PATCHES = 16
MAX_STEPS_PER_EPOCH = 250
FINAL_LEARNING_RATE = 0.01  # of the first; the cosine of Loshchilov and Hutter (ICLR 2017) ends there
WARM_UP = 0.03  # of the training, in which the learning rate rises from 0


@dataclass(frozen=True)
class TrainingOptions:
    """All that decides a training; an unknown option is an error by construction."""

    network: str = "unet_fixed"
    mode: str = "2d"
    loss: str = "l1"
    epochs: int = 30
    time_limit_s: float | None = None
    validation: float = 0.2
    seed: int = 0
    device: str = "auto"
    resume: str | None = None
    out: str | None = None
    patch_px: int = 128
    batch: int = 4
    learning_rate: float = 1e-3
    residual: bool = True
    precision: str = "float32"
    patience: int | None = 10
    threads: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise NiddlError(f"no mode {self.mode!r}; choose one of {', '.join(MODES)}")
        if self.precision not in ("float32", "bfloat16"):
            raise NiddlError(f"expected precision 'float32' or 'bfloat16' for training, got {self.precision!r}")
        for name in ("epochs", "patch_px", "batch", "threads", "patience"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise NiddlError(f"expected {name} as a whole number of 1 or more, got {value!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise NiddlError(f"expected seed as a whole number of 0 or more, got {self.seed!r}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise NiddlError(f"expected a positive learning_rate, got {self.learning_rate}")
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise NiddlError(f"expected time_limit_s as a positive number of seconds, got {self.time_limit_s}")


@dataclass
class _State:
    """What a checkpoint holds beside network and optimiser."""

    epoch: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf
    threads: int = 0


class _Session:
    """One training: its data, network, optimiser and state."""

    def __init__(self, stacks: list[Stack], options: TrainingOptions) -> None:
        self.options = options
        self.device = choose_device(options.device)
        self.training_stacks, self.validation_stacks = split_stacks(stacks, options.validation, options.seed)
        self.loss: Loss = loss_function(options.loss)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.network = build_network(options.network, output="linear")
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        patch_px = _patch_size(stacks, options.patch_px, self.network.grid_px)
        self.sampler = PatchSampler(self.training_stacks, patch_px, options.batch)
        self.validation_batch = self._validation_patches(patch_px)
        covering = math.ceil(self.sampler.pixels / (patch_px**2 * options.batch))
        self.steps_per_epoch = max(1, min(covering, MAX_STEPS_PER_EPOCH))
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.state = _State(threads=options.threads or self._thread_count())
        self.best = self._weights()
        self.curve: list[dict[str, float]] = []

    def _thread_count(self) -> int:
        """Time one step with all threads and with one; nothing is learned from it."""
        if self.device.type != "cpu":
            return torch.get_num_threads()
        noisy, clean = self._tensors(self.sampler.draw(np.random.default_rng(0)))
        count = best_thread_count(lambda: self.loss(self.predict(noisy), clean).backward())
        self.optimiser.zero_grad(set_to_none=True)
        return count

    def _weights(self) -> dict[str, np.ndarray]:
        state = self.network.state_dict()
        return {name: tensor.detach().cpu().numpy().copy(order="C") for name, tensor in state.items()}

    def _validation_patches(self, patch_px: int) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.validation_stacks:
            return None
        sampler = PatchSampler(self.validation_stacks, patch_px, VALIDATION_PATCHES, gain_range=0, offset_range=0)
        return sampler.draw(np.random.default_rng([self.options.seed, 1]))

    def predict(self, noisy: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            output: Tensor = self.network(noisy)
        return noisy + output.float() if self.options.residual else output.float()

    def _tensors(self, batch: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        noisy, clean = (torch.from_numpy(array).to(self.device) for array in batch)
        return noisy.contiguous(memory_format=torch.channels_last), clean

    def progress(self, step: int) -> float:
        """The fraction of the training that is done, by steps or by time, whichever is more."""
        by_steps = (self.state.epoch + step / self.steps_per_epoch) / self.options.epochs
        limit = self.options.time_limit_s
        return max(by_steps, self.state.seconds / limit if limit else 0.0)

    def run_epoch(self, deadline: float) -> bool:
        """Train for one epoch; return whether time is left. The patches depend on seed and epoch alone."""
        rng = np.random.default_rng([self.options.seed, 2, self.state.epoch])
        started = time.monotonic()
        before = self.state.seconds
        self.network.train()
        total = torch.zeros((), device=self.device)
        steps = 0
        for step in range(self.steps_per_epoch):
            self.state.seconds = before + time.monotonic() - started
            rate = self.options.learning_rate * _schedule(self.progress(step))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            noisy, clean = self._tensors(self.sampler.draw(rng))
            loss = self.loss(self.predict(noisy), clean)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            total += loss.detach()
            steps += 1
            if time.monotonic() >= deadline:
                break
        self._finish_epoch(float(total) / steps)
        self.state.seconds = before + time.monotonic() - started
        self.curve[-1]["seconds"] = round(self.state.seconds, 3)
        return time.monotonic() < deadline

    def _finish_epoch(self, training_loss: float) -> None:
        if not math.isfinite(training_loss):
            raise NiddlError(
                f"the training loss became {training_loss} in epoch {self.state.epoch + 1}; "
                f"try a lower learning_rate than {self.options.learning_rate}"
            )
        validation_loss = self.validation_loss()
        self.state.epoch += 1
        row = {"epoch": float(self.state.epoch), "training_loss": training_loss}
        if validation_loss is not None:
            row["validation_loss"] = validation_loss
        self.curve.append(row)
        judged = training_loss if validation_loss is None else validation_loss
        if judged < self.state.best_loss:
            self.state.best_loss, self.state.best_epoch, self.best = judged, self.state.epoch, self._weights()

    def validation_loss(self) -> float | None:
        """The loss on fixed patches of stacks that training never sees, None without validation."""
        if self.validation_batch is None:
            return None
        self.network.eval()
        noisy, clean = self._tensors(self.validation_batch)
        with torch.inference_mode():
            losses = [
                float(self.loss(self.predict(noisy[i : i + 1]), clean[i : i + 1])) for i in range(VALIDATION_PATCHES)
            ]
        return float(np.mean(losses))

    def validation_metrics(self) -> dict[str, dict[str, float]]:
        """Mean quality on the validation patches of the best weights, of the noisy image, and of two filters."""
        if self.validation_batch is None:
            return {}
        noisy, clean = (batch[:, 0] for batch in self.validation_batch)
        self.network.load_state_dict({name: torch.from_numpy(array) for name, array in self.best.items()})
        self.network.eval()
        with torch.inference_mode():
            tensors, _ = self._tensors(self.validation_batch)
            denoised = np.concatenate([self.predict(tensors[i : i + 1])[:, 0].cpu().numpy() for i in range(len(noisy))])
        table = compare(
            {name: _as_recording(planes) for name, planes in (("raw", noisy), ("denoised", denoised))},
            truth=_as_recording(clean),
        )
        return {
            str(name): {"PSNR_dB": float(row["PSNR_dB"]), "SSIM": float(row["SSIM"])} for name, row in table.iterrows()
        }

    def snr_range_db(self) -> list[float]:
        """Least and greatest signal to noise of the training stacks, each the median over its planes."""
        ratios = []
        for stack in self.training_stacks:
            planes = np.stack([stack.noisy[z] for _, z in sampled_planes(1, len(stack.noisy))])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # saturation of training images is not this verb's affair
                ratios.append(float(snr(_as_recording(planes))["snr_dB"].median()))
        finite = [ratio for ratio in ratios if math.isfinite(ratio)]
        return [min(finite), max(finite)] if finite else []

    def out_of_patience(self) -> bool:
        patience = self.options.patience
        return (
            patience is not None
            and self.validation_batch is not None
            and self.state.epoch - self.state.best_epoch >= patience
        )

    # Checkpoints: everything that the next epoch depends on.

    def save_checkpoint(self, path: Path) -> None:
        from safetensors.numpy import save

        arrays = {f"best/{name}": array for name, array in self.best.items()}
        arrays |= {f"now/{name}": array for name, array in self._weights().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                arrays[f"adam/{index}/{name}"] = torch.as_tensor(value).cpu().numpy()
        contents = {"state": asdict(self.state), "curve": self.curve, "identity": self.identity()}
        temporary = path.with_name(path.name + ".part")
        # safetensors writes memory as it lies, and channels_last tensors do not lie in the order of their dims.
        ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        temporary.write_bytes(save(ordered, {"checkpoint": json.dumps(contents)}))
        os.replace(temporary, path)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        options = asdict(self.options)
        for name in ("epochs", "time_limit_s", "device", "resume", "out", "progress", "patience", "threads"):
            del options[name]
        return {**options, "data": fingerprint(self.training_stacks)}

    def load_checkpoint(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise FileNotFoundError(f"no training checkpoint at {path.absolute()}; train(out=...) writes one an epoch")
        try:
            opened = safe_open(str(path), framework="pt")
        except SafetensorError as error:
            raise NiddlError(f"{path} is not a readable training checkpoint ({error}); train anew") from error
        with opened as file:
            contents = json.loads((file.metadata() or {}).get("checkpoint", "{}"))
            if not contents:
                raise NiddlError(f"{path} is no training checkpoint of niddl_xr")
            ours = self.identity()
            differing = [name for name, value in contents["identity"].items() if ours.get(name) != value]
            if differing:
                raise NiddlError(
                    f"{path} belongs to another training: {', '.join(sorted(differing))} differ; "
                    "give the same data and options, or train anew without resume"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.network.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("now/")})
        self.best = {k[5:]: v.numpy() for k, v in tensors.items() if k.startswith("best/")}
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam/"):
                _, index, moment = name.split("/")
                adam.setdefault(int(index), {})[moment] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": adam})
        self.state = _State(**contents["state"])
        self.curve = contents["curve"]


def _as_recording(planes: np.ndarray) -> xr.DataArray:
    return xr.DataArray(planes[:, None], dims=RECORDING_DIMS)


def _patch_size(stacks: list[Stack], wanted: int, grid: int) -> int:
    smallest: int = min(min(stack.noisy.shape[1:]) for stack in stacks)
    size = min(wanted, smallest) // grid * grid
    if size < grid:
        raise NiddlError(
            f"expected planes of at least {grid}×{grid} pixels for this network, got an edge of {smallest}"
        )
    return size


def _schedule(progress: float) -> float:
    """The learning rate relative to the first: a short linear rise, then half a cosine."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, FINAL_LEARNING_RATE)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))))
    return FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine


@contextmanager
def _kept_on_interrupt(session: _Session) -> Iterator[None]:
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


def checkpoint_path(out: str | os.PathLike[str]) -> Path:
    """Return where a training that ends in ``out`` keeps its state after every epoch."""
    return Path(f"{out}.checkpoint")


def train_on_pairs(pairs: xr.Dataset, options: TrainingOptions, *, method: str) -> Denoiser:
    """Train a plane network on pairs (stack, z, y, x); see :func:`niddl_xr.train`."""
    from tqdm.auto import tqdm

    checkpoint = _require_free(options) if options.out is not None else None
    stacks = load_stacks(pairs)
    session = _Session(stacks, options)
    if options.resume is not None:
        session.load_checkpoint(Path(options.resume).expanduser())
    deadline = math.inf
    if options.time_limit_s is not None:
        deadline = time.monotonic() + max(0.0, options.time_limit_s - session.state.seconds)
    with (
        threads(session.state.threads),
        _kept_on_interrupt(session),
        tqdm(
            total=options.epochs, initial=session.state.epoch, desc="train", unit="epoch", disable=not options.progress
        ) as bar,
    ):
        time_left = time.monotonic() < deadline or not session.curve  # without a step there is no denoiser
        while time_left and session.state.epoch < options.epochs and not session.out_of_patience():
            time_left = session.run_epoch(deadline)
            if checkpoint is not None:
                _keep(session, checkpoint)
            bar.update()
            bar.set_postfix({name: f"{value:.4g}" for name, value in session.curve[-1].items() if "loss" in name})
    denoiser = Denoiser(_card(session, pairs, method), session.best)
    if options.out is not None and checkpoint is not None:
        denoiser = denoiser.save(options.out)
        if session.state.epoch >= options.epochs or session.out_of_patience():
            checkpoint.unlink(missing_ok=True)  # ours; where time or a hand ended the training, it can go on from there
    return denoiser


def _require_free(options: TrainingOptions) -> Path:
    """Check before any work that the result can be written; return where the checkpoint will lie."""
    out = Path(str(options.out)).expanduser()
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another name for the denoiser, or remove it yourself")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder {out.parent.absolute()} for the denoiser does not exist; make it first")
    checkpoint = checkpoint_path(out)
    if checkpoint.exists() and options.resume is None:
        raise FileExistsError(
            f"{checkpoint} is left of a training that was interrupted; go on with resume={str(checkpoint)!r}, or "
            "remove it yourself to begin anew"
        )
    return checkpoint


def _keep(session: _Session, checkpoint: Path) -> None:
    """Write the checkpoint; a disk that is full ends no training."""
    try:
        session.save_checkpoint(checkpoint)
    except OSError as error:
        checkpoint.with_name(checkpoint.name + ".part").unlink(missing_ok=True)
        warnings.warn(
            f"the checkpoint {checkpoint} could not be written ({error.strerror}); training goes on without it",
            stacklevel=3,
        )


def _card(session: _Session, pairs: xr.Dataset, method: str) -> dict[str, Any]:
    from niddl_xr import __version__
    from niddl_xr.schema import voxel_um

    options = session.options
    network: PlaneNetwork = session.network
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": method,
        "mode": options.mode,
        "network": {"name": options.network, "options": {"output": "linear"}},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "residual": options.residual,
        "normalisation": "recording",
        "halo_frames": 0,
        "training": {
            "options": {k: v for k, v in asdict(options).items() if k not in ("resume", "out", "progress")},
            "curve": session.curve,
            "best_epoch": session.state.best_epoch,
            "best_loss": session.state.best_loss,
            "seconds": session.state.seconds,
            "steps_per_epoch": session.steps_per_epoch,
            "patch_px": session.sampler.patch_px,
            "threads": session.state.threads,
            "stacks": [stack.name for stack in session.training_stacks],
            "validation_stacks": [stack.name for stack in session.validation_stacks],
            "snr_range_db": session.snr_range_db(),
        },
        "metrics": session.validation_metrics(),
        "data": {
            "source": str(pairs.attrs.get("source", "")),
            "sha256": fingerprint(session.training_stacks),
            "voxel_um": voxel_um(pairs["noisy"].isel(stack=0)) if {"z", "y", "x"} <= set(pairs.coords) else {},
            "dtype": str(pairs["noisy"].dtype),
        },
        "versions": {"niddl_xr": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }
