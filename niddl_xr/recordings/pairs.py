"""Noisy and clean images of the same scene, as a lazy Dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.schema import PAIR_DIMS, NiddlError, require_pairs, space_coordinates, voxel_mapping

if TYPE_CHECKING:
    import dask.array as da

    from niddl_xr.recordings.readers.tiff import Layout

_WORDS = {
    "noisy": {"noisy", "low", "input", "inputs", "raw"},
    "clean": {"clean", "gt", "high", "target", "targets", "truth", "groundtruth"},
}
_LISTED = 8


@dataclass(frozen=True)
class _Stacks:
    """The files of one half of the pairs: for every stack, its planes' numbers (or 0 for a whole file) to names."""

    folder: Path
    files: Mapping[str, Mapping[int, str]]
    nested: bool


def open_pairs(
    path: str | os.PathLike[str],
    *,
    noisy: str | None = None,
    clean: str | None = None,
    pattern: str | None = None,
    voxel_um: Sequence[float | None] | Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Open noisy and clean images of the same scenes without loading them.

    Parameters
    ----------
    path
        Folder with one folder of noisy and one of clean images. Each holds either NIDDL's layout
        ``img_<n>/z_<k>.tif``, or files of equal names in both, TIFF or 16-bit PNG, a plane (y, x) or a volume
        (z, y, x) each.
    noisy, clean
        Names of the two folders; by default the ones whose name holds the word noisy, low, input or raw, and the
        word clean, gt, high, target or truth.
    pattern
        Only files whose name fits, such as ``"*_0.tif"``.
    voxel_um
        Size of a voxel along (z, y, x) in µm, in place of what the first noisy file states. A denoiser remembers it,
        and refuses recordings of other voxels.

    Returns
    -------
    xarray.Dataset
        ``noisy`` and ``clean`` with dims (stack, z, y, x), lazy (dask, one stack a block), each in the dtype of its
        files: counts above 32,767 stay, NaN stay NaN. ``stack`` holds the names ``img_<n>``, or those of the files
        without suffix, in natural order; z, y, x are in µm where the voxel size is known, else indices in pixels.
        ``attrs["source"]`` is the path.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        Where folders are not clear, a file has no partner, sizes differ within a pair or between stacks, or a
        file is damaged.

    Examples
    --------
    >>> pairs = open_pairs("pairs/", pattern="*_0.tif")  # doctest: +SKIP
    >>> pairs.noisy.isel(stack=3).compute()  # doctest: +SKIP
    """
    folder = Path(path).expanduser().resolve()
    if not folder.exists():
        raise FileNotFoundError(f"no pairs at {folder}: there is no such folder")
    if not folder.is_dir():
        raise NiddlError(f"expected a folder with a folder of noisy and one of clean images, got the file {folder}")
    names = _choose_folders(folder, {"noisy": noisy, "clean": clean})
    halves = {half: _find_stacks(folder / name, pattern) for half, name in names.items()}
    _require_partners(halves["noisy"], halves["clean"])
    stacks = sorted(halves["noisy"].files, key=_natural)
    layouts = {half: [_describe(stacks_of, stack) for stack in stacks] for half, stacks_of in halves.items()}
    for number in range(len(stacks)):
        _require_same_size(layouts["noisy"][number], layouts["clean"][number])
    data = {half: (PAIR_DIMS, _lazy_half(folder / names[half], found)) for half, found in layouts.items()}
    sizes = dict(zip(PAIR_DIMS, data["noisy"][1].shape, strict=True))
    stated = layouts["noisy"][0][0][1].voxel_um
    coords = space_coordinates(sizes, {**stated, **voxel_mapping(voxel_um)})
    coords["stack"] = ("stack", np.array(stacks))
    return require_pairs(xr.Dataset(data, coords=coords, attrs={"source": str(folder)}))


def _choose_folders(folder: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names of the folders of noisy and of clean images: as given, else by the words in their names."""
    present = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    listed = ", ".join(present) or "none"
    chosen = {}
    for half, name in given.items():
        if name is not None and not (folder / name).is_dir():
            raise NiddlError(f"{folder} has no folder {name!r} for {half}=; its folders: {listed}")
        found = [name] if name is not None else [other for other in present if _words(other) & _WORDS[half]]
        if len(found) != 1:
            raise NiddlError(
                f"expected one folder of {half} images in {folder}, recognised {found or 'none'}; name the folders "
                f"with noisy= and clean=. Its folders: {listed}"
            )
        chosen[half] = found[0]
    if chosen["noisy"] == chosen["clean"]:
        raise NiddlError(
            f"the folder {chosen['noisy']!r} of {folder} would be both noisy and clean; name the folders with noisy= "
            f"and clean=. Its folders: {listed}"
        )
    return chosen


def _words(name: str) -> set[str]:
    """Return the words of a name, lowSNR and low_snr alike."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _find_stacks(folder: Path, pattern: str | None) -> _Stacks:
    """Return the stacks of a folder: NIDDL's nested ones where there are any, else one a file."""
    from niddl_xr.recordings.readers.niddl_layout import plane_names, stack_folders
    from niddl_xr.recordings.readers.planes import image_names

    def fits(name: str) -> bool:
        return pattern is None or fnmatch(Path(name).name, pattern)

    files: dict[str, dict[int, str]] = {}
    nested = stack_folders(folder)
    for stack in nested:
        planes = [name for name in plane_names(stack) if fits(name)]
        numbers = {int(re.findall(r"\d+", Path(name).stem)[0]): name for name in planes}
        if len(numbers) != len(planes):
            raise NiddlError(f"two planes of {stack} have the same number: {', '.join(sorted(planes))}")
        if numbers:
            files[stack.name] = numbers
    if not nested:
        for name in sorted(filter(fits, image_names(folder))):
            stem = Path(name).stem
            if stem in files:
                raise NiddlError(f"two files of {folder} are called {stem}: {files[stem][0]} and {name}; set pattern=")
            files[stem] = {0: name}
    if not files:
        which = f" that fits pattern={pattern!r}" if pattern else ""
        raise NiddlError(f"found no .tif or .png file{which} in {folder}, nor NIDDL's img_<n>/z_<k>.tif")
    return _Stacks(folder, files, bool(nested))


def _require_partners(noisy: _Stacks, clean: _Stacks) -> None:
    """Raise one error that names every file without a partner."""
    if noisy.nested != clean.nested:
        one, other = (noisy, clean) if noisy.nested else (clean, noisy)
        raise NiddlError(f"{one.folder} is in NIDDL's layout img_<n>/z_<k>.tif, but {other.folder} holds plain files")
    missing = []
    for have, lack in ((noisy, clean), (clean, noisy)):
        names = [
            name
            for stack in sorted(have.files, key=_natural)
            for number, name in sorted(have.files[stack].items())
            if number not in lack.files.get(stack, {})
        ]
        if names:
            shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
            missing.append(f"{len(names)} of {have.folder.name} have no partner in {lack.folder.name}: {shown}")
    if missing:
        raise NiddlError(
            f"expected files of equal names in both folders of {noisy.folder.parent}, but {'; '.join(missing)}; "
            "add the missing ones or choose files with pattern="
        )


def _describe(stacks: _Stacks, stack: str) -> list[tuple[str, Layout]]:
    """Return the files of a stack in the order of z, and what each holds."""
    from niddl_xr.recordings.readers.planes import describe

    planes = sorted(stacks.files[stack].items())
    numbers = [number for number, _ in planes]
    gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if gaps:
        raise NiddlError(f"planes {gaps} of {stacks.folder / stack} are missing; put them back or remove the stack")
    found = [(name, describe(stacks.folder / name)) for _, name in planes]
    for name, layout in found:
        limit = layout.page_dims if stacks.nested else layout.page_dims + 1
        if "c" in layout.axes or layout.page_dims != 2 or len(layout.shape) > limit:
            wanted = "a plane (y, x)" if stacks.nested else "a plane (y, x) or a volume (z, y, x)"
            raise NiddlError(f"expected {stacks.folder / name} to hold {wanted} of one channel, got {layout.shape}")
    return found


def _volume_shape(files: Sequence[tuple[str, Layout]]) -> tuple[int, ...]:
    layout = files[0][1]
    return (sum(len(other.table) for _, other in files), *layout.table.page_shape)


def _require_same_size(noisy: Sequence[tuple[str, Layout]], clean: Sequence[tuple[str, Layout]]) -> None:
    for (name, one), (_, other) in zip(noisy, clean, strict=True):
        if one.shape != other.shape:
            raise NiddlError(f"{name} is {one.shape} in {one.table.folder}, but {other.shape} in {other.table.folder}")


def _lazy_half(folder: Path, stacks: Sequence[Sequence[tuple[str, Layout]]]) -> da.Array:
    """Return (stack, z, y, x), one block a stack; every stack must have the size of the first."""
    from niddl_xr.recordings.readers._lazy import joined, lazy_planes

    first_name, first = stacks[0][0]
    shape = _volume_shape(stacks[0])
    for files in stacks:
        for name, layout in files:
            if layout.table.page_shape != first.table.page_shape or layout.table.dtype != first.table.dtype:
                raise NiddlError(
                    f"{folder / name} has planes of {layout.table.page_shape} {layout.table.dtype}, but {first_name} "
                    f"has {first.table.page_shape} {first.table.dtype}; train on files of one size and dtype"
                )
        if _volume_shape(files)[0] != shape[0]:
            raise NiddlError(
                f"stacks of {folder} have different numbers of planes: {files[0][0]} has {_volume_shape(files)[0]}, "
                f"{first_name} has {shape[0]}; give every stack the same planes, or choose stacks with pattern="
            )
    tables = [layout.table for files in stacks for _, layout in files]
    names = [name for files in stacks for name, _ in files]
    table = joined(tables, str(folder), names, " ".join(each.token for each in tables))
    data, _ = lazy_planes(table, "tz", (len(stacks), shape[0]), "yx", 1)  # a stack takes the place of a frame
    return data
