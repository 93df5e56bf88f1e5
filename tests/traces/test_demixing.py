from __future__ import annotations

import numpy as np
import pytest

from niddl_xr.traces._kernels.demixing import fit_weights, tied
from niddl_xr.traces._kernels.windows import windows_around

STEP_UM = np.array([1.5, 0.5, 0.4])
SIGMA_UM = np.array([[1.4, 0.9, 0.8], [1.1, 1.0, 1.2]])
PLACES = np.array([[4.2, 9.3, 11.4], [1.1, 8.1, 3.6]])  # the second near the edges, in voxels


@pytest.mark.parametrize("local_sigmas", [1.5, np.inf])
@pytest.mark.parametrize("constant", [True, False])
def test_weights_of_a_place_beside(local_sigmas: float, constant: bool) -> None:
    def fit(places: np.ndarray):
        windows = windows_around(places, (2, 4, 5), (9, 20, 24), STEP_UM)
        return fit_weights(windows, windows.inside, SIGMA_UM, local_sigmas, constant=constant)

    here, step_um = fit(PLACES), 1e-5
    assert np.all(here.weights[1, 0] == 0)  # above the volume
    for axis in range(3):
        aside = np.eye(3)[axis] * step_um / STEP_UM
        slope = (fit(PLACES + aside).weights - fit(PLACES - aside).weights) / (2 * step_um)
        np.testing.assert_allclose(here.moved(axis), slope, atol=1e-7)
    sums = here.weights.sum(axis=(1, 2, 3))
    assert np.all(abs(sums) < 1e-10) if constant else np.all(sums > 1)


def test_tied_neurons_keep_their_sum_and_far_ones_everything() -> None:
    system = np.array([[1.0, 0.99, 0.0], [0.99, 1.0, 0.1], [0.0, 0.1, 1.2]])
    places_um = np.array([[0, 0, 0.0], [0, 0, 0.05], [0, 0, 3.0]])
    found = tied(system, places_um, np.array([0.0, 0.2, 0.2]))
    np.testing.assert_allclose(found.sum(axis=1), system.sum(axis=1))
    np.testing.assert_allclose(found[2], system[2], atol=1e-5)
    both = np.array([3.0, 3.0, 5.0])
    np.testing.assert_allclose(found @ both, system @ both, atol=1e-4)
    assert found[0, 0] - found[0, 1] > 1.9
    np.testing.assert_array_equal(tied(system, places_um, np.zeros(3)), system)
