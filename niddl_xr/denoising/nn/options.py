"""What decides a training, checked before any work begins."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from niddl_xr.schema import NiddlError

DEFAULT_DEPTHS = {"2d": 1, "2.5d": 3, "3d": 3, "max_projection": 1}  # the modes, and the planes that each looks at
# What a checkpoint may be continued with another value of: none of it changes what a step of training does.
FREE_ON_RESUME = (
    "epochs", "time_limit_s", "device", "resume", "out", "progress", "patience", "threads", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingOptions:
    """All that decides a training; an unknown option is an error by construction. See :func:`niddl_xr.train`."""

    network: str = "niddl_fast"
    mode: str = "2d"
    depth: int | None = None
    loss: str = "l1"
    epochs: int = 30
    time_limit_s: float | None = None
    validation: float = 0.2
    seed: int = 0
    device: str = "auto"
    resume: str | None = None
    out: str | None = None
    patch_px: int = 128
    batch: int = 4
    learning_rate: float | None = None
    residual: bool = True
    turns: bool = True
    averaging: float | None = None
    precision: str = "float32"
    patience: int | None = 10
    threads: int | None = None
    memory: int | str = "4 GiB"
    network_options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = True

    def __post_init__(self) -> None:
        _check_depth(self.mode, self.depth)
        _check_network_options(self.network_options)
        if self.precision not in ("float32", "bfloat16"):
            raise NiddlError(f"expected precision 'float32' or 'bfloat16' for training, got {self.precision!r}")
        for name in ("epochs", "patch_px", "batch", "threads", "patience"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise NiddlError(f"expected {name} as a whole number of 1 or more, got {value!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise NiddlError(f"expected seed as a whole number of 0 or more, got {self.seed!r}")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise NiddlError(f"expected a positive learning_rate, got {self.learning_rate}")
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise NiddlError(f"expected time_limit_s as a positive number of seconds, got {self.time_limit_s}")
        if self.averaging is not None and not 0 < self.averaging < 1:
            raise NiddlError(
                f"expected averaging as the share of the average that a step keeps, between 0 and 1 such as 0.999, or "
                f"None, got {self.averaging}"
            )
        if self.memory_bytes <= 0:
            raise NiddlError(f"expected memory of more than 0 bytes, got {self.memory!r}")
        for name in ("residual", "turns"):
            if not isinstance(getattr(self, name), bool):
                raise NiddlError(f"expected {name} as True or False, got {getattr(self, name)!r}")
        self._check_card()

    @property
    def inputs(self) -> int:
        """How many planes the network sees."""
        return DEFAULT_DEPTHS[self.mode] if self.depth is None else self.depth

    @property
    def outputs(self) -> int:
        """How many planes the network gives."""
        return self.inputs if self.mode == "3d" else 1

    @property
    def memory_bytes(self) -> int:
        """What the pixels of the pairs may take in memory."""
        from dask.utils import parse_bytes

        try:
            return int(parse_bytes(self.memory))
        except (TypeError, ValueError) as error:
            raise NiddlError(f"expected memory as bytes or a text such as '4 GiB', got {self.memory!r}") from error

    def as_card(self) -> dict[str, Any]:
        """Return the options as a denoiser's card states them."""
        settings = asdict(self) | {"depth": self.inputs, "network_options": dict(self.network_options)}
        return {name: value for name, value in settings.items() if name not in ("resume", "out", "progress")}

    def _check_card(self) -> None:
        """Refuse before the training what could not be saved after it."""
        for name, value in self.as_card().items():
            try:
                json.dumps(value)
            except TypeError as error:
                raise NiddlError(
                    f"expected {name} as a number or text of Python, which a denoiser's card can hold, got {value!r} "
                    f"of type {type(value).__name__}; convert it, with float() or int()"
                ) from error

    def as_identity(self) -> dict[str, Any]:
        """Return the options that must be equal for a checkpoint to be continued."""
        return {name: value for name, value in self.as_card().items() if name not in FREE_ON_RESUME}


def _check_depth(mode: str, depth: int | None) -> None:
    if mode not in DEFAULT_DEPTHS:
        raise NiddlError(f"no mode {mode!r}; choose one of {', '.join(DEFAULT_DEPTHS)}")
    if depth is None:
        return
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise NiddlError(f"expected depth as a whole number of planes, got {depth!r}")
    if DEFAULT_DEPTHS[mode] == 1 and depth != 1:
        raise NiddlError(
            f"mode '{mode}' looks at one plane, got depth={depth}: leave depth out, or choose mode '2.5d' or '3d'"
        )
    if mode == "2.5d" and (depth < 3 or depth % 2 == 0):
        raise NiddlError(
            f"expected an odd depth of 3 or more for mode '2.5d', a plane with as many neighbours above as below, "
            f"got {depth}"
        )
    if mode == "3d" and depth < 2:
        raise NiddlError(
            f"expected a depth of 2 or more for mode '3d', got {depth}; mode '2d' is the one for one plane"
        )


def _check_network_options(options: Mapping[str, Any]) -> None:
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise NiddlError(f"expected network_options as a mapping such as {{'kernel_px': 5}}, got {options!r}")
    if taken := {"inputs", "outputs"} & set(options):
        raise NiddlError(
            f"{sorted(taken)} of the network follow from mode and depth; leave them out of network_options"
        )
    try:
        json.dumps(dict(options))
    except TypeError as error:
        raise NiddlError(
            f"expected network_options of numbers, texts and lists, which a denoiser's card can hold, got {options!r}"
        ) from error
