"""What a recording is, said to a human: sizes, times, counts, noise, where each is known from, and what looks wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings._description_metadata import (
    Blocks,
    Times,
    bit_depth_of,
    blocks_of,
    disk_bytes_of,
    format_of,
    given_of,
    missing_of,
    source_of,
    stated_of,
    times_of,
)
from niddl_xr.recordings._description_sample import (
    Counts,
    Sample,
    ceiling_of,
    constant_planes,
    count,
    identical_planes,
    read_sample,
)
from niddl_xr.schema import RECORDING_DIMS, NiddlError, require_recording, voxel_um

if TYPE_CHECKING:
    import pandas as pd

    from niddl_xr.recordings._description_html import Picture

SAMPLE_PLANES = 16
LARGE_BLOCK_BYTES = 256 * 2**20  # of several frames, any of which may cost reading all


@dataclass(frozen=True)
class Noise:
    """Signal to noise, medians of the sampled planes as :func:`niddl_xr.snr` has them; None where not to be told.

    The variance of a pixel in counts² is ``slope_counts * level + intercept_counts2``.
    """

    snr_db: float | None
    photon_snr_db: float | None
    effective_photons: float | None
    background_counts: float | None
    background_noise_counts: float | None
    slope_counts: float | None
    intercept_counts2: float | None
    noise_from: str


@dataclass(frozen=True)
class Description:
    """What :func:`describe` gives; shown as text in a terminal and as a page in a notebook.

    ``stated`` is the metadata that came with the recording, ``given`` what the caller of ``open_recording`` said in
    its place, ``missing`` what neither says, with what sets it. ``warnings`` are sentences: what looks wrong, and
    what to do. ``planes`` are the t and z of those that ``counts`` and ``noise`` are measured in.
    """

    source: str | None
    format: str | None
    channel: int | str | None
    sizes: dict[str, int]
    dtype: str
    bit_depth: int | None
    voxel_um: dict[str, float]
    extent_um: dict[str, float]
    times: Times | None
    memory_bytes: int
    disk_bytes: int | None
    blocks: Blocks | None
    planes: tuple[tuple[int, int], ...]
    counts: Counts | None
    noise: Noise | None
    stated: dict[str, Any]
    given: dict[str, Any]
    missing: dict[str, str]
    warnings: tuple[str, ...]
    picture: Picture | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        from niddl_xr.recordings._description_text import text_of

        return text_of(self)

    def _repr_html_(self) -> str:
        from niddl_xr.recordings._description_html import page_of

        return page_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold; NaN and inf become None, the picture's pixels stay."""
        picture = {} if self.picture is None else {"picture": self.picture.facts()}
        fields = {name: value for name, value in vars(self).items() if name != "picture"}
        plain: dict[str, Any] = _plain({**fields, **picture})
        return plain

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row a quantity: ``section`` and ``value`` in words, indexed by ``quantity``."""
        import pandas as pd

        from niddl_xr.recordings._description_text import rows_of

        rows = [(label, section, value) for section, label, value in rows_of(self)]
        return pd.DataFrame(rows, columns=["quantity", "section", "value"]).set_index("quantity")


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def describe(recording: xr.DataArray, *, planes: int = SAMPLE_PLANES) -> Description:
    """Say what a recording is, where that is known from, and what looks wrong with it.

    Pixels are looked at in a sample of planes only, so that this takes a second or two whatever the length of the
    recording: pairs of consecutive frames of one z, evenly spread over t and z, and the frame in the middle, whose
    maximum projection is shown. Of planes of a megapixel or more fewer are taken, of those of more than 4 megapixels
    the middle; where a frame cannot be read without hundreds of others, two.

    Parameters
    ----------
    recording
        (t, z, y, x), lazy or in memory, of any size from one pixel on.
    planes
        How many planes to look at, at most; 0 reads no pixels.

    Returns
    -------
    Description
        Shown as text in a terminal and as a page in a notebook; ``.to_dict()`` gives plain values, ``.to_frame()`` a
        table. Lengths are in µm, times in s, fractions of the sample's pixels. Counts and percentiles leave out
        pixels that are not finite. Saturated are pixels at the highest count that the stated ``bit_depth`` allows, or
        else the dtype. A plane that cannot be read is a warning of the description, not an error.

    Raises
    ------
    NiddlError
        Where ``recording`` is none.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> movie = whole_brain(shape=(2, 48, 64), frames=6, neurons=5)["recording"]["F"]
    >>> summary = describe(movie)
    >>> summary.sizes, summary.extent_um["x"]
    ({'t': 6, 'z': 2, 'y': 48, 'x': 64}, 25.6)
    >>> len(summary.planes), summary.noise.noise_from
    (16, 'attrs')
    """
    from niddl_xr.recordings._description_html import draw
    from niddl_xr.recordings._description_warnings import what_looks_wrong

    require_recording(recording)
    if not isinstance(planes, (int, np.integer)) or planes < 0:
        raise NiddlError(f"expected planes, how many to look at, as a whole number of 0 or more, got {planes!r}")
    bit_depth = bit_depth_of(recording)
    blocks = blocks_of(recording)
    costly = blocks is not None and blocks.shape[0] > 1 and blocks.bytes > LARGE_BLOCK_BYTES
    sample, shown = read_sample(recording, planes, costly=costly) if planes else (None, None)
    constant = constant_planes(sample) if sample is not None else []
    identical = identical_planes(sample) if sample is not None else []
    counts, noise = None, None
    if sample is not None and sample.places:
        counts = count(sample.values, *ceiling_of(recording.dtype, bit_depth))
        noise = _noise(recording, sample.without({*constant, *identical}), counts)
    given = given_of(recording)
    description = Description(
        source=source_of(recording),
        format=format_of(recording),
        channel=recording.attrs.get("channel"),
        sizes={str(dim): int(size) for dim, size in recording.sizes.items()},
        dtype=str(recording.dtype),
        bit_depth=bit_depth,
        voxel_um=voxel_um(recording),
        extent_um={dim: step * recording.sizes[dim] for dim, step in voxel_um(recording).items()},
        times=times_of(recording),
        memory_bytes=int(recording.nbytes),
        disk_bytes=disk_bytes_of(recording),
        blocks=blocks,
        planes=tuple(sample.planes) if sample is not None else (),
        counts=counts,
        noise=noise,
        stated=stated_of(recording, given),
        given=given,
        missing=missing_of(recording),
        warnings=(),
        picture=None if shown is None else draw(shown, recording),
    )
    errors = sample.errors if sample is not None else ()
    found = what_looks_wrong(
        description, recording, constant=constant, identical=identical, errors=errors, costly=costly
    )
    return Description(**{**vars(description), "warnings": tuple(found)})


def _noise(recording: xr.DataArray, sample: Sample, counts: Counts) -> Noise | None:
    from niddl_xr.metrics import snr

    if not sample.places:
        return None
    # Every place stands for a z of its own, so that frames are compared with the frame that follows them, and no other.
    beside = xr.DataArray(sample.values, dims=RECORDING_DIMS, attrs=recording.attrs)
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # numbers at the ends of floating point
        warnings.simplefilter("ignore", UserWarning)  # of saturation, which the description says itself
        table = snr(beside, per="plane", max_frames=None, saturation=_usable_below(counts))
    transfer = table["photon_snr_dB"].attrs
    return Noise(
        snr_db=_median(table["snr_dB"]),
        photon_snr_db=_median(table["photon_snr_dB"]),
        effective_photons=_median(table["effective_photons"]),
        background_counts=_median(table["background"]),
        background_noise_counts=_median(table["noise_sd"]),
        slope_counts=_finite(transfer["noise_slope_counts"]),
        intercept_counts2=_finite(transfer["noise_intercept_counts2"]),
        noise_from=transfer["noise_from"],
    )


def _usable_below(counts: Counts) -> float:
    """Return the count from which on pixels say nothing of the noise."""
    known = [value for value in (counts.ceiling, counts.piled_at) if value is not None]
    return min(known, default=float("inf"))


def _median(values: xr.DataArray) -> float | None:
    finite = values.values[np.isfinite(values.values)]
    return float(np.median(finite)) if finite.size else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
