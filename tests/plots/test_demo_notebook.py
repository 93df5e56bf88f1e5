"""The demo as it lies in the repository; the command `niddl-xr demo` executes it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "demo.ipynb"
PARAMETERS = {
    "recording_path": None,
    "opening": {},
    "out": "demo",
    "training_seconds": 60,
    "seed": 0,
}


@pytest.fixture(scope="module")
def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_outputs_are_stripped(cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_the_parameters_are_the_first_code(cells):
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    assert first["metadata"]["tags"] == ["parameters"]
    assigned = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse("".join(first["source"])).body
    }
    assert assigned == PARAMETERS


def test_every_cell_is_code_without_functions_of_its_own(cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            nodes = list(ast.walk(ast.parse("".join(cell["source"]))))
            assert not [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
