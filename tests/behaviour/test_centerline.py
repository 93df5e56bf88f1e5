"""Centrelines of masks and images: circles by algebra, simulated worms with their truth, and what has no centreline."""

from __future__ import annotations

import json
import warnings
from functools import lru_cache

import dask
import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr.posture import require_posture
from niddl_xr.schema import NiddlError
from tests.behaviour.posture_truth import (
    MIDDLE,
    agreement,
    arc,
    crawler,
    frames_of,
    head_right,
    self_contact,
    tube,
)

HEAD_BLUNT = np.interp(np.linspace(0, 1, 500), [0, 0.3, 0.6, 1], [22, 28, 28, 6])


@lru_cache
def arc_mask(turn: float, *, blunt: bool = True, pixel_um: float = 3.0) -> xr.DataArray:
    """An arc of 300 µm radius in two frames, its head at the upper left; ``turn`` +1 right, -1 left."""
    line = arc(300.0, 1.6)
    line = line * [turn, 1] + [60 if turn > 0 else 400, 60]
    mask = tube(line, (157, 143), pixel_um, HEAD_BLUNT if blunt else 25.0)
    return frames_of(np.stack([mask, mask]), pixel_um)


@pytest.mark.parametrize(("turn", "ventral_side", "sign"), [(1, "right", 1), (-1, "left", -1), (-1, "unknown", 1)])
def test_a_circle_has_one_over_its_radius(turn: int, ventral_side: str, sign: int) -> None:
    centre = np.array([360.0, 60.0])
    line = arc(300.0, 3.0) * [turn, 1] + [60 if turn > 0 else 660, 60]
    mask = frames_of(tube(line, (247, 137), 3.0, HEAD_BLUNT)[None], 3.0)
    posture = nx.centerline(mask, ventral_side=ventral_side)
    np.testing.assert_allclose(posture["curvature"][:, MIDDLE].mean(), sign * turn / 0.3, rtol=0.01)
    np.testing.assert_allclose(posture["curvature"][:, MIDDLE], sign * turn / 0.3, atol=0.5)
    assert posture["head_told"].values.tolist() == ["shape"]
    assert posture.attrs["ventral_side"] == ventral_side
    found = posture["centerline"].sel(space=["y", "x"]).values[0]
    np.testing.assert_allclose(np.hypot(*(found - centre).T)[5:95], 300, atol=3.0)  # a pixel
    # From the middle of one cap to the other, and the caps.
    assert posture["length"][0].item() == pytest.approx(300 * 3.0 + 22 + 6, abs=8)


def test_a_posture_keeps_the_contract() -> None:
    posture = nx.centerline(arc_mask(1), points=37)
    require_posture(posture, "centerline", "curvature", "length", "quality", "reason")
    assert dict(posture.sizes) == {"t": 2, "s": 37, "space": 3}
    assert posture["t"].attrs["units"] == "s"
    assert json.loads(posture.attrs["niddl_history"])[-1]["verb"] == "centerline"
    steps = np.linalg.norm(np.diff(posture["centerline"].values[0], axis=0), axis=1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.01)
    np.testing.assert_allclose(steps.sum(), posture["length"][0], rtol=0.01)


@pytest.mark.parametrize(("pixel_um", "seed"), [(2.4, 31), (1.3, 32)])
def test_curvature_of_masks(pixel_um: float, seed: int) -> None:
    tree = crawler("body", pixel_um=pixel_um, frames=16, seed=seed, omega_turns_per_min=0)
    truth = tree["posture"].to_dataset()
    posture = nx.centerline(tree["labels"]["body"], ventral_side=truth.attrs["ventral_side"])
    figures = agreement(posture, truth)
    assert figures["rmse"] <= 0.6
    assert figures["r"] >= 0.99
    assert 0.97 <= figures["slope"] <= 1.03
    assert head_right(posture, truth).all()
    np.testing.assert_allclose(posture["length"], 1000, rtol=0.02)


@pytest.mark.parametrize(("what", "contrast", "rmse"), [("nir", "dark", 0.7), ("F", "bright", 1.6)])
def test_curvature_of_images(what: str, contrast: str, rmse: float) -> None:
    tree = crawler(what, frames=8, seed=33, omega_turns_per_min=0)
    source = tree["nir"]["F"] if what == "nir" else tree["recording"]["F"]
    truth = tree["posture"].to_dataset()
    # Fluorescence is too blurred to tell the ends by their widths, and four seconds too short to tell by motion.
    head = None if what == "nir" else truth["centerline"][0, 0]
    posture = nx.centerline(source, ventral_side=truth.attrs["ventral_side"], head=head)
    assert posture.attrs["contrast"] == contrast
    assert agreement(posture, truth)["rmse"] <= rmse
    assert head_right(posture, truth).all()


def test_coils_are_flagged_and_others_are_not() -> None:
    flagged = coiled = false = free = 0
    for seed in (41, 42):
        tree = crawler("body", frames=160, rate_hz=4, seed=seed, omega_turns_per_min=2.5)
        truth = tree["posture"].to_dataset()
        posture = nx.centerline(tree["labels"]["body"], fill_s=0)
        gap = self_contact(truth)
        without = posture["reason"].values != ""
        at_edge = posture["reason"].values == "cut by the edge of the field"
        assert np.array_equal(np.isnan(posture["length"].values), without)
        coiled, flagged = coiled + (gap < 0).sum(), flagged + (without & (gap < 0)).sum()
        free, false = free + (gap > 4.8).sum(), false + (without & (gap > 4.8) & ~at_edge).sum()
        assert head_right(posture, truth).all()
        assert "unknown" not in posture["head_told"].values
    assert coiled >= 10
    assert flagged >= 0.95 * coiled
    assert false <= 0.02 * free


def folded() -> np.ndarray:
    """A worm that lies folded onto itself, without a hole."""
    there = np.stack([np.full(200, 100.0), np.linspace(60, 290, 200)], axis=1)
    bend = arc(24.0, np.pi) + np.array([100, 290])
    back = np.stack([np.full(200, 148.0), np.linspace(290, 60, 200)], axis=1)
    return np.concatenate([there, bend, back])


def test_a_fold_without_a_hole_is_flagged() -> None:
    straight = np.stack([np.full(500, 120.0), np.linspace(40, 640, 500)], axis=1)
    planes = [tube(line, (81, 227), 3.0, 25.0) for line in (straight, straight + np.array([9, 6]), folded(), straight)]
    with pytest.warns(UserWarning, match="head is not told from the tail in 3 of 3 frames"):
        posture = nx.centerline(frames_of(np.stack(planes), 3.0, dt_s=1.0))
    assert posture["reason"].values[2].startswith("touches itself")
    assert np.isfinite(posture["length"].values).tolist() == [True, True, False, True]
    assert posture["head_told"].values.tolist() == ["unknown", "unknown", "", "unknown"]
    assert posture["quality"].values[2] == 0


def test_each_reason() -> None:
    worm = arc_mask(1).values[0]
    planes = np.repeat(worm[None], 6, axis=0)
    planes[1] = False
    planes[2] = np.roll(worm, -30, axis=1)
    planes[2, :, -30:] = False
    planes[3, 100:, :] |= tube(arc(300.0, 1.5) + np.array([330, 20]), worm.shape, 3.0, 20.0)[100:, :]
    planes[4] = tube(arc(300.0, 0.7) + np.array([60, 60]), worm.shape, 3.0, 25.0)
    posture = nx.centerline(frames_of(planes, 3.0, dt_s=1.0))
    reasons = posture["reason"].values.tolist()
    assert reasons[0] == reasons[5] == ""
    assert reasons[1] == "no worm"
    assert reasons[2] == "cut by the edge of the field"
    assert reasons[3] == "several worms"
    assert reasons[4] in ("touches itself: area far from the median", "length far from the median")


def test_a_ring_has_a_hole_and_a_gut_may_have_one() -> None:
    worm = arc_mask(1).values[0]
    ring = tube(arc(80.0, 6.2) + np.array([120.0, 200.0]), worm.shape, 3.0, 25.0)
    clear = worm & ~tube(arc(300.0, 1.6)[200:260] + np.array([60.0, 60.0]), worm.shape, 3.0, 8.0)
    posture = nx.centerline(frames_of(np.stack([worm, ring, clear, worm]), 3.0, dt_s=1.0))
    assert posture["reason"].values.tolist() == ["", "touches itself: hole in the outline", "", ""]


def test_noise_alone_is_no_worm() -> None:
    rng = np.random.default_rng(0)
    worm = arc_mask(1).values[0] * 60.0
    planes = np.stack([worm, worm * 0, worm]) + rng.normal(100, 5, (3, *worm.shape))
    planes[2, 5:9, 7:20] = np.nan
    posture = nx.centerline(frames_of(planes, 3.0, dt_s=1.0))
    assert posture["reason"].values.tolist() == ["", "no worm", ""]
    assert posture.attrs["contrast"] == "bright"


def test_short_gaps_are_bridged_and_marked() -> None:
    planes = np.stack([np.roll(arc_mask(1).values[0], shift, axis=0) for shift in range(12)])
    planes[4:6] = False
    planes[8:11] = False
    posture = nx.centerline(frames_of(planes, 3.0, dt_s=0.1))
    assert posture["reason"].values[4:6].tolist() == ["interpolated: no worm"] * 2
    assert posture["quality"].values[4:6].tolist() == [0.5, 0.5]
    # The mask moves down by a pixel of 3 µm a frame.
    down = np.diff(posture["centerline"].sel(space="y").values[3:8], axis=0)
    np.testing.assert_allclose(down, 3.0, atol=0.05)
    assert posture["reason"].values[8:11].tolist() == ["no worm"] * 3
    assert np.isnan(posture["curvature"].values[8:11]).all()
    assert posture["block"].values.tolist() == [0] * 8 + [-1] * 3 + [1]
    none = nx.centerline(frames_of(planes, 3.0, dt_s=0.1), fill_s=0)
    assert np.isnan(none["centerline"].values[4:6]).all()
    assert none["reason"].values[4] == "no worm"


def test_chunks_and_the_order_of_dims_change_nothing() -> None:
    tree = crawler("nir", pixel_um=6.0, frames=7, seed=34)
    image = tree["nir"]["F"].compute()
    whole = nx.centerline(image, contrast="dark")
    for other in (image.chunk(t=2, y=50), image.chunk(t=1), image.transpose("x", "z", "t", "y"), image.isel(z=0)):
        xr.testing.assert_identical(nx.centerline(other, contrast="dark").drop_attrs(), whole.drop_attrs())


def test_every_chunk_is_computed_once() -> None:
    import dask.array as da

    values, read = crawler("nir", pixel_um=8.0, frames=9, seed=35)["nir"]["F"].compute(), []

    def load(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        if block_info:
            read.append(block_info[0]["chunk-location"][0])
        return block

    lazy = da.from_array(values.values, chunks=(4, -1, -1, -1)).map_blocks(load, dtype=values.dtype)
    read.clear()
    with dask.config.set(scheduler="synchronous"):
        nx.centerline(values.copy(data=lazy), contrast="dark")
    assert sorted(read) == [0, 1, 2]


def test_planes_are_laid_on_top_of_each_other() -> None:
    mask = arc_mask(1)
    upper, lower = mask.where(mask["x"] < 150, False), mask.where(mask["x"] >= 150, False)
    volume = xr.concat([upper, lower], "z").assign_coords(z=("z", [0.0, 5.0], {"units": "µm"})).astype(bool)
    posture = nx.centerline(volume)
    np.testing.assert_array_equal(posture["curvature"], nx.centerline(mask)["curvature"])
    assert set(posture["centerline"].sel(space="z").values.ravel()) == {2.5}


def test_the_head_that_is_given() -> None:
    mask = arc_mask(1)
    start, end = [60.0, 60.0], (arc(300.0, 1.6)[-1] + 60).tolist()
    automatic = nx.centerline(mask)
    np.testing.assert_allclose(automatic["centerline"].sel(space=["y", "x"]).values[0, 0], start, atol=25)
    for head in (end, np.array([0.0, *end]), xr.DataArray(end, dims="space", coords={"space": ["y", "x"]}), "dark"):
        source = mask if not isinstance(head, str) else _brighter_head(mask)
        turned = nx.centerline(source, head=head)
        first = turned["centerline"].sel(space=["y", "x"]).values[:, 0]
        np.testing.assert_allclose(first, np.broadcast_to(end, (2, 2)), atol=25)
        assert set(turned["head_told"].values) == {head if isinstance(head, str) else "given"}
    # The right of one who walks the other way is the left.
    backward = nx.centerline(mask, head=end)
    np.testing.assert_allclose(backward["curvature"].values, -automatic["curvature"].values[:, ::-1], atol=1e-3)
    points = xr.DataArray([[np.nan, np.nan], end], dims=("t", "space"), coords={"t": mask["t"], "space": ["y", "x"]})
    assert (nx.centerline(mask, head=points)["head_told"] == "given").all()


def _brighter_head(mask: xr.DataArray) -> xr.DataArray:
    return mask * (300.0 - mask["x"] / 3) + 10


def test_flags_edited_by_hand_turn_a_block() -> None:
    planes = np.repeat(arc_mask(1).values[:1], 9, axis=0)
    planes[3:6] = False
    mask = frames_of(planes, 3.0, dt_s=0.5)
    automatic = nx.centerline(mask)
    assert automatic["block"].values.tolist() == [0, 0, 0, -1, -1, -1, 1, 1, 1]
    edited = automatic["head_flipped"] ^ (automatic["block"] == 1)
    turned = nx.centerline(mask, head=edited)
    np.testing.assert_array_equal(turned["centerline"][:3], automatic["centerline"][:3])
    np.testing.assert_allclose(turned["centerline"][6:], automatic["centerline"][6:, ::-1], atol=1e-3)
    xr.testing.assert_equal(turned["head_flipped"], edited)
    again = nx.centerline(mask, head=automatic["head_flipped"])
    np.testing.assert_array_equal(again["centerline"], automatic["centerline"])


def test_a_block_that_does_not_tell_is_told_by_the_others() -> None:
    from niddl_xr.behaviour._heads import Ends, Given, find_heads
    from niddl_xr.behaviour._kernels.orientation import Blocks

    frames, points = 6, 11
    width = np.tile(np.linspace(2, 1, points), (frames, 1))
    line = np.zeros((frames, points, 2))
    number = np.array([0, 0, 0, 0, 1, 1])
    width[4:] = 1.5
    light = np.tile(np.linspace(3, 1, points), (frames, 1))
    light[4:] = light[4:, ::-1]
    ends = Ends(line, np.zeros((frames, points)), width, light, None)
    blocks = Blocks(number, np.zeros(frames, bool))
    heads = find_heads(ends, np.ones(frames, bool), blocks, Given())
    assert heads.told.tolist() == ["shape"] * 4 + ["profile"] * 2
    assert heads.flipped.tolist() == [False] * 4 + [True] * 2
    dark = find_heads(Ends(line, line[..., 0], width, light * np.nan, None), np.ones(frames, bool), blocks, Given())
    assert dark.told.tolist() == ["shape"] * 4 + ["unknown"] * 2


def test_motion_tells_the_head_of_a_worm_of_even_width() -> None:
    s, times = np.linspace(0, 1, 60), np.arange(200) * 0.1
    from niddl_xr.behaviour._kernels.orientation import by_motion

    for pace, sign in ((0.4, 1), (-0.4, -1), (0.0, 0)):
        wave = np.sin(2 * np.pi * (s / 0.65 - pace * times[:, None]))
        assert np.sign(by_motion(wave, times)) == sign
    assert by_motion(wave[:2], times[:2]) == 0.0
    # Half of the time forwards, half backwards: nothing is told.
    phase = np.abs(times - times.mean())
    assert by_motion(np.sin(2 * np.pi * (s / 0.65 - 0.4 * phase[:, None])), times) == 0.0


def test_frames_without_seconds_have_no_motion_and_no_bridges() -> None:
    planes = np.repeat(arc_mask(1, blunt=False).values[:1], 4, axis=0)
    planes[1] = False
    mask = frames_of(planes, 3.0).drop_vars("t")
    with pytest.warns(UserWarning, match="head is not told"):
        posture = nx.centerline(mask)
    assert posture["t"].attrs["units"] == "frame"
    assert posture["reason"].values[1] == "no worm"


def test_an_empty_recording_gives_reasons_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posture = nx.centerline(frames_of(np.zeros((3, 20, 30), bool)))
    assert posture["reason"].values.tolist() == ["no worm"] * 3
    assert np.isnan(posture["curvature"].values).all()
    single = np.zeros((2, 20, 30), bool)
    single[:, 9, 9] = True
    assert (nx.centerline(frames_of(single))["reason"] != "").all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.drop_vars("y"), "expected the axis y in µm, got units None"),
        (lambda m: m.isel(t=[1, 0]), "expected times t that are finite and rise"),
        (lambda m: m.rename(y="row"), r"got \('t', 'row', 'x'\)"),
        (lambda m: m.isel(x=slice(None, None, -1)), "evenly spaced and rising"),
        (lambda m: m.assign_coords(x=("x", m.x.values * 2, {"units": "µm"})), "expected square pixels"),
        (lambda m: m.isel(x=slice(0, 5)), "at least 8 pixels along x"),
        (lambda m: m.isel(t=slice(0, 0)), "the source is empty"),
        (lambda m: m.astype(complex), "expected masks"),
        (lambda m: m.to_dataset(name="F"), r"got a Dataset with \['F'\]"),
        (lambda m: m.values, "got ndarray"),
        (lambda m: m.astype(float) * 0 + (np.arange(143) < 70), 'give contrast="bright" or "dark"'),
    ],
)
def test_sources_that_cannot_be_used(change, message: str) -> None:
    with pytest.raises(NiddlError, match=message):
        nx.centerline(change(arc_mask(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 3}, "expected points as a whole number from 11"),
        ({"smooth_um": -1.0}, "expected smooth_um as a finite number from 0"),
        ({"ventral_side": "dorsal"}, "expected ventral_side as one of right, left, unknown"),
        ({"contrast": "dark"}, "expected no contrast for masks"),
        ({"head": "nose"}, "one of bright, dark, shape, motion, got 'nose'"),
        ({"head": np.zeros(5)}, r"got shape \(5,\) of float64"),
        ({"head": xr.DataArray([1, 0], dims="t")}, "flags head .t. as booleans"),
        ({"head": xr.DataArray([True], dims="t", coords={"t": [99.0]})}, "expected head at times t of the frames"),
        ({"cord_offset_um": 20.0}, "expected cord_offset_um with tracks"),
    ],
)
def test_arguments_that_cannot_be_used(options: dict, message: str) -> None:
    with pytest.raises(NiddlError, match=message):
        nx.centerline(arc_mask(1), **options)


def test_faint_fluorescence_claims_no_head() -> None:
    faint = crawler("F", frames=4, seed=7, photons=5.0)["recording"]["F"]
    with pytest.warns(UserWarning, match="head is not told"):
        posture = nx.centerline(faint, contrast="bright")
    assert set(posture["head_told"].values) == {"", "unknown"}


@pytest.mark.realdata
def test_a_real_worm_against_its_skeleton(realdata) -> None:
    """The skeleton is skimage's of the same outline: the folder holds no skeletons of its own."""
    from scipy.ndimage import binary_fill_holes, label
    from skimage.morphology import skeletonize

    movie = nx.open_recording(realdata / "tierpsy_worm" / "test.avi", voxel_um=(1, 8, 8), dt_s=0.04).isel(
        t=slice(0, 300, 10)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posture = nx.centerline(movie, contrast="bright")
    errors = []
    for frame in np.flatnonzero(posture["reason"].values == ""):
        numbers, _ = label(movie.values[frame, 0] > 25, np.ones((3, 3)))
        worm = binary_fill_holes(numbers == 1 + np.argmax(np.bincount(numbers.ravel())[1:]))
        pixels = np.argwhere(skeletonize(worm))
        line = posture["centerline"].sel(space=["y", "x"]).values[frame] / 8
        errors.append(np.median(np.hypot(*np.moveaxis(pixels[:, None] - line, -1, 0)).min(axis=1)))
    assert len(errors) > 25
    assert np.median(errors) <= 1
