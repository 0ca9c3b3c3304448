"""The stages chained: bootstrap, spec, run."""
