"""Twin worlds that differ in one thing, and pairs of histories of them by the same actions.

A file of this folder makes twins of one kind of environment; `TWINS` in `record.py` has a row for each.
"""
