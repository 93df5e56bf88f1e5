"""Make raw_denoised.png, the picture of the README: one plane raw, denoised, and as it truly is.

Run it from the root of the project; it needs matplotlib beside the package, and about two minutes on two cores::

    python docs/images/make_raw_denoised.py

The recording, the pairs and the training are those of the demo notebook. All three panels have one contrast, from the
1st percentile of the truth to its 99.8th, and the denoised one is the network's output, without any further work.
"""

from pathlib import Path

import matplotlib
import numpy as np

import niddl_xr as nx

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SEED = 0
TRAINING_SECONDS = 60
FRAME = 30
PLANE = 5
BAR_UM = 10
TARGET = Path(__file__).with_name("raw_denoised.png")


def main() -> None:
    """Simulate, train, denoise one frame, draw."""
    scene = nx.simulate.whole_brain(
        shape=(10, 96, 128), frames=60, photons=15, neurons=60, seed=SEED, frames_per_chunk=4
    )
    recording, truth = (scene[node].to_dataset()["F"] for node in ("recording", "clean"))
    pairs = nx.simulate.training_pairs(stacks=24, shape=(4, 96, 128), photons=(6, 40), seed=SEED + 1)
    denoiser = nx.train(pairs, patch_px=64, batch=2, epochs=200, time_limit_s=TRAINING_SECONDS, seed=SEED)
    movies = {"raw": recording, "denoised": recording.niddl.denoise(denoiser), "truth": truth}
    planes = {name: movie.isel(t=FRAME, z=PLANE).compute() for name, movie in movies.items()}
    low, high = np.percentile(planes["truth"], [1, 99.8])
    voxel_um = nx.schema.voxel_um(recording)
    height, width = truth.sizes["y"] * voxel_um["y"], truth.sizes["x"] * voxel_um["x"]

    figure, axes = plt.subplots(1, 3, figsize=(9, 9 / 3 * height / width + 0.3), layout="constrained")
    for axis, (name, plane) in zip(axes, planes.items(), strict=True):
        axis.imshow(
            plane, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="nearest", aspect=1
        )
        axis.set_title(name, fontsize=11)
        axis.set_axis_off()
    right, level = 0.96 * width, 0.94 * height
    axes[-1].plot([right - BAR_UM, right], [level, level], color="white", linewidth=3, solid_capstyle="butt")
    axes[-1].text(right - BAR_UM / 2, level - 1, f"{BAR_UM} µm", color="white", ha="center", va="bottom", fontsize=9)
    figure.savefig(TARGET, dpi=130)


if __name__ == "__main__":
    main()
