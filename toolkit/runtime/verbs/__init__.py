"""One module a verb of the runtime's command line."""
