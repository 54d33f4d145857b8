"""Equations in the cell language that should be a cell's own.

The equations are compared with the cell's by value: the same function of the same inputs, states and parameters,
however it is written; and every product has to conform with all sizes different.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from derive.claims import ClaimError
from reports.checks.arguments import Arguments
from reports.checks.backward import check_backward, verified
from reports.checks.evidence import Evidence
from reports.document import Code, Parts
from reports.prose import joined, shape_math

__all__ = ["check_forward"]


def check_forward(given: Mapping[str, Any]) -> Evidence:
    """``cell`` and ``equations`` for names that the cell assigns.

    >>> check_forward({"cell": "tanh_rnn", "equations": "y[t] = W_hy @ h[t]"}).holds
    True
    >>> check_forward({"cell": "tanh_rnn", "equations": "y[t] = W_hy @ h[t-1]"}).holds
    False
    """
    arguments = Arguments(given)
    cell, equations = arguments.cell(), arguments.text("equations")
    arguments.done()
    try:
        verification = verified(equations, cell)
    except ClaimError as error:
        error.field = "equations"
        raise
    own = {line.text.partition("[")[0].strip() for line in verification.lines}
    if lost := sorted(own - set(cell.equations)):
        wanted = f"equations for {', '.join(cell.equations)}"
        raise ClaimError("the cell has no such equation", field="equations", found=", ".join(lost), expected=wanted)
    found = check_backward({"cell": given["cell"], "lines": equations})
    if not found.holds:
        return found
    read = {name for line in verification.lines for name in re.findall(r"\w+", line.text)}
    sizes: list[Parts] = [(Code(n), " in ", shape_math(s)) for n, s in cell.parameters.items() if n in read]
    more: Parts = (", with ", *joined(sizes, last=" and ")) if sizes else ()
    which = "This is the equation" if len(verification.lines) == 1 else "These are the equations"
    return Evidence(True, found.level, (f"{which} of the cell ", Code(cell.name), *more, "."), found.blocks)
