"""Whether the halves of training pairs belong together: shifted, swapped, turned and unrelated ones are found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr.metrics import _registration as kernels
from niddl_xr.metrics._checks import evenly_spread
from niddl_xr.metrics.photon_transfer import DETAIL
from niddl_xr.schema import PAIR_DIMS, NiddlError, require_pairs

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("good", "shifted", "swapped", "turned", "unrelated", "unclear")
# What the tests on real pairs gave, good ones and such that were spoilt on purpose: see Notes of check_pairs.
_SHIFTED_PX = 0.85
_SCORE = 6.0  # in units of chance; the highest of 10^6 places comes to 5
_SURE_SCORE = 8.0
_SHARE = 0.4  # of the expected peak
_DISTINCT = 1.8
_EXPECTED = 20.0  # so clearly must halves that belong together show it, before their silence says anything
_SILENT = 0.17
_BEYOND = 3.3  # in units of its error
_NOISIER = 1.5
_MOST_COMPARED = 256  # stacks that are compared with each other: what is kept of each takes up to 2 MB
_MOST_TURNED = 8  # how many stacks are turned and flipped to see whether they fit then
_TURNS = {
    "turned by 180°": (2, False),
    "mirrored left to right": (0, True),
    "mirrored top to bottom": (2, True),
    "turned by 90°": (1, False),
    "turned by 270°": (3, False),
    "transposed": (1, True),
    "transposed and turned by 180°": (3, True),
}


class PairsWarning(UserWarning):
    """Pairs are not what a training needs; the message names the stacks and the remedy."""


@dataclass(frozen=True)
class _Row:
    """What is known of one stack, and what it needs to be compared with others."""

    stack: object
    fit: kernels.Fit | None
    correlation: float
    noise_counts: tuple[float, float]
    noise_ratio: float
    verdict: str
    sentence: str
    sketch: kernels.Sketch | None = None


def check_pairs(
    pairs: xr.Dataset, *, max_stacks: int | None = 64, planes: int = 3, time_limit_s: float | None = None
) -> pd.DataFrame:
    """Say of every stack whether its noisy and its clean image belong together.

    Only what is significant is said: where noise hides everything, the verdict is "unclear", not "unrelated".

    Parameters
    ----------
    pairs
        ``noisy`` and ``clean`` (stack, z, y, x), see :func:`niddl_xr.open_pairs`. One stack at a time is loaded.
    max_stacks
        Check so many stacks, evenly spread; None for all. Up to 256 of them are compared with each other.
    planes
        Look at so many planes of a stack, evenly spread, and take them together.
    time_limit_s
        Begin no further stack after this time in s; those checked are spread over the pairs. None for no limit.

    Returns
    -------
    pandas.DataFrame
        One row a stack, in the order of the pairs, named by the index ``stack``:

        ``shift_y_px``, ``shift_x_px``
            How far the content of the clean image lies below and to the right of that of the noisy image, in px, to
            about 0.1 px; NaN where nothing says that they show the same.
        ``correlation``
            Pearson's, of the pixels as they are. Noise makes it small: 0.1 is no sign of a bad pair.
        ``significance``
            Height of the peak of the correlation over all shifts in units of what chance gives. Chance alone comes to 5
            somewhere in an image; unrelated images with things of equal size in them, to 20.
        ``noise_noisy``, ``noise_clean``
            Standard deviation of the finest detail, in the unit of each half.
        ``noise_ratio``
            Noise of the clean over that of the noisy half at equal brightness; a good pair is below 1.
        ``verdict``
            ``"good"``; ``"shifted"`` by 1 px or more; ``"swapped"``: the clean half is much the noisier one;
            ``"turned"``: it fits when turned or mirrored; ``"unrelated"``: what is seen in one half is not in the
            other, or fits another stack's; ``"unclear"``: noise hides which.
        ``sentence``
            What was found and what to do.

        ``attrs["checked"]`` says how many of how many stacks were checked.

    Raises
    ------
    NiddlError
        Where ``pairs`` are none, and for arguments below 1. NaN, constant and tiny images are "unclear".

    Notes
    -----
    Cross-correlation of the two halves, each frequency weighted by the share of its power above the floor of the
    noise, after generalised cross-correlation (Knapp & Carter, IEEE Trans. Acoust. 24:320, 1976); waves of more
    than about 100 px and stripes are left out. "Unrelated" asks that the halves, given their spectra, would have to
    correlate with 20 times the error, and do with less than a sixth of that; the noisy half must hold either white
    noise or coarse detail that is no Gaussian noise. Shifts from 0.85 px are told, as registered pairs of microscopes
    are up to 0.8 px off.

    Examples
    --------
    >>> from niddl_xr.simulation import training_pairs
    >>> pairs = training_pairs(stacks=2, shape=(1, 128, 128), photons=(20, 50), seed=3)
    >>> check_pairs(pairs)["verdict"].tolist()
    ['good', 'good']
    >>> moved = pairs.assign(clean=pairs["clean"].roll(x=3))
    >>> check_pairs(moved)[["verdict", "shift_x_px"]].round().values.tolist()
    [['shifted', 3.0], ['shifted', 3.0]]
    """
    pairs = require_pairs(pairs)
    if pairs["noisy"].shape != pairs["clean"].shape:
        raise NiddlError(
            f"expected noisy and clean of the same sizes, got {dict(pairs['noisy'].sizes)} and "
            f"{dict(pairs['clean'].sizes)}"
        )
    if planes < 1:
        raise NiddlError(f"expected planes, how many of a stack are looked at, as 1 or more, got {planes}")
    if time_limit_s is not None and not time_limit_s > 0:
        raise NiddlError(f"expected time_limit_s as a positive number of seconds, got {time_limit_s}")
    chosen = [int(place) for place in evenly_spread(pairs.sizes["stack"], max_stacks, "max_stacks")]
    stop = None if time_limit_s is None else time.monotonic() + time_limit_s
    rows: dict[int, _Row] = {}
    suspects: dict[int, np.ndarray] = {}
    for place in _spread(chosen):
        if rows and stop is not None and time.monotonic() > stop:
            break
        noisy, clean = _load(pairs, place, planes)
        rows[place] = _look(_name(pairs, place), noisy, clean)
        if len(rows) > _MOST_COMPARED:
            rows[place] = replace(rows[place], sketch=None)
        if rows[place].verdict == "unrelated" and len(suspects) < _MOST_TURNED:
            suspects[place] = np.stack([noisy, clean])
    rows = _with_others(rows)
    for place, images in suspects.items():
        rows[place] = _turned(rows[place], images[0], images[1])
    return _table([rows[place] for place in sorted(rows)], pairs.sizes["stack"])


def require_good_pairs(pairs: xr.Dataset, *, time_limit_s: float) -> None:
    """Check a sample of pairs before a training.

    Raises
    ------
    NiddlError
        Where halves are swapped, turned or unrelated: the message names the stacks.

    Warns
    -----
    PairsWarning
        Where halves are shifted.
    """
    from warnings import warn

    table = check_pairs(pairs, time_limit_s=time_limit_s)
    bad = table[table["verdict"].isin(["swapped", "turned", "unrelated"])]
    if len(bad):
        raise NiddlError(
            f"{_listed(bad, table)} cannot be learned from: {bad['sentence'].iloc[0]}. "
            "See niddl_xr.check_pairs(pairs); train(..., check_pairs=False) trains all the same"
        )
    shifted = table[table["verdict"] == "shifted"]
    if len(shifted):
        warn(
            f"{_listed(shifted, table)} are shifted, and a network learns to blur from such: "
            f"{shifted['sentence'].iloc[0]}. See niddl_xr.check_pairs(pairs)",
            PairsWarning,
            stacklevel=3,
        )


def _listed(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    names = [str(name) for name in rows.index[:8]]
    shown = ", ".join(names) + (", ..." if len(rows) > len(names) else "")
    return f"{len(rows)} of {len(table)} stacks checked ({shown})"


def _spread(places: Sequence[int]) -> Iterator[int]:
    """Yield all places, such that the first few are spread over all of them."""
    count = len(places)
    step = max(1, round(count * 0.618))
    while np.gcd(step, count) != 1:
        step += 1
    for turn in range(count):
        yield places[turn * step % count]


def _name(pairs: xr.Dataset, place: int) -> object:
    return pairs["stack"].values[place].item() if "stack" in pairs.coords else place


def _load(pairs: xr.Dataset, place: int, planes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the planes (n, y, x) of both halves of one stack that are looked at, of at most 1024 px a side."""
    depth = pairs.sizes["z"]
    places = np.unique(((np.arange(planes) + 0.5) * depth / planes).astype(int)) if planes < depth else np.arange(depth)
    loaded = pairs[["noisy", "clean"]].isel(stack=place, z=places).transpose(*PAIR_DIMS[1:]).compute()
    noisy, clean = loaded["noisy"].values, loaded["clean"].values
    rows, columns = kernels.choose_window(clean[len(clean) // 2])
    return noisy[:, rows, columns], clean[:, rows, columns]


def _look(stack: object, noisy: np.ndarray, clean: np.ndarray) -> _Row:
    """Return what the two halves of one stack say without the others."""
    shape = (noisy.shape[1], noisy.shape[2])
    empty = _Row(stack, None, np.nan, (np.nan, np.nan), np.nan, "unclear", "")
    if min(shape) < kernels.LEAST_PX:
        return replace(empty, sentence=f"planes of {shape[0]} x {shape[1]} px are too small to tell")
    for half, images in (("noisy", noisy), ("clean", clean)):
        finite = images[np.isfinite(images)]
        if finite.size == 0 or finite.min() == finite.max():
            return replace(empty, sentence=f"the {half} half is constant: nothing is to be seen in it")
    halves = kernels.half_of(list(noisy)), kernels.half_of(list(clean))
    fit = kernels.compare_halves(*halves, shape)
    ratio = kernels.noise_ratio(*halves, shape)
    verdict, sentence = _judge(fit, ratio, shape)
    silent = verdict == "unclear" and fit.certain >= _EXPECTED and fit.near < _SILENT * fit.certain
    if silent and all(kernels.noise_is_white(half, shape) or kernels.is_uneven(half, shape) for half in halves):
        verdict = "unrelated"
        sentence = "what is to be seen in the noisy half is not in the clean half: pair each image with its own"
    return _Row(
        stack, fit, _pearson(noisy, clean), (_detail(noisy), _detail(clean)), ratio, verdict, sentence,
        kernels.sketch(*halves, shape),
    )  # fmt: skip


def _judge(fit: kernels.Fit, noise_ratio: float, shape: tuple[int, int]) -> tuple[str, str]:
    """Return verdict and sentence of halves that fit, shifted or not; else unclear."""
    if not _is_related(fit, shape):
        return "unclear", "noise hides whether the halves show the same; nothing speaks against it"
    if noise_ratio > _NOISIER:
        return "swapped", (
            f"the clean half is {noise_ratio:.1f} times noisier than the noisy half at equal brightness: "
            "exchange noisy and clean"
        )
    if fit.shift_px >= _SHIFTED_PX and fit.beyond > _BEYOND and fit.gained > 0.01:
        return "shifted", (
            f"the clean half lies {fit.shift_y_px:+.1f} px along y and {fit.shift_x_px:+.1f} px along x from the noisy "
            "half: register them first, or crop both to what they share"
        )
    return "good", "both halves show the same at the same place"


def _is_related(fit: kernels.Fit, shape: tuple[int, int]) -> bool:
    """Say whether a peak is none of chance, nor of two scenes that look alike at some shift."""
    shift = fit.shift_px
    if shift > min(shape) / 4 or fit.score < 4.5:
        return False
    if shift < 1.5 or (shift <= kernels.NEAR_PX and fit.score >= _SURE_SCORE):
        return fit.score >= 4.5 and not (fit.certain >= _EXPECTED and fit.near < _SILENT * fit.certain < fit.score / 2)
    return fit.score >= _SCORE and (fit.score >= _SHARE * fit.expected or fit.distinct >= _DISTINCT)


def _with_others(rows: dict[int, _Row]) -> dict[int, _Row]:
    """Return the rows, with stacks whose noisy half fits another's clean half much better than their own."""
    result = dict(rows)
    for place, row in rows.items():
        if row.sketch is None or row.fit is None or row.verdict in ("swapped", "shifted"):
            continue
        own, score = kernels.agreement(row.sketch, row.sketch)
        if own >= 0.6 and row.verdict == "good":
            continue
        found = [
            (*kernels.agreement(row.sketch, other.sketch), other.stack)
            for there, other in rows.items()
            if there != place and other.sketch is not None and other.sketch.shape == row.sketch.shape
        ]
        best = max(found, key=lambda candidate: candidate[1], default=(0.0, 0.0, None))
        if best[0] >= 0.5 and best[1] >= 12 and best[0] >= 2 * own and best[1] >= 2 * score:
            sentence = f"its noisy half fits the clean half of {best[2]}: pair each image with that of its scene"
            result[place] = replace(row, verdict="unrelated", sentence=sentence)
    return result


def _turned(row: _Row, noisy: np.ndarray, clean: np.ndarray) -> _Row:
    """Return the row of an unrelated stack, as turned where its clean half fits when turned or mirrored."""
    if "fits the clean half of" in row.sentence:
        return row
    shape = (noisy.shape[1], noisy.shape[2])
    one = kernels.half_of(list(noisy))
    for what, (quarters, mirrored) in _TURNS.items():
        if quarters % 2 and shape[0] != shape[1]:
            continue
        turned = np.rot90(clean[:, :, ::-1] if mirrored else clean, quarters, axes=(1, 2))
        fit = kernels.compare_halves(one, kernels.half_of(list(turned)), shape)
        if fit.shift_px <= 8 and fit.score >= 12 and fit.score >= _SHARE * fit.expected:
            return replace(row, verdict="turned", sentence=f"the clean half fits when it is {what}")
    return row


def _pearson(noisy: np.ndarray, clean: np.ndarray) -> float:
    one, two = noisy.ravel().astype(np.float64), clean.ravel().astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(two)
    one, two = one[finite] - one[finite].mean(), two[finite] - two[finite].mean()
    size = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / size if size > 0 else np.nan


def _detail(images: np.ndarray) -> float:
    """Return the standard deviation of the finest detail, which for white noise is that of the noise."""
    from scipy.ndimage import convolve1d

    weights = DETAIL / np.sqrt(np.square(DETAIL).sum())
    fine = convolve1d(convolve1d(images[:1].astype(np.float32), weights, axis=1), weights, axis=2)[:, 1:-1, 1:-1]
    return float(np.nanstd(fine))


def _table(rows: Sequence[_Row], stacks: int) -> pd.DataFrame:
    import pandas as pd

    found = []
    for row in rows:
        known = row.fit is not None and row.verdict in ("good", "shifted", "swapped")
        found.append(
            {
                "stack": row.stack,
                "shift_y_px": row.fit.shift_y_px if known and row.fit else np.nan,
                "shift_x_px": row.fit.shift_x_px if known and row.fit else np.nan,
                "correlation": row.correlation,
                "significance": row.fit.score if row.fit else np.nan,
                "noise_noisy": row.noise_counts[0],
                "noise_clean": row.noise_counts[1],
                "noise_ratio": row.noise_ratio,
                "verdict": row.verdict,
                "sentence": row.sentence,
            }
        )
    table = pd.DataFrame(found).set_index("stack")
    table.attrs["checked"] = f"{len(rows)} of {stacks} stacks"
    return table
