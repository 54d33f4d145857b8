"""The textbook ledger's data: each published statement, what it says formally, and which check decides it.

A book is a TOML file beside this one, or anybody's own; :mod:`reports.ledger` runs the checks.
"""

from derive.claims.errors import ClaimError
from derive.claims.model import KINDS, Book, Claim, Correction, Reading
from derive.claims.read import books, load_book, read_book

__all__ = ["KINDS", "Book", "Claim", "ClaimError", "Correction", "Reading", "books", "load_book", "read_book"]
