"""What the engine is measured against: other frameworks, loops written by hand, and the floor of the products alone.

:mod:`cases` says what is measured and what is to be reached; a module each makes one contender for a problem;
:mod:`timing` runs them interleaved, after :mod:`agreement` has seen that all compute the same gradient.
"""
