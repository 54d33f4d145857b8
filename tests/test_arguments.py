"""What is wrong is refused with the array's name, its shape and the one expected; what is right is taken."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import derive
import numeric
from numeric.specification import Specification

T, B, D, H, O = 5, 2, 2, 3, 4  # noqa: E741 - the size of the output
ENGINE = numeric.Engine("tanh_rnn")
NAN = float("nan")


class Unwilling:
    """A foreign array that does not give its numbers away."""

    def __array__(self, *_, **__):
        raise RuntimeError("call detach() first")


def given(**changes):
    """Right arguments with some replaced; ``W_hh=...`` and the like replace a parameter."""
    params = ENGINE.init(seed=0, D=D, H=H, O=O)
    rng = np.random.default_rng(0)
    out = {"params": params, "inputs": rng.normal(size=(T, B, D)), "targets": rng.integers(0, O, (T, B))}
    for name, value in changes.items():
        if name in params:
            params[name] = value
        else:
            out[name] = value
    return out


def refused(call, *phrases, error=ValueError):
    """The message of the error that a call raises; it holds every phrase."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for phrase in phrases:
        assert phrase in message, message
    return message


# Changes to right arguments, and what the message must say.
ARRAYS = [
    ({"params": None}, "params is None", "a dict of W_hh, W_xh, b, W_hy"),
    ({"params": [1, 2]}, "params has type list", "W_hh, W_xh, b, W_hy"),
    ({"params": np.ones((T, B, D))}, "params has type ndarray"),
    ({"W_hh": np.ones((H, H + 1))}, "W_hh", "(3, 4)", "(H, H), a square matrix"),
    ({"W_hh": np.ones(H)}, "W_hh", "(3,)", "(H, H)"),
    ({"W_xh": np.ones((D, H))}, "W_xh", "(2, 3)", "(H, D) with H = 3 as in W_hh"),
    ({"W_hy": np.ones((O, H, 1))}, "W_hy", "(4, 3, 1)", "(O, H)", "H = 3 as in W_hh"),
    ({"b": np.ones(D)}, "b has shape (2,)", "(H,) with H = 3 as in W_hh"),
    ({"b": np.ones((H, 1))}, "b has shape (3, 1)", "(H,)"),
    ({"b": 1.0}, "b has shape ()", "(H,)"),
    ({"W_hh": np.ones((0, 0))}, "W_hh", "(0, 0)", "H = 0", "at least 1"),
    ({"W_hh": np.full((H, H), NAN)}, "W_hh", "(3, 3)", "nan at (0, 0)", "finite"),
    ({"W_xh": [[1, 2], [3, np.inf], [5, 6]]}, "W_xh", "(3, 2)", "inf at (1, 1)", "finite"),
    ({"b": ["a", "b", "c"]}, "b has type list and dtype <U1", "numbers"),
    ({"b": "abc"}, "b has type str", "numbers"),
    ({"b": None}, "b is None", "numbers"),
    ({"b": np.array([None, 1, 2])}, "b has type ndarray and dtype object", "numbers"),
    ({"b": {"b": 1}}, "b has type dict", "numbers"),
    ({"b": np.ones(H, bool)}, "b has type ndarray and dtype bool", "numbers"),
    ({"b": np.ones(H, complex)}, "b is complex", "float64"),
    ({"b": np.full(H, 2**60 + 1)}, "b holds integers beyond 9007199254740992", "float64"),
    ({"b": [2**53 + 1, 0, 0]}, "b holds integers beyond"),
    ({"b": [[1, 2], [3]]}, "b is not an array"),
    ({"b": Unwilling()}, "b is not an array", "call detach() first"),
    ({"b": np.ma.masked_array(np.ones(H), [0, 1, 0])}, "b is a masked array", "fill it"),
    ({"inputs": None}, "inputs is None", "a dict of x"),
    ({"inputs": {"X": np.ones((T, B, D))}}, "unknown input 'X'", "expected x", "did you mean x?"),
    ({"inputs": {"x": np.ones((T, B, D)), "u": 1}}, "unknown input 'u'"),
    ({"inputs": {}}, "missing input x"),
    ({"inputs": np.ones((T, D))}, "x has shape (5, 2)", "(T, B, D) with D = 2 as in W_xh"),
    ({"inputs": np.ones((T, B, D + 1))}, "x has shape (5, 2, 3)", "(T, B, D)", "D = 2 as in W_xh"),
    ({"inputs": np.ones((0, B, D))}, "x has shape (0, 2, 2)", "T = 0", "at least 1"),
    ({"inputs": np.ones((T, 0, D))}, "x has shape (5, 0, 2)", "B = 0"),
    ({"inputs": np.full((T, B, D), NAN)}, "x, of shape (5, 2, 2)", "nan at (0, 0, 0)"),
    ({"inputs": np.ma.masked_array(np.ones((T, B, D)))}, "x is a masked array", "lengths="),
    ({"initial": [1]}, "initial has type list", "a dict of h"),
    ({"initial": np.ones((B, H))}, "initial has type ndarray", "a dict of h"),
    ({"initial": {"h0": np.ones((B, H))}}, "unknown initial state 'h0'", "did you mean h?"),
    ({"initial": {"h": np.ones((B + 1, H))}}, "initial h has shape (3, 3)", "(B, H)", "B = 2 as in x"),
    ({"initial": {"h": np.ones(H)}}, "initial h has shape (3,)", "(B, H)", "H = 3 as in W_hh"),
    ({"initial": {"h": np.full((B, H), NAN)}}, "initial h", "nan at (0, 0)"),
    ({"initial": {"h": None}}, "initial h is None"),
    ({"lengths": [T]}, "lengths has shape (1,)", "2 integers, shape (2,)"),
    ({"lengths": T}, "lengths has shape ()", "2 integers, shape (2,)"),
    ({"lengths": [[1, 2]]}, "lengths has shape (1, 2)", "shape (2,)"),
    ({"lengths": [5.0, 4.0]}, "dtype float64", "2 integers"),
    ({"lengths": [True, True]}, "lengths", "bool"),
    ({"lengths": [0, T]}, "lengths runs from 0 to 5", "1 to T = 5"),
    ({"lengths": [1, T + 1]}, "lengths runs from 1 to 6", "1 to T = 5"),
    ({"lengths": [-1, 2]}, "lengths runs from -1 to 2"),
    ({"lengths": [[1], [1, 2]]}, "lengths is not an array"),
    ({"steps": T - 1}, "steps is 4, but T is 5 in x"),
    ({"batch": B + 1}, "batch is 3, but B is 2 in x"),
    ({"steps": 0}, "steps is 0", "positive integer"),
    ({"steps": 5.0}, "steps is 5.0", "positive integer"),
]

NUMBERS = np.zeros((T, B, O))
LOSSES = [
    ({"loss": "softmax"}, "loss is 'softmax'", "'softmax_cross_entropy' or 'squared_error' or 'linear'"),
    ({"loss": None}, "loss is None"),
    ({"at": "first"}, "at is 'first'", "'every' or 'last'"),
    ({"reduction": "average"}, "reduction is 'average'", "'sum' or 'mean'"),
    ({"on": "z"}, "on is 'z'", "one of y, h"),
    ({"on": ""}, "on is ''"),
    ({"targets": None}, "softmax_cross_entropy takes targets", "None"),
    (
        {"targets": np.zeros((B, T), int)},
        "targets has shape (2, 5)",
        "(T, B, O) = (5, 2, 4)",
        "integers, of shape (5, 2)",
    ),
    ({"targets": np.zeros((T, B))}, "targets has shape (5, 2) and dtype float64", "class indices, integers"),
    ({"targets": np.zeros((T, B), bool)}, "targets", "bool"),
    ({"targets": np.zeros((T, B, 1), int)}, "targets has shape (5, 2, 1)", "(5, 2, 4)"),
    ({"targets": np.zeros((T, B, O + 1))}, "targets has shape (5, 2, 5)", "(T, B, O) = (5, 2, 4)"),
    ({"targets": np.full((T, B), -1)}, "targets, of shape (5, 2), runs from -1 to -1", "classes 0 to 3"),
    ({"targets": np.full((T, B), O)}, "targets", "from 4 to 4", "classes 0 to 3"),
    ({"targets": np.full((T, B, O), NAN)}, "targets, of shape (5, 2, 4)", "nan at (0, 0, 0)"),
    ({"targets": [[0], [0, 1]]}, "targets is not an array"),
    ({"at": "last"}, "targets has shape (5, 2)", "(B, O) = (2, 4)", "integers, of shape (2,)", "at='last'"),
    ({"at": "last", "targets": np.zeros(B)}, "targets has shape (2,) and dtype float64", "integers, of shape (2,)"),
    ({"on": "h", "targets": np.full((T, B), H)}, "targets", "from 3 to 3", "classes 0 to 2"),
    ({"loss": "squared_error"}, "targets has shape (5, 2)", "(T, B, O) = (5, 2, 4)", "at='every'"),
    ({"loss": "squared_error", "at": "last", "targets": NUMBERS}, "targets has shape (5, 2, 4)", "(B, O) = (2, 4)"),
    ({"loss": "squared_error", "on": "h", "targets": NUMBERS}, "targets has shape (5, 2, 4)", "(T, B, H) = (5, 2, 3)"),
    ({"loss": "squared_error", "targets": NUMBERS + 1j}, "targets is complex", "float64"),
    ({"cotangents": {"y": NUMBERS}}, "cotangents belong to the linear loss", "softmax_cross_entropy takes targets"),
    ({"loss": "linear"}, "takes cotangents, not targets"),
    ({"loss": "linear", "targets": None}, "takes cotangents, a dict with any of y, h"),
    ({"loss": "linear", "targets": None, "cotangents": {}}, "a dict with any of y, h"),
    ({"loss": "linear", "targets": None, "cotangents": NUMBERS}, "a dict with any of y, h"),
    ({"loss": "linear", "targets": None, "cotangents": {"Y": NUMBERS}}, "unknown cotangent 'Y'", "did you mean y?"),
    ({"loss": "linear", "targets": None, "cotangents": {"y": NUMBERS}, "on": "y"}, "leave out on='y'"),
    (
        {"loss": "linear", "targets": None, "cotangents": {"y": 1.0}},
        "cotangents['y'] has shape ()",
        "(T, B, O) = (5, 2, 4)",
    ),
    ({"loss": "linear", "targets": None, "cotangents": {"y": None}}, "cotangents['y'] is None"),
    ({"loss": "linear", "targets": None, "cotangents": {"h": NUMBERS}}, "cotangents['h']", "(T, B, H) = (5, 2, 3)"),
    ({"loss": "linear", "targets": None, "cotangents": {"y": NUMBERS * NAN}}, "cotangents['y']", "nan at (0, 0, 0)"),
]


def test_the_arguments_that_the_tables_change_are_right():
    loss, grads = ENGINE.value_and_grad(**given())
    assert np.isfinite(loss)
    assert {n: g.shape for n, g in grads.items()} == {"W_hh": (H, H), "W_xh": (H, D), "b": (H,), "W_hy": (O, H)}


@pytest.mark.parametrize("row", [*ARRAYS, *LOSSES], ids=lambda row: row[1])
def test_it_is_refused_in_these_words(row):
    change, *phrases = row
    message = refused(lambda: ENGINE.value_and_grad(**given(**change)), *phrases)
    assert refused(lambda: ENGINE.backward(**given(**change))) == message
    assert refused(lambda: Specification(ENGINE.cell).backward(**given(**change))) == message
    assert refused(lambda: numeric.check_gradients(ENGINE, **given(**change))) == message


@pytest.mark.parametrize("row", ARRAYS, ids=lambda row: row[1])
def test_the_forward_pass_refuses_it_too(row):
    change, *phrases = row
    arguments = given(**change)
    del arguments["targets"]
    refused(lambda: ENGINE.forward(**arguments), *phrases)


@pytest.mark.parametrize("name", ["W_hh", "b", "W_hy"])
def test_a_parameter_must_be_there(name):
    arguments = given()
    del arguments["params"][name]
    refused(lambda: ENGINE.value_and_grad(**arguments), f"missing parameter {name}", "expected W_hh, W_xh, b, W_hy")


def test_a_misspelt_parameter_is_asked_for_by_the_name_that_is_missing():
    arguments = given()
    arguments["params"]["W_hx"] = arguments["params"].pop("W_xh")
    refused(lambda: ENGINE.value_and_grad(**arguments), "unknown parameter 'W_hx'", "did you mean W_xh?")
    arguments = given()
    arguments["params"][3] = 1
    refused(lambda: ENGINE.value_and_grad(**arguments), "unknown parameter 3")


@pytest.mark.parametrize(("option", "meant"), [("los", "loss"), ("length", "lengths"), ("cotangent", "cotangents")])
def test_an_unknown_option_is_a_type_error_that_names_it(option, meant):
    for call in (ENGINE.value_and_grad, ENGINE.backward, Specification(ENGINE.cell).backward):
        refused(lambda: call(**given(), **{option: 1}), repr(option), f"did you mean {meant}?", error=TypeError)  # noqa: B023
    refused(lambda: numeric.check_gradients(ENGINE, **given(), **{option: 1}), repr(option), error=TypeError)
    refused(lambda: ENGINE.forward(given()["params"], given()["inputs"], loss="linear"), "'loss'", error=TypeError)


# ---------------------------------------------------------------------------------------------------- other cells


def test_a_cell_without_inputs_has_to_be_told_how_long_and_how_many():
    engine = numeric.Engine(derive.parse("h[t] = tanh(W @ h[t-1] + b)\ny[t] = V @ h[t]"))
    params = engine.init(0, H=H, O=O)
    classes = np.zeros((T, B), int)
    refused(lambda: engine.forward(params), "how large T is", "no inputs", "give steps=")
    refused(lambda: engine.forward(params, steps=T), "how large B is", "give batch=")
    refused(
        lambda: engine.forward(params, np.ones((T, B, 1)), steps=T, batch=B), "inputs has type ndarray", "empty dict"
    )
    refused(lambda: engine.value_and_grad(params, targets=np.zeros(B, int), at="last"), "how large T is", "give steps=")
    refused(lambda: engine.value_and_grad(params, targets=classes, steps=0), "steps is 0", "positive integer")
    refused(lambda: engine.value_and_grad(params, targets=classes, steps=3), "targets has shape (5, 2)", "(3, 2, 4)")
    refused(lambda: engine.value_and_grad(params, targets=[[1], [2, 3]]), "targets is not an array")
    three = {"h": np.ones((3, H))}
    refused(lambda: engine.forward(params, initial=three, steps=T, batch=B), "batch is 2, but B is 3 in initial h")
    refused(lambda: engine.value_and_grad(params, targets=classes, initial=three), "targets", "(5, 2)", "(5, 3, 4)")
    refused(lambda: engine.value_and_grad(params, targets=classes, initial=np.ones((B, H))), "initial has type ndarray")
    assert engine.forward(params, steps=T, initial=three)["y"].shape == (T, 3, O)
    assert engine.forward(params, None, steps=T, batch=B)["y"].shape == (T, B, O)
    loss, _ = engine.value_and_grad(params, targets=classes)  # the targets say T and B
    assert loss == engine.value_and_grad(params, {}, classes, steps=T, batch=B)[0]


def test_several_inputs_come_by_name_and_agree_on_time_and_batch():
    engine = numeric.Engine(derive.parse("h[t] = tanh(W @ h[t-1] + V @ x[t] + U @ u[t])"))
    params = engine.init(0, H=H, D=D, D_u=1)
    x, u = np.ones((T, B, D)), np.ones((T, B, 1))
    refused(lambda: engine.forward(params, x), "inputs has type ndarray", "a dict of x, u")
    refused(lambda: engine.forward(params, {"x": x}), "missing input u")
    refused(lambda: engine.forward(params, {"x": x, "u": u[1:]}), "u has shape (4, 2, 1)", "T = 5 as in x")
    assert engine.forward(params, {"u": u, "x": x})["h"].shape == (T, B, H)


def test_one_of_several_outputs_must_be_chosen():
    engine = numeric.Engine(derive.parse("h[t] = tanh(W @ h[t-1] + x[t])\ny[t] = V @ h[t]\nz[t] = U @ h[t]"))
    params = engine.init(0, H=H, O=O, O_z=O)
    arguments = (params, np.ones((T, B, H)), np.zeros((T, B), int))
    refused(lambda: engine.value_and_grad(*arguments), "several outputs (y, z)", "on=")
    assert engine.value_and_grad(*arguments, on="z")[0] > 0


def test_a_state_that_nothing_gives_a_size_needs_an_initial_value():
    engine = numeric.Engine(derive.parse("a: scalar\ns: K\ns[t] = a\nh[t] = tanh(h[t-1] + x[t])\ny[t] = s[t-1]"))
    refused(lambda: engine.forward({"a": 1}, np.ones((T, B, H))), "how large K, the size of s", "initial={'s': ...}")
    assert engine.forward({"a": 1}, np.ones((T, B, H)), {"s": np.ones((B, 7))})["y"].shape == (T, B, 7)


def test_a_scalar_parameter_is_one_number():
    engine = numeric.Engine(derive.parse("a: scalar\nh[t] = tanh(a*h[t-1] + x[t])"))
    x, targets = np.ones((T, B, H)), np.zeros((T, B, H))
    refused(lambda: engine.forward({"a": [0.5]}, x), "a has shape (1,)", "(), a scalar")
    for one in (0.5, np.float64(0.5), np.float32(0.5), np.array(0.5)):
        loss, grads = engine.value_and_grad({"a": one}, x, targets, loss="squared_error")
        assert loss > 0
        assert isinstance(grads["a"], np.ndarray)
        assert grads["a"].shape == ()


# -------------------------------------------------------------------------------------------------------- the engine


@pytest.mark.parametrize("dtype", ["foo", None, "int64", "float16", ">f8", object()])
def test_the_engine_computes_in_one_of_three_types(dtype):
    refused(lambda: numeric.Engine("tanh_rnn", dtype), "dtype is", "float32, float64, complex128")


def test_the_engine_keeps_everything_and_runs_its_own_cell():
    refused(lambda: numeric.Engine("tanh_rnn", keep="some"), "keep is 'some'", "'all'")
    refused(lambda: numeric.Engine("lstm", backward=ENGINE.backward_program), "tanh_rnn", "lstm")


@pytest.mark.parametrize(
    ("sizes", "phrases"),
    [
        ({"D": 2, "H": 3}, ("missing size O", "H, D, O")),
        ({"D": 2, "H": 3, "O": 4, "K": 5}, ("unknown size 'K'", "H, D, O")),
        ({"D": 0, "H": 3, "O": 4}, ("the size D is 0", "positive integer")),
        ({"D": 2.0, "H": 3, "O": 4}, ("the size D is 2.0", "positive integer")),
        ({"D": True, "H": 3, "O": 4}, ("the size D is True", "positive integer")),
    ],
)
def test_init_takes_every_size_once(sizes, phrases):
    refused(lambda: ENGINE.init(0, **sizes), *phrases)


@pytest.mark.parametrize(
    ("constant", "dtype"),
    [
        ("1e400", "float64"),
        ("1e-400", "float64"),
        ("exp(1000)", "float64"),
        ("exp(-1000)", "float64"),
        ("exp(exp(exp(exp(20))))", "float64"),
        ("1e200*1e200", "float64"),
        ("1e60", "float32"),
        ("1e-60", "float32"),
    ],
)
def test_a_constant_that_the_type_cannot_hold_is_refused_at_once(constant, dtype):
    cell = derive.parse(f"h[t] = tanh({constant}*h[t-1] + x[t])")
    refused(lambda: numeric.Engine(cell, dtype), "the constant", f"no number that {dtype} can hold")


@pytest.mark.parametrize("constant", ["1e300", "1e-300", "sin(pi)", "tanh(0)", "exp(-700)", "2**64", "0*exp(1000)"])
def test_other_constants_are_taken(constant):
    numeric.Engine(derive.parse(f"h[t] = tanh({constant} + h[t-1] + x[t])"))


def test_the_cross_check_refuses_what_it_cannot_do():
    single = numeric.Engine("tanh_rnn", "float32")
    refused(lambda: numeric.check_gradients(single, **given()), "float64 engines", "float32")
    refused(lambda: numeric.check_gradients(ENGINE, **given(), methods=("complex-step",)), "did you mean complex step?")
    refused(lambda: numeric.check_gradients(ENGINE, **given(), entries=0), "entries is 0")
    assert not numeric.check_gradients(ENGINE, **given(), methods=()).ok  # nothing looked at is not agreement


def test_an_engine_with_a_backward_pass_of_its_own_is_not_pickled_as_a_right_one():
    planted = numeric.Engine("tanh_rnn", backward=ENGINE.backward_program)
    refused(lambda: pickle.dumps(planted), "cannot be copied or pickled", error=TypeError)


# -------------------------------------------------------------------------------------------------- what is taken


def other_forms(x):
    """The same numbers, held differently."""
    yield x.tolist()
    yield tuple(map(tuple, x.tolist())) if x.ndim == 2 else x.tolist()
    yield np.asfortranarray(x)
    yield np.repeat(x, 3, axis=-1)[..., ::3]
    yield x[::-1][::-1]
    yield x.astype(">f8")
    frozen = x.copy()
    frozen.setflags(write=False)
    yield frozen


def test_the_same_numbers_in_another_form_give_the_same_gradient():
    arguments = given(initial={"h": np.ones((B, H))}, lengths=np.array([3, 5]))
    right = ENGINE.backward(**arguments)
    parts = {n: list(other_forms(p)) for n, p in arguments["params"].items()}
    for i, x in enumerate(other_forms(arguments["inputs"])):
        other = arguments | {"params": {n: forms[i] for n, forms in parts.items()}, "inputs": {"x": x}}
        found = ENGINE.backward(**other)
        assert found.loss == right.loss
        for name, gradient in right.params.items():
            np.testing.assert_array_equal(found.params[name], gradient)
        np.testing.assert_array_equal(found.inputs["x"], right.inputs["x"])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float16, np.float32])
def test_numbers_that_the_type_holds_exactly_are_taken(dtype):
    arguments = given(inputs=np.arange(T * B * D).reshape(T, B, D) % 7)
    right = ENGINE.value_and_grad(**arguments)
    found = ENGINE.value_and_grad(**(arguments | {"inputs": arguments["inputs"].astype(dtype)}))
    assert found[0] == right[0]
    for name, gradient in right[1].items():
        np.testing.assert_array_equal(found[1][name], gradient)


def test_float32_takes_written_numbers_but_no_float64_array():
    engine = numeric.Engine("tanh_rnn", "float32")
    params = engine.init(0, D=D, H=H, O=O)
    x, targets = np.ones((T, B, D), np.float32), np.zeros((T, B), int)
    for value in ([0.1, 0.2, 0.3], [1, 2, 3], np.array([1, 2, 3]), np.ones(3, np.float16)):
        _, grads = engine.value_and_grad(params | {"b": value}, x, targets)
        assert all(g.dtype == np.float32 for g in grads.values())
    refused(lambda: engine.forward(params, x.astype(float)), "x has dtype float64", "astype('float32')")
    refused(lambda: engine.forward(params | {"b": np.ones(3)}, x), "b has dtype float64", "astype('float32')")
    refused(lambda: engine.forward(params | {"b": [1e300, 0, 0]}, x), "b", "inf at (0,)", "finite")
    refused(
        lambda: engine.forward(params | {"b": np.array([2**24 + 1, 0, 0])}, x), "integers beyond 16777216", "float32"
    )
