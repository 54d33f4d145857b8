"""The proof: every obligation, how it is discharged, and how many planted mistakes the same checks reject."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sympy import Symbol

from derive.adjoint import Backward
from derive.derivation import Derivation, differentiate
from derive.hypotheses import Hypothesis
from derive.lemmas import check_batch, check_rule, check_time, functions_of
from derive.losses import LOSSES
from derive.mistakes import LOOP_MISTAKES, plant
from derive.notation import at
from derive.obligations import AT_A_POINT, EVERY_SIZE, Obligation, Outcome, discharge
from derive.present import Presented
from derive.sample import Sample
from derive.step_proofs import StepAtSize, StepForEverySize, check_cut, leaf_name, uniform
from derive.unroll import Gradient
from derive.unrolled_proofs import RIGHT, Unrolled
from derive.words import leaves_of
from derive.write import write
from derive.zero import Budget, BudgetError, is_zero

__all__ = ["Obligation", "Proof", "Score", "TRUSTED_BASE", "prove"]

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
class Score:
    """How many planted wrong derivations were rejected; ``by_check`` says by which check, as (rejected, planted)."""

    caught: int
    planted: int
    missed: tuple[str, ...]
    by_check: Mapping[str, tuple[int, int]]

    def __str__(self) -> str:
        return f"{self.caught} of {self.planted} planted mistakes caught"


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
        return f"<Proof of {self.derivation.cell.name}: {verdict}, {done} of {len(self.obligations)} obligations, {self.score}>"

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
    work = _Work(derivation)
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


class _Work:
    """The checks of one derivation, built once and used for the right derivation and for the wrong ones."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation, self.cell = derivation, derivation.cell
        self.backward: Backward = derivation.backward
        self.program = derivation.program
        self.too_much = ""
        self.sizes: dict[str, tuple[int, int, int]] = {}  # of the unrolled problems, by obligation
        self.words = StepForEverySize(self.program)
        self.step = self.feasible_step()

    def feasible_step(self) -> StepAtSize | None:
        """P2 at size 2 by plain ``diff`` or, where that is too much, over jets; at size 1; None where nothing is feasible."""
        for size, literal in ((2, True), (2, False), (1, False)):
            step = StepAtSize(self.program, size, Budget(), literal=literal)
            try:
                _ = step.truth
            except BudgetError as error:
                self.too_much = str(error)
                continue
            return step
        return None

    def exact(self, steps: int, size: int, batch: int = 1) -> Unrolled:
        return Unrolled.exact(self.program, steps, uniform(self.cell, size), Budget(), batch)

    def program_obligations(self) -> list[Obligation]:
        """The cut program is the author's text, and no divisor is zero everywhere."""
        found = [
            discharge(
                "program/cut",
                "the nodes of a step, put back into each other, are the author's equations",
                "SymPy, structural equality",
                lambda: check_cut(self.program),
                level=EVERY_SIZE,
            )
        ]
        for h in (h for h in self.cell.hypotheses if h.why == "a divisor"):
            text = write(h.expression)
            found.append(
                discharge(
                    f"program/divisor {text}",
                    f"{text} is not zero everywhere (line {h.line})",
                    "rational functions in atoms, flint",
                    lambda h=h: (False, "it is identically zero") if _vanishes(h) else (True, ""),
                    level=EVERY_SIZE,
                )
            )
        return found

    def every_size(self) -> list[Obligation]:
        """P3."""
        return [
            discharge(
                f"P3/{leaf_name(leaf)}",
                f"the gradient by {leaf_name(leaf)} is the transposed derivative of one step, for all sizes",
                "sums of words in the free algebra",
                lambda leaf=leaf: self.words.check(self.backward, leaf),
                level=EVERY_SIZE,
            )
            for leaf in (*leaves_of(self.program), *map(at, Presented(self.backward).named))
        ]

    def at_a_size(self) -> list[Obligation]:
        """P2."""
        step = self.step
        size = next(iter(step.sizes.values())) if step else 1
        sizes = " = ".join([*self.cell.dimensions, str(size)])
        how = "plain diff of explicit scalars; flint" if step and step.literal else "forward differentiation; flint"

        def check(leaf: Symbol | str) -> Outcome:
            if step is None:
                return None, f"not done at this size: it needs {self.too_much}"
            return step.check(self.backward, leaf)

        return [
            discharge(
                f"P2/{leaf_name(leaf)}",
                f"with free cotangents the gradient by {leaf_name(leaf)} is that of one step at {sizes}",
                how,
                partial(check, leaf),
            )
            for leaf in leaves_of(self.program)
        ]

    def unrolled(self) -> list[Obligation]:
        """P1: plain diff of the whole loss, then differentiation over jets at larger sizes, then one random point."""
        letters = ", ".join(self.cell.dimensions)
        found = [
            discharge(
                f"P1/diff T={steps} size={size}",
                f"BPTT over {steps} steps is the gradient of the unrolled loss, {letters} = {size}",
                "plain diff of the explicit loss; flint",
                lambda steps=steps, size=size: self.exact(steps, size).check_literal(self.backward),
                needed=False,
            )
            for steps, size in ((1, 1), (2, 1))
        ]
        for steps, size, batch in ((1, 1, 2), (1, 2, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (4, 2, 1)):
            found.append(self.by_jets(steps, size, batch, found))
        point = Unrolled(self.program, 12, uniform(self.cell, 3), Sample(1), batch=2)
        found.append(
            discharge(
                "P1/point T=12 B=2 size=3",
                f"BPTT over 12 steps is the gradient of the unrolled loss, {letters} = 3, 2 sequences",
                "exact arithmetic modulo 2^61 - 1 at a random point",
                lambda: point.check(self.backward),
                level=AT_A_POINT,
            )
        )
        return found

    def by_jets(self, steps: int, size: int, batch: int, smaller: list[Obligation]) -> Obligation:
        """P1 over jets at one size; not tried where fewer steps of the same size were too much already."""

        def check() -> Outcome:
            for o in smaller:
                if o.holds is None and o.name in self.sizes and _within(self.sizes[o.name], (steps, size, batch)):
                    return None, f"not done at this size: a smaller one exceeded the budget already ({o.name})"
            return self.exact(steps, size, batch).check(self.backward)

        self.sizes[f"P1/jets T={steps} B={batch} size={size}"] = (steps, size, batch)
        sequences = f", {batch} sequences" if batch > 1 else ""
        return discharge(
            f"P1/jets T={steps} B={batch} size={size}",
            f"BPTT over {steps} steps is the gradient of the unrolled loss, {', '.join(self.cell.dimensions)} = {size}{sequences}",
            "forward differentiation over rational functions; flint",
            check,
            needed=steps == 1,
        )

    def built(self) -> list[Obligation]:
        """The Jacobian product, forward recursion, immediate derivative and truncation, each with a wrong form rejected."""
        size = " = ".join([*self.cell.dimensions, "2"])

        def at_sizes(check: Callable[[Unrolled], Outcome]) -> Callable[[], Outcome]:
            return lambda: check(self.exact(2, 2))

        def at_a_point(check: Callable[[Unrolled], Outcome]) -> Callable[[], Outcome]:
            return lambda: check(Unrolled(self.program, 5, uniform(self.cell, 2), Sample(2)))

        rows: tuple[tuple[str, str, Callable[[Unrolled], Outcome]], ...] = (
            (
                "jacobian-product",
                "ds_T/ds_0 = J_T ... J_1, later steps on the left",
                lambda u: u.check_jacobian_product(),
            ),
            (
                "immediate-derivative",
                "dL/dtheta = sum of (dL/ds_t) d+s_t/dtheta",
                lambda u: u.check_immediate(self.backward),
            ),
            ("forward-recursion", "P_t = J_t P_{t-1} + d+s_t/dtheta is ds_t/dtheta", lambda u: u.check_forward()),
            (
                "truncation",
                "cutting the carry drops exactly the stated terms",
                lambda u: u.check_truncation(self.backward, 1),
            ),
        )
        exact, field = "rational functions; flint", "exact arithmetic modulo 2^61 - 1 at a random point"
        found = []
        for name, statement, check in rows:
            found.append(discharge(f"{name} T=2", f"{statement} (T = 2, {size})", exact, at_sizes(check), needed=False))
            found.append(
                discharge(f"{name} T=5", f"{statement} (T = 5, {size})", field, at_a_point(check), level=AT_A_POINT)
            )
        return found

    def losses_and_lemmas(self) -> list[Obligation]:
        """Closed-form gradients of the losses, time and batch, and the functions' derivative rules."""
        found = []
        for loss in LOSSES.values():
            found.append(
                discharge(
                    f"loss/{loss.name}",
                    f"the closed-form gradient of {loss.name} is its derivative, for every O",
                    "plain diff by a generic entry, the others in a remainder; flint",
                    lambda loss=loss: _shown(loss.holds_for_every_size()),
                    level=EVERY_SIZE,
                )
            )
            found.append(
                discharge(
                    f"loss/{loss.name} O=3",
                    f"the closed-form gradient of {loss.name} is its derivative, O = 3",
                    "plain diff of the explicit loss; flint",
                    lambda loss=loss: _shown(loss.holds_at(3)),
                )
            )
        lemma = "generic first-order expansions; flint"
        time = "if the step is right, the recursion is the gradient for every T (step of the induction)"
        batch = "the gradient of a sum over sequences is the sum of their gradients"
        found.append(discharge("lemma/time", time, lemma, check_time, level=EVERY_SIZE))
        found.append(
            discharge("lemma/batch", batch, "SymPy's diff of undefined functions", check_batch, level=EVERY_SIZE)
        )
        for name in functions_of(list(self.cell.equations.values())):
            found.append(
                discharge(
                    f"rule/{name}",
                    f"the derivative rule of {name} is SymPy's derivative of {name}",
                    "SymPy's diff, exponentials as atoms; flint",
                    lambda name=name: check_rule(name),
                    level=EVERY_SIZE,
                )
            )
        return found

    def score(self) -> Score:
        """Plant every known mistake at every place; a mistake that changes no number at a random point is none.

        A check whose budget a mistake exceeds has not judged it, and is not credited with it.
        """
        verdicts: dict[str, list[tuple[str, bool]]] = {"P2": [], "P3": []}
        checks: dict[str, Callable[[Backward], bool]] = {"P3": self.words.rejects}
        # where a check has size 1, a transpose is no mistake: what is planted must show at the check's own sizes
        samples = {"P3": Unrolled(self.program, 1, uniform(self.cell, 2), Sample())}
        if self.step is not None:
            checks["P2"] = self.step.rejects
            samples["P2"] = Unrolled(self.program, 1, self.step.sizes, Sample())
        right = {check: sample.derived(self.backward) for check, sample in samples.items()}
        for i, planted in enumerate(plant(self.backward)):
            for check, rejects in checks.items():
                if not _differs(samples[check].derived(planted.backward), right[check]):
                    continue
                seen = _judged(lambda rejects=rejects, p=planted: rejects(p.backward))
                if seen is not None:
                    verdicts[check].append((f"{planted.mistake} in {planted.where}, number {i}", seen))
        loops = Unrolled(self.program, 6, uniform(self.cell, 2), Sample(3), batch=2)
        whole = loops.derived(self.backward)
        wrong = [(loop.name, loop, False) for loop in LOOP_MISTAKES] + [("batch-mean", RIGHT, True)]
        verdicts["P1, the loop"] = [
            (name, loops.rejects(self.backward, loop, mean=mean))
            for name, loop, mean in wrong
            if _differs(loops.derived(self.backward, loop, mean), whole)
        ]
        missed = [f"{what} ({check})" for check, rows in verdicts.items() for what, seen in rows if not seen]
        names = {what for rows in verdicts.values() for what, _ in rows}
        unseen = {what for rows in verdicts.values() for what, seen in rows if not seen}
        counts = {check: (sum(seen for _, seen in rows), len(rows)) for check, rows in verdicts.items()}
        return Score(len(names - unseen), len(names), tuple(missed), counts)


def _within(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def _vanishes(h: Hypothesis) -> bool:
    from derive.notation import lin

    # each product is as free as a symbol here: enough to see that an expression cancels
    products = sorted(h.expression.atoms(lin), key=str)
    return is_zero(h.expression.xreplace({p: Symbol(f"product{i}", real=True) for i, p in enumerate(products)}))


def _shown(holds: bool) -> Outcome:
    return (True, "") if holds else (False, "the difference is not zero")


def _differs(a: Gradient | Mapping[Symbol, object], b: Gradient | Mapping[Symbol, object]) -> bool:
    return any(x not in b or x not in a or not (a[x] - b[x]).is_zero for x in {*a, *b})  # type: ignore[operator, union-attr]


def _judged(check: Callable[[], bool]) -> bool | None:
    """Whether a check rejects; None where its budget does not reach."""
    try:
        return check()
    except (BudgetError, ZeroDivisionError):
        return None
