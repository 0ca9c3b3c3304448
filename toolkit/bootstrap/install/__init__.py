"""dpkg's work: unpacking, registering and configuring packages in a tree.

Uses `sandbox`, `resolve`, `acquire` and `facts`.
"""
