"""What makes a runtime pleasant for people: logs, attach, ephemeral roots, reasons for an end. No engine asks for it.

The verbs of runc import nothing of this unless one of ctk's own options is given (options.OURS) or a person's terminal
is at stake; toolkit/preload.py leaves the folder out for the same reason.
"""
