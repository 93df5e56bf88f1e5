"""Motor neurons of the ventral cord: where they lie, and how they follow the bends of the body."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

from niddl_xr.simulation._kernels.activity import indicator_kernel, ornstein_uhlenbeck
from niddl_xr.simulation._kernels.posture import STEP_S

CORD_SPAN = (0.10, 0.93)  # of the body, from the retrovesicular to the preanal ganglion
CLASSES = ("DA", "DB", "DD", "VA", "VB", "VD")
CLASS_COUNTS = (9, 7, 6, 12, 11, 13)  # of the hermaphrodite's 58
SIGNS = (-1, -1, 1, 1, 1, -1)  # of the curvature that goes with activity: VD and DD relax the muscles of their side
SMALLEST_GAP = 0.25  # between two neurons, of the mean
GATE_FLOOR = 0.3  # activity of a neuron in the state that is not its own
PRIVATE_TIME_S = 1.5
LARGEST_COUPLING = 0.85
MOST_OF_THE_VARIANCE = 0.95  # correlation of the drive with what is seen of it, where there is room
LONGEST_DELAY_S = 2.0


def motor_neurons(count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names and classes (index into CLASSES) of ``count`` cord neurons and where they lie along the body.

    They are in order from head to tail, in clusters with gaps between. The classes keep the proportions of
    the animal and are each spread evenly along the cord; "VA3" is the third VA from the head.
    """
    share = np.asarray(CLASS_COUNTS) / sum(CLASS_COUNTS) * count
    sizes = share.astype(int)
    sizes[np.argsort(sizes - share, kind="stable")[: count - sizes.sum()]] += 1
    classes = np.repeat(np.arange(len(CLASSES)), sizes)
    place = np.concatenate([(np.arange(size) + rng.random()) / size for size in sizes if size])
    classes = classes[np.argsort(place, kind="stable")]
    gaps = SMALLEST_GAP + rng.gamma(2.0, (1 - SMALLEST_GAP) / 2, count + 1)
    along = CORD_SPAN[0] + (CORD_SPAN[1] - CORD_SPAN[0]) * np.cumsum(gaps)[:count] / gaps.sum()
    numbers = [int(np.sum(classes[: n + 1] == kind)) for n, kind in enumerate(classes)]
    return [f"{CLASSES[kind]}{number}" for kind, number in zip(classes, numbers, strict=True)], classes, along


def through_indicator(values: np.ndarray) -> np.ndarray:
    """Return values (step, ...) as the calcium indicator shows them; the first seconds lack their past."""
    kernel = indicator_kernel(STEP_S)
    kernel = kernel.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(fftconvolve(values, kernel, axes=0)[: len(values)])


def gate(letter: str, reversing: np.ndarray) -> np.ndarray:
    """Return how far neurons of class A (reversal), B (forward) or D (always) take part, (step,): 1 or GATE_FLOOR."""
    own = {"A": reversing, "B": ~reversing, "D": np.ones_like(reversing)}[letter]
    return np.where(own, 1.0, GATE_FLOOR)


def follow(
    bend: np.ndarray, gate: np.ndarray, coupling: float, recorded: slice, rng: np.random.Generator
) -> np.ndarray:
    """Return the activity (step,) of a neuron that follows ``bend`` (step,), seen through the indicator.

    The drive is ``gate`` times the positive part of the bend. Private noise is added, so much that the strongest
    correlation with the bend within LONGEST_DELAY_S, over the steps ``recorded``, is ``coupling``; over these steps it
    is orthogonal to the drive, to the bend at that delay and to the bend and its rate through the indicator. Where the
    drive's own correlation leaves less than a tenth of the variance to noise, part of the bend itself is mixed in:
    a graded neuron, less rectified. Mean 0 and SD 1 over the steps ``recorded``.
    """
    seen = through_indicator(np.stack([gate * np.maximum(bend, 0), bend, np.gradient(bend, STEP_S)], axis=1))
    noise = through_indicator(ornstein_uhlenbeck(bend.shape, PRIVATE_TIME_S, STEP_S, rng))
    graded, rate = (standard(values, recorded) for values in seen[:, 1:].T)
    # A bend that stays on the other side for all of the recording drives nothing: then the neuron is all graded.
    rectified = standard(seen[:, 0], recorded) if np.ptp(seen[recorded, 0]) > 0 else graded
    for share in np.linspace(0.0, 1.0, 11):
        drive = standard((1 - share) * rectified + share * graded, recorded)
        delay, own = strongest(drive, bend, recorded)
        if own >= coupling / MOST_OF_THE_VARIANCE:
            break
    own = max(own, coupling)
    known = np.stack([np.ones_like(drive), drive, graded, rate, np.roll(bend, delay)], axis=1)
    weights = np.linalg.lstsq(known[recorded], noise[recorded])[0]
    private = standard(noise - known @ weights, recorded)
    return standard(drive + np.sqrt((own / coupling) ** 2 - 1) * private, recorded)


def strongest(activity: np.ndarray, bend: np.ndarray, recorded: slice) -> tuple[int, float]:
    """Return after how many steps ``activity`` (step,) correlates best with ``bend`` (step,), and that correlation."""
    delays = range(min(recorded.start, round(LONGEST_DELAY_S / STEP_S)) + 1)
    shown = activity[recorded]
    found = [float(np.corrcoef(shown, bend[recorded.start - d : recorded.stop - d])[0, 1]) for d in delays]
    return int(np.argmax(found)), max(found)


def standard(values: np.ndarray, recorded: slice) -> np.ndarray:
    """Return values (step,) shifted and scaled to mean 0 and SD 1 over the steps ``recorded``."""
    return np.asarray((values - values[recorded].mean()) / values[recorded].std())
