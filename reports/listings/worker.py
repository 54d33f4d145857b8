"""The process in which listings run: a name in, rows out, a line of JSON each.

    python -m reports.listings.worker

A request names a harness, a form and a group of this package's own; nothing that comes in is run.  What a listing
prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from reports.listings.rows import Group, row_data
from reports.listings.source import HARNESSES, shipped

__all__ = ["answer", "groups", "main"]


def groups(harness: str) -> tuple[Group, ...]:
    """The questions that a harness asks; raises ValueError for a name that is none."""
    if harness not in HARNESSES:
        raise ValueError(f"there is no harness {harness!r}; expected one of {', '.join(HARNESSES)}")
    found: tuple[Group, ...] = import_module(f"reports.listings.{harness}").GROUPS
    return found


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of one group of one harness."""
    source = shipped(request["harness"], request["form"])
    group = next(g for g in groups(request["harness"]) if g.name == request["group"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"rows": [row_data(row) for row in group.rows(source)]}


def main() -> int:
    """Say that PyTorch is there, then answer every line."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    _say(answers, {"ready": torch.__version__})
    for line in sys.stdin.buffer:
        _say(answers, answer(json.loads(line)))
    return 0


def _say(answers: Any, data: Any) -> None:
    answers.write(json.dumps(data).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
