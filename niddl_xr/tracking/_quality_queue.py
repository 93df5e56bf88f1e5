"""What to look at first, in words: runs of suspicious frames of one neuron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from niddl_xr.schema import SPACE_DIMS
from niddl_xr.tracking._kernels.suspicion import runs
from niddl_xr.tracking._quality_measures import Measures

if TYPE_CHECKING:
    import pandas as pd

_BRIDGED_FRAMES = 5  # a wrong neuron that looks right for a moment is still one item
COLUMNS = (
    "t_index",
    "t_start",
    "t_end",
    "frames",
    "neuron",
    "suspicion",
    "reason",
    *SPACE_DIMS,
    *(f"expected_{dim}" for dim in SPACE_DIMS),
    "confidence",
    "exchange_with",
)


def review_queue(
    tracks: xr.Dataset, measures: Measures, suspicion: np.ndarray, signs: Mapping[str, np.ndarray], *, least: float
) -> pd.DataFrame:
    """Return the queue of :func:`niddl_xr.track_quality`; ``signs`` are what each measure adds, (t, neuron)."""
    import pandas as pd

    names = tracks["neuron"].values.astype(str)
    confidence = tracks["confidence"].values if "confidence" in tracks else np.full(suspicion.shape, np.nan)
    heaviest, kinds = np.stack([np.nan_to_num(sign, nan=-np.inf) for sign in signs.values()]).argmax(axis=0), [*signs]
    rows = []
    for neuron in range(len(names)):
        for start, end in runs(np.nan_to_num(suspicion[:, neuron], nan=0.0) >= least, bridged=_BRIDGED_FRAMES):
            worst = start + _worst(suspicion[start:end, neuron], measures.observed[start:end, neuron], least)
            partner = int(measures.exchange_with[worst, neuron])
            other = names[partner] if partner >= 0 else ""
            reason = _words(kinds[heaviest[worst, neuron]], measures, worst, neuron)
            if other:
                reason += f"; {other} stands where it is expected"
            rows.append(
                (
                    worst,
                    start,
                    end - 1,
                    end - start,
                    names[neuron],
                    float(suspicion[worst, neuron]),
                    reason,
                    *measures.position[worst, neuron].tolist(),
                    *measures.expected[worst, neuron].tolist(),
                    float(confidence[worst, neuron]),
                    other,
                )
            )
    queue = pd.DataFrame(rows, columns=list(COLUMNS))
    # To two digits all that is certain is equally certain; then the longer run, which one edit repairs, comes first.
    order = np.lexsort((queue["t_index"], queue["neuron"], -queue["frames"], -queue["suspicion"].round(2)))
    return queue.iloc[order].reset_index(drop=True)


def _worst(suspicion: np.ndarray, observed: np.ndarray, least: float) -> int:
    """Return the frame to look at: there is more to see where something was detected, if that is suspicious at all."""
    seen = np.where(observed, suspicion, np.nan)
    return int(np.nanargmax(seen if np.nanmax(np.nan_to_num(seen, nan=0.0)) >= least else suspicion))


def _words(kind: str, measures: Measures, t: int, neuron: int) -> str:
    residual = f"{measures.residual_um[t, neuron]:.1f} µm from where its neighbours expect it"
    if not measures.observed[t, neuron]:
        missing = int(measures.unobserved_run[t, neuron])
        lost = f"not detected for {missing} frame{'s' * (missing > 1)}"
        return f"{lost}, {residual}" if np.isfinite(measures.residual_um[t, neuron]) else lost
    return {
        "residual": residual,
        "lasting": f"for several frames {measures.lasting_um[t, neuron]:.1f} µm from where its neighbours expect it",
        "usual": f"moves otherwise than its neighbours in all frames (by {measures.usual_um[neuron]:.1f} µm)",
        "jump": f"jumps by {measures.jump_um[t, neuron]:.1f} µm against its neighbours",
        "ambiguity": f"{residual}, another detection is about as near",
        "disagreement": f"found with a confidence of {1 - measures.disagreement[t, neuron]:.2f}",
        "intensity": f"brightness changes {measures.intensity_jump[t, neuron]:.0f} times as much as is usual",
        "radius": f"size changes {measures.radius_jump[t, neuron]:.0f} times as much as is usual",
        "unassigned": f"only {1 - measures.unassigned[t]:.0%} of the neurons are found in this frame",
        "frame": "all neurons of this frame are far from where they are expected",
    }[kind]


def frame_table(tracks: xr.Dataset, measures: Measures, suspicion: np.ndarray) -> pd.DataFrame:
    """Return the table of frames of :func:`niddl_xr.track_quality`."""
    import pandas as pd

    count = tracks.sizes["t"]
    residual = np.where(measures.observed, measures.residual_um, np.nan)
    with np.errstate(invalid="ignore"):
        typical = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in residual])
    return pd.DataFrame(
        {
            "t_index": np.arange(count),
            "t": tracks["t"].values,
            "observed_fraction": 1 - measures.unassigned,
            "used_fraction": measures.used,
            "residual_um": typical,
            "expected_wrong": np.nansum(suspicion, axis=1),
        }
    )
