"""The results of a build: the target folder, a tree as one file, cached trees, bills of materials; and their removal.

Uses `sandbox`, `resolve`, `acquire` and `facts`.
"""
