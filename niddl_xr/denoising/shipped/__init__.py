"""Denoisers that come with the package: ``<name>.safetensors`` beside this file is the one of that name.

``worm-sim``: niddl_fast, trained on simulated worms alone, by ``python -m benchmarks.worm_sim train``.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
_SUFFIX = ".safetensors"


def pretrained() -> list[str]:
    """Return the names of the denoisers that come with the package, for :func:`niddl_xr.load_denoiser`.

    >>> pretrained()
    ['worm-sim']
    """
    return sorted(path.stem for path in _FOLDER.glob(f"*{_SUFFIX}"))


def path_of(name: str) -> Path:
    """Return the file of a denoiser that comes with the package."""
    return _FOLDER / f"{name}{_SUFFIX}"
