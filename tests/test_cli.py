import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr import cli
from niddl_xr.demo import free_folder
from tests.conftest import counts

LABELS = ["--voxel-um", "1", "0.4", "0.3", "--dt-s", "0.25"]


@pytest.fixture
def movie_file(tmp_path):
    path = tmp_path / "worm.tif"
    tifffile.imwrite(path, counts((5, 37, 53)), imagej=True, metadata={"axes": "TYX"})
    return path


@pytest.fixture
def run(capsys):
    """Return a function that runs the command line, and gives its status, output and errors."""

    def command(*arguments):
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return command


def write_pairs(folder, pairs):
    for half, name in (("noisy", "noisy_imgs"), ("clean", "gt_imgs")):
        for stack in range(pairs.sizes["stack"]):
            for z in range(pairs.sizes["z"]):
                path = folder / name / f"img_{stack + 1}" / f"z_{z + 1}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, pairs[half].values[stack, z])
    return folder


def test_convert_denoise_info(tmp_path, movie_file, network_denoiser, run):
    store, clean, denoiser = tmp_path / "a.zarr", tmp_path / "b.zarr", tmp_path / "d.safetensors"
    network_denoiser.save(denoiser)
    status, output, _ = run("convert", movie_file, store, *LABELS)
    assert status == 0
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    assert re.fullmatch(rf"{store}: t 5, z 1, y 37, x 53 uint16, {size / 1e3:.3g} kB\n", output)
    np.testing.assert_array_equal(nx.open_recording(store).values[:, 0], tifffile.imread(movie_file))
    assert cli.main(["denoise", str(store), str(denoiser), str(clean)]) == 0
    expected = nx.open_recording(store).niddl.denoise(network_denoiser).values
    np.testing.assert_array_equal(nx.open_recording(clean).values, expected)
    assert cli.main(["denoise", str(store), "median", str(tmp_path / "c.zarr")]) == 0
    status, output, _ = run("info", store, denoiser)
    assert status == 0
    assert repr(nx.describe(nx.open_recording(store))) in output
    assert "314,913 weights" in output


def test_train(tmp_path, tiny_pairs):
    folder = write_pairs(tmp_path / "pairs", tiny_pairs)
    out = tmp_path / "d.safetensors"
    assert cli.main(["train", str(folder), str(out), "--epochs", "1", "--time-limit-s", "3"]) == 0
    assert nx.load_denoiser(out).card["training"]["options"]["loss"] == "l1"


# ---- info


def test_info_of_several_files_goes_on_after_an_error(tmp_path, movie_file, run):
    status, output, errors = run("info", movie_file, tmp_path / "nothing.tif", movie_file)
    assert status == 1
    assert output.count("sizes ") == 2
    assert output.count(str(movie_file)) == 2
    assert re.fullmatch(r"niddl-xr: no recording at .*nothing\.tif.*\n", errors)


def test_info_as_json(tmp_path, movie_file, run):
    status, output, _ = run("info", "--json", movie_file, *LABELS)
    facts = json.loads(output)
    assert status == 0
    assert facts["sizes"] == {"t": 5, "z": 1, "y": 37, "x": 53}
    assert facts["given"] == {"voxel_um": {"z": 1.0, "y": 0.4, "x": 0.3}, "dt_s": 0.25}
    assert facts["counts"]["highest"] == float(tifffile.imread(movie_file).max())
    status, output, _ = run("info", "--json", "--planes", 0, movie_file, tmp_path / "nothing.tif")
    facts = json.loads(output)
    assert status == 1
    assert facts[0]["counts"] is None
    assert "picture" not in facts[0]
    assert "no recording at" in facts[1]["error"]


def test_info_says_what_was_warned_of_but_nothing_twice(tmp_path, run):
    np.save(tmp_path / "worm.npy", counts((5, 37, 53)))
    status, output, errors = run("info", tmp_path / "worm.npy")
    assert (status, errors) == (0, "")
    assert "Warned when it was opened:" in output
    assert "taken as 'tyx' (set axes=)" in output
    assert "coordinates are indices" not in output
    assert "open_recording(…, dt_s=…)" in output


def test_info_of_pairs(tmp_path, tiny_pairs, run):
    folder = write_pairs(tmp_path / "pairs", tiny_pairs)
    status, output, _ = run("info", folder)
    assert status == 0
    assert f"{folder}: 4 pairs of noisy and clean images" in output
    assert "stack 4, z 2, y 48, x 64" in output
    assert "img_1, img_2, img_3, img_4" in output
    facts = json.loads(run("info", "--json", folder)[1])
    assert facts["dtypes"] == {"noisy": "uint16", "clean": "uint16"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("of no reader")
    status, _, errors = run("info", tmp_path / "other")
    assert status == 1
    assert "no reader recognises the folder" in errors


def test_options_of_formats(tmp_path, run):
    path = tmp_path / "worm.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = counts((5, 37, 53)), counts((4, 37, 53))
    for options in (["--dataset", "b"], ["--option", "dataset=b"], ["--option", 'dataset="b"']):
        status, output, _ = run("info", path, "--axes", "tyx", *options)
        assert status == 0
        assert "t 4, z 1, y 37, x 53" in output
    status, _, errors = run("info", path, "--option", "sidereal=1")
    assert status == 1
    assert "unknown option sidereal" in errors
    tifffile.imwrite(tmp_path / "stack.tif", counts((6, 37, 53)), metadata=None)
    for options in (["--sizes", "z=3"], ["--option", 'sizes={"z": 3}']):
        assert "t 2, z 3, y 37, x 53" in run("info", tmp_path / "stack.tif", "--axes", "tzyx", *options)[1]
    for wrong in (["--sizes", "z"], ["--sizes", "z=many"], ["--option", "dataset"]):
        with pytest.raises(SystemExit):
            run("info", path, *wrong)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--channel", "1"], {"channel": 1}),
        (["--channel", "GFP"], {"channel": "GFP"}),
        (["--series", "2"], {"series": 2}),
        (["--series", "TwoPhotonSeries"], {"series": "TwoPhotonSeries"}),
        (["--position", "1", "--scene", "0"], {"position": 1, "scene": 0}),
        (["--variable", "7", "--gaps", "skip"], {"variable": "7", "gaps": "skip"}),
        (["--option", "a=[1, 2]", "--option", "b=x=y"], {"a": [1, 2], "b": "x=y"}),
        (["--sizes", "z=3,c=2"], {"sizes": {"z": 3, "c": 2}}),
    ],
)
def test_every_argument_reaches_the_verb(arguments, expected):
    options = cli._parser().parse_args(["info", "worm.tif", *arguments])
    assert cli._given(options) == expected


def test_formats(run):
    status, output, _ = run("formats")
    assert status == 0
    for name, row in nx.readers().iterrows():
        assert f"{name}: {row['what']}" in output
    assert ".h5 .hdf5" in output
    assert "options: " in output


# ---- convert


def test_convert_joins_files_in_the_order_given(tmp_path, run):
    for number in (1, 2):
        np.save(tmp_path / f"{number}.npy", counts((3, 37, 53), seed=number))
    files = [tmp_path / "2.npy", tmp_path / "1.npy"]
    status, output, errors = run("convert", "--quiet", "--axes", "tyx", *LABELS, *files, tmp_path / "a.zarr")
    assert (status, errors) == (0, "")
    assert "t 6" in output
    expected = np.concatenate([np.load(file) for file in files])
    np.testing.assert_array_equal(nx.open_recording(tmp_path / "a.zarr").values[:, 0], expected)


def test_convert_to_a_file_of_another_tool(tmp_path, movie_file, run):
    out = tmp_path / "b.ome.tif"
    status, output, errors = run("convert", "--quiet", movie_file, out, *LABELS)
    assert (status, errors) == (0, "")
    assert output == f"{out}: t 5, z 1, y 37, x 53, {out.stat().st_size / 1e3:.3g} kB\n"
    np.testing.assert_array_equal(np.squeeze(tifffile.imread(out)), tifffile.imread(movie_file))
    assert run("convert", "--quiet", movie_file, out, *LABELS)[0] == 1
    assert run("convert", "--quiet", "--overwrite", movie_file, out, *LABELS)[0] == 0
    status, _, errors = run(
        "convert", "--quiet", movie_file, tmp_path / "c.tif", *LABELS, "--out-option", "dtype=uint8"
    )
    assert status == 0
    assert tifffile.imread(tmp_path / "c.tif").dtype == np.uint8
    status, _, errors = run("convert", movie_file, tmp_path / "d.docx", *LABELS)
    assert status == 1
    assert errors.count("\n") == 1
    assert ".docx" in errors


def test_options_of_convert(tmp_path, run):
    np.save(tmp_path / "a.npy", np.arange(2 * 300 * 310, dtype="uint16").reshape(2, 300, 310))
    source = [tmp_path / "a.npy", "--axes", "tyx", *LABELS, "--quiet"]
    assert run("convert", *source, tmp_path / "flat.zarr", "--no-pyramid")[0] == 0
    assert run("convert", *source, tmp_path / "deep.zarr")[0] == 0
    assert not (tmp_path / "flat.zarr" / "s1").exists()
    assert (tmp_path / "deep.zarr" / "s1").exists()
    status, _, errors = run("convert", *source, tmp_path / "a.tif", "--no-pyramid")
    assert status == 1
    assert "--no-pyramid is for stores" in errors
    status, _, errors = run("convert", *source, tmp_path / "b.zarr", "--out-option", "dtype=uint8")
    assert status == 1
    assert "--out-option is for files of other tools" in errors
    assert not (tmp_path / "b.zarr").exists()


def test_errors_are_one_line(tmp_path, movie_file, run):
    status, output, message = run("info", tmp_path / "nothing.tif")
    assert (status, output) == (1, "")
    assert message.startswith("niddl-xr: ")
    assert "nothing.tif" in message
    assert message.count("\n") == 1
    (tmp_path / "mine").mkdir()
    status, _, message = run("convert", movie_file, tmp_path / "mine", *LABELS)
    assert status == 1
    assert "exists and is no recording" in message
    with pytest.raises(SystemExit):
        cli.main(["convert"])


def bytes_of(store):
    """Return the sha256 of every shard and of the ledger; other metadata holds the time of the call."""
    files = sorted(file for file in store.rglob("*") if file.is_file() and file.name != "zarr.json")
    return {str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def start(*arguments):
    script = "import sys; from niddl_xr.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_regions(process, store, number):
    deadline = time.monotonic() + 60
    while len(list(store.glob("s0/F/c/*/0/0/0"))) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    """A movie of 64 MB: eight regions."""
    path = tmp_path_factory.mktemp("long") / "long.npy"
    frame = np.random.default_rng(0).integers(0, 64, (512, 512)).astype("uint16")
    np.save(path, np.stack([np.roll(frame, t) for t in range(128)]))
    return path


def test_killed_in_the_middle_the_same_command_finishes(tmp_path, long_file):
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    source = [long_file, "--axes", "tyx", *LABELS, "--quiet"]
    process = start("convert", *source, killed)
    wait_for_regions(process, killed, 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(nx.NiddlError, match=r"killed\.zarr is unfinished"):
        nx.open_recording(killed)
    before = {file: file.stat().st_mtime_ns for file in killed.glob("s0/F/c/*/0/0/0")}
    assert cli.main([str(word) for word in ("convert", *source, killed)]) == 0
    kept = [file for file, modified in before.items() if file.stat().st_mtime_ns == modified]
    assert kept, "nothing was kept of what had been written"
    assert cli.main([str(word) for word in ("convert", *source, whole)]) == 0
    assert bytes_of(killed) == bytes_of(whole)
    assert len(bytes_of(whole)) > 16
    np.testing.assert_array_equal(nx.open_recording(killed).values[::50, 0], np.load(long_file)[::50])


def test_interrupted_it_says_how_to_go_on(tmp_path, long_file):
    out = tmp_path / "stopped.zarr"
    process = start("convert", long_file, "--axes", "tyx", *LABELS, "--quiet", out)
    wait_for_regions(process, out, 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "niddl-xr: stopped; what is complete stays, and the same command goes on" in errors
    assert "Traceback" not in errors


def test_memory_does_not_grow_with_the_length(tmp_path):
    script = (
        "import resource, sys; from niddl_xr.cli import main; status = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(status)"
    )
    peaks = []
    for frames in (256, 1024):  # 128 and 512 MB of zeros, both in regions of 16 MB
        path, out = tmp_path / f"{frames}.npy", tmp_path / f"{frames}.zarr"
        np.lib.format.open_memmap(path, "w+", "uint16", (frames, 512, 512)).flush()
        arguments = ["convert", str(path), str(out), "--axes", "tyx", *LABELS, "--quiet"]
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]))
    assert abs(peaks[1] - peaks[0]) < max(40, 0.1 * peaks[0]), peaks


def test_a_demo_never_takes_an_existing_folder(tmp_path):
    assert free_folder(tmp_path / "demo") == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert free_folder(tmp_path / "demo") == tmp_path / "demo-3"


@pytest.mark.realdata
def test_info_of_real_files(realdata, run):
    files = [
        realdata / "format_imagej_hyperstacks" / "xyt_calibrated_16bit__golgi_bfa_sum_projection.tif",
        realdata / "sima_2p" / "example.tif",
        realdata / "thunder_fish_mouse" / "mouse_tyx_int16.npy",
        realdata / "w2s_pairs",
    ]
    for path in files:
        status, output, errors = run("info", path)
        assert (status, errors) == (0, ""), path
        assert str(path) in output


@pytest.mark.filterwarnings("ignore")
def test_a_channel_whose_name_is_a_number(tmp_path, run):
    path = tmp_path / "two.ome.tif"
    values = counts((5, 2, 37, 53))
    tifffile.imwrite(path, values, metadata={"axes": "TCYX", "Channel": {"Name": ["488", "561"]}})
    for channel, number in (("561", 1), ("0", 0), ("1", 1)):
        status, out, _ = run("info", path, "--json", "--planes", "10", "--channel", channel)
        assert status == 0
        assert json.loads(out)["channel"] == ("488", "561")[number]
    status, _, error = run("info", path, "--channel", "640")
    assert (status, "has no channel 640" in error) == (1, True)


def test_options_that_are_arguments_are_refused(movie_file, tmp_path, run):
    status, _, error = run("info", movie_file, "--option", "path=other.tif")
    assert (status, "--option path=… cannot be" in error) == (1, True)
    status, _, error = run("convert", movie_file, tmp_path / "a.ome.tif", "--out-option", "overwrite=true")
    assert (status, "--out-option takes no overwrite; see --overwrite" in error) == (1, True)


def test_a_reader_that_has_enough_and_a_terminal_without_micro(movie_file):
    command = [sys.executable, "-m", "niddl_xr.cli"]
    with subprocess.Popen([*command, "formats"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    done = subprocess.run(
        [*command, "info", movie_file, *LABELS], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert (done.returncode, b"\\xb5m" in done.stdout) == (0, True)


def test_every_option_reaches_its_verb(movie_file, tmp_path, run, monkeypatch):
    given = {}

    def take(*arguments, **options):
        given.update(options, arguments=arguments)
        raise ValueError("enough")

    monkeypatch.setattr(nx, "open_pairs", lambda path: path)
    monkeypatch.setattr(nx, "train", take)
    wanted = {"network": "n", "mode": "3d", "depth": 5, "loss": "l2", "epochs": 7, "time_limit_s": 2.5}
    wanted |= {"validation": 0.3, "seed": 11, "device": "cpu", "resume": "c"}
    flags = [text for name, value in wanted.items() for text in (f"--{name.replace('_', '-')}", value)]
    assert run("train", "pairs", "a.safetensors", *flags)[0] == 1
    assert given == {**wanted, "out": "a.safetensors", "arguments": ("pairs",)}
    given.clear()
    monkeypatch.setattr(nx, "denoise", take)
    flags = ["--device", "cpu", "--precision", "float32", "--memory", "3 GiB", "--no-check-voxel", "--no-resume"]
    assert run("denoise", movie_file, "median", tmp_path / "a.zarr", *flags, *LABELS)[0] == 1
    options = {name: given[name] for name in ("device", "precision", "memory", "check_voxel", "resume", "to")}
    assert options == {
        **{"device": "cpu", "precision": "float32", "memory": "3 GiB", "check_voxel": False, "resume": False},
        "to": str(tmp_path / "a.zarr"),
    }
