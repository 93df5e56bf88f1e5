"""How good a network is on stacks that it never sees: the loss after every epoch, image quality at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from niddl_xr.denoising.nn.data import as_recording
from niddl_xr.denoising.nn.losses import Loss
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.patches import Batch, PatchSampler
from niddl_xr.metrics import compare

PATCHES_SHARE = 8  # one validation patch for so many training patches of an epoch: a forward pass alone, so 4 %
LEAST_PATCHES, MOST_PATCHES = 16, 128  # fewer judge by chance, more take memory and time
COMPARISON_SHARE = 0.5  # of the time of comparing raw and two filters, that of comparing the result; measured 0.25
MEASURES = ("PSNR_dB", "SSIM")

Tensors = Callable[[Batch], tuple[Tensor, Tensor]]
Predict = Callable[[PlaneNetwork, Tensor], Tensor]


class Validation:
    """Fixed patches, spread evenly over stacks and depths, and what is measured on them.

    Parameters
    ----------
    sampler
        Of the validation stacks.
    training_patches
        How many patches an epoch of training shows; there is one of validation for eight, 16 to 128.
    seed
        Decides the places of the patches in their planes.
    tensors, predict, loss
        How the training brings patches to its device, denoises them, and judges them.
    """

    def __init__(
        self, sampler: PatchSampler, training_patches: int, seed: int, tensors: Tensors, predict: Predict, loss: Loss
    ) -> None:
        self.count = min(max(training_patches // PATCHES_SHARE, LEAST_PATCHES), MOST_PATCHES)
        plan = sampler.even_plan(np.random.default_rng([seed, 1]), self.count)
        ((self.noisy, self.clean),) = replace(sampler, batch=self.count).batches(plan)
        self._batch = sampler.batch
        self._tensors, self._predict, self._loss = tensors, predict, loss
        # What the filters reach does not depend on the training: measured first, it also tells how long it takes.
        started = time.monotonic()
        first = (self.noisy.shape[1] - self.clean.shape[1]) // 2
        self.filter_metrics = self._compared("raw", self.noisy[:, first : first + self.clean.shape[1]])
        self.comparison_seconds = COMPARISON_SHARE * (time.monotonic() - started)

    def loss(self, network: PlaneNetwork) -> float:
        """Return the mean loss of all patches."""
        total = 0.0
        for part, output in self._denoised(network):
            _, clean = self._tensors((self.noisy[part], self.clean[part]))
            total += float(self._loss(output, clean)) * len(output)
        return total / self.count

    def metrics(self, network: PlaneNetwork) -> dict[str, dict[str, float]]:
        """Return the mean quality of the noisy patches, of two filters, and of the denoised patches."""
        denoised = np.empty_like(self.clean)
        for part, output in self._denoised(network):
            denoised[part] = output.cpu().numpy()
        return {**self.filter_metrics, **self._compared("denoised", denoised)}

    def seconds_of_a_pass(self, network: PlaneNetwork) -> float:
        """Estimate how long it takes to denoise all patches, by the second of two batches: the first plans memory."""
        seconds = 0.0
        for _ in range(2):
            started = time.monotonic()
            next(self._denoised(network))[1].sum().item()
            seconds = time.monotonic() - started
        return seconds * math.ceil(self.count / self._batch)

    def _denoised(self, network: PlaneNetwork) -> Iterator[tuple[slice, Tensor]]:
        network.eval()
        for start in range(0, self.count, self._batch):
            part = slice(start, start + self._batch)
            with torch.inference_mode():
                noisy, _ = self._tensors((self.noisy[part], self.clean[part]))
                output = self._predict(network, noisy)
            yield part, output

    def _compared(self, name: str, planes: np.ndarray) -> dict[str, dict[str, float]]:
        """Return the mean quality of patches (n, planes out, y, x), plane by plane; beside "raw" of two filters."""
        image, truth = (as_recording(half.reshape(-1, *half.shape[2:])) for half in (planes, self.clean))
        table = compare({name: image}, truth=truth, max_planes=MOST_PATCHES)
        return {str(row): {measure: float(table.loc[row, measure]) for measure in MEASURES} for row in table.index}
