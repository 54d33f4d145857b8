"""Known wrong derivations: the catalogue, and every edit of a backward program that it gives.

An edit is found by the shape of the program, not by the cell's name or its gates' names, so it applies to any cell
that has the edited part. The names are those under which the mistakes are known from public bug reports and
questions.

    step    one sum of the backward program is another one               plant(backward)
    loss    dl/dy is another expression                                   LOSS_EDITS
    sum     a parameter's terms are combined in another way over time     SUM_EDITS
    loop    the loop over time is another one                             LOOP_MISTAKES
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

from sympy import Symbol

from derive.adjoint import Backward
from derive.cell import Cell
from derive.mistakes import activation, gates, step
from derive.mistakes.edit import Edit, Edits, Words
from derive.mistakes.loop import LOOP_MISTAKES as LOOPS
from derive.mistakes.loop import LoopMistake
from derive.mistakes.shape import Shape
from derive.mistakes.sums import LOSS_EDITS, SUM_EDITS

__all__ = [
    "CATALOGUE",
    "LOOP_MISTAKES",
    "MISTAKES",
    "Mistake",
    "Planted",
    "Row",
    "applies",
    "kinds",
    "plant",
    "sentence",
]

SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        # carries
        "dc-carry-missing": "a cell gets what its output hands it, dc = dh tanh'(c), without what is carried to it",
        "carry-missing": "a state's gradient is not carried back in time at all",
        "carry-overwrites": "a state gets what is carried to it, and its own part of the loss is lost",
        "carry-not-transposed": "W d where W.T d belongs, on the way to the previous state",
        "carry-before-activation": "W.T dh where W.T (f'(a) dh) belongs",
        "carry-without-matrix": "d, or the diagonal of W times d, where W.T d belongs",
        "dh-partial": "some of the ways back to the previous state are left out",
        # gates
        "forget-skipped": "dc or dc*i carried back where dc*f belongs",
        "forget-uses-new-cell": "the gate of the old state gets d with the new state: dc c[t] for dc c[t-1]",
        "gate-derivative": "a gate's derivative is missing, taken at the gate's value, or another function's",
        "output-gate": "the output gate with c for tanh(c), left out of dc, or tanh'(c) at another value",
        "gates-swapped": "one gate gets what belongs to another",
        "gates-permuted": "whole gates' gradients in another order, such as that of another framework",
        "direct-path": "the direct path of a mixture, dh z, is left out, or has 1 - z or 1 for z",
        "update-sign": "the difference in a mixture's gate is turned round, or one half of it is lost",
        "candidate-factor": "the candidate gets the factor of the old state, or none",
        "reset-variant": "a reset before the product taken for one after it, or the reverse",
        "reset-path": "the reset is left out on the way back, or gets d without the product's matrix",
        # activations
        "activation-previous-state": "1 - h[t-1]^2 for 1 - h[t]^2: the derivative with the state of the wrong time",
        "activation-at-preactivation": "1 - a^2 for 1 - tanh(a)^2, a(1 - a) for s(1 - s)",
        "activation-twice": "the derivative taken at the activation's value, or applied twice",
        "activation-wrong": "the derivative is missing, is the value, or belongs to another function",
        # weights and biases
        "recurrent-off-by-one": "h[t] or h[t-2] where h[t-1] belongs in a weight's gradient",
        "readout": "the readout's weight with h[t-1], transposed, or W e for W.T e",
        "weight-transposed": "the transpose of a weight's gradient",
        "bias": "a bias lacks a term, gets another gate's, or is a mean over the batch",
        # sums, losses and loops
        "first-step-lost": "the term of t = 1 is dropped, or the initial states are taken as 0",
        "last-step-lost": "the term of t = T is dropped",
        "assign-for-accumulate": "= for +=: one term of a sum is all that is left",
        "reduction": "a mean for a sum or the reverse, over time or over the sequences",
        "loss-sign": "dl/dy with the wrong sign",
        "loss-form": "dl/dy of another form",
        "loss-steps": "every step's loss for the last step's, or the reverse",
        "regulariser-left-in": "a multiple of the parameter itself is added",
        "detached-every-k": "the carry is lost at the borders of chunks of k steps",
        "clipped-inside": "what is carried is clipped inside the loop",
        "stale-gradient": "the gradient of a call before was not set to zero",
        "time-forward": "the backward loop runs forward in time",
        # what no report has yet, and a check must see nevertheless
        "activation-commuted": "f'(a) (W.T dh) where W.T (f'(a) dh) belongs: a diagonal moved past a matrix",
        "path-missing": "one of the ways back to a node of the same step is left out",
        "not-transposed": "W d where W.T d belongs, on the way to an input or another node of the step",
        "before-activation": "W.T dv where W.T (f'(a) dv) belongs, on the way to an input or another node of the step",
        "weight-missing": "a term of a weight's gradient is left out",
        "weight-before-activation": "dW = dh x.T where (f'(a) dh) x.T belongs",
        "state-at-wrong-time": "c[t] where c[t-1] belongs, or the reverse, in a factor",
        "sign": "a term with the wrong sign",
        "doubled": "a term counted twice",
        "halved": "a sum counted half",
        "first-step-doubled": "the term of t = 1 is counted twice",
        "last-step-doubled": "the term of t = T is counted twice",
        "carry-doubled": "what is carried counts twice",
    }
)


@dataclass(frozen=True)
class Mistake:
    """One kind of wrong step: a name, a sentence, and every edit of a program that makes it."""

    name: str
    edits: Callable[[Shape], Edits]

    @property
    def sentence(self) -> str:
        """What is done wrong."""
        return SENTENCES[self.name]


@dataclass(frozen=True)
class Planted:
    """A mistake made at one place: the one sum of ``target`` is wrong.

    ``says`` is what should change, found first; ``also`` are the other names that fit. The program may have a node
    more than the right one has, where the wrong sum is made of a product or an operand that the right one does not
    know.
    """

    mistake: str
    where: str
    target: Symbol | str
    says: str
    backward: Backward
    also: tuple[str, ...] = ()


def _both(*makers: Callable[[Shape], Edits]) -> Callable[[Shape], Edits]:
    return lambda shape: chain.from_iterable(maker(shape) for maker in makers)


# From the most specific to the least: an edit that several rows describe has the name of the first.
MISTAKES: tuple[Mistake, ...] = (
    Mistake("dc-carry-missing", gates.dc_carry_missing),
    Mistake("carry-missing", step.carry_missing),
    Mistake("carry-overwrites", step.carry_overwrites),
    Mistake("direct-path", gates.direct_path),
    Mistake("forget-skipped", gates.forget_skipped),
    Mistake("forget-uses-new-cell", gates.forget_uses_new_cell),
    Mistake("update-sign", gates.update_sign),
    Mistake("candidate-factor", gates.candidate_factor),
    Mistake("output-gate", gates.output_gate),
    Mistake("gates-swapped", _both(gates.factors_swapped, step.weights_swapped)),
    Mistake("reset-path", gates.reset_path),
    Mistake("reset-variant", gates.reset_variant),
    Mistake("activation-previous-state", activation.previous_state),
    Mistake("activation-at-preactivation", activation.of_primes(activation.everywhere, *activation.at_preactivation)),
    Mistake("gate-derivative", activation.of_primes(activation.is_gate_like, *activation.wrong_gate)),
    Mistake("activation-twice", activation.of_primes(activation.everywhere, *activation.twice)),
    Mistake("activation-wrong", activation.of_primes(activation.is_plain, *activation.wrong_plain)),
    Mistake("carry-not-transposed", step.of_matrices(step.in_carry, step.turned)),
    Mistake("carry-before-activation", step.of_matrices(step.in_carry, step.before_activation)),
    Mistake("carry-without-matrix", step.of_matrices(step.in_carry, step.without_matrix)),
    Mistake("readout", step.readout),
    Mistake("recurrent-off-by-one", step.recurrent_off_by_one),
    Mistake("weight-transposed", step.weight_transposed),
    Mistake("bias", _both(step.bias_missing, step.other_bias)),
    Mistake("dh-partial", step.dh_partial),
    Mistake("path-missing", step.path_missing),
    Mistake("weight-missing", step.weight_missing),
    Mistake("assign-for-accumulate", step.assigned),
    Mistake("activation-commuted", step.of_matrices(step.anywhere, step.commuted)),
    Mistake("not-transposed", step.of_matrices(step.elsewhere, step.turned)),
    Mistake("before-activation", step.of_matrices(step.not_in_carry, step.before_activation)),
    Mistake("weight-before-activation", step.weight_before_activation),
    Mistake("state-at-wrong-time", activation.state_at_wrong_time),
    Mistake("sign", activation.scaled(-1)),
    Mistake("doubled", activation.scaled(2)),
)

LOOP_MISTAKES: tuple[LoopMistake, ...] = tuple(replace(m, sentence=SENTENCES[m.name]) for m in LOOPS)


def plant(backward: Backward) -> Iterator[Planted]:
    """Every known mistake at every place where it can be made, each edit once, under its most specific name."""
    shape, words = Shape(backward), Words(backward)
    found: dict[object, tuple[Edit, list[str]]] = {}
    for mistake in MISTAKES:
        for edit in mistake.edits(shape):
            if words.changes(edit):
                names = found.setdefault(words.key(edit), (edit, []))[1]
                names += [] if mistake.name in names else [mistake.name]
    for edit, (name, *also) in found.values():
        where = f"d {edit.target}"
        yield Planted(name, where, edit.target, words.says(edit), edit.of(backward), tuple(also))


# ------------------------------------------------------------------------------------------------------- the catalogue


@dataclass(frozen=True)
class Row:
    """One name of the catalogue, and one kind of edits that it has: "step", "loss", "sum" or "loop"."""

    name: str
    sentence: str
    kind: str


def _catalogue() -> Iterator[Row]:
    named = {
        "step": {m.name for m in MISTAKES},
        "loss": {e.mistake for e in LOSS_EDITS},
        "sum": {e.mistake for e in SUM_EDITS},
        "loop": {m.name for m in LOOP_MISTAKES},
    }
    for name, words in SENTENCES.items():
        yield from (Row(name, words, kind) for kind, names in named.items() if name in names)


CATALOGUE: tuple[Row, ...] = tuple(_catalogue())


def sentence(name: str) -> str:
    """What is done wrong; raises KeyError for a name that is not in the catalogue."""
    return SENTENCES[name]


def kinds(name: str) -> tuple[str, ...]:
    """The kinds of edits that a name has."""
    return tuple(row.kind for row in CATALOGUE if row.name == name)


def applies(name: str, cell: Cell) -> bool:
    """Whether a mistake can be made in a cell so that a number changes; raises KeyError for an unknown name."""
    from derive.mistakes.run import applying  # it unrolls cells, and what does that reads this module

    return sentence(name) != "" and name in applying(cell)
