"""Films (MP4, H.264) of recordings side by side, with scale bar and time stamp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from niddl_xr.recordings.export import Writer
from niddl_xr.recordings.export._blocks import frame_blocks, frames_of
from niddl_xr.recordings.export._calibration import Calibration, calibration_of
from niddl_xr.recordings.export._content import content_of
from niddl_xr.recordings.export._panels import Layout, grey, layout_of, picture, round_length_um, time_text
from niddl_xr.schema import RECORDING_DIMS, NiddlError, frame_interval_s

WRITER = Writer(
    "MP4 film",
    suffixes=(".mp4",),
    takes=("recording",),
    needs=("av", "PIL"),
    options=(
        *("compare", "fps", "speed", "z", "contrast", "limits_counts", "shared_contrast", "scale_bar_um"),
        *("time_stamp", "labels", "crop", "max_width_px", "quality"),
    ),
)
_ENCODER: Final = "libx264"
_PIXELS = "yuv420p"
_MOST_FPS = 60  # beyond, screens and players drop frames
_LEAST_FPS = 0.001  # below, a rate is no fraction of numbers that H.264 holds
_SAMPLE_FRAMES = 12
_WIDTHS_PX = (64, 4096)  # H.264 of common players ends there


def write(
    channels: Mapping[str, xr.DataArray],
    path: Path,
    *,
    progress: bool,
    compare: Mapping[str, xr.DataArray] | None = None,
    fps: float = 20.0,
    speed: float | None = None,
    z: str | int = "max",
    contrast: tuple[float, float] = (0.5, 99.8),
    limits_counts: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    shared_contrast: bool = True,
    scale_bar_um: str | float | None = "auto",
    time_stamp: bool = True,
    labels: bool = True,
    crop: Mapping[str, slice] | None = None,
    max_width_px: int = 1920,
    quality: int = 18,
) -> None:
    """Write recordings side by side as a film that every player and PowerPoint show (H.264, yuv420p).

    Parameters
    ----------
    channels
        Recordings (t, z, y, x) by label.
    path
        File to make.
    progress
        Show a progress bar.
    compare
        Further recordings of the same frames and field by label, such as ``{"denoised": clean}``.
    fps
        Frames shown a second.
    speed
        Times real time, in place of ``fps``: 10 shows ten seconds of the recording in one. Frames are left out where
        it would take more than 60 a second.
    z
        "max" for the maximum over the volume, else the index of a plane.
    contrast
        Percentiles that become black and white, measured on twelve frames as they are shown.
    limits_counts
        Counts (black, white) in place of percentiles; by label where they differ.
    shared_contrast
        All panels have the limits of the first, which keeps a comparison honest; False measures each by itself.
    scale_bar_um
        Length in µm; "auto" is round and at most a quarter of a panel, and absent where the recording states no voxel
        size; None for no bar.
    time_stamp
        Write the time in s of the coordinate t, or the number of the frame where it has no unit.
    labels
        Write the name of every panel, where it has one.
    crop
        Slices by dim, in indices, such as ``{"y": slice(40, 200), "t": slice(0, 100)}``.
    max_width_px
        Neither edge of the picture is longer, 64 to 4096. Small fields are enlarged by a whole number.
    quality
        Constant rate factor of x264: 0 is without loss, 18 shows none, 28 is small.
    """
    panels = _cropped(_panels(channels, compare), crop)
    first = next(iter(panels.values()))
    calibration = calibration_of(first)
    shown = _Shown(_plane_choice(z, first), *_pace(first, fps, speed))
    limits = _limits(panels, shown.z, contrast, limits_counts, shared_contrast)
    voxel = calibration.voxel_um
    aspect = voxel["y"] / voxel["x"] if {"y", "x"} <= set(voxel) else 1.0
    width_px = _whole("max_width_px", max_width_px, *_WIDTHS_PX)
    layout = layout_of(len(panels), first.sizes["y"], first.sizes["x"], aspect, width_px)
    names = list(panels) if labels else [""] * len(panels)
    bar_um = _bar_um(scale_bar_um, calibration, first.sizes["x"])
    stamps = _stamps(first, calibration) if time_stamp else [""] * first.sizes["t"]
    pictures = (
        picture(planes, layout, labels=names, stamp=stamps[frame], bar_um=bar_um, um_per_px=voxel.get("x", 1.0))
        for frame, planes in _planes(panels, shown, limits, layout, progress)
    )
    _encode(path, pictures, layout, shown.fps, _whole("quality", quality, 0, 51))


@dataclass(frozen=True)
class _Shown:
    """Which plane of a volume is shown (None: the maximum), how fast, and every how many frames."""

    z: int | None
    fps: Fraction
    every: int


def _panels(
    channels: Mapping[str, xr.DataArray], compare: Mapping[str, xr.DataArray] | None
) -> dict[str, xr.DataArray]:
    if not compare:
        return dict(channels)
    if not isinstance(compare, Mapping):
        raise NiddlError(f'expected compare as recordings by label, such as {{"denoised": clean}}, got {compare!r:.60}')
    panels = {label or "recording": recording for label, recording in channels.items()}
    first = next(iter(panels.values()))
    for label, other in compare.items():
        kind, content = content_of(other)
        if kind != "recording" or len(content) != 1:
            raise NiddlError(f"expected a recording to compare as {label!r}, got a {kind}")
        (recording,) = content.values()
        if any(recording.sizes[dim] != first.sizes[dim] for dim in "tyx"):
            raise NiddlError(f"expected {label!r} with the sizes {dict(first.sizes)}, got {dict(recording.sizes)}")
        if str(label) in panels:
            raise NiddlError(f"two panels are called {label!r}; give them different names")
        panels[str(label)] = recording
    return panels


def _cropped(panels: dict[str, xr.DataArray], crop: Mapping[str, slice] | None) -> dict[str, xr.DataArray]:
    if crop is None:
        return panels
    wrong = [
        dim
        for dim, cut in crop.items()
        if dim not in RECORDING_DIMS or not isinstance(cut, slice) or not _is_rising(cut)
    ]
    if wrong:
        raise NiddlError(f'expected crop as slices by dim, such as {{"y": slice(40, 200)}}, got {dict(crop)}')
    cropped = {label: recording.isel(dict(crop)) for label, recording in panels.items()}
    for label, recording in cropped.items():
        if recording.size == 0:
            raise NiddlError(
                f"nothing is left of {label!r}, of sizes {dict(panels[label].sizes)}, by crop {dict(crop)}"
            )
    return cropped


def _is_rising(cut: slice) -> bool:
    whole = all(end is None or isinstance(end, (int, np.integer)) for end in (cut.start, cut.stop, cut.step))
    return whole and (cut.step is None or cut.step > 0)


def _plane_choice(z: str | int, first: xr.DataArray) -> int | None:
    if isinstance(z, str) and z == "max":
        return None
    if isinstance(z, (int, np.integer)) and not isinstance(z, bool) and -first.sizes["z"] <= z < first.sizes["z"]:
        return int(z) % first.sizes["z"]
    raise NiddlError(f'expected z as "max" or the index of a plane below {first.sizes["z"]}, got {z!r}')


def _pace(first: xr.DataArray, fps: float, speed: float | None) -> tuple[Fraction, int]:
    """Return the frames shown a second, and every how many frames of the recording one is shown."""
    if speed is None:
        wanted, name = _number("fps", fps), "fps"
    else:
        interval = frame_interval_s(first)
        if interval is None or interval <= 0:
            raise NiddlError("speed= needs a recording that states its time step; set dt_s= when opening, or use fps=")
        wanted, name = _number("speed", speed) / interval, "speed"
    if not _LEAST_FPS <= wanted < np.inf or (speed is None and wanted > _MOST_FPS):
        limit = f", at most {_MOST_FPS}" if speed is None else ""
        raise NiddlError(
            f"expected {name} as a positive number{limit}, that shows {_LEAST_FPS} frames a second or more, "
            f"got {fps if speed is None else speed!r}"
        )
    every = max(1, -(-int(np.ceil(wanted)) // _MOST_FPS))
    return Fraction(wanted / every).limit_denominator(1001), every


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
        raise NiddlError(f"expected {name} as a number, got {value!r}")
    return float(value)


def _limits(
    panels: Mapping[str, xr.DataArray],
    z: int | None,
    contrast: Sequence[float],
    limits_counts: Any,
    shared: bool,
) -> list[tuple[float, float]]:
    """Return the counts that become black and white, by panel."""
    labels = list(panels)
    if isinstance(limits_counts, Mapping):
        unknown = sorted(set(labels) ^ set(limits_counts))
        if unknown:
            raise NiddlError(f"expected limits_counts for the panels {labels}, got them for {list(limits_counts)}")
        return [_pair(f"limits_counts of {label!r}", limits_counts[label]) for label in labels]
    if limits_counts is not None:
        return [_pair("limits_counts", limits_counts)] * len(labels)
    percentiles = _pair("contrast", contrast)
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise NiddlError(
            f"expected contrast as two percentiles of 0 to 100, got {contrast!r}; for counts, limits_counts"
        )
    if shared:
        return [_measured(panels[labels[0]], z, percentiles)] * len(labels)
    return [_measured(recording, z, percentiles) for recording in panels.values()]


def _pair(name: str, values: Any) -> tuple[float, float]:
    given = [_number(name, value) for value in values] if np.ndim(values) == 1 and len(values) == 2 else []
    if not given or not np.all(np.isfinite(given)) or given[0] >= given[1]:
        raise NiddlError(f"expected {name} as two numbers, the lower first, got {values!r}")
    return given[0], given[1]


def _measured(recording: xr.DataArray, z: int | None, percentiles: tuple[float, float]) -> tuple[float, float]:
    frames = recording.sizes["t"]
    chosen = np.unique(np.linspace(0, frames - 1, min(frames, _SAMPLE_FRAMES)).round().astype(int)).tolist()
    shown = [_projected(frames_of(_planes_of(recording, z), slice(frame, frame + 1)))[0] for frame in chosen]
    values = np.stack(shown).astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, percentiles).tolist() if values.size else (0.0, 1.0)
    return low, high if high > low else low + 1


def _planes_of(recording: xr.DataArray, z: int | None) -> xr.DataArray:
    return recording if z is None else recording[:, z : z + 1]


def _projected(block: np.ndarray) -> np.ndarray:
    """Return the maximum over z of a block (t, z, y, x); NaN count only where there is nothing else."""
    flat: np.ndarray = np.fmax.reduce(block, axis=1)
    return flat


def _planes(
    panels: Mapping[str, xr.DataArray],
    shown: _Shown,
    limits: Sequence[tuple[float, float]],
    layout: Layout,
    progress: bool,
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Give the number of every frame that is shown, and its panels."""
    chosen = [_planes_of(recording, shown.z)[:: shown.every] for recording in panels.values()]
    for region, blocks in frame_blocks(chosen, progress=progress, description="export"):
        flat = [_projected(block) for block in blocks]
        for frame in range(len(region)):
            planes = [grey(block[frame], limit, layout) for block, limit in zip(flat, limits, strict=True)]
            yield (region.start + frame) * shown.every, planes


def _stamps(first: xr.DataArray, calibration: Calibration) -> list[str]:
    if calibration.t_s is None:
        return [f"frame {value:g}" for value in np.asarray(first["t"].values, dtype=float)]
    return [time_text(time, frame_interval_s(first)) for time in calibration.t_s.tolist()]


def _bar_um(wanted: str | float | None, calibration: Calibration, width_px: int) -> float | None:
    um_per_px = calibration.voxel_um.get("x")
    if wanted is None or wanted is False or (wanted == "auto" and um_per_px is None):
        return None
    if um_per_px is None:
        raise NiddlError("scale_bar_um= needs a recording that states its voxel size; set voxel_um= when opening")
    if wanted == "auto":
        return round_length_um(um_per_px * width_px)
    if isinstance(wanted, str) or not 0 < wanted <= um_per_px * width_px:
        raise NiddlError(
            f'expected scale_bar_um as "auto", None or a length up to {um_per_px * width_px:g} µm, got {wanted!r}'
        )
    return float(wanted)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        raise NiddlError(f"expected {name} as a whole number, {least} to {most}, got {value!r}")
    return int(value)


def _encode(path: Path, pictures: Iterator[np.ndarray], layout: Layout, fps: Fraction, quality: int) -> None:
    import av

    if _ENCODER not in av.codecs_available:
        raise NiddlError(f"this build of PyAV has no encoder {_ENCODER}; install the wheel of av from PyPI")
    height, width = layout.canvas
    # The index before the pictures lets browsers begin at once.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(_ENCODER, rate=fps, options={"crf": str(quality), "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, _PIXELS
        for values in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
