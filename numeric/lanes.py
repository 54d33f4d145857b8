"""Which values lie side by side: gates of one product, so that one call does the same to all of them.

A family is a list of operations whose results share a buffer.  It starts from what is one product, or enters one, and
grows along the entrywise operations from there: the sums, the activations, the factors of the gates.  Members of
families that grew from each other have the same lane, and lanes stand in the order that needs the fewest calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, permutations

from numeric.graph import CONST, D_LOOP, LOOP, Graph, Op
from numeric.operations import d_of

__all__ = ["Family", "families_of", "runs_of"]

_MOST_TRIED = 5  # lanes whose orders are all tried: 120
_LOOPS = (LOOP, D_LOOP)
_BROKEN = 20.0  # what a product costs whose operands do not lie side by side, in calls

Family = list[Op]


def families_of(graph: Graph) -> list[Family]:
    """Every live operation that computes something, in exactly one family, in the order of the lanes."""
    return _Lanes(graph).result()


def runs_of(ops: Sequence[Op], place: Mapping[Op, tuple[int, int]]) -> list[list[Op]]:
    """Equal operations of one family, in parts that are one call each.

    ``place`` says family and position.  In a part, results are neighbours, and so are the arguments at each position,
    unless they are one and the same.
    """
    runs: list[list[Op]] = []
    for op in ops:
        if runs and _continues(runs[-1], op, place):
            runs[-1].append(op)
        else:
            runs.append([op])
    return runs


def _next(a: Op, b: Op, place: Mapping[Op, tuple[int, int]]) -> bool:
    (family, i), (other, k) = place.get(a, (-1, 0)), place.get(b, (-2, 0))
    return family == other and k == i + 1


def _continues(run: list[Op], op: Op, place: Mapping[Op, tuple[int, int]]) -> bool:
    last = run[-1]
    if not _next(last, op, place) or op.axis != last.axis:
        return False
    for k, (before, now) in enumerate(zip(last.args, op.args, strict=True)):
        same = before is now
        if not same and not _next(before, now, place):
            return False
        if len(run) > 1 and same != (run[0].args[k] is run[1].args[k]):  # all of a part share it, or none
            return False
    return True


class _Lanes:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.live = graph, graph.live
        self.alive = set(self.live)
        self.place: dict[Op, int] = {}  # the family
        self.families: list[dict[int, Op]] = []  # lane -> member
        self.parent: list[int] = []  # lanes that were found to be one
        single = {*graph.states.values(), *graph.carried.values()}
        self.alone = {op for op in self.live if op in single or (op.is_leaf and op.kind != "vector") or not op.axis}

    # ----------------------------------------------------------------------------------------------------------- lanes

    def fresh(self) -> int:
        """A new lane."""
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def find(self, lane: int) -> int:
        """The lane that a lane has become."""
        while self.parent[lane] != lane:
            lane = self.parent[lane]
        return lane

    def merge(self, one: int, other: int) -> None:
        """Make two lanes one, unless a family has both."""
        one, other = self.find(one), self.find(other)
        if one == other or any(one in family and other in family for family in self.families):
            return
        self.parent[other] = one
        for family in self.families:
            if other in family:
                family[one] = family.pop(other)

    def lane(self, op: Op) -> int | None:
        """The lane of a member."""
        if op not in self.place:
            return None
        return next(lane for lane, member in self.families[self.place[op]].items() if member is op)

    def found(self, members: Mapping[int, Op]) -> None:
        """A new family."""
        self.families.append(dict(members))
        for op in members.values():
            self.place[op] = len(self.families) - 1

    # ---------------------------------------------------------------------------------------------------------- growth

    def result(self) -> list[Family]:
        """Grow everything, then order it."""
        for group in self.products():
            self.found({self.fresh(): op for op in group})
        self.follow(self.users_in_loop)
        for group in self.entering():
            self.enter(group)
        self.follow(self.arguments)
        self.follow(self.users)
        for op in self.live:
            if op not in self.place and op not in self.alone:
                self.found({self.fresh(): op})
        return self.ordered() + [[op] for op in self.live if op in self.alone and (not op.is_leaf)]

    def products(self) -> list[list[Op]]:
        """Products with one operand, taken at the same time."""
        groups: dict[tuple[Op, int], list[Op]] = defaultdict(list)
        for op in self.live:
            if op.kind == "product" and op not in self.alone:
                groups[op.args[0], op.phase].append(op)
        return list(groups.values())

    def entering(self) -> list[list[Op]]:
        """Derivatives that enter one product: of a gather, or of a sum of outer products."""
        wanted = [list(op.args) for op in self.live if op.kind == "gather"]
        by_operand: dict[Op, list[Op]] = defaultdict(list)
        for term in self.graph.outer_sums:
            by_operand[term.operand].append(term.d)
        merged: list[list[Op]] = []
        for group in (*wanted, *by_operand.values()):
            for phase in sorted({op.phase for op in group}):
                part = [o for o in group if o.phase == phase and o not in self.alone and phase > CONST]
                touching = [m for m in merged if set(m) & set(part)]
                merged = [m for m in merged if m not in touching]
                merged.append(list(dict.fromkeys(x for m in (*touching, part) for x in m)))
        return [m for m in merged if m]

    def enter(self, group: list[Op]) -> None:
        """A family of derivatives, each in the lane of the value that it is the derivative by."""
        values = self.graph.values
        primal = {values[d_of(s)]: op for s, op in values.items() if d_of(s) in values}
        members: dict[int, Op] = {}
        for op in (o for o in group if o not in self.place):
            lane = self.lane(primal[op]) if op in primal else None
            members[self.fresh() if lane is None or lane in members else lane] = op
        if members:
            self.found(members)

    def follow(self, neighbours: Callable[[Op], Iterable[tuple[object, Op]]]) -> None:
        """Let families grow until nothing is added."""
        done = 0
        while done < len(self.families):
            family = self.families[done]
            candidates: dict[object, dict[int, list[Op]]] = defaultdict(lambda: defaultdict(list))
            for lane, op in family.items():
                for key, other in neighbours(op):
                    candidates[key][lane].append(other)
            for lanes in candidates.values():
                self.add({lane: ops[0] for lane, ops in lanes.items() if len(ops) == 1})
            done += 1

    def users(self, op: Op) -> Iterable[tuple[object, Op]]:
        """Entrywise operations that read a member."""
        for user in op.users:
            if user in self.alive and user not in self.alone and user.kind not in ("product", "gather"):
                for k in (k for k, a in enumerate(user.args) if a is op):
                    yield (user.kind, user.data, user.phase, user.axis, k), user

    def users_in_loop(self, op: Op) -> Iterable[tuple[object, Op]]:
        """Those of them that the states need."""
        return ((key, user) for key, user in self.users(op) if user.phase <= LOOP)

    def arguments(self, op: Op) -> Iterable[tuple[object, Op]]:
        """What a member is computed from entrywise."""
        if op.kind not in ("product", "gather"):
            for k, a in enumerate(op.args):
                if a not in self.alone:
                    yield (a.kind, None if a.is_leaf else a.data, a.phase, a.axis, k), a

    def add(self, members: dict[int, Op]) -> None:
        """A family of what is new among ``members``; what has a family already joins lanes."""
        if len(set(members.values())) < len(members):
            return
        new = {lane: op for lane, op in members.items() if op not in self.place}
        for lane, op in members.items():
            if op in self.place:
                other = self.lane(op)
                assert other is not None
                self.merge(lane, other)
        new = {self.find(lane): op for lane, op in new.items()}
        if new:
            self.found(new)

    # ----------------------------------------------------------------------------------------------------------- order

    def ordered(self) -> list[Family]:
        """Lanes that meet in a family are ordered together."""
        groups: list[set[int]] = []
        for family in self.families:
            touching = [g for g in groups if g & set(family)]
            groups = [g for g in groups if g not in touching]
            groups.append(set(family).union(*touching))
        rank: dict[int, int] = {}
        for group in groups:
            rank |= {lane: k for k, lane in enumerate(self.best(sorted(group)))}
        return [[family[lane] for lane in sorted(family, key=rank.__getitem__)] for family in self.families]

    def best(self, lanes: list[int]) -> Sequence[int]:
        """The order with the fewest calls."""
        concerned = [f for f in self.families if len(f) > 1 and set(f) & set(lanes)]
        if not concerned or len(lanes) < 3:
            return lanes
        if len(lanes) > _MOST_TRIED:
            kinds = {
                lane: sorted(str((f[lane].kind, f[lane].data)) for f in self.families if lane in f) for lane in lanes
            }
            return sorted(lanes, key=lambda lane: (kinds[lane], lane))
        return min(permutations(lanes), key=lambda order: self.cost(order, concerned))

    def cost(self, order: Sequence[int], families: list[dict[int, Op]]) -> float:
        """Calls at each step, and much less for those that are made for all steps at once."""
        rank = {lane: k for k, lane in enumerate(order)}
        lists = [[f[lane] for lane in sorted(f, key=lambda x: rank.get(x, 99))] for f in families]
        place = {op: (n, k) for n, f in enumerate(lists) for k, op in enumerate(f)}
        total = 0.0
        for f in lists:
            kinds: dict[object, list[Op]] = defaultdict(list)
            for op in f:
                if op.kind not in ("product", "gather") and not op.is_leaf:
                    kinds[op.kind, op.data].append(op)
            for ops in kinds.values():
                total += len(runs_of(ops, place)) * (1.0 if ops[0].phase in _LOOPS else 0.1)
        for op in self.live:
            if op.kind == "gather":
                total += _BROKEN * _breaks(op.args, place)
        by_operand: dict[Op, list[Op]] = defaultdict(list)
        for term in self.graph.outer_sums:
            by_operand[term.operand].append(term.d)
        return total + sum(_BROKEN / 4 * _breaks(ops, place) for ops in by_operand.values())


def _breaks(ops: Iterable[Op], place: Mapping[Op, tuple[int, int]]) -> int:
    """How many gaps there are between operations that should be neighbours."""
    spots = sorted({place[op] for op in ops if op in place})
    return sum(b != (a[0], a[1] + 1) for a, b in pairwise(spots))
