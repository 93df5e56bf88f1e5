"""Where in a frame the worm is: an outline from the heavily smoothed frame."""

from __future__ import annotations

import numpy as np

from niddl_xr.segmentation._kernels.blobs import smoothed

_OUTLINE_RADII = 2.5  # about the spacing of nuclei
_BLOCK_RADII = 1.0  # frames are averaged to about this before they are smoothed


def worm_mask(
    volume: np.ndarray, voxel_um: np.ndarray, radius_um: float, valid: np.ndarray | None = None
) -> np.ndarray:
    """Return the voxels (z, y, x) that belong to the worm, its out-of-focus light included.

    Parameters
    ----------
    volume
        Frame (z, y, x) in counts.
    voxel_um
        Size of a voxel (3,) in µm.
    radius_um
        Of a nucleus.
    valid
        Voxels that hold a count; None for all.

    Returns
    -------
    numpy.ndarray
        Boolean, of the shape of ``volume``; nothing where the smoothed frame is constant.

    Notes
    -----
    The frame is smoothed by a Gaussian of 2.5 radii, about the spacing of nuclei, and cut by the triangle method (Zack,
    Rogers & Latt, J. Histochem. Cytochem. 25:741, 1977), which finds the foot of the background's peak: of most frames
    the larger part is background, and haze around the worm is to be kept.
    """
    from skimage.filters import threshold_triangle

    block = np.clip(np.floor(_BLOCK_RADII * radius_um / voxel_um).astype(int), 1, volume.shape)
    coarse, known = _block_means(volume, block, valid)
    sigma_px = np.where(np.asarray(coarse.shape) > 1, _OUTLINE_RADII * radius_um / (voxel_um * block), 0)
    light = smoothed(coarse, sigma_px, known)
    seen = light if known is None else light[known]
    if not seen.size or seen.min() == seen.max():
        return np.zeros(volume.shape, bool)
    outline = light > float(threshold_triangle(seen))  # type: ignore[no-untyped-call]
    places = [np.arange(size) // edge for size, edge in zip(volume.shape, block, strict=True)]
    mask = np.asarray(outline[np.ix_(*places)])
    return mask if valid is None else np.asarray(mask & valid)


def _block_means(
    volume: np.ndarray, block: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the means of blocks of voxels, those at the far edges smaller, and which blocks hold a valid one."""

    def sums(values: np.ndarray) -> np.ndarray:
        for axis, edge in enumerate(block):
            if edge > 1:
                starts = np.arange(0, values.shape[axis], edge)
                values = np.add.reduceat(values, starts, axis=axis, dtype=np.float64)
        return np.asarray(values, dtype=np.float64)

    if valid is None:
        edges = [
            np.minimum(edge, size - np.arange(0, size, edge)) for size, edge in zip(volume.shape, block, strict=True)
        ]
        counts = edges[0][:, None, None] * edges[1][:, None] * edges[2]
        return sums(volume) / counts, None
    counts = sums(valid)
    return sums(np.where(valid, volume, 0)) / np.maximum(counts, 1), counts > 0
