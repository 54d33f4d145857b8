"""The commands of ``bptt``, one a file: its arguments, and what runs it.

Everything slow is imported by the function that needs it, so that a command starts at once.
"""
