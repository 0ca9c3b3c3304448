"""Changes to a tree beyond its packages: hooks, options and users, and files copied in and out.

Uses `install`, `sandbox` and `facts`.
"""
