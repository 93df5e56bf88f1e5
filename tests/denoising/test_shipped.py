"""The denoisers that come with the package: offline, small, and better than filters on worms they have not seen."""

import numpy as np
import pytest

import niddl_xr as nx
from niddl_xr import NiddlError
from niddl_xr.denoising.shipped import path_of

FILTERS = {
    "median": nx.classical("median"),
    **{f"gaussian {sigma}": nx.classical("gaussian", sigma_px=sigma) for sigma in (1, 1.5, 2)},
}


def test_worm_sim_is_small_and_says_what_it_is():
    assert nx.pretrained() == ["worm-sim"]
    assert path_of("worm-sim").stat().st_size <= 2_000_000
    denoiser = nx.load_denoiser("worm-sim")
    card = denoiser.card
    assert card["network"]["name"] == "niddl_fast"
    assert card["training"]["snr_range_db"][0] < 15 < 30 < card["training"]["snr_range_db"][1]
    assert card["metrics"]["denoised"]["PSNR_dB"] > card["metrics"]["gaussian sigma 1"]["PSNR_dB"] + 2
    assert card["data"]["voxel_um"]["y"] == pytest.approx(0.4)
    assert "benchmarks.worm_sim" in card["data"]["source"]
    assert not set(card["training"]["stacks"]) & set(card["training"]["validation_stacks"])


def test_a_name_is_no_path_and_a_path_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nx.classical("median").save("worm-sim")
    assert nx.load_denoiser("worm-sim").method == "niddl"
    assert nx.load_denoiser("./worm-sim").method == "median"
    with pytest.raises(FileNotFoundError, match=r"no denoiser at .*worm-real.*worm-sim comes with niddl_xr"):
        nx.load_denoiser("worm-real")
    with pytest.raises(NiddlError, match="expected a Denoiser or the path of one, got int"):
        nx.load_denoiser(3)


@pytest.mark.parametrize(
    ("subject", "shape", "photons"),
    [
        ("whole_brain", (3, 192, 256), (1, 3)),
        ("ventral_cord", (20, 192, 256), (1, 3)),
        ("neurite", (20, 192, 256), (0.5, 1.5)),
    ],
)
def test_worm_sim_beats_filters_on_worms_it_has_not_seen(subject, shape, photons):
    """At the light of real images; the truth is the same worm with a hundred times the light."""
    pairs = nx.simulate.training_pairs(
        stacks=3, shape=shape, subject=subject, max_projection=shape[0] > 3, photons=photons, seed=987,
        clean_photons=(500, 501), camera=nx.simulate.NIDDL_EMCCD,
    ).load()  # fmt: skip
    denoisers = {**FILTERS, "worm-sim": nx.load_denoiser("worm-sim")}
    quality = {name: [] for name in denoisers}
    for stack in range(3):
        noisy = nx.from_numpy(pairs["noisy"].values[stack], dims="zyx", voxel_um=(1, 0.4, 0.4), dt_s=1)
        truth = noisy.copy(data=pairs["clean"].values[stack][None].astype(float))
        for name, denoiser in denoisers.items():
            result = noisy.niddl.denoise(denoiser)
            measures = [nx.metrics.psnr(result, truth), nx.metrics.ssim(result, truth)]
            quality[name].append([float(measure.mean()) for measure in measures])
    ours = np.mean(quality.pop("worm-sim"), axis=0)
    best = np.max([np.mean(values, axis=0) for values in quality.values()], axis=0)
    assert ours[0] > best[0] + 0.5, (ours, best)
    assert ours[1] > best[1], (ours, best)


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["whole_brain", "ventral_cord", "mechanosensory"])
def test_dark_places_of_real_images_are_left_without_noise(realdata, folder):
    """Noise finer than 3 px in the darker half of the authors' images, against that of their own outputs."""
    from scipy.ndimage import gaussian_filter
    from skimage import io

    ratios = []
    for path in sorted((realdata / "niddl_samples" / folder / "niddl_output").glob("*.tif"))[:5]:
        noisy = io.imread(realdata / "niddl_samples" / folder / "noisy" / f"{path.stem}.png")
        recording = nx.from_numpy(noisy[None], dims="zyx", voxel_um=(1, 0.4, 0.4), dt_s=1)
        ours = recording.niddl.denoise("worm-sim").values[0, 0]
        smooth = gaussian_filter(noisy.astype(float), 6)
        dark = smooth < np.median(smooth)
        authors = io.imread(path).astype(float)
        left = [(image - gaussian_filter(image, 3))[dark].std() for image in (ours, authors, noisy.astype(float))]
        assert left[0] < 0.1 * left[2]
        ratios.append(left[0] / left[1])
    assert np.median(ratios) < 1.2
