"""The drawing of gradient norms, ``visualize_gradient_flow``: what it draws, and what it leaves behind.

norm of d(sum of the last outputs)/dx_t        beside        norm of dy_T/dx_t
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from numeric.arguments import Array
from numeric.oracle.case import Case
from numeric.oracle.store import Store
from reports.document import Code, Quantity
from reports.listings.cases import BIASED, make_case, model_of
from reports.listings.outcome import attempt, expected, judged, stopped
from reports.listings.rows import AGREES, WRONG, Group, Row
from reports.listings.source import Source

__all__ = ["GROUPS"]

#: Units of rounding noise that a norm may be off, as for the gradient itself.
LIMIT = 16


@dataclass(frozen=True)
class Drawing:
    """What is on the figure when it is shown: the points, and which of them can be seen."""

    x: Array
    y: Array
    seen: int
    left: int = 0


def flow_case(T: int = 6, B: int = 1, O: int = 4, text: str = BIASED, **how: Any) -> Case:  # noqa: E741
    """The sum of the last outputs of the first sequence, as a linear loss."""
    ones = np.zeros((T, B, O))
    ones[-1, 0] = 1
    return make_case(text, T=T, B=B, O=O, start=0.0, loss="linear", **{"cotangents": {"y": ones}} | how)


def draw(source: Source, model: Any, x: Any, *, look: bool = False) -> Drawing:
    """Call the listing, and read its figure at the moment when it is shown; ``look`` finds out what can be seen.

    ``left`` of what is returned says how many figures are open afterwards; they are closed then.
    """
    import matplotlib.pyplot as plt

    drawn: list[Drawing] = []
    with mock.patch.object(plt, "show", side_effect=lambda: drawn.append(_read(plt.gcf(), look))):
        try:
            source.run()["visualize_gradient_flow"](model, x)
            return replace(drawn[0], left=len(plt.get_fignums()))
        finally:
            plt.close("all")


def _read(figure: Any, look: bool) -> Drawing:
    axes = figure.axes[0]
    line = axes.lines[-1]
    x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data(orig=True))
    return Drawing(x, y, _visible(figure, axes, line, x, y) if look else 0)


def _visible(figure: Any, axes: Any, line: Any, x: Array, y: Array) -> int:
    """How many points lie within the axes, with a mark or a line to another such point."""
    figure.canvas.draw()
    with np.errstate(all="ignore"):
        places = axes.transData.transform(np.stack([x, y], axis=1))
    box = axes.bbox
    inside = np.isfinite(places).all(axis=1) & (places[:, 1] >= box.y0 - 1) & (places[:, 1] <= box.y1 + 1)
    marked = line.get_marker() not in (None, "None", "none", "", " ")
    return int(inside.sum()) if marked or inside.sum() > 1 else 0


def given(case: Case) -> tuple[Any, Any]:
    """A model and an input, batch first, that nobody has used before."""
    import torch

    return model_of(case), torch.tensor(np.array(case.inputs["x"])).transpose(0, 1).contiguous()


# ------------------------------------------------------------------------------------------------- beside what is right


def sum_norms(case: Case) -> tuple[Array, Array]:
    """The norms of the certified gradient of the sum of the last outputs, and their noise."""
    truth = Store().truth(case)
    exact = truth.enclosure("x").hi[:, 0]
    return _norm(exact), _norm(truth.noise["x"][:, 0])


def jacobian_norms(case: Case) -> tuple[Array, Array]:
    """The norms of the Jacobian of the last output, row by row from certified gradients, and their noise."""
    rows = []
    for k in range(case.cotangents["y"].shape[-1] if case.cotangents else 0):
        one = np.zeros_like(case.cotangents["y"]) if case.cotangents else np.zeros(0)
        one[-1, 0, k] = 1
        rows.append(sum_norms(replace(case, cotangents={"y": one})))
    exact, noise = (np.array(parts).T for parts in zip(*rows, strict=True))
    return _norm(exact), _norm(noise)


def _norm(rows: Array) -> Array:
    scale = np.abs(rows).max(axis=-1, initial=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, scale * np.sqrt(((rows / scale[:, None]) ** 2).sum(axis=-1)), 0.0)


Norms = Callable[[Case], tuple[Array, Array]]


def compared(words: str, found: Array, case: Case, norms: Norms, why: str = "") -> Row:
    """The points that were drawn, beside the right norms."""
    exact, noise = norms(case)
    unit = np.finfo(case.dtype).eps / 2
    error = np.abs(found - exact)
    if found.shape == exact.shape and (error <= LIMIT * (noise + unit * exact)).all():
        return Row(words, (f"draws the right norms: {len(exact)} point{'s' * (len(exact) > 1)}, to rounding",), AGREES)
    largest = float(exact.max(initial=0.0))
    off = float(error.max()) / largest if largest else np.inf
    return Row(words, (f"{why}; off by ", Quantity(off, 1.01, ".3g"), " times the largest norm"), WRONG)


def _drawn(words: str, source: Source, case: Case, norms: Norms, why: str = "") -> Row:
    made = attempt(source, lambda: draw(source, *given(case)).y)
    return stopped(words, made, why) if made.error else compared(words, made.value, case, norms, why)


def of_sums(source: Source) -> Iterator[Row]:
    """A model and an input that nobody has used before."""
    cases = {
        "T = 6, D = 3, H = 4, O = 4": flow_case(),
        "T = 1": flow_case(T=1),
        "D = H = O = 1": flow_case(D=1, H=1, O=1),
        "a batch of three, of which the first is drawn": flow_case(B=3),
        "float32": flow_case(dtype="float32"),
        "T = 60": flow_case(T=60, H=8),
        "weights three times as large": flow_case(scale=3.0),
        "an LSTM": flow_case(text="lstm"),
    }
    for words, case in cases.items():
        yield _drawn(words, source, case, sum_norms)
    yield judged(
        "the gradient that it leaves in `x.grad`", source, partial(_left_behind, source), flow_case(), only=("x",)
    )


def _left_behind(source: Source, case: Case) -> dict[str, Any]:
    model, x = given(case)
    draw(source, model, x)
    return {"grads": {"x": x.grad.transpose(0, 1)}}


def of_jacobians(source: Source) -> Iterator[Row]:
    """The same beside the norms of the Jacobian."""
    why = "what the outputs contribute cancels"
    opposite = {"W_xh": np.ones((1, 1)), "W_hh": np.full((1, 1), 0.5), "b": np.zeros(1)}
    opposite |= {"W_hy": np.array([[1.0], [-1.0]]), "b_y": np.zeros(2)}
    smallest = flow_case(T=1, D=1, H=1, O=2, params=opposite)
    yield _drawn("two opposite outputs, T = D = H = 1, O = 2", source, smallest, jacobian_norms, why)
    yield _drawn("O = 4", source, flow_case(), jacobian_norms, why)
    yield _drawn("one output, O = 1", source, flow_case(O=1), jacobian_norms, why)
    yield _drawn("float32", source, flow_case(dtype="float32", O=1), jacobian_norms, why)
    yield _drawn("an LSTM, O = 1", source, flow_case(text="lstm", O=1), jacobian_norms, why)


# ------------------------------------------------------------------------------------------------ called more than once


def of_calls(source: Source) -> Iterator[Row]:
    """The second drawing beside the first, for the same input."""
    case = flow_case()
    model, x = given(case)
    first, second = draw(source, model, x), draw(source, model, x)
    yield _ratio("the same input a second time", second.y, first.y)
    model, x = given(case)
    x.requires_grad_()
    model(x)[0].sum().backward()  # as a training step would
    yield _ratio("an input that has a gradient from before", draw(source, model, x).y, first.y)
    model, x = given(case)
    model(x)[0].sum().backward()
    yield _ratio("parameters that have gradients from before", draw(source, model, x).y, first.y)
    model, x = given(case)
    x = x.requires_grad_() + 0  # as an embedding's output would be
    made = attempt(source, lambda: draw(source, model, x).y)
    words = "an input that was computed from something else, such as an embedding"
    yield stopped(words, made, "`x.grad` is kept for leaves only") if made.error else _ratio(words, made.value, first.y)


def _ratio(words: str, found: Array, right: Array) -> Row:
    ratio = float((found / right).max())
    said = ("draws norms up to ", Quantity(ratio, 1.01, ".3g"), " times as large: the gradients add up in `x.grad`")
    return expected(words, bool(np.allclose(found, right, rtol=1e-9)), ("draws the same",), said)


def of_traces(source: Source) -> Iterator[Row]:
    """What is changed for the caller."""
    model, x = given(flow_case())
    model.train(False)
    left = draw(source, model, x).left
    clean = all(p.grad is None for p in model.parameters())
    rows = {
        "`x.requires_grad`, which was False": (not x.requires_grad, "still False", "True, for good"),
        "`x.grad`, which was None": (x.grad is None, "still None", "the gradient"),
        "the gradients of the model's parameters, which were None": (
            clean, "still None", "there: the next optimizer step takes them in, unless they are cleared"),
        "the mode of the model, which was for evaluation": (not model.training, "still so", "for training"),
        "open figures": (left == 0, "none is left", f"{left} is left, and one more with every call"),
    }  # fmt: skip
    for words, (right, yes, no) in rows.items():
        yield expected(words, right, (yes,), (no,))


# --------------------------------------------------------------------------------------------------------- what is seen


def of_the_drawing(source: Source) -> Iterator[Row]:
    """Points that can be seen."""
    cut = {"W_hh": np.zeros((4, 4))}
    cases = {
        "T = 1": flow_case(T=1),
        "T = 6": flow_case(),
        "no recurrence, W_hh = 0: every norm but the last is zero": flow_case(params=cut),
        "no readout, W_hy = 0: every norm is zero": flow_case(params={"W_hy": np.zeros((4, 4))}),
        "every unit saturated at step 2: what came before is forgotten": _with_a_gap(),
    }
    for words, case in cases.items():
        drawing = draw(source, *given(case), look=True)
        count, zeros = len(drawing.y), int((drawing.y == 0).sum())
        said = f"{drawing.seen} of {count} points can be seen" + (f"; {zeros} are zero" if zeros else "")
        yield expected(words, drawing.seen == count, (said,), (said,))
    yield from _underflow(source)


def _with_a_gap() -> Case:
    """A network that forgets its first input: at the second step every unit is saturated."""
    x = np.random.default_rng(0).standard_normal((6, 1, 3))
    x[1] = 1e3
    return flow_case(inputs=x, params={"W_xh": np.ones((4, 3))})


def _underflow(source: Source) -> Iterator[Row]:
    """A sequence over which float32 runs out of small numbers."""
    case = flow_case(T=60, scale=0.1, dtype="float32", O=1)
    found, exact = draw(source, *given(case)).y, sum_norms(replace(case, id="flow"))[0]
    lost = int(((found == 0) & (exact > 0)).sum())
    no = (Quantity(lost, 1.3, ".0f"), " of 60 norms are drawn as zero; the exact ones are positive, the smallest ",
          Quantity(float(exact.min()), 1.1))  # fmt: skip
    yield expected("float32, small weights, T = 60", lost == 0, ("no norm is drawn as zero",), no)


# --------------------------------------------------------------------------------------------------------- other inputs


def others(source: Source) -> Iterator[Row]:
    """What a caller may also give."""
    import torch

    model, x = given(flow_case(B=2))
    yield from _layouts(source)
    tries = {
        "token ids, integers": (model, x.long(), "integers have no gradient"),
        "a sequence without a batch axis, (T, D)": (model, x[0], "the outputs have two axes"),
        "a model that returns its outputs alone": (_alone(model), x, "the outputs of the two sequences are unpacked"),
    }  # fmt: skip
    for words, (its, inputs, why) in tries.items():
        yield stopped(words, attempt(source, partial(draw, source, its, inputs)), why)
    with torch.no_grad():
        made = attempt(source, partial(draw, source, model, x))
    yield stopped("within `torch.no_grad()`", made, "there is no graph")
    yield _dropped(source)
    shown = draw(source, *given(flow_case()))
    said = ("the points stand at 0 to 5: the chapter's first input is at 0",)
    yield expected("the axis, T = 6", shown.x.tolist() == list(range(6)), said, ("the points stand elsewhere",))


def _alone(model: Any) -> Callable[[Any], Any]:
    def outputs(x: Any) -> Any:
        return model(x)[0]

    outputs.train = model.train  # type: ignore[attr-defined]
    return outputs


def _layouts(source: Source) -> Iterator[Row]:
    """A model that takes time first is given (T, B, D)."""
    case = flow_case(T=4, B=4)
    model = model_of(case, batch_first=False)
    _, x = given(case)
    why = "it reads the first step's output of the last sequence"
    found = draw(source, model, x.transpose(0, 1).contiguous()).y
    yield compared("a model without `batch_first`, T = B = 4", found, case, sum_norms, why)


def _dropped(source: Source) -> Row:
    """A model with dropout that was put into evaluation mode."""
    import torch

    torch.manual_seed(0)
    model, x = given(flow_case())
    model.out = torch.nn.Sequential(torch.nn.Dropout(0.5), model.out).double()
    model.train(False)
    first, second = (draw(source, model, x.clone()).y for _ in range(2))
    same = bool(np.array_equal(first, second))
    no = ("two calls draw different norms: ", Code("model.train()"), " switches dropout on")
    return expected("a model with dropout, in evaluation mode", same, ("two calls draw the same",), no)


GROUPS = (
    Group("sums", "it draws the norms of the gradient of the sum of the last outputs", of_sums, 12, ("printed",)),
    Group("jacobian", "it draws the norms of the Jacobian of the last output by each input", of_jacobians, 12),
    Group("again", "what it draws does not depend on what was done before", of_calls, 13),
    Group("traces", "it leaves the model and the input as they were", of_traces, 8),
    Group("seen", "every norm can be seen", of_the_drawing, 22),
    Group("other", "other inputs", others, forms=("printed",)),
)
