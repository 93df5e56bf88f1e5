"""The ways to track: one module a method, found by its file name, each with a function ``link``.

``link(frames, *, anchors, reference, gate_um, seed, **options) -> Linked`` takes arrays and numbers: the points of
every frame (:class:`niddl_xr.neurons.Frames`), what a human has said about some of them, the frame whose points name
the neurons (None: the method chooses), and the distance in µm beyond which a point is no candidate. What else it takes
are its own keyword arguments, which :func:`niddl_xr.track` hands through. The verb does what all methods share: it
reads the table, fills what is missing, drops neurons that are hardly ever seen, and gives labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from niddl_xr.schema import NiddlError


@dataclass(frozen=True)
class Former:
    """Whom tracks that there were took the points for: equally long arrays.

    ``frame`` (k,), ``detection`` (k,), the number of the point within its frame, and ``neuron`` (k,), its name. It
    tells who is meant by a name, and nothing about where anyone is: the tracks may have been wrong.
    """

    frame: np.ndarray
    detection: np.ndarray
    neuron: np.ndarray

    def columns(self, detection: np.ndarray) -> dict[str, int]:
        """Return which column of ``detection`` (t, neuron) each name means: the most points in common, one to one."""
        names = list(dict.fromkeys(self.neuron.tolist()))
        place = {name: number for number, name in enumerate(names)}
        number = np.array([place[name] for name in self.neuron], dtype=int)
        together = np.zeros((len(names), detection.shape[1]))
        same, column = np.nonzero(detection[self.frame] == self.detection[:, None])
        np.add.at(together, (number[same], column), 1)
        pairs = zip(*linear_sum_assignment(together, maximize=True), strict=True)
        return {names[row]: int(column) for row, column in pairs if together[row, column] > 0}


@dataclass(frozen=True)
class Anchors:
    """Points that a human has said to be a neuron; equally long arrays.

    ``frame`` (k,), ``neuron`` (k,) names, ``position_um`` (k, 3), and ``detection`` (k,): the number of the point
    within its frame that stands there, -1 where no detection is near. ``forbidden`` are detections that a human has
    said not to be a neuron: rows of (frame, number of the point within the frame) with the names beside. ``former``,
    where there is one, says who is meant by the names.
    """

    frame: np.ndarray
    neuron: np.ndarray
    position_um: np.ndarray
    detection: np.ndarray
    forbidden: np.ndarray
    forbidden_neuron: np.ndarray
    former: Former | None = None

    @property
    def names(self) -> list[str]:
        """The neurons that are named, in order of their first anchor."""
        return list(dict.fromkeys(self.neuron.tolist()))


@dataclass(frozen=True)
class Linked:
    """What a method found.

    ``detection`` (t, neuron) is the number of the point within its frame, -1 where none; no point stands twice in a
    frame. ``confidence`` (t, neuron) is 0 to 1, and 0 where there is no detection. ``position_um`` (t, neuron, 3), if
    the method gives it, is where an undetected neuron should be (NaN: unknown). ``names`` (neuron,) holds the name
    that anchors gave, else "". ``attrs`` go to the tracks.
    """

    detection: np.ndarray
    confidence: np.ndarray
    names: list[str]
    position_um: np.ndarray | None = None
    attrs: dict[str, Any] | None = None


Link = Callable[..., Linked]

_SHARED = frozenset({"frames", "anchors", "reference", "gate_um", "seed"})


def methods() -> list[str]:
    """Return the names of the methods, sorted."""
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def find_method(name: str, options: dict[str, Any]) -> Link:
    """Return ``link`` of a method after a check of the options that are its own."""
    if name not in methods():
        raise NiddlError(f"expected method as one of {methods()}, got {name!r}")
    link: Link = import_module(f"{__name__}.{name}").link
    own = sorted(set(signature(link).parameters) - _SHARED)
    unknown = sorted(set(options) - set(own))
    if unknown:
        raise NiddlError(f"method {name!r} takes {own}, got {unknown}")
    return link
