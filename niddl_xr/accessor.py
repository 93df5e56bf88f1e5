"""The ``.niddl`` accessor: every method is the public verb of that name, applied to the object."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, TypeGuard, overload

import xarray as xr

from niddl_xr.schema import RECORDING_DIMS


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


def _is_recording(obj: xr.DataArray | xr.Dataset) -> TypeGuard[xr.DataArray]:
    return isinstance(obj, xr.DataArray) and obj.dims == RECORDING_DIMS and obj.size > 0 and obj.dtype.kind in "uif"


@xr.register_dataarray_accessor("niddl")
@xr.register_dataset_accessor("niddl")
class NiddlAccessor:
    """The verbs of niddl_xr whose first argument is this object; it holds no state."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj = obj

    def __repr__(self) -> str:
        """Name the verbs, under what is known of a recording without reading its pixels."""
        verbs = f".niddl: {', '.join(name for name, item in vars(type(self)).items() if isinstance(item, _Verb))}"
        if not _is_recording(self._obj):
            return verbs
        from niddl_xr import describe

        return f"{describe(self._obj, planes=0)!r}\n\n{verbs}"

    def _repr_html_(self) -> str | None:
        """Return what :func:`niddl_xr.describe` shows of a recording; None, so the text, for anything else."""
        if not _is_recording(self._obj):
            return None
        from niddl_xr import describe

        return describe(self._obj)._repr_html_()

    describe = _Verb()
    denoise = _Verb()
    save = _Verb()
    export = _Verb()
    snr = _Verb()
    train = _Verb()
    pair_recordings = _Verb()
    check_pairs = _Verb()
    detect = _Verb()
    segment = _Verb()
    segment_neurites = _Verb()
    labels_to_detections = _Verb()
    neurite_branches = _Verb()
    track_quality = _Verb()
    apply_edits = _Verb()
    curate = _Verb()
    extract_traces = _Verb()
    correct_bleaching = _Verb()
    dff = _Verb()
    ratio = _Verb()
    pca = _Verb()
    compare_pca = _Verb()
    centerline = _Verb()
    curvature = _Verb()
    eigenworms = _Verb()
    locomotion = _Verb()
    assign_body_position = _Verb()
    curvature_correlation = _Verb()
    correlation_map = _Verb()
    compare_curvature_correlation = _Verb()
    score_tracks = _Verb()
    trace_quality = _Verb()
    plot_frame = _Verb()
    plot_comparison = _Verb()
    plot_traces = _Verb()
    plot_trajectory = _Verb()
    plot_explained_variance = _Verb()
    plot_kymograph = _Verb()
    plot_centerline = _Verb()
    plot_correlation_map = _Verb()
    plot_curvature_correlation = _Verb()
    view = _Verb()
