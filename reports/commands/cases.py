"""``bptt cases``: the problems that an implementation is judged by, as files for a program of any language."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from reports.arguments import Command, add_cell, add_json, add_seed
from reports.console import HOLDS, UsageError, load_cell

__all__ = ["CASES"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cell(parser)
    parser.add_argument("-o", "--output", metavar="DIR", help="a new folder (default: the cell's name, -cases)")
    add_seed(parser, "the numbers")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    """A folder of cases, and what to do with it."""
    cell = load_cell(arguments.cell)
    from numeric.oracle.families import default_cases
    from numeric.oracle.files import write_cases
    from reports.data import as_json

    folder = Path(arguments.output or f"{cell.name}-cases")
    cases = default_cases(cell, arguments.seed)
    try:
        written = write_cases(cases, folder)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{folder}: cases cannot be written there ({error.strerror})") from None
    if arguments.json:
        return HOLDS, as_json({"folder": str(folder), "cell": cell.name, "cases": [case.id for case in cases]})
    lines = [f"{folder}: {len(cases)} cases of {cell.name} in {len(written)} files; index.json says how to read them"]
    lines.append(f"write a result for each of them there, then: bptt judge {shlex.quote(str(folder))}")
    return HOLDS, "\n".join(lines) + "\n"


CASES = Command(
    "cases",
    "write cases as files, for programs of any language",
    ("bptt cases lstm -o cases/", "bptt judge cases/"),
    _add_arguments,
    _run,
)
