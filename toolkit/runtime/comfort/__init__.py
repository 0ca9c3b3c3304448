"""Features for interactive use, which engines don't need: logs, attach, ephemeral roots, the reason of an end.

The verbs of runc import nothing from here unless one of ctk's own options is given (options.OURS) or the container
would use the user's terminal.
"""
