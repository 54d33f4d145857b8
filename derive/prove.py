"""The proof: every obligation, how it is discharged, and how many planted mistakes the same checks reject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from derive.derivation import Derivation, differentiate
from derive.discharge import Checks
from derive.hypotheses import Hypothesis
from derive.obligations import Obligation, Score
from derive.write import write

__all__ = ["TRUSTED_BASE", "Obligation", "Proof", "Score", "prove"]

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
    obligations: list[Obligation] = []
    for stage, make in (
        ("the program of a step", work.program_obligations),
        ("one step, every size", work.every_size),
        ("one step, at a size", work.at_a_size),
        ("unrolled networks", work.unrolled),
        ("what is built on the recursion", work.built),
        ("losses and lemmas", work.losses_and_lemmas),
    ):
        report(stage)
        obligations += make()
    report("planted mistakes")
    return Proof(derivation, tuple(obligations), work.score(), derivation.cell.hypotheses)
