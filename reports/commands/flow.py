"""``bptt flow``: how gradients vanish or explode, measured and drawn beside theory."""

from __future__ import annotations

import argparse

from reports.arguments import Command, above_zero, add_cell, add_json, add_seed, whole
from reports.console import HOLDS, NOTHING, UsageError, load_cell
from reports.outputs import check_apart, checked_output, write_all

__all__ = ["FLOW"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cell(parser)
    add_json(parser)
    said = "a .svg file (default: the cell's name, -flow.svg; none with --json)"
    parser.add_argument("-o", "--output", metavar="FILE", help=said)
    parser.add_argument("--steps", type=whole(2, 100_000), default=100, metavar="T", help="time steps (default: 100)")
    said = "entries of each state (default: 16)"
    parser.add_argument("--size", type=whole(1, 256), default=16, metavar="N", help=said)
    add_seed(parser, "the parameters")
    parser.add_argument(
        "--scale",
        type=above_zero("a spectral radius"),
        nargs="+",
        dest="scales",
        metavar="RHO",
        help="spectral radii of the recurrent matrices, up to four (default: 0.8 1 1.25)",
    )


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    """The table, or JSON, on stdout; the drawing in a file, which --json leaves out unless -o names one."""
    cell = load_cell(arguments.cell)
    named = arguments.output or (None if arguments.json else f"{cell.name}-flow.svg")
    output = checked_output(named, (".svg",), "a drawing") if named else None
    if output:
        check_apart(arguments.cell, output)
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

            write_all({output: standalone(flow_figure(experiment))})
    status = HOLDS if experiment.shown else NOTHING
    if arguments.json:
        return status, as_json(flow_data(experiment))
    return status, f"{flow_table(experiment)}\n{output}: norms and singular values by time lag\n"


FLOW = Command(
    "flow",
    "measure and draw how gradients vanish or explode with the time lag, beside theory",
    ("bptt flow tanh_rnn", "bptt flow lstm -o lstm.svg --steps 200 --scale 0.5 1 2"),
    _add_arguments,
    _run,
)
