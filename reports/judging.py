"""``bptt judge`` and ``bptt cases``: somebody's implementation judged, in any language, at once or from files."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.cli import HOLDS, NOTHING, REFUTED, UsageError, _load, _opened

if TYPE_CHECKING:
    from derive import Cell
    from numeric.oracle.calling import Caller
    from numeric.oracle.case import Case
    from numeric.oracle.command import CommandCaller
    from numeric.oracle.verdict import Verdict

__all__ = ["add_cases_options", "add_judge_options", "run_cases", "run_judge"]

_FROM_FILES = "results come from files: whether a second call gives the same was not tested"


def run_judge(arguments: argparse.Namespace) -> tuple[int, str]:
    """The verdict, in words or as JSON; the status says whether the implementation agrees."""
    _check_choice(arguments)
    try:
        with _ended_like_interrupted():
            verdict = _judged_folder(arguments) if _is_folder(arguments) else _judged_program(arguments)
    except OSError as error:
        where = error.filename or arguments.output or arguments.target or arguments.command
        raise UsageError(f"{where}: {error.strerror}") from None
    return _status(verdict), verdict.to_json() + "\n" if arguments.json else f"{verdict}\n"


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


def _judged_folder(arguments: argparse.Namespace) -> Verdict:
    from numeric.oracle.files import FolderCaller, read_cases

    def read() -> tuple[Any, Any]:
        found = read_cases(arguments.target)
        return found, FolderCaller(found)

    found, caller = _opened(arguments.target, read)
    verdict = _judged(caller, found.cases[0].parsed, found.cases, arguments)
    if not verdict.judged:
        return verdict
    worst = found.files[verdict.findings[0].case] if verdict.findings else ""
    notes = (*verdict.notes, _FROM_FILES)
    return replace(verdict, notes=notes, reproduce=f"the case in {found.folder / worst}" if worst else "")


def _judged_program(arguments: argparse.Namespace) -> Verdict:
    cell = _load(arguments.cell)
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
    return verdict


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
        "memory_limit": arguments.memory_limit,
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
    words = ["bptt", "judge", *what, "--cell", arguments.cell]
    words += ["--scope", arguments.scope] if arguments.scope != "all" else []
    words += ["--only", ",".join(arguments.only)] if arguments.only else []
    return shlex.join(words)


# ------------------------------------------------------------------------------------------------------------- cases


def run_cases(arguments: argparse.Namespace) -> tuple[int, str]:
    """A folder of cases, and what to do with it."""
    cell = _load(arguments.cell)
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


# --------------------------------------------------------------------------------------------------------- arguments


def add_judge_options(judge: argparse.ArgumentParser) -> None:
    """What ``bptt judge`` takes."""
    judge.add_argument(
        "target", nargs="?", metavar="IMPLEMENTATION", help="module:name of a Python callable, or a folder of cases"
    )
    judge.add_argument(
        "--command", metavar="COMMAND", help="a program of any language that answers lines of JSON with lines of JSON"
    )
    judge.add_argument("--cell", metavar="CELL", help="a shipped cell's name or the path of a .cell file")
    judge.add_argument(
        "--only", type=_names, metavar="NAMES", help="gradients that are there already, such as W_hh,W_xh"
    )
    judge.add_argument(
        "--scope", choices=("all", "outputs"), default="all", help="outputs: the forward pass only (default: all)"
    )
    judge.add_argument("--time-limit", type=_seconds, metavar="S", help="seconds for one call (default: 60)")
    judge.add_argument(
        "--memory-limit", type=_megabytes, metavar="MB", help="address space of the program in MiB; Linux only"
    )
    judge.add_argument("-o", "--output", metavar="DIR", help="keep every result, as it comes, and the verdict in DIR")
    judge.add_argument("--resume", action="store_true", help="go on with the judging that -o DIR kept")


def add_cases_options(cases: argparse.ArgumentParser) -> None:
    """What ``bptt cases`` takes, beside the cell."""
    cases.add_argument("-o", "--output", metavar="DIR", help="a new folder (default: the cell's name, -cases)")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, (name.strip() for name in text.split(","))))
    if not names:
        raise argparse.ArgumentTypeError(f"expected names with commas between them; found {text!r}")
    return names


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and below a million; found {text!r}")
    return value


def _megabytes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 9 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected MiB, a whole number from 1 on; found {text!r}")
    return int(text) << 20
