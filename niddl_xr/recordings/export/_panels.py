"""Pictures of a film: panels side by side, in grey, with label, scale bar and time stamp. Arrays and numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

COMFORTABLE_PX = 512  # small fields are enlarged towards this edge
GAP_PX = 8
_BACKGROUND, _INK, _OUTLINE = 24, 255, 0
_MICRO = "\N{MICRO SIGN}"
_STEM_LEFT, _STEM_WIDTH, _TAIL = 0.065, 0.085, 0.19  # of the letter u of Pillow's font, and what makes it a µ
_SMALLEST_FONT_PX, _LARGEST_FONT_PX = 11, 40
_BAR_FRACTION = 0.25  # of the width of a panel, that a scale bar has at most


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels of the film: every panel is ``height`` × ``width``; the canvas has even edges, as H.264 needs."""

    panels: int
    height: int
    width: int
    px_per_px: float  # film pixels along x for one of the recording

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        width = self.panels * self.width + (self.panels - 1) * GAP_PX
        return self.height + self.height % 2, width + width % 2

    @property
    def font_px(self) -> int:
        """Height of the letters, so that a label, a time stamp and a scale bar fit into a panel."""
        return int(np.clip(min(self.height, self.width) / 16, _SMALLEST_FONT_PX, _LARGEST_FONT_PX))


def layout_of(panels: int, height: int, width: int, aspect: float, largest_px: int) -> Layout:
    """Return how large the panels are drawn.

    Parameters
    ----------
    panels
        How many stand side by side.
    height, width
        Size of the recording's planes in pixels.
    aspect
        Height of a pixel over its width.
    largest_px
        Neither edge of the canvas is longer.
    """
    room = (largest_px - (panels - 1) * GAP_PX) / panels
    fitting = min(room / width, largest_px / (height * aspect))
    if fitting >= 1:
        fitting = max(1, min(int(fitting), round(COMFORTABLE_PX / max(height * aspect, width))))
    return Layout(panels, max(2, int(height * aspect * fitting)), max(2, int(width * fitting)), fitting)


def grey(plane: np.ndarray, limits: tuple[float, float], layout: Layout) -> np.ndarray:
    """Return a plane (y, x) as uint8 in the size of a panel; NaN is black.

    A larger panel repeats pixels, a smaller one averages them, before contrast.
    """
    from PIL import Image

    values = plane.astype(np.float32)
    if values.shape != (layout.height, layout.width):
        larger = layout.px_per_px >= 1
        method = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
        values = np.asarray(Image.fromarray(values).resize((layout.width, layout.height), method))
    low, high = limits
    shares = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low)
    shown: np.ndarray = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return shown


def picture(
    planes: Sequence[np.ndarray],
    layout: Layout,
    *,
    labels: Sequence[str],
    stamp: str = "",
    bar_um: float | None = None,
    um_per_px: float = 1.0,
) -> np.ndarray:
    """Return one picture (y, x, rgb) of the film, uint8.

    Parameters
    ----------
    planes
        Panels as :func:`grey` gives them.
    layout
        Their sizes.
    labels
        What stands in the upper left corner of every panel; may be empty.
    stamp
        What stands in the lower left corner of the first panel.
    bar_um
        Length of the scale bar in the lower right corner of the first panel, in µm.
    um_per_px
        Width of a pixel of the recording in µm.
    """
    from PIL import Image, ImageDraw

    canvas = np.full(layout.canvas, _BACKGROUND, np.uint8)
    for number, plane in enumerate(planes):
        left = number * (layout.width + GAP_PX)
        canvas[: layout.height, left : left + layout.width] = plane
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    margin = max(4, layout.font_px // 2)
    for number, label in enumerate(labels):
        _write(draw, (number * (layout.width + GAP_PX) + margin, margin // 2), label, "la", layout.font_px)
    _write(draw, (margin, layout.height - margin), stamp, "ls", layout.font_px)
    if bar_um is not None:
        _draw_bar(draw, layout, margin, bar_um, um_per_px)
    return _rgb(image)


def _rgb(image: Image.Image) -> np.ndarray:
    return np.repeat(np.asarray(image)[:, :, None], 3, axis=2)


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str, size: int) -> None:
    """Write white text with a dark outline; ``anchor`` as Pillow has it, on the baseline (s) or below the top (a).

    The built-in font, which is on every machine, lacks the letter µ: it is drawn as a u with a tail.
    """
    from PIL import ImageFont

    if not text:
        return
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise NiddlError("this build of Pillow has no FreeType; install the wheel of pillow from PyPI, which has it")
    outline = max(1, size // 10)
    plain = text.replace(_MICRO, "u")
    left = place[0] - (font.getlength(plain) / 2 if anchor[0] == "m" else 0)
    baseline = place[1] + (font.getmetrics()[0] if anchor[1] == "a" else 0)
    draw.text((left, baseline), plain, _INK, font=font, anchor="ls", stroke_width=outline, stroke_fill=_OUTLINE)
    for index, letter in enumerate(text):
        if letter == _MICRO:
            stem = left + font.getlength(plain[:index]) + _STEM_LEFT * size
            tail = (round(stem), round(baseline), round(stem + _STEM_WIDTH * size) - 1, round(baseline + _TAIL * size))
            edge = (tail[0] - outline, tail[1] + outline, tail[2] + outline, tail[3] + outline)
            draw.rectangle(edge, fill=_OUTLINE)
            draw.rectangle((tail[0], round(baseline - _TAIL * size), *tail[2:]), fill=_INK)


def _draw_bar(draw: ImageDraw.ImageDraw, layout: Layout, margin: int, bar_um: float, um_per_px: float) -> None:
    length = max(1, round(bar_um / um_per_px * layout.px_per_px))
    thickness = max(2, layout.font_px // 5)
    right, bottom = layout.width - margin, layout.height - margin
    box = (right - length, bottom - thickness, right - 1, bottom - 1)
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), fill=_OUTLINE)
    draw.rectangle(box, fill=_INK)
    above = box[1] - max(4, round(0.4 * layout.font_px))  # clear of the tail of the µ
    _write(draw, (right - length / 2, above), length_text(bar_um), "ms", layout.font_px)


def round_length_um(width_um: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is at most a quarter of ``width_um``.

    >>> round_length_um(110.0), round_length_um(3.9)
    (20.0, 0.5)
    """
    most = width_um * _BAR_FRACTION
    power = math.floor(math.log10(most))
    fitting = [step * 10.0**power for step in (1, 2, 5) if step * 10.0**power <= most * (1 + 1e-9)]
    return max(fitting, default=10.0**power)


def length_text(length_um: float) -> str:
    """Return a length with its unit.

    >>> length_text(20.0), length_text(0.5), length_text(2000.0)
    ('20 µm', '500 nm', '2 mm')
    """
    units = ((1000.0, "mm", 1e-3), (1.0, f"{_MICRO}m", 1.0), (0.0, "nm", 1e3))
    unit, per_um = next((unit, per_um) for least, unit, per_um in units if length_um >= least)
    return f"{length_um * per_um:g} {unit}"


def time_text(time_s: float, step_s: float | None) -> str:
    """Return a time in s with as many digits as the step between frames needs, at least one.

    >>> time_text(12.25, 0.25), time_text(12.0, 1 / 30), time_text(3.0, None)
    ('12.2 s', '12.00 s', '3.0 s')
    """
    digits = min(6, math.ceil(-math.log10(step_s) - 1e-9)) if step_s and 0 < step_s < 0.1 else 1
    return f"{time_s:.{digits}f} s"
