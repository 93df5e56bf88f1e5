"""Denoisers: trained, imported or classical, applied to recordings of any length."""

from niddl_xr.denoising.apply import denoise
from niddl_xr.denoising.classical import classical
from niddl_xr.denoising.denoiser import Denoiser, load_denoiser
from niddl_xr.denoising.learning import train
from niddl_xr.denoising.niddl_import import import_niddl
from niddl_xr.denoising.shipped import pretrained
from niddl_xr.denoising.suitability import SignalToNoiseWarning

__all__ = [
    "Denoiser",
    "SignalToNoiseWarning",
    "classical",
    "denoise",
    "import_niddl",
    "load_denoiser",
    "networks",
    "pretrained",
    "train",
]


def networks() -> list[str]:
    """Return the names of the networks that :func:`train` can use.

    >>> "unet_fixed" in networks()
    True
    """
    from niddl_xr.denoising.nn.networks import networks as names

    return names()
