"""``bptt verify``: a person's own derivation, line by line."""

from __future__ import annotations

import argparse
from pathlib import Path

from reports.arguments import Command, add_json
from reports.console import HOLDS, NOTHING, REFUTED, complain, load_cell, opened
from reports.outputs import check_apart, checked_report, write_all

__all__ = ["VERIFY"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .backward file: equations such as da[t] = dh[t]*(1 - h[t]**2)")
    said = "a shipped cell's name or the path of a .cell file"
    parser.add_argument("--cell", required=True, metavar="CELL", help=said)
    parser.add_argument("--report", metavar="OUT", help="the same to read: a .html, .md or .pdf file")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    output = checked_report(arguments.report) if arguments.report is not None else None
    cell = load_cell(arguments.cell)
    if output:
        check_apart(arguments.cell, output)
        check_apart(arguments.file, output, "the derivation")
    import derive
    from reports.data import as_json, verification_data
    from reports.progress import Progress

    path = Path(arguments.file)
    with Progress() as progress:
        verification = opened(arguments.file, lambda: derive.verify(path, cell, report=progress))
        if output:
            from reports.parts.verified import verification_document
            from reports.written import written

            progress("the page")
            write_all(written(verification_document(verification), output))
    status = REFUTED if not verification.holds else HOLDS if verification.decided else NOTHING
    said = f"{output}: the verification of {path.name}" if output else ""
    if arguments.json:
        if said:
            complain(said)  # what is printed is for a program
        return status, as_json(verification_data(verification))
    return status, f"{verification}\n" + (f"{said}\n" if said else "")


VERIFY = Command(
    "verify",
    "verify a derivation of your own, line by line, and name its mistakes",
    (
        "bptt verify my.backward --cell tanh_rnn",
        "bptt verify my.backward --cell my.cell --json",
        "bptt verify my.backward --cell lstm --report my.html",
    ),
    _add_arguments,
    _run,
)
