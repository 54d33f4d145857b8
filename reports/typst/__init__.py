"""A document as data for Typst, and the Typst code that prints such data; :mod:`reports.pdf` puts them together."""
