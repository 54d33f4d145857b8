"""The unrolled graph in words: how many ways lead back to an early state, and what stands on each edge."""

from __future__ import annotations

from functools import cache

from derive.derivation import Derivation
from derive.latex import name_latex
from reports.document import Figure, Math, Parts, Table
from reports.figures import unrolled_figure
from reports.figures.graph import Edge, Unrolled
from reports.figures.graph import unrolled as graph_of
from reports.figures.unrolled import marked_state, shown_steps
from reports.prose import joined

__all__ = ["unrolled"]


def unrolled(derivation: Derivation) -> Figure:
    """The drawing, for any cell."""
    graph = graph_of(derivation.program)
    caption = (*_conclusion(graph), *_drawn(graph))
    return Figure(unrolled_figure(derivation), caption, _alt(graph), "unrolled-graph", _edges(graph))


def _conclusion(graph: Unrolled) -> Parts:
    state = marked_state(graph)
    if state is None:
        return ("No loss reaches back to a state of an earlier step: there is no gradient through time. ",)
    ways, steps = _ways(graph, state), shown_steps(graph)
    many = f"{ways} ways lead" if ways > 1 else "one way leads"
    parts: Parts = (
        "The gradient by an early state is a sum over every way back from a later loss: ",
        f"here {many} to ",
        Math(name_latex(state, "1")),
        f" in {steps} steps",
    )
    if not graph.recurrent():
        return (*parts, ". ")
    product = Math(r"J_t \, J_{t-1} \cdots J_2")
    return (*parts, ", and the loss of step ", Math("t"), " comes through the product ", product, ". ")


def _ways(graph: Unrolled, state: str) -> int:
    """The number of paths from a state at step 1 to the losses."""
    edges = graph.reaching(state, 1, shown_steps(graph))

    @cache
    def onward(place: tuple[str, int]) -> int:
        return (not place[0]) + sum(onward(target) for source, target in edges if source == place)

    return onward((state, 1))


def _drawn(graph: Unrolled) -> Parts:
    state = marked_state(graph)
    given = "inputs and initial states" if graph.inputs else "initial states"
    parts: Parts = (
        f"Squares are given ({given}), circles are computed; thin arrows compute, with the matrices that act on the way"
        " written at the first step.",
    )
    if state is None:
        return parts
    several, matrices = len(graph.states) > 1, any(edge.matrices for edge in graph.recurrent())
    where: Parts = (" is written at it",) if not several else (" is written at the last step",)
    return (
        *parts,
        " Dashed arrows carry ",
        Math(rf"\mathrm{{d}}\mathcal{{L}}/\mathrm{{d}}{name_latex(state, '1')}"),
        " the other way; the derivative that each multiplies by",
        *where,
        ".",
        *((" The gradient by a recurrent matrix adds up what arrives so at each step.",) if matrices else ()),
    )


def _edges(graph: Unrolled) -> Table:
    """What reads what, for those who cannot see the drawing."""
    state = marked_state(graph)
    back = graph.reaching(state, 1, shown_steps(graph)) if state else set()
    kinds = {(s[0], s[1] - t[1], t[0]) for s, t in back}
    rows = [_row(e, (e.source, e.shift, e.target) in kinds) for e in graph.edges]
    rows += [
        (
            (Math(name_latex(n, "t")),),
            (Math(r"\ell_t"),),
            ("",),
            (Math(rf"\partial \ell_t / \partial {name_latex(n, 't')}"),),
            ("yes" if (n, 0, "") in kinds else "no",),
        )
        for n in graph.seen
    ]
    head: tuple[Parts, ...] = (("from",), ("to",), ("through",), ("derivative",), ("on a way back",))
    return Table(head, tuple(rows), "lllll")


def _row(edge: Edge, back: bool) -> tuple[Parts, ...]:
    source = name_latex(edge.source, "t-1" if edge.shift else "t")
    target = name_latex(edge.target, "t")
    through: Parts = joined([(Math(name_latex(m)),) for m in edge.matrices]) or ("",)
    derivative = Math(rf"\partial {target} / \partial {source}")
    return (Math(source),), (Math(target),), through, (derivative,), ("yes" if back else "no",)


def _alt(graph: Unrolled) -> str:
    state = marked_state(graph)
    lanes = ", ".join(graph.states)
    parts = [f"The cell unrolled over {shown_steps(graph)} steps, a lane for each state: {lanes}."]
    edges = "; ".join(f"{e.target}[t] reads {e.source}[{'t-1' if e.shift else 't'}]" for e in graph.edges)
    parts.append(f"{edges}; the loss of step t reads {', '.join(f'{n}[t]' for n in graph.seen)}.")
    if state:
        parts.append(f"Thick dashed arrows lead from every loss that depends on {state}[1] back to it.")
    return " ".join(parts)
