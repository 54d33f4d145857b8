"""The training loop in chunks, ``truncated_bptt``: which gradient it takes, for which lengths, losses and models.

inputs = sequence[i : i + k]        targets = sequence[i + 1 : i + k + 1]        the state is cut from its history
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from numeric.oracle.case import Case
from reports.document import Quantity
from reports.listings.cases import BIASED, gradients_of, make_case, model_of, one_hot, tensors
from reports.listings.outcome import attempt, expected, judged, stopped
from reports.listings.rows import AGREES, WRONG, Group, Row
from reports.listings.source import Source

__all__ = ["GROUPS"]


# ----------------------------------------------------------------------------------------------------- giving it a case


def sequence_case(length: int, chunk: int | tuple[int, int] | None, *, D: int = 3, seed: int = 3, **how: Any) -> Case:
    """A sequence whose elements are predicted from those before: T = length - 1."""
    sequence = np.random.default_rng(seed).standard_normal((length, 1, D))
    pair = (chunk, chunk) if isinstance(chunk, int) else chunk
    given = {"text": BIASED, "loss": "squared_error", "targets": sequence[1:], "inputs": sequence[:-1]} | how
    return make_case(given.pop("text"), T=length - 1, D=D, O=D, start=0.0, truncate=pair, **given)


def sequence_of(case: Case) -> Any:
    """The case's inputs, and the last target."""
    import torch

    last = np.array(case.targets)[-1:]
    last = one_hot(last, case.inputs["x"].shape[-1]) if last.dtype.kind in "iu" else last
    return torch.tensor(np.concatenate([case.inputs["x"], last])[:, 0])


def square(outputs: Any, targets: Any) -> Any:
    """Half the squared error, summed."""
    return ((outputs - targets) ** 2).sum() / 2


def mean_square(outputs: Any, targets: Any) -> Any:
    """The same as a mean over the steps."""
    return square(outputs, targets) / len(targets)


class Held:
    """An optimizer that holds the weights still and adds up the gradients that it is handed."""

    def __init__(self, model: Any) -> None:
        self.model, self.sums = model, {name: p.new_zeros(p.shape) for name, p in model.named_parameters()}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.model.zero_grad()

    def step(self) -> None:
        """Take them in."""
        for name, p in self.model.named_parameters():
            self.sums[name] += p.grad


class Stepping(Held):
    """Plain gradient descent that remembers what it has subtracted, in units of its rate."""

    def __init__(self, model: Any, rate: float) -> None:
        super().__init__(model)
        self.rate = rate

    def step(self) -> None:
        """Take the gradients in, and go on."""
        import torch

        super().step()
        with torch.no_grad():
            for p in self.model.parameters():
                p.sub_(self.rate * p.grad)


def call(source: Source, model: Any, sequence: Any, chunk: int, optimizer: Any, criterion: Any) -> Any:
    """The listing's function; ``torch`` is there, as the chapter imported it before."""
    import torch

    return source.run(torch=torch)["truncated_bptt"](model, sequence, chunk, optimizer, criterion)


def gradients(
    source: Source, chunk: int, case: Case, *, criterion: Callable[[Any, Any], Any] = square,
    optimizer: Callable[[Any], Held] = Held,
) -> dict[str, Any]:  # fmt: skip
    """What the optimizer is handed, summed over the chunks, and the loss that is returned."""
    model = model_of(case)
    held = optimizer(model)
    loss = call(source, model, sequence_of(case), chunk, held, criterion)
    for name, p in model.named_parameters():
        p.grad = held.sums[name]
    return {"grads": gradients_of(model.rnn, model.out, tensors(case.params)), "loss": loss}


def _judged(words: str, source: Source, case: Case, chunk: int, why: str = "", **how: Any) -> Row:
    return judged(words, source, partial(gradients, source, chunk, **how), case, why=why)


# -------------------------------------------------------------------------------------------------------------- lengths


def whole_chunks(source: Source) -> Iterator[Row]:
    """Lengths of which every chunk is full."""
    for length, chunk in ((9, 4), (9, 2), (5, 1), (2, 1)):
        yield _judged(f"{length} elements, chunks of {chunk}", source, sequence_case(length, chunk), chunk)
    yield _judged("7 elements, one chunk of 6: the whole gradient", source, sequence_case(7, None), 6)
    yield _judged("9 elements, chunks of 4, float32", source, sequence_case(9, 4, dtype="float32"), 4)
    yield _judged("numbers, D = 1", source, sequence_case(9, 4, D=1), 4)
    yield _judged("weights three times as large", source, sequence_case(9, 4, scale=3.0), 4)
    yield _judged("81 elements, chunks of 20", source, sequence_case(81, 20), 20)
    yield _judged_classes("classes, with cross-entropy of PyTorch", source, 9, 4)


def last_chunks(source: Source) -> Iterator[Row]:
    """Lengths that leave a shorter last chunk."""
    why = "the last chunk has two inputs and one target, which is taken for both"
    for length, chunk in ((2, 2), (6, 4)):
        words = f"{length} elements, chunks of {chunk}: one step is left"
        yield _judged(words, source, sequence_case(length, chunk), chunk, why)
        yield _judged(f"{words}, `nn.MSELoss`", source, sequence_case(length, chunk), chunk, why, criterion=_mse)
    why = "the last chunk has an input more than targets"
    for length, chunk in ((8, 4), (4, 5)):
        yield _judged(f"{length} elements, chunks of {chunk}", source, sequence_case(length, chunk), chunk, why)
    yield _judged_classes("classes, 6 elements, chunks of 4", source, 6, 4)


def _mse(outputs: Any, targets: Any) -> Any:
    import torch

    return torch.nn.MSELoss(reduction="sum")(outputs, targets) / 2


def _judged_classes(words: str, source: Source, length: int, chunk: int) -> Row:
    """A sequence of classes, seen one-hot by the model, as integers by the loss."""
    classes, D = np.random.default_rng(4).integers(0, 5, length), 5
    x = one_hot(classes[:-1, None], D)
    case = sequence_case(length, chunk, D=D, loss="softmax_cross_entropy", targets=classes[1:, None], inputs=x)
    return judged(words, source, partial(_of_classes, source, chunk, classes), case,
                  why="the last chunk has an input more than targets")  # fmt: skip


def _of_classes(source: Source, chunk: int, classes: Any, case: Case) -> dict[str, Any]:
    import torch

    model = model_of(case)
    held = Held(model)

    def seen_one_hot(ids: Any, hidden: Any) -> Any:
        return model(torch.nn.functional.one_hot(ids, 5).to(torch.float64), hidden)

    criterion = torch.nn.CrossEntropyLoss(reduction="sum")
    loss = call(source, seen_one_hot, torch.tensor(classes), chunk, held, criterion)
    for name, p in model.named_parameters():
        p.grad = held.sums[name]
    return {"grads": gradients_of(model.rnn, model.out, tensors(case.params)), "loss": loss}


def lstm(source: Source) -> Iterator[Row]:
    """A model whose state is a pair."""
    why, small = "an LSTM's state is a tuple, which has no `detach()`", {"D": 2, "H": 2}
    yield _judged("an LSTM, one chunk", source, sequence_case(5, None, text="lstm", **small), 4)
    yield _judged("an LSTM, two chunks", source, sequence_case(9, 4, text="lstm", **small), 4, why)


# ----------------------------------------------------------------------------------------------------- what detach does


def detaching(source: Source) -> Iterator[Row]:
    """The states with and without ``detach``, and how far the losses reach back."""
    import torch

    yield from _carried(source)
    yield _judged("the gradient", source, sequence_case(9, 4), 4)
    nothing = mock.patch.object(torch.Tensor, "detach", lambda x: x)
    with nothing:
        made = attempt(source, partial(gradients, source, 4, sequence_case(9, 4)))
    refused = made.error is not None
    told = (f"the second chunk's backward pass stops at line {made.line}: the first one's graph is freed",)
    yield expected("the same with a `detach()` that does nothing", refused, told, ("runs all the same",))
    backward = torch.Tensor.backward
    kept = mock.patch.object(torch.Tensor, "backward", lambda loss: backward(loss, retain_graph=True))
    with nothing, kept:
        whole = _judged("and with every graph kept", source, sequence_case(9, None), 4)
    says = ("the whole gradient, through every chunk, to rounding",) if whole.verdict == AGREES else whole.did
    yield Row(whole.given, says, whole.verdict)


def _carried(source: Source) -> Iterator[Row]:
    """The values of the states that chunks begin with, beside those of the whole sequence."""
    import torch

    case = sequence_case(9, 4)
    model, begun = model_of(case), []

    def watched(x: Any, hidden: Any) -> Any:
        begun.append(hidden)
        return model(x, hidden)

    call(source, watched, sequence_of(case), 4, Held(model), square)
    whole = model.rnn(sequence_of(case)[None, :-1])[0]
    first, second = begun
    same = first is None and second is not None and bool(torch.allclose(second[0], whole[:, 3], rtol=1e-12))
    cut = same and second.grad_fn is None
    said = ("the value is that of the whole sequence, and it has no history",)
    yield expected("the state that the second chunk begins with", cut, said, ("another, or one with a history",))


def windows(source: Source) -> Iterator[Row]:
    """Every loss carried back over the last k steps, wherever a chunk begins."""
    for length, k in ((5, 2), (9, 4)):
        yield _judged(f"{length} elements, k = {k}", source, sequence_case(length, (1, k)), k)
    yield _judged("5 elements, k = 1: each loss sees its own step", source, sequence_case(5, (1, 1)), 1)


# --------------------------------------------------------------------------------------------- what it returns and does


def totals(source: Source) -> Iterator[Row]:
    """``total_loss`` where the criterion takes a mean, as PyTorch's own do where nothing is said."""
    for length, chunk in ((3, 1), (9, 4), (9, 2), (9, 8)):
        case = sequence_case(length, None)
        model, sequence = model_of(case), sequence_of(case)
        whole = mean_square(model(sequence[None, :-1])[0][0], sequence[1:]).item()
        found = float(call(source, model, sequence, chunk, Held(model), mean_square))
        times = f", which is {round(found / whole, 6):g} times the mean over the sequence: every chunk's mean counts"
        said = ("returns ", Quantity(found, 1.001, ".4g"), times)
        yield expected(f"the criterion is a mean, {length} elements, chunks of {chunk}", abs(found / whole - 1) < 1e-9,
                       ("returns the mean over the sequence",), said)  # fmt: skip


def stepping(source: Source) -> Iterator[Row]:
    """An optimizer that does step."""
    why = "the second chunk's gradient is taken at other weights than the first one's"
    for length, chunk, rate in ((3, 1, 0.1), (9, 4, 0.1), (9, 4, 0.01)):
        words = f"gradient descent with rate {rate:g}, {length} elements, chunks of {chunk}"
        yield _judged(words, source, sequence_case(length, chunk), chunk, why, optimizer=partial(Stepping, rate=rate))
    yield _judged("gradient descent with rate 0.1, 9 elements, one chunk of 8", source, sequence_case(9, None), 8,
                  optimizer=partial(Stepping, rate=0.1))  # fmt: skip


def others(source: Source) -> Iterator[Row]:
    """What a caller may also give."""
    import torch

    case = sequence_case(9, 4)
    model, sequence = model_of(case), sequence_of(case)
    run = partial(_run, source, model)
    for words, given in (("an empty sequence", sequence[:0]), ("a sequence of one element", sequence[:1])):
        found, steps = run(given, 4)
        yield expected(words, found == 0 and steps == 0, ("no step, and 0 for the loss",), ("something",))
    found, steps = run(sequence, -1)
    yield Row("`chunk_size = -1`", (f"takes {steps} steps and returns {found:g}, without a word",), WRONG)
    tries = {
        "`chunk_size = 0`": (sequence, 0, "`range()` takes no step of 0"),
        "a list of tensors": (list(sequence), 4, "a list has no `unsqueeze`"),
        "numbers without a feature axis, (T,)": (sequence[:, 0], 4, "the chunk is read as one step of 4 features"),
        "a batch, (T, B, D)": (sequence[:, None], 4, "`unsqueeze(0)` makes a fourth axis"),
        "inputs that were computed from weights before": (_computed(sequence), 4, "the graph behind them is freed"),
    }
    for words, (given, chunk, why) in tries.items():
        yield stopped(words, attempt(source, partial(run, given, chunk)), why)
    yield from _time_first(source)
    made = attempt(source, partial(run, sequence.to(torch.float32), 4))
    yield stopped("a float32 sequence, a float64 model", made, "the types must agree")


def _run(source: Source, model: Any, sequence: Any, chunk: int) -> tuple[float, int]:
    """The loss returned, and how many steps were taken."""
    steps = []

    class Counting(Held):
        def step(self) -> None:
            steps.append(1)

    return float(call(source, model, sequence, chunk, Counting(model), square)), len(steps)


def _computed(sequence: Any) -> Any:
    import torch

    return torch.tanh(sequence.clone().requires_grad_())


def _time_first(source: Source) -> Iterator[Row]:
    """A model that takes time first reads each chunk as a batch of sequences of one step."""
    case = sequence_case(5, None)
    model = model_of(case, batch_first=False)
    why = "each step is read as a sequence of its own, and no state is carried within the chunk"

    def run(one: Case) -> dict[str, Any]:
        held = Held(model)
        loss = call(source, model, sequence_of(one), 4, held, square)
        for name, p in model.named_parameters():
            p.grad = held.sums[name]
        return {"grads": gradients_of(model.rnn, model.out, tensors(one.params)), "loss": loss}

    yield judged("a model without `batch_first`, one chunk", source, run, case, why=why)


GROUPS = (
    Group("whole", "every chunk is full: it takes the truncated gradient, and returns the loss", whole_chunks, 9),
    Group("last", "the last chunk is shorter: it takes the truncated gradient, and returns the loss", last_chunks, 10),
    Group("pair", "for a model whose state is a pair it takes the truncated gradient, too", lstm, 15),
    Group("detach", "the state's value goes on and its history does not, because of `detach()`", detaching, 15,
          ("printed",)),
    Group("window", "every loss goes back k steps", windows, 9, ("printed",)),
    Group("total", "`total_loss` is the loss of the sequence where the criterion is a mean", totals, 26, ("printed",)),
    Group("step", "with an optimizer that steps, it applies the gradient of one set of weights", stepping, 24,
          ("printed",)),
    Group("other", "other inputs", others, forms=("printed",)),
)  # fmt: skip
