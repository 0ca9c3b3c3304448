"""Registries: a client of the distribution specification 1.1, which reads and writes images over HTTP.

`client.open` opens a repository. Nothing that a registry says is trusted: bodies have limits and are hashed, headers
are not believed, and a login goes to its own registry only.
"""
