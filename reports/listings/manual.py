"""The backward pass by hand, ``bptt_manual``: what its arguments have to be for its result to be the gradient.

dy = ys - targets       is dL/dlogits for probabilities ys and targets that sum to one, dL/dy for half the square
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.oracle.case import Case
from reports.document import Quantity
from reports.listings.cases import BIASED, PLAIN, labels, make_case, one_hot, tensors
from reports.listings.outcome import attempt, expected, judged, stopped
from reports.listings.rows import AGREES, WRONG, Group, Row
from reports.listings.source import Source
from reports.listings.watching import watch

__all__ = ["GROUPS"]

WEIGHTS = ("W_xh", "W_hh", "W_hy")


# ----------------------------------------------------------------------------------------------------- giving it a case


def forward(case: Case) -> dict[str, Any]:
    """The listing's arguments for a case of one sequence; ``ys`` are the outputs y, targets lists of vectors."""
    import torch

    p, x = tensors(case.params), torch.tensor(np.array(case.inputs["x"]))[:, 0]
    hs = [torch.tensor(np.array(case.initial["h"]))[0]]
    for t in range(case.T):
        hs.append(torch.tanh(p["W_hh"] @ hs[t] + p["W_xh"] @ x[t] + p["b"]))
    ys = [p["W_hy"] @ h + p.get("b_y", 0) for h in hs[1:]]
    given = {"xs": list(x), "hs": hs, "ys": ys, "targets": _targets(case, ys)}
    return given | {name: p[name] for name in WEIGHTS}


def _targets(case: Case, ys: list[Any]) -> list[Any]:
    import torch

    if case.targets is None:
        return [torch.zeros_like(y) for y in ys]
    if case.targets.dtype.kind in "iu":
        return list(torch.eye(len(ys[0]), dtype=ys[0].dtype)[torch.tensor(np.array(case.targets))[:, 0]])
    return list(torch.tensor(np.array(case.targets))[:, 0])


def probabilities(given: dict[str, Any]) -> dict[str, Any]:
    """The same with the softmax of the outputs for ``ys``."""
    import torch

    return given | {"ys": [torch.softmax(y, 0) for y in given["ys"]]}


def unchanged(given: dict[str, Any]) -> dict[str, Any]:
    """The same."""
    return given


Change = Callable[[dict[str, Any]], dict[str, Any]]


def call(source: Source, given: Mapping[str, Any]) -> Any:
    """The listing's function on its arguments; ``torch`` is there, as the chapter imported it before."""
    import torch

    return source.run(torch=torch)["bptt_manual"](*given.values())


def gradients(source: Source, change: Change, case: Case) -> dict[str, Any]:
    """What the listing returns, by name: the three weights in order, then a bias where it returns one."""
    found = call(source, change(forward(case)))
    return {"grads": dict(zip((*WEIGHTS, "b", "b_y"), found, strict=False))}


def _judged(words: str, source: Source, change: Change, case: Case, why: str = "", only: Any = WEIGHTS) -> Row:
    return judged(words, source, partial(gradients, source, change), case, only=only, why=why)


# --------------------------------------------------------------------------------------------------------- the readings


def _inputs(loss: str, target: Callable[[int, int], Array], few: bool = False) -> Iterator[tuple[str, Case]]:
    """Cases over the range of sizes, types and weights, the smallest first."""

    def one(T: int = 6, O: int = 5, **how: Any) -> Case:  # noqa: E741
        return make_case(how.pop("text", PLAIN), T=T, O=O, loss=loss, targets=target(T, O), **how)

    yield "T = D = H = O = 1", one(T=1, D=1, H=1, O=1)
    yield "T = 1", one(T=1)
    yield "T = 6, D = 3, H = 4, O = 5", one()
    if few:
        return
    yield "D = H = 1, O = 2", one(D=1, H=1, O=2)
    yield "D = 7, H = 2, O = 3", one(D=7, H=2, O=3, T=3)
    yield "float32", one(dtype="float32")
    yield "h_0 = 0", one(start=0.0)
    yield "weights three times as large", one(scale=3.0)
    yield "a bias of the readout in the network", one(text=BIASED)
    yield "a long sequence, T = 100", one(T=100)


def _classes(T: int, O: int) -> Array:  # noqa: E741
    return labels(T, 1, O)


def _real(T: int, O: int) -> Array:  # noqa: E741
    return np.random.default_rng(2).standard_normal((T, 1, O))


def _shares(T: int, O: int, total: float = 1.0) -> Array:  # noqa: E741
    drawn = np.random.default_rng(3).uniform(0.1, 1, (T, 1, O))
    return total * drawn / drawn.sum(axis=-1, keepdims=True)


def of_probabilities(source: Source) -> Iterator[Row]:
    """Softmax and cross-entropy, with probabilities for ys and targets that sum to one."""
    for words, case in _inputs("softmax_cross_entropy", _classes):
        yield _judged(f"one-hot targets, {words}", source, probabilities, case)
    case = make_case(PLAIN, T=6, loss="softmax_cross_entropy", targets=_shares(6, 5))
    yield _judged("targets that are distributions", source, probabilities, case)
    yield _judged("tensors in place of lists", source, _stacked, case)
    yield _judged("arguments that belong to a graph", source, _in_a_graph, case)


def _stacked(given: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {n: torch.stack(x) if isinstance(x, list) else x for n, x in probabilities(given).items()}


def _in_a_graph(given: dict[str, Any]) -> dict[str, Any]:
    out = probabilities(given)
    return {n: [y.requires_grad_() for y in x] if isinstance(x, list) else x.requires_grad_() for n, x in out.items()}


def of_outputs(source: Source) -> Iterator[Row]:
    """Softmax and cross-entropy of the chapter's outputs y = W_hy h."""
    for words, case in _inputs("softmax_cross_entropy", _classes, few=source.path.stem == "manual"):
        yield _judged(f"one-hot targets, {words}", source, unchanged, case)


def of_squares(source: Source) -> Iterator[Row]:
    """Half the squared error of the outputs."""
    for words, case in _inputs("squared_error", _real):
        yield _judged(words, source, unchanged, case)


def of_the_chapters_loss(source: Source) -> Iterator[Row]:
    """Cross-entropy of y itself, as the chapter prints it: the derivative is -target / y, where y is positive."""
    for T, D, H, O in ((1, 1, 1, 1), (4, 3, 4, 3)):  # noqa: E741
        random = np.random.default_rng(5)
        positive = {"W_xh": random.uniform(0.2, 1, (H, D)), "W_hh": random.uniform(0.1, 0.4, (H, H)),
                    "b": np.full(H, 0.3), "W_hy": random.uniform(0.1, 0.4, (O, H))}  # fmt: skip
        x, targets = random.uniform(0.1, 1, (T, 1, D)), one_hot(labels(T, 1, O), O)
        sizes: dict[str, Any] = {"T": T, "D": D, "H": H, "O": O, "params": positive, "inputs": x, "start": 0.0}
        plain = make_case(PLAIN, **sizes, loss="squared_error", targets=targets)
        y = np.array([np.asarray(y) for y in forward(plain)["ys"]])[:, None]
        case = make_case(PLAIN, **sizes, loss="linear", cotangents={"y": -targets / y})
        change = partial(_with, targets=_as_list(targets[:, 0]))
        words = f"every y positive, one-hot targets, T = {T}, D = {D}, H = {H}, O = {O}"
        yield _judged(words, source, change, case, "the derivative is `-target / y`, not `y - target`")


def _with(given: dict[str, Any], **other: Any) -> dict[str, Any]:
    return given | other


def _as_list(rows: Array) -> list[Any]:
    import torch

    return list(torch.tensor(rows))


def of_other_sums(source: Source) -> Iterator[Row]:
    """Softmax and cross-entropy with targets that do not sum to one."""
    change = probabilities if source.path.stem == "manual" else unchanged
    why = "the derivative is p times the sum of the targets, minus the targets"
    smallest = make_case(PLAIN, T=1, D=1, H=1, O=1, loss="softmax_cross_entropy", targets=_shares(1, 1, 0.5))
    yield _judged("a target of 0.5, T = D = H = O = 1", source, change, smallest, why)
    for total in (0.5, 2.0):
        case = make_case(PLAIN, T=3, loss="softmax_cross_entropy", targets=_shares(3, 5, total))
        yield _judged(f"targets that sum to {total:g}, T = 3", source, change, case, why)


def every_parameter(source: Source) -> Iterator[Row]:
    """A gradient for every parameter of the chapter's network."""
    change = probabilities if source.path.stem == "manual" else unchanged
    case = make_case(PLAIN, T=4, loss="softmax_cross_entropy", targets=labels(4, 1, 5))
    yield _judged("the chapter's network, with its bias b", source, change, case, only=None)


# ---------------------------------------------------------------------------------------------------- its own variables

#: A variable of the listing, and the derivative that its comment says that it is.
STEPS = {"dy": "dL_dy", "dh": "dL_dh", "dh_raw": "dL_da"}


def of_variable(name: str, source: Source) -> Iterator[Row]:
    """A variable at every step, beside the derivation's line for it."""
    for T in (1, 6):
        case = make_case(PLAIN, T=T, loss="softmax_cross_entropy", targets=labels(T, 1, 5))
        yes = ("every value follows from the derivation's line, to rounding",)
        run = partial(_traced, source, name)
        yield judged(f"`{name}` at every step, T = {T}", source, run, case, only=WEIGHTS, yes=yes)


def _traced(source: Source, name: str, case: Case) -> dict[str, Any]:
    given = probabilities(forward(case))
    found, seen = watch(source, [name], lambda: call(source, given))
    values = np.array([np.asarray(x) for x in seen[name]])[::-1][:, None]
    return {"grads": dict(zip(WEIGHTS, found, strict=False)), "trace": {STEPS[name]: values}}


def of_the_carry(source: Source) -> Iterator[Row]:
    """dh_next after the last line of the loop: what the step before receives; in the end, dL/dh_0."""
    for T in (1, 6):
        case = make_case(PLAIN, T=T, loss="softmax_cross_entropy", targets=labels(T, 1, 5))
        words = f"`dh_next` after the loop, as the derivative by h_0, T = {T}"
        yield judged(words, source, partial(_carried, source), case, only=("h0",))


def _carried(source: Source, case: Case) -> dict[str, Any]:
    given = probabilities(forward(case))
    _, seen = watch(source, ["dh_next"], lambda: call(source, given))
    return {"grads": {"h0": seen["dh_next"][-1][None]}}


def of_the_order(source: Source) -> Iterator[Row]:
    """In which order the loop takes the steps."""

    class Noted(list[Any]):
        def __getitem__(self, t: Any) -> Any:
            read.append(t)
            return super().__getitem__(t)

    for T in (1, 5):
        read: list[int] = []
        case = make_case(PLAIN, T=T, loss="softmax_cross_entropy", targets=labels(T, 1, 5))
        given = probabilities(forward(case))
        call(source, given | {"xs": Noted(given["xs"])})
        shown = ", ".join(str(t + 1) for t in read)
        said = (f"reads the input of step {shown}",)
        yield expected(f"T = {T}", read == list(reversed(range(T))), said, said)


def of_the_future(source: Source) -> Iterator[Row]:
    """Which targets the carry depends on when a step receives it."""
    T = 5
    case = make_case(PLAIN, T=T, loss="softmax_cross_entropy", targets=labels(T, 1, 5))
    given = probabilities(forward(case))
    carries = _carries(source, given)
    for s in range(T):
        targets = [y + (t == s) for t, y in enumerate(given["targets"])]
        other = _carries(source, given | {"targets": targets})
        changed = [t + 1 for t in range(T) if not (carries[t] == other[t]).all()]
        steps = f"step {', '.join(map(str, changed))}" if changed else "no step"
        said = (f"changes what arrives at {steps}",)
        yield expected(f"another target at step {s + 1}", changed == list(range(1, s + 1)), said, said)
    nothing = bool((carries[T - 1] == 0).all())
    yield expected(f"step {T}, the last", nothing, ("receives zero: nothing follows",), ("receives something",))


def _carries(source: Source, given: dict[str, Any]) -> list[Any]:
    """What every step receives, from the first on."""
    _, seen = watch(source, ["dh_next"], lambda: call(source, given))
    return seen["dh_next"][-2::-1]


# --------------------------------------------------------------------------------------------------------- other inputs


def of_other_inputs(source: Source) -> Iterator[Row]:
    """What a caller may also give."""
    import torch

    case = make_case(PLAIN, T=4, loss="softmax_cross_entropy", targets=labels(4, 1, 5))
    given = probabilities(forward(case))
    yield _tried("called in a program that has not imported `torch`", source, lambda: source.run()["bptt_manual"](
        *given.values()), "the listing does not import it")  # fmt: skip
    yield _judged("integer classes as targets, as PyTorch's own loss takes them", source, _with_classes, case,
                  "the class number is taken from every entry")  # fmt: skip
    mean = make_case(PLAIN, T=4, loss="softmax_cross_entropy", targets=labels(4, 1, 5), reduction="mean")
    yield _judged("a loss that is the mean over the steps", source, probabilities, mean)
    yield from _of_lengths(source, given)
    shapes = (("columns, (H, 1)", lambda x: x[:, None]), ("a batch of one as a row, (1, H)", lambda x: x[None]))
    for words, shape in shapes:
        shaped = {n: [shape(v) for v in x] if isinstance(x, list) else x for n, x in given.items()}
        yield _tried(words, source, partial(call, source, shaped), "`torch.outer` takes vectors only")
    single = given | {n: given[n].float() for n in WEIGHTS}
    yield _tried("float32 weights, float64 states", source, partial(call, source, single), "the types must agree")
    arrays = {n: [v.numpy() for v in x] if isinstance(x, list) else x.numpy() for n, x in given.items()}
    yield _tried("NumPy arrays", source, partial(call, source, arrays), "tensors only")
    before = {n: torch.stack(x).clone() if isinstance(x, list) else x.clone() for n, x in given.items()}
    call(source, given)
    same = all(bool((torch.stack(x) if isinstance(x, list) else x).equal(before[n])) for n, x in given.items())
    yield expected("the caller's tensors afterwards", same, ("unchanged",), ("changed",))


def _with_classes(given: dict[str, Any]) -> dict[str, Any]:
    return probabilities(given) | {"targets": [y.argmax() for y in given["targets"]]}


def _of_lengths(source: Source, given: dict[str, Any]) -> Iterator[Row]:
    """Lists of lengths that do not fit, or of no length."""
    empty = given | {"xs": [], "hs": given["hs"][:1], "ys": [], "targets": []}
    found = attempt(source, partial(call, source, empty))
    zero = found.error is None and all(bool((g == 0).all()) for g in found.value)
    said = ("returns zeros: a sum of nothing",)
    yield expected("an empty sequence, T = 0", zero, said, ("returns something else",))
    yield _tried("`hs` without h_0", source, partial(call, source, given | {"hs": given["hs"][1:]}),
                 "it needs T + 1 states")  # fmt: skip
    yield _tried("a target for the last step only", source, partial(call, source, given | {"targets":
                 given["targets"][-1:]}), "it reads a target at every step")  # fmt: skip
    yield _tried("a generator of inputs", source, partial(call, source, given | {"xs": iter(given["xs"])}),
                 "it asks for the length")  # fmt: skip
    right, short = call(source, given), call(source, given | {"xs": given["xs"][:-1]})
    off = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(right, short, strict=True))
    less = ("leaves out the last step's loss; off by ", Quantity(off, 1.01, ".3g"),
            " times the gradient's largest entry")  # fmt: skip
    yield Row("an input fewer than outputs and targets", less, WRONG if off else AGREES)


def _tried(words: str, source: Source, run: Callable[[], Any], why: str) -> Row:
    return stopped(words, attempt(source, run), why)


_VARIABLES = (("dy", 26), ("dh", 32), ("dh_raw", 35))
_SAYS = {
    "dy": "`dy` is the derivative of softmax and cross-entropy by the logits",
    "dh": "`dh` is the whole derivative of the loss by h_t",
    "dh_raw": "`dh_raw` is the derivative by the argument of tanh",
}
GROUPS = (
    Group("probabilities", "`ys` are the softmax of the outputs, targets sum to one: it returns the gradients of the "
          "cross-entropy", of_probabilities, 26, ("printed",)),
    Group("outputs", "`ys` are the outputs y of the chapter: it returns the gradients of softmax and cross-entropy",
          of_outputs, 26),
    Group("squares", "`ys` are the outputs y: it returns the gradients of half the squared error", of_squares,
          26, ("printed",)),
    Group("chapter-loss", "`ys` are the outputs y: it returns the gradients of the cross-entropy of y itself, as the "
          "chapter prints it", of_the_chapters_loss, 26, ("printed",)),
    Group("sums", "for targets that do not sum to one it returns the gradients, too", of_other_sums, 26),
    Group("parameters", "it returns a gradient for every parameter", every_parameter, 13),
    *(Group(name, _SAYS[name], partial(of_variable, name), line, ("printed",)) for name, line in _VARIABLES),
    Group("carry", "`dh_next` is what the step before receives", of_the_carry, 42, ("printed",)),
    Group("order", "the steps are taken from the last to the first", of_the_order, 24, ("printed",)),
    Group("future", "what a step receives depends on all later steps, and on nothing else", of_the_future, 22,
          ("printed",)),
    Group("other", "other inputs", of_other_inputs, forms=("printed",)),
)  # fmt: skip
