"""What can be measured about a network, one quantity a file: words such as "vanish", "memory" and "learned" as numbers.

Each is a function of the arguments that a claims file gives it and of its seeds, and returns its numbers by name, each
with the factor by which it may be another one on another machine.  :mod:`reports.checks.measured` sets them against
what a statement says.
"""
