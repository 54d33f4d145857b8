"""The proof: every obligation, how it is discharged, and how many planted mistakes the same checks reject."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from derive.derivation import Derivation, differentiate
from derive.discharge import Checks
from derive.hypotheses import Hypothesis
from derive.obligations import Obligation, Score
from derive.write import write

__all__ = ["STAGES", "TRUSTED_BASE", "Obligation", "Proof", "Score", "Stage", "discharge", "prove"]

TRUSTED_BASE = (
    "SymPy's scalar diff and its arithmetic of rational numbers",
    "the derivative rules of the language's functions, each compared to SymPy's",
    "the meaning of a generic index: SymPy arithmetic on symbols is pointwise arithmetic on vectors",
    "the adjoint rule <W v, d> = <v, W.T d>, and dW = d v.T",
    "the chain rule",
    "the zero test: a polynomial over the rationals is zero when it has no terms (python-flint)",
    "python-flint's ball arithmetic, for counterexamples only",
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Proof:
    """What was shown about a derivation."""

    derivation: Derivation
    obligations: tuple[Obligation, ...]
    score: Score
    hypotheses: tuple[Hypothesis, ...]
    trusted_base: tuple[str, ...] = TRUSTED_BASE

    @property
    def holds(self) -> bool:
        """Whether everything needed was shown, nothing was refuted and no planted mistake passed."""
        shown = all(o.holds is not False and (o.holds or not o.needed) for o in self.obligations)
        return shown and self.score.planted > 0 and not self.score.missed

    @property
    def refuted(self) -> bool:
        """Whether something was shown to be wrong."""
        return any(o.holds is False for o in self.obligations) or bool(self.score.missed)

    def __str__(self) -> str:
        lines = [
            f"{self.derivation.cell.name}: {'proven' if self.holds else 'refuted' if self.refuted else 'not proven'}"
        ]
        lines += [f"  {o}" for o in self.obligations]
        lines += [f"  {self.score}" + (f"; missed: {', '.join(self.score.missed)}" if self.score.missed else "")]
        lines += [f"  hypothesis: {write(h.expression)} {h.relation} ({h.why}, line {h.line})" for h in self.hypotheses]
        lines += ["  trusted:"] + [f"    {line}" for line in self.trusted_base]
        return "\n".join(lines)

    def __repr__(self) -> str:
        done = sum(o.holds is True for o in self.obligations)
        verdict = "holds" if self.holds else "refuted" if self.refuted else "not proven"
        name, count = self.derivation.cell.name, len(self.obligations)
        return f"<Proof of {name}: {verdict}, {done} of {count} obligations, {self.score}>"

    def _repr_latex_(self) -> str:
        """The obligations and their verdicts as one array."""
        from derive.notebook import proof_latex

        return f"$${proof_latex(self)}$$"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of obligations."""
        from derive.notebook import proof_html

        return proof_html(self)


def prove(derivation: Derivation, *, report: Report = lambda stage: None) -> Proof:
    """Discharge every obligation of a derivation and plant mistakes against the checks.

    ``report`` is told each stage as it begins.  A derivation of a :class:`Cell` may be given as the cell itself.

    >>> import derive
    >>> proof = prove(derive.differentiate(derive.load("tanh_rnn")))
    >>> proof.holds, proof.score.missed
    (True, ())
    """
    if not isinstance(derivation, Derivation):
        derivation = differentiate(derivation)
    work = Checks(derivation)
    obligations = tuple(_discharged(work, STAGES, report))
    report("planted mistakes")
    return Proof(derivation, obligations, work.score(), derivation.cell.hypotheses)


@dataclass(frozen=True)
class Stage:
    """A part of the proof: what it is called, how the names of its obligations begin, and the check that makes them."""

    title: str
    begins: tuple[str, ...]
    make: Callable[[Checks], Iterable[Obligation]]


STAGES = (
    Stage("the program of a step", ("program/",), Checks.program_obligations),
    Stage("one step, every size", ("P3/",), Checks.every_size),
    Stage("one step, at a size", ("P2/",), Checks.at_a_size),
    Stage("unrolled networks", ("P1/",), Checks.unrolled),
    Stage(
        "what is built on the recursion",
        ("jacobian-product", "immediate-derivative", "forward-recursion", "truncation"),
        Checks.built,
    ),
    Stage("losses and lemmas", ("loss/", "lemma/", "rule/"), Checks.losses_and_lemmas),
)


def _discharged(work: Checks, stages: Iterable[Stage], report: Report) -> Iterator[Obligation]:
    for stage in stages:
        report(stage.title)
        yield from stage.make(work)


def discharge(derivation: Derivation, names: Collection[str]) -> tuple[Obligation, ...]:
    """The obligations whose names begin with one of these, without the rest of the proof and without planted mistakes.

    >>> import derive
    >>> [o.holds for o in discharge(derive.differentiate(derive.load("tanh_rnn")), ["P3/W_hh", "lemma/time"])]
    [True, True]
    """
    asked = tuple(names)
    stages = [s for s in STAGES if any(a.startswith(b) or b.startswith(a) for a in asked for b in s.begins)]
    found = _discharged(_checks(derivation), stages, lambda stage: None)
    return tuple(o for o in found if o.name.startswith(asked))


@lru_cache(maxsize=8)
def _checks(derivation: Derivation) -> Checks:
    """What obligations of one derivation share, however many times some of them are asked for."""
    return Checks(derivation)
