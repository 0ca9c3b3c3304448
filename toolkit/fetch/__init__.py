"""Download from mirrors: HTTP, cache, verification."""
