"""Arrays in .npy and HDF5: truth is what numpy and h5py wrote."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr.recordings.readers import _chunked, _hdf5
from tests.recordings.samples import hdf5 as samples

T, Z, Y, X = 6, 3, 7, 11
ignore_missing = pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")


@ignore_missing
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "<f4", ">f8"])
@pytest.mark.parametrize("fortran", [False, True])
def test_npy(tmp_path, counts, lazily, pickled, dtype, fortran):
    truth = counts(T, Z, Y, X, dtype=np.dtype(dtype).newbyteorder("=").name)
    np.save(tmp_path / "a.npy", np.asarray(truth.astype(dtype), order="F" if fortran else "C"))
    with lazily:
        recording = nx.open_recording(tmp_path / "a.npy", chunks=4)
    assert recording.dtype == truth.dtype
    np.testing.assert_array_equal(recording.values, truth)
    size, values = pickled(recording[2:5, 1:])
    np.testing.assert_array_equal(values, truth[2:5, 1:])
    assert size < 20_000


@ignore_missing
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("axes", ["yxtz", "cyxt", "xyz"])
def test_any_order_of_axes_reads_only_the_slice(tmp_path, counts, suffix, axes, monkeypatch):
    sizes = {"t": T, "z": Z, "c": 2, "y": Y, "x": X}
    truth = counts(*(sizes[axis] for axis in axes))
    save(tmp_path / f"a{suffix}", truth)
    options = {"channel": 1} if "c" in axes else {}
    recording = nx.open_recording(tmp_path / f"a{suffix}", axes=axes, **options)
    expected = truth[1] if "c" in axes else truth
    left = axes.replace("c", "")
    expected = expected.transpose([left.index(dim) for dim in "tzyx" if dim in left])
    expected = expected[tuple(slice(None) if dim in left else None for dim in "tzyx")]
    np.testing.assert_array_equal(recording.values, expected)
    if suffix == ".h5" and "t" in axes:
        read = []
        original = _hdf5.Hdf5Dataset.__getitem__
        monkeypatch.setattr(
            _hdf5.Hdf5Dataset, "__getitem__", lambda source, key: read.append(key) or original(source, key)
        )
        values = recording[3].compute(scheduler="sync")
        np.testing.assert_array_equal(values, expected[3])
        assert read[0][axes.index("t")].indices(T) == (3, 4, 1)


def save(path, truth, **attrs):
    if path.suffix == ".npy":
        np.save(path, truth)
        return
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", data=truth).attrs.update(attrs)


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_assumed_axes_are_warned_of(tmp_path, counts, suffix):
    save(tmp_path / f"a{suffix}", counts(T, Y, X))
    with pytest.warns(
        nx.MissingMetadataWarning, match=r"does not state its axes; .* taken as 'tyx' \(set axes=\)"
    ) as caught:
        recording = nx.open_recording(tmp_path / f"a{suffix}", voxel_um=(1, 0.5, 0.5), dt_s=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert recording.sizes == {"t": T, "z": 1, "y": Y, "x": X}
    save(tmp_path / f"b{suffix}", counts(T, Z, 2, Y, X))
    with pytest.raises(nx.NiddlError, match=r"shape \(6, 3, 2, 7, 11\) and does not state its axes: set axes="):
        nx.open_recording(tmp_path / f"b{suffix}")
    save(tmp_path / f"c{suffix}", np.zeros((0, Y, X)))
    with pytest.raises(nx.NiddlError, match=r"is empty: its shape is \(0, 7, 11\)"):
        nx.open_recording(tmp_path / f"c{suffix}")


@pytest.mark.parametrize(
    "array", [np.array([{}, 1], dtype=object), np.ones((T, Y, X), bool), np.ones((T, Y, X), complex)]
)
def test_npy_of_no_counts_is_never_unpickled(tmp_path, array, monkeypatch):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    monkeypatch.setattr(pickle, "load", None)
    with pytest.raises(nx.NiddlError, match=r"a\.npy holds .*; expected integer or floating-point counts"):
        nx.open_recording(tmp_path / "a.npy")


def test_npy_cut_short(tmp_path, counts):
    np.save(tmp_path / "a.npy", counts(T, Y, X))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-100])
    with pytest.raises(
        nx.NiddlError, match=r"a\.npy is cut short: its \(6, 7, 11\) uint16 end at byte 1052, but .* 952"
    ):
        nx.open_recording(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(content[:40])
    with pytest.raises(nx.NiddlError, match=r"a\.npy is not a \.npy that can be read"):
        nx.open_recording(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"no numpy at all")
    with pytest.raises(nx.NiddlError, match=r"b\.npy is not a \.npy that can be read"):
        nx.open_recording(tmp_path / "b.npy")


def test_hdf5_states_axes_voxel_and_channels(tmp_path, counts):
    truth = counts(T, Z, Y, X, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("group/imaging", data=truth.astype(">u2"), chunks=True, compression="gzip")
        for dim, label in zip(dataset.dims, "tzyxc", strict=True):
            dim.label = label
        dataset.attrs["element_size_um"] = [2.0, 0.5, 0.25]
        dataset.attrs["channel_names"] = np.array([b"green", b"red"])
        file["traces"] = np.ones((4, 9))
        file["names"] = "text"
    recording = nx.open_recording(tmp_path / "a.h5", channel="red", dt_s=1)
    np.testing.assert_array_equal(recording.values, truth[..., 1])
    assert recording.dtype.isnative
    np.testing.assert_allclose([float(recording[dim][1]) for dim in "zyx"], [2, 0.5, 0.25])
    assert recording.attrs["dataset"] == "/group/imaging"


@ignore_missing
def test_hdf5_datasets_are_listed(tmp_path, counts):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["left"], file["right"], file["flat"] = counts(T, Y, X), counts(T, Y, X) + 1, np.ones((Y, X))
    with pytest.raises(nx.NiddlError, match=r"found 2; choose one with dataset=.*/left \(6, 7, 11\) uint16"):
        nx.open_recording(tmp_path / "a.h5")
    with pytest.raises(nx.NiddlError, match=r"has no dataset 'middle' of numbers; its datasets: /flat"):
        nx.open_recording(tmp_path / "a.h5", dataset="middle")
    recording = nx.open_recording(tmp_path / "a.h5", dataset="right", chunks=1)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda frame: recording[frame].compute(scheduler="sync").values, range(T)))
    np.testing.assert_array_equal(np.stack(frames)[:, 0], counts(T, Y, X) + 1)
    (tmp_path / "a.h5").unlink()
    with pytest.raises(nx.NiddlError, match=r"dataset /right of .*a\.h5 could not be read"):
        recording.compute(scheduler="sync")


def test_damaged_hdf5(tmp_path, counts):
    save(tmp_path / "a.h5", counts(T, Y, X))
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[:700])
    with pytest.raises(nx.NiddlError, match=r"a\.h5 is not an HDF5 file that can be read"):
        nx.open_recording(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"not HDF5 at all, whatever its name")
    with pytest.raises(nx.NiddlError, match=r"b\.h5 is not an HDF5 file that can be read"):
        nx.open_recording(tmp_path / "b.h5")


STORED = {  # axes of the file, channel, values
    "plain": ("tyx", None, samples.counts(T, Y, X)),
    "chunked": ("tzyx", None, samples.counts(T, Z, Y, X, dtype="float32")),
    "sima": ("tzyxc", 1, samples.counts(T, Z, Y, X, 2, dtype="uint8")),
    "caiman_movie": ("tyx", None, samples.counts(T, Y, X, dtype="float32")),
    "tierpsy": ("tyx", None, samples.counts(T, Y, X, dtype="uint8")),
    "ilastik": ("yxtc", 1, samples.counts(Y, X, T, 2)),
    "scales": ("tyx", None, samples.counts(T, Y, X)),
    "matlab73": ("yxt", None, samples.counts(Y, X, T)),
    "matlab5": ("yxt", None, samples.counts(Y, X, T)),
    "imaris": ("tczyx", 1, samples.counts(T, 2, Z, Y, X)),
    "fiji": ("tczyx", 1, samples.counts(T, 2, Z, Y, X)),
}


@ignore_missing
@pytest.mark.parametrize("name", samples.SAMPLES)
def test_every_layout_within_hdf5(tmp_path, lazily, pickled, name):
    path = samples.SAMPLES[name](tmp_path)
    axes, channel, truth = STORED[name]
    if channel is not None:
        truth, axes = truth.take(channel, axis=axes.index("c")), axes.replace("c", "")
    truth = np.einsum(f"{axes}->{''.join(dim for dim in 'tzyx' if dim in axes)}", truth)
    truth = truth if "z" in axes else truth[:, None]
    with lazily:
        recording = nx.open_recording(path, chunks=4, **samples.OPTIONS.get(name, {}))
    assert recording.dtype == truth.dtype
    np.testing.assert_array_equal(recording.values, truth)
    size, values = pickled(recording[1:5, :, 2:, ::3])
    np.testing.assert_array_equal(values, truth[1:5, :, 2:, ::3])
    assert size < 20_000


def test_what_layouts_state(tmp_path):
    movie = nx.open_recording(samples.caiman_movie(tmp_path), voxel_um=(1, 1, 1))
    np.testing.assert_allclose(movie.t, np.arange(T) / 4)
    masks = nx.open_recording(samples.tierpsy(tmp_path))
    assert [float(masks[dim][1]) for dim in "tyx"] == pytest.approx([0.04, 10.5, 10.5])
    scales = nx.open_recording(samples.scales(tmp_path), voxel_um={"x": 2})
    np.testing.assert_allclose(scales.t, 1 + 0.5 * np.arange(T))
    np.testing.assert_allclose(scales.y, 0.3 * np.arange(Y))
    with pytest.raises(nx.NiddlError, match=r"2 channels: 0 \(GCaMP\), 1 \(RFP\)"):
        nx.open_recording(samples.imaris(tmp_path))
    image = nx.open_recording(samples.imaris(tmp_path), channel="RFP")
    np.testing.assert_allclose(image.t, np.arange(T) / 2)
    assert [float(image[dim][1]) for dim in "zyx"] == pytest.approx([2, 0.5, 0.25])
    kept = {name: value for name, value in image.attrs.items() if name not in ("source", "channel")}
    assert kept == {"acquired": "2026-01-05T10:00:00", "emission_nm": 580, "channels": ["GCaMP", "RFP"]}
    with pytest.warns(nx.MissingMetadataWarning, match=r"matlab73\.mat is taken as MATLAB's \(y, x, t\): axes='txy'"):
        nx.open_recording(samples.matlab73(tmp_path), voxel_um=(1, 1, 1), dt_s=1)


def test_a_volume_of_imaris_that_is_missing(tmp_path):
    with h5py.File(samples.imaris(tmp_path), "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 2/Channel 0/Data"]
    recording = nx.open_recording(tmp_path / "imaris.ims", channel=0, chunks=1)
    recording[1].compute(scheduler="sync")
    with pytest.raises(nx.NiddlError, match=r"TimePoint 2/Channel 0/Data of .*imaris\.ims is missing"):
        recording[2].compute(scheduler="sync")


def write_frames(path, name, truth, dtype=None):
    """Write every frame of (t, c, …) as a dataset of its own."""
    with h5py.File(path, "w") as file:
        for t, c in np.ndindex(*truth.shape[:2]):
            made = file.create_dataset(name.format(t=t, c=c), data=truth[t, c].astype(dtype or truth.dtype))
            made.attrs["element_size_um"] = [2.0, 0.5, 0.25]
    return path


def test_frames_of_fiji_that_are_datasets(tmp_path, counts, lazily, pickled):
    truth = counts(12, 2, Z, Y, X)  # t10 comes before t2 in the file
    path = write_frames(tmp_path / "a.h5", "t{t}/channel{c}", truth)
    with pytest.raises(nx.NiddlError, match=r"has 2 channels: 0, 1; choose one with channel="):
        nx.open_recording(path)
    with lazily:
        recording = nx.open_recording(path, channel=1, dt_s=1, chunks=5)
    np.testing.assert_array_equal(recording.values, truth[:, 1])
    assert [float(recording[dim][1]) for dim in "zyx"] == [2, 0.5, 0.25]
    size, values = pickled(recording[2:11:3, ::-1, 1:6:2])
    np.testing.assert_array_equal(values, truth[2:11:3, 1, ::-1, 1:6:2])
    assert size < 20_000
    one = write_frames(tmp_path / "b.h5", "t{t}/channel{c}", truth[:1, :1])
    assert nx.open_recording(one).sizes == {"t": 1, "z": Z, "y": Y, "x": X}
    with h5py.File(path, "a") as file:
        del file["t3/channel1"]
    with pytest.raises(nx.NiddlError, match=r"has 11 datasets such as t0/channel1, but none of frame 3"):
        nx.open_recording(path, channel=1)


@ignore_missing
def test_views_of_bigdataviewer(tmp_path, counts):
    truth = counts(3, 2, Z, Y, X)
    truth[1, 1, 0, 0] = 65_000
    path = write_frames(tmp_path / "a.h5", "t{t:05}/s{c:02}/0/cells", truth, "int16")
    with h5py.File(path, "a") as file:
        for t, s in np.ndindex(3, 2):
            file[f"t{t:05}/s{s:02}/1/cells"] = truth[t, s, :, ::2, ::2].astype("int16")
    recording = nx.open_recording(path, channel=1)
    assert recording.dtype == np.uint16
    np.testing.assert_array_equal(recording.values, truth[:, 1])


@ignore_missing
def test_frames_whose_names_the_caller_says(tmp_path, counts):
    truth = counts(4, 1, 2, X, Y, Z)
    path = write_frames(tmp_path / "a.h5", "{t}/frame", truth)
    recording = nx.open_recording(path, dataset="{t}/frame", axes="tcxyz", channel=1)
    np.testing.assert_array_equal(recording.values, np.einsum("txyz->tzyx", truth[:, 0, 1]))
    for axes, text in ((None, r"shape \(4, 2, 11, 7, 3\) and does not state its axes"), ("cxyz", "5 letters|volumes")):
        with pytest.raises(nx.NiddlError, match=text):
            nx.open_recording(path, dataset="{t}/frame", axes=axes)
    with pytest.raises(nx.NiddlError, match=r"has no dataset 'T\{t\}'; its datasets: /0/frame"):
        nx.open_recording(path, dataset="T{t}")
    with h5py.File(path, "a") as file:
        del file["2/frame"]
        file["2/frame"] = h5py.ExternalLink("other.h5", "/0/frame")
    with pytest.raises(nx.NiddlError, match=r"but none of frame 2"):
        nx.open_recording(path, dataset="{t}/frame", axes="tcxyz", channel=1)


@ignore_missing
@pytest.mark.parametrize("chunk", [None, (1, Y, X), (5, 3, 4), (12, 1, X)])
def test_steps_read_every_chunk_once(tmp_path, counts, chunk):
    truth = counts(12, Y, X)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("movie", data=truth, chunks=chunk)
    recording = nx.open_recording(tmp_path / "a.h5", chunks=12)
    for step in (2, 3, 5, 7):
        cut = slice(1, None, step), slice(1, 6, 2), slice(2, None, 3)
        np.testing.assert_array_equal(recording[cut[0], 0, cut[1], cut[2]].values, truth[cut])
    np.testing.assert_array_equal(recording[5:5:2].values, truth[5:5:2, None])


@pytest.mark.parametrize(("chunk", "step", "reads"), [(5, 2, 1), (1, 2, 6), (None, 3, 4), (3, 4, 3), (5, 1, 1)])
def test_how_often_steps_read(chunk, step, reads):
    class Dataset:
        shape, chunks, read = (12, Y), None if chunk is None else (chunk, Y), 0

        def __getitem__(self, key):
            self.read += 1
            return np.arange(12 * Y).reshape(12, Y)[key]

    dataset = Dataset()
    values = _hdf5.cut(dataset, (slice(0, 12, step), slice(1, 6, 2)))
    np.testing.assert_array_equal(values, np.arange(12 * Y).reshape(12, Y)[::step, 1:6:2])
    assert dataset.read == reads


def test_a_frame_of_another_size(tmp_path, counts):
    path = write_frames(tmp_path / "a.h5", "t{t}/channel{c}", counts(3, 1, Z, Y, X))
    for other in (counts(1, 1, 1), counts(Z, Y, X, dtype="int16"), counts(Y, X)):
        with h5py.File(path, "a") as file:
            del file["t1/channel0"]
            file["t1/channel0"] = other
        recording = nx.open_recording(path, dt_s=1, chunks=1)
        with pytest.raises(
            nx.NiddlError, match=r"t1/channel0 of .*a\.h5 is missing, or not \(3, 7, 11\) values of uint16"
        ):
            recording[1].compute()


def test_bytes_that_cannot_hold_the_counts(tmp_path, counts):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("movie", (2, 4096, 4096), "uint16", chunks=(2, 4096, 4096), compression="gzip")
        made.id.write_direct_chunk((0, 0, 0), b"x" * 100)
    with pytest.raises(nx.NiddlError, match=r"for which the file has 100 bytes in 1 of 1 chunks: .* damaged"):
        nx.open_recording(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("movie", data=counts(T, Y, X), chunks=(3, Y, X))
    content = (tmp_path / "b.h5").read_bytes()
    key = np.array([3 * Y * X * 2, 0], "<u4").tobytes()  # bytes of a chunk and the filters left out, in the B-tree
    (tmp_path / "b.h5").write_bytes(content.replace(key, np.array([10, 0], "<u4").tobytes(), 1))
    with pytest.raises(nx.NiddlError, match=r"for which the file has 472 bytes in 2 of 2 chunks: .* damaged"):
        nx.open_recording(tmp_path / "b.h5")


def test_a_matlab_variable_too_large_for_its_file(tmp_path, counts):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"Y": counts(Y, X, T)})
    content = (tmp_path / "a.mat").read_bytes()
    sizes = np.array([Y, X, T], "<i4").tobytes()
    (tmp_path / "a.mat").write_bytes(content.replace(sizes, np.array([Y, X, 10**7], "<i4").tobytes()))
    with pytest.raises(
        nx.NiddlError, match=r"Y of .* states the shape \(7, 11, 10000000\), for which the file of .* small"
    ):
        nx.open_recording(tmp_path / "a.mat")


def test_what_imaris_states_of_sizes(tmp_path):
    path = samples.imaris(tmp_path)
    with h5py.File(path, "a") as file:
        file["DataSetInfo/Image"].attrs["Unit"] = samples.characters("mm")
    assert float(nx.open_recording(path, channel=0).x[1]) == 250
    with h5py.File(path, "a") as file:
        group = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
        group.attrs["ImageSizeX"] = samples.characters(5)
    with pytest.raises(
        nx.NiddlError, match=r"states an image of \(3, 7, 5\) .* but stores \(4, 8, 16\): it is damaged"
    ):
        nx.open_recording(path, channel=0)


@ignore_missing
def test_full_frames_of_tierpsy_have_no_rate(tmp_path):
    recording = nx.open_recording(samples.tierpsy(tmp_path), dataset="full_data")
    assert recording.t.attrs["units"] == "frame"
    assert float(recording.x[1]) == 10.5


@ignore_missing
def test_coordinates_that_are_no_numbers_are_left_out(tmp_path):
    with h5py.File(samples.scales(tmp_path), "a") as file:
        file["time"][2] = np.nan
    assert nx.open_recording(tmp_path / "scales.h5").t.attrs["units"] == "frame"


@ignore_missing
def test_nothing_leads_out_of_the_file(tmp_path, counts):
    save(tmp_path / "other.h5", counts(T, Y, X))
    (tmp_path / "raw.bin").write_bytes(bytes(2 * T * Y * X))
    layout = h5py.VirtualLayout((T, Y, X), "uint16")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "movie", (T, Y, X))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["movie"] = counts(T, Y, X)
        file["again"] = h5py.SoftLink("/movie")
        file["round"] = h5py.SoftLink("/round")
        file["linked"] = h5py.ExternalLink("other.h5", "/movie")
        file["through"] = h5py.SoftLink("/linked")
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.h5", dataset="again").values[:, 0], counts(T, Y, X))
    for name, text in (("linked", "another file, other.h5"), ("through", "another file"), ("round", "in a circle")):
        with pytest.raises(nx.NiddlError, match=text):
            nx.open_recording(tmp_path / "a.h5", dataset=name)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        size = 2 * T * Y * X
        file.create_dataset("outside", (T, Y, X), "uint16", external=[(str(tmp_path / "raw.bin"), 0, size)])
    for name, text in (("virtual", "other.h5"), ("outside", "raw.bin")):
        with pytest.raises(nx.NiddlError, match=rf"dataset /{name} of .* lies in other files: .*{text}"):
            nx.open_recording(tmp_path / "b.h5", dataset=name)


@pytest.mark.parametrize(
    "values", [np.ones((T, Y, X), bool), np.ones((T, Y, X), complex), np.zeros((T, Y, X), [("a", "u2"), ("b", "f4")])]
)
def test_hdf5_of_no_counts(tmp_path, values):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["movie"] = values
        file.create_dataset("states", (T, Y, X), dtype=h5py.enum_dtype({"on": 1, "off": 0}, "i2"))
    for options in ({}, {"dataset": "movie"}, {"dataset": "states"}):
        with pytest.raises(nx.NiddlError, match=r"a\.h5.*ts datasets: /movie \(6, 7, 11\)"):
            nx.open_recording(tmp_path / "a.h5", **options)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["one"] = 5
    with pytest.raises(nx.NiddlError, match=r"dataset /one of .* holds one int64; expected an array"):
        nx.open_recording(tmp_path / "b.h5", dataset="one")


def test_hdf5_whose_sizes_are_not_believed(tmp_path, counts):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("movie", data=counts(T, Y, X), chunks=(1, Y, X), maxshape=(None, Y, X))
        made.resize(8 * T, axis=0)
    with pytest.raises(
        nx.NiddlError, match=r"states the shape \(48, 7, 11\), .* in 6 of 48 chunks: the recording was b"
    ):
        nx.open_recording(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["movie"].resize(2 * T, axis=0)
    with pytest.warns(UserWarning, match="6 of 12 chunks were never written and read as zeros"):
        recording = nx.open_recording(tmp_path / "a.h5", axes="tyx", voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(recording.values[:T, 0], counts(T, Y, X))
    assert not recording.values[T:].any()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("movie", (T, Y, X), "uint16")
    with pytest.raises(nx.NiddlError, match=r"the file has 0 bytes of 924: it was never written"):
        nx.open_recording(tmp_path / "b.h5")


def test_a_filter_that_is_missing(tmp_path, counts):
    space, layout = h5py.h5s.create_simple((T, Y, X)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, Y, X))
    layout.set_filter(32_768 + 17, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"movie", h5py.h5t.STD_U16LE, space, layout)
        file["movie"][:] = counts(T, Y, X)
    with pytest.raises(
        nx.NiddlError, match=r"compressed by a filter that is missing here, .*\(32785\): pip install hdf5"
    ):
        nx.open_recording(tmp_path / "a.h5")


@ignore_missing
def test_blocks_are_whole_chunks_unless_these_are_too_long(tmp_path, counts, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("movie", data=counts(12, Y, X), chunks=(5, Y, X))
        file.create_dataset("across", data=counts(12, Y, X), chunks=(12, 1, 1))
    assert nx.open_recording(tmp_path / "a.h5", dataset="movie").data.chunks[0] == (10, 2)
    monkeypatch.setattr(_chunked, "MOST_UNIT_BYTES", 7 * 2 * Y * X)
    with pytest.warns(UserWarning, match=r"stores 12 of its 12 frames together, in chunks of \(12, 1, 1\)"):
        recording = nx.open_recording(tmp_path / "a.h5", dataset="across")
    assert recording.data.chunks[0] == (7, 5)
    np.testing.assert_array_equal(recording.values[:, 0], counts(12, Y, X))


def test_texts_without_an_end_do_not_hang(tmp_path, counts):
    save(tmp_path / "a.h5", counts(T, Y, X), note=np.array(["some", "text"], dtype=object))
    content = bytearray((tmp_path / "a.h5").read_bytes())
    at = content.index(b"GCOL")
    content[at + 16 : at + 64] = bytes(48)
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(nx.NiddlError, match=r"a\.h5 is damaged: the texts at byte \d+ have no end"):
        nx.open_recording(tmp_path / "a.h5")


@ignore_missing
def test_pictures_and_tables(tmp_path, counts):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["picture"] = counts(Y, X)
    assert nx.open_recording(tmp_path / "a.h5").sizes == {"t": 1, "z": 1, "y": Y, "x": X}
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for number in range(20):
            file[f"trace{number:02}"] = np.ones(number + 1)
    with pytest.raises(nx.NiddlError, match=r"found 0; .*/trace00 \(1,\) float64, .* and 8 more"):
        nx.open_recording(tmp_path / "b.h5")


@ignore_missing
def test_npz(tmp_path, counts, pickled):
    np.savez(tmp_path / "a.npz", left=counts(T, Y, X), right=counts(T, Y, X) + 1)
    with pytest.raises(nx.NiddlError, match=r"expected one array in .*a\.npz; choose one with variable=: left, right"):
        nx.open_recording(tmp_path / "a.npz")
    recording = nx.open_recording(tmp_path / "a.npz", variable="right")
    np.testing.assert_array_equal(pickled(recording)[1][:, 0], counts(T, Y, X) + 1)
    np.savez_compressed(tmp_path / "b.npz", counts(T, Y, X))
    with pytest.raises(nx.NiddlError, match=r"arr_0 of .*b\.npz is compressed, .* numpy\.load"):
        nx.open_recording(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", np.array([{}]))
    with pytest.raises(nx.NiddlError, match=r"c\.npz holds object; expected integer"):
        nx.open_recording(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-50])
    with pytest.raises(nx.NiddlError, match=r"d\.npz"):
        nx.open_recording(tmp_path / "d.npz")


@ignore_missing
def test_headers_of_npy(tmp_path, counts):
    for version in ((1, 0), (2, 0), (3, 0)):
        content = io.BytesIO()
        np.lib.format.write_array(content, counts(T, Y, X), version)
        (tmp_path / "a.npy").write_bytes(content.getvalue())
        np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.npy").values[:, 0], counts(T, Y, X))
    good = (tmp_path / "a.npy").read_bytes()
    for old, new, text in (
        (b"(6, 7, 11)", b"(-6, 7,11)", "is cut short"),
        (b"(6, 7, 11)", b"(6, 7, 1(", "is not a .npy that can be read"),
        (b"NUMPY\x03", b"NUMPY\x09", r"is of version \(9, 0\)"),
        (b"'<u2'", b"'<U2'", "holds <U2; expected integer"),
    ):
        (tmp_path / "a.npy").write_bytes(good.replace(old, new))
        with pytest.raises(nx.NiddlError, match=text):
            nx.open_recording(tmp_path / "a.npy")


def test_variables_of_matlab_are_listed(tmp_path, counts):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"left": counts(Y, X, T), "right": counts(Y, X, T) + 1, "dff": np.ones((3, 4))})
    with pytest.raises(nx.NiddlError, match=r"found 2; choose one with dataset=.*left \(7, 11, 6\) uint16"):
        nx.open_recording(tmp_path / "a.mat")
    recording = nx.open_recording(tmp_path / "a.mat", dataset="right", axes="yxt", voxel_um=(1, 1, 1), dt_s=1)
    np.testing.assert_array_equal(recording.values[:, 0], counts(Y, X, T).transpose(2, 0, 1) + 1)
    (tmp_path / "b.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:300])
    cut = nx.open_recording(tmp_path / "b.mat", axes="yxt", voxel_um=(1, 1, 1), dt_s=1)
    with pytest.raises(nx.NiddlError, match=r"left of .*b\.mat could not be read"):
        cut.compute(scheduler="sync")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tierpsy_worm/features_test.hdf5", r"found 0; choose one with dataset=.* more"),
        ("format_nwb/extract_output_2014_04_01_p203_m19.mat", r"holds components that EXTRACT found, not a movie"),
        ("cascade_spikes/Experiment_552195520_excerpt.mat", r"expected one variable of numbers .* found 0"),
        ("btrack_tracks/tracks.h5", r"found 0; choose one with dataset=.*/coords \(2201, 5\) float32"),
    ],
)
def test_real_files_without_a_movie(realdata, name, text):
    with pytest.raises(nx.NiddlError, match=text):
        nx.open_recording(realdata / name)


@pytest.mark.realdata
@ignore_missing
def test_a_real_mask(realdata):
    path = realdata / "tierpsy_worm" / "mask_test.hdf5"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(nx.open_recording(path).values[0, 0], file["mask"])
