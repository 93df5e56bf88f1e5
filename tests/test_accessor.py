import inspect
import subprocess
import sys

import dask
import numpy as np
import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr.accessor import NiddlAccessor


def forbid_compute(*_, **__):
    raise AssertionError("computed")


VERBS = [name for name in vars(NiddlAccessor) if not name.startswith("_")]


@pytest.mark.parametrize("verb", VERBS)
def test_every_method_is_the_verb(recording, verb):
    function, method = getattr(nx, verb), getattr(recording.niddl, verb)
    assert method.__func__ is function
    assert method.__self__ is recording
    assert list(inspect.signature(method).parameters) == list(inspect.signature(function).parameters)[1:]
    assert method.__doc__ == function.__doc__


def test_every_public_name_can_be_loaded_and_is_documented():
    for name in nx.__all__:
        thing = getattr(nx, name)
        assert name in dir(nx)
        assert name == "__version__" or inspect.getdoc(thing), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="module 'niddl_xr' has no attribute 'denoize'"):
        nx.denoize  # noqa: B018


def test_in_a_notebook_a_recording_describes_itself(recording):
    assert recording.niddl._repr_html_() == nx.describe(recording)._repr_html_()
    assert repr(recording.niddl.describe()) == repr(nx.describe(recording))


def test_its_text_names_the_verbs_and_reads_no_pixels(recording):
    with dask.config.set(scheduler=forbid_compute):
        shown = repr(recording.chunk(t=1).niddl)
    assert "t 5, z 3, y 37, x 53" in shown
    for verb in VERBS:
        assert verb in shown


@pytest.mark.parametrize("other", [xr.Dataset(), xr.DataArray(np.zeros((2, 3)), dims=("t", "neuron"))])
def test_of_other_objects_it_names_the_verbs(other):
    assert other.niddl._repr_html_() is None
    assert repr(other.niddl) == f".niddl: {', '.join(VERBS)}"


def test_names_of_packages_stay_verbs():
    script = (
        "import niddl_xr.recordings.readers, niddl_xr.recordings.export; import niddl_xr as nx;"
        "from niddl_xr.recordings import readers, export, describe; from niddl_xr import recordings;"
        "assert nx.readers is readers is recordings.readers and nx.export is export is recordings.export;"
        "assert callable(readers) and callable(export)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_it_is_there_for_datasets_and_holds_no_state(tiny_pairs, recording):
    assert tiny_pairs.niddl.train.__func__ is nx.train
    assert vars(recording.niddl) == {"_obj": recording} or recording.niddl._obj is recording
    assert isinstance(recording.copy().niddl, NiddlAccessor)
    assert isinstance(xr.Dataset().niddl, NiddlAccessor)
