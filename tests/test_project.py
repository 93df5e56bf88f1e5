"""The files around the package agree with each other."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"pytorch": "torch"}
WITHOUT_PINS = ("napari",)  # needs a display and Qt: not part of the stack that is tested together
OPTIONAL = ("hdf5", "nwb", "tracking")  # of formats; a message names the extra where one is missing


def requirements(*extras: str) -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def constraints() -> dict[str, Version]:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = Version(version)
    return pins


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    pins = constraints()
    for name, requirement in requirements("notebook", *OPTIONAL, "dev").items():
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert pins[name] in requirement.specifier, f"{name}=={pins[name]} is outside {requirement.specifier}"
    assert pins["torch"] == Version("2.13.0")


def test_conda_gets_the_same_stack():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    lines = [line for line in environment["dependencies"] if isinstance(line, str) and line != "pip"]
    by_pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    lines += [line for line in by_pip if not line.startswith("-")]
    conda = {}
    for line in lines:
        requirement = Requirement(line)
        conda[canonicalize_name(CONDA_NAMES.get(requirement.name, requirement.name))] = requirement
    python = conda.pop("python")
    pip = requirements("notebook")
    assert set(conda) == set(pip)
    for name, requirement in conda.items():
        assert requirement.specifier == pip[name].specifier, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert str(python.specifier) == project["requires-python"]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_everything_imported_is_required():
    import sys

    distributions = {
        "skimage": "scikit-image",
        "google_crc32c": "google-crc32c",
        "nbformat": "nbclient",
        "PIL": "pillow",
        "yaml": "pyyaml",
        "hdmf": "pynwb",
    }
    allowed = set(requirements("notebook", *OPTIONAL, *WITHOUT_PINS))
    allowed |= {"niddl-xr", "distributed"}  # dask[distributed] brings distributed
    for path in (ROOT / "niddl_xr").rglob("*.py"):
        foreign = imported(path) - set(sys.stdlib_module_names) - {"niddl_xr"}
        missing = {canonicalize_name(distributions.get(name, name)) for name in foreign} - allowed
        assert not missing, f"{path.relative_to(ROOT)} imports {missing}, which pyproject.toml does not require"


def test_ci_calls_make_test():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_gives_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / target).exists(), f"README.md links to {target}, which is not there"


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(notebook):
    import nbformat

    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs, f"{notebook.name}: strip the outputs before committing"
            assert cell.execution_count is None
