"""Words that can be measured: a quantity's numbers, set against what a statement says of them.

A reading names a ``quantity`` (:data:`reports.measurements.registry.QUANTITIES`), its parameters, and a ``relation``
of its numbers, or a list of them, all of which have to hold.  A relation that could be decided otherwise on another
machine is not decided at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from derive.claims import ClaimError
from numeric.fit_error import FitError
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.document import Block, Code, Fold, Inline, Mark, Parts, Quantity, Table
from reports.measurements.measurement import Measurement
from reports.measurements.registry import QUANTITIES, find_quantity
from reports.measurements.relation import Relation, Side, decide, read_relation

__all__ = ["check_measured"]

RELATIONS = 8


def check_measured(given: Mapping[str, Any]) -> Evidence:
    """Measure, and decide.

    >>> tape = {"quantity": "tape", "cell": "tanh_rnn", "steps": 10, "size": 5, "inputs_size": 7}
    >>> check_measured(tape | {"relation": "states < inputs"}).holds
    True
    >>> check_measured(tape | {"relation": "states > inputs"}).holds
    False
    """
    own = {key: value for key, value in given.items() if key not in ("quantity", "relation")}
    quantity = Arguments(given).text("quantity")
    measure = find_quantity(quantity)
    relations = [read_relation(text) for text in _relations(given)]
    try:
        found = _measurement(measure, json.dumps(_plain(own), sort_keys=True))
    except ClaimError:
        raise
    except (ValueError, ArithmeticError, FitError) as error:  # a network that is not finite, or has no fixed point
        return Evidence(None, "not decided", (f"It cannot be measured: {error}.",))
    decided = [decide(relation, found) for relation in relations]
    holds = False if False in decided else None if None in decided else True
    level = "not decided" if holds is None else "measured"
    return Evidence(holds, level, _said(relations, decided, found), _blocks(quantity, relations, decided, found))


def _relations(given: Mapping[str, Any]) -> tuple[str, ...]:
    arguments = Arguments(given)
    found = given.get("relation")
    texts = (arguments.text("relation"),) if found is None or isinstance(found, str) else arguments.words("relation")
    if not 1 <= len(texts) <= RELATIONS:
        raise ClaimError("how many relations", field="relation", found=len(texts), expected=f"1 to {RELATIONS}")
    return texts


@lru_cache(maxsize=128)
def _measurement(measure: Callable[[Arguments], Measurement], arguments: str) -> Measurement:
    """Several readings speak of one measurement."""
    return measure(Arguments(json.loads(arguments)))


def _plain(value: Any) -> Any:
    """A claim's arguments are frozen; JSON's are not."""
    if isinstance(value, Mapping):
        return {key: _plain(of) for key, of in value.items()}
    return [_plain(of) for of in value] if isinstance(value, list | tuple) else value


def _said(relations: list[Relation], decided: list[bool | None], found: Measurement) -> Parts:
    """The relation that decides, with its numbers: the first that fails, else is not decided, else the first."""
    at = next((decided.index(wanted) for wanted in (False, None) if wanted in decided), 0)
    relation, holds = relations[at], decided[at]
    begin = "Too near to be decided by measuring: " if holds is None else "Measured: "
    words = {"<": "less than", "<=": "at most", ">": "more than", ">=": "at least", "==": "equal to"}[relation.sign]
    which = f", to be {words} " if holds is None else f", which is {'' if holds else 'not '}{words} "
    rest = " The other relations below hold too." if holds and len(relations) > 1 else ""
    return (begin, *_side(relation.left, found), which, *_side(relation.right, found), f".{rest}")


def _side(side: Side, found: Measurement) -> Parts:
    """A side in words, with its number."""
    if not side.name:
        return (_plain_number(side.factor),)
    number = found.numbers[side.name]
    times: Parts = () if side.factor == 1 else (f"{side.factor:g} times ",)
    return (*times, *number.says, ": ", number.quantity)


def _blocks(
    quantity: str, relations: list[Relation], decided: list[bool | None], found: Measurement
) -> tuple[Block, ...]:
    """What the statement needs beside what was measured; everything else that was measured is folded away."""
    rows = tuple(
        ((Code(r.text),), _value(r.left, found), _value(r.right, found), (_mark(holds),))
        for r, holds in zip(relations, decided, strict=True)
    )
    head: tuple[Parts, ...] = (("what the statement needs",), ("measured",), ("against",), ("verdict",))
    return Table(head, rows, "lrrl", (f"{QUANTITIES[quantity][1]}: ", *found.setting)), Fold(
        "Everything that was measured", (found.table, *found.blocks)
    )


def _value(side: Side, found: Measurement) -> Parts:
    """What a side comes to."""
    if not side.name:
        return (_plain_number(side.factor),)
    quantity = found.numbers[side.name].quantity
    return (replace(quantity, value=side.factor * quantity.value),)


def _plain_number(value: float) -> Inline:
    return Quantity(value, 1.0) if 0 < abs(value) < 1e-3 else f"{value:,g}"


def _mark(holds: bool | None) -> Inline:
    if holds is None:
        return Mark("open", "too near to decide")
    return Mark("holds", "holds") if holds else Mark("fails", "does not hold")
