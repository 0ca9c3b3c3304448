"""From a request to the exact packages: sources verified, indexes read, packages chosen; and their download alone.

Uses `output` (reports), `resolve`, `acquire` and `facts`.
"""
