"""Bytes from mirrors: HTTP, cache, verification."""
