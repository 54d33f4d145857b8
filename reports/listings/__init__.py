"""Harnesses of the listings that ship with the books: each runs one, as printed or mended, over a range of inputs.

A listing is data of this package (``derive/claims/listings``), and nothing else is ever run: a claims file can only
name one.  It runs in a process of its own (:mod:`reports.listings.worker`), with a time limit, and what was seen comes
back as rows of text and numbers.
"""
