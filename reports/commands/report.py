"""``bptt report``: a cell's derivation, its proof and its numbers, or a textbook's ledger, as something to read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.arguments import Command, add_cell, add_seed
from reports.console import HOLDS, NOTHING, REFUTED, UsageError, load_cell, opened
from reports.outputs import check_apart, checked_output, checked_report, write_all

if TYPE_CHECKING:
    from derive import Cell

__all__ = ["REPORT"]

FORMATS = {"html": ".html", "md": ".md", "pdf": ".pdf", "backward": ".backward"}
STATUSES = {"holds": HOLDS, "fails": REFUTED, "open": NOTHING}

#: What --ledger stands for where no file is named.
SHIPPED = ""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cell(parser, nargs="?")
    said = "a .html, .md, .pdf or .backward file (default: the cell's name, .html)"
    parser.add_argument("-o", "--output", metavar="FILE", help=said)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="html, md, pdf, or backward: the equations that bptt verify reads, on stdout unless -o names a file",
    )
    add_seed(parser, "the measurements", default=None)
    said = "in place of a cell: every statement of two textbooks, or of your own BOOK.toml, judged"
    parser.add_argument("--ledger", nargs="?", const=SHIPPED, metavar="BOOK", help=said)
    said = "with --ledger BOOK: the text that it is about; what of it has no row in the book is listed"
    parser.add_argument("--against", metavar="DOCUMENT", help=said)


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    _check_choice(arguments)
    return _ledger(arguments) if arguments.ledger is not None else _derivation(arguments)


def _check_choice(arguments: argparse.Namespace) -> None:
    """Raise UsageError unless the arguments go together."""
    if (arguments.cell is None) == (arguments.ledger is None):
        raise UsageError("expected one of CELL and --ledger; see bptt report --help")
    if arguments.against is not None and not arguments.ledger:
        raise UsageError("--against lists what has no row in a book; say --ledger BOOK.toml, too")
    if arguments.ledger is not None:
        backward = arguments.format == "backward" or str(arguments.output).lower().endswith(".backward")
        for name, given in (("--seed", arguments.seed is not None), ("the format backward", backward)):
            if given:
                raise UsageError(f"{name} is for a cell, not for --ledger; leave it out")


# ------------------------------------------------------------------------------------------------------ a derivation


def _derivation(arguments: argparse.Namespace) -> tuple[int, str]:
    source = arguments.cell
    wanted, output = _wanted(arguments)
    cell = load_cell(source)
    if wanted == "backward":
        return _backward(cell, source, output)
    output = output or _checked(f"{cell.name}{FORMATS[wanted]}", wanted)
    check_apart(source, output)
    from reports.build import build_report
    from reports.progress import Progress

    with Progress() as progress:
        document = build_report(cell, seed=arguments.seed or 0, report=progress)
        _write(document, output, progress)
    return STATUSES[document.verdict.verdict], f"{output}: {cell.name} {document.verdict.text}\n"


def _wanted(arguments: argparse.Namespace) -> tuple[str, Path | None]:
    """The format, by --format, else by the file's name, else html; and the file, if it is named."""
    if arguments.output is None:
        return arguments.format or "html", None
    by_name = {suffix: name for name, suffix in FORMATS.items()}
    wanted = arguments.format or by_name.get(Path(arguments.output).suffix.lower(), "html")
    return wanted, _checked(arguments.output, wanted)


def _checked(name: str, wanted: str) -> Path:
    """The path of a file in this format that can be written now; raises :class:`UsageError`."""
    suffix = Path(name).suffix.lower()
    if suffix in FORMATS.values() and suffix != FORMATS[wanted]:
        raise UsageError(f"{name}: --format {wanted} goes into a file whose name ends in {FORMATS[wanted]}")
    return checked_output(name, (".backward",), "a derivation") if suffix == ".backward" else checked_report(name)


def _backward(cell: Cell, source: str, output: Path | None) -> tuple[int, str]:
    """The derivation as equations that bptt verify reads, on stdout where no file is given."""
    import derive
    from derive.handwritten.wording import backward_file

    text = backward_file(derive.differentiate(cell))
    if output is None:
        return HOLDS, text
    check_apart(source, output)
    write_all({output: text})
    return HOLDS, f"{output}: the derivation of {cell.name}; bptt verify {output} --cell {source} checks it\n"


def _write(document: Any, output: Path, progress: Any) -> None:
    from reports.written import written

    progress("the page")
    write_all(written(document, output))


# ---------------------------------------------------------------------------------------------------------- a ledger


def _ledger(arguments: argparse.Namespace) -> tuple[int, str]:
    book = arguments.ledger or None
    wanted, output = _wanted(arguments)
    output = output or _checked(f"{Path(book).stem if book else 'textbook'}{FORMATS[wanted]}", wanted)
    check_apart(book or "", output, "the book")
    check_apart(arguments.against or "", output, "the text")
    missing = _uncovered(arguments.against, book) if book and arguments.against else []
    from reports.ledger import build_ledger
    from reports.progress import Progress

    with Progress() as progress:
        document = opened(book or "the ledger", lambda: build_ledger(book, report=progress))
        _write(document, output, progress)
    lines = [f"{output}: {document.name} {document.verdict.text}"]
    lines += [f"{arguments.against}:{line}: {what} without a row: {text}" for line, what, text in missing]
    status = STATUSES[document.verdict.verdict]
    return (NOTHING if missing and status == HOLDS else status), "\n".join(lines) + "\n"


def _uncovered(document: str, book: str) -> list[tuple[int, str, str]]:
    """What a text has, and a book has no row for."""
    from derive.claims import load_book
    from reports.ledger_coverage import uncovered

    found = opened(book, lambda: load_book(book))
    return list(opened(document, lambda: uncovered(document, found)))


REPORT = Command(
    "report",
    "derive and prove a cell, check it in numbers, and write a report that can be read",
    (
        "bptt report lstm -o lstm.html",
        "bptt report my.cell -o my.md --seed 7",
        "bptt report gru --format backward",
        "bptt report --ledger -o textbook.html",
    ),
    _add_arguments,
    _run,
)
