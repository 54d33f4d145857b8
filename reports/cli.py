"""The command ``bptt``: results on stdout, progress and one-line errors on stderr.

Statuses are those of :mod:`reports.console`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from reports.arguments import parser_of
from reports.commands.cases import CASES
from reports.commands.cells import CELLS
from reports.commands.flow import FLOW
from reports.commands.judge import JUDGE
from reports.commands.prove import PROVE
from reports.commands.report import REPORT
from reports.commands.verify import VERIFY
from reports.console import FAULT, INTERRUPTED, USAGE, UsageError, complain, print_text

__all__ = ["COMMANDS", "main"]

COMMANDS = (REPORT, PROVE, VERIFY, CELLS, FLOW, JUDGE, CASES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Only results go to stdout.  Raises SystemExit(0) after ``--help`` and ``--version``, as commands do.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(argv)
    except UsageError as error:
        complain(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("BPTT_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".strip(": ")
        complain(f"internal error: {what}; please report it, with the traceback that BPTT_DEBUG=1 shows")
        return FAULT


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    status, text = arguments.run(arguments)
    print_text(text)
    return int(status)


def _parser() -> argparse.ArgumentParser:
    what = "Derives, proves and runs backpropagation through time for a recurrent cell, from its equations."
    return parser_of(COMMANDS, description=what, example="bptt report lstm -o lstm.html")
