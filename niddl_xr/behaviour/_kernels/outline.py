"""Where in an image the worm is: threshold, largest piece, holes.

Images and masks are (y, x).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_fill_holes, find_objects, gaussian_filter, label

BINS = 256
DARKEST = 0.01  # of the pixels: the level of no light
WIDTH_PX = 26  # a worm as wide is fine enough: finer pixels are averaged to about this
SLENDER = 12.0  # area of a worm over the square of its width
_EIGHT = np.ones((3, 3), bool)


class Piece(NamedTuple):
    """The worm of one frame, cut out with a margin of at least one pixel.

    ``filled`` and ``holes`` (y, x): the mask without holes, and these; ``corner`` (2,), the place in the image, in
    pixels, of the centre of the pixel at (0, 0); ``block``, how many pixels of the image one of these spans;
    ``area_px`` in pixels of the image, without holes; ``second``, the area of the next piece over that of this;
    ``at_edge``, whether it touches the edge of the image.
    """

    filled: np.ndarray
    holes: np.ndarray
    corner: np.ndarray
    block: int
    area_px: int
    second: float
    at_edge: bool


def otsu(values: np.ndarray) -> float:
    """Return the threshold between two classes of values (n,) that leaves least variance within them.

    Otsu, IEEE Trans. Syst. Man Cybern. 9:62, 1979. The value itself where all are equal.
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return low
    counts, edges = np.histogram(values, BINS, (low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    total = np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    between[~np.isfinite(between)] = -1.0
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    # Where the classes are far apart many thresholds are equally good: the middle one.
    return float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)


def block_means(image: np.ndarray, block: int) -> np.ndarray:
    """Return the means of squares of ``block`` pixels, float64; those that reach over the edges are left out."""
    height, width = (size // block * block for size in image.shape)
    if block == 1:
        return image.astype(np.float64)
    cut = image[:height, :width].reshape(height // block, block, width // block, block)
    return np.asarray(cut.mean(axis=(1, 3), dtype=np.float64))


class Cut(NamedTuple):
    """An image cut by a threshold: the mask, and by how many SDs of the background the worm stands out."""

    mask: np.ndarray
    distinct: float


def cut_image(image: np.ndarray, bright: bool, sigma_px: float) -> Cut:
    """Return the pixels of a smoothed image (y, x) beyond Otsu's threshold; NaN belongs to no worm.

    Of a bright worm the threshold is that of the square root above the darkest hundredth: the noise of photons is then
    as wide in the worm as beside it, and a few bright neurons do not draw the threshold up.
    """
    known = np.isfinite(image)
    if not known.any():
        return Cut(np.zeros(image.shape, bool), 0.0)
    seen = image[known].astype(np.float64)
    values = image.astype(np.float64)
    # What is not known looks like background to the blur.
    values[~known] = np.quantile(seen, 0.05 if bright else 0.95)
    smooth = gaussian_filter(values, sigma_px, mode="nearest") if sigma_px > 0 else values
    if bright:
        smooth = np.sqrt(np.maximum(smooth - np.quantile(smooth[known], DARKEST), 0))
    threshold = otsu(smooth[known])
    mask = (smooth > threshold if bright else smooth <= threshold) & known
    worm, ground = smooth[mask], smooth[~mask & known]
    if not (worm.size and ground.size):
        return Cut(np.zeros(image.shape, bool), 0.0)
    spread = float(ground.std())
    gap = abs(float(worm.mean() - ground.mean()))
    return Cut(mask, gap / spread if spread > 0 else np.inf)


def darker_or_brighter(image: np.ndarray, sigma_px: float) -> tuple[bool, float]:
    """Return whether the smaller part beyond Otsu's threshold is the brighter, and how large a part of all it is."""
    known = np.isfinite(image)
    values = np.where(known, image, np.median(image[known]))
    smooth = gaussian_filter(values.astype(np.float64), sigma_px, mode="nearest")
    part = float((smooth > otsu(smooth[known]))[known].mean())
    return part <= 0.5, min(part, 1 - part)


def largest_piece(mask: np.ndarray) -> Piece | None:
    """Cut the largest connected piece out of a mask (y, x) and describe it; None where there is no pixel."""
    numbers, count = label(mask, _EIGHT)
    if not count:
        return None
    areas = np.bincount(numbers.ravel())[1:]
    order = np.argsort(areas, kind="stable")[::-1]
    rows, columns = find_objects(numbers)[order[0]]
    at_edge = rows.start == 0 or columns.start == 0 or rows.stop == mask.shape[0] or columns.stop == mask.shape[1]
    piece = np.pad(numbers[rows, columns] == order[0] + 1, 1)
    filled = binary_fill_holes(piece)
    area = int(areas[order[0]])
    block = max(1, int(np.sqrt(area / SLENDER) / WIDTH_PX))
    corner = np.array([rows.start - 1, columns.start - 1]) + (block - 1) / 2
    return Piece(
        filled=coarser(filled, block) >= 0.5 if block > 1 else filled,
        holes=coarser(filled & ~piece, block) > 0 if block > 1 else filled & ~piece,
        corner=corner,
        block=block,
        area_px=area,
        second=float(areas[order[1]] / areas[order[0]]) if count > 1 else 0.0,
        at_edge=at_edge,
    )


def coarser(mask: np.ndarray, block: int) -> np.ndarray:
    """Return which part of squares of ``block`` pixels a mask (y, x) fills, with a margin of one square at the end."""
    padded = np.pad(mask, [(0, block + -size % block) for size in mask.shape])
    return block_means(padded, block)
