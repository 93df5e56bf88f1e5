import inspect

import pytest
import xarray as xr

import niddl_xr as nx
from niddl_xr.accessor import NiddlAccessor

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


def test_it_is_there_for_datasets_and_holds_no_state(tiny_pairs, recording):
    assert tiny_pairs.niddl.train.__func__ is nx.train
    assert vars(recording.niddl) == {"_obj": recording} or recording.niddl._obj is recording
    assert isinstance(recording.copy().niddl, NiddlAccessor)
    assert isinstance(xr.Dataset().niddl, NiddlAccessor)
