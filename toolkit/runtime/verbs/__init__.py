"""The verbs of the runtime's command line, one module each."""
