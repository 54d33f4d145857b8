"""What stands on the command line: commands, their arguments, and the numbers that these may be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from reports.console import STATUS, UsageError, print_text

__all__ = ["Command", "above_zero", "add_cell", "add_json", "add_seed", "names", "parser_of", "whole"]

#: Digits of a whole number, at most.
_DIGITS = 18


@dataclass(frozen=True)
class Command:
    """One command: what it does in a line, examples, its arguments, and what runs it.

    ``run`` returns the status and what is printed.
    """

    name: str
    summary: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], tuple[int, str]]


class Parser(argparse.ArgumentParser):
    """argparse with one line for an error, and help that may be piped into anything."""

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UsageError`."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        """The help on stdout."""
        print_text(self.format_help())


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any, **options: Any) -> None:
        try:
            print_text(f"bptt {version('bptt')}\n")
        except PackageNotFoundError:
            print_text("bptt, not installed as a package\n")
        parser.exit()


def parser_of(commands: tuple[Command, ...], *, description: str, example: str) -> argparse.ArgumentParser:
    """The parser of a program that has these commands."""
    parser = Parser(
        prog="bptt",
        description=description,
        epilog=f"Example: {example}\n\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    into = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in commands:
        _add(into, command)
    return parser


def _add(into: Any, command: Command) -> None:
    head = "Example" if len(command.examples) == 1 else "Examples"
    own = into.add_parser(
        command.name,
        help=command.summary,
        description=f"{command.summary[:1].upper()}{command.summary[1:]}.",
        epilog="\n  ".join((f"{head}:", *command.examples)) + f"\n\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(own)
    own.set_defaults(run=command.run)


# -------------------------------------------------------------------------------------- arguments of several commands


def add_cell(parser: argparse.ArgumentParser, **options: Any) -> None:
    """The cell, as the first argument."""
    said = "a shipped cell's name (see bptt cells) or the path of a .cell file"
    parser.add_argument("cell", metavar="CELL", help=said, **options)


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print JSON, for a program to read")


def add_seed(parser: argparse.ArgumentParser, of: str, **options: Any) -> None:
    """--seed, of whatever is drawn."""
    kind = whole(0, 10**_DIGITS - 1, "a seed is a whole number from 0 on")
    parser.add_argument(
        "--seed", type=kind, metavar="N", help=f"seed of {of} (default: 0)", **{"default": 0, **options}
    )


# ------------------------------------------------------------------------------------------------------------- numbers


def whole(least: int, most: int, expected: str = "") -> Callable[[str], int]:
    """A type of argument: a whole number, in digits.

    >>> whole(1, 9)("7")
    7
    """
    said = expected or f"expected a whole number from {least} to {most}"

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{said}; found {text!r}")
        return int(text)

    return read


def above_zero(what: str) -> Callable[[str], float]:
    """A type of argument: a number above 0 and below a million.

    >>> above_zero("seconds")("0.5")
    0.5
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"expected {what}, above 0 and below a million; found {text!r}")
        return value

    return read


def names(text: str) -> tuple[str, ...]:
    """A type of argument: names with commas between them."""
    found = tuple(filter(None, (name.strip() for name in text.split(","))))
    if not found:
        raise argparse.ArgumentTypeError(f"expected names with commas between them; found {text!r}")
    return found
