"""What a line should be worth, and whether it is: the two sides of a line under any reading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from derive.handwritten.explicit_reading import ExplicitReading
from derive.handwritten.lines import Line, Target
from derive.handwritten.reading import Reading
from derive.handwritten.times import EVERY, LAST, START, When
from derive.handwritten.values import UNDEFINED, ZERO, Mat, Vec

__all__ = ["agrees", "entries_of", "has_truth", "left_side", "right_side", "same_numbers", "times_of"]


def has_truth(reading: Reading, target: Target) -> bool:
    """Whether anything but the author says what the left side is."""
    return target.role not in ("own", "target") or target.name in reading.meanings


def right_side(reading: Reading, line: Line, time: Any) -> Any:
    """The author's right side, for the time that the left side stands at."""
    return reading.value(line.value, reading.env_of(line, time))


def left_side(reading: Reading, line: Line, time: Any) -> Any:
    """What the left side truly is."""
    target, truth = line.target, reading.truth
    match target.role:
        case "derivative":
            return reading.derivative(target.name, time)
        case "local":
            return truth.local(target.name, time)
        case "forward":
            return truth.forward(target.name, time)
        case "softmax":
            return truth.softmax(truth.loss.on, time)
        case "initial":
            return truth.derivative(target.name, reading.start())
        case "gradient":
            return reading.gradient(target.name)
        case "truncated":
            return truth.truncated(target.name, time, target.steps)
        case "truncated gradient":
            return _truncated_gradient(reading, target)
        case "jacobian":
            return _jacobian(reading, target, time)
    return reading.meanings[target.name](truth, time)


def _truncated_gradient(reading: Reading, target: Target) -> Any:
    truth = reading.truth
    return reading.over_time(lambda t: truth.gradient(target.name, t, truth.window(t, target.steps)))


def _jacobian(reading: Reading, target: Target, time: Any) -> Any:
    assert target.when is not None
    assert target.by_when is not None
    env = {EVERY: time}
    later, earlier = reading.time(target.when, env), reading.time(target.by_when, env)
    return reading.truth.jacobian(target.name, later, target.by, earlier, reading.distance(later, earlier))


def times_of(reading: ExplicitReading, line: Line) -> Iterator[Any]:
    """The steps that a line speaks of."""
    target, count = line.target, reading.truth.count
    if target.role == "jacobian":
        assert target.when is not None
        assert target.by_when is not None
        for t in range(1, count + 1) if EVERY in (target.when.anchor, target.by_when.anchor) else (1,):
            later, earlier = (reading.time(w, {EVERY: t}) for w in (target.when, target.by_when))
            if 0 <= earlier <= later <= count:
                yield t
        return
    if target.when is None:
        yield None
        return
    if target.when.anchor != EVERY:
        time = reading.time(target.when, {})
        if 0 <= time <= count + 1:
            yield time
        return
    own = {reading.time(w, {}) for w in _single(reading, target)}
    first = max(1 - line.offset, 1)  # dh[t+1] = ... begins with dh[2]; the initial dh0 has a line of its own
    yield from (t for t in range(first, count + 1) if t not in own)


def _single(reading: Reading, target: Target) -> list[When]:
    """Steps for which the same name has a line of its own."""
    same = [x.target for x in reading.text.script.lines if (x.target.role, x.target.name) == (target.role, target.name)]
    return [x.when for x in same if x.when is not None and x.when.anchor in (LAST, START)]


def entries_of(value: Any, like: Any) -> list[Any] | None:
    """A value's entries, in the shape of another; None for a value that does not exist."""
    if value is UNDEFINED:
        return None
    if isinstance(value, Mat):
        return [x for row in value.rows for x in row]
    if isinstance(value, Vec) and not (value.scalar and isinstance(like, Vec) and not like.scalar):
        return value.entries
    count = len(like.entries) if isinstance(like, Vec) else sum(map(len, like.rows)) if isinstance(like, Mat) else 1
    return [0] * count if value is ZERO else [value.entries[0]] * count


def agrees(reading: ExplicitReading, line: Line) -> bool:
    """Whether the two sides are the same numbers, to rounding, at every step."""
    for time in times_of(reading, line):
        right = left_side(reading, line, time)
        yours = right_side(reading, line, time)
        if right is UNDEFINED:
            continue
        a, b = entries_of(yours, right), entries_of(right, yours if right is ZERO else right)
        if a is None or b is None or len(a) != len(b):
            return False
        size = max((abs(x) for x in b), default=0.0) + max((abs(x) for x in a), default=0.0)
        if not all(abs(x - y) <= 1e-9 * size for x, y in zip(a, b, strict=True)) and size > 0:
            return False
    return True


def same_numbers(a: Any, b: Any, like: Any) -> bool:
    """Whether two values are the same to rounding, in the shape of a third."""
    shape = like if like is not ZERO and like is not UNDEFINED else b if b is not ZERO else a
    x, y = entries_of(a, shape), entries_of(b, shape)
    if x is None or y is None or len(x) != len(y):
        return False
    size = max((abs(v) for v in (*x, *y)), default=0.0)
    return all(abs(v - w) <= 1e-9 * size for v, w in zip(x, y, strict=True))
