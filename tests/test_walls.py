"""The walls of the house: imports run one way, and what must not be used is not used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
FILES = sorted(p for package in ("derive", "numeric", "reports") for p in (TOP / package).rglob("*.py"))
MAY_IMPORT = {"derive": {"derive"}, "numeric": {"derive", "numeric"}, "reports": {"derive", "numeric", "reports"}}
OURS = set(MAY_IMPORT)


def package_of(path):
    return path.relative_to(TOP).parts[0]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def breaches(text, package):
    """Our packages that a text imports though its own package may not."""
    return {name for name in imported(ast.parse(text)) if name in OURS} - MAY_IMPORT[package]


def calls(text):
    """Names that are called, plain or as attributes."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", ""))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(TOP)))
def test_imports_run_one_way(path):
    assert breaches(path.read_text(encoding="utf-8"), package_of(path)) == set()


def test_a_breach_is_seen():
    assert breaches("def f():\n    from reports.cli import main", "numeric") == {"reports"}
    assert breaches("import numeric.engine", "derive") == {"numeric"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(TOP)))
def test_nothing_is_evaluated_unpickled_or_simplified(path):
    found = set(calls(path.read_text(encoding="utf-8")))
    written_here = path == TOP / "numeric" / "emit.py"  # loops of NumPy calls; test_inplace.py reads what they say
    assert "exec" not in found or written_here
    a_listing = path == TOP / "reports" / "listings" / "source.py"  # a book's, shipped here; test_listings.py: no other
    assert not found & {"run_path", "run_module"} or a_listing
    assert not found & {"eval", "simplify", "nsimplify", "parse_expr", "literal_eval"}
    assert "pickle" not in set(imported(ast.parse(path.read_text(encoding="utf-8"))))
    assert "lambdify" not in found or path == TOP / "numeric" / "compile.py"


def test_derive_uses_no_arrays_and_stays_light():
    code = (
        "import sys, derive; print(*sorted({'numpy', 'numeric', 'reports', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(found) & {"numeric", "reports", "matplotlib", "jinja2"}
    for path in FILES:
        if package_of(path) == "derive":
            assert "numpy" not in set(imported(ast.parse(path.read_text(encoding="utf-8")))), path


def test_only_what_belongs_there_stands_at_the_top():
    listed = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "derive", "numeric", "tests", "reports", "CHANGELOG.md", "LICENSE"}
    assert {n for n in names if not n.startswith(".")} <= allowed
