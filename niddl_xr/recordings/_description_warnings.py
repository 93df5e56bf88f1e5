"""What looks wrong with a recording: one sentence each, that says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from niddl_xr.recordings.description import Description

LISTED = 4
NOTABLE = 1e-4  # part of the pixels at a ceiling that is worth a word
MANY_BLOCKS = 100_000
VOXEL_RANGE_UM = (0.01, 50.0)  # of y and x, for light microscopes
SQUARE = 0.01
EMCCDS = ("emccd", "ixon", "imagem", "evolve 512", "proem")  # words of camera names

Places = Sequence[tuple[int, int]]


def what_looks_wrong(
    description: Description,
    recording: xr.DataArray,
    *,
    constant: Places,
    identical: Places,
    errors: Sequence[str],
    costly: bool,
) -> Iterator[str]:
    """Yield the warnings of a description, the gravest first."""
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        yield f"Planes could not be read: {errors[0]}{more}."
    yield from _of_frames(description, constant, identical)
    yield from _of_counts(description)
    yield from _of_labels(description, recording)
    yield from _of_blocks(description, costly)
    yield from _of_camera(recording)


def share(fraction: float) -> str:
    """Return a fraction in percent, with the digits that it takes."""
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.3g} %"


def _places(planes: Places) -> str:
    shown = ", ".join(f"t {t} z {z}" for t, z in planes[:LISTED])
    return f"{shown}, …" if len(planes) > LISTED else shown


def _of_frames(description: Description, constant: Places, identical: Places) -> Iterator[str]:
    sampled = len(description.planes)
    if constant:
        yield (
            f"{len(constant)} of {sampled} sampled planes hold one value only ({_places(constant)}): they were "
            "dropped, masked or never lit; leave such frames out with recording.isel(t=…) before denoising."
        )
    if identical:
        yield (
            f"{len(identical)} sampled planes equal the frame before ({_places(identical)}): the camera or a player "
            "repeated frames; count them before times are trusted, and leave repeats out."
        )


def _of_counts(description: Description) -> Iterator[str]:
    counts = description.counts
    if counts is None:
        return
    if counts.lowest is None:
        yield "No sampled pixel is finite: the recording may be empty or masked; look at other frames with plot_frame."
        return
    if counts.saturated_fraction and counts.saturated_fraction >= NOTABLE:
        yield (
            f"{share(counts.saturated_fraction)} of the pixels are saturated (at {counts.ceiling:,g} or above): their "
            "counts are not proportional to light; lower the laser, the exposure or the gain in the next recording."
        )
    if counts.piled_at is not None and counts.piled_fraction is not None and counts.piled_fraction >= NOTABLE:
        yield (
            f"{share(counts.piled_fraction)} of the pixels pile up at {counts.piled_at:,g}, the highest count"
            f"{_ceiling_in_words(counts.piled_at)}: probably they are saturated; if so, say it with "
            "recording.assign_attrs(bit_depth=…) or saturation= of niddl_xr.snr."
        )
    if counts.step is not None and counts.step > 1:
        yield _of_steps(counts.step, counts.lowest)
    if counts.stretched:
        yield (
            f"Only {counts.levels} different counts occur between {counts.lowest:,g} and {counts.highest:,g}: this "
            "looks like an 8-bit image stretched to more; open the original, because this noise is not that of light."
        )
    if description.dtype in ("uint8", "int8") and description.bit_depth is None:
        yield (
            "The counts have 8 bits: if the camera gave more, this is a conversion that cut weak signals off; open the "
            "original file where there is one."
        )
    if counts.nan_fraction or counts.infinite_fraction:
        yield (
            f"{share(counts.nan_fraction + counts.infinite_fraction)} of the pixels are not finite (NaN or inf): they "
            "are left out of every number here; check how the recording was made."
        )
    if counts.zero_fraction > 0.5 and counts.highest != counts.lowest:
        yield (
            f"{share(counts.zero_fraction)} of the pixels are 0: the background was masked or cut off; noise cannot be "
            "measured there, and a denoiser trained on other recordings will not fit."
        )


def _ceiling_in_words(value: float) -> str:
    bits = np.log2(value + 1) if value > 0 else 0.5
    return f", which is that of {round(bits)} bits" if float(bits).is_integer() else ""


def _of_steps(step: int, lowest: float) -> str:
    bits = step.bit_length() - 1
    if step == 2**bits and lowest % step == 0:
        return (
            f"All counts are multiples of {step}: the camera's bits were shifted left by {bits}; divide by {step} "
            f"(recording // {step}) for the counts of the camera, which gain and read noise refer to."
        )
    return (
        f"All counts lie in steps of {step}: the recording was scaled from fewer bits; open the original, or divide "
        f"by {step} for counts that gain and read noise refer to."
    )


def _of_labels(description: Description, recording: xr.DataArray) -> Iterator[str]:
    sizes, voxel, times = description.sizes, description.voxel_um, description.times
    if sizes["t"] == 1:
        flat = sizes["z"] == 1
        so = "there is no time in it" if flat else "if its planes are frames, not z, set axes= (such as axes='tyx')"
        yield f"The recording has a single frame: {so}."
    if sizes["z"] > 1 and "z" not in voxel and "x" in voxel:
        yield (
            "The distance of the planes is not known, while that of the pixels is: set voxel_um={'z': …} in µm, or "
            "distances along z are counted in planes."
        )
    low, high = VOXEL_RANGE_UM
    odd = [dim for dim in ("y", "x") if dim in voxel and not low <= voxel[dim] <= high]
    if odd:
        yield (
            f"A pixel of {voxel[odd[0]]:.4g} µm along {odd[0]} is unlikely for a microscope: the unit in the file may "
            "be wrong; set voxel_um=(z, y, x) in µm."
        )
    if {"y", "x"} <= set(voxel) and abs(voxel["y"] / voxel["x"] - 1) > SQUARE:
        yield (
            f"Pixels are not square ({voxel['y']:.4g} µm along y, {voxel['x']:.4g} µm along x): if the camera's are, "
            "set voxel_um=(z, y, x)."
        )
    if times is not None and times.shortest_s <= 0:
        yield "Times do not increase from frame to frame: the clock of the file is wrong; set dt_s=."
    elif times is not None and times.gaps:
        yield (
            f"{times.dropped:,} frames seem to be missing in {times.gaps:,} gaps of up to {times.longest_s:.4g} s (a "
            f"frame usually follows after {times.median_s:.4g} s): use the t coordinate, not frame numbers, in rates."
        )
    skipped = _skipped_frames(recording)
    if skipped:
        yield f"{skipped:,} numbered frames are missing, and t keeps the numbers: put them back, or set dt_s=."


def _skipped_frames(recording: xr.DataArray) -> int:
    numbers = recording["t"].values
    if recording["t"].attrs.get("units") != "frame" or len(numbers) < 2:
        return 0
    return max(0, int(numbers[-1] - numbers[0]) + 1 - len(numbers))


def _of_blocks(description: Description, costly: bool) -> Iterator[str]:
    blocks = description.blocks
    if blocks is None:
        return
    sizes = description.sizes
    cut = [dim for dim, length in zip("zyx", blocks.shape[1:], strict=True) if length < sizes[dim]]
    if costly:
        yield (
            f"A block holds {blocks.shape[0]:,} frames ({blocks.bytes / 1e6:,.0f} MB), and looking at one of them may "
            "read all, so that only two were looked at: where the file stores frames so, save it once with "
            "recording.niddl.save(…), which keeps each frame together; else open it with a smaller chunks=."
        )
    elif blocks.shape[0] > 1 and {"y", "x"} & set(cut):
        yield (
            f"Blocks cut frames along {' and '.join(cut)} and hold {blocks.shape[0]:,} of them each: looking at one "
            "reads many others; open with chunks='auto', or save once with recording.niddl.save(…)."
        )
    if blocks.number > MANY_BLOCKS:
        yield f"It is cut into {blocks.number:,} blocks, which are slow to plan: open it with a larger chunks=."


def _of_camera(recording: xr.DataArray) -> Iterator[str]:
    names = " ".join(str(recording.attrs.get(name, "")) for name in ("camera", "microscope")).lower()
    if any(word in names for word in EMCCDS) and "excess_noise" not in recording.attrs:
        yield (
            "The camera multiplies electrons (EMCCD), which doubles the variance of shot noise: with its gain on, "
            "twice as many photons were detected as the effective ones here; say so: assign_attrs(excess_noise=2)."
        )
