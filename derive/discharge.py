"""The obligations of a proof: what is stated, by which check it is discharged, and what the checks reject."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sympy import Symbol

from derive.adjoint import Backward
from derive.derivation import Derivation
from derive.hypotheses import Hypothesis
from derive.lemmas import check_batch, check_rule, check_time, functions_of
from derive.losses import LOSSES
from derive.notation import at, lin
from derive.obligations import AT_A_POINT, EVERY_SIZE, Obligation, Outcome, Score, discharge
from derive.present import Presented
from derive.sample import Sample
from derive.score import score
from derive.step_proofs import StepAtSize, StepForEverySize, check_cut, leaf_name, uniform
from derive.unrolled_proofs import Unrolled
from derive.words import leaves_of
from derive.write import write
from derive.zero import Budget, BudgetError, is_zero

__all__ = ["Checks"]


class Checks:
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
        """P2 at size 2 by plain ``diff`` or else over jets, or at size 1; None where nothing is feasible."""
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
        """The cell unrolled over rational functions."""
        return Unrolled.exact(self.program, steps, uniform(self.cell, size), Budget(), batch)

    def check_literal(self, steps: int, size: int) -> Outcome:
        """P1 by plain ``diff`` of the explicit loss."""
        return self.exact(steps, size).check_literal(self.backward)

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
                    partial(_check_divisor, h),
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
                partial(self.words.check, self.backward, leaf),
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
                partial(self.check_literal, steps, size),
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
        sizes = f"{', '.join(self.cell.dimensions)} = {size}" + (f", {batch} sequences" if batch > 1 else "")
        return discharge(
            f"P1/jets T={steps} B={batch} size={size}",
            f"BPTT over {steps} steps is the gradient of the unrolled loss, {sizes}",
            "forward differentiation over rational functions; flint",
            check,
            needed=steps == 1,
        )

    def built(self) -> list[Obligation]:
        """The Jacobian product, forward recursion, immediate derivative and truncation."""
        # with many states the Jacobian of one entry each is large enough, and its blocks do not commute either
        entries = 2 if len(self.cell.states) <= 8 else 1
        size = " = ".join([*self.cell.dimensions, str(entries)])

        def at_sizes(check: Callable[[Unrolled], Outcome]) -> Callable[[], Outcome]:
            return lambda: check(self.exact(2, entries))

        def at_a_point(check: Callable[[Unrolled], Outcome]) -> Callable[[], Outcome]:
            return lambda: check(Unrolled(self.program, 5, uniform(self.cell, entries), Sample(2)))

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
                lambda u: u.check_truncation(self.backward, u.steps // 2),
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
                    partial(_shown, loss.holds_for_every_size),
                    level=EVERY_SIZE,
                )
            )
            found.append(
                discharge(
                    f"loss/{loss.name} O=3",
                    f"the closed-form gradient of {loss.name} is its derivative, O = 3",
                    "plain diff of the explicit loss; flint",
                    partial(_shown, partial(loss.holds_at, 3)),
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
                    partial(check_rule, name),
                    level=EVERY_SIZE,
                )
            )
        return found

    def score(self) -> Score:
        """What the same checks reject of the known mistakes, planted at every place."""
        return score(self.backward, self.words, self.step)


def _within(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def _check_divisor(h: Hypothesis) -> Outcome:
    """Whether a divisor is more than zero written differently; each product is as free as a symbol here."""
    products = sorted(h.expression.atoms(lin), key=str)
    free = h.expression.xreplace({p: Symbol(f"product{i}", real=True) for i, p in enumerate(products)})
    return (False, "it is identically zero") if is_zero(free) else (True, "")


def _shown(check: Callable[[], bool]) -> Outcome:
    return (True, "") if check() else (False, "the difference is not zero")
