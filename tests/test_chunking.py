import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from niddl_xr.chunking import (
    Region,
    blocks_for_looking,
    frames_within,
    map_regions,
    read_region,
    reflected,
    regions,
    tiles,
)


@given(size=st.integers(1, 6), before=st.integers(0, 20), after=st.integers(0, 20))
def test_reflection_is_numpys_symmetric(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="symmetric")
    assert reflected(-before, size + after, size).tolist() == expected.tolist()


@given(frames=st.integers(1, 40), length=st.integers(1, 50))
def test_regions_hold_every_frame_once(frames, length):
    cut = regions(frames, length)
    assert [i for region in cut for i in range(region.start, region.stop)] == list(range(frames))
    assert [region.index for region in cut] == list(range(len(cut)))


def test_a_lazy_block_is_what_is_looked_at():
    assert blocks_for_looking((500, 30, 64, 65), planewise=True) == {0: 1, 1: 1}
    assert blocks_for_looking((500, 30, 64, 65), planewise=False) == {0: 1, 1: 30}
    assert blocks_for_looking((100_000, 4, 64, 65), planewise=True) == {0: 5, 1: 4}


def test_at_least_one_frame_fits():
    assert frames_within((30, 512, 512), 4, 2**20) == 1
    assert frames_within((2, 3, 5), 2, 600) == 10


@given(frames=st.integers(1, 9), start=st.integers(0, 8), length=st.integers(1, 4), halo=st.integers(0, 12))
def test_a_region_with_its_halo(frames, start, length, halo):
    start = min(start, frames - 1)
    region = Region(0, start, min(frames, start + length))
    movie = np.arange(frames * 2 * 3 * 5).reshape(frames, 2, 3, 5)
    lazy, places = read_region(da.from_array(movie), region, halo)
    padded = np.pad(movie, ((halo, halo), (0, 0), (0, 0), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(lazy.compute()[places], padded[region.start : region.stop + 2 * halo])


@pytest.mark.parametrize("chunks", [(3, 2, 3, 5), (1, 1, 2, 3), (7, 2, 3, 5), ((1, 4, 2), 1, 3, 5)])
@pytest.mark.parametrize("halo", [0, 1, 4, 9])
def test_mapped_regions_equal_the_whole(chunks, halo):
    movie = np.random.default_rng(0).integers(0, 99, (7, 2, 3, 5))

    def window_sum(block, halo=halo):
        return np.stack([block[i : i + 2 * halo + 1].sum(0) for i in range(len(block) - 2 * halo)])

    padded = np.pad(movie, ((halo, halo), (0, 0), (0, 0), (0, 0)), mode="symmetric")
    lazy = map_regions(window_sum, da.from_array(movie, chunks=chunks), halo, movie.dtype)
    assert lazy.shape == movie.shape
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), window_sum(padded))


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), size=st.integers(1, 40), halo=st.integers(0, 20),
    grid=st.sampled_from([1, 4, 8]),
)  # fmt: skip
def test_tiles_cover_a_plane_once_and_keep_the_grid(height, width, size, halo, grid):
    height, width = height * grid, width * grid
    written = np.zeros((height, width), int)
    for tile in tiles(height, width, size=size, halo=halo, grid=grid):
        written[tile.write] += 1
        for axis, length in enumerate((height, width)):
            read, write, crop = tile.read[axis], tile.write[axis], tile.crop[axis]
            assert read.start % grid == 0
            assert (read.stop - read.start) % grid == 0
            assert read.start <= max(0, write.start - halo)
            assert read.stop >= min(length, write.stop + halo)
            assert (read.start + crop.start, read.start + crop.stop) == (write.start, write.stop)
    assert (written == 1).all()
