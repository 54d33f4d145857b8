"""What a wrong book of claims is answered with: file, claim, field, what was found, what was expected."""

from __future__ import annotations

__all__ = ["ClaimError"]

_MOST = 120


class ClaimError(ValueError):
    """A book that cannot be read, or a check that cannot be run with the arguments that it was given.

    ``source`` is the file, ``claim`` the claim's id, ``field`` the key within it; each may be empty.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str = "",
        claim: str = "",
        field: str = "",
        found: object = None,
        expected: str = "",
        near: str | None = None,
    ) -> None:
        self.message, self.source, self.claim, self.field = message, source, claim, field
        self.found, self.expected, self.near = found, expected, near
        super().__init__(message)

    def within(self, *, source: str = "", claim: str = "", field: str = "") -> ClaimError:
        """The same error, saying where it was met; what it knows already stays."""
        self.source = self.source or source
        self.claim = self.claim or claim
        self.field = self.field or field
        return self

    def __str__(self) -> str:
        where = [self.source, f"claim {self.claim}" if self.claim else "", self.field]
        details = [f"found {_short(self.found)}"] if self.found is not None else []
        details += [f"expected {self.expected}"] if self.expected else []
        details += [f"nearest: {self.near}"] if self.near else []
        text = ": ".join([*(w for w in where if w), self.message])
        text = f"{text} ({'; '.join(details)})" if details else text
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _short(found: object) -> str:
    """What was found, however much it is: only the beginning of a text is looked at."""
    if isinstance(found, dict | list):
        return f"a {'table' if isinstance(found, dict) else 'list'} of {len(found)}"
    if isinstance(found, int) and abs(found) >= 10**30:
        return "a very large number"
    text = repr(found[: 2 * _MOST] if isinstance(found, str) else found)
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 4 :]}"
