"""From a request to the exact packages: verify sources, read indexes, choose packages. Also `--download-only`.

Uses `output` (reports), `resolve`, `acquire` and `facts`.
"""
