"""What the experiments share: filters to beat, training within a budget, judging, and tables."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

import niddl_xr as nx
from niddl_xr.denoising.classical import FILTERS
from niddl_xr.schema import MissingMetadataWarning, make_recording, voxel_um

RAW = "raw"
GAUSSIANS = {f"Gaussian σ {sigma:g}": sigma for sigma in (1.0, 1.5, 2.0)}
BEST_GAUSSIAN = "best Gaussian"  # of the three, chosen with the truth at hand: harder to beat than in real life
RESULTS = Path(__file__).parents[2] / "docs" / "results"
NEVER_REACHED = 1_000_000  # epochs: the time limit ends every training
IMAGE_MEASURES = ("PSNR_dB", "SSIM", "RMSE", "MAE")


@dataclass(frozen=True)
class Setup:
    """What a run is told from outside.

    ``network`` is the one to use where an experiment needs one, None for the default of :func:`niddl_xr.train`;
    ``realdata`` the folder of real recordings, None to leave them out; ``keep`` a folder in which denoisers are kept
    and found again, so that a long run can be made in parts, None for none.
    """

    network: str | None = None
    realdata: Path | None = None
    keep: Path | None = None

    @property
    def network_name(self) -> str:
        """Name of the network to use."""
        return self.network or str(signature(nx.train).parameters["network"].default)

    def train(self, pairs: xr.Dataset, minutes: float, **options: Any) -> nx.Denoiser:
        """Train for ``minutes`` of one CPU core, or load the denoiser that the same pairs and options gave before."""
        chosen = {
            "network": self.network_name,
            "time_limit_s": 60 * minutes,
            "epochs": NEVER_REACHED,
            "patience": None,
            "device": "cpu",
            "threads": 1,
            "progress": False,
            **options,
        }
        pairs = pairs.load()
        if self.keep is None:
            return nx.train(pairs, **chosen)
        path = self.keep / f"{chosen['network']}_{_fingerprint(pairs, chosen)}.safetensors"
        if path.exists():
            return nx.load_denoiser(path)
        self.keep.mkdir(parents=True, exist_ok=True)
        return nx.train(pairs, **chosen).save(path)


DEFAULT = Setup()


def _fingerprint(pairs: xr.Dataset, options: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name in ("noisy", "clean"):
        digest.update(str(pairs[name].dtype).encode() + pairs[name].values.tobytes())
    return digest.hexdigest()[:12]


def filters() -> dict[str, nx.Denoiser]:
    """Return the filters that a network has to beat; BM3D where its package is installed."""
    chosen = {"median 3×3": nx.classical("median", size_px=3)}
    chosen |= {name: nx.classical("gaussian", sigma_px=sigma) for name, sigma in GAUSSIANS.items()}
    if "nlm" in FILTERS:
        chosen["NLM"] = nx.classical("nlm")
    if "bm3d" in FILTERS and find_spec("bm3d") is not None:
        chosen["BM3D"] = nx.classical("bm3d")
    return chosen


def denoised(recording: xr.DataArray, denoisers: Mapping[str, nx.Denoiser]) -> dict[str, xr.DataArray]:
    """Return the raw recording and what every denoiser makes of it, in memory."""
    arms = {RAW: recording.astype("float32")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of light outside the training's: some experiments want that
        for name, denoiser in denoisers.items():
            arms[name] = recording.niddl.denoise(denoiser, progress=False).compute()
    return arms


def judge(pairs: xr.Dataset, denoisers: Mapping[str, nx.Denoiser], **conditions: Any) -> pd.DataFrame:
    """Return one row a method and stack: the means over its planes of ``IMAGE_MEASURES`` after an affine match.

    Every stack is a recording of its own, and an independent ``unit``. PSNR and SSIM take the range of the whole
    stack's truth as their peak.
    """
    tables = []
    for stack in range(pairs.sizes["stack"]):
        noisy, clean = (_as_recording(pairs[name].isel(stack=stack)) for name in ("noisy", "clean"))
        table = nx.compare(denoised(noisy, denoisers), clean, max_planes=None, baselines=False)
        table = table[list(IMAGE_MEASURES)].rename_axis("method").reset_index()
        name = str(pairs["stack"].values[stack])
        tables.append(table.assign(stack=name, unit=name, **conditions))
    return pd.concat(tables, ignore_index=True)


def _as_recording(volume: xr.DataArray) -> xr.DataArray:
    known = voxel_um(volume)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingMetadataWarning)
        return make_recording(volume.values[None], voxel_um=known or (1.0, 1.0, 1.0), dt_s=1.0)


def with_best_gaussian(table: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Return the table with the Gaussian of the highest mean ``value`` within ``by`` in place of all but the first."""
    gaussian = table[table["method"].isin(GAUSSIANS)]
    mean = gaussian.groupby([*by, "method"], sort=False)[value].mean().dropna()
    best = pd.MultiIndex.from_tuples(mean.groupby(list(by), sort=False).idxmax().tolist())
    chosen = pd.MultiIndex.from_frame(gaussian[[*by, "method"]]).isin(best)
    kept = table[~table["method"].isin(list(GAUSSIANS)[1:])]
    return pd.concat([kept, gaussian[chosen].assign(method=BEST_GAUSSIAN)], ignore_index=True)


def means(table: pd.DataFrame, columns: str, value: str, index: str = "method") -> pd.DataFrame:
    """Return the mean of ``value`` over units, ``index`` against ``columns``, both in the order of the table."""
    return table.pivot_table(index=index, columns=columns, values=value, sort=False, observed=True)


def compared(
    table: pd.DataFrame, value: str, unit: str, *, reference: str = BEST_GAUSSIAN, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Test every method against ``reference`` over independent units, Holm's correction within each group of ``by``."""
    named = table.rename(columns={"method": "name"})

    def tested(group: pd.DataFrame) -> pd.DataFrame:
        return nx.metrics.paired_wilcoxon(group, reference=reference, value=value, unit=unit).rename_axis("method")

    if not by:
        return tested(named)
    groups = {key: tested(group) for key, group in named.groupby(list(by), sort=False)}
    return pd.concat(groups, names=[*by])


def stored_or_run(
    experiment: Any, size: str, setup: Setup = DEFAULT, results: Path | None = None
) -> tuple[pd.DataFrame, str]:
    """Return the table of an experiment's module, and in words where it is from.

    ``size`` is "stored" (the table of the full run in the folder ``results``, by default docs/results; where there is
    none, a small run), "small" or "full".
    """
    if size not in ("stored", "small", "full"):
        raise ValueError(f'expected size "stored", "small" or "full", got {size!r}')
    name = experiment.__name__.rpartition(".")[2]
    path = (results or RESULTS) / f"{name}.csv"
    if size == "stored" and path.is_file():
        return read_table(path), f"The stored table: `{path.read_text(encoding='utf-8').partition(chr(10))[0][2:]}`."
    if size == "full":
        return experiment.run(experiment.FULL, setup), "A full run, just now."
    return experiment.run(experiment.SMALL, setup), (
        "**A small run, just now: it shows that the experiment works. Networks trained for seconds tell nothing about "
        "the methods; do not draw conclusions.**"
    )


def save_table(table: pd.DataFrame, path: Path, command: str) -> Path:
    """Write a table as CSV, six digits a number, below lines that say which command and versions made it."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("niddl-xr", "numpy", "scipy", "torch", "xarray"))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    path.write_text(f"# {command}\n# {versions}\n{text}", encoding="utf-8")
    return path


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that :func:`save_table` wrote."""
    return pd.read_csv(path, comment="#")
