"""A description in words: the rows that the text, the page and the table share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from niddl_xr.recordings._description_warnings import share

if TYPE_CHECKING:
    from niddl_xr.recordings.description import Description

WIDTH = 110
LABEL = 25
LONGEST = 160  # characters of a value that a file states
Row = tuple[str, str, str]  # section, label, value


def text_of(description: Description) -> str:
    """Return a description as lines of plain text."""
    lines = [title_of(description)]
    section = ""
    for name, label, value in rows_of(description):
        if name != section:
            lines += ["", name]
            section = name
        lines += _wrapped(f"  {label:<{LABEL}} ", value)
    if description.warnings:
        lines += ["", "What looks wrong"]
        for sentence in description.warnings:
            lines += _wrapped("  - ", sentence)
    return "\n".join(lines)


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [start.rstrip()]


def title_of(description: Description) -> str:
    """Return what a recording is called."""
    channel = "" if description.channel is None else f", channel {description.channel}"
    return _printable(f"{description.source or 'a recording in memory'}{channel}")


def rows_of(description: Description) -> Iterator[Row]:
    """Yield all quantities as section, label and value in words."""
    yield from _recording_rows(description)
    yield from _count_rows(description)
    yield from _noise_rows(description)
    for section, facts in (
        ("Metadata of the file" if description.format else "Metadata", description.stated),
        ("Given when it was opened", description.given),
    ):
        for name, value in facts.items():
            yield section, name, value_in_words(value)
    for name, remedy in description.missing.items():
        yield "Missing", name, f"set {remedy}"


def _recording_rows(description: Description) -> Iterator[Row]:
    section = "Recording"
    if description.format:
        yield section, "format", description.format
    sizes = ", ".join(f"{dim} {size:,}" for dim, size in description.sizes.items())
    yield section, "sizes", f"{sizes} of {description.dtype}"
    if description.extent_um:
        extent = ", ".join(f"{dim} {number(size)}" for dim, size in description.extent_um.items())
        voxel = ", ".join(f"{dim} {number(size)}" for dim, size in description.voxel_um.items())
        yield section, "extent", f"{extent} µm (a voxel is {voxel} µm)"
    times = description.times
    if times is not None:
        yield section, "duration", f"{seconds(times.duration_s)} from {number(times.start_s)} s"
        spread = f" (median; {seconds(times.shortest_s)} to {seconds(times.longest_s)})" if times.irregular else ""
        rate = f", {number(1 / times.median_s)} per s" if times.median_s > 0 else ""
        missing = f", {times.dropped:,} frames missing in {times.gaps:,} gaps" if times.gaps else ""
        yield section, "frame interval", f"{seconds(times.median_s)}{spread}{rate}{missing}"
    on_disk = f", {size_in_words(description.disk_bytes)} on disk" if description.disk_bytes is not None else ""
    yield section, "size", f"{size_in_words(description.memory_bytes)} in memory{on_disk}"
    blocks = description.blocks
    if blocks is None:
        yield section, "blocks", "none: it is in memory"
    else:
        shape = ", ".join(f"{dim} {size:,}" for dim, size in zip(description.sizes, blocks.shape, strict=True))
        yield section, "blocks", f"{blocks.number:,} of {shape} ({size_in_words(blocks.bytes)})"


def _count_rows(description: Description) -> Iterator[Row]:
    counts = description.counts
    if counts is None:
        return
    section = "Counts"
    whole = len(description.planes) * description.sizes["y"] * description.sizes["x"]
    part = ", in the middle of each" if counts.pixels < whole else ""
    yield section, "measured in", f"{sampled_in_words(description)}, {counts.pixels:,} pixels{part}"
    if counts.lowest is None or counts.highest is None:
        yield section, "range", "no pixel is finite"
        return
    yield section, "range", f"{number(counts.lowest)} to {number(counts.highest)}"
    spread = ", ".join(f"{percent} %: {number(value)}" for percent, value in counts.percentiles.items())
    yield section, "percentiles", spread
    bits = f"{description.bit_depth} of the camera" if description.bit_depth is not None else "of the camera not stated"
    if counts.levels and description.dtype[0] in "ui":
        yield section, "bits", f"{bits}; {counts.levels:,} different counts"
    if counts.ceiling is not None and counts.saturated_fraction is not None:
        limit = f"{description.bit_depth} bits" if counts.ceiling_from == "bit_depth" else description.dtype
        yield (
            section,
            "saturated",
            f"{share(counts.saturated_fraction)} at {number(counts.ceiling)}, the end of {limit}",
        )
    if counts.piled_at is not None and counts.piled_fraction is not None:
        yield section, "piled up", f"{share(counts.piled_fraction)} at {number(counts.piled_at)}, the highest count"
    if counts.zero_fraction:
        yield section, "zero", share(counts.zero_fraction)
    if counts.nan_fraction or counts.infinite_fraction:
        yield section, "not finite", f"{share(counts.nan_fraction)} NaN, {share(counts.infinite_fraction)} infinite"


def sampled_in_words(description: Description) -> str:
    """Return how many planes were looked at, and which."""
    planes = description.planes
    frames = sorted({t for t, _ in planes})
    total = description.sizes["t"] * description.sizes["z"]
    where = f"from {frames[0]:,} to {frames[-1]:,}" if len(frames) > 1 else f"{frames[0]:,}"
    pairs = len(planes) > 1 and planes[1] == (planes[0][0] + 1, planes[0][1])
    how = f"{len(planes) // 2} pairs of consecutive frames" if pairs else "frame" if len(frames) == 1 else "frames"
    return f"{len(planes)} of {total:,} planes ({how} {where})"


def _noise_rows(description: Description) -> Iterator[Row]:
    noise, section = description.noise, "Signal and noise"
    if noise is None:
        if description.counts is not None:
            yield section, "snr_dB", "not to be told from these planes"
        return
    yield section, "snr_dB", f"{_db(noise.snr_db)} (bright pixels over the noise of the background)"
    if noise.photon_snr_db is not None and noise.effective_photons is not None:
        photons = f"{number(noise.effective_photons)} effective photons"
        yield section, "photon_snr_dB", f"{_db(noise.photon_snr_db)} (over their own noise; {photons})"
    else:
        yield section, "photon_snr_dB", "no shot noise seen"
    if noise.background_counts is not None and noise.background_noise_counts is not None:
        level = f"{number(noise.background_counts)} ± {number(noise.background_noise_counts)} counts"
        yield section, "background", level
    if noise.slope_counts is not None and noise.intercept_counts2 is not None:
        sign = "-" if noise.intercept_counts2 < 0 else "+"
        line = f"{number(noise.slope_counts)} × level {sign} {number(abs(noise.intercept_counts2))}"
        origin = {
            "attrs": "from the camera's data in attrs",
            "consecutive frames": "photon transfer between consecutive frames",
            "single planes": "photon transfer in single planes: sharp structure counts as noise",
        }[noise.noise_from]
        yield section, "variance", f"{line} counts² ({origin}; the slope is gain × excess noise)"


def _db(value: float | None) -> str:
    return "not to be told" if value is None else f"{value:.1f} dB"


def number(value: float) -> str:
    """Return a number with four significant digits, whole ones in full."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def seconds(value: float) -> str:
    """Return a time with a unit that fits it."""
    size = abs(value)
    if size >= 7200:
        return f"{value / 3600:.3g} h"
    if size >= 120:
        return f"{value / 60:.3g} min"
    if size >= 1 or size == 0:
        return f"{number(value)} s"
    return f"{1000 * value:.4g} ms"


def size_in_words(size: int) -> str:
    """Return a number of bytes in the decimal units that disks are sold in."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.3g} {unit}"
    return f"{size} bytes"


def value_in_words(value: Any) -> str:
    """Return what a file states in one line, shortened."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {value_in_words(item)}" for key, item in value.items())
    elif isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1:
        text = ", ".join(value_in_words(item) for item in list(value)[:LONGEST])
    elif isinstance(value, (float, np.floating)):
        text = number(float(value)) if np.isfinite(value) else str(value)
    else:
        text = str(value)
    text = _printable(text[: 2 * LONGEST])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _printable(text: str) -> str:
    """Return one line that no terminal takes for a command, and that every one can encode."""
    return "".join(character if character.isprintable() else " " for character in text)
