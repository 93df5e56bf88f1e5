"""Runs the demo notebook, on simulated data or a user's file, or another, and keeps it as notebook and as page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niddl_xr.schema import NiddlError

NOTEBOOK = "demo.ipynb"
CELL_TIMEOUT_S = 1200


def notebook_path(name: str = NOTEBOOK) -> Path:
    """Return where a notebook of this project lies: in the checkout, or in the installed package."""
    package = Path(__file__).parent
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is neither beside the package nor in it; install niddl-xr again")


def free_folder(wanted: str | os.PathLike[str]) -> Path:
    """Return ``wanted``, or the first of ``wanted-2``, ``wanted-3``, … that does not exist."""
    folder = Path(wanted)
    number = 2
    while folder.exists():
        folder = Path(f"{os.fspath(wanted)}-{number}")
        number += 1
    return folder


def run_demo(out: str | os.PathLike[str], parameters: Mapping[str, Any]) -> Path:
    """Execute the demo notebook into a new folder: :func:`run_notebook`, which tells it the folder as ``out``."""
    folder = free_folder(out)
    return run_notebook(NOTEBOOK, folder, {**parameters, "out": str(folder.absolute())})


def run_notebook(name: str, out: str | os.PathLike[str], parameters: Mapping[str, Any]) -> Path:
    """Execute a notebook of this project into a new folder.

    Parameters
    ----------
    name
        Name of the notebook, such as "demo.ipynb".
    out
        Folder to make; where it exists, a number is added and nothing is touched.
    parameters
        Values for the names in the notebook's cell that is tagged "parameters".

    Returns
    -------
    pathlib.Path
        The folder, with the notebook, the page (``.html``) and what the notebook wrote.

    Raises
    ------
    NiddlError
        If a cell failed; the notebook up to there is kept in the folder.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter

    notebook = nbformat.read(notebook_path(name), as_version=4)
    folder = free_folder(out)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    lines = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    folder.mkdir(parents=True)
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NiddlError(f"stopped in a cell of {folder / name}: {error.ename}: {error.evalue}") from error
    finally:
        nbformat.write(notebook, folder / name)
    for cell in notebook.cells:  # holoviews displays nothing before it displays a plot, and nbconvert warns of it
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    (folder / name).with_suffix(".html").write_text(page, encoding="utf-8")
    return folder
