"""The networks, one a file: a module here whose name has no underscore in front is a network of that name.

To add one, add ``<name>.py`` with a function ``build(inputs=1, outputs=1, **options)``, all of whose options have
defaults, that gives a :class:`PlaneNetwork`. It is then found, listed, trained, saved and tested without another line.
An option ``output`` is "relu" or "linear".
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any

from niddl_xr.denoising.nn.networks._layers import check_counts
from niddl_xr.denoising.nn.networks._plane_network import PlaneNetwork
from niddl_xr.schema import NiddlError


def networks() -> list[str]:
    """Return the names of the networks that :func:`niddl_xr.train` can use.

    >>> "unet_fixed" in networks()
    True
    """
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def network_options(name: str) -> dict[str, Any]:
    """Return the options of a network with their defaults; an unknown name is an error that lists the known ones.

    >>> network_options("unet_fixed")["output"]
    'relu'
    """
    if name not in networks():
        raise NiddlError(f"no network {name!r}; choose one of {', '.join(networks())}")
    build = import_module(f"{__name__}.{name}").build
    return {option: parameter.default for option, parameter in signature(build).parameters.items()}


def build_network(name: str, **options: Any) -> PlaneNetwork:
    """Build a network by its name; an unknown name or option is an error that lists the known ones."""
    known = network_options(name)
    if unknown := set(options) - set(known):
        raise NiddlError(f"network {name} has no option {sorted(unknown)}; its options are {sorted(known)}")
    check_counts(**{key: options[key] for key in ("inputs", "outputs") if key in options})
    network: PlaneNetwork = import_module(f"{__name__}.{name}").build(**options)
    return network
