"""Which tapes and states to keep: a pass in a given number of bytes, and what that costs.

    "all"      every tape
    "states"   the states of every step, and one tape: a segment's is computed from its states, all steps at once
    "starts"   the first states of every segment, and one tape: a segment is gone through again, step by step
    a number   what is the least work in so many bytes, as "starts" or with several tapes at a time

A tape is what the forward pass of a segment leaves for the backward pass; a state is what the forward pass of a segment
starts from.  With room for c tapes, segments are taken in blocks of c; of the blocks' first states, s are kept and the
others computed again, by the binomial schedule: with beta(s, r) = C(s + r, s) and beta(s, r-1) < n <= beta(s, r), the
least number of blocks to go through again is  r n - C(s + r, r - 1).

A. Griewank, A. Walther, "Algorithm 799: revolve", ACM Transactions on Mathematical Software 26 (2000) 19-45.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import comb
from numbers import Integral

__all__ = ["Action", "Keep", "MemoryPlan", "check_keep", "plan_memory", "repeated"]

Keep = str | int

#: What a pass does, in order: ("advance", first, last) without a tape, ("save", block), ("restore", block),
#: ("reverse", first, last): forward with tapes, then backwards; and ("recompute", first, last): backwards, each tape
#: from the states of its steps, that "advance" has kept.
Action = tuple[str, int, int]


@dataclass(frozen=True)
class MemoryPlan:
    """What is kept of ``segments`` segments, and what it costs.

    ``tapes`` tapes of at most ``tape_bytes`` bytes and ``states`` states of ``state_bytes`` bytes are kept at the same
    time, ``bytes`` in all, where the full tape would take ``full_bytes``; ``repeated`` segments are computed forward
    once more than with the full tape.  ``every_bytes`` is what the states of every step take, where these are kept:
    then no step is repeated, but everything else is computed from them, for all steps of a segment at once.
    """

    segments: int
    tapes: int
    states: int
    tape_bytes: int
    state_bytes: int
    full_bytes: int
    repeated: int
    every_bytes: int = 0

    @property
    def bytes(self) -> int:
        """What is kept at the same time, at most."""
        if self.every_bytes:
            return self.every_bytes + self.tape_bytes
        return self.full_bytes if self.tapes == self.segments else self._kept

    @property
    def _kept(self) -> int:
        return self.tapes * self.tape_bytes + self.states * self.state_bytes

    def __str__(self) -> str:
        share = self.bytes / self.full_bytes
        if self.every_bytes:
            kept = f"the states of every step and {self.tapes} of {self.segments} tapes at a time"
            return f"{self.bytes:,} bytes, {share:.2%} of the full tape: {kept}; everything else again, no step by step"
        kept = f"{self.tapes} of {self.segments} tapes and {self.states} states"
        again = f"{self.repeated / self.segments:.2f}"
        return (
            f"{self.bytes:,} bytes, {share:.2%} of the full tape: {kept} at a time; "
            f"the forward pass again: {again} times"
        )

    def first(self, segments: int) -> MemoryPlan:
        """The same plan where there are only so many segments, the first ones."""
        tapes = min(self.tapes, segments)
        return replace(self, segments=segments, tapes=tapes, states=min(self.states, -(-segments // tapes)))

    def actions(self) -> Iterator[Action]:
        """What a pass does, in order."""
        if self.every_bytes:
            yield "advance", 0, self.segments
            yield from (("recompute", k, k + 1) for k in reversed(range(self.segments)))
            return
        blocks = -(-self.segments // self.tapes)
        edges = [min(k * self.tapes, self.segments) for k in range(blocks + 1)]
        # what is left to reverse: blocks first to last, of which the first one's state is kept, with free states
        todo = [(0, blocks, self.states)]
        here = 0
        yield "save", 0, 0
        while todo:
            first, last, states = todo.pop()
            if here != first:
                yield "restore", first, 0
            if last - first == 1:
                yield "reverse", edges[first], edges[last]
                here = -1
                continue
            middle = first + _ahead(last - first, states)
            yield "advance", edges[first], edges[middle]
            here = middle
            todo.append((first, middle, states))
            if middle < last:
                if last - middle > 1 or states > 1:
                    yield "save", middle, 0
                todo.append((middle, last, max(states - 1, 1)))


def check_keep(keep: object) -> Keep:
    """What to keep; raises ValueError for anything but "all", "states", "starts" and a positive number of bytes."""
    if isinstance(keep, str) and keep in ("all", "states", "starts"):
        return keep
    if isinstance(keep, bool) or not isinstance(keep, Integral) or keep < 1:
        raise ValueError(f"keep is {keep!r}; expected 'all', 'states', 'starts', or a number of bytes")
    return int(keep)


def repeated(blocks: int, states: int) -> int:
    """The least number of blocks to go through again, where ``states`` states can be kept, the first one included."""
    r = 0
    while comb(states + r, states) < blocks:
        r += 1
    return r * blocks - (comb(states + r, r - 1) if r else 0)


def _ahead(blocks: int, states: int) -> int:
    """How many blocks to go ahead before the next state is kept, for the least work in all."""
    if states < 2:
        return blocks - 1
    r = 1
    while comb(states + r, states) < blocks:
        r += 1
    # any split into beta(s, r-1)-like and beta(s-1, r)-like parts is best
    least = max(1, blocks - comb(states - 1 + r, states - 1))
    most = min(blocks - 1, comb(states + r - 1, states))
    return max(least, min(most, blocks - comb(states - 1 + r - 1, states - 1) if r > 1 else most))


def plan_memory(
    keep: Keep, segments: int, tape_bytes: int, state_bytes: int, full_bytes: int, every_bytes: int = 0
) -> MemoryPlan:
    """The plan with the least work for ``keep``; ``every_bytes`` is what "states" needs to be told.

    Raises ValueError where the bytes are too few for any plan, with the least that works.
    """

    def plan(tapes: int, states: int) -> MemoryPlan:
        blocks = -(-segments // tapes)
        again = repeated(blocks, min(states, blocks)) * tapes
        # the last block may be short, and is not gone through again
        return MemoryPlan(segments, tapes, min(states, blocks), tape_bytes, state_bytes, full_bytes, again)

    if keep == "all" or (not isinstance(keep, str) and full_bytes <= keep):
        return MemoryPlan(segments, segments, 1, tape_bytes, state_bytes, full_bytes, 0)
    if keep == "starts":
        return plan(1, segments)
    if keep == "states":
        return MemoryPlan(segments, 1, 0, tape_bytes, state_bytes, full_bytes, segments, every_bytes)
    assert not isinstance(keep, str)
    least = min(tape_bytes + state_bytes, full_bytes)
    if keep < least:
        raise ValueError(
            f"keep is {keep:,} bytes; the least that works for {segments} segments is {least:,} bytes: one segment's "
            f"tape, {tape_bytes:,}, and one state, {state_bytes:,}; the full tape takes {full_bytes:,}"
        )
    most = min(segments, (keep - state_bytes) // tape_bytes)
    plans = (plan(tapes, (keep - tapes * tape_bytes) // state_bytes) for tapes in range(most, 0, -1))
    return min(plans, key=lambda p: (p.repeated, p.bytes))
