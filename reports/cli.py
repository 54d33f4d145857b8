"""The command ``bptt``: results on stdout, progress and one-line errors on stderr.

    0   holds           1   refuted          2   usage or bad input
    3   our own fault   4   nothing shown    130 interrupted

Everything slow is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from derive import Cell

__all__ = ["main"]

HOLDS, REFUTED, USAGE, FAULT, NOTHING, INTERRUPTED = 0, 1, 2, 3, 4, 130
STATUS = "Exit status: 0 holds, 1 refuted, 2 usage or bad input, 3 a fault of bptt itself, 4 nothing was shown."
FORMATS = {"html": ".html", "md": ".md", "backward": ".backward"}


Result = TypeVar("Result")


class UsageError(Exception):
    """Something that the person who typed the command can mend; its text is the one line that is printed."""


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
        _complain(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("BPTT_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".strip(": ")
        _complain(f"internal error: {what}; please report it, with the traceback that BPTT_DEBUG=1 shows")
        return FAULT


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    status, text = arguments.run(arguments)
    _print(text)
    return int(status)


def _print(text: str) -> None:
    """Results on stdout; a reader who has seen enough is no error."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # nothing more can be said there, nor at the interpreter's own last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        raise UsageError(f"the result cannot be written to standard output ({error.strerror})") from None


def _complain(line: str) -> None:
    """One line on stderr, whatever the message holds."""
    if sys.stderr is not None:
        shown = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(line.split("\n"))
        )
        try:
            sys.stderr.write(f"bptt: {shown}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass


# -------------------------------------------------------------------------------------------------------- the commands


def _report(arguments: argparse.Namespace) -> tuple[int, str]:
    source = arguments.cell
    output = Path(arguments.output) if arguments.output else None
    wanted = _format(arguments.format, output)
    if output:
        _check_output(output, wanted)
    cell = _load(source)
    if wanted == "backward":
        return _backward(cell, source, output)
    if output is None:
        output = Path(f"{cell.name}{FORMATS[wanted]}")
        _check_output(output, wanted)
    _check_apart(source, output)
    from reports.build import build_report
    from reports.progress import Progress

    with Progress() as progress:
        document = build_report(cell, seed=arguments.seed, report=progress)
        progress("the page")
        contents = _rendered(document, output)
    _write(contents)
    status = {"holds": HOLDS, "fails": REFUTED, "open": NOTHING}[document.verdict.verdict]
    return status, f"{output}: {cell.name} {document.verdict.text}\n"


def _format(named: str | None, output: Path | None) -> str:
    """The format asked for: by --format, else by the file's name, else html."""
    by_name = {suffix: name for name, suffix in FORMATS.items()}
    return named or (by_name.get(output.suffix.lower(), "html") if output else "html")


def _check_apart(source: str, output: Path) -> None:
    if os.path.exists(source) and os.path.exists(output) and os.path.samefile(source, output):
        raise UsageError(f"{output} is the cell itself; give another file for the report")


def _backward(cell: Cell, source: str, output: Path | None) -> tuple[int, str]:
    """The derivation as equations that bptt verify reads, on stdout where no file is given."""
    import derive
    from derive.handwritten.wording import backward_file

    text = backward_file(derive.differentiate(cell))
    if output is None:
        return HOLDS, text
    _check_apart(source, output)
    _write({output: text})
    return HOLDS, f"{output}: the derivation of {cell.name}; bptt verify {output} --cell {source} checks it\n"


def _rendered(document: Any, output: Path) -> dict[Path, str]:
    """Every file of a report, by path."""
    if output.suffix.lower() == ".html":
        from reports.html import to_html

        return {output: to_html(document)}
    from reports.markdown import to_markdown

    page = to_markdown(document, output.stem)
    figures = {output.parent / name: svg for name, svg in page.files.items()}
    return {**figures, output: page.text}


def _prove(arguments: argparse.Namespace) -> tuple[int, str]:
    cell = _load(arguments.cell)
    import derive
    from reports.data import as_json, proof_data
    from reports.progress import Progress

    with Progress() as progress:
        progress("the derivation")
        proof = derive.prove(derive.differentiate(cell), report=progress)
    status = HOLDS if proof.holds else REFUTED if proof.refuted else NOTHING
    return status, as_json(proof_data(proof)) if arguments.json else f"{proof}\n"


def _verify(arguments: argparse.Namespace) -> tuple[int, str]:
    cell = _load(arguments.cell)
    import derive
    from reports.data import as_json, verification_data
    from reports.progress import Progress

    path = Path(arguments.file)
    with Progress() as progress:
        verification = _opened(arguments.file, lambda: derive.verify(path, cell, report=progress))
    status = REFUTED if not verification.holds else HOLDS if verification.decided else NOTHING
    return status, as_json(verification_data(verification)) if arguments.json else f"{verification}\n"


def _flow(arguments: argparse.Namespace) -> tuple[int, str]:
    """The table, or JSON, on stdout; the drawing in a file, which --json leaves out unless -o names one."""
    cell = _load(arguments.cell)
    named = arguments.output or (None if arguments.json else f"{cell.name}-flow.svg")
    output = Path(named) if named else None
    if output:
        _check_drawing(output)
        _check_apart(arguments.cell, output)
    from reports.data import as_json
    from reports.flow import flow_data, flow_table, measure_flow
    from reports.progress import Progress

    given = {name: getattr(arguments, name) for name in ("steps", "size", "seed", "scales")}
    with Progress() as progress:
        progress("the gradients")
        try:
            experiment = measure_flow(cell, **given)
        except ValueError as error:
            raise UsageError(f"{arguments.cell}: {error}") from None
        if output:
            progress("the drawing")
            from reports.figures import standalone
            from reports.flow_figure import flow_figure

            _write({output: standalone(flow_figure(experiment))})
    status = HOLDS if experiment.shown else NOTHING
    if arguments.json:
        return status, as_json(flow_data(experiment))
    return status, f"{flow_table(experiment)}\n{output}: norms and singular values by time lag\n"


def _cells(arguments: argparse.Namespace) -> tuple[int, str]:
    import derive
    from reports.data import as_json, cell_data

    found = [derive.load(name) for name in derive.cells()]
    if arguments.json:
        return HOLDS, as_json([cell_data(cell) for cell in found])
    width = max(len(cell.name) for cell in found)
    return HOLDS, "".join(f"{cell.name:{width}}  {cell.title}\n" for cell in found)


def _judge(arguments: argparse.Namespace) -> tuple[int, str]:
    from reports.judging import run_judge

    return run_judge(arguments)


def _cases(arguments: argparse.Namespace) -> tuple[int, str]:
    from reports.judging import run_cases

    return run_cases(arguments)


# --------------------------------------------------------------------------------------------- what a person handed in


def _load(source: str) -> Cell:
    """A shipped cell or a file; whatever is wrong with it is one line."""
    import derive

    return _opened(source, lambda: derive.load(source))


def _opened(source: str, read: Callable[[], Result]) -> Result:
    """What was read from a file that a person named; whatever is wrong with it is one line."""
    try:
        return read()
    except FileNotFoundError as error:
        raise UsageError(str(error) if error.errno is None else f"{source}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{source}: it cannot be read ({error.strerror})") from None
    except ValueError as error:  # CellError, and a path that is none
        raise UsageError(str(error)) from None


def _check_output(output: Path, wanted: str) -> None:
    from reports.files import check_writable

    if output.suffix.lower() not in FORMATS.values():
        raise UsageError(f"{output}: a report is a file whose name ends in {' or '.join(FORMATS.values())}")
    if output.suffix.lower() != FORMATS[wanted]:
        raise UsageError(f"{output}: --format {wanted} goes into a file whose name ends in {FORMATS[wanted]}")
    extra = [output.parent / f"{output.stem}-gradient-norm.svg"] if output.suffix.lower() == ".md" else []
    try:
        for path in (output, *extra):
            check_writable(path)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def _check_drawing(output: Path) -> None:
    from reports.files import check_writable

    if output.suffix.lower() != ".svg":
        raise UsageError(f"{output}: a drawing is a file whose name ends in .svg")
    try:
        check_writable(output)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def _write(contents: dict[Path, str]) -> None:
    from reports.files import write_files

    try:
        write_files(contents)
    except OSError as error:
        raise UsageError(f"the report cannot be written ({error.strerror or error}); nothing was changed") from None


# ------------------------------------------------------------------------------------------------------- the arguments


class _Parser(argparse.ArgumentParser):
    """argparse with one line for an error, and help that may be piped into anything."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        _print(self.format_help())


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any, **options: Any) -> None:
        try:
            _print(f"bptt {version('bptt')}\n")
        except PackageNotFoundError:
            _print("bptt, not installed as a package\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bptt",
        description="Derives, proves and runs backpropagation through time for a recurrent cell, from its equations.",
        epilog=f"Example: bptt report lstm -o lstm.html\n\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    report = _command(
        commands,
        "report",
        _report,
        "derive and prove a cell, check it in numbers, and write a report that can be read",
        "bptt report lstm -o lstm.html\n  bptt report my.cell -o my.md --seed 7\n  bptt report gru --format backward",
    )
    _add_cell(report)
    report.add_argument(
        "-o", "--output", metavar="FILE", help="a .html, .md or .backward file (default: the cell's name, .html)"
    )
    report.add_argument(
        "--format",
        choices=FORMATS,
        help="html, md, or backward: the equations that bptt verify reads, on stdout unless -o names a file",
    )
    report.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the measurements (default: 0)")
    prove = _command(
        commands,
        "prove",
        _prove,
        "prove that the derived recursion is the gradient",
        "bptt prove tanh_rnn\n  bptt prove my.cell --json",
    )
    _add_cell(prove)
    verify = _command(
        commands,
        "verify",
        _verify,
        "verify a derivation of your own, line by line, and name its mistakes",
        "bptt verify my.backward --cell tanh_rnn\n  bptt verify my.backward --cell my.cell --json",
    )
    verify.add_argument("file", metavar="FILE", help="a .backward file: equations such as da[t] = dh[t]*(1 - h[t]**2)")
    verify.add_argument(
        "--cell", required=True, metavar="CELL", help="a shipped cell's name or the path of a .cell file"
    )
    cells = _command(commands, "cells", _cells, "list the shipped cells", "bptt cells\n  bptt cells --json")
    flow = _command(
        commands,
        "flow",
        _flow,
        "measure and draw how gradients vanish or explode with the time lag, beside theory",
        "bptt flow tanh_rnn\n  bptt flow lstm -o lstm.svg --steps 200 --scale 0.5 1 2",
    )
    _add_cell(flow)
    _add_flow(flow)
    judge, cases = _add_oracle(commands)
    for command in (prove, verify, cells, flow, judge, cases):
        command.add_argument("--json", action="store_true", help="print JSON, for a program to read")
    return parser


def _add_oracle(commands: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    from reports.judging import add_cases_options, add_judge_options

    judge = _command(
        commands,
        "judge",
        _judge,
        "judge an implementation of your own, in any language, and say what is wrong with it",
        "bptt judge my_package.rnn:my_bptt --cell lstm\n"
        '  bptt judge --command "./my_rust_bptt" --cell gru\n'
        "  bptt judge cases/",
    )
    add_judge_options(judge)
    cases = _command(
        commands,
        "cases",
        _cases,
        "write cases as files, for programs of any language",
        "bptt cases lstm -o cases/\n  bptt judge cases/",
    )
    _add_cell(cases)
    add_cases_options(cases)
    cases.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the numbers (default: 0)")
    return judge, cases


def _add_flow(flow: argparse.ArgumentParser) -> None:
    flow.add_argument(
        "-o", "--output", metavar="FILE", help="a .svg file (default: the cell's name, -flow.svg; none with --json)"
    )
    flow.add_argument("--steps", type=_count(2, 100_000), default=100, metavar="T", help="time steps (default: 100)")
    flow.add_argument(
        "--size", type=_count(1, 256), default=16, metavar="N", help="entries of each state (default: 16)"
    )
    flow.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the parameters (default: 0)")
    flow.add_argument(
        "--scale",
        type=_radius,
        nargs="+",
        dest="scales",
        metavar="RHO",
        help="spectral radii of the recurrent matrices, up to four (default: 0.8 1 1.25)",
    )


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], tuple[int, str]], summary: str, example: str
) -> argparse.ArgumentParser:
    plural = "s" if "\n" in example else ""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"Example{plural}:\n  {example}\n\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def _add_cell(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "cell", metavar="CELL", help="a shipped cell's name (see bptt cells) or the path of a .cell file"
    )


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 on; found {text!r}")
    return int(text)


def _count(least: int, most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}; found {text!r}")
        return int(text)

    return count


def _radius(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"a spectral radius is a number above 0 and below a million; found {text!r}")
    return value
