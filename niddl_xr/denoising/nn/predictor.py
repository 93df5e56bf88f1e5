"""Runs a network over blocks of frames: any mode, size of plane and device, results independent of the tiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from niddl_xr.chunking import padding_to_multiple, tiles
from niddl_xr.denoising.denoiser import Denoiser
from niddl_xr.denoising.nn.building import apply_network, load_network
from niddl_xr.denoising.nn.devices import choose_device
from niddl_xr.denoising.nn.threads import best_thread_count
from niddl_xr.denoising.nn.threads import threads as use_threads
from niddl_xr.denoising.nn.windows import Window, windows
from niddl_xr.denoising.normalisation import IDENTITY, Normalisation
from niddl_xr.schema import NiddlError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_MEMORY_BYTES = 2**30  # for the activations of one plane or tile
THREAD_TEST_PX = 256
HALF_PRECISION_TOLERANCE = 0.02  # greatest difference from float32, in units of the recording's scale

Job = tuple[int, Window]  # a frame of the block, and the planes of it that one forward pass sees and gives


class PlaneRunner:
    """A loaded network on a device.

    Parameters
    ----------
    denoiser
        With weights and a card that names the network, and mode and depth (none: every plane by itself).
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
        dtype = PRECISIONS[precision]
        self._half = None if dtype is torch.float32 else dtype
        self._network = load_network(denoiser, self._device)
        self._residual = bool(denoiser.card.get("residual", False))
        self._mode = str(denoiser.card.get("mode", "2d"))
        self.depth = int(denoiser.card.get("depth", 1))
        self._budget = DEFAULT_MEMORY_BYTES if memory_bytes is None else memory_bytes
        self._pixels_at_once = max(self._network.grid_px**2, self._budget // self._network.bytes_per_pixel)
        self._batch = 1
        self._threads = threads

    def __call__(self, block: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        """Denoise a block (t, z, y, x) of counts, all z of its frames; return counts, float32, of the same shape."""
        result = np.empty(block.shape, np.float32)
        of_a_frame = windows(self._mode, self.depth, block.shape[1])
        jobs = [(frame, window) for frame in range(len(block)) for window in of_a_frame]
        planes = _NormalisedPlanes(block, normalisation)
        if self._device.type == "cpu":  # one window at a time is fastest and smallest on a CPU
            with use_threads(self._thread_count(planes.gather(jobs[:1]))):
                self._run_jobs(jobs, planes, result, 1)
        else:
            self._run_jobs(jobs, planes, result, len(jobs))
        return result

    def predict(self, planes: np.ndarray) -> np.ndarray:
        """Denoise the normalised planes (z, y, x) of one stack, float32."""
        clean: np.ndarray = self(planes[None], IDENTITY)[0]
        return clean

    def _thread_count(self, noisy: np.ndarray) -> int:
        """Decide once, on a corner of the first window."""
        if self._threads is None:
            corner = noisy[..., :THREAD_TEST_PX, :THREAD_TEST_PX]
            self._threads = best_thread_count(lambda: self._forward(_padded(corner, self._network.grid_px)))
        return self._threads

    def _run_jobs(self, jobs: Sequence[Job], planes: _NormalisedPlanes, result: np.ndarray, most: int) -> None:
        """Double the batch while the device's memory lasts, halve it when it does not; ``most`` windows a batch."""
        start, limit = 0, most
        while start < len(jobs):
            batch = jobs[start : start + min(self._batch, limit)]
            try:
                clean = self._predict_windows(planes.gather(batch))
            except torch.cuda.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(batch) == 1:
                    raise NiddlError(
                        f"the device has no memory for a plane of {planes.shape} pixels with activations of "
                        f"{self._budget:,} bytes; cut it into smaller tiles with memory=, such as memory='256 MiB'"
                    ) from error
                self._batch = limit = len(batch) // 2
                continue
            for (frame, window), output in zip(batch, clean, strict=True):
                result[frame, window.write] = planes.normalisation.invert(output[window.keep])
            start += len(batch)
            self._batch = min(self._batch * 2, limit)

    def _predict_windows(self, noisy: np.ndarray) -> np.ndarray:
        """Denoise normalised windows (n, planes in, y, x) to (n, planes out, y, x), whole or in tiles: equal up to
        float32 rounding."""
        height, width = noisy.shape[2:]
        padded = _padded(noisy, self._network.grid_px)
        rows, columns = padded.shape[2:]
        if rows * columns <= self._pixels_at_once:
            return self._forward(padded)[..., :height, :width]
        reach = self._network.reach_px
        if reach is None:
            needed = rows * columns * self._network.bytes_per_pixel
            raise NiddlError(
                f"every output pixel of this network depends on the whole plane, so that it cannot be cut into tiles, "
                f"and planes of {height}×{width} pixels need {needed:,} bytes, got memory for {self._budget:,}; "
                f"say memory='{-(-needed // 2**20)} MiB'"
            )
        outputs = 1 if self._mode != "3d" else self.depth
        result = np.empty((len(noisy), outputs, rows, columns), np.float32)
        # The edge of a tile whose window, halo included, fits the memory; at least one halo, or work explodes.
        size = max(int(self._pixels_at_once**0.5) - 2 * reach, reach)
        for tile in tiles(rows, columns, size=size, halo=reach, grid=self._network.grid_px):
            result[..., *tile.write] = self._forward(padded[..., *tile.read])[..., *tile.crop]
        return result[..., :height, :width]

    def _forward(self, windows_in: np.ndarray) -> np.ndarray:
        noisy = torch.from_numpy(np.ascontiguousarray(windows_in)).to(self._device)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            clean = apply_network(self._network, noisy, residual=self._residual, half=self._half)
        array: np.ndarray = clean.cpu().numpy()
        return array


class _NormalisedPlanes:
    """The planes of a block, normalised once each, when a window first needs them.

    Windows come in order, so only the planes of the last windows are held: a few planes, not the block.
    """

    def __init__(self, block: np.ndarray, normalisation: Normalisation) -> None:
        self.normalisation = normalisation
        self.shape = block.shape[2:]
        self._block = block
        self._held: dict[tuple[int, int], np.ndarray] = {}

    def gather(self, jobs: Sequence[Job]) -> np.ndarray:
        """Return the windows (n, planes in, y, x) of some jobs, float32."""
        needed = {(frame, z) for frame, window in jobs for z in window.read}
        self._held = {
            place: self._held[place] if place in self._held else self.normalisation.apply(self._block[place])
            for place in needed
        }
        return np.stack([np.stack([self._held[frame, z] for z in window.read]) for frame, window in jobs])


def _padded(windows_in: np.ndarray, grid: int) -> np.ndarray:
    """Continue windows (n, planes, y, x) by reflection to multiples of a network's pooling grid."""
    rows, columns = padding_to_multiple(windows_in.shape[2], windows_in.shape[3], grid)
    return np.pad(windows_in, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")


def choose_precision(
    denoiser: Denoiser,
    planes: Sequence[np.ndarray],
    normalisation: Normalisation,
    device: str,
    precision: str,
    memory_bytes: int | None = None,
) -> str:
    """Decide once per recording what "auto" means: half precision on CUDA if it agrees with float32, else float32.

    Both are run on a few of the recording's own planes, each repeated where the network sees several; they agree if
    no pixel differs by more than 0.02 of the recording's scale.
    """
    if precision != "auto":
        return precision
    if choose_device(device).type != "cuda":
        return "float32"
    half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    exact = PlaneRunner(denoiser, device=device, memory_bytes=memory_bytes)
    quick = PlaneRunner(denoiser, device=device, precision=half, memory_bytes=memory_bytes)
    for plane in planes[:4]:
        normalised = np.stack([normalisation.apply(plane)] * exact.depth)
        if np.abs(exact.predict(normalised) - quick.predict(normalised)).max() > HALF_PRECISION_TOLERANCE:
            return "float32"
    return half
