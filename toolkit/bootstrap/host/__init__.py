"""`ctk bootstrap host DIR`: a root of the host's own programs.

Uses `output`, `acquire` and `facts`.
"""
