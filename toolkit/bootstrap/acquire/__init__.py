"""From mirrors to files: which mirror, which sources, their indexes, and the packages themselves.

Uses `facts`.
"""
