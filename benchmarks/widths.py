"""Accuracy against cost: niddl_fast from 0.4 to 9 GMAC on simulated heads, ``python -m benchmarks.widths --save FILE``.

Every width is trained for the same minutes of one core, on the stacks of the experiment *photons*, and judged on its
test stacks: affine PSNR and SSIM, means over stacks and lights. On W2S all widths are alike (docs/decisions/0011).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.experiments._common import Setup, judge
from benchmarks.experiments._simulated import mixed_light, with_truth
from benchmarks.experiments.photons import FULL, TEST_SEED, TRAINING_SEED
from niddl_xr.denoising.nn.networks import build_network
from niddl_xr.denoising.nn.networks._cost import cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 16, 24, 32, 48])
    parser.add_argument("--minutes", type=float, default=2, help="of one core, for each width")
    parser.add_argument("--peak-photons", type=float, nargs="+", default=[50, 500])
    parser.add_argument("--save", type=Path, help="table to write after every width (CSV)")
    options = parser.parse_args()
    pairs = mixed_light("whole_brain", FULL.training_stacks, FULL.shape, TRAINING_SEED)
    rows = []
    for width in options.widths:
        denoiser = Setup().train(pairs, options.minutes, network="niddl_fast", network_options={"width": width})
        counted = cost(build_network("niddl_fast", width=width))
        row = {"width": width, "parameters": counted.parameters, "GMAC": counted.multiply_adds / 1e9}
        row["passes"] = len(denoiser.card["training"]["curve"])
        for peak in options.peak_photons:
            test = with_truth("whole_brain", FULL.test_stacks, FULL.shape, TEST_SEED, peak_photons=peak)
            judged = judge(test, {"network": denoiser})
            quality = judged[judged["method"] == "network"][["PSNR_dB", "SSIM"]].mean()
            row |= {f"{name}, {peak:g} photons": value for name, value in quality.items()}
        rows.append(row)
        if options.save is not None:
            pd.DataFrame(rows).to_csv(options.save, index=False, float_format="%.6g")
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
