"""The results of a build: the target folder, a tree as a file or an image, cached trees, bills of materials; removal.

Uses `sandbox`, `resolve`, `acquire` and `facts`.
"""
