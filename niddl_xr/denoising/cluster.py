"""Gives the workers of a dask cluster the denoiser. Imports distributed: load it only where there is a client."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from niddl_xr.denoising.denoiser import Denoiser, keep_on_worker


class DenoiserPlugin(WorkerPlugin):
    """Every worker process, now and later, gets the denoiser's bytes once; graphs hold only its fingerprint."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.name = f"niddl_xr-denoiser-{denoiser.sha256}"
        self.sha256 = denoiser.sha256
        self.content = denoiser.file_content

    def setup(self, worker: Any) -> None:
        """Called by distributed when a worker starts or the plugin is registered."""
        keep_on_worker(self.sha256, self.content)
