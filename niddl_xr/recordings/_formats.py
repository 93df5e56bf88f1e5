"""What readers and writers share: a format is a module of a package, and may need packages that are not installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any


def modules_of(package: str, path: Iterable[str]) -> dict[str, Any]:
    """Return the modules of a package that are formats by name, sorted: those without a leading underscore."""
    names = sorted(module.name for module in iter_modules(path) if not module.name.startswith("_"))
    return {name: import_module(f"{package}.{name}") for name in names}


def missing(packages: Iterable[str]) -> list[str]:
    """Return the packages that are not installed."""
    return [package for package in packages if find_spec(package) is None]
