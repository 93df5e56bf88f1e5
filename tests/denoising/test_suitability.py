"""What is said where a recording is noisier or clearer than all that a denoiser was trained on."""

import re
import time
import warnings

import dask
import numpy as np
import pytest

from niddl_xr import Denoiser, classical, snr
from niddl_xr.denoising.suitability import SignalToNoiseWarning
from niddl_xr.schema import make_recording


def movie(contrast: float, planes: int = 3):
    """Noise of SD 10 with 1 % of each plane brighter by ``contrast``: 20 log10(contrast / 10) dB."""
    values = np.random.default_rng(0).normal(400, 10, (4, planes, 80, 100))
    values[..., :8, :10] = 400 + contrast
    return make_recording(values.astype("float32"), voxel_um=(1, 1, 1), dt_s=1)


def trained_on(*snr_range_db: float, **card) -> Denoiser:
    """A denoiser that says what it was trained on, and is quick."""
    return Denoiser({**classical("median").card, "training": {"snr_range_db": list(snr_range_db)}, **card})


BELOW = (
    r"the recording's signal to noise is (20|19)\.\d dB .* below the 24\.0 to 30\.0 dB that the denoiser was trained on"
    r".*may invent structure\. Train on pairs like this recording, .*simulate.noise.fit"
)
ABOVE = r"is (20|19)\.\d dB .* above the 10\.0 to 15\.0 dB .*may smooth away what the recording shows.*classical"


@pytest.mark.parametrize(("trained", "message"), [((24, 30), BELOW), ((10, 15), ABOVE)])
def test_outside_of_the_training_is_said(trained, message, tmp_path):
    recording, denoiser = movie(100), trained_on(*trained)
    with warnings.catch_warnings(), dask.config.set(scheduler=lambda *_, **__: pytest.fail("something was computed")):
        warnings.simplefilter("error")
        lazy = recording.chunk(t=1).niddl.denoise(denoiser)
    with pytest.warns(SignalToNoiseWarning, match=message) as caught:
        lazy.compute()
    assert len(caught) == 1
    with pytest.warns(SignalToNoiseWarning, match=message) as caught:
        recording.niddl.denoise(denoiser, to=tmp_path / "a.zarr", progress=False)
    assert [warning.filename for warning in caught] == [__file__]  # the user's own line


@pytest.mark.parametrize("trained", [(18, 30), (10, 22), (20.6, 30), (10, 19.4), (), (float("nan"),) * 2])
def test_inside_and_unknown_is_not_worth_a_word(trained, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SignalToNoiseWarning)
        movie(100).niddl.denoise(trained_on(*trained)).compute()
        movie(100).niddl.denoise(trained_on(*trained), to=tmp_path / "a.zarr", progress=False)


def test_a_recording_without_noise_is_not_judged():
    mask = movie(100).copy(data=(movie(100).values > 450).astype("uint8"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SignalToNoiseWarning)
        mask.niddl.denoise(trained_on(10, 15)).compute()


def test_it_is_said_once_for_all_frames():
    lazy = movie(100).chunk(t=1).niddl.denoise(trained_on(10, 15))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for frame in range(4):
            lazy.isel(t=frame).compute(scheduler="synchronous")
    assert len([w for w in caught if issubclass(w.category, SignalToNoiseWarning)]) == 1


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_it_is_said_once_even_if_python_forgets(scheduler, monkeypatch):
    """``catch_warnings`` anywhere in the process makes Python forget what it has shown; every new call speaks again."""
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, category, *_, **__: shown.append(category))
    for calls in (1, 2):
        lazy = movie(100).chunk(t=1).niddl.denoise(trained_on(10, 15))
        for frame in range(4):
            with warnings.catch_warnings():
                warnings.simplefilter("default")
            lazy.isel(t=frame).compute(scheduler=scheduler)
        assert shown == [SignalToNoiseWarning] * calls


def test_as_an_error_it_is_raised_for_every_frame():
    lazy = movie(100).chunk(t=1).niddl.denoise(trained_on(10, 15))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SignalToNoiseWarning)
        for frame in range(2):
            with pytest.raises(SignalToNoiseWarning, match=ABOVE):
                lazy.isel(t=frame).compute()


def test_the_same_call_twice_has_the_same_name():
    recording = movie(100).chunk(t=1)
    first, second = (recording.niddl.denoise(trained_on(10, 15)).data.name for _ in range(2))
    assert first == second


def test_projections_are_judged_as_projections():
    """The maximum of 9 planes has a brighter background: less stands out of it than of the planes."""
    recording = movie(60, planes=9)
    projected = float(snr(recording.max("z").expand_dims("z", 1)).snr_dB.median())
    planes = float(snr(recording, per="plane").snr_dB.median())
    assert planes < projected - 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error", SignalToNoiseWarning)
        recording.niddl.denoise(trained_on(planes, planes)).compute()
        recording.niddl.denoise(trained_on(projected, projected, mode="max_projection", depth=1)).compute()
    with pytest.warns(SignalToNoiseWarning, match=f"signal to noise is {projected:.1f} dB"):
        recording.niddl.denoise(trained_on(planes, planes, mode="max_projection", depth=1)).compute()


def test_on_a_cluster_the_client_hears_it(tmp_path):
    from distributed import Client, LocalCluster

    recording, denoiser = movie(100).chunk(t=1), trained_on(10, 15)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        for path in (None, tmp_path / "a.zarr"):
            said: list[warnings.WarningMessage] = []
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                recording.niddl.denoise(denoiser, to=path, progress=False).compute()
                deadline = time.monotonic() + 10  # what a worker says takes its way
                while not said and time.monotonic() < deadline:
                    time.sleep(0.05)
                    said = [warning for warning in caught if warning.category is SignalToNoiseWarning]
            assert len(said) == 1
            assert re.search(ABOVE, str(said[0].message))
