"""dpkg's part: packages unpacked, registered and configured in a tree.

Uses `sandbox`, `resolve`, `acquire` and `facts`.
"""
