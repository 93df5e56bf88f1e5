"""The methods, one file a paper: a module here whose name has no underscore in front is a method of that name.

Each gives ``train(data, options) -> Denoiser``, ``runner(denoiser, device, precision, memory_bytes, threads)`` and
``choose_precision(denoiser, planes, normalisation, device, precision, memory_bytes)``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from niddl_xr.schema import NiddlError


def methods() -> list[str]:
    """Return the names of the methods that :func:`niddl_xr.train` knows.

    >>> methods()
    ['niddl']
    """
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def method_module(name: str) -> Any:
    """Return the module of a method; an unknown name is an error that lists the known ones."""
    if name not in methods():
        raise NiddlError(f"no method {name!r}; choose one of {', '.join(methods())}")
    return import_module(f"{__name__}.{name}")
