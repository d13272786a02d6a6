"""The arrows between packages, held by reading every import statement."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftplatform_tests.projects import REPOSITORY

PACKAGE = REPOSITORY / "ftplatform"
#: What every domain package may stand on.
GROUND = {
    "rows",
    "kernels",
    "engine",
    "store",
    "statistics",
    "plots",
    "pages",
    "verdict",
    "canonical",
    "errors",
    "progress",
    "transport",
}
DOMAIN = {
    "licensing",
    "feedback",
    "synthesis",
    "targets",
    "dedup",
    "contamination",
    "training",
    "evaluation",
    "closure",
    "migration",
    "serving",
    "release",
    "rewards",
    "rubrics",
}
TOP = {"defs", "cli", "components", "definitions"}
HEAVY = ("torch", "transformers", "peft", "sentence_transformers", "datasketch", "numba", "ray")


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "examples" not in p.relative_to(PACKAGE).parts)


def imports(tree: ast.AST, *, top_level_only: bool = False) -> Iterator[str]:
    nodes = ast.iter_child_nodes(tree) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def ours(tree: ast.AST) -> set[str]:
    return {name.split(".")[1] for name in imports(tree) if name.startswith("ftplatform.")}


def test_every_package_has_its_place():
    assert {part(path) for path in modules()} <= GROUND | DOMAIN | TOP | {"__init__", "project"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    tree = ast.parse(path.read_text())
    used, here = ours(tree), part(path)
    if here in TOP:
        assert not ({"cli"} & used) or here == "cli", "nothing imports the command line"
        return
    assert not used & TOP, f"{here} imports the layer above it"
    if here in DOMAIN:
        others = used - GROUND - {here}
        assert not others, f"{here} imports {others}: meet in the Dagster layer, with plain data"
    elif here in GROUND:
        assert not used & DOMAIN, f"{here} stands below {used & DOMAIN}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_dagster_layer_imports_dagster(path):
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    if part(path) not in TOP:
        assert not names & {"dagster", "dagster_pipes", "dagster_postgres"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_inside_functions(path):
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), top_level_only=True)}
    assert not names & set(HEAVY)


@pytest.mark.parametrize("path", [p for p in modules() if part(p) == "defs"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_dagster_layer_keeps_its_annotations(path):
    assert "__future__" not in set(imports(ast.parse(path.read_text()))), "Dagster resolves annotations when it decorates"


def test_the_code_location_loads_no_heavy_library():
    code = f"import sys, ftplatform.definitions; print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    environment = {"FTPLATFORM_PROJECT": str(REPOSITORY / "examples" / "support"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == ""
