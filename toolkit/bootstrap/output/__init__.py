"""Where a build's results go: the target folder, images, cached trees, bills of materials; and how they are removed.

Uses `sandbox`, `resolve`, `acquire` and `facts`.
"""
