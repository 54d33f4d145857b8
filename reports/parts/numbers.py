"""The cross-check of every gradient: one row a tensor, one column a method."""

from __future__ import annotations

from typing import Any

from derive.cell import Cell
from derive.latex import name_latex
from reports.document import Block, Mark, Math, Paragraph, Parts, Section, Table
from reports.measure import BATCH, ENTRIES, STEPS, Measured, is_exact
from reports.prose import prose, scientific

__all__ = ["check_summary", "not_done", "numbers_section", "worst"]

_METHODS = {
    "unfused program": "the derived equations one by one, without the engine's rewriting",
    "forward mode": "tangents carried forward in time (real-time recurrent learning): another way to the same number",
    "complex step": "the imaginary part of the loss after an imaginary step: no cancellation, no derivation",
    "Richardson": "extrapolated central differences of the loss: needs nothing, and has the fewest digits",
}


def worst(check: Any) -> dict[str, Any]:
    """The row with the largest share of its limit, by method."""
    return {m: max((r for r in check.rows if r.method == m), key=lambda r: r.error / r.limit) for m in check.methods}


def check_summary(check: Any) -> Mark:
    """The verdict of the whole cross-check."""
    wrong = [row for row in check.rows if not row.ok]
    if any(is_exact(row) for row in wrong):
        return Mark("fails", f"{len(wrong)} of {len(check.rows)} differ")
    return Mark("open", "agrees, difference quotients apart") if wrong else Mark("holds", "agrees")


def not_done(measured: Measured) -> Mark:
    """The verdict where there is no cross-check."""
    return Mark("fails", "fails") if measured.ok is False else Mark("open", "not done")


def numbers_section(cell: Cell, measured: Measured, seed: int) -> Section:
    """The cross-check: one row a tensor, one column a method."""
    title, anchor = "The numbers", "numbers"
    if measured.check is None:
        return Section(title, anchor, (Paragraph((not_done(measured), f": {measured.reason}."), "note"),))
    check = measured.check
    lead: Parts = (
        "The engine that runs at full size is made from the equations above. Here it computes every gradient in float64"
        " with ",
        *prose(f"T = {STEPS}, B = {BATCH}"),
        f" and random parameters, inputs and initial states (seed {seed}). The loss is a random linear functional of"
        " every output and every state at every step. The same gradients by other ways:",
    )
    apart = "Difference quotients are no judge where the loss bends within their step, as beside a pole or a kink."
    notes = (Paragraph((apart,), "note"),) if not check.ok and measured.ok is None else ()
    blocks: tuple[Block, ...] = (Paragraph(lead), _methods(check), _table(check, cell), *notes)
    return Section(title, anchor, blocks)


def _methods(check: Any) -> Table:
    found = worst(check)
    rows = tuple(
        (
            (method,),
            (_METHODS.get(method, ""),),
            (scientific(found[method].error),),
            (scientific(found[method].limit),),
            (_method_mark([r for r in check.rows if r.method == method]),),
        )
        for method in check.methods
    )
    return Table((("method",), ("what it is",), ("worst error",), ("limit",), ("verdict",)), rows, "llrrl")


def _method_mark(rows: list[Any]) -> Mark:
    if all(row.ok for row in rows):
        return Mark("holds", "agrees")
    return Mark("fails", "differs") if is_exact(rows[0]) else Mark("open", "no judge here")


def _table(check: Any, cell: Cell) -> Table:
    of = {(row.parameter, row.method): row for row in check.rows}
    names = list(dict.fromkeys(row.parameter for row in check.rows))
    rows = tuple(((_tensor(n, cell),), *(_error(of.get((n, m))) for m in check.methods)) for n in names)
    head: tuple[Parts, ...] = (("gradient by",), *((m,) for m in check.methods))
    caption: Parts = (
        "The largest difference between the engine and each method, relative to the size of the terms that the"
        f" gradient is a sum of; over all entries for the {check.methods[0]}, over {ENTRIES} entries of each"
        " tensor for the others.",
    )
    return Table(head, rows, "l" + "r" * len(check.methods), caption)


def _tensor(name: str, cell: Cell) -> Math:
    """A parameter; an input at every step; an initial state, which the table calls by its name and 0."""
    if name in cell.parameters:
        return Math(name_latex(name))
    return Math(name_latex(name, "t") if name in cell.inputs else name_latex(name[:-1], "0"))


def _error(row: Any) -> Parts:
    if row is None:
        return ("",)
    if row.ok:
        return (scientific(row.error),)
    return Mark("fails", "differs") if is_exact(row) else Mark("open", "differs"), " ", scientific(row.error)
