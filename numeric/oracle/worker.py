"""Somebody's Python callable as a program that speaks the protocol of :mod:`numeric.oracle.command`.

    python -m numeric.oracle.worker my_package.rnn:my_bptt

Whatever the callable prints goes to standard error; a crash of this process is a crash of the callable.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from numeric.oracle.adapters import adapted
from numeric.oracle.calling import InProcess, Outcome
from numeric.oracle.case import Case
from numeric.oracle.case_data import VERSION, case_from_data
from numeric.oracle.result_data import most_bytes, outcome_text
from numeric.oracle.strict_json import parse_json

__all__ = ["find", "main"]


def find(target: str) -> Any:
    """What ``module:name`` names; raises ValueError that says why there is nothing."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise ValueError(f"{target!r} names no implementation; expected module:name, such as my_package.rnn:my_bptt")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(f"there is no module {error.name}, neither here nor installed") from None
        raise ValueError(f"{module} cannot be imported: {error}") from None
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module} has no {name}; expected the name of a callable that takes a case")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{target} is a {type(found).__name__}; expected a callable that takes a case")
    return found


def main(arguments: Sequence[str]) -> int:
    """Greet, then answer every line until there is none."""
    requests, answers = _private_pipes()
    sys.path.insert(0, os.getcwd())
    try:
        implementation = find(arguments[0])
    except ValueError as error:
        _say(answers, json.dumps({"unusable": str(error)}))
        return 2
    _say(answers, json.dumps({"protocol": VERSION, "ready": arguments[0], "fingerprint": _fingerprint(arguments[0])}))
    known: dict[str, InProcess] = {}
    for line in requests:
        request = parse_json(line)
        _say(answers, _answer(request["id"], case_from_data(request["case"]), implementation, known))
    return 0


def _answer(number: int, case: Case, implementation: Callable[..., Any], known: dict[str, InProcess]) -> str:
    if case.text not in known:
        try:
            known[case.text] = InProcess(adapted(implementation, case.parsed))
        except (TypeError, ValueError) as error:
            return outcome_text(Outcome("raised", None, str(error)), {"id": number}, 0)
    return outcome_text(known[case.text].call(case), {"id": number}, most_bytes(case) // 64)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's pipes, out of the reach of ``print`` and ``input``."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _say(answers: BinaryIO, line: str) -> None:
    answers.write(line.encode() + b"\n")
    answers.flush()


def _fingerprint(target: str) -> str:
    path = getattr(sys.modules[target.partition(":")[0]], "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32] if path and Path(path).is_file() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
