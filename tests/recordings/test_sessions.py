"""Several files of one session: found by list, glob or folder, joined in time, refused with words."""

from __future__ import annotations

import json

import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr

import niddl_xr as nx
from niddl_xr.recordings.readers import Opened
from niddl_xr.recordings.sessions import files_of, join
from niddl_xr.schema import HISTORY

Z, Y, X = 2, 3, 5
VOXEL = {"z": 2.0, "y": 0.5, "x": 0.25}


@pytest.fixture
def movies(tmp_path, counts):
    """Three .npy movies whose numbers do not sort as text: (values, path) in the order of their numbers."""
    made = []
    for number, frames in ((2, 4), (9, 1), (10, 6)):
        values = counts(frames, Z, Y, X) + number
        np.save(tmp_path / f"worm_{number}.npy", values)
        made.append((values, tmp_path / f"worm_{number}.npy"))
    return made


def opened(frames=3, *, path_number=0, **stated):
    data = da.full((frames, Z, Y, X), path_number, dtype="uint16", chunks=(1, Z, Y, X))
    return Opened(data, **{"voxel_um": VOXEL, **stated})


def paths_of(tmp_path, parts):
    return [tmp_path / f"part_{number}.raw" for number in range(len(parts))]


def joined(tmp_path, *parts, **options):
    return join(parts, paths_of(tmp_path, parts), **options)


def read(path, **options):
    return nx.open_recording(path, **{"axes": "tzyx", "voxel_um": (2, 0.5, 0.25), "dt_s": 0.1, **options})


@pytest.mark.parametrize("named", ["list", "glob", "folder"])
def test_a_list_a_glob_and_a_folder_are_one_session(tmp_path, movies, named, lazily, pickled):
    (tmp_path / "notes.txt").write_text("of no reader")
    (tmp_path / ".worm_11.npy").write_text("hidden")
    files = [path for _, path in movies]
    what = {"list": files, "glob": tmp_path / "worm_*.npy", "folder": tmp_path}[named]
    with lazily:
        recording = read(what)
    expected = np.concatenate([values for values, _ in movies])
    np.testing.assert_array_equal(recording.values, expected)
    np.testing.assert_allclose(recording.t, np.arange(11) * 0.1)
    assert recording.attrs["files"] == ["worm_2.npy", "worm_9.npy", "worm_10.npy"]
    assert recording.attrs["source"] == str(files[0] if named == "list" else what)
    said = json.loads(recording.attrs[HISTORY])
    assert said[0]["verb"] == "open_recording"
    assert said[0]["parameters"] == {"axes": "tzyx", "voxel_um": {"z": 2, "y": 0.5, "x": 0.25}, "dt_s": 0.1}
    size, values = pickled(recording)
    assert size < 20_000
    np.testing.assert_array_equal(values, expected)


def test_the_order_of_a_list_is_the_callers(movies):
    recording = read([movies[2][1], movies[0][1]])
    np.testing.assert_array_equal(recording.values, np.concatenate([movies[2][0], movies[0][0]]))


def test_chunking_changes_nothing(tmp_path, movies):
    for chunks in (1, 4, {"t": 2, "y": 2}):
        np.testing.assert_array_equal(read(tmp_path, chunks=chunks).values, read(tmp_path).values)


def test_globs_in_lists_and_a_glob_of_one(tmp_path, movies):
    assert read([tmp_path / "worm_1?.npy", movies[0][1]]).sizes["t"] == 10
    one = read(tmp_path / "worm_9*")
    assert one.sizes["t"] == 1
    assert "files" not in one.attrs


def test_a_folder_with_a_single_file(tmp_path, counts):
    np.save(tmp_path / "worm.npy", counts(4, Z, Y, X))
    recording = read(tmp_path)
    np.testing.assert_array_equal(recording.values, counts(4, Z, Y, X))
    assert recording.attrs["source"] == str(tmp_path)


def test_a_folder_of_two_kinds_and_one_of_none(tmp_path, movies):
    with h5py.File(tmp_path / "worm.h5", "w") as file:
        file["data"] = np.zeros((4, Z, Y, X), "uint16")
    with pytest.raises(nx.NiddlError, match=r"holds files of 2 kinds, \.h5, \.npy: open one of them, .*/\*\.h5"):
        nx.open_recording(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("of no reader")
    with pytest.raises(nx.NiddlError, match=r"no reader recognises the folder .*other.*it holds notes\.txt"):
        nx.open_recording(other)


@pytest.mark.filterwarnings("ignore:7 files are missing")
def test_images_stay_with_the_reader_of_images(tmp_path, counts):
    for number in (2, 10):
        tifffile.imwrite(tmp_path / f"img_{number}.tif", counts(Y, X) + number, metadata=None)
    for what in (tmp_path, tmp_path / "*.tif"):
        assert files_of(what) == [what]
        recording = nx.open_recording(what, voxel_um=(1, 1, 1), dt_s=1, gaps="skip")
        assert recording.t.values.tolist() == [2, 10]


def test_zarr_stores_are_a_session(tmp_path, counts):
    for number in (2, 10):
        part = nx.from_numpy(counts(3, Z, Y, X) + number, dims="tzyx", voxel_um=(2, 0.5, 0.25), dt_s=0.5)
        part.niddl.save(tmp_path / f"worm_{number}.zarr", progress=False)
    recording = nx.open_recording(tmp_path / "*.zarr")
    np.testing.assert_array_equal(recording.values, np.concatenate([counts(3, Z, Y, X) + n for n in (2, 10)]))
    np.testing.assert_allclose(recording.t, np.arange(6) * 0.5)
    assert float(recording.x[1]) == 0.25


def test_natural_order_of_odd_digits(tmp_path):
    for name in ("a².npy", "a10.npy", "a9.npy", "b.npy"):
        np.save(tmp_path / name, np.zeros(3))
    assert [path.name for path in files_of(tmp_path / "*.npy")] == ["a9.npy", "a10.npy", "a².npy", "b.npy"]


def test_what_must_agree(tmp_path):
    first = opened()
    for other, what in (
        (Opened(da.zeros((3, Z, Y, X + 1), dtype="uint16"), voxel_um=VOXEL), "the size"),
        (Opened(da.zeros((3, Z, Y, X), dtype="uint8"), voxel_um=VOXEL), "the dtype"),
        (opened(channel="GFP"), "the channel"),
        (opened(voxel_um={**VOXEL, "z": 3.0}), "the voxel size"),
        (opened(voxel_um={}), "the voxel size"),
    ):
        with pytest.raises(nx.NiddlError, match=rf"agree in {what}.*part_0\.raw has .*part_1\.raw has"):
            joined(tmp_path, first, other)
    given = joined(tmp_path, first, opened(voxel_um={}), given={"z", "y", "x"})
    assert given.data.shape == (6, Z, Y, X)
    shifted = opened(coords={"x": xr.Variable("x", np.arange(X) + 7.0, {"units": "µm"})})
    with pytest.raises(nx.NiddlError, match=r"agree in the coordinate x: .*part_1\.raw states another one"):
        joined(tmp_path, first, shifted)
    assert joined(tmp_path, shifted, shifted).coords["x"].values[0] == 7
    same = [tmp_path / "part_0.raw"] * 2
    with pytest.raises(nx.NiddlError, match=r"part_0\.raw is named twice"):
        join([first, first], same)


def test_axes_of_a_file_in_another_order(tmp_path, counts):
    values = counts(3, Z, Y, X)
    turned = Opened(da.from_array(values.transpose(1, 0, 3, 2)), axes="ztxy", voxel_um=VOXEL)
    straight = Opened(da.from_array(values + 1), voxel_um=VOXEL)
    np.testing.assert_array_equal(joined(tmp_path, turned, straight).data, np.concatenate([values, values + 1]))


def test_times_that_increase_from_file_to_file_are_kept(tmp_path):
    one, two = np.array([0.5, 0.7, 1.0]), np.array([4.0, 4.5, 4.6])
    assert joined(tmp_path, opened(t_s=one), opened(t_s=two)).t_s.tolist() == [0.5, 0.7, 1.0, 4.0, 4.5, 4.6]
    with pytest.raises(nx.NiddlError, match=r"part_1\.raw ends at 1 s, before .*part_0\.raw.* begins \(4 s\)"):
        joined(tmp_path, opened(t_s=two), opened(t_s=one))


def test_a_clock_of_their_own_goes_on(tmp_path):
    own = np.array([0.0, 0.2, 0.5])  # median step 0.25
    assert joined(tmp_path, opened(t_s=own), opened(t_s=own)).t_s.tolist() == [0, 0.2, 0.5, 0.75, 0.95, 1.25]


def test_one_step_stays_one_step(tmp_path):
    session = joined(tmp_path, opened(dt_s=0.1), opened(5, dt_s=0.1000000001))
    assert session.t_s is None
    assert session.dt_s == 0.1
    mixed = joined(tmp_path, opened(dt_s=0.1), opened(2, dt_s=0.5))
    np.testing.assert_allclose(mixed.t_s, [0, 0.1, 0.2, 0.3, 0.8])


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("2024-05-01T12:00:10", [0, 0.5, 1, 10, 10.5, 11]),  # a pause
        ("2024-05-01T12:00:02", [0, 0.5, 1, 1.5, 2, 2.5]),  # within what a clock of whole seconds can tell
        ("2024-05-01T12:00:00", [0, 0.5, 1, 1.5, 2, 2.5]),  # parts of one acquisition
        ("2024-05-01T12:00:01.750000", [0, 0.5, 1, 1.5, 2, 2.5]),
        ("2024-05-01T12:00:01.900000", [0, 0.5, 1, 1.9, 2.4, 2.9]),
        ("2024-05-01T12:00:10+02:00", [0, 0.5, 1, 1.5, 2, 2.5]),  # another kind of clock
        ("in the morning", [0, 0.5, 1, 1.5, 2, 2.5]),
    ],
)
def test_pauses_between_files(tmp_path, stated, expected):
    first = opened(dt_s=0.5, attrs={"acquired": "2024-05-01T12:00:00"})
    for options in ({}, {"dt_s": 0.5}):
        session = joined(tmp_path, first, opened(dt_s=0.5, attrs={"acquired": stated}), **options)
        times = np.arange(6) * session.dt_s if session.t_s is None else session.t_s
        np.testing.assert_allclose(times, expected)
        assert session.attrs["acquired"] == "2024-05-01T12:00:00"
        assert not session.notes


def test_starts_that_contradict(tmp_path):
    late = opened(50, dt_s=0.5, attrs={"acquired": "2024-05-01T12:00:00"})
    soon = opened(dt_s=0.5, attrs={"acquired": "2024-05-01T12:00:05"})
    session = joined(tmp_path, late, soon)
    assert session.dt_s == 0.5
    (note,) = session.notes
    assert "part_1.raw" in str(note)
    assert "began, by the times that the files state, before the file before had ended" in str(note)
    with pytest.raises(nx.NiddlError, match=r"part_1\.raw was acquired 2024-05-01T12:00:00, before .*part_0\.raw"):
        joined(tmp_path, soon, late)


def test_the_callers_step_takes_the_place_of_what_files_state(tmp_path):
    own = np.array([0.0, 0.2, 0.5])
    stored = {"t": xr.Variable("t", own, {"units": "s"})}
    for part in (opened(t_s=own), opened(coords=stored), opened(dt_s=3.0)):
        session = joined(tmp_path, part, part, dt_s=0.25)
        assert (session.dt_s, session.t_s) == (0.25, None)
    with pytest.raises(nx.NiddlError, match="expected dt_s, .* got -1"):
        joined(tmp_path, opened(), opened(), dt_s=-1)


def test_nothing_is_guessed_where_a_file_states_no_time(tmp_path):
    session = joined(tmp_path, opened(dt_s=0.1), opened())
    assert (session.dt_s, session.t_s) == (None, None)
    single = joined(tmp_path, opened(1, t_s=np.zeros(1)), opened(1, t_s=np.zeros(1)))
    assert (single.dt_s, single.t_s) == (None, None)
    skipped = {"t": xr.Variable("t", [3, 4, 7], {"units": "frame"})}
    assert joined(tmp_path, opened(coords=skipped), opened(2)).coords["t"].values.tolist() == [0, 1, 4, 5, 6]
    timed = joined(tmp_path, opened(coords=skipped, dt_s=0.5), opened(2, dt_s=0.5))
    np.testing.assert_allclose(timed.t_s, [0, 0.5, 2, 2.5, 3])


def test_attributes_that_differ_are_left_out(tmp_path):
    camera = {"camera": "C11", "bit_depth": 12, "table": np.arange(3), "channels": ["a", "b"]}
    other = {**camera, "bit_depth": 16, "table": np.arange(3)}
    attrs = joined(tmp_path, opened(attrs=camera), opened(attrs=other)).attrs
    assert attrs.pop("table").tolist() == [0, 1, 2]
    assert attrs == {"camera": "C11", "channels": ["a", "b"], "files": ["part_0.raw", "part_1.raw"]}


def test_what_all_files_lack_is_said_once(movies):
    with pytest.warns(nx.MissingMetadataWarning) as caught:
        nx.open_recording([path for _, path in movies], voxel_um=(1, 1, 1), dt_s=1)
    assert len(caught) == 1
    assert "worm_2.npy does not state its axes" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_a_damaged_file_is_named(tmp_path, movies):
    movies[1][1].write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(nx.NiddlError, match=r"worm_9\.npy is not a \.npy that can be read"):
        read(tmp_path)
    movies[1][1].unlink()
    with pytest.raises(FileNotFoundError, match=r"no recording at .*worm_9\.npy"):
        read([path for _, path in movies])
    with pytest.raises(nx.NiddlError, match="expected a path, .* got none"):
        nx.open_recording([])


def test_an_error_of_the_labels_names_the_file(movies):
    with pytest.raises(nx.NiddlError, match=r"worm_2\.npy: expected dt_s, .* got 0"):
        read(movies[0][1], dt_s=0)
