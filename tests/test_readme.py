"""The README is true: its code runs, its commands exist, its cell is proven."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

import derive
from reports.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_its_code_runs(number, capsys):
    space = {}
    exec(compile(blocks("python")[number], f"README.md, block {number + 1}", "exec"), space)
    marked = [mark for name, x in space.items() if name.startswith("test_") for mark in x.pytestmark]
    assert capsys.readouterr().out or [mark.name for mark in marked] == ["parametrize"]


def test_the_step_that_it_quotes_is_the_one_that_is_printed():
    ((index, comment),) = re.findall(r"print\(derivation\.steps\[(\d+)\]\)\n((?:# .*\n)+)", README)
    quoted = " ".join(line.removeprefix("#").strip() for line in comment.splitlines())
    assert str(derive.differentiate(derive.load("lstm")).steps[int(index)]) == quoted


def test_its_own_cell_is_proven():
    (text,) = blocks("text")
    assert derive.prove(derive.differentiate(derive.parse(text))).holds


def test_its_claims_are_right():
    (text,) = blocks("backward")
    assert {line.level for line in derive.verify(text, "tanh_rnn").lines} == {"proven, every size"}


def test_its_lists_of_cells_and_functions_are_complete():
    for name in (*derive.cells(), *derive.FUNCTIONS):
        assert re.search(rf"\b{name}\b", README), name


# What the commands in the README find in the folder of the person who types them.
CALLABLE = """
from tests.implementations import engine as my_bptt
"""
PROGRAM = f"""#!{sys.executable}
import json, sys
for line in sys.stdin:
    print(json.dumps({{"id": json.loads(line)["id"], "declined": "not yet"}}), flush=True)
"""
# What a command comes to: a line is wrong; nothing was judged; results are not there yet; statements have no row.
STATUS = {
    "bptt verify": 1,
    "bptt judge --command": 4,
    "bptt judge cases": 4,
    "bptt report --ledger my.toml --against": 4,
}


def commands():
    """Every command of a newcomer who reads on, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("bptt ")]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """The folder of somebody who follows the README."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parent.parent}")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_rust_bptt").write_text(PROGRAM)
    (tmp_path / "my_rust_bptt").chmod(0o755)
    student = Path(__file__).parent.parent / "reports" / "gallery" / "student.backward"
    for name, text in {
        "leaky.cell": blocks("text")[0],
        "my.backward": student.read_text(encoding="utf-8"),
        "my.toml": blocks("toml")[0],
        "chapter.md": "The state is $h_t$, the loss $L$.",
        "my_package/__init__.py": "",
        "my_package/rnn.py": CALLABLE,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_command_does_what_it_says(prepared, capsys):
    """In the order of the README, the ledger of the gallery apart, which test_gallery makes."""
    found = {" ".join(command): main(command[1:]) for command in commands() if command[2:] != LEDGER}
    assert len(found) > 10
    for command, status in found.items():
        expected = next((s for begin, s in STATUS.items() if command.startswith(begin)), 0)
        assert status == expected, (command, capsys.readouterr().err)
    for made in ("leaky.html", "my.html", "cases/index.json"):
        assert (prepared / made).exists()


LEDGER = ["--ledger", "-o", "textbook.html"]


def test_the_three_uses_take_ten_lines_each():
    start, end = README.index("## Three uses"), README.index("## Beside others")
    uses = re.findall(r"^```python\n(.*?)^```$", README[start:end], re.M | re.S)
    assert len(uses) == 3
    assert all(len(use.splitlines()) <= 10 for use in uses)


def test_what_it_links_to_is_there():
    top = Path(__file__).parent.parent
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert all((top / link).exists() for link in links)


def test_the_two_lines_are_there_once_each():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert len(lines) == 2
