"""Runs a plane network over blocks of frames: any size of plane, any device, results independent of the tiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from niddl_xr.chunking import padding_to_multiple, tiles
from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.denoising.nn.devices import choose_device
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.denoising.nn.threads import best_thread_count
from niddl_xr.denoising.nn.threads import threads as use_threads
from niddl_xr.denoising.normalisation import Normalisation
from niddl_xr.schema import NiddlError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_MEMORY_BYTES = 2**30  # for the activations of one plane or tile
THREAD_TEST_PX = 256
HALF_PRECISION_TOLERANCE = 0.02  # greatest difference from float32, in units of the recording's scale


class PlaneRunner:
    """A loaded plane network on a device.

    Parameters
    ----------
    denoiser
        With weights and a card that names the network.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    precision
        "float32", "bfloat16" or "float16" ("auto" is decided once per recording, by :func:`choose_precision`).
    memory_bytes
        What activations may take; planes that need more are cut into tiles. None: 1 GiB.
    threads
        Threads of torch on the CPU; None: all, or one if that is clearly faster because the cores are busy.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        device: str = "cpu",
        precision: str = "float32",
        memory_bytes: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._device = choose_device(device)
        self._dtype = PRECISIONS[precision]
        self._network = load_network(denoiser, self._device)
        self._residual = bool(denoiser.card.get("residual", False))
        budget = DEFAULT_MEMORY_BYTES if memory_bytes is None else memory_bytes
        self._pixels_at_once = max(self._network.grid_px**2, budget // self._network.bytes_per_pixel)
        self._batch = 1
        self._threads = threads

    def __call__(self, block: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        """Denoise a block (t, z, y, x) of counts; return counts, float32, of the same shape."""
        planes = block.reshape(-1, *block.shape[2:])
        result = np.empty(planes.shape, np.float32)
        if self._device.type == "cpu":  # one plane at a time is fastest and smallest on a CPU
            with use_threads(self._thread_count(normalisation.apply(planes[:1]))):
                for index, plane in enumerate(planes):
                    result[index] = normalisation.invert(self.predict(normalisation.apply(plane[None])))[0]
        else:
            self._run_batches(planes, result, normalisation)
        return result.reshape(block.shape)

    def _thread_count(self, plane: np.ndarray) -> int:
        """Decide once, on a corner of the first plane."""
        if self._threads is None:
            corner = plane[:, :THREAD_TEST_PX, :THREAD_TEST_PX]
            self._threads = best_thread_count(lambda: self.predict(corner))
        return self._threads

    def _run_batches(self, planes: np.ndarray, result: np.ndarray, normalisation: Normalisation) -> None:
        """Double the batch while the device's memory lasts, halve it when it does not."""
        start, limit = 0, len(planes)
        while start < len(planes):
            stop = min(start + self._batch, len(planes))
            try:
                result[start:stop] = normalisation.invert(self.predict(normalisation.apply(planes[start:stop])))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if self._batch == 1:
                    raise
                self._batch = limit = max(1, self._batch // 2)
                continue
            start = stop
            self._batch = min(self._batch * 2, limit)

    def predict(self, planes: np.ndarray) -> np.ndarray:
        """Denoise normalised planes (n, y, x), float32, whole or in tiles: equal up to float32 rounding."""
        height, width = planes.shape[1:]
        grid = self._network.grid_px
        rows, columns = padding_to_multiple(height, width, grid)
        padded = np.pad(planes, ((0, 0), (0, rows), (0, columns)), mode="symmetric")
        if padded.shape[1] * padded.shape[2] <= self._pixels_at_once:
            return self._forward(padded)[:, :height, :width]
        result = np.empty_like(padded)
        size = self._tile_size()
        for tile in tiles(padded.shape[1], padded.shape[2], size=size, halo=self._network.reach_px, grid=grid):
            result[:, *tile.write] = self._forward(padded[:, *tile.read])[:, *tile.crop]
        return result[:, :height, :width]

    def _tile_size(self) -> int:
        """The edge of a tile whose window, halo included, fits the memory; at least one halo, or work explodes."""
        edge = int(self._pixels_at_once**0.5) - 2 * self._network.reach_px
        return max(edge, self._network.reach_px)

    def _forward(self, planes: np.ndarray) -> np.ndarray:
        noisy = torch.from_numpy(np.ascontiguousarray(planes)).unsqueeze(1).to(self._device)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        half = self._dtype is not torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=self._dtype if half else None, enabled=half),
        ):
            output: Tensor = self._network(noisy)
        clean = noisy + output.float() if self._residual else output.float()
        array: np.ndarray = clean.squeeze(1).cpu().numpy()
        return array


def load_network(denoiser: Denoiser, device: torch.device) -> PlaneNetwork:
    """Build the network that a denoiser's card names, with its weights, ready to run."""
    network = build_network(denoiser.card["network"]["name"], **denoiser.card["network"]["options"])
    weights = {name: torch.from_numpy(array.copy()) for name, array in denoiser.weights.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise NiddlError(
            f"the weights do not fit the network {denoiser.card['network']} that the denoiser's card names; "
            "the file was changed, or belongs to another version"
        ) from error
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def choose_precision(
    denoiser: Denoiser, planes: Sequence[np.ndarray], normalisation: Normalisation, device: str, precision: str
) -> str:
    """Decide once per recording what "auto" means: half precision on CUDA if it agrees with float32, else float32.

    Both are run on a few of the recording's own planes; they agree if no pixel differs by more than 0.02 of the
    recording's scale.
    """
    if precision != "auto":
        return precision
    if choose_device(device).type != "cuda":
        return "float32"
    half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    exact = PlaneRunner(denoiser, device=device)
    quick = PlaneRunner(denoiser, device=device, precision=half)
    for plane in planes[:4]:
        normalised = normalisation.apply(plane[None])
        if np.abs(exact.predict(normalised) - quick.predict(normalised)).max() > HALF_PRECISION_TOLERANCE:
            return "float32"
    return half
