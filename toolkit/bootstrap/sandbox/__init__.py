"""Programs that run on or in a tree: namespaces, the system call filter, emulation, a build without root.

Uses `facts`.
"""
