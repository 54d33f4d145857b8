"""``bptt judge``: somebody's implementation judged, in any language, at once or from files."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.arguments import Command, above_zero, add_json, names, whole
from reports.console import HOLDS, NOTHING, REFUTED, UsageError, complain, load_cell, opened
from reports.outputs import checked_report, write_all

if TYPE_CHECKING:
    from derive import Cell
    from numeric.oracle.calling import Caller
    from numeric.oracle.case import Case
    from numeric.oracle.command import CommandCaller
    from numeric.oracle.verdict import Verdict

__all__ = ["JUDGE"]

_FROM_FILES = "results come from files: whether a second call gives the same was not tested"


@dataclass(frozen=True)
class _Judging:
    """A verdict, and what it is about."""

    verdict: Verdict
    cell: Cell
    cases: tuple[Case, ...]


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    """The verdict, in words or as JSON; the status says whether the implementation agrees."""
    _check_choice(arguments)
    output = checked_report(arguments.report) if arguments.report is not None else None
    try:
        with _ended_like_interrupted():
            found = _judged_folder(arguments) if _is_folder(arguments) else _judged_program(arguments)
    except OSError as error:
        where = error.filename or arguments.output or arguments.target or arguments.command
        raise UsageError(f"{where}: {error.strerror}") from None
    said = ""
    if output:
        _write_report(found, arguments, output)
        said = f"{output}: the verdict on {found.verdict.implementation}"
    if arguments.json:
        if said:
            complain(said)  # what is printed is for a program
        return _status(found.verdict), found.verdict.to_json() + "\n"
    return _status(found.verdict), f"{found.verdict}\n" + (f"{said}\n" if said else "")


def _write_report(found: _Judging, arguments: argparse.Namespace, output: Path) -> None:
    from reports.parts.judged import verdict_document
    from reports.progress import Progress
    from reports.written import written

    with Progress() as progress:
        progress("the page")
        document = verdict_document(found.verdict, found.cell, found.cases, command=_repeated(arguments))
        write_all(written(document, output))


def _status(verdict: Verdict) -> int:
    """0 only where something was judged and agrees."""
    if not verdict.judged or verdict.status == "undecidable":
        return NOTHING
    return HOLDS if verdict.status == "agrees" else REFUTED


def _is_folder(arguments: argparse.Namespace) -> bool:
    return arguments.command is None and os.path.isdir(arguments.target)


def _check_choice(arguments: argparse.Namespace) -> None:
    """Raise UsageError unless the arguments say one implementation."""
    if (arguments.target is None) == (arguments.command is None):
        raise UsageError("expected one of module:name, a folder of cases, and --command; see bptt judge --help")
    if arguments.resume and not arguments.output:
        raise UsageError("--resume goes on with what -o kept; say -o DIR, too")
    if _is_folder(arguments):
        for name in ("cell", "output", "time_limit", "memory_limit"):
            if getattr(arguments, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} is not for results in files; leave it out")
        return
    if arguments.command is None and ":" not in arguments.target:
        raise UsageError(f"{arguments.target}: there is no such folder, and an implementation is named module:name")
    if arguments.cell is None:
        raise UsageError("--cell says which cell it implements: a shipped cell's name or the path of a .cell file")


# ----------------------------------------------------------------------------------------------------------- judging


def _judged_folder(arguments: argparse.Namespace) -> _Judging:
    from numeric.oracle.files import FolderCaller, read_cases

    def read() -> tuple[Any, Any]:
        found = read_cases(arguments.target)
        return found, FolderCaller(found)

    found, caller = opened(arguments.target, read)
    cell = found.cases[0].parsed
    verdict = _judged(caller, cell, found.cases, arguments)
    if not verdict.judged:
        return _Judging(verdict, cell, found.cases)
    worst = found.files[verdict.findings[0].case] if verdict.findings else ""
    notes = (*verdict.notes, _FROM_FILES)
    verdict = replace(verdict, notes=notes, reproduce=f"the case in {found.folder / worst}" if worst else "")
    return _Judging(verdict, cell, found.cases)


def _judged_program(arguments: argparse.Namespace) -> _Judging:
    cell = load_cell(arguments.cell)
    from numeric.oracle.families import default_cases
    from numeric.oracle.judge import Scope

    try:
        Scope(arguments.scope, arguments.only).check(cell)
        program = _program(arguments)
    except ValueError as error:
        raise UsageError(str(error)) from None
    with contextlib.closing(program):
        _start(program)
        cases = default_cases(cell)
        caller = program if arguments.output is None else _keeping(program, cell, cases, arguments)
        verdict = _judged(caller, cell, cases, arguments)
    line = _repeated(arguments)
    verdict = replace(verdict, reproduce=f"{verdict.reproduce}, or {line}" if verdict.reproduce else line)
    if arguments.output is not None:
        (Path(arguments.output) / "verdict.json").write_text(verdict.to_json() + "\n", encoding="utf-8")
    return _Judging(verdict, cell, tuple(cases))


def _start(program: CommandCaller) -> None:
    """Before anything is computed: a program that is none is a usage error."""
    try:
        program.start()
    except ValueError as error:
        raise UsageError(str(error)) from None


def _program(arguments: argparse.Namespace) -> CommandCaller:
    from numeric.oracle.command import CommandCaller, WorkerCaller
    from numeric.oracle.judge import TIME_LIMIT

    limits: dict[str, Any] = {
        "time_limit": TIME_LIMIT if arguments.time_limit is None else arguments.time_limit,
        "memory_limit": None if arguments.memory_limit is None else arguments.memory_limit << 20,
    }
    if arguments.command is not None:
        return CommandCaller(arguments.command, **limits)
    return WorkerCaller(arguments.target, **limits)


def _keeping(program: CommandCaller, cell: Cell, cases: tuple[Case, ...], arguments: argparse.Namespace) -> Caller:
    from numeric.oracle.keep import KeepingCaller

    about = {"implementation": program.name, "cell": cell.name, "fingerprint": program.fingerprint}
    try:
        return KeepingCaller(program, cases, arguments.output, about, resume=arguments.resume)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _judged(caller: Caller, cell: Cell, cases: tuple[Case, ...], arguments: argparse.Namespace) -> Verdict:
    from numeric.oracle.files import FileError
    from numeric.oracle.judge import judge
    from reports.progress import Progress

    with Progress() as progress:
        try:
            return judge(
                caller, cell, cases=cases, only=arguments.only, scope=arguments.scope, report=progress
            )  # fmt: skip
        except (FileError, ArithmeticError) as error:
            raise UsageError(str(error)) from None


@contextlib.contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """A request to end stops the program that is being judged, too."""
    if threading.current_thread() is not threading.main_thread():  # others cannot be asked
        yield
        return

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _repeated(arguments: argparse.Namespace) -> str:
    """The command that judges this again."""
    what = [arguments.target] if arguments.command is None else ["--command", arguments.command]
    words = ["bptt", "judge", *what, *(["--cell", arguments.cell] if arguments.cell else [])]
    words += ["--scope", arguments.scope] if arguments.scope != "all" else []
    words += ["--only", ",".join(arguments.only)] if arguments.only else []
    return shlex.join(words)


# --------------------------------------------------------------------------------------------------------- arguments


def _add_arguments(judge: argparse.ArgumentParser) -> None:
    judge.add_argument(
        "target", nargs="?", metavar="IMPLEMENTATION", help="module:name of a Python callable, or a folder of cases"
    )
    judge.add_argument(
        "--command", metavar="COMMAND", help="a program of any language that answers lines of JSON with lines of JSON"
    )
    judge.add_argument("--cell", metavar="CELL", help="a shipped cell's name or the path of a .cell file")
    judge.add_argument(
        "--only", type=names, metavar="NAMES", help="gradients that are there already, such as W_hh,W_xh"
    )
    judge.add_argument(
        "--scope", choices=("all", "outputs"), default="all", help="outputs: the forward pass only (default: all)"
    )
    seconds = above_zero("seconds")
    judge.add_argument("--time-limit", type=seconds, metavar="S", help="seconds for one call (default: 60)")
    size = whole(1, 99_999_999, "expected MiB, a whole number from 1 on")
    said = "address space of the program in MiB; Linux only"
    judge.add_argument("--memory-limit", type=size, metavar="MB", help=said)
    judge.add_argument("-o", "--output", metavar="DIR", help="keep every result, as it comes, and the verdict in DIR")
    judge.add_argument("--resume", action="store_true", help="go on with the judging that -o DIR kept")
    judge.add_argument("--report", metavar="OUT", help="the verdict to read: a .html, .md or .pdf file")
    add_json(judge)


JUDGE = Command(
    "judge",
    "judge an implementation of your own, in any language, and say what is wrong with it",
    (
        "bptt judge my_package.rnn:my_bptt --cell lstm",
        'bptt judge --command "./my_rust_bptt" --cell gru',
        "bptt judge cases/",
        "bptt judge my_package.rnn:my_bptt --cell lstm --report verdict.html",
    ),
    _add_arguments,
    _run,
)
