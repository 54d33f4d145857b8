"""``bptt prove``: the derived recursion is the gradient, obligation by obligation."""

from __future__ import annotations

import argparse

from reports.arguments import Command, add_cell, add_json
from reports.console import HOLDS, NOTHING, REFUTED, load_cell

__all__ = ["PROVE"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cell(parser)
    add_json(parser)


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    cell = load_cell(arguments.cell)
    import derive
    from reports.data import as_json, proof_data
    from reports.progress import Progress

    with Progress() as progress:
        progress("the derivation")
        proof = derive.prove(derive.differentiate(cell), report=progress)
    status = HOLDS if proof.holds else REFUTED if proof.refuted else NOTHING
    return status, as_json(proof_data(proof)) if arguments.json else f"{proof}\n"


PROVE = Command(
    "prove",
    "prove that the derived recursion is the gradient",
    ("bptt prove tanh_rnn", "bptt prove my.cell --json"),
    _add_arguments,
    _run,
)
