"""The typer app: one file per command group, no logic."""
