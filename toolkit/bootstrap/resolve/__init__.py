"""Which packages a build installs, and the lock that records them.

Uses `acquire` and `facts`.
"""
