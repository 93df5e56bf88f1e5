"""The saved thing: a denoiser is a card (what it is, for what, how good) and weights, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from niddl_xr.denoising.shipped import path_of, pretrained
from niddl_xr.schema import NiddlError

FORMAT = "niddl_xr denoiser"
FORMAT_VERSION = 1
_CARD_KEYS = {"format", "format_version", "method"}
_METADATA_KEY = "card"  # the one key of the file's metadata, so that its order cannot vary


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A denoiser of any method: trained, imported, or a classical filter.

    Attributes
    ----------
    card
        What the denoiser is, of types that JSON holds: method, network and options, normalisation, halo, training
        (loss curve, seed, stacks, SNR range), data (voxel size in µm, time step in s, fingerprint), versions.
    weights
        Name -> array; empty for classical filters.
    path
        Where it was loaded from or saved to, None before.

    Examples
    --------
    >>> from niddl_xr import classical
    >>> classical("median", size_px=3).card["method"]
    'median'
    """

    card: Mapping[str, Any]
    weights: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    path: Path | None = None

    @property
    def method(self) -> str:
        """The name of the method that made it, or of the classical filter that it is."""
        return str(self.card["method"])

    @property
    def halo_frames(self) -> int:
        """How many frames before and after a frame its result depends on."""
        return int(self.card.get("halo_frames", 0))

    @property
    def planewise(self) -> bool:
        """Whether every plane is denoised without its neighbours in z."""
        return self.mode in ("2d", "max_projection")

    @property
    def mode(self) -> str:
        """What a network sees at once.

        "2d": a plane; "2.5d": ``depth`` planes, of which it gives the centre one; "3d": ``depth`` planes, which it
        gives; "max_projection": the maximum of a volume along z.
        """
        return str(self.card.get("mode", "2d"))

    @property
    def depth(self) -> int:
        """The number of planes along z that a network sees at once: 1 in the modes "2d" and "max_projection"."""
        return int(self.card.get("depth", 1))

    @property
    def projects(self) -> bool:
        """Whether volumes are projected along z before they are denoised."""
        return self.mode == "max_projection"

    @property
    def normalised(self) -> bool:
        """Whether the recording's offset and scale are taken out before, and put back after."""
        return bool(self.card.get("normalisation") == "recording")

    @property
    def of_unit_noise(self) -> bool:
        """Whether it works on values whose noise has SD 1, as some classical filters do."""
        return bool(self.card.get("normalisation") == "noise")

    @cached_property
    def file_content(self) -> bytes:
        """The bytes of the file that :meth:`save` writes."""
        from safetensors.numpy import save

        # safetensors needs contiguous arrays, and at least one of them.
        arrays = {name: np.ascontiguousarray(array) for name, array in sorted(self.weights.items())}
        metadata = {_METADATA_KEY: json.dumps(self.card, sort_keys=True)}
        return bytes(save(arrays or {"none": np.zeros(1, np.float32)}, metadata))

    @cached_property
    def sha256(self) -> str:
        """The fingerprint of the file: it names the denoiser in histories and on a cluster."""
        return hashlib.sha256(self.file_content).hexdigest()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Denoiser:
        """Write the denoiser to one file and return it with its path.

        Raises
        ------
        FileExistsError
            If the file exists and ``overwrite`` is not set.
        """
        target = Path(path).expanduser()
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; choose another name or say overwrite=True")
        if not target.parent.is_dir():
            raise FileNotFoundError(f"the folder {target.parent.absolute()} does not exist; make it first")
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            temporary.write_bytes(self.file_content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)  # ours alone, and only there if something failed
        return Denoiser(self.card, self.weights, target.absolute())

    def __repr__(self) -> str:
        network = self.card.get("network", {}).get("name", "no network")
        count = sum(array.size for array in self.weights.values())
        return f"<Denoiser {self.method}: {network}, {count:,} weights, sha256 {self.sha256[:12]}>"


def load_denoiser(path: str | os.PathLike[str]) -> Denoiser:
    """Load a denoiser from the file that :meth:`Denoiser.save` wrote, or one that comes with the package.

    The file holds numbers and JSON alone: loading runs no code from it.

    Parameters
    ----------
    path
        Path of a file, or one of :func:`niddl_xr.pretrained`: "worm-sim" is trained on simulated heads, ventral cords
        and neurites of worms, as single planes and as maximum projections, at 0.4 µm a pixel and with the noise of an
        EMCCD. It is a first look where there are no pairs to train on. A file of that very name is "./worm-sim".

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    NiddlError
        If the file is no denoiser, is damaged, or was written by a newer version.

    Examples
    --------
    >>> denoiser = load_denoiser("worm-sim")
    >>> denoiser.card["network"]["name"]
    'niddl_fast'
    """
    if not isinstance(path, str | os.PathLike):
        raise NiddlError(f"expected a Denoiser or the path of one, got {type(path).__name__}; see train and classical")
    source = path_of(path) if isinstance(path, str) and path in pretrained() else Path(path).expanduser()
    if not source.is_file():
        raise FileNotFoundError(
            f"no denoiser at {source.absolute()}; Denoiser.save writes one, and {', '.join(pretrained())} comes with "
            "niddl_xr"
        )
    return _parse(source.read_bytes(), str(source), source.absolute())


def _parse(content: bytes, name: str, path: Path | None) -> Denoiser:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(content)
        header_length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + header_length])
    except (SafetensorError, ValueError) as error:
        raise NiddlError(
            f"{name} is not a readable denoiser file ({error}); it may be cut off: copy it again"
        ) from error
    try:
        card = json.loads(header.get("__metadata__", {}).get(_METADATA_KEY, "{}"))
    except ValueError as error:
        raise NiddlError(f"{name} has a card that is no JSON ({error}); copy it again") from error
    if not isinstance(card, dict) or not set(card) >= _CARD_KEYS or card["format"] != FORMAT:
        raise NiddlError(f"{name} holds tensors but is no denoiser of niddl_xr; import_niddl reads NIDDL's checkpoints")
    if not isinstance(card["format_version"], int) or card["format_version"] > FORMAT_VERSION:
        raise NiddlError(
            f"{name} has format version {card['format_version']}, this niddl_xr reads up to {FORMAT_VERSION}; "
            "update niddl_xr"
        )
    return Denoiser(card, {} if set(weights) == {"none"} else weights, path)


_ON_THIS_WORKER: dict[str, bytes] = {}  # filled by cluster.DenoiserPlugin in worker processes


class Reference:
    """Names a denoiser inside a graph: where it was made it holds the denoiser, elsewhere only path and sha256.

    A network inside a graph would be unpickled once a task. On a worker the reference finds the denoiser among
    those that the client has sent to the process once, or in its file.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser: Denoiser | None = denoiser
        self.sha256 = denoiser.sha256
        self.path = denoiser.path

    def __getstate__(self) -> dict[str, Any]:
        light = None if self._denoiser is None or self._denoiser.weights else self._denoiser  # filters are their card
        return {"_denoiser": light, "sha256": self.sha256, "path": self.path}

    def __dask_tokenize__(self) -> str:
        return self.sha256

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def resolve(self) -> Denoiser:
        """Return the denoiser, checked against its fingerprint."""
        if self._denoiser is None:
            if self.sha256 in _ON_THIS_WORKER:
                denoiser = _parse(_ON_THIS_WORKER[self.sha256], f"denoiser {self.sha256[:12]}", None)
            elif self.path is not None:
                denoiser = load_denoiser(self.path)
            else:
                raise NiddlError(
                    f"the denoiser {self.sha256[:12]} is not in this process: make the dask client before denoise is "
                    "called, or save the denoiser on a disk that all workers see and denoise with the saved one"
                )
            if denoiser.sha256 != self.sha256:
                raise NiddlError(f"{self.path} has changed since the work was planned; plan it again")
            self._denoiser = denoiser
        return self._denoiser


def keep_on_worker(sha256: str, content: bytes) -> None:
    """Hold the bytes of a denoiser in this worker process, for references to find."""
    _ON_THIS_WORKER[sha256] = content
