"""Traced neurons as SWC tables hold them: read, checked, and cut into branches."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

import numpy as np

from niddl_xr.schema import NiddlError
from niddl_xr.simulation._kernels import neurites

_SOMA_TYPE = 1
_LARGEST = 2**53  # whole numbers that a float holds


def read_table(morphology: str | PathLike[str] | np.ndarray) -> np.ndarray:
    """Return a table (node, 7) of identifier, type, x, y, z, radius, parent in µm, checked, else raise."""
    rows: object = morphology
    source = what = "the table"
    if isinstance(morphology, str | PathLike):
        source, rows = fspath(morphology), _read_rows(morphology)
        what = f"{source} as an SWC file"
    try:
        table = np.asarray(rows, float)
    except (TypeError, ValueError) as error:
        raise NiddlError(f"expected {what} of seven numbers a row, but {error}") from error
    if table.ndim != 2 or table.shape[1] != 7 or len(table) < 2:
        raise NiddlError(
            f"expected {source} with two or more rows of seven numbers (identifier, type, x, y, z, radius, parent), "
            f"got an array of shape {table.shape}"
        )
    if not np.all(np.isfinite(table)) or np.any(table[:, 5] <= 0):
        raise NiddlError(f"expected {source} of finite numbers with radii above 0 µm")
    whole = table[:, [0, 6]]
    if np.any(whole != np.rint(whole)) or np.any(np.abs(whole) > _LARGEST) or whole[:, 0].min() < 0:
        raise NiddlError(f"expected identifiers and parents of {source} as whole numbers, identifiers of 0 or more")
    if np.any(whole[:, 1] < -1):
        raise NiddlError(f"expected the parents of {source} among its identifiers or -1, got {int(whole.min())}")
    identifiers, parents = whole.astype(np.int64).T
    if len(np.unique(identifiers)) != len(identifiers):
        raise NiddlError(f"expected {source} with one row an identifier, got some of them twice")
    missing = set(parents[parents >= 0].tolist()) - set(identifiers.tolist())
    if missing:
        raise NiddlError(f"expected the parents of {source} among its identifiers, got {min(missing)}, which is not")
    return table


def _read_rows(path: str | PathLike[str]) -> list[list[str]]:
    # What is no UTF-8 can stand in comments alone: elsewhere it is no number.
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            rows = [line.partition("#")[0].split() for line in file]
    except OSError as error:
        raise NiddlError(f"expected {fspath(path)} as an SWC file, but {error}") from error
    return [row for row in rows if row]


def to_branches(table: np.ndarray) -> tuple[list[np.ndarray], list[int], list[int], list[float]]:
    """Return curves (n, 3) (z, y, x) in µm, orders, parents (number from 1, 0 none) and widths in µm of the branches.

    A branch runs from a branch point to the next, or to an end; its order is one more than that of the branch
    that it leaves. What is of type 1 (soma) is a branch of order 0. The width is twice the mean radius.
    """
    row = {int(identifier): number for number, identifier in enumerate(table[:, 0])}
    parent = [row[int(p)] if p >= 0 else -1 for p in table[:, 6]]
    children: list[list[int]] = [[] for _ in table]
    roots = []
    for node, above in enumerate(parent):
        if above < 0:
            roots.append(node)
        else:
            children[above].append(node)
    curves, orders, parents, widths = [], [], [], []
    position, soma = table[:, [4, 3, 2]], table[:, 1] == _SOMA_TYPE
    seen = len(roots)
    # Where a branch starts: the node it leaves, its first node of its own, the branch it leaves and its order.
    starts = [(root, child, 0, 1) for root in roots for child in children[root]]
    while starts:
        above, node, mother, order = starts.pop()
        nodes = [above, node]
        seen += 1
        while len(children[node]) == 1 and soma[children[node][0]] == soma[node]:
            node = children[node][0]
            nodes.append(node)
            seen += 1
        curves.append(position[nodes])
        orders.append(neurites.SOMA_ORDER if soma[node] else order)
        parents.append(mother)
        widths.append(2 * float(table[nodes[1:], 5].mean()))
        number = len(curves)
        starts += [(node, child, number, 1 if soma[node] else order + 1) for child in children[node]]
    if seen < len(table):
        raise NiddlError(f"expected a tree, got {len(table) - seen} nodes that no root leads to: parents form a ring")
    if not curves:
        raise NiddlError("expected a tree with branches, got roots alone")
    return curves, orders, parents, widths


def arbor_in_field(
    morphology: str | PathLike[str] | np.ndarray, field_um: Sequence[float] | np.ndarray, step_um: float, flat: bool
) -> neurites.Arbor:
    """Return the branches of an SWC table, moved so that the middle of its extent lies in that of the field."""
    table = read_table(morphology)
    curves, orders, parents, widths_um = to_branches(table)
    low, high = (end(table[:, [4, 3, 2]], axis=0) for end in (np.min, np.max))
    shift = np.asarray(field_um) / 2 - (low + high) / 2
    moved = [(curve + shift) * [not flat, True, True] for curve in curves]
    return neurites.sample(moved, orders, parents, widths_um, step_um, None)
