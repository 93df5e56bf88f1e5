"""The ``.niddl`` accessor: every method is the public verb of that name, applied to the object."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, overload

import xarray as xr


class _Verb:
    """A method that is the public verb of the same name: one signature, one docstring, one implementation."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: NiddlAccessor, owner: type) -> MethodType: ...
    def __get__(self, instance: NiddlAccessor | None, owner: type) -> Callable[..., Any]:
        import niddl_xr

        verb: Callable[..., Any] = getattr(niddl_xr, self._name)
        return verb if instance is None else MethodType(verb, instance._obj)


@xr.register_dataarray_accessor("niddl")
@xr.register_dataset_accessor("niddl")
class NiddlAccessor:
    """The verbs of niddl_xr whose first argument is this object; it holds no state."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj = obj

    denoise = _Verb()
    save = _Verb()
    snr = _Verb()
    train = _Verb()
    plot_frame = _Verb()
    plot_comparison = _Verb()
    view = _Verb()
