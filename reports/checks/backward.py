"""Lines of the hand-written language, each proven or refuted for a cell.

A statement about gradients is written as its author would (``dh[t] = W_hh.T @ da[t+1] + ...``); what decides it is
:func:`derive.verify`, which knows the derivation only.  The reading holds if no line is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import derive
from derive.claims import ClaimError
from derive.errors import CellError
from derive.verify import Verification, VerifiedLine
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence, weakest
from reports.document import Block, Code, CodeLine, CodeLines, Paragraph, Parts, Table
from reports.prose import joined, prose

__all__ = ["check_backward", "counterexample_table", "verified", "verified_lines"]

_SIGNS = {"right": "holds", "given": "holds", "wrong": "fails", "not decided": "open", "definition": ""}
_LOSSES = ("every", "last")


def check_backward(given: Mapping[str, Any]) -> Evidence:
    """``cell``, ``lines``, and ``loss``: "every" step's, or, which has to be said, of the "last" alone.

    With ``complete`` the lines are said to give the gradient of every parameter.

    >>> check_backward({"cell": "tanh_rnn", "lines": "dW_hy = sum(outer(dy[t], h[t]))"}).level
    'proven, every size'
    """
    arguments = Arguments(given)
    cell, lines = arguments.cell(), arguments.text("lines")
    loss = arguments.choice("loss", _LOSSES, None)
    complete = arguments.flag("complete")
    arguments.done()
    verification = verified(lines, cell)
    if loss and ("last step" in verification.loss) != (loss == "last"):
        wanted = "lines that say so, such as dy[T] = dl_dy[T]" if loss == "last" else "lines about every step's loss"
        raise ClaimError("the lines speak of another loss", field="loss", found=verification.loss, expected=wanted)
    if not verification.wrong and not any(line.level or line.status == "not decided" for line in verification.lines):
        wanted = "a line about a derivative, a Jacobian or a value of the cell"
        raise ClaimError("these lines only define names, and claim nothing", field="lines", expected=wanted)
    if loss is None and "last step" in verification.loss:
        wanted = 'loss = "last", or lines that hold with a loss at every step'
        raise ClaimError("the lines hold for a loss of the last step alone", field="loss", expected=wanted)
    _check_used(verification)
    if complete and verification.missing and verification.holds:
        return _incomplete(verification)
    return _evidence(verification)


def _check_used(verification: Verification) -> None:
    """Refuse a name that is introduced and read nowhere: whatever it is said to be, nothing would be judged."""
    for line in verification.lines:
        name = re.split(r"[\[=\s]", line.text.strip(), maxsplit=1)[0]
        others = " ".join(other.text.partition("=")[2] for other in verification.lines)
        if _only_names(line) and not re.search(rf"\b{re.escape(name)}\b", others):
            wanted = "a line that reads it, or a name that says what it is, such as dh[t]"
            raise ClaimError(
                "nothing reads this name, so nothing is said about it", field="lines", found=name, expected=wanted
            )


def _only_names(line: VerifiedLine) -> bool:
    """Whether a line introduces a name of its author's own, for which there is no truth."""
    return line.status == "definition" and not line.level


def _incomplete(verification: Verification) -> Evidence:
    lost: list[Parts] = [(Code(name),) for name in verification.missing]
    said: Parts = ("No line gives ", *joined(lost, last=" and "), ", although the cell has such parameters.")
    return Evidence(False, "proven, every size", said, (verified_lines(verification),))


def verified(lines: str, cell: derive.Cell) -> Verification:
    """The verification of some lines; raises :class:`ClaimError` for what cannot be read."""
    try:
        return derive.verify(f"{lines.strip()}\n", cell)
    except CellError as error:
        raise ClaimError(str(error), field="lines") from None


def _evidence(verification: Verification) -> Evidence:
    blocks: list[Block] = [verified_lines(verification)]
    if verification.wrong:
        for line in verification.wrong:
            blocks += _wrong(line)
        return Evidence(False, _level(verification), _refuted(verification), tuple(blocks))
    if not verification.decided:
        return Evidence(None, "not decided", ("Neither a proof nor a counterexample was found.",), tuple(blocks))
    if verification.ran is False:
        said = "No line is wrong by itself, but run together they do not give the unrolled network's gradients."
        return Evidence(False, "proven, at a size", (said,), tuple(blocks))
    return Evidence(True, _level(verification), _proven(verification), tuple(blocks))


def _level(verification: Verification) -> str:
    """How far the lines were shown; a counterexample is a proof at its size."""
    if verification.wrong:
        return "proven, at a size"
    levels = [line.level for line in verification.lines if line.level]
    return weakest("proven, every size" if level == "proven, every size" else "proven, at a size" for level in levels)


def _proven(verification: Verification) -> Parts:
    """How far, under which loss, and that the whole was run."""
    levels = {line.level.removeprefix("proven, ") for line in verification.lines if line.level}
    small = sorted(levels - {"every size"})
    how = f"for every size, or {', '.join(small)}" if small and len(levels) > 1 else ""
    how = how or ", ".join(small) or "for every size"
    alone = len(verification.lines) == 1
    ran = f" Run as {'it stands' if alone else 'they stand'} at T = 3, {'it gives' if alone else 'they give'} the"
    ran = f"{ran} unrolled network's gradients." if verification.ran else ""
    names = any(_only_names(line) for line in verification.lines)
    which = "Every line but those that only introduce a name is" if names else "Every line is"
    said = f"{'The line is' if alone else which} proven {how}, under {verification.loss}.{ran}"
    return prose(said, verification.cell.parameters)


def _refuted(verification: Verification) -> Parts:
    line = verification.wrong[0]
    which = "It is wrong" if len(verification.lines) == 1 else f"Line {line.number} is wrong"
    if line.says:
        return prose(f"{which}: {line.says}.", verification.cell.parameters)
    if line.note:
        return prose(f"{which}: {line.note}.", verification.cell.parameters)
    return (f"{which}: a network in which its two sides differ is below.",)


def verified_lines(verification: Verification) -> CodeLines:
    """The lines with their verdicts."""
    shown = []
    for line in verification.lines:
        note = "" if line.status == "definition" else line.verdict.partition("; shapes")[0]
        shown.append(CodeLine(line.number, line.text, _SIGNS[line.status], prose(note, verification.cell.parameters)))
    return CodeLines(tuple(shown))


def _wrong(line: VerifiedLine) -> list[Block]:
    blocks: list[Block] = []
    if line.expected:
        blocks.append(Paragraph(("It should be ", Code(line.expected), ".")))
    if line.counterexample:
        blocks.append(counterexample_table(line.counterexample))
    return blocks


def counterexample_table(example: Any) -> Table:
    """The smallest network on which a line's two sides differ: its sizes, its numbers, and both sides."""
    sizes = ", ".join(f"{letter} = {size}" for letter, size in {"T": example.steps, **example.sizes}.items())
    point = ", ".join(f"{name} = {value}" for name, value in example.point.items())
    rows: tuple[tuple[Parts, ...], ...] = (
        (("sizes",), prose(sizes)),
        (("entries",), (Code(point), ", all others 0") if point else ("all 0",)),
        (("as printed",), (Code(f"{example.entry} = {example.yours}"),)),
        (("true",), (Code(f"{example.entry} = {example.right}"),)),
    )
    return Table((("smallest counterexample",), ("",)), rows, "ll")
