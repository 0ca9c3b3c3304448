"""Registries: a client of the distribution specification 1.1, which reads and writes images over HTTP.

`client.open` is the door. Everything that a registry says is a stranger's: a body is bounded and hashed, a header is
not believed, and a login goes to its own registry only.
"""
