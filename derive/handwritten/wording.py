"""The right line in the author's own words, and the derivation as a .backward file.

A derivative that the file names stands by that name; one that it does not name is written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sympy import Add, Expr, Integer, Mul, Symbol

from derive.adjoint import Backward
from derive.cell import Cell
from derive.derivation import Derivation
from derive.handwritten.bench import Understanding
from derive.handwritten.candidates import symbol_named
from derive.handwritten.edits import Named
from derive.handwritten.lines import Line
from derive.handwritten.times import EVERY, LAST, When
from derive.jacobian import step_jacobian
from derive.notation import at, entry_sum, outer, time_of, time_sum
from derive.present import Presented, shifted
from derive.words import Words, plain
from derive.write import write

__all__ = ["Wording", "backward_file", "expected_text", "jacobian_text", "said", "text_of"]


class Wording(Presented):
    """A backward program in the words of a file.

    ``names`` maps a node's name to the derivative's name in the file, ``carries`` a state to the name and the shift of
    what comes back to it from the next step.
    """

    def __init__(
        self, backward: Backward, names: Mapping[str, str], carries: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        super().__init__(backward)
        self.names, self.carries = dict(names), dict(carries or {})

    def d(self, symbol: Symbol) -> Expr:
        """The derivative by a node: its name in the file, or what it equals."""
        name, shift = time_of(symbol)
        if name in self.names:
            return at(self.names[name], shift or 0)
        if name in self.cell.outputs or (name in self.cell.states and self.comes_round(name)):
            return at(self.d_name(name), shift or 0)  # it has a name even where the file does not use it
        return self.equation(name) if name in self.cell.states else self.sum_of(symbol)

    def comes_round(self, state: str) -> bool:
        """Whether a state's derivative, written out in the file's names, would need that of a state again."""
        waiting, seen = [at(state, -1)], set()
        while waiting:
            for flow in self.backward.flows[waiting.pop()]:
                name = time_of(flow.source)[0]
                if name in self.names or flow.source in seen:
                    continue
                if name in self.cell.states:
                    return True
                seen.add(flow.source)
                waiting.append(flow.source)
        return False

    def readable(self, e: Expr) -> Expr:
        """A factor without names that only the derivation knows."""
        out = super().readable(e)
        known = {at(name): value for name, value in self.preactivations.items()}
        return out.xreplace(known) if known.keys() & out.free_symbols else out

    def later(self, name: str) -> list[Expr]:
        """What comes back to a state from the next step."""
        if name in self.carries:
            return [at(*self.carries[name])]
        return [shifted(e, 1) for e in self.terms(at(name, -1))]

    def equation(self, name: str) -> Expr:
        """d of a node at t, what comes back from t + 1 included."""
        here = self.terms(at(name)) if at(name) in self.backward.flows else []
        return Add(*here, *(self.later(name) if name in self.cell.states else []))


def text_of(e: Expr) -> str:
    """An equation's right side in the language of .backward files."""
    if isinstance(e, time_sum):
        return f"sum({text_of(e.args[0])})"
    if isinstance(e, entry_sum):
        return " + ".join(f"dot({write(term)}, 1)" for term in Add.make_args(e.args[0]))
    if any(isinstance(part, outer) for part in Add.make_args(e)):
        return " + ".join(_outer_text(part) for part in Add.make_args(e))
    return write(e)


def _outer_text(e: Expr) -> str:
    if isinstance(e, outer):
        return f"outer({write(e.args[0])}, {write(e.args[1])})"
    number, rest = e.as_coeff_Mul()
    return f"{write(number)}*{_outer_text(rest)}"


# ------------------------------------------------------------------------------------------------------ Jacobians


def jacobian_text(cell: Cell, backward: Backward, of: str, by: str) -> str:
    """The derivative of a state by a state one step earlier, as a product of diagonals and matrices."""
    wording = Wording(backward, {})
    terms = [t for t in _word_texts(step_jacobian(backward.program)[of][by], wording) if t]
    return " + ".join(terms) or "0"


def _word_texts(words: Words, wording: Wording) -> Iterator[str]:
    for letters, coefficient in words.items():
        for part in Add.make_args(coefficient):
            yield _word_text(letters, part, wording)


def _word_text(letters: tuple[tuple[str, bool], ...], part: Expr, wording: Wording) -> str:
    slots: dict[int | None, Expr] = {}
    for factor in Mul.make_args(part):
        found = {plain(s)[1] for s in factor.free_symbols}
        slot = next((s for s in found if s is not None), None)
        bare = factor.xreplace({s: plain(s)[0] for s in factor.free_symbols})
        slots[slot] = slots.get(slot, Integer(1)) * bare
    pieces = []
    for k in range(len(letters), -1, -1):
        if k in slots and slots[k] != 1:
            pieces.append(f"diag({write(wording.readable(slots[k]))})")
        if k:
            name, transposed = letters[k - 1]
            pieces.append(f"{name}{'.T' if transposed else ''}")
    scale = slots.get(None, Integer(1))
    front = "" if scale == 1 else f"{write(scale)}*"
    return front + " @ ".join(pieces) if pieces else f"{front}diag(1)"


# -------------------------------------------------------------------------------------------------------- right lines


def expected_text(wording: Wording, line: Line, how: Understanding, cell: Cell) -> str | None:
    """What a line should be, in the file's own names; None where there is no short way to say it."""
    right = _right_side(wording, line, how, cell)
    return None if right is None else f"{line.text.partition('=')[0].strip()} = {right}"


def _right_side(wording: Wording, line: Line, how: Understanding, cell: Cell) -> str | None:
    target = line.target
    match target.role:
        case "gradient":
            return text_of(wording.gradient(target.name))
        case "forward":
            return cell.trees[target.name].text.partition("=")[2].strip()
        case "softmax":
            return f"softmax({how.loss.on}[t])"
        case "initial":
            first = text_of(Add(*wording.later(target.name)))
            return first.replace("[t+1]", "[1]").replace("[t]", "[0]")
        case "jacobian":
            return _jacobian_right(wording, line, cell)
    found = _goal(target.role, target.name, how)
    if found is None:
        return None
    right = _of_meaning(wording, line, found, how)
    if right is None or target.when is None or target.when.anchor == EVERY:
        return right if right is None else moved(right, -line.offset)
    beyond = target.when == When(LAST, 0) and "[t+1]" in right
    return None if beyond else at_step(right, target.when)


def _of_meaning(wording: Wording, line: Line, found: tuple[str, str], how: Understanding) -> str | None:
    """The right side of a line for step t whose left side means a known quantity."""
    role, name = found
    by = getattr(how.meanings.get(line.target.name), "by", "")
    if role == "derivative":
        last = line.target.when == When(LAST, 0)
        return _derivative_right(wording, name, how, last=last)
    if role in ("gradient", "accumulated", "collected"):
        term = text_of(wording.gradient(name)).removeprefix("sum(").removesuffix(")")
        index = {"accumulated": "[t+1] + ", "collected": "[t-1] + "}.get(role)
        return f"{line.target.name}{index}{term}" if index else term
    if role in ("carried", "handed"):
        right = text_of(Add(*Wording(wording.backward, wording.names).later(name)))
        return right if role == "carried" else moved(right, -1)
    if role == "path":
        return text_of(wording.terms(symbol_named(name))[int(by or 0)])
    return jacobian_text(wording.cell, wording.backward, name, by) if role == "jacobian" else None


def _goal(role: str, name: str, how: Understanding) -> tuple[str, str] | None:
    if role == "derivative":
        return role, how.conventions.get(name, name)
    meaning = how.meanings.get(name) if role == "own" else None
    return (meaning.role, meaning.name) if meaning is not None else None


def _derivative_right(wording: Wording, name: str, how: Understanding, *, last: bool = False) -> str:
    """The right side of a line for d of a node; what the loss gives comes first, and nothing comes back at T."""
    loss, flows = how.loss, wording.equation(name)
    if last:
        flows = Add(*wording.terms(at(name)))
    given = ""
    if loss.kind != "any" and name == loss.on:
        given = f"{'p' if loss.kind.startswith('softmax') else f'{name}'}[t] - target[t]"
        given = given if loss.scale == 1 else f"{loss.scale}*({given})"
        given = f"({given})/T" if loss.per_step else given
    elif name in (wording.cell.outputs or wording.cell.states) and loss.kind == "any":
        given = f"dl_d{name}[t]"
    if not given:
        return text_of(flows)
    return given if flows == 0 else f"{given} + {text_of(flows)}"


_INDEX = re.compile(r"\[t([+-]\d+)?\]")


def moved(text: str, by: int) -> str:
    """A text with every index moved."""

    def index(found: re.Match[str]) -> str:
        shift = int(found[1] or 0) + by
        return f"[t{shift:+d}]" if shift else "[t]"

    return _INDEX.sub(index, text)


def at_step(text: str, when: When) -> str:
    """A text for step t, at one step."""
    return _INDEX.sub(lambda found: f"[{when.moved(int(found[1] or 0))}]", text)


def said(named: Named, line: Line, wording: Wording) -> str:
    """What should change, in the file's own names and at the times of its line."""
    names, bare = wording.names, Presented(wording.backward)
    out = moved(named.says, named.ahead)
    for node, own in sorted(names.items(), key=lambda pair: -len(pair[0])):
        out = re.sub(rf"\b(dL_)?d{re.escape(node)}\b(?=\[)", own, out)
    for node in bare.preactivations:
        if node not in names:
            inside = text_of(wording.sum_of(at(node)))
            pattern = rf"\b(?:dL_)?d{re.escape(node)}\[t([+-]\d+)?\]"
            out = re.sub(pattern, lambda m, e=inside: f"({moved(e, int(m[1] or 0))})", out)  # type: ignore[misc]
    when = line.target.when
    if line.target.role == "initial":
        return at_step(out, When("", 0))
    if when is None or when.anchor == EVERY:
        return moved(out, -line.offset)
    return at_step(out, when)


def _jacobian_right(wording: Wording, line: Line, cell: Cell) -> str | None:
    target = line.target
    if target.when is None or target.by_when is None or target.name not in cell.states or target.by not in cell.states:
        return None
    if target.when.anchor == target.by_when.anchor:
        if target.when.shift - target.by_when.shift != 1:
            return None
        text = jacobian_text(cell, wording.backward, target.name, target.by)
        return moved(text, target.when.shift)
    if len(cell.states) > 1:
        return None
    return f"prod(jacobian({target.name}[k], {target.name}[k-1]), k, T, t+1)"


# ----------------------------------------------------------------------------------------------------------- the file


def backward_file(derivation: Derivation) -> str:
    """A derivation as a .backward file, which :func:`derive.verify` reads.

    >>> import derive
    >>> print(backward_file(derive.differentiate(derive.load("tanh_rnn"))).splitlines()[1])
    dh[t] = W_hh.T @ da_h[t+1] + W_hy.T @ dy[t]
    """
    cell = derivation.cell
    lines = [f"# {cell.name}.backward -- {cell.title or cell.name}", *backward_lines(derivation.backward)]
    return "\n".join(lines) + "\n"


def backward_lines(backward: Backward) -> list[str]:
    """The equations of a backward program, one a line."""
    cell = backward.program.cell
    bare = Presented(backward)
    names = {name: bare.d_name(name) for name in (*bare.named, *cell.inputs)}
    wording = Wording(backward, names)
    lines = []
    for name in bare.named:
        if name in cell.outputs:
            continue
        right = wording.equation(name)
        if name in cell.states and not cell.outputs:
            right += at(f"dl_d{name}")
        lines.append(f"{names[name]}[t] = {text_of(right)}")
    lines += [f"{bare.d_name(name)} = {text_of(wording.gradient(name))}" for name in cell.parameters]
    lines += [f"{bare.d_name(name)}[t] = {text_of(wording.sum_of(at(name)))}" for name in cell.inputs]
    for name in cell.states:
        first = text_of(Add(*wording.later(name))).replace("[t+1]", "[1]").replace("[t]", "[0]")
        lines.append(f"{bare.d_name(name)}0 = {first}")
    return lines
