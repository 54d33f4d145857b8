"""What is measured and what is to be reached: one row of the table each."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CASES", "MEMORY_CASES", "Case", "MemoryCase", "Problem", "shortened"]


@dataclass(frozen=True)
class Problem:
    """One gradient to compute: a cell with softmax cross-entropy at every step, summed.

    With ``ragged`` lengths are drawn uniformly from 1 to T, and the longest is T.
    """

    cell: str
    dtype: str
    T: int
    B: int
    D: int
    H: int
    O: int  # noqa: E741 - the outputs' letter
    ragged: bool = False

    def __str__(self) -> str:
        """As the table names it."""
        cell = self.cell.removesuffix("_rnn").replace("gru_reset_after", "GRU").replace("lstm", "LSTM")
        steps = f"T<={self.T}" if self.ragged else f"T{self.T}"
        return f"{cell} {self.dtype.replace('float', 'f')} {steps} B{self.B} D{self.D} H{self.H} O{self.O}"


@dataclass(frozen=True)
class Case:
    """A problem, how the engine runs it, against whom, and the bounds of the ratios; None where nothing is promised.

    ``ours``: "numpy", "fast" (the compiled loop), "best" of these two, or "auto", what a user gets who says nothing.
    ``torch``, ``jax`` and ``hand`` bound rival / ours from below, ``floor`` ours / floor from above.  ``packed``: the
    rival of the column PyTorch is its PackedSequence.
    """

    problem: Problem
    ours: str = "auto"
    torch: float | None = None
    jax: float | None = None
    floor: float | None = None
    hand: float | None = 1.0
    rivals: tuple[str, ...] = ("torch", "jax", "floor", "hand")

    def __str__(self) -> str:
        """As the table names it."""
        how = {"numpy": "NumPy alone", "fast": "fast", "best": "better of both", "auto": ""}[self.ours]
        against = "vs PackedSequence" if "packed" in self.rivals else ""
        return " ".join(part for part in (str(self.problem), how, against) if part)


@dataclass(frozen=True)
class MemoryCase:
    """Full storage against a plan in a ``share`` of the tape's bytes, and how much longer the plan may take.

    The measured peak, beside what is returned, is to be within the same share of full storage's.  ``keep`` names the
    plan where it is none for a number of bytes.
    """

    problem: Problem
    share: float = 0.01
    longer: float = 1.4
    keep: str | None = None

    def __str__(self) -> str:
        """As the table names it."""
        if self.keep:
            return f"{self.problem}, keep {self.keep}"
        return f"{self.problem} in {self.share:.0%} of the tape"


DTYPES = ("float64", "float32")


def _small(cell: str, dtype: str, B: int = 1) -> Problem:
    return Problem(cell, dtype, T=15, B=B, D=10, H=20, O=5)


def _middle(cell: str, dtype: str) -> Problem:
    return Problem(cell, dtype, T=100, B=32, D=64, H=128, O=32)


def _large(cell: str, dtype: str) -> Problem:
    return Problem(cell, dtype, T=100, B=32, D=256, H=256, O=64)


def _long(dtype: str, T: int) -> Problem:
    return Problem("tanh_rnn", dtype, T=T, B=1, D=10, H=20, O=5)


def _ragged(cell: str) -> Problem:
    return Problem(cell, "float32", T=4000, B=32, D=32, H=64, O=10, ragged=True)


CASES: tuple[Case, ...] = (
    *(Case(_small("tanh_rnn", d), "numpy", torch=6.0) for d in DTYPES),
    *(Case(_small("tanh_rnn", d), "fast", torch=20.0, jax=2.0) for d in DTYPES),
    *(Case(_small("tanh_rnn", d, B=32), "best", torch=4.0, jax=1.0) for d in DTYPES),
    *(Case(_small(c, d), "fast", torch=10.0, jax=1.5) for c in ("lstm", "gru_reset_after") for d in DTYPES),
    Case(_large("tanh_rnn", "float32"), torch=1.2, jax=1.0, floor=1.15),
    Case(_large("tanh_rnn", "float64"), torch=1.2, jax=1.15, floor=1.15),
    *(Case(_large("gru_reset_after", d), torch=1.1, jax=1.3, floor=1.15) for d in DTYPES),
    Case(_large("lstm", "float64"), torch=1.2, jax=1.35, floor=1.15),
    Case(_large("lstm", "float32"), torch=1.05, jax=1.3, floor=1.15),
    Case(Problem("lstm", "float32", T=100, B=64, D=256, H=1024, O=64), torch=0.93, jax=1.2, floor=1.06),
    *(
        Case(Problem("tanh_rnn", d, T=200, B=64, D=256, H=1024, O=64), torch=1.15, jax=1.1, floor=1.1)
        for d in ("float32", "float64")
    ),
    *(Case(_long(d, 100_000), "fast", torch=25.0, jax=1.2, rivals=("torch", "jax", "hand")) for d in DTYPES),
    Case(_long("float64", 1_000_000), "fast", torch=25.0, jax=1.2, rivals=("torch", "jax")),
    *(Case(_ragged(c), torch=1.2, hand=None, rivals=("torch",)) for c in ("tanh_rnn", "lstm")),
    *(Case(_ragged(c), torch=20.0, hand=None, rivals=("packed",)) for c in ("tanh_rnn", "lstm")),
    # the generated engine against loops written by hand, at the sizes that are not above
    *(Case(_small(c, d), "numpy", rivals=("hand",)) for c in ("lstm", "gru_reset_after") for d in DTYPES),
    *(Case(_small(c, d, B=32), rivals=("hand",)) for c in ("lstm", "gru_reset_after") for d in DTYPES),
    *(Case(_middle(c, d), rivals=("hand",)) for c in ("tanh_rnn", "lstm", "gru_reset_after") for d in DTYPES),
)

MEMORY_CASES: tuple[MemoryCase, ...] = (
    MemoryCase(_long("float64", 1_000_000)),
    MemoryCase(Problem("lstm", "float64", T=60_000, B=8, D=10, H=20, O=5)),
    MemoryCase(Problem("lstm", "float32", T=2_000, B=32, D=64, H=256, O=32), share=0.5, longer=1.2, keep="states"),
)


def shortened(problem: Problem) -> Problem:
    """The same with a tenth of the steps, a quarter where ragged, if it is a long one: for a quick look."""
    if problem.T <= 2_000:
        return problem
    return replace(problem, T=problem.T // (4 if problem.ragged else 10))
