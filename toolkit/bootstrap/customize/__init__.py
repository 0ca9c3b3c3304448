"""What the caller wants done to a tree beyond packages: hooks, and files copied in and out.

Uses `install`, `sandbox` and `facts`.
"""
