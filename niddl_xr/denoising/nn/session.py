"""One training while it runs: network, optimiser, schedule, validation, best weights, clock."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from niddl_xr.denoising.nn.building import apply_network, training_network_options
from niddl_xr.denoising.nn.data import Stack, split_stacks
from niddl_xr.denoising.nn.devices import choose_device
from niddl_xr.denoising.nn.losses import Loss, loss_function
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.options import TrainingOptions
from niddl_xr.denoising.nn.patches import Batch, PatchSampler
from niddl_xr.denoising.nn.threads import best_thread_count, threads
from niddl_xr.denoising.nn.validation import Validation
from niddl_xr.schema import NiddlError

MAX_STEPS_PER_EPOCH = 250
FINAL_LEARNING_RATE = 0.01  # of the first; the cosine of Loshchilov and Hutter (ICLR 2017) ends there
LARGEST_GRADIENT = 1.0  # norm over all weights; without a limit, rates of 3e-3 and more sometimes end in a constant
WARM_UP = 0.03  # of the training, in which the learning rate rises from 0


@dataclass
class State:
    """What a checkpoint holds beside network and optimiser."""

    epoch: int = 0
    steps: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf
    threads: int = 0


class Session:
    """One training: its data, network, optimiser and state.

    Parameters
    ----------
    stacks
        All of them; some are set aside for validation.
    options
        What decides the training.
    started
        Reading of ``time.monotonic`` at which the training began, reading the pairs included.
    """

    def __init__(self, stacks: list[Stack], options: TrainingOptions, started: float | None = None) -> None:
        self.options = options
        self._started = time.monotonic() if started is None else started
        self.device = choose_device(options.device)
        self.training_stacks, self.validation_stacks = split_stacks(stacks, options.validation, options.seed)
        self.loss: Loss = loss_function(options.loss)
        self.network_options = training_network_options(
            options.network, options.network_options, options.inputs, options.outputs
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = build_network(options.network, **self.network_options)
        self.network: PlaneNetwork = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network) if options.averaging is not None else None
        patch_px = _patch_size(stacks, options, self.network.grid_px)
        self.sampler = PatchSampler(
            self.training_stacks,
            patch_px,
            options.batch,
            options.mode,
            options.inputs,
            options.memory_bytes // 2,
            turned=options.turns,
        )
        covering = math.ceil(self.sampler.pixels / (patch_px**2 * options.batch * options.outputs))
        self.steps_per_epoch = max(1, min(covering, MAX_STEPS_PER_EPOCH))
        self.validation = self._validation()
        self.learning_rate = options.learning_rate or self.network.learning_rate
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        self.state = State()
        self.best = self.weights()
        self.curve: list[dict[str, float]] = []
        self._validation_seconds = 0.0

    def begin(self) -> None:
        """Decide what depends on the machine: threads, and the time to leave for the end."""
        self._started -= self.state.seconds  # of a training that is continued
        # What is asked for goes before what the training that is continued had.
        self.state.threads = self.options.threads or self.state.threads or self._thread_count()
        if self.options.time_limit_s is not None and self.validation is not None:
            with threads(self.state.threads):
                self._validation_seconds = self.validation.seconds_of_a_pass(self.judged_network)

    @property
    def seconds(self) -> float:
        """The time since the training began, in all its runs."""
        return time.monotonic() - self._started

    @property
    def seconds_for_training(self) -> float:
        """How long steps may be made: the time limit without what the last validation and the metrics take."""
        if self.options.time_limit_s is None:
            return math.inf
        if self.validation is None:
            return self.options.time_limit_s
        return self.options.time_limit_s - 2 * self._validation_seconds - self.validation.comparison_seconds

    @property
    def time_left(self) -> bool:
        """Whether another epoch may begin; without a step there is no denoiser."""
        return self.seconds < self.seconds_for_training or not self.curve

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for as many epochs as the options allow."""
        patience = self.options.patience
        return (
            patience is not None
            and self.validation is not None
            and self.state.epoch - self.state.best_epoch >= patience
        )

    def run_epoch(self) -> None:
        """Train for one epoch, or for as much of it as there is time. The patches depend on seed and epoch alone."""
        rng = np.random.default_rng([self.options.seed, 2, self.state.epoch])
        plan = self.sampler.plan(rng, self.steps_per_epoch * self.options.batch)
        self.network.train()
        total = torch.zeros((), device=self.device)
        started, steps = self.seconds, 0
        for batch in self.sampler.batches(plan):
            self._set_learning_rate(steps)
            total += self._step(*self._tensors(batch))
            steps += 1
            now = self.seconds
            if now + (now - started) / steps > self.seconds_for_training:  # another step would be too long
                break
        self._finish_epoch(float(total) / steps)

    def _step(self, noisy: Tensor, clean: Tensor) -> Tensor:
        loss = self.loss(self._predict(self.network, noisy), clean)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.state.steps += 1
        if self.averaged is not None:
            self._average(self.averaged)
        return loss.detach()

    def _average(self, averaged: PlaneNetwork) -> None:
        """Follow the weights by their exponential average (Polyak and Juditsky, SIAM J Control Optim 30:838, 1992).

        Its memory grows over the first steps, by the rule (1 + n) / (10 + n) that TensorFlow uses, so that the first,
        random weights do not linger.
        """
        steps = self.state.steps
        keep = min(float(self.options.averaging or 0.0), (1 + steps) / (10 + steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.parameters()), list(self.network.parameters()), 1 - keep)
            for ours, theirs in zip(averaged.buffers(), self.network.buffers(), strict=True):
                ours.copy_(theirs)

    def _set_learning_rate(self, step: int) -> None:
        """Set the rate by the fraction of the training that is done, by steps or by time, whichever is more."""
        by_steps = (self.state.epoch + step / self.steps_per_epoch) / self.options.epochs
        available = self.seconds_for_training
        by_time = self.seconds / available if available > 0 else 1.0
        rate = self.learning_rate * schedule(max(by_steps, by_time))
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _finish_epoch(self, training_loss: float) -> None:
        if not math.isfinite(training_loss):
            raise NiddlError(
                f"the training loss became {training_loss} in epoch {self.state.epoch + 1}; "
                f"try a lower learning_rate than {self.learning_rate}"
            )
        before = self.seconds
        validation_loss = None if self.validation is None else self.validation.loss(self.judged_network)
        self._validation_seconds = self.seconds - before
        self.state.epoch += 1
        self.state.seconds = self.seconds
        row = {"epoch": float(self.state.epoch), "training_loss": training_loss}
        if validation_loss is not None:
            row["validation_loss"] = validation_loss
        self.curve.append({**row, "seconds": round(self.state.seconds, 3)})
        judged = training_loss if validation_loss is None else validation_loss
        if judged < self.state.best_loss:
            self.best = self.weights()
            self.state.best_loss, self.state.best_epoch = judged, self.state.epoch

    @property
    def judged_network(self) -> PlaneNetwork:
        """The network whose weights become the denoiser: the averaged one where there is one."""
        return self.network if self.averaged is None else self.averaged

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights that would become the denoiser."""
        return arrays_of(self.judged_network.state_dict())

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the quality of the best weights on validation patches, beside the noisy image and two filters."""
        if self.validation is None:
            return {}
        network = self.judged_network
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self.best.items()})
        return self.validation.metrics(network)

    def _validation(self) -> Validation | None:
        if not self.validation_stacks:
            return None
        sampler = replace(self.sampler, stacks=self.validation_stacks)
        patches = self.steps_per_epoch * self.options.batch
        return Validation(sampler, patches, self.options.seed, self._tensors, self._predict, self.loss)

    def _thread_count(self) -> int:
        """Time one step with all threads and with one; nothing is learned from it."""
        if self.device.type != "cpu":
            return torch.get_num_threads()
        plan = self.sampler.plan(np.random.default_rng(0), self.options.batch)
        noisy, clean = self._tensors(next(self.sampler.batches(plan)))
        count = best_thread_count(lambda: self.loss(self._predict(self.network, noisy), clean).backward())
        self.optimiser.zero_grad(set_to_none=True)
        return count

    def _predict(self, network: PlaneNetwork, noisy: Tensor) -> Tensor:
        half = torch.bfloat16 if self.options.precision == "bfloat16" else None
        return apply_network(network, noisy, residual=self.options.residual, half=half)

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        noisy, clean = (torch.from_numpy(array).to(self.device) for array in batch)
        return noisy.contiguous(memory_format=torch.channels_last), clean


def arrays_of(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return copies of tensors as arrays."""
    return {name: tensor.detach().cpu().numpy().copy(order="C") for name, tensor in state.items()}


def schedule(progress: float) -> float:
    """Return the learning rate relative to the first: a short linear rise, then half a cosine."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, FINAL_LEARNING_RATE)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))))
    return FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine


def _patch_size(stacks: list[Stack], options: TrainingOptions, grid: int) -> int:
    planes, *edges = stacks[0].shape
    if planes < options.inputs:
        raise NiddlError(
            f"expected stacks of at least {options.inputs} planes, the depth of mode '{options.mode}', got {planes}; "
            "choose a smaller depth or mode '2d'"
        )
    size = min(options.patch_px, *edges) // grid * grid
    if size < grid:
        raise NiddlError(
            f"expected planes of at least {grid}×{grid} pixels for this network, got an edge of {min(edges)}"
        )
    return size
