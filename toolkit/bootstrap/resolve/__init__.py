"""Which packages a build installs, and the lock that says so.

Uses `acquire` and `facts`.
"""
