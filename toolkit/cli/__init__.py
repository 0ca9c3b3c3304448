"""The command line's second door: typer, one file a group of commands, no logic."""
