"""The experiments, run tiny; what they judge by, checked where the answer is known."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr

import niddl_xr as nx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks.experiments import EXPERIMENTS, __main__, _common, _neurites, _simulated, _traces  # noqa: E402
from benchmarks.experiments import generalisation as generalisation_experiment  # noqa: E402

MINUTES = 0.004
TINY = {
    "photons": {"peak_photons": (50,), "training_stacks": 4, "test_stacks": 2, "shape": (2, 40, 48), "frames": 9},
    "data_efficiency": {"stacks": (2, 4), "test_stacks": 2, "shape": (2, 40, 48), "w2s_images": (3, 4)},
    "modes": {"peak_photons": (50,), "training_stacks": 4, "test_stacks": 2, "shape": (4, 40, 48)},
    "losses": {"training_stacks": 3, "test_stacks": 2, "shape": (2, 40, 48), "w2s_images": 4},
    "generalisation": {"training_stacks": 4, "test_stacks": 2, "shape": (2, 40, 48)},
    "traces": {
        "projection_minutes": MINUTES,
        "training_stacks": 4,
        "training_shape": (2, 40, 48),
        "shape": (5, 40, 48),
        "frames": 9,
    },
    "neurites": {"worms": 2, "training_stacks": 4, "edge_px": 56},
}
# The columns that say which row is which, and those that must be numbers in every row.
KEYS = {
    "photons": ["of", "method", "peak_photons", "readout", "unit"],
    "data_efficiency": ["data", "method", "stack"],
    "modes": ["method", "peak_photons", "stack"],
    "losses": ["data", "method", "stack"],
    "generalisation": ["tested", "method", "stack"],
    "traces": ["method", "view", "motion", "peak_photons", "readout", "neuron"],
    "neurites": ["method", "photons", "worm"],
}
NUMBERS = {
    **{name: ["PSNR_dB", "SSIM"] for name in ("data_efficiency", "modes", "losses", "generalisation")},
    "photons": [],
    "traces": ["pearson", "mae", "amplitude_ratio"],
    "neurites": ["dice", "iou", "sensitivity", "false_length", "pieces"],
}
NETWORKS = {  # arms beside the filters: what was trained
    "photons": {"unet_fixed"},
    "data_efficiency": {f"unet_fixed, {planes}" for planes in (3, 4, 8)},
    "modes": {"2d", "2.5d, 3 planes", "3d, 3 planes"},
    "losses": {"l1", "l2", "charbonnier"},
    "generalisation": {"trained: reference", "trained: low laser", "trained: all mixed"},
    "traces": {"unet_fixed"},
    "neurites": {"unet_fixed", "without noise"},
}


@pytest.fixture(scope="session")
def real_pairs(tmp_path_factory) -> Path:
    """A folder named and laid out like W2S: fields 1 and 2 to train on, 46 to judge by, two channels each."""
    folder = tmp_path_factory.mktemp("realdata")
    rng = np.random.default_rng(5)
    for field in (1, 2, 46):
        for channel in (0, 1):
            clean = 60 + 120 * (np.add.outer(np.arange(40), np.arange(48)) % 17 < 6)
            for name, noise in (("noisy_avg1", 25), ("clean_avg400", 1)):
                path = folder / "w2s_pairs" / name / f"{field:03d}_{channel}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = np.clip(clean + noise * rng.standard_normal(clean.shape), 0, 255)
                tifffile.imwrite(path, image.astype("uint8"))
    return folder


@pytest.fixture(scope="session")
def tables(real_pairs, tmp_path_factory):
    """Run an experiment once, tiny."""
    done: dict[str, pd.DataFrame] = {}
    setup = _common.Setup("unet_fixed", real_pairs, tmp_path_factory.mktemp("keep"))

    def table(name: str) -> pd.DataFrame:
        if name not in done:
            module = importlib.import_module(f"benchmarks.experiments.{name}")
            done[name] = module.run(replace(module.SMALL, minutes=MINUTES, **TINY[name]), setup)
        return done[name]

    return table


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_method_meets_every_condition_once(name, tables):
    table = tables(name)
    assert not table.duplicated(KEYS[name]).any()
    expected = {"raw", "median 3×3", "Gaussian σ 1", "best Gaussian"} | NETWORKS[name]
    assert set(table["method"]) - {"NLM", "BM3D"} == expected
    cases = table[[key for key in KEYS[name] if key != "method"]].fillna("").astype(str).agg("|".join, axis=1)
    if name != "data_efficiency":  # whose methods belong to one data set each
        assert pd.crosstab(cases, table["method"]).eq(1).all(axis=None)
    assert np.isfinite(table[NUMBERS[name]]).all(axis=None)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_numbers_to_quote_tests_and_picture(name, tables):
    import holoviews as hv

    module = importlib.import_module(f"benchmarks.experiments.{name}")
    table = tables(name)
    summary = module.summary(table)
    assert summary.notna().any(axis=1).all()
    assert len(summary) < 80
    comparison = module.comparison(table)
    assert comparison["p_holm"].dropna().between(0, 1).all()
    assert (comparison["units"] >= 1).all()
    assert hv.render(module.figure(table), backend="bokeh") is not None


def test_photons_has_images_and_traces(tables):
    table = tables("photons")
    images, traces = table[table["of"] == "image"], table[table["of"] == "trace"]
    assert np.isfinite(images[["PSNR_dB", "SSIM"]]).all(axis=None)
    assert np.isfinite(traces[["pearson", "mae", "amplitude_ratio"]]).all(axis=None)
    assert set(traces["readout"]) == {"single pixel", "ROI 5×5×3"}


def test_fields_are_the_units_of_real_pairs(tables):
    for name in ("data_efficiency", "losses"):
        table = tables(name)
        real = table[table["data"] == "W2S"]
        assert set(real["stack"]) == {"046_0", "046_1"}
        assert set(real["unit"]) == {"field 046"}


def test_a_network_on_its_own_condition_loses_nothing(tables):
    table = tables("generalisation")
    own = table[table["method"] == "trained: " + table["tested"]]
    assert (own["lost_dB"] == 0).all()
    networks = table["method"].str.startswith("trained")
    assert table.loc[~networks, ["lost_dB", "outside_dB"]].isna().all(axis=None)
    assert np.isfinite(table.loc[networks, ["lost_dB", "outside_dB"]]).all(axis=None)


def test_losses_and_warnings_by_hand():
    rows = [("a", "trained: a", "s", 30.0, 12.0), ("a", "trained: b", "s", 27.0, 12.0), ("a", "raw", "s", 20.0, 12.0)]
    rows += [("b", "trained: a", "s", 22.0, 5.0), ("b", "trained: b", "s", 22.5, 5.0), ("b", "raw", "s", 10.0, 5.0)]
    table = pd.DataFrame(rows, columns=["tested", "method", "stack", "PSNR_dB", "snr_dB"])
    result = generalisation_experiment._with_losses(table, {"trained: a": [10.0, 14.0], "trained: b": [1.0, 5.5]})
    np.testing.assert_allclose(result["lost_dB"], [0, 3, np.nan, 0.5, 0, np.nan])
    np.testing.assert_allclose(result["outside_dB"], [0, 6.5, np.nan, 5, 0, np.nan])
    warned = generalisation_experiment.warned(result)
    assert warned.loc["warned"].tolist() == [2, 1.75, 0.5]
    assert warned.index.tolist() == ["warned"]


def test_snr_is_that_of_the_training():
    pairs = _simulated.mixed_light("whole_brain", 3, (2, 40, 48), 9)
    card = _common.DEFAULT.train(pairs, MINUTES, network="unet_fixed", validation=0).card
    measured = [generalisation_experiment.snr_db(pairs["noisy"].isel(stack=stack)) for stack in range(3)]
    np.testing.assert_allclose(card["training"]["snr_range_db"], [min(measured), max(measured)], rtol=1e-5)


# The light.


def photons_of(noisy: xr.DataArray) -> xr.DataArray:
    """Photons above the dark: counts over the gain that a stack's coordinates state."""
    return (noisy.astype(float) - 100) / (noisy["peak_counts"] / noisy["photons"])


@pytest.mark.parametrize("subject", ["whole_brain", "neurite"])
def test_stacks_have_the_light_that_was_asked_for(subject):
    camera = nx.simulate.Camera(offset=100, read_noise=1, row_noise=0, excess_noise=1, spurious_charge=0)
    pairs = _simulated.with_truth(subject, 3, (2, 40, 48), 4, peak_photons=250.0, camera=camera, stray_photons=0.0)
    measured = photons_of(pairs["noisy"])
    for stack in range(3):
        truth, image = pairs["clean"].isel(stack=stack), measured.isel(stack=stack)
        bright = truth > 0.5 * truth.max()
        expected = float((250 * truth / truth.max()).where(bright).sum())
        assert float(image.where(bright).sum()) == pytest.approx(expected, abs=5 * np.sqrt(expected) + 0.01 * expected)


def test_truth_is_of_the_same_worms_without_noise():
    pairs = _simulated.with_truth("whole_brain", 2, (3, 40, 48), 4, photons=(50, 60))
    again = nx.simulate.training_pairs(stacks=2, shape=(3, 40, 48), seed=4, photons=(50, 60))
    np.testing.assert_array_equal(pairs["noisy"], again["noisy"])
    # The clean images of the pairs have noise; the truth is nearer to them than the noisy ones are.
    quality = [float(nx.metrics.psnr(image, again["clean"]).mean()) for image in (pairs["clean"], pairs["noisy"])]
    assert quality[0] > quality[1] + 5


def test_recordings_have_the_light_that_was_asked_for():
    scene = _simulated.recording_at_peak(80.0, shape=(3, 32, 40), frames=5, neurons=4, seed=2)
    clean = scene["clean"]["F"]
    camera = nx.simulate.Camera()
    photons = (clean - camera.offset) / camera.gain - camera.spurious_charge
    assert 80 <= float(photons.max()) <= 80 + 0.05 + 0.6  # light past the sample comes on top


def test_light_needs_one_of_two_numbers():
    with pytest.raises(ValueError, match="photons or peak_photons, got neither"):
        _simulated.with_truth("whole_brain", 1, (1, 16, 16), 0)


# Judging: the truth itself is perfect, a blurred one is not.

BLUR = {"blurred": nx.classical("gaussian", sigma_px=2.0)}


def test_the_truth_itself_is_perfect_in_images():
    truth = _simulated.light("whole_brain", 2, (2, 40, 48), 6)
    table = _common.judge(xr.Dataset({"noisy": 30 * truth + 7, "clean": truth}), BLUR).set_index(["method", "stack"])
    assert (table.loc["raw", "PSNR_dB"] > 80).all()
    assert table.loc["raw", "SSIM"].min() == pytest.approx(1, abs=1e-6)
    assert (table.loc["blurred", "SSIM"] < 0.999).all()
    assert (table.loc["blurred", "PSNR_dB"] < 50).all()


def noise_free(gain: float = 1.0, projected: bool = False) -> pd.DataFrame:
    """Traces of a recording that is the truth, its differences from 500 counts times ``gain``."""
    scene = nx.simulate.whole_brain(
        shape=(4, 40, 48), frames=15, rate_hz=0.5, neurons=5, photons=40, seed=8, motion="fixed", bleaching=0.0
    )
    clean = scene["clean"].to_dataset()
    changed = clean.assign(F=(500 + gain * (clean["F"] - 500)).assign_attrs(clean["F"].attrs))
    nodes = {name: node.to_dataset() for name, node in scene.children.items()} | {"recording": changed}
    return _traces.judge_traces(xr.DataTree.from_dict(nodes), BLUR, projected=projected)


@pytest.mark.parametrize("projected", [False, True])
def test_the_truth_itself_is_perfect_in_traces(projected):
    table = noise_free(projected=projected).groupby(["method", "readout"])
    mean = table[["pearson", "mae", "amplitude_ratio"]].mean()
    np.testing.assert_allclose(mean.loc["raw", "pearson"], 1, atol=1e-4)
    np.testing.assert_allclose(mean.loc["raw", "amplitude_ratio"], 1, atol=1e-3)
    assert (mean.loc["raw", "mae"] < 1e-4).all()
    assert (mean.loc["blurred", "amplitude_ratio"] < 0.95).all()
    assert (mean.loc["blurred", "mae"] > 1e-3).all()


def test_amplitude_ratio_is_that_of_the_changes():
    table = noise_free(gain=3.0)
    raw = table[(table["method"] == "raw") & (table["readout"] == "single pixel")]
    np.testing.assert_allclose(raw["amplitude_ratio"], 3, rtol=1e-3)
    # Counts above the offset are three times the truth: the error of the level is twice the mean of F / F0, at rest 1.
    assert (raw["mae_of_level"] > 1.5).all()
    exact = noise_free()
    assert (exact.loc[exact["method"] == "raw", "mae_of_level"] < 1e-3).all()


def test_active_and_silent_neurons_are_told_apart():
    scene = _simulated.recording_at_peak(300.0, shape=(3, 48, 56), frames=30, rate_hz=1.0, neurons=12, seed=3)
    table = _traces.judge_traces(scene, {}).drop_duplicates("neuron").set_index("neuron")
    changes = scene["traces"]["dff"].std("t").to_series()[table.index]
    mean = changes.groupby(table["activity"]).mean()
    assert mean["active"] > 3 * mean["silent"]


def test_windows_are_read_around_the_nearest_voxel():
    z, y, x = np.meshgrid(np.arange(3), np.arange(5), np.arange(7), indexing="ij")
    values = (100 * z + 10 * y + x)[None] + 1000 * np.arange(2)[:, None, None, None]
    recording = nx.from_numpy(values, dims="tzyx", voxel_um=(2.0, 0.5, 0.4), dt_s=1.0)
    # (z, y, x) voxels: nearest to (1, 2, 3) and (2, 4, 0); the third lies outside.
    place = np.array([[1.8, 1.1, 1.1], [3.7, 1.9, 0.1], [4.0, 5.0, 0.1]])
    position = xr.DataArray(
        np.stack([place, place]),
        dims=("t", "neuron", "space"),
        coords={"neuron": ["inside", "corner", "outside"], "space": ["z", "y", "x"]},
    )
    single = _traces.neuron_traces(recording, position, (1, 1, 1))
    np.testing.assert_allclose(single, [[123, 240, np.nan], [1123, 1240, np.nan]])
    region = _traces.neuron_traces(recording, position, (3, 3, 3))
    # The corner keeps planes 1, 2, rows 3, 4 and columns 0, 1.
    np.testing.assert_allclose(region.isel(neuron=[0, 1]), [[123, 185.5], [1123, 1185.5]])


LINE = np.zeros((60, 80), bool)
LINE[30, 5:75] = True


def wide(centreline: np.ndarray) -> np.ndarray:
    """All pixels within 1 µm, 2.5 px of 0.4 µm, by brute force."""
    y, x = np.nonzero(centreline)
    grid = np.indices(centreline.shape)
    distance = np.hypot(grid[0][..., None] - y, grid[1][..., None] - x).min(-1)
    return distance * 0.4 <= 1.0


def test_the_true_mask_of_neurites_is_perfect():
    judged = _neurites.judge_mask(wide(LINE), LINE, 0.4)
    assert judged == {"dice": 1, "iou": 1, "sensitivity": 1, "false_length": 0, "pieces": 1}


def test_cuts_false_and_missing_neurites_are_counted():
    truth = wide(LINE)
    cut = truth.copy()
    cut[:, 20:30] = cut[:, 50:60] = False
    judged = _neurites.judge_mask(cut, LINE, 0.4)
    assert judged["pieces"] == 3
    assert judged["dice"] == pytest.approx(2 * cut.sum() / (cut.sum() + truth.sum()))
    assert judged["iou"] == pytest.approx(cut.sum() / truth.sum())
    assert 50 / 70 <= judged["sensitivity"] < 0.95  # within 1.2 µm of the ends counts as found
    beside = truth | wide(np.roll(LINE, 15, axis=0))
    judged = _neurites.judge_mask(beside, LINE, 0.4)
    assert judged["false_length"] == pytest.approx(1, abs=0.05)  # as long as the true one
    assert (judged["pieces"], judged["sensitivity"]) == (1, 1)
    nothing = _neurites.judge_mask(np.zeros_like(LINE), LINE, 0.4)
    assert nothing == {"dice": 0, "iou": 0, "sensitivity": 0, "false_length": 0, "pieces": 0}


def test_segmentation_finds_a_line_and_nothing_in_nothing():
    y = np.arange(60)[:, None] - 30
    image = 400 + 50 * np.exp(-0.5 * (y / 2.0) ** 2) * np.ones((60, 80))
    assert _neurites.judge_mask(_neurites.segment(image), np.broadcast_to(y == 0, (60, 80)), 0.4)["dice"] > 0.75
    assert not _neurites.segment(np.full((30, 40), 7.0)).any()


# Tables.


def test_the_best_gaussian_is_chosen_for_each_case():
    rows = [("raw", 1, 9.0), ("Gaussian σ 1", 1, 1.0), ("Gaussian σ 1.5", 1, 3.0), ("Gaussian σ 2", 1, 2.0)]
    rows += [("raw", 2, 9.0), ("Gaussian σ 1", 2, 5.0), ("Gaussian σ 1.5", 2, 4.0), ("Gaussian σ 2", 2, np.nan)]
    table = pd.DataFrame(rows, columns=["method", "stack", "PSNR_dB"])
    result = _common.with_best_gaussian(table, "PSNR_dB", ["stack"]).set_index(["stack", "method"])["PSNR_dB"]
    assert result[1].to_dict() == {"raw": 9.0, "Gaussian σ 1": 1.0, "best Gaussian": 3.0}
    assert result[2].to_dict() == {"raw": 9.0, "Gaussian σ 1": 5.0, "best Gaussian": 5.0}


def test_a_table_comes_back_as_it_was_saved(tables, tmp_path):
    table = tables("modes")
    path = _common.save_table(table, tmp_path / "new" / "modes.csv", "python -m benchmarks.experiments modes")
    assert path.read_text(encoding="utf-8").startswith("# python -m benchmarks.experiments modes\n# niddl-xr ")
    pd.testing.assert_frame_equal(_common.read_table(path), table, check_dtype=False, rtol=1e-5)


def test_kept_denoisers_are_found_again(monkeypatch, tmp_path):
    setup = _common.Setup("unet_fixed", keep=tmp_path / "keep")
    pairs = _simulated.mixed_light("whole_brain", 3, (1, 40, 48), 9)
    first = setup.train(pairs, MINUTES)

    def no_training(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(nx, "train", no_training)
    assert setup.train(pairs.copy(deep=True), MINUTES).sha256 == first.sha256
    for other in ({"loss": "l2"}, {"network": "hourglass_wres"}):
        with pytest.raises(AssertionError, match="trained again"):
            setup.train(pairs, MINUTES, **other)
    with pytest.raises(AssertionError, match="trained again"):
        setup.train(pairs.assign(clean=pairs["clean"] + 1), MINUTES)


def test_the_command_saves_and_never_overwrites(monkeypatch, tmp_path, capsys):
    from benchmarks.experiments import neurites

    monkeypatch.setattr(neurites, "SMALL", replace(neurites.SMALL, **TINY["neurites"]))
    monkeypatch.delenv("NIDDL_XR_REALDATA", raising=False)
    command = ["neurites", "--network", "unet_fixed", "--minutes", str(MINUTES), "--save", str(tmp_path)]
    __main__.main(command)
    assert "Holm" in capsys.readouterr().out
    lines = (tmp_path / "neurites_small.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# python -m benchmarks.experiments neurites --network unet_fixed --minutes {MINUTES}"
    with pytest.raises(SystemExit, match="neurites_small.csv exists"):
        __main__.main(command)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_notebooks_read_stored_tables(name, tables, tmp_path):
    """Cell by cell in this process: a kernel each would take longer than the rest of the tests."""
    _common.save_table(tables(name), tmp_path / f"{name}.csv", "stored by a test")
    notebook = json.loads((ROOT / "notebooks" / "experiments" / f"{name}.ipynb").read_text(encoding="utf-8"))
    variables: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None
            exec("".join(cell["source"]), variables)
            if "parameters" in cell["metadata"].get("tags", []):
                variables["results"] = str(tmp_path)
    assert variables["origin"] == "The stored table: `stored by a test`."
    assert set(variables["table"]["method"]) == set(tables(name)["method"])


def test_without_a_stored_table_the_run_is_small(monkeypatch, tmp_path):
    from benchmarks.experiments import losses

    sizes = []
    monkeypatch.setattr(losses, "run", lambda size, setup: sizes.append(size) or pd.DataFrame())
    _, origin = _common.stored_or_run(losses, "stored", results=tmp_path)
    assert "do not draw conclusions" in origin
    _common.stored_or_run(losses, "full", results=tmp_path)
    assert sizes == [losses.SMALL, losses.FULL]
    with pytest.raises(ValueError, match='"stored", "small" or "full", got \'medium\''):
        _common.stored_or_run(losses, "medium")
