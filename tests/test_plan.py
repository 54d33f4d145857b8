"""What the plan promises: the same numbers as the unfused program, one product for one operand, nothing twice."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from odd_cells import ODD, cell_named
from problems import make_scene
from sympy import Symbol

import derive
import numeric
from derive.adjoint import differentiate_step
from derive.notation import at, time_of
from derive.program import Product, cut
from numeric.operations import Gather, Kernel, Multiply, d_of, reads_of, results_of
from numeric.plan import Plans
from numeric.run import Reverse
from numeric.specification import Specification
from numeric.stages import STAGES, forward_stages
from numeric.tape import run_forward

U = 2.0**-53
CELLS = (*derive.cells(), *ODD)


def plans_of(name, active=None):
    """The plans of a cell for a loss that reads every output and state, or ``active``."""
    cell = cell_named(name)
    return Plans(differentiate_step(cut(cell)), frozenset(active or (*cell.outputs, *cell.states)))


def operations(plans):
    """Every operation, with the pass and the stage it is in."""
    for stage in STAGES:
        yield from (("forward", stage, operation) for operation in plans.operations[stage])
        yield from (("backward", stage, operation) for operation in plans.reverse[stage, True])


def scene_of(name, **more):
    cell = cell_named(name)
    sizes = {letter: 2 + i for i, letter in enumerate(cell.dimensions)}
    return make_scene(cell, 1, steps=5, batch=3, sizes=sizes, **more)


# ----------------------------------------------------------------------------------------------------------- numbers


def magnitude_of(found):
    return max(1.0, *(np.abs(x).max() for x in found.values()))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_fused_is_unfused(name, ragged):
    scene = scene_of(name, ragged=ragged)
    fused, unfused = scene.backward(numeric.Engine(scene.cell)), scene.backward(Specification(scene.cell))
    assert abs(fused.loss - unfused.loss) <= 2**10 * U * max(1, abs(unfused.loss))
    for n, right in unfused.params.items():
        scale = max(unfused.magnitude[n].max(), np.abs(right).max())
        assert np.abs(fused.params[n] - right).max() <= 2**8 * U * scale, n
    for group in ("inputs", "initial", "states", "outputs"):
        right = getattr(unfused, group)
        for n, x in right.items():
            assert np.abs(getattr(fused, group)[n] - x).max() <= 2**10 * U * magnitude_of(right), n


@pytest.mark.parametrize("name", CELLS)
def test_an_operation_left_out_is_noticed(name):
    """Every operation of the loop and of the readout is needed: without one, a number is missing or another."""
    scene = scene_of(name)
    engine = numeric.Engine(scene.cell, plain=True)
    right = scene.backward(engine)
    (plans,) = engine._plans.values()
    for stage, operation in [(s, o) for s in STAGES for o in plans.operations[s]]:
        whole = plans.operations[stage]
        plans.operations[stage] = tuple(o for o in whole if o is not operation)
        try:
            found = scene.backward(engine)
            assert any(not np.array_equal(found.outputs[n], y) for n, y in right.outputs.items()) or any(
                not np.array_equal(found.params[n], g) for n, g in right.params.items()
            ), operation
        except KeyError:
            pass
        finally:
            plans.operations[stage] = whole


# -------------------------------------------------------------------------------------------------------- operations


@pytest.mark.parametrize("name", CELLS)
def test_products_with_one_operand_are_one_product(name):
    plans = plans_of(name)
    for stage in STAGES:
        operands = [o.operand for o in plans.operations[stage] if isinstance(o, Multiply)]
        assert len(operands) == len(set(operands))
        results = [o.result for o in plans.reverse[stage, True] if isinstance(o, Gather)]
        assert len(results) == len(set(results))


@pytest.mark.parametrize("name", CELLS)
def test_every_product_of_the_program_is_computed_once(name):
    plans = plans_of(name)
    computed = [s for o in operations(plans) if isinstance(o[2], Multiply) for s, _, _ in o[2].parts]
    assert sorted(map(str, computed)) == sorted(str(n.symbol) for n in plans.program.nodes if isinstance(n, Product))
    made = [s for way, _, o in operations(plans) if way == "forward" for s in results_of(o)]
    assert len(made) == len(set(made))


# products with a matrix that a step of the loop takes, forward and backward
PER_STEP = {"tanh_rnn": (1, 1), "lstm": (1, 1), "lstm_peephole": (1, 1), "gru": (2, 2), "gru_reset_after": (1, 1)}


@pytest.mark.parametrize("name", PER_STEP)
def test_a_step_takes_as_few_products_as_its_equations_allow(name):
    plans = plans_of(name, ("y",))
    forward = [o for o in plans.operations["loop"] if not isinstance(o, Kernel)]
    backward = [o for o in plans.reverse["loop", True] if not isinstance(o, Kernel)]
    assert (len(forward), len(backward)) == PER_STEP[name]
    kernels = [o for o in (*plans.operations["loop"], *plans.reverse["loop", True]) if isinstance(o, Kernel)]
    assert len(kernels) <= 2 * sum(PER_STEP[name]) + 1


@pytest.mark.parametrize("name", CELLS)
def test_products_with_inputs_are_taken_before_the_loop_for_all_steps(name):
    plans = plans_of(name)
    inputs = {at(n) for n in plans.cell.inputs}
    for way, stage, operation in operations(plans):
        if way == "forward" and isinstance(operation, Multiply) and operation.operand in inputs:
            assert stage == "before"
        if way == "backward" and inputs & {Symbol(str(s)[2:], real=True) for s in results_of(operation)}:
            assert stage == "before"


@pytest.mark.parametrize("name", CELLS)
def test_nothing_is_read_before_it_is_made(name):
    plans = plans_of(name)
    program = plans.program
    known = {at(n) for n in plans.cell.inputs} | {at(n, -1) for n in plans.cell.states}
    known |= {s for node in program.nodes for s in program.reads(node) if time_of(s)[1] is None}
    for stage in STAGES:
        for operation in plans.operations[stage]:
            assert set(reads_of(operation)) <= known
            known |= set(results_of(operation))


def test_stages_are_what_depends_on_what():
    program = cut(
        derive.parse("""m[t] = M @ x[t]
n[t] = tanh(b)
q[t] = U @ h[t-1]
h[t] = tanh(m[t] + q[t])*n[t]
d[t] = x[t]
r[t] = R @ h[t]
y[t] = r[t]*n[t] + Q @ d[t-1]""")
    )
    stage = {time_of(s)[0]: where for s, where in forward_stages(program).items()}
    assert {n: stage[n] for n in "mnqhdry"} == {
        "m": "before",
        "n": "before",
        "q": "loop",
        "h": "loop",
        "d": "before",
        "r": "after",
        "y": "after",
    }


def test_the_readout_is_outside_of_the_loop_both_ways():
    plans = plans_of("lstm", ("y",))
    (readout,) = [o for o in plans.operations["after"] if isinstance(o, Multiply)]
    assert [m for _, m, _ in readout.parts] == ["W_y"]
    (gather,) = [o for o in plans.reverse["after", True] if isinstance(o, Gather)]
    assert [m for _, m, _ in gather.parts] == ["W_y"]


def test_the_gradient_by_inputs_is_left_out_where_nobody_asks():
    plans = plans_of("lstm", ("y",))
    assert plans.reverse["before", True]
    assert not plans.reverse["before", False]


def test_flows_from_what_the_loss_does_not_read_are_left_out():
    whole, part = plans_of("parts that no loss reaches"), plans_of("parts that no loss reaches", ("y",))
    assert d_of(at("k")) in {s for o in whole.reverse["loop", True] for s in results_of(o)}
    assert not [s for _, _, o in operations(part) for s in results_of(o) if str(s).startswith("d ") and "k[" in str(s)]


@pytest.mark.parametrize("name", CELLS)
def test_the_gradients_of_all_matrices_with_one_operand_are_one_product(name):
    taken = []

    class Counting(Reverse):
        def outer(self, operand, terms, out):
            taken.append((operand, [matrix for matrix, _, _ in terms]))
            super().outer(operand, terms, out)

    scene = scene_of(name)
    engine = numeric.Engine(scene.cell, plain=True)
    engine.reverse = Counting
    scene.backward(engine)
    operands = [operand for operand, _ in taken]
    assert len(operands) == len(set(operands))
    right = engine.backward_program
    pairs = [(name, pair.operand) for name, pairs in right.matrices.items() for pair in pairs]
    assert sorted((m, str(o)) for o, matrices in taken for m in matrices) == sorted((m, str(o)) for m, o in pairs)


def test_only_what_is_read_again_is_kept():
    scene = scene_of("lstm")
    engine = numeric.Engine(scene.cell, plain=True)
    scene.backward(engine)
    (plans,) = engine._plans.values()
    kept = {str(s) for s in plans.kept if s not in map(at, scene.cell.states)}
    gates = {f"{a}[t]" for g in "ifgo" for a in (g, f"a_{g}")}
    assert kept == gates | {"y[t]"}
    data = numeric.arguments.check_data(scene.cell, engine.dtype, scene.params, scene.inputs)
    whole = {str(s) for s in run_forward(plans, data).whole}
    assert whole == kept | {"x[t]", "h[t]", "h[t-1]", "c[t]", "c[t-1]"} | {f"b_{g}" for g in "ifgoy"}


# --------------------------------------------------------------------------------------------------------- constants

CONSTANTS = {
    "1/3": lambda: mpmath.mpf(1) / 3,
    "0.1": lambda: mpmath.mpf(1) / 10,
    "pi": lambda: mpmath.pi,
    "sqrt(2)": lambda: mpmath.sqrt(2),
    "2*pi/3*sqrt(5)": lambda: 2 * mpmath.pi / 3 * mpmath.sqrt(5),
    "exp(0.1)/3": lambda: mpmath.exp(mpmath.mpf(1) / 10) / 3,
    "tanh(1/7)": lambda: mpmath.tanh(mpmath.mpf(1) / 7),
    "sigmoid(-50)": lambda: 1 / (1 + mpmath.exp(50)),
    "softplus(-60)": lambda: mpmath.log1p(mpmath.exp(-60)),
    "erf(0.3)": lambda: mpmath.erf(mpmath.mpf(3) / 10),
    "1e-3": lambda: mpmath.mpf(1) / 1000,
    "1e300": lambda: mpmath.mpf(10) ** 300,
    "123456789012345678901": lambda: mpmath.mpf(123456789012345678901),
    "sin(pi)": lambda: mpmath.mpf(0),
    "exp(1)**20": lambda: mpmath.e**20,
}


@pytest.mark.parametrize("text", CONSTANTS)
def test_a_constant_is_the_nearest_number(text):
    """Every digit of it: printed with fifteen, 1/3 would be three roundings off."""
    engine = numeric.Engine(derive.parse(f"h[t] = h[t-1] + x[t]\ny[t] = ({text})*x[t]"))
    found = engine.forward({}, np.ones((1, 1, 1)))["y"].item()
    with mpmath.workdps(60):
        right = float(+CONSTANTS[text]())
    assert found == right


def test_constants_of_a_sum_are_one_number():
    engine = numeric.Engine(derive.parse("h[t] = h[t-1] + x[t]\ny[t] = x[t] + pi + sqrt(2) + 1/3"))
    with mpmath.workdps(60):
        right = float(mpmath.pi + mpmath.sqrt(2) + mpmath.mpf(1) / 3)
    assert engine.forward({}, np.zeros((1, 1, 1)))["y"].item() == right


@pytest.mark.parametrize("text", [text for text in CONSTANTS if text != "1e300"])
def test_constants_leave_float32_alone(text):
    cell = derive.parse(f"h[t] = tanh(({text})*h[t-1] + x[t]/({text} + 2))\ny[t] = ({text})*h[t]")
    engine = numeric.Engine(cell, "float32")
    x = np.ones((3, 2, 2), np.float32)
    found = engine.backward({}, x, np.zeros((3, 2), int))
    for group in (found.outputs, found.inputs, found.initial, found.states):
        assert {a.dtype for a in group.values()} == {np.dtype("float32")}
