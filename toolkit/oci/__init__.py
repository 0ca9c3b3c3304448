"""The OCI runtime spec's documents: schema, types, checks, defaults, state. No system calls."""
