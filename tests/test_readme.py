"""The README is true: its code runs, its commands exist, its cell is proven."""

from __future__ import annotations

import re
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


def test_its_commands_are_understood(capsys):
    commands = re.findall(r"^(?:.*/)?bptt (\w+)", "\n".join(blocks("sh")), re.M)
    assert commands
    for command in set(commands):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert command in capsys.readouterr().out


def test_the_two_lines_are_there_once_each():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert len(lines) == 2
