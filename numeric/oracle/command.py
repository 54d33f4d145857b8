"""Programs of any language as implementations: a line of JSON in for every case, a line of JSON out.

    {"protocol": 1, "id": 7, "case": {...}}                          to its standard input, the case as in files
    {"id": 7, "grads": {"W_hh": [[...], ...], ...}, "loss": 1.5}     from its standard output
    {"id": 7, "declined": "no truncation"}                           a case that it does not support
    {"id": 7, "error": "..."}                                        it failed, and goes on

It runs until its input ends.  One that crashes, hangs or prints anything else is started anew for the next case.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from numeric.oracle.calling import Outcome
from numeric.oracle.case import Case
from numeric.oracle.case_data import VERSION, case_text
from numeric.oracle.program import NoAnswerError, Program, memory_can_be_limited
from numeric.oracle.result_data import most_bytes, outcome_of
from numeric.oracle.strict_json import parse_json

__all__ = ["CommandCaller", "WorkerCaller"]

#: Seconds to import somebody's module, at least.
STARTUP = 120.0
_GREETING = 1 << 16


class CommandCaller:
    """A command line, or its words, as a :class:`numeric.oracle.calling.Caller`.

    ``time_limit`` is seconds for one call, the start included where there has to be one; None for none.
    ``memory_limit`` is bytes of address space, on Linux; None for none.  Raises ValueError for a command that is none,
    and where memory cannot be limited.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        time_limit: float | None = 60.0,
        memory_limit: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.arguments = _words(command) if isinstance(command, str) else list(command)
        if not self.arguments or shutil.which(self.arguments[0]) is None:
            found = repr(self.arguments[0]) if self.arguments else "in an empty command"
            raise ValueError(f"there is no program {found}; expected a path such as ./my_bptt, or a name on the PATH")
        if memory_limit is not None and not memory_can_be_limited():
            raise ValueError("memory can be limited on Linux only; leave the memory limit out")
        self.time_limit, self.memory_limit, self.environment = time_limit, memory_limit, environment
        self.name = shlex.join(self.arguments)
        self.calls = 0
        self.program: Program | None = None

    @property
    def fingerprint(self) -> str:
        """A digest of the files that the command names: another one stands for another program."""
        seen = hashlib.sha256()
        for word in (shutil.which(self.arguments[0]) or "", *self.arguments[1:]):
            path = Path(word)
            if path.is_file():
                with path.open("rb") as file:
                    seen.update(hashlib.file_digest(file, "sha256").digest())
            seen.update(word.encode() + b"\0")
        return seen.hexdigest()[:32]

    def start(self) -> None:
        """Start the program if it does not run; raises ValueError where that cannot be done."""
        if self.program is None:
            try:
                self.program = Program(self.arguments, self.memory_limit, self.environment)
            except OSError as error:
                raise ValueError(f"{self.arguments[0]} cannot be started ({error.strerror})") from None

    def call(self, case: Case) -> Outcome:
        """One call; whatever the program does, there is an outcome."""
        begun = time.perf_counter()
        try:
            self.start()
        except ValueError as error:
            return Outcome("crashed", None, f"could not be started again: {error}")
        assert self.program is not None
        self.calls += 1
        request = f'{{"protocol": {VERSION}, "id": {self.calls}, "case": {case_text(case)}}}\n'
        try:
            line = self.program.ask(request.encode(), most_bytes(case), self.time_limit)
            outcome = self._answer(line)
        except NoAnswerError as failed:
            outcome = Outcome(failed.kind, None, failed.message)
            self._drop()
        return Outcome(
            outcome.kind, outcome.value, outcome.message, outcome.changed, time.perf_counter() - begun
        )  # fmt: skip

    def _answer(self, line: bytes) -> Outcome:
        """What a line says; raises NoAnswerError for one that is no answer to this call."""
        try:
            said = parse_json(line)
            if not isinstance(said, dict):
                raise ValueError(f"it is a {type(said).__name__}; expected a JSON object")
            number = said.pop("id", None)
            if number != self.calls or isinstance(number, bool):
                raise ValueError(f"it answers id {str(number)[:40]}; this call has id {self.calls}")
            return outcome_of(said)
        except ValueError as error:
            begin = "".join(c if c.isprintable() else "?" for c in line[:60].decode("utf-8", "replace"))
            raise NoAnswerError(
                "raised", f"printed a line that is no answer: {error}; the line begins with {begin!r}"
            ) from None

    def _drop(self) -> None:
        """Stop the program; the next call starts it anew."""
        if self.program is not None:
            self.program.stop()
            self.program = None

    def close(self) -> None:
        """Let the program end, or stop it."""
        if self.program is not None:
            self.program.finish()
            self.program = None


class WorkerCaller(CommandCaller):
    """A Python callable ``module:name``, in a process of its own; the working directory can be imported from."""

    def __init__(self, target: str, *, time_limit: float | None = 60.0, memory_limit: int | None = None) -> None:
        top = str(Path(__file__).resolve().parents[2])
        paths = [top, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        # -P: a file numeric.py in the working directory does not stand for this package
        arguments = [sys.executable, "-P", "-m", "numeric.oracle.worker", target]
        super().__init__(arguments, time_limit=time_limit, memory_limit=memory_limit, environment=environment)
        self.name, self._fingerprint = target, ""

    @property
    def fingerprint(self) -> str:
        """A digest of the module's file."""
        return self._fingerprint

    def start(self) -> None:
        """Start the worker and wait until it has imported the implementation; raises ValueError where it cannot."""
        if self.program is not None:
            return
        super().start()
        assert self.program is not None
        try:
            said = parse_json(self.program.ask(b"", _GREETING, max(STARTUP, self.time_limit or 0.0)))
        except NoAnswerError as failed:
            self._drop()
            raise ValueError(f"{self.name}: while it was imported, Python {failed.message}") from None
        if "unusable" in said:
            self._drop()
            raise ValueError(str(said["unusable"]))
        self._fingerprint = str(said["fingerprint"])


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command, posix=os.name == "posix")
    except ValueError as error:
        raise ValueError(f"the command {command!r} cannot be split into words: {error}") from None
