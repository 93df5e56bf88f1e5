"""Noisy and clean images of the same scene, as a lazy Dataset."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from niddl_xr.recordings._pair_files import HALVES, Stacks, find_sessions
from niddl_xr.recordings.sessions import natural
from niddl_xr.schema import (
    PAIR_DIMS,
    SPACE_DIMS,
    NiddlError,
    require_pairs,
    require_recording,
    space_coordinates,
    voxel_mapping,
)
from niddl_xr.schema import voxel_um as voxel_of

if TYPE_CHECKING:
    import dask.array as da

    from niddl_xr.recordings.readers.tiff import Layout

GRAY = "gray"


@dataclass(frozen=True)
class _Stack:
    """The files of one half of one stack in the order of z, and what each holds."""

    name: str
    folder: Path
    files: tuple[tuple[str, Layout], ...]

    @property
    def first(self) -> Layout:
        return self.files[0][1]

    @property
    def path(self) -> Path:
        return self.folder / self.files[0][0]

    @property
    def lead(self) -> tuple[str, tuple[int, ...]]:
        """The axes over the planes of the stack, z and c, in the order of the files, and their sizes."""
        if len(self.files) > 1:
            return "z", (len(self.files),)
        count = len(self.first.shape) - self.first.page_dims
        axes = "".join("c" if axis == "c" else "z" for axis in self.first.axes[:count])
        return axes, self.first.shape[:count]

    @property
    def page(self) -> str:
        """The axes within a plane."""
        return self.first.axes[-self.first.page_dims :]

    @property
    def channels(self) -> int:
        lead, sizes = self.lead
        return dict(zip(lead + self.page, sizes + self.first.table.page_shape, strict=True)).get("c", 1)

    @property
    def size(self) -> tuple[int, int, int]:
        """Sizes (z, y, x)."""
        sizes = dict(zip(self.lead[0] + self.page, self.lead[1] + self.first.table.page_shape, strict=True))
        return sizes.get("z", 1), sizes["y"], sizes["x"]


def open_pairs(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    noisy: str | None = None,
    clean: str | None = None,
    pattern: str | None = None,
    channel: int | str | None = None,
    voxel_um: Sequence[float | None] | Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Open noisy and clean images of the same scenes without loading them.

    Parameters
    ----------
    path
        A folder of one session, a folder of sessions (up to four folders deep), or a list of folders. A session is
        either a folder with one folder of noisy and one of clean images, each with NIDDL's layout
        ``img_<n>/z_<k>.tif`` or files of equal names; or a folder of files whose names differ by one word, such as
        ``worm_low.png`` and ``worm_high.png`` (other files in it are left aside). Files are TIFF or PNG of 8 or 16
        bits, a plane (y, x) or a volume (z, y, x) each.
    noisy, clean
        Names of the two folders, or the words by which names of files differ; by default the word noisy, low, input
        or raw, and the word clean, gt, high, target or truth.
    pattern
        Only files whose name fits, such as ``"*_0.tif"``.
    channel
        Which channel of files with several: its number from 0, its name where the first noisy file has names, or
        ``"gray"`` for the mean of all (float32).
    voxel_um
        Size of a voxel along (z, y, x) in µm, in place of what the first noisy file states. A denoiser remembers it,
        and refuses recordings of other voxels.

    Returns
    -------
    xarray.Dataset
        ``noisy`` and ``clean`` with dims (stack, z, y, x), lazy (dask, one stack a block), each in the dtype of its
        files: counts above 32,767 stay, NaN stay NaN. ``stack`` holds the names ``img_<n>``, or those of the files
        without suffix (without the word that differs), in natural order; of several sessions ``session/img_<n>``, so
        that training and validation never share one. z, y, x are in µm where the voxel size is known, else indices in
        pixels. ``attrs["source"]`` is the path, or a list of them.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    NiddlError
        Where folders or names are not clear, a file has no partner, sizes differ within a pair or between stacks,
        a file has several channels and none is chosen, or a file is damaged.

    See Also
    --------
    niddl_xr.check_pairs : Whether the two halves belong together.

    Examples
    --------
    >>> pairs = open_pairs("pairs/", pattern="*_0.tif")  # doctest: +SKIP
    >>> pairs.noisy.isel(stack=3).compute()  # doctest: +SKIP
    """
    folders = _folders([path] if isinstance(path, (str, os.PathLike)) else list(path))
    halves: dict[str, list[_Stack]] = {half: [] for half in HALVES}
    for label, folder in folders.items():
        for below, session in find_sessions(folder, {"noisy": noisy, "clean": clean}, pattern).items():
            prefix = "/".join(part for part in (label, below) if part)
            for stack in sorted(session["noisy"].files, key=natural):
                name = f"{prefix}/{stack}" if prefix else stack
                for half in HALVES:
                    halves[half].append(_describe(session[half], stack, name))
    for one, other in zip(halves["noisy"], halves["clean"], strict=True):
        _require_same_size(one, other)
    data = {half: (PAIR_DIMS, _lazy_half(stacks, channel)) for half, stacks in halves.items()}
    sizes = dict(zip(PAIR_DIMS, data["noisy"][1].shape, strict=True))
    stated = halves["noisy"][0].first.voxel_um
    coords = space_coordinates(sizes, {**stated, **voxel_mapping(voxel_um)})
    coords["stack"] = ("stack", np.array([stack.name for stack in halves["noisy"]]))
    sources = [str(folder) for folder in folders.values()]
    source: Any = sources if len(sources) > 1 else sources[0]
    return require_pairs(xr.Dataset(data, coords=coords, attrs={"source": source}))


def pair_recordings(
    noisy: xr.DataArray, clean: xr.DataArray, *, stack: str | Sequence[str] | None = None
) -> xr.Dataset:
    """Make pairs of two recordings of the same scenes, frame by frame.

    Parameters
    ----------
    noisy, clean
        Recordings (t, z, y, x) of equal sizes: frame k of one shows what frame k of the other shows.
    stack
        Names of the frames, one for each; or one name for all, such as that of the worm: then they are called
        ``<name>/t_<k>``. None: ``t_<k>``. Training and validation are split by stack: frames of one movie look alike,
        so that a validation within one movie flatters.

    Returns
    -------
    xarray.Dataset
        ``noisy`` and ``clean`` with dims (stack, z, y, x), views of the recordings, as lazy as they are, each of its
        dtype; NaN stay NaN. z, y, x are those of ``noisy``. ``attrs["source"]`` is that of ``noisy``, where it has one.

    Raises
    ------
    NiddlError
        For sizes or voxel sizes that differ, names that are not as many as the frames, and names that stand twice.

    Examples
    --------
    >>> from niddl_xr.simulation import whole_brain
    >>> low = whole_brain(shape=(2, 24, 32), frames=3, neurons=2, photons=5)["recording"]["F"]
    >>> high = whole_brain(shape=(2, 24, 32), frames=3, neurons=2, photons=500)["recording"]["F"]
    >>> pair_recordings(low, high, stack="worm1")["stack"].values.tolist()
    ['worm1/t_0', 'worm1/t_1', 'worm1/t_2']
    """
    require_recording(noisy)
    require_recording(clean)
    if noisy.shape != clean.shape:
        raise NiddlError(
            f"expected two recordings of equal sizes, got noisy {dict(noisy.sizes)} ({_source(noisy)}) and clean "
            f"{dict(clean.sizes)} ({_source(clean)}); select what they share with isel"
        )
    voxels = voxel_of(noisy), voxel_of(clean)
    for dim in voxels[0].keys() & voxels[1].keys():
        if not math.isclose(voxels[0][dim], voxels[1][dim], rel_tol=0.01):
            raise NiddlError(
                f"expected two recordings of equal voxels, got {voxels[0][dim]:g} µm along {dim} in noisy "
                f"({_source(noisy)}) and {voxels[1][dim]:g} µm in clean ({_source(clean)}); correct one with voxel_um="
            )
    names = _frame_names(stack, noisy.sizes["t"])
    space = {dim: noisy[dim] for dim in SPACE_DIMS if dim in noisy.coords}
    data = {half: (PAIR_DIMS, array.data) for half, array in (("noisy", noisy), ("clean", clean))}
    attrs = {"source": noisy.attrs["source"]} if "source" in noisy.attrs else {}
    return require_pairs(xr.Dataset(data, coords={**space, "stack": ("stack", np.array(names))}, attrs=attrs))


def _frame_names(stack: str | Sequence[str] | None, frames: int) -> list[str]:
    if stack is None or isinstance(stack, str):
        prefix = f"{stack}/" if stack else ""
        return [f"{prefix}t_{frame}" for frame in range(frames)]
    names = [str(name) for name in stack]
    if len(names) != frames or len(set(names)) != frames:
        raise NiddlError(f"expected {frames} different names, one for each frame, in stack=, got {len(set(names))}")
    return names


def _source(recording: xr.DataArray) -> str:
    return str(recording.attrs.get("source", "in memory"))


def _folders(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Return folders by what the names of their stacks begin with: nothing for one, else their own names."""
    folders = [Path(path).expanduser().resolve() for path in paths]
    if not folders:
        raise NiddlError("expected a folder of pairs, or several, got none")
    for folder in folders:
        if not folder.exists():
            raise FileNotFoundError(f"no pairs at {folder}: there is no such folder")
        if not folder.is_dir():
            raise NiddlError(f"expected a folder with a folder of noisy and one of clean images, got the file {folder}")
    if len(folders) == 1:
        return {"": folders[0]}
    labels = [folder.name for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [folder.as_posix().lstrip("/") for folder in folders]
    if len(set(labels)) < len(labels):
        raise NiddlError(f"expected each folder once, got {', '.join(map(str, folders))}")
    return dict(zip(labels, folders, strict=True))


def _describe(stacks: Stacks, stack: str, name: str) -> _Stack:
    """Return the files of a stack in the order of z, and what each holds."""
    from niddl_xr.recordings.readers.planes import describe

    planes = sorted(stacks.files[stack].items())
    numbers = [number for number, _ in planes]
    gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if gaps:
        raise NiddlError(f"planes {gaps} of {stacks.folder / stack} are missing; put them back or remove the stack")
    found = tuple((file, describe(stacks.folder / file)) for _, file in planes)
    for file, layout in found:
        others = len(layout.shape) - 2 - ("c" in layout.axes)
        odd = not {"y", "x"} <= set(layout.axes[-layout.page_dims :]) or len(layout.table.names) > 1
        if odd or others > (0 if stacks.nested else 1):
            wanted = "a plane (y, x)" if stacks.nested else "a plane (y, x) or a volume (z, y, x)"
            raise NiddlError(f"expected {stacks.folder / file} to hold {wanted}, got {layout.axes} {layout.shape}")
    return _Stack(name, stacks.folder, found)


def _require_same_size(noisy: _Stack, clean: _Stack) -> None:
    for (name, one), (other_name, other) in zip(noisy.files, clean.files, strict=True):
        sizes = [
            tuple(size for size, axis in zip(layout.shape, layout.axes, strict=True) if axis != "c")
            for layout in (one, other)
        ]
        if sizes[0] != sizes[1]:
            other_file = "" if other_name == name else f"{other_name} is "
            raise NiddlError(
                f"{name} is {sizes[0]} in {noisy.folder}, but {other_file}{sizes[1]} in {clean.folder}; the halves of "
                "a pair must be of one size"
            )


def _lazy_half(stacks: Sequence[_Stack], channel: int | str | None) -> da.Array:
    """Return (stack, z, y, x), one block a stack; every stack must be as the first."""
    import dask.array as da

    from niddl_xr.recordings.readers._lazy import choose_channel, joined, lazy_planes
    from niddl_xr.recordings.readers.tiff import channel_names

    first = stacks[0]
    for stack in stacks:
        _require_alike(stack, first)
    base = Path(os.path.commonpath([stack.folder for stack in stacks]))
    names = [(stack.folder / name).relative_to(base).as_posix() for stack in stacks for name, _ in stack.files]
    tables = [layout.table for stack in stacks for _, layout in stack.files]
    table = joined(tables, str(base), names, " ".join(each.token for each in tables))
    lead, sizes = first.lead
    leading, counts = f"t{lead}", (len(stacks), *sizes)  # a stack takes the place of a frame
    if "z" not in lead:
        leading, counts = f"tz{lead}", (len(stacks), 1, *sizes)

    def one(number: int) -> da.Array:
        data, axes = lazy_planes(table, leading, counts, first.page, 1, number)
        return data if axes == "tzyx" else data.transpose([axes.index(dim) for dim in "tzyx"])

    if channel == GRAY:
        colours = [one(number).astype(np.float32) for number in range(first.channels)]
        gray: da.Array = da.stack(colours).mean(axis=0, dtype=np.float32)
        return gray
    page_shape = (*counts, *first.first.table.page_shape)
    known = channel_names(first.first, first.page)
    wanted = channel if first.channels > 1 else None
    number, _ = choose_channel(wanted, leading + first.page, page_shape, known, first.path)
    return one(number)


def _require_alike(stack: _Stack, first: _Stack) -> None:
    """Raise where a stack has other sizes, dtype or channels than the first one."""
    table = first.first.table
    for name, layout in stack.files:
        if layout.table.page_shape != table.page_shape or layout.table.dtype != table.dtype:
            raise NiddlError(
                f"{stack.folder / name} has planes of {layout.table.page_shape} {layout.table.dtype}, but "
                f"{first.files[0][0]} has {table.page_shape} {table.dtype}; train on files of one size and dtype: "
                "choose them with pattern=, or open the sessions one by one"
            )
    if stack.size[0] != first.size[0] or (stack.channels, stack.page) != (first.channels, first.page):
        raise NiddlError(
            f"stacks of {stack.folder} have different numbers of planes: {stack.files[0][0]} has {stack.size[0]}"
            f"{_of_channels(stack)}, {first.files[0][0]} has {first.size[0]}{_of_channels(first)}; give every stack "
            "the same planes, or choose stacks with pattern="
        )


def _of_channels(stack: _Stack) -> str:
    return f" of {stack.channels} channels" if stack.channels > 1 else ""
