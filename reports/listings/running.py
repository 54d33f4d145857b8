"""Asking the process in which listings run, with a time limit; one that hangs or dies is stopped, and another started.

The process is started when it is first asked, and ends with this one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib.util import find_spec

from numeric.oracle.program import NoAnswerError, Program
from reports.document import Code
from reports.listings.rows import STOPS, Row, rows_from_data
from reports.listings.worker import groups

__all__ = ["LIMIT", "Runner", "expect", "observe", "torch_is_there"]

#: Seconds for one group of inputs, and for the start, in which PyTorch is imported.
LIMIT, START = 60.0, 180.0
_ASKING = threading.Lock()  # there is one process, and it answers one question at a time
_MOST = 1 << 20


def torch_is_there() -> bool:
    """Whether PyTorch can be imported here."""
    return find_spec("torch") is not None


class Runner:
    """The process, started when needed; ``arguments`` is its command line, ``limit`` the seconds for one group."""

    def __init__(self, arguments: Sequence[str] | None = None, limit: float = LIMIT) -> None:
        self.arguments = tuple(arguments or _command())
        self.limit = limit
        self.program: Program | None = None

    def rows(self, harness: str, form: str, group: str) -> tuple[Row, ...]:
        """The rows of one group; where there was no answer, one row that says so."""
        request = json.dumps({"harness": harness, "form": form, "group": group}).encode() + b"\n"
        try:
            program = self._started()
            return rows_from_data(json.loads(program.ask(request, _MOST, self.limit)))
        except (NoAnswerError, ValueError, OSError) as error:
            self.close()
            return (Row("all inputs of this group", _said(error, self.limit), STOPS),)

    def _started(self) -> Program:
        if self.program is None:
            self.program = Program(self.arguments, environment={**os.environ, "MPLBACKEND": "Agg"})
            self.program.ask(b"", _MOST, START)
        return self.program

    def close(self) -> None:
        """Stop the process, if there is one."""
        if self.program is not None:
            self.program.stop()
            self.program = None


def _said(error: Exception, limit: float) -> tuple[str | Code, ...]:
    if isinstance(error, NoAnswerError) and error.kind == "hung":
        return (f"no answer within {limit:g} s; it was stopped",)
    return ("no answer: the process ended, or said what is no answer",)


def _command() -> tuple[str, ...]:
    """The worker, which finds modules where this process does, and not in the folder from which it is started."""
    start = "import sys; sys.path[:] = sys.argv[1:]; from reports.listings.worker import main; sys.exit(main())"
    return (sys.executable, "-P", "-c", start, *(os.path.abspath(folder) for folder in sys.path))


@cache
def _runner() -> Runner:
    runner = Runner()
    atexit.register(runner.close)
    return runner


def expect(harnesses: Collection[tuple[str, str]]) -> None:
    """Let these listings (harness, form) run beside other work: whoever asks for their rows waits only for the rest."""
    if torch_is_there():
        threading.Thread(target=_observe_all, args=(tuple(harnesses),), daemon=True).start()


def _observe_all(harnesses: Iterable[tuple[str, str]]) -> None:
    with contextlib.suppress(ValueError):  # a name that is none: who asks for it is told
        for harness, form in harnesses:
            for group in groups(harness):
                if form in group.forms:
                    observe(harness, form, group.name)


def observe(harness: str, form: str, group: str) -> tuple[Row, ...]:
    """What a shipped listing does with the inputs of one group; asked once.  Raises ValueError for an unknown name."""
    if group not in {g.name for g in groups(harness) if form in g.forms}:
        raise ValueError(f"{harness} as {form} has no group {group!r}")
    with _ASKING:
        return _observed(harness, form, group)


@cache
def _observed(harness: str, form: str, group: str) -> tuple[Row, ...]:
    return _runner().rows(harness, form, group)
