"""``bptt cells``: the shipped cells."""

from __future__ import annotations

import argparse

from reports.arguments import Command, add_json
from reports.console import HOLDS

__all__ = ["CELLS"]


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    import derive
    from reports.data import as_json, cell_data

    found = [derive.load(name) for name in derive.cells()]
    if arguments.json:
        return HOLDS, as_json([cell_data(cell) for cell in found])
    width = max(len(cell.name) for cell in found)
    return HOLDS, "".join(f"{cell.name:{width}}  {cell.title}\n" for cell in found)


CELLS = Command("cells", "list the shipped cells", ("bptt cells", "bptt cells --json"), add_json, _run)
