"""The time loop compiled with Numba, an optional extra; :mod:`numeric.fast.loop` is where it begins.

Nothing is imported here: the package has to be importable where Numba is not installed.
"""
