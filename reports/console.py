"""What a command says, and how it ends: results on stdout, one-line errors on stderr, a status.

0   holds           1   refuted          2   usage or bad input
3   our own fault   4   nothing shown    130 interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from derive import Cell

__all__ = [
    "FAULT",
    "HOLDS",
    "INTERRUPTED",
    "NOTHING",
    "REFUTED",
    "STATUS",
    "USAGE",
    "UsageError",
    "complain",
    "load_cell",
    "opened",
    "print_text",
]

HOLDS, REFUTED, USAGE, FAULT, NOTHING, INTERRUPTED = 0, 1, 2, 3, 4, 130
STATUS = "Exit status: 0 holds, 1 refuted, 2 usage or bad input, 3 a fault of bptt itself, 4 nothing was shown."

Result = TypeVar("Result")


class UsageError(Exception):
    """Something that the person who typed the command can mend; its text is the one line that is printed."""


def print_text(text: str) -> None:
    """Results on stdout; a reader who has seen enough is no error.

    What would move a terminal's cursor or turn its letters around, as in somebody's error message, is written out.
    Raises :class:`UsageError` where they cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write("".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text))
        sys.stdout.flush()
    except OSError as error:
        # nothing more can be said there, nor at the interpreter's own last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        raise UsageError(f"the result cannot be written to standard output ({error.strerror})") from None


def complain(line: str) -> None:
    """One line on stderr, whatever the message holds."""
    if sys.stderr is not None:
        shown = "".join(c if c.isprintable() else _escaped(c) for c in " ".join(line.split("\n")))
        try:
            sys.stderr.write(f"bptt: {shown}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def load_cell(source: str) -> Cell:
    """A shipped cell or a file; raises :class:`UsageError` with whatever is wrong with it."""
    import derive

    return opened(source, lambda: derive.load(source))


def opened(source: str, read: Callable[[], Result]) -> Result:
    """What was read from a file that a person named; raises :class:`UsageError` with whatever is wrong with it."""
    try:
        return read()
    except FileNotFoundError as error:
        raise UsageError(str(error) if error.errno is None else f"{source}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{source}: it cannot be read ({error.strerror})") from None
    except ValueError as error:  # CellError, and a path that is none
        raise UsageError(str(error)) from None
