import numpy as np
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr import cli
from niddl_xr.demo import free_folder
from tests.conftest import counts


@pytest.fixture
def movie_file(tmp_path):
    path = tmp_path / "worm.tif"
    tifffile.imwrite(path, counts((5, 37, 53)), imagej=True, metadata={"axes": "TYX"})
    return path


LABELS = ["--voxel-um", "1", "0.4", "0.3", "--dt-s", "0.25"]


def test_convert_denoise_info(tmp_path, movie_file, network_denoiser, capsys):
    store, clean, denoiser = tmp_path / "a.zarr", tmp_path / "b.zarr", tmp_path / "d.safetensors"
    network_denoiser.save(denoiser)
    assert cli.main(["convert", str(movie_file), str(store), *LABELS]) == 0
    np.testing.assert_array_equal(nx.open_recording(store).values[:, 0], tifffile.imread(movie_file))
    assert cli.main(["denoise", str(store), str(denoiser), str(clean)]) == 0
    expected = nx.open_recording(store).niddl.denoise(network_denoiser).values
    np.testing.assert_array_equal(nx.open_recording(clean).values, expected)
    assert cli.main(["denoise", str(store), "median", str(tmp_path / "c.zarr")]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(store)]) == 0
    assert "t: 5 from 0 to 1 s" in capsys.readouterr().out
    assert cli.main(["info", str(denoiser)]) == 0
    assert "314,913 weights" in capsys.readouterr().out


def test_train(tmp_path, tiny_pairs):
    folder = tmp_path / "pairs"
    for half, name in (("noisy", "noisy_imgs"), ("clean", "gt_imgs")):
        for stack in range(tiny_pairs.sizes["stack"]):
            for z in range(tiny_pairs.sizes["z"]):
                path = folder / name / f"img_{stack + 1}" / f"z_{z + 1}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, tiny_pairs[half].values[stack, z])
    out = tmp_path / "d.safetensors"
    assert cli.main(["train", str(folder), str(out), "--epochs", "1", "--time-limit-s", "3"]) == 0
    assert nx.load_denoiser(out).card["training"]["options"]["loss"] == "l1"


def test_errors_are_one_line(tmp_path, movie_file, capsys):
    assert cli.main(["info", str(tmp_path / "nothing.tif")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("niddl-xr: ")
    assert "nothing.tif" in message
    assert message.count("\n") == 1
    (tmp_path / "mine").mkdir()
    assert cli.main(["convert", str(movie_file), str(tmp_path / "mine"), *LABELS]) == 1
    assert "exists and is no recording" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["convert"])


def test_a_demo_never_takes_an_existing_folder(tmp_path):
    assert free_folder(tmp_path / "demo") == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert free_folder(tmp_path / "demo") == tmp_path / "demo-3"
