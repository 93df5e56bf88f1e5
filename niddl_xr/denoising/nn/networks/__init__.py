"""The networks, one a file: a module here whose name has no underscore in front is a network of that name.

To add one, add ``<name>.py`` with a function ``build(**options)`` that gives a :class:`PlaneNetwork`. It is then
found, listed, trained, saved and tested without another line.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any

from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.schema import NiddlError


def networks() -> list[str]:
    """Return the names of the networks that :func:`niddl_xr.train` can use.

    >>> "unet_fixed" in networks()
    True
    """
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def build_network(name: str, **options: Any) -> PlaneNetwork:
    """Build a network by its name; an unknown name or option is an error that lists the known ones."""
    if name not in networks():
        raise NiddlError(f"no network {name!r}; choose one of {', '.join(networks())}")
    build = import_module(f"{__name__}.{name}").build
    known = set(signature(build).parameters)
    if unknown := set(options) - known:
        raise NiddlError(f"network {name} has no option {sorted(unknown)}; its options are {sorted(known)}")
    network: PlaneNetwork = build(**options)
    return network
