import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import niddl_xr as nx
from niddl_xr import Denoiser, NiddlError
from niddl_xr.denoising.denoiser import Reference, keep_on_worker
from tests.conftest import random_denoiser


def test_a_saved_denoiser_is_the_same(tmp_path, network_denoiser):
    saved = network_denoiser.save(tmp_path / "a.safetensors")
    loaded = nx.load_denoiser(saved.path)
    assert loaded.card == network_denoiser.card
    assert loaded.sha256 == network_denoiser.sha256 == saved.sha256
    for name, array in network_denoiser.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.safetensors"]


def test_a_filter_can_be_saved_too(tmp_path, recording):
    smooth = nx.classical("gaussian", sigma_px=1.5)
    loaded = nx.load_denoiser(smooth.save(tmp_path / "g.safetensors").path)
    assert loaded.weights == {}
    np.testing.assert_array_equal(recording.niddl.denoise(loaded).values, recording.niddl.denoise(smooth).values)


def test_the_fingerprint_follows_weights_and_card(network_denoiser):
    other_card = Denoiser({**network_denoiser.card, "residual": False}, network_denoiser.weights)
    assert len({network_denoiser.sha256, other_card.sha256, random_denoiser(seed=1).sha256}) == 3


def test_nothing_is_overwritten(tmp_path, network_denoiser):
    path = tmp_path / "a.safetensors"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"a.safetensors exists; choose another name"):
        network_denoiser.save(path)
    assert path.read_text() == "mine"
    network_denoiser.save(path, overwrite=True)
    assert nx.load_denoiser(path).sha256 == network_denoiser.sha256
    with pytest.raises(FileNotFoundError, match="folder .* does not exist; make it first"):
        network_denoiser.save(tmp_path / "no" / "a.safetensors")


def test_what_is_no_denoiser_is_said(tmp_path, network_denoiser):
    with pytest.raises(FileNotFoundError, match=r"no denoiser at .*; Denoiser.save writes one"):
        nx.load_denoiser(tmp_path / "a")
    path = network_denoiser.save(tmp_path / "a").path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(NiddlError, match="a is not a readable denoiser file .*may be cut off"):
        nx.load_denoiser(path)
    path.write_bytes(b"nonsense that is longer than a header")
    with pytest.raises(NiddlError, match="a is not a readable denoiser file"):
        nx.load_denoiser(path)
    save_file({"w": np.zeros(2)}, tmp_path / "b")
    with pytest.raises(NiddlError, match="b holds tensors but is no denoiser of niddl_xr; import_niddl"):
        nx.load_denoiser(tmp_path / "b")
    newer = {**network_denoiser.card, "format_version": 99}
    save_file({"w": np.zeros(2)}, tmp_path / "c", {"card": json.dumps(newer)})
    with pytest.raises(NiddlError, match="c has format version 99, .* update niddl_xr"):
        nx.load_denoiser(tmp_path / "c")


def test_weights_that_do_not_fit_are_said(recording, network_denoiser):
    card = {**network_denoiser.card, "network": {"name": "hourglass_wres", "options": {"output": "linear"}}}
    with pytest.raises(NiddlError, match="weights do not fit the network .*hourglass_wres"):
        recording.niddl.denoise(Denoiser(card, network_denoiser.weights)).compute()


def test_a_reference_travels_light_and_finds_the_denoiser(tmp_path, network_denoiser, monkeypatch):
    import pickle  # what dask does with it

    monkeypatch.setattr("niddl_xr.denoising.denoiser._ON_THIS_WORKER", {})
    reference = Reference(network_denoiser)
    assert reference.resolve() is network_denoiser
    travelled = pickle.loads(pickle.dumps(reference))
    assert len(pickle.dumps(reference)) < 500
    with pytest.raises(NiddlError, match="is not in this process: make the dask client before"):
        travelled.resolve()
    keep_on_worker(network_denoiser.sha256, network_denoiser.file_content)
    assert travelled.resolve().sha256 == network_denoiser.sha256

    monkeypatch.setattr("niddl_xr.denoising.denoiser._ON_THIS_WORKER", {})
    saved = network_denoiser.save(tmp_path / "a")
    by_path = pickle.loads(pickle.dumps(Reference(saved)))
    assert by_path.resolve().sha256 == network_denoiser.sha256
    replaced = pickle.loads(pickle.dumps(Reference(saved)))
    random_denoiser(seed=5).save(tmp_path / "a", overwrite=True)
    with pytest.raises(NiddlError, match="has changed since the work was planned"):
        replaced.resolve()
