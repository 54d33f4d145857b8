"""The structure of the unrolled network: what is computed from what, how deep, how often, looked at for T up to 6.

References are names with a time, ``h[t]``, ``h[t+1]``, ``x[1]``, ``L[T]`` (the loss of a step), parameters and ``Loss``
(the sum); j stands for every step before t, or after it where it says so.  Numbers are ``T``, ``t``, ``T-1``, ``T-t``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from derive.cell import Cell
from derive.claims import ClaimError
from derive.latex import name_latex
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.checks.network import Network, Place, unrolled
from reports.checks.references import Asked, Reference, linear
from reports.document import Block, Code, Math, Paragraph, Parts
from reports.prose import joined

__all__ = ["check_graph"]

STEPS = 6
_WHEN = ("every t", "t < T", "t = T", "t > 1")


def check_graph(given: Mapping[str, Any]) -> Evidence:
    """``cell``, ``that`` and its own arguments; ``loss`` is "every" or "last", ``when`` the t that are meant.

    feedforward: nothing depends on itself.  reads: ``of`` is computed from ``names`` directly (``only``: from nothing
    else).  readers: exactly ``names`` are computed from ``of`` directly.  depends: ``of`` depends on every one of
    ``on``, and ``independent``: on none.  count: every path ``start`` to ``end`` has ``equals`` of ``counts``.  terms:
    ``equals`` uses of ``of`` reach the loss.  edges: the named edges at ``steps`` are exactly ``names``, "a -> b".

    >>> check_graph({"cell": "tanh_rnn", "that": "count", "start": "x[1]", "end": "L[T]", "counts": ("h",),
    ...              "equals": "T"}).holds
    True
    """
    arguments = Arguments(given)
    cell = arguments.cell()
    if taken := {"L", "Loss"} & {*cell.axes, *cell.parameters}:
        raise ClaimError("this name is kept for the loss", field="cell", found=min(taken), expected="another name")
    that = arguments.choice("that", _THAT)
    loss = arguments.choice("loss", ("every", "last"), "every")
    when = arguments.choice("when", _WHEN, "every t")
    asked = Asked(cell, arguments)
    ask = _THAT[that](asked)
    arguments.done()
    most = max(STEPS, len(cell.states) + 2)  # a dependence through every state needs as many steps to show
    for steps in range(1, most + 1):
        for t in _times(when, steps):
            wrong = ask(unrolled(cell, steps, loss), t)
            if wrong is not None:
                return Evidence(False, "proven, at a size", (*_where(steps, t if asked.at_t else 0), *wrong))
    if not asked.looked or asked.unseen:
        never = ", ".join(sorted(r.text for r in asked.unseen)) or that
        wanted = f"names and times that are in a network of up to {most} steps"
        raise ClaimError("there is nothing to look at", field="that", found=never, expected=wanted)
    return Evidence(True, "proven, at a size", _held(cell, that, when, most), _drawn(cell, that))


def _held(cell: Cell, that: str, when: str, most: int) -> Parts:
    """What was looked at."""
    if that == "edges":
        return ("These are all of its edges, and no others.",)
    often: Parts = (", ", Math(when)) if when != "every t" else ()
    network: Parts = ("Looked at in the unrolled network of ", Code(cell.name))
    return (*network, " for every ", Math("T"), f" up to {most}", *often, ".")


def _times(when: str, steps: int) -> Iterator[int]:
    for t in range(1, steps + 1):
        if {"every t": True, "t < T": t < steps, "t = T": t == steps, "t > 1": t > 1}[when]:
            yield t


def _where(steps: int, t: int) -> Parts:
    return "With ", Math(f"T = {steps}"), *((" at ", Math(f"t = {t}")) if t else ()), ": "


def _drawn(cell: Cell, that: str) -> tuple[Block, ...]:
    """The edges between named values at T = 2, for a reader to follow."""
    if that != "feedforward":
        return ()
    found: list[Parts] = [
        (Code(_edge(edge)),) for edge in _edges(unrolled(cell, 2)) if edge[0][0] not in cell.parameters
    ]
    return (Paragraph(("The edges at ", Math("T = 2"), ": ", *joined(found), "."), "note"),)


# ----------------------------------------------------------------------------------------------- what can be asked


Ask = Callable[[Network, int], Parts | None]


def _places(asked: Asked, references: list[Reference], network: Network, t: int, steps: range) -> list[Place]:
    """The places of references that are there; a reference with j is one for every j."""
    found: dict[Place, None] = {}
    for reference in references:
        for j in steps if "j" in reference.time else (0,):
            place = reference.at({"T": network.steps, "t": t, "j": j})
            if place in network.reads:
                found[place] = None
                asked.unseen.discard(reference)
    return list(found)


def _feedforward(asked: Asked) -> Ask:
    def ask(network: Network, t: int) -> Parts | None:
        try:
            asked.there(network, network.order[-1])
            return None
        except ValueError as error:
            return (f"there is {error}.",)

    return ask


def _reads(asked: Asked) -> Ask:
    of, names = asked.reference("of"), asked.references("names", every=True)
    only = asked.arguments.flag("only")

    def ask(network: Network, t: int) -> Parts | None:
        place = of.at({"T": network.steps, "t": t})
        if not asked.there(network, place):
            return None
        own = set(network.named(place))
        wanted = set(_places(asked, names, network, t, range(1, network.steps + 1)))
        if own == wanted or (not only and wanted <= own and wanted):
            return None
        return _shown(place, asked.cell), " is computed from ", *_all(own, asked.cell), "."

    return ask


def _readers(asked: Asked) -> Ask:
    of, names = asked.reference("of"), asked.references("names")

    def ask(network: Network, t: int) -> Parts | None:
        place = of.at({"T": network.steps, "t": t})
        if not asked.there(network, place):
            return None
        own = set(network.readers(place))
        _places(asked, names, network, t, range(0))
        wanted = {r.at({"T": network.steps, "t": t, "j": 0}) for r in names}
        if own == wanted:
            return None
        return "what is computed from ", _shown(place, asked.cell), " directly is ", *_all(own, asked.cell), "."

    return ask


def _depends(yes: bool) -> Callable[[Asked], Ask]:
    def question(asked: Asked) -> Ask:
        of, on = asked.reference("of"), asked.references("on", every=True)
        if of in on:
            raise ClaimError("a value is not asked about itself", field="on", found=of.text, expected="another value")
        after = asked.arguments.flag("after")

        def ask(network: Network, t: int) -> Parts | None:
            place = of.at({"T": network.steps, "t": t})
            steps = range(t + 1, network.steps + 1) if after else range(1, t)
            others = _places(asked, on, network, t, steps)
            if not others or not asked.there(network, place):
                return None
            # with ``after``, the others are later and it is they who depend
            wrong = [
                o for o in others if ((place in network.before(o)) if after else (o in network.before(place))) != yes
            ]
            if not wrong:
                return None
            first, second = (wrong[0], place) if after else (place, wrong[0])
            return (
                _shown(first, asked.cell),
                " depends on " if not yes else " does not depend on ",
                _shown(second, asked.cell),
                ".",
            )

        return ask

    return question


def _count(asked: Asked) -> Ask:
    start, end = asked.reference("start"), asked.reference("end")
    if start == end:
        raise ClaimError("a path leads somewhere", field="end", found=end.text, expected="another place than its start")
    counts, equals = asked.names("counts"), asked.number_text(asked.arguments.text("equals"), "equals")

    def ask(network: Network, t: int) -> Parts | None:
        values = {"T": network.steps, "t": t, "j": 0}
        if not asked.there(network, start.at(values), end.at(values)):
            return None
        found = network.counts(start.at(values), end.at(values), counts)
        wanted = linear(equals, values)
        if found == (wanted, wanted):
            return None
        route: Parts = ("from ", _shown(start.at(values), asked.cell), " to ", _shown(end.at(values), asked.cell))
        if found is None:
            return "no path leads ", *route, "."
        what = joined([(Code(name),) for name in counts], last=" and ")
        number = f"{found[0]}" if found[0] == found[1] else f"{found[0]} to {found[1]}"
        return "a path ", *route, f" goes through {number} of ", *what, f", not {wanted}."

    return ask


def _terms(asked: Asked) -> Ask:
    of, equals = asked.reference("of"), asked.number_text(asked.arguments.text("equals"), "equals")

    def ask(network: Network, t: int) -> Parts | None:
        place = of.at({"T": network.steps, "t": t})
        if not asked.there(network, place):
            return None
        to_loss = network.before(("Loss", 0))
        uses = [at for at, read in network.reads.items() if place in read and at in to_loss]
        wanted = linear(equals, {"T": network.steps, "t": t, "j": 0})
        if len(uses) == wanted:
            return None
        steps = joined([(str(at[1]),) for at in uses], last=" and ") or ("none",)
        return (
            _shown(place, asked.cell),
            " is used for the loss at step ",
            *steps,
            f": {len(uses)} in all, not {wanted}.",
        )

    return ask


def _edges_are(asked: Asked) -> Ask:
    wanted_steps = asked.arguments.whole("steps", 1, STEPS)
    given = asked.arguments.words("names")
    pairs = [text.split("->") for text in given]
    for text, pair in zip(given, pairs, strict=True):
        if len(pair) != 2:
            raise ClaimError("this is not an edge", field="names", found=text, expected="two references, a -> b")
    edges = {tuple(asked.read(part, "names").at({"T": wanted_steps, "t": 0, "j": 0}) for part in p) for p in pairs}
    parameters = set(asked.cell.parameters)

    def ask(network: Network, t: int) -> Parts | None:
        if network.steps != wanted_steps or t > 1 or not asked.there(network, ("Loss", 0)):
            return None
        own = {edge for edge in _edges(network) if edge[0][0] not in parameters}
        more, less = sorted(edges - own), sorted(own - edges)
        if not more and not less:
            return None
        wrong = more or less
        return "the network ", "has no edge " if more else "also has the edge ", Code(_edge(wrong[0])), "."

    return ask


_THAT: dict[str, Callable[[Asked], Ask]] = {
    "feedforward": _feedforward,
    "reads": _reads,
    "readers": _readers,
    "depends": _depends(True),
    "independent": _depends(False),
    "count": _count,
    "terms": _terms,
    "edges": _edges_are,
}


# ------------------------------------------------------------------------------------------------------- in words


def _edges(network: Network) -> list[tuple[Place, Place]]:
    return [(a, b) for b in network.order if network.is_named(b) for a in network.named(b)]


def _text(place: Place) -> str:
    return place[0] if place[0] == "Loss" else f"{place[0]}[{place[1]}]"


def _edge(edge: tuple[Place, ...]) -> str:
    return " -> ".join(_text(place) for place in edge)


def _all(places: set[Place], cell: Cell) -> Parts:
    if not places:
        return ("nothing",)
    return joined([(_shown(place, cell),) for place in sorted(places)], last=" and ")


def _shown(place: Place, cell: Cell) -> Math:
    name, time = place
    if name == "Loss":
        return Math(r"\mathcal{L}")
    return Math(name_latex(name) if name in cell.parameters else name_latex(name, str(time)))
